"""What the security kinds refuse, in Istio's words, and what is odd about what they take."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.mesh import analysis, definitions, security_descriptions
from ondol.mesh.kinds import KINDS
from ondol.mesh.model import istio, security
from ondol.mesh.model.istio import Refused

AP, RA, PA = "AuthorizationPolicy", "RequestAuthentication", "PeerAuthentication"
SELECTOR = {"matchLabels": {"app": "x"}}
TARGET = {"kind": "Service", "name": "x", "group": ""}
KEYS = '{"keys": [{"kty": "oct", "k": "eA"}]}'


def source(**who: Any) -> dict[str, Any]:
    return {"rules": [{"from": [{"source": who}]}]}


def operation(**what: Any) -> dict[str, Any]:
    return {"rules": [{"to": [{"operation": what}]}]}


def when(key: str, *values: str) -> dict[str, Any]:
    return {"rules": [{"when": [{"key": key, "values": list(values)}]}]}


def jwt(**rule: Any) -> dict[str, Any]:
    return {"jwtRules": [{"issuer": "x", "jwks": KEYS, **rule}]}


CUSTOM = {"action": "CUSTOM", "provider": {"name": "p"}}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (AP, {"selector": SELECTOR, "targetRefs": [TARGET]}, "only one of targetRefs or selector can be set"),
    (AP, {"targetRef": TARGET, "targetRefs": [TARGET]}, "only one of targetRefs or selector can be set"),
    (AP, {"targetRefs": [{**TARGET, "namespace": "x"}]}, "cross namespace referencing is not supported"),
    (AP, {"targetRefs": [{**TARGET, "kind": "Pod"}]}, "targetRef must be to one of"),
    (AP, {"selector": {"matchLabels": {"app": "*"}}}, "wildcard is not supported in selector"),
    (AP, {"selector": {"matchLabels": {"": "x"}}}, "empty key is not supported in selector"),
    (AP, {"action": "DENY"}, "DENY action without `rules` is meaningless"),
    (AP, CUSTOM, "CUSTOM action without `rules` is meaningless"),
    (AP, {"action": "CUSTOM", "rules": [{}]}, "`provider.name` must not be empty"),
    (
        AP,
        {"provider": {"name": "p"}, "rules": [{}]},
        "`provider` must not be with non CUSTOM action, found ALLOW",
    ),
    (AP, {"rules": [{"from": []}]}, "`from` must not be empty"),
    (AP, {"rules": [{"from": [{}]}]}, "`from.source` must not be nil"),
    (AP, {"rules": [{"from": [{"source": {}}]}]}, "`from.source` must not be empty"),
    (AP, {"rules": [{"to": []}]}, "`to` must not be empty"),
    (AP, {"rules": [{"to": [{}]}]}, "`to.operation` must not be nil"),
    (AP, {"rules": [{"to": [{"operation": {}}]}]}, "`to.operation` must not be empty"),
    (
        AP,
        source(serviceAccounts=["a"], principals=["b"]),
        "cannot set serviceAccounts with namespaces or principals",
    ),
    (AP, source(serviceAccounts=["a"], notNamespaces=["b"]), "cannot set serviceAccounts with namespaces"),
    (AP, source(serviceAccounts=["a*"]), "wildcard not allowed"),
    (AP, source(serviceAccounts=["a/b/c"]), "expected format 'serviceAccount' or 'namespace/serviceAccount'"),
    (AP, source(serviceAccounts=["/b"]), "expected format 'serviceAccount' or 'namespace/serviceAccount'"),
    (AP, source(trustDomains=["a/b"]), "trust domain must not contain '/'"),
    (AP, source(trustDomains=["a*b"]), "wildcard is only allowed at the start or end"),
    (AP, source(trustDomains=["*a*"]), "at most one wildcard is allowed"),
    (AP, source(principals=[""]), "empty value not allowed, found in principals"),
    (AP, source(ipBlocks=["1.2.3"]), "bad IP address (1.2.3)"),
    (AP, source(notRemoteIpBlocks=["1.2.3.4/99"]), "bad CIDR range (1.2.3.4/99)"),
    (AP, operation(ports=["70000"]), "bad port (70000)"),
    (AP, operation(ports=["http"]), "bad port (http)"),
    (AP, operation(methods=[""]), "empty value not allowed, found in methods"),
    (AP, operation(paths=["/{**}/{*}"]), "{**} is not the last operator"),
    (AP, operation(paths=["/{foo}"]), "beyond a supported path template"),
    (AP, operation(notPaths=["/{*}/a b"]), "invalid string literal"),
    (AP, operation(paths=["/a{*}"]), "beyond a supported path template"),
    (AP, when("", "a"), "`key` must not be empty"),
    (AP, when("source.ip"), "at least one of `values` or `notValues` must be set"),
    (AP, when("source.ip", "x"), "bad IP address (x)"),
    (AP, when("destination.port", "x"), "bad port (x)"),
    (AP, when("request.headers", "x"), "should have format a[b]"),
    (AP, when("request.auth.claims[]", "x"), "should have format a[b]"),
    (AP, when("destination.labels[x]", "x"), "is replaced by the workload selector"),
    (AP, when("destination.namespace", "x"), "is replaced by the metadata.namespace"),
    (AP, when("source.user", "x"), "unknown attribute: source.user"),
    (
        AP,
        CUSTOM | source(principals=["a"]),
        "from.source.principals is currently not supported with CUSTOM action",
    ),
    (AP, CUSTOM | when("request.auth.claims[a]", "b"), "is currently not supported with CUSTOM action"),
    (AP, {"nothing": 1}, "unknown field"),
    (AP, {"action": "MAYBE"}, "MAYBE"),
    (
        AP,
        {"targetRefs": [{"kind": "ServiceEntry", "name": "x", "group": "networking.istio.io"}]},
        "ServiceEntry",
    ),
    (RA, {"jwtRules": [{"jwks": KEYS}]}, "issuer or jwksUri must be non-empty string"),
    (RA, {"jwtRules": [{"issuer": "x"}]}, "one of jwksUri and jwks must be given"),
    (RA, jwt(jwksUri="https://x"), "only one of jwks or jwksUri can be set"),
    (RA, {"jwtRules": [{"issuer": "x", "jwksUri": "ftp://x"}]}, "URI scheme 'ftp' is not supported"),
    (RA, {"jwtRules": [{"issuer": "x", "jwksUri": "https://"}]}, "names no host"),
    (RA, {"jwtRules": [{"issuer": "x", "jwksUri": "https://x:99999"}]}, "jwksUri"),
    (RA, jwt(jwks="{}"), "jwks parse error"),
    (RA, jwt(jwks="x"), "jwks parse error"),
    (RA, {"jwtRules": [{"issuer": "x", "jwks": "[" * 99_999}]}, "jwks parse error"),
    (RA, jwt(audiences=[""]), "audiences"),
    (RA, jwt(fromHeaders=[{"name": ""}]), "name"),
    (RA, jwt(fromHeaders=[{"name": "a b"}]), "'a b' is not a header name"),
    (RA, jwt(outputClaimToHeaders=[{"header": "a b", "claim": "c"}]), "header"),
    (RA, jwt(timeout="0s"), "timeout"),
    (RA, {"selector": SELECTOR, "targetRef": TARGET}, "only one of targetRefs or selector can be set"),
    (PA, {"portLevelMtls": {"80": {"mode": "STRICT"}}}, "cannot have port level mTLS"),
    (PA, {"selector": SELECTOR, "portLevelMtls": {}}, "must have at least one element"),
    (PA, {"selector": SELECTOR, "portLevelMtls": {"0": {}}}, "port must be in range 1..65535"),
    (PA, {"selector": SELECTOR, "portLevelMtls": {"http": {}}}, "port must be in range 1..65535"),
    (PA, {"mtls": {"mode": "MUTUAL"}}, "MUTUAL"),
]
TAKEN: list[tuple[str, dict[str, Any]]] = [
    (AP, {}),
    (AP, {"rules": [{}]}),
    (AP, {"selector": {}}),
    (AP, {"action": "AUDIT"}),
    (AP, source(serviceAccounts=["a", "b/c"], trustDomains=["*", "a*", "*b"])),
    (AP, source(ipBlocks=["::1", "2001:db8::/32", "10.1.2.3/8"])),
    (AP, operation(paths=["/{*}/a/{**}", "/a/{**}/b.txt", "*", "/x*"], ports=["0", "65535"])),
    (AP, when("request.auth.claims[a][b]", "x")),
    (AP, when("experimental.envoy.filters.a.b[c]", "[x]")),
    (AP, CUSTOM | operation(paths=["/x"])),
    (AP, CUSTOM | source(ipBlocks=["1.2.3.4"])),
    (RA, {}),
    (RA, jwt()),
    (RA, {"jwtRules": [{"issuer": "x", "jwks_uri": "http://x:80/keys"}]}),
    (PA, {}),
    (PA, {"mtls": {"mode": "STRICT"}}),
    (PA, {"selector": SELECTOR, "portLevelMtls": {"8080": {"mode": "DISABLE"}}}),
]


def check(kind: str, spec: dict[str, Any]) -> None:
    rule = KINDS[kind].rule({"kind": kind, "metadata": {"name": "x", "namespace": "foo"}, "spec": spec})
    KINDS[kind].check(rule.spec)


@pytest.mark.parametrize(("kind", "spec", "words"), REFUSED)
def test_what_means_nothing_is_refused(kind: str, spec: dict[str, Any], words: str) -> None:
    """With the reason in Istio's words."""
    with pytest.raises(Refused) as refused:
        check(kind, spec)
    assert words in str(refused.value)


@pytest.mark.parametrize(("kind", "spec"), TAKEN)
def test_what_istio_takes_is_taken(kind: str, spec: dict[str, Any]) -> None:
    """Nothing is refused that is sound there."""
    check(kind, spec)


def test_the_definitions_have_istios_versions_and_columns() -> None:
    """v1 and v1beta1, with the columns that kubectl shows first."""
    crds = {crd["spec"]["names"]["kind"]: crd["spec"] for crd in definitions.crds()}
    for kind, short, column in ((AP, "ap", "Action"), (RA, "ra", "Programmed"), (PA, "pa", "Mode")):
        spec = crds[kind]
        assert [each["name"] for each in spec["versions"]] == ["v1", "v1beta1"]
        assert spec["names"]["shortNames"] == [short]
        assert spec["names"]["categories"] == ["istio-io", "security-istio-io"]
        assert spec["versions"][0]["additionalPrinterColumns"][0]["name"] == column


def test_every_field_is_explained_and_no_other() -> None:
    """By the struct that has it."""
    for name, fields in security_descriptions.FIELDS.items():
        struct = getattr(security, name)
        encoded = dict(zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True))
        ignored = {encoded[name] for name in istio.unsupported(struct)}
        assert set(fields) == set(encoded.values()) - ignored, name


ODD: list[tuple[str, str, dict[str, Any], str]] = [
    (AP, "default", {"selector": {"matchLabels": {"app": "none"}}}, "KIA0004"),
    (AP, "default", {"targetRefs": [{**TARGET, "name": "none"}]}, "KIA0004"),
    (AP, "default", source(namespaces=["none"]), "KIA0101"),
    (AP, "default", operation(methods=["GRAB"]), "KIA0102"),
    (AP, "default", operation(hosts=["none.default.svc.cluster.local"]), "KIA0104"),
    (AP, "default", source(principals=["cluster.local/ns/default/sa/none"]), "KIA0106"),
    (AP, "default", CUSTOM | {"rules": [{}]}, "OND0005"),
    (AP, "default", {"action": "DENY"} | operation(paths=["/x"]), "OND0006"),
    (RA, "default", jwt(), "OND0007"),
    (RA, "default", {"selector": {"matchLabels": {"app": "none"}}}, "KIA0004"),
    (PA, "default", {"selector": {"matchLabels": {"app": "none"}}}, "KIA0004"),
    (PA, "istio-system", {"selector": {"matchLabels": {"app": "cart"}}}, "OND0004"),
]
USUAL: list[tuple[str, str, dict[str, Any]]] = [
    (AP, "default", {"selector": {"matchLabels": {"app": "cart"}}}),
    (AP, "istio-system", {"selector": {"matchLabels": {"app": "cart"}}}),
    (AP, "default", {"targetRefs": [{**TARGET, "name": "cart"}]}),
    (AP, "default", source(namespaces=["other", "o*"])),
    (
        AP,
        "default",
        operation(methods=["GET", "P*"], hosts=["cart.default.svc.cluster.local", "shop.example"]),
    ),
    (AP, "default", source(principals=["cluster.local/ns/default/sa/default", "*/sa/none"])),
    (AP, "default", {"action": "DENY"} | operation(paths=["/x"], ports=["80"])),
    (PA, "default", {"mtls": {"mode": "STRICT"}}),
]


def codes(objs: Any, translate: Any) -> set[str]:
    world = objs.world()
    return {finding.code for finding in analysis.findings(world, translate(objs))}


@pytest.fixture
def shop(objs: Any) -> Any:
    objs.pod("cart")
    objs.service("cart", endpoints=[("10.0.0.1", 80)], pods=["cart"])
    objs.objects["Service"]["default", "cart"]["spec"]["selector"] = {"app": "cart"}
    objs.put("Namespace", "istio-system", "", {})
    return objs


@pytest.mark.parametrize("row", ODD)
def test_what_can_hardly_be_meant_is_found(
    shop: Any, translate: Any, row: tuple[str, str, dict[str, Any], str]
) -> None:
    """By Kiali's code for it, or one of ours."""
    kind, namespace, spec, code = row
    shop.put(kind, "odd", namespace, spec)
    assert code in codes(shop, translate)


@pytest.mark.parametrize(("kind", "namespace", "spec"), USUAL)
def test_what_is_usual_is_not(
    shop: Any, translate: Any, kind: str, namespace: str, spec: dict[str, Any]
) -> None:
    """No finding on objects that say what is there."""
    shop.put(kind, "usual", namespace, spec)
    assert codes(shop, translate) == set()


def test_two_of_a_kind_are_found(shop: Any, translate: Any) -> None:
    """Two without a selector, two for one pod; and rules for certificates where there are none."""
    for name in ("a", "b"):
        shop.put(PA, name, "default", {"mtls": {"mode": "DISABLE"}})
        shop.put(RA, name, "default", {"selector": {"matchLabels": {"app": "cart"}}})
    shop.put(AP, "needs", "default", source(namespaces=["other"]))
    assert codes(shop, translate) == {"KIA0002", "KIA0003", "KIA0105"}
