"""The edge to SQLite: files, their versions, transactions, and what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ondol.base import database, errors

ONE = database.Schema(("CREATE TABLE pets (name TEXT PRIMARY KEY)",))
TWO = database.Schema((*ONE.steps, "ALTER TABLE pets ADD COLUMN legs INTEGER NOT NULL DEFAULT 4"))


def _open(path: Path | None, schema: database.Schema | None = ONE) -> database.Connection:
    return database.Connection(path, subject=f"the pets at {path}", schema=schema)


@pytest.fixture
def pets(tmp_path: Path) -> Iterator[database.Connection]:
    connection = _open(tmp_path / "pets.db")
    yield connection
    connection.close()


def _names(connection: database.Connection) -> list[str]:
    return [name for (name,) in connection.stream("SELECT name FROM pets ORDER BY name")]


def _write(connection: database.Connection, *names: str, error: Exception | None = None) -> None:
    """Insert the names one by one in a transaction, and raise the error, if any, in it."""
    with connection.transaction():
        for name in names:
            connection.execute("INSERT INTO pets VALUES (?)", (name,))
        if error is not None:
            raise error


def test_what_was_written_is_read_by_the_next_one(tmp_path: Path) -> None:
    """A file outlives its connection, and its tables are made once."""
    for name in ("cat", "dog"):
        connection = _open(tmp_path / "pets.db")
        connection.execute("INSERT INTO pets VALUES (?)", (name,))
        connection.close()
    connection = _open(tmp_path / "pets.db")
    assert _names(connection) == ["cat", "dog"]
    assert connection.value("PRAGMA user_version") == 1
    connection.close()


def test_a_file_of_an_older_version_takes_the_steps_it_lacks(tmp_path: Path) -> None:
    """Its rows are kept; afterwards it has the newest version, which an older one refuses to read."""
    connection = _open(tmp_path / "pets.db")
    connection.execute("INSERT INTO pets VALUES ('cat')")
    connection.close()
    for _ in range(2):
        connection = _open(tmp_path / "pets.db", TWO)
        assert connection.rows("SELECT name, legs FROM pets") == [("cat", 4)]
        connection.close()
    with pytest.raises(errors.HostError, match=r"written by a newer version \(format 2\)"):
        _open(tmp_path / "pets.db")


def test_who_goes_back_to_older_code_opens_what_newer_code_left_readable(tmp_path: Path) -> None:
    """The newer form names its oldest reader; that adds rows, and the newer code goes on with them."""
    kind = database.Schema(TWO.steps, oldest_reader=1)
    path = tmp_path / "pets.db"
    newer = _open(path, kind)
    newer.execute("INSERT INTO pets VALUES ('cat', 3)")
    newer.close()
    assert database.stamp_of(path) == database.Stamp(2, 1)
    older = _open(path, ONE)
    older.execute("INSERT INTO pets (name) VALUES ('dog')")
    older.close()
    assert database.stamp_of(path) == database.Stamp(2, 1)
    newer = _open(path, kind)
    assert newer.rows("SELECT name, legs FROM pets ORDER BY name") == [("cat", 3), ("dog", 4)]
    newer.close()


@pytest.mark.parametrize(
    ("stamp", "is_readable"),
    [
        (database.Stamp(0), True),
        (database.Stamp(1), True),
        (database.Stamp(2), True),
        (database.Stamp(2, 1), True),
        (database.Stamp(3), False),
        (database.Stamp(3, 3), False),
        (database.Stamp(3, 2), True),
        (database.Stamp(9, 1), True),
    ],
)
def test_which_forms_code_of_the_second_form_may_open(stamp: database.Stamp, *, is_readable: bool) -> None:
    """Its own, older ones, which it takes forward, and newer ones that say so; others are told in words."""
    if is_readable:
        database.require_readable("the file", stamp, TWO)
    else:
        with pytest.raises(errors.HostError, match="the file was written by a newer version"):
            database.require_readable("the file", stamp, TWO)


def test_the_form_of_a_file_in_use_is_seen(tmp_path: Path) -> None:
    """From outside, while its owner has it; of what is no database there is none."""
    path = tmp_path / "pets.db"
    connection = _open(path, TWO)
    assert database.stamp_of(path) == database.Stamp(2)
    connection.close()
    assert database.stamp_of(tmp_path / "none") is None
    (tmp_path / "short").write_bytes(b"SQLite format 3\0")
    assert database.stamp_of(tmp_path / "short") is None
    (tmp_path / "other").write_bytes(bytes(200))
    assert database.stamp_of(tmp_path / "other") is None


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """Neither half of a step nor its number is kept, so that it can be tried again."""
    broken = database.Schema((*ONE.steps, "CREATE TABLE toys (name TEXT); INSERT INTO nobody VALUES (1)"))
    with pytest.raises(errors.Unavailable, match="no such table: nobody"):
        _open(tmp_path / "pets.db", broken)
    connection = _open(tmp_path / "pets.db")
    assert connection.value("PRAGMA user_version") == 1
    assert connection.rows("SELECT name FROM sqlite_master WHERE name = 'toys'") == []
    connection.close()


def test_a_file_without_versions_stays_without(tmp_path: Path) -> None:
    """Its scripts run at each opening, and an existing file is the same byte for byte afterwards."""
    plain = database.Schema(("CREATE TABLE IF NOT EXISTS pets (name TEXT)",), versioned=False)
    _open(tmp_path / "pets.db", plain).close()
    before = (tmp_path / "pets.db").read_bytes()
    connection = _open(tmp_path / "pets.db", plain)
    assert connection.value("PRAGMA user_version") == 0
    connection.close()
    assert (tmp_path / "pets.db").read_bytes() == before


def test_a_transaction_is_kept_whole_or_not_at_all(pets: database.Connection) -> None:
    """An error in the block, whosever it is, takes back what was written before it."""
    with pets.transaction():
        pets.execute_many("INSERT INTO pets VALUES (?)", [("cat",), ("dog",)])
    with pytest.raises(KeyError):
        _write(pets, "cow", error=KeyError())
    with pytest.raises(errors.Unavailable, match="UNIQUE constraint failed"):
        _write(pets, "hen", "cat")
    assert _names(pets) == ["cat", "dog"]


def test_a_full_disk_is_told_by_the_name_of_what_is_kept(pets: database.Connection, tmp_path: Path) -> None:
    """Nothing of the transaction is kept, and with space again writing works."""
    pets.execute(f"PRAGMA max_page_count={pets.value('PRAGMA page_count')}")
    with pytest.raises(database.DiskFull, match="no space left for the pets at") as refused:
        _write(pets, "cat", "x" * 100_000)
    assert str(tmp_path) in str(refused.value)
    assert database.reason(refused.value) == "database or disk is full"
    assert _names(pets) == []
    pets.execute("PRAGMA max_page_count=1000000")
    pets.execute("INSERT INTO pets VALUES ('cat')")
    assert _names(pets) == ["cat"]


def test_a_file_that_is_no_database_is_damaged(tmp_path: Path) -> None:
    """It is told apart from a file that cannot be opened, and stays as it is."""
    file = tmp_path / "pets.db"
    file.write_bytes(b"something else entirely" * 100)
    with pytest.raises(errors.Damaged, match=r"the pets at .* is damaged: file is not a database"):
        _open(file)
    assert file.read_bytes() == b"something else entirely" * 100
    with pytest.raises(errors.Unavailable, match="unable to open database file"):
        _open(tmp_path / "nowhere" / "pets.db")


def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    """Rows before the damage may be read; SQLite's own check says where it is."""
    connection = _open(tmp_path / "pets.db")
    with connection.transaction():
        connection.execute_many("INSERT INTO pets VALUES (?)", ((f"{n:04}" * 50,) for n in range(500)))
    assert connection.examine() == ""
    connection.close()
    with (tmp_path / "pets.db").open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)
    connection = _open(tmp_path / "pets.db", None)
    with pytest.raises(errors.Damaged, match="disk image is malformed"):
        _names(connection)
    assert "page" in connection.examine().lower()
    connection.close()


def test_a_file_in_use_is_refused(pets: database.Connection, tmp_path: Path) -> None:
    """A second connection would wait, then says who has to go."""
    with pytest.raises(errors.HostError, match="in use by another process"):
        database.Connection(
            tmp_path / "pets.db",
            subject="the pets",
            schema=ONE,
            options=database.Options(busy_timeout_s=0.0),
        )
    assert _names(pets) == []


def test_freed_pages_go_back_to_the_disk(pets: database.Connection, tmp_path: Path) -> None:
    """What is deleted leaves free pages; they are taken off the file in steps, and the file is cut."""
    with pets.transaction():
        pets.execute_many("INSERT INTO pets VALUES (?)", ((f"{n:04}" * 500,) for n in range(200)))
    pets.checkpoint()
    full, full_bytes = pets.used_bytes(), (tmp_path / "pets.db").stat().st_size
    pets.execute("DELETE FROM pets")
    free = pets.free_pages
    assert free > 50
    pets.vacuum(50)
    assert pets.free_pages == free - 50
    pets.vacuum(pets.free_pages)
    pets.checkpoint()
    assert pets.used_bytes() < full
    assert (tmp_path / "pets.db").stat().st_size < full_bytes / 5
    assert (tmp_path / "pets.db-wal").stat().st_size == 0


def test_a_copy_is_a_whole_file(pets: database.Connection, tmp_path: Path) -> None:
    """It can be opened beside the first one."""
    pets.execute("INSERT INTO pets VALUES ('cat')")
    pets.copy(tmp_path / "copy.db")
    copied = _open(tmp_path / "copy.db")
    assert _names(copied) == ["cat"]
    copied.close()


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)])
def test_durable_is_the_level_at_which_sqlite_syncs(tmp_path: Path, *, durable: bool, level: int) -> None:
    """FULL (2) syncs each transaction, NORMAL (1) not; either way readers need no second file."""
    options = database.Options(durable=durable, cache_kib=512, log_bytes_max=1 << 20)
    connection = database.Connection(tmp_path / "pets.db", subject="the pets", schema=ONE, options=options)
    assert connection.value("PRAGMA synchronous") == level
    assert connection.value("PRAGMA journal_mode") == "wal"
    assert connection.value("PRAGMA auto_vacuum") == 2
    assert connection.value("PRAGMA cache_size") == -512
    assert connection.value("PRAGMA journal_size_limit") == 1 << 20
    assert {path.name for path in tmp_path.iterdir()} == {"pets.db", "pets.db-wal"}
    connection.close()


def test_a_database_in_memory_needs_no_file(tmp_path: Path) -> None:
    """It has the same tables, and is nobody else's."""
    first, second = _open(None), _open(None)
    first.execute("INSERT INTO pets VALUES ('cat')")
    assert (_names(first), _names(second)) == (["cat"], [])
    first.close()
    second.close()
    assert list(tmp_path.iterdir()) == []
