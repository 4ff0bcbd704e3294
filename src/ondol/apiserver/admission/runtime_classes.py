"""RuntimeClass: a pod gets the overhead of its class, and goes where the class says.

Follows `plugin/pkg/admission/runtimeclass`: a pod that says otherwise is refused when it is created.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ondol.api import objects, resources, status
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.strategy import Context
from ondol.base import errors, quantity

_MISMATCH = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"


def admit(parts: Parts, context: Context, request: Request) -> None:
    """Write what the class says into a new pod."""
    del context
    runtime_class = _class_of(parts, request)
    spec = request.new.get("spec") or {}
    overhead = _overhead(runtime_class)
    if overhead is not None:
        if spec.get("overhead") and not _same(spec["overhead"], overhead):
            raise _forbidden(request, _MISMATCH)
        spec["overhead"] = dict(overhead)
    scheduling = runtime_class.get("scheduling")
    if scheduling is not None:
        _select(request, spec, scheduling.get("nodeSelector") or {})
        merged = _merged([*(spec.get("tolerations") or ()), *(scheduling.get("tolerations") or ())])
        if merged:
            spec["tolerations"] = merged


def check(parts: Parts, context: Context, request: Request) -> None:
    """Refuse overhead that no class gives."""
    del context
    if request.operation != "create" or request.subresource:
        return
    stated, overhead = objects.spec(request.new).get("overhead"), _overhead(_class_of(parts, request))
    if overhead is not None and not _same(stated or {}, overhead):
        raise _forbidden(request, _MISMATCH)
    if overhead is None and stated is not None:
        why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
        raise _forbidden(request, why)


def _class_of(parts: Parts, request: Request) -> Mapping[str, Any]:
    """The class a new pod names; empty if it names none."""
    name = objects.spec(request.new).get("runtimeClassName")
    if request.operation != "create" or request.subresource or name is None:
        return {}
    runtime_class = parts.state.lookup(resources.RUNTIME_CLASS, "", name)
    if runtime_class is None:
        raise _forbidden(request, f'pod rejected: RuntimeClass "{name}" not found')
    return runtime_class


def _overhead(runtime_class: Mapping[str, Any]) -> Mapping[str, str] | None:
    overhead = runtime_class.get("overhead")
    return None if overhead is None else overhead.get("podFixed") or {}


def _same(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return one.keys() == other.keys() and all(
        quantity.parse(amount) == quantity.parse(other[name]) for name, amount in one.items()
    )


def _select(request: Request, spec: Any, selector: Mapping[str, str]) -> None:
    """Narrow the pod to the nodes of the class."""
    own = spec.get("nodeSelector") or {}
    for key, value in selector.items():
        if own.get(key, value) != value:
            why = (
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                f"pod.spec.nodeSelector[{key}] = {own[key]}"
            )
            raise _forbidden(request, why)
    if selector:
        spec["nodeSelector"] = {**own, **selector}


def _merged(tolerations: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Without those that another one includes; of equal ones the first stays."""
    merged: list[Mapping[str, Any]] = []
    for index, toleration in enumerate(tolerations):
        later = (each for each in tolerations[index + 1 :] if each != toleration)
        if not any(_includes(other, toleration) for other in (*merged, *later)):
            merged.append(toleration)
    return merged


def _includes(wider: Mapping[str, Any], toleration: Mapping[str, Any]) -> bool:
    if wider == toleration:
        return True
    effect = wider.get("effect") or ""
    if effect and (toleration.get("effect") or "") != effect:
        return False
    if effect == "NoExecute" and wider.get("tolerationSeconds") is not None:
        seconds = toleration.get("tolerationSeconds")
        if seconds is None or seconds > wider["tolerationSeconds"]:
            return False
    key = wider.get("key") or ""
    if wider.get("operator") == "Exists":
        return not key or key == toleration.get("key")
    return (
        (toleration.get("operator") or "Equal") == "Equal"
        and (toleration.get("key") or "") == key
        and (toleration.get("value") or "") == (wider.get("value") or "")
    )


def _forbidden(request: Request, why: str) -> errors.Forbidden:
    return status.forbidden(request.served.resource, objects.name(request.new), why)
