"""Which route would this call take? Answered from the snapshot itself, as Envoy would read it.

Pure: listener, chain, route table, virtual host, route, cluster and endpoints are looked up in the
encoded resources, so that what is judged is what is served. For `explain`, and for tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ondol.base import regexp
from ondol.mesh.translate import chains, listeners
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
    filter_state: Mapping[str, str] = field(default_factory=dict)
    """What the listener adds to every connection: it is filled in from the chain."""


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
    resource = snapshot.of(types.LISTENER).get(listeners.ingress_name(call.port))
    if resource is None:
        return Verdict()
    listener = m.listener.Listener.FromString(resource.body)
    return _through(snapshot, listener, listener.filter_chains[0].name, call)


def _choose(matcher: m.matcher.Matcher, call: Call) -> str:
    """Walk the tree of matches to the name of a chain."""
    inputs = {
        "destination_port": str(call.port),
        "destination_ip": call.address,
        "protocol": "'http/1.1'" if call.host else "",
    }
    while True:
        table = matcher.matcher_tree.exact_match_map.map
        value = inputs[matcher.matcher_tree.input.name]
        match = table.get(value, matcher.on_no_match)
        if match.WhichOneof("on_match") == "matcher":
            matcher = match.matcher
            continue
        name = m.text("")
        match.action.typed_config.Unpack(name)
        return name.value


def _through(snapshot: Snapshot, listener: m.listener.Listener, chain_name: str, call: Call) -> Verdict:
    chain = next(chain for chain in listener.filter_chains if chain.name == chain_name)
    *before, last = chain.filters
    if last.name != _HTTP_MANAGER:
        proxy = m.tcp_proxy.TcpProxy()
        last.typed_config.Unpack(proxy)
        if chain_name == chains.INSPECT:
            inner = m.listener.Listener.FromString(snapshot.of(types.LISTENER)[proxy.cluster].body)
            return _through(snapshot, inner, _choose(inner.filter_chain_matcher, call), call)
        return Verdict(chain_name, clusters={proxy.cluster: 1}, endpoints=_behind(snapshot, [proxy.cluster]))
    manager = m.hcm.HttpConnectionManager()
    last.typed_config.Unpack(manager)
    table = manager.rds.route_config_name
    return _routed(snapshot, chain_name, table, replace(call, filter_state=_filter_state(before)))


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
    )


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
    """The addresses behind each cluster; a cluster that does not exist is not in it."""
    addresses = {}
    for name in clusters:
        assignment = snapshot.of(types.ENDPOINTS).get(name)
        if assignment is not None:
            decoded = m.endpoint.ClusterLoadAssignment.FromString(assignment.body)
            addresses[name] = tuple(
                f"{each.endpoint.address.socket_address.address}:{each.endpoint.address.socket_address.port_value}"
                for locality in decoded.endpoints
                for each in locality.lb_endpoints
            )
    return addresses


def _status(route: m.routes.Route) -> int:
    action = route.WhichOneof("action")
    if action == "direct_response":
        return int(route.direct_response.status)
    if action == "redirect":
        return {0: 301, 1: 302, 2: 303, 3: 307, 4: 308}[route.redirect.response_code]
    return 0
