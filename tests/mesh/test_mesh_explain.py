"""`ondol mesh route`: which host, path and headers from which pod go where, and by which rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from ondol.api.objects import Key
from ondol.base import errors
from ondol.cli import connection, main
from ondol.mesh import explain
from ondol.mesh.evaluate import Call
from ondol.mesh.kinds import KINDS

CALLER = Key("default", "client")


class Listing:
    """A client of an API in which the documents of a world stand."""

    def __init__(self, documents: dict[str, list[Any]]) -> None:
        self._documents = documents

    async def list(self, resource: Any) -> Any:
        """What is listed has `items`."""
        return type("Listed", (), {"items": self._documents[resource.kind]})

    async def aclose(self) -> None:
        return None


def documents(objs: Any) -> dict[str, list[Any]]:
    return {kind: objs.of(kind) for kind in explain.RESOURCES}


@pytest.fixture
def shop(objs: Any) -> Any:
    """Reviews in two versions, of which a header and a weight choose; one host at the ingress."""
    objs.pod("client")
    objs.pod("client", namespace="other")
    for version in ("1", "2"):
        objs.pod(f"reviews-{version}", version=f"v{version}")
    addresses = [("10.100.0.1", 9080), ("10.100.0.2", 9080)]
    objs.service(
        "reviews", ("http", 9080), ip="10.101.0.5", endpoints=addresses, pods=["reviews-1", "reviews-2"]
    )
    objs.service("db", ("tcp-sql", 5432), ip="10.101.0.7", endpoints=[("10.100.0.9", 5432)])
    objs.service("idle")
    subsets = [{"name": each, "labels": {"version": each}} for each in ("v1", "v2")]
    objs.destination_rule("reviews", {"host": "reviews", "subsets": subsets})
    shares = [{"destination": to("v1"), "weight": 90}, {"destination": to("v2"), "weight": 10}]
    objs.virtual_service(
        "reviews",
        {
            "hosts": ["reviews"],
            "http": [
                {
                    "name": "jason",
                    "match": [{"headers": {"x-user": {"exact": "jason"}}}],
                    "route": [{"destination": to("v2")}],
                },
                {"route": shares},
            ],
        },
    )
    objs.gateway()
    at_ingress = {"hosts": ["shop.example"], "gateways": ["ondol-system/ingress"]}
    redirect = {"redirect": {"uri": "/new"}, "match": [{"uri": {"prefix": "/old"}}]}
    routes = [redirect, {"route": [{"destination": to("v1")}]}]
    objs.virtual_service("shop", {**at_ingress, "http": routes})
    return objs


def to(subset: str) -> dict[str, Any]:
    return {"host": "reviews", "subset": subset, "port": {"number": 9080}}


@pytest.fixture
def ask(shop: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs the command over the shop."""

    def connect(*_: Any) -> connection.Connection:
        client: Any = Listing(documents(shop))
        return connection.Connection(client, "default")

    monkeypatch.setattr(connection, "connect", connect)
    return lambda *words: CliRunner().invoke(main.app, ["mesh", "route", *words], catch_exceptions=False)


def test_a_rule_splits_by_weight(ask: Callable[..., Any]) -> None:
    """Each destination with its share, subset and endpoints."""
    lines = ask("reviews:9080", "--from", "client").stdout.splitlines()
    assert lines[:2] == ["Rule:   VirtualService default/reviews, route http-1", "Result: sent on"]
    rows = [line.split() for line in lines[4:]]
    host = "reviews.default.svc.cluster.local:9080"
    assert rows == [["90%", host, "v1", "10.100.0.1:9080"], ["10%", host, "v2", "10.100.0.2:9080"]]


def test_a_header_chooses_another_route(ask: Callable[..., Any]) -> None:
    """By the route's own name."""
    answer = ask("http://reviews:9080/x", "--from", "client", "-H", "x-user: jason").stdout
    assert "VirtualService default/reviews, route jason" in answer
    assert "v1" not in answer


def test_from_outside_the_ingress_decides(ask: Callable[..., Any]) -> None:
    """Its rule, and what the proxy answers by itself; an unknown host has no route."""
    assert "default/shop, route http-1" in ask("shop.example/").stdout
    moved = ask("shop.example/old/x").stdout
    assert "default/shop, route http-0" in moved
    assert "Result: 301 from the proxy" in moved
    assert "404 from the proxy" in ask("nobody.example").stdout
    assert "no Gateway listens" in ask("shop.example:9999").stdout


@pytest.mark.parametrize(
    ("url", "result", "text"),
    [
        ("tcp://db:5432", "sent on", "10.100.0.9:5432"),
        ("idle", "503 from the proxy", "idle.default.svc.cluster.local:80"),
        ("example.com", "the mesh does not know the destination", "PassthroughCluster"),
    ],
)
def test_without_a_rule_the_service_decides(
    ask: Callable[..., Any], url: str, result: str, text: str
) -> None:
    """Bytes by the service's address; nobody ready; a host outside."""
    answer = ask(url, "--from", "client").stdout
    assert answer.startswith("Rule:   none")
    assert result in answer
    assert text in answer


def test_documents_name_the_same(ask: Callable[..., Any]) -> None:
    """For scripts, as JSON."""
    answer = ask("reviews:9080", "--from", "client", "-o", "json").stdout
    assert '"rules": [\n    "default/reviews"' in answer
    assert '"weight": 90' in answer


@pytest.mark.parametrize("url", ["", "http://", "tcp://db", "ftp://x", "reviews:99999"])
def test_what_is_no_call_is_said(ask: Callable[..., Any], url: str) -> None:
    """A misspelt URL is a wrong use of the command, whatever there is."""
    assert ask(url, "--from", "client").exit_code == 2


def test_a_header_needs_a_colon(ask: Callable[..., Any]) -> None:
    """As curl writes them."""
    assert ask("reviews", "--from", "client", "-H", "jason").exit_code == 2


def test_a_pod_that_is_not_carried_is_named_with_the_reason(shop: Any) -> None:
    """One that does not exist, one outside the mesh, one that does not run."""
    shop.pod("outside", **{"istio.io/dataplane-mode": "none"})
    shop.pod("pending")["status"]["conditions"] = []
    call = Call(host="reviews")
    for name, reason in (("gone", "not found"), ("outside", "not in the mesh"), ("pending", "does not run")):
        with pytest.raises(errors.NotFound, match=reason):
            explain.explain(documents(shop), Key("default", name), call)


def test_what_is_not_in_force_is_named(shop: Any) -> None:
    """A version that validation refuses, and one that the proxy did by its condition."""
    shop.virtual_service("bad", {"hosts": ["bad"], "http": []})
    refused = [{"type": "Accepted", "status": "False", "message": "no such regex"}]
    shop.of("VirtualService")[0]["status"] = {"conditions": refused}
    explanation = explain.explain(documents(shop), CALLER, Call(host="reviews", target="reviews", port=9080))
    assert [each.partition(":")[0] for each in explanation.not_in_force] == [
        "VirtualService default/reviews",
        "VirtualService default/bad",
    ]


def test_each_namespace_sees_its_own_rules(shop: Any) -> None:
    """A rule of another namespace decides for calls from there alone."""
    routes = [{"route": [{"destination": {"host": "idle.default"}}]}]
    shop.virtual_service("theirs", {"hosts": ["reviews.default"], "http": routes}, namespace="other")
    call = Call(host="reviews.default:9080", target="reviews.default", port=9080)
    own, theirs = (
        explain.explain(documents(shop), Key(namespace, "client"), call) for namespace in ("default", "other")
    )
    assert (own.rules, theirs.rules) == (("default/reviews",), ("other/theirs",))


def test_every_kind_is_read() -> None:
    """Whatever the table of kinds has."""
    assert set(KINDS) < set(explain.RESOURCES)


def test_ingresses_are_named(objs: Any) -> None:
    """The Ingress whose path decides, among several of a host."""
    objs.service("web", ip="10.101.0.9")
    objs.put("IngressClass", "ondol", "", {"controller": "ondol.dev/ingress-controller"})
    for name, path in (("front", "/"), ("pay", "/pay")):
        backend = {"service": {"name": "web", "port": {"number": 80}}}
        paths = [{"path": path, "pathType": "Prefix", "backend": backend}]
        rules = [{"host": "shop.example", "http": {"paths": paths}}]
        objs.put("Ingress", name, "default", {"ingressClassName": "ondol", "rules": rules})
    call = Call(port=80, host="shop.example", path="/pay/now", target="shop.example")
    explanation = explain.explain(documents(objs), None, call)
    assert (explanation.kind, explanation.rules) == ("Ingress", ("default/pay",))


def test_connections_are_explained(shop: Any) -> None:
    """Shares of a `tcp` rule and its name; at the ingress by TLS' name, whatever the Secrets."""
    shop.virtual_service(
        "db",
        {
            "hosts": ["db"],
            "tcp": [
                {
                    "route": [
                        {"destination": {"host": "db"}, "weight": 3},
                        {"destination": {"host": "reviews"}, "weight": 1},
                    ]
                }
            ],
        },
    )
    shown = explain.explain(documents(shop), CALLER, Call(port=5432, target="db"))
    assert (shown.rules, shown.verdict.route) == (("default/db",), "tcp-0")
    assert list(shown.verdict.clusters.values()) == [3, 1]
    tls = {"mode": "SIMPLE", "credentialName": "shop"}
    server = {
        "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
        "hosts": ["s.example"],
        "tls": tls,
    }
    shop.gateway("secure", "default", **server)
    where = {"route": [{"destination": to("v2")}]}
    shop.virtual_service("secure", {"hosts": ["s.example"], "gateways": ["secure"], "http": [where]})
    call = Call(port=443, host="s.example", sni="s.example", scheme="https")
    shown = explain.explain(documents(shop), None, call)
    assert shown.rules == ("default/secure",)
    assert [name.split("|")[2] for name in shown.verdict.clusters] == ["v2"]
    shown = explain.explain(documents(shop), None, Call(port=443, host="x.example", sni="x.example"))
    assert (shown.rules, list(shown.verdict.clusters)) == ((), ["BlackHoleCluster"])


def test_hosts_outside_and_what_is_refused(shop: Any, ask: Callable[..., Any]) -> None:
    """TLS by its server's name, HTTP that goes where the caller goes, and what a Sidecar lets nobody call."""
    tls = {"number": 443, "name": "tls", "protocol": "TLS"}
    plain = {"number": 80, "name": "http", "protocol": "HTTP"}
    shop.service_entry("api", {"hosts": ["api.example.com"], "ports": [tls], "resolution": "DNS"})
    shop.service_entry("any", {"hosts": ["*.example.org"], "ports": [plain], "resolution": "NONE"})
    assert "api.example.com:443" in ask("https://api.example.com", "--from", "client").stdout
    assert "where the caller goes" in ask("http://x.example.org/", "--from", "client").stdout
    assert "sent where it was going" in ask("http://x.example.net/", "--from", "client").stdout
    shop.put("Sidecar", "closed", "default", {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}})
    assert "502 from the proxy: the mesh does not" in ask("http://x.example.net/", "--from", "client").stdout
    assert "refused: the mesh does not know" in ask("https://x.example.net/", "--from", "client").stdout
