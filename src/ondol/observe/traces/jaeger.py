"""Traces in Jaeger's shapes, of both generations of its HTTP API (jaegertracing/jaeger)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ondol.api.objects import Object
from ondol.observe.traces import otlp_json
from ondol.observe.traces.spans import Span

_TYPES: Final = {bool: "bool", int: "int64", float: "float64"}


def envelope(data: Sequence[Any]) -> Object:
    """The answer every v1 endpoint wraps its data in."""
    return {"data": data, "total": len(data), "limit": 0, "offset": 0, "errors": None}


def failure(code: int, message: str) -> Object:
    return {"data": None, "total": 0, "limit": 0, "offset": 0, "errors": [{"code": code, "msg": message}]}


def trace(spans: Sequence[Span]) -> Object:
    """One trace of the v1 API; times in microseconds."""
    services = sorted({span.service for span in spans})
    processes = {service: f"p{number}" for number, service in enumerate(services, 1)}
    return {
        "traceID": spans[0].trace_id,
        "spans": [_span(span, processes[span.service]) for span in spans],
        "processes": {pid: {"serviceName": service, "tags": []} for service, pid in processes.items()},
        "warnings": None,
    }


def _span(span: Span, process: str) -> Object:
    references = []
    if span.parent_id:
        references.append({"refType": "CHILD_OF", "traceID": span.trace_id, "spanID": span.parent_id})
    return {
        "traceID": span.trace_id,
        "spanID": span.span_id,
        "operationName": span.name,
        "references": references,
        "startTime": span.start_ns // 1000,
        "duration": span.duration_ns // 1000,
        "tags": _tags(span),
        "logs": [],
        "processID": process,
        "warnings": None,
    }


def _tags(span: Span) -> list[Object]:
    attributes: dict[str, Any] = {**span.attributes, "span.kind": span.kind}
    if span.error:
        attributes["error"] = True
    return [
        {"key": k, "type": _TYPES.get(type(v), "string"), "value": _plain(v)} for k, v in attributes.items()
    ]


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def dependencies(counted: Iterable[tuple[str, str, str, str, int]]) -> list[Object]:
    """Who called whom how often: from a proxy's span to its service, or from child to parent.

    `counted` are spans by service and called service, and those of their parents.
    """
    calls: Counter[tuple[str, str]] = Counter()
    for service, called, parent, parent_called, count in counted:
        if called and parent == service:
            calls[service, called] += count
        elif not called and parent != service and not parent_called:
            calls[parent, service] += count
    return [{"parent": p, "child": c, "callCount": n} for (p, c), n in sorted(calls.items())]


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
