"""When a PingSource sends: its schedule, with the zone it is meant in. Pure."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, Final

from ondol.api import cron
from ondol.base import errors

DEFAULT: Final = "* * * * *"
_PREFIXES: Final = ("CRON_TZ=", "TZ=")
_UTC: Final = "UTC"


class Unusable(errors.OndolError):
    """It is no schedule; `field` of the spec is the one to mend."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Timetable:
    """A schedule in its zone."""

    schedule: cron.Schedule
    zone: tzinfo

    def following(self, after_s: float) -> float | None:
        """The first time after a moment; None if none comes."""
        return cron.following(self.schedule, after_s, self.zone)


def of_spec(spec: Mapping[str, Any]) -> Timetable:
    """The timetable of a PingSource; `Unusable` with the parser's reason."""
    text = str(spec.get("schedule") or DEFAULT)
    if "@every" in text:
        raise Unusable("schedule", "unsupported descriptor @every")
    own_zone, text = _split(text)
    zone = _zone(str(spec.get("timezone") or ""), own_zone)
    try:
        return Timetable(cron.parse(text, with_seconds=True), zone)
    except ValueError as error:
        raise Unusable("schedule", str(error)) from error


def _split(text: str) -> tuple[str, str]:
    """The zone that stands in front of a schedule, and the rest."""
    for prefix in _PREFIXES:
        if text.startswith(prefix):
            zone, _, rest = text.removeprefix(prefix).partition(" ")
            return zone, rest.strip()
    return "", text


def _zone(named: str, in_schedule: str) -> tzinfo:
    if named and in_schedule:
        raise Unusable("schedule", "a zone stands in the schedule and in timezone: leave one of them out")
    name = named or in_schedule or _UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        message = f"provided bad location {name}: unknown time zone {name}"
        raise Unusable("timezone" if named else "schedule", message) from error
