"""How many replicas each ReplicaSet of a Deployment should have now. Pure arithmetic.

The rules are those of Kubernetes' deployment controller: during a rolling update never more than
`replicas + maxSurge` pods are asked for and never fewer than `replicas - maxUnavailable` stay
available; a change of `replicas` in the middle is spread over the sets in proportion.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ondol.api import objects, shares


@dataclass(frozen=True, slots=True)
class Terms:
    """What the Deployment asks for, with percentages worked out."""

    replicas: int
    max_surge: int
    max_unavailable: int
    recreate: bool = False

    @property
    def max_total(self) -> int:
        return self.replicas + self.max_surge

    @property
    def min_available(self) -> int:
        return self.replicas - self.max_unavailable


@dataclass(frozen=True, slots=True)
class Set:
    """One ReplicaSet as the arithmetic sees it."""

    name: str
    replicas: int
    available: int
    created: float
    max_before: int | None = None
    """`replicas + maxSurge` when its size was last written, from its annotation."""
    present: int = 0
    """How many pods it says it has, which may be more than it is to have by now."""

    @property
    def counted(self) -> int:
        return max(self.replicas, self.present)


def terms(deployment: Mapping[str, Any]) -> Terms:
    spec = objects.spec(deployment)
    count = spec.get("replicas")
    replicas = 1 if count is None else int(count)
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return Terms(replicas, 0, 0, recreate=True)
    rolling = strategy.get("rollingUpdate") or {}
    surge = shares.scaled(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = shares.scaled(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1  # with neither, nothing could ever move
    return Terms(replicas, surge, min(unavailable, replicas))


def initial_size(terms: Terms, others: Iterable[Set]) -> int:
    """The size a new set is created with, beside the ones there are."""
    return _raised(terms, 0, sum(other.counted for other in others))


def _raised(terms: Terms, size: int, total: int) -> int:
    if terms.recreate:
        return terms.replicas
    room = terms.max_total - total
    return size if room <= 0 else size + min(room, terms.replicas - size)


def rolling(terms: Terms, new: Set, olds: Sequence[Set]) -> dict[str, int]:
    """One step of a rolling update: the sizes that change, by name.

    An old set's pods count until it says that they go. Kubernetes goes by the sizes alone: where the old
    set's controller is the later one, there are more pods for a while than `maxSurge` allows.
    """
    total = new.replicas + sum(old.counted for old in olds)
    size = terms.replicas if new.replicas > terms.replicas else _raised(terms, new.replicas, total)
    grown = replace(new, replicas=size)
    changes = _lowered(terms, grown, olds)
    if size != new.replicas:
        changes[new.name] = size
    return changes


def _lowered(terms: Terms, new: Set, olds: Sequence[Set]) -> dict[str, int]:
    """Old sets give up replicas as far as enough stay available: first those that never came up."""
    total = new.replicas + sum(old.replicas for old in olds)
    not_up = max(0, new.replicas - new.available)
    room = total - terms.min_available - not_up
    if room <= 0:
        return {}
    shrinkable = sorted((old for old in olds if old.replicas > 0), key=lambda old: (old.created, old.name))
    changes: dict[str, int] = {}
    for index, old in enumerate(shrinkable):
        removed = min(room, max(0, old.replicas - old.available))
        if removed > 0:
            room -= removed
            shrinkable[index] = replace(old, replicas=old.replicas - removed)
            changes[old.name] = old.replicas - removed
    spare = new.available + sum(old.available for old in olds) - terms.min_available
    for old in shrinkable:
        removed = min(old.replicas, spare)
        if removed > 0:
            spare -= removed
            changes[old.name] = old.replicas - removed
    return changes


def proportional(terms: Terms, new: Set | None, olds: Sequence[Set], current: int) -> dict[str, int]:
    """Sizes after `replicas` changed: the one active set takes it all, several share it.

    `current` is how many pods the Deployment's status counts, for sets without an annotation.
    A set may be in the answer with the size it has: its annotations still change.
    """
    everything = [*([new] if new else []), *olds]
    active = [each for each in everything if each.replicas > 0]
    if not everything:
        return {}
    if len(active) <= 1:
        latest = active[0] if active else new or max(olds, key=lambda old: old.created)
        return {latest.name: terms.replicas}
    if new and new.replicas == terms.replicas == new.available and new.max_before == terms.max_total:
        return {old.name: 0 for old in olds if old.replicas > 0}
    if terms.recreate:
        return {}
    return _shared(terms, active, current)


def _shared(terms: Terms, active: Sequence[Set], current: int) -> dict[str, int]:
    allowed = terms.max_total if terms.replicas > 0 else 0
    to_add = allowed - sum(each.replicas for each in active)
    # Growing favours the newer of equal sets, shrinking the older.
    newer = -1 if to_add > 0 else 1
    ordered = sorted(active, key=lambda each: (-each.replicas, newer * each.created, each.name))
    sizes: dict[str, int] = {}
    added = 0
    for each in ordered:
        share = _share(terms, each, to_add, added, current)
        sizes[each.name] = each.replicas + share
        added += share
    if to_add:
        first = ordered[0].name
        sizes[first] = max(0, sizes[first] + to_add - added)
    return sizes


def _share(terms: Terms, each: Set, to_add: int, added: int, current: int) -> int:
    if to_add in (0, added):
        return 0
    if terms.replicas == 0:
        fraction = -each.replicas
    else:
        before = each.max_before or current
        if not before:
            return 0
        exact = each.replicas * terms.max_total / before
        fraction = math.floor(exact + 0.5) - each.replicas
    remaining = to_add - added
    return min(fraction, remaining) if to_add > 0 else max(fraction, remaining)
