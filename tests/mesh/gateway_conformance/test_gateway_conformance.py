"""The tables of Gateway API's features, judged by what the translated configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.mesh.gateway_conformance import tables
from tests.mesh.gateway_conformance.judged import Served, answer, serve
from tests.mesh.gateway_conformance.tables import Case

from ondol.api.objects import Key, Object
from ondol.mesh.gateway_api import features, statuses
from ondol.mesh.gateway_api.outcomes import Condition
from ondol.mesh.gateway_api.statuses import Proxy

RUNS = Proxy(lambda _name: True)


@pytest.fixture(params=tables.cases(), ids=lambda case: case.name)
def served(request: pytest.FixtureRequest) -> Served:
    """One case, translated."""
    case: Case = request.param
    return serve(case)


def test_requests_go_where_the_table_says(served: Served) -> None:
    """Backends by weight, answers of the proxy's own, and what is changed on the way."""
    for request in served.case.requests:
        if request.get("only") == "live":
            continue
        verdict = answer(served, request)
        text = f"{dict(request)}: {verdict}"
        if "status" in request:
            assert verdict.status == request["status"], text
        if "location" in request:
            assert verdict.location == request["location"], text
        if "backend" in request:
            assert list(verdict.backends) == [request["backend"]], text
        if "weights" in request:
            assert dict(verdict.backends) == request["weights"], text
        if "mirrors" in request:
            assert dict(verdict.mirrors) == request["mirrors"], text
        _require_changes(request.get("arrives") or {}, verdict, text)


def _require_changes(arrives: Mapping[str, Any], verdict: Any, text: str) -> None:
    for name in ("host", "path"):
        if name in arrives:
            assert getattr(verdict, name) == arrives[name], text
    for name, value in (arrives.get("headers") or {}).items():
        for backend, changed in verdict.headers.items():
            expected = value[backend.rpartition("/")[2]] if isinstance(value, dict) else value
            assert changed.get(name) == expected, text


def test_objects_are_told_what_the_table_says(served: Served) -> None:
    """The conditions of Routes, Gateways and ListenerSets, by type and reason; a minus is False."""
    outcomes = served.expansion.outcomes
    for name, parents in (served.case.document.get("status") or {}).items():
        kind = _kind_of(served.case, name)
        outcomes_of = outcomes.parents[kind, _key(name)]
        assert len(outcomes_of) == len(parents), name
        for each, expected in zip(outcomes_of, parents, strict=True):
            assert each.reference["name"] == expected["parent"].rpartition("/")[2]
            _require({c.type: c for c in each.conditions}, expected, name)
    for kind, field in (("Gateway", "gateways"), ("ListenerSet", "sets_status")):
        for name, expected in (served.case.document.get(field) or {}).items():
            outcome = outcomes.gateways[kind, _key(name)]
            status = statuses.of_gateway({"metadata": {"generation": 1}}, outcome, RUNS, "127.0.0.1", 0.0)
            _require(_by_type(status), expected, name)
            listeners = {each["name"]: each for each in status["listeners"] or ()}
            for listener, of in (expected.get("listeners") or {}).items():
                _require(_by_type(listeners[listener]), of, f"{name} {listener}")
                if "attached" in of:
                    assert listeners[listener]["attachedRoutes"] == of["attached"], name
                if "kinds" in of:
                    assert [each["kind"] for each in listeners[listener]["supportedKinds"]] == of["kinds"]


def _kind_of(case: Case, name: str) -> str:
    return next(
        str(each.get("kind", "HTTPRoute")) for each in case.document["routes"] if each["name"] == name
    )


def _key(name: str) -> Key:
    return Key(*name.split("/"))


def _by_type(of: Object) -> dict[str, Condition]:
    return {
        each["type"]: Condition(each["type"], each["status"], each["reason"], each["message"])
        for each in of["conditions"]
    }


def _require(conditions: Mapping[str, Condition], expected: Mapping[str, Any], text: str) -> None:
    for type_ in ("Accepted", "ResolvedRefs", "Programmed", "Conflicted"):
        if type_ in expected:
            reason = str(expected[type_])
            status = "False" if reason.startswith("-") else "True"
            condition = conditions[type_]
            assert (condition.status, condition.reason) == (status, reason.lstrip("+-")), (
                f"{text}: {condition}"
            )


def test_every_feature_that_is_claimed_has_a_table() -> None:
    """What the status of a GatewayClass lists is in some case, sorted as the API asks."""
    shown = {name for case in tables.cases() for name in case.document["features"]}
    alone = {
        "GatewayPort8080",
        "HTTPRouteDestinationPortMatching",
        "HTTPRouteNamedRouteRule",
        "MeshHTTPRouteNamedRouteRule",
    }
    assert set(features.SUPPORTED) - shown == alone
    assert list(features.SUPPORTED) == sorted(features.SUPPORTED)


def mirrored(fraction: Mapping[str, int]) -> Mapping[str, Any]:
    backend = {"name": "v2", "port": 8080}
    return {"type": "RequestMirror", "requestMirror": {"backendRef": backend, "fraction": fraction}}


def judged_alone(more: Mapping[str, Any]) -> set[str]:
    """The statuses of the conditions of a Route with such a rule."""
    rule = {"backendRefs": [{"name": "v1", "port": 8080}], **more}
    route = {"name": "infra/r", "parents": ["same"], "rules": [rule]}
    served = serve(Case("alone", {"name": "alone", "routes": [route]}))
    ((parent,),) = served.expansion.outcomes.parents.values()
    return {each.status for each in parent.conditions if each.type == "Accepted"}


@pytest.mark.parametrize(
    "more",
    [
        {"retry": {"attempts": 2**40}},
        {"retry": {"attempts": 1, "backoff": "0s"}},
        {"filters": [mirrored({"numerator": 10**400, "denominator": 10**400 + 1})]},
        {"filters": [mirrored({"numerator": 10**400})]},
    ],
)
def test_numbers_that_the_proxy_does_not_take_are_served(more: Mapping[str, Any]) -> None:
    """Gateway API's schemas have no bound for these, and the proxy's numbers do."""
    assert judged_alone(more) == {"True"}


@pytest.mark.parametrize(
    "filter_",
    [
        {"requestHeaderModifier": {"remove": [":path"]}},
        {"requestHeaderModifier": {"remove": ["Host"]}},
        {"requestHeaderModifier": {"remove": [""]}},
        {"requestHeaderModifier": {"add": [{"name": "host", "value": "x"}]}},
        {"requestHeaderModifier": {"set": [{"name": "x", "value": "a\nb"}]}},
        {"responseHeaderModifier": {"set": [{"name": "host", "value": "x"}]}},
        {"responseHeaderModifier": {"remove": [":status"]}},
        {"urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/a\r\nb"}}},
        {"requestRedirect": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/a\nb"}}},
    ],
)
def test_what_the_proxy_does_not_take_is_not_accepted(filter_: Mapping[str, Any]) -> None:
    """It refuses the whole table, and which of several Routes of a host is to blame nobody would know."""
    (name,) = filter_
    assert judged_alone({"filters": [{"type": _TYPES.get(name, name[0].upper() + name[1:]), **filter_}]}) == {
        "False"
    }


def test_a_pattern_that_is_too_large_for_the_proxy_is_not_accepted() -> None:
    """However many instructions it has there, it is read alike here."""
    path = {"type": "RegularExpression", "value": "/a{900}"}
    assert judged_alone({"matches": [{"path": path}]}) == {"False"}


_TYPES = {"urlRewrite": "URLRewrite"}
