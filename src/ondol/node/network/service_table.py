"""The kernel's table of Services as a value: ClusterIP, NodePort and host ports to ready endpoints. Pure.

The kernel chooses an endpoint per connection. Where a client is to stay with its own, a set for each endpoint
remembers its clients for as long as the Service says after their last connection. An address without
endpoints answers with a refusal at once.
A table that is put in place whole has forgotten who stayed where.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ondol.base.host_ports import HostPort
from ondol.node.network import rules
from ondol.node.network.nft_table import Table
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
    return Table(rules.service_table(instance), _SETS, elements, chains, _hooks(instance), clients)


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
