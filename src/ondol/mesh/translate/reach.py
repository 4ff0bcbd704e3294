"""Whose calls a rule governs: for another namespace's host, those of the rule's own namespace alone.

A rule may be written by whoever may write in its namespace. So it holds for everyone only where the
host is that namespace's own; for other hosts it holds for calls *from* its namespace, which are its
own affair. A rule of a root namespace holds everywhere, as one does that the host's owner admits by
an annotation on the Service. `exportTo` can narrow all of it. Decision 0013 says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ondol.base import comma_list
from ondol.contracts import scoping

ISTIO_SYSTEM: Final = "istio-system"
INGRESS_WORKLOAD: Final = "istio-ingressgateway"
INGRESS_ACCOUNT: Final = "istio-ingressgateway-service-account"
"""As what the ingress calls, as Istio's charts name it."""
PLATFORM_WORKLOAD: Final = "ondol"
"""As whom the platform's own parts call."""
INGRESS_SELECTOR: Final = {
    "app": INGRESS_WORKLOAD,
    "istio": "ingressgateway",
    "istio.io/rev": "default",
    "operator.istio.io/component": "IngressGateways",
}
"""The labels of the one ingress gateway, as Istio's has them: who selects others has nowhere to go."""
ANYBODY: Final = ""
"""A caller of whose namespace no rule speaks; those at a gateway are such."""


class Level(IntEnum):
    """Why a rule is heard, the strongest reason first."""

    CALLER = 0
    OWNER = 1
    ROOT = 2
    GUEST = 3


@dataclass(frozen=True, slots=True)
class Host:
    """Whose a host is, and whom the owner lets write rules for it."""

    owner: str = ""
    """Namespace; empty for names outside the cluster, which are nobody's."""
    guests: frozenset[str] = frozenset()


def owner(host: str, cluster_domain: str) -> str:
    """The namespace a full name or wildcard belongs to; empty for one of the outside, or of several."""
    return scoping.owner(host, cluster_domain)


def guests(annotation: str) -> frozenset[str]:
    return frozenset(comma_list.items(annotation))


def exported(export_to: Sequence[str], namespace: str, caller: str) -> bool:
    """Whether `exportTo` of a rule of `namespace` lets callers of another hear it."""
    if not export_to or "*" in export_to:
        return True
    return caller != ANYBODY and caller in {namespace if name == "." else name for name in export_to}


def level(namespace: str, caller: str, host: Host, roots: frozenset[str]) -> Level | None:
    """Why callers of `caller` hear a rule of `namespace` about the host; None if they do not."""
    if caller != ANYBODY and namespace == caller:
        return Level.CALLER
    if host.owner and namespace == host.owner:
        return Level.OWNER
    if namespace in roots:
        return Level.ROOT
    return Level.GUEST if namespace in host.guests or "*" in host.guests else None
