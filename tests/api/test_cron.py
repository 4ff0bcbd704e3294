"""Schedules: what they match, and the words they are refused with."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime

import pytest

from ondol.api import cron


def test_a_schedule_is_its_fields() -> None:
    """Stars, lists, ranges, steps and names."""
    schedule = cron.parse("*/20 1-3,5 1 jan,MAR mon-wed")
    assert schedule.minutes == {0, 20, 40}
    assert schedule.hours == {1, 2, 3, 5}
    assert schedule.days == {1}
    assert schedule.months == {1, 3}
    assert schedule.weekdays == {1, 2, 3}
    assert not schedule.any_day
    assert not schedule.any_weekday
    assert cron.parse("5/10 * * * *").minutes == {5, 15, 25, 35, 45, 55}
    assert cron.parse("0 0 ? * */2").any_day
    assert not cron.parse("0 0 ? * */2").any_weekday


def test_descriptors_stand_for_schedules() -> None:
    """Names for the usual ones, and an interval."""
    assert cron.parse("@hourly") == cron.parse("0 * * * *")
    assert cron.parse("@weekly") == cron.parse("0 0 * * 0")
    assert cron.parse("@every 1h30m").every_s == 5400
    assert cron.parse("@every 10ms").every_s == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty spec string"),
        ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
        ("@never", "unrecognized descriptor: @never"),
        ("@every soon", 'failed to parse duration @every soon: time: invalid duration "soon"'),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("x * * * *", 'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax'),
        ("-1 * * * *", 'failed to parse int from : strconv.Atoi: parsing "": invalid syntax'),
    ],
)
def test_what_is_no_schedule(text: str, why: str) -> None:
    """Refused in the words of the parser that Kubernetes uses."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - compared whole
        cron.parse(text)
    assert str(refused.value) == why


def test_a_field_of_seconds_may_come_first() -> None:
    """Only where that is asked for; the minutes of the other fields hold for it."""
    schedule = cron.parse("*/20 30 * * * *", with_seconds=True)
    moments, after_s = [], 0.0
    for _ in range(4):
        following = cron.following(schedule, after_s, UTC)
        assert following is not None
        moments.append(following)
        after_s = following
    assert moments == [1800.0, 1820.0, 1840.0, 5400.0]
    assert cron.parse("* * * * *", with_seconds=True) == cron.parse("* * * * *")
    with pytest.raises(ValueError, match="expected 5 to 6 fields, found 7"):
        cron.parse("* * * * * * *", with_seconds=True)
    with pytest.raises(ValueError, match="expected exactly 5 fields, found 6"):
        cron.parse("* * * * * *")


@pytest.mark.parametrize(
    ("zone", "at"),
    [
        ("America/New_York", "2026-03-08T06:00:00+00:00"),
        ("America/New_York", "2026-11-01T04:30:00+00:00"),
        ("Australia/Lord_Howe", "2026-04-04T13:00:00+00:00"),
        ("Antarctica/Troll", "2026-10-25T00:00:00+00:00"),
        ("Asia/Seoul", "2026-10-25T14:00:00+00:00"),
    ],
)
@pytest.mark.parametrize("text", ["* * * * *", "30 2 * * *", "*/7 1-3 * * *", "15,45 0-4 * * *"])
def test_the_next_time_is_the_first_minute_that_matches(text: str, zone: str, at: str) -> None:
    """Also where clocks are put forward or back: by an hour, by two, by half of one."""
    schedule, local = cron.parse(text), zoneinfo.ZoneInfo(zone)
    for after in range(int(datetime.fromisoformat(at).timestamp()), 10**10, 1733):
        if after > datetime.fromisoformat(at).timestamp() + 6 * 3600:
            break
        minute = after - after % 60 + 60
        while (shown := datetime.fromtimestamp(minute, local)).minute not in schedule.minutes or (
            shown.hour not in schedule.hours
        ):
            minute += 60
        assert cron.following(schedule, after, local) == minute
