"""RequestReplies: a request is answered with the reply that comes to its broker, or not at all."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from tests.eventing.plane_rig import NAMESPACE, Received, Rig, eventually, rig, sinking

from ondol.api import objects
from ondol.api.objects import Key
from ondol.base.clock import ManualClock
from ondol.contracts import eventing
from ondol.eventing.cloudevents.event import new
from ondol.eventing.journal.memory import MemoryJournal
from ondol.eventing.plane import request_replies
from ondol.eventing.plane.counts import Counts
from ondol.eventing.plane.ingress import Desk, Entrance, Entrances
from ondol.eventing.plane.request_replies import Correlations, RequestReplies, ticket
from ondol.eventing.plane.tracing import Tracer
from ondol.sdk import Manager
from ondol.web.calling import Answer

HOST = f"{eventing.REQUEST_REPLY_SERVICE}.{eventing.NAMESPACE}.svc.cluster.local"


def test_a_reply_wakes_whom_it_names() -> None:
    """By the extension of its RequestReply, in its own broker; what nobody waits for is nobody's."""
    correlations = Correlations()
    first, second = ticket("a:b"), ticket("a:b")
    assert first != second
    waiting = correlations.wait("B-1", "replyid", first)
    other = correlations.wait("B-1", "replyid", second)
    reply = new(id="r", source="/s", type="t").with_attributes(replyid=first)
    correlations.kept("B-2", reply)
    correlations.kept("B-1", reply.without("replyid").with_attributes(correlationid=first))
    assert not waiting.woken.is_set()
    correlations.kept("B-1", reply)
    assert waiting.reply is reply
    assert not other.woken.is_set()
    correlations.forget("B-1", "replyid", first)
    correlations.forget("B-1", "replyid", second)
    assert len(correlations) == 0
    correlations.kept("B-1", reply)


def _answering(received: Received) -> tuple[int, dict[str, str], bytes]:
    """A service that answers each request with a reply to it."""
    if received.headers["ce-type"] != "ask" or received.body == b"silence":
        return 200, {}, b""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": f"re-{received.id}",
        "ce-source": "/answers",
        "ce-type": "told",
        "ce-replyid": received.headers["ce-correlationid"],
        "content-type": "text/plain",
    }
    return 200, headers, received.body.upper()


async def _ask(rigged: Rig, id_: str, body: bytes, name: str = "rr") -> Answer:
    return await rigged.send(id_, body, path=f"/{NAMESPACE}/{name}", host=HOST, type="ask")


@pytest.mark.anyio
async def test_a_request_is_answered_with_its_own_reply(tmp_path: Path) -> None:
    """However many ask at once, with the same id even; without a reply it is 504 when its time is up."""
    async with rig(tmp_path) as rigged, sinking() as sink:
        sink.respond = _answering
        await rigged.broker()
        await rigged.trigger("t", sink.url())
        spec: dict[str, Any] = {
            "brokerRef": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "b"}
        }
        await rigged.create(eventing.REQUEST_REPLY, "rr", spec)
        shown = await rigged.ready(eventing.REQUEST_REPLY, "rr")
        assert objects.status(shown)["readyReplicas"] == 1
        answers: dict[bytes, Answer] = {}

        async def ask(body: bytes) -> None:
            answers[body] = await _ask(rigged, "same", body)

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(ask, b"question %d" % number)
        for body, answer in answers.items():
            headers = dict(answer.headers)
            assert (answer.status, answer.body) == (200, body.upper())
            assert (headers[b"ce-type"], headers[b"ce-id"]) == (b"told", b"re-same")
            assert b"ce-knativebrokerttl" not in headers
        await rigged.create(eventing.REQUEST_REPLY, "hurried", {**spec, "timeout": "PT0.2S"})
        await rigged.ready(eventing.REQUEST_REPLY, "hurried")
        assert (await _ask(rigged, "1", b"silence", "hurried")).status == 504
        assert (await _ask(rigged, "1", b"x", "nobody")).status == 404
        await rigged.client.delete(eventing.BROKER, "b", NAMESPACE)

        async def is_gone() -> bool:
            return (await _ask(rigged, "1", b"silence", "hurried")).status == 503

        await eventually(is_gone)


REPLY = {
    "metadata": {"name": "rr", "namespace": "n", "uid": "u"},
    "spec": {"brokerRef": {"name": "b"}, "timeout": "PT10S"},
}


class _Manager:
    """Has one RequestReply."""

    def __init__(self) -> None:
        self.lister = self

    def informer(self, _resource: object) -> _Manager:
        return self

    def get(self, _key: Key) -> Any:
        return REPLY


class _Scene:
    """RequestReplies over a journal in memory, and what they answer."""

    def __init__(self, *, may_send: bool = True) -> None:
        self.clock, rng = ManualClock(), random.Random(1)
        self.journal = MemoryJournal(clock=self.clock, rng=rng)
        self.desk = Desk(self.journal, self.clock, Tracer(None, clock=self.clock, rng=rng))
        brokers, self.waiting = Entrances(), Correlations()
        counts = Counts().arrivals("n", "Broker", "b")
        brokers.open(Entrance("Broker", Key("n", "b"), "b", "B-b", counts))
        manager = cast("Manager", _Manager())

        def may(_obj: object, _event: object) -> bool:
            return may_send

        self.application = RequestReplies(manager, self.desk, brokers, self.waiting, may)
        self.left = anyio.Event()
        self.statuses: list[int] = []

    async def ask(self) -> None:
        attributes = {b"ce-specversion": b"1.0", b"ce-id": b"1", b"ce-source": b"/s", b"ce-type": b"t"}
        scope = {"type": "http", "method": "POST", "path": "/n/rr", "headers": list(attributes.items())}
        is_read = False

        async def receive() -> Any:
            nonlocal is_read
            if is_read:
                await self.left.wait()
                return {"type": "http.disconnect"}
            is_read = True
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message: Any) -> None:
            if "status" in message:
                self.statuses.append(message["status"])

        await self.application(scope, receive, send)


@pytest.mark.anyio
async def test_who_leaves_is_waited_for_no_more() -> None:
    """And who stays is told when the time is up; while they wait they hold no room of the broker's."""
    scene = _Scene()
    await scene.journal.create_stream("B-b", bytes_max=-1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.ask)
        await anyio.wait_all_tasks_blocked()
        assert (len(scene.waiting), scene.desk.shares.count) == (1, 0)
        scene.left.set()
        await anyio.wait_all_tasks_blocked()
        assert (len(scene.waiting), scene.statuses) == (0, [])
        scene.left = anyio.Event()
        tasks.start_soon(scene.ask)
        await anyio.wait_all_tasks_blocked()
        await scene.clock.advance(10)
        assert (len(scene.waiting), scene.statuses) == (0, [504])


@pytest.mark.anyio
async def test_only_so_many_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thirds of all, for those of one RequestReply; others are to try again."""
    monkeypatch.setattr(request_replies, "WAITING_MAX", 6)
    scene = _Scene()
    await scene.journal.create_stream("B-b", bytes_max=-1)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(scene.ask)
        await anyio.wait_all_tasks_blocked()
        assert (len(scene.waiting), scene.statuses) == (4, [503])
        tasks.cancel_scope.cancel()
    assert len(scene.waiting) == 0


@pytest.mark.anyio
async def test_the_policies_of_the_broker_hold_for_requests() -> None:
    """Else a RequestReply would be a way past them."""
    scene = _Scene(may_send=False)
    await scene.journal.create_stream("B-b", bytes_max=-1)
    await scene.ask()
    assert (scene.statuses, len(scene.waiting)) == ([403], 0)
    assert (await scene.journal.state("B-b")).last == 0
