"""StatefulSets against the API server, on virtual time: identity, order, updates and bad days."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from ondol.api import conditions, objects, pods, resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.controllers import garbage, scheduler, storage
from ondol.controllers.catalogue import Catalogue
from ondol.controllers.workloads import history, statefulset
from ondol.controllers.workloads.statefulset import identity
from ondol.sdk import Manager
from ondol.sdk.testing import Faults

from .conftest import Disk, provision

Play = Callable[..., None]
SETS: Final = resources.STATEFUL_SET
REVISIONS: Final = history.CONTROLLER_REVISION


def collect(manager: Manager) -> None:
    garbage.add_to(manager, Catalogue(manager))


CONTROLLERS: Final = (statefulset.add_to, scheduler.add_to, storage.add_to)


def template(image: str = "shop:1", **labels: str) -> Object:
    return {
        "metadata": {"labels": {"app": "web", **labels}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }


def spec(replicas: int = 3, **fields: Any) -> Object:
    return {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "template": template(),
        "serviceName": "web",
        **fields,
    }


def claim_template(name: str = "data") -> Object:
    resources_ = {"requests": {"storage": "1Gi"}}
    return {"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": resources_}}


async def start(stage: Any, *more: Any, replicas: int = 3, settle: bool = True, **fields: Any) -> None:
    await stage.node(cpu="64")
    await provision(stage, Disk())
    await stage.run(*CONTROLLERS, *more)
    await stage.create(SETS, "web", spec=spec(replicas, **fields))
    if settle:
        await stage.settle()


async def live(stage: Any) -> Object:
    current: Object = await stage.client.get(SETS, "web", "default")
    return current


async def status(stage: Any) -> Object:
    current: Object = (await live(stage)).get("status") or {}
    return current


async def patch(stage: Any, **fields: Any) -> Object:
    written: Object = await stage.client.patch(SETS, "web", "default", patch={"spec": fields})
    return written


async def members(stage: Any) -> dict[str, Object]:
    return {objects.name(pod): pod for pod in await stage.pods()}


async def images(stage: Any) -> dict[str, str]:
    return {
        name: pod["spec"]["containers"][0]["image"] for name, pod in sorted((await members(stage)).items())
    }


async def set_ready(stage: Any, name: str, state: conditions.Status) -> None:
    pod = await stage.client.get(resources.POD, name, "default")
    listed = conditions.set(conditions.of(pod), "Ready", state, now=stage.clock.now())
    await stage.client.patch(
        resources.POD, name, "default", patch={"status": {"conditions": listed}}, subresource="status"
    )


async def revisions(stage: Any) -> dict[str, int]:
    listed = (await stage.client.list(REVISIONS, "default")).items
    return {objects.name(each): each["revision"] for each in listed}


def test_pods_have_names_of_their_own(play: Play) -> None:
    """Name, labels, host name and subdomain by the ordinal; a revision; events in Kubernetes' words."""

    async def scene(stage: Any) -> None:
        await start(stage, replicas=2)
        listed = await members(stage)
        assert sorted(listed) == ["web-0", "web-1"]
        pod = listed["web-1"]
        current = await status(stage)
        assert objects.labels(pod) == {
            "app": "web",
            "statefulset.kubernetes.io/pod-name": "web-1",
            "apps.kubernetes.io/pod-index": "1",
            "controller-revision-hash": current["updateRevision"],
        }
        assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("web-1", "web")
        assert objects.is_controlled_by(pod, await live(stage))
        assert await stage.events("SuccessfulCreate") == [
            "Create Pod web-0 in StatefulSet web successful",
            "Create Pod web-1 in StatefulSet web successful",
        ]
        revision = await stage.client.get(REVISIONS, current["updateRevision"], "default")
        assert objects.name(revision) == f"web-{objects.labels(revision)['controller.kubernetes.io/hash']}"
        assert current == {
            "observedGeneration": 1,
            "replicas": 2,
            "readyReplicas": 2,
            "availableReplicas": 2,
            "currentReplicas": 2,
            "updatedReplicas": 2,
            "currentRevision": objects.name(revision),
            "updateRevision": objects.name(revision),
            "collisionCount": 0,
        }

    play(scene)


def test_one_pod_at_a_time_and_none_beside_an_unready_one(play: Play) -> None:
    """Scaling up and down goes in order, and halts while any pod is unhealthy."""

    async def scene(stage: Any) -> None:
        await start(stage, replicas=1)
        await set_ready(stage, "web-0", "False")
        await patch(stage, replicas=3)
        await stage.settle()
        assert sorted(await members(stage)) == ["web-0"]
        await set_ready(stage, "web-0", "True")
        await stage.settle()
        assert sorted(await members(stage)) == ["web-0", "web-1", "web-2"]
        for name in ("web-0", "web-1", "web-2"):
            await set_ready(stage, name, "False")
        await patch(stage, replicas=0)
        await stage.settle()
        assert sorted(await members(stage)) == ["web-0", "web-1", "web-2"]
        for name in ("web-0", "web-1", "web-2"):
            await set_ready(stage, name, "True")
        await stage.settle()
        assert await members(stage) == {}
        assert await stage.events("SuccessfulDelete") == [
            f"Delete Pod web-{number} in StatefulSet web successful" for number in range(3)
        ]

    play(scene)


def test_parallel_pods_do_not_wait_for_each_other(play: Play) -> None:
    """All are made at once though none becomes ready, and all are taken away at once."""

    async def scene(stage: Any) -> None:
        await start(stage, podManagementPolicy="Parallel", template=template(sick="1"))
        assert sorted(await members(stage)) == ["web-0", "web-1", "web-2"]
        assert (await status(stage)).get("readyReplicas", 0) == 0
        await patch(stage, replicas=1)
        await stage.settle()
        assert sorted(await members(stage)) == ["web-0"]

    play(scene)


def test_ordinals_may_start_elsewhere(play: Play) -> None:
    """Increased, decreased and removed: pods outside of the range go, those that are missing come."""

    async def scene(stage: Any) -> None:
        await start(stage, replicas=2, ordinals={"start": 2})
        assert sorted(await members(stage)) == ["web-2", "web-3"]
        for start_, names in ((3, ["web-3", "web-4"]), (2, ["web-2", "web-3"])):
            await patch(stage, ordinals={"start": start_})
            await stage.settle()
            assert sorted(await members(stage)) == names
        await patch(stage, ordinals=None)
        await stage.settle()
        assert sorted(await members(stage)) == ["web-0", "web-1"]

    play(scene)


def test_an_update_goes_from_the_last_to_the_first_and_back(play: Play) -> None:
    """Each new pod is ready before the next old one goes; a rollback is the old revision, newly numbered."""

    async def scene(stage: Any) -> None:
        await start(stage)
        first = (await status(stage))["updateRevision"]
        await patch(stage, template=template("shop:2"))
        await stage.settle()
        current = await status(stage)
        second = current["updateRevision"]
        assert second != first
        assert current["currentRevision"] == second
        assert current["currentReplicas"] == current["updatedReplicas"] == 3
        assert set((await images(stage)).values()) == {"shop:2"}
        await patch(stage, template=template("shop:1"))
        await stage.settle()
        assert set((await images(stage)).values()) == {"shop:1"}
        assert (await status(stage))["updateRevision"] == first
        assert await revisions(stage) == {first: 3, second: 2}

    play(scene)


def test_a_canary_and_a_phased_update(play: Play) -> None:
    """Pods below the partition stay as they were, and come back so when they are deleted."""

    async def scene(stage: Any) -> None:
        rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}
        await start(stage, updateStrategy=rolling)
        await patch(stage, template=template("shop:2"))
        await stage.settle()
        assert set((await images(stage)).values()) == {"shop:1"}
        current = await status(stage)
        assert current["currentRevision"] != current["updateRevision"]
        rolling["rollingUpdate"] = {"partition": 2}
        await patch(stage, updateStrategy=rolling)
        await stage.settle()
        assert list((await images(stage)).values()) == ["shop:1", "shop:1", "shop:2"]
        current = await status(stage)
        assert (current["currentReplicas"], current["updatedReplicas"]) == (2, 1)
        for name in ("web-0", "web-2"):
            await stage.client.delete(resources.POD, name, "default")
            await stage.settle()
        assert list((await images(stage)).values()) == ["shop:1", "shop:1", "shop:2"]
        rolling["rollingUpdate"] = {"partition": 0}
        await patch(stage, updateStrategy=rolling)
        await stage.settle()
        assert set((await images(stage)).values()) == {"shop:2"}
        current = await status(stage)
        assert current["currentRevision"] == current["updateRevision"]

    play(scene)


def test_on_delete_a_pod_is_updated_when_it_is_deleted(play: Play) -> None:
    """Nothing is replaced by itself."""

    async def scene(stage: Any) -> None:
        await start(stage, updateStrategy={"type": "OnDelete"})
        await patch(stage, template=template("shop:2"))
        await stage.settle()
        assert set((await images(stage)).values()) == {"shop:1"}
        await stage.client.delete(resources.POD, "web-1", "default")
        await stage.settle()
        assert list((await images(stage)).values()) == ["shop:1", "shop:2", "shop:1"]

    play(scene)


def test_an_update_that_does_not_come_up_stays_until_a_person_helps(play: Play) -> None:
    """As in Kubernetes: with ordered pods the template taken back helps when the broken pod is deleted."""

    async def scene(stage: Any) -> None:
        await start(stage)
        await patch(stage, template=template("shop:2", sick="1"))
        await stage.settle()
        assert list((await images(stage)).values()) == ["shop:1", "shop:1", "shop:2"]
        await patch(stage, template={**template(), "metadata": {"labels": {"app": "web", "sick": None}}})
        await stage.settle()
        assert (await images(stage))["web-2"] == "shop:2"
        await stage.client.delete(resources.POD, "web-2", "default")
        await stage.settle()
        assert set((await images(stage)).values()) == {"shop:1"}
        assert (await status(stage))["readyReplicas"] == 3

    play(scene)


def test_a_parallel_update_replaces_what_is_broken(play: Play) -> None:
    """Old pods that never became ready are no reason to wait."""

    async def scene(stage: Any) -> None:
        await start(stage, podManagementPolicy="Parallel", template=template("shop:1", sick="1"))
        await patch(stage, template={**template("shop:2"), "metadata": {"labels": {"sick": None}}})
        await stage.settle()
        assert set((await images(stage)).values()) == {"shop:2"}
        assert (await status(stage))["readyReplicas"] == 3

    play(scene)


def test_a_pod_that_ended_is_made_anew(play: Play) -> None:
    """Failed or succeeded; under its name."""

    async def scene(stage: Any) -> None:
        await start(stage)
        uids = {name: objects.uid(pod) for name, pod in (await members(stage)).items()}
        for name, phase in (("web-0", "Failed"), ("web-2", "Succeeded")):
            patch_ = {"status": {"phase": phase}}
            await stage.client.patch(resources.POD, name, "default", patch=patch_, subresource="status")
            await stage.settle()
        after = {name: objects.uid(pod) for name, pod in (await members(stage)).items()}
        assert after["web-1"] == uids["web-1"]
        assert {after["web-0"], after["web-2"]}.isdisjoint(uids.values())

    play(scene)


def test_pods_that_fail_at_once_are_not_made_in_a_storm(play: Play) -> None:
    """The first is replaced at once, the next after a second, two, four and so on."""

    async def scene(stage: Any) -> None:
        await start(stage, replicas=1, settle=False, template=template(refused="1"))
        await stage.advance(120)
        assert 5 <= len(await deletions(stage)) <= 8

    async def deletions(stage: Any) -> list[str]:
        events = (await stage.client.list(resources.EVENT)).items
        counts = [each.get("count") or 1 for each in events if each["reason"] == "SuccessfulDelete"]
        return ["deletion"] * sum(counts)

    play(scene)


def test_ready_pods_count_as_available_after_their_time(play: Play) -> None:
    """And the next pod waits for it."""

    async def scene(stage: Any) -> None:
        await start(stage, replicas=2, minReadySeconds=100, settle=False)
        await stage.advance(60)
        current = await status(stage)
        assert (current["readyReplicas"], current["availableReplicas"]) == (1, 0)
        await stage.advance(60)
        current = await status(stage)
        assert (current["readyReplicas"], current["availableReplicas"]) == (2, 1)
        await stage.advance(100)
        assert (await status(stage))["availableReplicas"] == 2

    play(scene)


def test_history_is_kept_within_its_limit(play: Play) -> None:
    """Beside the revisions in use; the cause of a change is in the annotations."""

    async def scene(stage: Any) -> None:
        await start(stage, replicas=1, revisionHistoryLimit=1)
        for number in range(2, 5):
            metadata = {"annotations": {"kubernetes.io/change-cause": f"change {number}"}}
            await stage.client.patch(SETS, "web", "default", patch={"metadata": metadata})
            await patch(stage, template=template(f"shop:{number}"))
            await stage.settle()
        assert sorted((await revisions(stage)).values()) == [3, 4]
        newest = await stage.client.get(REVISIONS, (await status(stage))["updateRevision"], "default")
        assert objects.annotations(newest)["kubernetes.io/change-cause"] == "change 4"

    play(scene)


def test_a_taken_name_of_a_revision_is_avoided(play: Play) -> None:
    """And counted as a collision."""

    async def scene(stage: Any) -> None:
        await start(stage, replicas=0)
        await patch(stage, template=template("shop:2"))
        await stage.settle()
        first = await status(stage)
        await patch(stage, template=template())
        await stage.settle()
        taken = first["updateRevision"]
        await stage.client.delete(REVISIONS, taken, "default")
        await stage.create(REVISIONS, taken, data={"spec": {}}, revision=9)
        await patch(stage, template=template("shop:2"))
        await stage.settle()
        current = await status(stage)
        assert current["collisionCount"] == 1
        assert current["updateRevision"] != taken

    play(scene)


def test_orphans_are_adopted_and_strangers_released(play: Play) -> None:
    """Pods of a set that left them, by name and labels; one that stops matching is released."""

    async def scene(stage: Any) -> None:
        await start(stage, collect)
        before = {name: objects.uid(pod) for name, pod in (await members(stage)).items()}
        await stage.client.delete(SETS, "web", "default", propagation="Orphan")
        await stage.settle()
        assert all(objects.controller_of(pod) is None for pod in await stage.pods())
        await stage.create(
            resources.POD, "web-x", metadata={"labels": {"app": "web"}}, spec=template()["spec"]
        )
        await stage.create(SETS, "web", spec=spec(3))
        await stage.settle()
        listed = await members(stage)
        stranger = listed.pop("web-x")
        assert objects.controller_of(stranger) is None
        owner = await live(stage)
        assert all(objects.is_controlled_by(pod, owner) for pod in listed.values())
        assert {name: objects.uid(pod) for name, pod in listed.items()} == before
        labels = {"metadata": {"labels": {"app": "other"}}}
        await stage.client.patch(resources.POD, "web-1", "default", patch=labels)
        await stage.advance(5)
        released = await stage.client.get(resources.POD, "web-1", "default")
        assert objects.controller_of(released) is None
        failed = "Create Pod web-1 in StatefulSet web failed error: "
        assert any(message.startswith(failed) for message in await stage.events("FailedCreate"))

    play(scene)


def test_an_adopted_pod_gets_its_identity(play: Play) -> None:
    """The labels that tell its name and index; of the old revision, it is then replaced."""

    async def scene(stage: Any) -> None:
        await stage.node(cpu="64")
        await stage.create(
            resources.POD, "web-0", metadata={"labels": {"app": "web"}}, spec=template()["spec"]
        )
        await provision(stage, Disk())
        await stage.run(*CONTROLLERS)
        await stage.create(SETS, "web", spec=spec(1, updateStrategy={"type": "OnDelete"}))
        await stage.settle()
        pod = (await members(stage))["web-0"]
        assert objects.labels(pod)[identity.POD_NAME] == "web-0"
        assert objects.labels(pod)[identity.POD_INDEX] == "0"
        assert await stage.events("SuccessfulUpdate") == ["Update Pod web-0 in StatefulSet web successful"]

    play(scene)


def test_a_set_is_scaled_by_its_scale(play: Play) -> None:
    """The subresource has the replicas and the selector, as autoscalers use it."""

    async def scene(stage: Any) -> None:
        await start(stage, replicas=1)
        scale = await stage.client.get(SETS, "web", "default", subresource="scale")
        assert scale["status"] == {"replicas": 1, "selector": "app=web"}
        await stage.client.patch(SETS, "web", "default", patch={"spec": {"replicas": 2}}, subresource="scale")
        await stage.settle()
        assert sorted(await members(stage)) == ["web-0", "web-1"]

    play(scene)


class Watch:
    """What must hold whenever it is looked at; `check` is called in between the steps of a test."""

    def __init__(self, stage: Any, *, ordered: bool) -> None:
        self._stage = stage
        self._ordered = ordered
        self._uids: set[str] = set()

    async def check(self) -> None:
        listed = await self._stage.pods()
        names = [objects.name(pod) for pod in listed]
        assert len(set(names)) == len(names)
        if self._ordered:
            self._in_order({identity.ordinal(pod): pod for pod in listed})
        down = [pod for pod in listed if objects.is_deleting(pod)]
        assert len(down) <= 1 or not self._ordered

    def _in_order(self, by_ordinal: dict[int, Object]) -> None:
        """A pod seen for the first time has only pods before it that are ready."""
        for number, pod in by_ordinal.items():
            if objects.uid(pod) in self._uids:
                continue
            self._uids.add(objects.uid(pod))
            before = [by_ordinal.get(lower) for lower in range(number)]
            assert all(each is not None and pods.is_ready(each) for each in before), number


def bad_day() -> Faults:
    return Faults(
        latency_s=0.3, lost_reply=0.05, lost_request=0.05, conflict=0.05, unavailable=0.05, cut_watch=0.02
    )


async def play_on(stage: Any, check: Callable[[], Awaitable[None]], steps: int) -> None:
    for _ in range(steps):
        await stage.advance(0.25)
        await check()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("policy", ["OrderedReady", "Parallel"])
def test_identity_and_order_hold_on_a_bad_day(play: Play, policy: str, seed: int) -> None:
    """Lost answers, conflicts, refusals and cut watches, through scaling, updates and failing pods."""

    async def scene(stage: Any) -> None:
        rng = random.Random(seed)
        await start(
            stage,
            settle=False,
            podManagementPolicy=policy,
            volumeClaimTemplates=[claim_template()],
            persistentVolumeClaimRetentionPolicy={"whenDeleted": "Delete", "whenScaled": "Retain"},
        )
        watch = Watch(stage, ordered=policy == "OrderedReady")
        await play_on(stage, watch.check, 60)
        for _ in range(4):
            await patch(stage, replicas=rng.randrange(1, 6), template=template(f"shop:{rng.randrange(1, 3)}"))
            await play_on(stage, watch.check, 200)
        await patch(stage, replicas=3, template=template("shop:9"))
        await play_on(stage, watch.check, 200)
        stage.faults.heal()
        await stage.settle(30.0)
        await watch.check()
        assert await images(stage) == {f"web-{number}": "shop:9" for number in range(3)}
        current = await status(stage)
        assert current["currentRevision"] == current["updateRevision"]
        counts = {field: value for field, value in current.items() if field.endswith("Replicas")}
        assert set(counts.values()) == {3}
        writes = stage.transport.writes
        await stage.advance(600)
        assert stage.transport.writes == writes

    play(scene, seed=seed, faults=bad_day())


@pytest.mark.parametrize("seed", range(4))
def test_no_more_than_one_is_down_for_an_update(play: Play, seed: int) -> None:
    """Of pods that are all ready, whatever happens to requests and answers."""

    async def scene(stage: Any) -> None:
        policy = random.Random(seed).choice(["OrderedReady", "Parallel"])
        await start(stage, settle=False, podManagementPolicy=policy, replicas=4)
        for _ in range(400):
            await stage.advance(0.5)
            if (await status(stage)).get("readyReplicas") == 4:
                break
        await patch(stage, template=template("shop:2"))

        async def check() -> None:
            ready = [p for p in await stage.pods() if pods.is_ready(p) and not objects.is_deleting(p)]
            assert len(ready) >= 3

        await play_on(stage, check, 400)
        stage.faults.heal()
        await stage.settle(30.0)
        assert set((await images(stage)).values()) == {"shop:2"}

    play(scene, seed=seed, faults=bad_day())


def test_nothing_is_made_in_a_namespace_that_goes(play: Play) -> None:
    """Neither pods nor events of their failure."""

    async def scene(stage: Any) -> None:
        await stage.node(cpu="64")
        await provision(stage, Disk())
        await stage.run(*CONTROLLERS)
        await stage.create(resources.NAMESPACE, "going")
        await stage.create(SETS, "web", metadata={"namespace": "going"}, spec=spec(0))
        await stage.settle()
        await stage.client.delete(resources.NAMESPACE, "going")
        await stage.client.patch(SETS, "web", "going", patch={"spec": {"replicas": 2}})
        await stage.settle()
        assert (await stage.client.list(resources.POD, "going")).items == []
        assert await stage.events("FailedCreate") == []
        with pytest.raises(errors.NotFound):
            await stage.client.get(resources.POD, "web-0", "going")

    play(scene)
