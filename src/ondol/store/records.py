"""The values the store hands out, and how much of the past it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

UNCHECKED: Final = -1
"""As an expected revision: any, and none."""
ABSENT: Final = 0
"""As an expected revision: there must be no record of this name."""


class Record(NamedTuple):
    """One object as it is at one revision."""

    name: str
    revision: int
    value: bytes


class Event(NamedTuple):
    """One change: the record, the one before it (None if it was created), and whether it was deleted.

    The record of a deletion carries the last state under the revision of the deletion.
    """

    record: Record
    previous: Record | None
    deleted: bool

    @property
    def revision(self) -> int:
        return self.record.revision


class Page(NamedTuple):
    """Part of a bucket at one revision, in the order of names."""

    records: list[Record]
    revision: int
    remaining: int
    """How many records follow the last one."""


class Row(NamedTuple):
    """One row of the log as it is on disk."""

    revision: int
    bucket: str
    name: str
    deleted: bool
    value: bytes


@dataclass(frozen=True, slots=True)
class Retention:
    """How much history a bucket keeps for watchers that come back.

    Events older than the last two compactions, or beyond these bounds, are forgotten; watches that still
    needed them end with `Expired`, and their clients list again.
    """

    events: int = 10_000
    size_bytes: int = 32 * 1024 * 1024
    buckets: Mapping[str, int] = field(default_factory=dict)
    """Event bounds of single buckets, for objects that are rewritten all the time."""

    def events_of(self, bucket: str) -> int:
        return self.buckets.get(bucket, self.events)
