"""Other API servers: whether they are there, and what all serve together."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from tests.apiserver import elsewhere
from tests.apiserver.elsewhere import AGGREGATED, GROUP, ROOT, SERVICES, Answer, Elsewhere

from ondol.api.openapi import gnostic
from ondol.apiserver.aggregation import descriptions, discovery
from ondol.apiserver.aggregation.discovery import Listed

pytestmark = pytest.mark.anyio

SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
OWN = "apiregistration.k8s.io"
TYPE = [(b"content-type", AGGREGATED.encode())]
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@contextlib.asynccontextmanager
async def _registered(start: Callable[..., Any], **spec: Any) -> AsyncIterator[tuple[Any, Elsewhere]]:
    other = Elsewhere()
    async with start(forwarder=other) as api:
        await elsewhere.register(api, **spec)
        yield api, other


async def _pass(api: Any, seconds: float = 31) -> None:
    await api.clock.advance(seconds)
    await api.settle()


async def _freshness(api: Any, group: str = GROUP) -> list[tuple[str, str, int]]:
    """Version, freshness and number of resources of each version of a group."""
    items = (await api.get("/apis", accept=AGGREGATED)).json["items"]
    versions = next(item for item in items if item["metadata"]["name"] == group)["versions"]
    return [(each["version"], each["freshness"], len(each.get("resources", ()))) for each in versions]


async def test_each_step_of_the_way_has_its_reason(start: Callable[..., Any]) -> None:
    """From nothing to passed, each as soon as it is so; in Kubernetes' words."""
    other = Elsewhere()
    async with start(forwarder=other) as api:
        await api.post(SERVICES, elsewhere.api_service())
        await api.settle()
        assert await elsewhere.condition(api) == (
            "False",
            "ServiceNotFound",
            'service/wardle in "default" is not present',
        )
        service = {"metadata": {"name": "wardle"}, "spec": {"ports": [{"name": "https", "port": 8443}]}}
        services = "/api/v1/namespaces/default/services"
        await api.post(services, service)
        await _pass(api, 2)
        assert await elsewhere.condition(api) == (
            "False",
            "ServicePortError",
            'service/wardle in "default" is not listening on port 443',
        )
        ports = [{"name": "https", "port": 443}]
        await api.patch(f"{services}/wardle", {"spec": {"ports": ports}})
        await _pass(api, 2)
        assert await elsewhere.condition(api) == (
            "False",
            "EndpointsNotFound",
            'cannot find endpointslices for service/wardle in "default"',
        )
        await api.post(SLICES, elsewhere.endpoint_slice())
        await _pass(api, 2)
        assert await elsewhere.condition(api) == (
            "False",
            "MissingEndpoints",
            'endpointslices for service/wardle in "default" have no addresses with port name "https"',
        )
        assert other.asked == []
        other.says[ROOT] = Answer(b"", 500)
        live = (await api.get(f"{SLICES}/wardle")).json
        await api.put(f"{SLICES}/wardle", {**live, "endpoints": [{"addresses": ["10.1.0.5"]}]})
        await _pass(api, 2)
        url = f"https://10.1.0.5:8443{ROOT}"
        assert await elsewhere.condition(api) == (
            "False",
            "FailedDiscoveryCheck",
            f"failing or missing response from {url}: bad status from {url}: 500",
        )
        assert other.header("x-remote-user") == [b"system:kube-aggregator"]
        assert other.header("x-remote-group") == [b"system:masters"]
        other.says[ROOT] = Elsewhere().says[ROOT]
        await _pass(api, 3)
        assert await elsewhere.condition(api) == ("True", "Passed", "all checks passed")


async def test_it_is_asked_every_half_minute(start: Callable[..., Any]) -> None:
    """And more often after a failure, at growing intervals; what has not changed is not written again."""
    async with _registered(start) as (api, other):
        version = (await api.get(f"{SERVICES}/v1.{GROUP}")).json["metadata"]["resourceVersion"]
        other.asked.clear()
        await _pass(api, 25)
        assert other.asked == []
        await _pass(api, 7)
        assert [asked.target for _, asked in other.asked] == [ROOT, "/apis", "/openapi/v3", "/openapi/v2"]
        assert (await api.get(f"{SERVICES}/v1.{GROUP}")).json["metadata"]["resourceVersion"] == version
        other.fails = OSError("connect: no route to host")
        counts = []
        for _ in range(8):
            other.asked.clear()
            for _ in range(31):
                await _pass(api, 1)
            counts.append(len(other.asked))
        assert counts[0] < 6, "it is asked more often than once a second"
        assert counts[-1] == 1, counts


async def test_one_endpoint_of_several_is_enough(start: Callable[..., Any]) -> None:
    """The others may hang."""
    other = Elsewhere()
    async with start(forwarder=other) as api:
        asking = other.request

        def request(to: Any, *arguments: Any) -> Any:
            other.hangs_at = "nowhere" if to.host == "10.1.0.7" else "/"
            return asking(to, *arguments)

        other.request = request  # type: ignore[assignment,method-assign]
        await elsewhere.register(api, "10.1.0.5", "10.1.0.6", "10.1.0.7")
        assert (await elsewhere.condition(api))[1] == "Passed"


async def test_an_api_service_comes_back_when_it_is_taken_away(start: Callable[..., Any]) -> None:
    """Of a version that is served here as well: the other server had taken it over."""
    async with _registered(start) as (api, other):
        live = (await api.get(f"{SERVICES}/v1beta1.metrics.k8s.io")).json
        other.says["/apis/metrics.k8s.io/v1beta1"] = other.says[ROOT]
        spec = elsewhere.api_service("metrics.k8s.io", "v1beta1")["spec"]
        assert (await api.put(f"{SERVICES}/v1beta1.metrics.k8s.io", {**live, "spec": spec})).status == 200
        await api.settle()
        await api.get("/apis/metrics.k8s.io/v1beta1/nodes")
        assert other.asked[-1][1].target == "/apis/metrics.k8s.io/v1beta1/nodes"
        live = (await api.get(f"{SERVICES}/v1beta1.metrics.k8s.io")).json
        del live["spec"]["service"], live["spec"]["insecureSkipTLSVerify"]
        await api.put(f"{SERVICES}/v1beta1.metrics.k8s.io", live)
        await api.settle()
        assert (await elsewhere.condition(api, "v1beta1.metrics.k8s.io"))[:2] == ("True", "Local")
        before = len(other.asked)
        own = (await api.get("/apis/metrics.k8s.io/v1beta1")).json
        assert own["groupVersion"] == "metrics.k8s.io/v1beta1"
        assert len(other.asked) == before


async def test_a_version_of_a_definition_can_be_taken_over(start: Callable[..., Any]) -> None:
    """Its other version stays here, and both are in the group."""
    names = {"plural": "flunders", "kind": "Flunder"}
    schema = {"openAPIV3Schema": {"type": "object"}}
    versions = [{"name": v, "served": True, "storage": v == "v2", "schema": schema} for v in ("v1", "v2")]
    crd = {
        "metadata": {
            "name": f"flunders.{GROUP}",
            "annotations": {"api-approved.kubernetes.io": "unapproved"},
        },
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": versions},
    }
    async with _registered(start) as (api, other):
        assert (await api.post(DEFINITIONS, crd)).status == 201
        await _pass(api, 2)
        await _pass(api, 2)
        before = len(other.asked)
        assert (await api.get(f"/apis/{GROUP}/v2/flunders")).json["kind"] == "FlunderList"
        assert len(other.asked) == before
        assert (await api.get(f"{ROOT}/flunders")).status == 404
        assert len(other.asked) == before + 1
        assert {each[0] for each in await _freshness(api)} == {"v1", "v2"}


async def test_discovery_shows_all_servers(start: Callable[..., Any]) -> None:
    """In both forms, in the order of their priorities; what is here is as it was."""
    async with _registered(start, groupPriorityMinimum=17850) as (api, _):
        names = [each["name"] for each in (await api.get("/apis")).json["groups"]]
        assert names[:3] == ["apiregistration.k8s.io", GROUP, "apps"]
        group = (await api.get(f"/apis/{GROUP}")).json
        assert group["preferredVersion"] == {"groupVersion": f"{GROUP}/v1", "version": "v1"}
        answer = await api.get("/apis", accept=AGGREGATED)
        assert [item["metadata"]["name"] for item in answer.json["items"]] == names
        assert await _freshness(api) == [("v1", "Current", 1)]
        again = await api.get("/apis", accept=AGGREGATED, if_none_match=answer.headers["etag"])
        assert again.status == 304
        assert (await api.get("/apis/none.example")).status == 404
        assert ROOT in (await api.get("/")).json["paths"]
        assert (await api.get(ROOT)).json["kind"] == "APIResourceList"


async def test_who_knows_the_old_discovery_only_is_asked_in_it(start: Callable[..., Any]) -> None:
    """Subresources are put below their resources."""
    other = Elsewhere()
    del other.says["/apis"]
    async with start(forwarder=other) as api:
        await elsewhere.register(api)
        items = (await api.get("/apis", accept=AGGREGATED)).json["items"]
        version = next(item for item in items if item["metadata"]["name"] == GROUP)["versions"][0]
        kind = {"group": GROUP, "version": "v1", "kind": "Flunder"}
        assert version["freshness"] == "Current"
        assert version["resources"][0]["responseKind"] == kind
        assert version["resources"][0]["subresources"] == [
            {"subresource": "status", "responseKind": kind, "verbs": ["get"]}
        ]


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b" " * 1024 * 1024


@pytest.mark.parametrize(
    "groups",
    [
        Answer(b"\x1f\x8b garbage", headers=[(b"content-type", AGGREGATED.encode())]),
        Answer(
            {"kind": "APIGroupDiscoveryList", "items": [7]}, headers=[(b"content-type", AGGREGATED.encode())]
        ),
        Answer({"resources": "no"}, headers=[(b"content-type", AGGREGATED.encode())]),
        None,
    ],
)
async def test_garbage_is_stale_and_nothing_worse(start: Callable[..., Any], groups: Answer | None) -> None:
    """Also what never ends; all else is discovered as ever."""
    other = Elsewhere()
    other.says["/apis"] = groups or Answer(b"", headers=TYPE)
    if groups is None:
        other.says["/apis"].chunks = _endless  # type: ignore[method-assign]
    other.says["/openapi/v2"] = Answer(b'{"paths": {"%s/x": 7}}' % ROOT.encode())
    other.says["/openapi/v3"] = Answer(b"[[[")
    async with start(forwarder=other) as api:
        await elsewhere.register(api)
        assert await _freshness(api) == [("v1", "Stale", 0)]
        assert (await _freshness(api, "apps"))[0][1] == "Current"
        assert (await api.get("/openapi/v2")).status == 200
        assert ROOT[1:] not in (await api.get("/openapi/v3")).json["paths"]


async def test_who_hangs_slows_nobody(start: Callable[..., Any]) -> None:
    """Discovery and descriptions are answered without asking anybody; the version is stale, and then back."""
    async with _registered(start) as (api, other):
        other.hangs_at = "/"
        await _pass(api, 31)
        await _pass(api, 6)
        assert await _freshness(api) == [("v1", "Stale", 0)]
        assert (await elsewhere.condition(api))[2].endswith("context deadline exceeded")
        for path in ("/apis", "/openapi/v2", "/openapi/v3", "/openapi/v3/apis/apps/v1"):
            assert (await api.get(path)).status == 200
        other.hangs_at = "nowhere"
        await _pass(api, 31)
        assert await _freshness(api) == [("v1", "Current", 1)]


async def test_descriptions_of_all_servers(start: Callable[..., Any]) -> None:
    """The new form is the other server's own, by its hash; the old one is merged."""
    async with _registered(start) as (api, other):
        url = (await api.get("/openapi/v3")).json["paths"][ROOT[1:]]["serverRelativeURL"]
        assert url == f"/openapi/v3{ROOT}?hash=ABC"
        assert (await api.as_("ann", "system:authenticated").get(url)).json == {"openapi": "3.0.0"}
        assert other.asked[-1][1].target == f"/openapi/v3{ROOT}"
        stale = await api.get(f"/openapi/v3{ROOT}?hash=OLD")
        assert (stale.status, stale.headers["location"]) == (301, url)
        document = (await api.get("/openapi/v2")).json
        assert f"{ROOT}/flunders" in document["paths"]
        assert "/apis/other/v1/things" not in document["paths"]
        assert {"Flunder", "Meta"} < document["definitions"].keys()
        assert "Unused" not in document["definitions"]
        assert (await api.get("/openapi/v2", accept=gnostic.ACCEPTED[0])).status == 200


async def test_what_is_gone_is_gone_from_everywhere(start: Callable[..., Any]) -> None:
    """As if it had never been."""
    async with start() as plain:
        groups, paths = (await plain.get("/apis")).json, (await plain.get("/openapi/v3")).json
    async with _registered(start) as (api, other):
        await api.delete(f"{SERVICES}/v1.{GROUP}")
        await api.settle()
        other.asked.clear()
        await _pass(api, 120)
        assert other.asked == []
        assert (await api.get(f"{ROOT}/flunders")).json["kind"] == "Status"
        assert (await api.get("/apis")).json == groups
        assert (await api.get("/openapi/v3")).json == paths


async def test_a_server_that_starts_again_knows_them_at_once(start: Callable[..., Any]) -> None:
    """Before it has asked: the store says who answered."""
    from ondol import store  # noqa: PLC0415 - one test's

    log, other = store.open_memory(), Elsewhere()
    async with start(log, forwarder=other) as api:
        await elsewhere.register(api)
    other.asked.clear()
    async with start(log, forwarder=other) as api:
        await api.get(f"{ROOT}/flunders")
        assert f"{ROOT}/flunders" in [asked.target for _, asked in other.asked]
    log.close()


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (
            [("b", "v1", 10, 1), ("a", "v1", 10, 1), ("c", "v1", 20, 1)],
            {"c": ["v1"], "a": ["v1"], "b": ["v1"]},
        ),
        ([("a", "v1", 1, 1), ("b", "v1", 5, 1), ("a", "v2", 9, 1)], {"a": ["v2", "v1"], "b": ["v1"]}),
        ([("a", "v1", 1, 1), ("a", "v2beta1", 1, 9), ("a", "v2", 1, 1)], {"a": ["v2beta1", "v2", "v1"]}),
        (
            [("a", "v1", 20000, 1), ("apiregistration.k8s.io", "v1", 0, 0)],
            {"apiregistration.k8s.io": ["v1"], "a": ["v1"]},
        ),
    ],
)
def test_groups_and_versions_by_priority(
    entries: list[tuple[str, str, int, int]], expected: dict[str, list[str]]
) -> None:
    """The highest of a group's versions counts for it; equal versions go by their names."""
    assert list(discovery.ordered(Listed(*each) for each in entries).items()) == list(expected.items())


def test_definitions_that_clash_are_renamed() -> None:
    """And what refers to them refers to the new name; equal ones are one."""
    own = {"paths": {}, "definitions": {"A": {"type": "string"}, "B": {"type": "integer"}}}
    refers = {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/A"}, "description": "$ref"}}}}
    theirs = {
        "paths": {"/apis/g/v1/x": refers},
        "definitions": {"A": {"properties": {"b": {"$ref": "#/definitions/B"}}}, "B": {"type": "integer"}},
    }
    part = descriptions.part(json.dumps(theirs).encode(), "/apis/g/v1")
    merged = descriptions.merged(own, ["/apis/g/v1"], [part, b""])
    assert merged["definitions"].keys() == {"A", "B", "A_v2"}
    schema = merged["paths"]["/apis/g/v1/x"]["get"]["responses"]["200"]["schema"]
    assert schema == {"$ref": "#/definitions/A_v2"}


def test_paths_that_were_taken_over_are_described_by_who_answers() -> None:
    """Not by who would have."""
    own: Any = {"paths": {"/apis/g/v1/": {}, "/apis/g/v1": {}, "/apis/g/v10/x": {}}, "definitions": {}}
    assert list(descriptions.merged(own, ["/apis/g/v1"], [])["paths"]) == ["/apis/g/v10/x"]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ({"paths": {"apis/g/v1": {"serverRelativeURL": "/openapi/v3/apis/g/v1?hash=1F"}}}, "1F"),
        ({"paths": {}}, ""),
    ],
)
def test_hashes_of_descriptions(index: Any, expected: str) -> None:
    """None of what is not described."""
    assert descriptions.hash_of(json.dumps(index).encode(), "apis/g/v1") == expected


def test_a_hash_is_never_text_of_anothers_choice() -> None:
    """It becomes part of a URL."""
    url = {"serverRelativeURL": "/openapi/v3/apis/g/v1?hash=a%0d%0ab"}
    named = descriptions.hash_of(msgspec.json.encode({"paths": {"apis/g/v1": url}}), "apis/g/v1")
    assert named.isalnum()
