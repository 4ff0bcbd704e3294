"""Rules for connections between pods, as pure tables: where they go, for whom, and whom they leave alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ondol.api.objects import Key, Object
from ondol.mesh import analysis, evaluate
from ondol.mesh.evaluate import Call
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.world import Translation
from ondol.mesh.xds import types

ADDRESS = "10.101.0.7"
DB = "db.default.svc.cluster.local"
Translate = Callable[[Any], Translation]


def to(host: str, subset: str = "", weight: int = 0) -> Object:
    return {"destination": {"host": host, **({"subset": subset} if subset else {})}, "weight": weight}


def route(*shares: Object, **match: Any) -> Object:
    return {"route": list(shares), **({"match": [match]} if match else {})}


def database(objs: Any, port: str = "tcp", number: int = 5432) -> None:
    objs.pod("client", team="a")
    objs.pod("client", namespace="other")
    objs.service("db", (port, number), ip=ADDRESS)
    objs.service("backup", (port, number), ip="10.101.0.8")
    subsets = [{"name": each, "labels": {"version": each}} for each in ("v1", "v2")]
    objs.destination_rule("db", {"host": "db", "subsets": subsets})


def goes(translation: Translation, caller: str = "default/client", **call: Any) -> dict[str, int]:
    plan = translation.pods[Key(*caller.split("/"))]
    asked = replace(Call(ADDRESS, 5432), **call)
    clusters = evaluate.from_pod(translation.snapshot, plan, asked).clusters
    short = {name.removesuffix(".default.svc.cluster.local"): weight for name, weight in clusters.items()}
    return {name.removeprefix("outbound|"): weight for name, weight in short.items()}


@pytest.mark.parametrize(
    ("routes", "clusters"),
    [
        ([route(to("db", "v1", 80), to("db", "v2", 20))], {"5432|v1|db": 80, "5432|v2|db": 20}),
        ([route(to("db", "v1", 0), to("db", "v2", 5))], {"5432|v2|db": 1}),
        ([route(to("backup"))], {"5432||backup": 1}),
        ([route(to("backup"), port=5433)], {"5432||db": 1}),
        ([route(to("backup"), port=5433), route(to("db", "v1"))], {"5432|v1|db": 1}),
        ([route(to("backup"), destinationSubnets=["10.101.0.0/24"])], {"5432||backup": 1}),
        ([route(to("backup"), destinationSubnets=["10.102.0.0/24"])], {"5432||db": 1}),
        ([route(to("backup"), sourceLabels={"team": "a"})], {"5432||backup": 1}),
        ([route(to("backup"), sourceLabels={"team": "b"})], {"5432||db": 1}),
        ([route(to("backup"), sourceNamespace="default")], {"5432||backup": 1}),
        ([route(to("backup"), sourceNamespace="other")], {"5432||db": 1}),
        ([route(to("backup"), gateways=["mesh"])], {"5432||backup": 1}),
        ([route(to("backup"), gateways=["own"])], {"5432||db": 1}),
    ],
)
@pytest.mark.parametrize("port", ["tcp", "data"])
def test_the_first_route_that_fits_carries(
    objs: Any, translate: Translate, routes: list[Object], clusters: dict[str, int], port: str
) -> None:
    """Of declared ports, and of undeclared ones but for HTTP; what none fits goes to the service."""
    database(objs, port)
    objs.virtual_service("db", {"hosts": ["db"], "gateways": ["mesh", "own"], "tcp": routes})
    assert goes(translate(objs)) == clusters


def test_callers_of_another_namespace_hear_the_owners(objs: Any, translate: Translate) -> None:
    """A rule of the host's namespace holds for all, one of a caller's for its calls alone."""
    database(objs)
    objs.virtual_service("db", {"hosts": ["db"], "tcp": [route(to("db", "v1"))]})
    objs.virtual_service("db", {"hosts": [DB], "tcp": [route(to(DB, "v2"))]}, "other")
    translation = translate(objs)
    assert goes(translation) == {"5432|v1|db": 1}
    assert goes(translation, "other/client") == {"5432|v2|db": 1}


def test_rules_for_requests_and_for_connections_hold_both(objs: Any, translate: Translate) -> None:
    """One host may have a rule for each: neither takes the other's place."""
    objs.pod("client")
    objs.service("web", ("http", 80), ("tcp", 5432), ip=ADDRESS)
    objs.service("backup", ("http", 80), ("tcp", 5432))
    objs.virtual_service("requests", {"hosts": ["web"], "http": [{"route": [to("backup")]}]})
    objs.virtual_service("bytes", {"hosts": ["web"], "tcp": [route(to("backup"))]})
    translation = translate(objs)
    assert goes(translation) == {"5432||backup": 1}
    assert goes(translation, port=80, host="web") == {"80||backup": 1}
    assert analysis.findings(objs.world(), translation) == []
    objs.drop("VirtualService", "requests")
    assert goes(translate(objs), port=80, host="web") == {"80||web": 1}


def test_a_name_in_tls_chooses(objs: Any, translate: Translate) -> None:
    """By the closest; what asks for none of a rule's names is ended, as in Istio."""
    database(objs, "https", 443)
    names = [(["a.db", "b.db"], "v1"), (["*.c.db", "a.db"], "v2")]
    tls = [route(to("db", subset), sniHosts=hosts) for hosts, subset in names]
    objs.virtual_service("db", {"hosts": ["db", "*.db"], "tls": tls})
    translation = translate(objs)

    def asked(sni: str) -> dict[str, int]:
        return goes(translation, port=443, sni=sni)

    assert asked("a.db") == {"443|v1|db": 1}
    assert asked("x.c.db") == {"443|v2|db": 1}
    assert asked("other.db") == {"BlackHoleCluster": 1}


def test_nobody_else_is_looked_at(objs: Any, translate: Translate) -> None:
    """A rule for TLS adds a listener inside the proxy and a chain; no listener filter of a pod's changes."""
    database(objs, "https", 443)
    objs.service("web")
    before = translate(objs)
    tls = [route(to("db", "v1"), sniHosts=["db"], sourceLabels={"team": "a"})]
    objs.virtual_service("db", {"hosts": ["db"], "tls": tls})
    after = translate(objs)
    caller, other = Key("default", "client"), Key("other", "client")
    inspector = after.pods[caller].inspectors
    assert [name.partition("|")[0] for name in inspector] == ["names"]
    assert after.pods[other].inspectors == ()

    def listener(translation: Translation, key: Key) -> types.Resource:
        return translation.snapshot.of(types.LISTENER)[translation.pods[key].listener]

    assert listener(before, other).version == listener(after, other).version
    first, second = (m.listener.Listener.FromString(listener(each, caller).body) for each in (before, after))
    assert list(first.listener_filters) == list(second.listener_filters)
    assert len(second.filter_chains) == len(first.filter_chains)  # the service's is the way to the inspector
    assert inspector[0] in after.snapshot.of(types.CLUSTER)


@pytest.mark.parametrize(
    ("port", "of", "words"),
    [
        ("http", "tcp", "no port that is declared TCP or undeclared"),
        ("tcp", "tls", "no port that is declared tls or https"),
        ("tcp-headless", "tcp", "is headless"),
        ("tcp", "tcp", ""),
        ("tls", "tls", ""),
    ],
)
def test_rules_that_hold_nowhere_are_told(
    objs: Any, translate: Translate, port: str, of: str, words: str
) -> None:
    """Of a service without a port of their kind, or without an address."""
    objs.pod("client")
    objs.service("db", (port, 5432), ip="None" if "headless" in port else ADDRESS)
    match = {"sniHosts": ["db"]} if of == "tls" else {}
    objs.virtual_service("db", {"hosts": ["db"], of: [route(to("db"), **match)]})
    listed = analysis.findings(objs.world(), translate(objs))
    assert [each.code for each in listed] == (["OND0009"] if words else [])
    assert all(words in each.message for each in listed)


def test_a_pods_change_makes_its_own_listener_alone(objs: Any, translate: Translate) -> None:
    """Labels that rules ask for part pods into few kinds; nobody else's listener is made anew."""
    database(objs)
    objs.pod("another", team="b")
    objs.virtual_service("db", {"hosts": ["db"], "tcp": [route(to("backup"), sourceLabels={"team": "a"})]})
    before = translate(objs)
    objs.pod("another", team="a")
    after = translate(objs)
    changed = {
        key.name
        for key, plan in after.pods.items()
        if after.snapshot.of(types.LISTENER)[plan.listener]
        is not before.snapshot.of(types.LISTENER)[before.pods[key].listener]
    }
    assert changed == {"another"}
    assert goes(after, "default/another") == {"5432||backup": 1}
