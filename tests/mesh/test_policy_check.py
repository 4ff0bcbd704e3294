"""`ondol mesh check`: whether a call from somebody to a service is let in, and which object says so."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.mesh.arrival import Issuer
from typer.testing import CliRunner

from ondol.base import errors
from ondol.cli import connection, main
from ondol.mesh import check
from ondol.mesh.policy import Call

ISSUER = Issuer()


class Listing:
    """A client of an API in which the documents of a world stand."""

    def __init__(self, documents: dict[str, list[Any]]) -> None:
        self._documents = documents

    async def list(self, resource: Any) -> Any:
        return type("Listed", (), {"items": self._documents[resource.kind]})

    async def aclose(self) -> None:
        return None


def documents(objs: Any) -> dict[str, list[Any]]:
    return {kind: objs.of(kind) for kind in check.RESOURCES}


@pytest.fixture
def shop(objs: Any) -> Any:
    """A cart that takes GET from the front only; a database; a pod outside the mesh."""
    for name, address in (
        ("front", "10.0.0.1"),
        ("cart", "10.0.0.2"),
        ("db", "10.0.0.3"),
        ("rogue", "10.0.0.4"),
    ):
        pod = objs.pod(name)
        pod["spec"]["serviceAccountName"] = name
        pod["status"]["podIP"] = address
    objs.of("Pod")[-1]["metadata"]["labels"]["istio.io/dataplane-mode"] = "none"
    objs.put("Deployment", "shop", "default", {"selector": {"matchLabels": {"app": "front"}}, "template": {}})
    objs.service("front", endpoints=[("10.0.0.1", 8080)], pods=["front"])
    objs.service("cart", ("http", 80), endpoints=[("10.0.0.2", 8080)], pods=["cart"])
    objs.service("db", ("tcp-sql", 5432), endpoints=[("10.0.0.3", 5432)], pods=["db"])
    objs.service("idle")
    front = {"principals": ["cluster.local/ns/default/sa/front"]}
    objs.put(
        "AuthorizationPolicy",
        "cart",
        "default",
        {
            "selector": {"matchLabels": {"app": "cart"}},
            "rules": [{"from": [{"source": front}], "to": [{"operation": {"methods": ["GET"]}}]}],
        },
    )
    objs.put(
        "PeerAuthentication",
        "db",
        "default",
        {"selector": {"matchLabels": {"app": "db"}}, "mtls": {"mode": "STRICT"}},
    )
    return objs


def asked(shop: Any, caller: str, target: str, **call: Any) -> check.Answer:
    checked = check.check(documents(shop), "default", caller, target, Call(**{"port": 0, **call}))
    assert len(checked.answers) == 1
    return checked.answers[0]


@pytest.mark.parametrize(
    "caller", ["front", "pod/front", "deployment/shop", "service/front", "front.default"]
)
def test_callers_are_named_in_several_ways(shop: Any, caller: str) -> None:
    """All of them are the front, by its certificate."""
    answer = asked(shop, caller, "cart")
    assert answer.decision.allowed
    assert answer.principal == "cluster.local/ns/default/sa/front"
    assert answer.port == 8080
    assert answer.decision.object is not None
    assert answer.decision.object.name == "cart"


def test_who_and_what_is_not_allowed_is_denied(shop: Any) -> None:
    """Another method, another pod, a pod outside the mesh, and whoever is no pod."""
    assert not asked(shop, "front", "cart", method="POST").decision.allowed
    for caller in ("db", "rogue", "outside"):
        assert not asked(shop, caller, "cart").decision.allowed
    assert asked(shop, "rogue", "cart").principal == ""


def test_connections_that_are_not_http(shop: Any) -> None:
    """A port that is declared so is asked as bytes; without mutual TLS a strict one is closed."""
    assert asked(shop, "front", "db").decision.allowed
    refused = asked(shop, "rogue", "db").decision
    assert refused.object is not None
    assert (refused.allowed, refused.object.kind) == (False, "PeerAuthentication")
    assert not asked(shop, "front", "cart", is_http=False).decision.allowed


def test_a_service_without_policies_takes_all(shop: Any) -> None:
    """And nothing decides."""
    decision = asked(shop, "outside", "front").decision
    assert (decision.allowed, decision.object) == (True, None)


def test_what_is_not_there_is_said(shop: Any) -> None:
    """A caller, a service, a port or pods that do not exist."""
    for caller, target, port in (
        ("x", "cart", 0),
        ("front", "x", 0),
        ("front", "cart", 81),
        ("front", "idle", 0),
    ):
        with pytest.raises(errors.NotFound):
            check.check(documents(shop), "default", caller, target, Call(port=port))


def test_a_refused_policy_is_named(shop: Any) -> None:
    """What is not in force decides nothing, and is told."""
    shop.put("AuthorizationPolicy", "wrong", "default", {"action": "DENY"})
    checked = check.check(documents(shop), "default", "front", "cart", Call(port=0))
    assert checked.answers[0].decision.allowed
    assert any("default/wrong" in each for each in checked.not_in_force)


def test_the_command_answers(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Allowed ends with 0, denied with 1, each with the object that decides."""
    connected = connection.Connection(Listing(documents(shop)), "default")  # type: ignore[arg-type]
    monkeypatch.setattr(connection, "connect", lambda *_: connected)
    runner = CliRunner()
    allowed = runner.invoke(main.app, ["mesh", "check", "front", "cart/items"])
    assert allowed.exit_code == 0, allowed.output
    assert "allowed" in allowed.output
    assert "AuthorizationPolicy default/cart (ALLOW default/cart, rule 0)" in allowed.output
    denied = runner.invoke(main.app, ["mesh", "check", "front", "cart", "-X", "POST", "-o", "json"])
    assert denied.exit_code == 1
    (answer,) = json.loads(denied.stdout)["answers"]
    assert (answer["allowed"], answer["object"][2]) == (False, "cart")
    wrong = runner.invoke(main.app, ["mesh", "check", "outside", "cart", "--from-ip", "x"])
    assert wrong.exit_code == 2


def test_the_command_reads_tokens(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written out or as they are."""
    shop.put(
        "RequestAuthentication", "t", "default", {"jwtRules": [{"issuer": ISSUER.name, "jwks": ISSUER.jwks}]}
    )
    only = {"from": [{"source": {"requestPrincipals": ["*"]}}]}
    shop.put(
        "AuthorizationPolicy",
        "front",
        "default",
        {"selector": {"matchLabels": {"app": "front"}}, "rules": [only]},
    )
    connected = connection.Connection(Listing(documents(shop)), "default")  # type: ignore[arg-type]
    monkeypatch.setattr(connection, "connect", lambda *_: connected)
    claims = json.dumps({"iss": ISSUER.name, "sub": "me"})
    words: tuple[list[str], ...] = (
        ["--jwt", ISSUER.token()],
        ["--claims", claims],
        ["--claims", '{"iss": "x"}'],
        [],
    )
    results = [CliRunner().invoke(main.app, ["mesh", "check", "cart", "front", *more]) for more in words]
    assert [each.exit_code for each in results] == [0, 0, 1, 1]
