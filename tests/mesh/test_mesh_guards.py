"""Which pods are guarded, and what stands before them, as values: no proxy is needed."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format

from ondol.api import conditions, objects
from ondol.contracts import mesh
from ondol.mesh import securing
from ondol.mesh.config import MeshConfig
from ondol.mesh.model import istio, mesh_options
from ondol.mesh.securing import Opening
from ondol.mesh.translate import arrivals as mesh_arrivals
from ondol.mesh.translate import messages as m
from ondol.mesh.translate import registry
from ondol.mesh.translate.translator import Translator
from ondol.mesh.translate.world import Translation, World
from ondol.mesh.xds import types

Translate = Callable[[Any], Translation]
DENY: dict[str, Any] = {"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/no"]}}]}]}


def arrivals(translation: Translation) -> dict[str, Any]:
    """The listeners of guarded pods, readable, by the pod's name."""
    listed = translation.snapshot.of(types.LISTENER)
    return {
        name.split("|")[1].partition("/")[2]: json_format.MessageToDict(
            m.listener.Listener.FromString(resource.body)
        )
        for name, resource in listed.items()
        if name.startswith("arrivals|")
    }


def marked(objs: Any, pod: str, *types_: str) -> None:
    """Say of a pod what node and mesh say of it on its way."""
    document = copy.deepcopy(objs.objects["Pod"]["default", pod])  # documents do not change while they live
    listed = conditions.of(document)
    for type_ in types_:
        listed = conditions.set(listed, type_, "True", now=1.0)
    document["status"]["conditions"] = listed
    objs.objects["Pod"]["default", pod] = document


@pytest.fixture
def shop(objs: Any) -> Any:
    objs.pod("front")
    objs.pod("web")
    objs.service("web", endpoints=[("10.0.0.1", 8080)], pods=["web"])
    objs.objects["Service"]["default", "web"]["spec"]["selector"] = {"app": "web"}
    return objs


def test_nobody_is_guarded_without_a_policy(shop: Any, translate: Translate) -> None:
    """A call passes the proxy once where nothing is asked of it; PERMISSIVE asks for nothing."""
    shop.put("PeerAuthentication", "open", "default", {"mtls": {"mode": "PERMISSIVE"}})
    assert arrivals(translate(shop)) == {}


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("AuthorizationPolicy", DENY),
        ("PeerAuthentication", {"mtls": {"mode": "STRICT"}}),
        ("RequestAuthentication", {"jwtRules": [{"issuer": "me", "jwksUri": "https://keys.example/k"}]}),
    ],
)
def test_what_a_policy_selects_is_guarded(
    shop: Any, translate: Translate, kind: str, spec: dict[str, Any]
) -> None:
    """And nobody else; its plan waits for the listener and for what decides."""
    shop.put(kind, "policy", "default", {"selector": {"matchLabels": {"app": "web"}}, **spec})
    translation = translate(shop)
    assert set(arrivals(translation)) == {"web"}
    (plan,) = [plan for plan in translation.pods.values() if plan.pod.name == "web"]
    assert plan.arrivals in plan.listeners
    slots = translation.snapshot.of(types.EXTENSION)
    assert set(plan.filters) == set(slots)
    assert len(slots) == 8


@pytest.mark.parametrize(
    "target",
    [
        {"kind": "Service", "name": "web"},
        {"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "edge"},
    ],
)
def test_what_a_policy_names_is_guarded(shop: Any, translate: Translate, target: dict[str, Any]) -> None:
    """Pods behind a Service, and those of a Gateway: what its condition and `mesh check` say holds."""
    shop.pod("web", **{"gateway.networking.k8s.io/gateway-name": "edge"})
    shop.put("AuthorizationPolicy", "deny", "default", {**DENY, "targetRefs": [target]})
    assert set(arrivals(translate(shop))) == {"web"}


def test_a_guarded_pod_stays_guarded(shop: Any, translate: Translate) -> None:
    """When its policies go: what arrives is turned already, and all is let in."""
    marked(shop, "web", mesh.POD_GUARDED, mesh.POD_ARRIVALS_TURNED)
    translation = translate(shop)
    assert set(arrivals(translation)) == {"web"}
    empty = m.any_of(m.http_rbac.RBAC())
    for resource in translation.snapshot.of(types.EXTENSION).values():
        assert m.extension.TypedExtensionConfig.FromString(resource.body).typed_config == empty


def test_endpoints_are_dialled_with_certificates_once_they_are_turned(
    shop: Any, translate: Translate
) -> None:
    """Not before: the application would get the handshake."""
    shop.put("AuthorizationPolicy", "deny", "default", DENY)

    def is_mutual() -> bool:
        (assignment,) = [
            m.endpoint.ClusterLoadAssignment.FromString(each.body)
            for name, each in translate(shop).snapshot.of(types.ENDPOINTS).items()
            if name.endswith("web.default.svc.cluster.local")
        ]
        (endpoint,) = assignment.endpoints[0].lb_endpoints
        return "envoy.transport_socket_match" in endpoint.metadata.filter_metadata

    marked(shop, "web", mesh.POD_PROGRAMMED, mesh.POD_GUARDED)
    assert not is_mutual()
    marked(shop, "web", mesh.POD_ARRIVALS_TURNED)
    assert is_mutual()


def test_no_new_pod_opens_its_workload(shop: Any, translate: Translate) -> None:
    """One that runs when the first policy comes does, until it is turned or has been waited for."""
    shop.put("AuthorizationPolicy", "deny", "default", DENY)
    opening, former = Opening(), translate(shop)
    marked(shop, "web", mesh.POD_PROGRAMMED, mesh.POD_GUARDED)
    assert opening.of(shop.world(), former, 1.0) == frozenset()
    shop.pod("web")
    marked(shop, "web", mesh.POD_PROGRAMMED)
    uid = objects.uid(shop.objects["Pod"]["default", "web"])
    assert opening.of(shop.world(), former, 2.0) == {uid}
    marked(shop, "web", mesh.POD_GUARDED)
    assert opening.of(shop.world(), former, 6.9) == {uid}
    assert not opening.has_ended(6.9)
    assert opening.has_ended(7.1)
    assert opening.has_ended(1000.0), "whoever looks late still has all translated anew"
    assert opening.of(shop.world(), former, 7.1) == frozenset()
    assert not opening.has_ended(7.1)
    assert opening.of(shop.world(), former, 1000.0) == frozenset()
    marked(shop, "web", mesh.POD_ARRIVALS_TURNED)
    assert opening.of(shop.world(), former, 1001.0) == frozenset()


def test_nothing_is_asked_while_a_pod_that_runs_is_turned(shop: Any, mesh_config: MeshConfig) -> None:
    """Calls that have no certificates yet are let in as before; all is asked once the last is turned."""
    spec = {"selector": {"matchLabels": {"app": "web"}}, **DENY}
    shop.put("AuthorizationPolicy", "deny", "default", spec)
    uid = objects.uid(shop.objects["Pod"]["default", "web"])
    empty = m.any_of(m.http_rbac.RBAC())

    def are_empty(world: World) -> bool:
        slots = Translator(mesh_config).translate(world).snapshot.of(types.EXTENSION)
        read = m.extension.TypedExtensionConfig.FromString
        return all(read(each.body).typed_config == empty for each in slots.values())

    assert are_empty(dataclasses.replace(shop.world(), opening=frozenset({uid})))
    assert not are_empty(shop.world())


def test_who_joins_a_guarded_workload_does_not_open_it(shop: Any, mesh_config: MeshConfig) -> None:
    """As by taking its labels while it runs: what is in force stays so, for all of them."""
    opening, empty = Opening(), m.any_of(m.http_rbac.RBAC())
    spec = {"selector": {"matchLabels": {"app": "web"}}, **DENY}
    marked(shop, "web", mesh.POD_PROGRAMMED)
    assert opening.of(shop.world(), Translation(), 0.0)
    shop.put("AuthorizationPolicy", "deny", "default", spec)

    def step(former: Translation, now: float) -> Translation:
        world = shop.world()
        closed = opening.closed(world, former)
        world = dataclasses.replace(world, closed=closed, opening=opening.of(world, former, now))
        return Translator(mesh_config).translate(world)

    def is_asked(translation: Translation) -> bool:
        read = m.extension.TypedExtensionConfig.FromString
        slots = translation.snapshot.of(types.EXTENSION).values()
        return any(read(each.body).typed_config != empty for each in slots)

    first = step(Translation(), 1.0)
    second = step(first, 2.0)
    assert not is_asked(first)
    assert not is_asked(second)
    marked(shop, "web", mesh.POD_GUARDED, mesh.POD_ARRIVALS_TURNED)
    turned = step(second, 3.0)
    assert is_asked(turned)
    shop.pod("joins", app="web")
    marked(shop, "joins", mesh.POD_PROGRAMMED)
    joined = step(turned, 4.0)
    assert len(arrivals(joined)) == 2
    assert is_asked(joined)
    assert is_asked(step(joined, 5.0))


def test_a_policy_is_not_in_force_at_a_pod_that_is_not_turned(shop: Any, translate: Translate) -> None:
    """While it runs: whatever the proxy says. Nor is it evaded by one that has not begun."""
    shop.put("AuthorizationPolicy", "deny", "default", {"selector": {"matchLabels": {"app": "web"}}, **DENY})
    shop.put("PeerAuthentication", "open", "elsewhere", {"mtls": {"mode": "STRICT"}})

    def evaded() -> list[str]:
        return [origin.name for origin in securing.evaded(shop.of("Pod"), translate(shop))]

    marked(shop, "web", mesh.SANDBOX_READY, mesh.POD_PROGRAMMED, mesh.POD_GUARDED)
    status = shop.objects["Pod"]["default", "web"]["status"]
    assert {phase: evaded() for phase in ("Pending", "Running") if not status.update(phase=phase)} == {
        "Pending": [],
        "Running": ["deny"],
    }
    marked(shop, "web", mesh.POD_ARRIVALS_TURNED)
    assert evaded() == []


def test_a_policy_is_not_to_blame_for_a_pods_listener(shop: Any, translate: Translate) -> None:
    """A namespace that is gone is no fault of it: else one pod would take it out of force for all."""
    shop.put("AuthorizationPolicy", "deny", "default", DENY)
    for name, resource in translate(shop).snapshot.of(types.LISTENER).items():
        if name.startswith("arrivals|"):
            assert [origin.kind for origin in resource.origins] == ["Pod"]
            assert [origin.kind for origin in resource.carries] == ["AuthorizationPolicy"]


HTTP_ALPN, TCP_ALPN = "'istio-http'", "'istio'"
TAKEN: list[tuple[str, str, str, str]] = [
    ("http", "tls", HTTP_ALPN, "mutual|http"),
    ("http", "tls", TCP_ALPN, "mutual|http"),
    ("http", "tls", "'h2'", "plain|unread"),
    ("http", "raw_buffer", "", "plain|http"),
    ("tcp", "tls", HTTP_ALPN, "mutual|http"),
    ("tcp", "tls", TCP_ALPN, "mutual|tcp"),
    ("tcp", "tls", "'h2'", "plain|tcp"),
    ("tcp", "raw_buffer", "'http/1.1'", "plain|tcp"),
    ("odd", "tls", HTTP_ALPN, "mutual|http"),
    ("odd", "tls", TCP_ALPN, "mutual|unread"),
    ("odd", "tls", "'h2'", "plain|unread"),
    ("odd", "raw_buffer", "'http/1.1'", "plain|http"),
    ("odd", "raw_buffer", "'h2c'", "plain|http"),
    ("odd", "raw_buffer", "", "plain|unread"),
]


@pytest.mark.parametrize("row", TAKEN)
def test_what_is_declared_here_says_how_calls_are_read(
    shop: Any, translate: Translate, row: tuple[str, str, str, str]
) -> None:
    """Whatever their callers take them for: only where bytes are declared nobody asks about requests."""
    declared, transport, words, chain = row
    token = {"issuer": "me", "jwksUri": "https://keys.example/k", "presence": "REQUIRED"}
    shop.put("RequestAuthentication", "token", "default", {"jwtRules": [token]})
    shop.service("web", (declared, 8080), endpoints=[("10.0.0.1", 8080)], pods=["web"])
    shop.objects["Service"]["default", "web"]["spec"]["selector"] = {"app": "web"}
    tree = arrivals(translate(shop))["web"]["filterChainMatcher"]
    call = {"destination_port": "8080", "transport_protocol": transport, "protocol": words}
    assert taken(tree, call) == chain
    shop.put("RequestAuthentication", "token", "default", {"jwtRules": [{**token, "presence": "OPTIONAL"}]})
    tree = arrivals(translate(shop))["web"]["filterChainMatcher"]
    assert taken(tree, call) == chain.replace("unread", "tcp"), "nothing is asked of requests alone"


def taken(matcher: dict[str, Any], call: dict[str, str]) -> str:
    """The chain that a tree of exact matches picks."""
    tree = matcher["matcherTree"]
    picked = tree["exactMatchMap"]["map"].get(call[tree["input"]["name"]], matcher["onNoMatch"])
    return taken(picked["matcher"], call) if "matcher" in picked else picked["action"]["typedConfig"]["value"]


def dialled(translation: Translation, name: str = "PassthroughCluster") -> dict[tuple[str, str], str]:
    """How a cluster dials what is called by its address: by what is read, and by address or place."""
    cluster = m.cluster.Cluster.FromString(translation.snapshot.of(types.CLUSTER)[name].body)
    by_words = cluster.transport_socket_matcher
    listed: dict[tuple[str, str], str] = {}

    def read(words: str, match: m.matcher.Matcher.OnMatch) -> None:
        for place, chosen in match.matcher.matcher_tree.exact_match_map.map.items():
            listed[words, place] = json_format.MessageToDict(chosen)["action"]["typedConfig"]["name"]
        if match.HasField("matcher"):
            read(words, match.matcher.on_no_match)

    read("", by_words.on_no_match)
    for words, match in by_words.matcher_tree.exact_match_map.map.items():
        read(words, match)
    return listed


def test_guarded_pods_are_dialled_with_certificates_by_their_addresses(
    shop: Any, translate: Translate
) -> None:
    """Once they are turned; but for ports that take no certificates, and for bytes where nobody asks who."""
    assert dialled(translate(shop)) == {}
    spec = {"selector": {"matchLabels": {"app": "web"}}, **DENY}
    shop.put("AuthorizationPolicy", "deny", "default", spec)
    marked(shop, "web", mesh.POD_PROGRAMMED, mesh.POD_GUARDED)
    shop.objects["Pod"]["default", "web"]["status"]["podIP"] = "10.0.0.1"
    assert dialled(translate(shop)) == {}
    marked(shop, "web", mesh.POD_ARRIVALS_TURNED)
    assert dialled(translate(shop)) == {("http", "10.0.0.1"): "istio-http|default"}
    peers = {"mtls": {"mode": "STRICT"}, "portLevelMtls": {"8081": {"mode": "DISABLE"}}}
    shop.put("PeerAuthentication", "web", "default", {"selector": spec["selector"], **peers})
    assert dialled(translate(shop)) == {
        ("http", "10.0.0.1:8081"): "plain",
        ("http", "10.0.0.1"): "istio-http|default",
        ("", "10.0.0.1:8081"): "plain",
        ("", "10.0.0.1"): "istio|default",
    }


def test_no_cluster_is_made_anew_while_guarded_pods_stay(shop: Any, mesh_config: MeshConfig) -> None:
    """Whatever else comes and goes: their addresses are told to the proxy when they change."""
    translator = Translator(mesh_config)
    shop.put("PeerAuthentication", "strict", "default", {"mtls": {"mode": "STRICT"}})
    marked(shop, "web", mesh.POD_PROGRAMMED, mesh.POD_GUARDED, mesh.POD_ARRIVALS_TURNED)
    shop.objects["Pod"]["default", "web"]["status"]["podIP"] = "10.0.0.1"

    def cluster() -> Any:
        return translator.translate(shop.world()).snapshot.of(types.CLUSTER)["PassthroughCluster"]

    first = cluster()
    shop.pod("another")
    assert cluster() is first
    shop.drop("Pod", "web")
    assert cluster() is not first


PATHS = [{"to": [{"operation": {"paths": ["/no"]}}]}]
TOKENS = {"jwtRules": [{"issuer": "me", "jwksUri": "https://keys.example/k"}]}
ASKED = """
extensionProviders:
- name: ask
  envoyExtAuthzHttp: {service: web.default.svc.cluster.local, port: 80}
"""


@pytest.mark.parametrize("providers", [["ask"], [f"nobody{number}" for number in range(9)]])
def test_all_that_may_be_asked_of_a_workload_has_room(
    shop: Any, mesh_config: MeshConfig, providers: list[str]
) -> None:
    """Else a namespace's own objects would put those out of force that hold for all namespaces."""
    shop.put("RequestAuthentication", "tokens", "default", TOKENS)
    for namespace, actions in (("istio-system", ("DENY",)), ("default", ("ALLOW", "DENY", "AUDIT"))):
        for action in actions:
            shop.put("AuthorizationPolicy", action.lower(), namespace, {"action": action, "rules": PATHS})
    for name in providers:
        asks = {"action": "CUSTOM", "provider": {"name": name}, "rules": PATHS}
        shop.put("AuthorizationPolicy", name, "default", asks)
    tried = shop.put("AuthorizationPolicy", "tried", "default", asks)
    tried["metadata"]["annotations"] = {"istio.io/dry-run": "true"}
    options = mesh_options.options({"data": {"mesh": ASKED}})
    world = dataclasses.replace(shop.world(), options=options)
    translation = Translator(mesh_config).translate(world)
    slots = translation.snapshot.of(types.EXTENSION).values()
    denying = b"ns[istio-system]-policy[deny]-rule[0]"
    assert sum(denying in slot.body for slot in slots) == len(translation.pods)


def test_a_failure_is_not_the_fault_of_what_holds_for_all(
    shop: Any, mesh_config: MeshConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused is not in force: an object of one namespace must not have another's refused."""
    for namespace in ("istio-system", "default"):
        shop.put("AuthorizationPolicy", "deny", namespace, DENY)
    monkeypatch.setattr(mesh_arrivals, "SLOTS", 0)
    with pytest.raises(registry.Failed) as failed:
        Translator(mesh_config).translate(shop.world())
    assert failed.value.origin.namespace == "default"


def test_a_failure_is_the_fault_of_who_fails_alone(shop: Any, mesh_config: MeshConfig) -> None:
    """However many are together, and wherever it is."""
    for namespace in ("istio-system", "default"):
        shop.put("AuthorizationPolicy", "deny", namespace, DENY)
    wrong = shop.put("AuthorizationPolicy", "wrong", "istio-system", DENY)
    world = shop.world()
    rule = next(each for each in world.of("AuthorizationPolicy") if each.origin.name == "wrong")
    ports = istio.read(type(rule.spec), {"spec": {"rules": [{"to": [{"operation": {"ports": ["x"]}}]}]}})
    listed = [
        dataclasses.replace(rule, spec=ports) if each is rule else each for each in world.of(rule.origin.kind)
    ]
    with pytest.raises(registry.Failed) as failed:
        Translator(mesh_config).translate(
            dataclasses.replace(world, rules={**world.rules, rule.origin.kind: listed})
        )
    assert failed.value.origin.name == objects.name(wrong)
