"""Jobs against the API server, on virtual time: every pod counted once, and an end in Kubernetes' words."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from ondol.api import conditions, objects, pods, resources
from ondol.api.objects import Object
from ondol.api.pods import created_at
from ondol.controllers import garbage, scheduler
from ondol.controllers.catalogue import Catalogue
from ondol.controllers.workloads import job
from ondol.controllers.workloads.job import indexes, tally, verdict
from ondol.sdk import Manager
from ondol.sdk.testing import Faults

Play = Callable[..., None]


def collect(manager: Manager) -> None:
    garbage.add_to(manager, Catalogue(manager))


CONTROLLERS = (job.add_to, scheduler.add_to)


def spec(**fields: Any) -> Object:
    container = {"name": "c", "image": "task:1"}
    template = fields.pop("template", {})
    return {
        "template": {"spec": {"restartPolicy": "Never", "containers": [container], **template}},
        **fields,
    }


async def start(stage: Any, name: str = "task", **fields: Any) -> None:
    await stage.node(cpu="64")
    await stage.run(*CONTROLLERS)
    await stage.create(resources.JOB, name, spec=spec(**fields))


async def live(stage: Any, name: str = "task") -> Object:
    current: Object = await stage.client.get(resources.JOB, name, "default")
    return current


async def ended(stage: Any, type_: str, reason: str, message: str = "") -> Object:
    """The Job, which has ended like this: the condition that decided it was there first."""
    current = await live(stage)
    condition = conditions.get(current, type_) or {}
    assert (condition.get("status"), condition.get("reason")) == ("True", reason), current["status"]
    assert message in condition["message"]
    interim = conditions.get(current, "SuccessCriteriaMet" if type_ == "Complete" else "FailureTarget") or {}
    assert (interim["status"], interim["reason"]) == ("True", reason)
    status = current["status"]
    assert not status.get("active")
    assert status["terminating"] == 0
    assert status["uncountedTerminatedPods"] == {}
    assert ("completionTime" in status) is (type_ == "Complete")
    assert not any(tally.is_tracked(pod) for pod in await stage.pods())
    return current


def index_of(pod: Object) -> int:
    index = indexes.of(pod)
    assert index is not None
    return index


@pytest.mark.parametrize(
    ("fields", "succeeded"),
    [
        ({}, 1),
        ({"completions": 5, "parallelism": 2}, 5),
        ({"completions": 0}, 0),
        ({"parallelism": 3}, 3),
        ({"completions": 4, "parallelism": 9, "completionMode": "Indexed"}, 4),
    ],
)
def test_pods_run_until_enough_have_succeeded(play: Play, fields: Object, succeeded: int) -> None:
    """The end is told with its times and an event."""

    async def scene(stage: Any) -> None:
        stage.exit_code = lambda _: 0
        await start(stage, **fields)
        await stage.settle()
        current = await ended(stage, "Complete", "CompletionsReached")
        assert current["status"].get("succeeded", 0) == succeeded
        assert len(await stage.pods()) == succeeded
        assert await stage.events("Completed") == ["Job completed"]

    play(scene)


def test_an_indexed_job_gives_each_pod_its_index(play: Play) -> None:
    """In its name, host name, annotation and label, and in the environment of its containers."""

    async def scene(stage: Any) -> None:
        await start(stage, completions=3, parallelism=3, completionMode="Indexed")
        await stage.settle()
        for pod in await stage.pods():
            index = index_of(pod)
            assert objects.name(pod).startswith(f"task-{index}-")
            assert pod["spec"]["hostname"] == f"task-{index}"
            assert objects.labels(pod)[indexes.ANNOTATION] == str(index)
            (variable,) = pod["spec"]["containers"][0]["env"]
            assert variable["name"] == "JOB_COMPLETION_INDEX"
        stage.exit_code = lambda pod: 0 if index_of(pod) != 1 else None
        for pod in await stage.pods():
            await stage.client.patch(
                resources.POD, objects.name(pod), "default", patch={"metadata": {"labels": {"seen": "1"}}}
            )
        await stage.settle()
        current = await live(stage)
        assert (current["status"]["completedIndexes"], current["status"]["active"]) == ("0,2", 1)

    play(scene)


@pytest.mark.parametrize(("limit", "pods"), [(0, 1), (3, 4)])
def test_a_job_fails_when_its_pods_failed_too_often(play: Play, limit: int, pods: int) -> None:
    """After waits of 10, 20, 40 seconds between the tries."""

    async def scene(stage: Any) -> None:
        stage.exit_code = lambda _: 1
        await start(stage, backoffLimit=limit)
        await stage.advance(200)
        current = await ended(stage, "Failed", "BackoffLimitExceeded", "reached the specified backoff limit")
        assert current["status"]["failed"] == len(await stage.pods()) == pods
        ends = sorted(created_at(pod) for pod in await stage.pods())
        gaps = [round(after - before) for before, after in itertools.pairwise(ends)]
        assert gaps == [10, 20, 40][: pods - 1]

    play(scene)


def test_a_deadline_ends_a_job_with_its_pods(play: Play) -> None:
    """It is told as decided while the pods end, and as done when they are gone."""

    async def scene(stage: Any) -> None:
        await start(stage, parallelism=2, activeDeadlineSeconds=60)
        await stage.advance(59)
        assert (await live(stage))["status"]["active"] == 2
        await stage.advance(5)
        await ended(stage, "Failed", "DeadlineExceeded", "active longer than specified deadline")
        assert await stage.pods() == []

    play(scene)


def test_a_suspended_job_has_no_pods_and_starts_anew(play: Play) -> None:
    """Its deadline counts from when it runs; pods that were taken away are no failures."""

    async def scene(stage: Any) -> None:
        await start(stage, parallelism=2, suspend=True, activeDeadlineSeconds=60)
        await stage.advance(100)
        current = await live(stage)
        assert conditions.is_true(current, "Suspended")
        assert "startTime" not in current["status"]
        for suspend, count in ((False, 2), (True, 0), (False, 2)):
            patch = {"spec": {"suspend": suspend}}
            await stage.client.patch(resources.JOB, "task", "default", patch=patch)
            await stage.advance(30)
            assert len(await stage.pods()) == count
        current = await live(stage)
        assert conditions.is_false(current, "Suspended")
        assert current["status"].get("failed", 0) == 0
        assert Counter(await stage.events("Suspended")) == {"Job suspended": 1}
        await stage.advance(40)
        await ended(stage, "Failed", "DeadlineExceeded")

    play(scene)


EXIT_RULE = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
IGNORE_RULE = {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}}


def test_a_failure_policy_ends_ignores_or_counts(play: Play) -> None:
    """Ignored failures are tried again without being counted; one exit code ends it all."""

    async def scene(stage: Any) -> None:
        codes = [7, 7, 1, 42]
        ends: dict[str, int] = {}
        stage.exit_code = lambda pod: ends.setdefault(objects.uid(pod), codes[min(len(ends), 3)])
        await start(stage, podFailurePolicy={"rules": [EXIT_RULE, IGNORE_RULE]}, backoffLimit=1)
        await stage.advance(400)
        current = await ended(stage, "Failed", "PodFailurePolicy")
        message = (conditions.get(current, "Failed") or {})["message"]
        assert message.startswith("Container c for pod default/task-")
        assert message.endswith("failed with exit code 42 matching FailJob rule at index 0")
        assert current["status"]["failed"] == 2

    play(scene)


def test_failures_by_index(play: Play) -> None:
    """Each index has its own tries; the others go on, and the Job fails when all have ended."""

    async def scene(stage: Any) -> None:
        stage.exit_code = lambda pod: int(index_of(pod) == 1)
        await start(stage, completions=3, parallelism=3, completionMode="Indexed", backoffLimitPerIndex=2)
        await stage.advance(200)
        current = await ended(stage, "Failed", "FailedIndexes", "Job has failed indexes")
        assert (current["status"]["completedIndexes"], current["status"]["failedIndexes"]) == ("0,2", "1")
        assert (current["status"]["succeeded"], current["status"]["failed"]) == (2, 3)
        tries = [pod for pod in await stage.pods() if index_of(pod) == 1]
        assert sorted(objects.annotations(pod)[job_count] for pod in tries) == ["0", "1", "2"]

    job_count = "batch.kubernetes.io/job-index-failure-count"
    play(scene)


def test_too_many_failed_indexes_end_it_early(play: Play) -> None:
    """What still runs is taken away."""

    async def scene(stage: Any) -> None:
        stage.exit_code = lambda pod: 1 if index_of(pod) < 2 else None
        await start(
            stage,
            completions=4,
            parallelism=4,
            completionMode="Indexed",
            backoffLimitPerIndex=0,
            maxFailedIndexes=1,
        )
        await stage.settle()
        await ended(stage, "Failed", "MaxFailedIndexesExceeded")

    play(scene)


def test_a_success_policy_ends_it_early(play: Play) -> None:
    """The leader's success is enough; the others' end is no failure."""

    async def scene(stage: Any) -> None:
        stage.exit_code = lambda pod: 0 if index_of(pod) == 0 else None
        rules = {"rules": [{"succeededIndexes": "0"}]}
        await start(stage, completions=3, parallelism=3, completionMode="Indexed", successPolicy=rules)
        await stage.settle()
        current = await ended(stage, "Complete", "SuccessPolicy", "Matched rules at index 0")
        assert (current["status"]["succeeded"], current["status"].get("failed", 0)) == (1, 0)

    play(scene)


def test_a_job_is_deleted_some_time_after_its_end(play: Play) -> None:
    """With its pods."""

    async def scene(stage: Any) -> None:
        stage.exit_code = lambda _: 0
        await stage.node()
        await stage.run(*CONTROLLERS, collect)
        await stage.create(resources.JOB, "task", spec=spec(ttlSecondsAfterFinished=100))
        await stage.advance(90)
        assert len(await stage.pods()) == 1
        await stage.advance(30)
        assert (await stage.client.list(resources.JOB, "default")).items == []
        assert await stage.pods() == []

    play(scene)


@pytest.mark.parametrize("propagation", ["Background", "Foreground", "Orphan"])
def test_pods_of_a_deleted_job_are_not_held_back(play: Play, propagation: str) -> None:
    """Nobody counts them any more, so their finalizer goes; orphans run on."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(*CONTROLLERS, collect)
        await stage.create(resources.JOB, "task", spec=spec(parallelism=2))
        await stage.settle()
        await stage.client.delete(resources.JOB, "task", "default", propagation=propagation)
        await stage.settle()
        left = await stage.pods()
        assert len(left) == (2 if propagation == "Orphan" else 0)
        assert not any(tally.is_tracked(pod) for pod in left)

    play(scene)


def test_a_job_of_another_controller_is_left_alone(play: Play) -> None:
    """As `spec.managedBy` says."""

    async def scene(stage: Any) -> None:
        await start(stage, managedBy="example.com/queue")
        await stage.settle()
        assert await stage.pods() == []
        assert "active" not in (await live(stage)).get("status", {})

    play(scene)


@pytest.mark.parametrize("seed", range(4))
def test_every_pod_is_counted_once_whatever_happens(play: Play, seed: int) -> None:
    """Lost answers, conflicts, cut watches, pods that are deleted by others: the numbers are right."""

    async def scene(stage: Any) -> None:
        rng = random.Random(seed)
        ends: dict[str, int] = {}
        stage.exit_code = lambda pod: ends.setdefault(objects.uid(pod), rng.choice([0, 0, 1]))
        await stage.node(cpu="64")
        await stage.run(*CONTROLLERS)
        await stage.create(resources.JOB, "task", spec=spec(completions=12, parallelism=4, backoffLimit=1000))
        for _ in range(60):
            await stage.advance(20)
            if verdict.is_finished(await live(stage)):
                break
        await stage.settle()
        current = await ended(stage, "Complete", "CompletionsReached")
        phases = Counter(pods.phase(pod) for pod in await stage.pods())  # one too many was taken away
        assert phases["Succeeded"] >= 12
        assert current["status"]["succeeded"] == phases["Succeeded"]
        assert current["status"].get("failed", 0) == phases["Failed"]

    faults = Faults(
        latency_s=0.3, lost_reply=0.05, lost_request=0.05, conflict=0.05, unavailable=0.05, cut_watch=0.02
    )
    play(scene, seed=seed, faults=faults)
