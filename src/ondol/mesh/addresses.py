"""The automatic addresses of ServiceEntries: one a host, out of 240.240.0.0/16, as Istio gives them.

Pure. An address once assigned stays its host's for as long as the entry wants one: it is kept in the entry's
status (`status.addresses`), where the node's name server reads it, too.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from ondol.api import objects
from ondol.api.objects import Object
from ondol.contracts import cluster, scoping

NETWORK: Final = ipaddress.IPv4Network("240.240.0.0/16")
_USABLE: Final = NETWORK.num_addresses - 2
Addresses: TypeAlias = Mapping[tuple[str, str, str], Mapping[str, str]]
"""By kind, namespace and name of an entry, then by host."""


_NONE: Final[Addresses] = {}


def allocated(
    entries: Sequence[Object], cluster_domain: str = cluster.DOMAIN, earlier: Addresses = _NONE
) -> Addresses:
    """The addresses of all entries that get some: those they have, and new ones for the rest.

    They have those of their status, and those of `earlier` that are on their way there. New ones begin their
    search where a digest of entry and host says, so that an entry that is made again mostly has the same. Of
    two that have one address, the older keeps it.
    """
    ordered = sorted(entries, key=_age)
    taken = {text for entry in entries for text in objects.spec(entry).get("addresses") or ()}
    shares: dict[tuple[str, str, str], dict[str, str]] = {}
    for entry in ordered:
        present = {**earlier.get(_key(entry), {}), **_present(entry)}
        for host in _hosts(entry, cluster_domain):
            if present.get(host) and present[host] not in taken:
                shares.setdefault(_key(entry), {})[host] = present[host]
                taken.add(present[host])
    for entry in ordered:
        for host in _hosts(entry, cluster_domain):
            own = shares.setdefault(_key(entry), {})
            if host not in own and (free := _free(f"{objects.key(entry)}/{host}", taken)):
                own[host] = free
                taken.add(free)
    return shares


def status(addresses: Mapping[str, str]) -> list[Object] | None:
    """What an entry's status has of them; None if it has none."""
    return [{"value": address, "host": host} for host, address in sorted(addresses.items())] or None


def _hosts(entry: Object, cluster_domain: str) -> list[str]:
    """The hosts that get an address, in full."""
    spec = objects.spec(entry)
    resolution, written = str(spec.get("resolution") or "NONE"), _texts(spec.get("addresses"))
    if not scoping.may_have_address(resolution, written, objects.labels(entry)):
        return []
    full = (
        scoping.host_of(host, objects.namespace(entry), cluster_domain) for host in _texts(spec.get("hosts"))
    )
    return [host for host in dict.fromkeys(full) if scoping.gets_address(host, resolution)]


def _present(entry: Object) -> dict[str, str]:
    """Those in its status that are addresses of the network, by host."""
    listed = objects.status(entry).get("addresses") or ()
    return {
        str(each.get("host") or ""): str(each.get("value")) for each in listed if _is_ours(each.get("value"))
    }


def _is_ours(value: Any) -> bool:
    try:
        return ipaddress.IPv4Address(str(value)) in NETWORK
    except ValueError:
        return False


def _free(name: str, taken: set[str]) -> str:
    start = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big")
    for step in range(_USABLE):
        text = str(NETWORK[1 + (start + step) % _USABLE])
        if text not in taken:
            return text
    return ""


def _texts(value: Any) -> list[str]:
    return [each for each in value or () if isinstance(each, str)]


def _key(entry: Object) -> tuple[str, str, str]:
    return ("ServiceEntry", objects.namespace(entry), objects.name(entry))


def _age(entry: Object) -> tuple[str, str, str]:
    created = str(objects.metadata(entry).get("creationTimestamp") or "")
    return (created, objects.namespace(entry), objects.name(entry))
