"""The plain web edge: routes and error documents, bodies, streams, WebSockets, serving."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import structlog
from wsproto import ConnectionType, WSConnection, events

from ondol.base import errors, unix_socket
from ondol.base.unix_http import UnixConnection
from ondol.web import bodies
from ondol.web import serving as web_serving
from ondol.web.application import (
    Application,
    Request,
    Response,
    Route,
    Streamed,
    WebSocket,
    WebSocketRoute,
    query,
)
from ondol.web.serving import listen_tcp, serving

pytestmark = pytest.mark.anyio


async def _call(
    app: Application, method: str, path: str, *chunks: bytes, headers: dict[str, str] | None = None
) -> tuple[int, bytes, dict[bytes, bytes]]:
    """Status, body and headers of an answer."""
    target, _, query_string = path.partition("?")
    sent: list[Any] = []
    bodies_left = list(chunks or (b"",))

    async def receive() -> Any:
        return {"type": "http.request", "body": bodies_left.pop(0), "more_body": bool(bodies_left)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": target,
        "query_string": query_string.encode("latin-1"),
        "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
    }
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:]), dict(sent[0]["headers"])


def _app(endpoint: Callable[[Request], Any], **options: Any) -> Application:
    return Application([Route("/a/{name}", endpoint, methods=["GET", "POST"])], **options)


async def _name(request: Request) -> Response:
    return Response(request.path_params["name"])


async def _raises(request: Request) -> Response:
    if request.path_params["name"] == "busy":
        raise errors.Unavailable("come again", retry_after_s=7)
    raise ValueError(request.path_params["name"])


@pytest.mark.parametrize(
    ("endpoint", "method", "path", "status", "body"),
    [
        (_name, "GET", "/a/b", 200, b"b"),
        (_name, "GET", "/a/b/", 200, b"b"),
        (_name, "GET", "/c", 404, b"/c is not served"),
        (_name, "GET", "/", 404, b"/ is not served"),
        (_name, "DELETE", "/a/b", 405, b"DELETE /a/b is not served"),
        (_name, "DELETE", "/c", 404, b"/c is not served"),
        (_name, "POST", "/c", 404, b"/c is not served"),
        (_raises, "GET", "/a/busy", 503, b"come again"),
        (_raises, "GET", "/a/secret", 500, b"Internal error occurred: ValueError"),
    ],
)
async def test_every_request_is_answered(
    endpoint: Any, method: str, path: str, status: int, body: bytes
) -> None:
    """By its route, or with the reason why not; what a bug says stays in the log."""
    answered, text, headers = await _call(_app(endpoint), method, path)
    assert (answered, text) == (status, body)
    assert headers.get(b"retry-after") == (b"7" if status == 503 else None)
    allowed = set(headers.get(b"allow", b"").decode().replace(",", " ").split())
    assert allowed == ({"GET", "HEAD", "POST"} if status == 405 else set())


async def test_errors_have_the_form_of_the_application() -> None:
    """One function makes the document of every error, also of those the router finds."""
    app = _app(_raises, error_document=lambda error: Response(f"<{error.reason}>", error.status_code))
    assert (await _call(app, "GET", "/a/busy"))[1] == b"<ServiceUnavailable>"
    assert (await _call(app, "GET", "/c"))[1] == b"<NotFound>"
    assert (await _call(app, "GET", "/a/bug"))[1] == b"<InternalError>"


@pytest.mark.parametrize(
    ("chunks", "headers", "status", "answer"),
    [
        ((b"abc", b"de"), {}, 200, b"abcde"),
        ((b"abcd", b"ef"), {}, 413, b"a body may have at most 5 bytes"),
        ((gzip.compress(b"abcdef", mtime=0),), {"content-encoding": "gzip"}, 413, b"a body may have"),
        ((gzip.compress(b"abc") + gzip.compress(b"de"),), {"content-encoding": "gzip"}, 200, b"abcde"),
        ((gzip.compress(b"ab"), gzip.compress(b"cde")), {"content-encoding": "gzip"}, 200, b"abcde"),
        ((gzip.compress(b"abc") + gzip.compress(b"def"),), {"content-encoding": "gzip"}, 413, b"a body may"),
        ((gzip.compress(b"abc"), b"\x1f\x8b"), {"content-encoding": "gzip"}, 400, b"the body is not gzip"),
        ((b"",), {"content-encoding": "gzip"}, 400, b"the body is not gzip: it is cut short"),
        (
            (gzip.compress(b"abc")[:-1],),
            {"content-encoding": "gzip"},
            400,
            b"the body is not gzip: it is cut",
        ),
        ((b"abc",), {"content-encoding": "br"}, 415, b"content-encoding 'br'"),
        ((b"abc",), {"content-encoding": "gzip"}, 400, b"the body is not gzip"),
    ],
)
async def test_bodies_are_bounded(
    chunks: tuple[bytes, ...], headers: dict[str, str], status: int, answer: bytes
) -> None:
    """A body is read up to its limit, as it was sent."""

    async def echo(request: Request) -> Response:
        return Response(await bodies.read(request, 5))

    answered, text, _ = await _call(_app(echo), "POST", "/a/b", *chunks, headers=headers)
    assert answered == status
    assert text.startswith(answer)


@pytest.mark.parametrize(("size", "status"), [(40_000, 200), (40_001, 413)])
async def test_a_compressed_body_is_bounded_by_what_it_holds(size: int, status: int) -> None:
    """Few bytes that become many are refused before they do."""

    async def length(request: Request) -> Response:
        return Response(str(len(await bodies.read(request, 40_000))))

    body = gzip.compress(bytes(size), mtime=0)
    answered, _, _ = await _call(_app(length), "POST", "/a/b", body, headers={"content-encoding": "gzip"})
    assert answered == status


async def test_room_is_asked_for_before_a_body_is_kept() -> None:
    """For each piece as it arrives, and of a compressed one for what it holds."""
    sizes: list[int] = []

    async def echo(request: Request) -> Response:
        return Response(await bodies.read(request, 100, grow=sizes.append))

    await _call(_app(echo), "POST", "/a/b", b"abc", b"de")
    assert sizes == [3, 2]
    sizes.clear()
    zeros = gzip.compress(bytes(90), mtime=0)
    await _call(_app(echo), "POST", "/a/b", zeros, headers={"content-encoding": "gzip"})
    assert sizes == [90]


async def test_only_a_client_that_is_gone_is_passed_over() -> None:
    """An error of the machine is logged and answered; a failed send and a body that breaks off are not."""

    async def full(_request: Request) -> Response:
        raise OSError(28, "No space left on device")

    with structlog.testing.capture_logs() as lines:
        assert (await _call(_app(full), "GET", "/a/b"))[0] == 500
    assert [line["event"] for line in lines] == ["request_failed"]

    async def gone(_message: Any) -> None:
        raise BrokenPipeError

    async def disconnect() -> Any:
        return {"type": "http.disconnect"}

    async def read(request: Request) -> Response:
        return Response(await bodies.read(request, 5))

    scope = {"type": "http", "method": "GET", "path": "/a/b", "query_string": b"", "headers": []}
    with structlog.testing.capture_logs() as lines:
        await _app(_name)(scope, disconnect, gone)
        await _app(read)(scope, disconnect, gone)
    assert lines == []


@pytest.mark.parametrize(
    ("path", "status", "body"), [("/a/b?x=1&x=2", 200, b"2"), ("/a/b?x=%ff", 400, b"the")]
)
async def test_queries_are_read_strictly(path: str, status: int, body: bytes) -> None:
    """The last of repeated parameters counts; what is not UTF-8 is refused."""

    async def get(request: Request) -> Response:
        return Response(query(request)["x"])

    answered, text, _ = await _call(_app(get), "GET", path)
    assert answered == status
    assert text.startswith(body)


async def test_a_stream_ends_with_its_client() -> None:
    """Its source is closed at once, whether it was waiting or had just given something."""
    closed = anyio.Event()
    begun = anyio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await anyio.sleep_forever()
        finally:
            closed.set()

    async def get(_request: Request) -> Response:
        return Streamed(pieces(), media_type="text/plain")

    async def receive() -> Any:
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            begun.set()
            await anyio.sleep_forever()

    scope = {"type": "http", "method": "GET", "path": "/a/b", "query_string": b"", "headers": []}
    with anyio.fail_after(10):
        await _app(get)(scope, receive, send)
    assert closed.is_set()


async def test_a_stream_that_fails_before_it_begins_is_answered_by_a_cut() -> None:
    """The head is out already, so there is no document: the body has no end."""
    sent: list[Any] = []

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"", b"never"):
            if not piece:
                raise errors.NotFound("no log")
            yield piece

    async def get(_request: Request) -> Response:
        return Streamed(pieces(), media_type="text/plain")

    async def receive() -> Any:
        await anyio.sleep_forever()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/a/b", "query_string": b"", "headers": []}
    with anyio.fail_after(10):
        await _app(get)(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start"]


def _get(connection: http.client.HTTPConnection, path: str) -> bytes:
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


async def test_served_inside_its_lifespan(tmp_path: Path) -> None:
    """On a Unix and a TCP socket, after what it needs has begun and until before that ends."""
    steps: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        steps.append("begins")
        yield
        steps.append("ends")

    async def get(request: Request) -> Response:
        steps.append(request.path_params["name"])
        return await _name(request)

    path = tmp_path / "a.sock"
    tcp = listen_tcp("127.0.0.1", 0, name="a test")
    port = tcp.getsockname()[1]
    async with serving(_app(get, lifespan=lifespan), unix_socket.listen(path), tcp):
        by_path = UnixConnection(str(path), timeout=5)
        assert await anyio.to_thread.run_sync(_get, by_path, "/a/unix") == b"unix"
        by_port = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        assert await anyio.to_thread.run_sync(_get, by_port, "/a/tcp") == b"tcp"
    assert steps == ["begins", "unix", "tcp", "ends"]
    with socket.create_server(("127.0.0.1", port)):
        pass  # the port is free again


async def test_an_address_in_use_is_explained() -> None:
    """The error names who wanted it and what helps."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(errors.HostError, match=f"a test cannot listen on 127.0.0.1:{port}") as caught:
            listen_tcp("127.0.0.1", port, name="a test")
    assert "ss -ltnp" in caught.value.remedy


async def test_web_sockets(tmp_path: Path) -> None:
    """A route of its own takes them; a path without one is refused."""

    async def echo(session: WebSocket) -> None:
        await session.accept()
        await session.send_text(await session.receive_text())
        await session.close()

    app = Application([WebSocketRoute("/echo", echo)])
    async with serving(app, unix_socket.listen(tmp_path / "a.sock"), websockets=True):
        with anyio.fail_after(10):
            assert await _talk(tmp_path / "a.sock", "/echo") == ["AcceptConnection", "TextMessage hello"]
            assert await _talk(tmp_path / "a.sock", "/other") == ["RejectConnection 403"]


async def _talk(path: Path, target: str) -> list[str]:
    """Open a WebSocket and say hello: what is heard until it ends."""
    heard: list[str] = []
    connection = WSConnection(ConnectionType.CLIENT)
    async with await anyio.connect_unix(path) as stream:
        await stream.send(connection.send(events.Request(host="a", target=target)))
        while True:
            connection.receive_data(await stream.receive())
            for event in connection.events():
                match event:
                    case events.AcceptConnection():
                        heard.append("AcceptConnection")
                        await stream.send(connection.send(events.TextMessage("hello")))
                    case events.TextMessage(data=text):
                        heard.append(f"TextMessage {text}")
                    case events.RejectConnection(status_code=status):
                        return [*heard, f"RejectConnection {status}"]
                    case events.CloseConnection():
                        return heard


async def _closed(port: int, *pieces: bytes) -> bytes:
    """What is heard until the server closes the connection on which these pieces are sent."""
    heard = b""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        try:
            for piece in pieces:
                await stream.send(piece)
            while True:
                heard += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return heard


async def test_heads_are_bounded_in_size_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is known before a head is complete: it fills no memory, and keeps no connection."""
    monkeypatch.setattr(web_serving, "_HEAD_S", 0.2)
    tcp = listen_tcp("127.0.0.1", 0, name="a test")
    port = tcp.getsockname()[1]
    async with serving(Application([]), tcp):
        with anyio.fail_after(10):
            large = await _closed(port, b"GET / HTTP/1.1\r\nX: ", *[b"x" * 65536] * 64)
            assert large[:12] in (b"HTTP/1.1 400", b"")  # a reset may overtake the answer
            assert await _closed(port) == b""
            assert await _closed(port, b"GET / HTTP/1.1\r\nX: ") == b""


@pytest.mark.parametrize(("is_own", "most"), [(False, 2), (True, 5)])
async def test_one_address_keeps_no_more_than_its_connections(
    monkeypatch: pytest.MonkeyPatch, is_own: bool, most: int
) -> None:
    """Thousands of one pod would take every descriptor; by the machine's own addresses come those of many."""
    monkeypatch.setattr(web_serving, "PEER_CONNECTIONS_MAX", 2)
    monkeypatch.setattr(web_serving, "OWN_CONNECTIONS_MAX", 5)
    monkeypatch.setattr(web_serving, "_is_own", lambda _address: is_own)
    tcp = listen_tcp("127.0.0.1", 0, name="a test")
    port = tcp.getsockname()[1]
    async with serving(Application([]), tcp), contextlib.AsyncExitStack() as opened:
        with anyio.fail_after(10):
            for _ in range(most):
                stream = await opened.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
                await stream.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert await stream.receive()
            assert await _closed(port) == b""


@pytest.mark.parametrize(("address", "is_own"), [("127.0.0.1", True), ("203.0.113.9", False)])
def test_the_machines_own_addresses(address: str, is_own: bool) -> None:
    """Those that can be bound; no pod has one."""
    assert web_serving._is_own(address) is is_own
