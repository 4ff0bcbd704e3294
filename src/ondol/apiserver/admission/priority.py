"""Priority: what a pod's PriorityClass says is written into the pod; only one class is for pods without one.

Follows `plugin/pkg/admission/priority`: an update that leaves out what was written here means no change, so
that a manifest can be applied or replaced again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.api import objects, priority_classes, resources, status
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.strategy import Context
from ondol.base import errors

_COMPUTED: Final = {
    "priority": "integer value of priority",
    "preemptionPolicy": "string value of PreemptionPolicy",
}


def admit_pod(parts: Parts, context: Context, request: Request) -> None:
    """Write the priority and the policy of the pod's class into the pod; refuse others."""
    del context
    if request.operation == "delete" or request.subresource:
        return
    spec = request.new["spec"]
    if request.old is not None:
        _keep(spec, objects.spec(request.old))
        return
    priority_class = _class_of(parts, request, spec.get("priorityClassName") or "")
    if priority_class:
        spec["priorityClassName"] = objects.name(priority_class)
    computed = {
        "priority": priority_class.get("value") or 0,
        "preemptionPolicy": priority_class.get("preemptionPolicy") or priority_classes.PREEMPTION_POLICY,
    }
    for field, described in _COMPUTED.items():
        value = spec.setdefault(field, computed[field])
        if value != computed[field]:
            raise _forbidden(
                request,
                f"the {described} ({value}) must not be provided in pod spec; priority admission controller "
                f"computed {computed[field]} from the given PriorityClass name",
            )


def _class_of(parts: Parts, request: Request, name: str) -> Mapping[str, Any]:
    """The class of that name, or the one for pods without; empty if there is none for them."""
    if not name:
        return priority_classes.of_pods_without(parts.state.list_objects(resources.PRIORITY_CLASS)) or {}
    named = parts.state.lookup(resources.PRIORITY_CLASS, "", name)
    if named is None:
        raise _forbidden(request, f"no PriorityClass with name {name} was found")
    return named


def _keep(spec: Any, was: Mapping[str, Any]) -> None:
    for field in _COMPUTED:
        if spec.get(field) is None and was.get(field) is not None:
            spec[field] = was[field]


def admit_class(parts: Parts, context: Context, request: Request) -> None:
    """Refuse a second class for pods without one."""
    del context
    if request.operation == "delete" or not request.new.get("globalDefault"):
        return
    marked = priority_classes.of_pods_without(parts.state.list_objects(resources.PRIORITY_CLASS))
    if marked is not None and (request.old is None or objects.name(marked) != objects.name(request.new)):
        why = f"PriorityClass {objects.name(marked)} is already marked as default. Only one default can exist"
        raise _forbidden(request, why)


def _forbidden(request: Request, why: str) -> errors.Forbidden:
    return status.forbidden(request.served.resource, objects.name(request.new), why)
