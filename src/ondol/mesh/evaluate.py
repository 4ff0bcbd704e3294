"""Which route would this call take? Answered from the snapshot itself, as Envoy would read it.

Pure: listener, chain, route table, virtual host, route, cluster and endpoints are looked up in the
encoded resources, so that what is judged is what is served. For tests, and for whoever explains
traffic to a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

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
    said: Mapping[str, str] = field(default_factory=dict)
    """What the listener says of every connection; found in the chain."""


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
    message: Any = None
    """Envoy's route, for who wants all of it."""


def from_pod(snapshot: Snapshot, plan: PodPlan, call: Call) -> Verdict:
    """What happens to a call that a pod makes."""
    listener = m.listener.Listener.FromString(snapshot.of(types.LISTENER)[plan.listener].body)
    return _through(snapshot, listener, _choose(listener.filter_chain_matcher, call), call)


def from_outside(snapshot: Snapshot, call: Call) -> Verdict:
    """What happens to a call that comes in at the ingress gateway; `port` is the Gateway's."""
    found = snapshot.of(types.LISTENER).get(listeners.ingress_name(call.port))
    if found is None:
        return Verdict()
    listener = m.listener.Listener.FromString(found.body)
    return _through(snapshot, listener, listener.filter_chains[0].name, call)


def _choose(matcher: Any, call: Call) -> str:
    """Walk the tree of matches to the name of a chain."""
    inputs = {
        "destination_port": str(call.port),
        "destination_ip": call.address,
        "protocol": "'http/1.1'" if call.host else "",
    }
    while True:
        table = matcher.matcher_tree.exact_match_map.map
        value = inputs[matcher.matcher_tree.input.name]
        found = table.get(value, matcher.on_no_match)
        if found.WhichOneof("on_match") == "matcher":
            matcher = found.matcher
            continue
        name = m.text("")
        found.action.typed_config.Unpack(name)
        return str(name.value)


def _through(snapshot: Snapshot, listener: Any, chain_name: str, call: Call) -> Verdict:
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
    return _routed(snapshot, chain_name, table, replace(call, said=_said(before)))


def _said(filters: Iterable[Any]) -> dict[str, str]:
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


def _virtual_host(found: Iterable[Any], name: str) -> Any:
    """Envoy's order: the exact domain, the longest suffix wildcard, then `*`."""
    domains = {domain: host for host in found for domain in host.domains}
    if name.lower() in domains:
        return domains[name.lower()]
    wildcards = [d for d in domains if d.startswith("*") and len(d) > 1 and name.lower().endswith(d[1:])]
    return domains[max(wildcards, key=len)] if wildcards else domains.get("*")


def matches(match: Any, call: Call) -> bool:
    """Whether an Envoy route match holds for the request."""
    path, _, query = call.path.partition("?")
    pairs = dict(part.partition("=")[::2] for part in query.split("&") if part)
    pseudo = {":method": call.method, ":authority": call.host, ":scheme": call.scheme}
    headers = {name.lower(): value for name, value in call.headers.items()} | pseudo
    return (
        _path(match, path)
        and all(_header(wanted, headers.get(wanted.name)) for wanted in match.headers)
        and all(_present(wanted, pairs.get(wanted.name)) for wanted in match.query_parameters)
        and all(_present(wanted, call.said.get(wanted.key)) for wanted in match.filter_state)
    )


def _path(match: Any, path: str) -> bool:
    kind = match.WhichOneof("path_specifier")
    if kind == "safe_regex":
        return regexp.compiled(match.safe_regex.regex).fullmatch(path)
    wanted = getattr(match, kind)
    if match.HasField("case_sensitive") and not match.case_sensitive.value:
        wanted, path = wanted.lower(), path.lower()
    return bool(path == wanted if kind == "path" else path.startswith(wanted))


def _header(wanted: Any, value: str | None) -> bool:
    if value is None and wanted.treat_missing_header_as_empty:
        value = ""
    return _present(wanted, value) is not wanted.invert_match


def _present(wanted: Any, value: str | None) -> bool:
    if value is None:
        return False
    return not wanted.HasField("string_match") or _string(wanted.string_match, value)


def _string(wanted: Any, value: str) -> bool:
    kind = wanted.WhichOneof("match_pattern")
    if kind == "safe_regex":
        return regexp.compiled(wanted.safe_regex.regex).fullmatch(value)
    expected = getattr(wanted, kind)
    if kind == "contains":
        return expected in value
    return bool(value.startswith(expected) if kind == "prefix" else value == expected)


def _weights(route: Any) -> dict[str, int]:
    if route.WhichOneof("action") != "route":
        return {}
    if route.route.WhichOneof("cluster_specifier") == "cluster":
        return {route.route.cluster: 1}
    found: dict[str, int] = {}
    for each in route.route.weighted_clusters.clusters:
        found[each.name] = found.get(each.name, 0) + each.weight.value
    return found


def _behind(snapshot: Snapshot, clusters: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The addresses behind each cluster; a cluster that does not exist is not in it."""
    found = {}
    for name in clusters:
        assignment = snapshot.of(types.ENDPOINTS).get(name)
        if assignment is not None:
            decoded = m.endpoint.ClusterLoadAssignment.FromString(assignment.body)
            found[name] = tuple(
                f"{each.endpoint.address.socket_address.address}:{each.endpoint.address.socket_address.port_value}"
                for locality in decoded.endpoints
                for each in locality.lb_endpoints
            )
    return found


def _status(route: Any) -> int:
    action = route.WhichOneof("action")
    if action == "direct_response":
        return int(route.direct_response.status)
    if action == "redirect":
        return {0: 301, 1: 302, 2: 303, 3: 307, 4: 308}[route.redirect.response_code]
    return 0
