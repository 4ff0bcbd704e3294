"""The columns of HorizontalPodAutoscalers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ondol.api import autoscaling, objects
from ondol.api.tables import columns
from ondol.api.tables.columns import AGE, NAME, Cell, Document, Layout, string
from ondol.base import quantity

_UNKNOWN: Final = "<unknown>"
_SHOWN_MAX: Final = 2
_KINDS: Final = {
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}


def _autoscaler(obj: Document, now: float) -> Sequence[Cell]:
    spec, status = objects.spec(obj), objects.status(obj)
    target = spec.get("scaleTargetRef") or {}
    least = spec.get("minReplicas")
    return (
        objects.name(obj),
        f"{target.get('kind') or ''}/{target.get('name') or ''}",
        _metrics(spec.get("metrics") or (), status.get("currentMetrics") or ()),
        "<unset>" if least is None else str(least),
        spec.get("maxReplicas") or 0,
        status.get("currentReplicas") or 0,
        columns.age_of(obj, now),
    )


def _metrics(metrics: Sequence[Mapping[str, Any]], current: Sequence[Mapping[str, Any]]) -> str:
    if not metrics:
        return "<none>"
    shown = [
        _metric(metric, current[index] if index < len(current) else {})
        for index, metric in enumerate(metrics)
    ]
    listed = ", ".join(shown[:_SHOWN_MAX])
    more = len(shown) - _SHOWN_MAX
    return f"{listed} + {more} more..." if more > 0 else listed


def _metric(metric: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    kind = _KINDS.get(metric.get("type") or "", "")
    if not kind:
        return "<unknown type>"
    source, reported = metric.get(kind) or {}, current.get(kind)
    target, now = source.get("target") or {}, (reported or {}).get("current") or {}
    if kind in ("resource", "containerResource"):
        return f"{source.get('name')}: {_of_resource(target, now, is_reported=reported is not None)}"
    if target.get("averageValue") is not None:
        average = "" if kind == "pods" else " (avg)"
        return f"{_amount(now, 'averageValue')}/{_amount(target, 'averageValue')}{average}"
    return f"{_amount(now, 'value')}/{_amount(target, 'value')}"


def _of_resource(target: Mapping[str, Any], now: Mapping[str, Any], *, is_reported: bool) -> str:
    if target.get("averageValue") is not None:
        current = _amount(now, "averageValue") if is_reported else _UNKNOWN
        return f"{current}/{_amount(target, 'averageValue')}"
    percent, wished = now.get("averageUtilization"), target.get("averageUtilization")
    shown = _UNKNOWN if percent is None else f"{percent}%"
    return f"{shown}/{'<auto>' if wished is None else f'{wished}%'}"


def _amount(amounts: Mapping[str, Any], field: str) -> str:
    return _UNKNOWN if amounts.get(field) is None else quantity.canonical(amounts[field])


_COLUMNS: Final = (
    NAME,
    *(string(name) for name in ("Reference", "Targets", "MinPods", "MaxPods", "Replicas")),
    AGE,
)
V2: Final = Layout(_COLUMNS, _autoscaler)
V1: Final = Layout(_COLUMNS, lambda obj, now: _autoscaler(autoscaling.v2(obj), now))
"""Of an object as version 1 shows it."""
