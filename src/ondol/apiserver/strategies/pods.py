"""Pods: born pending, ended gracefully by the node that runs them."""

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api import objects, quality
from ondol.api.objects import Object
from ondol.apiserver.strategies.base import Context, Strategy

_DEFAULT_GRACE_S: Final = 30
_OVER: Final = ("Succeeded", "Failed")


class Pod(Strategy):
    has_generation: ClassVar[bool] = True
    has_status: ClassVar[bool] = True
    returns_deleted: ClassVar[bool] = True

    def prepare_for_create(self, context: Context, new: Object) -> None:
        super().prepare_for_create(context, new)
        new["status"] = {"phase": "Pending", "qosClass": quality.of(new)}

    def grace_period_s(self, obj: Object, asked: int | None) -> int | None:
        """Nobody runs a pod that was not bound or is over: it goes at once."""
        if not objects.spec(obj).get("nodeName") or objects.status(obj).get("phase") in _OVER:
            return 0
        if asked is not None:
            return asked
        wanted = objects.spec(obj).get("terminationGracePeriodSeconds")
        return _DEFAULT_GRACE_S if wanted is None else max(int(wanted), 1 if wanted < 0 else 0)
