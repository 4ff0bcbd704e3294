"""Rules of LimitRanges and ResourceQuotas."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from ondol.api import labels, objects
from ondol.api.schema import causes
from ondol.api.validation import fields
from ondol.base import quantity
from ondol.base.errors import Cause

_TYPES: Final = ("Container", "PersistentVolumeClaim", "Pod")
_OF_CONTAINERS: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
_COUNTED: Final = frozenset(
    {
        "configmaps",
        "persistentvolumeclaims",
        "pods",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "services",
        "services.loadbalancers",
        "services.nodeports",
    }
)
_COMPUTED: Final = frozenset(
    {*_OF_CONTAINERS, "requests.storage"}
    | {f"{kind}.{name}" for kind in ("requests", "limits") for name in _OF_CONTAINERS}
)
_PAGES: Final = ("hugepages-", "requests.hugepages-")
_STANDARD: Final = _COUNTED | _COMPUTED | {"storage"}
_SCOPES: Final = frozenset(
    {
        "BestEffort",
        "CrossNamespacePodAffinity",
        "NotBestEffort",
        "NotTerminating",
        "PriorityClass",
        "Terminating",
        "VolumeAttributesClass",
    }
)
_PLAIN_SCOPES: Final = _SCOPES - {"PriorityClass", "VolumeAttributesClass"}
_OF_SCOPED_PODS: Final = frozenset(
    {"pods", "cpu", "memory"}
    | {f"{kind}.{name}" for kind in ("requests", "limits") for name in ("cpu", "memory")}
)
_CONFLICTING: Final = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))


def _name(path: str, name: str, allowed: Callable[[str], bool], detail: str) -> Iterator[Cause]:
    """A resource's name: one of the standard ones, or with a domain before it."""
    problems = labels.label_key_problems(name)
    yield from (causes.invalid(path, name, problem) for problem in problems)
    if problems or "/" in name:
        return
    if not (name in _STANDARD or name.startswith(_PAGES)):
        yield causes.invalid(path, name, "must be a standard resource type or fully qualified")
    if not allowed(name):
        yield causes.invalid(path, name, detail)


# --- LimitRanges


def limit_range(obj: Mapping[str, Any]) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, limit in enumerate(objects.spec(obj).get("limits") or ()):
        path, kind = f"spec.limits[{index}]", limit.get("type") or ""
        problems = labels.label_key_problems(kind)
        yield from (causes.invalid(f"{path}.type", kind, problem) for problem in problems)
        if not problems and "/" not in kind and kind not in _TYPES:
            detail = "must be a standard limit type or fully qualified"
            yield causes.invalid(f"{path}.type", kind, detail)
        if kind in seen:
            yield causes.duplicate(f"{path}.type", kind)
        seen.add(kind)
        yield from _limit(limit, kind, path)


def _limit(limit: Mapping[str, Any], kind: str, path: str) -> Iterator[Cause]:
    for field in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
        if kind == "Pod" and field in ("default", "defaultRequest"):
            if limit.get(field):
                yield causes.forbidden(f"{path}.{field}", "may not be specified when `type` is 'Pod'")
            continue
        for name in limit.get(field) or {}:
            yield from _name(
                f"{path}.{field}[{name}]",
                name,
                _is_of_containers if kind in ("Pod", "Container") else bool,
                "must be a standard resource for containers",
            )
    if kind == "PersistentVolumeClaim" and not any(
        "storage" in (limit.get(field) or {}) for field in ("min", "max")
    ):
        detail = "either minimum or maximum storage value is required, but neither was provided"
        yield causes.required(f"{path}.limits", detail)
    yield from _in_order(limit, kind, path)


def _is_of_containers(name: str) -> bool:
    return name in _OF_CONTAINERS or name.startswith("hugepages-")


# What must not be above what, what is said if it is, and which of the two is shown at which field.
_ORDER: Final = (
    ("min", "max", "min value {} is greater than max value {}", "min", 0),
    ("min", "defaultRequest", "min value {} is greater than default request value {}", "defaultRequest", 1),
    ("defaultRequest", "max", "default request value {} is greater than max value {}", "defaultRequest", 0),
    (
        "defaultRequest",
        "default",
        "default request value {} is greater than default limit value {}",
        "defaultRequest",
        0,
    ),
    ("min", "default", "min value {} is greater than default value {}", "default", 0),
    ("default", "max", "default value {} is greater than max value {}", "default", 1),
)


def _in_order(limit: Mapping[str, Any], kind: str, path: str) -> Iterator[Cause]:
    names = sorted({name for amounts in limit.values() if isinstance(amounts, dict) for name in amounts})
    for name in names:
        for low, high, detail, shown, which in _ORDER:
            if kind == "Pod" and "default" in (low, high):
                continue
            pair: list[Any] = [(limit.get(field) or {}).get(name) for field in (low, high)]
            if None not in pair and quantity.parse(pair[0]) > quantity.parse(pair[1]):
                yield causes.invalid(f"{path}.{shown}[{name}]", pair[which], detail.format(*pair))
        yield from _ratio(limit, name, path)
        yield from _same(limit, name, path)


def _ratio(limit: Mapping[str, Any], name: str, path: str) -> Iterator[Cause]:
    ratio = (limit.get("maxLimitRequestRatio") or {}).get(name)
    if ratio is None:
        return
    spot = f"{path}.maxLimitRequestRatio[{name}]"
    if quantity.parse(ratio) < 1:
        yield causes.invalid(spot, ratio, f"ratio {ratio} is less than 1")
    least, most = ((limit.get(field) or {}).get(name) for field in ("min", "max"))
    if least is None or most is None or not quantity.parse(least):
        return
    bound = quantity.parse(most) / quantity.parse(least)
    if quantity.parse(ratio) > bound:
        yield causes.invalid(spot, ratio, f"ratio {ratio} is greater than max/min = {float(bound):f}")


def _same(limit: Mapping[str, Any], name: str, path: str) -> Iterator[Cause]:
    """What cannot be shared is asked for as it is limited."""
    default, request = ((limit.get(field) or {}).get(name) for field in ("default", "defaultRequest"))
    if not default or not request or not ("/" in name or name.startswith("hugepages-")):
        return
    if quantity.parse(default) != quantity.parse(request):
        detail = f"default value {default} must equal to defaultRequest value {request} in {name}"
        yield causes.invalid(f"{path}.defaultRequest[{name}]", request, detail)


# --- ResourceQuotas


def resource_quota(obj: Mapping[str, Any]) -> Iterator[Cause]:
    spec = objects.spec(obj)
    hard = spec.get("hard") or {}
    for name, amount in hard.items():
        path = f"spec.hard[{name}]"
        yield from _name(path, name, _is_of_quotas, "must be a standard resource for quota")
        if quantity.parse(amount) < 0:
            yield causes.invalid(path, amount, "must be greater than or equal to 0")
        if _is_whole(name) and (quantity.parse(amount)).denominator != 1:
            yield causes.invalid(path, amount, "must be an integer")
    yield from _scopes(spec.get("scopes") or (), hard)
    if spec.get("scopeSelector") is not None:
        yield from _selector(spec["scopeSelector"], hard)


def _is_of_quotas(name: str) -> bool:
    return name in _COUNTED or name in _COMPUTED or name.startswith(_PAGES)


def _is_whole(name: str) -> bool:
    """Whether what is counted comes in pieces."""
    return name in _COUNTED or ("/" in name and not name.startswith("requests."))


def _scopes(scopes: Iterable[str], hard: Iterable[str]) -> Iterator[Cause]:
    path, listed = "spec.scopes", list(scopes)
    for scope in listed:
        if scope not in _SCOPES:
            yield causes.invalid(path, listed, "unsupported scope")
        for name in sorted(hard):
            if _is_of_quotas(name) and not _is_scoped(scope, name):
                yield causes.invalid(path, listed, "unsupported scope applied to resource")
    yield from _conflicts(path, listed, listed)


def _is_scoped(scope: str, name: str) -> bool:
    """Whether a scope means anything for what is counted under a name."""
    if scope == "BestEffort":
        return name == "pods"
    if scope == "VolumeAttributesClass":
        return name in ("persistentvolumeclaims", "requests.storage")
    return scope not in _SCOPES or name in _OF_SCOPED_PODS


def _conflicts(path: str, scopes: Iterable[str], shown: Any) -> Iterator[Cause]:
    present = set(scopes)
    for pair in _CONFLICTING:
        if present.issuperset(pair):
            yield causes.invalid(path, shown, "conflicting scopes")


def _selector(selector: Mapping[str, Any], hard: Iterable[str]) -> Iterator[Cause]:
    path, requirements = "spec.scopeSelector.matchExpressions", selector.get("matchExpressions") or ()
    for requirement in requirements:
        scope, operator = requirement.get("scopeName") or "", requirement.get("operator") or ""
        if scope not in _SCOPES:
            yield causes.invalid(f"{path}.scopeName", scope, "unsupported scope")
        for name in sorted(hard):
            if _is_of_quotas(name) and not _is_scoped(scope, name):
                yield causes.invalid(path, dict(selector), "unsupported scope applied to resource")
        if scope in _PLAIN_SCOPES and operator != "Exists":
            detail = (
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, "
                "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "
                "ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
            )
            yield causes.invalid(f"{path}.operator", operator, detail)
        yield from _values(requirement, operator, path)
    yield from _conflicts("spec.scopeSelector.matchExpressions", _named(requirements), None)


def _named(requirements: Iterable[Mapping[str, Any]]) -> list[str]:
    return [requirement.get("scopeName") or "" for requirement in requirements]


def _values(requirement: Mapping[str, Any], operator: str, path: str) -> Iterator[Cause]:
    values = requirement.get("values") or []
    if operator in ("In", "NotIn"):
        if not values:
            detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            yield causes.required(f"{path}.values", detail)
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            yield causes.invalid(f"{path}.values", values, detail)
    else:
        yield causes.invalid(f"{path}.operator", operator, "not a valid selector operator")


def resource_quota_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Cause]:
    scopes, former = objects.spec(new).get("scopes") or [], objects.spec(old).get("scopes") or []
    if set(scopes) != set(former):
        yield causes.invalid("spec.scopes", scopes or None, fields.IMMUTABLE)
