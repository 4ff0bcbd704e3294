"""HorizontalPodAutoscalers in two versions: v2 is stored, v1 has in annotations what it has no fields for.

The annotations are Kubernetes' own (`pkg/apis/autoscaling/v1/conversion.go`), so that a client of v1 loses
nothing by reading and writing an object. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from ondol.api import objects
from ondol.api.objects import Object

METRICS: Final = "autoscaling.alpha.kubernetes.io/metrics"
BEHAVIOR: Final = "autoscaling.alpha.kubernetes.io/behavior"
CONDITIONS: Final = "autoscaling.alpha.kubernetes.io/conditions"
CURRENT: Final = "autoscaling.alpha.kubernetes.io/current-metrics"
ANNOTATIONS: Final = (METRICS, BEHAVIOR, CONDITIONS, CURRENT)
_CPU_PERCENT: Final = 80
_KINDS: Final = ("containerResource", "external", "object", "pods", "resource")
_SHARED: Final = ("observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas")


def v1(stored: Mapping[str, Any]) -> Object:
    """A stored object as version 1 shows it."""
    spec, status = objects.spec(stored), objects.status(stored)
    metrics, current = spec.get("metrics") or (), status.get("currentMetrics") or ()
    others = [_old(metric, "target", _old_target) for metric in metrics if not _is_cpu(metric)]
    annotated = {
        METRICS: others,
        BEHAVIOR: spec.get("behavior"),
        CONDITIONS: status.get("conditions"),
        CURRENT: [_old(metric, "current", _old_current) for metric in current],
    }
    shown = _annotated(stored, {key: _text(value) for key, value in annotated.items() if value})
    return {
        **shown,
        "apiVersion": "autoscaling/v1",
        "spec": _v1_spec(spec, metrics),
        "status": _v1_status(status, current),
    }


def _v1_spec(spec: Mapping[str, Any], metrics: Iterable[Mapping[str, Any]]) -> Object:
    fields = ("scaleTargetRef", "minReplicas", "maxReplicas")
    shown = {field: spec[field] for field in fields if field in spec}
    cpu = next((metric["resource"]["target"] for metric in metrics if _is_cpu(metric)), None)
    if cpu is not None:
        shown["targetCPUUtilizationPercentage"] = cpu["averageUtilization"]
    return shown


def _v1_status(status: Mapping[str, Any], current: Iterable[Mapping[str, Any]]) -> Object:
    shown = {field: status[field] for field in _SHARED if field in status}
    for metric in current:
        resource = metric.get("resource") or {}
        percent = (resource.get("current") or {}).get("averageUtilization")
        if resource.get("name") == "cpu" and percent is not None:
            shown["currentCPUUtilizationPercentage"] = percent
    return {"currentReplicas": 0, "desiredReplicas": 0, **shown}


def _is_cpu(metric: Mapping[str, Any]) -> bool:
    """Whether a metric is the one that version 1 has a field for."""
    resource = metric.get("resource") or {}
    target = resource.get("target") or {}
    return (
        metric.get("type") == "Resource"
        and resource.get("name") == "cpu"
        and target.get("averageUtilization") is not None
    )


def v2(shown: Mapping[str, Any]) -> Object:
    """An object of version 1 as it is stored; annotations that cannot be read are passed over."""
    annotations, spec, status = objects.annotations(shown), objects.spec(shown), objects.status(shown)
    metrics = [_new(each, "target", _new_target) for each in _listed(annotations.get(METRICS))]
    percent = spec.get("targetCPUUtilizationPercentage")
    if percent is not None or not metrics:
        metrics.append(cpu_metric(_CPU_PERCENT if percent is None else percent))
    fields = ("scaleTargetRef", "minReplicas", "maxReplicas")
    stored_spec = {field: spec[field] for field in fields if field in spec} | {"metrics": metrics}
    behavior = _read(annotations.get(BEHAVIOR))
    if isinstance(behavior, dict) and behavior:
        stored_spec["behavior"] = behavior
    stored_status = {field: status[field] for field in _SHARED if field in status}
    current = [_new(each, "current", _new_current) for each in _listed(annotations.get(CURRENT))]
    percent = status.get("currentCPUUtilizationPercentage")
    if not current and percent is not None:
        resource = {"name": "cpu", "current": {"averageUtilization": percent}}
        current = [{"type": "Resource", "resource": resource}]
    if current:
        stored_status["currentMetrics"] = current
    if conditions := _listed(annotations.get(CONDITIONS)):
        stored_status["conditions"] = conditions
    plain = _annotated(shown, {})
    return {**plain, "apiVersion": "autoscaling/v2", "spec": stored_spec, "status": stored_status}


def cpu_metric(percent: int = _CPU_PERCENT) -> Object:
    """The metric of who names none: the processor's, of what is requested."""
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def _annotated(obj: Mapping[str, Any], own: Mapping[str, str]) -> Object:
    """The object with these of the annotations that belong to the conversion, and no others of them."""
    others = {key: text for key, text in objects.annotations(obj).items() if key not in ANNOTATIONS}
    metadata = {**objects.metadata(obj)}
    metadata.pop("annotations", None)
    if others or own:
        metadata["annotations"] = {**others, **own}
    return {**obj, "metadata": metadata}


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _read(text: str | None) -> Any:
    try:
        return msgspec.json.decode(text or "null")
    except msgspec.DecodeError:
        return None


def _listed(text: str | None) -> list[Any]:
    value = _read(text)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


_Part = Callable[[str, Mapping[str, Any]], Object]


def _old(metric: Mapping[str, Any], field: str, amounts: _Part) -> Object:
    """A metric as it stands in annotations: flat."""
    shown: Object = {"type": metric.get("type") or ""}
    for kind in _KINDS:
        source = metric.get(kind)
        if source is not None:
            shown[kind] = {**_old_source(kind, source), **amounts(kind, source.get(field) or {})}
    return shown


def _old_source(kind: str, source: Mapping[str, Any]) -> Object:
    if kind in ("resource", "containerResource"):
        return {name: source[name] for name in ("name", "container") if name in source}
    named = source.get("metric") or {}
    shown: Object = {"metricName": named.get("name") or ""}
    if named.get("selector") is not None:
        shown["metricSelector" if kind == "external" else "selector"] = named["selector"]
    if kind == "object":
        shown["target"] = source.get("describedObject") or {}
    return shown


# Of each kind of metric: the fields of an amount in version 2, and what they are called in annotations.
_TARGETS: Final[Mapping[str, Mapping[str, str]]] = {
    "resource": {"averageUtilization": "targetAverageUtilization", "averageValue": "targetAverageValue"},
    "containerResource": {
        "averageUtilization": "targetAverageUtilization",
        "averageValue": "targetAverageValue",
    },
    "external": {"value": "targetValue", "averageValue": "targetAverageValue"},
    "object": {"value": "targetValue", "averageValue": "averageValue"},
    "pods": {"averageValue": "targetAverageValue"},
}
_CURRENTS: Final[Mapping[str, Mapping[str, str]]] = {
    "resource": {"averageUtilization": "currentAverageUtilization", "averageValue": "currentAverageValue"},
    "containerResource": {
        "averageUtilization": "currentAverageUtilization",
        "averageValue": "currentAverageValue",
    },
    "external": {"value": "currentValue", "averageValue": "currentAverageValue"},
    "object": {"value": "currentValue", "averageValue": "averageValue"},
    "pods": {"averageValue": "currentAverageValue"},
}


def _old_target(kind: str, target: Mapping[str, Any]) -> Object:
    return {old: target[new] for new, old in _TARGETS[kind].items() if target.get(new) is not None}


def _old_current(kind: str, current: Mapping[str, Any]) -> Object:
    return {old: current[new] for new, old in _CURRENTS[kind].items() if current.get(new) is not None}


def _new(metric: Mapping[str, Any], field: str, amounts: _Part) -> Object:
    """A metric of an annotation as version 2 has it."""
    stored: Object = {"type": metric.get("type") or ""}
    for kind in _KINDS:
        source = metric.get(kind)
        if isinstance(source, dict):
            stored[kind] = {**_new_source(kind, source), field: amounts(kind, source)}
    return stored


def _new_source(kind: str, source: Mapping[str, Any]) -> Object:
    if kind in ("resource", "containerResource"):
        return {name: source[name] for name in ("name", "container") if name in source}
    selector = source.get("metricSelector" if kind == "external" else "selector")
    metric = {"name": source.get("metricName") or ""} | ({} if selector is None else {"selector": selector})
    described = {"describedObject": source.get("target") or {}} if kind == "object" else {}
    return {"metric": metric, **described}


def _new_target(kind: str, source: Mapping[str, Any]) -> Object:
    target = {new: source[old] for new, old in _TARGETS[kind].items() if source.get(old) is not None}
    return {"type": _target_type(kind, target), **target}


def _target_type(kind: str, target: Mapping[str, Any]) -> str:
    if kind == "object":
        return "Value" if target.get("averageValue") is None else "AverageValue"
    if target.get("averageUtilization") is not None:
        return "Utilization"
    return "Value" if target.get("value") is not None else "AverageValue"


def _new_current(kind: str, source: Mapping[str, Any]) -> Object:
    return {new: source[old] for new, old in _CURRENTS[kind].items() if source.get(old) is not None}
