"""Traces in Jaeger's shapes, of both generations of its HTTP API.

Sources: jaegertracing/jaeger internal/uimodel/model.go, and what its translation of OTLP makes of a span.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ondol.api.objects import Object
from ondol.observe.traces import otlp_json
from ondol.observe.traces.spans import KINDS, Event, Link, Span
from ondol.observe.traces.store import ANSWER_SPANS_MAX

_TYPES: Final = {bool: "bool", int: "int64", float: "float64"}
_HALF: Final = 16
_WHOLE_MAX: Final = 2**53 - 1
"""The largest number that JavaScript knows; larger ones are text."""
_REFERENCE_TYPE: Final = "opentracing.ref_type"


def envelope(
    data: Sequence[Any] | int | None, *, total: int = 0, failures: Sequence[Object] | None = None
) -> Object:
    """The answer every v1 endpoint wraps its data in; only lists of names have a total."""
    return {"data": data, "total": total, "limit": 0, "offset": 0, "errors": failures}


def failure_v1(code: int, message: str) -> Object:
    return envelope(None, failures=[{"code": code, "msg": message}])


def failure_v3(code: int, message: str) -> Object:
    return {"error": {"httpCode": code, "message": message}}


def missing(trace_id: str) -> Object:
    """The entry of `errors` for one of several traces asked for by their ids."""
    return {"msg": "trace not found", "traceID": short_id(trace_id)}


def short_id(trace_id: str) -> str:
    """An id as the v1 API writes it: 16 digits if the first 16 are zero."""
    return trace_id[_HALF:] if trace_id.startswith("0" * _HALF) else trace_id


def trace(spans: Sequence[Span]) -> Object:
    """One trace of the v1 API; times in microseconds."""
    processes: dict[tuple[str, bytes], str] = {}
    described: dict[str, Object] = {}
    documents = []
    for span in spans:
        resource = span.details.resource
        key = (span.service, msgspec.json.encode(resource) if resource else b"")
        if (process := processes.get(key, "")) == "":
            process = processes[key] = f"p{len(processes) + 1}"
            described[process] = {"serviceName": span.service, "tags": _tags(resource)}
        documents.append(_span(span, process))
    return {
        "traceID": short_id(spans[0].trace_id),
        "spans": documents,
        "processes": described,
        "warnings": _warnings(len(spans)),
    }


def _warnings(count: int) -> list[str] | None:
    if count < ANSWER_SPANS_MAX:
        return None
    return [f"only {ANSWER_SPANS_MAX} spans of this trace are shown"]


def _span(span: Span, process: str) -> Object:
    return {
        "traceID": short_id(span.trace_id),
        "spanID": span.span_id,
        "operationName": span.name,
        "references": [
            {"refType": kind, "traceID": short_id(trace_id), "spanID": span_id}
            for kind, trace_id, span_id in references(span)
        ],
        "startTime": span.start_ns // 1000,
        "duration": span.duration_ns // 1000,
        "tags": _tags(attributes(span)),
        "logs": [
            {
                "timestamp": event.time_ns // 1000,
                "fields": _tags(fields(event)),
            }
            for event in span.details.events
        ],
        "processID": process,
        "warnings": None,
    }


def references(span: Span) -> list[tuple[str, str, str]]:
    """Type, trace and span of what a span refers to: its parent, and its links."""
    parents = [("CHILD_OF", span.trace_id, span.parent_id)] if span.parent_id else []
    links = [(_type(link), link.trace_id, link.span_id) for link in span.details.links]
    return list(dict.fromkeys([*parents, *links]))


def fields(event: Event) -> Mapping[str, Any]:
    """Those of the log that an event is."""
    return {**({"event": event.name} if event.name else {}), **event.attributes}


def _type(link: Link) -> str:
    return "CHILD_OF" if link.attributes.get(_REFERENCE_TYPE) == "child_of" else "FOLLOWS_FROM"


def attributes(span: Span) -> Mapping[str, Any]:
    """Those of the span, and what OTLP has fields for and Jaeger has not."""
    details = span.details
    all_of_it: dict[str, Any] = {
        key: text
        for key, text in (
            ("otel.scope.name", details.scope),
            ("otel.scope.version", details.scope_version),
        )
        if text
    }
    all_of_it |= span.attributes
    if span.kind != KINDS[0]:
        all_of_it["span.kind"] = span.kind
    if span.error:
        all_of_it |= {"otel.status_code": "ERROR", "error": True}
    elif details.is_ok:
        all_of_it["otel.status_code"] = "OK"
    if details.message:
        all_of_it["otel.status_description"] = details.message
    if details.trace_state:
        all_of_it["w3c.tracestate"] = details.trace_state
    return all_of_it


def _tags(attributes: Mapping[str, Any]) -> list[Object]:
    return [
        {"key": key, "type": _TYPES.get(type(value), "string"), "value": plain(value)}
        for key, value in attributes.items()
    ]


def plain(value: Any) -> Any:
    """A value of a tag: what has parts is JSON, and nothing is an empty text."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _WHOLE_MAX:
        return str(value)
    return value if isinstance(value, (bool, int, float, str)) else msgspec.json.encode(value).decode()


def operations_v1(operations: Iterable[tuple[str, str]]) -> list[Object]:
    return [{"name": name, "spanKind": "" if kind == KINDS[0] else kind} for name, kind in operations]


def operations_v3(operations: Iterable[tuple[str, str]]) -> list[Object]:
    """A span without a kind is internal."""
    return [{"name": name, "spanKind": KINDS[1] if kind == KINDS[0] else kind} for name, kind in operations]


def dependencies(counted: Iterable[tuple[str, str, str, str, int]], service: str = "") -> list[Object]:
    """Who called whom how often: from a proxy's span to its service, or from child to parent.

    `counted` are spans by service and called service, and those of their parents. Of one service only the
    calls it takes part in.
    """
    calls: Counter[tuple[str, str]] = Counter()
    for child, called, parent, parent_called, count in counted:
        if called and parent == child:
            calls[child, called] += count
        elif not called and parent != child and not parent_called:
            calls[parent, child] += count
    return [
        {"parent": parent, "child": child, "callCount": count}
        for (parent, child), count in sorted(calls.items())
        if not service or service in {parent, child}
    ]


def summary(spans: Sequence[Span]) -> Object:
    """One entry of `/api/v3/trace-summaries`."""
    ids = {span.span_id for span in spans}
    roots = [span for span in spans if not span.parent_id] or [min(spans, key=lambda span: span.start_ns)]
    count = Counter(span.service for span in spans)
    failed = Counter(span.service for span in spans if span.error)
    named = {*count, *(span.called for span in spans if span.called)}  # who calls nobody has no span
    return {
        "traceId": spans[0].trace_id,
        "rootServiceName": roots[0].service,
        "rootOperationName": roots[0].name,
        "minStartTimeUnixNano": str(min(span.start_ns for span in spans)),
        "maxEndTimeUnixNano": str(max(span.end_ns for span in spans)),
        "spanCount": len(spans),
        "errorSpanCount": sum(failed.values()),
        "orphanSpanCount": sum(1 for span in spans if span.parent_id and span.parent_id not in ids),
        "services": [
            {"name": name, "spanCount": count[name], "errorSpanCount": failed[name]} for name in sorted(named)
        ],
    }


def result(traces: Iterable[Sequence[Span]]) -> Mapping[str, Any]:
    """Traces as the v3 API answers them: OTLP in JSON."""
    return {"result": {"resourceSpans": [group for spans in traces for group in otlp_json.groups(spans)]}}
