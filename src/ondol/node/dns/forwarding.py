"""Names outside the cluster: asked of other name servers, remembered, each question asked once at a time."""

from __future__ import annotations

import dataclasses
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import anyio
import anyio.abc

from ondol.base import log
from ondol.base.clock import Clock
from ondol.node.dns import cache, codec, replies
from ondol.node.dns.cache import Cache
from ondol.node.dns.codec import Malformed, Question
from ondol.node.dns.counts import Counts
from ondol.node.dns.replies import Reply
from ondol.node.shares import Shares

_TIMEOUT_S: Final = 2.0
"""For one server."""
_PATIENCE_S: Final = 5.0
"""For all of them: then the asker asks again."""
_AVOIDED_S: Final = 10.0
"""How long a silent server comes last."""
_WAITING_MAX: Final = 1000
_WAITING_EACH_MAX: Final = 200
"""Of one asker, who may ask for names of servers that never answer."""
_STALE_TTL_S: Final = 30
_UNSATISFYING: Final = (codec.SERVFAIL, codec.REFUSED, codec.NOTIMP)

_log = log.get("node.dns")


class Transport(Protocol):
    """How a server is asked."""

    async def udp(
        self, server: str, port: int, message: bytes, is_answer: Callable[[bytes], bool], /
    ) -> bytes:
        """The first datagram that is an answer; `OSError` where it cannot be asked."""

    async def tcp(self, server: str, port: int, message: bytes, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Upstreams:
    """Who knows the names outside; asked for at each question, for the host's may change."""

    servers: Callable[[], Sequence[str]]
    """Addresses, or `address:port`."""
    stubs: Mapping[str, Sequence[str]]
    """Servers for a domain and all below it."""

    def of(self, name: str) -> Sequence[str]:
        labels = name.split(".")
        for start in range(len(labels)):
            if servers := self.stubs.get(".".join(labels[start:])):
                return servers
        return self.servers()


@dataclass(slots=True)
class _Pending:
    """A question that waits for its answer."""

    over: anyio.Event = field(default_factory=anyio.Event)
    reply: Reply | None = None


class Forwarder:
    """`ask` for what is not ours."""

    def __init__(
        self,
        upstreams: Upstreams,
        transport: Transport,
        clock: Clock,
        rng: random.Random,
        counts: Counts | None = None,
    ) -> None:
        self._upstreams = upstreams
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._counts = counts or Counts()
        self.cache = Cache(clock)
        self._pending: dict[cache.Key, _Pending] = {}
        self._probes: dict[str, str] = {}
        """Servers by the name that each is asked for to see whether it asks us."""
        self._looping: set[str] = set()
        self._silent: dict[str, float] = {}
        """Until when a server comes last."""
        self._waiting = Shares(_WAITING_MAX, _WAITING_EACH_MAX)

    async def ask(self, question: Question, size_max: int, asker: str = "") -> bytes:
        """The response for the asker: from the cache, from a server, or that nobody answered.

        `asker` is the address that has its share of what waits at once; empty has no bound of its own.
        """
        key = cache.key_of(question)
        if (entry := self.cache.fresh(key)) is not None:
            self._counts.hits[entry.kind] += 1
            return entry.reply.response(question, size_max, age_s=self.cache.age_s(entry))
        self._counts.misses += 1
        with self._waiting.one(asker) as has_place:
            if not has_place:
                self._counts.rejected += 1
                return codec.reply(question, code=codec.REFUSED, authoritative=False, size_max=size_max)
            reply = await self._joined(key, question)
        if reply is not None:
            return reply.response(question, size_max)
        if (old := self.cache.stale(key)) is not None:
            self._counts.stale += 1
            return old.reply.response(question, size_max, ttl_s=_STALE_TTL_S)
        return codec.reply(question, code=codec.SERVFAIL, authoritative=False, size_max=size_max)

    async def chain(self, question: Question, name: str, asker: str = "") -> list[codec.Record]:
        """The addresses that an outside name leads to, asked as the asker would; empty if there are none."""
        raw = codec.encode_name(name) + question.raw[-4:]
        other = dataclasses.replace(question, name=name, raw=raw, recursion_desired=True)
        reply = await self.ask(other, 65535, asker)
        try:
            return list(replies.read(reply, other.id.to_bytes(2, "big") + reply[2:12] + raw).chain())
        except Malformed:
            return []

    async def _joined(self, key: cache.Key, question: Question) -> Reply | None:
        """The answer that another asker waits for already, or one's own; None where there is none in time.

        Who waits for oneself, because a server asks us in turn, so waits no longer than that server may take.
        """
        pending = self._pending.get(key)
        if pending is None:
            return await self._first(key, question)
        with self._clock.move_on_after(_PATIENCE_S):
            await pending.over.wait()
        return pending.reply

    async def _first(self, key: cache.Key, question: Question) -> Reply | None:
        pending = self._pending[key] = _Pending()
        try:
            with self._clock.move_on_after(_PATIENCE_S):
                pending.reply = await self._from_servers(question)
            if pending.reply is not None:
                self.cache.keep(key, pending.reply)
            return pending.reply
        finally:
            del self._pending[key]
            pending.over.set()

    async def _from_servers(self, question: Question) -> Reply | None:
        """The first satisfying reply, else the last of the others; None if nobody answers."""
        last: Reply | None = None
        now = self._clock.monotonic()
        servers = [each for each in dict.fromkeys(self._upstreams.of(question.name)) if self._is_asked(each)]
        for server in sorted(servers, key=lambda each: self._silent.get(each, 0.0) > now):
            began = self._clock.monotonic()
            try:
                with self._clock.fail_after(_TIMEOUT_S):
                    reply = await self._from(server, question)
            except (OSError, TimeoutError, anyio.EndOfStream, anyio.BrokenResourceError, Malformed) as error:
                _log.debug("dns_upstream_silent", server=server, name=question.name, error=str(error))
                self._silent[server] = self._clock.monotonic() + _AVOIDED_S
                continue
            self._silent.pop(server, None)
            code = codec.CODES.get(reply.code, str(reply.code))
            self._counts.heard(server, code, self._clock.monotonic() - began)
            if reply.code not in _UNSATISFYING:
                return reply
            last = reply
        return last

    def _is_asked(self, server: str) -> bool:
        return server not in self._looping

    async def probe(self, zone: str) -> None:
        """Ask every server for a name that nobody has: one of which we are asked for it leads back to us."""
        for server in dict.fromkeys(self._upstreams.servers()):
            name = f"{self._rng.getrandbits(64):016x}.loop.{zone}"
            self._probes[name] = server
            raw = codec.encode_name(name) + struct.pack("!HH", codec.HINFO, codec.IN)
            question = Question(0, name, codec.HINFO, codec.IN, recursion_desired=True, raw=raw)
            try:
                with self._clock.fail_after(_TIMEOUT_S):
                    await self._from(server, question)
            except (OSError, TimeoutError, anyio.EndOfStream, anyio.BrokenResourceError, Malformed):
                continue

    def notices_loop(self, name: str) -> bool:
        """Whether this is the name of a probe; its server is not asked again."""
        server = self._probes.get(name)
        if server is None:
            return False
        if server not in self._looping:
            self._looping.add(server)
            _log.error("dns_loop", server=server, remedy="a resolver of this machine asks the platform's own")
        return True

    async def _from(self, server: str, question: Question) -> Reply:
        """By UDP; by TCP if that was cut; without EDNS where it is not understood."""
        host, port = _address(server)
        reply = await self._exchange(host, port, self._query(question, has_edns=True))
        if reply.code == codec.FORMERR:
            reply = await self._exchange(host, port, self._query(question, has_edns=False))
        return reply

    async def _exchange(self, host: str, port: int, message: bytes) -> Reply:
        def is_answer(datagram: bytes) -> bool:
            try:
                replies.read(datagram, message)
            except Malformed:
                return False
            return True

        reply = replies.read(await self._transport.udp(host, port, message, is_answer), message)
        if reply.is_cut:
            reply = replies.read(await self._transport.tcp(host, port, message), message)
        return reply

    def _query(self, question: Question, *, has_edns: bool) -> bytes:
        """Under an id that nobody can guess."""
        wants_signatures = question.edns is not None and question.edns.wants_signatures
        tail = codec.options(codec.Edns(0, 0, wants_signatures)) if has_edns else b""
        flags = codec.RECURSION_DESIRED if question.recursion_desired else 0
        flags |= codec.CHECKING_DISABLED if question.checking_disabled else 0
        head = codec.HEADER.pack(self._rng.getrandbits(16), flags, 1, 0, 0, 1 if tail else 0)
        return head + question.raw + tail


def _address(server: str) -> tuple[str, int]:
    host, colon, port = server.rpartition(":")
    return (host, int(port)) if colon and ":" not in host else (server, 53)


class Network:
    """The transport over sockets, each question from a port of its own."""

    async def udp(self, server: str, port: int, message: bytes, is_answer: Callable[[bytes], bool]) -> bytes:
        async with await anyio.create_connected_udp_socket(server, port) as udp:
            await udp.send(message)
            while True:
                datagram = await udp.receive()
                if is_answer(datagram):
                    return datagram

    async def tcp(self, server: str, port: int, message: bytes) -> bytes:
        async with await anyio.connect_tcp(server, port) as stream:
            await stream.send(struct.pack("!H", len(message)) + message)
            (length,) = struct.unpack("!H", await exactly(stream, 2))
            return await exactly(stream, length)


async def exactly(stream: anyio.abc.ByteReceiveStream, count: int) -> bytes:
    """So many bytes; `EndOfStream` where there are fewer."""
    received = b""
    while len(received) < count:
        received += await stream.receive(count - len(received))
    return received
