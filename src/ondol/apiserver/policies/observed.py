"""What the status of a ValidatingAdmissionPolicy says of it once it is written."""

from __future__ import annotations

from typing import ClassVar

from ondol.api.objects import Object
from ondol.apiserver.strategy import Context, Strategy


class Observed(Strategy):
    """A policy is in force, as it was written, from the next write on: its status says so at once.

    Types are not checked beyond the compilation of the expressions, which a refused write would tell of.
    """

    has_generation: ClassVar[bool] = True
    has_status: ClassVar[bool] = True
    empty_status: ClassVar[Object | None] = {}

    def prepare_for_create(self, context: Context, new: Object) -> None:
        super().prepare_for_create(context, new)
        _observe(new)

    def prepare_for_update(self, context: Context, new: Object, old: Object) -> None:
        super().prepare_for_update(context, new, old)
        _observe(new)


def _observe(policy: Object) -> None:
    status = policy.get("status") or {}
    generation = policy["metadata"].get("generation")
    policy["status"] = {"typeChecking": {}, **status, "observedGeneration": generation}
