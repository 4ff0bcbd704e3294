"""The activator: requests are held, handed over, limited and answered when nobody comes."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api.objects import Key
from ondol.base.clock import Clock, ManualClock, SystemClock
from ondol.base.listeners import Listeners
from ondol.serverless.activator import head
from ondol.serverless.activator.activator import Activator
from ondol.serverless.activator.limits import Limits
from ondol.serverless.activator.metrics import Counts
from ondol.serverless.activator.throttler import Endpoint, QueueFull, Throttler, Ticket

REVISION = Key("default", "hello-00001")
REQUEST = b"GET / HTTP/1.1\r\nHost: hello\r\nConnection: keep-alive\r\n\r\n"
pytestmark = pytest.mark.anyio


@asynccontextmanager
async def _pod(
    name: str, *, seen: list[bytes] | None = None, answer: bytes | None = None
) -> AsyncIterator[Endpoint]:
    """A tiny HTTP server that answers with its name, or as it is told, and closes."""

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            received = b""
            while b"\r\n\r\n" not in received:
                received += await stream.receive()
            if seen is not None:
                seen.append(received)
            await stream.send(head.answer(200, "OK", name) if answer is None else answer)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - anyio's typed attribute, no SQL
        yield Endpoint("127.0.0.1", port)
        group.cancel_scope.cancel()


@asynccontextmanager
async def _running(requests: list[Key], clock: Clock | None = None) -> AsyncIterator[Activator]:
    activator = Activator(
        "127.0.0.1", on_demand=requests.append, clock=clock or SystemClock(), rng=random.Random(1)
    )
    async with anyio.create_task_group() as group:
        await group.start(activator.run)
        yield activator
        group.cancel_scope.cancel()


def counts_of(activator: Activator) -> Counts:
    return activator._revisions[REVISION].counts


async def _get(port: int) -> bytes:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(REQUEST)
        answer = b""
        try:
            while True:
                answer += await stream.receive()
        except anyio.EndOfStream:
            return answer


async def _until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(4):  # less than a request is held
        while True:
            if true():
                return
            await anyio.sleep(0.01)


async def test_request_at_zero_is_held_until_a_pod_is_ready() -> None:
    """It waits, asks for scale once, and is answered by the first ready pod."""
    requests: list[Key] = []
    seen: list[bytes] = []
    answers: list[bytes] = []
    async with _running(requests) as activator, _pod("pod-a", seen=seen) as pod:
        port = await activator.listen(REVISION, concurrency=0, limits=Limits(5))

        async def request() -> None:
            answers.append(await _get(port))

        async with anyio.create_task_group() as group:
            group.start_soon(request)
            await anyio.sleep(0.1)
            assert (requests, activator.demand(REVISION), answers) == ([REVISION], 1, [])
            activator.set_endpoints(REVISION, [pod])
        await _until(lambda: counts_of(activator).answers == {200: 1})
    assert answers[0].endswith(b"pod-a")
    assert b"Connection: close" in seen[0]
    assert activator.demand(REVISION) == 0
    assert counts_of(activator).waited.count == 1
    assert counts_of(activator).opened == 1


async def test_answer_says_that_no_other_follows_it() -> None:
    """A server that closes without a word must not leave the proxy with a connection it would use again."""
    silent = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    async with _running([]) as activator, _pod("pod-a", answer=silent) as pod:
        port = await activator.listen(REVISION, concurrency=1, limits=Limits(5))
        activator.set_endpoints(REVISION, [pod])
        assert await _get(port) == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nConnection: close\r\n\r\nok"


async def test_answer_that_breaks_off_is_passed_as_far_as_it_came() -> None:
    """Half of a head is the proxy's to judge."""
    async with _running([]) as activator, _pod("pod-a", answer=b"HTTP/1.1 200 OK\r\ncont") as pod:
        port = await activator.listen(REVISION, concurrency=1, limits=Limits(5))
        activator.set_endpoints(REVISION, [pod])
        assert await _get(port) == b"HTTP/1.1 200 OK\r\ncont"


async def test_pod_that_ends_without_a_word_is_answered_for() -> None:
    """Or the proxy could not tell it from an activator that has died, of which it may ask again."""
    async with _running([]) as activator, _pod("a", answer=b"") as pod:
        port = await activator.listen(REVISION, concurrency=0, limits=Limits(5))
        activator.set_endpoints(REVISION, [pod])
        assert (await _get(port)).startswith(b"HTTP/1.1 503 ")
        await _until(lambda: counts_of(activator).answers == {503: 1})


async def test_client_that_hangs_up_is_not_waited_for() -> None:
    """Its request is held no longer, keeps no replicas wanted, and no pod ever sees it."""
    seen: list[bytes] = []
    async with _running([]) as activator, _pod("pod-a", seen=seen) as pod:
        port = await activator.listen(REVISION, concurrency=0, limits=Limits(5))
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"POST / HTTP/1.1\r\nHost: hello\r\nContent-Length: 9\r\n\r\nhalf")
            await _until(lambda: activator.demand(REVISION) == 1)
        await _until(lambda: activator.demand(REVISION) == 0)
        activator.set_endpoints(REVISION, [pod])
        assert (await _get(port)).endswith(b"pod-a")
    assert len(seen) == 1


async def test_what_is_sent_while_held_arrives() -> None:
    """A body that comes after the head, while nobody can take it yet, is not lost."""
    seen: list[bytes] = []
    async with _running([]) as activator, _pod("pod-a", seen=seen) as pod:
        port = await activator.listen(REVISION, concurrency=0, limits=Limits(5))
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"POST / HTTP/1.1\r\nHost: hello\r\nContent-Length: 4\r\n\r\n")
            await anyio.sleep(0.05)
            await stream.send(b"body")
            await anyio.sleep(0.05)
            activator.set_endpoints(REVISION, [pod])
            assert (await stream.receive()).startswith(b"HTTP/1.1 200")
    assert seen[0].endswith(b"\r\n\r\nbody")


async def test_nobody_comes_in_time() -> None:
    """After the revision's time-out the request is answered 504, not left hanging."""
    async with _running([]) as activator:
        port = await activator.listen(REVISION, concurrency=0, limits=Limits(0.05))
        assert (await _get(port)).startswith(b"HTTP/1.1 504")
        assert activator.demand(REVISION) == 0
        assert counts_of(activator).answers == {504: 1}


async def _answer_after(clock: ManualClock, port: int, request: bytes, limit_s: float) -> bytes:
    """What is answered once `limit_s` have passed on the clock; nothing may be until just before."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        if request:
            await stream.send(request)
        due = clock.monotonic() + limit_s
        await _until(lambda: any(timer[0] == due for timer in clock._timers))
        await clock.advance(limit_s - 1)
        assert clock._timers, "answered too early"
        await clock.advance(1)
        return await stream.receive()


async def test_every_limit_is_counted_by_the_clock() -> None:
    """Five minutes for a pod, fifteen seconds for a head, an hour for an answer: no test waits for them."""
    clock = ManualClock()
    async with _running([], clock) as activator:
        slow = await activator.listen(REVISION, concurrency=0, limits=Limits(300))
        assert (await _answer_after(clock, slow, REQUEST, 300)).startswith(b"HTTP/1.1 504")
        assert (await _answer_after(clock, slow, b"", 15)).startswith(b"HTTP/1.1 408")
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")  # accepts and says nothing
    async with listener, _running([], clock) as activator:
        silent = Endpoint("127.0.0.1", listener.extra(anyio.abc.SocketAttribute.local_port))  # noqa: S610 - no SQL
        limits = Limits(3600, response_start_s=3500)
        placed = await activator.listen(REVISION, concurrency=0, limits=limits)
        activator.set_endpoints(REVISION, [silent])
        assert (await _answer_after(clock, placed, REQUEST, 3500)).startswith(b"HTTP/1.1 504")


async def test_pod_that_went_away_is_not_the_requests_fault() -> None:
    """A refused connection is tried again, with the pods that are ready by then."""
    async with _running([]) as activator, _pod("alive") as pod:
        port = await activator.listen(REVISION, concurrency=0, limits=Limits(5))
        activator.set_endpoints(REVISION, [Endpoint("127.0.0.1", 1)])
        async with anyio.create_task_group() as group:
            answers: list[bytes] = []

            async def request() -> None:
                answers.append(await _get(port))

            group.start_soon(request)
            await anyio.sleep(0.02)
            activator.set_endpoints(REVISION, [pod])
        assert answers[0].endswith(b"alive")


async def test_port_is_kept_and_closed() -> None:
    """Listening again is the same port; closing ends it."""
    async with _running([]) as activator:
        port = await activator.listen(REVISION, concurrency=0, limits=Limits(1))
        assert await activator.listen(REVISION, concurrency=2, limits=Limits(1)) == port
        activator.close(REVISION)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(OSError, match=r".+"):
            await _get(port)


async def test_throttler_first_come_first_served_within_the_limit() -> None:
    """Never more than the limit a pod, and those who wait are called in order."""
    throttler, pod = Throttler(concurrency=1), Endpoint("a", 1)
    throttler.set_endpoints([pod])
    assert throttler.try_acquire() == pod
    first, second = throttler.try_acquire(), throttler.try_acquire()
    assert isinstance(first, Ticket)
    assert isinstance(second, Ticket)
    throttler.release(pod)
    assert (first.endpoint, second.endpoint, throttler.waiting) == (pod, None, 1)
    throttler.cancel(second)
    throttler.release(pod)
    assert throttler.demand == 0


async def test_throttler_refuses_when_the_queue_is_full() -> None:
    """Beyond the queue's length a request is refused at once."""
    throttler = Throttler(concurrency=0, queue_max=1)
    throttler.try_acquire()
    with pytest.raises(QueueFull):
        throttler.try_acquire()


@given(st.lists(st.sampled_from(["acquire", "release", "grow", "shrink"]), max_size=60), st.integers(1, 3))
def test_throttler_never_exceeds_the_limit(steps: list[str], limit: int) -> None:
    """Whatever the order of events, a ready pod holds at most its limit and nothing is lost."""
    throttler, pods = Throttler(concurrency=limit, rng=random.Random(0)), 1
    places: list[Endpoint] = []
    tickets: list[Ticket] = []
    throttler.set_endpoints([Endpoint("pod", 0)])
    for step in steps:
        if step == "acquire":
            got = throttler.try_acquire()
            if isinstance(got, Ticket):
                tickets.append(got)
            else:
                places.append(got)
        elif step == "release" and places:
            throttler.release(places.pop())
        elif step in {"grow", "shrink"}:
            pods = max(0, pods + (1 if step == "grow" else -1))
            throttler.set_endpoints(Endpoint("pod", n) for n in range(pods))
        places += [t.endpoint for t in tickets if t.endpoint is not None]
        tickets = [t for t in tickets if t.endpoint is None]
        assert all(places.count(pod) <= limit for pod in set(places))
        assert throttler.demand == len(places) + len(tickets)


def test_head_is_told_to_close_and_upgrade_is_left_alone() -> None:
    """An ordinary request becomes the connection's last; an upgrade keeps its header."""
    plain = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: keep-alive\r\n\r\n"
    assert head.closing(plain) == b"GET / HTTP/1.1\r\nhost: a\r\nConnection: close\r\n\r\n"
    upgrade = b"GET / HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert head.closing(upgrade) == upgrade
    assert head.split(plain + b"body") == (plain, b"body")
    assert head.split(b"GET / HTTP/1.1\r\n") is None
    assert head.is_http2(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert not head.is_http2(plain)


_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
_KEEP_ALIVE = b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\nx: y\r\n\r\n"
_CLOSED = b"HTTP/1.1 200 OK\r\nx: y\r\nConnection: close\r\n\r\n"
_SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        (
            _KEEP_ALIVE + b"body\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            _CLOSED + b"body\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ),
        (_INTERIM + _INTERIM + _KEEP_ALIVE + b"body", _INTERIM + _INTERIM + _CLOSED + b"body"),
        (_SWITCHED + b"frames" + _KEEP_ALIVE, _SWITCHED + b"frames" + _KEEP_ALIVE),
        (b"HTTP/1.1 200 OK\n\n" + _KEEP_ALIVE, b"HTTP/1.1 200 OK\n\n" + _KEEP_ALIVE),
        (b"SSH-2.0-x\r\n\r\n" + _KEEP_ALIVE, b"SSH-2.0-x\r\n\r\n" + _KEEP_ALIVE),
        (
            b"HTTP/1.1 200 OK\r\nx: " + b"y" * head.HEAD_BYTES_MAX,
            b"HTTP/1.1 200 OK\r\nx: " + b"y" * head.HEAD_BYTES_MAX,
        ),
    ],
    ids=["last", "interim", "switched", "bare line ends", "another protocol", "too large"],
)
@given(data=st.data())
def test_answers_head_however_it_comes(sent: bytes, passed: bytes, data: st.DataObject) -> None:
    """The head of the answer proper says it is the last, in whatever pieces it comes; all else stays."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    answer = head.Answer()
    pieces = [answer.feed(sent[start:end]) for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert b"".join(pieces) + answer.rest() == passed


class _Left(Listeners):
    """What one activator leaves to the next, as the supervisor keeps it."""

    def __init__(self) -> None:
        self.kept: dict[str, socket.socket] = {}
        self._unclaimed: set[str] = set()

    def succeed(self) -> None:
        self._unclaimed = set(self.kept)

    def inherit(self, name: str) -> socket.socket | None:
        if name not in self._unclaimed:
            return None
        self._unclaimed.discard(name)
        return self.kept[name].dup()

    def keep(self, name: str, listening: socket.socket) -> None:
        self.kept[name] = listening.dup()

    def drop(self, name: str) -> None:
        self._unclaimed.discard(name)
        if (kept := self.kept.pop(name, None)) is not None:
            kept.close()

    def unclaimed(self) -> list[str]:
        return sorted(self._unclaimed)


@pytest.fixture
def left() -> Iterator[_Left]:
    """Closed at the end, as the supervisor's are."""
    kept = _Left()
    yield kept
    for name in list(kept.kept):
        kept.drop(name)


def _activator(left: _Left, on_demand: Callable[[Key], None] = lambda _: None) -> Activator:
    rng = random.Random(1)
    return Activator("127.0.0.1", on_demand=on_demand, clock=SystemClock(), rng=rng, listeners=left)


async def test_a_retired_activator_answers_what_it_holds_and_its_successor_the_rest(left: _Left) -> None:
    """No connection is refused in between, and none is lost: not the held one, nor those that came unseen."""
    demanded, answered, answers = anyio.Event(), anyio.Event(), list[bytes]()
    former, successor = _activator(left, lambda _: demanded.set()), _activator(left)

    async def ask(port: int) -> None:
        answers.append(await _get(port))
        answered.set()

    async with _pod("pod") as pod, anyio.create_task_group() as group:
        await group.start(former.run)
        port = await former.listen(REVISION, concurrency=0, limits=Limits(30))
        group.start_soon(ask, port)
        with anyio.fail_after(10):
            await demanded.wait()
        async with anyio.create_task_group() as retiring:
            retiring.start_soon(former.retire)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(ask, port)  # nobody accepts: the kernel keeps it
            left.succeed()
            await group.start(successor.run)
            assert await successor.listen(REVISION, concurrency=0, limits=Limits(30)) == port
            successor.set_endpoints(REVISION, [pod])
            with anyio.fail_after(10):
                await answered.wait()
            assert (former.demand(REVISION), former.is_retired) == (1, True)
            former.set_endpoints(REVISION, [pod])
        assert len(answers) == 2
        assert all(answer.endswith(b"pod") for answer in answers)
        group.cancel_scope.cancel()


async def test_ports_of_revisions_that_are_gone_are_closed(left: _Left) -> None:
    """A successor that knows all revisions keeps no others'; nobody would accept there."""
    former, successor = _activator(left), _activator(left)
    other = Key("default", "other")
    async with anyio.create_task_group() as group:
        await group.start(former.run)
        ports = [await former.listen(key, concurrency=0, limits=Limits(30)) for key in (REVISION, other)]
        await former.retire()
        left.succeed()
        await group.start(successor.run)
        successor.drop_unclaimed([REVISION])
        assert list(left.kept) == [str(REVISION)]
        assert await successor.listen(REVISION, concurrency=0, limits=Limits(30)) == ports[0]
        with pytest.raises(OSError, match=r".+"):
            await anyio.connect_tcp("127.0.0.1", ports[1])
        group.cancel_scope.cancel()
