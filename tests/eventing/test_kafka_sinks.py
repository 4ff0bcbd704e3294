"""KafkaSinks and the log of IntegrationSinks: what becomes of an event that is posted to them."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from tests.eventing.calling import call, header, roomy
from tests.eventing.eventing_world import NAMESPACE, Scene, condition, not_true, play
from tests.eventing.kafka_played import PlayedKafka

from ondol.api import objects, resources
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing import applications
from ondol.eventing.cloudevents import http, json_format
from ondol.eventing.cloudevents.event import new
from ondol.eventing.exchange import Answer
from ondol.eventing.kafka import loading
from ondol.eventing.kafka.port import Connection, Sasl, Tls
from ondol.eventing.kafka.records import Partition
from ondol.eventing.sinks.kafka_sink import KafkaSinks
from ondol.eventing.sinks.log_sink import LogSinks
from ondol.web.application import Asgi

EVENT = new(id="1", source="/s", type="t", data=b"{}", datacontenttype="application/json", partitionkey="k")
SPEC = {"topic": "orders", "bootstrapServers": ["kafka.example:9092"]}
ORDERS = Partition("orders", 0)


def _play(story: Callable[[Scene, Asgi, PlayedKafka], Awaitable[None]], *, is_installed: bool = True) -> None:
    async def run(scene: Scene) -> None:
        kafka, manager = PlayedKafka(scene.world.clock), scene.world.manager("ondol-events")
        sinks = KafkaSinks(manager, (lambda: kafka) if is_installed else loading.missing)
        manager.add(sinks.controller())
        manager.add_runnable(sinks.run, "kafka sinks")
        await scene.world.start(manager)
        await story(scene, applications.application(sinks.handle, roomy(scene.world.clock)), kafka)

    play(run, plane=False)


async def _post(application: Asgi, path: str = "/default/orders") -> Answer:
    return await call(application, "POST", path, *http.encode(EVENT))


async def _create(scene: Scene, **spec: Any) -> Any:
    await scene.create(eventing.KAFKA_SINK, "orders", {**SPEC, **spec})
    await scene.world.advance(5)
    return await scene.get(eventing.KAFKA_SINK, "orders")


def test_an_event_is_a_record() -> None:
    """In a topic that is made with so many partitions; in binary mode, by its partition key."""

    async def story(scene: Scene, application: Asgi, kafka: PlayedKafka) -> None:
        sink = await _create(scene, numPartitions=3, replicationFactor=2)
        assert not_true(sink) == {}
        host = "http://kafka-sink-ingress.knative-eventing.svc.cluster.local"
        assert objects.status(sink)["address"]["url"] == f"{host}/default/orders"
        assert (len(kafka.logs), kafka.copies) == (3, 2)
        assert (await _post(application)).status == 202
        [record] = kafka.logs[ORDERS]
        assert (record.key, record.value) == (b"k", b"{}")
        assert dict(record.headers)["ce_type"] == b"t"
        assert (await _post(application, "/default/other")).status == 404
        assert (await _post(application, "/default")).status == 400
        assert (await call(application, "GET", "/default/orders")).status == 405
        assert (await call(application, "POST", "/default/orders", [], b"no event")).status == 400
        assert len(kafka.connections) == 2

    _play(story)


def test_a_structured_record_over_a_connection_of_a_secret() -> None:
    """Keys of the Secret have Knative's names; the record is one document."""

    async def story(scene: Scene, application: Asgi, kafka: PlayedKafka) -> None:
        kafka.create("orders")
        values = {"protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-256", "user": "me", "password": "p"}
        values |= {"ca.crt": "A", "user.crt": "C", "user.key": "K"}
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        metadata = {"name": "kafka", "namespace": NAMESPACE}
        await scene.client.create(resources.SECRET, {"metadata": metadata, "data": data})
        await _create(scene, contentMode="structured", auth={"secret": {"ref": {"name": "kafka"}}})
        assert (await _post(application)).status == 202
        assert kafka.connections == [
            Connection(("kafka.example:9092",), Tls("A", "C", "K"), Sasl("SCRAM-SHA-256", "me", "p"))
        ]
        [record] = kafka.logs[ORDERS]
        assert json_format.decode(record.value or b"") == EVENT

    _play(story)


def test_while_kafka_takes_nothing() -> None:
    """The sender hears that it is to send again; the condition says why, and turns when it is over."""

    async def story(scene: Scene, application: Asgi, kafka: PlayedKafka) -> None:
        sink = await _create(scene)
        reason = ("False", "TopicNotPresentOrInvalid", "Kafka: there is no topic orders")
        assert condition(sink, "TopicReady") == reason
        kafka.create("orders")
        await scene.world.advance(40)
        assert not_true(await scene.get(eventing.KAFKA_SINK, "orders")) == {}
        kafka.is_down = True
        answer = await _post(application)
        assert (answer.status, header(answer, b"retry-after")) == (503, "5")
        kafka.is_down = False
        assert (await _post(application)).status == 202

    _play(story)


def test_a_sink_that_changes_while_it_connects_leaves_nothing_open() -> None:
    """The connection that is not the sink's any more is closed, and who posted sends again."""

    async def story(scene: Scene, application: Asgi, kafka: PlayedKafka) -> None:
        kafka.create("orders")
        await _create(scene)
        kafka.is_down = True
        assert (await _post(application)).status == 503
        kafka.is_down, kafka.slowness_s = False, 3.0
        statuses: list[int] = []

        async def post() -> None:
            statuses.append((await _post(application)).status)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(post)
            await scene.world.clock.sleep(1.0)
            patch = {"spec": {"contentMode": "structured"}}
            await scene.client.patch(eventing.KAFKA_SINK, "orders", NAMESPACE, patch=patch)
        await scene.world.advance(10)
        assert statuses == [503]
        assert kafka.producers == 1
        assert (await _post(application)).status == 202

    _play(story)


def test_without_the_client_it_says_what_to_install() -> None:
    """In the condition, and to who posts."""

    async def story(scene: Scene, application: Asgi, _kafka: PlayedKafka) -> None:
        sink = await _create(scene)
        assert condition(sink, "TopicReady")[1:] == ("KafkaClientMissing", loading.MISSING)
        answer = await _post(application)
        assert (answer.status, b"pip install" in answer.body) == (503, True)

    _play(story, is_installed=False)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"topic": ""}, "spec.topic"),
        ({"bootstrapServers": []}, "spec.bootstrapServers"),
        ({"contentMode": "xml"}, "spec.contentMode"),
        ({"numPartitions": 0}, "spec.numPartitions"),
        ({"replicationFactor": 0}, "spec.replicationFactor"),
        ({"auth": {"secret": {"ref": {}}}}, "spec.auth.secret.ref.name"),
    ],
)
def test_sinks_that_are_refused(spec: dict[str, Any], field: str) -> None:
    """Each mistake at its place."""

    async def story(scene: Scene) -> None:
        with pytest.raises(errors.Invalid) as raised:
            await scene.create(eventing.KAFKA_SINK, "orders", {**SPEC, **spec})
        assert field in {cause.field for cause in raised.value.causes}

    play(story, control=False, plane=False)


def test_an_event_is_a_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the level that is asked for, with what is to be shown; kinds of AWS are refused in words."""

    async def run(scene: Scene) -> None:
        manager = scene.world.manager("ondol-events")
        application = applications.application(LogSinks(manager).handle, roomy(scene.world.clock))
        await scene.world.start(manager)
        logged: list[tuple[str, dict[str, Any]]] = [
            ("plain", {}),
            ("loud", {"level": "ERROR", "marker": "here", "showHeaders": True, "showBody": False}),
            ("off", {"level": "OFF"}),
        ]
        for name, spec in logged:
            await scene.create(eventing.INTEGRATION_SINK, name, {"log": spec})
            await scene.world.advance(5)
            sink = await scene.get(eventing.INTEGRATION_SINK, name)
            assert not_true(sink) == {}
            host = "http://integration-sink.knative-eventing.svc.cluster.local"
            assert objects.status(sink)["address"]["url"] == f"{host}/default/{name}"
            assert (await _post(application, f"/default/{name}")).status == 204
        assert (await _post(application, "/default/other")).status == 404
        mistakes: list[dict[str, Any]] = [{"aws": {"sns": {}}}, {}, {"log": {"level": "LOUD"}}]
        for refused in mistakes:
            with pytest.raises(errors.Invalid, match=r"not supported|at least one sink type|expected one of"):
                await scene.create(eventing.INTEGRATION_SINK, "sink", refused)

    play(run, plane=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if "event_taken" in line]
    assert [f"sink=default/{name}" in line for name, line in zip(("plain", "loud"), lines, strict=True)] == [
        True,
        True,
    ]
    assert "[info" in lines[0]
    assert "data={}" in lines[0]
    assert "[error" in lines[1]
    assert "marker=here" in lines[1]
    assert "partitionkey" in lines[1]
    assert "data=" not in lines[1]
