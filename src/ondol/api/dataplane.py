"""Which pods the service mesh serves: one rule for the node that redirects and the mesh that listens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.api import objects

MODE_LABEL: Final = "istio.io/dataplane-mode"
"""Istio's label; the value `none` on a pod, or else on its namespace, opts out."""

PROGRAMMED: Final = "mesh.ondol.dev/Programmed"
"""Pod condition: the proxy accepted this pod's listeners."""

SANDBOX_READY: Final = "PodReadyToStartContainers"
"""Pod condition (Kubernetes' own): network namespace and address are in place."""


def in_mesh(pod: Mapping[str, Any], namespace: Mapping[str, Any] | None) -> bool:
    """Whether the pod's traffic passes the mesh; the pod's own label decides over its namespace's."""
    if objects.spec(pod).get("hostNetwork"):
        return False
    mode = objects.labels(pod).get(MODE_LABEL)
    if mode is None and namespace is not None:
        mode = objects.labels(namespace).get(MODE_LABEL)
    return mode != "none"
