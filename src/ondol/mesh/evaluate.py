"""Which route would this call take? Answered from the snapshot itself, as Envoy would read it.

Pure: listener, chain, route table, virtual host, route, cluster and endpoints are looked up in the
encoded resources, so that what is judged is what is served. For `explain`, and for tests.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ondol.base import regexp
from ondol.mesh.translate import chains, clusters, gateways, hosts
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.world import PodPlan
from ondol.mesh.xds import types
from ondol.mesh.xds.types import Snapshot

_HTTP_MANAGER = "envoy.filters.network.http_connection_manager"


@dataclass(frozen=True, slots=True)
class Call:
    """A connection to `address:port` and the request on it; no host means that it is not HTTP."""

    address: str = "10.255.255.1"
    port: int = 80
    host: str = ""
    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    scheme: str = "http"
    target: str = ""
    """The name that was resolved to the address, where it is none of a service's."""
    sni: str = ""
    """The name that TLS asks for; none where it is not TLS."""
    filter_state: Mapping[str, str] = field(default_factory=dict)
    """What the listener adds to every connection: it is filled in from the chain."""
    chance: int = 0
    """The request's number out of a million, by which some routes take a share of what they match."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to a call; empty fields were not reached."""

    chain: str = ""
    table: str = ""
    virtual_host: str = ""
    route: str = ""
    clusters: Mapping[str, int] = field(default_factory=dict)
    """Weight by cluster name."""
    endpoints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    status: int = 0
    """Answered by the proxy itself: a redirect, a direct response, 404 for no route."""
    message: m.routes.Route = field(default_factory=m.routes.Route)
    """Envoy's route, for who wants all of it; an empty one if none was reached."""


def from_pod(snapshot: Snapshot, plan: PodPlan, call: Call) -> Verdict:
    """What happens to a call that a pod makes."""
    listener = m.listener.Listener.FromString(snapshot.of(types.LISTENER)[plan.listener].body)
    return _through(snapshot, listener, _choose(listener.filter_chain_matcher, call), call)


def from_outside(snapshot: Snapshot, call: Call) -> Verdict:
    """What happens to a call that comes in at the ingress gateway; `port` is the Gateway's."""
    resource = snapshot.of(types.LISTENER).get(gateways.listener_name(call.port))
    if resource is None:
        return Verdict()
    listener = m.listener.Listener.FromString(resource.body)
    chosen = _by_name(listener.filter_chains, call.sni) if listener.listener_filters else None
    if listener.listener_filters and chosen is None:
        return _nowhere("no chain")
    return _through(snapshot, listener, chosen or listener.filter_chains[0].name, call)


def _by_name(listed: Iterable[m.listener_components.FilterChain], name: str) -> str | None:
    """The chain of the name that TLS asks for: its own, the longest wildcard's, or that of all others."""
    by_name = {host: each.name for each in listed for host in each.filter_chain_match.server_names or ("",)}
    patterns = (name.lower(), *(each for each in hosts.patterns(name.lower()) if each != "*"), "")
    return next((by_name[each] for each in patterns if each in by_name), None)


def _choose(matcher: m.matcher.Matcher, call: Call) -> str:
    """Walk the tree of matches to the name of a chain."""
    while True:
        match = _match(matcher, call) or matcher.on_no_match
        if match.WhichOneof("on_match") == "matcher":
            matcher = match.matcher
            continue
        name = m.text("")
        match.action.typed_config.Unpack(name)
        return name.value


def _match(matcher: m.matcher.Matcher, call: Call) -> m.matcher.Matcher.OnMatch | None:
    """What of a matcher holds for the call, if anything does."""
    for entry in matcher.matcher_list.matchers:
        expected, name = entry.predicate.single_predicate.value_match, call.sni.lower()
        how = expected.WhichOneof("match_pattern")
        if name and (
            how == "safe_regex"
            or (name.endswith(expected.suffix) if how == "suffix" else name == expected.exact)
        ):
            return entry.on_match
    tree = matcher.matcher_tree
    if tree.HasField("custom_match"):
        ranges = m.ip_matcher.IPMatcher()
        tree.custom_match.typed_config.Unpack(ranges)
        return _by_network(ranges, call.address)
    inputs = {
        "destination_port": str(call.port),
        "destination_ip": call.address,
        "protocol": "'http/1.1'" if call.host else "",
    }
    value = inputs.get(tree.input.name, "")
    matches = dict(tree.exact_match_map.map)  # one that is asked for a value makes it
    return matches.get(value)


def _by_network(matcher: m.ip_matcher.IPMatcher, address: str) -> m.matcher.Matcher.OnMatch | None:
    """The narrowest network that has the address."""
    ip = ipaddress.ip_address(address)
    ranged = [
        (each.prefix_len.value, entry.on_match)
        for entry in matcher.range_matchers
        for each in entry.ranges
        if ip in ipaddress.ip_network(f"{each.address_prefix}/{each.prefix_len.value}")
    ]
    return max(ranged, key=lambda pair: pair[0])[1] if ranged else None


def _through(snapshot: Snapshot, listener: m.listener.Listener, chain_name: str, call: Call) -> Verdict:
    chain = next(chain for chain in listener.filter_chains if chain.name == chain_name)
    *before, last = chain.filters
    if last.name != _HTTP_MANAGER:
        proxy = m.tcp_proxy.TcpProxy()
        last.typed_config.Unpack(proxy)
        if chain_name == chains.INSPECT:
            inner = m.listener.Listener.FromString(snapshot.of(types.LISTENER)[proxy.cluster].body)
            return _through(snapshot, inner, _choose(inner.filter_chain_matcher, call), call)
        if chain_name == chains.INSPECT_NAMES:
            inner = m.listener.Listener.FromString(snapshot.of(types.LISTENER)[proxy.cluster].body)
            chosen = _by_name(_of_address(inner.filter_chains, call), call.sni)
            return _through(snapshot, inner, chosen, call) if chosen else _nowhere(chain_name)
        shares = {each.name: each.weight for each in proxy.weighted_clusters.clusters} or {proxy.cluster: 1}
        return Verdict(chain_name, clusters=shares, endpoints=_behind(snapshot, shares))
    manager = m.hcm.HttpConnectionManager()
    last.typed_config.Unpack(manager)
    table = manager.rds.route_config_name
    return _routed(snapshot, chain_name, table, replace(call, filter_state=_filter_state(before)))


def _of_address(
    listed: Iterable[m.listener_components.FilterChain], call: Call
) -> list[m.listener_components.FilterChain]:
    return [
        each
        for each in listed
        if each.filter_chain_match.destination_port.value == call.port
        and call.address in {prefix.address_prefix for prefix in each.filter_chain_match.prefix_ranges}
    ]


def _nowhere(chain: str) -> Verdict:
    """No chain takes it: its connection is ended."""
    return Verdict(chain, clusters={clusters.BLACKHOLE: 1})


def _filter_state(filters: Iterable[m.listener_components.Filter]) -> dict[str, str]:
    """The constants that a chain's filters give to each connection."""
    config = m.set_filter_state.Config()
    return {
        value.object_key: value.format_string.text_format_source.inline_string
        for each in filters
        if each.typed_config.Unpack(config)
        for value in config.on_new_connection
    }


def _routed(snapshot: Snapshot, chain: str, table: str, call: Call) -> Verdict:
    config = m.route.RouteConfiguration.FromString(snapshot.of(types.ROUTES)[table].body)
    host = _virtual_host(config.virtual_hosts, call.host.rpartition(":")[0] or call.host)
    if host is None:
        return Verdict(chain, table, status=404)
    route = next((route for route in host.routes if matches(route.match, call)), None)
    if route is None:
        return Verdict(chain, table, host.name, status=404)
    weights = _weights(route)
    return Verdict(
        chain,
        table,
        host.name,
        route.name,
        weights,
        _behind(snapshot, weights),
        _status(route),
        route,
    )


def _virtual_host(virtual_hosts: Iterable[m.routes.VirtualHost], name: str) -> m.routes.VirtualHost | None:
    """Envoy's order: the exact domain, the longest suffix wildcard, then `*`."""
    domains = {domain: host for host in virtual_hosts for domain in host.domains}
    if name.lower() in domains:
        return domains[name.lower()]
    wildcards = [d for d in domains if d.startswith("*") and len(d) > 1 and name.lower().endswith(d[1:])]
    return domains[max(wildcards, key=len)] if wildcards else domains.get("*")


def matches(match: m.routes.RouteMatch, call: Call) -> bool:
    """Whether an Envoy route match holds for the request."""
    path, _, query = call.path.partition("?")
    pairs = dict(part.partition("=")[::2] for part in query.split("&") if part)
    pseudo = {":method": call.method, ":authority": call.host, ":scheme": call.scheme}
    headers = {name.lower(): value for name, value in call.headers.items()} | pseudo
    return (
        _path(match, path)
        and all(_header(matcher, headers.get(matcher.name)) for matcher in match.headers)
        and all(_present(matcher, pairs.get(matcher.name)) for matcher in match.query_parameters)
        and all(_text(each.string_match, call.filter_state.get(each.key)) for each in match.filter_state)
        and _by_chance(match, call.chance)
    )


def _by_chance(match: m.routes.RouteMatch, chance: int) -> bool:
    """As the mesh writes shares: out of a million."""
    return not match.HasField("runtime_fraction") or chance < match.runtime_fraction.default_value.numerator


def _path(match: m.routes.RouteMatch, path: str) -> bool:
    kind = match.WhichOneof("path_specifier")
    if kind == "safe_regex":
        return regexp.compiled(match.safe_regex.regex).fullmatch(path)
    expected = match.path if kind == "path" else match.prefix
    if match.HasField("case_sensitive") and not match.case_sensitive.value:
        expected, path = expected.lower(), path.lower()
    return path == expected if kind == "path" else path.startswith(expected)


def _header(matcher: m.routes.HeaderMatcher, value: str | None) -> bool:
    if value is None and matcher.treat_missing_header_as_empty:
        value = ""
    return _present(matcher, value) is not matcher.invert_match


def _present(matcher: m.routes.HeaderMatcher | m.routes.QueryParameterMatcher, value: str | None) -> bool:
    if not matcher.HasField("string_match"):
        return value is not None
    return _text(matcher.string_match, value)


def _text(matcher: m.strings.StringMatcher, value: str | None) -> bool:
    if value is None:
        return False
    match matcher.WhichOneof("match_pattern"):
        case "safe_regex":
            return regexp.compiled(matcher.safe_regex.regex).fullmatch(value)
        case "contains":
            return matcher.contains in value
        case "prefix":
            return value.startswith(matcher.prefix)
    return value == matcher.exact


def _weights(route: m.routes.Route) -> dict[str, int]:
    if route.WhichOneof("action") != "route":
        return {}
    if route.route.WhichOneof("cluster_specifier") == "cluster":
        return {route.route.cluster: 1}
    weights: dict[str, int] = {}
    for each in route.route.weighted_clusters.clusters:
        weights[each.name] = weights.get(each.name, 0) + each.weight.value
    return weights


def _behind(snapshot: Snapshot, clusters: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The addresses or names behind each cluster; a cluster that does not exist is not in it."""
    addresses: dict[str, tuple[str, ...]] = {}
    for name in clusters:
        if (words := _unlisted(snapshot, name)) and name.startswith("outbound|"):
            addresses[name] = (words,)
            continue
        decoded = _assignment(snapshot, name)
        if decoded is not None:
            addresses[name] = tuple(
                f"{each.endpoint.address.socket_address.address}:{each.endpoint.address.socket_address.port_value}"
                for locality in decoded.endpoints
                for each in locality.lb_endpoints
            )
    return addresses


def _assignment(snapshot: Snapshot, cluster: str) -> m.endpoint.ClusterLoadAssignment | None:
    """The endpoints that are listed apart, or the names that stand in the cluster itself."""
    listed = snapshot.of(types.ENDPOINTS).get(cluster)
    if listed is not None:
        return m.endpoint.ClusterLoadAssignment.FromString(listed.body)
    resource = snapshot.of(types.CLUSTER).get(cluster)
    if resource is None:
        return None
    named = m.cluster.Cluster.FromString(resource.body)
    return named.load_assignment if named.HasField("load_assignment") else None


def _unlisted(snapshot: Snapshot, cluster: str) -> str:
    """In words, where a cluster leads that has no list."""
    resource = snapshot.of(types.CLUSTER).get(cluster)
    if resource is None:
        return ""
    message = m.cluster.Cluster.FromString(resource.body)
    if message.WhichOneof("cluster_discovery_type") == "cluster_type":
        return "the name that is called"
    return "where the caller goes" if message.type == m.cluster.Cluster.ORIGINAL_DST else ""


def _status(route: m.routes.Route) -> int:
    action = route.WhichOneof("action")
    if action == "direct_response":
        return int(route.direct_response.status)
    if action == "redirect":
        return {0: 301, 1: 302, 2: 303, 3: 307, 4: 308}[route.redirect.response_code]
    return 0
