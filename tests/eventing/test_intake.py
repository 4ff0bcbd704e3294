"""What is taken in at once, by what stands beside brokers: never more than there is room for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from tests.eventing.calling import call, header, roomy

from ondol.base.clock import ManualClock
from ondol.eventing import applications
from ondol.eventing.exchange import Answer, Incoming
from ondol.eventing.intake import BODY_S, Intake
from ondol.web.application import Asgi, Scope


def beside(clock: ManualClock, **bounds: int) -> tuple[Asgi, Intake]:
    """A sink, source or transform that accepts everything."""

    async def handle(_incoming: Incoming) -> Answer:
        return Answer(202)

    intake = roomy(clock, **bounds)
    return applications.application(handle, intake, bytes_max=100), intake


@asynccontextmanager
async def under_way(application: Asgi, first: bytes = b"") -> AsyncIterator[list[Any]]:
    """A request whose body does not go on after its first piece; what it is answered."""
    sent: list[Any] = []
    pieces = [{"type": "http.request", "body": first, "more_body": True}]

    async def receive() -> Any:
        while not pieces:
            await anyio.sleep_forever()
        return pieces.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    async def serve() -> None:
        scope: Scope = {"type": "http", "method": "POST", "path": "/ns/b", "headers": []}
        await application(scope, receive, send)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        await anyio.wait_all_tasks_blocked()
        yield sent
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_body_that_does_not_come_gives_its_place_back() -> None:
    """Who sends slowly would keep others out."""
    clock = ManualClock()
    application, intake = beside(clock)
    async with under_way(application, b"{") as sent:
        assert (intake.shares.count, intake.shares.size) == (1, 1)
        await clock.advance(BODY_S + 1)
        assert sent[0]["status"] == 408
        assert (b"connection", b"close") in sent[0]["headers"]
        assert (intake.shares.count, intake.shares.size) == (0, 0)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("bounds", "status"),
    [({"count_max": 1}, 503), ({"bytes_max": 60}, 503), ({"count_max": 2, "bytes_max": 200}, 202)],
)
async def test_what_there_is_no_room_for_is_refused(bounds: dict[str, int], status: int) -> None:
    """With a time to try again; and taken once those before it are answered."""
    clock = ManualClock()
    application, _ = beside(clock, **bounds)
    async with under_way(application, b"x" * 50):
        answer = await call(application, "POST", "/", body=b"y" * 50, pieces=2)
        assert (answer.status, header(answer, b"retry-after")) == (status, "1" if status == 503 else None)
        await clock.advance(BODY_S + 1)
        assert (await call(application, "POST", "/", body=b"y" * 50)).status == 202


@pytest.mark.anyio
async def test_the_place_of_who_leaves_is_free_again() -> None:
    """Also where its body was too large, or what handles it fails."""
    clock = ManualClock()

    async def handle(_incoming: Incoming) -> Answer:
        raise RuntimeError

    intake = roomy(clock)
    application = applications.application(handle, intake, bytes_max=10)
    assert (await call(application, "POST", "/", body=b"x" * 11, pieces=2)).status == 413
    with pytest.raises(RuntimeError):
        await call(application, "POST", "/", body=b"x")
    async with under_way(application, b"x"):
        pass
    assert (intake.shares.count, intake.shares.size) == (0, 0)


@pytest.mark.anyio
async def test_who_floods_one_kind_leaves_room_for_others() -> None:
    """Sinks, sources and transforms have one room, and each of them its part."""
    clock = ManualClock()

    async def handle(_incoming: Incoming) -> Answer:
        return Answer(202)

    intake = roomy(clock, count_max=3)
    flooded, calm = (applications.application(handle, intake, name=name) for name in ("flooded", "calm"))
    async with under_way(flooded), under_way(flooded):
        assert (await call(flooded, "POST", "/")).status == 503
        assert (await call(calm, "POST", "/")).status == 202
