"""A log's file that no process has open: check it, copy it, salvage what can be read of it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ondol.base import errors
from ondol.store import sqlite
from ondol.store.records import Row
from ondol.store.sqlite import Check, Database

_BATCH: Final = 500
_SUFFIXES: Final = ("", "-wal", "-journal")


class Salvaged(NamedTuple):
    """How many rows a new file got, and what could not be read."""

    rows: int
    problems: list[str]


def files(path: Path) -> list[Path]:
    """The file with the journals that belong to it, as far as they exist."""
    return [file for suffix in _SUFFIXES if (file := path.with_name(path.name + suffix)).exists()]


def ever_existed(path: Path) -> bool:
    """Whether the file exists, or did once: its lock file remains."""
    return path.exists() or path.with_name(path.name + ".lock").exists()


def examine(path: Path, check: Check) -> int:
    """The number of rows; `HostError` if the file is damaged, lost or in use."""
    database = Database(path)
    try:
        return sum(1 for _ in database.rows(check))
    finally:
        database.close()


def copy(path: Path, target: Path) -> None:
    """A copy of all there is, in one new file."""
    database = Database(path)
    try:
        database.copy(target)
    finally:
        database.close()


def salvage(path: Path, target: Path, check: Check) -> Salvaged:
    """Put what can be read of a damaged file into a new one; the damaged one is only copied.

    Its history is forgotten, so that clients with open watches list anew.
    """
    scratch = target.parent / "damaged.db"
    for file in files(path):
        shutil.copyfile(file, scratch.with_name(file.name.replace(path.name, scratch.name)))
    problems: list[str] = []
    count, highest = 0, 0
    buckets: set[str] = set()
    database = Database(target)
    try:
        rows = _rows(scratch, check, problems)
        while batch := list(itertools.islice(rows, _BATCH)):
            database.commit(batch)
            count, highest = count + len(batch), batch[-1].revision
            buckets |= {row.bucket for row in batch}
        database.purge([], dict.fromkeys(buckets, highest), highest)
    finally:
        database.close()
        target.with_name(target.name + ".lock").unlink(missing_ok=True)
        for file in files(scratch):
            file.unlink()
    return Salvaged(count, problems)


def _rows(path: Path, check: Check, problems: list[str]) -> Iterator[Row]:
    for item in sqlite.salvage(path, check):
        if isinstance(item, str):
            problems.append(item)
        else:
            yield item


def problem(path: Path, check: Check) -> errors.HostError | None:
    """The error of `examine`, or None."""
    try:
        examine(path, check)
    except errors.HostError as error:
        return error
    return None
