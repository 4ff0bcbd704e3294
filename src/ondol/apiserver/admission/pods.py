"""DefaultTolerationSeconds and Priority: what every pod is given, and keeps when it is written anew.

Follows `plugin/pkg/admission/{defaulttolerationseconds,priority}`: an update that leaves out what was
given here means no change, so that a manifest can be applied or replaced again.
"""

from __future__ import annotations

from typing import Any, Final

from ondol.api import objects
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.strategy import Context
from ondol.base import errors

_TOLERATED: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_TOLERATED_S: Final = 300
_SYSTEM_PRIORITIES: Final = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}

_COMPUTED: Final = {
    "priority": "integer value of priority",
    "preemptionPolicy": "string value of PreemptionPolicy",
}


def admit(parts: Parts, context: Context, request: Request) -> None:
    del parts, context
    if request.operation == "delete" or request.subresource:
        return
    spec = request.new["spec"]
    if request.old is None:
        _prioritize(spec, objects.name(request.new))
    else:
        _keep(spec, objects.spec(request.old))
    tolerations = spec.get("tolerations") or []
    added = [_toleration(key) for key in _TOLERATED if not any(_tolerates(t, key) for t in tolerations)]
    if added:
        spec["tolerations"] = [*tolerations, *added]


def _prioritize(spec: Any, pod: str) -> None:
    class_name = spec.get("priorityClassName") or ""
    if class_name and class_name not in _SYSTEM_PRIORITIES:
        raise _forbidden(pod, f"no PriorityClass with name {class_name} was found")
    computed = {"priority": _SYSTEM_PRIORITIES.get(class_name, 0), "preemptionPolicy": "PreemptLowerPriority"}
    for field, described in _COMPUTED.items():
        value = spec.setdefault(field, computed[field])
        if value != computed[field]:
            raise _forbidden(
                pod,
                f"the {described} ({value}) must not be provided in pod spec; priority admission controller "
                f"computed {computed[field]} from the given PriorityClass name",
            )


def _forbidden(pod: str, why: str) -> errors.Forbidden:
    return errors.Forbidden(f'pods "{pod}" is forbidden: {why}', details={"name": pod, "kind": "pods"})


def _keep(spec: Any, was: Any) -> None:
    for field in ("priority", "preemptionPolicy"):
        if spec.get(field) is None and was.get(field) is not None:
            spec[field] = was[field]


def _tolerates(toleration: Any, key: str) -> bool:
    return (toleration.get("key") or key) == key and (toleration.get("effect") or "NoExecute") == "NoExecute"


def _toleration(key: str) -> Any:
    return {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _TOLERATED_S}
