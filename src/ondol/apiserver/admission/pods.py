"""DefaultTolerationSeconds and Priority: what every pod is given when it is created."""

from __future__ import annotations

from typing import Any, Final

from ondol.api import objects, resources
from ondol.apiserver.admission.request import Request
from ondol.apiserver.core import Core
from ondol.apiserver.strategies.base import Context
from ondol.base import errors

_TOLERATED: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_TOLERATED_S: Final = 300
_SYSTEM_PRIORITIES: Final = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}


def admit(core: Core, context: Context, request: Request) -> None:
    del core, context
    if request.served.resource != resources.POD or request.operation != "create" or request.subresource:
        return
    spec = request.new["spec"]
    _prioritize(spec, objects.name(request.new))
    tolerations = spec.get("tolerations") or []
    added = [_toleration(key) for key in _TOLERATED if not any(_tolerates(t, key) for t in tolerations)]
    if added:
        spec["tolerations"] = [*tolerations, *added]


def _prioritize(spec: Any, pod: str) -> None:
    wanted = spec.get("priorityClassName") or ""
    if wanted and wanted not in _SYSTEM_PRIORITIES:
        raise errors.Forbidden(
            f'pods "{pod}" is forbidden: no PriorityClass with name {wanted} was found',
            details={"name": pod, "kind": "pods"},
        )
    spec["priority"] = _SYSTEM_PRIORITIES.get(wanted, 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _tolerates(toleration: Any, key: str) -> bool:
    return (toleration.get("key") or key) == key and (toleration.get("effect") or "NoExecute") == "NoExecute"


def _toleration(key: str) -> Any:
    return {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _TOLERATED_S}
