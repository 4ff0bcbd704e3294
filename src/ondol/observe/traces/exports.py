"""Exports of spans (OTLP/HTTP), answered when their spans are in the store.

Exports that wait for that may hold so many bytes and no more; then senders are told to come again, and
memory stays as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import anyio.to_thread

from ondol.base import errors
from ondol.observe.traces import otlp, otlp_protobuf, spans
from ondol.observe.traces.spans import Row
from ondol.observe.traces.store import SpanStore
from ondol.web import bodies
from ondol.web.application import Request, Response

PATH: Final = "/v1/traces"
_BODY_BYTES_MAX: Final = 16 * 1024 * 1024
_WAITING_BYTES_MAX: Final = 32 * 1024 * 1024
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
    """Takes exports into the store, on a worker thread each."""

    def __init__(self, store: SpanStore) -> None:
        self._store = store
        self._waiting_bytes = 0
        self.counts = Counts()

    async def post(self, request: Request) -> Response:
        """The answer to `POST /v1/traces`, in the form the export has."""
        content_type = request.headers.get("content-type", _PROTOBUF).partition(";")[0].strip().lower()
        if content_type not in {_JSON, _PROTOBUF}:
            raise errors.UnsupportedMediaType(f"spans are taken as {_PROTOBUF} or {_JSON}")
        body = await bodies.read(request, _BODY_BYTES_MAX, noun="an export")
        is_json = content_type == _JSON
        with self._waiting(len(body)):
            stored, refused, mistake = await anyio.to_thread.run_sync(self._store_spans, body, is_json)
        self.counts.spans_received += stored
        self.counts.spans_refused += refused
        self.counts.exports += 1
        return Response(_answer(refused, mistake, is_json=is_json), media_type=content_type)

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

    @contextlib.contextmanager
    def _waiting(self, size_bytes: int) -> Iterator[None]:
        """Count an export's bytes while it waits; `Unavailable` when too many wait already."""
        if self._waiting_bytes and self._waiting_bytes + size_bytes > _WAITING_BYTES_MAX:
            self.counts.exports_refused += 1
            raise errors.Unavailable("too many exports at once", retry_after_s=1)
        self._waiting_bytes += size_bytes
        try:
            yield
        finally:
            self._waiting_bytes -= size_bytes


def _answer(refused: int, mistake: str, *, is_json: bool) -> bytes:
    """An empty message where all spans were taken, else how many were not and why."""
    if not refused:
        return b"{}" if is_json else b""
    return (otlp.partial_success_json if is_json else otlp.partial_success)(refused, mistake)
