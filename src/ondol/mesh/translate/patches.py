"""EnvoyFilter patches on what was translated: compiled once for each object, applied to decoded messages.

Generic over direction: who has a listener says its context, and by which port each of its chains is known
(`port_of_chain` for our own). A patch that meets nothing changes nothing, and its object is none of the
resource's origins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ondol.base import regexp
from ondol.contracts import proxy, telemetry
from ondol.mesh import bootstrap, mirrors
from ondol.mesh.model import envoy_filter
from ondol.mesh.model.istio import Refused
from ondol.mesh.translate import clusters, extensions, termination
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.registry import Rule
from ondol.mesh.xds.types import Origin

EnvoyFilter = Rule[envoy_filter.EnvoyFilterSpec]
PortOf: TypeAlias = Callable[[str], int]

OUTBOUND: Final = "SIDECAR_OUTBOUND"
INBOUND: Final = "SIDECAR_INBOUND"
GATEWAY: Final = "GATEWAY"
CONTEXTS: Final = ("ANY", OUTBOUND, INBOUND, GATEWAY)
"""What there is to patch; a context that is none of these is refused."""
VERSION: Final = telemetry.VERSION
"""As whose proxy ours answers to `proxyVersion`."""
_MESSAGES: Final[Mapping[str, type[m.Message]]] = {
    "LISTENER": m.listener.Listener,
    "LISTENER_FILTER": m.listener_components.ListenerFilter,
    "FILTER_CHAIN": m.listener_components.FilterChain,
    "NETWORK_FILTER": m.listener_components.Filter,
    "HTTP_FILTER": m.hcm.HttpFilter,
    "ROUTE_CONFIGURATION": m.route.RouteConfiguration,
    "VIRTUAL_HOST": m.routes.VirtualHost,
    "HTTP_ROUTE": m.routes.Route,
    "CLUSTER": m.cluster.Cluster,
    "EXTENSION_CONFIG": m.extension.TypedExtensionConfig,
}
_LISTED: Final = ("ADD", "INSERT_FIRST", "INSERT_BEFORE", "INSERT_AFTER", "REMOVE", "REPLACE", "MERGE")
OPERATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "LISTENER": ("MERGE",),
    "LISTENER_FILTER": _LISTED,
    "FILTER_CHAIN": ("ADD", "MERGE", "REMOVE"),
    "NETWORK_FILTER": _LISTED,
    "HTTP_FILTER": _LISTED,
    "ROUTE_CONFIGURATION": ("MERGE",),
    "VIRTUAL_HOST": ("ADD", "MERGE", "REMOVE", "REPLACE"),
    "HTTP_ROUTE": _LISTED,
    "CLUSTER": ("ADD", "MERGE", "REMOVE"),
    "EXTENSION_CONFIG": ("ADD",),
}
"""What can be done to each; listeners are the platform's to make and to take away."""
_ANY_NAMESPACE: Final = ("HTTP_FILTER", "NETWORK_FILTER", "ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE")
_FILTERS: Final = ("HTTP_FILTER", "NETWORK_FILTER")
_MANAGER: Final = "envoy.filters.network.http_connection_manager"
_CHAIN: Final = re.compile(r"(?:http|ingress)\|(\d+)|.*\|(?:tcp|tls)-\d+\|(\d+)$")
_PORT: Final = re.compile(r"[0-9a-fA-F.:]+_(\d+)")
OF_PODS: Final = "virtualOutbound"
"""As what every pod's own listener is known."""
_OF_ARRIVALS: Final = "virtualInbound"
"""The same of the listener for what arrives at a guarded pod."""
_VIRTUAL: Final = (OF_PODS, _OF_ARRIVALS)
_TLS_PORT: Final = 443
_OF_TLS: Final = ("tls|", f"{termination.NAME}|")
RESERVED: Final = frozenset(
    {
        bootstrap.XDS_CLUSTER,
        clusters.OTLP,
        clusters.PASSTHROUGH,
        clusters.BLACKHOLE,
        clusters.ARRIVALS,
        mirrors.NAME,
        mirrors.UNDECLARED,
    }
)
"""Clusters of the platform's own."""


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """One patch of an object, with its value as a message."""

    origin: Origin
    apply_to: str
    operation: str
    match: envoy_filter.EnvoyConfigObjectMatch
    value: m.Message | None

    def is_for(self, context: str) -> bool:
        return self.match.context in ("ANY", context) and _is_ours(self.match.proxy)

    @property
    def is_for_arrivals(self) -> bool:
        return self.apply_to == "HTTP_FILTER" and self.is_for(INBOUND)


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """An object with its patches; equal only to itself, as its rule is."""

    rule: EnvoyFilter
    patches: tuple[Patch, ...]
    in_root: bool

    @property
    def labels(self) -> Mapping[str, str]:
        selector = self.rule.spec.workload_selector
        return selector.labels if selector is not None else {}

    def is_for(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether it holds for a workload: of its own namespace, or of any if it is of a root."""
        is_near = self.in_root or self.rule.namespace == namespace
        return is_near and self.labels.items() <= labels.items()

    def of(self, *kinds: str) -> bool:
        return any(patch.apply_to in kinds for patch in self.patches)


ON_LISTENERS: Final = ("LISTENER", "LISTENER_FILTER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER")
ON_ROUTES: Final = ("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE")


def compiled(rule: EnvoyFilter, roots: frozenset[str], domain: str) -> Patches:
    """The patches of an object; `Refused` says which of them cannot be, and why."""
    in_root = rule.namespace in roots
    listed = []
    for index, each in enumerate(rule.spec.config_patches):
        path = f"spec.configPatches[{index}]"
        value = _value(each, path)
        if not in_root:
            for text in _refusals(each, value, rule.namespace, domain):
                raise Refused(f"{path}: {text}", reason="NotAllowed")
        listed.append(Patch(rule.origin, each.apply_to, each.patch.operation, each.match, value))
    return Patches(rule, tuple(listed), in_root)


def _value(each: envoy_filter.EnvoyConfigObjectPatch, path: str) -> m.Message | None:
    if each.patch.operation == "REMOVE":
        return None
    value = extensions.read(each.patch.value, _MESSAGES[each.apply_to], f"{path}.patch.value")
    if each.patch.operation == "MERGE" and each.apply_to == "LISTENER":
        for field in ("address", "name", "additional_addresses", "internal_listener"):
            if any(name.name == field for name, _ in value.ListFields()):
                raise Refused(f"{path}.patch.value.{field}: where a listener is cannot be changed")
    return value


def _refusals(
    each: envoy_filter.EnvoyConfigObjectPatch, value: m.Message | None, namespace: str, domain: str
) -> Iterator[str]:
    """Why an object of whoever may write in a namespace may not have the patch (decision 0037)."""
    allowed = f"objects of the namespaces {{}} may, and others may patch {', '.join(_ANY_NAMESPACE)}"
    only = allowed.format("istio-system and ondol-system")
    if each.apply_to not in _ANY_NAMESPACE:
        yield f"applyTo {each.apply_to} is not for {namespace}: {only}"
    elif each.apply_to in _FILTERS and each.patch.operation in ("REMOVE", "REPLACE"):
        yield f"{each.patch.operation} of a filter is not for {namespace}: others' rules stand in filters"
    elif value is not None:
        yield from extensions.dangers(value, namespace, domain)


def ordered(listed: Iterable[Patches]) -> list[Patches]:
    """In the order in which they are applied: the roots' first, then by priority, the oldest first."""
    return sorted(listed, key=lambda each: (not each.in_root, each.rule.spec.priority, each.rule.age))


def _is_ours(match: envoy_filter.ProxyMatch | None) -> bool:
    if match is None:
        return True
    version = match.proxy_version
    return not match.metadata and (not version or regexp.compiled(version).search(VERSION))


def port_of_chain(name: str) -> int:
    """The port by which a chain of ours is known; 0 for one of none."""
    match = _CHAIN.match(name)
    if match is not None:
        return int(match[1] or match[2])
    destination = proxy.destination(name)
    if destination is not None:
        return destination.port
    return _TLS_PORT if name.startswith(_OF_TLS) else 0


# Listeners


class OnListener:
    """Applies patches to one listener, and remembers whose had an effect."""

    def __init__(self, context: str, port_of: PortOf = port_of_chain) -> None:
        self._context = context
        self._port_of = port_of
        self.origins: dict[Origin, None] = {}

    def apply(self, listener: m.listener.Listener, objects: Sequence[Patches]) -> None:
        for patch in self._of(objects, "LISTENER"):
            if _is_listener(patch.match.listener, listener.name, 0):
                _merge(listener, patch)
                self._note(patch)
        for patch in self._of(objects, "LISTENER_FILTER"):
            if _is_listener(patch.match.listener, listener.name, 0):
                name = patch.match.listener.listener_filter if patch.match.listener is not None else ""
                self._edit(listener.listener_filters, patch, name)
        for patch in self._of(objects, "FILTER_CHAIN"):
            self._chain(listener, patch)
        for chain in listener.filter_chains:
            self._filters(listener, chain, objects)

    def _of(self, objects: Sequence[Patches], *kinds: str) -> Iterator[Patch]:
        for each in objects:
            for patch in each.patches:
                if patch.apply_to in kinds and patch.is_for(self._context):
                    yield patch

    def _note(self, patch: Patch) -> None:
        self.origins[patch.origin] = None

    def _chain(self, listener: m.listener.Listener, patch: Patch) -> None:
        if patch.operation == "ADD":
            if _is_listener(patch.match.listener, listener.name, 0):
                _refill(listener.filter_chains, [*listener.filter_chains, patch.value])
                self._note(patch)
            return
        kept = []
        for chain in listener.filter_chains:
            if not self._is_chain(patch, listener, chain):
                kept.append(chain)
                continue
            self._note(patch)
            if patch.operation == "MERGE":
                _merge(chain, patch)
                kept.append(chain)
        if len(kept) < len(listener.filter_chains):
            _refill(listener.filter_chains, kept)

    def _is_chain(
        self, patch: Patch, listener: m.listener.Listener, chain: m.listener_components.FilterChain
    ) -> bool:
        match = patch.match.listener
        port = self._port_of(chain.name)
        if not _is_listener(match, listener.name, port) or match is None:
            return match is None
        of = match.filter_chain
        if of is None:
            return True
        names = chain.filter_chain_match.server_names
        return (
            of.name in ("", chain.name)
            and (not of.sni or of.sni in names)
            and (of.destination_port is None or of.destination_port == port)
        )

    def _filters(
        self,
        listener: m.listener.Listener,
        chain: m.listener_components.FilterChain,
        objects: Sequence[Patches],
    ) -> None:
        for patch in self._of(objects, "NETWORK_FILTER"):
            if self._is_chain(patch, listener, chain):
                self._edit(chain.filters, patch, _filter_name(patch))
        of_http = [
            patch for patch in self._of(objects, "HTTP_FILTER") if self._is_chain(patch, listener, chain)
        ]
        for each in chain.filters if of_http else ():
            if each.name == _MANAGER:
                self._http(each, of_http)

    def _http(self, carrier: m.listener_components.Filter, patches: Sequence[Patch]) -> None:
        manager = m.hcm.HttpConnectionManager()
        if not carrier.typed_config.Unpack(manager):
            return
        for patch in patches:
            if _filter_name(patch) in ("", carrier.name):
                self._edit(manager.http_filters, patch, _sub_filter_name(patch))
        carrier.typed_config.CopyFrom(m.any_of(manager))

    def _edit(self, entries: Any, patch: Patch, name: str) -> None:
        if edit(entries, patch, lambda entry: entry.name == name, has_match=bool(name)):
            self._note(patch)


def _is_listener(match: envoy_filter.ListenerMatch | None, name: str, port: int) -> bool:
    """By Istio's names, too: `virtualOutbound` is a pod's own, `0.0.0.0_80` what of it is for the port."""
    if match is None:
        return True
    if match.port_number is not None and port and match.port_number != port:
        return False
    if match.name in ("", name, *_VIRTUAL):
        return match.name != _OF_ARRIVALS
    by_port = _PORT.fullmatch(match.name)
    return by_port is not None and bool(port) and int(by_port[1]) == port


def _filter_name(patch: Patch) -> str:
    chain = patch.match.listener.filter_chain if patch.match.listener is not None else None
    return chain.filter.name if chain is not None and chain.filter is not None else ""


def _sub_filter_name(patch: Patch) -> str:
    chain = patch.match.listener.filter_chain if patch.match.listener is not None else None
    inner = chain.filter.sub_filter if chain is not None and chain.filter is not None else None
    return inner.name if inner is not None else ""


def on_arrivals(
    listener: m.listener.Listener, objects: Sequence[Patches], slots: Sequence[str]
) -> dict[Origin, None]:
    """Apply HTTP filters to what arrives at a guarded pod; whose had an effect.

    What decides about requests is in `slots`: only root namespaces' filters may stand before them.
    """
    origins: dict[Origin, None] = {}
    for chain in listener.filter_chains:
        for carrier in chain.filters:
            manager = m.hcm.HttpConnectionManager()
            if carrier.name != _MANAGER or not carrier.typed_config.Unpack(manager):
                continue
            for each in objects:
                for patch in each.patches:
                    if not _is_for_arrivals(patch, chain.name) or _filter_name(patch) not in ("", _MANAGER):
                        continue
                    if _edit_arrivals(manager, patch, () if each.in_root else slots):
                        origins[patch.origin] = None
            carrier.typed_config.CopyFrom(m.any_of(manager))
    return origins


def _edit_arrivals(manager: m.hcm.HttpConnectionManager, patch: Patch, kept: Sequence[str]) -> bool:
    """Edit what comes after the filters whose names are `kept`."""
    first = 1 + max((at for at, each in enumerate(manager.http_filters) if each.name in kept), default=-1)
    rest = m.hcm.HttpConnectionManager(http_filters=manager.http_filters[first:])
    name = _sub_filter_name(patch)
    if not edit(rest.http_filters, patch, lambda entry: entry.name == name, has_match=bool(name)):
        return False
    _refill(manager.http_filters, [*manager.http_filters[:first], *rest.http_filters])
    return True


def _is_for_arrivals(patch: Patch, chain: str) -> bool:
    """All ports have the same chains there: who means one port means none of them."""
    if not patch.is_for_arrivals:
        return False
    match = patch.match.listener
    if match is None:
        return True
    of = match.filter_chain
    is_of_a_port = match.port_number is not None or (of is not None and of.destination_port is not None)
    is_chain = of is None or (of.name in ("", chain) and not of.sni)
    return match.name in ("", _OF_ARRIVALS) and is_chain and not is_of_a_port


# Lists and messages


def edit(entries: Any, patch: Patch, is_meant: Callable[[Any], bool], *, has_match: bool) -> bool:
    """One operation on a list, as Istio does it; whether it changed anything. Without a match: at an end."""
    listed = list(entries)
    place = (
        next((index for index, entry in enumerate(listed) if is_meant(entry)), None) if has_match else None
    )
    operation = patch.operation
    if operation == "MERGE":
        merged = [entry for entry in listed if not has_match or is_meant(entry)]
        for entry in merged:
            _merge(entry, patch)
        return bool(merged)
    if operation in ("REMOVE", "REPLACE"):
        if place is None:
            return False
        if operation == "REMOVE":
            _refill(entries, [entry for entry in listed if not is_meant(entry)])
        else:
            _refill(entries, [*listed[:place], patch.value, *listed[place + 1 :]])
        return True
    if operation in ("INSERT_BEFORE", "INSERT_AFTER") and has_match and place is None:
        return False
    at = {"ADD": len(listed), "INSERT_FIRST": 0, "INSERT_BEFORE": place or 0}.get(operation)
    if at is None:
        at = len(listed) if place is None else place + 1
    _refill(entries, [*listed[:at], patch.value, *listed[at:]])
    return True


def _refill(entries: Any, listed: Sequence[m.Message | None]) -> None:
    copies = []
    for entry in listed:
        if entry is not None:
            copy = type(entry)()
            copy.CopyFrom(entry)
            copies.append(copy)
    del entries[:]
    entries.extend(copies)


def _merge(target: Any, patch: Patch) -> None:
    """Merge, and into a typed configuration what is in the patch's, if it is of the same type."""
    value: Any = patch.value
    if value is None:
        return
    copy = type(value)()
    copy.CopyFrom(value)
    config = getattr(copy, "typed_config", None)
    if config is not None and config.type_url:
        _merge_typed(target.typed_config, config)
        copy.ClearField("typed_config")
    target.MergeFrom(copy)


def _merge_typed(target: Any, config: Any) -> None:
    """Configurations of different types do not merge: one would take the other's place."""
    of = extensions.message_class(config.type_url)
    if of is not None and target.type_url == config.type_url:
        inner, more = of(), of()
        target.Unpack(inner)
        config.Unpack(more)
        inner.MergeFrom(more)
        target.CopyFrom(m.any_of(inner))


# Routes


@dataclass(frozen=True, slots=True)
class Table:
    """By what a route table is known to those who patch it."""

    port: int
    context: str
    gateways: frozenset[str] = frozenset()
    """`namespace/name` of the Gateways that are served there."""


def on_table(
    config: m.route.RouteConfiguration, table: Table, objects: Sequence[Patches]
) -> dict[Origin, None]:
    """Apply patches to a route table; whose had an effect."""
    origins: dict[Origin, None] = {}
    for patch in (patch for each in objects for patch in each.patches):
        if patch.apply_to not in ON_ROUTES or not patch.is_for(table.context):
            continue
        if _is_table(patch.match.route_configuration, config.name, table) and _routes(config, patch):
            origins[patch.origin] = None
    return origins


def _is_table(match: envoy_filter.RouteConfigurationMatch | None, name: str, table: Table) -> bool:
    if match is None:
        return True
    names = (name, str(table.port), f"http.{table.port}", "")
    return (
        match.name in names
        and match.port_number in (None, table.port)
        and (not match.gateway or match.gateway in table.gateways)
    )


def _routes(config: m.route.RouteConfiguration, patch: Patch) -> bool:
    if patch.apply_to == "ROUTE_CONFIGURATION":
        _merge(config, patch)
        return True
    match = patch.match.route_configuration.vhost if patch.match.route_configuration is not None else None
    if patch.apply_to == "VIRTUAL_HOST":
        if patch.operation == "REPLACE" and match is None:
            return False
        if patch.operation != "ADD" and match is None:
            match = envoy_filter.VirtualHostMatch()
        is_meant = match is not None
        return edit(config.virtual_hosts, patch, lambda host: _is_host(match, host), has_match=is_meant)
    changed = False
    of_route = match.route if match is not None else None
    for host in config.virtual_hosts:
        if match is None or _is_host(match, host):
            has_match = of_route is not None
            changed |= edit(host.routes, patch, lambda route: _is_route(of_route, route), has_match=has_match)
    return changed


def _is_host(match: envoy_filter.VirtualHostMatch | None, host: Any) -> bool:
    if match is None:
        return False
    is_named = match.name in ("", host.name) or match.name.rpartition(":")[0] == host.name
    return is_named and (not match.domain_name or match.domain_name in host.domains)


def _is_route(match: envoy_filter.RouteMatch | None, route: Any) -> bool:
    if match is None:
        return False
    actions = {"ROUTE": "route", "REDIRECT": "redirect", "DIRECT_RESPONSE": "direct_response"}
    is_action = match.action == "ANY" or route.WhichOneof("action") == actions[match.action]
    return is_action and match.name in ("", route.name)


# Clusters and extensions


def on_cluster(name: str, objects: Sequence[Patches]) -> list[Patch]:
    """The patches that are for a cluster of that name, in order."""
    return [
        patch
        for each in objects
        for patch in each.patches
        if patch.apply_to == "CLUSTER" and patch.operation != "ADD"
        if _is_ours(patch.match.proxy) and _is_cluster(patch.match.cluster, name)
    ]


def _is_cluster(match: envoy_filter.ClusterMatch | None, name: str) -> bool:
    if match is None:
        return True
    of = proxy.destination(name)
    host, port, subset = (of.host, of.port, of.subset) if of is not None else ("", None, "")
    return (
        match.name in ("", name)
        and match.service in ("", host)
        and match.port_number in (None, port)
        and match.subset in ("", subset)
    )


def merged(cluster: m.cluster.Cluster, patch: Patch) -> None:
    """Merge a patch into a cluster."""
    _merge(cluster, patch)


def added(objects: Sequence[Patches], apply_to: str) -> Iterator[tuple[Patch, Any]]:
    """What objects add by itself: clusters or extensions."""
    for each in objects:
        for patch in each.patches:
            if patch.apply_to == apply_to and patch.operation == "ADD" and patch.value is not None:
                yield patch, patch.value
