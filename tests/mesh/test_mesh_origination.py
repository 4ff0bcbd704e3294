"""How clusters speak to services: Secrets of DestinationRules, guarded endpoints, bytes by chosen callers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from google.protobuf import json_format
from tests.mesh.envoy_filters import ROOT, put, routes
from tests.mesh.test_mesh_gateways import holding, https, to_web, translated
from tests.mesh.test_mesh_guards import DENY, marked

from ondol.api.objects import Key
from ondol.contracts import mesh
from ondol.mesh import analysis
from ondol.mesh.config import MeshConfig
from ondol.mesh.kinds import KINDS
from ondol.mesh.model import istio
from ondol.mesh.translate import messages as m
from ondol.mesh.translate import registry
from ondol.mesh.translate.credentials import Authorities, Certificate, Content, Credentials
from ondol.mesh.translate.translator import Translator
from ondol.mesh.translate.world import Translation
from ondol.mesh.xds import types

Translate = Callable[[Any], Translation]
WEB = "outbound|80||web.default.svc.cluster.local"
PAIR = Certificate("default/own", "1", b"CHAIN", b"PRIVATE")
TRUST = Authorities("default/own", "1", b"CA")
ONLY_TRUST = Content(None, "it has no tls.crt", TRUST, names_authorities=True)
BROKEN = Content(PAIR, no_authorities="not PEM", names_authorities=True)
FORMER = Content(PAIR, "tls.key holds no key", TRUST, names_authorities=True)
OWN, BESIDE = "credential|default/own", Key("default", "own-cacert")
SYSTEM = "/etc/ssl/certs/ca-certificates.crt"


def message(translation: Translation, url: str, name: str) -> dict[str, Any]:
    of: dict[str, Any] = {types.CLUSTER: m.cluster.Cluster, types.ENDPOINTS: m.endpoint.ClusterLoadAssignment}
    of |= {types.SECRET: m.tls_secret.Secret, types.LISTENER: m.listener.Listener}
    body = translation.snapshot.of(url)[name].body
    document: dict[str, Any] = json_format.MessageToDict(of[url].FromString(body))
    return document


@pytest.mark.parametrize(
    ("mode", "contents", "expected"),
    [
        ("MUTUAL", {}, (set(), {"IST0101"})),
        ("SIMPLE", {}, (set(), {"IST0101"})),
        ("MUTUAL", {"own": Content(PAIR)}, ({OWN, f"{OWN}|ca"}, set())),
        ("SIMPLE", {"own": ONLY_TRUST}, ({f"{OWN}|ca"}, set())),
        ("MUTUAL", {"own": ONLY_TRUST}, ({f"{OWN}|ca"}, {"IST0161"})),
        ("SIMPLE", {"own-cacert": ONLY_TRUST}, ({f"{OWN}|ca"}, set())),
        ("MUTUAL", {"own-cacert": ONLY_TRUST}, ({f"{OWN}|ca"}, {"IST0101"})),
        ("MUTUAL", {"own": BROKEN}, ({OWN}, {"IST0161"})),
        ("MUTUAL", {"own": FORMER}, ({OWN, f"{OWN}|ca"}, {"IST0161"})),
    ],
)
def test_a_secret_gives_what_it_holds(
    objs: Any,
    mesh_config: MeshConfig,
    mode: str,
    contents: Mapping[str, Content],
    expected: tuple[set[str], set[str]],
) -> None:
    """A certificate, whom to trust, or both; what is not there is told, and the proxy refuses without it."""
    objs.service("web", endpoints=[("10.100.0.1", 80)])
    tls = {"mode": mode, "credentialName": "own"}
    objs.destination_rule("web", {"host": "web", "trafficPolicy": {"tls": tls}})
    stored = {Key("default", name): content for name, content in contents.items()}
    world, translation = translated(objs, mesh_config, stored)
    codes = {each.code for each in analysis.findings(world, translation)}
    assert (set(translation.snapshot.of(types.SECRET)), codes) == expected


def test_whom_to_trust_stands_beside_or_is_the_systems(objs: Any, mesh_config: MeshConfig) -> None:
    """`-cacert` comes before the certificate's own Secret; without any the machine's authorities hold."""
    objs.service("web", endpoints=[("10.100.0.1", 80)])
    objs.destination_rule(
        "web", {"host": "web", "trafficPolicy": {"tls": {"mode": "MUTUAL", "credentialName": "own"}}}
    )
    other = Content(authorities=Authorities("default/own-cacert", "2", b"OTHER"), names_authorities=True)
    own = Key("default", "own")
    both = Content(PAIR, "", TRUST, "", names_authorities=True)
    for contents, expected in (
        ({own: both}, {"inlineBytes": "Q0E="}),
        (
            {own: both, BESIDE: other},
            {"inlineBytes": "T1RIRVI="},
        ),
        ({own: Content(PAIR)}, {"filename": SYSTEM}),
    ):
        _, translation = translated(objs, mesh_config, contents)
        trusted = message(translation, types.SECRET, f"{OWN}|ca")["validationContext"]["trustedCa"]
        assert trusted == expected


def test_a_new_certificate_changes_nothing_else(objs: Any, mesh_config: MeshConfig) -> None:
    """The cluster names its Secret; a rotation is one resource."""
    objs.service("web", endpoints=[("10.100.0.1", 80)])
    tls = {"mode": "MUTUAL", "credentialName": "own"}
    objs.destination_rule("web", {"host": "web", "trafficPolicy": {"tls": tls}})
    translator = Translator(mesh_config)

    def with_version(version: str) -> Translation:
        contents = {Key("default", "own"): Content(dataclasses.replace(PAIR, version=version))}
        return translator.translate(dataclasses.replace(objs.world(), credentials=Credentials(contents)))

    before, after = with_version("1").snapshot, with_version("2").snapshot
    changed = [
        name
        for url in types.MAKE_ORDER
        for name, each in after.of(url).items()
        if before.of(url)[name] != each
    ]
    assert changed == [OWN]


# Guarded endpoints


@pytest.fixture
def guarded(objs: Any) -> Any:
    objs.pod("front")
    objs.pod("web")
    objs.service("web", endpoints=[("10.0.0.1", 80)], pods=["web"])
    objs.put("AuthorizationPolicy", "deny", "default", DENY)
    marked(objs, "web", mesh.POD_PROGRAMMED, mesh.POD_GUARDED, mesh.POD_ARRIVALS_TURNED)
    return objs


@pytest.mark.parametrize(
    ("policy", "is_mutual"),
    [
        ({"retryBudget": {}}, True),
        ({"tls": {"mode": "ISTIO_MUTUAL"}}, True),
        ({"tls": {"mode": "DISABLE"}}, False),
        ({"tls": {"mode": "SIMPLE"}}, False),
        ({"tls": {"mode": "MUTUAL", "credentialName": "own"}}, False),
        ({"proxyProtocol": {"version": "V2"}}, False),
    ],
)
def test_guarded_endpoints_are_dialled_as_rules_say(
    guarded: Any, translate: Translate, policy: dict[str, Any], is_mutual: bool
) -> None:
    """With the mesh's certificates, unless a rule says otherwise."""
    guarded.destination_rule("web", {"host": "web", "trafficPolicy": policy})
    cluster = message(translate(guarded), types.CLUSTER, WEB)
    assert ("transportSocketMatches" in cluster) is is_mutual


def test_guarded_endpoints_have_places_as_others_have(guarded: Any, translate: Translate) -> None:
    """Where calls prefer what is near, each endpoint still says how it is dialled."""
    for pod, zone in (("front", "z1"), ("web", "z2")):
        document = guarded.objects["Pod"]["default", pod]
        labels = document["metadata"]["labels"] | {"istio-locality": f"r.{zone}"}
        placed = document | {"metadata": document["metadata"] | {"labels": labels}}
        guarded.objects["Pod"]["default", pod] = placed
    policy: dict[str, Any] = {"outlierDetection": {}}
    guarded.destination_rule("web", {"host": "web", "trafficPolicy": policy})
    translation = translate(guarded)
    (group,) = message(translation, types.ENDPOINTS, f"{WEB}|@r/z1/")["endpoints"]
    assert group["locality"] == {"region": "r", "zone": "z2"}
    (endpoint,) = group["lbEndpoints"]
    assert endpoint["metadata"]["filterMetadata"]["envoy.transport_socket_match"] == {"tlsMode": "istio"}


# Bytes by a rule


def ways(translation: Translation, pod: str) -> dict[str, m.tcp_proxy.TcpProxy]:
    """What carries bytes, by chain."""
    name = translation.pods[Key("default", pod)].listener
    listener = m.listener.Listener.FromString(translation.snapshot.of(types.LISTENER)[name].body)
    carried = {}
    for chain in listener.filter_chains:
        carrier = m.tcp_proxy.TcpProxy()
        if chain.filters[-1].typed_config.Unpack(carrier):
            carried[chain.name] = carrier
    return carried


@pytest.fixture
def bytes_of(objs: Any) -> Any:
    for pod in ("client", "old"):
        objs.pod(pod)
    for name in ("db", "proxy"):
        objs.service(name, ("tcp", 5432), endpoints=[("10.100.0.2", 5432)])
    return objs


def test_a_rule_of_bytes_goes_as_the_caller_is_told_apart(bytes_of: Any, translate: Translate) -> None:
    """Its destination is the cluster of the caller, and has that one's tunnel."""
    to = [{"destination": {"host": "proxy"}}]
    bytes_of.virtual_service("db", {"hosts": ["db"], "tcp": [{"route": to}]})
    tunnel = {"targetHost": "bank.example", "targetPort": 443}
    selector = {"workloadSelector": {"matchLabels": {"app": "old"}}}
    bytes_of.destination_rule("proxy", {"host": "proxy", "trafficPolicy": {"tunnel": tunnel}, **selector})
    translation = translate(bytes_of)
    chain = "default/db|tcp-0|5432"
    plain, chosen = (ways(translation, pod)[chain] for pod in ("client", "old"))
    assert plain.cluster == "outbound|5432||proxy.default.svc.cluster.local"
    assert not plain.HasField("tunneling_config")
    assert chosen.cluster == f"{plain.cluster}|default~proxy"
    assert chosen.tunneling_config.hostname == "bank.example:443"


def test_shares_of_bytes_have_one_tunnel_or_none(bytes_of: Any, translate: Translate) -> None:
    """The proxy has one for a chain: some by it and some not would be none that is asked for."""
    to = [{"destination": {"host": name}, "weight": 50} for name in ("db", "proxy")]
    bytes_of.virtual_service("db", {"hosts": ["db"], "tcp": [{"route": to}]})
    tunnel = {"targetHost": "bank.example", "targetPort": 443}
    bytes_of.destination_rule("proxy", {"host": "proxy", "trafficPolicy": {"tunnel": tunnel}})
    with pytest.raises(registry.Failed, match="one tunnel or by none"):
        translate(bytes_of)
    bytes_of.destination_rule("db", {"host": "db", "trafficPolicy": {"tunnel": tunnel}})
    assert ways(translate(bytes_of), "client")["default/db|tcp-0|5432"].tunneling_config.hostname


@pytest.mark.parametrize("field", ["tcp", "tls"])
def test_only_requests_are_delegated(field: str) -> None:
    """Connections are for hosts, and what is delegated to has none."""
    kind = KINDS["VirtualService"]
    match = {"match": [{"port": 1, **({"sniHosts": ["a.b"]} if field == "tls" else {})}]}
    spec = {field: [{**match, "route": [{"destination": {"host": "a"}}]}]}
    with pytest.raises(istio.Refused, match="http routes alone"):
        kind.check(istio.read(kind.spec, {"spec": spec}))


# Filters at the ingress


def test_a_filter_finds_the_table_of_an_https_server(objs: Any, mesh_config: MeshConfig) -> None:
    """By the Gateway's name: another server's at the same port is left as it is."""
    objs.service("web", endpoints=[("10.100.0.1", 80)])
    for name in ("one", "two"):
        host = f"{name}.example"
        selector = {"selector": {"istio": "ingressgateway"}}
        objs.put("Gateway", name, "default", {**selector, "servers": [https(host)]})
        objs.virtual_service(name, to_web(host, by=f"default/{name}"))
    value = {"response_headers_to_add": [{"header": {"key": "x-by", "value": "filter"}}]}
    put(objs, routes("ROUTE_CONFIGURATION", value, gateway="default/one", portNumber=443), namespace=ROOT)
    _, translation = translated(objs, mesh_config, holding("default/shop"))
    marked_ = {
        name: bool(m.route.RouteConfiguration.FromString(each.body).response_headers_to_add)
        for name, each in translation.snapshot.of(types.ROUTES).items()
        if name.startswith("ingress-tls|")
    }
    assert marked_ == {"ingress-tls|default/one|https": True, "ingress-tls|default/two|https": False}
