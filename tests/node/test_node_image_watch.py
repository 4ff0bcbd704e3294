"""The node hears when the images of its store change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from ondol.api import objects
from ondol.base.clock import SystemClock
from ondol.node.images import watch

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def followed(folder: Path) -> AsyncIterator[Any]:
    """A stream with an item for each change that was heard of."""
    send, receive = anyio.create_memory_object_stream[None](100)

    async def changed() -> None:
        await send.send(None)

    async with anyio.create_task_group() as tasks, send, receive:
        await tasks.start(watch.follow, folder, SystemClock(), changed)
        yield receive
        tasks.cancel_scope.cancel()


async def heard(receive: Any) -> None:
    with anyio.fail_after(10):
        await receive.receive()


async def test_each_way_to_write_the_index_is_heard_of(tmp_path: Path) -> None:
    """Written in place, and renamed to its place; in a folder that only now comes to be."""
    folder = tmp_path / "data" / "images"
    async with followed(folder) as receive:
        (folder / "index.json").write_text("{}")
        await heard(receive)
        (folder / "draft").write_text("{}")
        (folder / "draft").replace(folder / "index.json")
        await heard(receive)


async def test_other_files_are_no_news(tmp_path: Path) -> None:
    """Blobs come and go without anybody being asked; the index after them is heard of once."""
    async with followed(tmp_path) as receive:
        for number in range(5):
            (tmp_path / f"blob{number}").write_text("x")
        for number in range(5):
            (tmp_path / "index.json").write_text(str(number))
        await heard(receive)
        await anyio.wait_all_tasks_blocked()
        assert receive.statistics().current_buffer_used == 0


async def test_a_kernel_without_watches_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then images are tried again by their back-off alone."""

    def refused(_folder: Path) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(watch, "_watched", refused)
    with anyio.fail_after(10):
        await watch.follow(tmp_path, SystemClock(), anyio.lowlevel.checkpoint)


@pytest.mark.root
async def test_an_image_that_is_imported_starts_its_pod(world: Any, layout: Any, tools: bytes) -> None:
    """A pod that waits for it, and has waited for long, starts as soon as it is there."""
    async with world.node():
        pod = world.pod("early", container={"image": "late.test/tools:1"})
        await world.create(pod)
        await world.until_events("early", {"BackOff"}, 20)
        writer = type(layout("unused"))(world.config.data_dir / "images")
        writer.image("late.test/tools:1", [tools], {"Cmd": ["/bin/sh"]})
        ready = await world.ready("early", 5)
        assert objects.status(ready)["containerStatuses"][0]["restartCount"] == 0
