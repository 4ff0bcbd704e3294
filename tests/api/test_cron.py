"""Schedules: what they match, and the words they are refused with."""

from __future__ import annotations

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
