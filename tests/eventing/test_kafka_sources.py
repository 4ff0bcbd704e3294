"""KafkaSources: what they read, where it goes, and that nothing of it is lost."""

from __future__ import annotations

import base64
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from tests.eventing.eventing_world import NAMESPACE, Scene, condition, not_true, play
from tests.eventing.kafka_played import PlayedKafka
from tests.eventing.sources_world import Recorder, play_sources

from ondol.api import objects, resources
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.base.clock import Clock
from ondol.contracts import eventing
from ondol.eventing.kafka.loading import Load
from ondol.eventing.kafka.port import Connection, Sasl, Tls
from ondol.eventing.kafka.records import Partition
from ondol.eventing.sources import wiring
from ondol.sdk.testing import rough

SINK = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "shown"}}
LETTERS = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "letters"}}
SPEC = {
    "bootstrapServers": ["kafka.example:9092"],
    "topics": ["orders"],
    "consumerGroup": "shop",
    "initialOffset": "earliest",
    "sink": SINK,
}
V1BETA1 = Resource(eventing.SOURCES, "v1beta1", "kafkasources", "KafkaSource")
ORDERS = Partition("orders", 0)
Story = Callable[[Scene, Recorder, PlayedKafka], Awaitable[None]]


def _play(story: Story, *, partitions: int = 1, seed: int = 0) -> None:
    clusters: list[PlayedKafka] = []

    def loader(clock: Clock) -> Load:
        clusters.append(PlayedKafka(clock))
        clusters[0].create("orders", partitions)
        return lambda: clusters[0]

    async def run(scene: Scene, recorder: Recorder) -> None:
        await scene.service("shown")
        await scene.service("letters")
        await story(scene, recorder, clusters[0])

    play_sources(run, seed=seed, kafka=loader)


async def _create(scene: Scene, **spec: Any) -> Object:
    await scene.create(eventing.KAFKA_SOURCE, "orders", {**SPEC, **spec})
    await scene.world.advance(5)
    return await scene.get(eventing.KAFKA_SOURCE, "orders")


async def _patch(scene: Scene, **spec: Any) -> None:
    await scene.client.patch(eventing.KAFKA_SOURCE, "orders", NAMESPACE, patch={"spec": spec})


async def _messages(scene: Scene, reason: str) -> list[str]:
    """What the Events of this reason say."""
    await scene.world.advance(5)
    events = await scene.client.list(resources.EVENT, NAMESPACE)
    return [event["message"] for event in events.items if event["reason"] == reason]


def test_records_become_events() -> None:
    """Each is sent, with what is overridden, and then committed; the status says what is read."""

    async def story(scene: Scene, recorder: Recorder, kafka: PlayedKafka) -> None:
        kafka.write("orders", b"first", key=b"k")
        source = await _create(scene, ceOverrides={"extensions": {"Shop": "a"}})
        assert not_true(source) == {}
        status = objects.status(source)
        assert (status["consumers"], status["claims"]) == (1, "orders: 0")
        [attributes] = status["ceAttributes"]
        assert attributes == {
            "type": "dev.knative.kafka.event",
            "source": "/apis/v1/namespaces/default/kafkasources/orders#orders",
        }
        [(_, event, target)] = recorder.events
        assert (event.id, event.data) == ("partition:0/offset:0", b"first")
        assert event.extensions == {"key": "k", "partitionkey": "k", "shop": "a"}
        assert (target.url, target.namespace) == ("http://shown.default.svc.cluster.local", NAMESPACE)
        assert kafka.committed["shop", ORDERS] == 1
        scale = await scene.client.get(eventing.KAFKA_SOURCE, "orders", NAMESPACE, subresource="scale")
        assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (1, 1)
        await scene.settles()

    _play(story)


def test_nothing_is_committed_before_somebody_has_it() -> None:
    """An event that nobody takes is sent again and again, keeps its place, and is told once."""

    async def story(scene: Scene, recorder: Recorder, kafka: PlayedKafka) -> None:
        for value in (b"first", b"second"):
            kafka.write("orders", value)
        recorder.answers = [0, 503, 400, *[500] * 200]
        await _create(scene, delivery={"retry": 5})
        await scene.world.advance(900)
        assert recorder.taken == []
        assert set(recorder.ids) == {"partition:0/offset:0"}
        assert kafka.committed["shop", ORDERS] == 0
        gaps = [b[0] - a[0] for a, b in zip(recorder.events[10:], recorder.events[11:], strict=False)]
        assert all(10 < gap < 70 for gap in gaps)
        [message] = await _messages(scene, "EventNotTaken")
        assert "waits and is sent again: http://shown.default.svc.cluster.local answered" in message
        recorder.answers.clear()
        await scene.world.advance(70)
        assert [event.data for event in recorder.taken] == [b"first", b"second"]
        assert kafka.committed["shop", ORDERS] == kafka.end(ORDERS)

    _play(story)


def test_a_new_sink_is_tried_at_once() -> None:
    """Whoever mends the source does not wait for the next attempt, and nothing is read anew."""

    async def story(scene: Scene, recorder: Recorder, kafka: PlayedKafka) -> None:
        kafka.write("orders", b"first")
        recorder.answers = [404] * 30
        await _create(scene)
        await scene.world.advance(400)
        recorder.answers.clear()
        await _patch(scene, sink={"ref": None, "uri": "http://elsewhere.example"})
        await scene.world.advance(2)
        assert [event.data for event in recorder.taken] == [b"first"]
        assert recorder.events[-1][2].url == "http://elsewhere.example"
        assert len(kafka.connections) == 1

    _play(story)


def test_what_is_given_up_is_a_dead_letter() -> None:
    """After the retries, or at once if it is refused; with why. Until the sink for it has it, it waits."""

    async def story(scene: Scene, recorder: Recorder, kafka: PlayedKafka) -> None:
        kafka.write("orders", b"first")
        recorder.answers = [500, 500, 503, 500, 500, 202, 400]
        delivery = {"retry": 1, "backoffPolicy": "linear", "backoffDelay": "PT1S", "deadLetterSink": LETTERS}
        source = await _create(scene, delivery=delivery)
        assert objects.status(source)["deadLetterSinkUri"] == "http://letters.default.svc.cluster.local"
        await scene.world.advance(10)
        kafka.write("orders", b"second")
        await scene.world.advance(10)
        places = [target.url.split(".")[0].removeprefix("http://") for _, _, target in recorder.events]
        assert places == ["shown", "shown", "letters", "shown", "letters", "shown", "shown", "letters"]
        first, second = recorder.taken
        assert (first.data, first.extensions) == (b"first", {})
        assert (second.data, second.extensions["knativeerrorcode"]) == (b"second", "400")
        assert second.extensions["knativeerrordest"] == "http://shown.default.svc.cluster.local"
        assert kafka.committed["shop", ORDERS] == kafka.end(ORDERS)
        await scene.client.delete(resources.SERVICE, "letters", NAMESPACE)
        source = await scene.settled(eventing.KAFKA_SOURCE, "orders")
        assert condition(source, "DeadLetterSinkResolved")[0] == condition(source, "Ready")[0] == "False"

    _play(story)


def test_where_a_new_group_begins() -> None:
    """At the end unless it says otherwise, which is committed at once: a crash then skips nothing."""

    async def story(scene: Scene, recorder: Recorder, kafka: PlayedKafka) -> None:
        kafka.write("orders", b"before")
        await _create(scene, initialOffset="latest")
        assert kafka.committed["shop", ORDERS] == 1
        kafka.write("orders", b"after")
        await scene.world.advance(5)
        assert [event.data for event in recorder.taken] == [b"after"]

    _play(story)


def test_order_within_a_partition() -> None:
    """Ordered: one at a time of each partition; unordered: many, and a slow one holds back the offset."""

    async def story(scene: Scene, recorder: Recorder, kafka: PlayedKafka) -> None:
        for number in range(6):
            kafka.write("orders", b"%d" % number, number=number % 2)
        recorder.answers = [503]
        await _create(scene)
        for partition in ("0", "1"):
            ids = [event.id for event in recorder.taken if event.id.startswith(f"partition:{partition}")]
            assert ids == sorted(ids)
            assert len(ids) == 3
        assert condition(await scene.get(eventing.KAFKA_SOURCE, "orders"), "Ready")[0] == "True"
        await _patch(scene, ordering="unordered")
        await scene.world.advance(3)
        before = kafka.committed["shop", ORDERS]
        recorder.answers = [503] * 3
        for number in range(5):
            kafka.write("orders", b"more %d" % number)
        await scene.world.advance(0.3)
        assert len(recorder.taken) == 8
        assert kafka.committed["shop", ORDERS] == before
        await scene.world.advance(10)
        assert len(recorder.taken) == 11
        assert kafka.committed["shop", ORDERS] == kafka.end(ORDERS)

    _play(story, partitions=2)


def test_many_records_wait_in_kafka() -> None:
    """A partition is paused while its sink does not keep up, and read on when it does."""

    async def story(scene: Scene, recorder: Recorder, kafka: PlayedKafka) -> None:
        for number in range(300):
            kafka.write("orders", b"%d" % number)
        recorder.answers = [503] * 30
        await _create(scene)
        await scene.world.advance(60)
        [member] = kafka.members["shop"]
        assert member.positions[ORDERS] < kafka.end(ORDERS) // 2
        recorder.answers.clear()
        await scene.world.advance(120)
        assert [event.data for event in recorder.taken] == [b"%d" % number for number in range(300)]

    _play(story)


def test_consumers_come_and_go() -> None:
    """By scale: each has its partitions, the rest of a group takes over, and 0 of them read nothing."""

    async def story(scene: Scene, recorder: Recorder, kafka: PlayedKafka) -> None:
        await _create(scene)
        scale = await scene.client.get(eventing.KAFKA_SOURCE, "orders", NAMESPACE, subresource="scale")
        for replicas, members in ((3, [1, 1, 1]), (1, [3]), (0, [])):
            patch = {"spec": {"replicas": replicas}}
            await scene.client.patch(
                eventing.KAFKA_SOURCE, "orders", NAMESPACE, patch=patch, subresource="scale"
            )
            for number in range(3):
                kafka.write("orders", b"x", number=number)
            await scene.world.advance(15)
            assert [len(member.positions) for member in kafka.members["shop"]] == members
            source = await scene.get(eventing.KAFKA_SOURCE, "orders")
            assert objects.status(source)["consumers"] == replicas
            assert not_true(source) == {}
        assert scale["kind"] == "Scale"
        assert len(recorder.taken) == 6
        await _patch(scene, consumers=1)
        await scene.world.advance(5)
        assert len({(event.id, event.data) for event in recorder.taken}) == 9
        await scene.client.delete(eventing.KAFKA_SOURCE, "orders", NAMESPACE)
        await scene.world.advance(5)
        assert kafka.members["shop"] == []

    _play(story, partitions=3)


def test_a_bug_of_a_reader_ends_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told of and tried again; the part, and all that it delivers, goes on."""

    async def story(scene: Scene, recorder: Recorder, kafka: PlayedKafka) -> None:
        consume, failures = kafka.consume, [RuntimeError("no such thing"), RuntimeError("nor this")]

        def failing(*args: Any) -> Any:
            if failures:
                raise failures.pop()
            return consume(*args)

        monkeypatch.setattr(kafka, "consume", failing)
        kafka.write("orders", b"first")
        await _create(scene)
        await scene.world.advance(30)
        assert failures == []
        assert len(recorder.taken) == 1

    _play(story)


def test_a_cluster_that_is_away() -> None:
    """The condition says so, whether at the beginning or later; then everything is read."""

    async def story(scene: Scene, recorder: Recorder, kafka: PlayedKafka) -> None:
        kafka.is_down = True
        source = await _create(scene)
        expected = ("False", "ConnectionFailed", "Kafka: kafka.example:9092: nobody is there")
        assert condition(source, "ConnectionEstablished") == expected
        assert condition(source, "InitialOffsetsCommitted")[0] == "Unknown"
        kafka.is_down = False
        await scene.world.advance(60)
        assert not_true(await scene.get(eventing.KAFKA_SOURCE, "orders")) == {}
        kafka.is_down = True
        kafka.write("orders", b"meanwhile")
        await scene.world.advance(30)
        source = await scene.get(eventing.KAFKA_SOURCE, "orders")
        assert condition(source, "ConnectionEstablished") == expected
        kafka.is_down = False
        await scene.world.advance(60)
        assert not_true(await scene.get(eventing.KAFKA_SOURCE, "orders")) == {}
        assert [event.data for event in recorder.taken] == [b"meanwhile"]

    _play(story)


def test_a_topic_that_is_not_there() -> None:
    """It is named; once it is made, it is read."""

    async def story(scene: Scene, _recorder: Recorder, kafka: PlayedKafka) -> None:
        source = await _create(scene, topics=["orders", "payments"])
        assert condition(source, "ConnectionEstablished")[2] == "Kafka: there is no topic payments"
        kafka.create("payments")
        await scene.world.advance(60)
        source = await scene.get(eventing.KAFKA_SOURCE, "orders")
        assert (objects.status(source)["claims"], not_true(source)) == ("orders: 0; payments: 0", {})

    _play(story)


def test_without_the_client_it_says_what_to_install() -> None:
    """It is an extra of the package: nothing of Kafka is loaded without it, and nobody wonders."""

    async def story(scene: Scene, _recorder: Recorder) -> None:
        await scene.service("shown")
        source = await _create(scene)
        status, reason, message = condition(source, "Deployed")
        assert (status, reason) == ("False", "KafkaClientMissing")
        assert "pip install 'ondol[kafka]'" in message
        assert condition(source, "Ready")[0] == "False"

    play_sources(story)


def test_how_a_cluster_is_connected_to() -> None:
    """With what the Secrets have; one that lacks something is named, and read again once it is mended."""

    async def story(scene: Scene, _recorder: Recorder, kafka: PlayedKafka) -> None:
        def key(name: str) -> Object:
            return {"secretKeyRef": {"name": "kafka", "key": name}}

        net = {
            "tls": {"enable": True, "caCert": key("ca"), "cert": key("cert"), "key": key("key")},
            "sasl": {"enable": True, "user": key("user"), "password": key("password"), "type": key("type")},
        }
        source = await _create(scene, net=net)
        assert condition(source, "ConnectionEstablished")[2] == "there is no Secret default/kafka"
        values = {"ca": "A", "cert": "C", "key": "K", "user": "me", "password": "p"}
        metadata = {"name": "kafka", "namespace": NAMESPACE}
        await scene.client.create(resources.SECRET, {"metadata": metadata, "stringData": values})
        await scene.world.advance(60)
        source = await scene.get(eventing.KAFKA_SOURCE, "orders")
        assert condition(source, "ConnectionEstablished")[2] == "Secret default/kafka has no key type"
        data = {"type": base64.b64encode(b"SCRAM-SHA-512").decode()}
        await scene.client.patch(resources.SECRET, "kafka", NAMESPACE, patch={"data": data})
        await scene.world.advance(60)
        tls, sasl = Tls("A", "C", "K"), Sasl("SCRAM-SHA-512", "me", "p")
        assert kafka.connections == [Connection(("kafka.example:9092",), tls, sasl)]
        assert "'p'" not in repr(kafka.connections)
        assert "'K'" not in repr(kafka.connections)

    _play(story)


@pytest.mark.parametrize("seed", range(4))
def test_every_record_is_taken_whatever_happens(seed: int) -> None:
    """Crashes, rebalances, a cluster and sinks that fail: at the end each record has its event, in order."""
    rng = random.Random(seed)
    kafkas: list[PlayedKafka] = []

    async def story(scene: Scene) -> None:
        kafka = PlayedKafka(scene.world.clock)
        kafkas.append(kafka)
        kafka.create("orders", 3)
        recorder = Recorder(scene.world.clock)

        async def start() -> Any:
            manager = scene.world.manager("ondol-events")
            wiring.add_adapters_to(manager, recorder, lambda: kafka)
            return await scene.world.start(manager)

        await scene.service("shown")
        ordering = rng.choice(["ordered", "unordered"])
        spec = {**SPEC, "consumers": 2, "ordering": ordering, "delivery": {"retry": 2}}
        await scene.create(eventing.KAFKA_SOURCE, "orders", spec)
        adapters = await start()
        written = []
        for _ in range(8):
            count = rng.randrange(8)
            written += [kafka.write("orders", b"x", number=rng.randrange(3)) for _ in range(count)]
            recorder.answers += [rng.choice([0, 202, 400, 500, 503]) for _ in range(rng.randrange(6))]
            await scene.world.advance(rng.uniform(0, 20))
            _require_taken(kafka, recorder)
            happening = rng.random()
            if happening < 0.25:
                scene.world.crash(adapters)
                adapters = await start()
            elif happening < 0.5:
                patch = {"spec": {"consumers": rng.randrange(4)}}
                await scene.client.patch(eventing.KAFKA_SOURCE, "orders", NAMESPACE, patch=patch)
            elif happening < 0.7:
                kafka.is_down = not kafka.is_down
        kafka.is_down = False
        recorder.answers.clear()
        scene.world.faults.heal()
        await scene.client.patch(eventing.KAFKA_SOURCE, "orders", NAMESPACE, patch={"spec": {"consumers": 2}})
        await scene.world.advance(600)
        assert {event.id for event in recorder.taken} == {
            _id(record.partition, record.offset) for record in written
        }
        for partition in kafka.logs:
            assert kafka.committed["shop", partition] == kafka.end(partition), seed
        if ordering == "ordered":
            _require_order(kafka, recorder)
        assert not_true(await scene.get(eventing.KAFKA_SOURCE, "orders")) == {}

    play(story, seed=seed, faults=rough(), plane=False)


def _id(partition: Partition, offset: int) -> str:
    return f"partition:{partition.number}/offset:{offset}"


def _require_taken(kafka: PlayedKafka, recorder: Recorder) -> None:
    """Whatever is committed was taken."""
    taken = {event.id for event in recorder.taken}
    for partition, log in kafka.logs.items():
        done = kafka.committed.get(("shop", partition), 0)
        assert {_id(partition, record.offset) for record in log if record.offset < done} <= taken


def _require_order(kafka: PlayedKafka, recorder: Recorder) -> None:
    """Each record was taken first before any later one of its partition."""
    for partition, log in kafka.logs.items():
        firsts = dict.fromkeys(event.id for event in recorder.taken)
        ids = [each for each in firsts if each.startswith(f"partition:{partition.number}/")]
        assert ids == [_id(partition, record.offset) for record in log]


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"topics": []}, "spec.topics", "missing field(s)"),
        ({"bootstrapServers": []}, "spec.bootstrapServers", "missing field(s)"),
        ({"bootstrapServers": ["kafka"]}, "spec.bootstrapServers[0]", "expected host:port"),
        ({"initialOffset": "first"}, "spec.initialOffset", "invalid value: first"),
        ({"ordering": "any"}, "spec.ordering", "invalid value: any"),
        ({"consumers": -1}, "spec.consumers", "must be from 0 to 32"),
        ({"delivery": {"retry": -1}}, "spec.delivery.retry", "invalid value: -1"),
        ({"sink": None}, "spec.sink.ref", "expected at least one"),
        ({"net": {"sasl": {"tokenProvider": {}}}}, "", ""),
        (
            {"net": {"sasl": {"tokenProvider": {"secretKeyRef": {"name": "a", "key": "b"}}}}},
            "spec.net.sasl.tokenProvider",
            "OAUTHBEARER is not supported",
        ),
    ],
)
def test_what_is_refused(spec: Mapping[str, Any], field: str, message: str) -> None:
    """Each mistake at its place."""

    async def story(scene: Scene) -> None:
        if not field:
            await scene.create(eventing.KAFKA_SOURCE, "orders", {**SPEC, **spec})
            return
        with pytest.raises(errors.Invalid) as raised:
            await scene.create(eventing.KAFKA_SOURCE, "orders", {**SPEC, **spec})
        causes = raised.value.causes
        assert any(c.field == field and message in c.message for c in causes), causes

    play(story, control=False, plane=False)


def test_defaults_and_the_older_version() -> None:
    """A group of its own, which no write changes or takes away."""

    async def story(scene: Scene) -> None:
        spec = {field: SPEC[field] for field in ("bootstrapServers", "topics", "sink")}
        await scene.create(V1BETA1, "orders", spec)
        source = await scene.get(eventing.KAFKA_SOURCE, "orders")
        group = objects.spec(source)["consumerGroup"]
        assert group.startswith("knative-kafka-source-")
        filled = {field: objects.spec(source)[field] for field in ("consumers", "initialOffset", "ordering")}
        assert filled == {"consumers": 1, "initialOffset": "latest", "ordering": "ordered"}
        document = {**source, "spec": spec}
        written = await scene.client.update(eventing.KAFKA_SOURCE, document)
        assert objects.spec(written)["consumerGroup"] == group
        with pytest.raises(errors.Invalid, match="Immutable fields changed"):
            await _patch(scene, consumerGroup="other")
        labels = {"kafkasources.sources.knative.dev/key-type": "uuid"}
        with pytest.raises(errors.Invalid, match="expected one of string, int, float, byte-array"):
            await scene.create(eventing.KAFKA_SOURCE, "other", SPEC, labels=labels)

    play(story, control=False, plane=False)
