"""The kernel's table of Services as a value: ClusterIP, NodePort and host ports to ready endpoints. Pure.

The kernel chooses an endpoint per connection. An address without endpoints answers with a refusal at once.
A table is put in place whole, or by what differs from the one before: both lead to the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ondol.base.host_ports import HostPort
from ondol.node.network import rules
from ondol.node.network.services import Entry

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

Elements = Mapping[str, str]
"""By key; the value is a map's verdict, empty in a set."""


@dataclass(frozen=True, slots=True)
class Table:
    """What differs between tables of one instance; the chains of the kernel's hooks are always the same."""

    instance: str
    elements: Mapping[str, Elements]
    """By the name of the set or map."""
    chains: dict[str, str]
    """The one rule in each chain: of an entry that is served, and of what lets only some to it.

    A chain stands behind the one that it leads to.
    """

    @property
    def name(self) -> str:
        return rules.service_table(self.instance)


def table(instance: str, listed: Sequence[Entry], untranslated: Iterable[HostPort] = ()) -> Table:
    """What makes the kernel do what the entries say; `untranslated` places are never translated.

    No two entries may have a place in common (`claims.settle`): nftables would refuse the whole table.
    """
    elements: dict[str, dict[str, str]] = {name: {} for name in SETS}
    chains: dict[str, str] = {}
    for place in sorted(untranslated):
        elements["kept-ports" if place.is_everywhere else "kept"][_key(place)] = ""
    for entry in listed:
        if not entry.backends:
            for place in entry.places:
                elements["rejected-ports" if place.is_everywhere else "rejected"][_key(place)] = ""
            continue
        chain = entry.chain
        chains[chain] = _rule(entry)
        if entry.sources:
            guard = f"{chain}-from"
            chains[guard] = f"ip saddr {{ {', '.join(entry.sources)} }} goto {chain}"
            chain = guard
        for place in entry.places:
            elements["node-ports" if place.is_everywhere else "vips"][_key(place)] = f"goto {chain}"
        for backend in entry.backends:
            elements["own"][f"{backend.address} . {backend.address}"] = ""
    return Table(instance, elements, chains)


def _key(place: HostPort) -> str:
    at = f"{place.protocol.lower()} . {place.port}"
    return at if place.is_everywhere else f"{place.address} . {at}"


def _rule(entry: Entry) -> str:
    choice = f"{'jhash ip saddr' if entry.is_sticky else 'numgen random'} mod {len(entry.backends)}"
    numbered = ", ".join(f"{i} : {b.address} . {b.port}" for i, b in enumerate(entry.backends))
    return f"meta l4proto {entry.protocol.lower()} dnat ip to {choice} map {{ {numbered} }}"


def whole(table: Table) -> str:
    """The batch that puts the table in place, whatever was there before."""
    body = [
        *(_set(name, table.elements[name]) for name in SETS),
        *(f"  chain {chain} {{\n    {rule}\n  }}\n" for chain, rule in table.chains.items()),
        _hooks(table.instance),
    ]
    return rules.replaced(table.name, "".join(body))


def _set(name: str, elements: Elements) -> str:
    noun = "map" if _SETS[name].endswith("verdict") else "set"
    inside = f"    elements = {{ {_listed(elements)} }}\n" if elements else ""
    return f"  {noun} {name} {{\n    type {_SETS[name]}\n{inside}  }}\n"


def _listed(elements: Elements) -> str:
    return ", ".join(f"{key} : {verdict}" if verdict else key for key, verdict in elements.items())


def difference(old: Table, new: Table) -> str:
    """The batch that makes the old table of an instance the new one; empty when they are the same.

    nftables refuses an element that leads to no chain, and the end of a chain to which one leads: chains come
    before their elements and go after them. An element whose verdict changes is deleted and added.
    """
    return "".join(
        [
            *_filled(old, new),
            *_deleted(old, new),
            *_added(old, new),
            *(
                f"delete chain {new.name} {chain}\n"
                for chain in reversed(old.chains)
                if chain not in new.chains
            ),
        ]
    )


def _filled(old: Table, new: Table) -> Iterator[str]:
    for chain, rule in new.chains.items():
        before = old.chains.get(chain)
        if before == rule:
            continue
        yield f"{'add' if before is None else 'flush'} chain {new.name} {chain}\n"
        yield f"add rule {new.name} {chain} {rule}\n"


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
