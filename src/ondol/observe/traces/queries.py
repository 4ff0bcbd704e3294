"""Searches of traces as Jaeger's clients ask for them, in the parameters of both generations of its API.

Sources: jaegertracing/jaeger v1.76 cmd/query/app/query_parser.go; v2.20
cmd/jaeger/internal/extension/jaegerquery/internal/apiv3/query_parser.go.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from ondol.base import errors
from ondol.observe.traces.parameters import TIME_NS_MAX, Parameters, shown
from ondol.observe.traces.search import Query

_DAY_MS: Final = 86_400_000
_LIMIT: Final = 100
_TRACES_MAX: Final = 1500
_US: Final = 1_000
_MS: Final = 1_000_000
_LOOKBACK: Final = re.compile(r"([0-9]{1,9})(m|h|d|w)", re.ASCII)
_LOOKBACK_NS: Final = {"m": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9, "w": 7 * 86_400 * 10**9}
_HEX_ID: Final = re.compile(r"[0-9A-Fa-f]{1,32}", re.ASCII)
_ID_BYTES: Final = (16, 8)
_BASE64_MAX: Final = 24
_TRACE_DIGITS: Final = 32


def fail_v1(name: str, what: str) -> errors.ApiError:
    return errors.BadRequest(f"unable to parse param '{name}': {what}")


def fail_v3(name: str, what: str) -> errors.ApiError:
    return errors.BadRequest(f"malformed parameter {name}: {what}")


def search_v1(parameters: Parameters, now_ns: int) -> tuple[Query, list[str]]:
    """A search of `/api/traces`, or the traces that it names; times in microseconds."""
    start_ns, end_ns = interval_v1(parameters)
    if not start_ns and (lookback_ns := _lookback_ns(parameters.text("lookback"))):
        start_ns = max(1, (end_ns or now_ns) - lookback_ns)
    query = Query(
        service=parameters.text("service"),
        operation=parameters.text("operation"),
        start_ns=start_ns,
        end_ns=end_ns,
        duration_min_ns=parameters.duration_ns("minDuration"),
        duration_max_ns=parameters.duration_ns("maxDuration"),
        attributes=_tags(parameters),
        limit=_limit(parameters, "limit", bits=32),
    )
    names = parameters.texts("traceID")
    if len(names) > _TRACES_MAX:
        raise parameters.fail("traceID", f"more than {_TRACES_MAX} of them")
    ids = [trace_id(name, of="traceID") for name in names]
    if not ids and not query.service:
        raise errors.BadRequest("parameter 'service' is required")
    if query.duration_min_ns and query.duration_max_ns and query.duration_max_ns < query.duration_min_ns:
        raise errors.BadRequest("'maxDuration' should be greater than 'minDuration'")
    return query, list(dict.fromkeys(ids))


def interval_v1(parameters: Parameters) -> tuple[int, int]:
    """Start and end in nanoseconds, 0 where none is named: then all that is kept counts."""
    start_ns = parameters.time_ns("start", unit_ns=_US) or 0
    return start_ns, parameters.time_ns("end", unit_ns=_US) or 0


def search_v3(parameters: Parameters) -> Query:
    """A search of `/api/v3/traces`: times as RFC 3339. Names with underscores are older."""
    if parameters.text("query.filter"):
        raise parameters.fail("query.filter", "not served; use query.attributes")
    start_ns = parameters.rfc3339_ns("query.startTimeMin", "query.start_time_min") or 0
    end_ns = parameters.rfc3339_ns("query.startTimeMax", "query.start_time_max") or 0
    if start_ns and end_ns and start_ns >= end_ns:
        raise errors.BadRequest("query.startTimeMin must be before query.startTimeMax")
    parameters.flag("query.rawTraces", "query.raw_traces")
    return Query(
        service=parameters.text("query.serviceName", "query.service_name"),
        operation=parameters.text("query.operationName", "query.operation_name"),
        start_ns=start_ns,
        end_ns=end_ns,
        duration_min_ns=parameters.duration_ns("query.durationMin", "query.duration_min"),
        duration_max_ns=parameters.duration_ns("query.durationMax", "query.duration_max"),
        attributes=parameters.attributes("query.attributes"),
        limit=_limit(parameters, "query.searchDepth", "query.search_depth", "query.num_traces"),
    )


def check_trace_v3(parameters: Parameters) -> None:
    """Whether what is said beside the id can be read; a trace is found without it."""
    parameters.rfc3339_ns("startTime", "start_time")
    parameters.rfc3339_ns("endTime", "end_time")
    parameters.flag("rawTraces", "raw_traces")


def check_trace_v1(parameters: Parameters) -> None:
    interval_v1(parameters)
    parameters.flag("raw")


def dependencies_v1(parameters: Parameters, now_ns: int) -> tuple[int, int]:
    """Start and end of what `/api/dependencies` looks at: by default the last day."""
    end_ns = parameters.time_ns("endTs", unit_ns=_MS) or now_ns
    lookback_ms = parameters.whole("lookback")
    start_ns = end_ns - (_DAY_MS if lookback_ms is None else lookback_ms) * _MS
    return max(0, min(start_ns, TIME_NS_MAX)), end_ns


def dependencies_v3(parameters: Parameters) -> tuple[int, int]:
    """Both ends are named."""
    start_ns = parameters.rfc3339_ns("startTime", "start_time")
    end_ns = parameters.rfc3339_ns("endTime", "end_time")
    if start_ns is None or end_ns is None:
        raise errors.BadRequest(f"{'start_time' if start_ns is None else 'end_time'} is required")
    if end_ns <= start_ns:
        raise errors.BadRequest("end_time must be after start_time")
    return start_ns, end_ns


def trace_id(text: str, *, of: str = "") -> str:
    """An id as it is kept, of hex digits that may be fewer, or of base64; `BadRequest` if it is none."""
    if _HEX_ID.fullmatch(text):
        return text.lower().zfill(_TRACE_DIGITS)
    if 0 < len(text) <= _BASE64_MAX:
        padded = text.rstrip("=").replace("-", "+").replace("_", "/")
        try:
            raw = base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) in _ID_BYTES:
            return raw.hex().zfill(_TRACE_DIGITS)
    where = f"cannot parse {of} param: " if of else ""
    raise errors.BadRequest(f"{where}{shown(text)} is not a trace id of up to {_TRACE_DIGITS} hex digits")


def _limit(parameters: Parameters, *names: str, bits: int = 64) -> int:
    limit = parameters.whole(*names, bits=bits)
    if limit is not None and limit < 1:
        raise parameters.fail(names[0], "must be at least 1")
    return min(limit or _LIMIT, _TRACES_MAX)


def _lookback_ns(text: str) -> int:
    """How far back, as Jaeger's page says it (`1h`, `2d`); 0 if it says it in start and end (`custom`)."""
    match = _LOOKBACK.fullmatch(text)
    return int(match[1]) * _LOOKBACK_NS[match[2]] if match else 0


def _tags(parameters: Parameters) -> dict[str, str]:
    """Those of every `tag=key:value`, and those of every `tags={"key":"value"}`."""
    tags: dict[str, str] = {}
    for text in parameters.texts("tag"):
        key, colon, value = text.partition(":")
        if not colon:
            raise errors.BadRequest(
                f"malformed 'tag' parameter, expecting key:value, received: {shown(text)}"
            )
        tags[key] = value
    return parameters.few("tags", tags | parameters.attributes("tags"))
