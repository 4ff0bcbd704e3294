"""For whose calls rules hold: nobody takes over another namespace's host, between pods or at the ingress."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from ondol.api.objects import Key
from ondol.mesh import analysis, evaluate
from ondol.mesh.config import MeshConfig
from ondol.mesh.evaluate import Call, Verdict
from ondol.mesh.kinds import findings
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.translator import Translator, port_problem
from ondol.mesh.translate.world import Translation
from ondol.mesh.xds import types

Ask = Callable[..., Verdict]
Translate = Callable[[Any], Translation]
API = "api.prod.svc.cluster.local"
INGRESS = "ondol-system/ingress"


def answer(status: int) -> dict[str, Any]:
    return {"directResponse": {"status": status}}


def at(path: str, status: int) -> dict[str, Any]:
    return {"match": [{"uri": {"prefix": path}}], **answer(status)}


@pytest.fixture
def ask(objs: Any, translate: Translate) -> Ask:
    """The verdict on a call to a service of `prod` by a pod of some namespace: prod, evil or bystander."""
    for namespace in ("prod", "evil", "bystander", "istio-system"):
        objs.put("Namespace", namespace, "", {})
        objs.pod("caller", namespace=namespace)
    objs.service("api", namespace="prod", ip="10.101.0.9", endpoints=[("10.100.0.1", 8080)], pods=["caller"])
    objs.service("db", ("tcp", 5432), namespace="prod", ip="10.101.0.8")

    def verdict(namespace: str, host: str = API, **call: Any) -> Verdict:
        translation = translate(objs)
        return evaluate.from_pod(
            translation.snapshot, translation.pods[Key(namespace, "caller")], Call(host=host, **call)
        )

    return verdict


def codes(objs: Any, translate: Translate, name: str) -> set[str]:
    findings = analysis.findings(objs.world(), translate(objs))
    return {finding.code for finding in findings if finding.origin.name == name}


@pytest.mark.parametrize(
    "host", [API, "api.prod", "*.prod.svc.cluster.local", "*.svc.cluster.local", "*.local"]
)
def test_a_rule_for_anothers_host_holds_for_its_own_callers_only(objs: Any, ask: Ask, host: str) -> None:
    """Exact or by any wildcard: a stranger's rule reaches neither the owner nor a bystander."""
    objs.virtual_service("grab", {"hosts": [host], "http": [answer(418)]}, namespace="evil")
    assert [ask(namespace).status for namespace in ("prod", "evil", "bystander")] == [0, 418, 0]


def test_a_rule_for_the_outside_holds_for_its_own_callers_only(objs: Any, ask: Ask) -> None:
    """Names outside the cluster are nobody's: one namespace may not turn them for others."""
    objs.virtual_service("grab", {"hosts": ["pay.example.com"], "http": [answer(418)]}, namespace="evil")
    assert [ask(n, "pay.example.com").status for n in ("evil", "bystander")] == [418, 0]


def test_the_owners_rule_holds_for_all_and_the_callers_own_comes_before(objs: Any, ask: Ask) -> None:
    """A stranger's older rule does not hide the owner's; for the stranger's own calls it does."""
    objs.virtual_service("mine", {"hosts": [API], "http": [answer(418)]}, namespace="evil")
    objs.virtual_service("api", {"hosts": ["api"], "http": [answer(203)]}, namespace="prod")
    assert [ask(namespace).status for namespace in ("prod", "evil", "bystander")] == [203, 418, 203]


def test_a_root_namespace_rules_everywhere(objs: Any, ask: Ask) -> None:
    """What stands in istio-system or the platform's namespace is the platform's word."""
    objs.virtual_service(
        "all", {"hosts": ["*.prod.svc.cluster.local"], "http": [answer(203)]}, "istio-system"
    )
    assert [ask(namespace).status for namespace in ("prod", "bystander")] == [203, 203]


def test_the_owner_can_admit_anothers_rules(objs: Any, ask: Ask, translate: Translate) -> None:
    """An annotation on the Service names the namespaces; the finding that told of it goes."""
    objs.virtual_service("guest", {"hosts": [API], "http": [answer(203)]}, namespace="evil")
    assert codes(objs, translate, "guest") == {findings.NOT_OWN}
    service = objs.objects["Service"]["prod", "api"]
    service["metadata"] = service["metadata"] | {"annotations": {"mesh.ondol.dev/rules-from": "ops, evil"}}
    objs.objects["Service"]["prod", "api"] = dict(service)
    assert [ask(namespace).status for namespace in ("prod", "bystander")] == [203, 203]
    assert codes(objs, translate, "guest") == set()


@pytest.mark.parametrize(
    ("export_to", "expected"),
    [(["."], [203, 0]), (["*"], [203, 203]), (["bystander"], [0, 203])],
)
def test_export_to_narrows_a_rule(objs: Any, ask: Ask, export_to: list[str], expected: list[int]) -> None:
    """Its own namespace, all, or those it names."""
    objs.virtual_service("api", {"hosts": ["api"], "exportTo": export_to, "http": [answer(203)]}, "prod")
    assert [ask(namespace).status for namespace in ("prod", "bystander")] == expected


def test_a_strangers_destination_rule_governs_its_own_calls_only(
    objs: Any, ask: Ask, translate: Translate
) -> None:
    """Its callers get clusters of their own; everyone else's stay as the owner has them."""
    pool = {"tcp": {"connectTimeout": "1s"}}
    for name, host in (("slow", API), ("slow-db", "db.prod")):
        objs.destination_rule(name, {"host": host, "trafficPolicy": {"connectionPool": pool}}, "evil")
    everyones, evils = f"outbound|80||{API}", f"outbound|80||{API}|evil"
    assert set(ask("prod").clusters) == set(ask("bystander").clusters) == {everyones}
    assert set(ask("evil").clusters) == {evils}
    db = "outbound|5432||db.prod.svc.cluster.local"
    tcp: dict[str, Any] = {"host": "", "address": "10.101.0.8", "port": 5432}
    assert set(ask("bystander", **tcp).clusters) == {db}
    assert set(ask("evil", **tcp).clusters) == {f"{db}|evil"}
    snapshot = translate(objs).snapshot
    timeouts = [
        m.cluster.Cluster.FromString(snapshot.of(types.CLUSTER)[name].body).connect_timeout.seconds
        for name in (everyones, evils)
    ]
    assert timeouts == [10, 1]
    assert snapshot.of(types.ENDPOINTS)[evils].body != b""
    assert findings.NOT_OWN in codes(objs, translate, "slow")


def test_a_strangers_subsets_do_not_leak_into_the_owners(objs: Any, ask: Ask) -> None:
    """A route of the owner's to a subset that only a stranger defines leads nowhere."""
    subset = {"name": "v1", "labels": {"app": "caller"}}
    objs.destination_rule("api", {"host": API, "subsets": [subset]}, "evil")
    route = {"route": [{"destination": {"host": API, "subset": "v1"}}]}
    objs.virtual_service("api", {"hosts": [API], "http": [route]}, "prod")
    assert ask("bystander").endpoints == {}
    objs.virtual_service("mine", {"hosts": [API], "http": [route]}, "evil")
    assert set(ask("evil").endpoints.values()) == {("10.100.0.1:8080",)}


def outside(objs: Any, translate: Translate, host: str, path: str = "/", port: int = 80) -> int:
    return evaluate.from_outside(translate(objs).snapshot, Call(host=host, path=path, port=port)).status


def gate(objs: Any, name: str, namespace: str, host: str, *routes: dict[str, Any], **more: Any) -> None:
    spec = {"hosts": [host], "gateways": [INGRESS], "http": list(routes)} | more
    objs.virtual_service(name, spec, namespace=namespace)


def test_a_host_at_the_ingress_is_its_first_namespaces(objs: Any, ask: Ask, translate: Translate) -> None:
    """A younger rule of another namespace is not joined, not even for paths the holder leaves open."""
    objs.gateway()
    gate(objs, "shop", "prod", "shop.example", at("/shop", 203))
    gate(objs, "grab", "evil", "shop.example", at("/login", 418))
    assert outside(objs, translate, "shop.example", "/shop") == 203
    assert outside(objs, translate, "shop.example", "/login") == 404
    assert codes(objs, translate, "grab") == {findings.CLAIMED}
    gate(objs, "more", "prod", "shop.example", at("/login", 204))
    assert outside(objs, translate, "shop.example", "/login") == 204


def test_a_name_of_the_cluster_is_its_namespaces_at_the_ingress_too(
    objs: Any, ask: Ask, translate: Translate
) -> None:
    """An older rule does not help a stranger to a name that bears its owner's namespace."""
    objs.gateway()
    gate(objs, "grab", "evil", API, answer(418))
    assert outside(objs, translate, API) == 404
    gate(objs, "api", "prod", API, answer(203))
    assert outside(objs, translate, API) == 203


def test_a_gateway_of_ones_own_is_no_way_around(objs: Any, ask: Ask, translate: Translate) -> None:
    """Who holds a host holds it at the port, whichever Gateway the others come by."""
    objs.gateway()
    objs.gateway("mine", namespace="evil", hosts=["evil/shop.example", "./shop.example", "*"])
    gate(objs, "shop", "prod", "shop.example", at("/shop", 203))
    gate(objs, "grab", "evil", "shop.example", at("/login", 418), gateways=["mine"])
    assert outside(objs, translate, "shop.example", "/login") == 404


def test_the_holder_or_the_platform_can_let_others_share_a_host(
    objs: Any, ask: Ask, translate: Translate
) -> None:
    """A Gateway of theirs that names the namespace beside the host joins its rules."""
    objs.gateway("shared", hosts=["*/shop.example", "evil/shop.example"])
    gate(objs, "shop", "prod", "shop.example", at("/shop", 203), gateways=["ondol-system/shared"])
    gate(objs, "guest", "evil", "shop.example", at("/login", 204), gateways=["ondol-system/shared"])
    assert outside(objs, translate, "shop.example", "/login") == 204


def test_what_takes_every_request_comes_last_at_the_ingress(
    objs: Any, ask: Ask, translate: Translate
) -> None:
    """An older rule for / does not hide a younger one for a path, as in Istio."""
    objs.gateway()
    gate(objs, "site", "prod", "shop.example", at("/old", 204), at("/", 203))
    gate(objs, "api", "prod", "shop.example", at("/api", 201))
    assert outside(objs, translate, "shop.example", "/api") == 201
    assert outside(objs, translate, "shop.example", "/old") == 204
    assert outside(objs, translate, "shop.example", "/else") == 203


@pytest.mark.parametrize("number", [80, 8080, 18080])
def test_samples_name_the_ingress_port_by_either_of_istios_numbers(
    objs: Any, ask: Ask, translate: Translate, mesh_config: Any, number: int
) -> None:
    """80, 8080 and the number it has on this machine are one listener, shared with the platform's own."""
    object.__setattr__(mesh_config, "ingress_port", 18080)
    objs.gateway()
    server = {"port": {"number": number, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    objs.put("Gateway", "bookinfo", "prod", {"selector": {"istio": "ingressgateway"}, "servers": [server]})
    gate(objs, "bookinfo", "prod", "*", answer(203), gateways=["bookinfo"])
    gate(objs, "own", "bystander", "own.example", answer(204))
    listening = translate(objs).snapshot.of(types.LISTENER)
    at_ingress = [name for name in listening if name.startswith("ingress")]
    assert at_ingress == ["ingress|80"]
    listener = m.listener.Listener.FromString(listening["ingress|80"].body)
    assert listener.address.socket_address.port_value == 18080
    assert outside(objs, translate, "any.example") == 203
    assert outside(objs, translate, "own.example") == 204
    assert codes(objs, translate, "bookinfo") == set()


def test_another_port_is_bound_by_its_number_and_by_nobody_else(
    objs: Any, ask: Ask, translate: Translate
) -> None:
    """Two proxies on one port would take each other's calls: the second is refused."""
    objs.gateway("more", port={"number": 9000, "name": "http", "protocol": "HTTP"})
    body = translate(objs).snapshot.of(types.LISTENER)["ingress|9000"].body
    listener = m.listener.Listener.FromString(body)
    assert listener.address.socket_address.port_value == 9000
    assert listener.enable_reuse_port.value is False
    assert listener.HasField("enable_reuse_port")


@pytest.mark.parametrize(
    "selector",
    [
        {"istio": "ingressgateway"},
        {"app": "istio-ingressgateway"},
        {},
        {"app": "istio-ingressgateway", "istio": "ingressgateway"},
    ],
)
def test_usual_selectors_find_the_ingress(
    objs: Any, ask: Ask, translate: Translate, selector: dict[str, str]
) -> None:
    """By any of the labels that Istio's own gateway has."""
    objs.gateway()
    objs.of("Gateway")[0]["spec"]["selector"] = selector
    gate(objs, "own", "prod", "own.example", answer(203))
    assert outside(objs, translate, "own.example") == 203
    assert codes(objs, translate, "ingress") == set()


def test_hosts_are_the_same_in_either_case(objs: Any, ask: Ask, translate: Translate) -> None:
    """As a rule, a Gateway and a caller write them."""
    objs.gateway(hosts=["*.EXAMPLE"])
    gate(objs, "own", "prod", "Shop.Example", answer(203))
    assert outside(objs, translate, "SHOP.example") == 203
    objs.virtual_service("api", {"hosts": ["API"], "http": [answer(204)]}, "prod")
    assert ask("bystander", "Api.Prod").status == 204


@pytest.mark.parametrize(
    ("number", "problem"),
    [
        (6443, "a port of the platform itself"),
        (22, "not among the ports that Gateways may open"),
        (9100, "not among the ports that Gateways may open"),
        (9000, ""),
        (9099, ""),
        (443, ""),
        (8080, ""),
        (80, ""),
        (18080, ""),
    ],
)
def test_a_gateway_opens_only_what_it_may(mesh_config: MeshConfig, number: int, problem: str) -> None:
    """The platform's own are kept while a part is started anew; others are the administrator's to open."""
    config = dataclasses.replace(
        mesh_config,
        reserved_ports=frozenset({6443, 18080}),
        open_ports=(range(443, 444), range(6000, 7000), range(9000, 9100)),
        ingress_port=18080,
    )
    refusal = port_problem(config, number)
    assert (problem in refusal) if problem else refusal == ""


def test_the_proxy_listens_on_no_port_of_the_platform(objs: Any, mesh_config: MeshConfig) -> None:
    """Not even for a Gateway that was served by an earlier version."""
    server = {"port": {"number": 6443, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    objs.put("Gateway", "gw", "red", {"selector": {"istio": "ingressgateway"}, "servers": [server]})
    everything = mesh_config.open_ports
    for reserved, may_open, listens in (
        ([], everything, True),
        ([6443], everything, False),
        ([], (range(443, 444),), False),
    ):
        config = dataclasses.replace(mesh_config, reserved_ports=frozenset(reserved), open_ports=may_open)
        snapshot = Translator(config).translate(objs.world()).snapshot
        assert ("ingress|6443" in snapshot.of(types.LISTENER)) is listens
