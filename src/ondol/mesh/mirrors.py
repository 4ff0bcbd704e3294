"""Where the copies of mirrored requests go: a listener inside the proxy, dialling where their caller does.

Envoy sends a copy as a request of its own, which has nothing of its caller's filter state: dialled directly
it would begin in the host's namespace, where no NetworkPolicy asks who calls. So a copy says in headers whose
it is and where it goes, and the listener makes filter state of the one and the way of the other. Whatever an
application puts into these headers is taken out first. A copy of the ingress's names no caller, and is
dialled from the host as the request itself is.
"""

from __future__ import annotations

from typing import Final

from ondol.api.objects import Object

NAME: Final = "mirrors"
"""Of the listener, and of the cluster that leads to it."""
UNDECLARED: Final = "mirrors-undeclared"
"""Of the cluster for copies whose destination did not declare what it speaks: they go on in HTTP/1.

A destination that did is spoken to as it says; one that did not, as the request comes in, which between the
first cluster and the listener is HTTP/2.
"""
FROM: Final = "x-ondol-mirror-from"
AS: Final = "x-ondol-mirror-as"
TO: Final = "x-ondol-mirror-to"
DIALLED_FROM: Final = "envoy.network.upstream_bind_override.network_namespace"
"""The filter state that says in which network namespace a connection begins (decision 0025)."""
DIALLED_AS: Final = "envoy.tls.certificate_mappers.on_demand_secret"
"""The filter state that names the certificate by which a caller is known (decision 0038)."""
SPEAKS: Final = "ondol.speaks"
"""The filter state of connections that carry HTTP, for ports of which it is not declared."""
CALLERS: Final = {FROM: f"%FILTER_STATE({DIALLED_FROM}:PLAIN)%", AS: f"%FILTER_STATE({DIALLED_AS}:PLAIN)%"}
"""What a copy says of its caller, by header."""
_TYPES: Final = "type.googleapis.com/envoy.extensions"


def clusters(http2: Object) -> list[Object]:
    """`http2` are the options of a cluster that is spoken to in HTTP/2: what has trailers keeps them."""
    return [_cluster(NAME, typed_extension_protocol_options=http2), _cluster(UNDECLARED)]


def _cluster(name: str, **more: Object) -> Object:
    address = {"envoy_internal_address": {"server_listener_name": NAME}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        **more,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }


def listener() -> Object:
    """Its one route goes where the header says, without the headers. Time limits are the request's own."""
    origins = [
        {
            "object_key": key,
            "factory_key": "envoy.hashable_string",
            "format_string": {
                "text_format_source": {"inline_string": f"%REQ({header})%"},
                "omit_empty_values": True,
            },
            "skip_if_empty": True,
            "shared_with_upstream": "ONCE",
        }
        for key, header in ((DIALLED_FROM, FROM), (DIALLED_AS, AS))
    ]
    spoken = {
        "object_key": SPEAKS,
        "factory_key": "envoy.hashable_string",
        "format_string": {"text_format_source": {"inline_string": "http"}},
        "shared_with_upstream": "ONCE",
    }
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster_header": TO, "timeout": "0s"},
        "request_headers_to_remove": [FROM, AS, TO],
    }
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": NAME,
        "codec_type": "AUTO",
        "skip_xff_append": True,
        "generate_request_id": False,
        "preserve_external_request_id": True,
        "stream_idle_timeout": "0s",
        "http_filters": [
            _filter("http.set_filter_state", "Config", on_request_headers=[*origins, spoken]),
            _filter("http.router", "Router"),
        ],
        "route_config": {"virtual_hosts": [{"name": NAME, "domains": ["*"], "routes": [route]}]},
    }
    carrier = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {"name": NAME, "internal_listener": {}, "filter_chains": [{"filters": [carrier]}]}


def _filter(name: str, message: str, **config: object) -> Object:
    return {
        "name": f"envoy.filters.{name}",
        "typed_config": {"@type": f"{_TYPES}.filters.{name}.v3.{message}", **config},
    }
