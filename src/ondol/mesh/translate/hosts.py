"""Host names: how a short one is completed, by which names a service is called, which pattern fits best."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from ondol.contracts import scoping
from ondol.mesh.model.kube import Service


def qualified(host: str, namespace: str, cluster_domain: str, services: Container[str] = ()) -> str:
    """The full name of a host as written in an object of `namespace`.

    A name without dots is a service of that namespace; `name.ns` and `name.ns.svc` are completed
    only when there is such a service, for they may as well be names of the outside world.
    """
    lowered = host.lower().rstrip(".")
    if "." not in lowered and lowered != "*":
        return f"{lowered}.{namespace}.svc.{cluster_domain}"
    if not lowered.endswith(f".svc.{cluster_domain}"):
        for suffix in (f".svc.{cluster_domain}", f".{cluster_domain}"):
            if lowered + suffix in services:
                return lowered + suffix
    return lowered


def completions(host: str, namespace: str, cluster_domain: str) -> tuple[str, ...]:
    """Every name that `qualified` may make of a host, whatever services there are, and those it looks for."""
    lowered = host.lower().rstrip(".")
    if "." not in lowered and lowered != "*":
        return (f"{lowered}.{namespace}.svc.{cluster_domain}",)
    if lowered.endswith(f".svc.{cluster_domain}"):
        return (lowered,)
    return (lowered, f"{lowered}.svc.{cluster_domain}", f"{lowered}.{cluster_domain}")


def domains(service: Service, namespace: str, cluster_domain: str) -> tuple[str, ...]:
    """What a client in `namespace` may call the service; ports in the Host header do not matter."""
    if service.origins:  # its host is what somebody wrote, not made of its name
        plain = (address for address in service.addresses if not service.host.startswith("*"))
        return (*aliases(service.host, namespace, cluster_domain), *plain)
    name, own = service.key.name, service.key.namespace
    names = [f"{name}.{own}.svc.{cluster_domain}", f"{name}.{own}.svc", f"{name}.{own}"]
    if own == namespace:
        names.append(name)
    return (*names, *(f"[{a}]" if ":" in a else a for a in service.addresses))


def aliases(host: str, namespace: str, cluster_domain: str) -> tuple[str, ...]:
    """The names of a host that no service has: the full one and, inside the cluster, its short ones."""
    suffix = f".svc.{cluster_domain}"
    if not host.endswith(suffix) or host.startswith("*"):
        return (host,)
    short = host.removesuffix(suffix)
    names = [host, f"{short}.svc", short]
    name, _, own = short.rpartition(".")
    return (*names, name) if own == namespace and name else tuple(names)


def patterns(host: str, *, wildcards: bool = True) -> Iterator[str]:
    """What a rule may call a host, the closest first: itself, its wildcards from the longest, and `*`.

    Who knows that no rule has a wildcard says so, and is spared making them.
    """
    yield host
    if not wildcards:
        return
    labels = host.split(".")
    for start in range(1, len(labels)):
        yield "*." + ".".join(labels[start:])
    if host != "*":
        yield "*"


def covers(pattern: str, host: str) -> bool:
    """Whether a gateway's host pattern admits a host, which may itself be a wildcard."""
    return scoping.covers(pattern, host)


def overlap(patterns: Iterable[str], host: str) -> tuple[str, ...]:
    """The part of `host` that the patterns admit: itself, or the narrower patterns inside it."""
    narrower = []
    for pattern in patterns:
        if covers(pattern, host):
            return (host,)
        if covers(host, pattern):
            narrower.append(pattern)
    return tuple(dict.fromkeys(narrower))
