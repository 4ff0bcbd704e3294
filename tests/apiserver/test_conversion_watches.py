"""Conversion webhooks: watches of a version that is not the stored one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from tests.apiserver.conftest import Server, serving
from tests.apiserver.conversions import CRD, CRDS, V1, V2, Hook, definition, route, route_v2

pytestmark = pytest.mark.anyio


@pytest.fixture
def hook() -> Hook:
    """The webhook that converts routes."""
    return Hook()


@pytest.fixture
async def api(hook: Hook) -> AsyncIterator[Server]:
    """A server with routes, stored in v1."""
    async with serving(poster=hook) as server:
        assert (await server.post(CRDS, definition())).status == 201
        await server.settle()
        yield server


async def test_a_watch_tells_every_change_in_its_version(api: Server, hook: Hook) -> None:
    """What there is first, then each change in order, whichever version it was written in."""
    await api.post(V1, route("a", "a.test"))
    async with api.watch(f"{V2}?watch=true") as second, api.watch(f"{V1}?watch=true") as first:
        assert (await second.next())["object"]["spec"]["host"] == "a.test"
        await api.patch(f"{V1}/a", {"spec": {"hostPort": "b.test:80"}})
        await api.patch(f"{V2}/a", {"spec": {"host": "c.test"}})
        await api.delete(f"{V1}/a")
        changes = [await second.next() for _ in range(3)]
        assert [(each["type"], each["object"]["spec"]["host"]) for each in changes] == [
            ("MODIFIED", "b.test"),
            ("MODIFIED", "c.test"),
            ("DELETED", "c.test"),
        ]
        assert {each["object"]["apiVersion"] for each in changes} == {"example.org/v2"}
        texts = [(await first.next())["object"]["spec"]["hostPort"] for _ in range(4)]
        assert texts == ["a.test:80", "b.test:80", "c.test:80", "c.test:80"]


async def test_watchers_and_lists_share_what_was_converted(api: Server, hook: Hook) -> None:
    """One call a change, however many watch; a list after it asks nothing, and a write is known already."""
    start = api.store.revision
    target = f"{V2}?watch=true&resourceVersion={start}"
    async with api.watch(target) as one, api.watch(target) as other:
        await api.post(V1, route("a"))
        assert await one.next() == await other.next()
        assert hook.asked == [("v2", ["a"])]
        assert (await api.get(V2)).json["items"][0]["spec"]["host"] == "a.test"
        assert len(hook.calls) == 1
        created = (await api.post(V2, route_v2("b"))).json
        asked = len(hook.calls)
        assert (await one.next())["object"] == (await other.next())["object"] == created
        assert len(hook.calls) == asked


async def test_many_changes_are_few_calls(api: Server, hook: Hook) -> None:
    """What has gathered is asked for at once, and told in its order."""
    start = api.store.revision
    names = [f"r{number:02}" for number in range(60)]
    for name in names:
        await api.post(V1, route(name))
    async with api.watch(f"{V2}?watch=true&resourceVersion={start}") as watch:
        assert [(await watch.next())["object"]["metadata"]["name"] for _ in names] == names
    assert len(hook.calls) == 1


async def test_a_field_of_the_version_selects_what_is_watched(api: Server) -> None:
    """An object that comes to match is ADDED, one that ceases to is DELETED as it was."""
    target = f"{V2}?watch=true&fieldSelector=spec.host%3Da.test&resourceVersion={api.store.revision}"
    async with api.watch(target) as watch:
        await api.post(V1, route("a", "b.test"))
        await api.patch(f"{V1}/a", {"spec": {"hostPort": "a.test:80"}})
        entered = await watch.next()
        assert (entered["type"], entered["object"]["spec"]["host"]) == ("ADDED", "a.test")
        await api.patch(f"{V1}/a", {"spec": {"hostPort": "c.test:80"}})
        left = await watch.next()
        assert (left["type"], left["object"]["spec"]["host"]) == ("DELETED", "a.test")
        assert left["object"]["metadata"]["resourceVersion"] == str(api.store.revision)


async def test_a_failed_conversion_ends_the_watch_with_an_error(api: Server, hook: Hook) -> None:
    """So that the client lists again; whoever watches the stored version notices nothing."""
    start = api.store.revision
    async with (
        api.watch(f"{V2}?watch=true&resourceVersion={start}") as second,
        api.watch(f"{V1}?watch=true&resourceVersion={start}") as first,
    ):
        hook.failure = OSError("connection refused")
        await api.post(V1, route("a"))
        failed = await second.next()
        assert failed["type"] == "ERROR"
        assert (failed["object"]["code"], failed["object"]["reason"]) == (500, "InternalError")
        assert failed["object"]["message"] == (
            "conversion webhook for example.org/v1, Kind=Route failed: "
            'Post "https://hooks.test/convert?timeout=30s": connection refused'
        )
        with pytest.raises(anyio.EndOfStream):
            await second.next()
        assert (await first.next())["type"] == "ADDED"
        await api.patch(f"{V1}/a", {"spec": {"size": 2}})
        assert (await first.next())["type"] == "MODIFIED"
    async with api.watch(f"{V2}?watch=true") as initial:
        assert (await initial.next())["type"] == "ERROR"


async def test_another_webhook_ends_the_watches(api: Server) -> None:
    """What the old one said may not hold any more: clients begin anew."""
    async with api.watch(f"{V2}?watch=true&resourceVersion={api.store.revision}") as watch:
        patch = {"spec": {"conversion": {"webhook": {"clientConfig": {"url": "https://new.test/"}}}}}
        assert (await api.patch(CRD, patch)).status == 200
        with pytest.raises(anyio.EndOfStream):
            await watch.next()
