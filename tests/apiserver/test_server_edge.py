"""The network edge: TLS, client certificates, several addresses and an orderly stop."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.abc
import anyio.to_thread
import pytest
import wsproto
import wsproto.events

from ondol.apiserver import pki, server
from ondol.apiserver.ports import CONNECTION
from ondol.base import errors
from ondol.base.clock import SystemClock

LOOPBACK = server.Listen("127.0.0.1", 0)


class App:
    """Answers with what the scope says, streams on /watch, and remembers what happened to it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.fail_at_startup = False
        self.starting: anyio.Event | None = None
        self.stuck = anyio.Event()

    async def __call__(self, scope: server.Scope, receive: server.Receive, send: server.Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._talk(scope, receive, send)
        elif scope["path"] == "/watch":
            await self._watch(receive, send)
        elif scope["path"] == "/known":
            scope[CONNECTION].authenticated(lambda: self.events.append("given back"))
            await self._answer(scope, send)
        elif scope["path"] == "/slow":
            await anyio.sleep(0.3)
            await self._answer(scope, send)
        elif scope["path"] == "/body":
            while (await receive()).get("more_body"):
                pass
            await self._answer(scope, send)
        elif scope["path"] == "/stuck":
            self.stuck.set()
            await anyio.sleep_forever()
        else:
            await self._answer(scope, send)

    async def _live(self, scope: server.Scope, receive: server.Receive, send: server.Send) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        if self.fail_at_startup:
            raise errors.HostError("no store", remedy="make one")
        if self.starting is not None:
            self.starting.set()
            await anyio.sleep(0.05)
        scope["state"]["answer"] = 42
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        self.events.append("shutdown")
        await send({"type": "lifespan.shutdown.complete"})

    async def _watch(self, receive: server.Receive, send: server.Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.events.append("disconnected")

    async def _talk(self, scope: server.Scope, receive: server.Receive, send: server.Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        scope[CONNECTION].authenticated(lambda: self.events.append("given back"))
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": json.dumps(scope.get("ondol.certificate"))})
        await send({"type": "websocket.close"})

    async def _answer(self, scope: server.Scope, send: server.Send) -> None:
        seen = {key: scope.get(key) for key in ("ondol.certificate", "ondol.identity", "path", "state")}
        seen["headers"] = [[name.decode(), value.decode()] for name, value in scope["headers"]]
        body = json.dumps(seen).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    admin = pki.Client("admin", "kubernetes-admin", ("system:masters", "team"))
    return pki.ensure(tmp_path_factory.mktemp("pki"), clock=SystemClock(), clients=(admin,))


@pytest.fixture
def app() -> App:
    return App()


def config(made: pki.Pki, *listen: server.Listen, **changes: Any) -> server.ServeConfig:
    return server.ServeConfig(
        listen or (LOOPBACK,),
        made.server_certificate_file,
        made.server_key_file,
        made.ca_file,
        **{"grace_s": 2.0, **changes},
    )


@contextlib.asynccontextmanager
async def serving(
    app: App, settings: server.ServeConfig
) -> AsyncIterator[tuple[tuple[server.Address, ...], anyio.CancelScope]]:
    """The server in the background; leaving stops it."""
    addresses: list[tuple[server.Address, ...]] = []
    ready = anyio.Event()

    def started(bound: tuple[server.Address, ...]) -> None:
        addresses.append(bound)
        ready.set()

    async with anyio.create_task_group() as group:

        async def run() -> None:
            await server.serve(app, settings, started=started)

        group.start_soon(run)
        await ready.wait()
        yield addresses[0], group.cancel_scope
        group.cancel_scope.cancel()


def tls(made: pki.Pki, client: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(made.ca_file))
    if client:
        context.load_cert_chain(*made.client_files(client))
    return context


async def get(
    address: server.Address, context: ssl.SSLContext, path: str = "/", headers: dict[str, str] | None = None
) -> Any:
    def fetch() -> Any:
        connection = http.client.HTTPSConnection(*address, context=context, timeout=5)
        try:
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            assert answer.status == 200
            assert answer.headers["date"].endswith("GMT")
            return json.loads(answer.read())
        finally:
            connection.close()

    return await anyio.to_thread.run_sync(fetch)


async def test_a_client_certificate_becomes_user_and_groups(made: pki.Pki, app: App) -> None:
    """Common name and organisations of the verified certificate stand in the scope."""
    async with serving(app, config(made)) as ((address,), _):
        seen = await get(address, tls(made, "admin"))
        assert seen["ondol.certificate"] == {"name": "kubernetes-admin", "groups": ["system:masters", "team"]}
        assert seen["state"] == {"answer": 42}
        anonymous = await get(address, tls(made))
    assert anonymous["ondol.certificate"] is None


def _converse(address: server.Address, context: ssl.SSLContext, method: str = "GET") -> list[Any]:
    """Open a WebSocket and read it to its end: the events of the client's side."""
    client = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    opening = client.send(wsproto.events.Request(host="api", target="/talk"))
    events: list[Any] = []
    with (
        socket.create_connection(address, timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=address[0]) as secure,
    ):
        secure.sendall(opening.replace(b"GET", method.encode(), 1))
        while data := secure.recv(65536):
            if method != "GET":
                return [data]
            client.receive_data(data)
            events += client.events()
            if isinstance(events[-1], wsproto.events.CloseConnection):
                break
    return events


async def test_a_websocket_goes_on_as_who_opened_the_connection(made: pki.Pki, app: App) -> None:
    """Only a GET can become one; the certificate is that of the handshake."""
    async with serving(app, config(made)) as ((address,), _):
        accepted, message, closed = await anyio.to_thread.run_sync(_converse, address, tls(made, "admin"))
        assert isinstance(accepted, wsproto.events.AcceptConnection)
        assert json.loads(message.data) == {"name": "kubernetes-admin", "groups": ["system:masters", "team"]}
        assert closed.code == 1000
        _, message, _ = await anyio.to_thread.run_sync(_converse, address, tls(made))
        assert json.loads(message.data) is None
        (answer,) = await anyio.to_thread.run_sync(_converse, address, tls(made), "POST")
        assert answer.startswith(b"HTTP/1.1 200")


async def test_no_header_can_stand_in_for_an_identity(made: pki.Pki, app: App) -> None:
    """The scope keys of identity cannot be reached from the network."""
    forged = {"ondol.identity": "root", "ondol.certificate": "root", "X-Remote-User": "root"}
    async with serving(app, config(made)) as ((address,), _):
        seen = await get(address, tls(made), headers=forged)
    assert seen["ondol.identity"] is None
    assert seen["ondol.certificate"] is None


async def test_certificates_of_other_authorities_are_refused(made: pki.Pki, app: App, tmp_path: Path) -> None:
    """A stranger's certificate ends the connection instead of making its bearer anonymous."""
    stranger = pki.ensure(
        tmp_path, clock=SystemClock(), clients=(pki.Client("admin", "root", ("system:masters",)),)
    )
    context = tls(made)
    context.load_cert_chain(*stranger.client_files("admin"))
    async with serving(app, config(made)) as ((address,), _):
        with pytest.raises((ssl.SSLError, OSError)):
            await get(address, context)


async def test_a_serving_certificate_is_no_client_certificate(made: pki.Pki, app: App) -> None:
    """Signed by our authority, but for another use."""
    context = tls(made)
    context.load_cert_chain(made.server_certificate_file, made.server_key_file)
    async with serving(app, config(made)) as ((address,), _):
        with pytest.raises((ssl.SSLError, OSError)):
            await get(address, context)


async def test_an_address_may_be_bound_before_it_exists(made: pki.Pki, app: App) -> None:
    """The bridge's address is listened on although no interface has it; the other one serves."""
    to_come = server.Listen("198.51.100.7", 0, free=True)
    async with serving(app, config(made, LOOPBACK, to_come)) as (addresses, _):
        assert addresses[1][0] == "198.51.100.7"
        assert (await get(addresses[0], tls(made)))["path"] == "/"
    with pytest.raises(errors.HostError, match="no such address") as caught:
        await server.serve(app, config(made, server.Listen("198.51.100.7", 0)), started=lambda _: None)
    assert "ip addr" in caught.value.remedy


async def test_a_port_in_use_is_reported_with_its_remedy(made: pki.Pki, app: App) -> None:
    """And what was bound before it is released."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        listen = config(made, LOOPBACK, server.Listen("127.0.0.1", port))
        with pytest.raises(errors.HostError, match="in use") as caught:
            await server.serve(app, listen, started=lambda _: None)
    assert str(port) in caught.value.remedy
    assert app.events == ["shutdown"]


async def test_a_failing_start_raises_its_own_error(made: pki.Pki, app: App) -> None:
    """Whoever starts the server sees what the application raised."""
    app.fail_at_startup = True
    with pytest.raises(errors.HostError, match="no store"):
        await server.serve(app, config(made), started=lambda _: None)


@contextlib.asynccontextmanager
async def raw(address: server.Address, made: pki.Pki) -> AsyncIterator[anyio.abc.ByteStream]:
    async with await anyio.connect_tcp(
        *address, ssl_context=tls(made), tls=True, tls_standard_compatible=False
    ) as stream:
        yield stream


async def test_a_stop_ends_watches_at_once_and_cleanly(made: pki.Pki, app: App) -> None:
    """The stream is finished as by the server itself, then the application is shut down."""
    async with serving(app, config(made)) as ((address,), scope), raw(address, made) as stream:
        await stream.send(b"GET /watch HTTP/1.1\r\nhost: x\r\n\r\n")
        received = b""
        while b"first" not in received:
            received += await stream.receive()
        scope.cancel()
        with anyio.CancelScope(shield=True), anyio.fail_after(1), contextlib.suppress(anyio.EndOfStream):
            while True:
                received += await stream.receive()
    assert received.endswith(b"6\r\nfirst\n\r\n0\r\n\r\n")
    assert app.events == ["disconnected", "shutdown"]


async def test_a_stop_lets_short_requests_finish(made: pki.Pki, app: App) -> None:
    """A request under way is answered; its connection is then closed."""
    async with serving(app, config(made)) as ((address,), scope), raw(address, made) as stream:
        await stream.send(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        await anyio.sleep(0.1)
        scope.cancel()
        received = b""
        with anyio.CancelScope(shield=True), anyio.fail_after(2), contextlib.suppress(anyio.EndOfStream):
            while True:
                received += await stream.receive()
    assert b"connection: close" in received
    assert b'"/slow"' in received


async def test_a_stop_cancels_what_does_not_end(made: pki.Pki, app: App) -> None:
    """After the grace period nothing holds the server back."""
    with anyio.fail_after(3):
        async with serving(app, config(made, grace_s=0.1)) as ((address,), _), raw(address, made) as stream:
            await stream.send(b"GET /stuck HTTP/1.1\r\nhost: x\r\n\r\n")
            with anyio.fail_after(2):
                await app.stuck.wait()
    assert app.events[-1] == "shutdown"


async def test_answers_without_a_body_come_at_once(made: pki.Pki, app: App) -> None:
    """The head of an answer waits for its body to go out with it, but not where none comes."""
    async with serving(app, config(made)) as ((address,), _):

        def fetch() -> list[int]:
            connection = http.client.HTTPSConnection(*address, context=tls(made), timeout=5)
            try:
                lengths = []
                for method in ("HEAD", "GET", "HEAD", "HEAD", "GET"):
                    connection.request(method, "/")
                    lengths.append(len(connection.getresponse().read()))
                return lengths
            finally:
                connection.close()

        head, get_, *rest = await anyio.to_thread.run_sync(fetch)
        assert (head, rest) == (0, [0, 0, get_])
        assert get_ > 0


class _Writes:
    """A transport that notes what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self) -> None:
        self.writes.append(b"closed")


def test_the_head_and_the_beginning_of_a_body_are_one_write() -> None:
    """What comes after goes on its own, and so does a large body; an interim answer is none."""
    transport = _Writes()
    joined = server._Joined(cast("Any", transport))
    for data in (b"HTTP/1.1 100 Continue\r\n\r\n", b"head", b"first", b"second"):
        joined.write(data)
    joined.ended()
    joined.write(b"head alone")
    joined.ended()
    large = b"x" * 100_000
    joined.write(b"head of much")
    joined.write(large)
    joined.ended()
    joined.write(b"cut short")
    joined.close()
    assert transport.writes == [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"headfirst",
        b"second",
        b"head alone",
        b"head of much",
        large,
        b"cut short",
        b"closed",
    ]


async def test_an_unsupported_upgrade_is_answered_and_closed(made: pki.Pki, app: App) -> None:
    """The request is an ordinary one to the application; no bytes after it are misread."""
    async with serving(app, config(made)) as ((address,), _), raw(address, made) as stream:
        await stream.send(b"GET /up HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: SPDY/3.1\r\n\r\n")
        received = b""
        with anyio.fail_after(2), contextlib.suppress(anyio.EndOfStream):
            while True:
                received += await stream.receive()
    assert received.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in received


async def _until_closed(stream: anyio.abc.ByteStream) -> bytes:
    received = b""
    with anyio.fail_after(5), contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            received += await stream.receive()
    return received


async def test_headers_without_end_are_refused(made: pki.Pki, app: App) -> None:
    """They come before anyone has proved who they are, and would be kept in memory."""
    async with serving(app, config(made)) as ((address,), _), raw(address, made) as stream:
        await stream.send(b"GET / HTTP/1.1\r\nhost: x\r\nx-long: ")
        with contextlib.suppress(anyio.BrokenResourceError):
            for _ in range(40):
                await stream.send(b"a" * 100_000)
        received = await _until_closed(stream)
    assert received == b"" or received.startswith(b"HTTP/1.1 400"), received[:100]


_CHUNKED = b"POST /body HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"


async def test_trailers_never_become_headers(made: pki.Pki, app: App) -> None:
    """What follows a body was in no head, so it can neither name a user nor act for one."""
    trailers = b"0\r\nImpersonate-User: root\r\nAuthorization: Bearer x\r\nx-remote-user: root\r\n\r\n"
    async with serving(app, config(made)) as ((address,), _), raw(address, made) as stream:
        await stream.send(_CHUNKED + trailers)
        await stream.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        received = await _until_closed(stream)
    assert received.count(b"HTTP/1.1 200") == 2
    assert b"root" not in received
    assert b"authorization" not in received


@pytest.mark.parametrize("rest", [b"0\r\nx-long: ", b"3;"])
async def test_what_stands_beside_a_body_is_bounded(made: pki.Pki, app: App, rest: bytes) -> None:
    """Trailers and extensions of chunks without end would be kept in memory."""
    async with serving(app, config(made)) as ((address,), _), raw(address, made) as stream:
        await stream.send(_CHUNKED + rest)
        with contextlib.suppress(anyio.BrokenResourceError):
            for _ in range(40):
                await stream.send(b"a" * 100_000)
        received = await _until_closed(stream)
    assert b"HTTP/1.1 200" not in received


_HOST = b"host: x\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n" + _HOST + b"Host: y\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + _HOST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + _HOST + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\n" + _HOST + b"content-length: +3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\n" + _HOST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST /body HTTP/1.1\r\n" + _HOST + b"transfer-encoding: chunked\r\n\r\nZZ\r\nabc\r\n",
        b"POST /body HTTP/1.1\r\n" + _HOST + b"transfer-encoding: chunked\r\n\r\n3\r\nabcX0\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + _HOST + b"x-a: one\r\n impersonate-user: root\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + _HOST + b"impersonate-user : root\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + _HOST + b"x-a: b\rimpersonate-user: root\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + _HOST + b"x-a: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\n" + _HOST + b"\r\n",
        b"GET / HTTP/2.0\r\n" + _HOST + b"\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n" + _HOST + b"\r\n",
    ],
)
async def test_bytes_that_could_be_two_requests_are_none(made: pki.Pki, app: App, request_: bytes) -> None:
    """The answer is 400, and nothing more is read from the connection."""
    async with serving(app, config(made)) as ((address,), _), raw(address, made) as stream:
        await stream.send(request_)
        received = await _until_closed(stream)
    assert received.startswith(b"HTTP/1.1 400")
    assert received.count(b"HTTP/1.1") == 1


async def test_an_unwanted_body_does_not_go_on_for_ever(made: pki.Pki, app: App) -> None:
    """Once the answer is out, only so much of the rest is read before the connection is closed."""
    async with serving(app, config(made)) as ((address,), _), raw(address, made) as stream:
        await stream.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4294967296\r\n\r\n")
        assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        with pytest.raises((anyio.BrokenResourceError, OSError)):  # noqa: PT012 - sent until it is refused
            for _ in range(4096):
                await stream.send(b"a" * 100_000)


async def test_old_clients_are_not_told_to_go_on(made: pki.Pki, app: App) -> None:
    """HTTP/1.0 knows no 100: the first line they read must be that of the answer."""
    head = b"POST /body HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
    async with serving(app, config(made)) as ((address,), _), raw(address, made) as stream:
        await stream.send(head + b"abc")
        assert (await _until_closed(stream)).startswith(b"HTTP/1.1 200")


async def test_who_says_nothing_is_let_go(made: pki.Pki, app: App) -> None:
    """A connection that asks for nothing ends after a while; one that has asked stays open."""
    settings = config(made, first_request_s=0.3)
    async with (
        serving(app, settings) as ((address,), _),
        raw(address, made) as silent,
        raw(address, made) as slow,
        raw(address, made) as asking,
    ):
        await slow.send(b"GET / HTTP/1.1\r\nhost: ")
        await asking.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        received = await asking.receive()
        assert await _until_closed(silent) == b""
        assert await _until_closed(slow) == b""
        await asking.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        received += await _until_closed(asking)
    assert received.count(b"HTTP/1.1 200") == 2


@contextlib.asynccontextmanager
async def silent(address: server.Address, count: int, begin: bytes = b"") -> AsyncIterator[list[Any]]:
    """Connections that send the beginning of nothing, and wait."""
    async with contextlib.AsyncExitStack() as stack:
        streams = []
        for _ in range(count):
            stream = await stack.enter_async_context(await anyio.connect_tcp(*address))
            with contextlib.suppress(anyio.BrokenResourceError):
                await stream.send(begin)
            streams.append(stream)
        yield streams


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while True:
            if true():
                return
            await anyio.sleep(0.01)


async def _until_descriptors(count: int) -> None:
    await _until(lambda: descriptors() <= count)


LOOPS = [("asyncio", {"use_uvloop": fast}) for fast in (False, True)]


@pytest.mark.parametrize("anyio_backend", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("begin", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half a hello"])
async def test_who_is_silent_keeps_nobody_out(made: pki.Pki, app: App, begin: bytes) -> None:
    """However many say no hello, a client that does is answered; and what they took is given back."""
    async with serving(app, config(made, unauthenticated_max=8)) as ((address,), _):
        await get(address, tls(made))
        before = descriptors()
        async with silent(address, 50, begin) as streams:
            await _until_descriptors(before + 50 + 8)
            seen = await get(address, tls(made, "admin"))
            assert seen["ondol.certificate"]["name"] == "kubernetes-admin"
            assert [await _until_closed(stream) for stream in streams[:42]] == [b""] * 42
        await _until_descriptors(before)


@pytest.mark.parametrize("anyio_backend", LOOPS, ids=["asyncio", "uvloop"])
async def test_who_shakes_hands_and_says_nothing_keeps_nobody_out(made: pki.Pki, app: App) -> None:
    """A handshake proves nothing: such a one goes, too, but after those who have not even done that."""
    async with (
        serving(app, config(made, unauthenticated_max=3)) as ((address,), _),
        raw(address, made) as first,
        raw(address, made) as second,
        silent(address, 4) as speechless,
    ):
        assert await _until_closed(speechless[0]) == b""
        async with raw(address, made) as third, raw(address, made) as fourth:
            assert await _until_closed(first) == b""
            for stream in (second, third, fourth):
                await stream.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                assert (await _until_closed(stream)).startswith(b"HTTP/1.1 200")


async def test_who_is_authenticated_stays(made: pki.Pki, app: App) -> None:
    """A connection that somebody answers for does not go for others, and is given back when it is closed."""
    async with (
        serving(app, config(made, unauthenticated_max=4)) as ((address,), _),
        raw(address, made) as known,
    ):
        await known.send(b"GET /known HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await known.receive()).startswith(b"HTTP/1.1 200")
        async with silent(address, 20) as streams:
            assert await _until_closed(streams[0]) == b""
            assert app.events == []
            await known.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert (await _until_closed(known)).startswith(b"HTTP/1.1 200")
        await _until(lambda: app.events == ["given back"])


async def test_a_connection_that_went_on_as_a_websocket_is_given_back(made: pki.Pki, app: App) -> None:
    """It is told by another protocol that it is over."""
    async with serving(app, config(made)) as ((address,), _):
        await anyio.to_thread.run_sync(_converse, address, tls(made, "admin"))
        await _until(lambda: app.events == ["given back"])


@pytest.mark.parametrize("anyio_backend", LOOPS, ids=["asyncio", "uvloop"])
async def test_a_stop_leaves_no_handshake_behind(made: pki.Pki, app: App) -> None:
    """Who has not ended it is cut off, and the server does not wait for them."""
    async with serving(App(), config(made)) as ((address,), _):
        await get(address, tls(made))  # a loop keeps a descriptor of its own from the first connection on
    before = descriptors()
    async with serving(app, config(made)) as ((address,), scope), silent(address, 5) as streams:
        await get(address, tls(made))
        scope.cancel()
        with anyio.CancelScope(shield=True):
            assert [await _until_closed(stream) for stream in streams] == [b""] * 5
    await _until_descriptors(before)


class _Full:
    """A listening socket in a process that can open nothing more, until it has been asked so often."""

    def __init__(self, times: int) -> None:
        self.bound = socket.create_server(("127.0.0.1", 0))
        self.bound.setblocking(False)
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bound, name)

    def accept(self) -> Any:
        self.times -= 1
        if self.times >= 0:
            raise OSError(errno.EMFILE, "Too many open files")
        return self.bound.accept()


async def test_when_nothing_more_can_be_opened_the_unauthenticated_go(
    made: pki.Pki, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And if there are none it is tried again: what waits is answered then."""
    full = _Full(0)
    monkeypatch.setattr(server, "_bound", lambda _: [full])
    monkeypatch.setattr(server, "_ACCEPT_AGAIN_S", 0.05)
    async with serving(app, config(made)) as ((address,), _), silent(address, 2) as (first, second):
        await get(address, tls(made))
        full.times = 1
        await get(address, tls(made))
        assert await _until_closed(first) == b""
        full.times = 3
        await get(address, tls(made))
        assert await _until_closed(second) == b""
        assert full.times < 0


async def test_a_stop_during_the_start(app: App, made: pki.Pki) -> None:
    """One that is told to end while its application starts lets it start, tells it to end, and ends."""
    app.starting = anyio.Event()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:

            async def run() -> None:
                await server.serve(app, config(made), started=lambda _: None)

            group.start_soon(run)
            await app.starting.wait()
            group.cancel_scope.cancel()
    assert app.events == ["shutdown"]
