"""The lens of the subresource `approval`: the conditions of a request for a certificate."""

from __future__ import annotations

from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.api.patch.fieldset import FieldSet
from ondol.apiserver.lenses import Lens, metadata_through
from ondol.apiserver.strategy import Context, Strategy
from ondol.base import clock


class Approval:
    """Shows the whole request and takes its conditions, and its metadata."""

    subresource = "approval"

    def __init__(self) -> None:
        self.reset: FieldSet = {"f:spec": {}, "f:status": {"f:certificate": {}}}

    def get(self, obj: Object) -> Object:
        return obj

    def put(self, obj: Object, part: Object) -> Object:
        status = {key: value for key, value in objects.status(obj).items() if key != "conditions"}
        if conditions := objects.status(part).get("conditions"):
            status["conditions"] = conditions
        return {**obj, "metadata": metadata_through(self, obj, part), "status": status}

    def prepare(self, strategy: Strategy, context: Context, new: Object, old: Object) -> None:
        del strategy
        date_conditions(context.now, new, old)


def date_conditions(now: float, new: Object, old: Object) -> None:
    """Say, in place, when conditions were written and since when they hold."""
    written = clock.rfc3339(now)
    before = objects.status(old).get("conditions") or ()
    conditions: list[Any] = objects.status(new).get("conditions") or []
    for condition in conditions:
        condition["lastUpdateTime"] = condition.get("lastUpdateTime") or written
        if not condition.get("lastTransitionTime"):
            same = [c for c in before if all(c.get(f) == condition.get(f) for f in ("type", "status"))]
            since = same[0].get("lastTransitionTime") if same else None
            condition["lastTransitionTime"] = since or written


LENSES: Final[dict[str, Lens]] = {Approval.subresource: Approval()}
