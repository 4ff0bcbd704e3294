"""Traffic policies, each field as the proxy gets it; for whom they hold, and which endpoints are near."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from ondol.api.objects import Key
from ondol.mesh import analysis, evaluate, process
from ondol.mesh.config import MeshConfig
from ondol.mesh.evaluate import Call
from ondol.mesh.kinds import KINDS
from ondol.mesh.model import istio
from ondol.mesh.model.kube import Endpoint
from ondol.mesh.translate import callers, layouts, locality
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.connections import Profile
from ondol.mesh.translate.translator import Translator
from ondol.mesh.translate.world import Translation
from ondol.mesh.xds import types

Translate = Callable[[Any], Translation]
WEB = "outbound|80||web.default.svc.cluster.local"
OPTIONS = ("typed_extension_protocol_options", "envoy.extensions.upstreams.http.v3.HttpProtocolOptions")
POLICIES: list[tuple[dict[str, Any], tuple[str, ...], Any]] = [
    (
        {"retryBudget": {"percent": 35.5, "minRetryConcurrency": 7}},
        ("circuit_breakers", "thresholds", "0", "retry_budget"),
        {"budget_percent": {"value": 35.5}, "min_retry_concurrency": 7},
    ),
    (
        {"retryBudget": {}},
        ("circuit_breakers", "thresholds", "0", "retry_budget"),
        {"budget_percent": {"value": 20.0}, "min_retry_concurrency": 3},
    ),
    (
        {"proxyProtocol": {"version": "V2"}},
        ("transport_socket", "typed_config", "config"),
        {"version": "V2"},
    ),
    (
        {"proxyProtocol": {}, "tls": {"mode": "SIMPLE"}},
        ("transport_socket", "typed_config", "transport_socket", "name"),
        "envoy.transport_sockets.tls",
    ),
    (
        {"loadBalancer": {"warmup": {"duration": "30s", "minimumPercent": 20, "aggression": 2}}},
        ("least_request_lb_config", "slow_start_config"),
        {
            "slow_start_window": "30s",
            "aggression": {"default_value": 2.0, "runtime_key": "mesh.warmup.aggression"},
            "min_weight_percent": {"value": 20.0},
        },
    ),
    (
        {"loadBalancer": {"simple": "ROUND_ROBIN", "warmupDurationSecs": "9s"}},
        ("round_robin_lb_config", "slow_start_config"),
        {"slow_start_window": "9s"},
    ),
    (
        {"loadBalancer": {"consistentHash": {"useSourceIp": True, "minimumRingSize": 64}}},
        ("ring_hash_lb_config", "minimum_ring_size"),
        "64",
    ),
    (
        {"connectionPool": {"http": {"useClientProtocol": True}}},
        (*OPTIONS, "use_downstream_protocol_config"),
        {"http_protocol_options": {}, "http2_protocol_options": {}},
    ),
    (
        {"connectionPool": {"http": {"h2UpgradePolicy": "UPGRADE", "http2KeepAlive": {"interval": "9s"}}}},
        (*OPTIONS, "explicit_http_config", "http2_protocol_options", "connection_keepalive"),
        {"interval": "9s", "timeout": "20s"},
    ),
    (
        {"outlierDetection": {"outlierDetectionHttpErrorCodes": [429]}},
        (*OPTIONS, "outlier_detection", "error_matcher", "http_response_headers_match", "headers", "0"),
        {"name": ":status", "string_match": {"exact": "429"}},
    ),
    (
        {"outlierDetection": {"outlierDetectionHttpErrorCodes": [429, 500, 429]}},
        (*OPTIONS, "outlier_detection", "error_matcher", "or_match", "rules", "1"),
        {"http_response_headers_match": {"headers": [{"name": ":status", "string_match": {"exact": "500"}}]}},
    ),
    (
        {"tls": {"mode": "SIMPLE", "subjectAltNames": ["a.example", "spiffe://b/c", "10.0.0.1"]}},
        (
            "transport_socket",
            "typed_config",
            "common_tls_context",
            "validation_context",
            "match_typed_subject_alt_names",
        ),
        [
            {"san_type": "DNS", "matcher": {"exact": "a.example"}},
            {"san_type": "URI", "matcher": {"exact": "spiffe://b/c"}},
            {"san_type": "IP_ADDRESS", "matcher": {"exact": "10.0.0.1"}},
        ],
    ),
    (
        {"portLevelSettings": [{"port": {"number": 80}, "tls": {"mode": "SIMPLE", "sni": "x"}}]},
        ("transport_socket", "typed_config", "sni"),
        "x",
    ),
]


def of(document: Any, *path: str) -> Any:
    for name in path:
        document = document[name] if isinstance(document, dict) else document[int(name)]
    return document


def cluster(translation: Translation, name: str = WEB) -> dict[str, Any]:
    message = m.cluster.Cluster.FromString(translation.snapshot.of(types.CLUSTER)[name].body)
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


@pytest.fixture
def shop(objs: Any) -> Any:
    objs.pod("client")
    objs.service("web", endpoints=[("10.100.0.1", 80)])
    return objs


@pytest.mark.parametrize(("policy", "path", "expected"), POLICIES)
def test_a_policy_reaches_the_proxy(
    shop: Any, translate: Translate, policy: dict[str, Any], path: tuple[str, ...], expected: Any
) -> None:
    """Each field by itself."""
    shop.destination_rule("web", {"host": "web", "trafficPolicy": policy})
    assert of(cluster(translate(shop)), *path) == expected


def test_the_proxy_takes_every_policy(shop: Any, translate: Translate, tmp_path: Path) -> None:
    """Envoy reads a document with a cluster of each, and of all that come from elsewhere."""
    documents = []
    tls = {"tls": {"mode": "MUTUAL", "credentialName": "own"}}
    for index, policy in enumerate([*(row[0] for row in POLICIES), tls]):
        shop.destination_rule("web", {"host": "web", "trafficPolicy": policy})
        document = cluster(translate(shop)) | {"name": f"c{index}", "type": "STATIC"}
        document.pop("eds_cluster_config")
        documents.append(
            json.loads(
                json.dumps(document).replace('"ads": {}', '"path_config_source": {"path": "/dev/null"}')
            )
        )
    file = tmp_path / "envoy.json"
    node = {"id": "a", "cluster": "b"}
    file.write_text(json.dumps({"node": node, "static_resources": {"clusters": documents}}))
    words = [str(process.envoy_binary()), "--mode", "validate", "-c", str(file)]
    outcome = subprocess.run(words, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr


def test_a_cookie_has_its_attributes(shop: Any, translate: Translate) -> None:
    """They are of the route that sets it."""
    cookie = {"name": "c", "ttl": "0s", "attributes": [{"name": "SameSite", "value": "Strict"}]}
    lb = {"consistentHash": {"httpCookie": cookie}}
    shop.destination_rule("web", {"host": "web", "trafficPolicy": {"loadBalancer": lb}})
    translation = translate(shop)
    plan = translation.pods[Key("default", "client")]
    verdict = evaluate.from_pod(translation.snapshot, plan, Call(host="web"))
    (policy,) = verdict.message.route.hash_policy
    assert [(each.name, each.value) for each in policy.cookie.attributes] == [("SameSite", "Strict")]


def test_bytes_to_a_proxy_go_on_through_a_tunnel(objs: Any, translate: Translate) -> None:
    """The chain of the service's port asks the proxy for the target."""
    objs.pod("client")
    objs.service("proxy", ("tcp", 3128), ip="10.101.0.9", endpoints=[("10.100.0.1", 3128)])
    tunnel = {"targetHost": "bank.example", "targetPort": 443, "protocol": "POST"}
    objs.destination_rule("proxy", {"host": "proxy", "trafficPolicy": {"tunnel": tunnel}})
    translation = translate(objs)
    name = translation.pods[Key("default", "client")].listener
    listener = m.listener.Listener.FromString(translation.snapshot.of(types.LISTENER)[name].body)
    chain = next(each for each in listener.filter_chains if each.name.startswith("outbound|3128"))
    carrier = m.tcp_proxy.TcpProxy()
    chain.filters[-1].typed_config.Unpack(carrier)
    assert (carrier.tunneling_config.hostname, carrier.tunneling_config.use_post) == (
        "bank.example:443",
        True,
    )


def test_credentials_are_of_the_rules_own_namespace(objs: Any, translate: Translate) -> None:
    """Whoever calls: a name in another namespace is another Secret."""
    objs.pod("client")
    objs.service("web", namespace="other", endpoints=[("10.100.0.1", 80)])
    tls = {"mode": "MUTUAL", "credentialName": "own"}
    objs.destination_rule("web", {"host": "web", "trafficPolicy": {"tls": tls}}, namespace="other")
    context = of(
        cluster(translate(objs), "outbound|80||web.other.svc.cluster.local"),
        *("transport_socket", "typed_config", "common_tls_context"),
    )
    assert context["tls_certificate_sds_secret_configs"][0]["name"] == "credential|other/own"
    combined = context["combined_validation_context"]
    assert combined["validation_context_sds_secret_config"]["name"] == "credential|other/own|ca"
    assert combined["default_validation_context"]["match_typed_subject_alt_names"]


# For whom


def called(translation: Translation, pod: str, host: str = "web") -> str:
    plan = translation.pods[Key("default", pod)]
    (name,) = evaluate.from_pod(translation.snapshot, plan, Call(host=host)).clusters
    return name


def test_a_rule_may_choose_the_callers_for_whom_it_holds(
    shop: Any, translate: Translate, mesh_config: MeshConfig
) -> None:
    """Pods of its namespace with its labels; they hear no other rule for the host, and others not of it."""
    shop.pod("old", tier="old.1")
    shop.service("db", ("tcp", 5432), ip="10.101.0.8", endpoints=[("10.100.0.2", 5432)])
    limits = {"connectionPool": {"tcp": {"connectTimeout": "3s"}}}
    shop.destination_rule("all", {"host": "*.local", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}})
    selector = {"workloadSelector": {"matchLabels": {"tier": "old.1"}}}
    shop.destination_rule("old.v1", {"host": "web", "trafficPolicy": limits, **selector})
    translation = translate(shop)
    assert called(translation, "client") == WEB
    own = called(translation, "old")
    assert own == f"{WEB}|default~old+v1"
    assert cluster(translation, own)["connect_timeout"] == "3s"
    assert cluster(translation, own)["lb_policy"] == "LEAST_REQUEST"
    assert cluster(translation)["lb_policy"] == "RANDOM"
    shop.pod("client", tier="old.1")
    changed = translate(shop)
    assert called(changed, "client") == own
    assert changed.snapshot == Translator(mesh_config).translate(shop.world()).snapshot


def test_a_pod_that_is_chosen_changes_no_others_listener(shop: Any, translate: Translate) -> None:
    """It has tables of its own; those of its namespace stay as they are."""
    selector = {"workloadSelector": {"matchLabels": {"tier": "old"}}}
    shop.destination_rule("old", {"host": "web", "trafficPolicy": {"retryBudget": {}}, **selector})
    before = translate(shop)
    shop.pod("old", tier="old")
    after = translate(shop)
    plan = before.pods[Key("default", "client")]
    for type_url, name in ((types.LISTENER, plan.listener), *((types.ROUTES, each) for each in plan.tables)):
        assert before.snapshot.of(type_url)[name] == after.snapshot.of(type_url)[name]
    assert not set(plan.tables) & set(after.pods[Key("default", "old")].tables)


def test_a_subset_that_chosen_callers_know_is_not_missing(shop: Any, translate: Translate) -> None:
    """The rule that names it is served, and not held back."""
    selector = {"workloadSelector": {"matchLabels": {"app": "client"}}}
    shop.destination_rule("some", {"host": "web", "subsets": [{"name": "v1", "labels": {}}], **selector})
    to = {"destination": {"host": "web", "subset": "v1"}}
    shop.virtual_service("web", {"hosts": ["web"], "http": [{"route": [to]}]})
    world = shop.world()
    assert not [each for each in analysis.findings(world, translate(shop)) if each.code == "KIA1107"]


@pytest.mark.parametrize(
    "who",
    [
        callers.Who("ns"),
        callers.Who("ns", ("a.b", "c")),
        callers.Who("", (), "r/z/;kubernetes.io/hostname=a.b"),
        callers.Who("ns", ("a",), "eu.1/z_1/"),
    ],
)
def test_a_caller_is_one_text_without_dots(who: callers.Who) -> None:
    """Statistics are parted at dots, and the text says what it was made of."""
    text = callers.text(*who)
    assert "." not in text
    assert callers.parse(text) == who


# Where


HERE = locality.Place(("eu", "a", "1"), {"app": "x"})


def endpoint(number: int) -> Endpoint:
    return Endpoint(f"10.0.0.{number}", 80, None)


def asked(**setting: Any) -> istio.LocalityLoadBalancerSetting:
    return istio.read(istio.LocalityLoadBalancerSetting, {"spec": setting})


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({}, {1: (0, 0), 2: (1, 0), 3: (2, 0), 4: (3, 0), 5: (3, 0)}),
        (
            {"failover": [{"from": "eu", "to": "us"}]},
            {1: (0, 0), 2: (1, 0), 3: (2, 0), 4: (3, 0), 5: (4, 0)},
        ),
        (
            {"failoverPriority": ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"]},
            {1: (0, 0), 2: (0, 0), 3: (1, 0), 4: (2, 0), 5: (2, 0)},
        ),
        ({"failoverPriority": ["app=y"]}, {1: (1, 0), 2: (1, 0), 3: (1, 0), 4: (1, 0), 5: (0, 0)}),
        ({"failoverPriority": ["app"]}, {1: (0, 0), 2: (0, 0), 3: (0, 0), 4: (0, 0), 5: (1, 0)}),
        (
            {"distribute": [{"from": "eu/a/*", "to": {"eu/*": 80, "us/*": 20}}]},
            {1: (0, 27), 2: (0, 27), 3: (0, 27), 4: (0, 20)},
        ),
        (
            {"distribute": [{"from": "us/*", "to": {"us/*": 100}}]},
            {1: (0, 1), 2: (0, 1), 3: (0, 1), 4: (0, 1), 5: (0, 1)},
        ),
    ],
)
def test_near_endpoints_are_preferred(
    setting: dict[str, Any], expected: Mapping[int, tuple[int, int]]
) -> None:
    """By number, an endpoint's priority and its locality's share."""
    places = {
        1: locality.Place(("eu", "a", "1"), {"app": "x"}),
        2: locality.Place(("eu", "a", "2"), {"app": "x"}),
        3: locality.Place(("eu", "b", "1"), {"app": "x"}),
        4: locality.Place(("us", "a", "1"), {"app": "x"}),
        5: locality.Place(("asia", "a", "1"), {"app": "y"}),
    }
    members = [(endpoint(number), place) for number, place in places.items()]
    groups = locality.groups(members, asked(**setting), HERE)
    ranked = {each: (group.priority, group.weight) for group in groups for each in group.endpoints}
    assert ranked == {endpoint(number): pair for number, pair in expected.items()}


@pytest.fixture
def regions(objs: Any) -> Any:
    """A caller and an endpoint in one region, another endpoint in another, a caller whose label says so."""
    for name in ("eu", "us"):
        labels = {"topology.kubernetes.io/region": name}
        objs.put("Node", name, "", {}, labels=labels)
    for name, node in (("client", "eu"), ("near", "eu"), ("far", "us")):
        objs.pod(name)
        objs.objects["Pod"]["default", name]["spec"]["nodeName"] = node
    objs.pod("moved", **{"istio-locality": "us.b"})
    objs.service("web", endpoints=[("10.100.0.1", 80), ("10.100.0.2", 80)], pods=["near", "far"])
    (slice_,) = objs.of("EndpointSlice")
    for each, node in zip(slice_["endpoints"], ("eu", "us"), strict=True):
        each["nodeName"] = node
    return objs


def priorities(translation: Translation, pod: str) -> dict[str, int]:
    body = translation.snapshot.of(types.ENDPOINTS)[called(translation, pod)].body
    return {
        each.endpoint.address.socket_address.address: group.priority
        for group in m.endpoint.ClusterLoadAssignment.FromString(body).endpoints
        for each in group.lb_endpoints
    }


def test_callers_in_different_places_prefer_different_endpoints(
    regions: Any, translate: Translate, mesh_config: MeshConfig
) -> None:
    """Outlier detection alone has the near preferred, as in Istio; without a rule all are alike."""
    assert called(translate(regions), "client") == WEB
    regions.destination_rule("web", {"host": "web", "trafficPolicy": {"outlierDetection": {}}})
    translation = translate(regions)
    assert called(translation, "client") == f"{WEB}|@eu//"
    assert priorities(translation, "client") == {"10.100.0.1": 0, "10.100.0.2": 1}
    assert called(translation, "moved") == f"{WEB}|@us/b/"
    assert priorities(translation, "moved") == {"10.100.0.1": 1, "10.100.0.2": 0}
    setting = {"loadBalancer": {"localityLbSetting": {"enabled": False}}, "outlierDetection": {}}
    regions.destination_rule("web", {"host": "web", "trafficPolicy": setting})
    assert called(translate(regions), "client") == WEB
    regions.put("Node", "eu", "", {}, labels={"topology.kubernetes.io/region": "asia"})
    assert translate(regions).snapshot == Translator(mesh_config).translate(regions.world()).snapshot


def test_shares_by_locality_are_gone_by(regions: Any, translate: Translate) -> None:
    """The cluster of a place is told to; everybody's, whose endpoints have no shares, is not."""
    distribute = [{"from": "eu/*", "to": {"eu/*": 70, "us/*": 30}}]
    lb = {"loadBalancer": {"localityLbSetting": {"distribute": distribute}}}
    regions.destination_rule("web", {"host": "web", "trafficPolicy": lb})
    translation = translate(regions)
    name = called(translation, "client")
    assert "locality_weighted_lb_config" in cluster(translation, name)["common_lb_config"]
    assert "locality_weighted_lb_config" not in cluster(translation)["common_lb_config"]


def test_nodes_that_move_are_translated_like_a_new_world(
    regions: Any, translate: Translate, mesh_config: MeshConfig
) -> None:
    """Whatever was there before."""
    regions.destination_rule("web", {"host": "web", "trafficPolicy": {"outlierDetection": {}}})
    translate(regions)
    for region in ("us", "asia", "eu"):
        regions.put("Node", "eu", "", {}, labels={"topology.kubernetes.io/region": region})
        assert translate(regions).snapshot == Translator(mesh_config).translate(regions.world()).snapshot


# In words


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"tls": {"mode": "MUTUAL"}}, "needs credentialName"),
        ({"tls": {"mode": "SIMPLE", "credentialName": "a/b"}}, "no name of a Secret here"),
        ({"tls": {"mode": "SIMPLE", "caCertificates": "/etc/passwd"}}, "caCertificates is not supported"),
        (
            {"tls": {"mode": "SIMPLE", "insecureSkipVerify": True, "subjectAltNames": ["a"]}},
            "cannot stand together",
        ),
        ({"tls": {"mode": "ISTIO_MUTUAL", "sni": "a.b"}}, "from the mesh"),
        ({"tls": {"mode": "ISTIO_MUTUAL"}, "proxyProtocol": {}}, "ISTIO_MUTUAL"),
        ({"tunnel": {"targetHost": "a", "targetPort": 1}}, "neither a name in full"),
        ({"tunnel": {"targetHost": "a.b", "targetPort": 1, "protocol": "PUT"}}, "protocol"),
        ({"loadBalancer": {"simple": "RANDOM", "warmup": {"duration": "1s"}}}, "LEAST_REQUEST and ROUND"),
        ({"loadBalancer": {"zoneAwareLbSetting": {"enabled": True}}}, "zoneAwareLbSetting is not supported"),
        (
            {"loadBalancer": {"localityLbSetting": {"distribute": [{"from": "a", "to": {"b": 99}}]}}},
            "not 100",
        ),
        (
            {"loadBalancer": {"localityLbSetting": {"failover": [{"from": "a/b", "to": "c"}]}}},
            "are regions",
        ),
        (
            {"loadBalancer": {"localityLbSetting": {"distribute": [{"from": "*/a", "to": {"*": 100}}]}}},
            "at its end",
        ),
        ({"retryBudget": {"budgetInterval": "10s"}}, "budgetInterval is not supported"),
        ({"connectionPool": {"http": {"http2KeepAlive": {"timeout": "1s"}}}}, "interval must be given"),
        ({"outlierDetection": {"outlierDetectionHttpErrorCodes": [99]}}, "outlierDetectionHttpErrorCodes"),
    ],
)
def test_what_cannot_act_is_refused(policy: dict[str, Any], words: str) -> None:
    """With the field's name."""
    kind = KINDS["DestinationRule"]
    with pytest.raises(istio.Refused, match=words):
        kind.check(istio.read(kind.spec, {"spec": {"host": "web", "trafficPolicy": policy}}))


def test_findings_tell_what_has_no_effect(shop: Any, translate: Translate) -> None:
    """A selector of nobody, a tunnel where HTTP is spoken, a Secret that is not there."""
    tunnel = {"targetHost": "a.b", "targetPort": 1}
    tls = {"mode": "MUTUAL", "credentialName": "own"}
    shop.destination_rule(
        "web",
        {
            "host": "web",
            "workloadSelector": {"matchLabels": {"app": "nobody"}},
            "trafficPolicy": {"tunnel": tunnel, "tls": tls},
        },
    )
    codes = {each.code for each in analysis.findings(shop.world(), translate(shop))}
    assert codes == {"KIA0004", "OND0011", "IST0101"}


def test_a_listener_carries_what_a_chosen_caller_is_limited_to(objs: Any, translate: Translate) -> None:
    """Bytes are carried by the limits of the rule that chooses the caller."""
    objs.pod("client")
    objs.service("db", ("tcp", 5432), ip="10.101.0.8", endpoints=[("10.100.0.2", 5432)])
    limits = {"connectionPool": {"tcp": {"idleTimeout": "3s"}}}
    selector = {"workloadSelector": {"matchLabels": {"app": "client"}}}
    objs.destination_rule("db", {"host": "db", "trafficPolicy": limits, **selector})
    translation = translate(objs)
    registry = translation.registry
    layout = layouts.layout(registry, (80,), Profile("default", who=registry.caller("default~db")))
    assert layout.limits["outbound|5432||db.default.svc.cluster.local|default~db"].idle_ms == 3000
