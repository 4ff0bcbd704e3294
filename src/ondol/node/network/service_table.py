"""The kernel's table of Services as a value: ClusterIP, NodePort and host ports to ready endpoints. Pure.

The kernel chooses an endpoint per connection. Where a client is to stay with its own, a set for each endpoint
remembers its clients for as long as the Service says after their last connection. An address without
endpoints answers with a refusal at once.
A table is put in place whole, or by what differs from the one before: both lead to the same, but that a whole
one has forgotten who stayed where.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ondol.base.host_ports import HostPort
from ondol.node.network import rules
from ondol.node.network.services import Backend, Entry

_AT_ADDRESS: Final = "ipv4_addr . inet_proto . inet_service"
_ANYWHERE: Final = "inet_proto . inet_service"
_SETS: Final[Mapping[str, str]] = {
    "kept": _AT_ADDRESS,
    "kept-ports": _ANYWHERE,
    "vips": f"{_AT_ADDRESS} : verdict",
    "node-ports": f"{_ANYWHERE} : verdict",
    "rejected": _AT_ADDRESS,
    "rejected-ports": _ANYWHERE,
    "own": "ipv4_addr . ipv4_addr",
}
"""The types of the table's sets and maps by name."""
SETS: Final = tuple(_SETS)
_CLIENTS_MAX: Final = 65535
"""How many clients an endpoint is remembered for; beyond, more are led to any."""

Elements = Mapping[str, str]
"""By key; the value is a map's verdict, empty in a set."""


@dataclass(frozen=True, slots=True)
class Table:
    """What differs between tables of one instance; the chains of the kernel's hooks are always the same."""

    instance: str
    elements: Mapping[str, Elements]
    """By the name of the set or map."""
    chains: dict[str, tuple[str, ...]]
    """The rules in each chain: of an entry that is served, of its endpoints, of what lets only some to it.

    A chain stands behind those that it leads to.
    """
    clients: dict[str, int] = field(default_factory=dict)
    """The sets that remember an endpoint's clients, which packets fill, with the seconds that one lasts."""

    @property
    def name(self) -> str:
        return rules.service_table(self.instance)


def table(instance: str, listed: Sequence[Entry], untranslated: Iterable[HostPort] = ()) -> Table:
    """What makes the kernel do what the entries say; `untranslated` places are never translated.

    No two entries may have a place in common (`claims.settle`): nftables would refuse the whole table.
    """
    elements: dict[str, dict[str, str]] = {name: {} for name in SETS}
    chains: dict[str, tuple[str, ...]] = {}
    clients: dict[str, int] = {}
    for place in sorted(untranslated):
        elements["kept-ports" if place.is_everywhere else "kept"][_key(place)] = ""
    for entry in listed:
        if not entry.backends:
            for place in entry.places:
                elements["rejected-ports" if place.is_everywhere else "rejected"][_key(place)] = ""
            continue
        chain = entry.chain
        if entry.is_sticky:
            _remember(entry, chains, clients)
        else:
            chains[chain] = (_rule(entry),)
        if entry.sources:
            guard = f"{chain}-from"
            chains[guard] = (f"ip saddr {{ {', '.join(entry.sources)} }} goto {chain}",)
            chain = guard
        for place in entry.places:
            elements["node-ports" if place.is_everywhere else "vips"][_key(place)] = f"goto {chain}"
        for backend in entry.backends:
            elements["own"][f"{backend.address} . {backend.address}"] = ""
    return Table(instance, elements, chains, clients)


def _key(place: HostPort) -> str:
    at = f"{place.protocol.lower()} . {place.port}"
    return at if place.is_everywhere else f"{place.address} . {at}"


def _rule(entry: Entry) -> str:
    numbered = ", ".join(f"{i} : {b.address} . {b.port}" for i, b in enumerate(entry.backends))
    choice = f"numgen random mod {len(entry.backends)}"
    return f"meta l4proto {entry.protocol.lower()} dnat ip to {choice} map {{ {numbered} }}"


def _remember(entry: Entry, chains: dict[str, tuple[str, ...]], clients: dict[str, int]) -> None:
    """A client goes where it went last, if that is not too long ago and there still."""
    protocol = f"meta l4proto {entry.protocol.lower()}"
    returning: list[str] = []
    choices: list[str] = []
    for index, backend in enumerate(entry.backends):
        name = _endpoint(entry, backend)
        clients[f"c-{name}"] = entry.sticky_s
        chains[f"e-{name}"] = (
            f"update @c-{name} {{ ip saddr }}",
            f"{protocol} dnat ip to {backend.address}:{backend.port}",
        )
        returning.append(f"ip saddr @c-{name} goto e-{name}")
        choices.append(f"{index} : goto e-{name}")
    choice = f"{protocol} numgen random mod {len(choices)} vmap {{ {', '.join(choices)} }}"
    chains[entry.chain] = (*returning, choice)


def _endpoint(entry: Entry, backend: Backend) -> str:
    """The same for all parts of a port, so that a client stays wherever it comes from; a time is for good."""
    text = f"{entry.owner.key}/{entry.protocol}/{entry.port}/{backend}/{entry.sticky_s}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def whole(table: Table) -> str:
    """The batch that puts the table in place, whatever was there before."""
    body = [
        *(_set(name, table.elements[name]) for name in SETS),
        *(f"  set {name} {{ {_remembering(seconds)} }}\n" for name, seconds in table.clients.items()),
        *(f"  chain {chain} {{\n{_lines(listed)}  }}\n" for chain, listed in table.chains.items()),
        _hooks(table.instance),
    ]
    return rules.replaced(table.name, "".join(body))


def _set(name: str, elements: Elements) -> str:
    noun = "map" if _SETS[name].endswith("verdict") else "set"
    inside = f"    elements = {{ {_listed(elements)} }}\n" if elements else ""
    return f"  {noun} {name} {{\n    type {_SETS[name]}\n{inside}  }}\n"


def _remembering(seconds: int) -> str:
    return f"type ipv4_addr; size {_CLIENTS_MAX}; flags dynamic,timeout; timeout {seconds}s;"


def _lines(listed: Iterable[str]) -> str:
    return "".join(f"    {rule}\n" for rule in listed)


def _listed(elements: Elements) -> str:
    return ", ".join(f"{key} : {verdict}" if verdict else key for key, verdict in elements.items())


def difference(old: Table, new: Table) -> str:
    """The batch that makes the old table of an instance the new one; empty when they are the same.

    nftables refuses an element that leads to no chain, and the end of a chain to which one leads: chains come
    before their elements and go after them, sets before their rules. An element whose verdict changes is
    deleted and added.
    """
    return "".join(
        [
            *(
                f"add set {new.name} {name} {{ {_remembering(seconds)} }}\n"
                for name, seconds in new.clients.items()
                if name not in old.clients
            ),
            *_filled(old, new),
            *_deleted(old, new),
            *_added(old, new),
            *(
                f"delete chain {new.name} {chain}\n"
                for chain in reversed(old.chains)
                if chain not in new.chains
            ),
            *(f"delete set {new.name} {name}\n" for name in old.clients if name not in new.clients),
        ]
    )


def _filled(old: Table, new: Table) -> Iterator[str]:
    for chain, listed in new.chains.items():
        before = old.chains.get(chain)
        if before == listed:
            continue
        yield f"{'add' if before is None else 'flush'} chain {new.name} {chain}\n"
        yield from (f"add rule {new.name} {chain} {rule}\n" for rule in listed)


def _deleted(old: Table, new: Table) -> Iterator[str]:
    for name in SETS:
        after = new.elements[name]
        if keys := [key for key, verdict in old.elements[name].items() if after.get(key) != verdict]:
            yield f"delete element {new.name} {name} {{ {', '.join(keys)} }}\n"


def _added(old: Table, new: Table) -> Iterator[str]:
    for name in SETS:
        before = old.elements[name]
        elements = {key: verdict for key, verdict in new.elements[name].items() if before.get(key) != verdict}
        if elements:
            yield f"add element {new.name} {name} {{ {_listed(elements)} }}\n"


def _hooks(instance: str) -> str:
    return f"""\
  chain services {{
    ip daddr . meta l4proto . th dport @kept return
    fib daddr type local meta l4proto . th dport @kept-ports return
    ip daddr . meta l4proto . th dport vmap @vips
    fib daddr type local meta l4proto . th dport vmap @node-ports
  }}
  chain reject-services {{
    ip daddr . meta l4proto . th dport @rejected reject
    fib daddr type local meta l4proto . th dport @rejected-ports reject
  }}
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
{rules.strangers(instance, "iifname", "return")}\
    jump services
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    {rules.strangers_mark(instance)} return
    jump services
  }}
  chain postrouting {{
    type nat hook postrouting priority 90; policy accept;
    ip saddr . ip daddr @own masquerade
  }}
  chain forward-filter {{
    type filter hook forward priority -10; policy accept;
    jump reject-services
  }}
  chain output-filter {{
    type filter hook output priority -10; policy accept;
    jump reject-services
  }}
  chain input-filter {{
    type filter hook input priority -10; policy accept;
    jump reject-services
  }}
"""
