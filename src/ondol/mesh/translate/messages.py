"""The protobuf messages the translation speaks, imported in one place and only what is used.

Their types are the stubs in `stubs/`, which `scripts/generate_xds_stubs.py` writes. Also the small
conversions every part needs: durations, percentages, typed extensions.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envoy.config.accesslog.v3 import accesslog_pb2 as accesslog
from envoy.config.cluster.v3 import circuit_breaker_pb2 as breakers
from envoy.config.cluster.v3 import cluster_pb2 as cluster
from envoy.config.cluster.v3 import outlier_detection_pb2 as outliers
from envoy.config.common.mutation_rules.v3 import mutation_rules_pb2 as mutations
from envoy.config.core.v3 import address_pb2 as address
from envoy.config.core.v3 import base_pb2 as base
from envoy.config.core.v3 import config_source_pb2 as sources
from envoy.config.core.v3 import extension_pb2 as extension
from envoy.config.core.v3 import grpc_service_pb2 as grpc_service
from envoy.config.core.v3 import http_service_pb2 as http_service
from envoy.config.core.v3 import http_uri_pb2 as http_uri
from envoy.config.core.v3 import protocol_pb2 as protocol
from envoy.config.core.v3 import proxy_protocol_pb2 as proxy_protocol
from envoy.config.core.v3 import substitution_format_string_pb2 as formats
from envoy.config.endpoint.v3 import endpoint_components_pb2 as endpoint_components
from envoy.config.endpoint.v3 import endpoint_pb2 as endpoint
from envoy.config.listener.v3 import listener_components_pb2 as listener_components
from envoy.config.listener.v3 import listener_pb2 as listener
from envoy.config.rbac.v3 import rbac_pb2 as rbac
from envoy.config.route.v3 import route_components_pb2 as routes
from envoy.config.route.v3 import route_pb2 as route
from envoy.config.trace.v3 import http_tracer_pb2 as tracer
from envoy.config.trace.v3 import opentelemetry_pb2 as opentelemetry
from envoy.extensions.access_loggers.file.v3 import file_pb2 as file_log
from envoy.extensions.access_loggers.filters.cel.v3 import (
    cel_pb2 as _cel_filter,  # noqa: F401 - known by it when it is parsed
)
from envoy.extensions.clusters.dynamic_forward_proxy.v3 import cluster_pb2 as dynamic_cluster
from envoy.extensions.common.dynamic_forward_proxy.v3 import dns_cache_pb2 as dns_cache
from envoy.extensions.filters.common.fault.v3 import fault_pb2 as fault_common
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2 as filter_state_value
from envoy.extensions.filters.http.cors.v3 import cors_pb2 as cors
from envoy.extensions.filters.http.dynamic_forward_proxy.v3 import dynamic_forward_proxy_pb2 as dynamic_names
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2 as ext_authz
from envoy.extensions.filters.http.fault.v3 import fault_pb2 as fault
from envoy.extensions.filters.http.grpc_stats.v3 import config_pb2 as grpc_stats
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2 as header_mutation
from envoy.extensions.filters.http.header_to_metadata.v3 import header_to_metadata_pb2 as header_to_metadata
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2 as jwt_authn
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac
from envoy.extensions.filters.http.router.v3 import router_pb2 as router
from envoy.extensions.filters.http.upstream_codec.v3 import upstream_codec_pb2 as upstream_codec
from envoy.extensions.filters.listener.http_inspector.v3 import http_inspector_pb2 as http_inspector
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2 as original_dst
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2 as tls_inspector
from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2 as network_ext_authz
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac
from envoy.extensions.filters.network.set_filter_state.v3 import set_filter_state_pb2 as set_filter_state
from envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3 import (
    sni_dynamic_forward_proxy_pb2 as dynamic_server_names,
)
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2 as tcp_proxy
from envoy.extensions.local_address_selectors.filter_state_override.v3 import (
    config_pb2 as _filter_state_override,  # noqa: F401 - known by it when it is parsed
)
from envoy.extensions.matching.common_inputs.network.v3 import network_inputs_pb2 as inputs
from envoy.extensions.matching.common_inputs.transport_socket.v3 import (
    transport_socket_inputs_pb2 as _transport_inputs,  # noqa: F401 - likewise
)
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2 as cares
from envoy.extensions.path.match.uri_template.v3 import uri_template_match_pb2 as uri_template
from envoy.extensions.request_id.uuid.v3 import uuid_pb2 as request_ids
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2 as previous_hosts
from envoy.extensions.retry.priority.previous_priorities.v3 import (
    previous_priorities_config_pb2 as previous_priorities,
)
from envoy.extensions.tracers.opentelemetry.resource_detectors.v3 import (
    static_config_resource_detector_pb2 as static_detector,
)
from envoy.extensions.transport_sockets.internal_upstream.v3 import internal_upstream_pb2 as internal_upstream
from envoy.extensions.transport_sockets.proxy_protocol.v3 import (
    upstream_proxy_protocol_pb2 as proxy_transport,
)
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2 as raw_buffer
from envoy.extensions.transport_sockets.tls.v3 import common_pb2 as tls_common
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as tls_secret
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as tls
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as http_options
from envoy.type.matcher.v3 import filter_state_pb2 as filter_state
from envoy.type.matcher.v3 import metadata_pb2 as metadata_matcher
from envoy.type.matcher.v3 import path_pb2 as path_matcher
from envoy.type.matcher.v3 import regex_pb2 as regex
from envoy.type.matcher.v3 import string_pb2 as strings
from envoy.type.matcher.v3 import value_pb2 as value_matcher
from envoy.type.tracing.v3 import custom_tag_pb2 as tags
from envoy.type.v3 import http_status_pb2 as http_status
from envoy.type.v3 import percent_pb2 as percent
from google.protobuf import any_pb2, duration_pb2, empty_pb2, json_format, struct_pb2, wrappers_pb2
from google.protobuf.message import Message
from xds.core.v3 import cidr_pb2 as cidr
from xds.core.v3 import extension_pb2 as matching_extension
from xds.type.matcher.v3 import ip_pb2 as ip_matcher
from xds.type.matcher.v3 import matcher_pb2 as matcher
from xds.type.v3 import typed_struct_pb2 as typed_struct

from ondol.base import unix_socket

__all__ = [
    "Message",
    "accesslog",
    "address",
    "any_of",
    "base",
    "boolean",
    "breakers",
    "cares",
    "cidr",
    "cidr_range",
    "cluster",
    "cors",
    "dns_cache",
    "duration",
    "dynamic_cluster",
    "dynamic_names",
    "dynamic_server_names",
    "empty_pb2",
    "endpoint",
    "endpoint_components",
    "ext_authz",
    "extension",
    "fault",
    "fault_common",
    "file_log",
    "filter_state",
    "filter_state_value",
    "formats",
    "fraction",
    "from_ads",
    "grpc_service",
    "grpc_stats",
    "hcm",
    "header_mutation",
    "header_to_metadata",
    "http_inspector",
    "http_options",
    "http_rbac",
    "http_service",
    "http_status",
    "http_uri",
    "inputs",
    "internal_upstream",
    "ip_matcher",
    "jwt_authn",
    "listener",
    "listener_components",
    "matcher",
    "matching_extension",
    "metadata_matcher",
    "mutations",
    "network_ext_authz",
    "network_rbac",
    "number",
    "opentelemetry",
    "original_dst",
    "outliers",
    "parse",
    "path_matcher",
    "percent",
    "previous_hosts",
    "previous_priorities",
    "protocol",
    "proxy_protocol",
    "proxy_transport",
    "raw_buffer",
    "rbac",
    "regex",
    "request_ids",
    "route",
    "router",
    "routes",
    "set_filter_state",
    "socket",
    "sources",
    "static_detector",
    "strings",
    "struct_pb2",
    "tags",
    "tcp_proxy",
    "text",
    "tls",
    "tls_common",
    "tls_inspector",
    "tls_secret",
    "tracer",
    "typed",
    "typed_struct",
    "upstream",
    "upstream_codec",
    "uri_template",
    "value_matcher",
]


def duration(milliseconds: int) -> duration_pb2.Duration:
    return duration_pb2.Duration(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def any_of(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message, deterministic=True)
    return packed


def parse(document: Mapping[str, Any], message: Message) -> None:
    """Fill the message with what is written in JSON's form."""
    json_format.ParseDict(dict(document), message)


def boolean(value: bool) -> wrappers_pb2.BoolValue:
    return wrappers_pb2.BoolValue(value=value)


def number(value: int) -> wrappers_pb2.UInt32Value:
    return wrappers_pb2.UInt32Value(value=value)


def fraction(value: float) -> percent.FractionalPercent:
    """A percentage with four decimals."""
    return percent.FractionalPercent(
        numerator=round(value * 10_000), denominator=percent.FractionalPercent.MILLION
    )


def from_ads() -> sources.ConfigSource:
    return sources.ConfigSource(
        ads=sources.AggregatedConfigSource(),
        resource_api_version=sources.V3,
        # Without a limit a listener waits for its routes rather than open and answer 404.
        initial_fetch_timeout=duration(0),
    )


def socket(host: str, port: int, namespace_path: str = "") -> address.Address:
    return address.Address(
        socket_address=address.SocketAddress(
            address=host, port_value=port, network_namespace_filepath=namespace_path
        )
    )


def pipe(path: Path, *, mode: int) -> address.Address:
    """A Unix socket to listen on, that only those may open whom its mode lets."""
    return address.Address(pipe=address.Pipe(path=str(path), mode=mode))


def upstream(text: str) -> address.Address:
    """`unix:/path` or `host:port` as an address to connect to."""
    if text.startswith(unix_socket.PREFIX):
        return address.Address(pipe=address.Pipe(path=text.removeprefix(unix_socket.PREFIX)))
    host, _, port = text.rpartition(":")
    return socket(host, int(port))


def internal(listener_name: str) -> address.Address:
    """A listener inside the proxy itself, as the address of an endpoint."""
    return address.Address(
        envoy_internal_address=address.EnvoyInternalAddress(
            server_listener_name=listener_name, endpoint_id=listener_name
        )
    )


def typed(name: str, config: Message) -> matching_extension.TypedExtensionConfig:
    """A typed extension of the matching API."""
    return matching_extension.TypedExtensionConfig(name=name, typed_config=any_of(config))


def cidr_range(text: str) -> address.CidrRange:
    """An address, or a network with the length of its prefix, as rules of access have it."""
    network = ipaddress.ip_network(text, strict=False)
    return address.CidrRange(
        address_prefix=str(network.network_address), prefix_len=number(network.prefixlen)
    )


def text(value: str) -> wrappers_pb2.StringValue:
    return wrappers_pb2.StringValue(value=value)
