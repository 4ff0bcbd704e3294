"""Conversion webhooks that hang, lie or answer nonsense: who asked is told, and nobody else notices."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
from tests.apiserver.conftest import Server, serving
from tests.apiserver.conversions import CRD, CRDS, V1, V2, Hook, definition, route, route_v2

from ondol.api.objects import Object

pytestmark = pytest.mark.anyio

FAILED = "conversion webhook for example.org/v1, Kind=Route "


@pytest.fixture
def hook() -> Hook:
    """The webhook that converts routes."""
    return Hook()


@pytest.fixture
async def api(hook: Hook) -> AsyncIterator[Server]:
    """A server with one route, stored in v1."""
    async with serving(poster=hook) as server:
        assert (await server.post(CRDS, definition())).status == 201
        await server.settle()
        await server.post(V1, route("a"))
        yield server


def _response(**fields: Any) -> Callable[[Object], Object]:
    return lambda review: {**review, "response": {**review["response"], **fields}}


def _obj(**fields: Any) -> Callable[[Object], Object]:
    """With fields of the first object changed."""

    def spoil(review: Object) -> Object:
        first, *others = review["response"]["convertedObjects"]
        response = {**review["response"], "convertedObjects": [{**first, **fields}, *others]}
        return {**review, "response": response}

    return spoil


def _metadata(**fields: Any) -> Callable[[Object], Object]:
    def spoil(review: Object) -> Object:
        first = review["response"]["convertedObjects"][0]
        return _obj(metadata={**first["metadata"], **fields})(review)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda _: b"<html>", "failed: could not decode the response: "),
        (lambda _: b"[]", "failed: could not decode the response: "),
        (lambda _: b"\xff", "failed: could not decode the response: "),
        (
            lambda review: {**review, "kind": "Review"},
            (
                "failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, "
                "got apiextensions.k8s.io/v1, Kind=Review"
            ),
        ),
        (lambda review: {**review, "response": None}, "failed: no response provided"),
        (_response(uid="other"), 'failed: expected response.uid="'),
        (_response(result={"status": "Failure", "message": "no such zone"}), "failed: no such zone"),
        (_response(result={}), "failed: response.result.status was '', not 'Success'"),
        (_response(convertedObjects=[]), "returned 0 objects, expected 1"),
        (_response(convertedObjects=None), "returned 0 objects, expected 1"),
        (_response(convertedObjects=["a"]), "returned invalid object: it is no object"),
        (
            _obj(apiVersion="example.org/v1"),
            (
                "returned invalid object: invalid groupVersion (expected example.org/v2, "
                "received example.org/v1)"
            ),
        ),
        (_obj(kind="Way"), "returned invalid object: invalid kind (expected Route, received Way)"),
        (_obj(metadata=None), "returned invalid metadata: missing metadata in converted object"),
        (_metadata(name="z"), "returned invalid object: must have the same name: a != z"),
        (_metadata(namespace="b"), "returned invalid object: must have the same namespace: default != b"),
        (_metadata(uid="b"), "returned invalid object: must have the same UID: "),
        (_metadata(labels={"a": 1}), "returned invalid metadata: metadata.labels in converted object: "),
        (_metadata(labels={"a": "b c"}), "returned invalid metadata: metadata.labels: Invalid value: "),
    ],
)
async def test_an_answer_that_is_none_fails_the_request(
    api: Server, hook: Hook, spoil: Callable[[Object], Any], message: str
) -> None:
    """With 500 and what is wrong; a get, a list and a write alike. Afterwards all is well again."""
    hook.spoil = spoil
    for answer in (await api.get(f"{V2}/a"), await api.get(V2)):
        assert (answer.status, answer.json["reason"]) == (500, "InternalError")
        assert answer.json["message"].startswith(FAILED + message)
    assert (await api.post(V2, route_v2("b"))).status == 500
    assert (await api.patch(f"{V2}/a", {"spec": {"host": "b.test"}})).status == 500
    assert (await api.get(f"{V1}/b")).status == 404
    assert (await api.get(f"{V1}/a")).json["spec"]["hostPort"] == "a.test:80"
    hook.spoil = lambda review: review
    assert (await api.get(f"{V2}/a")).json["spec"]["host"] == "a.test"


async def test_one_bad_object_of_a_list_is_named(api: Server, hook: Hook) -> None:
    """By its place; objects in another order are taken for what they are not, and refused."""
    await api.post(V1, route("b"))
    hook.spoil = lambda review: _response(convertedObjects=review["response"]["convertedObjects"][::-1])(
        review
    )
    failed = await api.get(V2)
    assert failed.json["message"] == (
        f"{FAILED}returned invalid converted object at index 0: must have the same name: a != b"
    )


async def test_only_labels_and_annotations_are_the_webhooks_to_change(api: Server, hook: Hook) -> None:
    """All other metadata stays as it was."""
    hook.spoil = _metadata(labels={"new": "yes"}, annotations=None, generation=7, finalizers=["a/b"])
    before = (await api.get(f"{V1}/a")).json["metadata"]
    after = (await api.get(f"{V2}/a")).json["metadata"]
    assert after == {**before, "labels": {"new": "yes"}}


async def test_a_webhook_that_hangs(api: Server, hook: Hook) -> None:
    """The request fails after thirty seconds; meanwhile the stored version answers."""
    hook.waits = anyio.Event()
    late = await api.overdue(api.get(f"{V2}/a"), seconds=30.0)
    assert (late.status, late.json["message"]) == (
        500,
        f'{FAILED}failed: Post "https://hooks.test/convert?timeout=30s": context deadline exceeded',
    )
    assert (await api.get(f"{V1}/a")).status == 200
    assert (await api.patch(f"{V1}/a", {"spec": {"size": 1}})).status == 200
    assert (await api.delete(f"{V1}/a")).status == 200


async def test_a_webhook_that_refuses(api: Server, hook: Hook) -> None:
    """Its status is told."""
    hook.status = 503
    hook.spoil = lambda _: b"not yet\n"
    assert (await api.get(f"{V2}/a")).json["message"] == f"{FAILED}failed: the server answered 503: not yet"


async def test_a_definition_goes_without_its_webhook(api: Server, hook: Hook) -> None:
    """With objects in more than one stored version, and one in a version that is not served any more."""
    crd = (await api.get(CRD)).json
    crd["spec"] = definition(storage="v2")["spec"]
    crd["spec"]["versions"][0]["served"] = False
    assert (await api.put(CRD, crd)).status == 200
    await api.settle()
    assert (await api.post(V2, route_v2("b"))).status == 201
    hook.failure = OSError("connection refused")
    assert (await api.get(V2)).status == 500
    assert (await api.delete(CRD)).status == 200
    await api.settle()
    assert (await api.get(CRD)).status == 404
    assert api.store.count("routes.example.org") == 0


async def test_a_server_without_a_way_out_serves_the_stored_version() -> None:
    """Where nothing can be called, the other version says so."""
    async with serving() as server:
        assert (await server.post(CRDS, definition())).status == 201
        await server.settle()
        assert (await server.post(V1, route("a"))).status == 201
        failed = await server.get(f"{V2}/a")
        assert (failed.status, failed.json["message"]) == (
            500,
            f"{FAILED}failed: this server calls no webhooks",
        )
