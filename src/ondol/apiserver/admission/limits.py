"""LimitRanger: what containers are defaults that say nothing, and how much or little may be asked for.

Follows Kubernetes' `plugin/pkg/admission/limitranger`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

from ondol.api import objects, quality, quota, resources
from ondol.api.objects import Object
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.strategy import Context
from ondol.base import errors, quantity

ANNOTATION: Final = "kubernetes.io/limit-ranger"
_GROUPS: Final = (("containers", "container"), ("initContainers", "init container"))

Limit = Mapping[str, Any]


def default(parts: Parts, context: Context, request: Request) -> None:
    """In the mutating phase: give new pods the defaults of their namespace."""
    del context
    is_new = request.operation == "create" and not request.subresource
    if not is_new or request.served.resource != resources.POD:
        return
    for limit_range in _limit_ranges(parts, request.namespace):
        _complete(request.new, limit_range)


def check(parts: Parts, context: Context, request: Request) -> None:
    """In the validating phase."""
    del context
    resource = request.served.resource
    if resource not in (resources.POD, resources.PERSISTENT_VOLUME_CLAIM) or not _is_checked(request):
        return
    for limit_range in _limit_ranges(parts, request.namespace):
        limits = objects.spec(limit_range).get("limits") or ()
        problems = _of_pod if resource == resources.POD else _of_claim
        listed = list(dict.fromkeys(problems(request.new, limits)))
        if listed:
            name = objects.name(request.new)
            why = listed[0] if len(listed) == 1 else f"[{', '.join(listed)}]"
            raise errors.Forbidden(
                f'{resource.plural} "{name}" is forbidden: {why}',
                details={"name": name, "kind": resource.plural},
            )


def _is_checked(request: Request) -> bool:
    if request.operation == "delete" or objects.is_deleting(request.old or {}):
        return False
    if request.served.resource != resources.POD:
        return not request.subresource
    if request.operation == "create":
        return not request.subresource
    return request.subresource == "resize"


def _limit_ranges(parts: Parts, namespace: str) -> Iterable[Object]:
    return parts.state.list_objects(resources.LIMIT_RANGE, namespace)


# --- defaults


def _complete(pod: Object, limit_range: Object) -> None:
    defaults: dict[str, dict[str, Any]] = {"requests": {}, "limits": {}}
    for limit in objects.spec(limit_range).get("limits") or ():
        if limit.get("type") == "Container":
            defaults["requests"] |= limit.get("defaultRequest") or {}
            defaults["limits"] |= limit.get("default") or {}
    notes = [
        note
        for group, word in _GROUPS
        for container in objects.spec(pod).get(group) or ()
        for note in _fill(container, defaults, word)
    ]
    if notes:
        annotations = pod["metadata"].setdefault("annotations", {})
        annotations[ANNOTATION] = f"LimitRanger plugin set: {'; '.join(notes)}"
        pod["status"] = {**objects.status(pod), "qosClass": quality.of(pod)}


def _fill(container: Any, defaults: Mapping[str, Mapping[str, Any]], word: str) -> Iterator[str]:
    amounts = container.setdefault("resources", {})
    for kind, noun in (("requests", "request"), ("limits", "limit")):
        added = {n: amount for n, amount in defaults[kind].items() if n not in (amounts.get(kind) or {})}
        if added:
            amounts[kind] = {**(amounts.get(kind) or {}), **added}
            yield f"{', '.join(sorted(added))} {noun} for {word} {container.get('name') or ''}"


# --- bounds


def _of_pod(pod: Object, limits: Iterable[Limit]) -> Iterator[str]:
    for limit in limits:
        if limit.get("type") == "Container":
            for group, _ in _GROUPS:
                for container in objects.spec(pod).get(group) or ():
                    amounts = container.get("resources") or {}
                    yield from _bounds(limit, amounts.get("requests") or {}, amounts.get("limits") or {})
        elif limit.get("type") == "Pod":
            requests, most = (
                {name: quota.spelled(name, amount) for name, amount in amounts.items()}
                for amounts in quota.of_pod(pod)
            )
            yield from _bounds(limit, requests, most)


def _of_claim(claim: Object, limits: Iterable[Limit]) -> Iterator[str]:
    requests = (objects.spec(claim).get("resources") or {}).get("requests") or {}
    for limit in limits:
        if limit.get("type") != "PersistentVolumeClaim":
            continue
        for name, least in (limit.get("min") or {}).items():
            yield from _at_least("PersistentVolumeClaim", name, least, requests, {})
        for name, most in (limit.get("max") or {}).items():
            bound = f"maximum {name} usage per PersistentVolumeClaim is {most}"
            if name not in requests:
                yield f"{bound}.  No request is specified"
            elif _is_more(requests[name], most):
                yield f"{bound}, but request is {requests[name]}"


def _bounds(limit: Limit, requests: Mapping[str, Any], limits: Mapping[str, Any]) -> Iterator[str]:
    kind = limit["type"]
    for name, least in (limit.get("min") or {}).items():
        yield from _at_least(kind, name, least, requests, limits)
    for name, most in (limit.get("max") or {}).items():
        yield from _at_most(kind, name, most, requests, limits)
    for name, ratio in (limit.get("maxLimitRequestRatio") or {}).items():
        yield from _within_ratio(kind, name, ratio, requests, limits)


def _is_more(amount: Any, other: Any) -> bool:
    return quantity.parse(amount) > quantity.parse(other)


def _at_least(
    kind: str, name: str, least: Any, requests: Mapping[str, Any], limits: Mapping[str, Any]
) -> Iterator[str]:
    bound = f"minimum {name} usage per {kind} is {least}"
    if name not in requests:
        yield f"{bound}.  No request is specified"
    elif _is_more(least, requests[name]):
        yield f"{bound}, but request is {requests[name]}"
    elif name in limits and _is_more(least, limits[name]):
        yield f"{bound}, but limit is {limits[name]}"


def _at_most(
    kind: str, name: str, most: Any, requests: Mapping[str, Any], limits: Mapping[str, Any]
) -> Iterator[str]:
    bound = f"maximum {name} usage per {kind} is {most}"
    if name not in limits:
        yield f"{bound}.  No limit is specified"
    elif _is_more(limits[name], most):
        yield f"{bound}, but limit is {limits[name]}"
    elif name in requests and _is_more(requests[name], most):
        yield f"{bound}, but request is {requests[name]}"


def _within_ratio(
    kind: str, name: str, ratio: Any, requests: Mapping[str, Any], limits: Mapping[str, Any]
) -> Iterator[str]:
    bound = f"{name} max limit to request ratio per {kind} is {ratio}"
    request, limit = (quantity.parse(amounts.get(name, "0")) for amounts in (requests, limits))
    if not request:
        yield f"{bound}, but no request is specified or request is 0"
    elif not limit:
        yield f"{bound}, but no limit is specified or limit is 0"
    elif Fraction(limit, request) > quantity.parse(ratio):
        yield f"{bound}, but provided ratio is {float(limit / request):f}"
