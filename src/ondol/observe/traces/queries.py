"""Searches of traces as Jaeger's clients ask for them, in the parameters of both generations of its API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from ondol.base import errors
from ondol.observe.traces.store import Query

_DAY_MS: Final = 86_400_000
_TRACES_MAX: Final = 1500
_TIME_NS_MAX: Final = 2**63 - 1
_WHOLE_MAX: Final = 2**53
"""The largest number that every JSON reader knows."""
_UNITS_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
}


def search_v1(parameters: Mapping[str, str]) -> Query:
    """A search of `/api/traces`: times in microseconds."""
    return Query(
        service=parameters.get("service", ""),
        operation=parameters.get("operation", ""),
        start_ns=min(_whole(parameters, "start") * 1000, _TIME_NS_MAX),
        end_ns=min(_whole(parameters, "end") * 1000, _TIME_NS_MAX),
        duration_min_ns=_duration_ns(parameters.get("minDuration", "")),
        duration_max_ns=_duration_ns(parameters.get("maxDuration", "")),
        attributes=_tags(parameters.get("tags", "")),
        limit=min(_whole(parameters, "limit", 20), _TRACES_MAX),
    )


def search_v3(parameters: Mapping[str, str]) -> Query:
    """A search of `/api/v3/traces`: times as RFC 3339."""
    if parameters.get("query.filter"):
        raise errors.BadRequest("query.filter is not served; use query.attributes")
    return Query(
        service=parameters.get("query.serviceName", ""),
        operation=parameters.get("query.operationName", ""),
        start_ns=_time_ns(parameters.get("query.startTimeMin", "")),
        end_ns=_time_ns(parameters.get("query.startTimeMax", "")),
        duration_min_ns=_duration_ns(parameters.get("query.durationMin", "")),
        duration_max_ns=_duration_ns(parameters.get("query.durationMax", "")),
        attributes=_tags(parameters.get("query.attributes", "")),
        limit=min(_whole(parameters, "query.searchDepth", 20), _TRACES_MAX),
    )


def interval_ns(parameters: Mapping[str, str], now_s: float) -> tuple[int, int]:
    """Start and end of what `/api/dependencies` looks at: by default the last day."""
    end_ms = _whole(parameters, "endTs", int(now_s * 1000))
    start_ms = max(0, end_ms - _whole(parameters, "lookback", _DAY_MS))
    return min(start_ms * 1_000_000, _TIME_NS_MAX), min(end_ms * 1_000_000, _TIME_NS_MAX)


def _whole(parameters: Mapping[str, str], key: str, default: int = 0) -> int:
    text = parameters.get(key)
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) > _WHOLE_MAX:
        raise errors.BadRequest(f"{key} must be a whole number up to {_WHOLE_MAX}, not {text[:40]!r}")
    return int(text)


def _duration_ns(text: str) -> int:
    """Nanoseconds of a duration such as `1.5s` or `200ms`."""
    if not text:
        return 0
    number = text.rstrip("nuµms")
    try:
        return min(int(float(number) * _UNITS_NS[text[len(number) :]]), _TIME_NS_MAX)
    except (KeyError, ValueError, OverflowError) as error:
        raise errors.BadRequest(f"{text[:40]!r} is not a duration such as 200ms") from error


def _time_ns(text: str) -> int:
    """Nanoseconds since the Unix epoch of an RFC 3339 time; 0 for none."""
    if not text:
        return 0
    try:
        return min(int(datetime.fromisoformat(text).timestamp() * 1_000_000_000), _TIME_NS_MAX)
    except (ValueError, OverflowError) as error:
        raise errors.BadRequest(f"{text!r} is not an RFC 3339 time") from error


def _tags(text: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise errors.BadRequest(f"tags must be a JSON object of strings: {error}") from error
