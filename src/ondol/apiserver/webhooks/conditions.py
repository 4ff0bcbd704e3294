"""Match conditions: expressions that decide whether a webhook or policy is asked about a write at all.

Follows Kubernetes' `webhook/matchconditions/matcher.go`: one that is false settles it, whatever went wrong
with the others; else one that fails leaves the decision to the failure policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ondol.base import errors

if TYPE_CHECKING:
    from ondol.api import cel


class ConditionFailed(errors.OndolError):
    """An expression has no value for this write."""


class Conditions:
    """The conditions of one webhook; compiled when they are first needed."""

    def __init__(self, documents: Iterable[Mapping[str, Any]]) -> None:
        self._expressions = [str(each.get("expression") or "") for each in documents]
        self._programs: list[cel.Program] | None = None

    def __bool__(self) -> bool:
        return bool(self._expressions)

    def match(self, activation: Mapping[str, Any]) -> bool:
        """Whether all hold; `ConditionFailed` if that cannot be known."""
        if not self._expressions:
            return True
        from ondol.api import cel  # noqa: PLC0415  # only who has conditions pays for the language

        if self._programs is None:
            environment = cel.match_condition()
            self._programs = [cel.compile(each, environment) for each in self._expressions]
        failures, left = [], cel.MATCH_BUDGET
        for program in self._programs:
            outcome = program.evaluate(activation, min(left, cel.CALL_LIMIT))
            left -= outcome.cost
            if outcome.error is not None:
                failures.append(str(outcome.error))
            elif outcome.value is False:
                return False
        if failures:
            raise ConditionFailed(", ".join(failures))
        return True
