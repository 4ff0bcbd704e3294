"""VirtualServices that leave routes to others: how they are joined, and what a change concerns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from typer.testing import CliRunner

from ondol.api.objects import Key
from ondol.mesh import analysis, explain
from ondol.mesh.acceptance import Acceptance
from ondol.mesh.config import MeshConfig
from ondol.mesh.evaluate import Call, from_pod
from ondol.mesh.kinds import KINDS
from ondol.mesh.model import istio
from ondol.mesh.translate import delegation
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.translator import Translator
from ondol.mesh.translate.world import Translation
from ondol.mesh.xds import types

Translate = Callable[[Any], Translation]


def to(host: str, **more: Any) -> dict[str, Any]:
    return {"route": [{"destination": {"host": host}}], **more}


def path(prefix: str = "", exact: str = "", regex: str = "", **more: Any) -> dict[str, Any]:
    texts = {"prefix": prefix, "exact": exact, "regex": regex}
    uri = {name: text for name, text in texts.items() if text}
    return {"uri": uri, **more} if uri else more


@pytest.fixture
def shop(objs: Any) -> Any:
    """A shop whose books another namespace's delegate takes, with services of one name in both."""
    objs.pod("client")
    for namespace in ("default", "other"):
        objs.service("books", namespace=namespace, endpoints=[("10.100.0.1", 80)])
    objs.service("shop")
    leave = {"delegate": {"name": "books", "namespace": "other"}, "match": [path("/books")]}
    objs.virtual_service("shop", {"hosts": ["shop"], "http": [{**leave, "timeout": "3s"}, to("shop")]})
    own = [to("books", match=[path("/books/new")]), to("books", name="odd", match=[path("/else")])]
    objs.virtual_service("books", {"http": own}, namespace="other")
    return objs


def where(translation: Translation, uri: str, **more: Any) -> tuple[str, ...]:
    plan = translation.pods[Key("default", "client")]
    verdict = from_pod(translation.snapshot, plan, Call(host="shop", path=uri, **more))
    return (verdict.route, *verdict.clusters)


def test_the_delegates_routes_stand_in_the_place_of_the_roots(shop: Any, translate: Translate) -> None:
    """Hosts are completed in the delegate's namespace; what is outside the root's condition is left out."""
    translation = translate(shop)
    cluster = "outbound|80||books.other.svc.cluster.local"
    assert where(translation, "/books/new/1") == ("http-0-http-0", cluster)
    assert where(translation, "/books")[0] == "http-1"
    assert where(translation, "/else")[0] == "http-1"
    verdict = from_pod(
        translation.snapshot,
        translation.pods[Key("default", "client")],
        Call(host="shop", path="/books/new"),
    )
    assert verdict.message.route.timeout.seconds == 3


def test_a_delegates_change_is_translated_like_a_new_world(
    shop: Any, translate: Translate, mesh_config: MeshConfig
) -> None:
    """Its routes, its end, its services and whom it lends itself to: all of it changes its root's table."""
    translate(shop)

    def anew() -> Translation:
        changed, new = translate(shop), Translator(mesh_config).translate(shop.world())
        assert changed.snapshot == new.snapshot
        return changed

    shop.virtual_service("books", {"http": [to("books", name="all")]}, namespace="other")
    assert where(anew(), "/books")[0] == "http-0-all"
    shop.virtual_service("books", {"exportTo": ["."], "http": [to("books")]}, namespace="other")
    assert where(anew(), "/books")[0] == "http-1"
    shop.virtual_service("books", {"exportTo": ["default"], "http": [to("books.default")]}, namespace="other")
    assert where(anew(), "/books")[1] == "outbound|80||books.default.svc.cluster.local"
    shop.drop("Service", "books", "default")
    assert where(anew(), "/books")[1] == "outbound|80||books.default"
    shop.drop("VirtualService", "books", "other")
    assert where(anew(), "/books")[0] == "http-1"


def test_another_rule_is_not_made_anew_for_a_delegate(shop: Any, mesh_config: MeshConfig) -> None:
    """As many values are made among twenty other rules as among none."""

    def cost() -> int:
        translator = Translator(mesh_config)
        translator.translate(shop.world())
        before = translator.cache.misses
        shop.virtual_service("books", {"http": [to("books")]}, namespace="other")
        translator.translate(shop.world())
        return translator.cache.misses - before

    alone = cost()
    for number in range(20):
        shop.service(f"s{number}")
        shop.virtual_service(f"s{number}", {"hosts": [f"s{number}"], "http": [to(f"s{number}")]})
    assert cost() == alone


def test_both_stand_on_what_is_made_of_them(shop: Any, translate: Translate) -> None:
    """So a refusal by the proxy finds the delegate, and its conditions say that it runs."""
    table = translate(shop).snapshot.of(types.ROUTES)["80|default"]
    assert {origin.name for origin in table.origins} == {"shop", "books"}


def test_a_delegate_that_the_proxy_refuses_steps_back_alone(shop: Any, mesh_config: MeshConfig) -> None:
    """Its root runs on without it, or with its last good version."""
    acceptance = Acceptance()
    documents = shop.of("VirtualService")
    rules = acceptance.admit("VirtualService", documents)
    world = shop.world()
    good = Translator(mesh_config).translate(world).snapshot.of(types.ROUTES)["80|default"]
    own = tuple(rule.origin for rule in rules)
    resource = types.Resource(good.name, good.version, good.body, own)
    acceptance.observe([types.Accepted(types.ROUTES, (resource,))])
    shop.virtual_service("books", {"http": [to("books", match=[{"uri": {"regex": "("}}])]}, namespace="other")
    newer = acceptance.admit("VirtualService", shop.of("VirtualService"))
    bad = types.Resource(good.name, "bad", b"", tuple(rule.origin for rule in newer))
    acceptance.observe([types.Rejected(types.ROUTES, bad, "no regex", accepted=resource)])
    refused = {obj["metadata"]["name"]: acceptance.refusal("VirtualService", obj) for obj in documents[:1]}
    assert refused == {"shop": None}
    books = next(obj for obj in shop.of("VirtualService") if obj["metadata"]["name"] == "books")
    refusal = acceptance.refusal("VirtualService", books)
    assert refusal is not None
    assert refusal.reason == "RejectedByProxy"


def test_findings_tell_what_is_left_out(shop: Any, translate: Translate) -> None:
    """A delegate that is not there, is no delegate, lends itself elsewhere, or is excluded."""

    def codes() -> list[tuple[str, str]]:
        world = shop.world()
        listed = analysis.findings(world, translate(shop))
        return [(each.code, each.message) for each in listed if each.origin.name == "shop"]

    (code, text) = codes()[0]
    assert (code, "http[1] matches what this route does not" in text) == ("IST0130", True)
    shop.virtual_service("books", {"exportTo": ["."], "http": [to("books")]}, namespace="other")
    assert codes()[0][0] == "IST0101"
    shop.virtual_service("books", {"hosts": ["books"], "http": [to("books")]}, namespace="other")
    assert "hosts of its own" in codes()[0][1]
    shop.drop("VirtualService", "books", "other")
    assert "no such VirtualService" in codes()[0][1]


def test_the_explanation_names_the_delegate(shop: Any) -> None:
    """Who asks where a call goes hears of both."""
    documents = {kind: shop.of(kind) for kind in explain.RESOURCES}
    call = Call(host="shop", path="/books/new", target="shop")
    explanation = explain.explain(documents, Key("default", "client"), call)
    assert explanation.rules == ("default/shop with delegate other/books",)


@pytest.mark.parametrize(
    ("root", "own", "expected"),
    [
        ([], [path("/a")], [path("/a")]),
        ([path("/a")], [], [path("/a")]),
        ([path("/a")], [path("/a/b")], [path("/a/b")]),
        ([path("/a")], [path(exact="/a/b")], [path(exact="/a/b")]),
        ([path("/a")], [path("/b")], None),
        ([path(exact="/a")], [path("/a")], None),
        ([path(exact="/a")], [path(exact="/a")], [path(exact="/a")]),
        ([path(regex="/a.*")], [path(exact="/a")], None),
        ([path(regex="/a.*")], [path(regex="/a.*")], [path(regex="/a.*")]),
        (
            [path(regex="/a.*")],
            [path(method={"exact": "GET"})],
            [path(regex="/a.*", method={"exact": "GET"})],
        ),
        ([path(port=80)], [path(port=81)], None),
        ([path("/A", ignoreUriCase=True)], [path("/A/b")], None),
        ([path("/a"), path("/b")], [path("/b/c")], [path("/b/c")]),
        ([path("/a")], [path("/a/b"), path("/c")], None),
        (
            [path(headers={"x": {"exact": "1"}})],
            [path("/a", headers={"y": {}})],
            [path("/a", headers={"x": {"exact": "1"}, "y": {}})],
        ),
        (
            [path(headers={"x": {}})],
            [path(headers={"x": {"exact": "1"}})],
            [path(headers={"x": {"exact": "1"}})],
        ),
        ([path(headers={"x": {"exact": "1"}})], [path(headers={"x": {"exact": "2"}})], None),
        ([path(queryParams={"q": {"prefix": "a"}})], [path(queryParams={"q": {"exact": "b"}})], None),
        (
            [path("/a", sourceNamespace="ns", gateways=["mesh"])],
            [path("/a/b")],
            [path("/a/b", sourceNamespace="ns", gateways=["mesh"])],
        ),
    ],
)
def test_conditions_join(root: Sequence[Any], own: Sequence[Any], expected: Sequence[Any] | None) -> None:
    """Each of the delegate's must be within one of the root's; of each field the closer one holds."""

    def read(listed: Sequence[Any]) -> tuple[istio.HTTPMatchRequest, ...]:
        route = to("web", match=list(listed))
        return istio.read(istio.HTTPRoute, {"spec": route}).match

    joined = delegation.matches(read(root), read(own))
    assert joined == (None if expected is None else read(expected))


@pytest.mark.parametrize(
    ("root", "own", "expected"),
    [
        ({"timeout": "3s"}, {"timeout": "1s"}, {"timeout": "1s"}),
        ({"timeout": "3s"}, {}, {"timeout": "3s"}),
        (
            {"rewrite": {"uri": "/"}},
            {"rewrite": {"authority": "a"}},
            {"rewrite": istio.HTTPRewrite(authority="a")},
        ),
        ({"retries": {"attempts": 1}}, {}, {"retries": istio.HTTPRetry(attempts=1)}),
        ({"mirrors": [{"destination": {"host": "a"}}]}, {"mirror": {"host": "books"}}, {"mirrors": ()}),
        ({"mirror": {"host": "a"}}, {"mirrors": [{"destination": {"host": "b"}}]}, {"mirror": None}),
    ],
)
def test_what_a_delegate_does_not_say_its_root_says(
    shop: Any, translate: Translate, root: Any, own: Any, expected: dict[str, Any]
) -> None:
    """Whole fields, as in Istio: a rewrite is one or the other."""
    leave = {"delegate": {"name": "books", "namespace": "other"}, **root}
    shop.virtual_service("shop", {"hosts": ["shop"], "http": [leave]})
    shop.virtual_service("books", {"http": [to("books", **own)]}, namespace="other")
    rule = next(each for each in translate(shop).rules.listed if each.origin.name == "shop")
    assert {name: getattr(rule.spec.http[0], name) for name in expected} == expected


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"http": [{"delegate": {"name": "a"}}]}, "cannot delegate once more"),
        ({"http": [to("web", match=[{"sourceNamespace": "a"}])]}, "for the VirtualService that delegates"),
        ({"http": [to("web", match=[{"gateways": ["mesh"]}])]}, "for the VirtualService that delegates"),
        ({"gateways": ["mesh"], "http": [to("web")]}, "has no gateways"),
        ({"hosts": ["a"], "http": [to("web", delegate={"name": "a"})]}, "cannot stand together"),
        ({"hosts": ["a"], "http": [{"delegate": {"name": "A_b"}}]}, "no name"),
    ],
)
def test_what_cannot_be_delegated_is_refused(spec: dict[str, Any], words: str) -> None:
    """One level, and what a delegate cannot know of its callers is its root's to say."""
    kind = KINDS["VirtualService"]
    with pytest.raises(istio.Refused, match=words):
        kind.check(istio.read(kind.spec, {"spec": spec}))


def test_the_command_tells_of_faults(objs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done on purpose is no riddle to whoever asks where a call goes."""
    from tests.mesh.test_mesh_explain import Listing  # noqa: PLC0415 - the command's client

    from ondol.cli import connection, main  # noqa: PLC0415 - one test alone

    objs.pod("client")
    objs.service("web", endpoints=[("10.100.0.1", 80)])
    fault = {
        "delay": {"fixedDelay": "2s", "percent": 50},
        "abort": {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 0.5}},
    }
    objs.virtual_service("web", {"hosts": ["web"], "http": [to("web", fault=fault)]})
    listing = Listing({kind: objs.of(kind) for kind in explain.RESOURCES})
    connected = type("Connected", (), {"client": listing, "namespace": "default"})
    monkeypatch.setattr(connection, "connect", lambda *_: connected)
    answer = CliRunner().invoke(main.app, ["mesh", "route", "web", "--from", "client"])
    assert "Faults: 2000 ms of delay for 50%; UNAVAILABLE instead of an answer for 0.5%" in answer.output


def test_routes_have_the_root_s_name_before_theirs(shop: Any, translate: Translate) -> None:
    """Routes of two delegates of one root are told apart."""
    body = translate(shop).snapshot.of(types.ROUTES)["80|default"].body
    table = m.route.RouteConfiguration.FromString(body)
    host = next(each for each in table.virtual_hosts if each.name.startswith("shop."))
    assert [route.name for route in host.routes] == ["http-0-http-0", "http-1"]
