"""Parts of moments and durations: `getFullYear`, `getHours`, in a time zone where one is given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from ondol.api.cel import times
from ondol.api.cel import types as t
from ondol.api.cel.functions import Function, Overload, function, method
from ondol.api.cel.values import NANOS, Duration, Timestamp

Part = Callable[[datetime], int]


def _of_moment(name: str, part: Part) -> list[Overload]:
    def run(moment: Timestamp, zone: str = "UTC") -> int:
        return part(times.local(moment, zone))

    return [
        method(f"timestamp_to_{name}", (t.TIMESTAMP,), t.INT, run),
        method(f"timestamp_to_{name}_with_tz", (t.TIMESTAMP, t.STRING), t.INT, run),
    ]


def _milliseconds(moment: Timestamp, zone: str = "UTC") -> int:
    times.local(moment, zone)  # an unknown zone is an error, although no zone shifts milliseconds
    return moment.nanos % NANOS // 10**6


def _of_duration(name: str, unit: int) -> Overload:
    def run(length: Duration) -> int:
        whole = abs(length.nanos) // unit
        return -whole if length.nanos < 0 else whole

    return method(f"duration_to_{name}", (t.DURATION,), t.INT, run)


_PARTS: Final[dict[str, Part]] = {
    "getFullYear": lambda moment: moment.year,
    "getMonth": lambda moment: moment.month - 1,
    "getDayOfYear": lambda moment: moment.timetuple().tm_yday - 1,
    "getDayOfMonth": lambda moment: moment.day - 1,
    "getDate": lambda moment: moment.day,
    "getDayOfWeek": lambda moment: moment.isoweekday() % 7,
    "getHours": lambda moment: moment.hour,
    "getMinutes": lambda moment: moment.minute,
    "getSeconds": lambda moment: moment.second,
}
_UNITS: Final = {"getHours": 3600 * NANOS, "getMinutes": 60 * NANOS, "getSeconds": NANOS}


def _declared() -> list[Function]:
    out = []
    for name, part in _PARTS.items():
        lengths = [_of_duration(name, _UNITS[name])] if name in _UNITS else []
        out.append(function(name, *_of_moment(name, part), *lengths))
    milliseconds: Any = _milliseconds
    out.append(
        function(
            "getMilliseconds",
            method("timestamp_to_milliseconds", (t.TIMESTAMP,), t.INT, milliseconds),
            method("timestamp_to_milliseconds_with_tz", (t.TIMESTAMP, t.STRING), t.INT, milliseconds),
            _of_duration("milliseconds", 10**6),
        )
    )
    return out


FUNCTIONS: Final[list[Function]] = _declared()
