"""Schedules of CronJobs and of sources: `*/5 * * * *`, `@hourly`; and when it is time by them. Pure.

What Kubernetes takes (robfig/cron's standard parser), with its messages: five fields, names of months and
weekdays, ranges and steps, and descriptors. A weekday is 0 (Sunday) to 6. A field of seconds may come first
where that is asked for, as Knative's PingSource does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Final

from ondol.base import durations

_MONTHS: Final = "jan feb mar apr may jun jul aug sep oct nov dec"
_WEEKDAYS: Final = "sun mon tue wed thu fri sat"
_DESCRIPTORS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EVERY: Final = "@every "
_DAYS_AHEAD: Final = 5 * 366
_SECOND_NS: Final = 10**9
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_NUMBER: Final = re.compile(r"[+-]?\d+")


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What one field may hold."""

    least: int
    most: int
    names: Mapping[str, int] = field(default_factory=dict)


_SECONDS: Final = _Bounds(0, 59)
_FIELDS: Final = (
    _Bounds(0, 59),
    _Bounds(0, 23),
    _Bounds(1, 31),
    _Bounds(1, 12, {name: number for number, name in enumerate(_MONTHS.split(), 1)}),
    _Bounds(0, 6, {name: number for number, name in enumerate(_WEEKDAYS.split())}),
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """What matches: or, if `every_s` is set, that many seconds after the last time."""

    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    any_day: bool = True
    """Whether the day of the month was `*`: then the weekday alone decides."""
    any_weekday: bool = True
    every_s: int = 0
    seconds: frozenset[int] = frozenset({0})


def parse(text: str, *, with_seconds: bool = False) -> Schedule:
    """`ValueError` with the parser's own reason if it is no schedule; a time zone in it is passed over.

    `with_seconds`: a sixth field, in front of the others, may be there.
    """
    if not text:
        raise ValueError("empty spec string")
    if text.startswith(("TZ=", "CRON_TZ=")):
        text = text.partition(" ")[2].strip()
    if text.startswith("@"):
        return _described(text)
    parts = text.split()
    seconds = frozenset({0})
    if with_seconds and len(parts) == len(_FIELDS) + 1:
        seconds = _field(parts.pop(0), _SECONDS)
    if len(parts) != len(_FIELDS):
        count = "5 to 6" if with_seconds else "exactly 5"
        raise ValueError(f"expected {count} fields, found {len(parts)}: [{' '.join(parts)}]")
    minutes, hours, days, months, weekdays = (
        _field(part, bounds) for part, bounds in zip(parts, _FIELDS, strict=True)
    )
    return Schedule(
        minutes,
        hours,
        days,
        months,
        weekdays,
        _is_any(parts[2]),
        _is_any(parts[4]),
        seconds=seconds,
    )


def following(schedule: Schedule, after_s: float, zone: tzinfo) -> float | None:
    """The first time of the schedule after a moment, both in seconds since the epoch; None if none comes.

    Times that a zone leaves out when its clocks go forward do not come; those it has twice come twice.
    """
    if schedule.every_s:
        return float(int(after_s) + schedule.every_s)
    this_minute = after_s - after_s % _MINUTE_S
    if _has_minute(schedule, datetime.fromtimestamp(this_minute, zone)):
        for second in sorted(schedule.seconds):
            if this_minute + second > after_s:
                return this_minute + second
    minute = _following_minute(schedule, after_s, zone)
    return None if minute is None else minute + min(schedule.seconds)


def _has_minute(schedule: Schedule, local: datetime) -> bool:
    """Whether the schedule has this minute of a clock."""
    is_its_time = local.minute in schedule.minutes and local.hour in schedule.hours
    return is_its_time and local.month in schedule.months and _has_day(schedule, local.date())


def _following_minute(schedule: Schedule, after_s: float, zone: tzinfo) -> float | None:
    first = datetime.fromtimestamp(after_s, zone).date()
    for day in (first + timedelta(days=number) for number in range(_DAYS_AHEAD)):
        if day.month not in schedule.months or not _has_day(schedule, day):
            continue
        if (earliest := _earliest(schedule, day, after_s, zone)) is not None:
            return earliest
    return None


def _earliest(schedule: Schedule, day: date, after_s: float, zone: tzinfo) -> float | None:
    """The first moment of a day after this one; hours are looked at in the order that clocks show them."""
    earliest = None
    for hour in sorted(schedule.hours):
        begin = datetime.combine(day, time(hour), zone)
        if earliest is not None and begin.timestamp() >= earliest:
            break
        moment = next((m for m in _of_hour(schedule, begin, after_s) if m > after_s), None)
        if moment is not None and (earliest is None or moment < earliest):
            earliest = moment
    return earliest


def _of_hour(schedule: Schedule, begin: datetime, after_s: float) -> Iterable[float]:
    """The moments of an hour that may be after this one, the earliest first."""
    start, end = begin.utcoffset(), (begin + timedelta(hours=1)).utcoffset()
    if start == end == begin.replace(fold=1).utcoffset():  # as nearly always: nobody touches the clocks
        begin_s = begin.timestamp()
        if begin_s + _HOUR_S <= after_s:
            return ()
        return (begin_s + _MINUTE_S * minute for minute in sorted(schedule.minutes))
    return sorted(moment for minute in schedule.minutes for moment in _moments(begin.replace(minute=minute)))


def _has_day(schedule: Schedule, day: date) -> bool:
    """A day of the month and one of the week are alternatives, unless either is every day."""
    by_month, by_week = day.day in schedule.days, day.isoweekday() % 7 in schedule.weekdays
    if schedule.any_day or schedule.any_weekday:
        return by_month and by_week
    return by_month or by_week


def _moments(local: datetime) -> Iterator[float]:
    """When a clock of the zone shows this time: once, or twice as it is put back, or never."""
    seen = None
    for each in (local, local.replace(fold=1)):
        moment = each.timestamp()
        shown = datetime.fromtimestamp(moment, local.tzinfo)
        if moment != seen and (shown.hour, shown.minute) == (local.hour, local.minute):
            yield moment
        seen = moment


def _described(text: str) -> Schedule:
    if text in _DESCRIPTORS:
        return parse(_DESCRIPTORS[text])
    if not text.startswith(_EVERY):
        raise ValueError(f"unrecognized descriptor: {text}")
    written = text.removeprefix(_EVERY)
    try:
        seconds = int(durations.nanoseconds(written) // _SECOND_NS)
    except ValueError as error:
        why = f'time: invalid duration "{written}"'
        raise ValueError(f"failed to parse duration {text}: {why}") from error
    return Schedule(every_s=max(1, seconds))


def _is_any(text: str) -> bool:
    """Whether a field asks for everything, as the parser marks it: a star or `?` without a step."""
    return any(part in ("*", "?", "*/1", "?/1") for part in text.split(","))


def _field(text: str, bounds: _Bounds) -> frozenset[int]:
    parts = [part for part in text.split(",") if part]
    return frozenset(number for part in parts for number in _range(part, bounds))


def _range(text: str, bounds: _Bounds) -> range:
    written, *steps = text.split("/")
    ends = written.split("-")
    if ends[0] in ("*", "?"):
        start, end = bounds.least, bounds.most
    elif len(ends) > 2:
        raise ValueError(f"too many hyphens: {text}")
    else:
        start, end = _number(ends[0], bounds), _number(ends[-1], bounds)
    if len(steps) > 1:
        raise ValueError(f"too many slashes: {text}")
    step = _whole(steps[0]) if steps else 1
    if steps and len(ends) == 1:
        end = bounds.most
    _check(text, bounds, start, end, step)
    return range(start, end + 1, step)


def _check(text: str, bounds: _Bounds, start: int, end: int, step: int) -> None:
    if start < bounds.least:
        raise ValueError(f"beginning of range ({start}) below minimum ({bounds.least}): {text}")
    if end > bounds.most:
        raise ValueError(f"end of range ({end}) above maximum ({bounds.most}): {text}")
    if start > end:
        raise ValueError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise ValueError(f"step of range should be a positive number: {text}")


def _number(text: str, bounds: _Bounds) -> int:
    named = bounds.names.get(text.lower())
    return _whole(text) if named is None else named


def _whole(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    number = int(text)
    if number < 0:
        raise ValueError(f"negative number ({number}) not allowed: {text}")
    return number
