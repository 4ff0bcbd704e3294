"""Gateways beyond plain HTTP: whose Secrets and names they have, what a port speaks, what is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from ondol.api.objects import Key, Object
from ondol.mesh import analysis, secrets
from ondol.mesh.config import MeshConfig
from ondol.mesh.model import istio
from ondol.mesh.translate import credentials
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.credentials import Authorities, Certificate, Content, Credentials
from ondol.mesh.translate.translator import Translator
from ondol.mesh.translate.world import Translation, World
from ondol.mesh.xds import types


def holding(*names: str, **more: Any) -> dict[Key, Content]:
    """Secrets `namespace/name`, each with a certificate and authorities."""
    return {
        Key(*name.split("/")): Content(
            Certificate(name, "1", b"CHAIN", b"PRIVATE"), authorities=Authorities(name, "1", b"CA"), **more
        )
        for name in names
    }


def https(*hosts: str, name: str = "https", number: int = 443, **tls: Any) -> dict[str, Any]:
    settings = {"mode": "SIMPLE", "credentialName": "shop"} | tls
    return {
        "port": {"number": number, "name": name, "protocol": "HTTPS"},
        "hosts": list(hosts) or ["shop.example"],
        "tls": settings,
    }


def to_web(*hosts: str, by: str, **more: Any) -> Object:
    route = [{"destination": {"host": "web.default.svc.cluster.local", "port": {"number": 80}}}]
    return {"hosts": list(hosts), "gateways": [by], **(more or {"http": [{"route": route}]})}


def translated(objs: Any, config: MeshConfig, contents: Mapping[Key, Content]) -> tuple[World, Translation]:
    world = dataclasses.replace(objs.world(), credentials=Credentials(contents))
    return world, Translator(config).translate(world)


def names(translation: Translation, listener: str = "ingress-tls") -> dict[str, list[str]]:
    """The names of each chain of a listener."""
    body = translation.snapshot.of(types.LISTENER)[listener].body
    chains = m.listener.Listener.FromString(body).filter_chains
    return {chain.name: sorted(chain.filter_chain_match.server_names) for chain in chains}


def leads(translation: Translation, listener: str = "ingress-tls") -> set[str]:
    """The clusters to which the chains of a listener carry bytes."""
    listed = set()
    for chain in m.listener.Listener.FromString(
        translation.snapshot.of(types.LISTENER)[listener].body
    ).filter_chains:
        proxy = m.tcp_proxy.TcpProxy()
        if chain.filters[-1].typed_config.Unpack(proxy):
            listed |= {each.name for each in proxy.weighted_clusters.clusters} or {proxy.cluster}
    return listed


def codes_of(world: World, translation: Translation) -> list[tuple[str, str]]:
    return [(each.code, each.message) for each in analysis.findings(world, translation)]


@pytest.mark.parametrize(
    ("contents", "shown", "code"),
    [
        (holding("default/shop"), "default/shop", ""),
        (holding("istio-system/shop"), "istio-system/shop", ""),
        (holding("default/shop", "istio-system/shop"), "default/shop", ""),
        (holding("other/shop", "ondol-system/shop"), "", "IST0101"),
        (holding("istio-system/shop", users=frozenset({"default", "b"})), "istio-system/shop", ""),
        (holding("istio-system/shop", users=frozenset({"b"})), "", "IST0101"),
        (holding("default/shop", users=frozenset()), "default/shop", ""),
        ({Key("default", "shop"): Content(None, "it has no tls.key")}, "", "IST0161"),
        (
            {Key("default", "shop"): Content(None, "no"), **holding("istio-system/shop")},
            "",
            "IST0161",
        ),
    ],
)
def test_whose_secrets_a_gateway_uses(contents: dict[Key, Content], shown: str, code: str) -> None:
    """Its own namespace's, then those that istio-system has for it; another tenant's never."""
    tls = istio.ServerTLSSettings(mode="SIMPLE", credential_name="shop")
    resolved = credentials.resolved(tls, "default", Credentials(contents))
    assert [each.name for each in resolved.certificates] == ([shown] if shown else [])
    assert [each.code for each in resolved.problems] == ([code] if code else [])
    assert resolved.is_served is bool(shown)


@pytest.mark.parametrize(
    ("settings", "contents", "trusted"),
    [
        ({}, holding("default/shop"), "default/shop"),
        ({}, holding("default/shop", "default/shop-cacert"), "default/shop-cacert"),
        ({}, holding("default/shop", "istio-system/shop-cacert"), "default/shop"),
        ({}, holding("istio-system/shop", "istio-system/shop-cacert"), "istio-system/shop-cacert"),
        ({"ca_cert_credential_name": "ca"}, holding("default/shop", "default/ca"), "default/ca"),
        ({"ca_cert_credential_name": "ca"}, holding("default/shop", "other/ca"), ""),
    ],
)
def test_whose_authorities_clients_are_known_by(
    settings: dict[str, Any], contents: dict[Key, Content], trusted: str
) -> None:
    """Those that are named, else those of `NAME-cacert` beside the certificate, else its own."""
    tls = istio.ServerTLSSettings(mode="MUTUAL", credential_name="shop", **settings)
    resolved = credentials.resolved(tls, "default", Credentials(contents))
    assert (resolved.authorities.name if resolved.authorities else "") == trusted
    assert resolved.is_served is bool(trusted)


def test_a_rotation_changes_secrets_alone(objs: Any, mesh_config: MeshConfig) -> None:
    """Keys and certificates stand in no listener, and those of others' Secrets in no resource."""
    objs.service("web")
    objs.gateway("shop", "default", **https(mode="MUTUAL"))
    objs.virtual_service("shop", to_web("shop.example", by="shop"))
    _, before = translated(objs, mesh_config, holding("default/shop", "default/unused"))
    renewed = Content(
        Certificate("default/shop", "2", b"NEW", b"PRIVATE2"),
        authorities=Authorities("default/shop", "2", b"CA2", b"CRL"),
    )
    _, after = translated(objs, mesh_config, {Key("default", "shop"): renewed})
    for type_url in (types.LISTENER, types.ROUTES, types.CLUSTER):
        first, second = (each.snapshot.of(type_url) for each in (before, after))
        assert {n: r.version for n, r in first.items()} == {n: r.version for n, r in second.items()}
    listed = after.snapshot.of(types.SECRET)
    assert {name: each.version for name, each in listed.items()} == {
        "certificate|default/shop": "2",
        "authorities|default/shop": "2",
    }
    assert all(b"PRIVATE" not in each.body for each in after.snapshot.of(types.LISTENER).values())
    assert set(before.snapshot.of(types.SECRET)) == set(listed)


def test_what_lacks_a_secret_is_ended(objs: Any, mesh_config: MeshConfig) -> None:
    """Its names lead nowhere, rather than to another's wildcard, and it has no table."""
    objs.service("web")
    objs.gateway("all", "default", **https("*.example", credentialName="all"))
    objs.gateway("shop", "default", **https("shop.example"))
    objs.virtual_service("web", to_web("*.example", by="all"))
    world, translation = translated(objs, mesh_config, holding("default/all"))
    assert names(translation) == {
        "ingress-tls|default/all|https": ["*.example"],
        "ingress-tls|default/shop|https|closed": ["shop.example"],
    }
    assert leads(translation) == {"BlackHoleCluster"}
    assert set(translation.snapshot.of(types.ROUTES)) == {"ingress-tls|default/all|https"}
    assert [code for code, _ in codes_of(world, translation)] == ["IST0101"]


def test_a_name_is_the_oldest_gateways(objs: Any, mesh_config: MeshConfig) -> None:
    """Unless it bears the name of a namespace: then that one's; who loses is told."""
    objs.service("web")
    inside = "web.other.svc.cluster.local"
    objs.gateway("first", "default", **https("shop.example", inside))
    objs.gateway("second", "other", **https("shop.example", "b.example", inside))
    world, translation = translated(objs, mesh_config, holding("default/shop", "other/shop"))
    assert names(translation) == {
        "ingress-tls|default/first|https": ["shop.example"],
        "ingress-tls|other/second|https": ["b.example", inside],
    }
    assert ("KIA0301", "port 443 already has host shop.example from Gateway default/first") in codes_of(
        world, translation
    )


def test_a_port_speaks_one_thing(objs: Any, mesh_config: MeshConfig) -> None:
    """What its oldest Gateway says; the ingress port HTTP, its TLS port TLS."""
    plain = {"port": {"number": 8443, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    objs.gateway("plain", "default", **plain)
    objs.gateway("tcp", "default", port={"number": 31400, "name": "tcp", "protocol": "TCP"})
    objs.gateway("web", "default", port={"number": 31400, "name": "http", "protocol": "HTTP"})
    world, translation = translated(objs, mesh_config, {})
    assert set(translation.snapshot.of(types.LISTENER)) == {"ingress|31400"}
    assert leads(translation, "ingress|31400") == {"BlackHoleCluster"}
    assert [text for code, text in codes_of(world, translation) if code == "OND0008"] == [
        "port 8443 speaks TLS on this machine: the server http (HTTP) is not served",
        "port 31400 speaks TCP on this machine: the server http (HTTP) is not served",
    ]


def test_nobody_redirects_anothers_host(objs: Any, mesh_config: MeshConfig) -> None:
    """A Gateway that redirects a host has it only where no rule does, or one that it admits."""
    objs.service("web")
    objs.gateway("shop", "default", hosts=["shop.example"])
    objs.virtual_service("shop", to_web("shop.example", by="shop"))
    objs.gateway("greedy", "other", hosts=["shop.example", "free.example"], tls={"httpsRedirect": True})
    _, translation = translated(objs, mesh_config, {})
    table = m.route.RouteConfiguration.FromString(translation.snapshot.of(types.ROUTES)["ingress|80"].body)
    redirects = {host.name: host.routes[0].WhichOneof("action") == "redirect" for host in table.virtual_hosts}
    assert redirects == {"shop.example": False, "free.example": True}


def test_names_of_clusters_lead_to_ones_own(objs: Any, mesh_config: MeshConfig) -> None:
    """AUTO_PASSTHROUGH takes proxies of Istio to services of the Gateway's namespace, by cluster."""
    for namespace in ("default", "other"):
        objs.service("web", ("http", 80), namespace=namespace)
    objs.destination_rule("web", {"host": "web", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]})
    server = {
        "port": {"number": 15443, "name": "tls", "protocol": "TLS"},
        "hosts": ["*.local"],
        "tls": {"mode": "AUTO_PASSTHROUGH"},
    }
    objs.gateway("east", "default", **server)
    _, translation = translated(objs, mesh_config, {})
    host = "web.default.svc.cluster.local"
    assert sorted(name for of_chain in names(translation, "ingress|15443").values() for name in of_chain) == [
        f"outbound_.80_._.{host}",
        f"outbound_.80_.v1_.{host}",
    ]
    body = translation.snapshot.of(types.LISTENER)["ingress|15443"].body
    for chain in m.listener.Listener.FromString(body).filter_chains:
        assert "istio" in chain.filter_chain_match.application_protocols


def test_passed_on_names_are_admitted_and_had_once(objs: Any, mesh_config: MeshConfig) -> None:
    """A rule has the names that the server's hosts admit, and of two rules the older one has them."""
    objs.service("web", ("tls", 443))
    objs.gateway("through", "default", **https("*.a.example", mode="PASSTHROUGH", credentialName=""))
    where = [{"destination": {"host": "web.default.svc.cluster.local"}}]

    def rule(*hosts: str, namespace: str) -> None:
        tls = [{"match": [{"sniHosts": list(hosts)}], "route": where}]
        spec = to_web(*hosts, by="default/through", tls=tls)
        objs.virtual_service("web", spec, namespace)

    rule("x.a.example", "b.example", namespace="default")
    rule("x.a.example", "y.a.example", namespace="other")
    world, translation = translated(objs, mesh_config, {})
    prefix = "ingress-tls|default/through|https"
    assert names(translation) == {
        f"{prefix}|default/web|tls-0": ["x.a.example"],
        f"{prefix}|other/web|tls-0": ["y.a.example"],
    }
    assert leads(translation) == {"outbound|443||web.default.svc.cluster.local"}
    codes = [code for code, _ in codes_of(world, translation)]
    assert {"OND0002", "IST0132"} <= set(codes)


def test_generic_secrets_are_read(tmp_path: Any) -> None:
    """Istio's own keys of Secrets; of what is not for TLS nothing is kept in memory."""
    from tests.mesh.handshakes import Authority, secret  # noqa: PLC0415 - keys are made here alone

    root = Authority()
    pair = root.certify("shop.example")
    data = {"cert": pair.chain, "key": pair.key, "cacert": root.pem, "crl": root.revoked(pair)}
    document = secret("shop", "default", of="Opaque", password=b"x", **data)
    kept = secrets.relevant(document)
    assert set(kept["data"]) == set(data)
    content = secrets.content(kept)
    assert content.certificate is not None
    assert content.authorities is not None
    assert (content.certificate.chain, content.authorities.trusted) == (pair.chain, root.pem)
    assert content.authorities.revoked == data["crl"]
    later = secrets.content(secret("shop", "default", of="Opaque", cert=b"x", key=b"y"), content)
    assert later.certificate is content.certificate
    assert later.no_certificate == "cert holds no certificate in PEM"
    assert later.authorities is None
    assert later.no_authorities == "it has neither cacert nor ca.crt"
    broken = secret("shop", "default", of="Opaque", cacert=root.pem, crl=b"x")
    assert secrets.content(broken, content).no_authorities == "its list of what is revoked is not PEM"
    document["metadata"]["annotations"] = {secrets.GATEWAYS_FROM: "a, b"}
    assert secrets.content(document).users == frozenset({"a", "b"})
    document["metadata"]["annotations"] = {secrets.GATEWAYS_FROM: ""}
    assert secrets.content(document).users == frozenset()
