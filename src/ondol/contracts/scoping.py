"""Whom an object of the outside world is for: which namespaces hear a ServiceEntry, what a Sidecar lets in.

The mesh routes by it and the node's name server answers by it, so that no pod is told an address that the
proxy would not take from it. Pure; decision 0036 says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ondol.api import objects
from ondol.contracts import cluster

ROOTS: Final = frozenset({"istio-system", cluster.PLATFORM_NAMESPACE})
"""Namespaces whose rules hold everywhere: whoever may write there rules the platform."""
DEFAULTS: Final = "istio-system"
"""The namespace whose Sidecar without a selector is everybody's default."""
EVERYBODY: Final = ("",)
"""The audience of what holds for every namespace."""
NO_ADDRESS_LABEL: Final = "networking.istio.io/enable-autoallocate-ip"
"""Label of a ServiceEntry; with `false` it gets no address of its own."""


def owner(host: str, domain: str = cluster.DOMAIN) -> str:
    """The namespace a full name or wildcard belongs to; empty for one of the outside, or of several."""
    short = host.removesuffix(f".{domain}").removesuffix(".svc")
    if short == host or not host.endswith((".svc", f".svc.{domain}")):
        return ""
    _, dot, namespace = short.rpartition(".")
    return namespace if dot and namespace != "*" else ""


def host_of(name: str, namespace: str, domain: str = cluster.DOMAIN) -> str:
    """A host of an entry in full: one without dots is of the entry's namespace."""
    lowered = name.lower().rstrip(".")
    return lowered if "." in lowered else f"{lowered}.{namespace}.svc.{domain}"


def audience(
    namespace: str,
    host: str,
    export_to: Sequence[str],
    domain: str = cluster.DOMAIN,
    roots: frozenset[str] = ROOTS,
) -> tuple[str, ...]:
    """The namespaces whose pods hear an entry of `namespace` for the host; `EVERYBODY`, or a few, or none.

    Of a root namespace or of the one that is in the host's name: whom `exportTo` names, by default
    everybody. Of any other: its own pods alone, if `exportTo` does not leave them out.
    """
    own = {namespace if name == "." else name for name in export_to} - {"~"}
    if namespace in roots or namespace == owner(host, domain):
        return EVERYBODY if not export_to or "*" in own else tuple(sorted(own))
    return (namespace,) if not export_to or own & {"*", namespace} else ()


def may_have_address(resolution: str, addresses: Sequence[str], labels: Mapping[str, str]) -> bool:
    """Whether an entry gets addresses of its own: nobody wrote one or wants none, and one can be kept."""
    is_refused = labels.get(NO_ADDRESS_LABEL, "").lower() == "false"
    return bool(resolution and resolution != "NONE") and not addresses and not is_refused


def gets_address(host: str, resolution: str) -> bool:
    """Whether a host of such an entry gets one: a wildcard only where the name asked for is resolved anew."""
    return "*" not in host or resolution == "DYNAMIC_DNS"


class Egress(NamedTuple):
    """What a Sidecar lets in at a port, or at all those of which it does not speak (0)."""

    port: int
    hosts: tuple[str, ...]
    """`namespace/host`, as written."""


class Chosen(NamedTuple):
    """What choosing looks at."""

    namespace: str
    selector: Mapping[str, str]
    has_selector: bool


def rank(sidecar: Chosen, namespace: str, labels: Mapping[str, str]) -> int | None:
    """How closely a Sidecar means a pod, the closest first; None if it does not."""
    if sidecar.has_selector and sidecar.selector:
        means = sidecar.namespace == namespace and sidecar.selector.items() <= labels.items()
        return 0 if means else None
    if sidecar.namespace == namespace:
        return 1
    return 2 if sidecar.namespace == DEFAULTS else None


def admits(egress: Iterable[Egress], own: str, namespace: str, host: str, port: int = 0) -> bool:
    """Whether a scope of a pod in `own` lets it call a host of `namespace` at a port, or at any (0)."""
    listed = list(egress)
    at_port = [each for each in listed if each.port and each.port == port]
    others = [each for each in listed if not port or not each.port]
    return any(
        _matches(pattern, own, namespace, host) for each in at_port or others for pattern in each.hosts
    )


def _matches(pattern: str, own: str, namespace: str, host: str) -> bool:
    where, _, name = pattern.partition("/")
    if where == "~" or (where != "*" and (own if where == "." else where) != namespace):
        return False
    return covers(name.lower(), host)


def covers(pattern: str, host: str) -> bool:
    """Whether a host, which may be a wildcard itself, is inside a pattern."""
    if pattern == "*":
        return True
    if pattern.startswith("*"):
        return host.removeprefix("*").endswith(pattern[1:])
    return pattern == host


# Of documents


def egress_of(sidecar: Mapping[str, Any]) -> tuple[Egress, ...]:
    """What a Sidecar's document lets in; one that says nothing lets everything in."""
    return tuple(
        Egress(int((each.get("port") or {}).get("number") or 0), tuple(each.get("hosts") or ()))
        for each in objects.spec(sidecar).get("egress") or ()
    )


def sidecar_of(
    sidecars: Iterable[Mapping[str, Any]], namespace: str, labels: Mapping[str, str]
) -> Mapping[str, Any] | None:
    """The document of the Sidecar that a pod is under: the closest, of these the oldest."""
    ranked = []
    for each in sidecars:
        selector = objects.spec(each).get("workloadSelector")
        chosen = Chosen(
            objects.namespace(each), (selector or {}).get("labels") or {}, has_selector=selector is not None
        )
        position = rank(chosen, namespace, labels)
        if position is not None:
            created = str(objects.metadata(each).get("creationTimestamp") or "")
            ranked.append((position, created, objects.namespace(each), objects.name(each), each))
    return min(ranked, key=lambda entry: entry[:4])[-1] if ranked else None
