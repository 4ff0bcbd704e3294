"""The data plane from end to end: a world's objects, a real journal, real HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.eventing.plane_rig import (
    INGRESS,
    NAMESPACE,
    Received,
    Rig,
    Sink,
    connected,
    eventually,
    rig,
    sinking,
    until,
)

from ondol.api import conditions, resources
from ondol.base import errors
from ondol.contracts import eventing

ORDERED = {"eventing.ondol.dev/delivery-order": "ordered"}


@pytest.fixture
async def rigged(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(tmp_path) as running:
        yield running


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with sinking() as running:
        yield running


async def test_an_event_reaches_the_triggers_whose_filter_it_passes(rigged: Rig, sink: Sink) -> None:
    """What is accepted is delivered, in binary mode, without the broker's own attribute."""
    await rigged.broker()
    await rigged.trigger("all", sink.url("/all"))
    await rigged.trigger("some", sink.url("/some"), {"filter": {"attributes": {"type": "wanted"}}})
    await rigged.trigger("prefixed", sink.url("/prefixed"), {"filters": [{"prefix": {"type": "wan"}}]})
    assert (await rigged.send("1")).status == 202
    assert (await rigged.send("2", type="wanted")).status == 202
    await until(lambda: len(sink.received) == 4)
    assert sorted(sink.ids("/all")) == ["1", "2"]
    assert sink.ids("/some") == sink.ids("/prefixed") == ["2"]
    first = sink.received[0]
    assert first.body == b"{}"
    assert first.headers["ce-source"] == "/test"
    assert first.headers["prefer"] == "reply"
    assert first.headers["kn-namespace"] == NAMESPACE
    assert "ce-knativebrokerttl" not in first.headers


async def test_what_the_ingress_refuses(rigged: Rig) -> None:
    """Each mistake has its status, and OPTIONS names what is allowed."""
    await rigged.broker()
    whole = {"ce-id": "1", "ce-source": "/s", "ce-type": "t", "ce-specversion": "1.0"}
    for status, path, headers, body in (
        (404, "/", whole, b""),
        (400, "/one", whole, b""),
        (404, "/default/none", whole, b""),
        (400, "/default/b", {**whole, "ce-specversion": "0.9"}, b""),
        (400, "/default/b", {"ce-id": "1"}, b"{}"),
        (400, "/default/b", {"content-type": "application/cloudevents+json"}, b"{"),
        (415, "/default/b", {"content-type": "application/cloudevents+avro"}, b"x"),
        (413, "/default/b", whole, b"x" * ((1 << 20) + 1)),
        (400, "/default/b", {**whole, "ce-knativebrokerttl": "1"}, b""),
        (202, "/default/b/", whole, b""),
    ):
        answer = await rigged.post(body, path=path, host=INGRESS, headers=headers)
        assert answer.status == status, (path, headers, answer)
    put = await rigged.post(b"", path="/default/b", host=INGRESS, headers=whole, method="PUT")
    assert (put.status, dict(put.headers)[b"allow"]) == (405, b"POST, OPTIONS")
    options = await rigged.post(b"", path="/default/b", host=INGRESS, headers={}, method="OPTIONS")
    assert (options.status, dict(options.headers)[b"allow"]) == (200, b"POST, OPTIONS")
    assert (await rigged.post(b"", path="/default/b", host="elsewhere.example", headers=whole)).status == 404


async def test_structured_events_and_batches_are_taken(rigged: Rig, sink: Sink) -> None:
    """A document is one event, a batch as many as it has; all are delivered one by one."""
    await rigged.broker()
    await rigged.trigger("all", sink.url())
    event = {"specversion": "1.0", "source": "/s", "type": "t", "data": {"a": 1}}
    for content_type, document in (
        ("application/cloudevents+json", {**event, "id": "one"}),
        ("application/cloudevents-batch+json", [{**event, "id": "two"}, {**event, "id": "three"}]),
    ):
        body = json.dumps(document).encode()
        answer = await rigged.post(
            body, path="/default/b", host=INGRESS, headers={"content-type": content_type}
        )
        assert answer.status == 202
    await until(lambda: len(sink.received) == 3)
    assert sorted(sink.ids()) == ["one", "three", "two"]
    assert json.loads(sink.received[0].body) == {"a": 1}


async def test_an_event_that_comes_twice_is_kept_once(rigged: Rig, sink: Sink) -> None:
    """The same event is kept once, whether it comes alone or in a crowd."""
    await rigged.broker()
    await rigged.trigger("all", sink.url())
    event = {"specversion": "1.0", "source": "/s", "type": "t"}
    batch = json.dumps([{**event, "id": str(number % 20)} for number in range(60)]).encode()
    headers = {"content-type": "application/cloudevents-batch+json"}
    for _ in range(2):
        assert (await rigged.post(batch, path="/default/b", host=INGRESS, headers=headers)).status == 202
    await rigged.send("last")
    await until(lambda: "last" in sink.ids())
    assert sorted(sink.ids()) == sorted([*map(str, range(20)), "last"])


async def test_a_reply_may_have_the_id_and_source_of_what_it_answers(rigged: Rig, sink: Sink) -> None:
    """Functions that change nothing but the type answer with an event of their own, sent twice or not."""

    def respond(received: Received) -> tuple[int, dict[str, str], bytes]:
        if received.path != "/function":
            return 200, {}, b""
        kept = {n: v for n, v in received.headers.items() if n.startswith("ce-")}
        return 200, {**kept, "ce-type": "reply"}, received.body

    sink.respond = respond
    await rigged.broker()
    await rigged.trigger("function", sink.url("/function"), {"filter": {"attributes": {"type": "ask"}}})
    await rigged.trigger("replies", sink.url("/replies"), {"filter": {"attributes": {"type": "reply"}}})
    for _ in range(2):
        assert (await rigged.send("1", type="ask")).status == 202
    await rigged.send("2", type="ask")
    await until(lambda: "2" in sink.ids("/replies"))
    assert sink.ids("/function") == sink.ids("/replies") == ["1", "2"]


async def test_an_event_that_is_sent_again_may_be_traced_anew(rigged: Rig, sink: Sink) -> None:
    """What a sender changes from one attempt to the next makes no other event of it."""
    await rigged.broker()
    await rigged.trigger("all", sink.url())
    whole = {"ce-id": "1", "ce-source": "/s", "ce-type": "t", "ce-specversion": "1.0"}
    for span in "12":
        traced = {**whole, "ce-traceparent": f"00-{'a' * 32}-{span * 16}-01"}
        assert (await rigged.post(b"", path="/default/b", host=INGRESS, headers=traced)).status == 202
    await rigged.send("last")
    await until(lambda: "last" in sink.ids())
    assert sorted(sink.ids()) == ["1", "last"]


async def test_retries_end_at_the_dead_letter_sink(rigged: Rig, sink: Sink) -> None:
    """What is refused again and again goes there, with the reason; what is refused for good goes at once."""
    answers = {"/failing": 503, "/refusing": 400}
    sink.respond = lambda received: (answers.get(received.path, 200), {}, b"no")
    await rigged.broker()
    for name in ("failing", "refusing"):
        delivery = {
            "retry": 2,
            "backoffPolicy": "exponential",
            "backoffDelay": "PT0.01S",
            "deadLetterSink": {"uri": sink.url("/dead")},
        }
        await rigged.trigger(name, sink.url(f"/{name}"), {"delivery": delivery})
    await rigged.send("1")
    await until(lambda: len(sink.ids("/dead")) == 2)
    assert (len(sink.ids("/failing")), len(sink.ids("/refusing"))) == (3, 1)
    letters = [each for each in sink.received if each.path == "/dead"]
    assert {each.headers["ce-knativeerrorcode"] for each in letters} == {"503", "400"}
    assert {each.headers["ce-knativeerrordest"] for each in letters} == {
        sink.url("/failing"),
        sink.url("/refusing"),
    }
    assert letters[0].headers["ce-knativeerrordata"] == "bm8="


async def test_a_reply_goes_back_to_the_broker_until_its_rounds_end(rigged: Rig, sink: Sink) -> None:
    """An event in the answer is another event of the broker; one that answers itself ends."""
    await rigged.broker()
    await rigged.trigger("asking", sink.url("/asking"), {"filter": {"attributes": {"type": "question"}}})
    await rigged.trigger("all", sink.url("/all"), {"filter": {"attributes": {"type": "answer"}}})
    rounds = 0

    def respond(received: Received) -> tuple[int, dict[str, str], bytes]:
        nonlocal rounds
        rounds += 1
        headers = {"ce-specversion": "1.0", "ce-id": f"r{rounds}", "ce-source": "/replies"}
        if received.path == "/all":
            return 202, {**headers, "ce-type": "ignored"}, b"x"
        kind = "answer" if received.headers["ce-id"] == "q" else "question"
        return 200, {**headers, "ce-type": kind}, b"{}"

    sink.respond = respond
    await rigged.send("q", type="question")
    await until(lambda: sink.ids("/all") == ["r1"])
    await rigged.send("loop", type="question", knativebrokerttl="4")
    await until(lambda: len(sink.ids("/asking")) >= 4)
    await rigged.send("q2", type="end")
    assert len(sink.ids("/asking")) <= 5


async def test_a_body_that_is_no_event_is_no_success_for_a_trigger(rigged: Rig, sink: Sink) -> None:
    """As in Knative: an answer has an event or nothing, else it counts as 502."""
    sink.respond = lambda received: (200, {}, b"" if received.path == "/dead" else b"thanks")
    await rigged.broker(
        retry=1, backoffDelay="PT0.01S", backoffPolicy="linear", deadLetterSink={"uri": sink.url("/dead")}
    )
    await rigged.trigger("talking", sink.url("/talking"))
    await rigged.send("1")
    await until(lambda: len(sink.ids("/dead")) == 1)
    assert len(sink.ids("/talking")) == 2
    assert sink.received[-1].headers["ce-knativeerrorcode"] == "502"


async def test_a_reply_that_cannot_be_kept_is_a_failed_attempt(rigged: Rig, sink: Sink) -> None:
    """Else its event would be delivered for ever, and those of its key would wait."""

    def respond(received: Received) -> tuple[int, dict[str, str], bytes]:
        document = {"specversion": "1.0", "id": "r", "source": "/r", "type": "r", "ext": "x" * 100_000}
        kind = "application/cloudevents+json"
        return 200, {"content-type": kind}, b"" if received.path == "/dead" else json.dumps(document).encode()

    sink.respond = respond
    await rigged.broker(retry=1, deadLetterSink={"uri": sink.url("/dead")})
    await rigged.trigger("wordy", sink.url("/wordy"))
    await rigged.send("1")
    await until(lambda: len(sink.ids("/dead")) == 1)
    assert len(sink.ids("/wordy")) == 2
    assert sink.received[-1].headers["ce-knativeerrorcode"] == "502"


async def test_a_channel_delivers_and_replies_to_where_its_subscription_says(rigged: Rig, sink: Sink) -> None:
    """A channel is called by its host; what its subscriber answers goes on to the reply."""

    def respond(received: Received) -> tuple[int, dict[str, str], bytes]:
        if received.path == "/reply":
            return 200, {}, b""
        headers = {"ce-specversion": "1.0", "ce-id": "r", "ce-source": "/r", "ce-type": "reply"}
        return 200, headers, b"{}"

    sink.respond = respond
    await rigged.create(eventing.IN_MEMORY_CHANNEL, "c", {})
    await rigged.ready(eventing.IN_MEMORY_CHANNEL, "c")
    channel = {"apiVersion": "messaging.knative.dev/v1", "kind": "InMemoryChannel", "name": "c"}
    spec = {"channel": channel, "subscriber": {"uri": sink.url("/sub")}, "reply": {"uri": sink.url("/reply")}}
    await rigged.create(eventing.SUBSCRIPTION, "s", spec)
    await rigged.ready(eventing.SUBSCRIPTION, "s")
    host = f"c-kn-channel.{NAMESPACE}.svc.cluster.local"
    assert (await rigged.send("1", path="/", host=host)).status == 202
    await until(lambda: sink.ids("/reply") == ["r"])
    assert sink.ids("/sub") == ["1"]
    assert (await rigged.send("1", path="/more", host=host)).status == 400
    other = f"none-kn-channel.{NAMESPACE}.svc.cluster.local"
    assert (await rigged.send("1", path="/", host=other)).status == 404


async def test_events_wait_for_a_subscriber_that_is_not_resolved(rigged: Rig, sink: Sink) -> None:
    """A Trigger whose subscriber is missing loses nothing: what came meanwhile is delivered later."""
    await rigged.broker()
    await rigged.trigger("waiting", sink.url())
    trigger = await rigged.client.get(eventing.TRIGGER, "waiting", NAMESPACE)
    missing = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "missing"}, "uri": None}
    await rigged.client.patch(eventing.TRIGGER, "waiting", NAMESPACE, patch={"spec": {"subscriber": missing}})

    async def is_unresolved() -> bool:
        live = await rigged.client.get(eventing.TRIGGER, "waiting", NAMESPACE)
        return "subscriberUri" not in live["status"]

    await eventually(is_unresolved)
    await rigged.send("1")
    assert sink.received == []
    back = {"ref": None, "uri": trigger["spec"]["subscriber"]["uri"]}
    await rigged.client.patch(eventing.TRIGGER, "waiting", NAMESPACE, patch={"spec": {"subscriber": back}})
    await until(lambda: sink.ids() == ["1"])


async def test_an_ordered_trigger_keeps_the_order_of_each_key(rigged: Rig, sink: Sink) -> None:
    """A later event of a key waits for the earlier one's retries; those of other keys go on."""
    failures = {"a0": 2, "a3": 1}

    def respond(received: Received) -> tuple[int, dict[str, str], bytes]:
        if failures.get(received.id):
            failures[received.id] -= 1
            return 503, {}, b""
        return 200, {}, b""

    sink.respond = respond
    await rigged.broker(retry=5, backoffDelay="PT0.1S", backoffPolicy="exponential")
    await rigged.trigger("ordered", sink.url(), None, **ORDERED)
    for number in range(6):
        for key in ("a", "b"):
            await rigged.send(f"{key}{number}", partitionkey=key)
    await until(lambda: len(sink.received) == 15)
    assert [each for each in sink.ids() if each[0] == "a"] == [
        *["a0"] * 3, "a1", "a2", "a3", "a3", "a4", "a5",
    ]  # fmt: skip
    assert [each for each in sink.ids() if each[0] == "b"] == [f"b{number}" for number in range(6)]
    assert sink.ids().index("b5") < len(sink.ids()) - 1


async def test_the_plane_says_what_it_serves(rigged: Rig, sink: Sink) -> None:
    """Its conditions are true while the journal is there, and say why not when it is not."""
    broker = await rigged.broker()
    for type_ in eventing.PLANE_CONDITIONS[eventing.BROKER]:
        assert conditions.is_true(broker, type_)
    await rigged.trigger("all", sink.url())
    rigged.server.kill()
    assert (await rigged.send("1")).status == 503
    await rigged.create(eventing.BROKER, "late", {}, **{eventing.BROKER_CLASS: eventing.MT_BROKER_CLASS})

    async def says_why() -> bool:
        late = await rigged.client.get(eventing.BROKER, "late", NAMESPACE)
        return (conditions.get(late, "IngressReady") or {}).get("reason") == "JournalUnavailable"

    await eventually(says_why)
    rigged.server.start()
    await rigged.ready(eventing.BROKER, "late")
    assert (await rigged.send("1")).status == 202
    await until(lambda: sink.ids() == ["1"])


async def test_what_was_kept_for_a_broker_goes_with_it(rigged: Rig, sink: Sink) -> None:
    """A broker of the same name is another one: it has none of the first one's events."""
    await rigged.broker()
    await rigged.send("old")
    await rigged.client.delete(eventing.BROKER, "b", NAMESPACE)

    async def is_gone() -> bool:
        return (await rigged.send("x")).status == 404

    await eventually(is_gone)
    await rigged.broker()
    await rigged.trigger("all", sink.url())
    await rigged.send("new")
    await until(lambda: sink.ids() == ["new"])


async def test_what_was_deleted_while_the_plane_was_away_is_forgotten(rigged: Rig, sink: Sink) -> None:
    """Streams of brokers that are gone, and consumers of triggers, which would keep all that came since."""
    await rigged.broker("gone")
    await rigged.broker()
    await rigged.trigger("old", sink.url("/old"))
    await rigged.trigger("new", sink.url("/new"))
    manager = next(each for each in rigged.world.managers if each.identity == "ondol-events")
    rigged.world.crash(manager)
    await rigged.client.delete(eventing.BROKER, "gone", NAMESPACE)
    await rigged.client.delete(eventing.TRIGGER, "old", NAMESPACE)
    await rigged.start_plane()
    broker = await rigged.client.get(eventing.BROKER, "b", NAMESPACE)
    uid = broker["metadata"]["uid"]
    async with connected(rigged.server) as journal:

        async def is_swept() -> bool:
            streams = set(await journal.streams())
            return streams == {f"B-{uid}", f"D-{uid}"} and len(await journal.consumers(f"B-{uid}")) == 1

        await eventually(is_swept)

    async def is_taken() -> bool:
        return (await rigged.send("1")).status == 202

    await eventually(is_taken)
    await until(lambda: sink.ids("/new") == ["1"])
    assert sink.ids("/old") == []


async def test_event_types_exist_of_what_comes_in(rigged: Rig) -> None:
    """While the flag is on, one for each type and source."""
    await rigged.broker()
    await rigged.send("0", type="before")

    async def is_on() -> bool:
        try:
            await rigged.client.patch(
                resources.CONFIG_MAP,
                "config-features",
                eventing.NAMESPACE,
                patch={"data": {"eventtype-auto-create": "enabled"}},
            )
        except errors.NotFound:
            return False
        return True

    await eventually(is_on)
    number = 0

    async def exist() -> bool:
        nonlocal number
        number += 1
        await rigged.send(str(number), type="after")
        listed = (await rigged.client.list(eventing.EVENT_TYPE, NAMESPACE)).items
        return [each["spec"]["type"] for each in listed] == ["after"]

    await eventually(exist)
    (event_type,) = (await rigged.client.list(eventing.EVENT_TYPE, NAMESPACE)).items
    assert event_type["spec"]["reference"]["name"] == "b"
    assert event_type["spec"]["source"] == "/test"


async def test_metrics_count_what_came_and_went(rigged: Rig, sink: Sink) -> None:
    """Requests by their answer, and attempts by theirs."""
    await rigged.broker()
    await rigged.trigger("all", sink.url())
    await rigged.send("1")
    await until(lambda: len(sink.received) == 1)

    def samples() -> dict[tuple[str, str | None, str | None], float]:
        assert rigged.plane is not None
        return {
            (family.name, sample.labels.get("name"), sample.labels.get("response_code_class")): sample.value
            for family in rigged.plane.metrics()
            for sample in family.samples
            if sample.name == family.name
        }

    first = samples()
    assert first["event_ingress_count", "b", "2xx"] == 1
    assert first["event_count", "all", "2xx"] == 1
    await until(lambda: samples().get(("event_consumer_lag", "all", None)) == 0)


async def test_a_channel_of_a_long_name_is_called_by_what_its_service_has_of_it(
    rigged: Rig, sink: Sink
) -> None:
    """A service's name has 63 characters at most; so may a channel's have, and each is its own."""
    names = [f"{'c' * 62}{letter}" for letter in "ab"]
    for name in names:
        await rigged.create(eventing.IN_MEMORY_CHANNEL, name, {})
        channel = {"apiVersion": "messaging.knative.dev/v1", "kind": "InMemoryChannel", "name": name}
        spec = {"channel": channel, "subscriber": {"uri": sink.url(f"/{name[-1]}")}}
        await rigged.create(eventing.SUBSCRIPTION, f"s{name[-1]}", spec)
        await rigged.ready(eventing.SUBSCRIPTION, f"s{name[-1]}")
        service = eventing.channel_service(name)
        assert len(service) == 63
        host = f"{service}.{NAMESPACE}.svc.cluster.local"
        assert (await rigged.send(name[-1], path="/", host=host)).status == 202
    await until(lambda: len(sink.received) == 2)
    assert (sink.ids("/a"), sink.ids("/b")) == (["a"], ["b"])
