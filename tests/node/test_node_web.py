"""The node's HTTP interface and the logs it gives out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest import mock

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api import objects, resources
from ondol.base import clock, errors
from ondol.base.unix_http import UnixConnection
from ondol.node import agent, logs, web
from ondol.node.pods.model import Attempt, Container
from ondol.node.runtime.port import Command, Exit, Handle

pytestmark = pytest.mark.anyio


class Speechless:
    """A node with which nothing is spoken."""

    def command(self, namespace: str, pod: str, container: str, command: Command) -> Any:
        raise AssertionError(namespace, pod, container, command)

    def attach(self, namespace: str, pod: str, container: str, *, stdin: bool) -> Any:
        raise AssertionError(namespace, pod, container, stdin)

    def dial(self, namespace: str, pod: str, port: int) -> Any:
        raise AssertionError(namespace, pod, port)

    def pods(self) -> Any:
        return [{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}}]

    async def metrics(self, page: str) -> bytes:
        return f'up{{page="{page}"}} 1\n'.encode()

    async def settle(self) -> None:
        raise AssertionError

    def summary(self) -> Any:
        raise AssertionError

    def log(self, _n: str, _p: str, _c: str, *, previous: bool) -> web.LogPlace:
        raise AssertionError(previous)


LINES = (
    "2026-01-01T00:00:01.5+00:00 stdout F one\n"
    "2026-01-01T00:00:02.5+00:00 stderr F two\n"
    "2026-01-01T00:00:03.5+00:00 stdout P thr\n"
    "2026-01-01T00:00:03.6+00:00 stdout F ee\n"
)


async def collect(path: Path, options: logs.LogOptions, is_over: Callable[[], bool] = lambda: True) -> str:
    return b"".join([c async for c in logs.read(path, options, clock.SystemClock(), is_over)]).decode()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (logs.LogOptions(), "one\ntwo\nthree\n"),
        (logs.LogOptions(tail_lines=1), "three\n"),
        (logs.LogOptions(tail_lines=2), "two\nthree\n"),
        (logs.LogOptions(tail_lines=0), ""),
        (logs.LogOptions(stream="stderr"), "two\n"),
        (logs.LogOptions(limit_bytes=6), "one\ntw"),
        (logs.LogOptions(since=1767225603.0), "three\n"),
        (logs.LogOptions(since=1767225602.5), "two\nthree\n"),
        (logs.LogOptions(since=1767225602.6), "three\n"),
        (
            logs.LogOptions(timestamps=True),
            "2026-01-01T00:00:01.5Z one\n2026-01-01T00:00:02.5Z two\n2026-01-01T00:00:03.5Z three\n",
        ),
    ],
)
async def test_reading(tmp_path: Path, options: logs.LogOptions, expected: str) -> None:
    """Each option does what `kubectl logs` promises; parts of a long line are one line."""
    path = tmp_path / "0.log"
    path.write_text(LINES)
    assert await collect(path, options) == expected


async def test_times_have_zones(tmp_path: Path) -> None:
    """On a machine in Seoul the shim writes its own time; `since` means the same moment everywhere."""
    path = tmp_path / "0.log"
    path.write_text("2026-01-01T09:00:01+09:00 stdout F one\n2026-01-01T09:00:03+09:00 stdout F two\n")
    assert await collect(path, logs.LogOptions(since=1767225602.0)) == "two\n"


async def test_a_carriage_return_ends_no_line(tmp_path: Path) -> None:
    """A progress bar is one line, as the container wrote it."""
    path = tmp_path / "0.log"
    path.write_bytes(b"2026-01-01T00:00:01+00:00 stdout F 1%\r2%\r3%\n")
    assert await collect(path, logs.LogOptions()) == "1%\r2%\r3%\n"


@given(st.lists(st.integers(0, 400), max_size=40), st.integers(0, 50), st.integers(0, 3))
def test_the_last_lines_of_any_log(sizes: list[int], tail: int, parts: int) -> None:
    """However long its lines are, and wherever it was cut into parts."""
    lines = [f"{number}:{'x' * size}" for number, size in enumerate(sizes)]
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(logs, "_CHUNK", 256):
        path = Path(folder, "0.log")
        for number, line in enumerate(lines):
            with path.open("a") as file:
                for part in line[: len(line) % 3]:  # as of a program that does not buffer
                    file.write(f"2026-01-01T00:00:01+00:00 stdout P {part}\n")
                file.write(f"2026-01-01T00:00:01+00:00 stdout F {line[len(line) % 3 :]}\n")
            if parts and number % 11 == parts:
                logs.set_aside(path, float(number), 100)
                os.utime(next(path.parent.glob(f"{path.name}.{number * 1000}")), (number, number))
        for options, expected in (
            (logs.LogOptions(), lines),
            (logs.LogOptions(tail_lines=tail), lines[-tail:]),
        ):
            read = anyio.run(collect, path, options).splitlines()
            assert read == (expected if tail or options.tail_lines is None else [])


async def test_what_was_written_just_before_a_rotation_is_followed(tmp_path: Path) -> None:
    """A follower that comes late reads the old file to its end before the new one."""
    path = tmp_path / "0.log"
    path.write_text(LINES)
    turns = 0

    def is_over() -> bool:
        nonlocal turns
        turns += 1
        if turns == 1:
            with path.open("a") as file:
                file.write("2026-01-01T00:00:04+00:00 stdout F four\n")
            logs.set_aside(path, 1.0, 5)
            path.write_text("2026-01-01T00:00:05+00:00 stdout F five\n")
        return True

    assert await collect(path, logs.LogOptions(follow=True), is_over) == "one\ntwo\nthree\nfour\nfive\n"


def run(number: int, *, code: int | None = None, started: bool = True, is_recorded: bool = True) -> Attempt:
    handle = Handle("id", 1, 2, 3, 4) if is_recorded else None
    ended = None if code is None else Exit(code, oom_killed=False, finished_at=1.0)
    return Attempt(number, "id", "image", "", handle, 1.0 if started else 0.0, ended)


@pytest.mark.parametrize(
    ("container", "previous", "expected"),
    [
        (Container(run(1), last=run(0, code=1)), False, 1),
        (Container(run(1), last=run(0, code=1)), True, 0),
        (Container(run(1, code=1), last=run(0, code=1)), False, 1),
        (Container(run(1, started=False), last=run(0, code=1)), False, 0),
        (Container(run(1, code=128, started=False, is_recorded=False), last=run(0, code=1)), False, 0),
        (Container(run(0)), True, 'previous terminated container "main" in pod "p" not found'),
        (
            Container(run(0, code=128, started=False, is_recorded=False)),
            False,
            'container "main" in pod "p" is terminated',
        ),
        (Container(), False, "is waiting to start: ContainerCreating"),
        (Container(run(0, started=False)), False, "is waiting to start: ContainerCreating"),
        (Container(waiting_reason="ErrImagePull"), False, "is waiting to start: image can't be pulled"),
        (
            Container(waiting_reason="ImagePullBackOff"),
            False,
            "is waiting to start: trying and failing to pull image",
        ),
        (Container(waiting_reason="CreateContainerConfigError"), False, "start: CreateContainerConfigError"),
    ],
)
def test_which_log_is_meant(container: Container, previous: bool, expected: int | str) -> None:
    """The run that has one, or the kubelet's words for why there is none."""
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "main"}]}}
    if isinstance(expected, int):
        assert agent.logged_attempt(pod, "main", container, previous=previous).number == expected
    else:
        with pytest.raises(errors.BadRequest) as raised:
            agent.logged_attempt(pod, "main", container, previous=previous)
        assert expected in str(raised.value)


async def test_a_follower_that_leaves_is_not_answered_on(tmp_path: Path) -> None:
    """Its log may grow for days; nobody reads it for no one."""
    path = tmp_path / "0.log"
    path.write_text(LINES)
    begun, left = anyio.Event(), anyio.Event()

    class Subject(Speechless):
        def log(self, _n: str, _p: str, _c: str, *, previous: bool) -> web.LogPlace:
            return path, lambda: previous

    async def receive() -> Any:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            begun.set()

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/containerLogs/default/a/main",
        "query_string": b"follow=true",
        "headers": [(b"authorization", b"Bearer token")],
    }
    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(web.application(Subject(), clock.SystemClock(), "token"), scope, receive, send)
            await begun.wait()
            left.set()


async def test_following_over_a_rotation(tmp_path: Path) -> None:
    """A follower sees what is written before, during and after the file is set aside."""
    path = tmp_path / "0.log"
    path.write_text(LINES)
    is_over = False
    seen = b""

    async def follow() -> None:
        nonlocal seen
        options = logs.LogOptions(follow=True)
        async for chunk in logs.read(path, options, clock.SystemClock(), lambda: is_over):
            seen += chunk

    async def until(line: bytes) -> None:
        with anyio.fail_after(15):
            while not seen.endswith(line):  # noqa: ASYNC110 - the follower tells nobody
                await anyio.sleep(0.01)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        await until(b"three\n")
        with path.open("a") as file:
            file.write("2026-01-01T00:00:04+00:00 stdout F four\n")
        await until(b"four\n")
        logs.set_aside(path, 1.0, 5)
        path.write_text("2026-01-01T00:00:05+00:00 stdout F five\n")
        await until(b"five\n")
        is_over = True
    assert seen == b"one\ntwo\nthree\nfour\nfive\n"


def test_old_parts_are_dropped(tmp_path: Path) -> None:
    """Only as many parts are kept as configured, the oldest go first."""
    path = tmp_path / "0.log"
    for number in range(6):
        path.write_text(f"{number}")
        logs.set_aside(path, float(number), 3)
    assert [part.read_text() for part in logs.rotated(path)] == ["4", "5"]


def test_options_from_a_request() -> None:
    """Unreadable numbers are the caller's mistake."""
    parsed = web.log_options({"tailLines": "5", "follow": "true", "sinceSeconds": "10"}, 100.0)
    assert (parsed.tail_lines, parsed.follow, parsed.since) == (5, True, 90.0)
    for wrong in ({"tailLines": "x"}, {"tailLines": "-1"}, {"limitBytes": "0"}, {"sinceTime": "yesterday"}):
        with pytest.raises(errors.BadRequest):
            web.log_options(wrong, 0.0)


def get(socket: Path, path: str, token: str) -> tuple[int, str]:
    connection = UnixConnection(str(socket), timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


async def asker(world: Any) -> Callable[..., Awaitable[tuple[int, str]]]:
    """What asks the node for a path, with its own token or another."""
    node = await world.client.get(resources.NODE, world.config.name)
    assert objects.status(node)["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 0, "it has no port"

    async def ask(path: str, token: str = world.config.api_token) -> tuple[int, str]:
        return await anyio.to_thread.run_sync(get, world.config.api_socket, path, token)

    return ask


@pytest.mark.root
async def test_a_log_that_is_not_there_yet_says_what_is_waited_for(world: Any) -> None:
    """While init containers run, the others are said to wait for the pod's start, not for their own."""
    async with world.node():
        ask = await asker(world)
        first = {**world.pod("x")["spec"]["containers"][0], "name": "first"}
        await world.create(world.pod("a", initContainers=[first]))
        pod = await world.until(
            "a", lambda p: "running" in p["status"].get("initContainerStatuses", [{}])[0].get("state", {})
        )
        waiting = objects.status(pod)["containerStatuses"][0]["state"]["waiting"]
        assert waiting == {"reason": "PodInitializing"}
        status, message = await ask("/containerLogs/default/a/main")
        assert (status, message) == (
            400,
            'container "main" in pod "a" is waiting to start: PodInitializing',
        )


async def _nothing(_scope: Any, _receive: Any, _send: Any) -> None:
    """An application that is asked nothing."""


async def test_its_socket_is_given_back_whole(tmp_path: Path) -> None:
    """Once it has ended, whoever is given its descriptor's number is told when there is something to read."""
    async with anyio.create_task_group() as tasks:
        await tasks.start(web.serve, _nothing, tmp_path / "node.sock")
        tasks.cancel_scope.cancel()
    pipes = [os.pipe() for _ in range(8)]
    with anyio.fail_after(5):
        for reader, writer in pipes:
            os.write(writer, b"x")
            await anyio.wait_readable(reader)
            os.close(reader)
            os.close(writer)


@pytest.mark.root
async def test_over_the_wire(world: Any) -> None:
    """Logs of now and before, usage, and nothing without the token."""
    async with world.node():
        await world.create(world.pod("a", "echo run; sleep 0.3; exit 1"))
        await world.until(
            "a", lambda p: p["status"].get("containerStatuses", [{}])[0].get("restartCount", 0) >= 1
        )
        ask = await asker(world)
        assert await ask("/healthz", "") == (200, "ok")
        assert (await ask("/containerLogs/default/a/main", "wrong"))[0] == 401
        assert await ask("/containerLogs/default/a/main?previous=true") == (200, "run\n")
        assert (await ask("/containerLogs/default/a/no"))[0] == 404
        assert (await ask("/containerLogs/default/none/main"))[0] == 404
        status, followed = await ask("/containerLogs/default/a/main?follow=true")
        assert (status, followed) == (200, "run\n")
        await world.create(world.pod("busy", "while :; do :; done"))
        await world.ready("busy")
        await anyio.sleep(0.3)
        status, summary = await ask("/stats/summary")
        assert status == 200
        assert '"usageCoreNanoSeconds"' in summary


@pytest.mark.parametrize(
    ("path", "media_type", "body"),
    [
        (
            "/pods",
            "application/json",
            (
                '{"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": '
                '[{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}}]}'
            ),
        ),
        ("/metrics", "text/plain", 'up{page=""} 1\n'),
        ("/metrics/cadvisor", "text/plain", 'up{page="cadvisor"} 1\n'),
    ],
)
async def test_pages_for_who_looks_at_the_node(path: str, media_type: str, body: str) -> None:
    """As the kubelet's: its pods, and what it counts."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", b"Bearer token")]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
    await web.application(Speechless(), clock.SystemClock(), "token")(scope, receive, send)
    assert dict(sent[0]["headers"])[b"content-type"].decode().startswith(media_type)
    assert sent[1]["body"].decode() == body
