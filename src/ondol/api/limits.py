"""What a LimitRange means for pods: which amounts they get, and what is wrong with theirs. Pure.

The sentences are those of `plugin/pkg/admission/limitranger`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api import demand, objects
from ondol.base import quantity

ANNOTATION: Final = "kubernetes.io/limit-ranger"
_GROUPS: Final = (("containers", "container"), ("initContainers", "init container"))
_FIELDS: Final = (("requests", "defaultRequest", "request"), ("limits", "default", "limit"))
Amounts = Mapping[str, int]


def complete(pod: Any, limit_range: Mapping[str, Any]) -> bool:
    """Write the default amounts into the containers that have none, in place; whether there was one."""
    notes: list[str] = []
    for group, described in _GROUPS:
        for container in objects.spec(pod).get(group) or ():
            notes += _fill(container, described, limit_range)
    if notes:
        annotations = pod["metadata"].setdefault("annotations", {})
        annotations[ANNOTATION] = "LimitRanger plugin set: " + "; ".join(notes)
    return bool(notes)


def _fill(container: Any, described: str, limit_range: Mapping[str, Any]) -> Iterator[str]:
    for field, source, word in _FIELDS:
        resources = container.get("resources") or {}
        defaults: dict[str, str] = {}
        for limit in _of_type(limit_range, "Container"):
            defaults |= limit.get(source) or {}
        own = resources.get(field) or {}
        added = sorted(defaults.keys() - own.keys())
        if added:
            amounts = {**own, **{name: defaults[name] for name in added}}
            container["resources"] = {**resources, field: amounts}
            yield f"{', '.join(added)} {word} for {described} {container['name']}"


def _of_type(limit_range: Mapping[str, Any], type_: str) -> Iterator[Mapping[str, Any]]:
    limits = objects.spec(limit_range).get("limits") or ()
    return (limit for limit in limits if limit.get("type") == type_)


def problems(pod: Mapping[str, Any], limit_range: Mapping[str, Any]) -> list[str]:
    """What of the pod is out of bounds, each once."""
    spec = objects.spec(pod)
    listed: list[str] = []
    for limit in _of_type(limit_range, "Container"):
        for group, _ in _GROUPS:
            for container in spec.get(group) or ():
                listed += _judge(limit, demand.requests(container), demand.limits(container))
    for limit in _of_type(limit_range, "Pod"):
        requests, limits = demand.total(spec, demand.requests), demand.total(spec, demand.limits)
        listed += _judge(limit, requests, limits)
    return list(dict.fromkeys(listed))


def _judge(limit: Mapping[str, Any], requests: Counter[str], limits: Counter[str]) -> Iterator[str]:
    type_ = str(limit.get("type"))
    for name, bound in (limit.get("min") or {}).items():
        yield from _least(f"minimum {name} usage per {type_} is {bound}", name, bound, requests, limits)
    for name, bound in (limit.get("max") or {}).items():
        yield from _most(f"maximum {name} usage per {type_} is {bound}", name, bound, requests, limits)
    for name, bound in (limit.get("maxLimitRequestRatio") or {}).items():
        head = f"{name} max limit to request ratio per {type_} is {bound}"
        yield from _ratio(head, name, bound, requests, limits)


def _least(head: str, name: str, bound: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    least = quantity.millicores_of(bound)
    if name not in requests:
        yield f"{head}.  No request is specified"
    elif requests[name] < least:
        yield f"{head}, but request is {_shown(name, requests[name])}"
    elif name in limits and limits[name] < least:
        yield f"{head}, but limit is {_shown(name, limits[name])}"


def _most(head: str, name: str, bound: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    most = quantity.millicores_of(bound)
    if name not in limits:
        yield f"{head}.  No limit is specified"
    elif limits[name] > most:
        yield f"{head}, but limit is {_shown(name, limits[name])}"
    elif requests.get(name, 0) > most:
        yield f"{head}, but request is {_shown(name, requests[name])}"


def _ratio(head: str, name: str, bound: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    if not requests.get(name):
        yield f"{head}, but no request is specified or request is 0"
    elif not limits.get(name):
        yield f"{head}, but no limit is specified or limit is 0"
    elif limits[name] > quantity.parse(bound) * requests[name]:
        yield f"{head}, but provided ratio is {limits[name] / requests[name]:f}"


def _shown(name: str, milli: int) -> str:
    """An amount as its author would write it: bytes in powers of two where they come in such."""
    is_bytes = name != "cpu" and "/" not in name and milli % (1024 * 1000) == 0
    return quantity.canonical(f"{milli // (1024 * 1000)}Ki" if is_bytes else f"{milli}m")
