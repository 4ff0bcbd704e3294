"""Where the time of a cold start went: the steps of a pod, the spans of who waited, and who keeps them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from ondol.api.objects import Key, Object
from ondol.base.clock import SystemClock
from ondol.contracts import tracing
from ondol.contracts.tracing import Parent
from ondol.observe.traces import otlp
from ondol.serverless.activator import coldstart, head
from ondol.serverless.activator.activator import Activator
from ondol.serverless.activator.coldstart import Start, Starts, Wait
from ondol.serverless.activator.limits import Limits
from ondol.serverless.activator.throttler import Endpoint
from ondol.web import spans
from ondol.web.calling import Caller
from ondol.web.spans import Exporter

REVISION = Key("default", "hello-00001")
PARENT = Parent("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
HEADER = f"00-{PARENT.trace_id}-{PARENT.span_id}-01"


@pytest.mark.parametrize(
    ("text", "parent"),
    [
        (HEADER, PARENT),
        (HEADER.upper(), PARENT),
        (HEADER.replace("-01", "-00"), None),
        (HEADER + "-more", PARENT),
        ("", None),
        ("00-x-y-01", None),
    ],
)
def test_whose_span_it_is(text: str, parent: Parent | None) -> None:
    """The header of W3C; who is not recorded has none."""
    assert coldstart.parent(text) == parent


def pod(*true: str, node: str = "", running: bool = False) -> Object:
    states = [{"name": "user-container", "state": {"running": {}} if running else {"waiting": {}}}]
    return {
        "metadata": {"name": "p"},
        "spec": {"nodeName": node} if node else {},
        "status": {
            "conditions": [{"type": type_, "status": "True"} for type_ in true],
            "containerStatuses": states,
        },
    }


def test_what_a_pod_shows() -> None:
    """Its node, its network, its listeners, its containers, its readiness, each when it is there."""
    sandbox, mesh = "PodReadyToStartContainers", "mesh.ondol.dev/Programmed"
    assert list(coldstart.passed(pod())) == []
    assert list(coldstart.passed(pod(node="n"))) == ["scheduling"]
    assert list(coldstart.passed(pod(sandbox, mesh, node="n"))) == ["scheduling", "sandbox", "mesh"]
    whole = list(coldstart.passed(pod(sandbox, mesh, "Ready", node="n", running=True)))
    assert whole == ["scheduling", "sandbox", "mesh", "container start", "readiness"]


def test_steps_follow_one_another() -> None:
    """What was over before the request came, and what was never seen, takes none of its time."""
    marks = {"decision": 10, "scale patch": 20, "scheduling": 20, "sandbox": 50, "readiness": 200}
    assert coldstart.segments(marks, 15, 100) == [
        ("scale patch", 15, 20),
        ("sandbox", 20, 50),
        ("readiness", 50, 100),
        ("hand-over", 100, 100),
    ]


def test_a_start_is_of_those_who_wait_for_it() -> None:
    """First marks count; with the last of them it is over, and without one nothing is marked."""
    starts = Starts()
    starts.mark(REVISION, "decision", 1)
    start = starts.begin(REVISION)
    starts.mark(REVISION, "decision", 2)
    starts.mark(REVISION, "decision", 3)
    starts.observe(REVISION, pod(node="n"), 4)
    assert (start.marks, starts.begin(REVISION)) == ({"decision": 2, "scheduling": 4}, start)
    starts.end(REVISION)
    assert starts.begin(REVISION).marks == {}


def test_spans() -> None:
    """The cold start in the request's own span, its steps within it; of a mere wait the wait alone."""
    start = Start({"decision": 20})
    cold = coldstart.spans(Wait(REVISION, PARENT, 10, 50, start), random.Random(1))
    kept = otlp.from_json(json.dumps(tracing.request(cold, coldstart.SERVICE)).encode())
    whole, *steps = kept
    assert (whole.service, whole.name, whole.trace_id, whole.parent_id) == (
        "activator",
        "cold start",
        *PARENT[:2],
    )
    assert whole.attributes["knative.revision"] == "hello-00001"
    assert [(s.name, s.start_ns, s.end_ns, s.parent_id) for s in steps] == [
        ("decision", 10, 20, whole.span_id),
        ("hand-over", 20, 50, whole.span_id),
    ]
    (hold,) = coldstart.spans(Wait(REVISION, PARENT, 10, 50), random.Random(1))
    assert hold["name"] == "hold"
    start.detailed = 1000
    assert len(coldstart.spans(Wait(REVISION, PARENT, 10, 50, start), random.Random(1))) == 1


class _Kept:
    """Stands for who keeps spans."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def add(self, spans: Iterable[Object]) -> None:
        self.names += [span["name"] for span in spans]


@pytest.mark.anyio
async def test_a_waiting_request_is_told_in_its_trace() -> None:
    """And counted as a cold start; one that a pod is there for is neither."""
    sink, waiting = _Kept(), anyio.Event()
    activator = Activator(
        "127.0.0.1", on_demand=lambda _: waiting.set(), clock=SystemClock(), rng=random.Random(1), sink=sink
    )
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(head.answer(200, "OK", "hello"))

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        place = Endpoint("127.0.0.1", listener.extra(anyio.abc.SocketAttribute.local_port))  # noqa: S610 - no SQL
        await group.start(activator.run)
        port = await activator.listen(REVISION, concurrency=0, limits=Limits(5))

        async def request() -> None:
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(f"GET / HTTP/1.1\r\nHost: x\r\ntraceparent: {HEADER}\r\n\r\n".encode())
                await stream.receive()

        async with anyio.create_task_group() as asking:
            asking.start_soon(request)
            await waiting.wait()
            activator.starts.mark(REVISION, "decision", 10**30)
            activator.set_endpoints(REVISION, [place])
        assert sink.names == ["cold start", "decision", "hand-over"]
        await request()
        assert sink.names == ["cold start", "decision", "hand-over"]
        counts = activator._revisions[REVISION].counts
        assert (counts.cold.count, counts.waited.count) == (1, 2)
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_spans_are_sent_together(tmp_path: Path) -> None:
    """To the socket of who keeps them, as OTLP in JSON; while nobody is there they are lost."""
    bodies: list[Any] = []
    arrived = anyio.Event()

    async def keep(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            received = b""
            while not received.endswith(b"}"):
                received += await stream.receive()
            bodies.append(json.loads(received.partition(b"\r\n\r\n")[2]))
            await stream.send(head.answer(200, "OK", "{}"))
            arrived.set()

    caller = Caller()
    export = spans.to_socket(caller, tmp_path / "observe")
    exporter = Exporter(export, SystemClock(), service="activator", gather_s=0.1)
    exporter.add([{"name": "lost"}])
    with anyio.move_on_after(0.3):
        await exporter.run()
    listener = await anyio.create_unix_listener(tmp_path / "observe")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, keep)
        group.start_soon(exporter.run)
        exporter.add([{"name": "one"}])
        exporter.add([{"name": "two"}])
        with anyio.fail_after(5):
            await arrived.wait()
        await anyio.wait_all_tasks_blocked()  # the answer is read by then
        group.cancel_scope.cancel()
    caller.close()
    (scope,) = bodies[0]["resourceSpans"][0]["scopeSpans"]
    assert [span["name"] for span in scope["spans"]] == ["one", "two"]
