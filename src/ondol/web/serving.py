"""Edge: an application served with uvicorn on sockets that listen already, TCP or Unix."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, cast

import anyio
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ondol.base import errors
from ondol.web.application import Application, Asgi

_IP_FREEBIND: Final = 15
"""Linux's constant, which the socket module does not name."""
HEAD_BYTES_MAX: Final = 64 * 1024
_HEAD_S: Final = 10.0
"""How long the head of a request may take; the first one counts from the connection on."""
PEER_CONNECTIONS_MAX: Final = 64
"""Open connections from one address: a pod has a few, and thousands would take every descriptor."""
OWN_CONNECTIONS_MAX: Final = 1024
"""Of an address of this machine's own: from there comes the ingress, which brings the requests of many."""

_ACCEPTS_AT_ONCE: Final = 32
"""How many connections are accepted before those that are open get their turn."""
_ACCEPT_AGAIN_S: Final = 1.0
"""How long nothing is accepted when nothing more can be opened."""


class _Protocol(HttpToolsProtocol):
    """One connection, whose other end nobody knows before its first request: heads are bounded."""

    _waiting: Any = None
    """The loop's timer, while a head is waited for."""
    _plain_bytes = 0
    """Received since there was last a piece of a body: head, trailers, what stands beside chunks."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()
        if self.client is not None and _are_too_many(self._of_peer(self.client[0]), self.client[0]):
            transport.abort()

    def _of_peer(self, address: str) -> int:
        return sum(
            1
            for each in self.connections
            if isinstance(each, _Protocol) and each.client is not None and each.client[0] == address
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._waited()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._plain_bytes > HEAD_BYTES_MAX:
            self.send_400_response(f"the headers are larger than {HEAD_BYTES_MAX} bytes")
            return
        self._plain_bytes += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._waiting is None:
            self._wait()

    def on_headers_complete(self) -> None:
        self._waited()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._plain_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._plain_bytes = 0
        super().on_message_complete()

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(_HEAD_S, self.transport.abort)

    def _waited(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


def _are_too_many(count: int, address: str) -> bool:
    if count <= PEER_CONNECTIONS_MAX:
        return False
    return count > OWN_CONNECTIONS_MAX or not _is_own(address)


@functools.lru_cache(64)
def _is_own(address: str) -> bool:
    """Whether it is an address of this machine: only those can be bound."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.bind((address, 0))
        except OSError:
            return False
    return True


@contextlib.asynccontextmanager
async def serving(
    application: Asgi,
    *listening: socket.socket,
    websockets: bool = False,
    grace_s: int = 2,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[None]:
    """Serve inside the block, and close the sockets after it; `grace_s` is for requests under way then.

    With `tls` all of them speak TLS; a certificate that is loaded into it later is shown from then on.

    The lifespan of an `Application` is around it. Signals are left to the process, and an idle server does
    not tick.
    """
    lifespan = application.lifespan() if isinstance(application, Application) else contextlib.nullcontext()
    async with lifespan:
        server = _server(application, websockets=websockets, grace_s=grace_s, tls=tls)
        # Neither is cut short: a cancelled start or stop leaves its socket with the loop, which would take
        # the next descriptor of that number for one that it watches already.
        with anyio.CancelScope(shield=True):
            await server.startup(sockets=list(listening))
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await server.shutdown(sockets=list(listening))


class _Handshakes:
    """Accepts connections and has them shake hands, no more of one address at a time than it may have.

    Not the loop's own server: that one tells of a connection once its handshake is done, so that whoever
    only connects could take every descriptor meanwhile.
    """

    def __init__(
        self, listening: socket.socket, tls: ssl.SSLContext, protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        self._listening = listening
        self._tls = tls
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[asyncio.Task[None], socket.socket] = {}
        self._by_address: Counter[str] = Counter()
        listening.setblocking(False)
        self._loop.add_reader(listening, self._accept)

    def _accept(self) -> None:
        """Take in some of those that wait: between them who shakes hands gets on, too."""
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                accepted, (address, *_) = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # nothing more can be opened
                self._loop.remove_reader(self._listening)
                self._loop.call_later(_ACCEPT_AGAIN_S, self._accept_again)
                return
            if self._by_address[address] >= PEER_CONNECTIONS_MAX:
                accepted.close()
                continue
            self._by_address[address] += 1
            accepted.setblocking(False)
            task = self._loop.create_task(self._shake_hands(accepted, address))
            self._tasks[task] = accepted
            task.add_done_callback(self._tasks.pop)

    def _accept_again(self) -> None:
        if self._listening.fileno() >= 0:  # else it has been closed meanwhile
            self._loop.add_reader(self._listening, self._accept)

    async def _shake_hands(self, accepted: socket.socket, address: str) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._protocol, accepted, ssl=self._tls, ssl_handshake_timeout=_HEAD_S
            )
        except OSError:  # they speak no TLS, or were too slow
            return
        finally:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    def close(self) -> None:
        """Accept no more, and end the handshakes from below: whatever reads is told that it is over."""
        self._loop.remove_reader(self._listening)
        self._listening.close()
        for accepted in self._tasks.values():
            with contextlib.suppress(OSError):  # it is over already
                accepted.shutdown(socket.SHUT_RDWR)

    async def wait_closed(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)


class _TlsServer(uvicorn.Server):
    """As uvicorn's own, but for handshakes: those would take a minute each, as many as there come."""

    tls: ssl.SSLContext

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.servers = [
            cast("asyncio.Server", _Handshakes(each, self.tls, self._protocol)) for each in sockets or ()
        ]
        self.started = True

    def _protocol(self) -> asyncio.Protocol:
        return _Protocol(self.config, self.server_state, self.lifespan.state)


def _server(
    application: Asgi, *, websockets: bool, grace_s: int, tls: ssl.SSLContext | None
) -> uvicorn.Server:
    config = uvicorn.Config(
        application,
        http=_Protocol,
        ws="wsproto" if websockets else "none",
        ws_ping_interval=None,  # whoever speaks here is on this machine: its going is seen
        ws_per_message_deflate=False,
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        date_header=False,  # uvicorn makes it on its tick
        server_header=False,
        timeout_graceful_shutdown=grace_s,
    )
    config.load()
    server = uvicorn.Server(config)
    if tls is not None:
        server = speaking = _TlsServer(config)
        speaking.tls = tls
    server.lifespan = config.lifespan_class(config)
    server.force_exit = not grace_s
    return server


def listen_tcp(host: str, port: int, *, name: str) -> socket.socket:
    """A TCP socket bound to an IPv4 address that may come up later (a bridge's).

    `HostError`, which calls the listener `name`, where that cannot be.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            message, remedy = "it is in use", f"stop what listens on it: ss -ltnp 'sport = :{port}'"
        else:
            message, remedy = str(error.strerror), "choose an address of this machine (ip addr)"
        raise errors.HostError(f"{name} cannot listen on {host}:{port}: {message}", remedy=remedy) from error
    return listening
