"""What the translation means: calls go where Istio's semantics send them, asked through `evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ondol.api.objects import Key
from ondol.mesh import evaluate, mirrors
from ondol.mesh.evaluate import Call, Verdict
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.world import Translation
from ondol.mesh.xds import types

WEB = "outbound|80||web.default.svc.cluster.local"
V1 = "outbound|80|v1|web.default.svc.cluster.local"
V2 = "outbound|80|v2|web.default.svc.cluster.local"

Ask = Callable[..., Verdict]


@pytest.fixture
def ask(objs: Any, translate: Callable[[Any], Translation]) -> Ask:
    """The verdict on a call from the pod `caller` (or another), after translating the world anew."""
    objs.pod("caller")
    objs.pod("web-1", version="v1")
    objs.pod("web-2", version="v2")
    objs.service(
        "web",
        ip="10.101.0.5",
        endpoints=[("10.100.0.1", 8080), ("10.100.0.2", 8080)],
        pods=["web-1", "web-2"],
    )

    def verdict(
        host: str = "web", *, pod: str = "caller", namespace: str = "default", **call: Any
    ) -> Verdict:
        translation = translate(objs)
        return evaluate.from_pod(
            translation.snapshot, translation.pods[Key(namespace, pod)], Call(host=host, **call)
        )

    return verdict


def route_to(subset: str = "", weight: int = 0, host: str = "web") -> dict[str, Any]:
    destination: dict[str, Any] = {"host": host, "port": {"number": 80}}
    return {"destination": destination | ({"subset": subset} if subset else {}), "weight": weight}


def subsets(objs: Any, **more: Any) -> None:
    listed = [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")]
    objs.destination_rule("web", {"host": "web", "subsets": listed} | more)


@pytest.mark.parametrize(
    "host",
    ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local", "10.101.0.5", "WEB", "web:80"],
)
def test_a_service_answers_to_all_its_names(ask: Ask, host: str) -> None:
    """Every DNS name of a service, its address, any case, with a port or without, is the service."""
    assert ask(host).clusters == {WEB: 1}
    assert ask(host).endpoints[WEB] == ("10.100.0.1:8080", "10.100.0.2:8080")


def test_short_names_belong_to_the_callers_namespace(objs: Any, ask: Ask) -> None:
    """`web` called from another namespace is that namespace's own service."""
    objs.service("web", namespace="other", endpoints=[("10.100.0.9", 80)])
    objs.pod("caller", namespace="other")
    assert ask("web", namespace="other").clusters == {"outbound|80||web.other.svc.cluster.local": 1}
    assert ask("web.default", namespace="other").clusters == {WEB: 1}


def test_unknown_hosts_pass_through(ask: Ask) -> None:
    """What is no service goes where it was going (ALLOW_ANY)."""
    assert ask("example.com").clusters == {"PassthroughCluster": 1}
    assert ask("", port=9999).clusters == {"PassthroughCluster": 1}


def test_the_listeners_own_port_is_a_dead_end(ask: Ask) -> None:
    """A pod that dials the proxy itself does not reach the host's loopback through it."""
    assert ask("", port=15001, address="127.0.0.1").clusters == {"BlackHoleCluster": 1}


def test_a_declared_tcp_port_is_carried_by_address(objs: Any, ask: Ask) -> None:
    """A tcp port goes to its service as bytes, even if they look like HTTP."""
    objs.service("db", ("tcp-sql", 80), ip="10.101.0.7", endpoints=[("10.100.0.3", 5432)])
    assert ask("anything", address="10.101.0.7").clusters == {"outbound|80||db.default.svc.cluster.local": 1}
    assert ask("web", address="10.101.0.5").clusters == {WEB: 1}


def test_a_headless_tcp_port_is_not_read_as_anothers_http(objs: Any, ask: Ask) -> None:
    """Its pods are called by their own addresses: bytes that are no HTTP go there as they are."""
    assert ask("", port=80, address="10.100.0.3").chain == "http|80"
    spec = {"clusterIP": "None", "ports": [{"name": "tcp-peer", "port": 80}]}
    objs.put("Service", "peers", "default", spec)
    assert ask("", port=80, address="10.100.0.3").chain == "passthrough"
    assert ask("web", port=80).clusters == {WEB: 1}


def test_an_undeclared_port_is_told_by_its_first_bytes(objs: Any, ask: Ask) -> None:
    """The same port is HTTP when it looks so and bytes when it does not."""
    objs.service("odd", ("odd", 7000), ip="10.101.0.8", endpoints=[("10.100.0.4", 7000)])
    name = "outbound|7000||odd.default.svc.cluster.local"
    assert ask("odd", port=7000, address="10.101.0.8").chain == "http|7000"
    assert ask("odd", port=7000, address="10.101.0.8").clusters == {name: 1}
    assert ask("", port=7000, address="10.101.0.8").chain == name


def test_weights_are_relative(objs: Any, ask: Ask) -> None:
    """Two destinations share by weight; one with weight 0 gets nothing."""
    subsets(objs)
    objs.virtual_service(
        "web",
        {"hosts": ["web"], "http": [{"route": [route_to("v1", 90), route_to("v2", 10), route_to("", 0)]}]},
    )
    assert ask().clusters == {V1: 90, V2: 10}
    assert ask().endpoints == {V1: ("10.100.0.1:8080",), V2: ("10.100.0.2:8080",)}


MATCHES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("exact uri", {"uri": {"exact": "/a"}}, {"path": "/a?x=1"}, {"path": "/a/b"}),
    ("uri prefix", {"uri": {"prefix": "/a"}}, {"path": "/a/b"}, {"path": "/b"}),
    ("uri regex is a full match", {"uri": {"regex": "/a.c"}}, {"path": "/abc"}, {"path": "/abcd"}),
    ("case", {"uri": {"exact": "/A"}, "ignoreUriCase": True}, {"path": "/a"}, {"path": "/b"}),
    ("method", {"method": {"exact": "POST"}}, {"method": "POST"}, {"method": "GET"}),
    ("scheme", {"scheme": {"exact": "http"}}, {"scheme": "http"}, {"scheme": "https"}),
    ("header", {"headers": {"User": {"exact": "j"}}}, {"headers": {"user": "j"}}, {"headers": {"user": "k"}}),
    ("header is there", {"headers": {"u": {}}}, {"headers": {"u": "any"}}, {}),
    ("header regex", {"headers": {"u": {"regex": "a+"}}}, {"headers": {"u": "aa"}}, {"headers": {"u": "ab"}}),
    ("without header", {"withoutHeaders": {"u": {}}}, {}, {"headers": {"u": "x"}}),
    (
        "without value",
        {"withoutHeaders": {"u": {"exact": "x"}}},
        {"headers": {"u": "y"}},
        {"headers": {"u": "x"}},
    ),
    ("without value, absent", {"withoutHeaders": {"u": {"exact": "x"}}}, {}, {"headers": {"u": "x"}}),
    ("query", {"queryParams": {"q": {"prefix": "a"}}}, {"path": "/?q=ab"}, {"path": "/?q=b"}),
    ("query is there", {"queryParams": {"q": {}}}, {"path": "/?q="}, {"path": "/"}),
    ("authority", {"authority": {"exact": "web"}}, {"host": "web"}, {"host": "web.default"}),
    ("source labels", {"sourceLabels": {"app": "caller"}}, {}, {"pod": "web-1"}),
    ("source namespace", {"sourceNamespace": "default"}, {}, {"host": "web.default", "namespace": "other"}),
    (
        "all together",
        {"uri": {"prefix": "/a"}, "headers": {"u": {"exact": "j"}}},
        {"path": "/a", "headers": {"u": "j"}},
        {"path": "/a"},
    ),
]


@pytest.mark.parametrize(("match", "hit", "miss"), [m[1:] for m in MATCHES], ids=[m[0] for m in MATCHES])
def test_matches(
    objs: Any, ask: Ask, match: dict[str, Any], hit: dict[str, Any], miss: dict[str, Any]
) -> None:
    """A request that matches takes the matched route, another the next."""
    subsets(objs)
    objs.pod("caller", namespace="other")
    first = {"name": "first", "match": [match], "route": [route_to("v2")]}
    objs.virtual_service("web", {"hosts": ["web"], "http": [first, {"route": [route_to("v1")]}]})
    assert ask(**hit).clusters == {V2: 1}
    assert ask(**hit).route == "first"
    assert ask(**miss).clusters == {V1: 1}


def test_matches_are_alternatives_and_the_first_route_wins(objs: Any, ask: Ask) -> None:
    """The matches of a route are ORed; routes are tried in order."""
    either = [{"uri": {"exact": "/a"}}, {"uri": {"exact": "/b"}}]
    routes = [
        {"name": "one", "match": either, "route": [route_to()]},
        {"name": "two", "match": [{"uri": {"prefix": "/"}}], "route": [route_to()]},
        {"name": "never", "route": [route_to()]},
    ]
    objs.virtual_service("web", {"hosts": ["web"], "http": routes})
    assert [ask(path=path).route for path in ("/a", "/b", "/c")] == ["one", "one", "two"]


def test_no_matching_route_is_not_found(objs: Any, ask: Ask) -> None:
    """A VirtualService without a route for a request does not fall back to the service."""
    objs.virtual_service(
        "web", {"hosts": ["web"], "http": [{"match": [{"uri": {"exact": "/a"}}], "route": [route_to()]}]}
    )
    assert ask(path="/b").status == 404


def test_actions(objs: Any, ask: Ask) -> None:
    """Redirects, direct answers, rewrites, timeouts, retries, mirrors and headers reach the proxy."""
    objs.virtual_service(
        "web",
        {
            "hosts": ["web"],
            "http": [
                {
                    "match": [{"uri": {"prefix": "/old"}}],
                    "redirect": {"uri": "/new", "authority": "web.example", "redirectCode": 308},
                },
                {
                    "match": [{"uri": {"exact": "/tea"}}],
                    "directResponse": {"status": 418, "body": {"string": "short and stout"}},
                },
                {
                    "route": [
                        route_to() | {"headers": {"request": {"set": {"x-a": "1", "host": "elsewhere"}}}},
                    ],
                    "rewrite": {"uri": "/v2/"},
                    "timeout": "1.5s",
                    "retries": {"attempts": 3, "perTryTimeout": "250ms", "retryOn": "5xx,409"},
                    "mirror": {"host": "web", "port": {"number": 80}},
                    "mirrorPercentage": {"value": 12.5},
                    "headers": {"response": {"remove": ["server"]}},
                },
            ],
        },
    )
    redirect = ask(path="/old/x")
    assert redirect.status == 308
    assert redirect.message.redirect.path_redirect == "/new"
    assert ask(path="/tea").status == 418
    message = ask(path="/x").message
    assert message.route.prefix_rewrite == "/v2/"
    assert message.route.host_rewrite_literal == "elsewhere"
    assert message.route.timeout.ToMilliseconds() == 1500
    retry = message.route.retry_policy
    assert (retry.num_retries.value, retry.per_try_timeout.ToMilliseconds()) == (3, 250)
    assert (retry.retry_on, list(retry.retriable_status_codes)) == ("5xx,retriable-status-codes", [409])
    mirror = message.route.request_mirror_policies[0]
    assert mirror.runtime_fraction.default_value.numerator == 125_000
    copy = {each.append.header.key: each.append.header.value for each in mirror.request_headers_mutations}
    assert copy[mirrors.TO] == "outbound|80||web.default.svc.cluster.local"
    assert [h.header.key for h in message.request_headers_to_add] == ["x-a"]
    assert list(message.response_headers_to_remove) == ["server"]


def test_defaults_are_istios(objs: Any, ask: Ask) -> None:
    """Without a word about it: no timeout, two retries on other hosts; attempts 0 turns them off."""
    route = ask().message.route
    assert route.timeout.ToMilliseconds() == 0
    assert route.retry_policy.num_retries.value == 2
    assert "connect-failure" in route.retry_policy.retry_on
    assert route.retry_policy.retry_host_predicate[0].name.endswith("previous_hosts")
    objs.virtual_service(
        "web", {"hosts": ["web"], "http": [{"route": [route_to()], "retries": {"attempts": 0}}]}
    )
    assert not ask().message.route.HasField("retry_policy")


def test_a_fault_without_a_percentage_hits_nobody(objs: Any, ask: Ask) -> None:
    """Istio's default is no request, not every one."""
    fault = {"abort": {"httpStatus": 503}, "delay": {"fixedDelay": "5s"}}
    objs.virtual_service("web", {"hosts": ["web"], "http": [{"route": [route_to()], "fault": fault}]})
    config = m.fault.HTTPFault()
    assert ask().message.typed_per_filter_config["envoy.filters.http.fault"].Unpack(config)
    assert config.abort.percentage.numerator == config.delay.percentage.numerator == 0


def test_policies_are_merged_as_istio_merges_them(objs: Any, translate: Callable[[Any], Translation]) -> None:
    """A subset's field stands over the host's, also over that for the port; a subset's port over all."""

    def balanced(simple: str) -> dict[str, Any]:
        return {"loadBalancer": {"simple": simple}}

    pool = {"connectionPool": {"tcp": {"maxConnections": 7}}}
    host = {**balanced("RANDOM"), "portLevelSettings": [{"port": {"number": 80}, **pool}]}
    ported = {
        **balanced("RANDOM"),
        "portLevelSettings": [{"port": {"number": 80}, **balanced("ROUND_ROBIN")}],
    }
    listed = [
        {"name": "own", "trafficPolicy": balanced("ROUND_ROBIN")},
        {"name": "ported", "trafficPolicy": ported},
        {"name": "plain"},
    ]
    objs.service("web")
    objs.destination_rule("web", {"host": "web", "trafficPolicy": host, "subsets": listed})
    clusters = translate(objs).snapshot.of(types.CLUSTER)

    def policy(subset: str) -> tuple[int, int]:
        name = f"outbound|80|{subset}|web.default.svc.cluster.local"
        cluster = m.cluster.Cluster.FromString(clusters[name].body)
        return cluster.lb_policy, cluster.circuit_breakers.thresholds[0].max_connections.value

    kind, unlimited = m.cluster.Cluster, 2**32 - 1
    assert policy("plain") == policy("") == (kind.LEAST_REQUEST, 7)
    assert policy("own") == (kind.ROUND_ROBIN, 7)
    assert policy("ported") == (kind.ROUND_ROBIN, unlimited)


def test_session_affinity_is_a_hash_of_the_client(
    objs: Any, ask: Ask, translate: Callable[[Any], Translation]
) -> None:
    """SessionAffinity ClientIP hashes the caller of HTTP and TCP, unless a policy says otherwise."""
    objs.virtual_service("web", {"hosts": ["web"], "http": [{"route": [route_to()]}]})
    assert not ask().message.route.hash_policy
    for name, port in (("web", "http"), ("db", "tcp")):
        spec = {
            "clusterIP": "10.101.0.5",
            "sessionAffinity": "ClientIP",
            "ports": [{"name": port, "port": 80}],
        }
        objs.put("Service", name, "default", spec | ({"clusterIP": "10.101.0.6"} if name == "db" else {}))
    assert ask().message.route.hash_policy[0].connection_properties.source_ip
    objs.drop("VirtualService", "web")
    assert ask().message.route.hash_policy[0].connection_properties.source_ip
    translation = translate(objs)
    cluster = m.cluster.Cluster.FromString(translation.snapshot.of(types.CLUSTER)[WEB].body)
    assert cluster.lb_policy == m.cluster.Cluster.RING_HASH
    listener = translation.snapshot.of(types.LISTENER)[translation.pods[Key("default", "caller")].listener]
    chains = m.listener.Listener.FromString(listener.body).filter_chains
    proxy = m.tcp_proxy.TcpProxy()
    next(c for c in chains if "||db." in c.name).filters[-1].typed_config.Unpack(proxy)
    assert proxy.hash_policy[0].HasField("source_ip")
    objs.destination_rule("web", {"host": "web", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}})
    assert not ask().message.route.hash_policy


def test_the_oldest_rule_has_the_host(objs: Any, ask: Ask) -> None:
    """Rules for one host between pods do not merge."""
    for name in ("older", "younger"):
        objs.virtual_service(name, {"hosts": ["web"], "http": [{"name": name, "route": [route_to()]}]})
    assert ask().route == "older"


def test_a_wildcard_rule_yields_to_an_exact_one(objs: Any, ask: Ask) -> None:
    """`*.default.svc.cluster.local` governs services that have no rule of their own."""
    every = {"hosts": ["*.default.svc.cluster.local"], "http": [{"name": "every", "route": [route_to()]}]}
    objs.virtual_service("every", every)
    assert ask().route == "every"
    objs.virtual_service("own", {"hosts": ["web"], "http": [{"name": "own", "route": [route_to()]}]})
    assert ask().route == "own"


def test_a_rule_may_name_a_host_that_is_no_service(objs: Any, ask: Ask) -> None:
    """Such a host is served on port 80, by its short names too."""
    host = "hello.default.svc.cluster.local"
    objs.virtual_service("hello", {"hosts": [host], "http": [{"route": [route_to()]}]})
    for name in (host, "hello.default", "hello"):
        assert ask(name).clusters == {WEB: 1}


def test_gateway_rules_do_not_touch_the_mesh_and_the_other_way_round(
    objs: Any, ask: Ask, translate: Callable[[Any], Translation]
) -> None:
    """A rule is for the gateways it names; `mesh` must be named beside them."""
    objs.gateway()
    spec = {"hosts": ["web.example"], "gateways": ["ondol-system/ingress"], "http": [{"route": [route_to()]}]}
    objs.virtual_service("web", spec)
    assert ask("web.example").clusters == {"PassthroughCluster": 1}

    def outside(host: str, path: str = "/") -> Verdict:
        return evaluate.from_outside(translate(objs).snapshot, Call(host=host, path=path))

    assert outside("web.example:8080").clusters == {WEB: 1}
    assert outside("unknown.example").status == 404
    assert outside("web").status == 404


def test_gateway_rules_of_one_host_are_joined(
    objs: Any, translate: Callable[[Any], Translation], ask: Ask
) -> None:
    """The routes of two rules for a host at the gateway stand one after the other, oldest first."""
    objs.gateway(hosts=["*.example"])
    for name, uri in (("one", "/1"), ("two", "/2")):
        route = {"name": name, "match": [{"uri": {"prefix": uri}}], "route": [route_to()]}
        gateways = ["ondol-system/ingress"]
        objs.virtual_service(
            name, {"hosts": ["web.example", "not.admitted"], "gateways": gateways, "http": [route]}
        )
    snapshot = translate(objs).snapshot
    routes = [
        evaluate.from_outside(snapshot, Call(host="web.example", path=path)).route for path in ("/1", "/2")
    ]
    assert routes == ["one", "two"]
    assert evaluate.from_outside(snapshot, Call(host="not.admitted", path="/1")).status == 404


def test_draining_and_unready_endpoints_get_no_calls(objs: Any, ask: Ask) -> None:
    """Only ready endpoints that are not terminating are served; a service may have none."""
    slice_ = objs.of("EndpointSlice")[0]
    slice_["endpoints"][0]["conditions"] = {"ready": False}
    slice_["endpoints"][1]["conditions"] = {"ready": True, "terminating": True}
    slice_["metadata"]["resourceVersion"] += "0"
    assert ask().endpoints == {WEB: ()}


def test_addresses_of_the_hosts_loopback_are_never_endpoints(objs: Any, ask: Ask) -> None:
    """The proxy runs in the host's namespace: its loopback must not be reachable by an EndpointSlice."""
    special = (
        "127.0.0.1",
        "127.8.8.8",
        "169.254.169.254",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "0.0.0.0",
    )
    objs.endpoints("web", *((address, 15000) for address in special), ("10.100.0.1", 8080))
    assert ask().endpoints == {WEB: ("10.100.0.1:8080",)}
