"""A data plane with one broker and two triggers, without an API server: a process that tests kill.

`python plane_process.py <folder> <journal's port> <port> <sink's address>`
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import anyio

from ondol.api.objects import Key
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.base.signal import Signal
from ondol.eventing import engine, filters
from ondol.eventing.delivery.policy import Policy
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

STREAM = "B-test"
POLICY = Policy(retries=1000, backoff_s=0.05, is_exponential=False)


def routes(sink: str) -> list[Route]:
    """One that is ordered, one that is not."""
    return [
        Route(
            stream=STREAM,
            consumer=name,
            source=Source("Trigger", "default", name, "b"),
            predicate=filters.predicate(None),
            subscriber=Target(f"{sink}/{name}"),
            reply_stream=STREAM,
            policy=POLICY,
            is_ordered=name == "ordered",
            is_strict=True,
        )
        for name in ("ordered", "unordered")
    ]


async def main(*words: str) -> None:
    folder, journal_port, port, sink = words
    config = EngineConfig(Path(folder) / "events", Path(folder) / "nats.json", int(journal_port))
    clock, rng, counts = SystemClock(), random.Random(), Counts()
    journal = JetStream(engine.address(config), clock=clock, rng=rng)
    tracer = Tracer(clock=clock, rng=rng)
    dispatcher = Dispatcher(Shared(journal, HttpSender(Caller(), Ways()), clock, tracer, Signal()), counts)
    entrances, key = Entrances(), Key("default", "b")
    entrances.open(Entrance("Broker", key, "test", STREAM, counts.arrivals("default", "Broker", "b")))
    ingress = Ingress(Desk(journal, clock, tracer), entrances.by_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.run)
        tasks.start_soon(dispatcher.run)
        while not await _is_set_up(journal, dispatcher, sink):  # noqa: ASYNC110 - it asks another process
            await anyio.sleep(0.05)
        listening = serving.listen_tcp("127.0.0.1", int(port), name="events")
        listening.listen(128)
        async with serving.serving(Hosts({"broker-ingress": ingress}, ingress), listening):
            await anyio.sleep_forever()


async def _is_set_up(journal: JetStream, dispatcher: Dispatcher, sink: str) -> bool:

    try:
        await journal.create_stream(STREAM, bytes_max=-1)
        for route in routes(sink):
            await dispatcher.ensure(route)
    except errors.ApiError:
        return False
    return True


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:], backend_options={"use_uvloop": True})
