"""Which chain takes a connection: matches by destination port, then by address, by name or by first bytes.

`tree` is of the listeners inside pods, `inspecting_tree` of the one inside the proxy that looks at the bytes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

from ondol.mesh.translate import clusters
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.chains import INSPECT, PASSTHROUGH, Layout, http_name, take

_HTTP_PROTOCOLS: Final = ("'http/1.0'", "'http/1.1'", "'h2c'")
"""What the HTTP inspector calls what it saw, in the spelling of the matching input."""
_NOWHERE: Final = tuple(
    ipaddress.ip_network(text)
    for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32")
)
"""The caller's own loopback and link, where the proxy listens: no pod means them by what is turned to it."""


def tree(layout: Layout, listener_port: int) -> m.matcher.Matcher:
    """Nowhere for what is nobody's address; else by port, then by address; the unknown passes through."""
    ports: dict[int, m.matcher.Matcher.OnMatch] = {listener_port: take(clusters.BLACKHOLE)}
    by_address_at = {port for port, _ in (*layout.tcp, *layout.ranges)}
    for port in sorted(layout.http_ports | layout.inspected_ports | by_address_at | layout.anywhere.keys()):
        ports.setdefault(port, _port(port, layout))
    ranges = [_range(each) for each in _NOWHERE]
    nowhere = m.ip_matcher.IPMatcher.IPRangeMatcher(ranges=ranges, on_match=take(clusters.BLACKHOLE))
    by_address = m.matcher.Matcher(on_no_match=m.matcher.Matcher.OnMatch(matcher=_by_port(ports)))
    _look_at_networks(by_address, [nowhere])
    return by_address


def _range(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> m.cidr.CidrRange:
    return m.cidr.CidrRange(
        address_prefix=str(network.network_address), prefix_len=m.number(network.prefixlen)
    )


def _look_at_networks(
    matcher: m.matcher.Matcher, listed: list[m.ip_matcher.IPMatcher.IPRangeMatcher]
) -> None:
    matcher.matcher_tree.input.CopyFrom(m.typed("destination_ip", m.inputs.DestinationIPInput()))
    trie = m.ip_matcher.IPMatcher(range_matchers=listed)
    matcher.matcher_tree.custom_match.CopyFrom(m.typed("envoy.matching.custom_matchers.trie_matcher", trie))


def _by_port(ports: Mapping[int, m.matcher.Matcher.OnMatch]) -> m.matcher.Matcher:
    matcher = m.matcher.Matcher(on_no_match=take(PASSTHROUGH))
    matcher.matcher_tree.input.CopyFrom(m.typed("destination_port", m.inputs.DestinationPortInput()))
    for port, match in ports.items():
        matcher.matcher_tree.exact_match_map.map[str(port)].CopyFrom(match)
    return matcher


def _port(port: int, layout: Layout) -> m.matcher.Matcher.OnMatch:
    """First the addresses that declared what they speak; then HTTP or, where some did not, a look."""
    addresses, networks = _at(port, layout.tcp), _at(port, layout.ranges)
    if port in layout.inspected_ports:
        addresses |= dict.fromkeys(layout.http.get(port, ()), http_name(port))
        return _by_address(addresses, networks, take(INSPECT))
    otherwise = http_name(port) if port in layout.http_ports else layout.anywhere.get(port, PASSTHROUGH)
    return _by_address(addresses, networks, take(otherwise))


def inspecting_tree(layout: Layout) -> m.matcher.Matcher:
    """By destination port, then by what the bytes look like; what is no HTTP goes by address."""
    return _by_port({port: _by_looks(port, layout) for port in sorted(layout.inspected_ports)})


def _by_looks(port: int, layout: Layout) -> m.matcher.Matcher.OnMatch:
    otherwise = take(layout.anywhere.get(port, PASSTHROUGH))
    otherwise = _by_address(_at(port, layout.sniffed), _at(port, layout.sniffed_ranges), otherwise)
    if port in layout.http_ports:
        matcher = m.matcher.Matcher(on_no_match=otherwise)
        matcher.matcher_tree.input.CopyFrom(m.typed("protocol", m.inputs.ApplicationProtocolInput()))
        for protocol in _HTTP_PROTOCOLS:
            matcher.matcher_tree.exact_match_map.map[protocol].CopyFrom(take(http_name(port)))
        otherwise = m.matcher.Matcher.OnMatch(matcher=matcher)
    return _by_server_name(layout.server_names.get(port, {}), otherwise)


def _by_server_name(
    clusters_by_name: Mapping[str, str], otherwise: m.matcher.Matcher.OnMatch
) -> m.matcher.Matcher.OnMatch:
    """Names before wildcards, and of these the longest first."""
    if not clusters_by_name:
        return otherwise
    matcher = m.matcher.Matcher(on_no_match=otherwise)
    for name in sorted(clusters_by_name, key=lambda name: (name.startswith("*"), -len(name), name)):
        entry = matcher.matcher_list.matchers.add()
        predicate = entry.predicate.single_predicate
        predicate.input.CopyFrom(m.typed("server_name", m.inputs.ServerNameInput()))
        if name == "*":
            predicate.value_match.safe_regex.regex = ".+"
        elif name.startswith("*"):
            predicate.value_match.suffix = name[1:]
        else:
            predicate.value_match.exact = name
        predicate.value_match.ignore_case = name != "*"
        entry.on_match.CopyFrom(take(clusters_by_name[name]))
    return m.matcher.Matcher.OnMatch(matcher=matcher)


def _at(port: int, by_port: Mapping[tuple[int, str], str]) -> dict[str, str]:
    return {address: cluster for (at, address), cluster in by_port.items() if at == port}


def _by_address(
    addresses: Mapping[str, str], networks: Mapping[str, str], otherwise: m.matcher.Matcher.OnMatch
) -> m.matcher.Matcher.OnMatch:
    if networks:
        by_network = m.matcher.Matcher(on_no_match=otherwise)
        listed = [
            m.ip_matcher.IPMatcher.IPRangeMatcher(
                ranges=[_range(ipaddress.ip_network(text, strict=False))], on_match=take(cluster)
            )
            for text, cluster in sorted(networks.items())
        ]
        _look_at_networks(by_network, listed)
        otherwise = m.matcher.Matcher.OnMatch(matcher=by_network)
    if not addresses:
        return otherwise
    matcher = m.matcher.Matcher(on_no_match=otherwise)
    matcher.matcher_tree.input.CopyFrom(m.typed("destination_ip", m.inputs.DestinationIPInput()))
    for address, cluster in sorted(addresses.items()):
        matcher.matcher_tree.exact_match_map.map[address].CopyFrom(take(cluster))
    return m.matcher.Matcher.OnMatch(matcher=matcher)
