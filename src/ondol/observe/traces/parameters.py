"""Parameters of Jaeger's query API, read as Jaeger reads them: numbers, durations, times, yes and no.

What cannot be read is `BadRequest` with the parameter's name; reading takes time as the text is long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Final, TypeAlias

import msgspec

from ondol.base import errors

Fail: TypeAlias = Callable[[str, str], errors.ApiError]
"""The error for a parameter by that name, and what is wrong with it."""

TIME_NS_MAX: Final = 2**63 - 1
_INT_DIGITS: Final = 19
_INT: Final = re.compile(r"[+-]?0*([0-9]+)", re.ASCII)
_TEXT_SHOWN: Final = 40
_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_UNITS_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?([Zz]|[+ -]\d\d:\d\d)", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TAGS_MAX: Final = 64


class Parameters:
    """The parameters of one request; of a repeated one the first counts, and an empty one is none."""

    def __init__(self, pairs: Iterable[tuple[str, str]], fail: Fail) -> None:
        self._texts: dict[str, list[str]] = {}
        for key, text in pairs:
            self._texts.setdefault(key, []).append(text)
        self.fail = fail

    def text(self, *names: str) -> str:
        """The first of the names that has a text."""
        return self._named(names)[1]

    def texts(self, name: str) -> list[str]:
        """All texts of a repeated parameter."""
        return self._texts.get(name, [])

    def _named(self, names: Iterable[str]) -> tuple[str, str]:
        return next(
            ((name, texts[0]) for name in names if (texts := self._texts.get(name)) and texts[0]), ("", "")
        )

    def whole(self, *names: str, bits: int = 64) -> int | None:
        """A signed number; None if there is none."""
        name, text = self._named(names)
        if not text:
            return None
        if (match := _INT.fullmatch(text)) is None:
            raise self.fail(name, f"{shown(text)} is not a whole number")
        number = int(match[1]) * (-1 if text[0] == "-" else 1) if len(match[1]) <= _INT_DIGITS else 1 << bits
        if not -(1 << bits - 1) <= number < 1 << bits - 1:
            raise self.fail(name, f"{shown(text)} is out of range")
        return number

    def time_ns(self, *names: str, unit_ns: int) -> int | None:
        """A moment in a unit since the Unix epoch, in nanoseconds and not before 1; None if there is none."""
        number = self.whole(*names)
        return None if number is None else _clamped(number * unit_ns)

    def rfc3339_ns(self, *names: str) -> int | None:
        """Likewise of a time such as `2026-01-02T03:04:05.678Z`."""
        name, text = self._named(names)
        if not text:
            return None
        try:
            return _clamped(_moment_ns(text))
        except (ValueError, OverflowError):
            raise self.fail(name, f"{shown(text)} is not an RFC 3339 time") from None

    def duration_ns(self, *names: str) -> int:
        """Nanoseconds of a duration such as `1.5s` or `1h2m`; 0 if there is none."""
        name, text = self._named(names)
        if not text:
            return 0
        sign, size = (-1 if text[0] == "-" else 1), text[text[0] in "+-" :]
        parts = _DURATION.findall(size) if len(size) <= _TEXT_SHOWN else []
        if size != "0" and (not parts or "".join(number + unit for number, unit in parts) != size):
            raise self.fail(name, f"{shown(text)} is not a duration such as 200ms")
        duration_ns = int(sum(Fraction(number.rstrip(".")) * _UNITS_NS[unit] for number, unit in parts))
        if duration_ns > TIME_NS_MAX:
            raise self.fail(name, f"{shown(text)} is out of range")
        return sign * duration_ns

    def flag(self, *names: str) -> bool:
        name, text = self._named(names)
        if text and text not in _TRUE | _FALSE:
            raise self.fail(name, f"{shown(text)} is neither true nor false")
        return text in _TRUE

    def attributes(self, name: str) -> dict[str, str]:
        """Of all JSON objects by that name together."""
        attributes: dict[str, str] = {}
        for text in filter(None, self.texts(name)):
            try:
                attributes |= msgspec.json.decode(text, type=dict[str, str] | None) or {}
            except (msgspec.DecodeError, RecursionError) as error:
                raise self.fail(name, f"not a JSON object of strings: {error}") from error
        return self.few(name, attributes)

    def few(self, name: str, attributes: dict[str, str]) -> dict[str, str]:
        """The attributes; a search looks at each of them in every span, so that there may not be many."""
        if len(attributes) > _TAGS_MAX:
            raise self.fail(name, f"more than {_TAGS_MAX} of them")
        return attributes


def shown(text: str) -> str:
    """A text as messages quote it."""
    return repr(text if len(text) <= _TEXT_SHOWN else f"{text[:_TEXT_SHOWN]}…")


def _clamped(time_ns: int) -> int:
    """0 is no time: what was before the epoch is just after it, where no spans are."""
    return max(1, min(time_ns, TIME_NS_MAX))


def _moment_ns(text: str) -> int:
    if (match := _TIME.fullmatch(text)) is None:
        raise ValueError(text)
    day, time, fraction, zone = match.groups()
    # The sign of a zone becomes a space where a client writes it unescaped into a query, as Grafana does.
    moment = datetime.fromisoformat(f"{day}T{time}{zone.replace(' ', '+').upper()}")
    return (moment - _EPOCH) // timedelta(seconds=1) * 1_000_000_000 + int((fraction or "").ljust(9, "0"))
