"""The network edge: the ASGI application behind TLS, and without for those of this machine that need none.

uvicorn's HTTP/1.1 protocol does the parsing; what is ours is the verified client certificate in the
scope, and a stop that ends every watch at once. Only this module knows that the loop is asyncio; it
runs on uvloop when the process was started with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import functools
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import anyio
import httptools
import uvicorn
import uvicorn.server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ondol.apiserver import connections, framing, sockets, takeover
from ondol.apiserver.auth.authenticate import CERTIFICATE
from ondol.apiserver.listening import Listen, ListenLocal, bind_all
from ondol.apiserver.peers import Peers, ProxyAuthority
from ondol.apiserver.ports import CONNECTION
from ondol.base import errors, groups, log
from ondol.base.listeners import NONE, Listeners

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Address: TypeAlias = tuple[str, int]
Started: TypeAlias = Callable[[tuple[Address, ...]], None]

_CANCELLED_GRACE_S: Final = 1.0
# A record of TLS; to copy more costs more than the write it spares.
_JOINED_BYTES_MAX: Final = 16 * 1024
# The one answer that is no answer yet: a client waits for it before it sends its body.
_INTERIM: Final = b"HTTP/1.1 100"
_HEAD_BYTES_MAX: Final = 1 << 20
# How much of a body nobody wanted is read, so that the connection can be used again.
_UNWANTED_BYTES_MAX: Final = 256 * 1024
# How long a client may leave a WebSocket's ping without an answer. It may be busy: whoever waits for what it
# sends to be taken hears nothing meanwhile.
_PONG_S: Final = 60.0
# How long a closed connection waits for the client's own goodbye.
_CLOSE_NOTIFY_S: Final = 2.0
# How many connections are accepted before those that are open get their turn.
_ACCEPTS_AT_ONCE: Final = 32
# How long nothing is accepted when nothing more can be opened.
_ACCEPT_AGAIN_S: Final = 1.0
# How long an unauthenticated connection may be kept open by being slow to say hello.
_HANDSHAKE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class ServeConfig:
    listen: tuple[Listen, ...]
    certificate_file: Path
    key_file: Path
    client_ca_file: Path
    """Client certificates signed by this authority are believed; others end the handshake."""
    local: tuple[ListenLocal, ...] = ()
    proxies: tuple[ProxyAuthority, ...] = ()
    """But for those of proxies, which name the users that they ask for."""
    is_elsewhere: Callable[[bytes], bool] = lambda _target: False
    """Whether a request's target is another server's: what asks for another protocol there is its own."""
    keep_alive_s: float = 120.0
    """Longer than Go's 90 s, so that clients close idle connections first and no request is lost."""
    grace_s: float = 3.0
    """How long requests under way may take when the server stops; watches end at once."""
    backlog: int = 1024
    unauthenticated_max: int = connections.UNAUTHENTICATED_MAX
    """Open connections whose user is not authenticated; one more takes the place of the longest silent."""
    first_request_s: float = 32.0
    """How long a new connection may take to ask for something: nobody has said yet who they are."""
    listeners: Listeners = NONE
    """Where the listening sockets outlive this process: who connects meanwhile waits."""


async def serve(app: Application, config: ServeConfig, *, started: Started) -> None:
    """Serve until cancelled; `started` is called with the bound addresses once requests are answered."""
    async with _lifespan(app) as state:
        server = _Server(app, config, state)
        try:
            server.start()
            started(server.addresses())
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await server.stop()


@contextlib.asynccontextmanager
async def _lifespan(app: Application) -> AsyncIterator[dict[str, Any]]:
    """Start the application, and stop it orderly even when we are cancelled.

    An application that fails later takes the server down with it, its error unwrapped.
    """
    state: dict[str, Any] = {}
    requests_in, requests_out = anyio.create_memory_object_stream[Message](2)
    replies_in, replies_out = anyio.create_memory_object_stream[Message](2)

    async def run() -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
        with replies_in, anyio.CancelScope(shield=True):
            await app(scope, requests_out.receive, replies_in.send)

    async def ask(phase: str) -> None:
        await requests_in.send({"type": f"lifespan.{phase}"})
        with contextlib.suppress(anyio.EndOfStream):  # the application ended: its error says why
            reply = await replies_out.receive()
            if reply["type"] == f"lifespan.{phase}.failed":
                raise errors.HostError(f"the API server failed at {phase}: {reply.get('message', '')}")

    with groups.unwrapped(), requests_in, requests_out, replies_out:
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            try:  # from here on: one that is cancelled while it starts must be told to end, too
                await ask("startup")
                yield state
            finally:
                with anyio.CancelScope(shield=True):
                    await ask("shutdown")


class _State(uvicorn.server.ServerState):
    """uvicorn's shared state; the Date header is made when needed, so an idle server does not tick."""

    def __init__(self) -> None:
        self._second = 0
        self._headers: list[tuple[bytes, bytes]] = []
        super().__init__()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._headers = [(b"date", email.utils.formatdate(second, usegmt=True).encode("ascii"))]
        return self._headers

    @default_headers.setter
    def default_headers(self, value: list[tuple[bytes, bytes]]) -> None:
        """Part of uvicorn's contract: its initialiser sets an empty list, which ours outdoes."""


class _Joined:
    """A connection's transport, to which the head of an answer and the beginning of its body are one write.

    uvicorn writes one after the other, in one step of the application; each write is a record of TLS and a
    call to the kernel.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self._begun = False
        """Whether the head of the answer under way was written, or is kept."""

    def write(self, data: bytes) -> None:
        if not self._begun and not data.startswith(_INTERIM):
            self._head, self._begun = data, True
        elif self._head and len(data) <= _JOINED_BYTES_MAX:
            self._transport.write(self._head + data)
            self._head = b""
        else:
            self.flush()
            self._transport.write(data)

    def flush(self) -> None:
        """Write the head if it waits for its body: none came, or it is large."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def ended(self) -> None:
        """The next write is the head of another answer."""
        self.flush()
        self._begun = False

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class _Protocol(HttpToolsProtocol):
    """One connection; who is at its other end is learnt once, at the handshake.

    Headers come before any right is checked, so their size is bounded here, and so is the wait for them.
    What follows a chunked body (trailers) is bounded likewise and dropped: it must not pass for headers.
    """

    first_request_s: float = 32.0
    connection: connections.Connection
    identity: Mapping[str, Any] | None = None
    """Who is at the other end, where the way in tells."""
    peers: Peers
    is_elsewhere: Callable[[bytes], bool]
    _joined: _Joined
    _peer: Mapping[str, Any]
    _waiting: asyncio.TimerHandle | None = None
    _in_head = False
    _received = b""
    _plain_bytes = 0
    """Received since there was last a piece of a body: head, trailers, what stands beside chunks."""
    _unwanted_bytes = 0
    _rest: takeover.Taken | None = None
    """What follows a request that asked for another protocol."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self._joined = _Joined(transport)
        self._peer = self.identity if self.identity is not None else self.peers.scope(transport)
        self._waiting = self.loop.call_later(self.first_request_s, transport.abort)
        self.connection.drop = transport.abort
        self.connection.handshake_done()

    def connection_lost(self, exc: Exception | None) -> None:
        self._waited()
        self.connection.lost()
        if self._rest is not None:
            self._rest.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._rest is not None:
            self._rest.feed(data)
            return
        self._plain_bytes += len(data)
        if self._plain_bytes > _HEAD_BYTES_MAX:
            self.send_400_response(f"the headers are larger than {_HEAD_BYTES_MAX} bytes")
            return
        self._received = data
        super().data_received(data)
        self._received = b""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._plain_bytes, self._unwanted_bytes = True, 0, 0
        cast("Scope", self.scope)[CONNECTION] = self.connection
        cast("Scope", self.scope).update(self._peer)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._waited()
        version = self.parser.get_http_version()
        if problem := framing.problem(version, self.url, self.headers):
            raise ValueError(problem)  # the parser makes it an error of its own, which is answered 400
        self.expect_100_continue = self.expect_100_continue and version != "1.0"
        if self.parser.should_upgrade() and not self._should_upgrade():
            cast("Scope", self.scope)[takeover.TAKE] = self._take
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self.cycle.transport = cast("asyncio.Transport", self._joined)

    def on_response_complete(self) -> None:
        self._joined.ended()
        super().on_response_complete()

    def on_body(self, body: bytes) -> None:
        self._plain_bytes = 0
        if self.cycle.response_complete:
            self._unwanted_bytes += len(body)
            if self._unwanted_bytes > _UNWANTED_BYTES_MAX:
                self.transport.close()
                return
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._plain_bytes = 0
        super().on_message_complete()

    def _waited(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _should_upgrade_to_ws(self) -> bool:
        is_passed = takeover.is_proxied(self.url) or self.is_elsewhere(self.url)
        return bool(self.parser.get_method() == b"GET") and not is_passed

    def handle_websocket_upgrade(self) -> None:
        own = functools.partial(_socket_protocol(), connection=self.connection, peer=self._peer)
        self.ws_protocol_class = cast("type[asyncio.Protocol]", own)
        super().handle_websocket_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        """What follows is nothing for the parser: it is kept for whoever takes the connection."""
        self.cycle.keep_alive = False
        self._rest = takeover.Taken(self.transport, self.flow.drain)
        if behind := self._received[cast("httptools.HttpParserUpgrade", sys.exception()).args[0] :]:
            self._rest.feed(behind)

    def _take(self) -> takeover.Taken:
        if self._rest is None:
            raise errors.BadRequest("a request that asks for another protocol has no body")
        self.cycle.response_started = self.cycle.response_complete = True
        return self._rest

    def shutdown(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle  # none until the first request
        if cycle is not None and cycle.response_started and not cycle.response_complete:
            self._end_stream(cycle)
        else:
            super().shutdown()

    def _end_stream(self, cycle: RequestResponseCycle) -> None:
        """End a streamed answer at a chunk boundary: to the client a watch that simply ended."""
        if cycle.chunked_encoding:
            self._joined.write(b"0\r\n\r\n")
        cycle.disconnected = True
        cycle.message_event.set()
        self._joined.close()


@functools.cache
def _socket_protocol() -> Callable[..., asyncio.Protocol]:
    """What a connection goes on with as a WebSocket; imported for the first one, for few servers see any."""
    from uvicorn.protocols.websockets import wsproto_impl  # noqa: PLC0415 - see above

    class Socket(wsproto_impl.WSProtocol):
        def __init__(
            self, *, connection: connections.Connection, peer: Mapping[str, Any], **arguments: Any
        ) -> None:
            super().__init__(**arguments)
            self._connection = connection
            self._peer = peer

        def connection_lost(self, exc: Exception | None) -> None:
            self._connection.lost()
            super().connection_lost(exc)

        def handle_message(self, event: Any) -> None:
            """Hand on each piece as it comes: a message may be of any length, and none is kept whole."""
            kind = "text" if isinstance(event.data, str) else "bytes"
            message = {
                "type": "websocket.receive",
                kind: event.data,
                sockets.MORE: not event.message_finished,
            }
            self.queue.put_nowait(cast("Any", message))
            if not self.read_paused:
                self.read_paused = True
                self.transport.pause_reading()

        def handle_connect(self, event: Any) -> None:
            super().handle_connect(event)
            # The application, begun above, first runs after this.
            cast("Scope", self.scope)[CONNECTION] = self._connection
            cast("Scope", self.scope).update(self._peer)

    return Socket


class _Entrance:
    """Accepts connections and has them shake hands, no more of them at a time than may be.

    Not the loop's own server: that one tells of a connection once its handshake is done, and could end none
    before.
    """

    def __init__(
        self,
        listening: Mapping[socket.socket, ListenLocal | None],
        context: ssl.SSLContext,
        protocol: Callable[[connections.Connection, ListenLocal | None], _Protocol],
        config: ServeConfig,
    ) -> None:
        self._listening = listening
        self._context = context
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._unauthenticated = connections.Unauthenticated(config.unauthenticated_max)
        self._handshakes: dict[asyncio.Task[None], connections.Connection] = {}
        for bound in listening:
            bound.listen(config.backlog)
            self._loop.add_reader(bound, self._accept, bound)

    def addresses(self) -> tuple[Address, ...]:
        names = [bound.getsockname() for bound, local in self._listening.items() if local is None]
        return tuple((str(name[0]), int(name[1])) for name in names)

    def _accept(self, listening: socket.socket) -> None:
        """Take in some of those that wait: between them who shakes hands gets on, too."""
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                accepted, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._make_room(listening, error)
                return
            accepted.setblocking(False)
            local = self._listening[listening]
            self._greet(accepted, str(address[0]) if local is None else local.user, local)

    def _make_room(self, listening: socket.socket, error: OSError) -> None:
        """Nothing more can be opened: an unauthenticated one is closed, or it is tried again later."""
        if (oldest := self._unauthenticated.oldest()) is not None:
            oldest.lost()
            oldest.drop()
            return
        log.get("apiserver").warning("cannot_accept", error=str(error))
        self._loop.remove_reader(listening)
        self._loop.call_later(_ACCEPT_AGAIN_S, self._accept_again, listening)

    def _accept_again(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:  # else the server has stopped meanwhile
            self._loop.add_reader(listening, self._accept, listening)

    def _greet(self, accepted: socket.socket, peer: str, local: ListenLocal | None) -> None:
        connection, evicted = self._unauthenticated.add(peer, functools.partial(_hang_up, accepted))
        if evicted is not None:
            evicted.drop()
        task = self._loop.create_task(self._shake_hands(accepted, connection, local))
        self._handshakes[task] = connection
        task.add_done_callback(self._handshakes.pop)

    async def _shake_hands(
        self, accepted: socket.socket, connection: connections.Connection, local: ListenLocal | None
    ) -> None:
        protocol = functools.partial(self._protocol, connection, local)
        try:
            if local is not None:
                await self._loop.connect_accepted_socket(protocol, accepted)
                return
            await self._loop.connect_accepted_socket(
                protocol,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=_HANDSHAKE_S,
                ssl_shutdown_timeout=_CLOSE_NOTIFY_S,
            )
        except OSError:  # they speak no TLS, have the wrong certificate, were too slow, or had to go
            connection.lost()
        except BaseException:
            connection.lost()
            raise

    async def close(self) -> None:
        for bound in self._listening:
            self._loop.remove_reader(bound)
            bound.close()
        for connection in list(self._handshakes.values()):
            connection.drop()
        if self._handshakes:
            await asyncio.wait(list(self._handshakes), timeout=_CANCELLED_GRACE_S)


def _hang_up(accepted: socket.socket) -> None:
    """End a connection from below: whatever reads from it is told that it is over."""
    with contextlib.suppress(OSError):  # it is over already
        accepted.shutdown(socket.SHUT_RDWR)


class _Server:
    """Listening sockets, their connections and the order in which they end."""

    def __init__(self, app: Application, config: ServeConfig, state: dict[str, Any]) -> None:
        self._config = config
        self._app_state = state
        self._state = _State()
        self._uvicorn = uvicorn.Config(
            cast("Any", app),
            http=_Protocol,
            ws="none",
            ws_ping_timeout=_PONG_S,
            ws_per_message_deflate=False,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=cast("int", config.keep_alive_s),
        )
        self._uvicorn.load()
        self._entrance: _Entrance | None = None
        self._peers = Peers(config.client_ca_file.read_bytes(), config.proxies)

    def start(self) -> None:
        context = tls_context(self._config)
        listening = bind_all(self._config.listen, self._config.local, self._config.listeners)
        self._entrance = _Entrance(listening, context, self._protocol, self._config)

    def _protocol(self, connection: connections.Connection, local: ListenLocal | None) -> _Protocol:
        protocol = _Protocol(self._uvicorn, self._state, self._app_state, asyncio.get_running_loop())
        protocol.first_request_s = self._config.first_request_s
        protocol.connection = connection
        if local is not None:
            protocol.identity = {CERTIFICATE: {"name": local.user, "groups": list(local.groups)}}
        protocol.peers, protocol.is_elsewhere = self._peers, self._config.is_elsewhere
        return protocol

    def addresses(self) -> tuple[Address, ...]:
        return self._entrance.addresses() if self._entrance is not None else ()

    async def stop(self) -> None:
        """Accept no more, end streams, let short requests finish, then cancel what is left."""
        if self._entrance is not None:
            await self._entrance.close()
        for connection in list(self._state.connections):
            cast("_Protocol", connection).shutdown()
        unfinished = await self._settle(self._config.grace_s)
        if unfinished:
            log.get("apiserver").warning("requests_cancelled", count=len(unfinished))
            for task in unfinished:
                task.cancel()
            await self._settle(_CANCELLED_GRACE_S)
        for connection in list(self._state.connections):
            transport = cast("_Protocol", connection).transport
            if not transport.is_closing():
                transport.abort()

    async def _settle(self, timeout_s: float) -> set[asyncio.Task[None]]:
        tasks = set(self._state.tasks)
        if not tasks:
            return tasks
        _, pending = await asyncio.wait(tasks, timeout=timeout_s)
        return pending


def tls_context(config: ServeConfig) -> ssl.SSLContext:
    """TLS 1.2 or later; a client certificate is optional, but must be ours if there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(config.certificate_file, config.key_file)
    context.load_verify_locations(config.client_ca_file)
    for proxy in config.proxies:
        context.load_verify_locations(cadata=proxy.certificates.decode("ascii"))
    context.verify_mode = ssl.CERT_OPTIONAL
    return context
