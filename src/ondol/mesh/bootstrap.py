"""The document Envoy starts from: where its control plane is, its admin address and its limits.

A pure function of the configuration. Everything else reaches Envoy by xDS.
"""

from __future__ import annotations

import re
import socket
from typing import Any, Final

from ondol.api.objects import Object
from ondol.base import unix_socket
from ondol.contracts import proxy, telemetry
from ondol.mesh import mirrors
from ondol.mesh.config import MeshConfig
from ondol.mesh.translate import statistics

XDS_CLUSTER: Final = "xds"
_HTTP2: Final = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {
            "http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "5s"}}
        },
    }
}

# For the listeners inside the proxy that look at undeclared connections.
_INTERNAL_LISTENERS: Final = {
    "name": "envoy.bootstrap.internal_listener",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"
    },
}

# A server that answers `connection: close` ends the inner connection with its last bytes. Envoy takes
# that end inside the proxy for a reset, and resets the caller before the answer is written out.
_ENDS_INSIDE: Final = {"envoy.reloadable_features.enable_send_rst_on_user_space_socket": False}

# Envoy's own half a minute would keep new pods waiting after a restart of the control plane.
_RECONNECT: Final = {"retry_back_off": {"base_interval": "0.05s", "max_interval": "1s"}}

REGEX_SIZE_MAX: Final = 800
"""How large a regular expression of a route may be, in instructions of RE2: Envoy's own 100 is less than the
names of a Route with a tag need. A head of 60 KiB then takes 50 million steps at most (decision 0010)."""
_REGEXES: Final = {"re2.max_program_size.error_level": REGEX_SIZE_MAX}

# Every statistic costs memory for every cluster and listener: only these are kept.
_STATS_PATTERNS: Final = (
    r"{outbound}\.upstream_rq_(active|total|time|pending_.*|timeout|retry|[1-5]xx)$",
    r"{outbound}\.(upstream_cx_(active|total|connect_fail)|membership_(healthy|total))$",
    r"^vhost\.[^|]+\.route\.[^|]+\.upstream_rq_(total|timeout|retry|[1-5]xx)$",  # match.statPrefix
    r"^http\.[^.]+\.downstream_rq_(active|total|[1-5]xx)$",
    r"^cluster\.(xds|otlp|PassthroughCluster)\.upstream_(rq|cx)_(active|total)$",
    r"^(control_plane\.connected_state|server\.(live|state|memory_allocated|uptime|total_connections))$",
    r"^listener_manager\.(listener_.*|total_.*)$",
    r"^cluster_manager\.(cluster_.*|active_clusters|warming_clusters)$",
    r"^tracing\.opentelemetry\..*$",
    r"^overload\..*$",
    rf"^{telemetry.PREFIX}.*$",
)

# A service's cluster, by its whole name: Envoy counts the same requests once more below it, by where
# they came from (`.external.`), and who sums up would count them twice.
# One of the outside has the end of its host marked (`translate.outside`), its scope or nothing after it.
_OUTBOUND: Final = r"^cluster\.outbound\|[^|]*\|[^|]*\|([^|]*\.svc\.{domain}(\|[^.|]+)?|[^|]+\|[^.|]*)"

# In Prometheus' form these become labels; cluster names hold dots, which Envoy's own patterns end at.
_TAGS: Final = {
    proxy.CLUSTER_TAG: r"^cluster\.((.+?)\.)(?:upstream_|membership_)",
    "envoy.http_conn_manager_prefix": r"^http\.((.+?)\.)downstream_",
    "envoy.response_code_class": r"_rq(_([1-5]xx))$",
}

# Envoy's own choice is an export every five spans: at a thousand requests a second that alone keeps
# a core busy. Spans are wanted within a second, so they are gathered for as long, up to so many that a
# larger export saves nothing more.
_SPAN_EXPORT: Final = {
    "tracing.opentelemetry.min_flush_spans": 192,
    "tracing.opentelemetry.flush_interval_ms": 1000,
}


def document(config: MeshConfig) -> Object:
    """Envoy's bootstrap, as the JSON that `envoy -c` reads."""
    return {
        "node": {"id": config.node_id, "cluster": "ondol"},
        "admin": {"address": address(config.admin_address)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": XDS_CLUSTER, "retry_policy": _RECONNECT}}],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "bootstrap_extensions": [_INTERNAL_LISTENERS],
        "static_resources": {
            "clusters": [_xds_cluster(config), *mirrors.clusters(_HTTP2)],
            "listeners": [mirrors.listener()],
        },
        "cluster_manager": _cluster_manager(config),
        "overload_manager": _overload(config),
        # Request times are summed up at each flush, and the autoscaler reads them every second.
        "stats_flush_interval": "1s",
        "stats_eviction_interval": statistics.EVICTED_AFTER,
        "stats_config": {
            "stats_matcher": {
                "inclusion_list": {
                    "patterns": [
                        {"safe_regex": {"regex": text}} for text in _stats_patterns(config.cluster_domain)
                    ]
                }
            },
            "use_all_default_tags": False,
            "stats_tags": [{"tag_name": name, "regex": regex} for name, regex in _TAGS.items()],
        },
        "layered_runtime": {
            "layers": [
                {"name": "spans", "static_layer": _SPAN_EXPORT},
                {"name": "internal-listeners", "static_layer": _ENDS_INSIDE},
                {"name": "regexes", "static_layer": _REGEXES},
                {"name": "admin", "admin_layer": {}},
            ]
        },
    }


def _stats_patterns(cluster_domain: str) -> list[str]:
    outbound = _OUTBOUND.replace("{domain}", re.escape(cluster_domain))
    return [text.replace("{outbound}", outbound) for text in _STATS_PATTERNS]


def address(text: str) -> Object:
    """`host:port` or `unix:/path` as an Envoy address."""
    if text.startswith(unix_socket.PREFIX):
        # Only the platform's own user may ask or command the proxy.
        return {"pipe": {"path": text.removeprefix(unix_socket.PREFIX), "mode": 0o600}}
    host, _, port = text.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _cluster_manager(config: MeshConfig) -> Object:
    """Every connection to an upstream says by its mark whose it is; a cluster may have one of its own."""
    return {"upstream_bind_config": bind_config(config.mark)}


def bind_config(mark: int) -> Object:
    """Of connections that carry the mark and begin in the network namespace of the caller's listener.

    Its path is in filter state (`chains.of_a_pod`); calls of other listeners begin in the host's. Envoy asks
    for an address before it enters a namespace: any of the kernel's choice.
    """
    selector = "envoy.extensions.local_address_selectors.filter_state_override.v3.Config"
    return {
        "source_address": {"address": "0.0.0.0", "port_value": 0},
        "extra_source_addresses": [{"address": {"address": "::", "port_value": 0}}],
        "socket_options": [{"level": socket.SOL_SOCKET, "name": socket.SO_MARK, "int_value": mark}],
        "local_address_selector": {
            "name": "envoy.upstream.local_address_selector.filter_state_override",
            "typed_config": {"@type": f"type.googleapis.com/{selector}"},
        },
    }


def _xds_cluster(config: MeshConfig) -> Object:
    upstream = address(config.xds_address)
    upstream.get("pipe", {}).pop("mode", None)
    return {
        "name": XDS_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": _HTTP2,
        "load_assignment": {
            "cluster_name": XDS_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": upstream}}]}],
        },
    }


def _overload(config: MeshConfig) -> Object:
    monitors = "type.googleapis.com/envoy.extensions.resource_monitors"
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": f"{monitors}.downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": str(config.max_connections),
                },
            },
            {
                "name": "envoy.resource_monitors.fixed_heap",
                "typed_config": {
                    "@type": f"{monitors}.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": str(config.max_heap_bytes),
                },
            },
        ],
        "actions": [
            _action("envoy.overload_actions.shrink_heap", 0.9),
            _action("envoy.overload_actions.stop_accepting_requests", 0.95),
        ],
    }


def _action(name: str, at: float) -> dict[str, Any]:
    return {
        "name": name,
        "triggers": [{"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": at}}],
    }
