"""Which objects are for which workload, in which order they count, and what stays when others change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.mesh.arrival import ROOT, WORKLOAD, authorization, policies, policy, rule

from ondol.api.objects import Key
from ondol.mesh.policy import Context, Mode, Workload, Workloads
from ondol.mesh.translate.translator import Translator
from ondol.mesh.xds import types

DENY_ALL: dict[str, Any] = {"action": "DENY", "rules": [{}]}


def labels(**pairs: str) -> dict[str, Any]:
    return {"selector": {"matchLabels": pairs}}


def target(kind: str = "Service", name: str = "httpbin", group: str = "") -> dict[str, Any]:
    return {"targetRefs": [{"kind": kind, "name": name, "group": group}]}


GATEWAY = "gateway.networking.k8s.io"


@pytest.mark.parametrize(
    ("namespace", "attached", "is_for"),
    [
        ("foo", {}, True),
        ("bar", {}, False),
        (ROOT, {}, True),
        ("foo", labels(app="httpbin"), True),
        ("foo", labels(app="httpbin", version="v2"), False),
        ("bar", labels(app="httpbin"), False),
        (ROOT, labels(app="httpbin"), True),
        (ROOT, labels(app="x"), False),
        ("foo", labels(), True),
        ("foo", target(), True),
        ("foo", target(name="other"), False),
        ("foo", {"targetRef": {"kind": "Service", "name": "httpbin", "group": ""}}, True),
        (ROOT, target(), False),
        ("foo", target("Gateway", "gw", GATEWAY), True),
        ("foo", target("Gateway", "httpbin", GATEWAY), False),
        (ROOT, target("GatewayClass", "istio-waypoint", GATEWAY), True),
        ("foo", target("GatewayClass", "istio-waypoint", GATEWAY), False),
    ],
)
def test_whom_an_object_is_for(namespace: str, attached: dict[str, Any], is_for: bool) -> None:
    """Of its namespace or of a root's, with its labels or behind what it names; for both kinds alike."""
    workload = replace(WORKLOAD, gateways=frozenset({"gw"}))
    denying = authorization(namespace, **DENY_ALL, **attached)
    believing = rule("RequestAuthentication", {"jwtRules": [], **attached}, namespace)
    selected = policies(denying, believing).of(workload)
    assert (len(selected.authorizations), len(selected.authentications)) == (int(is_for), int(is_for))


def mtls(mode: str, namespace: str = "foo", ports: dict[str, str] | None = None, **pairs: str) -> Any:
    spec: dict[str, Any] = {"mtls": {"mode": mode}} | (labels(**pairs) if pairs else {})
    if ports:
        spec["portLevelMtls"] = {port: {"mode": each} for port, each in ports.items()}
    return rule("PeerAuthentication", spec, namespace)


@pytest.mark.parametrize(
    ("objects", "mode", "of_8080"),
    [
        ([], "PERMISSIVE", "PERMISSIVE"),
        ([("STRICT", ROOT)], "STRICT", "STRICT"),
        ([("STRICT", ROOT), ("DISABLE", "foo")], "DISABLE", "DISABLE"),
        ([("STRICT", ROOT), ("UNSET", "foo")], "STRICT", "STRICT"),
        ([("STRICT", "bar")], "PERMISSIVE", "PERMISSIVE"),
        ([("STRICT", "foo"), ("DISABLE", "foo")], "STRICT", "STRICT"),
        ([("STRICT", "foo"), ("PERMISSIVE", "foo", None, "httpbin")], "PERMISSIVE", "PERMISSIVE"),
        ([("STRICT", "foo"), ("UNSET", "foo", {"8080": "DISABLE"}, "httpbin")], "STRICT", "DISABLE"),
        ([("STRICT", "foo"), ("DISABLE", "foo", {"8080": "UNSET"}, "httpbin")], "DISABLE", "DISABLE"),
        ([("STRICT", ROOT, None, "httpbin")], "PERMISSIVE", "PERMISSIVE"),
        ([("STRICT", "foo", None, "other")], "PERMISSIVE", "PERMISSIVE"),
    ],
)
def test_the_closest_mode_counts(objects: list[tuple[Any, ...]], mode: str, of_8080: str) -> None:
    """Workload over namespace over root, of one reach the oldest; UNSET is as around it."""
    layers = [
        mtls(each[0], each[1], *each[2:3], **({"app": each[3]} if each[3:] else {})) for each in objects
    ]
    peers = policy(*layers).peers
    assert (peers.mode(80), peers.mode(8080)) == (Mode(mode), Mode(of_8080))


def test_nothing_asked_for_is_empty() -> None:
    """Then nothing need be done at arrival."""
    assert policy().is_empty
    assert policy(mtls("PERMISSIVE")).is_empty
    assert policy(mtls("DISABLE")).is_empty
    assert policy(rule("RequestAuthentication", {"jwtRules": []})).is_empty
    assert not policy(mtls("UNSET", ports={"8080": "STRICT"}, app="httpbin")).is_empty
    assert not policy(authorization()).is_empty
    assert not policy(authorization(action="AUDIT", rules=[{}])).is_empty


def test_one_selection_is_one_value() -> None:
    """Workloads that the same objects are for share one policy, also across worlds; its origins are these."""
    denying, other = authorization(**DENY_ALL), authorization("bar", **DENY_ALL)
    before, after = policies(denying), policies(denying, other)
    first, second = (before.of(Workload("foo", {"app": app})) for app in ("a", "b"))
    assert first is second
    assert first == after.of(WORKLOAD)
    assert hash(first) == hash(after.of(WORKLOAD))
    assert first.origins == (denying.origin,)
    assert first != policy(authorization(**DENY_ALL))
    context = Context()
    assert first.http_filters(context) == after.of(WORKLOAD).http_filters(context)


def test_filters_stand_in_the_order_in_which_they_decide() -> None:
    """Tokens, then what is logged, denied and allowed; names are Istio's."""
    objects = [
        authorization(rules=[{}]),
        authorization(**DENY_ALL),
        authorization(action="AUDIT", rules=[{}]),
        rule("RequestAuthentication", {"jwtRules": [{"issuer": "x", "jwksUri": "https://x/keys"}]}),
    ]
    filters = policy(*objects).http_filters(Context())
    assert [each.name.rpartition(".")[2] for each in filters] == ["jwt_authn", "rbac", "rbac", "rbac"]
    name = f"ns[foo]-policy[{objects[1].origin.name}]-rule[0]"
    assert name in str(filters[2])
    assert len(policy(*objects).network_filters(Context())) == 3


def test_dry_run_stands_in_the_shadow() -> None:
    """Beside what is in force, under Istio's prefix, and is another version of its object."""
    tried = authorization(dry_run=True, **DENY_ALL)
    (only,) = policy(tried).http_filters(Context())
    assert "istio_dry_run_deny_" in str(only)
    assert tried.is_dry_run
    assert tried.origin.version.endswith("dry-run")


def test_pods_are_workloads_with_the_services_that_select_them(objs: Any) -> None:
    """Ready or not."""
    objs.pod("cart", tier="back")
    for name, selector in (
        ("cart", {"app": "cart"}),
        ("back", {"tier": "back"}),
        ("x", {"app": "x"}),
        ("none", {}),
    ):
        objs.put("Service", name, "default", {"selector": selector, "ports": []})
    world = objs.world()
    workloads = Workloads(world.pods, world.services, names_services=True)
    of = workloads.of(Key("default", "cart"))
    assert of.services == {"cart", "back"}


def test_a_policy_makes_no_route_anew(objs: Any, mesh_config: Any) -> None:
    """What concerns no host leaves the tables of hosts as they were, as the same objects."""
    objs.pod("front")
    objs.service("cart", endpoints=[("10.0.0.1", 80)])
    translator = Translator(mesh_config)
    before = translator.translate(objs.world())
    objs.put("AuthorizationPolicy", "deny", "default", {"action": "DENY", "rules": [{}]})
    objs.put("PeerAuthentication", "strict", "default", {"mtls": {"mode": "STRICT"}})
    after = translator.translate(objs.world())
    assert after.rules is before.rules
    for url in (types.ROUTES, types.CLUSTER):
        earlier, later = before.snapshot.of(url), after.snapshot.of(url)
        assert all(later[name] is resource for name, resource in earlier.items())
