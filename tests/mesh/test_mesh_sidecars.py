"""What pods under a Sidecar see of the mesh, and what becomes of their calls to all else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from ondol.api.objects import Key
from ondol.mesh import analysis, evaluate
from ondol.mesh.config import MeshConfig
from ondol.mesh.evaluate import Call, Verdict
from ondol.mesh.kinds import KINDS
from ondol.mesh.model.istio import Refused
from ondol.mesh.translate.translator import Translator
from ondol.mesh.translate.world import Translation

Translate = Callable[[Any], Translation]
CLOSED: Final[dict[str, Any]] = {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
WEB: Final = "outbound|80||web.default.svc.cluster.local"
API: Final = "outbound|80||api.other.svc.cluster.local"


@pytest.fixture
def objs(new_objects: Callable[[], Any]) -> Any:
    """A service in each of two namespaces, another port, and a client."""
    objs = new_objects()
    objs.pod("client", tier="front")
    objs.service("web", ip="10.101.0.1", endpoints=[("10.100.0.1", 8080)])
    objs.service("api", namespace="other", ip="10.101.0.2", endpoints=[("10.100.0.2", 8080)])
    objs.service("db", ("tcp-sql", 5432), ip="10.101.0.3", endpoints=[("10.100.0.3", 5432)])
    return objs


def sidecar(objs: Any, *hosts: str, name: str = "scope", namespace: str = "default", **more: Any) -> None:
    egress = {"egress": [{"hosts": list(hosts)}]} if hosts else {}
    objs.put("Sidecar", name, namespace, {**egress, **more})


def verdict(translation: Translation, call: Call) -> Verdict:
    return evaluate.from_pod(translation.snapshot, translation.pods[Key("default", "client")], call)


def goes(translation: Translation, host: str = "", address: str = "10.255.0.1", port: int = 80) -> str:
    """The cluster, or what the proxy answers itself."""
    seen = verdict(translation, Call(address, port, host=host))
    return next(iter(seen.clusters), str(seen.status))


HOSTS: Final = [
    (["./*"], WEB, "PassthroughCluster", "outbound|5432||db.default.svc.cluster.local"),
    (["*/*"], WEB, API, "outbound|5432||db.default.svc.cluster.local"),
    (["~/*"], "PassthroughCluster", "PassthroughCluster", "PassthroughCluster"),
    (["other/*"], "PassthroughCluster", API, "PassthroughCluster"),
    (["./web.default.svc.cluster.local"], WEB, "PassthroughCluster", "PassthroughCluster"),
    (["*/*.other.svc.cluster.local"], "PassthroughCluster", API, "PassthroughCluster"),
]


@pytest.mark.parametrize("row", HOSTS)
def test_a_scope_lets_in_what_it_names(
    objs: Any, translate: Translate, row: tuple[list[str], str, str, str]
) -> None:
    """All else is unknown, by name and by address: it goes where it was going."""
    hosts, web, api, db = row
    sidecar(objs, *hosts)
    translation = translate(objs)
    assert goes(translation, "web") == web
    assert goes(translation, "api.other") == api
    assert goes(translation, address="10.101.0.3", port=5432) == db


def test_what_is_unknown_may_be_refused(objs: Any, translate: Translate) -> None:
    """502 for HTTP, an end for connections; what is registered still goes."""
    sidecar(objs, **CLOSED)
    translation = translate(objs)
    assert goes(translation, "web") == WEB
    assert goes(translation, "outside.example") == "502"
    assert goes(translation, address="198.51.100.1", port=5432) == "BlackHoleCluster"
    assert goes(translation, address="198.51.100.1", port=9999) == "BlackHoleCluster"


def test_pods_of_headless_services_are_registered(objs: Any, translate: Translate) -> None:
    """Their addresses come and go, and are known to a pod that may call nothing else."""
    ports = [{"name": "tcp-sql", "port": 5433}]
    objs.put("Service", "peers", "default", {"clusterIP": "None", "ports": ports})
    sidecar(objs, **CLOSED)
    assert goes(translate(objs), address="10.100.0.7", port=5433) == "BlackHoleCluster"
    objs.endpoints("peers", ("10.100.0.7", 5433), ports=["tcp-sql"])
    assert goes(translate(objs), address="10.100.0.7", port=5433) == "PassthroughCluster"
    assert goes(translate(objs), address="10.100.0.8", port=5433) == "BlackHoleCluster"


def test_a_setting_holds_where_no_sidecar_says_otherwise(objs: Any, mesh_config: MeshConfig) -> None:
    """The whole mesh may be closed, and a namespace opened."""
    translator = Translator(replace(mesh_config, registry_only=True))
    closed = translator.translate(objs.world())
    assert goes(closed, "outside.example") == "502"
    assert closed.pods[Key("default", "client")].tables == ("80|default|closed",)
    sidecar(objs, outboundTrafficPolicy={"mode": "ALLOW_ANY"})
    assert goes(translator.translate(objs.world()), "outside.example") == "PassthroughCluster"


def test_what_is_unknown_may_go_to_a_proxy(objs: Any, translate: Translate) -> None:
    """HTTP and bytes alike."""
    proxy = {"host": "web.default.svc.cluster.local", "port": {"number": 80}}
    sidecar(objs, outboundTrafficPolicy={"mode": "ALLOW_ANY", "egressProxy": proxy})
    translation = translate(objs)
    assert goes(translation, "outside.example") == WEB
    assert goes(translation, address="198.51.100.1", port=9999) == WEB


def test_the_closest_sidecar_holds(objs: Any, translate: Translate) -> None:
    """That of the pod's labels, then its namespace's, then the root's; each alone."""
    sidecar(objs, "other/*", namespace="istio-system", name="root")
    assert (goes(translate(objs), "web"), goes(translate(objs), "api.other")) == ("PassthroughCluster", API)
    sidecar(objs, "./*", name="namespace")
    assert (goes(translate(objs), "web"), goes(translate(objs), "api.other")) == (WEB, "PassthroughCluster")
    sidecar(objs, "~/*", name="pod", workloadSelector={"labels": {"tier": "front"}})
    assert goes(translate(objs), "web") == "PassthroughCluster"


def test_a_listener_with_a_port_is_for_that_port(objs: Any, translate: Translate) -> None:
    """Others are as the listener without one says."""
    by_port = [{"port": {"number": 80, "protocol": "HTTP", "name": "http"}, "hosts": ["other/*"]}]
    objs.put("Sidecar", "scope", "default", {"egress": [*by_port, {"hosts": ["./*"]}]})
    translation = translate(objs)
    assert goes(translation, "web") == "PassthroughCluster"
    assert goes(translation, "api.other") == API
    assert goes(translation, address="10.101.0.3", port=5432) == "outbound|5432||db.default.svc.cluster.local"


def test_rules_for_hosts_that_are_no_services_are_scoped(objs: Any, translate: Translate) -> None:
    """By the namespace of the rule."""
    objs.virtual_service("x", {"hosts": ["x.example"], "http": [{"directResponse": {"status": 418}}]})
    assert goes(translate(objs), "x.example") == "418"
    sidecar(objs, "other/*")
    assert goes(translate(objs), "x.example") == "PassthroughCluster"


def test_other_pods_are_as_they_were(objs: Any, translate: Translate) -> None:
    """A Sidecar for one pod makes nothing anew for those of another namespace."""
    guest = objs.pod("guest", namespace="other")
    before = translate(objs)
    sidecar(objs, "~/*", workloadSelector={"labels": {"tier": "front"}})
    after = translate(objs)
    plan = after.pods[Key("other", guest["metadata"]["name"])]
    assert plan == before.pods[Key("other", "guest")]
    kinds = ("Listener", "RouteConfiguration")
    for type_url in (url for url in after.snapshot.resources if url.endswith(kinds)):
        for name in (plan.listener, *plan.tables):
            assert after.snapshot.of(type_url).get(name) == before.snapshot.of(type_url).get(name)


def test_its_tables_are_its_own(objs: Any, translate: Translate) -> None:
    """So its condition is that of what was made of it."""
    sidecar(objs, "./*")
    translation = translate(objs)
    table = translation.pods[Key("default", "client")].tables[0]
    assert table == "80|default|default/scope"
    type_url = next(url for url in translation.snapshot.resources if url.endswith("RouteConfiguration"))
    origins = translation.snapshot.of(type_url)[table].origins
    assert [origin.name for origin in origins] == ["scope"]


def test_what_cannot_be_meant_is_told(objs: Any, translate: Translate) -> None:
    """A second for the same pods, one for no pods, hosts that nobody has."""
    sidecar(objs, "./nobody.default.svc.cluster.local", name="a")
    sidecar(objs, "./*", name="b")
    sidecar(objs, "./*", name="c", workloadSelector={"labels": {"tier": "front"}})
    sidecar(objs, "./*", name="d", workloadSelector={"labels": {"app": "client"}})
    sidecar(objs, "./*", name="e", workloadSelector={"labels": {"app": "none"}})
    sidecar(objs, "./*", name="r", namespace="istio-system", workloadSelector={"labels": {"a": "b"}})
    listed = analysis.findings(objs.world(), translate(objs))
    assert {(each.origin.name, each.code) for each in listed} == {
        ("a", "KIA1004"),
        ("a", "IST0111"),
        ("b", "KIA0002"),
        ("b", "IST0111"),
        ("c", "IST0110"),
        ("d", "KIA0003"),
        ("d", "IST0110"),
        ("e", "KIA0004"),
        ("e", "IST0101"),
        ("r", "KIA1006"),
        ("r", "KIA0004"),
        ("r", "IST0101"),
    }


MISTAKES: Final[list[tuple[dict[str, Any], str, str]]] = [
    ({}, "Invalid", "empty configuration"),
    ({"egress": [{"hosts": ["web"]}]}, "Invalid", "namespace/dnsName"),
    ({"egress": [{"hosts": ["./*"]}, {"hosts": ["./*"]}]}, "Invalid", "last listener"),
    ({"egress": [{"hosts": ["./*"], "captureMode": "NONE"}]}, "Unsupported", "captureMode"),
    ({"egress": [{"hosts": ["./*"], "bind": "127.0.0.1"}]}, "Unsupported", "bind"),
    ({"ingress": [{"port": {"number": 80}}], **CLOSED}, "Unsupported", "spec.ingress is not supported"),
    (
        {"outboundTrafficPolicy": {"egressProxy": {"host": "a.b", "port": {"number": 80}}}},
        "Invalid",
        "only with ALLOW_ANY",
    ),
    (
        {"outboundTrafficPolicy": {"mode": "ALLOW_ANY", "egressProxy": {"host": "a.b"}}},
        "Invalid",
        "port must be given",
    ),
]


@pytest.mark.parametrize(("spec", "reason", "words"), MISTAKES)
def test_mistakes_are_told_in_words(objs: Any, spec: dict[str, Any], reason: str, words: str) -> None:
    """What Istio refuses, and what is not done here."""
    document = objs.put("Sidecar", "x", "default", spec)
    with pytest.raises(Refused) as refused:
        KINDS["Sidecar"].check(KINDS["Sidecar"].rule(document).spec)
    assert (refused.value.reason, words in str(refused.value)) == (reason, True), str(refused.value)
