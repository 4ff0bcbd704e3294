"""The mesh's rules that Serving makes of a Route: names, shares, tags, retries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st
from tests.serverless.test_serving_documents import parent

from ondol.api.objects import Object
from ondol.mesh import bootstrap
from ondol.mesh.model.istio import StringMatch
from ondol.serverless.serving import names, routing
from ondol.serverless.serving.names import Naming
from ondol.serverless.serving.routing import Target


def rules(targets: list[Target], guarded: Sequence[str] = (), **metadata: Any) -> Object:
    route = parent("Route", {}, **metadata)
    return dict(virtual_service(route, targets, guarded=guarded)["spec"])


def virtual_service(route: Object, targets: list[Target], **options: Any) -> Object:
    traffic = routing.traffic(targets, routing.goal(targets))
    return routing.virtual_service(route, traffic, Naming("localhost"), **options)


def chosen(spec: Object, authority: str, gateway: str = "mesh") -> dict[str, int]:
    """Which revision gets which share of a request to `authority`: the first rule that matches."""
    for rule in spec["http"]:
        for match in rule["match"]:
            name = match.get("authority", {"regex": ".*"})["regex"]
            if gateway in match["gateways"] and re.fullmatch(name, authority):
                return {
                    each["destination"]["host"].partition(".")[0]: each["weight"] for each in rule["route"]
                }
    return {}


def test_shares_of_a_route() -> None:
    """Weights are the percentages; a target with no share is no destination."""
    spec = rules([Target("one", 90), Target("two", 10), Target("three", 0, tag="next")])
    assert chosen(spec, "hello.shop.svc.cluster.local") == {"one": 90, "two": 10}


@pytest.mark.parametrize(
    "authority",
    [
        "hello",
        "hello:80",
        "hello.shop",
        "hello.shop.svc",
        "hello.shop.svc.cluster.local",
        "hello.shop.localhost:8080",
        "HELLO.Shop.localhost",
    ],
)
def test_every_name_of_a_route_is_routed(authority: str) -> None:
    """By the short names inside, the long one, and the public one; with a port or without."""
    assert chosen(rules([Target("one", 100)]), authority) == {"one": 100}


def test_tags_have_names_of_their_own() -> None:
    """A tag's host goes to its revision alone, whatever the shares are and however it is spelled."""
    spec = rules([Target("one", 100, tag="now"), Target("two", 0, tag="next")])
    for gateway in ("mesh", "ondol-system/ingress"):
        assert chosen(spec, "next-hello.shop.localhost", gateway) == {"two": 100}
        assert chosen(spec, "NOW-hello.shop.LOCALHOST:80", gateway) == {"one": 100}
        assert chosen(spec, "hello.shop.localhost", gateway) == {"one": 100}
    assert chosen(spec, "now-hello.shop.svc.cluster.local") == {"one": 100}
    assert {"hello.shop.localhost", "next-hello.shop.localhost"} <= set(spec["hosts"])


@pytest.mark.parametrize(
    "name", ["hello", "hello.shop", "hello.shop.svc", "next-hello.shop.svc.cluster.local"]
)
def test_the_ingress_answers_to_public_names_alone(name: str) -> None:
    """What services call each other is nobody's outside, even when a Host header says it."""
    spec = rules([Target("one", 100), Target("two", 0, tag="next")])
    assert chosen(spec, name, "ondol-system/ingress") == {}
    assert chosen(spec, name) != {}


def test_names_are_never_too_long_for_the_proxy() -> None:
    """With a tag and the longest names the expressions are within what rules may have and Envoy takes."""
    metadata = {"name": "a-" * 15 + "a", "namespace": "n-" * 31 + "n"}
    targets = [Target("one", 100, tag="t-" * 15 + "t")]
    domain = ".".join(["d" * 40] * 5)
    traffic = routing.traffic(targets, routing.goal(targets))
    spec = routing.virtual_service(parent("Route", {}, **metadata), traffic, Naming(domain))["spec"]
    matches = [match["authority"] for rule in spec["http"] for match in rule["match"] if "authority" in match]
    assert len(matches) == 3
    for match in matches:
        msgspec.convert(match, StringMatch)
        assert 100 < re2.compile(match["regex"]).programsize < bootstrap.REGEX_SIZE_MAX


def test_an_answer_must_begin_in_its_revisions_time() -> None:
    """The most patient one's of several, for the proxy has one time for a rule; then it may go on."""
    targets = [Target("one", 90, timeout_s=10), Target("two", 10, timeout_s=20), Target("three", 0, tag="t")]
    listed = rules(targets)["http"]
    assert [rule["retries"]["perTryTimeout"] for rule in listed] == ["300s", "20s"]
    assert not any("timeout" in rule for rule in listed)


def test_applications_are_told_who_asked() -> None:
    """The header that Knative's runtime contract promises, in the words of RFC 7239."""
    (rule,) = rules([Target("one", 100)])["http"]
    added = rule["headers"]["request"]["add"]["forwarded"]
    assert [pair.partition("=")[0] for pair in added.split(";")] == ["for", "host", "proto"]


_TAGS = st.lists(st.sampled_from(["a", "hello"]), min_size=1, max_size=3).map("-".join)


@given(st.lists(_TAGS, unique=True, max_size=5))
def test_no_name_is_taken_for_another(tags: list[str]) -> None:
    """Whatever the tags and their order, each host reaches its own revision, also by its short name."""
    targets = [Target(f"rev-{tag}", 0, tag=tag) for tag in tags]
    spec = rules([*targets, Target("main", 100)])
    hosts = {names.tag_name(tag, "hello"): f"rev-{tag}" for tag in tags} | {"hello": "main"}
    for name, expected in hosts.items():
        for suffix in ("", ":80", ".shop", ".shop.svc.cluster.local", ".shop.localhost"):
            assert chosen(spec, name + suffix) == {expected: 100}, name + suffix


def test_cluster_local_routes_are_not_published() -> None:
    """The visibility label takes the public host and the gateway away."""
    labels = {"networking.knative.dev/visibility": "cluster-local"}
    spec = rules([Target("one", 100)], labels=labels)
    assert spec["gateways"] == ["mesh"]
    assert not any(host.endswith(".localhost") for host in spec["hosts"])
    assert rules([Target("one", 100)])["gateways"] == ["mesh", "ondol-system/ingress"]


def test_only_unsent_requests_are_retried() -> None:
    """The mesh repeats only what no server can have begun."""
    (rule,) = rules([Target("one", 100)])["http"]
    assert set(rule["retries"]["retryOn"].split(",")) == {
        "connect-failure",
        "refused-stream",
        "reset-before-request",
    }


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containerConcurrency": 1}, True),
        ({"idleTimeoutSeconds": 10, "timeoutSeconds": 20}, True),
        ({"idleTimeoutSeconds": 20, "timeoutSeconds": 20}, False),
        ({"containerConcurrency": 0}, False),
        ({"containerConcurrency": 1, "containers": [{"ports": [{"name": "h2c"}]}]}, False),
    ],
)
def test_what_the_activator_always_stands_before(spec: dict[str, Any], expected: bool) -> None:
    """Revisions with limits that it keeps, as far as each of their requests has a connection of its own."""
    assert routing.is_guarded({"spec": spec}) is expected


def test_what_has_no_effects_is_asked_again_when_the_activator_died() -> None:
    """Where it stands before all shares of a rule; what may have effects never is."""
    targets = [Target("one", 90), Target("two", 10)]
    safe, other = rules(targets, ["one", "two"])["http"]
    assert [match["method"] for match in safe["match"]] == [{"regex": "GET|HEAD|OPTIONS"}] * 2
    assert safe["retries"]["retryOn"].split(",")[-1] == "reset"
    assert [other] == rules(targets, ["one"])["http"] == rules(targets)["http"]


def test_a_header_chooses_a_tag() -> None:
    """At the Route's own name and where the feature is on; an unknown tag goes with all the others."""
    targets = [Target("one", 100), Target("two", 0, tag="next")]
    route = parent("Route", {})
    assert len(virtual_service(route, targets)["spec"]["http"]) == 2
    by_tag, by_header, rest = virtual_service(route, targets, by_header=True)["spec"]["http"]
    headers = [match.get("headers") for match in by_header["match"]]
    assert headers == [{"knative-serving-tag": {"exact": "next"}}] * 2
    assert by_header["route"] == by_tag["route"] != rest["route"]
    assert [{**match, "headers": None} for match in rest["match"]] == [
        {**match, "headers": None} for match in by_header["match"]
    ]
