"""Hands spans to who keeps them, by OTLP over HTTP; what cannot be handed in is lost, and counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from ondol.api.objects import Object
from ondol.base import errors, log
from ondol.base.clock import Clock
from ondol.base.signal import Signal
from ondol.contracts import tracing
from ondol.web.calling import Caller, Place

Export: TypeAlias = Callable[[bytes], Awaitable[None]]
"""Hands in a document of OTLP's JSON; `ApiError` if it is not taken."""

_WAITING_MAX: Final = 4096
_BATCH_MAX: Final = 512
_TIMEOUT_S: Final = 5.0
_ANSWER_BYTES_MAX: Final = 64 << 10


def to_socket(caller: Caller, socket: Path) -> Export:
    """To an HTTP server at a socket."""
    place = Place(socket=str(socket))
    head = (
        f"POST {tracing.TRACES_PATH} HTTP/1.1\r\nhost: observe\r\ncontent-type: application/json\r\n".encode()
    )

    async def export(document: bytes) -> None:
        request = b"%scontent-length: %d\r\n\r\n%s" % (head, len(document), document)
        answer = await caller.call(place, request, timeout_s=_TIMEOUT_S, bytes_max=_ANSWER_BYTES_MAX)
        if answer.status >= 300:
            raise errors.Unavailable(f"spans are answered {answer.status}")

    return export


class Exporter:
    """Gathers spans of a service for a while, and hands them in together, while `run` runs."""

    def __init__(self, export: Export, clock: Clock, *, service: str, gather_s: float) -> None:
        self.lost = 0
        self._export = export
        self._clock = clock
        self._service = service
        self._gather_s = gather_s
        self._waiting: list[Object] = []
        self._arrived = Signal()
        self._is_failing = False
        self._log = log.get("spans")

    def add(self, spans: Iterable[Object]) -> None:
        """Take these, without waiting."""
        for span in spans:
            if len(self._waiting) < _WAITING_MAX:
                self._waiting.append(span)
            else:
                self.lost += 1
        self._arrived.set()

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            await self._clock.sleep(self._gather_s)
            self._arrived.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH_MAX], self._waiting[_BATCH_MAX:]
                try:
                    await self._export(msgspec.json.encode(tracing.request(batch, self._service)))
                except errors.ApiError as error:
                    self.lost += len(batch)
                    if not self._is_failing:
                        self._log.warning("spans_lost", service=self._service, error=error.message)
                    self._is_failing = True
                else:
                    self._is_failing = False
