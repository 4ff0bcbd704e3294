"""Match conditions: expressions that decide whether a webhook or policy is asked about a write at all.

Follows Kubernetes' `webhook/matchconditions/matcher.go`: one that is false settles it, whatever went wrong
with the others; else one that fails leaves the decision to the failure policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ondol.base import errors

if TYPE_CHECKING:
    from ondol.api.cel.policies.expressions import Expression


class ConditionFailed(errors.OndolError):
    """An expression has no value for this write."""


class Conditions:
    """The conditions of one webhook; compiled when they are first needed."""

    def __init__(self, documents: Iterable[Mapping[str, Any]]) -> None:
        self._sources = [str(each.get("expression") or "") for each in documents]
        self._expressions: list[Expression] | None = None

    def __bool__(self) -> bool:
        return bool(self._sources)

    def match(self, activation: Mapping[str, Any]) -> bool:
        """Whether all hold; `ConditionFailed` if that cannot be known."""
        if not self._sources:
            return True
        from ondol.api import cel  # noqa: PLC0415  # only who has conditions pays for the language
        from ondol.api.cel.policies import expressions  # noqa: PLC0415

        if self._expressions is None:
            environment = cel.match_condition()
            self._expressions = [
                expressions.Expression(source, environment, expressions.BOOL) for source in self._sources
            ]
        try:
            return expressions.all_hold(self._expressions, activation)
        except expressions.Failed as failure:
            raise ConditionFailed(str(failure)) from None
