"""What findings of several kinds share: codes of our own, and which pods are in a subset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ondol.mesh.kinds.kind import Finding
from ondol.mesh.model import istio
from ondol.mesh.model.kube import RULES_FROM
from ondol.mesh.translate.reach import ANYBODY
from ondol.mesh.translate.registry import Registry
from ondol.mesh.xds.types import Origin

NOT_OWN: Final = "OND0001"
CLAIMED: Final = "OND0002"
NO_HTTP: Final = "OND0003"
NO_EFFECT: Final = "OND0004"
NO_PROVIDER: Final = "OND0005"
DENIES_ALL_TCP: Final = "OND0006"
PRIVATE_KEYS: Final = "OND0007"
SPOKEN_OTHERWISE: Final = "OND0008"
NO_BYTES: Final = "OND0009"
NOT_HEARD: Final = "OND0010"
NO_TUNNEL: Final = "OND0011"
NOT_OBSERVED: Final = "OND0012"
DEPRECATED: Final = "IST0002"
REFUSED: Final = "IST0106"


def under(origin: Origin, text: str, *codes: str) -> Iterator[Finding]:
    """One finding under several codes: some know those of Istio, others those of Kiali."""
    return (Finding(origin, code, text) for code in codes)


def not_own(what: str, owner: str, namespace: str) -> str:
    return (
        f"{what} is of namespace {owner}: the rule holds only for calls from {namespace}; "
        f"who owns the Service can admit it for all with the annotation {RULES_FROM}: {namespace}"
    )


def selects(subset: istio.Subset, names: Iterable[str], registry: Registry, caller: str = ANYBODY) -> bool:
    """Whether an endpoint behind these hosts is in the subset."""
    labels = subset.labels.items()
    services = (service for name in names if (service := registry.service(name, caller)) is not None)
    return any(
        labels <= endpoint.labels_among(registry.labels).items()
        for service in services
        for endpoint in registry.endpoints_of(service)
    )
