"""HTTP/2 at the activator, with gRPC's own client and server: each stream is held and placed alone."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api.objects import Key
from ondol.base.clock import SystemClock
from ondol.serverless.activator.activator import Activator
from ondol.serverless.activator.http2 import GoAways, StreamReset, Wire
from ondol.serverless.activator.limits import Limits
from ondol.serverless.activator.throttler import Endpoint

REVISION = Key("default", "hello-00001")
PATIENT = Limits(10)
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """GRPC's client and server know asyncio alone."""
    return "asyncio"


class Pod:
    """A gRPC server: unary, both-way and slow calls; it counts what runs in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.running = self.most = self.received = 0
        self.go = anyio.Event()
        self.server = grpc.aio.server()
        methods = {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Talk": grpc.stream_stream_rpc_method_handler(self.talk),
            "Count": grpc.stream_unary_rpc_method_handler(self.count),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", methods),))
        self.endpoint = Endpoint("127.0.0.1", self.server.add_insecure_port("127.0.0.1:0"))

    async def echo(self, request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("told-by", self.name),))
        return request

    async def wait(self, _request: bytes, _context: Any) -> bytes:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go.wait()
        finally:
            self.running -= 1
        return self.name.encode()

    async def fail(self, _request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now", (("why", "because"),))
        return b""

    async def talk(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request.upper()

    async def count(self, requests: AsyncIterator[bytes], _context: Any) -> bytes:
        async for request in requests:
            self.received += len(request)
        return str(self.received).encode()


@asynccontextmanager
async def _pods(*names: str) -> AsyncIterator[list[Pod]]:
    pods = [Pod(name) for name in names]
    for pod in pods:
        await pod.server.start()
    try:
        yield pods
    finally:
        for pod in pods:
            await pod.server.stop(None)


@asynccontextmanager
async def _activator(
    *, concurrency: int = 0, limits: Limits = PATIENT
) -> AsyncIterator[tuple[Activator, grpc.aio.Channel, list[Key]]]:
    requests: list[Key] = []
    activator = Activator("127.0.0.1", on_demand=requests.append, clock=SystemClock(), rng=random.Random(1))
    async with anyio.create_task_group() as group:
        await group.start(activator.run)
        port = await activator.listen(REVISION, concurrency=concurrency, limits=limits)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield activator, channel, requests
        group.cancel_scope.cancel()


async def _until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(9):
        while True:
            if true():
                return
            await anyio.sleep(0.01)


async def test_a_call_is_held_until_a_pod_is_ready() -> None:
    """Like a request of HTTP/1: asked for once, answered whole with its trailers; then nothing is left."""
    async with _pods("a") as (pod,), _activator() as (activator, channel, requests):
        call = channel.unary_unary("/t.T/Echo")(b"hello")
        await _until(lambda: activator.demand(REVISION) == 1)
        assert requests == [REVISION]
        activator.set_endpoints(REVISION, [pod.endpoint])
        assert await call == b"hello"
        assert dict(await call.trailing_metadata())["told-by"] == "a"
        await _until(lambda: activator._revisions[REVISION].counts.answers == {200: 1})
        await _until(lambda: activator.demand(REVISION) == 0)


async def test_an_error_keeps_its_status_words_and_trailers() -> None:
    """A failed call is answered by trailers alone, which pass as they are."""
    async with _pods("a") as (pod,), _activator() as (activator, channel, _):
        activator.set_endpoints(REVISION, [pod.endpoint])
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary("/t.T/Fail")(b"")
    assert failed.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert failed.value.details() == "not now"
    assert dict(failed.value.trailing_metadata() or ())["why"] == "because"


async def test_both_sides_can_talk_in_turns() -> None:
    """A stream that is open both ways passes each message when it comes, not at its end."""
    async with _pods("a") as (pod,), _activator() as (activator, channel, _):
        activator.set_endpoints(REVISION, [pod.endpoint])
        call = channel.stream_stream("/t.T/Talk")()
        for word in (b"one", b"two", b"three"):
            await call.write(word)
            assert await call.read() == word.upper()
        await call.done_writing()
        assert await call.read() == grpc.aio.EOF
        await _until(lambda: activator.demand(REVISION) == 0)


async def test_the_limit_counts_streams() -> None:
    """Many calls on one connection are spread, and no pod has more at a time than it may."""
    async with _pods("a", "b", "c") as pods, _activator(concurrency=1) as (activator, channel, _):
        activator.set_endpoints(REVISION, [pod.endpoint for pod in pods])
        calls = [channel.unary_unary("/t.T/Wait")(b"") for _ in range(9)]
        await _until(lambda: [pod.running for pod in pods] == [1, 1, 1] and activator.demand(REVISION) == 9)
        for pod in pods:
            pod.go.set()
        answers = [await call for call in calls]
    assert set(answers) == {b"a", b"b", b"c"}
    assert [pod.most for pod in pods] == [1, 1, 1]


async def test_without_a_limit_calls_are_spread() -> None:
    """One connection's calls go to all the pods there are."""
    async with _pods("a", "b", "c") as pods, _activator() as (activator, channel, _):
        activator.set_endpoints(REVISION, [pod.endpoint for pod in pods])
        calls = [channel.unary_unary("/t.T/Wait")(b"") for _ in range(30)]
        await _until(lambda: sum(pod.running for pod in pods) == 30)
        assert min(pod.running for pod in pods) > 3
        for pod in pods:
            pod.go.set()
        for call in calls:
            await call


async def test_a_call_given_up_is_held_no_longer() -> None:
    """It keeps no replicas wanted, and a pod that runs it hears of it."""
    async with _pods("a") as (pod,), _activator() as (activator, channel, _):
        waiting = channel.unary_unary("/t.T/Wait")(b"")
        await _until(lambda: activator.demand(REVISION) == 1)
        waiting.cancel()
        await _until(lambda: activator.demand(REVISION) == 0)
        activator.set_endpoints(REVISION, [pod.endpoint])
        running = channel.unary_unary("/t.T/Wait")(b"")
        await _until(lambda: pod.running == 1)
        running.cancel()
        await _until(lambda: pod.running == 0 and activator.demand(REVISION) == 0)


async def test_what_is_held_is_bounded() -> None:
    """Whoever sends much while nobody can take it is slowed by its window; nothing of it is lost."""
    chunk, count = bytes(64 * 1024), 64
    async with _pods("a") as (pod,), _activator() as (activator, channel, _):
        call = channel.stream_unary("/t.T/Count")()
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(count):
                await call.write(chunk)
                sent += 1
            await call.done_writing()

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            await _until(lambda: activator.demand(REVISION) == 1)
            other = channel.unary_unary("/t.T/Echo")(b"not stopped by its neighbour")
            await _until(lambda: activator.demand(REVISION) == 2)
            assert sent < count / 2
            activator.set_endpoints(REVISION, [pod.endpoint])
            assert await other == b"not stopped by its neighbour"
        assert await call == str(len(chunk) * count).encode()


async def test_a_pod_that_leaves_ends_what_it_began() -> None:
    """It takes no new call; what it has goes on to its end, and the next goes elsewhere."""
    async with _pods("a", "b") as (leaving, staying), _activator() as (activator, channel, _):
        activator.set_endpoints(REVISION, [leaving.endpoint])
        begun = channel.unary_unary("/t.T/Wait")(b"")
        await _until(lambda: leaving.running == 1)
        async with anyio.create_task_group() as group:
            group.start_soon(leaving.server.stop, 9)
            activator.set_endpoints(REVISION, [staying.endpoint])
            assert dict(await _trailers(channel))["told-by"] == "b"
            leaving.go.set()
        assert await begun == b"a"


async def _trailers(channel: grpc.aio.Channel) -> Any:
    call = channel.unary_unary("/t.T/Echo")(b"")
    await call
    return await call.trailing_metadata()


@pytest.mark.parametrize(
    ("limits", "ready"),
    [(Limits(0.05), False), (Limits(10, response_start_s=0.05), True), (Limits(10, idle_s=0.05), True)],
    ids=["no pod", "no beginning", "silence"],
)
async def test_what_takes_too_long_is_answered(limits: Limits, ready: bool) -> None:
    """504, which gRPC calls unavailable; neither the ticket nor the pod is kept."""
    async with _pods("a") as (pod,), _activator(limits=limits) as (activator, channel, _):
        activator.set_endpoints(REVISION, [pod.endpoint] if ready else [])
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary("/t.T/Wait")(b"")
        assert "504" in str(failed.value.details())
        await _until(lambda: activator.demand(REVISION) == 0 and pod.running == 0)


async def test_a_connection_that_breaks_the_protocol_is_closed() -> None:
    """Garbage after the preface ends that connection alone; nothing is held for it."""
    async with _pods("a") as (pod,), _activator() as (activator, channel, _):
        activator.set_endpoints(REVISION, [pod.endpoint])
        port = await activator.listen(REVISION, concurrency=0, limits=PATIENT)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64)
            with anyio.fail_after(9), suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                while True:
                    await stream.receive()
        assert await channel.unary_unary("/t.T/Echo")(b"well") == b"well"


def _frame(kind: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + bytes(4) + payload


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 4, 7, 8]), st.binary(min_size=8, max_size=40)), max_size=8),
    st.lists(st.integers(1, 30), max_size=60),
)
def test_goaways_are_taken_out_however_the_octets_come(
    frames: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    """All other frames arrive unchanged and in order, each GOAWAY's last stream once."""
    octets = b"".join(_frame(*each) for each in frames)
    goaways, passed, last = GoAways(preface=False), b"", []
    for size in [*cuts, len(octets)]:
        piece, octets = octets[:size], octets[size:]
        more, streams = goaways.split(piece)
        passed += more
        last += streams
    assert passed == b"".join(_frame(*each) for each in frames if each[0] != 7)
    assert last == [int.from_bytes(payload[:4], "big") & 0x7FFFFFFF for kind, payload in frames if kind == 7]


async def test_a_wire_whose_socket_ends_tells_its_streams() -> None:
    """Nobody waits for an answer that cannot come."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - anyio's typed attribute, no SQL
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, lambda stream: stream.aclose())
        async with await anyio.connect_tcp("127.0.0.1", port) as socket:
            wire = Wire(socket)
            _, inbox = wire.open([(b":method", b"GET"), (b":path", b"/")], ended=True)
            await wire.run()
        with pytest.raises(StreamReset):
            await inbox.get()
        assert wire.closed
        group.cancel_scope.cancel()
