"""The rules of the features for kinds, put together for the API server. The part `api` uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ondol.apiserver.ports import KindRules
from ondol.base.errors import Cause


class InTurn:
    """The rules of several features for one kind: ConfigMaps, of which each has its own."""

    def __init__(self, *rules: KindRules) -> None:
        self._rules = rules

    def default(self, new: dict[str, Any], old: Mapping[str, Any] | None, user: str) -> None:
        """Fill in what each of them does."""
        for rules in self._rules:
            rules.default(new, old, user)

    def judge(
        self, new: Mapping[str, Any], old: Mapping[str, Any] | None, user: str
    ) -> tuple[Sequence[Cause], Sequence[str]]:
        """What any of them finds wrong, and what they advise."""
        judged = [rules.judge(new, old, user) for rules in self._rules]
        causes = [cause for each, _ in judged for cause in each]
        return causes, [sentence for _, advice in judged for sentence in advice]


def together(*features: Mapping[str, KindRules]) -> dict[str, KindRules]:
    """The rules of all features, by group and resource."""
    rules: dict[str, KindRules] = {}
    for feature in features:
        for kind, own in feature.items():
            rules[kind] = InTurn(rules[kind], own) if kind in rules else own
    return rules
