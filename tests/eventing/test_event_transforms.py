"""EventTransforms: what comes out of an expression, where it goes, and what bounds an expression has."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from tests.eventing.calling import call, roomy
from tests.eventing.eventing_world import NAMESPACE, Scene, condition, not_true, play

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.contracts import eventing
from ondol.eventing import applications
from ondol.eventing.cloudevents import http
from ondol.eventing.cloudevents.event import Event, new
from ondol.eventing.exchange import Answer, Incoming, Target
from ondol.eventing.transforms import worker
from ondol.eventing.transforms.adapter import TransformServer
from ondol.eventing.transforms.evaluator import Exceeded, Failed, ProcessEvaluator
from ondol.eventing.transforms.transforming import Transforms

SINK = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "shown"}}
EVENT = new(
    id="1",
    source="my-source",
    type="my-type",
    data=b'{"reason": "r", "message": "m"}',
    datacontenttype="application/json",
)
EXPRESSION = """{
    "specversion": "1.0", "id": id, "type": "transformed-event", "source": source,
    "reason": data.reason, "message": data.message, "data": $
}"""
REPLY = '{"specversion": "1.0", "id": id, "type": type, "source": source, "kind": "transformed", "data": $}'
ENDLESS = "($f := function($x) { $f($x + 1) }; $f(1))"
SERVICE = Key(NAMESPACE, "change-jsonata")


class InProcess:
    """Evaluates here: for stories on virtual time."""

    async def evaluate(self, expression: str, document: bytes, *, owner: str = "") -> bytes | None:
        del owner
        if expression == ENDLESS:
            raise Exceeded("the expression takes longer than 2 s")
        outcome, text = worker.evaluate(expression, document)
        if outcome == worker.FAILED:
            raise Failed(text.decode())
        return None if outcome == worker.NOTHING else text

    async def check(self, expression: str, *, owner: str = "") -> None:
        await self.evaluate(expression, b"", owner=owner)


class Sink:
    """Answers what it is told, and notes what it was sent."""

    def __init__(self) -> None:
        self.events: list[tuple[Event, Target]] = []
        self.answer: Answer | None = Answer(202)

    async def send(self, event: Event, target: Target) -> Answer:
        self.events.append((event, target))
        if self.answer is None:
            raise errors.Unavailable("nobody is there")
        return self.answer


Story = Callable[[Scene, Transforms, Sink], Awaitable[None]]


def _play(story: Story) -> None:
    async def run(scene: Scene) -> None:
        manager, sink = scene.world.manager("ondol-events"), Sink()
        transforms = Transforms(manager, InProcess(), sink)
        manager.add(TransformServer(manager, InProcess()).controller())
        await scene.world.start(manager)
        await story(scene, transforms, sink)

    play(run, plane=False)


async def _transform(scene: Scene, **spec: Any) -> Object:
    await scene.create(eventing.EVENT_TRANSFORM, "change", {"jsonata": {"expression": EXPRESSION}, **spec})
    return await scene.settled(eventing.EVENT_TRANSFORM, "change")


async def _post(transforms: Transforms, event: Event = EVENT) -> Answer:
    headers, body = http.encode(event)
    return await transforms.handle(SERVICE, Incoming("POST", "/", headers, body))


def test_the_new_event_is_the_answer() -> None:
    """Where there is no sink; the transform is reached at a service of its own."""

    async def story(scene: Scene, transforms: Transforms, sink: Sink) -> None:
        transform = await _transform(scene)
        assert not_true(transform) == {}
        url = "http://change-jsonata.default.svc.cluster.local"
        status = objects.status(transform)
        assert status["address"] == {"name": "http", "url": url}
        assert status["addresses"] == [status["address"]]
        service = await scene.get(resources.SERVICE, "change-jsonata")
        assert objects.is_controlled_by(service, transform)
        answer = await _post(transforms)
        assert answer.status == 200
        [event] = http.decode(answer.headers, answer.body)
        assert (event.id, event.source, event.type) == ("1", "my-source", "transformed-event")
        assert event.extensions == {"reason": "r", "message": "m"}
        data = json.loads(event.data or b"")
        assert (data["type"], data["data"]) == ("my-type", {"reason": "r", "message": "m"})
        assert sink.events == []

    _play(story)


def test_the_new_event_is_sent_to_the_sink() -> None:
    """And the sink's answer is passed on, dropped, or transformed."""

    async def story(scene: Scene, transforms: Transforms, sink: Sink) -> None:
        await scene.service("shown")
        transform = await _transform(scene, sink=SINK)
        assert not_true(transform) == {}
        assert objects.status(transform)["sinkUri"] == "http://shown.default.svc.cluster.local"
        assert (await _post(transforms)).status == 202
        [(event, target)] = sink.events
        assert (event.type, target.url) == ("transformed-event", "http://shown.default.svc.cluster.local")
        headers, body = http.encode(new(id="2", source="reply-source", type="reply-type"))
        sink.answer = Answer(200, (*headers, (b"server", b"x")), body)
        answer = await _post(transforms)
        assert [event.type for event in http.decode(answer.headers, answer.body)] == ["reply-type"]
        assert (b"server", b"x") not in answer.headers
        sink.answer = Answer(429, ((b"retry-after", b"7"),), b"later")
        answer = await _post(transforms)
        assert (answer.status, answer.headers, answer.body) == (429, ((b"retry-after", b"7"),), b"later")
        sink.answer = None
        assert (await _post(transforms)).status == 502

    _play(story)


def test_the_reply_of_the_sink_is_transformed() -> None:
    """By an expression of its own; one that is discarded is nothing."""

    async def story(scene: Scene, transforms: Transforms, sink: Sink) -> None:
        await scene.service("shown")
        await _transform(scene, sink=SINK, reply={"jsonata": {"expression": REPLY}})
        headers, body = http.encode(new(id="2", source="reply-source", type="reply-type"))
        sink.answer = Answer(200, headers, body)
        answer = await _post(transforms)
        [event] = http.decode(answer.headers, answer.body)
        assert (event.source, event.type, event.attributes["kind"]) == (
            "reply-source",
            "reply-type",
            "transformed",
        )
        patch = {"spec": {"reply": {"jsonata": None, "discard": True}}}
        await scene.client.patch(eventing.EVENT_TRANSFORM, "change", NAMESPACE, patch=patch)
        await scene.world.run_until_stable()
        assert await _post(transforms) == Answer(200)

    _play(story)


@pytest.mark.parametrize(
    ("expression", "status", "text"),
    [
        ("missing", 200, b""),
        ('{"a": data.reason}', 200, b'{"a": "r"}'),
        ("$error('no')", 400, b"the expression fails for this event: "),
        (ENDLESS, 503, b"takes longer than 2 s"),
    ],
)
def test_other_values(expression: str, status: int, text: bytes) -> None:
    """Nothing, JSON that is no event, an error, and no end."""

    async def story(scene: Scene, transforms: Transforms, sink: Sink) -> None:
        await _transform(scene, jsonata={"expression": expression})
        answer = await _post(transforms)
        assert answer.status == status
        assert text in answer.body

    _play(story)


def test_only_events_go_to_a_sink() -> None:
    """What is no event is an error of the expression, and nothing is sent."""

    async def story(scene: Scene, transforms: Transforms, sink: Sink) -> None:
        await scene.service("shown")
        await _transform(scene, sink=SINK, jsonata={"expression": '{"a": 1}'})
        answer = await _post(transforms)
        assert answer.status == 400
        assert b"its value is no CloudEvent: attribute a" in answer.body or b"specversion" in answer.body
        assert sink.events == []

    _play(story)


def test_what_is_wrong_is_in_the_status() -> None:
    """An expression that is none, and a sink that is not there."""

    async def story(scene: Scene, transforms: Transforms, sink: Sink) -> None:
        transform = await _transform(scene, sink=SINK)
        assert condition(transform, "JsonataSinkBindingReady")[:2] == ("False", "NoAddressable")
        assert condition(transform, "TransformationReady")[:2] == ("False", "NoAddressable")
        assert (await _post(transforms)).status == 503
        await scene.service("shown")
        assert not_true(await scene.settled(eventing.EVENT_TRANSFORM, "change")) == {}
        patch = {"spec": {"jsonata": {"expression": "{"}}}
        await scene.client.patch(eventing.EVENT_TRANSFORM, "change", NAMESPACE, patch=patch)
        transform = await scene.settled(eventing.EVENT_TRANSFORM, "change")
        for type_ in ("JsonataDeploymentReady", "TransformationReady", "Ready"):
            status, reason, message = condition(transform, type_)
            assert (status, reason) == ("False", "JsonataExpressionInvalid")
            assert message.startswith("spec.jsonata.expression: ")
        await scene.settles()

    _play(story)


def test_requests_that_are_no_events() -> None:
    """Are answered as everywhere."""

    async def story(scene: Scene, transforms: Transforms, sink: Sink) -> None:
        await _transform(scene)
        assert (await transforms.handle(Key("a", "b"), Incoming("POST", "/", (), b""))).status == 404
        assert (await transforms.handle(SERVICE, Incoming("GET", "/", (), b""))).status == 405
        assert (await transforms.handle(SERVICE, Incoming("OPTIONS", "/", (), b""))).status == 200
        with pytest.raises(errors.BadRequest):
            await transforms.handle(SERVICE, Incoming("POST", "/", (), b"{}"))

    _play(story)


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({}, "spec.jsonata", "missing field(s)"),
        ({"jsonata": {}, "sink": {}}, "spec.sink.ref", "expected at least one"),
        ({"jsonata": {}, "sink": {**SINK, "CACerts": "x"}}, "spec.sink.CACerts", "is not supported"),
        ({"jsonata": {}, "reply": {}}, "spec.reply", "reply is set without spec.sink"),
        (
            {"jsonata": {}, "sink": SINK, "reply": {"jsonata": {}, "discard": True}},
            "spec.reply.discard",
            "expected exactly one, got both",
        ),
    ],
)
def test_what_is_refused(spec: Object, field: str, message: str) -> None:
    """Each mistake at its place, in Knative's words."""

    async def story(scene: Scene) -> None:
        with pytest.raises(errors.Invalid) as raised:
            await scene.create(eventing.EVENT_TRANSFORM, "change", spec)
        assert any(c.field == field and message in c.message for c in raised.value.causes), (
            raised.value.causes
        )
        await scene.world.advance(5)

    play(story, control=False, plane=False)


@pytest.mark.anyio
async def test_expressions_run_in_processes_that_can_be_ended() -> None:
    """One that does not end, or takes all memory, is stopped; others are evaluated before and after."""
    evaluator = ProcessEvaluator(SystemClock(), limit_s=0.5, workers=1)
    try:
        assert await evaluator.evaluate("a + 1", b'{"a": 1}') == b"2"
        with pytest.raises(Exceeded, match=r"longer than 0\.5 s"):
            await evaluator.evaluate(ENDLESS, b"{}")
        assert await evaluator.evaluate("missing", b"{}") is None
        with pytest.raises(Failed):
            await evaluator.check("{")
        await evaluator.check("{}")
        with pytest.raises((Failed, Exceeded)):
            await evaluator.evaluate('$join([1..9999999].("x" & $string($)))', b"{}")
        assert await evaluator.evaluate('"ü"', b"{}") == '"ü"'.encode()
    finally:
        await evaluator.aclose()


@pytest.mark.anyio
async def test_nobodys_expressions_keep_those_of_others_waiting() -> None:
    """An owner has all processes but one at most, and a queue that ends."""
    evaluator = ProcessEvaluator(SystemClock(), limit_s=60.0, workers=2)
    refusals: list[Exceeded] = []

    async def endless() -> None:
        try:
            await evaluator.evaluate(ENDLESS, b"{}", owner="greedy")
        except Exceeded as error:
            refusals.append(error)

    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(70):
                tasks.start_soon(endless)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(50):
                assert await evaluator.evaluate("1 + 1", b"{}", owner="other") == b"2"
            assert len(refusals) == 6
            tasks.cancel_scope.cancel()
    finally:
        await evaluator.aclose()


@pytest.mark.parametrize(
    ("expression", "document", "outcome"),
    [
        ("a", b'{"a": [1, 2.5, null, true, "x"]}', (worker.DONE, b'[1, 2.5, null, true, "x"]')),
        ("a", b"{}", (worker.NOTHING, b"")),
        ("", b"", (worker.FAILED, None)),
        ("function($x) { $x }", b"{}", (worker.FAILED, None)),
        ("1 / 0", b"{}", (worker.FAILED, None)),
        ("a", b"not json", (worker.FAILED, None)),
        ("($f := function($x) { 1 + $f($x) }; $f(1))", b"{}", (worker.FAILED, None)),
    ],
)
def test_whatever_an_expression_does_is_an_outcome(
    expression: str, document: bytes, outcome: tuple[int, bytes | None]
) -> None:
    """The process that evaluates it goes on."""
    actual = worker.evaluate(expression, document)
    assert actual[0] == outcome[0]
    assert outcome[1] is None or actual[1] == outcome[1]


def test_a_transform_is_called_by_the_host_of_its_service() -> None:
    """In each of the host's forms."""

    async def story(scene: Scene, transforms: Transforms, sink: Sink) -> None:
        await _transform(scene)
        application = applications.application(
            applications.by_service(transforms.handle), roomy(scene.world.clock)
        )
        headers, body = http.encode(EVENT)
        for host, status in (
            (b"change-jsonata.default.svc.cluster.local", 200),
            (b"Change-Jsonata.default.svc:80", 200),
            (b"change-jsonata.default", 200),
            (b"other-jsonata.default", 404),
            (b"change-jsonata", 404),
            (b"a.change-jsonata.default", 404),
        ):
            answer = await call(application, "POST", "/", [*headers, (b"host", host)], body)
            assert answer.status == status

    _play(story)


def test_an_evaluator_that_nobody_waits_for_ends_by_itself() -> None:
    """Its starter was killed in the midst of an expression without end: it does not go on for ever."""
    text = ENDLESS.encode()
    request = worker.REQUEST.pack(len(text), 2) + text + b"{}"
    program = (
        "import sys; from ondol.eventing.transforms import worker; "
        "worker.serve(sys.stdin.buffer, sys.stdout.buffer, give_up_s=0.2)"
    )
    ended = subprocess.run([sys.executable, "-c", program], input=request, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (-signal.SIGALRM, b"")
