"""Controllers that are broken on purpose: the simulation must notice each of them, or it shows nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

import pytest
from tests.simulation.test_platform_simulation import play

from ondol.apiserver.subresources import eviction
from ondol.controllers.disruption import budgets
from ondol.controllers.endpoints import slices
from ondol.controllers.garbage import reconciler as garbage
from ondol.controllers.scheduler import filters
from ondol.controllers.workloads import podcontrol
from ondol.controllers.workloads.deployment import rollout
from ondol.controllers.workloads.job import job_pods
from ondol.controllers.workloads.statefulset import plan
from ondol.node.testing import FakeRuntime
from ondol.sdk import writes

_SEEDS: Final = range(40)
"""Within so many histories a defect shows."""

Patch = pytest.MonkeyPatch


def forgets_its_writes(patch: Patch) -> None:
    """Reconciles go by what caches had before the last write."""
    patch.setattr(writes.Writes, "seen", property(lambda _: True))


def rolls_out_by_removing_first(patch: Patch) -> None:
    """A Deployment's old pods go before the new ones are there."""

    def rolling(terms: Any, new: Any, olds: Any) -> dict[str, int]:
        return {new.name: terms.replicas} | {old.name: 0 for old in olds if old.replicas}

    patch.setattr(rollout, "rolling", rolling)


def makes_replicas_at_once(patch: Patch) -> None:
    """A StatefulSet does not wait for those before."""
    patch.setattr(plan._Turn, "is_ordered", property(lambda _: False))


def fills_nodes_without_counting(patch: Patch) -> None:
    """Pods are bound to where there is no room."""
    patch.setattr(filters, "_lacking", lambda *_: [])


def counts_the_leaving_as_healthy(patch: Patch) -> None:
    """A budget is of pods that are on their way out, too."""
    patch.setattr(budgets, "healthy", lambda selected, _: sum(1 for _ in selected))


def evicts_without_a_budget(patch: Patch) -> None:
    """The budget is looked at and not heeded."""

    def spent(budget: Any, pod: str, now: float) -> Any:
        return budget

    patch.setattr(eviction, "_spent", spent)


def runs_one_task_too_many(patch: Patch) -> None:
    """A Job's parallelism is exceeded by one."""
    original = job_pods.target
    patch.setattr(
        job_pods,
        "target",
        lambda terms, counted: (
            original(terms, counted)
            and original(dataclasses.replace(terms, parallelism=terms.parallelism + 1), counted)
            + (terms.completions == 1)
        ),
    )


def leaves_orphans(patch: Patch) -> None:
    """Nobody takes what has lost its owner."""

    async def reconcile(*_: Any) -> None:
        return None

    patch.setattr(garbage.Reconciler, "reconcile", reconcile)


def lists_who_is_not_ready(patch: Patch) -> None:
    """Services send calls to pods that cannot answer."""
    original = slices.endpoint

    def endpoint(*args: Any) -> Any:
        document = original(*args)
        document["conditions"]["ready"] = not document["conditions"]["terminating"]
        return document

    patch.setattr(slices, "endpoint", endpoint)


def forgets_to_delete(patch: Patch) -> None:
    """Pods that are too many stay."""

    async def delete(*_: Any) -> None:
        return None

    patch.setattr(podcontrol.PodControl, "delete", delete)


def leaves_containers_running(patch: Patch) -> None:
    """The runtime says that they are gone."""

    async def delete(self: FakeRuntime, container_id: str) -> None:
        return None

    patch.setattr(FakeRuntime, "delete", delete)
    patch.setattr(FakeRuntime, "signal", lambda *_: None)


DEFECTS: Final[tuple[Callable[[Patch], None], ...]] = (
    forgets_its_writes,
    rolls_out_by_removing_first,
    makes_replicas_at_once,
    fills_nodes_without_counting,
    counts_the_leaving_as_healthy,
    evicts_without_a_budget,
    runs_one_task_too_many,
    leaves_orphans,
    lists_who_is_not_ready,
    forgets_to_delete,
    leaves_containers_running,
)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_defect_is_caught(defect: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """By a property, within a few histories."""
    defect(monkeypatch)
    assert any(_is_noticed(seed) for seed in _SEEDS)


def _is_noticed(seed: int) -> bool:
    try:
        play(seed)
    except AssertionError:
        return True
    except BaseExceptionGroup as group:
        noticed, others = group.split(AssertionError)
        if others is not None and noticed is None:
            raise
        return True
    return False
