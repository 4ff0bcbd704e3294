"""A toy workload, a Job, written with the workloads kit alone, and run: the example of docs/extending.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest

from ondol import sdk
from ondol.api import conditions, objects, pods, resources
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.controllers import scheduler
from ondol.controllers.workloads.podcontrol import BURST, PodControl, pod_from_template
from ondol.sdk import Controller, Manager, Result
from ondol.sdk.status import Writer
from ondol.sdk.testing import faults

Play = Callable[..., None]

# The controller: a Batch runs N pods to their end, and again those that fail, up to a limit.

BATCH: Final = Resource("toy.dev", "v1", "batches", "Batch")
COMPONENT: Final = "batch-controller"
COMPLETE: Final = "Complete"
FAILED: Final = "Failed"


def add_to(manager: Manager) -> None:
    manager.add(Reconciler(manager).controller())


class Reconciler:
    """Pods that ended stay, for they are the count; each failure is made good until `retries` are used up."""

    def __init__(self, manager: Manager) -> None:
        self._clock = manager.clock
        self._batches = manager.informer(BATCH)
        self._pods = PodControl(manager, self._batches, component=COMPONENT)
        self._status = Writer(manager.client, BATCH, field_manager=COMPONENT, conditions=(COMPLETE, FAILED))

    def controller(self) -> Controller:
        controller = Controller("batch", self.reconcile)
        controller.watch(self._batches)
        self._pods.watch(controller)
        return controller

    async def reconcile(self, key: Key) -> Result | None:
        batch = self._batches.lister.get(key)
        if batch is None or objects.is_deleting(batch):
            return None
        claimed = await self._pods.claim(batch)
        failure: errors.ApiError | None = None
        try:
            await self._run(batch, claimed)
        except errors.ApiError as error:
            failure = error
        await self._status.write(batch, status(batch, claimed, now=self._clock.now()))
        if failure is not None:
            raise failure
        return None

    async def _run(self, batch: Object, claimed: Sequence[Object]) -> None:
        active = [pod for pod in claimed if pods.is_active(pod)]
        if has_failed(batch, claimed):
            await self._pods.delete(batch, active)
            return
        missing = completions(batch) - ended(claimed, "Succeeded") - len(active)
        pod = pod_from_template(batch, objects.spec(batch)["template"])
        await self._pods.create(batch, [pod] * min(missing, BURST))


def completions(batch: Object) -> int:
    return int(objects.spec(batch).get("completions") or 1)


def ended(claimed: Sequence[Object], phase: str) -> int:
    return sum(pods.phase(pod) == phase for pod in claimed)


def has_failed(batch: Object, claimed: Sequence[Object]) -> bool:
    """More failures than retries."""
    return ended(claimed, "Failed") > int(objects.spec(batch).get("retries") or 0)


def status(batch: Object, claimed: Sequence[Object], *, now: float) -> Object:
    """Counts, zeros left out, and at the end the condition Complete or Failed."""
    succeeded = ended(claimed, "Succeeded")
    listed: list[Object] = [dict(each) for each in conditions.of(batch)]
    if has_failed(batch, claimed):
        listed = conditions.set(listed, FAILED, "True", reason="BackoffLimitExceeded", now=now)
    elif succeeded >= completions(batch):
        listed = conditions.set(listed, COMPLETE, "True", now=now)
    return {
        "active": sum(map(pods.is_active, claimed)) or None,
        "succeeded": succeeded or None,
        "failed": ended(claimed, "Failed") or None,
        "conditions": listed or None,
    }


# Its kind, and a node agent that ends pods at once.


def definition(resource: Resource) -> Object:
    anything: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    by_type: Object = {
        "type": "array",
        "items": {**anything, "required": ["type"], "properties": {"type": {"type": "string"}}},
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    }
    status = {**anything, "properties": {"conditions": by_type}}
    version = {
        "name": resource.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {**anything, "properties": {"status": status}}},
        "subresources": {"status": {}},
    }
    names = {"plural": resource.plural, "singular": resource.kind.lower(), "kind": resource.kind}
    spec = {"group": resource.group, "scope": "Namespaced", "names": names, "versions": [version]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": resource.group_resource},
        "spec": spec,
    }


class Worker:
    """Runs what is bound to its end at once: the pods `fails` names fail, others succeed."""

    def __init__(self, manager: sdk.Manager, *, failures: int) -> None:
        self._client = manager.client
        self._pods = manager.informer(resources.POD)
        self._failures = failures
        controller = sdk.Controller("worker", self.reconcile, concurrency=1)
        controller.watch(self._pods)
        manager.add(controller)

    async def reconcile(self, key: Key) -> sdk.Result | None:
        pod = self._pods.lister.get(key)
        if pod is None or not objects.spec(pod).get("nodeName") or objects.is_deleting(pod):
            return None
        if (objects.status(pod).get("phase") or "Pending") == "Pending":
            phase = "Failed" if self._failures > 0 else "Succeeded"
            patch = {"metadata": {"uid": objects.uid(pod)}, "status": {"phase": phase}}
            await self._client.patch(
                resources.POD, key.name, key.namespace, patch=patch, subresource="status"
            )
            self._failures -= 1
        return None


def batch(completions: int, retries: int) -> Object:
    labels = {"app": "batch"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "job:1"}]}}
    return {
        "completions": completions,
        "retries": retries,
        "selector": {"matchLabels": labels},
        "template": template,
    }


async def run(stage: Any, *, completions: int, retries: int, failures: int) -> Object:
    """The Batch once everything has come to rest."""
    await sdk.install_crds(stage.client, [definition(BATCH)], clock=stage.clock)
    await stage.node(cpu="100")
    agent = stage.manager("agent")
    Worker(agent, failures=failures)
    await stage.start(agent)
    await stage.run(add_to, scheduler.add_to, kubelet=False)
    await stage.create(BATCH, "b", spec=batch(completions, retries))
    await stage.settle()
    ended: Object = await stage.client.get(BATCH, "b", "default")
    return ended


def test_a_toy_job_runs_to_its_end(play: Play) -> None:
    """As many succeed as asked for, failures are made good, and events tell of each pod."""

    async def scene(stage: Any) -> None:
        ended = await run(stage, completions=6, retries=2, failures=2)
        assert conditions.is_true(ended, COMPLETE)
        assert {k: v for k, v in objects.status(ended).items() if k != "conditions"} == {
            "succeeded": 6,
            "failed": 2,
        }
        assert len(await stage.pods()) == 8
        assert len(await stage.events("SuccessfulCreate")) == 8

    play(scene)


def test_a_toy_job_gives_up(play: Play) -> None:
    """One failure too many: what runs is removed, and nothing is made any more."""

    async def scene(stage: Any) -> None:
        ended = await run(stage, completions=3, retries=1, failures=99)
        assert conditions.is_true(ended, FAILED)
        assert objects.status(ended)["failed"] > 1
        assert "active" not in objects.status(ended)

    play(scene)


@pytest.mark.parametrize("seed", range(3))
def test_a_toy_job_survives_a_bad_day(play: Play, seed: int) -> None:
    """Lost requests and answers, conflicts and broken watches: no pod is missing, none is too many."""

    async def scene(stage: Any) -> None:
        await sdk.install_crds(stage.client, [definition(BATCH)], clock=stage.clock)
        await stage.node(cpu="100")
        agent = stage.manager("agent")
        Worker(agent, failures=0)
        await stage.start(agent)
        await stage.run(add_to, scheduler.add_to, kubelet=False)
        await stage.create(BATCH, "b", spec=batch(9, 0))
        await stage.advance(120)
        stage.faults.heal()
        await stage.settle(30.0)
        ended = await stage.client.get(BATCH, "b", "default")
        assert objects.status(ended)["succeeded"] >= 9
        assert "active" not in objects.status(ended)
        assert conditions.is_true(ended, COMPLETE)

    play(scene, seed=seed, faults=faults.rough())


def test_a_toy_job_takes_in_orphans_and_lets_strangers_go(play: Play) -> None:
    """By the labels its selector asks for."""

    async def scene(stage: Any) -> None:
        spec = {"containers": [{"name": "c", "image": "job:1"}]}
        await stage.create(
            resources.POD, "own", metadata={"name": "own", "labels": {"app": "batch"}}, spec=spec
        )
        ended = await run(stage, completions=2, retries=0, failures=0)
        created = [pod for pod in await stage.pods() if objects.name(pod) != "own"]
        assert len(created) == 1
        assert objects.is_controlled_by(await stage.client.get(resources.POD, "own", "default"), ended)
        patch = {"metadata": {"labels": {"app": "other"}}}
        await stage.client.patch(resources.POD, "own", "default", patch=patch)
        await stage.settle()
        released = await stage.client.get(resources.POD, "own", "default")
        assert objects.controller_of(released) is None
        assert len(await stage.pods()) == 3

    play(scene)
