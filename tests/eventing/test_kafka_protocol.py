"""The Kafka client against brokers that speak the real protocol, and against another client of it."""

from __future__ import annotations

import contextlib
import random
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSListener, TLSStream
from confluent_kafka import Consumer
from tests.certificates import certify
from tests.eventing import kafka_mock
from tests.eventing.kafka_mock import Brokers

from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.client import Client
from ondol.eventing.cloudevents.event import new
from ondol.eventing.exchange import Answer, Target
from ondol.eventing.kafka import client, loading, records
from ondol.eventing.kafka.client import Kafka
from ondol.eventing.kafka.port import Connection, Sasl, Tls
from ondol.eventing.sources import couriers
from ondol.eventing.sources.couriers import Courier
from ondol.eventing.sources.kafka_member import Member, Surroundings
from ondol.eventing.sources.outbox import Counts


@pytest.fixture(autouse=True)
def _short_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The played brokers wait for so long for a group that all have left."""
    monkeypatch.setattr(client, "_SESSION_MS", 1500)


NOBODY = Client(None)  # type: ignore[arg-type]  # no Secret is read here


class Taker:
    """A way out that ends here."""

    def __init__(self) -> None:
        self.data: list[bytes | None] = []
        self.status = 202

    async def send(self, event: Any, _target: Target) -> Answer:
        if self.status == 202:
            self.data.append(event.data)
        return Answer(self.status)


async def _here(host: str) -> str:
    return host


def _source(brokers: Brokers, **spec: Any) -> dict[str, Any]:
    read = {
        "bootstrapServers": [brokers.server],
        "topics": ["orders"],
        "consumerGroup": "shop",
        "initialOffset": "earliest",
    }
    return {"metadata": {"namespace": "a", "name": "b", "uid": "c"}, "spec": {**read, **spec}}


@contextlib.asynccontextmanager
async def _member(brokers: Brokers, taker: Taker, **spec: Any) -> AsyncIterator[Member]:
    """A member of the group that reads until the end of the block."""
    delivery = {"retry": 100, "backoffDelay": "PT0.05S", "backoffPolicy": "linear"}
    terms = couriers.terms(delivery, Target("http://a"), None)
    clock, rng = SystemClock(), random.Random(1)
    courier = Courier(taker, clock, rng, terms, counts=Counts(), tell=lambda _reason: None)
    around = Surroundings(NOBODY, clock, rng, Kafka(_here, SystemClock()))
    member = Member(around, courier, lambda: _source(brokers, **spec), lambda: None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(member.run)
        yield member
        tasks.cancel_scope.cancel()


async def _until(holds: Callable[[], bool], limit_s: float = 40.0) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        await anyio.sleep(0.02)


def _run(story: Callable[[Brokers], Awaitable[None]]) -> None:
    with kafka_mock.brokers() as brokers:
        brokers.create("orders", 2)
        anyio.run(story, brokers)


def test_what_is_read_and_committed() -> None:
    """Records of another client, with what they carry; the group goes on where they end."""

    async def story(brokers: Brokers) -> None:
        taker = Taker()
        async with _member(brokers, taker) as member:
            await _until(lambda: member.is_connected)
            assert (member.trouble, [tuple(each) for each in member.partitions]) == (
                "",
                [("orders", 0), ("orders", 1)],
            )
            key, value, headers = records.encode(
                new(id="1", source="/s", type="t", data=b"carried"), "binary"
            )
            brokers.write("orders", value, key=key, headers=headers)
            brokers.write("orders", b"plain", key=b"k", partition=1)
            await _until(lambda: len(taker.data) == 2)
        assert set(taker.data) == {b"carried", b"plain"}
        assert [brokers.committed("shop", "orders", each) for each in (0, 1)] == [1, 1]
        taker.status = 503
        brokers.write("orders", b"next")
        async with _member(brokers, taker) as member:
            await _until(lambda: member.is_connected)
            await anyio.sleep(0.3)
        assert brokers.committed("shop", "orders") == 1
        taker.status = 202
        async with _member(brokers, taker):
            await _until(lambda: len(taker.data) == 3)
        assert brokers.committed("shop", "orders") == 2

    _run(story)


def test_a_group_with_another_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a partition; when the other leaves, both are ours, and nothing of them was missed."""
    assign = RoundRobinPartitionAssignor.assign

    def later(*arguments: Any) -> Any:
        """The played brokers, unlike real ones, refuse a follower that asks after its leader has answered."""
        time.sleep(0.1)
        return assign(*arguments)

    monkeypatch.setattr(RoundRobinPartitionAssignor, "assign", later)

    async def story(brokers: Brokers) -> None:
        taker = Taker()
        async with _member(brokers, taker) as member:
            await _until(lambda: len(member.partitions) == 2)
            options = {"group.id": "shop", "partition.assignment.strategy": "roundrobin"}
            other = Consumer({"bootstrap.servers": brokers.server, "session.timeout.ms": 6000, **options})
            other.subscribe(["orders"])
            elsewhere: list[bytes | None] = []

            def read() -> bool:
                message = other.poll(0)
                if message is not None and message.error() is None:
                    elsewhere.append(message.value())
                return len(member.partitions) == len(other.assignment()) == 1

            await _until(read)
            for number in (0, 1):
                brokers.write("orders", b"both %d" % number, partition=number)
            await _until(lambda: bool(read() and taker.data and elsewhere))
            await anyio.to_thread.run_sync(other.close)
            await _until(lambda: len(member.partitions) == 2)
            for number in (0, 1):
                brokers.write("orders", b"one %d" % number, partition=number)
            await _until(lambda: len({*taker.data, *elsewhere}) == 4)
            assert {b"one 0", b"one 1"} <= set(taker.data)

    _run(story)


def test_brokers_that_go_away_and_fail() -> None:
    """What is written before and after is read; a commit that fails is done again."""

    async def story(brokers: Brokers) -> None:
        taker = Taker()
        async with _member(brokers, taker) as member:
            await _until(lambda: member.is_connected)
            brokers.fail(kafka_mock.OFFSET_COMMIT, 15, 15)  # the coordinator is not available
            brokers.write("orders", b"before")
            await _until(lambda: taker.data == [b"before"])
            brokers.go_down()
            await anyio.sleep(0.2)
            brokers.come_up()
            brokers.write("orders", b"after")
            await _until(lambda: b"after" in taker.data)
            await anyio.to_thread.run_sync(
                lambda: _wait_for(lambda: brokers.committed("shop", "orders") == 2)
            )

    _run(story)


def _wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_cannot_be_reached_is_told() -> None:
    """A server nobody listens at, an address that may not be reached, certificates that are none, no SASL."""

    async def forbidden(host: str) -> str:
        raise errors.Unavailable(f"{host} is an address that nothing may be sent to from here")

    async def story(brokers: Brokers) -> None:
        for dial, connection, reason in (
            (_here, Connection(("127.0.0.1:1",)), "127.0.0.1:1: .*[Cc]onnect"),
            (forbidden, Connection((brokers.server,)), "nothing may be sent to from here"),
            (_here, Connection((brokers.server,), Tls("no PEM")), "Kafka: "),
            (_here, Connection((brokers.server,), None, Sasl("PLAIN", "a", "b")), "Kafka: 127"),
        ):
            with pytest.raises(errors.Unavailable, match=reason):
                async with Kafka(dial, SystemClock()).produce(connection):
                    pass

    _run(story)


def test_encrypted_connections(tmp_path: Path) -> None:
    """Both sides show certificates, by the name that was called; others than the authority's are refused."""
    certificate = certify(tmp_path, "kafka.shop").decode()
    key = (tmp_path / "both.pem").read_text(encoding="ascii").removeprefix(certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tmp_path / "both.pem")
    names: list[Any] = []

    async def story(brokers: Brokers) -> None:
        async def relay(stream: TLSStream) -> None:
            shown = stream.extra(TLSAttribute.peer_certificate)  # noqa: S610 - anyio's word
            names.append((shown or {}).get("subject"))
            port = int(brokers.server.split(":")[1])
            async with (
                stream,
                await anyio.connect_tcp("127.0.0.1", port) as plain,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(_copy, stream, plain)
                await _copy(plain, stream)
                tasks.cancel_scope.cancel()

        async def dial(_host: str) -> str:
            return "127.0.0.1"

        inner = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = inner.extra(SocketAttribute.local_port)  # noqa: S610 - anyio's word
        async with TLSListener(inner, context) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, relay)
            cluster, good = Kafka(dial, SystemClock()), Tls(certificate, certificate, key)
            connecting = anyio.CancelScope()
            tasks.start_soon(_produce, cluster, Connection((f"kafka.shop:{port}",), good), connecting)
            await _until(lambda: bool(names))
            connecting.cancel()  # the played brokers name addresses of theirs, where nothing is encrypted
            assert names == [((("commonName", "kafka.shop"),),)]
            for host, tls in (("other.shop", good), ("kafka.shop", Tls("", certificate, key))):
                with pytest.raises(errors.Unavailable, match=f"{host}:{port}: .*certificate"):
                    async with cluster.produce(Connection((f"{host}:{port}",), tls)):
                        pass
            tasks.cancel_scope.cancel()

    _run(story)


async def _produce(cluster: Kafka, connection: Connection, scope: anyio.CancelScope) -> None:
    with scope:
        async with cluster.produce(connection):
            await anyio.sleep_forever()


async def _copy(source: ByteStream, target: ByteStream) -> None:
    with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        while True:
            await target.send(await source.receive())


def test_what_is_written() -> None:
    """An event as a record, as another client reads it."""

    async def story(brokers: Brokers) -> None:
        event = new(id="1", source="/s", type="t", data=b"{}", datacontenttype="text/plain", partitionkey="k")
        async with Kafka(_here, SystemClock()).produce(Connection((brokers.server,))) as producer:
            await producer.check("orders")
            await producer.send("orders", *records.encode(event, "binary"))
        reader = Consumer(
            {"bootstrap.servers": brokers.server, "group.id": "g", "auto.offset.reset": "earliest"}
        )
        reader.subscribe(["orders"])
        message = reader.poll(10)
        reader.close()
        assert message is not None
        assert (message.key(), message.value()) == (b"k", b"{}")
        assert dict(message.headers()) == {
            "ce_specversion": b"1.0",
            "ce_id": b"1",
            "ce_source": b"/s",
            "ce_type": b"t",
            "ce_partitionkey": b"k",
            "content-type": b"text/plain",
        }

    _run(story)


def test_the_client_is_loaded_when_it_is_needed() -> None:
    """Nothing that the processes begin with imports it; where it is not installed that is said."""
    program = """
import sys
import ondol.eventing.beside, ondol.eventing.wiring, ondol.eventing.plane.wiring
from ondol.eventing.kafka import loading
assert "aiokafka" not in sys.modules and "ondol.eventing.kafka.client" not in sys.modules
sys.modules["aiokafka"] = None
try:
    loading.Loader(None, None)()
except loading.Missing as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == loading.MISSING
