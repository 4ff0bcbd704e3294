"""The kernel's table of NetworkPolicies as a value. Pure.

Pods that the same policies select share a chain, which asks each policy's own and then refuses: TCP by a
reset, so that every caller hears at once; what else there is by ICMP, of which the kernel sends only so much.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ondol.api.objects import Key
from ondol.node.network import rules
from ondol.node.network.nft_table import Table
from ondol.node.network.policies import Block, Direction, Model, Ports, Rule, digest

_SIDES: Final = {Direction.INGRESS: "saddr", Direction.EGRESS: "daddr"}
"""Where a packet's peer is."""
_FIXED: Final = {
    "egress": "ipv4_addr : verdict",
    "ingress": "ipv4_addr : verdict",
    "self": "ipv4_addr . ipv4_addr",
}
_PEERS: Final = "ipv4_addr"
_NAMED: Final = "ipv4_addr . inet_proto . inet_service"
_BY_ICMP: Final = "reject with icmp type admin-prohibited"
_REFUSED: Final = (
    # A reset of what was sent to a Service's address would come from the pod's; ICMP is translated.
    f"meta l4proto tcp ct status dnat {_BY_ICMP}",
    "meta l4proto tcp reject with tcp reset",
    _BY_ICMP,
)
_COMMENT_MAX: Final = 120


def table(instance: str, model: Model) -> Table:
    """What makes the kernel do what the model says."""
    sets = dict(_FIXED)
    elements: dict[str, dict[str, str]] = {name: {} for name in _FIXED}
    for name, members in sorted(model.peers.items()):
        sets[name] = _PEERS
        elements[name] = dict.fromkeys(sorted(members), "")
    for (port, protocol), places in sorted(model.named.items()):
        name = _named(port, protocol)
        sets[name] = _NAMED
        elements[name] = {f"{at} . {protocol.lower()} . {number}": "" for at, number in sorted(places)}
    chains: dict[str, tuple[str, ...]] = {}
    for direction in Direction:
        for key, listed in model.rules[direction].items():
            lines = [line for rule in listed for line in _lines(direction, rule, chains)]
            chains[_chain(direction, key)] = tuple(lines)
        for address, keys in sorted(model.selected[direction].items()):
            group = _group(direction, keys)
            chains.setdefault(group, (*(_jump(direction, key) for key in keys), *_REFUSED))
            elements[direction][address] = f"goto {group}"
            elements["self"][f"{address} . {address}"] = ""
    return Table(rules.policy_table(instance), sets, elements, chains, _HOOKS)


def _chain(direction: Direction, key: Key) -> str:
    return f"{direction}-{digest(str(key))}"


def _group(direction: Direction, keys: Iterable[Key]) -> str:
    return f"{direction}-of-{digest(' '.join(map(str, keys)))}"


def _jump(direction: Direction, key: Key) -> str:
    return f'jump {_chain(direction, key)} comment "{str(key)[:_COMMENT_MAX]}"'


def _named(port: str, protocol: str) -> str:
    return f"port-{digest(f'{port}/{protocol}')}"


def _lines(direction: Direction, rule: Rule, chains: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """Of a policy's chain. Several ports for several peers have a chain of their own, put among `chains`.

    So there are as many lines as peers and ports, never their product: who writes a policy chooses both.
    """
    ports = [""] if rule.ports is None else [f"{each} " for each in _ports(rule.ports)]
    peers = [""] if rule.is_anybody else [f"{each} " for each in _peers(_SIDES[direction], rule)]
    if len(peers) > 1 and len(ports) > 1:
        lines = tuple(f"{port}accept" for port in ports)
        chain = f"ports-{digest(' '.join(lines))}"
        chains.setdefault(chain, lines)
        yield from (f"{peer}jump {chain}" for peer in peers)
    else:
        yield from (f"{peer}{port}accept" for peer in peers for port in ports)
    for each in rule.resolver:
        yield f"ip daddr {each.address} {each.protocol.lower()} dport {each.port} accept"


def _peers(side: str, rule: Rule) -> Iterator[str]:
    yield from (f"ip {side} @{name}" for name in rule.peers)
    yield from (_within(side, block) for block in rule.blocks)


def _within(side: str, block: Block) -> str:
    inside = f"ip {side} {block.network}"
    if not block.excepted:
        return inside
    return f"{inside} ip {side} != {{ {', '.join(block.excepted)} }}"


def _ports(listed: Iterable[Ports]) -> Iterator[str]:
    numbers: dict[str, list[tuple[int, int]]] = {}
    for each in listed:
        if each.name:
            yield f"ip daddr . meta l4proto . th dport @{_named(each.name, each.protocol)}"
        else:
            bounds = (each.first, each.last) if each.first else (0, 65535)
            numbers.setdefault(each.protocol.lower(), []).append(bounds)
    for protocol, ranges in numbers.items():
        if (0, 65535) in ranges:
            yield f"meta l4proto {protocol}"
        else:
            written = (f"{first}-{last}" if first < last else str(first) for first, last in merged(ranges))
            yield f"{protocol} dport {{ {', '.join(written)} }}"


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers in ranges that do not touch: nftables takes no others."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result


_HOOKS: Final = """\
  chain judged-egress {
    type filter hook prerouting priority -90; policy accept;
    ct direction reply accept
    ct state related accept
    ip saddr . ip daddr @self accept
    ip saddr vmap @egress
  }
  chain judged-ingress {
    type filter hook prerouting priority -89; policy accept;
    ct direction reply accept
    ct state related accept
    ip saddr . ip daddr @self accept
    ip daddr vmap @ingress
  }
"""
"""All that a connection's opener sends is judged: a new policy holds for connections that are there.

Behind the translation of Services, and before it is told apart what is for the machine and what for pods.
What the machine itself sends does not come by here.
"""
