"""The informer against a small server whose faults are at the test's command."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import anyio
import msgspec
import pytest
import structlog

from ondol.api import labels, objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.base.clock import ManualClock, SystemClock
from ondol.client import AsgiTransport, Client
from ondol.sdk.informer import Informer, Selection, _Streak

pytestmark = pytest.mark.anyio


class Server:
    """Serves one kind: lists, watches and whatever goes wrong with them."""

    def __init__(self) -> None:
        self.revision = 10
        self.objects: dict[str, Object] = {}
        self.history: list[tuple[int, bytes]] = []
        self.compacted = 0
        self.watch_list = "served"
        self.queries: list[dict[str, str]] = []
        self._changed = anyio.Event()
        self._cut = anyio.Event()
        self.deaf = False

    def put(self, name: str, **metadata: Any) -> None:
        kind = "MODIFIED" if name in self.objects else "ADDED"
        self.revision += 1
        self.objects[name] = document(name, self.revision, **metadata)
        self._tell(kind, self.objects[name])

    def remove(self, name: str) -> None:
        self.revision += 1
        removed = document(name, self.revision)
        del self.objects[name]
        self._tell("DELETED", removed)

    def cut(self) -> None:
        """Break every open watch."""
        self._cut.set()
        self._cut = anyio.Event()

    def _tell(self, kind: str, obj: Object) -> None:
        self.history.append((self.revision, frame(kind, obj)))
        self._changed.set()
        self._changed = anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        query = dict(parse_qsl(scope["query_string"].decode()))
        self.queries.append(query)
        if query.get("watch"):
            await self._watch(query, receive, send)
        else:
            await self._list(query, send)

    async def _list(self, query: dict[str, str], send: Any) -> None:
        names = sorted(self.objects)
        start = int(query.get("continue") or 0)
        limit = int(query.get("limit") or len(names) or 1)
        items = [self.objects[name] for name in names[start : start + limit]]
        more = str(start + limit) if start + limit < len(names) else ""
        metadata = {"resourceVersion": str(self.revision), "continue": more}
        await answer(send, 200, {"kind": "ConfigMapList", "metadata": metadata, "items": items})

    async def _watch(self, query: dict[str, str], receive: Any, send: Any) -> None:
        initial = query.get("sendInitialEvents") == "true"
        if initial and self.watch_list == "refused":
            await answer(send, 422, {"kind": "Status", "code": 422, "reason": "Invalid"})
            return
        seen = int(query.get("resourceVersion") or 0)
        if not initial and seen < self.compacted:
            await answer(send, 410, {"kind": "Status", "code": 410, "reason": "Expired"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if initial:
            seen = self.revision
            chunk = b"".join(frame("ADDED", obj) for obj in self.objects.values())
            if self.watch_list == "served":
                chunk += bookmark(self.revision, {"k8s.io/initial-events-end": "true"})
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow, seen, send, tasks)
            tasks.start_soon(self._until_cut, tasks)
            await receive()
            tasks.cancel_scope.cancel()

    async def _follow(self, seen: int, send: Any, tasks: Any) -> None:
        del tasks
        while True:
            changed = self._changed
            for revision, line in self.history:
                if revision > seen and not self.deaf:
                    seen = revision
                    await send({"type": "http.response.body", "body": line, "more_body": True})
            await changed.wait()

    async def _until_cut(self, tasks: Any) -> None:
        await self._cut.wait()
        tasks.cancel_scope.cancel()


def document(name: str, revision: int, **metadata: Any) -> Object:
    copy_ = {"name": name, "namespace": "default", "resourceVersion": str(revision), **metadata}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": copy_}


def frame(kind: str, obj: Object) -> bytes:
    return msgspec.json.encode({"type": kind, "object": obj}) + b"\n"


def bookmark(revision: int, annotations: dict[str, str]) -> bytes:
    metadata = {"resourceVersion": str(revision), "annotations": annotations}
    return frame("BOOKMARK", {"kind": "ConfigMap", "metadata": metadata})


async def answer(send: Any, status: int, body: Object) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": msgspec.json.encode(body)})


def make(server: Server, **options: Any) -> Informer:
    client = Client(AsgiTransport(server, clock=SystemClock()))
    return Informer(
        client, Selection(resources.CONFIG_MAP), clock=SystemClock(), rng=random.Random(0), **options
    )


@asynccontextmanager
async def running(informer: Informer) -> AsyncIterator[Informer]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(informer.run)
        with anyio.fail_after(5):
            await informer.wait_synced()
        yield informer
        tasks.cancel_scope.cancel()


async def until(informer: Informer, revision: int) -> None:
    reached = anyio.Event()
    if informer.revision < revision:
        informer.when(lambda: informer.revision >= revision, reached.set)
        with anyio.fail_after(5):
            await reached.wait()


def names(informer: Informer) -> list[str]:
    return sorted(objects.name(obj) for obj in informer.lister.list())


async def test_syncs_and_follows_in_one_stream_where_the_server_can() -> None:
    """A WatchList needs no list request at all."""
    server = Server()
    server.put("a")
    async with running(make(server)) as informer:
        assert names(informer) == ["a"]
        server.put("b")
        server.remove("a")
        await until(informer, server.revision)
        assert names(informer) == ["b"]
    assert [query.get("sendInitialEvents") for query in server.queries] == ["true"]


async def test_falls_back_to_pages_where_watch_list_is_refused() -> None:
    """422 means: list, page by page, then watch from there."""
    server = Server()
    server.watch_list = "refused"
    for number in range(1200):
        server.put(f"m{number:04}")
    async with running(make(server)) as informer:
        assert len(informer.lister) == 1200
        server.put("last")
        await until(informer, server.revision)
        assert len(informer.lister) == 1201
    assert [query.get("continue") for query in server.queries if "watch" not in query] == [
        None,
        "500",
        "1000",
    ]


async def test_falls_back_where_initial_events_have_no_end() -> None:
    """An older server ignores the option; that must not leave the informer unsynced."""
    server = Server()
    server.watch_list = "ignored"
    server.put("a")
    async with running(make(server, initial_s=0.05)) as informer:
        assert names(informer) == ["a"]


async def test_resumes_after_a_break_without_listing() -> None:
    """A broken stream goes on where it stopped; nothing is missed and nothing told twice."""
    server = Server()
    server.put("a")
    changes: list[tuple[bool, bool]] = []
    async with running(make(server)) as informer:
        informer.add_handler(lambda old, new: changes.append((old is not None, new is not None)))
        server.cut()
        server.put("b")
        await until(informer, server.revision)
    assert changes == [(False, True), (False, True)]
    assert server.queries[-1].get("sendInitialEvents") is None
    assert server.queries[-1]["resourceVersion"] == "11"


async def test_lists_again_when_the_server_has_forgotten() -> None:
    """After 410 the copy is replaced: what went unseen is told as its difference."""
    server = Server()
    for name in ("gone", "kept", "changed"):
        server.put(name)
    changes: list[tuple[str, bool, bool]] = []
    async with running(make(server)) as informer:
        server.deaf = True
        server.remove("gone")
        server.put("changed")
        server.put("new")
        server.deaf = False
        server.compacted = server.revision
        server.history.clear()
        informer.add_handler(
            lambda old, new: changes.append(
                (objects.name(new or old or {}), old is not None, new is not None)
            )
        )
        changes.clear()
        server.cut()
        await until(informer, server.revision)
        assert names(informer) == ["changed", "kept", "new"]
    assert sorted(changes) == [("changed", True, True), ("gone", True, False), ("new", False, True)]


async def test_a_silent_stream_is_opened_again() -> None:
    """A stream without even a bookmark is taken for dead, so no stall lasts."""
    server = Server()
    async with running(make(server, inactivity_s=0.1)) as informer:
        server.deaf = True
        server.put("unheard")
        await anyio.wait_all_tasks_blocked()
        server.deaf = False
        await until(informer, server.revision)
        assert names(informer) == ["unheard"]
    assert informer.metrics.failures >= 1


async def test_indexes_follow_their_objects() -> None:
    """An object leaves its old value when it takes a new one, and all when it goes."""
    server = Server()
    server.put("a", labels={"team": "x"})
    informer = make(server)
    informer.add_index("team", lambda obj: [v for k, v in objects.labels(obj).items() if k == "team"])
    async with running(informer):
        assert len(informer.lister.by_index("team", "x")) == 1
        server.put("a", labels={"team": "y"})
        await until(informer, server.revision)
        assert informer.lister.by_index("team", "x") == []
        assert [objects.name(o) for o in informer.lister.by_index("team", "y")] == ["a"]
        server.remove("a")
        await until(informer, server.revision)
        assert informer.lister.by_index("team", "y") == []


async def test_listers_select_by_namespace_and_label() -> None:
    """Reads of the copy take the same selectors as reads of the server."""
    server = Server()
    server.put("a", labels={"app": "x"})
    server.put("b", labels={"app": "y"})
    async with running(make(server)) as informer:
        assert informer.lister.get(Key("default", "a")) is not None
        assert informer.lister.get(Key("other", "a")) is None
        assert informer.lister.list("other") == []
        matches = informer.lister.list("default", labels.parse("app=y"))
        assert [objects.name(obj) for obj in matches] == ["b"]


async def test_a_broken_handler_stops_nobody_else() -> None:
    """The copy and the other handlers go on."""
    server = Server()
    heard: list[str] = []

    def broken(old: Object | None, new: Object | None) -> None:
        raise ValueError("bug")

    informer = make(server)
    informer.add_handler(broken)
    informer.add_handler(lambda _old, new: heard.append(objects.name(new or {})))
    async with running(informer):
        server.put("a")
        await until(informer, server.revision)
    assert heard == ["a"]
    assert informer.metrics.handler_errors == 1


async def test_transforms_shape_what_is_kept() -> None:
    """What a transform drops never costs memory."""
    server = Server()
    server.put("a", annotations={"big": "x"})

    def slim(obj: Object) -> Object:
        metadata = {k: v for k, v in obj["metadata"].items() if k != "annotations"}
        return {**obj, "metadata": metadata}

    async with running(make(server, transform=slim)) as informer:
        stored = informer.lister.get(Key("default", "a"))
        assert stored is not None
        assert objects.annotations(stored) == {}


async def test_the_bookkeeping_of_fields_is_not_kept() -> None:
    """`managedFields` are large, and no business of a controller's."""
    server = Server()
    server.put("a", managedFields=[{"manager": "x"}])
    async with running(make(server)) as informer:
        server.put("b", managedFields=[{"manager": "x"}])
        await until(informer, server.revision)
        assert all("managedFields" not in objects.metadata(obj) for obj in informer.lister.list())


async def test_an_optional_kind_that_is_not_served_counts_as_empty() -> None:
    """Controllers of optional kinds start without them, and find them when they come."""
    server = Server()
    installed: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if installed:
            await server(scope, receive, send)
        else:
            await answer(send, 404, {"kind": "Status", "code": 404, "reason": "NotFound"})

    client = Client(AsgiTransport(app, clock=SystemClock()))
    informer = Informer(
        client, Selection(resources.CONFIG_MAP), clock=SystemClock(), rng=random.Random(0), optional=True
    )
    async with running(informer):
        assert names(informer) == []
        server.put("a")
        installed.append(True)
        await until(informer, server.revision)
        assert names(informer) == ["a"]


def messages(lines: list[Any]) -> list[tuple[str, str]]:
    return [(line["log_level"], line["event"]) for line in lines]


async def test_only_the_first_failure_of_a_streak_and_the_recovery_are_told() -> None:
    """A server that is away for long costs two lines, not one a retry."""
    server, away = Server(), [True]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if away:
            await answer(send, 503, {"kind": "Status", "code": 503, "reason": "ServiceUnavailable"})
        else:
            await server(scope, receive, send)

    with structlog.testing.capture_logs() as lines:
        clock = ManualClock()
        informer = Informer(
            Client(AsgiTransport(app, clock=clock), clock=clock),
            Selection(resources.CONFIG_MAP),
            clock=clock,
            rng=random.Random(0),
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(informer.run)
            await anyio.wait_all_tasks_blocked()
            await clock.advance(5)
            away.clear()
            await clock.advance(20)
            with anyio.fail_after(5):
                await informer.wait_synced()
            tasks.cancel_scope.cancel()
    failed = [line for line in messages(lines) if line[1] == "watch_failed"]
    assert len(failed) > 2
    assert failed == [("warning", "watch_failed"), *[("debug", "watch_failed")] * (len(failed) - 1)]
    (recovery,) = [line for line in lines if line["event"] == "watch_recovered"]
    assert (recovery["log_level"], recovery["failures"]) == ("info", len(failed))
    assert recovery["seconds"] >= 5


async def test_a_kind_that_is_not_there_yet_is_told_of_when_it_stays_away() -> None:
    """What is installed a moment later is no warning; what is missing for ten seconds is, once."""
    clock, missing = ManualClock(), errors.NotFound("no such kind")
    with structlog.testing.capture_logs() as lines:
        streak = _Streak(structlog.get_logger(), clock)
        streak.failed(missing, is_expected=True)
        streak.ended()
        assert messages(lines) == [("debug", "watch_failed"), ("debug", "watch_recovered")]
        lines.clear()
        for _ in range(4):
            streak.failed(missing, is_expected=True)
            await clock.advance(5)
        streak.ended()
        streak.ended()
    assert [level for level, _ in messages(lines)] == ["debug", "debug", "warning", "debug", "info"]


def test_a_selection_includes_what_the_server_would_send() -> None:
    """Namespace, labels and fields all count."""
    pod: Object = {"metadata": {"namespace": "n", "labels": {"a": "b"}}, "spec": {"nodeName": "x"}}
    assert Selection(resources.POD, "n", "a=b", "spec.nodeName=x").includes(pod)
    assert not Selection(resources.POD, "m").includes(pod)
    assert not Selection(resources.POD, label_selector="a=c").includes(pod)
    assert not Selection(resources.POD, field_selector="spec.nodeName=y").includes(pod)
