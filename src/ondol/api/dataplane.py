"""Which pods the service mesh serves, and how its connections are known: for the node and the mesh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.api import objects

MODE_LABEL: Final = "istio.io/dataplane-mode"
"""Istio's label; the value `none` on a pod, or else on its namespace, opts out."""

PROGRAMMED: Final = "mesh.ondol.dev/Programmed"
"""Pod condition: the proxy accepted this pod's listeners."""

ADDRESSES: Final = "ondol.dev/AddressesProgrammed"
"""Condition of Services and pods that did not get an address or port of the machine they ask for."""

SANDBOX_READY: Final = "PodReadyToStartContainers"
"""Pod condition (Kubernetes' own): network namespace and address are in place."""


MARK: Final = 0x0D00_0000
MARK_MASK: Final = 0xDF00_0000
INSTANCE_MASK: Final = 0x00FF_FFFF
_PASSTHROUGH: Final = 0x2000_0000


def mark(instance: str, *, passthrough: bool = False) -> int:
    """What the proxy of an instance (six hexadecimal digits) puts on its connections (SO_MARK).

    They begin in the host's network namespace, where nothing else tells the kernel for whom they are;
    `passthrough` is for those whose destination a pod chose itself.
    """
    return MARK | int(instance, 16) | (_PASSTHROUGH if passthrough else 0)


def in_mesh(pod: Mapping[str, Any], namespace: Mapping[str, Any] | None) -> bool:
    """Whether the pod's traffic passes the mesh; the pod's own label decides over its namespace's."""
    if objects.spec(pod).get("hostNetwork"):
        return False
    mode = objects.labels(pod).get(MODE_LABEL)
    if mode is None and namespace is not None:
        mode = objects.labels(namespace).get(MODE_LABEL)
    return mode != "none"
