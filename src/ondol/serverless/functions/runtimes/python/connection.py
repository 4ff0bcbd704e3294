"""One connection of a client: requests read one after the other, each handed to the application as ASGI."""

from __future__ import annotations

import _socket
import sys
import time

from . import http1
from .engine import Engine, Signal

TYPE_CHECKING = False  # `typing` takes longer to import than this whole package
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from typing import Any

    from .serving import Server

    Message = MutableMapping[str, Any]
    Send = Callable[[Message], Awaitable[None]]
    Receive = Callable[[], Awaitable[Message]]

_PART_BYTES = 65536
_BUFFERED_BYTES_MAX = 65536
_BODILESS = (204, 304)
_DISCARDED_BYTES_MAX = 16 << 20
"""Of a body that the function did not read: so much is read for it, so that the client hears the answer."""


class Connection:
    """Reads and writes a socket when the engine says it can."""

    def __init__(
        self, server: Server, sock: _socket.socket, client: tuple[str, int], local: tuple[str, int]
    ) -> None:
        self.engine: Engine = server.engine
        self.client, self.local = client, local
        self._server = server
        self._socket = sock
        self._descriptor = sock.fileno()
        self.reader = http1.Reader()
        self._out = bytearray()
        self._request: Request | None = None
        self.is_gone = False
        """Whether the client has closed its side, or all of it."""
        self.is_new = True
        """Whether no request has come yet."""
        self._closes = False
        self._is_closed = False
        self._discards_left = 0
        self.came = Signal(self.engine)
        self.went = Signal(self.engine)
        self._arm()

    def _arm(self) -> None:
        if self._is_closed:
            return
        wants_more = not self.is_gone and not self._closes and not self._is_full()
        self.engine.watch(
            self._descriptor,
            self._readable if wants_more else None,
            self._writable if self._out else None,
        )

    def _is_full(self) -> bool:
        return self._request is not None and self.reader.buffered > _BUFFERED_BYTES_MAX

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_PART_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.is_gone = True
            self.came.set()
            self.went.set()
            if self._request is None:
                self.close()
            else:
                self._arm()
            return
        self.reader.feed(data)
        if self._discards_left:
            self._discard(len(data))
        elif self._request is None:
            self._next()
        else:
            self.came.set()
        self._arm()

    def _discard(self, size: int) -> None:
        """Take what is left of a body that nobody reads, and then the next request."""
        try:
            self.reader.body()
        except http1.BadRequest as refusal:
            self.refuse(refusal)
            return
        self._discards_left = 0 if self.reader.body_is_over else max(0, self._discards_left - size)
        if self.reader.body_is_over and not self._server.is_ending:
            self._next()
        elif self.reader.body_is_over or not self._discards_left:
            self.close_after()

    def _next(self) -> None:
        """Begin with the next request, if its head is whole."""
        try:
            head = self.reader.head()
        except http1.BadRequest as refusal:
            self.refuse(refusal)
            return
        if head is not None:
            self.is_new = False
            self._request = Request(self, head)
            self.engine.start(self._request.run(self._server.application))

    def refuse(self, refusal: http1.BadRequest) -> None:
        """Answer what is no request, and end."""
        body = str(refusal).encode()
        self.write(
            http1.answer_head(
                refusal.status,
                [
                    (b"content-type", b"text/plain"),
                    (b"content-length", b"%d" % len(body)),
                    (b"connection", b"close"),
                ],
            )
            + body
        )
        self.close_after()

    def write(self, data: bytes) -> None:
        if self._is_closed:
            return
        if not self._out:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.lost()
                return
            data = data[sent:]
        if data:
            self._out += data
            self._arm()

    def _writable(self) -> None:
        try:
            sent = self._socket.send(self._out)
        except BlockingIOError:
            return
        except OSError:
            self.lost()
            return
        del self._out[:sent]
        if not self._out:
            self.went.set()
            if self._closes:
                self.close()
                return
        self._arm()

    async def drained(self) -> None:
        """Wait while the client is slower than the function."""
        while len(self._out) > _BUFFERED_BYTES_MAX and not self._is_closed:
            await self.went

    def lost(self) -> None:
        self.is_gone = True
        self.close()
        self.came.set()
        self.went.set()

    def taken(self) -> None:
        """Some of what came has been read: more may come."""
        self._arm()

    def over(self, *, keeps_alive: bool) -> None:
        """The request is answered."""
        self._request = None
        if self._is_closed:
            return
        if not keeps_alive or self.is_gone or self._server.is_ending:
            self.close_after()
        elif not self.reader.body_is_over:
            self._discards_left = _DISCARDED_BYTES_MAX
            self._discard(0)
        else:
            self._next()
        self._arm()

    @property
    def is_idle(self) -> bool:
        return self._request is None and self.reader.is_idle

    def close_after(self) -> None:
        """Close when all is written."""
        self._closes = True
        if self._out:
            self._arm()
        else:
            self.close()

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self.engine.watch(self._descriptor, None, None)
        self._socket.close()
        self._server.forget(self)


class Request:
    """A request that is answered: `receive` and `send` of ASGI, and what has gone out so far."""

    def __init__(self, connection: Connection, head: http1.Head) -> None:
        self._connection = connection
        self._head = head
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._has_begun = False
        self._is_over = False
        self._chunked = False
        self._keeps_alive = head.keeps_alive
        self._body_is_read = False

    def scope(self) -> dict[str, Any]:
        path, _, query = self._head.target.partition(b"?")
        if not path.startswith(b"/") and b"://" in path:  # absolute form, RFC 9112 3.2.2
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": f"1.{self._head.version}",
            "method": self._head.method.decode("ascii").upper(),
            "scheme": "http",
            "path": http1.unquoted(path),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(self._head.headers),
            "client": self._connection.client,
            "server": self._connection.local,
            "extensions": {},
        }

    async def run(self, application: Callable[[Any, Receive, Send], Awaitable[None]]) -> None:
        """Have the application answer; it is answered for where it fails to."""
        try:
            await application(self.scope(), self.receive, self.send)
            if not self._is_over:
                await self._fail("the function sent no whole answer")
        except http1.BadRequest as refusal:
            if self._status:
                self._connection.lost()
            else:
                self._connection.refuse(refusal)
        except Exception as error:  # noqa: BLE001 - whatever the function raises, the client hears of it
            _print_exception(error)
            await self._fail(f"Error: {error}")
        except BaseException as error:  # noqa: BLE001 - the function wants the process to end: SystemExit
            await self._fail(f"the function ended: {error!r}")
            self._connection._server.end(error)  # noqa: SLF001 - the two are one
        finally:
            self._finish()

    def _finish(self) -> None:
        # Who waits for leave to send a body, and was answered instead, sends another request or none.
        is_waiting = self._head.expects_continue and not self._connection.reader.body_is_over
        self._connection.over(keeps_alive=self._keeps_alive and self._is_over and not is_waiting)

    async def _fail(self, words: str) -> None:
        if self._has_begun:  # what has gone out cannot be called back: it ends before its end
            self._connection.lost()
            return
        self._status, self._keeps_alive = 0, False
        await self.send(
            {"type": "http.response.start", "status": 500, "headers": [(b"content-type", b"text/plain")]}
        )
        await self.send({"type": "http.response.body", "body": words.encode()})

    async def receive(self) -> Message:
        """The next part of the body; then that the client is gone, once it is."""
        connection = self._connection
        if self._body_is_read or self._is_over:
            while not (connection.is_gone or self._is_over):
                await connection.came
            return {"type": "http.disconnect"}
        if self._head.expects_continue and not self._has_begun:
            self._head.expects_continue = False
            connection.write(http1.go_on())
        part = connection.reader.body()
        while not part and not connection.reader.body_is_over:
            if connection.is_gone:
                return {"type": "http.disconnect"}
            connection.taken()
            await connection.came
            part = connection.reader.body()
        connection.taken()
        self._body_is_read = connection.reader.body_is_over
        return {"type": "http.request", "body": part, "more_body": not self._body_is_read}

    async def send(self, message: Message) -> None:
        """Take a message of the answer; `RuntimeError` for one that may not come now."""
        kind = message["type"]
        if kind == "http.response.start":
            if self._status:
                raise RuntimeError("http.response.start was sent already")
            self._status = int(message["status"])
            self._headers = [(bytes(n).lower(), bytes(v)) for n, v in message.get("headers") or ()]
            return
        if kind != "http.response.body":
            raise RuntimeError(f"a function sends http.response.start and http.response.body, not {kind}")
        if not self._status:
            raise RuntimeError("http.response.body before http.response.start")
        if self._is_over:
            raise RuntimeError("http.response.body after the end of the answer")
        body, is_last = bytes(message.get("body") or b""), not message.get("more_body", False)
        out = b"" if self._has_begun else self._begin(body, is_last=is_last)
        self._has_begun = True
        if self._has_body():
            out += http1.chunk(body) if self._chunked else body
        if is_last:
            out += b"0\r\n\r\n" if self._chunked else b""
            self._is_over = True
        self._connection.write(out)
        await self._connection.drained()

    def _has_body(self) -> bool:
        return self._head.method != b"HEAD" and self._status >= 200 and self._status not in _BODILESS

    def _begin(self, body: bytes, *, is_last: bool) -> bytes:
        """The head, with how the end of the body will be known."""
        headers = [pair for pair in self._headers if pair[0] != b"transfer-encoding"]
        names = {name for name, _ in headers}
        if b"date" not in names:
            headers.append((b"date", http1.date(time.time())))
        if b"content-length" not in names and self._status >= 200 and self._status not in _BODILESS:
            if is_last:
                headers.append((b"content-length", b"%d" % len(body)))
            elif self._head.version == 1:
                self._chunked = self._head.method != b"HEAD"
                headers.append((b"transfer-encoding", b"chunked"))
            else:
                self._keeps_alive = False
        if any(name == b"connection" and b"close" in value.lower() for name, value in headers):
            self._keeps_alive = False
        elif not self._keeps_alive or self._connection._server.is_ending:  # noqa: SLF001 - likewise
            headers.append((b"connection", b"close"))
        elif self._head.version == 0:
            headers.append((b"connection", b"keep-alive"))
        return http1.answer_head(self._status, headers)


def _print_exception(error: BaseException) -> None:
    import traceback  # noqa: PLC0415 - a function that does not fail never needs it

    traceback.print_exception(error, file=sys.stderr)
