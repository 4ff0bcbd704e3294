"""Ingresses, network policies and the networks of Services, as kubectl users know them."""

from __future__ import annotations

from typing import Any, Final

import pytest

pytestmark = pytest.mark.anyio

GROUP: Final = "/apis/networking.k8s.io/v1"
INGRESSES: Final = f"{GROUP}/namespaces/default/ingresses"
CLASSES: Final = f"{GROUP}/ingressclasses"
POLICIES: Final = f"{GROUP}/namespaces/default/networkpolicies"
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"
BACKEND: Final = {"service": {"name": "web", "port": {"number": 80}}}
NGINX: Final = "nginx.ingress.kubernetes.io/"
DEFAULT: Final = "ingressclass.kubernetes.io/is-default-class"


def _named(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec}


def _rule(host: str = "a.example", **path: Any) -> dict[str, Any]:
    own = {"path": "/", "pathType": "Prefix", "backend": BACKEND}
    return {"host": host, "http": {"paths": [{**own, **path}]}}


def _peer(**peer: Any) -> dict[str, Any]:
    return {"ingress": [{"from": [peer]}]}


def _port(**port: Any) -> dict[str, Any]:
    return {"egress": [{"ports": [port]}]}


async def test_an_ingress_is_shown(api: Any) -> None:
    """Its hosts, its address and its ports; its status is written apart, and changes are counted."""
    rules = [_rule(f"{letter}.example") for letter in "abcde"]
    spec = {"rules": rules, "tls": [{"hosts": ["*.example"], "secretName": "s"}]}
    stored = await api.post(INGRESSES, {**_named("i", **spec), "status": {"loadBalancer": {"ingress": []}}})
    assert (stored.status, stored.json["status"]) == (201, {"loadBalancer": {}}), stored.json
    balanced = {"loadBalancer": {"ingress": [{"ip": "10.0.0.2"}, {"hostname": "b.example"}]}}
    assert (await api.patch(f"{INGRESSES}/i/status", {"status": balanced})).status == 200
    changed = (await api.patch(f"{INGRESSES}/i", {"spec": {"ingressClassName": "x"}})).json
    assert (changed["status"], changed["metadata"]["generation"]) == (balanced, 2)
    cells = (await api.get(INGRESSES, accept=TABLE)).json["rows"][0]["cells"]
    assert cells == [
        "i",
        "x",
        "a.example,b.example,c.example + 2 more...",
        "10.0.0.2,b.example",
        "80, 443",
        "0s",
    ]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"),
        (
            {"defaultBackend": {}},
            'spec.defaultBackend: Invalid value: "": resource or service backend is required',
        ),
        (
            {"defaultBackend": {"service": {"name": "a", "port": {}}}},
            "spec.defaultBackend: Required value: port name or number is required",
        ),
        (
            {"defaultBackend": {"service": {"name": "a", "port": {"name": "x", "number": 1}}}},
            'spec.defaultBackend: Invalid value: "": cannot set both port name & port number',
        ),
        (
            {"defaultBackend": {**BACKEND, "resource": {"kind": "A", "name": "a"}}},
            'spec.defaultBackend: Invalid value: "": cannot set both resource and service backends',
        ),
        (
            {"defaultBackend": {"resource": {"kind": "", "name": "a"}}},
            "spec.defaultBackend.resource.kind: Required value",
        ),
        (
            {"defaultBackend": {"service": {"name": "1a", "port": {"number": 1}}}},
            'spec.defaultBackend.service.name: Invalid value: "1a": a DNS-1035 label must consist of',
        ),
        (
            {"rules": [_rule("10.0.0.1")]},
            'spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address',
        ),
        (
            {"rules": [_rule("a.*")]},
            "spec.rules[0].host: Invalid value: \"a.*\": a wildcard DNS-1123 subdomain must start with '*.'",
        ),
        ({"rules": [{"http": {"paths": []}}]}, "spec.rules[0].http.paths: Required value"),
        (
            {"rules": [_rule(pathType=None)]},
            "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
        ),
        (
            {"rules": [_rule(pathType="Any")]},
            (
                'spec.rules[0].http.paths[0].pathType: Unsupported value: "Any": supported values: "Exact", '
                '"ImplementationSpecific", "Prefix"'
            ),
        ),
        (
            {"rules": [_rule(path="a")]},
            'spec.rules[0].http.paths[0].path: Invalid value: "a": must be an absolute path',
        ),
        (
            {"rules": [_rule(path="/a//b")]},
            "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b\": must not contain '//'",
        ),
        (
            {"rules": [_rule(path="/a/..")]},
            "spec.rules[0].http.paths[0].path: Invalid value: \"/a/..\": cannot end with '/..'",
        ),
        (
            {"rules": [_rule()], "tls": [{"hosts": ["A"]}]},
            'spec.tls[0].hosts[0]: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of',
        ),
    ],
)
async def test_what_no_ingress_may_be(api: Any, spec: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(INGRESSES, _named("i", **spec))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_a_path_may_be_left_to_who_answers(api: Any) -> None:
    """Then it may be left out, too."""
    stored = await api.post(INGRESSES, _named("i", rules=[_rule(path="", pathType="ImplementationSpecific")]))
    assert stored.status == 201, stored.json


async def test_ingresses_get_the_default_class(api: Any) -> None:
    """Not one that names a class, in either way; the old way is warned of."""
    await api.post(
        CLASSES,
        {"metadata": {"name": "x", "annotations": {DEFAULT: "true"}}, "spec": {"controller": "x.io/c"}},
    )
    assert (await api.post(INGRESSES, _named("a", rules=[_rule()]))).json["spec"]["ingressClassName"] == "x"
    old = _named("b", rules=[_rule()])
    old["metadata"]["annotations"] = {"kubernetes.io/ingress.class": "y"}
    stored = await api.post(INGRESSES, old)
    assert "ingressClassName" not in stored.json["spec"]
    assert any("is deprecated, please use 'spec.ingressClassName'" in each for each in stored.warnings)
    old["metadata"]["name"], old["spec"]["ingressClassName"] = "c", "z"
    refused = await api.post(INGRESSES, old)
    message = (
        'annotations.kubernetes.io/ingress.class: Invalid value: "y": must match `ingressClassName` when'
    )
    assert (refused.status, message in refused.json["message"]) == (422, True)


async def test_what_an_ingress_says_in_vain_is_warned_of(api: Any) -> None:
    """A class that is not there; annotations for ingress-nginx, whatever the platform's class is called."""
    one = _named("a", rules=[_rule()], ingressClassName="nginx")
    one["metadata"]["annotations"] = {f"{NGINX}proxy-body-size": "8m", f"{NGINX}ssl-redirect": "true"}
    warned = (await api.post(INGRESSES, one)).warnings
    assert len(warned) == 1, warned
    assert 'spec.ingressClassName: there is no IngressClass \\"nginx\\"' in warned[0]
    await api.post(CLASSES, _named("nginx", controller="ondol.dev/ingress-controller"))
    await api.post(CLASSES, _named("other", controller="x.io/c"))
    one["metadata"]["name"] = "b"
    warned = (await api.post(INGRESSES, one)).warnings
    assert len(warned) == 1, warned
    assert f"metadata.annotations[{NGINX}proxy-body-size]: nothing acts on it for class nginx" in warned[0]
    labels = await api.patch(f"{INGRESSES}/b", {"metadata": {"labels": {"a": "b"}}})
    assert labels.warnings == []
    moved = await api.patch(f"{INGRESSES}/b", {"spec": {"ingressClassName": "other"}})
    assert moved.warnings == []
    marked = _named("c", rules=[_rule()])
    marked["metadata"]["annotations"] = {"kubernetes.io/ingress.class": "gone"}
    warned = (await api.post(INGRESSES, marked)).warnings
    assert any(
        "annotations[kubernetes.io/ingress.class]: there is no IngressClass" in each for each in warned
    )


async def test_a_class_of_ingresses_is_answered_for_by_one(api: Any) -> None:
    """Its controller stays."""
    parameters = {"apiGroup": "x.io", "kind": "P", "name": "p"}
    stored = await api.post(CLASSES, _named("x", controller="x.io/c", parameters=parameters))
    assert stored.json["spec"]["parameters"]["scope"] == "Cluster"
    assert (await api.get(CLASSES, accept=TABLE)).json["rows"][0]["cells"] == [
        "x",
        "x.io/c",
        "P.x.io/p",
        "0s",
    ]
    refused = await api.patch(f"{CLASSES}/x", {"spec": {"controller": "y.io/c"}})
    assert 'spec.controller: Invalid value: "y.io/c": field is immutable' in refused.json["message"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "spec.controller: Required value"),
        (
            {"controller": "c"},
            'spec.controller: Invalid value: "c": must be a domain-prefixed path (such as "acme.io/foo")',
        ),
        ({"controller": "x.io/a b"}, 'spec.controller: Invalid value: "a b": Invalid path (regex used for'),
        (
            {"controller": "x.io/c", "parameters": {"kind": "P", "name": "p", "scope": "Namespace"}},
            "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
        ),
        (
            {"controller": "x.io/c", "parameters": {"kind": "P", "name": "p", "namespace": "n"}},
            "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
        ),
    ],
)
async def test_what_no_class_of_ingresses_may_be(api: Any, spec: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(CLASSES, _named("x", **spec))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_a_policy_of_the_network_is_completed(api: Any) -> None:
    """It is about what comes in, and about what goes out if it says something of that."""
    stored = await api.post(POLICIES, _named("in", podSelector={"matchLabels": {"a": "b"}}))
    assert stored.json["spec"]["policyTypes"] == ["Ingress"]
    out = (await api.post(POLICIES, _named("out", podSelector={}, **_port(port=80)))).json["spec"]
    assert (out["policyTypes"], out["egress"]) == (
        ["Ingress", "Egress"],
        [{"ports": [{"protocol": "TCP", "port": 80}]}],
    )
    rows = (await api.get(POLICIES, accept=TABLE)).json["rows"]
    assert [row["cells"] for row in rows] == [["in", "a=b", "0s"], ["out", "<none>", "0s"]]
    changed = await api.patch(f"{POLICIES}/in", {"spec": {"podSelector": {"matchLabels": {"a": "c"}}}})
    assert changed.json["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (_peer(), "spec.ingress[0].from[0]: Required value: must specify a peer"),
        (
            _peer(podSelector={}, ipBlock={"cidr": "10.0.0.0/8"}),
            "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
        ),
        (_peer(ipBlock={"cidr": ""}), "spec.ingress[0].from[0].ipBlock.cidr: Required value"),
        (
            _peer(ipBlock={"cidr": "10.0.0.0"}),
            'ipBlock.cidr: Invalid value: "10.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or',
        ),
        (
            _peer(ipBlock={"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}),
            'ipBlock.except[0]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`',
        ),
        (
            _peer(ipBlock={"cidr": "10.0.0.0/8", "except": ["11.1.0.0/16"]}),
            'ipBlock.except[0]: Invalid value: "11.1.0.0/16": must be a strict subset of `cidr`',
        ),
        (
            _port(port=80, protocol="ICMP"),
            (
                'spec.egress[0].ports[0].protocol: Unsupported value: "ICMP": supported values: '
                '"TCP", "UDP", '
                '"SCTP"'
            ),
        ),
        (
            _port(port=70000),
            "spec.egress[0].ports[0].port: Invalid value: 70000: must be between 1 and 65535",
        ),
        (
            _port(port=80, endPort=79),
            "spec.egress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
        ),
        (
            _port(port="web", endPort=80),
            (
                "spec.egress[0].ports[0].endPort: Invalid value: 80: may not be specified when `port` "
                "is non-numeric"
            ),
        ),
        (
            _port(endPort=80),
            "ports[0].endPort: Invalid value: 80: may not be specified when `port` is not specified",
        ),
        (
            {"policyTypes": ["Sideways"]},
            'spec.policyTypes[0]: Unsupported value: "Sideways": supported values: "Ingress", "Egress"',
        ),
    ],
)
async def test_what_no_policy_of_the_network_may_say(api: Any, spec: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(POLICIES, _named("p", podSelector={}, **spec))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_networks_that_could_be_meant_otherwise_are_warned_of(api: Any) -> None:
    """An address within a network may have been meant alone."""
    block = {"cidr": "10.1.2.3/8", "except": ["10.1.0.0/16"]}
    stored = await api.post(POLICIES, _named("p", podSelector={}, **_peer(ipBlock=block)))
    assert any(
        r"spec.ingress[0].from[0].ipBlock.cidr: CIDR value \"10.1.2.3/8\" is ambiguous in this context"
        in each
        for each in stored.warnings
    ), stored.warnings


async def test_the_network_of_services_is_an_object(api: Any) -> None:
    """It is ready, it cannot be narrowed, and it is made anew."""
    path = f"{GROUP}/servicecidrs"
    kubernetes = (await api.get(f"{path}/kubernetes")).json
    assert kubernetes["status"]["conditions"][0]["status"] == "True"
    cidrs = kubernetes["spec"]["cidrs"]
    assert (await api.get(path, accept=TABLE)).json["rows"][0]["cells"] == ["kubernetes", cidrs[0], "0s"]
    refused = await api.patch(f"{path}/kubernetes", {"spec": {"cidrs": ["10.0.0.0/30"]}})
    assert 'spec.cidrs[0]: Invalid value: "10.0.0.0/30": field is immutable' in refused.json["message"]
    two = await api.patch(f"{path}/kubernetes", {"spec": {"cidrs": [*cidrs, "fd00::/112"]}})
    assert two.status == 200, two.json


@pytest.mark.parametrize(
    ("cidrs", "message"),
    [
        ([], "spec.cidrs: Required value: at least one CIDR required"),
        (
            ["10.0.0.1/8"],
            'spec.cidrs[0]: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix',
        ),
        (
            ["fd00::0/112"],
            'spec.cidrs[0]: Invalid value: "fd00::0/112": must be in canonical form ("fd00::/112")',
        ),
        (["10.0.0.0/8", "11.0.0.0/8"], "may specify no more than one IP for each IP family"),
        (["10.0.0.0/8"] * 3, "may only hold up to 2 values"),
    ],
)
async def test_what_no_network_of_services_may_be(api: Any, cidrs: list[str], message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(f"{GROUP}/servicecidrs", _named("c", cidrs=cidrs))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_an_address_is_called_by_itself(api: Any) -> None:
    """And stays with whom it is for."""
    path, parent = f"{GROUP}/ipaddresses", {"resource": "services", "namespace": "n", "name": "s"}
    for name, message in (
        (
            "a",
            (
                'metadata.name: Invalid value: "a": must be a valid IP address, (e.g. 10.9.8.7 or '
                "2001:db8::ffff)"
            ),
        ),
        ("fd00::0", 'metadata.name: Invalid value: "fd00::0": must be in canonical form ("fd00::")'),
    ):
        refused = await api.post(path, _named(name, parentRef=parent))
        assert (refused.status, message in refused.json["message"]) == (422, True), refused.json
    refused = await api.post(path, _named("10.0.0.9"))
    assert "spec.parentRef: Required value" in refused.json["message"]
    assert (await api.post(path, _named("10.0.0.9", parentRef=parent))).status == 201
    assert (await api.get(path, accept=TABLE)).json["rows"][0]["cells"] == ["10.0.0.9", "services/n/s"]
    refused = await api.patch(f"{path}/10.0.0.9", {"spec": {"parentRef": {"name": "t"}}})
    assert "spec.parentRef: Invalid value" in refused.json["message"]


async def test_users_of_a_namespace_have_its_ingresses(api: Any) -> None:
    """Editors write what viewers read."""
    rules = (await api.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/system:aggregate-to-edit")).json
    own = [rule for rule in rules["rules"] if rule["apiGroups"] == ["networking.k8s.io"]]
    assert [sorted(rule["resources"]) for rule in own] == [["ingresses", "networkpolicies"]]
