"""What EnvoyFilters may say, and where: what could take the machine is for root namespaces."""

from __future__ import annotations

from typing import Any

import pytest
from tests.mesh.envoy_filters import (
    BUFFER,
    LIMIT,
    LUA,
    OWN,
    ROOT,
    TYPE,
    clusters,
    http,
    manager,
    put,
    routes,
)

from ondol.mesh.kinds import KINDS
from ondol.mesh.model import istio
from ondol.mesh.translate import extensions


@pytest.fixture
def shop(objs: Any) -> Any:
    objs.pod("client")
    objs.service("web", endpoints=[("10.100.0.1", 80)])
    return objs


def typed(kind: str, **config: Any) -> Any:
    return http({"name": "x", "typed_config": {"@type": f"{TYPE}.{kind}", **config}})


def authz(cluster: str) -> Any:
    service = {"envoy_grpc": {"cluster_name": cluster}}
    return typed("http.ext_authz.v3.ExtAuthz", grpc_service=service)


DANGEROUS = [
    (http(LUA), "Lua is not among the types"),
    (typed("http.wasm.v3.Wasm"), "Wasm is not among"),
    (typed("http.dynamic_modules.v3.DynamicModuleFilter"), "DynamicModuleFilter is not among"),
    (typed("http.set_filter_state.v3.Config"), "Config is not among"),
    (typed("http.tap.v3.Tap"), "Tap is not among"),
    (authz("outbound|80||web.other.svc.cluster.local"), "is of another namespace"),
    (authz("xds"), "is no cluster of a service"),
    (
        typed(
            "http.ext_authz.v3.ExtAuthz",
            grpc_service={"google_grpc": {"target_uri": "a", "stat_prefix": "b"}},
        ),
        "past the mesh",
    ),
    (clusters({"connectTimeout": "1s"}), "applyTo CLUSTER is not for default"),
    (
        {"applyTo": "LISTENER", "patch": {"operation": "MERGE", "value": {"bindToPort": False}}},
        "applyTo LISTENER is not for default",
    ),
    (
        {"applyTo": "EXTENSION_CONFIG", "patch": {"operation": "ADD", "value": LUA}},
        "applyTo EXTENSION_CONFIG",
    ),
    (http(None, "REMOVE", "envoy.filters.http.cors"), "REMOVE of a filter"),
    (
        manager(
            access_log=[
                {
                    "name": "file",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                        "path": "/etc/cron.d/x",
                    },
                }
            ]
        ),
        "FileAccessLog is not among",
    ),
    (
        manager(rds={"config_source": {"path": "/etc/passwd"}, "route_config_name": "a"}),
        "comes? from elsewhere|come from",
    ),
    (
        routes(
            "HTTP_ROUTE",
            {
                "match": {"prefix": "/"},
                "directResponse": {"status": 200, "body": {"filename": "/etc/shadow"}},
            },
            "INSERT_FIRST",
        ),
        "reads a file of the machine",
    ),
    (
        routes(
            "HTTP_ROUTE",
            {
                "match": {"prefix": "/"},
                "directResponse": {"status": 200, "body": {"environmentVariable": "A"}},
            },
            "INSERT_FIRST",
        ),
        "reads the proxy's environment",
    ),
    (
        routes("HTTP_ROUTE", {"match": {"prefix": "/"}, "route": {"cluster": "xds"}}, "INSERT_FIRST"),
        "is no cluster of a service",
    ),
    (
        routes("HTTP_ROUTE", {"match": {"prefix": "/"}, "route": {"clusterHeader": "x"}}, "INSERT_FIRST"),
        "is no cluster of a service",
    ),
    (
        routes(
            "HTTP_ROUTE",
            {"route": {"requestMirrorPolicies": [{"cluster": "outbound|80||web.other.svc.cluster.local"}]}},
        ),
        "is of another namespace",
    ),
    (
        routes(
            "VIRTUAL_HOST",
            {"responseHeadersToAdd": [{"header": {"key": "x", "value": "%FILE_CONTENT(/etc/shadow)%"}}]},
        ),
        "%FILE_CONTENT% is no variable",
    ),
    (
        routes(
            "HTTP_ROUTE",
            {
                "typedPerFilterConfig": {
                    "lua": {
                        "@type": f"{TYPE}.http.lua.v3.LuaPerRoute",
                        "sourceCode": {"inlineString": "os.execute('id')"},
                    }
                }
            },
        ),
        "LuaPerRoute is not among",
    ),
]


@pytest.mark.parametrize(("patch", "words"), DANGEROUS)
def test_what_could_take_the_machine_is_for_root_namespaces(shop: Any, patch: Any, words: str) -> None:
    """Whoever may write in a namespace changes its pods' calls, and nothing else; a root's may all of it."""
    with pytest.raises(istio.Refused, match=words) as refused:
        put(shop, patch)
    assert refused.value.reason == "NotAllowed"
    put(shop, patch, namespace=ROOT)


@pytest.mark.parametrize(
    "patch",
    [
        http(LIMIT),
        authz(OWN),
        manager(stream_idle_timeout="1s", server_name="x"),
        routes("HTTP_ROUTE", {"route": {"cluster": "outbound|80||web.other.svc.cluster.local"}}),
        routes("VIRTUAL_HOST", {"responseHeadersToAdd": [{"header": {"key": "x", "value": "%PROTOCOL%"}}]}),
    ],
)
def test_what_any_namespace_may(shop: Any, patch: Any) -> None:
    """Calls of its pods may go to any service, as by a VirtualService; the proxy itself asks its own."""
    put(shop, patch)


@pytest.mark.parametrize(
    ("patch", "words", "reason"),
    [
        (http({"name": "x", "typed_confi": {}}), "typed_confi", "Invalid"),
        (typed("http.buffer.v3.Buffer", max=3), "has no field named", "Invalid"),
        (typed("http.buffer.v3.Buffa"), "no type that is known here", "Invalid"),
        (typed("http.../etc.X"), "no type that is known here", "Invalid"),
        (http("text"), "is no object", "Invalid"),
        (
            {"applyTo": "BOOTSTRAP", "patch": {"operation": "MERGE", "value": {}}},
            "one proxy serves all",
            "Unsupported",
        ),
        (http(BUFFER, "MERGE_AND_REPLACE_LIST"), "MERGE_AND_REPLACE_LIST is not supported", "Unsupported"),
        (
            {**manager(useRemoteAddress=True), "match": {"context": "SIDECAR_INBOUND"}},
            "not supported for SIDECAR_INBOUND",
            "Unsupported",
        ),
        (
            http(BUFFER, context="SIDECAR_INBOUND", portNumber=80),
            "all ports share their filters",
            "Unsupported",
        ),
        ({**http(BUFFER), "match": {"context": "WAYPOINT"}}, "WAYPOINT is not supported", "Unsupported"),
        ({**http(BUFFER), "match": {"cluster": {"name": "a"}}}, "match.cluster is for CLUSTER", "Invalid"),
        ({**http(BUFFER), "match": {"proxy": {"proxyVersion": "("}}}, "proxyVersion", "Invalid"),
        (
            {**http(BUFFER), "patch": {"operation": "ADD", "value": BUFFER, "filterClass": "STATS"}},
            "filterClass",
            "Unsupported",
        ),
        (
            {
                "applyTo": "LISTENER",
                "patch": {"operation": "MERGE", "value": {"address": {"pipe": {"path": "/a"}}}},
            },
            "cannot be changed",
            "Invalid",
        ),
        (
            {**clusters({}), "match": {"context": "GATEWAY"}},
            "shared by all who call",
            "Unsupported",
        ),
    ],
)
def test_what_cannot_be_is_refused(shop: Any, patch: Any, words: str, reason: str) -> None:
    """In words, with the place in the object, before the proxy is asked."""
    with pytest.raises(istio.Refused, match=words) as refused:
        put(shop, patch, namespace=ROOT)
    assert refused.value.reason == reason


def test_a_struct_of_an_unknown_type_goes_to_the_proxy_from_a_root(shop: Any) -> None:
    """The proxy may know more types than the installed messages have; nobody else's is believed."""
    struct = {"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": "a/b.C", "value": {"d": 1}}
    patch = http({"name": "x", "typed_config": struct})
    put(shop, patch, namespace=ROOT)
    with pytest.raises(istio.Refused, match="TypedStruct is not among"):
        put(shop, patch)


def test_no_module_but_the_messages_is_loaded() -> None:
    """A type is a name of somebody's choice."""
    for name in ("os.system", "envoy.os.X", "envoy.service.X", "a/envoy..X", "xds.", "ondol.cli.main.App"):
        assert extensions.message_class(name) is None


def test_what_a_proxy_config_says_is_refused() -> None:
    """One proxy serves all."""
    kind = KINDS["ProxyConfig"]
    kind.check(istio.read(kind.spec, {"spec": {"selector": {"matchLabels": {"a": "b"}}}}))
    for field in (
        {"concurrency": 2},
        {"environmentVariables": {"A": "b"}},
        {"image": {"imageType": "debug"}},
    ):
        with pytest.raises(istio.Refused, match="is not supported"):
            kind.check(istio.read(kind.spec, {"spec": field}))
