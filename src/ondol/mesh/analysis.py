"""Findings about valid rules that are likely mistakes: missing hosts and subsets, rules without effect.

Pure. Each kind finds its own (`kinds`); here is when it looks. Findings are warnings: the configuration is
served all the same, except that a version whose destinations are `missing` waits while an earlier one can
serve.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from ondol.base.memo import Memo
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.kinds import KINDS
from ondol.mesh.kinds.kind import Finding, Judge, Kind, Kinds, Survey, nothing_alone, rules_with_names
from ondol.mesh.translate.registry import Rule
from ondol.mesh.translate.world import Translation, World
from ondol.mesh.xds.types import Origin


class Analyst:
    """Judges one world after another; looks again only at rules whose dependencies changed."""

    def __init__(self, kinds: Kinds = KINDS) -> None:
        self.memo = Memo()
        self._kinds = kinds
        self._shared: Sequence[Origin] = ()

    def missing(self, kind: str, rules: Iterable[Rule[Any]], dependencies: Dependencies) -> list[Finding]:
        """What rules of a kind name and does not exist."""
        self._heed(dependencies.world)
        of = self._kinds[kind]
        return [finding for rule in rules for finding in self._once(of, of.missing, rule, dependencies)]

    def findings(self, dependencies: Dependencies) -> list[Finding]:
        """Everything that is odd about the mesh's objects of this world."""
        self._heed(dependencies.world)
        rules = dependencies.translation.rules
        listed: list[Finding] = []
        for kind in self._kinds.values():
            if kind.names is not None:
                for rule in dependencies.world.of(kind.name):
                    listed += self._once(kind, kind.judge, rule, dependencies)
            contested = partial(_listed, kind.contest, dependencies)
            listed += self.memo.get(("contest", kind.name, id(rules)), contested, rules)
            listed += kind.survey(dependencies)
            for rule in dependencies.world.of(kind.name):
                listed += self._alone(kind, rule)
        self.memo.sweep()
        return listed

    def _alone(self, kind: Kind[Any], rule: Rule[Any]) -> list[Finding]:
        if kind.alone is nothing_alone:
            return []
        return self.memo.get(("alone", rule.origin), lambda: list(kind.alone(rule)))

    def _heed(self, world: World) -> None:
        """Objects of some kinds may concern any host: with them all is judged anew."""
        shared = [rule.origin for rule in rules_with_names(self._kinds, world.rules, named=False)]
        if shared != self._shared:
            self.memo, self._shared = Memo(), shared

    def _once(
        self, kind: Kind[Any], judge: Judge[Any], rule: Rule[Any], dependencies: Dependencies
    ) -> list[Finding]:
        if kind.names is None:
            return list(judge(rule, dependencies))
        of = kind.names
        names = self.memo.get(("names", rule.origin), lambda: of(rule, dependencies.cluster_domain))
        key = (judge, rule.origin, dependencies.signature(names))
        return self.memo.get(key, lambda: list(judge(rule, dependencies)), dependencies.parts(names))


def _listed(survey: Survey, dependencies: Dependencies) -> list[Finding]:
    return list(survey(dependencies))


def findings(world: World, translation: Translation) -> list[Finding]:
    """Everything that is odd about the mesh's objects of a world seen for the first time."""
    return Analyst().findings(Dependencies(world, translation))
