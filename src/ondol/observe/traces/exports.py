"""Exports of spans (OTLP/HTTP), answered when their spans are in the store.

All exports that arrive or are being stored may have so many bytes together, and one sender a share of
them; then senders are told to come again, and memory stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import anyio.to_thread

from ondol.base import errors
from ondol.base.clock import Clock
from ondol.base.shares import Share, Shares
from ondol.observe.traces import otlp, otlp_protobuf, spans
from ondol.observe.traces.spans import Row
from ondol.observe.traces.store import SpanStore
from ondol.web import bodies
from ondol.web.application import Request, Response

PATH: Final = "/v1/traces"
_BODY_BYTES_MAX: Final = 16 * 1024 * 1024
_BYTES_MAX: Final = 48 * 1024 * 1024
"""Of all exports together: a sender that is alone has room for the largest, and another one beside it."""
_EXPORTS_MAX: Final = 1024
"""Exports at once, however small."""
_BODY_TIMEOUT_S: Final = 10.0
"""How long an export may take to arrive: as long as exporters wait for its answer."""
_PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = "application/json"


@dataclass(slots=True)
class Counts:
    """What happened since the process began."""

    spans_received: int = 0
    spans_refused: int = 0
    exports: int = 0
    exports_refused: int = 0


class Exports:
    """Takes exports into the store, on a worker thread each.

    A sender is an address. Who comes by the socket of the run folder (Envoy, and the user who runs the
    platform) has none, and is not bound by a sender's share.
    """

    def __init__(self, store: SpanStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._exports = Shares(_EXPORTS_MAX)
        self._bytes = Shares(_BYTES_MAX)
        self.counts = Counts()

    async def post(self, request: Request) -> Response:
        """The answer to `POST /v1/traces`, in the form the export has."""
        content_type = request.headers.get("content-type", _PROTOBUF).partition(";")[0].strip().lower()
        if content_type not in {_JSON, _PROTOBUF}:
            raise errors.UnsupportedMediaType(f"spans are taken as {_PROTOBUF} or {_JSON}")
        is_json = content_type == _JSON
        sender = request.client.host if request.client else ""
        try:
            with self._share(self._exports, sender) as place, self._share(self._bytes, sender) as room:
                place.grow(1)
                body = await self._receive(request, room)
                stored, refused, mistake = await anyio.to_thread.run_sync(self._store_spans, body, is_json)
        except errors.TooManyRequests:
            self.counts.exports_refused += 1
            raise errors.TooManyRequests("too many exports at once", retry_after_s=1) from None
        self.counts.spans_received += stored
        self.counts.spans_refused += refused
        self.counts.exports += 1
        return Response(_answer(refused, mistake, is_json=is_json), media_type=content_type)

    def _share(self, shares: Shares, sender: str) -> Share:
        return Share(shares, sender, is_bound=bool(sender))

    async def _receive(self, request: Request, room: Share) -> bytes:
        """The whole export; `Timeout` if it does not arrive in time."""
        try:
            with self._clock.fail_after(_BODY_TIMEOUT_S):
                return await bodies.read(request, _BODY_BYTES_MAX, noun="an export", grow=room.grow)
        except TimeoutError:
            raise errors.Timeout(f"the export did not arrive within {_BODY_TIMEOUT_S:g} s") from None

    def _store_spans(self, body: bytes, is_json: bool) -> tuple[int, int, str]:
        """Store the valid spans; their number, that of the others, and the mistake of the first of those."""
        rows = map(spans.row, otlp.from_json(body)) if is_json else otlp_protobuf.rows(body)
        valid: list[Row] = []
        refused, first = 0, ""
        for row in rows:
            if mistake := spans.mistake(row):
                refused, first = refused + 1, first or mistake
            else:
                valid.append(row)
        self._store.add(valid)
        return len(valid), refused, first


def _answer(refused: int, mistake: str, *, is_json: bool) -> bytes:
    """An empty message where all spans were taken, else how many were not and why."""
    if not refused:
        return b"{}" if is_json else b""
    return (otlp.partial_success_json if is_json else otlp.partial_success)(refused, mistake)
