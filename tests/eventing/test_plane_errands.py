"""Errands: long works beside reconcilers."""

from __future__ import annotations

import random
from collections.abc import Callable

import anyio
import pytest

from ondol.api.objects import Key
from ondol.base.clock import ManualClock
from ondol.eventing.plane.errands import Errands


@pytest.mark.anyio
async def test_a_bug_in_one_work_stops_no_other() -> None:
    """It is tried again later, as what fails is; the others are done meanwhile."""
    errands = Errands(ManualClock(), random.Random(1), at_once=1)
    ended: dict[str, float] = {}

    async def broken() -> None:
        raise KeyError("a bug")

    async def sound() -> None:
        return

    def tell(name: str) -> Callable[[float], None]:
        return lambda after_s: ended.update({name: after_s})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(errands.run)
        for name, work in (("broken", broken), ("sound", sound)):
            errands.begin(Key("n", name), name, work, tell(name))
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert ended["sound"] == 0.0
    assert ended["broken"] > 0.0
