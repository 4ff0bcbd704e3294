"""Starting pods that the activator asks itself: which, how, and what becomes of their answers."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.abc
import pytest

from ondol.api.objects import Key, Object
from ondol.base.clock import SystemClock
from ondol.contracts import mesh
from ondol.serverless.activator import early, head
from ondol.serverless.activator.activator import Activator
from ondol.serverless.activator.early import Question
from ondol.serverless.activator.limits import Limits
from ondol.serverless.activator.throttler import Endpoint
from ondol.serverless.autoscaler.reconciler import PodAutoscalerReconciler
from ondol.serverless.config.live import LiveConfig
from ondol.serverless.config.values import ServingConfig
from ondol.serverless.serving import wellknown

REVISION = Key("default", "hello-00001")
TCP = {"tcpSocket": {"port": 8080}, "successThreshold": 1}
pytestmark = pytest.mark.anyio


def pod(probe: Object = TCP, *others: Object, **spec: Any) -> Object:
    main = {"name": "main", "readinessProbe": probe}
    status = {"podIP": "10.0.0.9", "conditions": [{"type": mesh.POD_PROGRAMMED, "status": "True"}]}
    return {"metadata": {}, "spec": {"containers": [main, *others], **spec}, "status": status}


def test_how_a_starting_pod_is_asked() -> None:
    """As its probe does; often once its containers are free to start."""
    assert early.question(pod(), 8080) == Question(Endpoint("10.0.0.9", 8080), is_soon=True)
    waiting = pod()
    waiting["status"]["conditions"] = []
    assert early.question(waiting, 8080) == Question(Endpoint("10.0.0.9", 8080))
    headers = [{"name": "host", "value": "x"}, {"name": "A", "value": "b"}]
    action = {"port": 8080, "path": "up", "httpHeaders": headers}
    asked = early.question(pod({"httpGet": action}), 8080)
    assert asked is not None
    assert asked.request.startswith(b"GET /up HTTP/1.1\r\n")
    assert asked.request.lower().count(b"host:") == 1
    assert asked.request.endswith(b"\r\nhost: x\r\nA: b\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(
    "obj",
    [
        pod({"exec": {"command": ["true"]}}),
        pod({"grpc": {"port": 8080}}),
        pod({"tcpSocket": {"port": 9090}}),
        pod({"tcpSocket": {"port": 8080, "host": "elsewhere"}}),
        pod({"httpGet": {"port": 8080, "scheme": "HTTPS"}}),
        pod({**TCP, "initialDelaySeconds": 3}),
        pod({**TCP, "successThreshold": 2}),
        pod(TCP, {"name": "beside", "readinessProbe": {"tcpSocket": {"port": 1}}}),
        pod(TCP, {"name": "beside", "startupProbe": {"tcpSocket": {"port": 1}}}),
        pod(TCP, readinessGates=[{"conditionType": "x"}]),
        {**pod(), "status": {}},
        {**pod(), "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
        {**pod(), "status": {"podIP": "10.0.0.9", "conditions": [{"type": "Ready", "status": "True"}]}},
    ],
)
def test_whose_readiness_is_more_than_one_answer_is_not_asked(obj: Object) -> None:
    """Nor who has no address yet, is going, or is ready: the status tells."""
    assert early.question(obj, 8080) is None


@asynccontextmanager
async def _listener(answer: bytes) -> AsyncIterator[Endpoint]:
    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            with suppress(anyio.EndOfStream):  # a question that is no more than a connection
                await stream.receive()
                await stream.send(answer)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - anyio's typed attribute, no SQL
        yield Endpoint("127.0.0.1", port)
        group.cancel_scope.cancel()


@pytest.mark.parametrize(("code", "expected"), [(200, True), (302, True), (503, False), (404, False)])
async def test_what_counts_as_an_answer(code: int, expected: bool) -> None:
    """As with probes: 2xx and 3xx; and nobody listening is none."""
    clock = SystemClock()
    async with _listener(head.answer(code, "x", "")) as endpoint:
        assert await early.answers(Question(endpoint, b"GET / HTTP/1.1\r\n\r\n"), clock) is expected
        assert await early.answers(Question(endpoint), clock)
    assert not await early.answers(Question(endpoint), clock)


async def test_who_answers_takes_what_is_held_and_is_asked_no_more() -> None:
    """Until the status speaks of it; of who goes away nothing stays."""
    activator = Activator("127.0.0.1", on_demand=lambda _: None, clock=SystemClock(), rng=random.Random(1))
    async with anyio.create_task_group() as group, _listener(head.answer(200, "OK", "early")) as endpoint:
        await group.start(activator.run)
        port = await activator.listen(REVISION, concurrency=0, limits=Limits(5))

        def ready() -> list[Endpoint]:
            return list(activator._revisions[REVISION].throttler.ready)

        activator.expect(REVISION, [Question(endpoint, is_soon=True)])
        await anyio.sleep(0.02)
        assert ready() == []  # nobody waits: nobody is asked
        with anyio.fail_after(4):
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(b"GET / HTTP/1.1\r\nHost: hello\r\n\r\n")
                assert (await stream.receive()).endswith(b"early")
        activator.set_endpoints(REVISION, [])
        assert ready() == [endpoint]
        activator.expect(REVISION, [])
        assert ready() == []
        activator.set_endpoints(REVISION, [endpoint])
        assert ready() == [endpoint]
        group.cancel_scope.cancel()


async def test_whose_status_speaks_of_it_stays_an_endpoint() -> None:
    """Between the end of what is expected and the next reconcile, requests are not held anew."""
    heard: list[tuple[str, list[Any]]] = []
    activator: Any = SimpleNamespace(
        starts=SimpleNamespace(observe=lambda *_: None),
        set_endpoints=lambda _key, endpoints: heard.append(("ready", list(endpoints))),
        expect=lambda _key, questions: heard.append(("expected", [each.endpoint for each in questions])),
    )
    listed: list[Object] = []
    lister = SimpleNamespace(by_index=lambda *_: listed, list=list)
    informer = SimpleNamespace(lister=lister, add_index=lambda *_: None, add_handler=lambda *_: None)
    manager: Any = SimpleNamespace(
        clock=SystemClock(), informer=lambda *_, **__: informer, client=None, recorder=None
    )
    config = LiveConfig(ServingConfig(), lambda _: None)
    reconciler = PodAutoscalerReconciler(manager, activator, SimpleNamespace(), config)
    labels = {wellknown.REVISION_LABEL: REVISION.name}
    metadata = {"namespace": REVISION.namespace, "name": "p", "uid": "1", "labels": labels}
    ports = [{"name": "user-port", "containerPort": 8080}]
    starting = {**pod(), "metadata": metadata}
    starting["spec"]["containers"][0]["ports"] = ports
    address = Endpoint("10.0.0.9", 8080)
    conditions = [{"type": "Ready", "status": "True"}]
    ready = {**starting, "status": {**starting["status"], "conditions": conditions}}
    before: Object | None = None
    for after in ({**starting, "status": {}}, starting, ready):
        listed[:] = [after]
        reconciler._observe(before, after)
        before = after
    assert heard[2:] == [("ready", []), ("expected", [address]), ("ready", [address]), ("expected", [])]


async def test_a_starting_pod_is_asked_from_where_guarded_pods_let_past() -> None:
    """The address is of this machine; without one it is the kernel's to choose."""
    heard: list[str] = []

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            heard.append(stream.extra(anyio.abc.SocketAttribute.remote_address)[0])  # noqa: S610 - no SQL
            await stream.send(head.answer(200, "OK", ""))

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - no SQL
        asked = Question(Endpoint("127.0.0.1", port), b"GET / HTTP/1.1\r\n\r\n")
        for own in ("127.7.7.7", ""):
            assert await early.answers(asked, SystemClock(), own)
        group.cancel_scope.cancel()
    assert heard == ["127.7.7.7", "127.0.0.1"]
