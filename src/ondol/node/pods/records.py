"""The records of pods on this machine's disk: what outlives the agent, one file a pod.

A record is written before the next step builds on it. On a full disk it is written in the space of the
node's reserve, so that pods go on ending, which makes room.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from ondol.base import files, log
from ondol.base.reserve import Reserve
from ondol.node.pods.model import Record

_FILE = "record.json"

_log = log.get("node.pod")


class Records(Protocol):
    """Where records are; a save is whole once it returns. `DiskRecords` is the machine's."""

    def save(self, record: Record) -> None:
        """`OSError` when it cannot be kept; the former one stays."""

    def all(self) -> list[Record]:
        """Every pod that is remembered."""


class DiskRecords:
    """Below `<data>/pods`."""

    def __init__(self, data_dir: Path, reserve: Reserve) -> None:
        self._data_dir = data_dir
        self._reserve = reserve

    def save(self, record: Record) -> None:
        self._reserve.write(lambda: write(self._data_dir, record))

    def all(self) -> list[Record]:
        return read_all(self._data_dir)


def write(data_dir: Path, record: Record) -> None:
    path = data_dir / "pods" / record.uid / _FILE
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    files.replace(path, msgspec.json.encode(record), durable=False)


def read_all(data_dir: Path) -> list[Record]:
    """The records below the data directory; one that cannot be read counts as never written.

    What belonged to it then belongs to nobody and is removed, and its pod starts anew.
    """
    records: list[Record] = []
    for path in sorted((data_dir / "pods").glob(f"*/{_FILE}")):
        try:
            records.append(msgspec.json.decode(path.read_bytes(), type=Record))
        except msgspec.DecodeError as error:
            _log.warning("record_unreadable", path=str(path), error=str(error))
    return records
