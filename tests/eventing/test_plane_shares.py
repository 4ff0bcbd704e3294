"""Room for what comes in: bounded by number and by bytes, and fair to who comes anew."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api.objects import Key
from ondol.base.clock import ManualClock
from ondol.eventing.intake import BODY_S
from ondol.eventing.journal.memory import MemoryJournal
from ondol.eventing.plane.counts import Counts
from ondol.eventing.plane.ingress import Desk, Entrance, Ingress
from ondol.eventing.plane.tracing import Tracer
from ondol.eventing.shares import Shares
from ondol.web.application import Scope


def _fill(shares: Shares, owner: str, size: int) -> int:
    count = 0
    while shares.enter(owner, size):
        count += 1
    return count


@pytest.mark.parametrize(("size", "first", "second", "third"), [(0, 200, 66, 22), (1000, 67, 22, 7)])
def test_one_who_floods_leaves_room_for_others(size: int, first: int, second: int, third: int) -> None:
    """By their number or by their bytes: two thirds of what there is, and of what is left, and so on."""
    shares = Shares(count_max=300, bytes_max=100_000)
    assert [_fill(shares, owner, size) for owner in "abc"] == pytest.approx([first, second, third], abs=2)
    assert shares.enter("d", size)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 40), st.booleans()), max_size=200))
def test_room_is_never_given_twice(steps: list[tuple[str, int, bool]]) -> None:
    """Whatever comes and goes, nobody has more than there is, and at the end nothing is taken."""
    shares = Shares(count_max=10, bytes_max=100)
    inside: list[tuple[str, int]] = []
    for owner, size, leaves in steps:
        if leaves and inside:
            shares.leave(*inside.pop(0))
        elif shares.enter(owner, size):
            grown = size if shares.grow(owner, size) else 0
            inside.append((owner, size + grown))
        assert (shares.count, shares.size) == (len(inside), sum(size for _, size in inside))
        assert shares.count <= 10
        assert shares.size <= 100
    for each in inside:
        shares.leave(*each)
    assert (shares.count, shares.size) == (0, 0)


class _Crowd:
    """Senders whose bodies do not come, and an ingress for two brokers."""

    def __init__(self, shares: Shares) -> None:
        self.clock, rng = ManualClock(), random.Random(1)
        self.journal = MemoryJournal(clock=self.clock, rng=rng)
        self.desk = Desk(self.journal, self.clock, Tracer(None, clock=self.clock, rng=rng), shares=shares)
        counts = Counts()
        self._entrances = {
            f"/n/{name}": Entrance(
                "Broker", Key("n", name), name, f"B-{name}", counts.arrivals("n", "Broker", name)
            )
            for name in ("flooded", "calm")
        }
        self.ingress = Ingress(self.desk, lambda scope: self._entrances[scope["path"]])

    async def send(self, name: str, body: bytes | None, declared: int | None) -> int:
        """The status; without a body it never comes."""
        statuses: list[int] = []
        attributes = {b"ce-specversion": b"1.0", b"ce-id": b"1", b"ce-source": b"/s", b"ce-type": b"t"}
        headers = list(attributes.items())
        if declared is not None:
            headers.append((b"content-length", b"%d" % declared))
        scope: Scope = {"type": "http", "method": "POST", "path": f"/n/{name}", "headers": headers}

        async def receive() -> Any:
            if body is None:
                await anyio.sleep_forever()
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if "status" in message:
                statuses.append(message["status"])

        await self.ingress(scope, receive, send)
        return statuses[0]


@pytest.mark.anyio
@pytest.mark.parametrize("declared", [90_000, 0, None])
async def test_a_flooded_broker_does_not_starve_another(declared: int | None) -> None:
    """Events for it are put off, those for others are taken, whatever its senders say of their bodies."""
    crowd = _Crowd(Shares(count_max=12, bytes_max=1_000_000))
    await crowd.journal.create_stream("B-calm", bytes_max=-1)
    await crowd.journal.create_stream("B-flooded", bytes_max=-1)
    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(crowd.send, "flooded", None, declared)
        await anyio.wait_all_tasks_blocked()
        assert await crowd.send("flooded", b"{}", 2 if declared is None else declared + 2) == 503
        assert await crowd.send("calm", b"{}", 2) == 202
        tasks.cancel_scope.cancel()
    assert (crowd.desk.shares.count, crowd.desk.shares.size) == (0, 0)
    assert await crowd.send("flooded", b"{}", 2) == 202


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("declared", "limit_s"), [(0, 5.0), (64 << 10, 7.0), (1 << 20, BODY_S), (None, BODY_S)]
)
async def test_a_small_body_has_less_time(declared: int | None, limit_s: float) -> None:
    """Who sends little needs no half minute for it."""
    crowd, statuses = _Crowd(Shares(count_max=12, bytes_max=1 << 24)), []

    async def send() -> None:
        statuses.append(await crowd.send("calm", None, declared))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        await crowd.clock.advance(limit_s - 0.5)
        assert not statuses
        await crowd.clock.advance(1)
    assert statuses == [408]


@pytest.mark.anyio
async def test_a_body_that_is_said_to_be_too_large_is_not_waited_for() -> None:
    """It is refused before any of it is there."""
    crowd = _Crowd(Shares(count_max=12, bytes_max=1 << 24))
    assert await crowd.send("calm", None, (1 << 20) + 1) == 413


@pytest.mark.anyio
async def test_a_body_without_a_length_takes_room_as_it_comes() -> None:
    """It is put off once there is none."""
    crowd = _Crowd(Shares(count_max=12, bytes_max=1000))
    assert await crowd.send("calm", b"x" * 1001, None) == 503
    assert crowd.desk.shares.size == 0
