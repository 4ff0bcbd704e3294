"""The port at which a function answers while it is worked on: connections go on to the process of the moment.

The port stays while processes come and go: who connects in between waits, and is not refused.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
from anyio.abc import ByteStream, Listener, SocketStream

from ondol.base.clock import Clock
from ondol.base.signal import Signal

_PART_BYTES = 65536
_RETRY_S = 0.05


class Relay:
    """Hands each connection to the port that `turn_to` named last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._port = 0
        self._changed = Signal()

    def turn_to(self, port: int) -> None:
        """From now on; 0 while there is none."""
        self._port = port
        self._changed.set()

    async def handle(self, client: SocketStream) -> None:
        """One connection, to its end."""
        async with client:
            server = await self._connected()
            async with server, anyio.create_task_group() as tasks:
                tasks.start_soon(_copy, client, server)
                await _copy(server, client)
                tasks.cancel_scope.cancel()  # the function has ended it: what the client sends goes nowhere

    async def _connected(self) -> SocketStream:
        while True:
            upcoming = self._changed.next
            if not self._port:
                await upcoming.wait()
                continue
            try:
                return await anyio.connect_tcp("127.0.0.1", self._port)
            except OSError:
                await self._clock.sleep(_RETRY_S)  # it is just ending or starting


async def _copy(source: ByteStream, target: SocketStream) -> None:
    try:
        while True:
            await target.send(await source.receive(_PART_BYTES))
    except anyio.EndOfStream:
        await _finish(target)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return


async def _finish(target: SocketStream) -> None:
    try:
        await target.send_eof()
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        return


async def listener(host: str, port: int, on_taken: Callable[[], None]) -> Listener[SocketStream]:
    """Listen at the port; where that is taken and nobody asked for it (`on_taken`), at any other."""
    try:
        return await listen(host, port)
    except OSError:
        on_taken()
        return await listen(host, 0)


async def listen(host: str, port: int) -> Listener[SocketStream]:
    """`OSError` where it is taken."""
    several = await anyio.create_tcp_listener(local_host=host, local_port=port, reuse_port=False)
    return several.listeners[0]
