"""Connections that speak TLS with the pod: carried as bytes, for their certificates are the pod's to see.

What is within is not looked at: a connection counts as one request for as long as it is open, has no answer
of the activator's own (it is closed), and no code is counted.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import anyio
import anyio.abc

from ondol.base.clock import Clock
from ondol.serverless.activator.limits import Limits

_CHUNK_BYTES: Final = 64 * 1024
_LOST = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
_HANDSHAKE: Final = 0x16


_REFUSED_S: Final = 2.0
"""Longer than the proxy asks again."""
_EARLIER_S: Final = 1.0
_EARLIER_SHARE: Final = 0.1


def hold_s(limits: Limits) -> float:
    """How long a connection is held: the proxy's own time is not to be over first, or it would ask again."""
    return limits.total_s - min(_EARLIER_S, limits.total_s * _EARLIER_SHARE)


class Refusals:
    """Callers whose connections were held in vain, and who would be held again for as long as before.

    To the proxy a connection that ends is one that was never made: it asks again, eight times. An answer
    would tell it, and there is none that it could read.
    """

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        """By address, when they were told so."""

    def refuse(self, caller: str, now_s: float) -> None:
        self._since = {each: at for each, at in self._since.items() if now_s - at < _REFUSED_S}
        self._since[caller] = now_s

    def is_refused(self, caller: str, now_s: float) -> bool:
        since_s = self._since.get(caller)
        return since_s is not None and now_s - since_s < _REFUSED_S


def is_tls(received: bytes) -> bool:
    """Whether a connection begins with a handshake; no request of HTTP begins with this byte."""
    return received[:1] == bytes([_HANDSHAKE])


async def carry(
    client: anyio.abc.SocketStream, pod: anyio.abc.SocketStream, limits: Limits, clock: Clock
) -> None:
    """Both ways until the pod has closed, or is silent for too long; the client may end its half earlier."""
    is_asked = True
    async with anyio.create_task_group() as both:

        async def ask() -> None:
            nonlocal is_asked
            with suppress(*_LOST):
                while True:
                    received = await client.receive(_CHUNK_BYTES)
                    is_asked = True
                    await pod.send(received)
            with suppress(*_LOST):
                await pod.send_eof()

        both.start_soon(ask)
        with suppress(*_LOST, TimeoutError):
            while True:
                with clock.fail_after(limits.silence_s(begun=not is_asked)):
                    answered = await pod.receive(_CHUNK_BYTES)
                is_asked = False
                await client.send(answered)
        both.cancel_scope.cancel()
