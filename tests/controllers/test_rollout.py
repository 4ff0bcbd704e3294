"""The arithmetic of rollouts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.controllers.workloads.deployment import rollout
from ondol.controllers.workloads.deployment.rollout import Set, Terms


def deployment(replicas: int, surge: int | str, unavailable: int | str) -> dict[str, object]:
    strategy = {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
    }
    return {"spec": {"replicas": replicas, "strategy": strategy}}


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (4, "25%", "25%", Terms(4, 1, 1)),
        (3, "25%", "25%", Terms(3, 1, 0)),
        (1, "25%", "25%", Terms(1, 1, 0)),
        (10, "30%", "15%", Terms(10, 3, 1)),
        (3, 0, 0, Terms(3, 0, 1)),
        (2, 0, "10%", Terms(2, 0, 1)),
        (2, 0, 5, Terms(2, 0, 2)),
        (0, "25%", "25%", Terms(0, 0, 0)),
    ],
)
def test_percentages_round_surge_up_and_unavailable_down(
    replicas: int, surge: int | str, unavailable: int | str, expected: Terms
) -> None:
    """And where neither leaves room to move, one pod may be missing."""
    assert rollout.terms(deployment(replicas, surge, unavailable)) == expected


def test_recreate_asks_for_everything_at_once() -> None:
    """There is no surge, and nothing must stay available."""
    terms = rollout.terms({"spec": {"replicas": 3, "strategy": {"type": "Recreate"}}})
    assert terms == Terms(3, 0, 0, recreate=True)
    assert rollout.initial_size(terms, []) == 3


@pytest.mark.parametrize(
    ("terms", "new", "olds", "changes"),
    [
        # nothing to do
        (Terms(3, 1, 0), (3, 3), [(0, 0)], {}),
        # the first step: surge only
        (Terms(3, 1, 0), (0, 0), [(3, 3)], {"new": 1}),
        # the new pod is up: one old may go
        (Terms(3, 1, 0), (1, 1), [(3, 3)], {"old0": 2}),
        (Terms(3, 1, 0), (1, 0), [(3, 3)], {}),
        # with room below, old ones go before new ones are up
        (Terms(4, 1, 1), (0, 0), [(4, 4)], {"new": 1, "old0": 3}),
        # unhealthy old pods go first and do not wait for new ones
        (Terms(3, 1, 0), (1, 0), [(3, 1)], {}),
        (Terms(4, 0, 2), (0, 0), [(4, 2)], {"old0": 2}),
        # too many new pods: only the new set shrinks to what is asked for
        (Terms(2, 1, 0), (5, 5), [(0, 0)], {"new": 2}),
        # two old sets: the older gives first
        (Terms(4, 1, 1), (2, 2), [(2, 2), (1, 1)], {"old0": 0}),
    ],
)
def test_steps(
    terms: Terms, new: tuple[int, int], olds: list[tuple[int, int]], changes: dict[str, int]
) -> None:
    """One step at a time, as Kubernetes takes them."""
    before = [Set(f"old{i}", size, available, float(i)) for i, (size, available) in enumerate(olds)]
    assert rollout.rolling(terms, Set("new", *new, 9.0), before) == changes


def test_pods_that_an_old_set_has_still_leave_no_room() -> None:
    """It was told to let one go, and has not: the new set waits for that."""
    terms = Terms(2, 1, 0)
    old = Set("old", 1, 2, 0.0, present=2)
    assert rollout.rolling(terms, Set("new", 1, 1, 9.0), [old]) == {}
    assert rollout.rolling(terms, Set("new", 1, 1, 9.0), [replace(old, available=1, present=1)]) == {"new": 2}
    assert rollout.initial_size(terms, [old]) == 1


@given(
    st.integers(0, 12),
    st.integers(0, 5),
    st.integers(0, 5),
    st.lists(st.integers(0, 6), min_size=1, max_size=3),
    st.randoms(use_true_random=False),
)
def test_a_rollout_ends_and_keeps_its_promises_on_the_way(
    replicas: int, surge: int, unavailable: int, sizes: list[int], rng: object
) -> None:
    """Never more pods than allowed beyond those there were, never fewer available than asked for."""
    terms = rollout.terms(deployment(replicas, surge, unavailable))
    new = Set("new", 0, 0, 9.0)
    olds = [Set(f"old{i}", size, size, float(i)) for i, size in enumerate(sizes)]
    ceiling = max(terms.max_total, sum(sizes))
    floor = min(terms.min_available, sum(sizes))
    for _ in range(200):
        changes = rollout.rolling(terms, new, olds)
        new = _applied(new, changes)
        olds = [_applied(old, changes) for old in olds]
        total = new.replicas + sum(old.replicas for old in olds)
        assert total <= ceiling
        assert new.available + sum(old.available for old in olds) >= floor
        if not changes and new.available == new.replicas:
            break
        if new.available < new.replicas and rng.random() < 0.7:  # type: ignore[attr-defined] # a Random of Hypothesis
            new = replace(new, available=new.available + 1)
    assert new.replicas == new.available == terms.replicas
    assert all(old.replicas == 0 for old in olds)


def _applied(each: Set, changes: dict[str, int]) -> Set:
    size = changes.get(each.name, each.replicas)
    return replace(each, replicas=size, available=min(each.available, size))


@pytest.mark.parametrize(
    ("terms", "new", "olds", "sizes"),
    [
        # one active set takes the change
        (Terms(5, 1, 1), (3, 3), [(0, 4)], {"new": 5}),
        (Terms(5, 1, 1), None, [(3, 4)], {"old0": 5}),
        # none is active: the newest
        (Terms(2, 1, 0), (0, 1), [(0, 4)], {"new": 2}),
        # several share in proportion, what is left over goes to the largest
        (Terms(10, 2, 0), (3, 6), [(3, 6)], {"new": 6, "old0": 6}),
        (Terms(20, 0, 0), (2, 10), [(8, 10)], {"new": 4, "old0": 16}),
        # shrinking to nothing
        (Terms(0, 0, 0), (2, 4), [(2, 4)], {"new": 0, "old0": 0}),
    ],
)
def test_a_change_of_size_is_shared(
    terms: Terms,
    new: tuple[int, int] | None,
    olds: list[tuple[int, int]],
    sizes: dict[str, int],
) -> None:
    """In the middle of a rollout both templates grow or shrink."""
    before = [Set(f"old{i}", size, size, float(i), top) for i, (size, top) in enumerate(olds)]
    current = Set("new", new[0], new[0], 9.0, new[1]) if new else None
    assert rollout.proportional(terms, current, before, 0) == sizes


@given(st.integers(1, 30), st.integers(0, 5), st.lists(st.integers(1, 10), min_size=2, max_size=4))
def test_shares_add_up(replicas: int, surge: int, sizes: list[int]) -> None:
    """The sets together get exactly what is allowed, and none less than nothing."""
    terms = Terms(replicas, surge, 0)
    total = sum(sizes)
    new, *olds = [Set(f"s{i}", size, 0, float(i), total) for i, size in enumerate(sizes)]
    shared = rollout.proportional(terms, new, olds, total)
    assert min(shared.values()) >= 0
    if all(size > 0 for size in shared.values()):
        assert sum(shared.values()) == terms.max_total
