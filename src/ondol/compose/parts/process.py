"""The process of a Python part: its event loop, its signs of life, its way to the API server."""

from __future__ import annotations

import gc
import random
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import anyio
import anyio.abc

from ondol import client as clients
from ondol.base import errors, log
from ondol.base.clock import Clock, SystemClock
from ondol.client import Client
from ondol.client.counting import CountingTransport
from ondol.compose.instance import Instance
from ondol.compose.part import Notify
from ondol.compose.settings import Settings

SILENCE_MAX_S: Final = 30.0
BEAT_S: Final = 5.0
_YOUNG_MAX: Final = 10_000
"""So many more new objects than gone ones, and the garbage collector looks at them; Python's own 700 are
those of a few requests."""
_API_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Context:
    """What a part's coroutine has: whose part it is, and its ways to the time and to the supervisor.

    `succeeded` is set once another process does its work: it is to end when it has answered all it has taken.
    """

    instance: Instance
    settings: Settings
    clock: Clock
    notify: Notify
    succeeded: anyio.Event = field(default_factory=anyio.Event)


Main = Callable[[Context], Coroutine[Any, Any, None]]


def runner(
    main: Main, instance: Instance, settings: Settings, *, fast_loop: bool = True
) -> Callable[[Notify], None]:
    """What the forked child calls: run a part's coroutine until it ends or SIGTERM comes."""
    return partial(_run, main, instance, settings, fast_loop)


def _run(main: Main, instance: Instance, settings: Settings, fast_loop: bool, notify: Notify) -> None:
    log.configure(level=settings.log_level)
    context = Context(instance, settings, SystemClock(), notify)
    try:
        anyio.run(_until_signal, main, context, backend_options={"use_uvloop": fast_loop})
    except BaseExceptionGroup as group:
        raise first_error(group) from group


async def _until_signal(main: Main, context: Context) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGUSR1) as signals:
        async with anyio.create_task_group() as group:

            async def run_main() -> None:
                await main(context)
                group.cancel_scope.cancel()

            group.start_soon(_beat, context)
            group.start_soon(run_main)
            async for signum in signals:
                if signum == signal.SIGUSR1:
                    context.succeeded.set()
                    continue
                group.cancel_scope.cancel()
                return


async def _beat(context: Context) -> None:
    """Report from the event loop that it goes round."""
    while True:
        context.notify.alive()
        await context.clock.sleep(BEAT_S)


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that is reported: the first that is not a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def settle() -> None:
    """Spare the garbage collector what the part has by now, for it keeps that; and call it less often.

    Objects go when nobody refers to them any more: what only a collection ends are the cycles of some errors.
    For these, a full one over every module and stored object would stop the event loop for some 20 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_MAX)


async def serve(run: Callable[..., Coroutine[Any, Any, None]], notify: Notify) -> None:
    """Run something that reports to its task group when it has started."""
    async with anyio.create_task_group() as group:
        await group.start(run)
        notify()


async def connected(context: Context, component: str) -> tuple[Client, CountingTransport]:
    """A client as the user of the part, once the API server answers, and a count of its requests."""
    client = clients.at_socket(context.instance.api_socket(component))
    while not await _is_ready(client):
        await context.clock.sleep(_API_POLL_S)
    client.transport = requests = CountingTransport(client.transport, context.clock)
    return client, requests


async def _is_ready(client: Client) -> bool:
    try:
        return (await client.raw("GET", "/readyz")).status == 200
    except (errors.Unavailable, errors.Timeout):
        return False


def jitter() -> random.Random:
    """Randomness that spreads retries and load; no secret depends on it."""
    return random.Random()  # noqa: S311
