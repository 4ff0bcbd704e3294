"""The node's HTTP interface and the logs it gives out."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from ondol.api import objects, resources
from ondol.base import clock, errors
from ondol.base.unix_http import UnixConnection
from ondol.node import logs, web, web_server

pytestmark = pytest.mark.anyio

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
        (logs.LogOptions(tail_lines=2), "three\n"),
        (logs.LogOptions(tail_lines=0), ""),
        (logs.LogOptions(stream="stderr"), "two\n"),
        (logs.LogOptions(limit_bytes=6), "one\ntw"),
        (logs.LogOptions(since=1767225603.0), "three\n"),
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
    found = web.log_options({"tailLines": "5", "follow": "true", "sinceSeconds": "10"}, 100.0)
    assert (found.tail_lines, found.follow, found.since) == (5, True, 90.0)
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
        found = await world.until(
            "a", lambda p: "running" in p["status"].get("initContainerStatuses", [{}])[0].get("state", {})
        )
        waiting = objects.status(found)["containerStatuses"][0]["state"]["waiting"]
        assert waiting == {"reason": "PodInitializing"}
        status, said = await ask("/containerLogs/default/a/main")
        assert (status, said) == (
            400,
            'container "main" in pod "a" is waiting to start: PodInitializing',
        )


async def test_its_socket_is_given_back_whole(tmp_path: Path) -> None:
    """Once it has ended, whoever is given its descriptor's number is told when there is something to read."""
    async with anyio.create_task_group() as tasks:
        await tasks.start(web_server.serve, None, tmp_path / "node.sock")
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
