"""Watch: order, selectors, bookmarks, initial events, and what is too old."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from ondol import store

pytestmark = pytest.mark.anyio

CMS = "/api/v1/namespaces/default/configmaps"
Make = Callable[..., dict[str, Any]]


async def test_a_watch_tells_every_change_in_order(api: Any, config_map: Make) -> None:
    """ADDED, MODIFIED, DELETED; the end carries the last state under a new revision."""
    start = api.store.revision
    async with api.watch(f"{CMS}?watch=true&resourceVersion={start}") as watch:
        assert watch.status == 200
        created = (await api.post(CMS, config_map("a", {"k": "1"}))).json
        changed = (await api.patch(f"{CMS}/a", {"data": {"k": "2"}})).json
        await api.delete(f"{CMS}/a")
        assert await watch.next() == {"type": "ADDED", "object": created}
        assert await watch.next() == {"type": "MODIFIED", "object": changed}
        end = await watch.next()
        assert end["type"] == "DELETED"
        assert end["object"]["data"] == {"k": "2"}
        versions = [int(o["metadata"]["resourceVersion"]) for o in (changed, end["object"])]
        assert versions[0] < versions[1] == api.store.revision


async def test_a_watch_from_now_begins_with_what_is_there(api: Any, config_map: Make) -> None:
    """Without a revision the present comes first."""
    await api.post(CMS, config_map("a"))
    async with api.watch(f"{CMS}?watch=1") as watch:
        assert (await watch.next())["object"]["metadata"]["name"] == "a"
        await api.post(CMS, config_map("b"))
        assert (await watch.next())["object"]["metadata"]["name"] == "b"


async def test_a_watch_goes_on_where_a_list_ended(api: Any, config_map: Make) -> None:
    """Nothing between the list and the watch is lost or told twice."""
    await api.post(CMS, config_map("a"))
    version = (await api.get(CMS)).json["metadata"]["resourceVersion"]
    await api.post(CMS, config_map("b"))
    async with api.watch(f"{CMS}?watch=true&resourceVersion={version}") as watch:
        assert (await watch.next())["object"]["metadata"]["name"] == "b"
        assert await watch.quiet()


async def test_entering_and_leaving_a_selection(api: Any, config_map: Make) -> None:
    """For a selector, an object that starts to match is ADDED and one that stops is DELETED."""
    start = api.store.revision
    target = f"{CMS}?watch=true&labelSelector=on%3Dyes&resourceVersion={start}"
    async with api.watch(target) as watch:
        await api.post(CMS, config_map("a"))
        await api.patch(f"{CMS}/a", {"metadata": {"labels": {"on": "yes"}}})
        assert (await watch.next())["type"] == "ADDED"
        await api.patch(f"{CMS}/a", {"data": {"k": "1"}})
        assert (await watch.next())["type"] == "MODIFIED"
        await api.patch(f"{CMS}/a", {"metadata": {"labels": {"on": "no"}}})
        left = await watch.next()
        assert left["type"] == "DELETED"
        assert left["object"]["metadata"]["labels"] == {"on": "yes"}
        assert left["object"]["metadata"]["resourceVersion"] == str(api.store.revision)
        await api.delete(f"{CMS}/a")
        assert await watch.quiet()


async def test_field_selectors_watch_pods_of_a_node(api: Any, pod: Make) -> None:
    """A node's agent hears of a pod from the moment it is bound to the node."""
    pods = "/api/v1/namespaces/default/pods"
    target = f"/api/v1/pods?watch=true&fieldSelector=spec.nodeName%3Dn1&resourceVersion={api.store.revision}"
    async with api.watch(target) as watch:
        await api.post(pods, pod("p"))
        await api.post(f"{pods}/p/binding", {"target": {"name": "n1"}})
        event = await watch.next()
        assert (event["type"], event["object"]["spec"]["nodeName"]) == ("ADDED", "n1")


async def test_one_object_is_watched_by_its_name(api: Any, config_map: Make) -> None:
    """Both by a field selector and by the old path."""
    for target in (
        f"{CMS}?watch=true&fieldSelector=metadata.name%3Da",
        CMS.replace("v1/", "v1/watch/") + "/a",
    ):
        async with api.watch(target) as watch:
            await api.post(CMS, config_map("b"))
            await api.post(CMS, config_map("a"))
            assert (await watch.next())["object"]["metadata"]["name"] == "a"
            await api.delete(f"{CMS}/a")
            await api.delete(f"{CMS}/b")


async def test_bookmarks_come_by_the_minute_and_before_the_end(api: Any, config_map: Make) -> None:
    """They carry nothing but the revision, and only to those who asked."""
    target = f"{CMS}?watch=true&resourceVersion={api.store.revision}&timeoutSeconds=150"
    async with api.watch(f"{target}&allowWatchBookmarks=true") as watch, api.watch(target) as plain:
        await api.post("/api/v1/namespaces/default/secrets", {"metadata": {"name": "elsewhere"}})
        for advance_s in (60, 60, 28):
            await api.clock.advance(advance_s)
            mark = await watch.next()
            assert mark["type"] == "BOOKMARK"
            assert mark["object"]["metadata"]["resourceVersion"] == str(api.store.revision)
            assert set(mark["object"]) == {"kind", "apiVersion", "metadata"}
        assert await plain.quiet()
        await api.clock.advance(2)
        with pytest.raises(anyio.EndOfStream):
            await watch.next()


async def test_initial_events_end_with_a_marked_bookmark(api: Any, config_map: Make) -> None:
    """The informer's way to list by watching."""
    await api.post(CMS, config_map("a"))
    query = (
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion="
    )
    async with api.watch(f"{CMS}?watch=true&{query}") as watch:
        assert (await watch.next())["type"] == "ADDED"
        mark = await watch.next()
        assert mark["type"] == "BOOKMARK"
        assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert mark["object"]["metadata"]["resourceVersion"] == str(api.store.revision)
    assert (await api.get(f"{CMS}?watch=true&sendInitialEvents=true")).status == 422
    assert (await api.get(f"{CMS}?watch=true&resourceVersionMatch=NotOlderThan")).status == 422


async def test_a_revision_that_is_forgotten_is_gone(api: Any, config_map: Make) -> None:
    """200, then one ERROR event with the 410, where clients look for it; then the end."""
    start = api.store.revision
    await api.post(CMS, config_map("a"))
    await api.post(CMS, config_map("b"))
    await api.store.compact(api.store.revision)
    for accept in ("application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"):
        async with api.watch(f"{CMS}?watch=true&resourceVersion={start}", accept=accept) as watch:
            event = await watch.next()
            assert (watch.status, event["type"]) == (200, "ERROR")
            status = event["object"]
            assert (status["kind"], status["code"], status["reason"]) == ("Status", 410, "Expired")
            with pytest.raises(anyio.EndOfStream):
                await watch.next()


async def test_a_watch_that_falls_behind_is_told_in_the_stream(start: Any) -> None:
    """When history is forgotten under a slow reader the stream ends with an ERROR of 410."""
    log = store.open_memory(store.Retention(events=4))
    target = f"{CMS}?watch=true&resourceVersion=1"
    async with start(log) as api, api.watch(target) as watch:
        await api.settle()
        for number in range(12):
            # Straight into the store: no turn of the loop in which the watch could keep up.
            record = store.Record(f"default/x{number}", log.revision + 1, b"{}")
            log._apply("configmaps", record, deleted=False)
        event = await watch.next()
        assert event["type"] == "ERROR"
        assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
        with pytest.raises(anyio.EndOfStream):
            await watch.next()
    log.close()


async def test_watches_as_tables_and_as_metadata(api: Any, config_map: Make) -> None:
    """A table's headers come with its first row only."""
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    async with api.watch(f"{CMS}?watch=true&resourceVersion={api.store.revision}", accept=accept) as watch:
        await api.post(CMS, config_map("a"))
        await api.post(CMS, config_map("b"))
        first, second = await watch.next(), await watch.next()
        assert first["object"]["kind"] == "Table"
        assert first["object"]["columnDefinitions"]
        assert not second["object"].get("columnDefinitions")
        assert second["object"]["rows"][0]["cells"][0] == "b"
    accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    async with api.watch(f"{CMS}?watch=true", accept=accept) as watch:
        assert (await watch.next())["object"]["kind"] == "PartialObjectMetadata"


async def test_a_watcher_that_leaves_is_let_go(api: Any, config_map: Make) -> None:
    """Nothing is left behind by watches that ended."""
    async with api.watch(f"{CMS}?watch=true"):
        await api.settle()
    await api.settle()
    assert not api.store._bucket("configmaps").waiting


async def test_all_watchers_see_one_order(api: Any, config_map: Make) -> None:
    """Concurrent writers, many watchers: everybody is told the same story."""
    start = api.store.revision
    target = f"{CMS}?watch=true&resourceVersion={start}"
    async with api.watch(target) as first, api.watch(target) as second:

        async def write(writer: int) -> None:
            for number in range(10):
                await api.post(CMS, config_map(f"w{writer}-{number}"))

        async with anyio.create_task_group() as group:
            for writer in range(4):
                group.start_soon(write, writer)
        stories = [[await watch.next() for _ in range(40)] for watch in (first, second)]
    assert stories[0] == stories[1]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in stories[0]]
    assert versions == sorted(versions)
