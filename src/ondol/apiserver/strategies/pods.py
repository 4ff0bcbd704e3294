"""Pods: born pending, ended gracefully by the node that runs them."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from ondol.api import objects, quality
from ondol.api.objects import Object
from ondol.api.patch.fieldset import FieldSet
from ondol.api.validation import warnings
from ondol.apiserver.strategies.base import Context, Strategy

_DEFAULT_GRACE_S: Final = 30
_OVER: Final = ("Succeeded", "Failed")


class Pod(Strategy):
    has_generation: ClassVar[bool] = True
    has_status: ClassVar[bool] = True
    returns_deleted: ClassVar[bool] = True
    status_reset: ClassVar[FieldSet] = {
        "f:spec": {},
        "f:metadata": {"f:deletionTimestamp": {}, "f:ownerReferences": {}},
    }

    def prepare_for_create(self, context: Context, new: Object) -> None:
        super().prepare_for_create(context, new)
        new["status"] = {"phase": "Pending", "qosClass": quality.of(new)}

    def prepare_for_status_update(self, context: Context, new: Object, old: Object) -> None:
        """What older agents do not know of and so leave out stays as it was."""
        before, status = objects.status(old), {**objects.status(new)}
        for field in ("qosClass", "observedGeneration"):
            if not status.get(field) and before.get(field):
                status[field] = before[field]
        if "conditions" in status:
            status["conditions"] = _observed(status["conditions"], before.get("conditions") or ())
        new["status"] = status

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        """Only of new ones: what changes pods is rarely a person."""
        return warnings.pod(new) if old is None else []

    def grace_period_s(self, obj: Object, asked: int | None) -> int | None:
        """Nobody runs a pod that was not bound or is over: it goes at once."""
        if not objects.spec(obj).get("nodeName") or objects.status(obj).get("phase") in _OVER:
            return 0
        if asked is not None:
            return asked
        wanted = objects.spec(obj).get("terminationGracePeriodSeconds")
        return _DEFAULT_GRACE_S if wanted is None else max(int(wanted), 1 if wanted < 0 else 0)


def _observed(conditions: Iterable[Object], before: Iterable[Mapping[str, Any]]) -> list[Object]:
    """The conditions, each with the generation it was of before where it now names none."""
    observed = {each.get("type"): each.get("observedGeneration") for each in before}
    return [
        {**each, "observedGeneration": observed[each.get("type")]}
        if not each.get("observedGeneration") and observed.get(each.get("type"))
        else each
        for each in conditions
    ]
