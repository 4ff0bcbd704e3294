"""Rules of LimitRanges: which resources they may name, and that their bounds and defaults fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api import labels as selectors
from ondol.api import objects
from ondol.api.schema import causes
from ondol.api.validation import containers
from ondol.base import quantity
from ondol.base.errors import Cause

_TYPES: Final = ("Container", "PersistentVolumeClaim", "Pod")
_OF_PODS: Final = ("Container", "Pod")
_AMOUNTS: Final = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
_ORDER: Final = (
    ("min", "max", "min", "min value {0} is greater than max value {1}"),
    ("min", "defaultRequest", "defaultRequest", "min value {0} is greater than default request value {1}"),
    ("defaultRequest", "max", "defaultRequest", "default request value {0} is greater than max value {1}"),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "default request value {0} is greater than default limit value {1}",
    ),
    ("min", "default", "default", "min value {0} is greater than default value {1}"),
    ("default", "max", "default", "default value {0} is greater than max value {1}"),
)
"""What may not be greater than what, at which field it is told, and how."""
_VALUE_OF: Final = {("min", "default"): 0, ("default", "max"): 1}
"""Which of the two is shown as the value, where it is not that of the field."""


def limit_range(obj: Mapping[str, Any]) -> Iterator[Cause]:
    types: set[str] = set()
    for index, limit in enumerate(objects.spec(obj).get("limits") or ()):
        path, type_ = f"spec.limits[{index}]", limit.get("type") or ""
        yield from _type(f"{path}.type", type_)
        if type_ in types:
            yield causes.duplicate(f"{path}.type", type_)
        types.add(type_)
        yield from _names(path, type_, limit)
        for name in sorted({name for field in _AMOUNTS for name in limit.get(field) or {}}):
            yield from _fit(path, name, limit)


def _type(path: str, type_: str) -> Iterator[Cause]:
    problems = list(selectors.label_key_problems(type_))
    yield from (causes.invalid(path, type_, problem) for problem in problems)
    if not problems and "/" not in type_ and type_ not in _TYPES:
        yield causes.invalid(path, type_, "must be a standard limit type or fully qualified")


def _names(path: str, type_: str, limit: Mapping[str, Any]) -> Iterator[Cause]:
    for field in _AMOUNTS:
        amounts = limit.get(field) or {}
        if type_ == "Pod" and field in ("default", "defaultRequest"):
            if amounts:
                yield causes.forbidden(f"{path}.{field}", "may not be specified when `type` is 'Pod'")
            continue
        if type_ in _OF_PODS:
            for name in amounts:
                yield from containers.resource_name(f"{path}.{field}[{name}]", name)
    bounds = {**(limit.get("min") or {}), **(limit.get("max") or {})}
    if type_ == "PersistentVolumeClaim" and "storage" not in bounds:
        detail = "either minimum or maximum storage value is required, but neither was provided"
        yield causes.required(f"{path}.limits", detail)


def _fit(path: str, name: str, limit: Mapping[str, Any]) -> Iterator[Cause]:
    """The amounts of one resource against each other."""
    hidden = ("default", "defaultRequest") if limit.get("type") == "Pod" else ()
    amounts = {
        field: limit[field][name]
        for field in _AMOUNTS
        if field not in hidden and name in (limit.get(field) or {})
    }
    for less, more, field, detail in _ORDER:
        if less in amounts and more in amounts and _more(amounts[less], amounts[more]):
            pair = (amounts[less], amounts[more])
            value = pair[_VALUE_OF[less, more]] if (less, more) in _VALUE_OF else amounts[field]
            yield causes.invalid(f"{path}.{field}[{name}]", value, detail.format(*pair))
    yield from _ratio(f"{path}.maxLimitRequestRatio[{name}]", amounts)
    default, request = amounts.get("default"), amounts.get("defaultRequest")
    is_whole = "/" in name or name.startswith("hugepages-")
    if is_whole and default and request and quantity.parse(default) != quantity.parse(request):
        detail = f"default value {default} must equal to defaultRequest value {request} in {name}"
        yield causes.invalid(f"{path}.defaultRequest[{name}]", request, detail)


def _more(amount: str, other: str) -> bool:
    return quantity.parse(amount) > quantity.parse(other)


def _ratio(path: str, amounts: Mapping[str, str]) -> Iterator[Cause]:
    ratio = amounts.get("maxLimitRequestRatio")
    if ratio is None:
        return
    if _more("1", ratio):
        yield causes.invalid(path, ratio, f"ratio {ratio} is less than 1")
    if "min" in amounts and "max" in amounts and (least := quantity.parse(amounts["min"])):
        most = quantity.parse(amounts["max"]) / least
        if quantity.parse(ratio) > most:
            yield causes.invalid(path, ratio, f"ratio {ratio} is greater than max/min = {float(most):f}")
