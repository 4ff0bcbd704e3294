"""Answers every request, at once or after `WORK_MS`, with the same few bytes: little work, as Python goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

_BODY = b"ok\n"
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
_WORK_S = float(os.environ.get("WORK_MS", "0")) / 1000
_CLOSING = _ANSWER.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")


class _Protocol(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head, self._received = self._received[:end], self._received[end + 4 :]
            is_last = b"connection: close" in head.lower()
            if _WORK_S:
                asyncio.get_running_loop().call_later(_WORK_S, self._answer, is_last)
            else:
                self._answer(is_last)
            if is_last:
                return

    def _answer(self, is_last: bool) -> None:
        if is_last:
            self._transport.write(_CLOSING)
            self._transport.close()
        else:
            self._transport.write(_ANSWER)


async def _main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Protocol, "0.0.0.0", int(os.environ.get("PORT", "8080")))
    loop.add_signal_handler(signal.SIGTERM, server.close)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):  # how serve_forever ends when it is closed
        asyncio.run(_main())
