"""EnvoyFilter and ProxyConfig: Istio's kinds that speak of the proxy itself, as frozen structs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from ondol.mesh.model.istio import PortNumber, Struct, Unsupported

Operation = Literal[
    "MERGE",
    "ADD",
    "REMOVE",
    "INSERT_BEFORE",
    "INSERT_AFTER",
    "INSERT_FIRST",
    "REPLACE",
    "MERGE_AND_REPLACE_LIST",
]
ApplyTo = Literal[
    "LISTENER",
    "FILTER_CHAIN",
    "NETWORK_FILTER",
    "HTTP_FILTER",
    "ROUTE_CONFIGURATION",
    "VIRTUAL_HOST",
    "HTTP_ROUTE",
    "CLUSTER",
    "EXTENSION_CONFIG",
    "BOOTSTRAP",
    "LISTENER_FILTER",
]
Context = Literal["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"]


class LabelSelector(Struct, frozen=True):
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class ProxyMatch(Struct, frozen=True):
    proxy_version: str = ""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


class SubFilterMatch(Struct, frozen=True):
    name: str = ""


class FilterMatch(Struct, frozen=True):
    name: str = ""
    sub_filter: SubFilterMatch | None = None


class FilterChainMatch(Struct, frozen=True):
    name: str = ""
    sni: str = ""
    filter: FilterMatch | None = None
    destination_port: PortNumber | None = None
    transport_protocol: Unsupported = None
    application_protocols: Unsupported = None


class ListenerMatch(Struct, frozen=True):
    port_number: PortNumber | None = None
    name: str = ""
    filter_chain: FilterChainMatch | None = None
    listener_filter: str = ""
    port_name: Unsupported = None


class RouteMatch(Struct, frozen=True):
    name: str = ""
    action: Literal["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"] = "ANY"


class VirtualHostMatch(Struct, frozen=True):
    name: str = ""
    domain_name: str = ""
    route: RouteMatch | None = None


class RouteConfigurationMatch(Struct, frozen=True):
    port_number: PortNumber | None = None
    gateway: str = ""
    name: str = ""
    vhost: VirtualHostMatch | None = None
    port_name: Unsupported = None


class ClusterMatch(Struct, frozen=True):
    port_number: PortNumber | None = None
    service: str = ""
    subset: str = ""
    name: str = ""


class EnvoyConfigObjectMatch(Struct, frozen=True):
    context: Context = "ANY"
    proxy: ProxyMatch | None = None
    listener: ListenerMatch | None = None
    route_configuration: RouteConfigurationMatch | None = None
    cluster: ClusterMatch | None = None
    waypoint: Unsupported = None


class Patch(Struct, frozen=True):
    operation: Operation
    value: Any = None
    """A document of Envoy's, in JSON's form."""
    filter_class: Literal["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"] = "UNSPECIFIED"


class EnvoyConfigObjectPatch(Struct, frozen=True):
    apply_to: ApplyTo
    patch: Patch
    match: EnvoyConfigObjectMatch = EnvoyConfigObjectMatch()


class EnvoyFilterSpec(Struct, frozen=True):
    config_patches: Annotated[tuple[EnvoyConfigObjectPatch, ...], msgspec.Meta(max_length=1000)] = ()
    workload_selector: LabelSelector | None = None
    priority: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)] = 0
    target_refs: Unsupported = None


class ProxyConfigSelector(Struct, frozen=True):
    match_labels: dict[str, str] = msgspec.field(default_factory=dict)


class ProxyConfigSpec(Struct, frozen=True):
    """One proxy serves all pods: what it is, no object of a namespace can say."""

    selector: ProxyConfigSelector | None = None
    concurrency: Unsupported = None
    environment_variables: Unsupported = None
    image: Unsupported = None
    connection_settings: Unsupported = None
