"""Which run of a CronJob is due, and when the next one will be. Pure, as Kubernetes counts them."""

from __future__ import annotations

import math
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from ondol.api import cron, objects, pods
from ondol.api.cron import Schedule
from ondol.api.objects import Object

MANY: Final = 100
"""More missed runs than this are told of: a clock may be wrong, or the controller was away for long."""
_LATE_S: Final = 0.1
"""So much after its time a run is looked for, that a clock set back a little does not find it early."""


@dataclass(frozen=True, slots=True)
class Due:
    """The last run that should have begun by now, in seconds since the epoch; None if none should."""

    at: float | None
    missed: int


def of(cron_job: Object) -> Schedule:
    """`ValueError` where the schedule is none, which admission refuses."""
    return cron.parse(str(objects.spec(cron_job).get("schedule") or ""))


def zone(cron_job: Object) -> tzinfo:
    """The zone that the schedule is meant in; `ValueError` if there is no such zone on this machine."""
    name = objects.spec(cron_job).get("timeZone")
    if name is None:
        return UTC
    try:
        return zoneinfo.ZoneInfo(str(name))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"unknown time zone {name}") from error


def earliest(cron_job: Mapping[str, Any], now: float, *, within_deadline: bool) -> float:
    """From when on runs are looked for: the last one, or the beginning of the CronJob."""
    last = pods.moment(objects.status(cron_job).get("lastScheduleTime")) or pods.created_at(cron_job)
    deadline_s = objects.spec(cron_job).get("startingDeadlineSeconds")
    return max(last, now - deadline_s) if within_deadline and deadline_s is not None else last


def due(schedule: Schedule, place: tzinfo, since: float, now: float) -> Due:
    """The last time between two moments, and about how many there were; not each of them is looked at."""
    first = cron.following(schedule, since, place)
    if first is None or first > now:
        return Due(None, 0)
    second = cron.following(schedule, first, place)
    if second is None or second > now:
        return Due(first, 1)
    step = second - first
    missed = math.floor((now - first) / step) + 1
    latest = cron.following(schedule, first + (missed - 2) * step, place)
    at = None
    while latest is not None and latest <= now:
        at, latest = latest, cron.following(schedule, latest, place)
    return Due(at if at is not None else second, missed)


def wait_s(cron_job: Object, schedule: Schedule, place: tzinfo, now: float) -> float | None:
    """Seconds until the next run is due."""
    following = cron.following(schedule, now, place)
    if schedule.every_s:
        since = earliest(cron_job, now, within_deadline=False)
        last = due(schedule, place, since, now).at
        following = cron.following(schedule, since if last is None else last, place)
    return None if following is None else max(0.0, following - now) + _LATE_S


def stamp(at: float, place: tzinfo) -> str:
    """The time of a run as its Job's annotation has it, in the schedule's zone (RFC 3339)."""
    text = datetime.fromtimestamp(at, place).isoformat(timespec="seconds")
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text
