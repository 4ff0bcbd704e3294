"""Ingresses as rules of the mesh: precedence, hosts, backends, certificates; by what the proxy would do."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from tests.certificates import certify

from ondol.api.objects import Key, Object
from ondol.contracts import ingress as words
from ondol.mesh import analysis, evaluate, secrets
from ondol.mesh.config import MeshConfig
from ondol.mesh.evaluate import Call
from ondol.mesh.ingress import expansion, options
from ondol.mesh.ingress.expansion import Expansion, Ports, Surroundings
from ondol.mesh.ingress.feed import ingress_class
from ondol.mesh.ingress.refused import Refused
from ondol.mesh.kinds import KINDS
from ondol.mesh.secrets import Unusable
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.credentials import Certificate
from ondol.mesh.translate.translator import Translator
from ondol.mesh.translate.world import Translation, World
from ondol.mesh.xds import types

CLASSES = [
    ingress_class(is_default=True),
    {"metadata": {"name": "other"}, "spec": {"controller": "example.com/other"}},
    {"metadata": {"name": "mine"}, "spec": {"controller": words.CONTROLLER}},
]
NGINX = words.NGINX


def path(text: str, service: str, kind: str = "Prefix", **port: Any) -> Object:
    backend = {"service": {"name": service, "port": port or {"number": 80}}}
    return {"path": text, "pathType": kind, "backend": backend}


def rule(host: str, *paths: Object) -> Object:
    return {**({"host": host} if host else {}), "http": {"paths": list(paths)}}


def an_ingress(
    name: str, *rules: Object, namespace: str = "default", created: int = 1, **more: Any
) -> Object:
    annotations = more.pop("annotations", {})
    metadata = {
        "name": name,
        "namespace": namespace,
        "creationTimestamp": f"2026-01-01T00:00:{created:02}Z",
        "annotations": annotations,
    }
    return {"metadata": metadata, "spec": {"ingressClassName": "ondol", "rules": list(rules), **more}}


def services(*names: str, namespace: str = "default") -> dict[Key, Object]:
    return {
        Key(namespace, name): {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace, "resourceVersion": "1"},
            "spec": {
                "clusterIP": "10.96.0.9",
                "ports": [{"name": "http", "port": 80}, {"name": "grpc", "port": 90}],
            },
        }
        for name in names
    }


AROUND = Surroundings(services("a", "b", "c", "d"))


def expanded(*listed: Object, around: Surroundings = AROUND) -> Expansion:
    return expansion.expand(listed, CLASSES, around)


def translation_of(expansion_: Expansion, around: Surroundings = AROUND) -> tuple[World, Translation]:
    config = MeshConfig(Path("/"), "unix:/", "unix:/", Path("/"))
    world = World(
        namespaces=[{"metadata": {"name": "default"}}],
        services=list(around.services.values()),
        rules=expansion_.beside({name: [] for name in KINDS}),
        terminations=expansion_.terminations,
    )
    return world, Translator(config).translate(world)


def translated(expansion_: Expansion, around: Surroundings = AROUND) -> types.Snapshot:
    return translation_of(expansion_, around)[1].snapshot


def led(listed: Sequence[Object], host: str, asked: str, around: Surroundings = AROUND) -> str:
    """The service that a request at the ingress goes to, the code it is answered with, or nothing."""
    snapshot = translated(expanded(*listed, around=around), around)
    verdict = evaluate.from_outside(snapshot, Call(host=host, path=asked))
    for cluster in verdict.clusters:
        return cluster.split("|")[3].split(".")[0]
    return str(verdict.status)


def problems(expansion_: Expansion, name: str = "web") -> list[str]:
    return [f"{each.reason}: {each.message}" for each in expansion_.problems[Key("default", name)]]


@pytest.mark.parametrize(
    ("kind", "text", "request_path", "is_matched"),
    [
        # https://kubernetes.io/docs/concepts/services-networking/ingress/#examples
        ("Prefix", "/", "/any", True),
        ("Exact", "/foo", "/foo", True),
        ("Exact", "/foo", "/bar", False),
        ("Exact", "/foo", "/foo/", False),
        ("Exact", "/foo/", "/foo", False),
        ("Prefix", "/foo", "/foo", True),
        ("Prefix", "/foo", "/foo/", True),
        ("Prefix", "/foo/", "/foo", True),
        ("Prefix", "/foo/", "/foo/", True),
        ("Prefix", "/aaa/bb", "/aaa/bbb", False),
        ("Prefix", "/aaa/bbb", "/aaa/bbb", True),
        ("Prefix", "/aaa/bbb/", "/aaa/bbb", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbb/", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbb/ccc", True),
        ("Prefix", "/aaa/bbb", "/aaa/bbbxyz", False),
        ("Prefix", "/Foo", "/foo", False),
        ("ImplementationSpecific", "/foo", "/foo/x", True),
        ("ImplementationSpecific", "/foo", "/foobar", False),
        ("Prefix", "/foo", "/foo?x=/bar", True),
        ("Exact", "/foo", "/foo?x=1", True),
    ],
)
def test_paths(kind: str, text: str, request_path: str, is_matched: bool) -> None:
    """Kubernetes' table of path types."""
    one = an_ingress("web", rule("shop.example", path(text, "a", kind)))
    assert (led([one], "shop.example", request_path) == "a") is is_matched


@pytest.mark.parametrize(
    ("paths", "request_path", "service"),
    [
        ([("Prefix", "/"), ("Prefix", "/aaa")], "/aaa/ccc", "b"),
        ([("Prefix", "/"), ("Prefix", "/aaa")], "/ccc", "a"),
        ([("Prefix", "/"), ("Prefix", "/aaa"), ("Prefix", "/aaa/bbb")], "/aaa/bbb", "c"),
        ([("Prefix", "/foo"), ("Exact", "/foo")], "/foo", "b"),
        ([("Prefix", "/foo"), ("Exact", "/foo")], "/foo/", "a"),
        ([("Exact", "/foo"), ("Prefix", "/foo/")], "/foo", "a"),
        ([("ImplementationSpecific", ""), ("Prefix", "/x")], "/x/y", "b"),
        ([("ImplementationSpecific", ""), ("Prefix", "/x")], "/y", "a"),
    ],
)
def test_precedence(paths: list[tuple[str, str]], request_path: str, service: str) -> None:
    """The longest path, of equal ones the exact; whatever order they stand in."""
    listed = [path(text, name, kind) for (kind, text), name in zip(paths, "abcd", strict=False)]
    for order in (listed, listed[::-1]):
        assert led([an_ingress("web", rule("shop.example", *order))], "shop.example", request_path) == service


def test_precedence_holds_across_ingresses() -> None:
    """Those of one host are one order; of the same path the older Ingress has it."""
    old = an_ingress("old", rule("shop.example", path("/", "a"), path("/same", "b")), created=1)
    new = an_ingress("new", rule("shop.example", path("/long", "c"), path("/same", "d")), created=2)
    for listed in ([old, new], [new, old]):
        assert led(listed, "shop.example", "/long/x") == "c"
        assert led(listed, "shop.example", "/same") == "b"
        assert led(listed, "shop.example", "/else") == "a"


@pytest.mark.parametrize(
    ("pattern", "host", "is_matched"),
    [
        # https://kubernetes.io/docs/concepts/services-networking/ingress/#hostname-wildcards
        ("*.foo.com", "bar.foo.com", True),
        ("*.foo.com", "baz.bar.foo.com", False),
        ("*.foo.com", "foo.com", False),
        ("foo.com", "foo.com", True),
        ("foo.com", "FOO.com", True),
        ("foo.com", "bar.foo.com", False),
        ("", "any.example", True),
        ("localhost", "localhost", True),
    ],
)
def test_hosts(pattern: str, host: str, is_matched: bool) -> None:
    """Kubernetes' table of hosts: a wildcard stands for one label; names stand as they are."""
    one = an_ingress("web", rule(pattern, path("/", "a")))
    assert (led([one], host, "/") == "a") is is_matched


def test_the_exact_host_comes_before_the_wildcard() -> None:
    """And before rules for every host, which are not for paths that a named host lacks."""
    one = an_ingress(
        "web",
        rule("", path("/", "a")),
        rule("*.foo.com", path("/", "b")),
        rule("bar.foo.com", path("/x", "c")),
    )
    assert led([one], "bar.foo.com", "/x") == "c"
    assert led([one], "bar.foo.com", "/y") not in ("a", "b", "c")
    assert led([one], "qux.foo.com", "/y") == "b"
    assert led([one], "example.org", "/y") == "a"


def test_the_default_backend_takes_the_rest() -> None:
    """What no path of its hosts takes, and requests for other hosts; an Ingress may have nothing else."""
    one = an_ingress("web", rule("shop.example", path("/x", "a")), defaultBackend=path("", "d")["backend"])
    assert led([one], "shop.example", "/x") == "a"
    assert led([one], "shop.example", "/y") == "d"
    assert led([one], "example.org", "/x") == "d"
    alone = an_ingress("web", defaultBackend=path("", "d")["backend"])
    assert led([alone], "example.org", "/") == "d"


def test_ports_go_by_name_and_number() -> None:
    """As the Service calls them."""
    expansion_ = expanded(
        an_ingress("web", rule("h.example", path("/", "a", name="grpc"), path("/n", "a", number=90)))
    )
    (one,) = expansion_.virtual_services
    ports = [route.route[0].destination.port for route in one.spec.http]
    assert [port and port.number for port in ports] == [90, 90]
    assert problems(expansion_) == []


@pytest.mark.parametrize(
    ("backend", "why"),
    [
        ({"service": {"name": "no", "port": {"number": 80}}}, "there is no Service no"),
        ({"service": {"name": "a", "port": {"number": 81}}}, "Service a has no TCP port 81"),
        ({"service": {"name": "a", "port": {"name": "web"}}}, "Service a has no TCP port web"),
        (
            {"resource": {"kind": "Bucket", "name": "x"}},
            "resource backends (Bucket) are not served: name a Service",
        ),
        (
            {"service": {"name": "out", "port": {"number": 80}}},
            "Service out is of type ExternalName, which has no endpoints",
        ),
    ],
)
def test_missing_backends_answer_503(backend: Object, why: str) -> None:
    """For their path alone, and are told by field."""
    outside = {"metadata": {"name": "out", "namespace": "default"}, "spec": {"type": "ExternalName"}}
    around = replace(AROUND, services={**AROUND.services, Key("default", "out"): outside})
    lost = {"path": "/lost", "pathType": "Prefix", "backend": backend}
    one = an_ingress("web", rule("shop.example", path("/", "a"), lost))
    expansion_ = expanded(one, around=around)
    assert problems(expansion_) == [f"BackendMissing: spec.rules[0].http.paths[1].backend: {why}"]
    (host,) = expansion_.virtual_services
    assert host.spec.http[0].direct_response is not None
    assert host.spec.http[0].direct_response.status == 503
    assert led([one], "shop.example", "/x", around=around) == "a"


@pytest.mark.parametrize(
    ("spec", "annotations", "is_ours"),
    [
        ({"ingressClassName": "ondol"}, {}, True),
        ({"ingressClassName": "mine"}, {}, True),
        ({"ingressClassName": "other"}, {}, False),
        ({"ingressClassName": "nobodys"}, {}, False),
        ({}, {}, False),
        ({}, {"kubernetes.io/ingress.class": "ondol"}, True),
        ({}, {"kubernetes.io/ingress.class": "nginx"}, False),
    ],
)
def test_classes(spec: Object, annotations: Mapping[str, str], is_ours: bool) -> None:
    """By the class' controller, whatever it is called; one of no class is nobody's."""
    one = {"metadata": {"name": "web", "namespace": "default", "annotations": annotations}, "spec": spec}
    assert (Key("default", "web") in expanded(one).problems) is is_ours


def test_hosts_are_held_by_one_namespace() -> None:
    """The oldest Ingress' namespace has the host; another's neither takes its paths nor its certificate."""
    around = replace(AROUND, services={**AROUND.services, **services("thief", namespace="other")})
    old = an_ingress("web", rule("shop.example", path("/", "a")), created=1)
    new = an_ingress(
        "web",
        rule("shop.example", path("/pay", "thief")),
        namespace="other",
        created=2,
        tls=[{"hosts": ["shop.example"], "secretName": "x"}],
    )
    assert led([old, new], "shop.example", "/pay", around=around) == "a"
    reported = expanded(old, new, around=around).problems[Key("other", "web")]
    assert "HostHeld" in {each.reason for each in reported}


def test_a_host_that_another_namespace_has_is_told_once() -> None:
    """Not for HTTP and HTTPS each, and not by the names of Gateways that nobody wrote."""
    around = replace(AROUND, services={**AROUND.services, **services("thief", namespace="other")})
    old = an_ingress("web", rule("shop.example", path("/", "a")), created=1)
    new = an_ingress("web", rule("shop.example", path("/pay", "thief")), namespace="other", created=2)
    expansion_ = expanded(old, new, around=around)
    findings = analysis.findings(*translation_of(expansion_, around))
    reported = {each.message for each in findings if each.origin.namespace == "other"}
    assert len(reported) == 1, reported
    assert "host shop.example at the ingress is held by namespace default, whose rule" in reported.pop()


# Annotations


def test_rewriting() -> None:
    """With groups, as ingress-nginx' own example; without, the target takes the whole path's place."""
    one = an_ingress(
        "web",
        rule("shop.example", path("/something(/|$)(.*)", "a", "ImplementationSpecific")),
        annotations={words.REWRITE_TARGET: "/$2"},
    )
    (expansion_,) = expanded(one).virtual_services
    (route,) = expansion_.spec.http
    assert route.rewrite is not None
    assert route.rewrite.uri_regex_rewrite is not None
    assert route.rewrite.uri_regex_rewrite.rewrite == r"/\2"
    for asked, is_led in (
        ("/something/new", True),
        ("/Something", True),
        ("/somethingelse", False),
        ("/x", False),
    ):
        assert (led([one], "shop.example", asked) == "a") is is_led, asked


@pytest.mark.parametrize(
    ("target", "text", "problem"),
    [
        ("/$uri", "/x", "is no path with groups $1 to $9"),
        ("https://example.org/", "/x", "is no path with groups $1 to $9"),
        ("/$3", "/x(/|$)(.*)", "has fewer groups than the rewrite target"),
        ("/", "/x(", "error parsing regexp: missing closing )"),
    ],
)
def test_rewriting_that_cannot_be(target: str, text: str, problem: str) -> None:
    """Is told; nothing that the proxy would refuse is made."""
    one = an_ingress(
        "web",
        rule("shop.example", path(text, "a", "ImplementationSpecific")),
        annotations={words.REWRITE_TARGET: target},
    )
    assert problem in problems(expanded(one))[0]


@pytest.mark.parametrize(
    ("annotation", "tls", "is_redirected"),
    [
        ({words.SSL_REDIRECT: "true"}, True, True),
        ({words.SSL_REDIRECT: "true"}, False, False),
        ({words.FORCE_SSL_REDIRECT: "true"}, False, True),
        ({words.SSL_REDIRECT: "false"}, True, False),
        ({}, True, False),
    ],
)
def test_redirects(annotation: Mapping[str, str], tls: bool, is_redirected: bool) -> None:
    """To HTTPS where an annotation asks, and for its paths alone; over HTTPS nothing is redirected."""
    certificate = [{"hosts": ["shop.example"], "secretName": "x"}] if tls else []
    one = an_ingress("web", rule("shop.example", path("/", "a")), annotations=annotation, tls=certificate)
    plain = an_ingress("plain", rule("shop.example", path("/plain", "b")), created=2)
    around = replace(AROUND, ports=Ports(8080, 8443))
    (expansion_,) = expanded(one, plain, around=around).virtual_services
    redirects = [route for route in expansion_.spec.http if route.redirect is not None]
    assert bool(redirects) is is_redirected
    for route in redirects:
        assert route.redirect is not None
        assert (route.redirect.scheme, route.redirect.port, route.redirect.redirect_code) == (
            "https",
            8443,
            308,
        )
        assert route.match[0].gateways == ("ondol-system/http.networking.k8s.io",)
    assert led([one, plain], "shop.example", "/plain/x", around=around) == "b"


def test_other_annotations_are_named() -> None:
    """Each that asks ingress-nginx for something that nothing does here; those of others are theirs."""
    one = an_ingress(
        "web",
        rule("shop.example", path("/", "a")),
        annotations={f"{NGINX}proxy-body-size": "8m", "example.org/x": "y", words.USE_REGEX: "false"},
    )
    assert problems(expanded(one)) == [
        f"AnnotationNotSupported: annotation {NGINX}proxy-body-size is not acted on"
    ]


# TLS

TLS = Certificate("default/x", "1", b"CHAIN", b"PRIVATE")


def tls_ingress(*hosts: str, name: str = "web", named: str = "x", created: int = 1) -> Object:
    entry = {"secretName": named, **({"hosts": list(hosts)} if hosts else {})}
    rules = [rule(host, path("/", "a")) for host in hosts] or [rule("", path("/", "a"))]
    return an_ingress(name, *rules, tls=[entry], created=created)


def test_certificates_are_shown_by_name() -> None:
    """Chains for each certificate, in a listener of its own; keys are apart.

    A name has one although its certificate is that of all others, too: another's wildcard would have it.
    """
    around = replace(
        AROUND,
        certificates={Key("default", "x"): TLS, Key("default", "y"): replace(TLS, name="default/y")},
    )
    listed = [
        tls_ingress("shop.example", "*.shop.example"),
        tls_ingress("b.shop.example", name="b", named="y", created=2),
        tls_ingress(name="all", named="y", created=3),
    ]
    snapshot = translated(expanded(*listed, around=around), around)
    encoded = snapshot.of(types.LISTENER)["ingress-tls"].body
    assert b"PRIVATE" not in encoded
    listener = m.listener.Listener.FromString(encoded)
    names = {chain.name: sorted(chain.filter_chain_match.server_names) for chain in listener.filter_chains}
    assert names == {
        "tls|default/x": ["*.shop.example", "shop.example"],
        "tls|default/y": ["b.shop.example"],
        "tls|default/y|*": [],
    }
    assert set(snapshot.of(types.SECRET)) == {"certificate|default/x", "certificate|default/y"}
    hosts = {
        host.name
        for host in m.route.RouteConfiguration.FromString(
            snapshot.of(types.ROUTES)["ingress-tls"].body
        ).virtual_hosts
    }
    assert hosts == {"shop.example", "*.shop.example", "b.shop.example", "*"}


def test_a_new_certificate_changes_its_secret_alone() -> None:
    """So no connection ends when one is rotated."""
    one = tls_ingress("shop.example")

    def of(certificate: Certificate) -> types.Snapshot:
        around = replace(AROUND, certificates={Key("default", "x"): certificate})
        return translated(expanded(one, around=around), around)

    before, after = of(TLS), of(replace(TLS, version="2", chain=b"NEW"))
    for type_url in (types.LISTENER, types.ROUTES, types.CLUSTER):
        assert {r.name: r.version for r in before.of(type_url).values()} == {
            r.name: r.version for r in after.of(type_url).values()
        }
    assert before.of(types.SECRET)["certificate|default/x"].version == "1"
    assert after.of(types.SECRET)["certificate|default/x"].version == "2"


def test_missing_secrets_are_told() -> None:
    """Without a certificate a host is served over HTTP alone; an unusable new one leaves the former."""
    expansion_ = expanded(tls_ingress("shop.example"))
    assert expansion_.terminations == []
    assert problems(expansion_) == [
        "SecretMissing: spec.tls[0]: there is no Secret x of type kubernetes.io/tls or Opaque"
    ]
    around = replace(
        AROUND, certificates={Key("default", "x"): TLS}, unusable={Key("default", "x"): "it has no tls.key"}
    )
    expansion_ = expanded(tls_ingress("shop.example"), around=around)
    assert [each.hosts for each in expansion_.terminations] == [("shop.example",)]
    assert problems(expansion_) == [
        "SecretInvalid: spec.tls[0]: Secret x: it has no tls.key; the former one is served"
    ]


def secret(chain: bytes, key: bytes) -> Object:
    data = {"tls.crt": base64.b64encode(chain).decode(), "tls.key": base64.b64encode(key).decode()}
    return {"metadata": {"name": "x", "namespace": "default"}, "type": "kubernetes.io/tls", "data": data}


def pem(key: Any) -> bytes:
    encoded: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encoded


def test_certificates_out_of_secrets(tmp_path: Path) -> None:
    """A pair that belongs together; its key is in no text about it."""
    chain = certify(tmp_path, "shop.example")
    both = (tmp_path / "both.pem").read_bytes()
    key = both[both.index(b"-----BEGIN PRIVATE") :]
    read = secrets.read(secret(chain, key))
    assert (read.name, read.chain) == ("default/x", chain)
    assert "PRIVATE" not in repr(read)
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
    other = pem(ec.generate_private_key(ec.SECP256R1()))
    for content, why in (
        (secret(chain, other), "tls.key is not the key of the first certificate"),
        (secret(b"x", key), "tls.crt holds no certificate"),
        (secret(chain, b"x"), "tls.key holds no key"),
        (
            secret(chain, pem(ed25519.Ed25519PrivateKey.generate())),
            "neither an RSA key nor one of the curves",
        ),
        (secret(chain, pem(weak)), "an RSA key of less than 2048 bits"),
        ({"metadata": {}, "data": {"tls.crt": "!"}}, "tls.crt is not base64"),
        ({"metadata": {}}, "it has no tls.crt"),
    ):
        with pytest.raises(Unusable, match=why):
            secrets.read(content)


def test_what_the_proxy_refuses_holds_up_nobody() -> None:
    """A rule that is alone new is left out; of several each has a try of its own; until it is changed."""
    expansion_ = expanded(
        an_ingress("a", rule("a.example", path("/", "a"))), an_ingress("b", rule("b.example", path("/", "b")))
    )
    one, two = (each.origin for each in expansion_.virtual_services)

    def rejected(*origins: types.Origin, accepted: Sequence[types.Origin] = ()) -> types.Rejected:
        table = types.Resource("ingress|80", "2", b"", origins)
        former = types.Resource("ingress|80", "1", b"", tuple(accepted))
        return types.Rejected(types.ROUTES, table, "bad path", former)

    def served(refused: Refused) -> list[types.Origin]:
        return [each.origin for each in refused.without(expansion_).virtual_services]

    refused = Refused()
    assert refused.observe([rejected(one, two, accepted=[one])])
    assert served(refused) == [one]
    assert not refused.next_trial()
    refused = Refused()
    assert refused.observe([rejected(one, two)])
    assert served(refused) == []
    assert refused.next_trial()
    assert served(refused) == [one]
    assert refused.next_trial()
    assert refused.observe([rejected(one, two, accepted=[one])])
    assert served(refused) == [one]
    assert not refused.next_trial()
    assert served(Refused({replace_version(two): "bad path"})) == [one, two]


def test_what_nothing_can_be_made_of_holds_up_nobody() -> None:
    """It is left out like what the proxy refuses; of other objects nothing is known here."""
    expansion_ = expanded(an_ingress("a", rule("a.example", path("/", "a"))))
    (origin,) = (each.origin for each in expansion_.virtual_services)
    refused = Refused()
    assert not refused.refuse(origin._replace(kind="Gateway"), "too large a number")
    assert not refused.refuse(origin._replace(name="web"), "too large a number")
    assert refused.refuse(origin, "too large a number")
    assert not refused.refuse(origin, "too large a number")
    assert refused.without(expansion_).virtual_services == []


def replace_version(origin: types.Origin) -> types.Origin:
    return origin._replace(version="former")


def test_what_the_proxy_says_of_certificates() -> None:
    """Is told of the Ingresses that name them, and that the port is taken of all that have TLS."""
    refused = Refused()
    certificate = types.Resource("certificate|default/x", "1", b"")
    listener = types.Resource("ingress-tls", "1", b"")
    refused.observe(
        [types.Rejected(types.SECRET, certificate, "no"), types.Rejected(types.LISTENER, listener, "busy")]
    )
    reported = [(each.reason, each.message) for each in refused.of_tls(tls_ingress("shop.example"))]
    assert reported == [("SecretInvalid", "Secret x: no"), ("NotListening", "HTTPS is not served: busy")]
    assert refused.of_tls(an_ingress("web", rule("shop.example", path("/", "a")))) == []
    refused.observe(
        [types.Accepted(types.LISTENER, (listener,)), types.Accepted(types.SECRET, (certificate,))]
    )
    assert refused.of_tls(tls_ingress("shop.example")) == []


@given(
    st.dictionaries(st.sampled_from(sorted(words.ACTED_ON)), st.text(max_size=20)),
    st.text("/ab($).*[\\?", max_size=8),
)
def test_any_annotation_and_path_is_survived(marks: dict[str, str], text: str) -> None:
    """Whatever they say, an Ingress is expanded; what is made can be read again."""
    one = an_ingress(
        "web",
        rule("shop.example", path(f"/{text}", "a", "ImplementationSpecific"), path("/b", "b")),
        annotations=marks,
    )
    for each in expanded(one).virtual_services:
        msgspec.json.encode(each.spec)
        options.read(one)
    assert led([one], "shop.example", "/zzz") != "c"
