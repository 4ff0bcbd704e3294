"""Names outside the cluster: who is asked, what is believed, what is remembered, and when."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.abc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.node.test_node_dns import VIEW, ZONE, Zone, head, query, service
from tests.ports import free_port

from ondol.base import metrics
from ondol.base.clock import ManualClock, SystemClock
from ondol.node.dns import codec, counts, replies
from ondol.node.dns.codec import Record
from ondol.node.dns.counts import Counts
from ondol.node.dns.forwarding import Forwarder, Network, Upstreams, exactly
from ondol.node.dns.server import DnsServer

pytestmark = pytest.mark.anyio
NAME = "shop.example"
ONE = [codec.address(NAME, "192.0.2.7", 20)]
SOA = codec.start_of_authority("example", 12)


def respond(message: bytes, answers: list[Record], **how: object) -> bytes:
    """A server's response to a question."""
    return codec.reply(codec.parse(message), answers, authoritative=False, **how)  # type: ignore[arg-type]


Answer = Callable[[bytes], bytes | None]


@dataclass
class Servers:
    """Name servers by address; None is silence. What they were asked by which protocol is kept."""

    udp_: dict[str, Answer] = field(default_factory=dict)
    tcp_: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    gate: anyio.Event | None = None

    async def udp(self, server: str, _port: int, message: bytes, is_answer: Callable[[bytes], bool]) -> bytes:
        self.asked.append(("udp", server))
        if self.gate is not None:
            await self.gate.wait()
        reply = self.udp_[server](message)
        if reply is None or not is_answer(reply):
            await anyio.sleep_forever()
        assert reply is not None
        return reply

    async def tcp(self, server: str, _port: int, message: bytes) -> bytes:
        self.asked.append(("tcp", server))
        reply = self.tcp_[server](message)
        if reply is None:
            raise OSError("refused")
        return reply


def forwarder(servers: Servers, *order: str, time: ManualClock, counted: Counts | None = None) -> Forwarder:
    return Forwarder(Upstreams(lambda: order, {}), servers, time, random.Random(1), counted)


async def answered(forwarding: Forwarder, message: bytes) -> bytes:
    question = codec.parse(message)
    return await forwarding.ask(question, question.payload_max)


def ttls(reply: bytes) -> list[int]:
    _, _, counts_ = head(reply)
    return [each.ttl_s for each in codec.placed(reply, codec.skip_name(reply, 12) + 4, sum(counts_[1:3]))]


async def test_answers_are_remembered_for_their_time() -> None:
    """Under every spelling, getting older, until the shortest record has ended; then no more."""
    time, servers = ManualClock(), Servers({"a": lambda m: respond(m, ONE)})
    forwarding = forwarder(servers, "a", time=time)
    assert ttls(await answered(forwarding, query(NAME))) == [20]
    await time.advance(8)
    again = await answered(forwarding, query("ShOp.eXample"))
    assert ttls(again) == [12]
    assert again[:2] == query(NAME)[:2]
    assert b"\x04ShOp\x07eXample" in again
    assert len(servers.asked) == 1
    await time.advance(13)
    await answered(forwarding, query(NAME))
    assert len(servers.asked) == 2


@pytest.mark.parametrize(
    ("code", "holds_s"), [(codec.NXDOMAIN, 12), (codec.NOERROR, 12), (codec.SERVFAIL, 5), (codec.REFUSED, 0)]
)
async def test_what_there_is_not_is_remembered(code: int, holds_s: int) -> None:
    """As long as the SOA says, and a failure for a few seconds."""
    time = ManualClock()
    servers = Servers({"a": lambda m: respond(m, [], code=code, authority=[SOA])})
    forwarding = forwarder(servers, "a", time=time)
    await answered(forwarding, query(NAME))
    await time.advance(max(0, holds_s - 1))
    reply = await answered(forwarding, query(NAME))
    assert head(reply)[1] == code
    assert len(servers.asked) == (1 if holds_s else 2)
    await time.advance(2)
    await answered(forwarding, query(NAME))
    assert len(servers.asked) == (2 if holds_s else 3)


async def test_long_times_are_cut_and_none_is_not_kept() -> None:
    """Half a minute at most, as in Kubernetes' CoreDNS."""
    time = ManualClock()
    day = Servers({"a": lambda m: respond(m, [codec.address(NAME, "192.0.2.7", 86400)])})
    forwarding = forwarder(day, "a", time=time)
    await answered(forwarding, query(NAME))
    await time.advance(31)
    await answered(forwarding, query(NAME))
    assert len(day.asked) == 2
    never = Servers({"a": lambda m: respond(m, [codec.address(NAME, "192.0.2.7", 0)])})
    forwarding = forwarder(never, "a", time=time)
    for _ in range(2):
        await answered(forwarding, query(NAME))
    assert len(never.asked) == 2


async def test_equal_questions_are_asked_once() -> None:
    """Everybody who asks meanwhile gets that answer, with their own id."""
    time, servers = ManualClock(), Servers({"a": lambda m: respond(m, ONE)}, gate=anyio.Event())
    forwarding = forwarder(servers, "a", time=time)
    answers: list[bytes] = []

    async def ask(number: int) -> None:
        message = number.to_bytes(2, "big") + query(NAME)[2:]
        answers.append(await answered(forwarding, message))

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(ask, number)
        await anyio.wait_all_tasks_blocked()
        assert servers.gate is not None
        servers.gate.set()
    assert len(servers.asked) == 1
    assert sorted(int.from_bytes(reply[:2], "big") for reply in answers) == list(range(50))
    assert forwarding._pending == {}


async def test_who_asks_for_what_nobody_answers_leaves_room_for_others() -> None:
    """Of what waits at once each asker has a share; what is beyond is refused, and told in the counts."""
    servers = Servers({"a": lambda m: respond(m, ONE)}, gate=anyio.Event())
    counted = Counts()
    forwarding = forwarder(servers, "a", time=ManualClock(), counted=counted)
    replies_: dict[str, list[bytes]] = {"10.0.0.2": [], "10.0.0.3": []}

    async def ask(asker: str, name: str) -> None:
        replies_[asker].append(await forwarding.ask(codec.parse(query(name)), 512, asker))

    async with anyio.create_task_group() as tasks:
        for number in range(1500):
            tasks.start_soon(ask, "10.0.0.2", f"n{number}.slow.example")
        await anyio.wait_all_tasks_blocked()
        assert {head(each)[1] for each in replies_["10.0.0.2"]} == {codec.REFUSED}
        assert counted.rejected == len(replies_["10.0.0.2"]) >= 500
        tasks.start_soon(ask, "10.0.0.3", NAME)
        await anyio.wait_all_tasks_blocked()
        assert not replies_["10.0.0.3"], "it waits for its answer"
        assert servers.gate is not None
        servers.gate.set()
    assert head(replies_["10.0.0.3"][0])[1] == codec.NOERROR
    assert len(replies_["10.0.0.2"]) == 1500


async def test_a_silent_server_is_passed_over_and_comes_last() -> None:
    """The next is asked after two seconds, and first for the next ten."""
    time = ManualClock()
    servers = Servers({"a": lambda _: None, "b": lambda m: respond(m, ONE)})
    forwarding = forwarder(servers, "a", "b", time=time)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answered, forwarding, query(NAME))
        await anyio.wait_all_tasks_blocked()
        await time.advance(1.9)
        assert servers.asked == [("udp", "a")]
        await time.advance(0.2)
    await answered(forwarding, query("other.example"))
    assert servers.asked == [("udp", "a"), ("udp", "b"), ("udp", "b")]


async def test_one_that_refuses_is_passed_over() -> None:
    """Another may know; if none does the last word is told."""
    servers = Servers({"a": lambda m: respond(m, [], code=codec.REFUSED), "b": lambda m: respond(m, ONE)})
    reply = await answered(forwarder(servers, "a", "b", time=ManualClock()), query(NAME))
    assert head(reply)[2][1] == 1
    assert head(await answered(forwarder(servers, "a", time=ManualClock()), query(NAME)))[1] == codec.REFUSED


async def test_nobody_answers() -> None:
    """A failure after five seconds at most; what was remembered serves again for a while (RFC 8767)."""
    time, servers = ManualClock(), Servers({"a": lambda m: respond(m, ONE)})
    forwarding = forwarder(servers, "a", "b", "c", time=time)
    await answered(forwarding, query(NAME))
    silent: Answer = lambda _: None  # noqa: E731 - a value of the table
    servers.udp_ = {"a": silent, "b": silent, "c": silent}
    replies_: list[bytes] = []

    async def ask(name: str) -> None:
        replies_.append(await answered(forwarding, query(name)))

    async with anyio.create_task_group() as tasks:
        await time.advance(60)
        tasks.start_soon(ask, "new.example")
        tasks.start_soon(ask, NAME)
        await anyio.wait_all_tasks_blocked()
        for _ in range(5):
            await time.advance(1.01)
    codes = sorted((head(reply)[1], *ttls(reply)) for reply in replies_)
    assert codes == [(codec.NOERROR, 30), (codec.SERVFAIL,)]


async def test_cut_answers_are_asked_again_by_tcp() -> None:
    """And told whole to who asks by TCP."""
    many = [codec.address(NAME, f"192.0.2.{i}", 20) for i in range(100)]
    servers = Servers({"a": lambda m: respond(m, many, size_max=512)}, {"a": lambda m: respond(m, many)})
    forwarding = forwarder(servers, "a", time=ManualClock())
    question = codec.parse(query(NAME))
    assert head(await forwarding.ask(question, 65535))[2][1] == 100
    assert servers.asked == [("udp", "a"), ("tcp", "a")]
    cut = await answered(forwarding, query(NAME))
    assert head(cut)[0] & codec.TRUNCATED
    assert len(cut) <= 512


async def test_a_server_without_edns_is_asked_without() -> None:
    """One that cannot read the OPT record says that the question is malformed."""

    def old(message: bytes) -> bytes:
        is_new = codec.parse(message).edns is not None
        return respond(message, [] if is_new else ONE, code=codec.FORMERR if is_new else codec.NOERROR)

    servers = Servers({"a": old})
    assert head(await answered(forwarder(servers, "a", time=ManualClock()), query(NAME)))[2][1] == 1


@pytest.mark.parametrize(
    "forged",
    [
        lambda m: bytes([m[0] ^ 1]) + respond(m, ONE)[1:],
        lambda m: respond(m, ONE).replace(b"\x04shop", b"\x04shod"),
        lambda m: m,
        lambda m: respond(m, ONE)[:-3],
        lambda _: b"",
    ],
    ids=["id", "name", "question", "cut", "empty"],
)
async def test_what_is_no_answer_is_not_believed(forged: Callable[[bytes], bytes]) -> None:
    """Another id, another name, no response, a broken one: as if it had not come."""
    time = ManualClock()
    servers = Servers({"a": forged})
    forwarding = forwarder(servers, "a", time=time)
    answers: list[bytes] = []

    async def ask() -> None:
        answers.append(await answered(forwarding, query(NAME)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        await time.advance(2.1)
    assert head(answers[0])[1] == codec.SERVFAIL
    assert len(forwarding.cache) == 0


async def test_ids_are_not_the_askers() -> None:
    """Nobody who sees the question of a pod knows the id that we ask with."""
    ids: list[bytes] = []

    def note(message: bytes) -> bytes:
        ids.append(message[:2])
        return respond(message, ONE)

    forwarding = forwarder(Servers({"a": note}), "a", time=ManualClock())
    for number in range(20):
        await answered(forwarding, query(f"n{number}.example"))
    assert len(set(ids)) > 15


async def test_domains_have_servers_of_their_own() -> None:
    """The closest one's, for the domain and all below it."""
    servers = Servers({each: lambda m: respond(m, []) for each in "abc"})
    stubs = {"corp.example": ("b",), "lab.corp.example": ("c",)}
    forwarding = Forwarder(Upstreams(lambda: ["a"], stubs), servers, ManualClock(), random.Random(1))
    for name in ("example", "corp.example", "x.corp.example", "y.lab.corp.example", "xcorp.example"):
        await answered(forwarding, query(name))
    assert [server for _, server in servers.asked] == ["a", "b", "b", "c", "a"]


async def test_the_cache_is_bounded() -> None:
    """What was asked for longest ago goes first."""
    time, servers = ManualClock(), Servers({"a": lambda m: respond(m, [codec.address("x", "192.0.2.1", 20)])})
    forwarding = forwarder(servers, "a", time=time)
    forwarding.cache._entries_max = 10
    for number in range(30):
        await answered(forwarding, query(f"n{number}.example"))
    assert len(forwarding.cache) == 10
    await answered(forwarding, query("n29.example"))
    assert len(servers.asked) == 30


async def test_a_resolver_that_asks_us_is_found_out() -> None:
    """The probe comes back: that server is asked no more, others are."""
    time = ManualClock()
    servers = Servers({"b": lambda m: respond(m, ONE)})
    forwarding = forwarder(servers, "a", "b", time=time)
    server = DnsServer(ZONE, VIEW, forwarding, time)
    passed_on: list[bytes] = []
    servers.udp_["a"] = lambda m: passed_on.append(m)  # noqa: PLW0108 - whose answer is none
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(forwarding.probe, ZONE)
        await anyio.wait_all_tasks_blocked()
        assert head(await server.answer(passed_on[0], is_tcp=False))[1] == codec.REFUSED
        await time.advance(2.1)
    servers.asked.clear()
    await answered(forwarding, query(NAME))
    assert servers.asked == [("udp", "b")]


async def test_external_names_bring_their_addresses() -> None:
    """Resolvers of pods follow no CNAME themselves: the addresses of the outside name are in the answer."""

    def target(message: bytes) -> bytes:
        # Names with pointers, which mean something else in another message.
        real = b"\x04real\xc0" + bytes([12 + 5])
        cname = b"\xc0\x0c" + struct.pack("!HHIH", codec.CNAME, 1, 20, len(real)) + real
        at = len(message) - 11 + 12
        a = b"\xc0" + bytes([at]) + struct.pack("!HHIH", codec.A, 1, 20, 4) + bytes([192, 0, 2, 9])
        return message[:2] + struct.pack("!5H", 0x8180, 1, 2, 0, 0) + message[12:-11] + cname + a

    view = Zone([service("out", type="ExternalName", externalName="Shop.example")], [])
    time = ManualClock()
    forwarding = forwarder(Servers({"a": target}), "a", time=time)
    reply = await DnsServer(ZONE, view, forwarding, time).answer(
        query("out.ns.svc.cluster.local"), is_tcp=False
    )
    listed = list(codec.placed(reply, codec.skip_name(reply, 12) + 4, 3))
    assert [each.type for each in listed] == [codec.CNAME, codec.CNAME, codec.A]
    assert codec.expand_name(reply, listed[0].data_at).lower() == NAME
    assert codec.expand_name(reply, listed[1].data_at) == codec.expand_name(reply, listed[2].start)
    assert codec.expand_name(reply, listed[2].start) == "real.example"


@given(st.binary(max_size=90), st.integers(0, 200))
def test_any_reply_is_survived(tail: bytes, cut: int) -> None:
    """Bytes behind the head of a reply are records or Malformed; what is read can be told again."""
    asked = query(NAME)
    message = (asked[:2] + struct.pack("!5H", 0x8180, 1, 1, 1, 1) + asked[12:] + tail)[: 30 + cut]
    try:
        reply = replies.read(message, asked)
        again = reply.response(codec.parse(asked), 512)
        assert len(again) <= 512
        list(reply.chain())
        assert reply.ttl_s >= 0
    except codec.Malformed:
        pass


async def test_counts_have_the_names_of_coredns() -> None:
    """Questions by zone, protocol and type; answers by code; hits and misses of the cache."""
    counted, time = Counts("dns://10.244.0.1:53"), ManualClock()
    forwarding = forwarder(Servers({"a": lambda m: respond(m, ONE)}), "a", time=time, counted=counted)
    server = DnsServer(ZONE, VIEW, forwarding, time, counted)
    for _ in range(2):
        await server.answer(query(NAME), is_tcp=False)
    await server.answer(query("no.ns.svc.cluster.local", codec.AAAA), is_tcp=True)
    text = metrics.Page(lambda: counts.families(counted, forwarding.cache.__len__)).text().decode()
    at = 'server="dns://10.244.0.1:53"'
    for line in (
        f'coredns_dns_requests_total{{family="1",proto="udp",{at},type="A",zone="."}} 2.0',
        f'coredns_dns_requests_total{{family="1",proto="tcp",{at},type="AAAA",zone="cluster.local"}} 1.0',
        f'coredns_dns_responses_total{{plugin="kubernetes",rcode="NXDOMAIN",{at},zone="cluster.local"}} 1.0',
        f'coredns_cache_hits_total{{{at},type="success",zones="."}} 1.0',
        f'coredns_cache_misses_total{{{at},zones="."}} 1.0',
        f'coredns_cache_entries{{{at},zones="."}} 1.0',
        'coredns_proxy_request_duration_seconds_count{proxy_name="forward",rcode="NOERROR",to="a"} 1.0',
    ):
        assert line in text, line


async def test_over_real_sockets() -> None:
    """UDP and TCP from a client to us and from us to another server; questions of a connection overtake."""
    many = [codec.address(NAME, f"192.0.2.{i}", 20) for i in range(100)]
    port, upstream_port = free_port(), free_port()
    async with (
        await anyio.create_udp_socket(
            family=socket.AF_INET, local_host="127.0.0.1", local_port=upstream_port
        ) as upstream,
        anyio.create_task_group() as tasks,
    ):
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=upstream_port)
        released = anyio.Event()

        async def datagrams() -> None:
            async for message, peer in upstream:
                await upstream.sendto(respond(message, many, size_max=512), *peer)

        async def connection(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                (length,) = struct.unpack("!H", await exactly(stream, 2))
                message = await exactly(stream, length)
                await released.wait()
                reply = respond(message, many)
                await stream.send(struct.pack("!H", len(reply)) + reply)

        tasks.start_soon(datagrams)
        tasks.start_soon(_served, listener, connection)
        servers = [f"127.0.0.1:{upstream_port}"]
        forwarding = Forwarder(Upstreams(lambda: servers, {}), Network(), SystemClock(), random.Random(3))
        await tasks.start(DnsServer(ZONE, VIEW, forwarding, SystemClock()).serve, "127.0.0.1", port)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            outside, inside = query(NAME), b"\0\x09" + query("web.ns.svc.cluster.local")[2:]
            await stream.send(b"".join(struct.pack("!H", len(m)) + m for m in (outside, inside)))
            first = await framed(stream)
            assert first[:2] == b"\0\x09"
            released.set()
            second = await framed(stream)
            assert (second[:2], head(second)[2][1]) == (outside[:2], 100)
        async with await anyio.create_connected_udp_socket("127.0.0.1", port) as client:
            await client.send(query(NAME))
            assert head(await client.receive())[0] & codec.TRUNCATED
        tasks.cancel_scope.cancel()


async def _served(listener: Any, connection: Any) -> None:
    async with listener:
        await listener.serve(connection)


async def framed(stream: anyio.abc.SocketStream) -> bytes:
    (length,) = struct.unpack("!H", await exactly(stream, 2))
    return await exactly(stream, length)
