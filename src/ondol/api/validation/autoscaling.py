"""Rules of HorizontalPodAutoscalers, in the version they are stored in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api import autoscaling, labels, objects
from ondol.api.schema import causes
from ondol.api.validation import fields
from ondol.base import quantity
from ondol.base.errors import Cause

_KINDS: Final = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_WINDOW_MAX_S: Final = 3600
_PERIOD_MAX_S: Final = 1800
_TARGETS: Final = ("AverageValue", "Utilization", "Value")


def autoscaler_v1(obj: Mapping[str, Any]) -> Iterator[Cause]:
    yield from autoscaler(autoscaling.v2(obj))


def autoscaler(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    least, most = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    if least is not None and least < 1:
        yield causes.invalid("spec.minReplicas", least, "must be greater than or equal to 1")
    if most < 1:
        yield causes.invalid("spec.maxReplicas", most, "must be greater than 0")
    if least is not None and most < least:
        yield causes.invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")
    target = spec.get("scaleTargetRef") or {}
    yield from _reference(target, "spec.scaleTargetRef")
    if "/" not in (target.get("apiVersion") or "") and target.get("kind") != "ReplicationController":
        version = target.get("apiVersion") or ""
        detail = "apiVersion must specify API group"
        yield causes.invalid("spec.scaleTargetRef.apiVersion", version, detail)
    for index, metric in enumerate(spec.get("metrics") or ()):
        yield from _metric(metric, f"spec.metrics[{index}]")
    for field, rules in (spec.get("behavior") or {}).items():
        if rules is not None:
            yield from _rules(rules, f"spec.behavior.{field}")


def _reference(ref: Mapping[str, Any], path: str) -> Iterator[Cause]:
    for field in ("kind", "name"):
        if not ref.get(field):
            yield causes.required(f"{path}.{field}")
        else:
            yield from fields.path_segment(f"{path}.{field}", ref[field])
    version = ref.get("apiVersion") or ""
    if version.count("/") > 1:
        yield causes.invalid(f"{path}.apiVersion", version, f"unexpected GroupVersion string: {version}")


def _metric(metric: Mapping[str, Any], path: str) -> Iterator[Cause]:
    kind = metric.get("type") or ""
    if not kind:
        yield causes.required(f"{path}.type", "must specify a metric source type")
    expected = _KINDS.get(kind)
    if expected is None:
        yield causes.not_supported(f"{path}.type", kind, sorted(_KINDS))
    elif metric.get(expected) is None:
        detail = "must populate information for the given metric source"
        yield causes.required(f"{path}.{expected}", detail)
    present = [field for field in _KINDS.values() if metric.get(field) is not None]
    if present:
        yield from _source(present[0], metric[present[0]], f"{path}.{present[0]}")
    for field in present:
        if len(present) > 1 and field != expected:
            yield causes.forbidden(f"{path}.{field}", "must populate the given metric source only")


def _source(kind: str, source: Mapping[str, Any], path: str) -> Iterator[Cause]:
    target = source.get("target") or {}
    if kind in ("resource", "containerResource"):
        yield from _resource(kind, source, path)
    else:
        if kind == "object":
            yield from _reference(source.get("describedObject") or {}, f"{path}.describedObject")
        yield from _identifier(source.get("metric") or {}, f"{path}.metric")
    yield from _target(target, f"{path}.target")
    yield from _needed(kind, target, f"{path}.target")


def _resource(kind: str, source: Mapping[str, Any], path: str) -> Iterator[Cause]:
    name = source.get("name") or ""
    if not name:
        yield causes.required(f"{path}.name", "must specify a resource name")
    if kind != "containerResource":
        return
    for detail in labels.label_key_problems(name) if name else ():
        yield causes.invalid(f"{path}.name", name, detail)
    if not source.get("container"):
        yield causes.required(f"{path}.container", "must specify a container")
    else:
        yield from fields.label(f"{path}.container", source["container"])


def _identifier(metric: Mapping[str, Any], path: str) -> Iterator[Cause]:
    name = metric.get("name") or ""
    if not name:
        yield causes.required(f"{path}.name", "must specify a metric name")
    else:
        yield from fields.path_segment(f"{path}.name", name)


def _target(target: Mapping[str, Any], path: str) -> Iterator[Cause]:
    kind = target.get("type") or ""
    if not kind:
        yield causes.required(f"{path}.type", "must specify a metric target type")
    if kind not in _TARGETS:
        detail = "must be either Utilization, Value, or AverageValue"
        yield causes.invalid(f"{path}.type", kind, detail)
    for field in ("value", "averageValue"):
        amount = target.get(field)
        if amount is not None and quantity.parse(amount) <= 0:
            yield causes.invalid(f"{path}.{field}", amount, "must be positive")
    percent = target.get("averageUtilization")
    if percent is not None and percent < 1:
        yield causes.invalid(f"{path}.averageUtilization", percent, "must be greater than 0")


# What a target must have one of, what is said if it has none, and what may not stand beside each other.
_NEEDED: Final[Mapping[str, tuple[tuple[str, ...], str, str]]] = {
    "object": (("value", "averageValue"), "averageValue", "must set either a target value or averageValue"),
    "external": (
        ("value", "averageValue"),
        "averageValue",
        "must set either a target value for metric or a per-pod target",
    ),
    "pods": (("averageValue",), "averageValue", "must specify a positive target averageValue"),
    "resource": (
        ("averageUtilization", "averageValue"),
        "averageUtilization",
        "must set either a target raw value or a target utilization",
    ),
    "containerResource": (
        ("averageUtilization", "averageValue"),
        "averageUtilization",
        "must set either a target raw value or a target utilization",
    ),
}


def _needed(kind: str, target: Mapping[str, Any], path: str) -> Iterator[Cause]:
    choices, named, detail = _NEEDED[kind]
    present = [field for field in choices if target.get(field) is not None]
    if not present:
        yield causes.required(f"{path}.{named}", detail)
    if len(present) < 2 or kind == "object":
        return
    if kind == "external":
        detail = "may not set both a target value for metric and a per-pod target"
        yield causes.forbidden(f"{path}.value", detail)
    else:
        detail = "may not set both a target raw value and a target utilization"
        yield causes.forbidden(f"{path}.averageValue", detail)


def _rules(rules: Mapping[str, Any], path: str) -> Iterator[Cause]:
    window, chosen = rules.get("stabilizationWindowSeconds"), rules.get("selectPolicy")
    if window is not None and window < 0:
        detail = "must be greater than or equal to zero"
        yield causes.invalid(f"{path}.stabilizationWindowSeconds", window, detail)
    if window is not None and window > _WINDOW_MAX_S:
        detail = f"must be less than or equal to {_WINDOW_MAX_S}"
        yield causes.invalid(f"{path}.stabilizationWindowSeconds", window, detail)
    if chosen is not None and chosen not in ("Disabled", "Max", "Min"):
        yield causes.not_supported(f"{path}.selectPolicy", chosen, ("Disabled", "Max", "Min"))
    if not rules.get("policies"):
        yield causes.required(f"{path}.policies", "must specify at least one Policy")
    for index, policy in enumerate(rules.get("policies") or ()):
        yield from _policy(policy, f"{path}.policies[{index}]")


def _policy(policy: Mapping[str, Any], path: str) -> Iterator[Cause]:
    kind, period = policy.get("type") or "", policy.get("periodSeconds") or 0
    if kind not in ("Percent", "Pods"):
        yield causes.not_supported(f"{path}.type", kind, ("Percent", "Pods"))
    for field in ("value", "periodSeconds"):
        if (policy.get(field) or 0) <= 0:
            yield causes.invalid(f"{path}.{field}", policy.get(field) or 0, "must be greater than zero")
    if period > _PERIOD_MAX_S:
        detail = f"must be less than or equal to {_PERIOD_MAX_S}"
        yield causes.invalid(f"{path}.periodSeconds", period, detail)
