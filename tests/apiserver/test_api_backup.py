"""A backup of a running server: who may have it, and what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from ondol import apiserver, store

PATH = "/ondol/backup"


async def test_a_backup_is_a_store_of_its_own(
    start: Callable[..., Any], tmp_path: Path, config_map: Callable[..., Any]
) -> None:
    """With every object there was when it was asked for; nothing of it is left behind."""
    log = store.open_file(tmp_path / "store.db")
    async with start(log, apiserver.ApiConfig(scratch_dir=tmp_path)) as api:
        await api.post("/api/v1/namespaces/default/configmaps", config_map("mine"))
        answer = await api.get(PATH)
        assert answer.status == 200
        assert [file async for file in anyio.Path(tmp_path).glob(".backup-*")] == []
    log.close()
    (tmp_path / "copy.db").write_bytes(answer.body)
    copy = store.open_file(tmp_path / "copy.db")
    assert copy.get("configmaps", "default/mine") is not None
    copy.close()


async def test_a_slow_reader_gets_all_of_it(start: Callable[..., Any], tmp_path: Path) -> None:
    """It waits on the disk and not in memory, so it may take longer than other answers."""
    log = store.open_file(tmp_path / "store.db")
    config = apiserver.ApiConfig(scratch_dir=tmp_path)
    async with start(log, config) as api:

        async def receive() -> dict[str, Any]:
            return {"type": "http.request"}

        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            if message.get("body"):
                await api.clock.advance(100.0)
            sent.append(message)

        await api.app(api._scope("GET", PATH, {}), receive, send)
        assert sent[0]["status"] == 200
        assert sent[-1] == {"type": "http.response.body", "body": b""}, "its end, and no cut"
    log.close()


async def test_only_who_may_do_anything_may_have_it(start: Callable[..., Any], tmp_path: Path) -> None:
    """It holds every Secret: readers of everything else, parts of the platform and nodes are refused."""
    log = store.open_memory()
    async with start(log, apiserver.ApiConfig(scratch_dir=tmp_path)) as api:
        for name, groups in (
            ("bob", ()),
            ("system:ondol:control", ()),
            ("system:node:a", ("system:nodes",)),
            ("m", ("system:monitoring",)),
        ):
            assert (await api.as_(name, *groups).get(PATH)).status == 403
        assert (await api("POST", PATH)).status == 405
    log.close()


async def test_a_server_without_files_makes_none(api: Any) -> None:
    """It says so."""
    assert (await api.get(PATH)).status == 503
