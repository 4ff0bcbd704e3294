"""The pods' name server: UDP and TCP on the bridge's address; other names go to the host's resolvers."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Final

import anyio
import anyio.abc
from anyio.abc import TaskStatus

from ondol.api import objects
from ondol.api.objects import Key
from ondol.base import log
from ondol.base.clock import Clock
from ondol.base.listeners import NONE, Listeners
from ondol.node.dns import codec, records
from ondol.node.network import services
from ondol.sdk import Informer

_UPSTREAM_TIMEOUT_S: Final = 2.0
_TCP_IDLE_S: Final = 10.0
_IN_FLIGHT_MAX: Final = 1000
_BACKLOG: Final = 1024

_log = log.get("node.dns")


class CacheView:
    """The zone's objects out of the informers' caches."""

    def __init__(self, services_: Informer, slices: Informer, namespaces: Informer) -> None:
        self._services, self._slices, self._namespaces = services_, slices, namespaces
        services_.add_index("dns-address", lambda s: objects.spec(s).get("clusterIPs") or ())
        slices.add_index("dns-service", lambda s: [str(services.service_of(s))])
        slices.add_index(
            "dns-address", lambda s: [a for e in s.get("endpoints") or () for a in e.get("addresses") or ()]
        )

    def service(self, namespace: str, name: str) -> records.Spec | None:
        return self._services.lister.get(Key(namespace, name))

    def slices(self, namespace: str, name: str) -> Sequence[records.Spec]:
        return self._slices.lister.by_index("dns-service", str(Key(namespace, name)))

    def services_at(self, address: str) -> Sequence[records.Spec]:
        return self._services.lister.by_index("dns-address", address)

    def slices_with(self, address: str) -> Sequence[records.Spec]:
        return self._slices.lister.by_index("dns-address", address)

    def has_namespace(self, name: str) -> bool:
        return self._namespaces.lister.get(Key("", name)) is not None


class DnsServer:
    """Answers for `zone` from `view`, and asks the resolvers `upstream`, in turn, for other names."""

    def __init__(self, zone: str, view: records.View, upstream: Sequence[str], clock: Clock) -> None:
        self._clock = clock
        self._zone = zone
        self._view = view
        self._upstream = list(upstream)
        self._slots = anyio.Semaphore(_IN_FLIGHT_MAX)
        self._sending = anyio.Lock()  # the socket takes one datagram at a time

    async def serve(
        self,
        address: str,
        port: int,
        listeners: Listeners = NONE,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer until cancelled; questions wait at the sockets that `listeners` keep for the next server."""
        udp = await anyio.abc.UDPSocket.from_socket(_bound(listeners, socket.SOCK_DGRAM, address, port))
        listener = await anyio.abc.SocketListener.from_socket(
            _bound(listeners, socket.SOCK_STREAM, address, port)
        )
        async with udp, listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self._connection)
            task_status.started()
            async for packet, peer in udp:
                await self._slots.acquire()
                tasks.start_soon(self._datagram, udp, packet, peer)

    async def _datagram(self, udp: anyio.abc.UDPSocket, packet: bytes, peer: tuple[str, int]) -> None:
        try:
            reply = await self.answer(packet, is_tcp=False)
            if reply:
                async with self._sending:
                    await udp.sendto(reply, *peer)
        except OSError as error:
            _log.warning("dns_reply_not_sent", peer=peer[0], error=str(error))
        finally:
            self._slots.release()

    async def _connection(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            try:
                while True:
                    with self._clock.fail_after(_TCP_IDLE_S):
                        (length,) = struct.unpack("!H", await _exactly(stream, 2))
                        message = await _exactly(stream, length)
                    reply = await self.answer(message, is_tcp=True)
                    await stream.send(struct.pack("!H", len(reply)) + reply)
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, TimeoutError):
                return  # the asker has hung up, or asks no more

    async def answer(self, message: bytes, *, is_tcp: bool) -> bytes:
        """The answer to one message; empty when there is no one to answer."""
        try:
            question = codec.parse(message)
        except codec.Malformed:
            return codec.failure(message, codec.FORMERR)
        if question.opcode != 0:
            return codec.failure(message, codec.NOTIMP)
        answer = records.answer(question.name, question.type, self._zone, self._view)
        if not answer.is_ours:
            return await self._forward(message, question, is_tcp=is_tcp)
        size = 65535 if is_tcp else question.payload_max
        answers = list(answer.records)
        if answer.follow and question.type in (codec.A, codec.AAAA):
            answers += await self._followed(answer.follow, question.type)
        authority = [codec.start_of_authority(self._zone, records.TTL_S)] if not answers else []
        return codec.reply(
            question, answers, code=answer.code, authority=authority, extra=answer.extra, size_max=size
        )

    async def _followed(self, name: str, type: int) -> Sequence[codec.Record]:
        """Where an ExternalName points inside the zone; for outside names the resolver asks itself."""
        answer = records.answer(name, type, self._zone, self._view)
        return answer.records if answer.is_ours else ()

    async def _forward(self, message: bytes, question: codec.Question, *, is_tcp: bool) -> bytes:
        for server in self._upstream:
            try:
                with self._clock.fail_after(_UPSTREAM_TIMEOUT_S):
                    return await (_ask_tcp if is_tcp else _ask_udp)(server, message)
            except (OSError, TimeoutError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
                _log.debug("dns_upstream_silent", server=server, name=question.name, error=str(error))
        return codec.reply(question, code=codec.SERVFAIL, authoritative=False)


def _bound(listeners: Listeners, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    """The server's socket of this kind: a former server's, or a new one that is kept."""
    name = f"{kind.name}:{address}:{port}"
    if (inherited := listeners.inherit(name)) is not None:
        return inherited
    opened = socket.socket(socket.AF_INET, kind)
    try:
        opened.setblocking(False)
        if kind is socket.SOCK_STREAM:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((address, port))
        if kind is socket.SOCK_STREAM:
            opened.listen(_BACKLOG)
    except BaseException:
        opened.close()
        raise
    listeners.keep(name, opened)
    return opened


async def _ask_udp(server: str, message: bytes) -> bytes:
    async with await anyio.create_connected_udp_socket(server, 53) as udp:
        await udp.send(message)
        while True:
            reply = await udp.receive()
            if reply[:2] == message[:2]:
                return reply


async def _ask_tcp(server: str, message: bytes) -> bytes:
    async with await anyio.connect_tcp(server, 53) as stream:
        await stream.send(struct.pack("!H", len(message)) + message)
        (length,) = struct.unpack("!H", await _exactly(stream, 2))
        return await _exactly(stream, length)


async def _exactly(stream: anyio.abc.ByteReceiveStream, count: int) -> bytes:
    received = b""
    while len(received) < count:
        received += await stream.receive(count - len(received))
    return received
