"""What findings of several kinds share: codes of our own, and which pods are in a subset."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ondol.mesh.model import istio
from ondol.mesh.model.kube import RULES_FROM
from ondol.mesh.translate.registry import Registry

NOT_OWN: Final = "OND0001"
CLAIMED: Final = "OND0002"
NO_HTTP: Final = "OND0003"


def not_own(what: str, owner: str, namespace: str) -> str:
    return (
        f"{what} is of namespace {owner}: the rule holds only for calls from {namespace}; "
        f"who owns the Service can admit it for all with the annotation {RULES_FROM}: {namespace}"
    )


def selects(subset: istio.Subset, names: Iterable[str], registry: Registry) -> bool:
    """Whether a pod behind these hosts is in the subset."""
    labels = subset.labels.items()
    pods = (pod for name in names for pod in registry.pods_behind(registry.services[name].key))
    return any(labels <= registry.labels.get(pod, {}).items() for pod in pods)
