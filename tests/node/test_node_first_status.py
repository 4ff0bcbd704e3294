"""The first words of a pod's status: its sandbox goes before what nobody waits for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from ondol.api.objects import Object
from ondol.node.pods import model
from ondol.node.pods.status import _is_first_in_making
from ondol.node.pods.status_writer import StatusWriter
from ondol.node.runtime.port import Exit, Handle
from ondol.sdk.testing import LoopClock, simulate

PENDING: Object = {"phase": "Pending", "conditions": []}
PLACED: Object = {"phase": "Pending", "conditions": [{"type": "PodReadyToStartContainers", "status": "True"}]}
FAILED: Object = {"phase": "Failed", "conditions": []}
BEFORE: Object = {"metadata": {"name": "p"}, "status": PLACED}


@pytest.mark.parametrize(
    ("pod", "statuses", "expected"),
    [
        ({"metadata": {"name": "p"}}, [(0.0, PENDING), (0.02, PLACED)], [(0.02, PLACED)]),
        ({"metadata": {"name": "p"}}, [(0.0, PENDING), (0.2, PLACED)], [(0.05, PENDING), (0.2, PLACED)]),
        ({"metadata": {"name": "p"}}, [(0.0, FAILED)], [(0.0, FAILED)]),
        (BEFORE, [(0.0, PENDING)], [(0.0, PENDING)]),
        ({"metadata": {"name": "p"}}, [], []),
    ],
)
def test_the_first_status_has_the_sandbox(
    pod: Object, statuses: list[tuple[float, Object]], expected: list[tuple[float, Object]]
) -> None:
    """Unless that takes long, was there before (and is lost), or there will be none."""
    written: list[tuple[float, Object]] = []

    async def scene() -> None:
        clock = LoopClock()
        began = clock.monotonic()

        async def patch(*_: Any, patch: Object, **__: Any) -> None:
            listed = [c for c in patch["status"]["conditions"] if c.get("status")]
            conditions = [{"type": c["type"], "status": c["status"]} for c in listed]
            phase = patch["status"]["phase"]
            written.append((round(clock.monotonic() - began, 3), {"phase": phase, "conditions": conditions}))

        host: Any = SimpleNamespace(clock=clock, client=SimpleNamespace(patch=patch))
        writer = StatusWriter(host, pod)
        current: list[Object] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.run, lambda: current[-1])
            for at_s, status in statuses:
                await clock.sleep(began + at_s - clock.monotonic())
                current.append(status)
                writer.changed()
            await clock.sleep(1.0)
            tasks.cancel_scope.cancel()

    simulate(scene)
    assert written == expected


def test_a_later_status_arrives_later() -> None:
    """Also where the pod's end is written by somebody else, while an older status is on its way."""
    arrived: list[str] = []

    async def scene() -> None:
        clock = LoopClock()

        async def patch(*_: Any, patch: Object, **__: Any) -> None:
            phase = patch["status"]["phase"]
            await clock.sleep(2.0 if phase == "Running" else 0.1)
            arrived.append(phase)

        host: Any = SimpleNamespace(clock=clock, client=SimpleNamespace(patch=patch))
        writer = StatusWriter(host, {"metadata": {"name": "p"}})
        current: list[Object] = [{"phase": "Running", "conditions": []}]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.run, lambda: current[-1])
            writer.changed()
            await clock.sleep(1.0)
            current.append(FAILED)
            writer.changed()
            await writer.write(FAILED)
            await clock.sleep(5.0)
            tasks.cancel_scope.cancel()

    simulate(scene)
    assert arrived == ["Running", "Failed"]


HANDLE = Handle("c", 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        (model.Container(), False),
        (model.Container(model.Attempt(0, "c", "i", "id", HANDLE)), True),
        (model.Container(model.Attempt(0, "c", "i", "id", HANDLE, started_at=1.0)), False),
        (model.Container(model.Attempt(0, "c", "i", "id", exit=Exit(1, False, 2.0))), False),
        (model.Container(model.Attempt(1, "c", "i", "id", HANDLE), restarts=1), False),
    ],
)
def test_a_container_is_told_of_once_it_runs(container: model.Container, expected: bool) -> None:
    """Made and not started, there is no more to say than before; a later run has one before it."""
    assert _is_first_in_making(container) is expected
