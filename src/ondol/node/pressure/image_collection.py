"""Which images are removed when the disk fills up: those that a registry gave and nothing uses. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ondol.api.eviction_thresholds import Level


@dataclass(frozen=True, slots=True)
class Policy:
    high_percent: int = 85
    """Use of the disk from which on images are removed; 100 is never."""
    low_percent: int = 80
    """Use of the disk that is aimed at."""
    minimum_age_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Local:
    """An image that is here."""

    digest: str
    size_bytes: int
    is_pulled: bool
    """A registry gave it, and can again; what was built or imported here may be nowhere else."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Seconds of a monotonic clock."""

    first_at: float
    used_at: float = float("-inf")


Sightings: TypeAlias = Mapping[str, Sighting]
"""By digest."""


def sighted(before: Sightings, images: Iterable[Local], in_use: Collection[str], now: float) -> Sightings:
    """When each image that is here was seen first, and in use last."""
    after = {}
    for image in images:
        former = before.get(image.digest) or Sighting(now)
        after[image.digest] = Sighting(former.first_at, now) if image.digest in in_use else former
    return after


def excess(level: Level, policy: Policy) -> int:
    """Bytes to be freed, 0 while the disk is not too full."""
    if not level.capacity or policy.high_percent >= 100:
        return 0
    used_percent = 100 - level.available * 100 // level.capacity
    if used_percent < policy.high_percent:
        return 0
    return max(0, level.capacity * (100 - policy.low_percent) // 100 - level.available)


def doomed(
    images: Iterable[Local],
    sightings: Sightings,
    in_use: Collection[str],
    *,
    bytes_: int,
    now: float,
    policy: Policy,
) -> list[Local]:
    """Those that go so that this much is freed: the longest unused first, never one that is used or young."""
    removable = [
        image
        for image in images
        if image.is_pulled
        and image.digest not in in_use
        and now - sightings[image.digest].first_at >= policy.minimum_age_s
    ]
    removable.sort(key=lambda image: (sightings[image.digest].used_at, sightings[image.digest].first_at))
    chosen: list[Local] = []
    for image in removable:
        if sum(each.size_bytes for each in chosen) >= bytes_:
            break
        chosen.append(image)
    return chosen
