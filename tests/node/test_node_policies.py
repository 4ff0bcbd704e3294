"""NetworkPolicies: what the kernel's table allows is what Kubernetes' words allow, in any world."""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondol.api.objects import Object
from ondol.node.network import nft_table, policies, policy_table
from ondol.node.network.nft_table import Table
from ondol.node.network.policies import NamedPort, Pod

NAMESPACES: Final = {
    "shop": {"kubernetes.io/metadata.name": "shop", "team": "a"},
    "bank": {"kubernetes.io/metadata.name": "bank", "team": "b"},
    "kube-system": {"kubernetes.io/metadata.name": "kube-system"},
}
RESOLVER: Final = Pod(
    "kube-system",
    "10.244.0.1",
    {"k8s-app": "kube-dns"},
    (NamedPort("dns", "UDP", 53), NamedPort("dns-tcp", "TCP", 53)),
)
OUTSIDE: Final = "192.0.2.9"


@dataclass(frozen=True, slots=True)
class Packet:
    """The first of a connection."""

    source: str
    destination: str
    protocol: str
    port: int


# Kubernetes' words, one after the other


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    if selector is None:
        return False
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for each in selector.get("matchExpressions") or ():
        value = labels.get(each["key"])
        expected = {
            "In": value in each.get("values", ()),
            "NotIn": value not in each.get("values", ()),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not expected[each["operator"]]:
            return False
    return True


def allowed(listed: Sequence[Object], pods: Sequence[Pod], packet: Packet) -> bool:
    """What the API's reference says of it."""
    by_address = {pod.address: pod for pod in pods}
    source, destination = by_address.get(packet.source), by_address.get(packet.destination)
    if source is not None and packet.source == packet.destination:
        return True
    return all(
        pod is None or _is_free(listed, pod, direction, packet, by_address)
        for pod, direction in ((source, "Egress"), (destination, "Ingress"))
    )


def _is_free(
    listed: Sequence[Object], pod: Pod, direction: str, packet: Packet, by_address: Mapping[str, Pod]
) -> bool:
    field = direction.lower()
    isolating = []
    for policy in listed:
        spec = policy["spec"]
        types = spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
        is_own = policy["metadata"]["namespace"] == pod.namespace
        if is_own and direction in types and selects(spec["podSelector"], pod.labels or {}):
            isolating.append(policy)
    if not isolating:
        return True
    return any(
        _has_peer(policy["metadata"]["namespace"], rule, direction, by_address, packet)
        and _has_port(rule, packet, by_address)
        for policy in isolating
        for rule in policy["spec"].get(field) or ()
    )


def _has_peer(
    namespace: str,
    rule: Mapping[str, Any],
    direction: str,
    by_address: Mapping[str, Pod],
    packet: Packet,
) -> bool:
    peers = rule.get("to" if direction == "Egress" else "from") or ()
    address = packet.destination if direction == "Egress" else packet.source
    other = by_address.get(address)
    if direction == "Egress" and address == RESOLVER.address:
        is_resolving = packet.port == 53 and packet.protocol in ("TCP", "UDP")
        other = RESOLVER if is_resolving else None
    for peer in peers:
        if block := peer.get("ipBlock"):
            inside = ipaddress.ip_address(address) in ipaddress.ip_network(block["cidr"], strict=False)
            cut = any(
                ipaddress.ip_address(address) in ipaddress.ip_network(each)
                for each in block.get("except") or ()
            )
            if inside and not cut:
                return True
        elif other is not None:
            own = other.namespace == namespace
            spaces = peer.get("namespaceSelector")
            is_there = own if spaces is None else selects(spaces, NAMESPACES[other.namespace])
            if is_there and selects(peer.get("podSelector") or {}, other.labels or {}):
                return True
    return not peers


def _has_port(rule: Mapping[str, Any], packet: Packet, by_address: Mapping[str, Pod]) -> bool:
    ports = rule.get("ports") or ()
    everybody = {**by_address, RESOLVER.address: RESOLVER}
    for each in ports:
        if (each.get("protocol") or "TCP") != packet.protocol:
            continue
        port = each.get("port")
        if port is None:
            return True
        if isinstance(port, str):
            called = everybody[packet.destination].ports if packet.destination in everybody else ()
            if NamedPort(port, packet.protocol, packet.port) in called:
                return True
        elif port <= packet.port <= each.get("endPort", port):
            return True
    return not ports


# The kernel's, for the few words that the table has


def judged(table: Table, packet: Packet) -> bool:
    """Whether the table lets the packet through, as nftables reads it."""
    if f"{packet.source} . {packet.source}" in table.elements["self"] and packet.source == packet.destination:
        return True
    for direction, address in (("egress", packet.source), ("ingress", packet.destination)):
        verdict = table.elements[direction].get(address)
        if verdict is not None and not _accepts(table, verdict.removeprefix("goto "), packet):
            return False
    return True


def _accepts(table: Table, chain: str, packet: Packet) -> bool:
    for line in table.chains[chain]:
        if (jump := re.match(r"jump (\S+)", line)) is not None:
            if _accepts(table, jump.group(1), packet):
                return True
        elif " reject " in f" {line}":
            return False
        elif (led := re.fullmatch(r"(ip .*) jump (\S+)", line)) is not None:
            if _matches(table, led.group(1), packet) and _accepts(table, led.group(2), packet):
                return True
        elif _matches(table, line.removesuffix("accept").strip(), packet):
            return True
    return False


def _matches(table: Table, line: str, packet: Packet) -> bool:
    values = {"saddr": packet.source, "daddr": packet.destination}
    protocol = packet.protocol.lower()
    while line:
        if match := re.match(r"ip daddr \. meta l4proto \. th dport @(\S+)", line):
            at = f"{packet.destination} . {protocol} . {packet.port}"
            holds = at in table.elements[match.group(1)]
        elif match := re.match(r"ip ([sd]addr) @(\S+)", line):
            holds = values[match.group(1)] in table.elements[match.group(2)]
        elif match := re.match(r"ip ([sd]addr) != \{ (.*?) \}", line):
            cut = [ipaddress.ip_network(each) for each in match.group(2).split(", ")]
            holds = not any(ipaddress.ip_address(values[match.group(1)]) in each for each in cut)
        elif match := re.match(r"ip ([sd]addr) ([0-9./]+)", line):
            holds = ipaddress.ip_address(values[match.group(1)]) in ipaddress.ip_network(match.group(2))
        elif match := re.match(r"(tcp|udp|sctp) dport \{ (.*?) \}", line):
            ranges = [each.partition("-") for each in match.group(2).split(", ")]
            holds = match.group(1) == protocol and any(
                int(first) <= packet.port <= int(last or first) for first, _, last in ranges
            )
        elif match := re.match(r"(tcp|udp|sctp) dport (\d+)", line):
            holds = match.group(1) == protocol and packet.port == int(match.group(2))
        else:
            match = re.match(r"meta l4proto (\w+)", line)
            assert match, line
            holds = match.group(1) == protocol
        if not holds:
            return False
        line = line[match.end() :].strip()
    return True


# Worlds

_VALUES = st.sampled_from(["x", "y"])
_LABELS = st.dictionaries(st.sampled_from(["app", "tier"]), _VALUES)
_EXPRESSIONS = st.one_of(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["app", "tier", "team"]),
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(st.sampled_from(["x", "y", "a"]), min_size=1, max_size=2, unique=True),
        }
    ),
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["app", "tier", "team"]),
            "operator": st.sampled_from(["Exists", "DoesNotExist"]),
        }
    ),
)
_SELECTORS: Final[st.SearchStrategy[Object]] = st.one_of(
    st.just({}),
    _LABELS.map(lambda labels: {"matchLabels": labels}),
    st.lists(_EXPRESSIONS, min_size=1, max_size=2).map(lambda listed: {"matchExpressions": listed}),
)
_NAMESPACE_SELECTORS: Final[st.SearchStrategy[Object]] = st.one_of(
    st.just({}),
    st.sampled_from(["a", "b"]).map(lambda team: {"matchLabels": {"team": team}}),
    st.sampled_from(sorted(NAMESPACES)).map(
        lambda name: {"matchLabels": {"kubernetes.io/metadata.name": name}}
    ),
    st.lists(_EXPRESSIONS, min_size=1, max_size=1).map(lambda listed: {"matchExpressions": listed}),
)
_BLOCKS = st.sampled_from(
    [
        {"cidr": "0.0.0.0/0"},
        {"cidr": "10.244.0.0/16", "except": ["10.244.0.2/32", "10.244.0.4/31"]},
        {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]},
        {"cidr": "192.0.2.9/32"},
        {"cidr": "10.244.0.0/30"},
    ]
)
_PEERS = st.one_of(
    st.fixed_dictionaries({"podSelector": _SELECTORS}),
    st.fixed_dictionaries({"namespaceSelector": _NAMESPACE_SELECTORS}),
    st.fixed_dictionaries({"podSelector": _SELECTORS, "namespaceSelector": _NAMESPACE_SELECTORS}),
    st.fixed_dictionaries({"ipBlock": _BLOCKS}),
)
_PORTS: Final[st.SearchStrategy[Object]] = st.one_of(
    st.just({}),
    st.just({"protocol": "UDP"}),
    st.fixed_dictionaries(
        {"port": st.sampled_from([53, 80, 8080, "web", "dns", "dns-tcp"])},
        optional={"protocol": st.sampled_from(["TCP", "UDP", "SCTP"])},
    ),
    st.tuples(st.sampled_from([50, 80]), st.sampled_from([80, 8080])).map(
        lambda bounds: {"port": bounds[0], "endPort": bounds[1], "protocol": "TCP"}
    ),
)


def _rules(field: str) -> st.SearchStrategy[list[Object]]:
    rule = st.fixed_dictionaries(
        {}, optional={field: st.lists(_PEERS, max_size=2), "ports": st.lists(_PORTS, max_size=3)}
    )
    return st.lists(rule, max_size=2)


@st.composite
def _policies(draw: st.DrawFn) -> list[Object]:
    listed = []
    for number in range(draw(st.integers(0, 4))):
        spec: Object = {"podSelector": draw(_SELECTORS)}
        if draw(st.booleans()):
            spec["ingress"] = draw(_rules("from"))
        if draw(st.booleans()):
            spec["egress"] = draw(_rules("to"))
        types = draw(st.sampled_from([None, ["Ingress"], ["Egress"], ["Ingress", "Egress"]]))
        if types is not None:
            spec["policyTypes"] = types
        namespace = draw(st.sampled_from(["shop", "bank"]))
        listed.append({"metadata": {"name": f"p{number}", "namespace": namespace}, "spec": spec})
    return listed


@st.composite
def _pods(draw: st.DrawFn) -> list[Pod]:
    return [
        Pod(
            draw(st.sampled_from(sorted(NAMESPACES))),
            f"10.244.0.{last}",
            draw(_LABELS),
            draw(st.sampled_from([(), (NamedPort("web", "TCP", 80),), (NamedPort("web", "TCP", 8080),)])),
        )
        for last in range(2, 2 + draw(st.integers(1, 4)))
    ]


def tabled(listed: Sequence[Object], pods: Sequence[Pod]) -> Table:
    return policy_table.table("abcdef", policies.compiled(listed, pods, NAMESPACES, RESOLVER))


@settings(max_examples=400, deadline=None)
@given(_policies(), _pods())
def test_the_table_allows_what_the_words_allow(listed: list[Object], pods: list[Pod]) -> None:
    """Between all pods, the name server and the outside, at every kind of port."""
    table = tabled(listed, pods)
    places = [*(pod.address for pod in pods), RESOLVER.address, OUTSIDE]
    for source, destination in itertools.product(places, repeat=2):
        for protocol, port in itertools.product(("TCP", "UDP", "SCTP"), (53, 60, 80, 8080)):
            packet = Packet(source, destination, protocol, port)
            assert judged(table, packet) == allowed(listed, pods, packet), packet


@settings(max_examples=50, deadline=None)
@given(_policies(), _pods(), _policies(), _pods())
def test_differences_name_only_what_is_there(
    before: list[Object], pods: list[Pod], after: list[Object], others: list[Pod]
) -> None:
    """Nothing that is used goes, nothing that is not there is used, and the same needs nothing."""
    old, new = tabled(before, pods), tabled(after, others)
    assert nft_table.difference(old, old) == ""
    chains, sets = set(old.chains), set(old.sets)
    for line in nft_table.difference(old, new).splitlines():
        verb, noun, _, _, name, *rest = line.split(" ", 5)
        match verb, noun:
            case "add", "chain":
                chains.add(name)
            case "add", "set" | "map":
                sets.add(name)
            case "delete", "chain":
                chains.remove(name)
            case "delete", "set" | "map":
                sets.remove(name)
            case "add", "rule":
                assert name in chains
                assert set(re.findall(r"jump (\S+)", rest[0])) <= chains
                assert set(re.findall(r"@(\S+)", rest[0])) <= sets
            case _:
                assert name in chains | sets
    assert (chains, sets) == (set(new.chains), set(new.sets))


def test_pods_with_the_same_policies_share_a_chain() -> None:
    """The table grows with the policies, not with the pods that each of them selects."""
    deny: Object = {"metadata": {"name": "deny", "namespace": "shop"}, "spec": {"podSelector": {}}}
    few = tabled([deny], [Pod("shop", f"10.244.0.{n}", {}) for n in range(2, 4)])
    many = tabled([deny], [Pod("shop", f"10.244.0.{n}", {}) for n in range(2, 200)])
    assert few.chains == many.chains


def test_a_rule_has_as_many_lines_as_peers_and_ports() -> None:
    """Never their product: one policy would fill the memory of the node, and keep all pods waiting."""
    rule = {
        "from": [{"ipBlock": {"cidr": f"10.1.{n}.0/24"}} for n in range(200)],
        "ports": [{"port": f"p{n}"} for n in range(200)],
    }
    spec: Object = {"podSelector": {}, "ingress": [rule]}
    pods = [Pod("shop", "10.244.0.2", {}, (NamedPort("p7", "TCP", 80),)), Pod("bank", "10.1.8.2", {})]
    table = tabled([{"metadata": {"name": "p", "namespace": "shop"}, "spec": spec}], pods)
    assert sum(map(len, table.chains.values())) < 410
    assert judged(table, Packet("10.1.8.2", "10.244.0.2", "TCP", 80))
    assert not judged(table, Packet("10.1.8.2", "10.244.0.2", "TCP", 81))


def test_a_pod_whose_status_says_that_it_has_ended_stays_selected() -> None:
    """It is nobody's peer, and no more free than before: it may run on, and others may write its status."""
    spec: Object = {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}], "egress": [{}]}
    listed: list[Object] = [{"metadata": {"name": "p", "namespace": "shop"}, "spec": spec}]
    metadata, status = {"name": "a", "namespace": "shop"}, {"phase": "Succeeded"}
    ended = policies.pod({"metadata": metadata, "spec": {}, "status": status}, "10.244.0.2")
    table = tabled(listed, [ended, Pod("shop", "10.244.0.3", {})])
    assert not judged(table, Packet(OUTSIDE, ended.address, "TCP", 80))
    assert not judged(table, Packet(ended.address, "10.244.0.3", "TCP", 80))
    assert judged(table, Packet("10.244.0.3", "10.244.0.3", "TCP", 80))


def test_a_pod_that_nobody_describes_may_do_nothing() -> None:
    """Its object is gone while it still runs here: where there are policies it may be any of theirs."""
    deny: Object = {
        "metadata": {"name": "deny", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "x"}}, "ingress": [{}], "egress": [{}]},
    }
    lost, elsewhere = Pod("shop", "10.244.0.2", None), Pod("bank", "10.244.0.3", None)
    table = tabled([deny], [lost, elsewhere])
    assert not judged(table, Packet(lost.address, OUTSIDE, "TCP", 80))
    assert not judged(table, Packet(OUTSIDE, lost.address, "TCP", 80))
    assert judged(table, Packet(OUTSIDE, elsewhere.address, "TCP", 80))


@pytest.mark.parametrize("cidr", ["2001:db8::/32", "no network", ""])
def test_what_is_no_ipv4_network_is_nobody(cidr: str) -> None:
    """A rule for it alone allows nothing, and not everything."""
    rule = {"from": [{"ipBlock": {"cidr": cidr}}]}
    spec = {"podSelector": {}, "ingress": [rule]}
    table = tabled(
        [{"metadata": {"name": "p", "namespace": "shop"}, "spec": spec}], [Pod("shop", "10.244.0.2", {})]
    )
    assert not judged(table, Packet(OUTSIDE, "10.244.0.2", "TCP", 80))


def test_ports_that_overlap_are_one_range() -> None:
    """Nftables takes no set in which one number stands twice."""
    assert policy_table.merged([(80, 90), (1, 1), (85, 100), (101, 102), (2, 2)]) == [(1, 2), (80, 102)]
