"""PingSources: when they send, what they send, and what becomes of what cannot be sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.eventing.eventing_world import NAMESPACE, Scene, condition, not_true, play
from tests.eventing.sources_world import Recorder, play_sources

from ondol.api import objects, resources
from ondol.api.objects import Resource
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing.sources import schedules

SINK = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "shown"}}
V1BETA2 = Resource(eventing.SOURCES, "v1beta2", "pingsources", "PingSource")


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("spec", "after", "following"),
    [
        ({}, "2026-01-01T00:00:30+00:00", "2026-01-01T00:01:00+00:00"),
        ({"schedule": "*/2 * * * *"}, "2026-01-01T00:00:00+00:00", "2026-01-01T00:02:00+00:00"),
        ({"schedule": "*/10 * * * * *"}, "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:10+00:00"),
        ({"schedule": "*/10 * * * * *"}, "2026-01-01T00:00:59+00:00", "2026-01-01T00:01:00+00:00"),
        ({"schedule": "30 5 * * * *"}, "2026-01-01T00:05:30+00:00", "2026-01-01T01:05:30+00:00"),
        (
            {"schedule": "0 9 * * *", "timezone": "Asia/Seoul"},
            "2026-01-01T00:00:00+09:00",
            "2026-01-01T09:00:00+09:00",
        ),
        (
            {"schedule": "CRON_TZ=Asia/Seoul 0 9 * * *"},
            "2026-01-01T00:00:00+09:00",
            "2026-01-01T09:00:00+09:00",
        ),
        ({"schedule": "@daily"}, "2026-01-01T10:00:00+00:00", "2026-01-02T00:00:00+00:00"),
        # The hour from 2 to 3 that New York leaves out: that time comes the next day.
        (
            {"schedule": "15 30 2 * * *", "timezone": "America/New_York"},
            "2026-03-08T01:00:00-05:00",
            "2026-03-09T02:30:15-04:00",
        ),
    ],
)
def test_when_a_schedule_comes(spec: dict[str, Any], after: str, following: str) -> None:
    """As cron has it, with seconds in front where there are six fields, in the zone that is asked for."""
    assert schedules.of_spec(spec).following(_at(after)) == _at(following)


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"schedule": "@every 5s"}, "spec.schedule", "unsupported descriptor @every"),
        ({"schedule": "* * *"}, "spec.schedule", "expected 5 to 6 fields, found 3: [* * *]"),
        ({"schedule": "61 * * * *"}, "spec.schedule", "end of range (61) above maximum (59): 61"),
        ({"timezone": "Mars/Olympus"}, "spec.timezone", "provided bad location Mars/Olympus"),
        ({"schedule": "TZ=UTC * * * * *", "timezone": "UTC"}, "spec.schedule", "leave one of them out"),
        ({"data": "a", "dataBase64": "YQ=="}, "spec.data", "expected exactly one, got both"),
        ({"dataBase64": "%"}, "spec.dataBase64", "invalid value"),
        ({"data": "{", "contentType": "application/json"}, "spec.data", "invalid value"),
        ({"data": "[]", "contentType": "application/json"}, "spec.data", "it is no JSON object"),
        ({"dataBase64": "e30", "contentType": "application/json"}, "spec.dataBase64", "invalid value"),
        (
            {"ceOverrides": {"extensions": {"my-ext": "a"}}},
            "spec.ceOverrides.extensions[my-ext]",
            "alphanumeric",
        ),
        ({"ceOverrides": {"extensions": {"type": "a"}}}, "spec.ceOverrides.extensions[type]", "no extension"),
        ({"sink": {}}, "spec.sink.ref", "expected at least one, got none"),
        ({"sink": {"uri": "/relative"}}, "spec.sink.uri", "Relative URI is not allowed"),
    ],
)
def test_what_is_refused(spec: dict[str, Any], field: str, message: str) -> None:
    """Each mistake at its place, in Knative's words."""

    async def story(scene: Scene) -> None:
        with pytest.raises(errors.Invalid) as raised:
            await scene.create(eventing.PING_SOURCE, "ping", {"sink": SINK, **spec})
        assert any(c.field == field and message in c.message for c in raised.value.causes), (
            raised.value.causes
        )

    play(story, control=False, plane=False)


def test_data_may_be_limited() -> None:
    """By config-ping-defaults."""

    async def story(scene: Scene) -> None:
        await scene.world.run_until_stable()
        name, namespace = eventing.CONFIG_PING_DEFAULTS, eventing.NAMESPACE
        patch = {"data": {"data-max-size": "3"}}
        await scene.client.patch(resources.CONFIG_MAP, name, namespace, patch=patch)
        with pytest.raises(errors.Invalid, match="the data length of 4 bytes exceeds limit set at 3"):
            await scene.create(eventing.PING_SOURCE, "ping", {"sink": SINK, "data": "four"})

    play(story, plane=False)


def test_a_ping_source_sends_by_its_schedule() -> None:
    """Each event has an id of its own, the data, and what is overridden."""

    async def story(scene: Scene, recorder: Recorder) -> None:
        await scene.service("shown")
        spec = {
            "schedule": "*/20 * * * * *",
            "sink": SINK,
            "data": '{"a": 1}',
            "contentType": "application/json",
            "ceOverrides": {"extensions": {"Tenant": "a"}},
        }
        await scene.create(eventing.PING_SOURCE, "ping", spec)
        source = await scene.get(eventing.PING_SOURCE, "ping")
        await scene.world.advance(125)
        source = await scene.get(eventing.PING_SOURCE, "ping")
        assert not_true(source) == {}
        status = objects.status(source)
        assert status["sinkUri"] == "http://shown.default.svc.cluster.local"
        path = "/apis/v1/namespaces/default/pingsources/ping"
        assert status["ceAttributes"] == [{"type": "dev.knative.sources.ping", "source": path}]
        assert {round(at) % 20 for at, _, _ in recorder.events} == {0}
        assert len(recorder.events) in {6, 7}
        assert len(set(recorder.ids)) == len(recorder.events)
        at, event, target = recorder.events[0]
        assert event.data == b'{"a": 1}'
        assert (event.source, event.type) == (path, "dev.knative.sources.ping")
        assert event.datacontenttype == "application/json"
        assert event.extensions == {"tenant": "a"}
        assert event.time is not None
        assert datetime.fromisoformat(event.time) == datetime.fromtimestamp(at, UTC)
        assert (target.url, target.namespace) == ("http://shown.default.svc.cluster.local", "default")

    play_sources(story)


def test_a_ping_source_follows_its_spec_and_ends_with_it() -> None:
    """A new schedule, a new sink, a sink that goes, and the source that goes."""

    async def story(scene: Scene, recorder: Recorder) -> None:
        await scene.service("shown")
        await scene.create(eventing.PING_SOURCE, "ping", {"sink": SINK, "dataBase64": "AAE="})
        await scene.world.advance(130)
        assert len(recorder.events) == 2
        assert recorder.events[0][1].data == b"\x00\x01"
        assert recorder.events[0][1].datacontenttype is None
        patch = {
            "spec": {"schedule": "0 0 * * * *", "sink": {"ref": None, "uri": "http://elsewhere.example"}}
        }
        await scene.client.patch(eventing.PING_SOURCE, "ping", NAMESPACE, patch=patch)
        await scene.world.advance(3600)
        assert len(recorder.events) == 3
        assert recorder.events[2][2].url == "http://elsewhere.example"
        await scene.client.delete(eventing.PING_SOURCE, "ping", NAMESPACE)
        await scene.world.advance(7200)
        assert len(recorder.events) == 3

    play_sources(story)


def test_a_ping_source_without_its_sink_waits_for_it() -> None:
    """It says so, and sends nothing; once the sink is there it sends."""

    async def story(scene: Scene, recorder: Recorder) -> None:
        await scene.create(eventing.PING_SOURCE, "ping", {"sink": SINK})
        await scene.world.advance(130)
        source = await scene.get(eventing.PING_SOURCE, "ping")
        assert condition(source, "SinkProvided")[:2] == ("False", "NotFound")
        assert condition(source, "Ready")[0] == "False"
        assert recorder.events == []
        await scene.service("shown")
        await scene.world.advance(130)
        assert not_true(await scene.get(eventing.PING_SOURCE, "ping")) == {}
        assert len(recorder.events) == 2

    play_sources(story)


def test_an_event_is_sent_again_until_it_is_taken() -> None:
    """After no answer and after answers that say later, with the same id; what is refused is not."""

    async def story(scene: Scene, recorder: Recorder) -> None:
        await scene.service("shown")
        recorder.answers = [0, 503, 429, 404, 202]
        await scene.create(eventing.PING_SOURCE, "ping", {"sink": SINK})
        await scene.world.advance(70)
        assert len(recorder.events) == 5
        assert len(set(recorder.ids)) == 1
        recorder.answers = [400]
        await scene.world.advance(60)
        assert len(recorder.events) == 6
        await scene.world.run_until_stable()
        events = await scene.client.list(resources.EVENT, NAMESPACE)
        messages = {event["reason"]: event["message"] for event in events.items}
        assert messages["EventNotSent"] == "http://shown.default.svc.cluster.local answered 400"

    play_sources(story)


def test_an_event_is_given_up_after_a_while() -> None:
    """Nobody answers for five minutes: it is told, and the next one goes out at its time."""

    async def story(scene: Scene, recorder: Recorder) -> None:
        await scene.service("shown")
        recorder.answers = [0] * 11
        await scene.create(eventing.PING_SOURCE, "ping", {"sink": SINK, "schedule": "0 */10 * * * *"})
        await scene.world.advance(1300)
        assert len(recorder.events) == 12
        assert len(set(recorder.ids)) == 2
        assert 300 < recorder.events[10][0] - recorder.events[0][0] < 345
        events = await scene.client.list(resources.EVENT, NAMESPACE)
        [message] = [event["message"] for event in events.items if event["reason"] == "EventNotSent"]
        assert "did not answer: nobody is there" in message

    play_sources(story)


def test_the_older_version_is_served() -> None:
    """v1beta2 is of the same shape, and warns."""

    async def story(scene: Scene) -> None:
        await scene.create(V1BETA2, "ping", {"sink": SINK})
        source = await scene.get(eventing.PING_SOURCE, "ping")
        assert source["apiVersion"] == "sources.knative.dev/v1"
        assert objects.spec(source)["schedule"] == "* * * * *"
        assert objects.spec(source)["sink"]["ref"]["namespace"] == NAMESPACE

    play(story, control=False, plane=False)


def test_a_timer_sends_so_often() -> None:
    """An IntegrationSource with a timer; the kinds of AWS are refused in words."""

    async def story(scene: Scene, recorder: Recorder) -> None:
        await scene.service("shown")
        timer = {"period": 2000, "message": "hello", "repeatCount": 3}
        await scene.create(eventing.INTEGRATION_SOURCE, "timer", {"sink": SINK, "timer": timer})
        await scene.world.advance(60)
        assert not_true(await scene.get(eventing.INTEGRATION_SOURCE, "timer")) == {}
        assert len(recorder.events) == 3
        gaps = {round(b[0] - a[0], 2) for a, b in zip(recorder.events, recorder.events[1:], strict=False)}
        assert gaps == {2.0}
        event = recorder.events[0][1]
        assert (event.type, event.data) == ("dev.knative.eventing.timer", b"hello")
        assert event.datacontenttype == "text/plain"
        refused: list[dict[str, Any]] = [{"aws": {"s3": {}}}, {}, {"timer": {"message": "a", "period": 0}}]
        for spec in refused:
            with pytest.raises(errors.Invalid):
                await scene.create(eventing.INTEGRATION_SOURCE, "other", {"sink": SINK, **spec})

    play_sources(story)
