"""`ondol mesh logs`: lines of the proxy, what their flags mean, and the objects behind them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from ondol.cli import connection, main, mesh_logs
from ondol.mesh import flags, lines
from ondol.mesh.flags import Explainer
from ondol.mesh.lines import Line

TEXT: Final = (
    '[2026-11-30T18:00:00.000Z] "GET /cart?x=1 HTTP/1.1" 503 UF,URX '
    "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error} "
    '- "delayed connect error: Connection refused" 0 152 3 - "-" "curl/8" "id-1" "cart:80" "10.0.0.2:8080" '
    "outbound|80||cart.default.svc.cluster.local - 10.101.0.9:80 10.0.0.1:40000 - http-0"
)
CART: Final = "outbound|80||cart.default.svc.cluster.local"
CERTIFIED: Final = "outbound|80|v1|cart.default.svc.cluster.local"


class Listing:
    """A client of an API in which the documents of a world stand."""

    def __init__(self, documents: dict[str, list[Any]]) -> None:
        self._documents = documents

    async def list(self, resource: Any) -> Any:
        return type("Listed", (), {"items": self._documents[resource.kind]})

    async def aclose(self) -> None:
        return None


def documents(objs: Any) -> dict[str, list[Any]]:
    return {kind: objs.of(kind) for kind in flags.RESOURCES}


@pytest.fixture
def shop(objs: Any) -> Any:
    """A front that calls a cart under rules of every kind."""
    for name, address in (("front", "10.0.0.1"), ("cart", "10.0.0.2")):
        objs.pod(name, version="v1")["status"]["podIP"] = address
    objs.service("cart", ("http", 80), endpoints=[("10.0.0.2", 8080)], pods=["cart"])
    objs.gateway()
    subset = {"name": "v1", "labels": {"version": "v1"}}
    pool = {"connectionPool": {"tcp": {"maxConnections": 1}}, "outlierDetection": {"interval": "1s"}}
    objs.destination_rule("cart", {"host": "cart", "trafficPolicy": pool, "subsets": [subset]})
    route = {"route": [{"destination": {"host": "cart"}}], "timeout": "1s"}
    objs.virtual_service("cart", {"hosts": ["cart"], "http": [route]})
    at_ingress = {"hosts": ["*.example"], "gateways": ["ondol-system/ingress"], "http": [route]}
    objs.virtual_service("outside", at_ingress)
    selector = {"selector": {"matchLabels": {"app": "cart"}}}
    objs.put("AuthorizationPolicy", "only-front", "default", {**selector, "rules": [{}]})
    custom = {**selector, "action": "CUSTOM", "provider": {"name": "opa"}, "rules": [{}]}
    objs.put("AuthorizationPolicy", "asked", "default", custom)
    rules = [{"issuer": "someone", "jwksUri": "https://keys.example"}]
    objs.put("RequestAuthentication", "tokens", "default", {**selector, "jwtRules": rules})
    return objs


def line(*shown: str, **more: Any) -> Line:
    fields = {"authority": "cart", "cluster": CART, "caller": "10.0.0.1", "workload": "default/front"}
    return Line("", flags=shown, **{**fields, **more})


RBAC: Final = "rbac_access_denied_matched_policy"
AT_CART: Final = {"workload": "default/cart", "reporter": "destination", "cluster": "x", "code": 403}
AT_INGRESS: Final = {"workload": "istio-system/istio-ingressgateway", "caller": "9.9.9.9"}


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (
            line("UF", upstream="10.0.0.2:8080", failure="Connection refused"),
            "pod default/cart at 10.0.0.2:8080",
        ),
        (
            line("UF", upstream="10.0.0.9:1", details="x{connection_timeout}"),
            "10.0.0.9:1 did not answer",
        ),
        (line("UF", failure="TLS_error: CERTIFICATE_VERIFY"), "see tls of DestinationRule default/cart"),
        (line("UO"), "connectionPool of DestinationRule default/cart"),
        (line("UH"), "cart.default.svc.cluster.local has no ready pod behind port 80"),
        (line("UH", cluster=CERTIFIED), "in subset v1"),
        (line("UH"), "outlierDetection of DestinationRule default/cart"),
        (line("UT", route="http-0"), "VirtualService default/cart, route http-0"),
        (line("URX"), "VirtualService default/cart"),
        (line("FI", route="http-0", cluster=""), "FI: an error was injected"),
        (line("FI", route="http-0", cluster=""), "VirtualService default/cart, route http-0"),
        (line("DI"), "VirtualService default/cart"),
        (line("NC", cluster=""), "VirtualService default/cart"),
        (
            line("NR", method="GET", path="/x", cluster=""),
            "default/cart has no route for GET /x",
        ),
        (line("NR", authority="else", cluster=""), "nobody has the host else"),
        (
            line("NR", cluster="", **{**AT_INGRESS, "authority": "no.such"}),
            "no VirtualService at the ingress",
        ),
        (line("UT", **{**AT_INGRESS, "authority": "a.example:80"}), "VirtualService default/outside"),
        (line("UAEX", **AT_CART), "AuthorizationPolicy default/asked asks provider opa"),
        (line("DC"), "the caller hung up"),
        (line("XX"), "XX: see"),
        (
            line(details=f"{RBAC}[ns[default]-policy[only-front]-rule[2]]", **AT_CART),
            "RBAC: access denied by AuthorizationPolicy default/only-front, rule 2",
        ),
        (
            line(details=f"{RBAC}[none]", **AT_CART),
            "no rule lets it in of AuthorizationPolicy default/only-front",
        ),
        (line(details="jwt_authn_access_denied{Jwt_is_expired}", **AT_CART), "Jwt is expired"),
        (
            line(details="jwt_authn_access_denied{Jwt_is_expired}", **AT_CART),
            "RequestAuthentication default/tokens",
        ),
        (line(code=403, details="via_upstream"), "see its own lines"),
    ],
)
def test_flags_are_told_with_the_object_behind_them(shop: Any, of: Line, words: str) -> None:
    """In plain words: which rule, which pod, which policy."""
    assert words in " / ".join(Explainer(documents(shop)).explain(of))


def test_what_went_well_has_no_explanation(shop: Any) -> None:
    """Nor has an answer of the application's own."""
    explainer = Explainer(documents(shop))
    assert explainer.explain(line(code=200, details="via_upstream")) == []
    assert explainer.explain(line(code=500, details="via_upstream")) == []


@pytest.mark.parametrize(
    ("of", "name", "is_concerned"),
    [
        (line(), "front", True),
        (line(upstream="10.0.0.2:8080"), "cart", True),
        (line(workload=""), "front", True),
        (line(workload="", caller="10.9.9.9"), "front", False),
        (line(), "cart", False),
    ],
)
def test_a_line_is_of_who_calls_and_who_is_called(shop: Any, of: Line, name: str, is_concerned: bool) -> None:
    """By the name in it, or by the addresses of pods."""
    assert Explainer(documents(shop)).concerns(of, "default", name) is is_concerned
    assert not Explainer(documents(shop)).concerns(of, "other", name)


def test_lines_of_both_forms_are_read() -> None:
    """Istio's text and JSON; what is neither is left out."""
    read = lines.parsed(TEXT + "\n")
    assert read is not None
    assert (read.method, read.path, read.code, read.flags) == ("GET", "/cart?x=1", 503, ("UF", "URX"))
    assert (read.authority, read.upstream, read.cluster) == ("cart:80", "10.0.0.2:8080", CART)
    assert (read.caller, read.route, read.failure) == (
        "10.0.0.1",
        "http-0",
        "delayed connect error: Connection refused",
    )
    connection_line = TEXT.replace("GET /cart?x=1 HTTP/1.1", "- - -").replace("503 UF,URX", "0 -")
    bytes_ = lines.parsed(connection_line)
    assert bytes_ is not None
    assert (bytes_.method, bytes_.path, bytes_.code, bytes_.flags) == ("", "", 0, ())
    shown = {
        "response_code": 403,
        "response_flags": "-",
        "workload": "a/b",
        "downstream_remote_address": "[::1]:80",
    }
    in_json = lines.parsed(json.dumps(shown))
    assert in_json is not None
    assert (in_json.code, in_json.flags, in_json.workload, in_json.caller) == (403, (), "a/b", "::1")
    assert lines.parsed('{"cut": ') is None
    assert lines.parsed("something else") is None


def test_the_command_shows_lines_and_why(shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a workload, of problems, or all; the end that was kept comes first."""
    client = Listing(documents(shop))
    connected = type("Connected", (), {"client": client, "namespace": "default"})
    monkeypatch.setattr(connection, "connect", lambda *_: connected)
    file = tmp_path / "access.log"
    good = {"workload": "default/front", "response_code": 200, "path": "/good"}
    entry = {"workload": "istio-system/istio-ingressgateway", "response_code": 200, "path": "/entry"}
    file.with_suffix(".log.1").write_text(json.dumps(good) + "\n")
    file.write_text(f"{TEXT}\n{json.dumps(entry)}\n")

    def shown(*words: str) -> str:
        outcome = CliRunner().invoke(main.app, ["mesh", "logs", *words, "--file", str(file)])
        assert outcome.exit_code == 0, outcome.output
        return outcome.output

    everything = shown()
    assert everything.index("/good") < everything.index("/cart") < everything.index("/entry")
    assert "    UF: the connection to the endpoint failed: pod default/cart" in everything
    of_front = shown("deployment/front")
    assert "/cart" in of_front
    assert "/entry" not in of_front
    assert "/good" not in shown("front", "--problems")
    assert "/cart" not in shown("ingress")
    assert "/cart" not in shown("--tail", "1")
    (document,) = json.loads(shown("cart", "-o", "json"))
    assert document["flags"] == ["UF", "URX"]
    outcome = CliRunner().invoke(main.app, ["mesh", "logs", "--file", str(tmp_path / "none")])
    assert outcome.exit_code != 0
    assert mesh_logs._FILE == "access.log"
