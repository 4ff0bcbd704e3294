"""The store in a file: durable when acknowledged, one process at a time, clear about what is wrong."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from ondol import store
from ondol.base import database, errors
from ondol.base.clock import ManualClock
from ondol.store import sqlite
from ondol.store.sqlite import Database
from ondol.store.writer import Append, Inline, Work

pytestmark = pytest.mark.anyio

_WRITER = """
import sys, anyio
from pathlib import Path
from ondol import store

async def main():
    kept = store.open_file(Path(sys.argv[1]))
    async def write(worker):
        for number in range(100_000):
            record = await kept.append("b", f"{worker}/{number}", lambda r: b"%d" % r, expected=0)
            sys.stdout.write(f"{record.revision} {record.name}\\n")
            sys.stdout.flush()
    async with anyio.create_task_group() as group:
        for worker in range(8):
            group.start_soon(write, worker)

anyio.run(main)
"""


def test_every_acknowledged_write_survives_kill_9(tmp_path: Path) -> None:
    """A process is killed in the middle of writing: all it had confirmed is there, under its revision."""
    file = tmp_path / "store.db"
    acknowledged: list[tuple[int, str]] = []
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(file)] if not acknowledged else _again(file),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(400)]
        os.kill(process.pid, signal.SIGKILL)
        rest, _ = process.communicate()
        lines += rest[: rest.rfind("\n") + 1].splitlines()
        acknowledged += [(int(line.split()[0]), line.split()[1]) for line in lines]
        log = store.open_file(file)
        try:
            for revision, name in acknowledged:
                assert log.get("b", name) == store.Record(name, revision, b"%d" % revision)
            assert log.revision >= max(revision for revision, _ in acknowledged)
        finally:
            log.close()


def _again(file: Path) -> list[str]:
    """The writer under names that are still free."""
    script = _WRITER.replace('f"{worker}/{number}"', f'f"{{worker}}/{os.urandom(4).hex()}-{{number}}"')
    return [sys.executable, "-c", script, str(file)]


async def test_a_second_opener_is_refused_with_a_remedy(tmp_path: Path) -> None:
    """Two platforms on one data directory would corrupt it: the second is told to stop the first."""
    log = store.open_file(tmp_path / "store.db")
    with pytest.raises(errors.HostError, match="in use by another process") as caught:
        store.open_file(tmp_path / "store.db")
    assert "stop the platform" in caught.value.remedy
    log.close()
    store.open_file(tmp_path / "store.db").close()


def test_a_damaged_file_is_named_with_a_remedy(tmp_path: Path) -> None:
    """A file that is no database is refused before anything is written to it."""
    file = tmp_path / "store.db"
    file.write_bytes(b"this is not a database, not even nearly one" * 100)
    with pytest.raises(errors.Damaged, match="damaged"):
        store.open_file(file)
    assert file.read_bytes().startswith(b"this is not")


@pytest.mark.parametrize("loss", ["emptied", "removed"])
async def test_a_lost_file_is_not_begun_anew(tmp_path: Path, loss: str) -> None:
    """Found empty or gone where there was one: refused with the way out, and nothing is begun."""
    file = tmp_path / "store.db"
    log = store.open_file(file)
    await _put(log, "a")
    log.close()
    file.write_bytes(b"") if loss == "emptied" else file.unlink()
    for _ in range(2):
        with pytest.raises(errors.Damaged, match=r"is (empty|gone)") as caught:
            store.open_file(file)
    assert "store.db.lock" in caught.value.remedy
    assert not file.exists() or file.stat().st_size == 0
    (tmp_path / "store.db.lock").unlink()
    store.open_file(file).close()


def _json(value: bytes) -> bool:
    return value[:1] == b"{" and value[-1:] == b"}" and b"\0" not in value


async def _filled(file: Path, count: int) -> None:
    log = store.open_file(file)
    for number in range(count):
        await log.append("b", f"n{number}", lambda _: b'{"a":"' + b"x" * 900 + b'"}')
    log.close()


def _overwrite(file: Path, name: bytes, with_: bytes, *, offset: int = 0) -> None:
    """Where the row of that name lies."""
    content = bytearray(file.read_bytes())
    at = content.index(name) + len(name) + offset
    content[at : at + len(with_)] = with_
    file.write_bytes(content)


async def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    """By its number and name; what can be read is saved, and the damaged file stays as it was."""
    file = tmp_path / "store.db"
    await _filled(file, 20)
    _overwrite(file, b"n7", b"\0" * 300, offset=50)
    before = file.read_bytes()
    for _ in range(2):
        with pytest.raises(errors.Damaged, match=r"row 9 \(b, n7\) is not what was written"):
            store.open_file(file, check=_json)
    with pytest.raises(errors.HostError, match="row 9"):
        store.repair.examine(file, _json)
    saved = store.repair.salvage(file, tmp_path / "new.db", _json)
    assert saved == (19, ["row 9 (b, n7) is not what was written"])
    assert file.read_bytes() == before
    again = store.open_file(tmp_path / "new.db", check=_json)
    assert {record.name for record in again.page("b").records} == {f"n{n}" for n in range(20) if n != 7}
    assert (await again.append("b", "next", lambda _: b"{}")).revision > 21
    with pytest.raises(errors.Expired):
        again.watch("b", after=5)
    again.close()


async def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    """With the last row that can be read; what lies on other pages is saved."""
    file = tmp_path / "store.db"
    await _filled(file, 40)
    content = bytearray(file.read_bytes())
    page = content.index(b"n20") // 4096
    content[page * 4096 : (page + 1) * 4096] = b"\xee" * 4096
    file.write_bytes(content)
    with pytest.raises(errors.HostError, match=r"malformed behind row \d+ \(Page \d+: .*\)"):
        store.open_file(file, check=_json)
    saved = store.repair.salvage(file, tmp_path / "new.db", _json)
    assert 30 <= saved.rows < 40
    assert len(saved.problems) >= 1


async def test_a_copy_of_a_store_in_use(tmp_path: Path) -> None:
    """It is whole by itself, and the store goes on."""
    log = store.open_file(tmp_path / "store.db")
    await _put(log, "a")
    await log.copy(tmp_path / "copy.db")
    await _put(log, "b")
    log.close()
    copy = store.open_file(tmp_path / "copy.db")
    assert [record.name for record in copy.page("b").records] == ["a"]
    copy.close()


def test_a_file_of_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    """What a newer version wrote is not guessed at."""
    file = tmp_path / "store.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(errors.HostError, match="newer version"):
        store.open_file(file)


def test_the_file_is_private(tmp_path: Path) -> None:
    """Secrets lie in the file and in its journal: nobody else may read either."""
    log = store.open_file(tmp_path / "store.db")
    anyio.run(_put, log, "a")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    log.close()
    assert modes
    assert set(modes.values()) == {0o600}, modes


async def _put(log: store.Store, name: str, size: int = 10) -> store.Record:
    return await log.append("b", name, lambda _: b"x" * size)


async def _delete(log: store.Store, name: str) -> None:
    await log.append("b", name, lambda _: b"", delete=True)


async def test_a_full_disk_refuses_writes_and_loses_nothing(tmp_path: Path) -> None:
    """No space: the write is refused as Unavailable and not visible; with space again, writing works."""
    log = store.open_file(tmp_path / "store.db")
    await _put(log, "before")
    connection = log._database._connection
    pages = connection.value("PRAGMA page_count")
    connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(errors.Unavailable, match="the disk is full") as refused:
        await _put(log, "too-much", 100_000)
    assert str(tmp_path / "store.db") in refused.value.message
    assert refused.value.retry_after_s is None
    assert log.get("b", "too-much") is None
    assert [event.record.name for event in log.watch("b", after=1).take()] == ["before"]
    connection.execute("PRAGMA max_page_count=1000000")
    await _put(log, "too-much", 100_000)
    log.close()
    again = store.open_file(tmp_path / "store.db")
    assert sorted(r.name for r in again.page("b").records) == ["before", "too-much"]
    again.close()


@pytest.mark.root
async def test_things_can_be_deleted_on_a_full_disk(small_disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the space that was kept for it, which nothing else may use; with room again it is kept again."""
    monkeypatch.setattr(sqlite, "_RESERVE_BYTES", 512 * 1024)
    file = small_disk.path / "store.db"
    reserve = file.with_name("store.db.reserve")
    log = store.open_file(file)
    for number in range(40):
        await _put(log, f"n{number}", 4000)
    assert reserve.stat().st_size == 512 * 1024
    small_disk.fill()
    with pytest.raises(errors.Unavailable, match="the disk is full"):
        await _put(log, "more", 100_000)
    assert reserve.exists()  # what else fills the disk would take its space
    with pytest.raises(errors.Unavailable, match="the disk is full"):
        await _put(log, "little", 10)
    await log.append("b", "n0", lambda _: b"marked", urgent=True)
    assert not reserve.exists()
    for number in range(40):
        await log.append("b", f"n{number}", lambda _: b"gone", delete=True)
    assert log.get("b", "n0") is None
    with pytest.raises(errors.Unavailable, match="the disk is full"):
        await _put(log, "not-yet", 100)
    small_disk.make_room()
    await _put(log, "now", 100)
    assert reserve.stat().st_size == 512 * 1024
    names = {record.name for record in log.page("b").records}
    log.close()
    again = store.open_file(file)
    assert {record.name for record in again.page("b").records} == names
    again.close()


@pytest.mark.root
@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_store_opens_on_a_full_disk(small_disk: Any, *, killed: bool) -> None:
    """However the last process ended: all that was kept is read, writes are refused until there is space."""
    file = small_disk.path / "store.db"
    script = _WRITER.replace("100_000", "20") + ("import os; os._exit(1)" if killed else "")
    subprocess.run([sys.executable, "-c", script, file], stdout=subprocess.DEVNULL, check=not killed)
    if not killed:
        store.open_file(file).close()
    assert file.with_name("store.db-wal").exists() == killed, "the log is left for the next one to read"
    small_disk.fill()

    log = store.open_file(file)
    assert len(log.page("b").records) == 160
    with pytest.raises(errors.Unavailable, match="the disk is full"):
        anyio.run(_put, log, "new", 100_000)
    small_disk.make_room()
    anyio.run(_put, log, "new", 100_000)
    assert len(log.page("b").records) == 161
    log.close()


async def test_history_survives_a_restart(tmp_path: Path) -> None:
    """A watcher that comes back after a restart goes on where it was."""
    file = tmp_path / "store.db"
    log = store.open_file(file)
    first = await _put(log, "a")
    await log.append("b", "a", lambda _: b"changed")
    await log.append("b", "a", lambda _: b"gone", delete=True)
    log.close()
    again = store.open_file(file)
    events = again.watch("b", after=first.revision).take()
    assert [(e.record.value, e.deleted) for e in events] == [(b"changed", False), (b"gone", True)]
    assert events[0].previous == first
    again.close()


async def test_compaction_gives_rows_back_and_is_remembered(tmp_path: Path) -> None:
    """Overwritten rows leave the file; what is forgotten stays forgotten after a restart."""
    file = tmp_path / "store.db"
    log = store.open_file(file)
    first = await _put(log, "a", 1000)
    for _ in range(200):
        await _put(log, "a", 1000)
    await _put(log, "b", 10)
    await log.append("b", "b", lambda _: b"", delete=True)
    last = log.revision
    await log.compact(last)
    rows = log._database._connection.value("SELECT count(*) FROM log")
    assert rows == 1
    with pytest.raises(errors.Expired):
        log.watch("b", after=first.revision)
    log.close()
    again = store.open_file(file)
    assert again.revision == last  # although the row that had it was purged
    with pytest.raises(errors.Expired):
        again.watch("b", after=first.revision)
    with pytest.raises(errors.Expired):
        again.page("b", revision=first.revision)
    again.close()


async def test_the_file_and_its_log_shrink_with_what_they_hold(tmp_path: Path) -> None:
    """Space that nothing needs any more goes back to the disk, not only a page of it."""
    file = tmp_path / "store.db"
    log = store.open_file(file, store.Retention(events=2))
    async with anyio.create_task_group() as group:
        for number in range(3_000):
            group.start_soon(_put, log, f"a/{number}", 10_000)
    await log.compact(log.revision)
    full = file.stat().st_size
    async with anyio.create_task_group() as group:
        for number in range(3_000):
            group.start_soon(_delete, log, f"a/{number}")
    await _put(log, "b", 10)
    await log.compact(log.revision)
    assert full > 20_000_000
    assert file.stat().st_size < 3_000_000
    assert file.with_name("store.db-wal").stat().st_size < 10_000_000
    log.close()
    again = store.open_file(file)
    assert [record.name for record in again.page("b").records] == ["b"]
    again.close()


async def test_writes_are_made_between_the_steps_of_a_large_purge() -> None:
    """Forgetting ten thousand rows is work in turns with the writes that come meanwhile."""
    log = store.open_memory(store.Retention(events=1))
    for number in range(10_000):
        await _put(log, f"a/{number % 10}")
    log._writer = writer = _Queued(log._database)
    async with anyio.create_task_group() as group:
        group.start_soon(log.purge)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(_put, log, "urgent")
        await anyio.wait_all_tasks_blocked()
        writer.run()
        await anyio.wait_all_tasks_blocked()
        assert log.get("b", "urgent") is not None
        rows = log._database._connection.value("SELECT count(*) FROM log")
        assert rows > 1_000  # most of them are still to go
        while writer.jobs:
            writer.run()
            await anyio.wait_all_tasks_blocked()
    rows = log._database._connection.value("SELECT count(*) FROM log")
    assert rows < 30
    log.close()


class _Queued(Inline):
    """Does what it has been asked for when it is told to."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.jobs: list[Append | Work] = []

    def submit(self, job: Append | Work) -> None:
        self.jobs.append(job)

    def run(self) -> None:
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            super().submit(job)


async def test_compaction_goes_on_by_the_clock() -> None:
    """What was there at one interval is forgotten at the next."""
    log, clock = store.open_memory(), ManualClock()
    async with anyio.create_task_group() as group:
        group.start_soon(log.compact_forever, clock, 300.0)
        await anyio.wait_all_tasks_blocked()
        first = await _put(log, "a")
        await _put(log, "a")
        second = log.revision
        await clock.advance(300)
        assert log.watch("b", after=first.revision).take()
        await clock.advance(300)
        with pytest.raises(errors.Expired):
            log.watch("b", after=1)
        assert log.watch("b", after=second).take() == []
        group.cancel_scope.cancel()
    log.close()


async def test_concurrent_writers_of_one_name_are_put_in_order(tmp_path: Path) -> None:
    """Of many who expect the same revision one wins, and the losers are told after it is visible."""
    log = store.open_file(tmp_path / "store.db")
    start = await _put(log, "a")
    outcomes: list[str] = []

    async def contend(worker: int) -> None:
        try:
            await log.append("b", "a", lambda _: b"%d" % worker, expected=start.revision)
        except store.log.RevisionConflict as conflict:
            seen = conflict.current is not None and conflict.current.revision > start.revision
            outcomes.append("lost" if seen else "lost, and not told to whom")
        else:
            outcomes.append("won")

    async with anyio.create_task_group() as group:
        for worker in range(20):
            group.start_soon(contend, worker)
    assert sorted(outcomes) == ["lost"] * 19 + ["won"]
    log.close()


def test_a_file_of_todays_form_is_one_that_others_can_build_on(tmp_path: Path) -> None:
    """Written without this code: as the first version has it, the form of which every later one must open."""
    path = tmp_path / "store.db"
    connection = database.Connection(path, subject="the store")
    columns = "bucket TEXT NOT NULL, name TEXT NOT NULL, deleted INTEGER NOT NULL, value BLOB NOT NULL"
    rows = "(1, 'pods', 'a', 0, x'7B7D'), (2, 'pods', 'b', 0, x'7B7D'), (3, 'pods', 'a', 1, x'')"
    for statement in (
        f"CREATE TABLE log (revision INTEGER PRIMARY KEY, {columns})",
        "CREATE TABLE compacted (bucket TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID",
        f"INSERT INTO log VALUES {rows}",  # noqa: S608 - the rows above
        "PRAGMA user_version=1",
    ):
        connection.execute(statement)
    connection.close()
    store.require_readable(path)
    opened = sqlite.Database(path)
    assert [(row.revision, row.name, row.deleted) for row in opened.rows()] == [
        (1, "a", False),
        (2, "b", False),
        (3, "a", True),
    ]
    opened.close()
    stamp = database.stamp_of(path)
    assert stamp is not None
    assert (stamp.oldest_reader or stamp.version) == 1, (
        "a newer form has to say whether the first can read it"
    )


def test_a_newer_file_is_refused_while_it_is_in_use(tmp_path: Path) -> None:
    """What a check of a version looks at without opening it; a file that is not there is no obstacle."""
    path = tmp_path / "store.db"
    store.require_readable(path)
    connection = database.Connection(path, subject="the store")
    connection.execute("PRAGMA user_version=2")
    with pytest.raises(errors.HostError, match="newer version"):
        store.require_readable(path)
    connection.close()
