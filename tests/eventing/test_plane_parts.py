"""The pieces of the data plane by themselves: records, routes, hosts, names, spans, requests."""

from __future__ import annotations

import random
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api.objects import Key
from ondol.base import errors
from ondol.base.clock import ManualClock, SystemClock
from ondol.contracts import cluster, eventing
from ondol.eventing.cloudevents import event as events
from ondol.eventing.delivery import outcome
from ondol.eventing.delivery.trimming import History
from ondol.eventing.exchange import Target
from ondol.eventing.journal import commits, documents
from ondol.eventing.journal.memory import MemoryJournal
from ondol.eventing.journal.port import ConsumerConfig, Damaged, Full, Stored, StreamState
from ondol.eventing.plane import hosts, letters, names, planning, records, tracing
from ondol.eventing.plane.counts import Counts
from ondol.eventing.plane.ingress import Desk, Entrance, Ingress
from ondol.eventing.plane.sending import HttpSender, Ways
from ondol.eventing.plane.tracing import Tracer
from ondol.eventing.plane.trimmer import Trimmer
from ondol.sdk.testing import LoopClock, simulate
from ondol.web.calling import Caller

TEXT = st.text(
    st.characters(min_codepoint=0x20, exclude_characters="\x7f", exclude_categories=["Cc", "Cs"]), min_size=1
)


@given(TEXT, TEXT, st.binary(max_size=50), st.dictionaries(st.sampled_from(["ext", "other"]), TEXT))
def test_an_event_is_the_same_after_it_was_kept(
    source: str, subject: str, data: bytes, extensions: dict[str, str]
) -> None:
    """Attributes of any language, any data, and the headers that go with it."""
    event = events.new(id="1", source=source, type="t", data=data or None, subject=subject, **extensions)
    kept = records.message(event, [(b"x-request-id", b"r:1")])
    assert records.event(kept.headers, kept.data) == event
    assert records.handed_on(kept.headers) == [(b"x-request-id", b"r:1")]


def test_duplicates_are_told_by_all_that_a_sender_does_not_change() -> None:
    """Another trace is another attempt; another type is another event, as replies have it."""
    event = events.new(id="1", source="/s", type="t")
    assert records.identity(event) == records.identity(event.with_attributes(traceparent="00-1-2-01"))
    assert records.identity(event) != records.identity(event.with_attributes(type="other"))
    assert records.identity(event) != records.identity(event.with_attributes(id="2"))
    assert records.identity(event) != records.identity(event.with_attributes(source="/o"))


def test_which_headers_go_with_an_event() -> None:
    """Those that Knative hands on, and the trace."""
    headers = [
        (b"host", b"x"),
        (b"x-request-id", b"1"),
        (b"knative-a", b"2"),
        (b"traceparent", b"3"),
        (b"cookie", b"4"),
    ]
    assert [name for name, _ in records.forwarded(headers)] == [b"x-request-id", b"knative-a", b"traceparent"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("broker-ingress.knative-eventing.svc.cluster.local", Key("knative-eventing", "broker-ingress")),
        ("Broker-Ingress.knative-eventing.svc:80", Key("knative-eventing", "broker-ingress")),
        ("c-kn-channel.default", Key("default", "c-kn-channel")),
        ("c-kn-channel.default.svc.cluster.local.", Key("default", "c-kn-channel")),
        ("example.com.evil", None),
        ("localhost", None),
        ("", None),
    ],
)
def test_which_service_a_host_is(host: str, expected: Key | None) -> None:
    """In each of the forms that clients use."""
    assert cluster.service_of(host) == expected


async def test_a_host_of_nothing_is_told_whose_to_send() -> None:
    """Who posts to the bare address learns which header is missing."""
    sent: list[Any] = []

    async def nobody(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    scope = {"type": "http", "method": "POST", "path": "/a/b", "headers": [(b"host", b"10.1.2.3:4")]}
    await hosts.Hosts({}, nobody)(scope, receive, send)
    assert sent[0]["status"] == 404
    assert b"for a broker broker-ingress.knative-eventing.svc.cluster.local" in sent[1]["body"]


BROKER = {
    "metadata": {"name": "b", "namespace": "ns", "uid": "b-uid"},
    "spec": {"delivery": {"retry": 10, "backoffPolicy": "exponential", "backoffDelay": "PT0.2S"}},
}


def _trigger(spec: dict[str, Any], status: dict[str, Any], **annotations: str) -> dict[str, Any]:
    metadata = {"name": "t", "namespace": "ns", "uid": "tu", "annotations": annotations}
    return {"metadata": metadata, "spec": spec, "status": status}


def test_the_route_of_a_trigger() -> None:
    """Addresses from its status, the policy from its broker, replies to the broker."""
    status = {"subscriberUri": "http://sub", "subscriberCACerts": "ca", "deadLetterSinkUri": "http://dead"}
    route = planning.of_trigger(_trigger({"filter": {"attributes": {"type": "x"}}}, status), BROKER)
    assert (route.stream, route.consumer, route.reply_stream, route.dead_stream) == (
        "B-b-uid",
        "tu",
        "B-b-uid",
        "D-b-uid",
    )
    assert route.subscriber == Target("http://sub", "ca", namespace="ns", timeout_s=600.0)
    assert route.dead_letter_sink == Target("http://dead", namespace="ns", timeout_s=600.0)
    assert route.topics == (records.topic("x"),)
    assert (route.policy.retries, route.policy.backoff_s) == (10, 0.2)
    assert route.predicate(events.new(id="1", source="/", type="x"))
    assert not route.predicate(events.new(id="1", source="/", type="y"))
    assert not route.is_ordered
    assert planning.of_trigger(_trigger({}, {}), BROKER).subscriber is None


@pytest.mark.parametrize("annotation", eventing.DELIVERY_ORDERS)
def test_a_trigger_asks_for_order_by_an_annotation(annotation: str) -> None:
    """Knative's for Kafka, or one of ours."""
    assert planning.of_trigger(_trigger({}, {}, **{annotation: "ordered"}), BROKER).is_ordered
    assert not planning.of_trigger(_trigger({}, {}, **{annotation: "unordered"}), BROKER).is_ordered


def test_a_filter_that_contradicts_itself_gets_nothing() -> None:
    """Not everything, which a consumer without topics would get."""
    filters = [{"exact": {"type": "a"}}, {"exact": {"type": "b"}}]
    assert planning.of_trigger(_trigger({"filters": filters}, {}), BROKER).topics == ("none",)


def test_the_route_of_a_channels_subscriber() -> None:
    """Replies go to its address; who has a reply alone is sent the event itself."""
    channel = {"metadata": {"name": "c", "namespace": "ns", "uid": "cu"}}
    entry = {"uid": "su", "name": "s", "subscriberUri": "http://sub", "replyUri": "http://reply"}
    route = planning.of_subscriber(channel, entry, None)
    sent: dict[str, Any] = {"namespace": "ns", "timeout_s": 600.0}
    assert (route.subscriber, route.reply, route.is_strict) == (
        Target("http://sub", **sent),
        Target("http://reply", **sent),
        False,
    )
    assert planning.of_subscriber(
        channel, {"uid": "su", "replyUri": "http://reply"}, None
    ).subscriber == Target("http://reply", **sent)


def _answer(*addresses: bytes) -> bytes:
    asked = names.question("a.b", 7)
    records_ = b"".join(b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04" + each for each in addresses)
    return (
        asked[:2]
        + b"\x81\x80\0\x01"
        + len(addresses).to_bytes(2, "big")
        + b"\0\0\0\0"
        + asked[12:]
        + records_
    )


def test_addresses_of_a_name_servers_answer() -> None:
    """Each of them, and none of a name that has none."""
    assert names.answers(_answer(b"\x0a\0\0\x01", b"\x0a\0\0\x02"), 7) == ["10.0.0.1", "10.0.0.2"]
    assert names.answers(_answer(), 7) == []
    with pytest.raises(ValueError, match="something else"):
        names.answers(_answer(), 8)


@given(st.binary(max_size=60))
def test_garbage_is_no_answer(packet: bytes) -> None:
    """It is refused in words, whatever it is."""
    try:
        names.answers(packet, 7)
    except ValueError:
        return


PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_trace_is_continued_and_one_that_is_not_sampled_is_left_alone() -> None:
    """The span is the parent of what follows."""
    clock = ManualClock()

    async def export(_document: bytes) -> None:
        """Takes all."""

    tracer = Tracer(export, clock=clock, rng=random.Random(1), sampling_percent=0)
    span = tracer.begin("client", [(b"traceparent", PARENT)])
    assert span is not None
    assert (span.trace_id, span.parent_id) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    headers = tracing.continued([(b"traceparent", PARENT), (b"baggage", b"x")], span)
    assert headers == [(b"baggage", b"x"), (b"traceparent", span.traceparent)]
    assert tracer.begin("client", [(b"traceparent", PARENT[:-1] + b"0")]) is None
    assert tracer.begin("client", []) is None
    assert tracer.begin("client", [(b"traceparent", b"garbage")]) is None
    assert tracing.continued([(b"a", b"b")], None) == [(b"a", b"b")]


async def test_spans_are_exported_as_otlp() -> None:
    """With their parents, attributes and failures; a flood begins a bounded number of traces a second."""
    exported: list[dict[str, Any]] = []

    async def export(document: bytes) -> None:
        exported.append(msgspec.json.decode(document))

    tracer = Tracer(export, clock=SystemClock(), rng=random.Random(1), roots_per_s_max=3)
    spans = [tracer.begin("server", []) for _ in range(10)]
    assert sum(span is not None for span in spans) in range(3, 7)  # the second may have changed meanwhile
    first = next(span for span in spans if span is not None)
    first.of_event("broker:b.default", events.new(id="1", source="/s", type="t"))
    tracer.end(first, 503)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tracer.run)
        with anyio.fail_after(10):
            while not exported:  # noqa: ASYNC110 - it sleeps a second of its own
                await anyio.sleep(0.05)
        tasks.cancel_scope.cancel()
    (span,) = exported[0]["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert span["status"] == {"code": 2}
    assert {"key": "cloudevents.id", "value": {"stringValue": "1"}} in span["attributes"]


@pytest.mark.parametrize(
    ("code", "number", "expected"),
    [(400, 10047, Full), (503, 10077, Full), (500, 10118, Damaged)],
)
def test_what_the_journals_refusals_mean(code: int, number: int, expected: type[Exception]) -> None:
    """By the server's own numbers."""
    document = {"error": {"code": code, "err_code": number, "description": "why"}}
    with pytest.raises(expected, match="why"):
        documents.answer(msgspec.json.encode(document))


def test_a_consumer_is_changed_only_where_it_differs() -> None:
    """Its topics may; its place stays."""
    config = ConsumerConfig("c", ("a", "b"))
    created = documents.consumer("S", config, None)
    assert created is not None
    assert created["config"]["filter_subjects"] == ["S.a", "S.b"]
    assert documents.consumer("S", config, {"config": created["config"]}) is None
    changed = documents.consumer("S", ConsumerConfig("c", ("a",)), {"config": created["config"]})
    assert changed is not None
    assert (changed["action"], changed["config"]["filter_subjects"]) == ("update", ["S.a"])
    one = {**created["config"], "filter_subject": "S.a"}
    del one["filter_subjects"]
    assert documents.consumer("S", ConsumerConfig("c", ("a",)), {"config": one}) is None


def test_times_of_the_journal() -> None:
    """To the nanosecond, and back."""
    for text in ("2024-05-01T10:00:00.123456789Z", "2024-05-01T10:00:00Z", "2024-05-01T12:00:00.5+02:00"):
        assert documents.nanoseconds(documents.time(documents.nanoseconds(text))) == documents.nanoseconds(
            text
        )
    assert documents.nanoseconds("0001-01-01T00:00:00Z") == 0


@pytest.mark.parametrize(
    "url",
    [
        f"http://{'a' * 70}.test",
        "http://a..b/",
        "https://.b/",
        "http://[::1/",
        "http://x\u2100y/",
        "http://a\0b/",
        "http://127.0.0.1:1/\ud800",
        "http://127.0.0.1:1/a HTTP/1.1",
        "http://127.0.0.1:99999/",
        "ftp://127.0.0.1/",
        "http:///path",
    ],
)
async def test_an_address_that_is_none_is_said_to_be(url: str) -> None:
    """Whoever writes it fails alone: what is not an error of the API would end the data plane."""
    sender = HttpSender(Caller(), Ways())
    with pytest.raises(errors.ApiError):
        await sender.send(Target(url), events.new(id="1", source="/s", type="t"), [])


async def test_certificates_that_are_none_are_said_to_be() -> None:
    """As with addresses."""
    sender = HttpSender(Caller(), Ways())
    event = events.new(id="1", source="/s", type="t")
    for certificates in ("garbage", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n", "\xe4"):
        with pytest.raises(errors.BadRequest):
            await sender.send(Target("https://127.0.0.1:1/", certificates), event, [])


def test_headers_that_go_with_an_event_are_of_any_bytes() -> None:
    """They are handed on as they came, and the event is read beside them."""
    event = events.new(id="1", source="/s", type="t", subject="\u00e9")
    kept = records.message(event, [(b"x-request-id", b"\xff\xe4")])
    assert records.event(kept.headers, kept.data) == event
    assert records.handed_on(kept.headers) == [(b"x-request-id", b"\xff\xe4")]


def test_the_address_of_a_dead_letter_stays_on_its_line() -> None:
    """It is what somebody wrote into a Trigger, and must not become headers of the journal."""
    route = planning.of_trigger(_trigger({}, {"subscriberUri": "http://sub"}), BROKER)
    fate = letters.Fate("http://x/\r\nd-namespace:other\r\nNats-Rollup:all", 500, b"")
    event = events.new(id="1", source="/s", type="t")
    message = letters.message(route, event, [], letters.Origin(1, 0, 1), fate)
    assert b"\nNats-Rollup" not in message.headers
    assert letters.letter(Stored(1, 0, "tu", message.headers, b"")).namespace == "ns"


def test_attributes_leave_room_for_what_a_dead_letter_says() -> None:
    """What the journal could never take is refused at once, and not tried again."""
    event = events.new(id="1", source="/s", type="t")
    with pytest.raises(errors.TooLarge):
        records.message(event.with_attributes(ext="x" * records.HEADERS_BYTES_MAX))
    assert len(records.message(event.with_attributes(ext="x" * 40_000)).headers) > 40_000
    verdict = {"error": {"code": 400, "err_code": 10097, "description": "header size exceeds"}}
    assert isinstance(commits.judge("B-x", b"", msgspec.json.encode(verdict)), errors.TooLarge)


@pytest.mark.parametrize("date", ["Mon, 01 Jan 99999999999999999999 00:00:00", "x" * 5000, "9" * 5000])
def test_any_time_that_a_subscriber_asks_for_is_taken(date: str) -> None:
    """One that is no time is none."""
    asked = outcome.retry_after_s(503, [(b"retry-after", date.encode())], 0.0)
    assert asked is None or asked > 0


@pytest.mark.anyio
async def test_a_body_that_does_not_come_gives_its_place_back() -> None:
    """Who sends slowly would keep others out."""
    clock, sent = ManualClock(), []
    entrance = Entrance("Broker", Key("ns", "b"), "u", "B-u", Counts().arrivals("ns", "Broker", "b"))
    rng = random.Random(1)
    desk = Desk(MemoryJournal(clock=clock, rng=rng), clock, Tracer(None, clock=clock, rng=rng))
    scope = {"type": "http", "method": "POST", "path": "/ns/b", "headers": []}

    async def receive() -> Any:
        await anyio.sleep_forever()

    async def send(message: Any) -> None:
        sent.append(message)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Ingress(desk, lambda _scope: entrance), scope, receive, send)
        await anyio.wait_all_tasks_blocked()
        assert desk.shares.count == 1
        await clock.advance(31)
    assert (sent[0]["status"], desk.shares.count) == (408, 0)


class Forgetful(MemoryJournal):
    """Its stream is dropped while it is asked about."""

    def __init__(self, clock: LoopClock) -> None:
        super().__init__(clock=clock, rng=random.Random(1))
        self.trimmer = Trimmer(self, clock)

    async def state(self, stream: str) -> StreamState:
        state = await super().state(stream)
        self.trimmer.drop(stream)
        return state


def test_a_stream_that_goes_while_it_is_trimmed_is_nobodys_trouble() -> None:
    """It leaves nothing behind, and the trimmer goes on."""
    clock = LoopClock()
    journal = Forgetful(clock)

    async def play() -> None:
        await journal.create_stream("B-1", bytes_max=-1)
        await journal.publish("B-1", records.message(events.new(id="1", source="/s", type="t")))
        journal.trimmer.keep("B-1", History(age_max_s=1.0))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.trimmer.run)
            await clock.sleep(300)
            tasks.cancel_scope.cancel()

    simulate(play, seed=1)
