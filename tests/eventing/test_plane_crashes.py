"""Whatever process is killed: what was accepted is delivered, and no event overtakes one of its key."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import anyio
from tests.eventing import plane_process
from tests.eventing.plane_rig import HOST, INGRESS, Received, Respond, Server, Sink, sinking, until
from tests.ports import free_port

from ondol.base import errors
from ondol.web.calling import Caller, Place

ROUNDS = int(os.environ.get("ONDOL_EVENT_KILL_ROUNDS", "20"))
KEYS = 6
_ANSWER_S = 15.0


class PlaneProcess:
    """The data plane in a process of its own."""

    def __init__(self, folder: Path, server: Server, sink: Sink) -> None:
        self.port = free_port()
        self._folder = folder
        words = [str(folder), str(server.config.port), str(self.port), f"http://{HOST}:{sink.port}"]
        self._command = [sys.executable, plane_process.__file__, *words]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / "plane.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Senders:
    """One for each key, who sends the next event when the last one was accepted, however often that takes."""

    def __init__(self, port: int) -> None:
        self.accepted: list[str] = []
        self.is_over = False
        self._port = port
        self._caller = Caller()

    async def run(self, key: int) -> None:
        number = 0
        while not self.is_over:
            id_ = f"{key}-{number:06d}"
            await self._send(key, id_)
            self.accepted.append(id_)
            number += 1

    async def _send(self, key: int, id_: str) -> None:
        head = (
            f"POST /default/b HTTP/1.1\r\nhost: {INGRESS}\r\nce-specversion: 1.0\r\nce-id: {id_}\r\n"
            f"ce-source: /test\r\nce-type: t\r\nce-partitionkey: {key}\r\ncontent-length: 5\r\n\r\nhello"
        )
        while True:
            try:
                answer = await self._caller.call(
                    Place(HOST, self._port), head.encode(), timeout_s=_ANSWER_S, bytes_max=1024
                )
                if answer.status == 202:
                    return
            except errors.ApiError:
                pass
            await anyio.sleep(0.02)

    def close(self) -> None:
        self._caller.close()


async def _endures(folder: Path, rounds: int) -> None:
    server, rng = Server(folder), random.Random(7)
    server.start()
    server.wait_ready()
    async with sinking() as sink:
        sink.respond = _unreliable(random.Random(8))
        plane = PlaneProcess(folder, server, sink)
        plane.start()
        senders = Senders(plane.port)
        victims: list[list[Server | PlaneProcess]] = [[server], [plane], [server, plane]]
        try:
            async with anyio.create_task_group() as tasks:
                for key in range(KEYS):
                    tasks.start_soon(senders.run, key)
                for _ in range(rounds):
                    aim = len(senders.accepted) + KEYS
                    await until(partial(_has, senders, aim), limit_s=60)
                    await anyio.sleep(rng.random() * 0.1)
                    for process in rng.choice(victims):
                        process.kill()
                        process.start()
                senders.is_over = True
            await _all_delivered(sink, senders)
        finally:
            senders.close()
            plane.kill()
            server.kill()
    _assert_ordered(sink)


def _has(senders: Senders, count: int) -> bool:
    return len(senders.accepted) > count


def _unreliable(rng: random.Random) -> Respond:
    """A subscriber that refuses some events a few times."""

    def respond(_received: Received) -> tuple[int, dict[str, str], bytes]:
        return (503 if rng.random() < 0.05 else 200), {}, b""

    return respond


async def _all_delivered(sink: Sink, senders: Senders) -> None:
    expected = set(senders.accepted)
    try:
        await until(
            lambda: expected <= set(sink.ids("/ordered")) and expected <= set(sink.ids("/unordered")),
            limit_s=60,
        )
    except TimeoutError:
        for path in ("/ordered", "/unordered"):
            missing = sorted(expected - set(sink.ids(path)))
            assert not missing, (
                f"{len(missing)} of {len(expected)} accepted events never came to {path}: {missing[:5]}"
            )


def _assert_ordered(sink: Sink) -> None:
    """Of each key, the events came for the first time in the order in which they were sent."""
    firsts: dict[str, list[str]] = {}
    for id_ in dict.fromkeys(sink.ids("/ordered")):
        firsts.setdefault(id_.partition("-")[0], []).append(id_)
    for key, ids in firsts.items():
        assert ids == sorted(ids), f"of key {key} events came out of order"


async def test_nothing_is_lost_or_overtaken_when_processes_are_killed(tmp_path: Path) -> None:
    """The journal's server, the data plane, or both at once, in the middle of everything."""
    await _endures(tmp_path, ROUNDS)
