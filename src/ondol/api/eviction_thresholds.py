"""When a machine is short of something, in the words of the kubelet's `--eviction-hard`. Pure.

eviction_thresholds.parse("memory.available<100Mi,nodefs.available<5%")
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from ondol.base import quantity

DEFAULT: Final = (
    "memory.available<100Mi,nodefs.available<5%,nodefs.inodesFree<5%,"
    "imagefs.available<5%,imagefs.inodesFree<5%,pid.available<1000"
)
"""The kubelet's, with some room for processes, and less of the disk than it keeps free (10 % and 15 %):
it is seldom the platform's alone, and what others filled is a poor reason to end pods."""


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that a machine can be short of."""

    condition: str
    """Of the Node, while it is."""
    resource: str
    """What pods are sent away for, as messages name it."""


SIGNALS: Final[Mapping[str, Signal]] = {
    "memory.available": Signal("MemoryPressure", "memory"),
    "nodefs.available": Signal("DiskPressure", "ephemeral-storage"),
    "imagefs.available": Signal("DiskPressure", "ephemeral-storage"),
    "nodefs.inodesFree": Signal("DiskPressure", "inodes"),
    "imagefs.inodesFree": Signal("DiskPressure", "inodes"),
    "pid.available": Signal("PIDPressure", "pids"),
}
"""In the order in which they are seen to: memory comes before all else."""


@dataclass(frozen=True, slots=True)
class Level:
    """How much there is of something, and how much of that is free."""

    available: int
    capacity: int


Readings = Mapping[str, Level]
"""By signal; one that is missing was not read."""


@dataclass(frozen=True, slots=True)
class Threshold:
    signal: str
    amount: int = 0
    share: Fraction | None = None
    """Of the capacity, in place of an amount."""

    def least(self, capacity: int) -> int:
        """What must be free."""
        return self.amount if self.share is None else int(capacity * self.share)


def parse(text: str) -> tuple[Threshold, ...]:
    """`ValueError` says what is wrong with it."""
    thresholds = [_parsed(part.strip()) for part in text.split(",") if part.strip()]
    names = [threshold.signal for threshold in thresholds]
    if len(set(names)) != len(names):
        raise ValueError("a signal is named twice")
    order = list(SIGNALS)
    return tuple(sorted(thresholds, key=lambda each: order.index(each.signal)))


def _parsed(part: str) -> Threshold:
    signal, separator, amount = part.partition("<")
    if not separator or signal not in SIGNALS:
        raise ValueError(f"{part!r} is not SIGNAL<AMOUNT with one of {', '.join(SIGNALS)}")
    if not amount.endswith("%"):
        value = quantity.parse(amount)
        if value < 0:
            raise ValueError(f"{part!r}: less than nothing is never free")
        return Threshold(signal, int(value))
    share = Fraction(amount[:-1]) / 100
    if not 0 <= share <= 1:
        raise ValueError(f"{part!r} is not from 0% to 100%")
    return Threshold(signal, share=share)


def met(thresholds: Iterable[Threshold], readings: Readings) -> tuple[Threshold, ...]:
    """Those below which something is, the most urgent first."""
    return tuple(
        threshold
        for threshold in thresholds
        if (level := readings.get(threshold.signal)) is not None
        and level.available < threshold.least(level.capacity)
    )
