"""A translator that saw every step of a world says what one says that sees only the last."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondol.api.objects import Key
from ondol.mesh.analysis import Analyst
from ondol.mesh.config import MeshConfig
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.translate import changes, hosts, registry
from ondol.mesh.translate.translator import Translator
from ondol.mesh.translate.world import World
from ondol.mesh.xds import types

CONFIG = MeshConfig(Path("/run/netns"), "unix:/xds", "unix:/admin", Path("/envoy.json"))
DOMAIN = "cluster.local"
NAMESPACES = ("default", "other", "istio-system")
SERVICES = ("a", "b")
EXACT = (
    *SERVICES,
    *(f"{name}.other" for name in SERVICES),
    *(f"{name}.default.svc.cluster.local" for name in SERVICES),
    "a.example",
)
WILDCARDS = ("*.default.svc.cluster.local", "*.example")
HOSTS = (*EXACT, *WILDCARDS)
GATEWAYS = ("mesh", "ondol-system/ingress", "mine", "gone")

spaces = st.sampled_from((*NAMESPACES[:2], *NAMESPACES))
names = st.sampled_from(SERVICES)
pods = st.sampled_from(("p", "q"))
versions = st.sampled_from(("1", "2"))
export_to = st.sampled_from(((), (), (".",), ("other",), ("*",)))
destination = st.fixed_dictionaries(
    {"host": st.sampled_from(EXACT[:-1])},
    optional={"subset": versions, "port": st.just({"number": 80})},
)
route = st.fixed_dictionaries(
    {"route": destination.map(lambda to: [{"destination": to}])},
    optional={"match": st.sampled_from(([{"sourceNamespace": "other"}], [{"uri": {"prefix": "/x"}}]))},
)
virtual_service = st.fixed_dictionaries(
    {
        "hosts": st.one_of(
            st.lists(st.sampled_from(EXACT), min_size=1, max_size=2, unique=True),
            st.sampled_from(WILDCARDS).map(lambda host: [host]),
        ),
        "http": st.lists(route, min_size=1, max_size=2),
        "exportTo": export_to,
    },
    optional={"gateways": st.lists(st.sampled_from(GATEWAYS), min_size=1, max_size=3, unique=True)},
)
destination_rule = st.fixed_dictionaries(
    {
        "host": st.sampled_from(HOSTS),
        "subsets": st.just([{"name": each, "labels": {"version": each}} for each in ("1", "2")]),
        "exportTo": export_to,
    },
    optional={"trafficPolicy": st.just({"loadBalancer": {"consistentHash": {"useSourceIp": True}}})},
)
ports = st.sampled_from(
    ((("http", 80),), (("http", 8080),), (("tcp", 80),), (("", 80),), (("http", 80), ("tcp-x", 81)))
)
rules_from = st.sampled_from(("", "", "other", "*"))
step = st.one_of(
    st.tuples(st.just("service"), names, spaces, ports, rules_from),
    st.tuples(st.just("endpoints"), names, spaces, st.lists(pods, unique=True)),
    st.tuples(st.just("pod"), pods, spaces, versions),
    st.tuples(st.just("VirtualService"), names, spaces, virtual_service),
    st.tuples(st.just("DestinationRule"), names, spaces, destination_rule),
    st.tuples(st.just("Gateway"), st.just("mine"), spaces, st.sampled_from(("*", "*/a.example", "./*"))),
    st.tuples(st.just("drop"), st.integers(0, 40)),
)


def take(objs: Any, step: tuple[Any, ...]) -> None:
    """Change the world as the step says."""
    kind, *rest = step
    if kind == "drop":
        everything = [
            (kind, *key) for kind, each in objs.objects.items() if kind != "Namespace" for key in each
        ]
        if everything:
            kind, namespace, name = everything[rest[0] % len(everything)]
            objs.drop(kind, name, namespace)
        return
    name, namespace, *more = rest
    if kind == "service":
        address = f"10.101.{NAMESPACES.index(namespace)}.{SERVICES.index(name) + 1}"
        objs.service(name, *more[0], namespace=namespace, ip=address)
        objs.objects["Service"][namespace, name]["metadata"]["annotations"] = {
            "mesh.ondol.dev/rules-from": more[1]
        }
    elif kind == "endpoints":
        addresses = [(f"10.100.0.{ord(pod)}", 8080) for pod in more[0]]
        objs.endpoints(name, *addresses, namespace=namespace, pods=more[0])
    elif kind == "pod":
        objs.pod(name, namespace, version=more[0])
    elif kind == "Gateway":
        objs.gateway(name, namespace, hosts=[more[0]])
    else:
        objs.put(kind, name, namespace, more[0])


class Mesh:
    """A translator and who judges what it made, as the controller has them."""

    def __init__(self) -> None:
        self.translator = Translator(CONFIG)
        self.analyst = Analyst()

    def look(self, world: World) -> tuple[Any, ...]:
        try:
            translation = self.translator.translate(world)
        except registry.Failed as failed:
            return (failed.origin, str(failed))
        dependencies = Dependencies(world, translation)
        missing = self.analyst.missing("VirtualService", world.virtual_services, dependencies)
        findings = self.analyst.findings(dependencies)
        return (translation.snapshot.resources, translation.pods, missing, findings)


def town(objs: Any) -> None:
    """Two namespaces in which everything refers to something."""
    objs.gateway()
    for name, namespace in itertools.product(SERVICES, NAMESPACES[:2]):
        take(objs, ("service", name, namespace, (("http", 80),), ""))
        take(objs, ("endpoints", name, namespace, ["p"]))
        take(objs, ("pod", "p", namespace, "1"))
    to = {"destination": {"host": "b", "subset": "1"}}
    objs.virtual_service("a", {"hosts": ["a", "a.example"], "http": [{"route": [to]}]})
    gateways = ["ondol-system/ingress"]
    objs.virtual_service(
        "b",
        {"hosts": ["b.example"], "gateways": gateways, "http": [{"route": [{"destination": {"host": "b"}}]}]},
    )
    subsets = [{"name": each, "labels": {"version": each}} for each in ("1", "2")]
    objs.destination_rule("b", {"host": "b", "subsets": subsets})


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(st.tuples(step, st.booleans()), min_size=1, max_size=10))
def test_a_changed_world_is_translated_like_a_new_one(
    new_objects: Callable[[], Any], steps: list[tuple[tuple[Any, ...], bool]]
) -> None:
    """Snapshot, origins, plans and findings: whatever came before, and however much came at once."""
    objs = new_objects()
    town(objs)
    mesh = Mesh()
    mesh.look(objs.world())
    for index, (each, is_seen) in enumerate(steps):
        take(objs, each)
        if is_seen or index == len(steps) - 1:
            world = objs.world()
            assert mesh.look(world) == Mesh().look(world)


@given(st.sampled_from(HOSTS), spaces, st.sets(st.sampled_from(HOSTS)))
def test_a_host_is_completed_to_a_name_that_was_foreseen(
    host: str, namespace: str, foreseen: set[str]
) -> None:
    """What a rule mentions is all that can be meant by it."""
    assert hosts.qualified(host, namespace, DOMAIN, foreseen) in hosts.completions(host, namespace, DOMAIN)


def test_what_one_change_costs_does_not_grow_with_the_world(new_objects: Callable[[], Any]) -> None:
    """A new service with its rule: as many values are made among thirty as among three."""

    def add(objs: Any, name: str) -> None:
        objs.service(name, endpoints=[("10.100.0.1", 8080)])
        gateways = ["mesh", "ondol-system/ingress"]
        route = [{"destination": {"host": name}}]
        hosts = [name, f"{name}.example"]
        objs.virtual_service(name, {"hosts": hosts, "gateways": gateways, "http": [{"route": route}]})

    def translated_values(mesh: Mesh) -> int:
        return mesh.translator.cache.misses + mesh.analyst.memo.misses

    def cost(count: int) -> int:
        objs, mesh = new_objects(), Mesh()
        objs.gateway()
        objs.pod("client")
        for index in range(count):
            add(objs, f"s{index}")
        mesh.look(objs.world())
        before = translated_values(mesh)
        add(objs, "late")
        mesh.look(objs.world())
        return translated_values(mesh) - before

    assert cost(30) == cost(3)


def test_a_new_service_concerns_only_who_mentions_it(objs: Any) -> None:
    """Everything else is taken over as it was made."""
    for name in ("a", "b"):
        objs.service(name)
        objs.virtual_service(name, {"hosts": [name], "http": [{"route": [{"destination": {"host": "c"}}]}]})
    objs.virtual_service("d", {"hosts": ["d"], "http": [{"route": [{"destination": {"host": "a"}}]}]})
    world = objs.world()
    named = [(rule, changes.names(rule, DOMAIN)) for rule in world.virtual_services]
    before = Translator(CONFIG).translate(world).registry
    objs.service("c")
    added = Translator(CONFIG).translate(objs.world()).registry.services[f"c.default.svc.{DOMAIN}"]
    after = registry.Registry(DOMAIN, services={**before.services, added.host: added})
    concerned = changes.concerned((before, after), (named, named))
    assert concerned is not None
    assert {origin.name for origin in concerned.rules} == {"a", "b"}
    assert concerned.hosts == {f"{name}.default.svc.{DOMAIN}" for name in "abc"}
    wildcard = registry.Rule(named[0][0].origin._replace(version="2"), "", named[0][0].spec)
    assert changes.concerned((before, before), (named, [(wildcard, ("*.example",))])) is None


def test_who_governs_is_asked_of_what_is_new(objs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods and endpoints: of no service; a new service: of it alone; a new DestinationRule: of all."""
    names: list[str] = []
    policy = registry.Registry.policy

    def counted(self: registry.Registry, host: str, *caller: str) -> registry.Policy:
        names.append(host)
        return policy(self, host, *caller)

    monkeypatch.setattr(registry.Registry, "policy", counted)
    objs.pod("client")
    for name in ("web", "db"):
        objs.service(name, endpoints=[("10.100.0.1", 8080)])
    objs.destination_rule("web", {"host": "web", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]})
    translator = Translator(CONFIG)
    translator.translate(objs.world())
    names.clear()
    objs.endpoints("web", ("10.100.0.1", 8080), ("10.100.0.2", 8080))
    objs.pod("new")
    translator.translate(objs.world())
    assert names == []
    objs.service("late")
    translator.translate(objs.world())
    assert "late.default.svc.cluster.local" in names
    assert "web.default.svc.cluster.local" not in names
    objs.destination_rule("db", {"host": "db", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]})
    translator.translate(objs.world())
    assert {"db.default.svc.cluster.local", "web.default.svc.cluster.local"} <= set(names)


def test_a_rule_comes_to_govern_a_service_that_is_new(objs: Any) -> None:
    """`web.other` in a rule is a name of the outside until there is such a service."""
    objs.service("first", namespace="other", endpoints=[("10.100.0.1", 8080)])
    subsets = [{"name": "v1", "labels": {"version": "v1"}}]
    objs.destination_rule("web", {"host": "web.other", "subsets": subsets})
    translator = Translator(CONFIG)
    translator.translate(objs.world())
    for name in ("second", "web"):
        objs.service(name, namespace="other")
        after = translator.translate(objs.world()).snapshot
        assert after == Translator(CONFIG).translate(objs.world()).snapshot
    assert any("|v1|web.other.svc.cluster.local" in name for name in after.of(types.CLUSTER))


def test_callers_are_where_their_nodes_are_now(objs: Any) -> None:
    """Though the places together stay the same, as where two nodes change theirs with each other."""

    def nodes(*zones: str) -> None:
        for name, zone in zip("mn", zones, strict=True):
            region = {"topology.kubernetes.io/region": "here", "topology.kubernetes.io/zone": zone}
            objs.put("Node", name, "", {}, labels=region)

    for name in "mn":
        objs.pod(f"on-{name}")["spec"]["nodeName"] = name
    objs.service("web", endpoints=[("10.0.0.1", 80)])
    near = {"localityLbSetting": {"enabled": True, "failoverPriority": ["topology.kubernetes.io/zone"]}}
    policy = {"loadBalancer": near, "outlierDetection": {"consecutive5xxErrors": 3}}
    objs.destination_rule("web", {"host": "web", "trafficPolicy": policy})
    translator = Translator(CONFIG)
    for zones in (("east", "west"), ("west", "east")):
        nodes(*zones)
        after = translator.translate(objs.world())
        (table,) = after.pods[Key("default", "on-m")].tables
        assert zones[0] in table
        assert after.snapshot == Translator(CONFIG).translate(objs.world()).snapshot


def test_an_era_that_fails_leaves_nothing_to_the_next(objs: Any) -> None:
    """What was made of a service before a rule failed is not taken for what the service before it gives."""

    def at_ingress(name: str) -> None:
        gateways, route = ["ondol-system/ingress"], {"route": [{"destination": {"host": "web"}}]}
        objs.virtual_service(name, {"hosts": [f"{name}.example"], "gateways": gateways, "http": [route]})

    objs.service("web", ("http", 8080))
    objs.gateway()
    at_ingress("good")
    translator, before = Translator(CONFIG), objs.world()
    translator.translate(before)
    objs.service("web", ("http", 8080), ("http-more", 8081))
    at_ingress("bad")
    failing = objs.world()
    good, bad = failing.virtual_services
    bad = dataclasses.replace(bad, spec=_unreadable(bad.spec))
    rules = {**failing.rules, "VirtualService": [good, bad]}
    with pytest.raises(registry.Failed):
        translator.translate(dataclasses.replace(failing, rules=rules))
    objs.service("elsewhere", namespace="other")
    after = dataclasses.replace(before, services=[*before.services, objs.of("Service")[-1]])
    assert translator.translate(after).snapshot == Translator(CONFIG).translate(after).snapshot


def _unreadable(spec: Any) -> Any:
    """A timeout that validation would have refused."""
    (route,) = spec.http
    return msgspec.structs.replace(spec, http=(msgspec.structs.replace(route, timeout="soon"),))
