"""EnvoyFilters as people write them, for the tests of what becomes of them."""

from __future__ import annotations

from typing import Any

from ondol.mesh.kinds import KINDS
from ondol.mesh.model import istio
from ondol.mesh.model.validation import Subject

TYPE = "type.googleapis.com/envoy.extensions.filters"
ROOT = "istio-system"
HCM = "envoy.filters.network.http_connection_manager"
LUA = {
    "name": "lua",
    "typed_config": {
        "@type": f"{TYPE}.http.lua.v3.Lua",
        "default_source_code": {"inline_string": "function envoy_on_response(h) end"},
    },
}
LIMIT = {
    "name": "envoy.filters.http.local_ratelimit",
    "typed_config": {
        "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
        "type_url": f"{TYPE}.http.local_ratelimit.v3.LocalRateLimit",
        "value": {
            "stat_prefix": "limit",
            "token_bucket": {"max_tokens": 2, "tokens_per_fill": 2, "fill_interval": "60s"},
            "filter_enabled": {"default_value": {"numerator": 100}},
            "filter_enforced": {"default_value": {"numerator": 100}},
        },
    },
}
BUFFER = {"name": "buffer", "typed_config": {"@type": f"{TYPE}.http.buffer.v3.Buffer", "maxRequestBytes": 5}}
OWN = "outbound|9000||authz.default.svc.cluster.local"


def http(
    value: Any,
    operation: str = "INSERT_BEFORE",
    sub: str = "envoy.filters.http.router",
    context: str = "ANY",
    **more: Any,
) -> Any:
    chain = {"filter": {"name": HCM, "subFilter": {"name": sub}}}
    match = {"context": context, "listener": {"filterChain": chain, **more}}
    return {"applyTo": "HTTP_FILTER", "match": match, "patch": {"operation": operation, "value": value}}


def manager(**config: Any) -> Any:
    typed = {"@type": f"{TYPE}.network.http_connection_manager.v3.HttpConnectionManager", **config}
    match = {"listener": {"filterChain": {"filter": {"name": HCM}}}}
    value = {"name": HCM, "typed_config": typed}
    return {"applyTo": "NETWORK_FILTER", "match": match, "patch": {"operation": "MERGE", "value": value}}


def routes(apply_to: str, value: Any, operation: str = "MERGE", **match: Any) -> Any:
    matched = {"context": "ANY", "routeConfiguration": match} if match else {"context": "ANY"}
    return {"applyTo": apply_to, "match": matched, "patch": {"operation": operation, "value": value}}


def clusters(value: Any, operation: str = "MERGE", **match: Any) -> Any:
    patch = {"operation": operation, "value": value}
    return {"applyTo": "CLUSTER", "match": {"cluster": match} if match else {}, "patch": patch}


def put(objs: Any, *patches: Any, name: str = "f", namespace: str = "default", **more: Any) -> None:
    spec = {"configPatches": list(patches), **more}
    kind = KINDS["EnvoyFilter"]
    kind.check(istio.read(kind.spec, {"spec": spec}), Subject(namespace, name, roots=frozenset({ROOT})))
    objs.put("EnvoyFilter", name, namespace, spec)
