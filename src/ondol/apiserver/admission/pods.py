"""DefaultTolerationSeconds: how long every pod stays on a node that is not ready or out of reach.

Follows `plugin/pkg/admission/defaulttolerationseconds`: an update that leaves them out gets them again, so
that a manifest can be applied or replaced again.
"""

from __future__ import annotations

from typing import Any, Final

from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.strategy import Context

_TOLERATED: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_TOLERATED_S: Final = 300


def admit(parts: Parts, context: Context, request: Request) -> None:
    del parts, context
    if request.operation == "delete" or request.subresource:
        return
    spec = request.new["spec"]
    tolerations = spec.get("tolerations") or []
    added = [_toleration(key) for key in _TOLERATED if not any(_tolerates(t, key) for t in tolerations)]
    if added:
        spec["tolerations"] = [*tolerations, *added]


def _tolerates(toleration: Any, key: str) -> bool:
    return (toleration.get("key") or key) == key and (toleration.get("effect") or "NoExecute") == "NoExecute"


def _toleration(key: str) -> Any:
    return {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _TOLERATED_S}
