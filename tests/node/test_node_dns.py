"""The name server: messages, and the Kubernetes DNS specification as a table."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Sequence
from typing import Any, Self

import anyio
import anyio.abc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ports import free_port

from ondol.api import objects
from ondol.api.objects import Object
from ondol.base import clock
from ondol.base.listeners import Listeners
from ondol.node.dns import codec, records
from ondol.node.dns.forwarding import Forwarder, Network, Upstreams
from ondol.node.dns.server import DnsServer
from ondol.node.network import services

ZONE = "cluster.local"


def query(name: str, type: int = codec.A, size: int = 0) -> bytes:
    extra = b"\0" + struct.pack("!HHIH", codec.OPT, size, 0, 0) if size else b""
    head = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 1 if size else 0)
    return head + codec.encode_name(name) + struct.pack("!HH", type, 1) + extra


class Zone:
    """A View over lists."""

    address = "10.244.0.1"

    def __init__(self, services_: Sequence[Object], slices: Sequence[Object]) -> None:
        self._services, self._slices = services_, slices

    def service(self, namespace: str, name: str) -> Object | None:
        return next((s for s in self._services if objects.key(s) == (namespace, name)), None)

    def slices(self, namespace: str, name: str) -> Sequence[Object]:
        return [s for s in self._slices if services.service_of(s) == (namespace, name)]

    def services_at(self, address: str) -> Sequence[Object]:
        return [s for s in self._services if s["spec"].get("clusterIP") == address]

    def slices_with(self, address: str) -> Sequence[Object]:
        return [s for s in self._slices if any(address in e["addresses"] for e in s["endpoints"])]

    def has_namespace(self, name: str) -> bool:
        return name == "ns"


def service(name: str, **spec: object) -> Object:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": {"ports": ports, **spec}}


VIEW = Zone(
    [
        service("web", clusterIP="10.0.0.5", clusterIPs=["10.0.0.5"]),
        service("db", clusterIP="None"),
        service("empty", clusterIP="None"),
        service("out", type="ExternalName", externalName="Example.com"),
    ],
    [
        {
            "metadata": {"name": "db-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "db"}},
            "ports": [{"name": "http", "port": 5432, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.1.0.2"], "hostname": "db-0", "conditions": {"ready": True}},
                {"addresses": ["10.1.0.3"], "conditions": {"ready": True}},
                {"addresses": ["10.1.0.4"], "conditions": {"ready": False}},
            ],
        }
    ],
)


def serving(time: clock.Clock | None = None, view: Zone = VIEW) -> DnsServer:
    """A server that knows no other."""
    time = time or clock.ManualClock()
    nobody = Forwarder(Upstreams(list, {}), Network(), time, random.Random(1))
    return DnsServer(ZONE, view, nobody, time)


def addresses(answer: records.Answer) -> list[str]:
    return [".".join(str(b) for b in r.data) for r in answer.records if r.type == codec.A]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web.ns.svc.cluster.local", ["10.0.0.5"]),
        ("db.ns.svc.cluster.local", ["10.1.0.2", "10.1.0.3"]),
        ("db-0.db.ns.svc.cluster.local", ["10.1.0.2"]),
        ("10-1-0-3.db.ns.svc.cluster.local", ["10.1.0.3"]),
        ("1-2-3-4.ns.pod.cluster.local", ["1.2.3.4"]),
    ],
)
def test_addresses(name: str, expected: list[str]) -> None:
    """A records of Services, headless endpoints and pods."""
    assert addresses(records.answer(name, codec.A, ZONE, VIEW)) == expected


@pytest.mark.parametrize(
    "name",
    [
        "no.ns.svc.cluster.local",
        "web.other.svc.cluster.local",
        "empty.ns.svc.cluster.local",
        "x.web.ns.svc.cluster.local",
        "db-9.db.ns.svc.cluster.local",
        "_no._tcp.web.ns.svc.cluster.local",
        "1-2-3-4.other.pod.cluster.local",
        "other.svc.cluster.local",
        "strange.cluster.local",
    ],
)
def test_names_that_do_not_exist(name: str) -> None:
    """NXDOMAIN, for a headless Service without ready endpoints too."""
    answer = records.answer(name, codec.A, ZONE, VIEW)
    assert (answer.is_ours, answer.code) == (True, codec.NXDOMAIN)


@pytest.mark.parametrize(
    "name", ["web.ns.svc.cluster.local", "ns.svc.cluster.local", "svc.cluster.local", ZONE]
)
def test_names_without_that_type(name: str) -> None:
    """A name that exists has an empty answer for other types, so that resolvers do not give up on it."""
    answer = records.answer(name, codec.AAAA, ZONE, VIEW)
    assert (answer.code, list(answer.records)) == (codec.NOERROR, [])


def test_srv_ptr_txt_and_cname() -> None:
    """Ports, reverse names, the schema version and external names."""
    answer = records.answer("_http._tcp.web.ns.svc.cluster.local", codec.SRV, ZONE, VIEW)
    assert struct.unpack_from("!HHH", answer.records[0].data) == (0, 100, 80)
    answer = records.answer("_http._tcp.db.ns.svc.cluster.local", codec.SRV, ZONE, VIEW)
    assert [r.data[6:] for r in answer.records] == [
        codec.encode_name("db-0.db.ns.svc.cluster.local"),
        codec.encode_name("10-1-0-3.db.ns.svc.cluster.local"),
    ]
    assert len(answer.extra) == 2
    answer = records.answer("5.0.0.10.in-addr.arpa", codec.PTR, ZONE, VIEW)
    assert answer.records[0].data == codec.encode_name("web.ns.svc.cluster.local")
    answer = records.answer("2.0.1.10.in-addr.arpa", codec.PTR, ZONE, VIEW)
    assert answer.records[0].data == codec.encode_name("db-0.db.ns.svc.cluster.local")
    assert records.answer("dns-version.cluster.local", codec.TXT, ZONE, VIEW).records[0].data == b"\x051.1.0"
    answer = records.answer("out.ns.svc.cluster.local", codec.A, ZONE, VIEW)
    assert (answer.records[0].type, answer.follow) == (codec.CNAME, "example.com")


@pytest.mark.parametrize("name", ["example.com", "9.9.9.9.in-addr.arpa", "xcluster.local"])
def test_other_names_are_not_ours(name: str) -> None:
    """They are for the host's resolvers."""
    assert not records.answer(name, codec.A, ZONE, VIEW).is_ours


def test_questions_are_case_insensitive_and_echoed() -> None:
    """The name is compared in lower case and answered as it was asked."""
    question = codec.parse(query("WeB.ns.SVC.cluster.local"))
    assert question.name == "web.ns.svc.cluster.local"
    assert b"\x03WeB" in codec.reply(question)


def test_long_answers_are_cut_over_udp() -> None:
    """What does not fit is marked, unless the asker takes more."""
    many = [codec.address("a.b", f"10.0.0.{i}", 5) for i in range(40)]
    small = codec.parse(query("a.b"))
    cut = codec.reply(small, many, size_max=small.payload_max)
    assert struct.unpack_from("!HHH", cut)[1] & 0x0200
    large = codec.parse(query("a.b", size=4096))
    whole = codec.reply(large, many, size_max=large.payload_max)
    assert struct.unpack_from("!HHHH", whole)[3] == 40


@given(st.binary(max_size=80))
def test_any_bytes_are_survived(message: bytes) -> None:
    """A message is a question or Malformed, never another error."""
    try:
        codec.parse(message)
    except codec.Malformed:
        assert len(codec.failure(message, codec.FORMERR)) in (0, 12)


def head(reply: bytes) -> tuple[int, int, list[int]]:
    """Flags, code and counts."""
    _, flags, *counts = struct.unpack_from("!6H", reply)
    return flags & ~0xF, flags & 0xF, counts


OPT_HEAD = b"\0" + struct.pack("!H", codec.OPT)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("message", "code"),
    [
        (query("no.ns.svc.cluster.local"), codec.NXDOMAIN),
        (query("web.ns.svc.cluster.local", codec.AAAA), codec.NOERROR),
        (query("web.ns.svc.cluster.local", codec.AXFR), codec.REFUSED),
        (query("web.ns.svc.cluster.local")[:-1] + b"\x03", codec.REFUSED),
        (query("web.ns.svc.cluster.local")[:2] + b"\x28\0" + query("web")[4:], codec.NOTIMP),
        (query("web")[:4] + b"\0\2" + query("web")[6:], codec.FORMERR),
        (query("web")[:-3], codec.FORMERR),
        (query("web")[:12] + b"\xc0\x0c\0\1\0\1", codec.FORMERR),
        (query("web", size=1232) + b"\0", codec.NOERROR + codec.SERVFAIL),
        (query("example.com"), codec.SERVFAIL),
    ],
    ids=[
        "nobody",
        "no data",
        "transfer",
        "class",
        "opcode",
        "two questions",
        "cut off",
        "pointer",
        "more",
        "outside",
    ],
)
async def test_codes(message: bytes, code: int) -> None:
    """Each kind of question that is not answered has its own code; bytes behind a message do not matter."""
    _, answered, _ = head(await serving().answer(message, is_tcp=False))
    assert answered == code


@pytest.mark.anyio
@pytest.mark.parametrize("message", [b"", b"\0" * 11, query("web")[:2] + b"\x81\x80" + query("web")[4:]])
async def test_what_is_no_question_gets_no_answer(message: bytes) -> None:
    """A response above all: two servers that answered each other's would never end."""
    assert await serving().answer(message, is_tcp=False) == b""


@pytest.mark.anyio
async def test_negative_answers_have_the_authority() -> None:
    """NXDOMAIN and NODATA come with an SOA record, so that they may be remembered."""
    for name, kind in (("no.ns.svc.cluster.local", codec.A), ("web.ns.svc.cluster.local", codec.AAAA)):
        _, _, (_, answers, authority, _) = head(await serving().answer(query(name, kind), is_tcp=False))
        assert (answers, authority) == (0, 1)


@pytest.mark.anyio
async def test_the_spelling_of_the_question_is_kept() -> None:
    """In the question and, by a pointer to it, in the records (0x20)."""
    asked = query("wEb.nS.svc.CLUSTER.local")
    reply = await serving().answer(asked, is_tcp=False)
    assert reply[12 : len(asked)] == asked[12:]
    assert reply[len(asked) :] == b"\xc0\x0c" + struct.pack("!HHIH", codec.A, 1, 5, 4) + bytes([10, 0, 0, 5])


@pytest.mark.anyio
async def test_edns_is_answered_in_kind() -> None:
    """Who sends an OPT record gets one, with the DO bit as it came; an unknown version is refused."""
    plain = query("web.ns.svc.cluster.local", size=4096)
    _, code, (_, _, _, extra) = head(reply := await serving().answer(plain, is_tcp=False))
    assert (code, extra) == (codec.NOERROR, 1)
    assert reply[-11:] == OPT_HEAD + struct.pack("!HIH", 1232, 0, 0)
    signed = plain[:-6] + struct.pack("!IH", 0x8000, 0)
    assert (await serving().answer(signed, is_tcp=False))[-11:] == OPT_HEAD + struct.pack(
        "!HIH", 1232, 0x8000, 0
    )
    newer = plain[:-6] + struct.pack("!IH", 1 << 16, 0)
    reply = await serving().answer(newer, is_tcp=False)
    assert (reply[3] & 0xF, reply[-6]) == (0, 1), "BADVERS has its high bits in the OPT record"
    assert head(await serving().answer(plain + plain[-11:], is_tcp=False))[1] == codec.NOERROR


@pytest.mark.anyio
@pytest.mark.parametrize(("size", "fitting"), [(0, 30), (600, 36), (4096, 76)])
async def test_as_many_records_as_fit_are_answered(size: int, fitting: int) -> None:
    """Cut answers say so and have what fits, for resolvers that never ask by TCP; by TCP all is there."""
    endpoints = [{"addresses": [f"10.1.{i // 250}.{i % 250}"], "conditions": {}} for i in range(300)]
    view = Zone(VIEW._services, [{**VIEW._slices[0], "endpoints": endpoints}])
    asked = query("db.ns.svc.cluster.local", size=size)
    reply = await serving(view=view).answer(asked, is_tcp=False)
    flags, _, (_, answers, _, _) = head(reply)
    assert (bool(flags & codec.TRUNCATED), len(reply) <= max(512, min(size, 1232))) == (True, True)
    assert answers >= fitting - 3
    whole = await serving(view=view).answer(asked, is_tcp=True)
    assert head(whole)[2][1] == 300
    assert not head(whole)[0] & codec.TRUNCATED


@pytest.mark.anyio
async def test_external_names_inside_the_zone_are_followed() -> None:
    """To the end, and not for ever where they lead in circles."""
    inside = [
        service("one", type="ExternalName", externalName="two.ns.svc.cluster.local"),
        service("two", type="ExternalName", externalName="web.ns.svc.cluster.local"),
        service("round", type="ExternalName", externalName="round.ns.svc.cluster.local"),
    ]
    server = serving(view=Zone([*VIEW._services, *inside], []))
    _, _, (_, answers, _, _) = head(
        reply := await server.answer(query("one.ns.svc.cluster.local"), is_tcp=False)
    )
    assert answers == 3
    assert reply.endswith(bytes([10, 0, 0, 5]))
    assert head(await server.answer(query("round.ns.svc.cluster.local"), is_tcp=False))[1] == codec.NOERROR


def test_the_apex_has_its_authority() -> None:
    """SOA and NS of the zone, and the address of its server."""
    for kind in (codec.SOA, codec.NS):
        assert [r.type for r in records.answer(ZONE, kind, ZONE, VIEW).records] == [kind]
    assert addresses(records.answer(f"ns.dns.{ZONE}", codec.A, ZONE, VIEW)) == ["10.244.0.1"]


@pytest.mark.anyio
async def test_twenty_thousand_random_packets() -> None:
    """None is more than an answer or none; what is kept does not grow."""
    rng = random.Random(7)
    seeds = [query("web.ns.svc.cluster.local", size=1232), query("5.0.0.10.in-addr.arpa", codec.PTR)]
    server = serving()
    for _ in range(20_000):
        packet = bytearray(rng.choice(seeds) if rng.random() < 0.7 else rng.randbytes(rng.randrange(80)))
        for _ in range(rng.randrange(6)):
            if packet:
                packet[rng.randrange(len(packet))] = rng.randrange(256)
        reply = await server.answer(bytes(packet), is_tcp=False)
        assert len(reply) <= 1232
        assert not reply or reply[:2] == packet[:2]
    assert len(server._forwarder.cache) == 0
    assert server._forwarder._pending == {}


@given(
    st.lists(
        st.text("abcdefghijklmnopqrstuvwxyz-0123456789", min_size=1, max_size=20), min_size=1, max_size=6
    )
)
def test_names_survive_the_wire(labels: list[str]) -> None:
    """What is encoded is read back."""
    assert codec.parse(query(".".join(labels))).name == ".".join(labels)


class _SilentStream:
    """A connection over which nothing comes."""

    is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.is_closed = True

    def extra(self, _attribute: object, default: object) -> object:
        return default

    async def receive(self, _bytes_max: int) -> bytes:
        await anyio.sleep_forever()
        return b""


@pytest.mark.anyio
async def test_a_connection_that_asks_nothing_is_closed() -> None:
    """After ten seconds: others want its place."""
    time, stream = clock.ManualClock(), _SilentStream()
    as_stream: Any = stream
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serving(time)._connection, as_stream)
            await anyio.wait_all_tasks_blocked()
            await time.advance(9.9)
            assert not stream.is_closed
            await time.advance(0.2)
    assert stream.is_closed


class _Kept(Listeners):
    """What one name server leaves to the next."""

    def __init__(self) -> None:
        self.sockets: dict[str, socket.socket] = {}

    def inherit(self, name: str) -> socket.socket | None:
        kept = self.sockets.get(name)
        return kept.dup() if kept is not None else None

    def keep(self, name: str, listening: socket.socket) -> None:
        self.sockets[name] = listening.dup()


@pytest.mark.anyio
async def test_questions_wait_for_the_next_server() -> None:
    """What is asked while there is none is answered by the one that comes, at the same sockets."""
    kept, question = _Kept(), query("example.com")
    port = free_port()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            await tasks.start(serving().serve, "127.0.0.1", port, kept)
            tasks.cancel_scope.cancel()
        assert sorted(kept.sockets) == [f"SOCK_DGRAM:127.0.0.1:{port}", f"SOCK_STREAM:127.0.0.1:{port}"]
        async with await anyio.create_connected_udp_socket("127.0.0.1", port) as asking:
            await asking.send(question)
            stream = await anyio.connect_tcp("127.0.0.1", port)
            await stream.send(struct.pack("!H", len(question)) + question)
            async with stream, anyio.create_task_group() as tasks:
                dns = serving()
                await tasks.start(dns.serve, "127.0.0.1", port, kept)
                assert (await asking.receive())[:2] == question[:2]
                assert (await stream.receive())[2:4] == question[:2]
                tasks.cancel_scope.cancel()
    for each in kept.sockets.values():
        each.close()


async def test_one_asker_cannot_hold_all_connections() -> None:
    """Beyond its share it is hung up on at once, others are answered, and what it gives back it has again."""
    question = query("web.ns.svc.cluster.local")
    framed = struct.pack("!H", len(question)) + question

    async def connected(port: int, source: str) -> anyio.abc.SocketStream:
        return await anyio.connect_tcp("127.0.0.1", port, local_host=source)

    async def is_answered(stream: anyio.abc.SocketStream) -> bool:
        try:
            await stream.send(framed)
            return bool(await stream.receive())
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return False

    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    async with contextlib.AsyncExitStack() as opened, anyio.create_task_group() as tasks:
        await tasks.start(serving(clock.SystemClock()).serve, "127.0.0.1", port)
        streams = [await connected(port, "127.0.0.2") for _ in range(100)]
        for stream in streams:
            await opened.enter_async_context(stream)
        outcomes = [await is_answered(stream) for stream in streams]
        assert outcomes == [True] * 64 + [False] * 36
        other = await opened.enter_async_context(await connected(port, "127.0.0.3"))
        assert await is_answered(other)
        tasks.cancel_scope.cancel()
