"""The pods' name server: UDP and TCP on the bridge's address; other names are asked of other servers."""

from __future__ import annotations

import contextlib
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
from ondol.node import shares
from ondol.node.dns import codec, records
from ondol.node.dns.counts import Counts
from ondol.node.dns.forwarding import Forwarder, exactly
from ondol.node.dns.outside import Nothing, Outside
from ondol.node.network import services
from ondol.node.shares import Shares
from ondol.sdk import Informer

_TCP_IDLE_S: Final = 10.0
_CONNECTIONS_MAX: Final = 1024
_CONNECTIONS_EACH_MAX: Final = 64
"""Of one asker. Those beyond are closed at once: waiting, each would be a descriptor of the node's agent."""
_PIPELINE_MAX: Final = 32
"""Questions of one connection that wait at once."""
_CHAIN_MAX: Final = 8
_BACKLOG: Final = 1024

_log = log.get("node.dns")


class CacheView:
    """The zone's objects out of the informers' caches."""

    def __init__(
        self, services_: Informer, slices: Informer, namespaces: Informer, address: str = ""
    ) -> None:
        self.address = address
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
    """Answers for `zone` from `view`, and has the `forwarder` asked for other names."""

    def __init__(
        self,
        zone: str,
        view: records.View,
        forwarder: Forwarder,
        clock: Clock,
        counts: Counts | None = None,
        *,
        outside: Outside | None = None,
    ) -> None:
        self._clock = clock
        self._zone = zone
        self._view = view
        self._forwarder = forwarder
        self._outside = outside or Nothing()
        self._counts = counts or Counts()
        self._connections = Shares(_CONNECTIONS_MAX, _CONNECTIONS_EACH_MAX)
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
        self._counts.server = f"dns://{address}:{port}"
        async with (
            await anyio.abc.UDPSocket.from_socket(_bound(listeners, socket.SOCK_DGRAM, address, port)) as udp,
            await anyio.abc.SocketListener.from_socket(
                _bound(listeners, socket.SOCK_STREAM, address, port)
            ) as listener,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(listener.serve, self._connection)
            tasks.start_soon(self._forwarder.probe, self._zone)
            task_status.started()
            async for packet, peer in udp:
                # Names of the cluster never wait for those outside: the forwarder bounds how many there are.
                tasks.start_soon(self._datagram, udp, packet, peer)

    async def _datagram(self, udp: anyio.abc.UDPSocket, packet: bytes, peer: tuple[str, int]) -> None:
        reply = await self.answer(packet, is_tcp=False, asker=peer[0])
        try:
            if reply:
                async with self._sending:
                    await udp.sendto(reply, *peer)
        except OSError as error:
            _log.warning("dns_reply_not_sent", peer=peer[0], error=str(error))

    async def _connection(self, stream: anyio.abc.SocketStream) -> None:
        """Questions may follow each other without waiting; each is answered when it can be (RFC 7766)."""
        asker = shares.asker(stream)
        with self._connections.one(asker) as has_place:
            async with stream:
                if has_place:
                    await self._conversation(stream, asker)

    async def _conversation(self, stream: anyio.abc.SocketStream, asker: str) -> None:
        slots, sending = anyio.Semaphore(_PIPELINE_MAX), anyio.Lock()
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with anyio.create_task_group() as tasks:
                while (message := await self._next(stream)) is not None:
                    await slots.acquire()
                    tasks.start_soon(self._respond, stream, message, asker, slots, sending)

    async def _next(self, stream: anyio.abc.SocketStream) -> bytes | None:
        """The next question; None when the asker has hung up, or asks no more."""
        try:
            with self._clock.fail_after(_TCP_IDLE_S):
                (length,) = struct.unpack("!H", await exactly(stream, 2))
                return await exactly(stream, length)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, TimeoutError):
            return None

    async def _respond(
        self,
        stream: anyio.abc.SocketStream,
        message: bytes,
        asker: str,
        slots: anyio.Semaphore,
        sending: anyio.Lock,
    ) -> None:
        try:
            reply = await self.answer(message, is_tcp=True, asker=asker)
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                async with sending:
                    with self._clock.move_on_after(_TCP_IDLE_S):
                        if reply:
                            await stream.send(struct.pack("!H", len(reply)) + reply)
        finally:
            slots.release()

    async def answer(self, message: bytes, *, is_tcp: bool, asker: str = "") -> bytes:
        """The answer to one message, of an address; empty when there is no one to answer."""
        began = self._clock.monotonic()
        try:
            question = codec.parse(message)
        except codec.NotAQuery:
            return b""
        except codec.Malformed:
            return codec.failure(message, codec.FORMERR)
        zone, reply = await self._reply(question, 65535 if is_tcp else question.payload_max, asker)
        self._counts.asked(zone, "tcp" if is_tcp else "udp", question.type)
        by = "kubernetes" if zone != "." else "forward"
        self._counts.answered(zone, reply[3] & 0xF, by, self._clock.monotonic() - began)
        return reply

    async def _reply(self, question: codec.Question, size_max: int, asker: str) -> tuple[str, bytes]:
        """The zone that the question is in, `.` for outside, and the answer."""
        code = self._objection(question)
        if code != codec.NOERROR:
            return ".", codec.reply(question, code=code, authoritative=False, size_max=size_max)
        answer = records.answer(question.name, question.type, self._zone, self._view)
        if not answer.is_ours or answer.code == codec.NXDOMAIN:
            answer = self._of_mesh(question.name, question.type, asker) or answer
        if not answer.is_ours:
            return ".", await self._forwarder.ask(question, size_max, asker)
        answers = list(answer.records)
        if answer.follow and question.type in (codec.A, codec.AAAA):
            answers += await self._followed(question, answer.follow, asker)
        authority = [codec.start_of_authority(self._zone, records.TTL_S)] if not answers else []
        return self._zone, codec.reply(
            question, answers, code=answer.code, authority=authority, extra=answer.extra, size_max=size_max
        )

    def _of_mesh(self, name: str, type: int, asker: str) -> records.Answer | None:
        """Of a host that the mesh has an address for; none of IPv6, by which calls would go past it."""
        if type not in (codec.A, codec.AAAA, codec.ANY):
            return None
        addresses = self._outside.addresses(name, asker)
        if addresses is None:
            return None
        listed = [codec.address(name, each, records.TTL_S) for each in addresses]
        return records.Answer(records=[each for each in listed if type in (each.type, codec.ANY)])

    def _objection(self, question: codec.Question) -> int:
        if question.opcode != 0:
            return codec.NOTIMP
        if question.edns is not None and question.edns.version != 0:
            return codec.BADVERS
        if question.kind not in (codec.IN, codec.ANY) or question.type in (codec.AXFR, codec.IXFR):
            return codec.REFUSED
        return codec.REFUSED if self._forwarder.notices_loop(question.name) else codec.NOERROR

    async def _followed(self, question: codec.Question, name: str, asker: str) -> Sequence[codec.Record]:
        """Where an ExternalName points, inside the zone or out: pods follow no names themselves."""
        listed: list[codec.Record] = []
        for _ in range(_CHAIN_MAX):
            answer = records.answer(name, question.type, self._zone, self._view)
            if not answer.is_ours or answer.code == codec.NXDOMAIN:
                answer = self._of_mesh(name, question.type, asker) or answer
            if not answer.is_ours:
                return [*listed, *await self._forwarder.chain(question, name, asker)]
            listed += answer.records
            if not answer.follow:
                return listed
            name = answer.follow
        return listed


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
