"""Measures events: how many a second are kept and delivered, and how late they are, by a data plane alone.

`python benchmarks/events.py` starts a nats-server and a data plane with one broker and one trigger, each in a
process of its own, and sends 1 KB events from a third, which also is the subscriber. `run.py` calls `rows`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import random
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import anyio
import uvloop

from ondol.api.objects import Key
from ondol.base.clock import SystemClock
from ondol.base.signal import Signal
from ondol.contracts import eventing
from ondol.eventing import engine, filters
from ondol.eventing.engine import EngineConfig
from ondol.eventing.exchange import Target
from ondol.eventing.journal.jetstream import JetStream
from ondol.eventing.plane.counts import Counts
from ondol.eventing.plane.dispatch import Shared
from ondol.eventing.plane.dispatcher import Dispatcher
from ondol.eventing.plane.hosts import Hosts
from ondol.eventing.plane.ingress import Desk, Entrance, Entrances, Ingress
from ondol.eventing.plane.routes import Route, Source
from ondol.eventing.plane.sending import HttpSender, Ways
from ondol.eventing.plane.tracing import Tracer
from ondol.web import serving
from ondol.web.calling import Caller

HOST = "127.0.0.1"
CONNECTIONS = 60
EVENTS = 40_000
SIZE_BYTES = 1024
RATE = 1000
RATE_S = 10.0
_STREAM = "B-bench"
_INGRESS = f"{eventing.BROKER_INGRESS}.{eventing.NAMESPACE}.svc.cluster.local"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--rate", type=int, default=RATE)
    parser.add_argument("--seconds", type=float, default=RATE_S)
    parser.add_argument("--profile", help="write a profile of the data plane here")
    parser.add_argument("--ordered", action="store_true")
    parser.add_argument("--folder", help="where the journal is kept meanwhile")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ondol-events-", dir=chosen.folder) as folder:
        print(json.dumps(measure(Path(folder), chosen), indent=1))


def figures(events: int = EVENTS, rate: int = RATE, seconds: float = RATE_S) -> dict[str, Any]:
    """Both measurements, for `run.py`."""
    chosen = argparse.Namespace(events=events, rate=rate, seconds=seconds, profile=None, ordered=False)
    with tempfile.TemporaryDirectory(prefix="ondol-events-") as folder:
        return measure(Path(folder), chosen)


def measure(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Both measurements, on processes that are started for them."""
    sink_port, plane_port = _free_port(), _free_port()
    config = EngineConfig(folder / "events", folder / "nats.json", _free_port())
    with _engine(config) as server:
        plane = multiprocessing.get_context("spawn").Process(
            target=run_plane, args=(config, plane_port, sink_port, chosen.profile, chosen.ordered)
        )
        plane.start()
        try:
            figures: dict[str, Any] = uvloop.run(
                _load(plane_port, sink_port, chosen, {"plane": plane.pid or 0, "nats": server})
            )
            return figures
        finally:
            plane.terminate()
            plane.join()


@contextmanager
def _engine(config: EngineConfig) -> Iterator[int]:
    process = subprocess.Popen(
        engine.command(config), stderr=subprocess.DEVNULL, env=dict(engine.environment(config))
    )
    try:
        while not engine.ready(config):
            time.sleep(0.01)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probing:
        probing.bind((HOST, 0))
        return int(probing.getsockname()[1])


# The data plane


def run_plane(config: EngineConfig, port: int, sink_port: int, profile: str | None, ordered: bool) -> None:
    """A data plane with one broker and one trigger, until the process ends."""
    if profile:
        import cProfile  # noqa: PLC0415 - only where it is asked for
        import signal  # noqa: PLC0415

        profiler = cProfile.Profile()

        def stop(*_: object) -> None:
            profiler.disable()
            profiler.dump_stats(profile)
            os._exit(0)

        signal.signal(signal.SIGTERM, stop)
        profiler.enable()
    gc.set_threshold(10_000)  # as the parts of a platform have it
    uvloop.run(_plane(config, port, sink_port, ordered))


async def _plane(config: EngineConfig, port: int, sink_port: int, ordered: bool) -> None:
    clock, rng, counts = SystemClock(), random.Random(), Counts()
    journal = JetStream(engine.address(config), clock=clock, rng=rng)
    tracer = Tracer(clock=clock, rng=rng)
    dispatcher = Dispatcher(Shared(journal, HttpSender(Caller(), Ways()), clock, tracer, Signal()), counts)
    entrances = Entrances()
    key = Key("bench", "b")
    entrances.by_key[key] = Entrance("Broker", key, "bench", _STREAM, counts.arrivals("bench", "Broker", "b"))
    ingress = Ingress(Desk(journal, clock, tracer), entrances.by_path)
    route = Route(
        stream=_STREAM,
        consumer="trigger",
        source=Source("Trigger", "bench", "t", "b"),
        predicate=filters.predicate(None, {"type": "com.example.bench"}),
        subscriber=Target(f"http://{HOST}:{sink_port}/"),
        reply_stream=_STREAM,
        is_strict=True,
        is_ordered=ordered,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.run)
        while not journal.is_connected:  # noqa: ASYNC110 - once, at the start
            await anyio.sleep(0.01)
        await journal.create_stream(_STREAM, bytes_max=-1)
        tasks.start_soon(dispatcher.run)
        await dispatcher.ensure(route)
        listening = serving.listen_tcp(HOST, port, name="events")
        listening.listen(1024)
        hosts = Hosts({eventing.BROKER_INGRESS: ingress}, ingress)
        async with serving.serving(hosts, listening):
            await anyio.sleep_forever()


# The load


class _Sink(asyncio.Protocol):
    """The subscriber: says 200 to everything, and when each event came."""

    arrivals: ClassVar[dict[bytes, float]] = {}
    _answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            at = head.index(b"content-length: ") + 16
            size = int(head[at : head.find(b"\r", at) if b"\r" in head[at:] else None])
            if len(self._received) < end + 4 + size:
                return
            at = head.index(b"ce-id: ") + 7
            self.arrivals.setdefault(head[at : at + 12], time.perf_counter())
            self._received = self._received[end + 4 + size :]
            self._transport.write(self._answer)


class _Source(asyncio.Protocol):
    """One connection that sends events: as fast as they are taken, or when it is told to."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._load.free(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._load.lost(self)

    def send(self, request: bytes) -> None:
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if b"\r\n\r\n" in self._received:
            self._load.answered(self._received[9:12])
            self._received = b""
            self._load.free(self)


class _Load:
    """What is to be sent, and by whom."""

    def __init__(self, prefix: str, count: int) -> None:
        self.sent: dict[bytes, float] = {}
        self.refused = 0
        self.accepted = 0
        self.done = asyncio.Event()
        self._prefix = prefix
        self._count = count
        self._free: deque[_Source] = deque()
        """Each gets its turn: the server closes what is silent for seconds."""
        self._due = 0
        self._body = b"x" * SIZE_BYTES

    def due(self, count: int) -> None:
        """So many may be sent by now."""
        self._due = min(count, self._count)
        while self._free and len(self.sent) < self._due:
            self._send(self._free.popleft())

    def free(self, source: _Source) -> None:
        if len(self.sent) < self._due:
            self._send(source)
        else:
            self._free.append(source)

    def lost(self, source: _Source) -> None:
        if source in self._free:
            self._free.remove(source)

    def answered(self, status: bytes) -> None:
        if status == b"202":
            self.accepted += 1
        else:
            self.refused += 1
        if self.accepted + self.refused == self._count:
            self.done.set()

    def _send(self, source: _Source) -> None:
        id_ = f"{self._prefix}{len(self.sent):09d}".encode()
        self.sent[id_] = time.perf_counter()
        source.send(
            b"POST /bench/b HTTP/1.1\r\nhost: %s\r\nce-specversion: 1.0\r\nce-id: %s\r\nce-source: /bench\r\n"
            b"ce-type: com.example.bench\r\nce-partitionkey: k%d\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s"
            % (_INGRESS.encode(), id_, len(self.sent) % 64, SIZE_BYTES, self._body)
        )


async def _load(
    port: int, sink_port: int, chosen: argparse.Namespace, pids: dict[str, int]
) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    await loop.create_server(_Sink, HOST, sink_port, backlog=1024)
    while True:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            break
    figures: dict[str, Any] = {}
    await _run(port, "aaa", 2000, 0)  # warm
    before = {name: _cpu_s(pid) for name, pid in pids.items()}
    began = time.perf_counter()
    load = await _run(port, "bbb", chosen.events, 0)
    last = max(_Sink.arrivals[id_] for id_ in load.sent)
    figures["delivered_per_s"] = round(chosen.events / (last - began))
    figures["accepted_per_s"] = round(chosen.events / (max(load.sent.values()) - began))
    figures["refused"] = load.refused
    for name, pid in pids.items():
        figures[f"{name}_us_per_event"] = round((_cpu_s(pid) - before[name]) / chosen.events * 1e6, 1)
    load = await _run(port, "ccc", round(chosen.rate * chosen.seconds), chosen.rate)
    delays = sorted(_Sink.arrivals[id_] - at for id_, at in load.sent.items())
    for share in (0.5, 0.99):
        figures[f"p{round(100 * share)}_ms_at_{chosen.rate}"] = round(
            delays[int(len(delays) * share)] * 1e3, 2
        )
    figures |= {f"{name}_rss_mib": _rss_mib(pid) for name, pid in pids.items()}
    return figures


async def _run(port: int, prefix: str, count: int, rate: int) -> _Load:
    """Send so many, at a rate or (0) as fast as they are taken, and wait until all have arrived."""
    loop = asyncio.get_running_loop()
    load = _Load(prefix, count)
    pairs = [await loop.create_connection(lambda: _Source(load), HOST, port) for _ in range(CONNECTIONS)]
    began = time.perf_counter()
    while rate and (due := int((time.perf_counter() - began) * rate)) < count:
        load.due(due)
        await asyncio.sleep(0.001)
    load.due(count)
    async with asyncio.timeout(120):
        await load.done.wait()
        while not load.sent.keys() <= _Sink.arrivals.keys():  # noqa: ASYNC110 - cheaper than to tell
            await asyncio.sleep(0.01)
    for transport, _ in pairs:
        transport.close()
    return load


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20), 1)


if __name__ == "__main__":
    main()
