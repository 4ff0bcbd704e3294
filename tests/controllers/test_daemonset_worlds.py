"""DaemonSets against the API server, on virtual time: a pod a node, rolled in order, also on bad days."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import pytest

from ondol.api import conditions, objects, pods, resources
from ondol.api.objects import Object
from ondol.controllers import garbage, podgc, scheduler
from ondol.controllers.catalogue import Catalogue
from ondol.controllers.workloads import daemonset, history
from ondol.controllers.workloads.daemonset import daemon_pods
from ondol.sdk import Manager
from ondol.sdk.testing import Faults

Play = Callable[..., None]
SETS: Final = resources.DAEMON_SET
REVISIONS: Final = history.CONTROLLER_REVISION
CONTROLLERS: Final = (daemonset.add_to, scheduler.add_to)


def collect(manager: Manager) -> None:
    garbage.add_to(manager, Catalogue(manager))


def template(image: str = "agent:1", labels: Object | None = None, **spec: Any) -> Object:
    return {
        "metadata": {"labels": {"app": "agent", **(labels or {})}},
        "spec": {"containers": [{"name": "c", "image": image}], **spec},
    }


def spec(**fields: Any) -> Object:
    return {"selector": {"matchLabels": {"app": "agent"}}, "template": template(), **fields}


async def start(stage: Any, *more: Any, nodes: int = 3, settle: bool = True, **fields: Any) -> None:
    for number in range(nodes):
        await stage.node(f"n{number}")
    await stage.run(*CONTROLLERS, *more)
    await stage.create(SETS, "agent", spec=spec(**fields))
    if settle:
        await stage.settle()


async def patch(stage: Any, **fields: Any) -> None:
    await stage.client.patch(SETS, "agent", "default", patch={"spec": fields})


async def status(stage: Any) -> Object:
    current: Object = (await stage.client.get(SETS, "agent", "default")).get("status") or {}
    return current


async def by_node(stage: Any) -> dict[str, list[Object]]:
    grouped: dict[str, list[Object]] = {}
    for pod in await stage.pods():
        grouped.setdefault(daemon_pods.target_node(pod), []).append(pod)
    return grouped


async def images(stage: Any) -> Counter[str]:
    return Counter(pod["spec"]["containers"][0]["image"] for pod in await stage.pods())


async def set_phase(stage: Any, pod: Object, phase: str) -> None:
    await stage.client.patch(
        resources.POD, objects.name(pod), "default", patch={"status": {"phase": phase}}, subresource="status"
    )


def test_every_node_has_one_pod(play: Play) -> None:
    """Bound to it, tolerant of what happens to nodes, of a revision and a generation of the template."""

    async def scene(stage: Any) -> None:
        await start(stage)
        grouped = await by_node(stage)
        assert {node: len(listed) for node, listed in grouped.items()} == {"n0": 1, "n1": 1, "n2": 1}
        assert all(pods.node_name(listed[0]) == node for node, listed in grouped.items())
        (pod,) = grouped["n1"]
        assert objects.name(pod).startswith("agent-")
        keys = {(each["key"].partition("/")[2], each["effect"]) for each in pod["spec"]["tolerations"]}
        assert keys >= {
            ("not-ready", "NoExecute"),
            ("unreachable", "NoExecute"),
            ("disk-pressure", "NoSchedule"),
            ("memory-pressure", "NoSchedule"),
            ("pid-pressure", "NoSchedule"),
            ("unschedulable", "NoSchedule"),
        }
        assert ("network-unavailable", "NoSchedule") not in keys
        (revision,) = (await stage.client.list(REVISIONS, "default")).items
        hashed = objects.labels(revision)["controller-revision-hash"]
        assert objects.name(revision) == f"agent-{hashed}"
        assert objects.labels(pod)["controller-revision-hash"] == hashed
        assert objects.labels(pod)["pod-template-generation"] == "1"
        assert await status(stage) == {
            "desiredNumberScheduled": 3,
            "currentNumberScheduled": 3,
            "numberMisscheduled": 0,
            "numberReady": 3,
            "updatedNumberScheduled": 3,
            "numberAvailable": 3,
            "observedGeneration": 1,
        }
        assert len(await stage.events("SuccessfulCreate")) == 3

    play(scene)


def test_a_deleted_pod_comes_back(play: Play) -> None:
    """And a node that is added gets one; on one that is cordoned it stays."""

    async def scene(stage: Any) -> None:
        await start(stage, nodes=1)
        (pod,) = await stage.pods()
        await stage.client.delete(resources.POD, objects.name(pod), "default")
        await stage.settle()
        (again,) = await stage.pods()
        assert objects.uid(again) != objects.uid(pod)
        await stage.node("n9", unschedulable=True)
        await stage.settle()
        assert sorted(await by_node(stage)) == ["n0", "n9"]

    play(scene)


def test_pods_follow_the_labels_of_nodes(play: Play) -> None:
    """By node selector or required affinity: made where the label comes, deleted where it goes."""

    async def scene(stage: Any) -> None:
        await start(stage, template=template(nodeSelector={"color": "blue"}))
        assert await stage.pods() == []
        for color, nodes in (("blue", ["n1"]), ("green", [])):
            labels = {"metadata": {"labels": {"color": color}}}
            await stage.client.patch(resources.NODE, "n1", patch=labels)
            await stage.settle()
            assert sorted(await by_node(stage)) == nodes
        expression = {"key": "color", "operator": "In", "values": ["green"]}
        required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
        affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
        await patch(stage, template=template(nodeSelector=None, affinity=affinity))
        await stage.settle()
        assert sorted(await by_node(stage)) == ["n1"]
        assert (await status(stage))["desiredNumberScheduled"] == 1

    play(scene)


def test_taints_keep_pods_away_or_drive_them_out(play: Play) -> None:
    """NoSchedule lets the pod stay, counted as misscheduled; NoExecute does not; a toleration helps."""

    async def scene(stage: Any) -> None:
        await start(stage, nodes=2)
        for effect, nodes, misscheduled in (("NoSchedule", ["n0", "n1"], 1), ("NoExecute", ["n0"], 0)):
            taint = {"key": "test.dev/own", "effect": effect}
            await stage.client.patch(resources.NODE, "n1", patch={"spec": {"taints": [taint]}})
            await stage.settle()
            assert sorted(await by_node(stage)) == nodes
            current = await status(stage)
            assert (current["desiredNumberScheduled"], current["numberMisscheduled"]) == (1, misscheduled)
        await patch(stage, template=template(tolerations=[{"key": "test.dev/own", "operator": "Exists"}]))
        await stage.settle()
        assert sorted(await by_node(stage)) == ["n0", "n1"]

    play(scene)


def test_pods_of_a_node_that_is_gone_go(play: Play) -> None:
    """Also one that was never bound."""

    async def scene(stage: Any) -> None:
        await stage.node("n0")
        await stage.node("n1", cpu="0", ready="True")
        await stage.run(*CONTROLLERS, podgc.add_to)
        demand = {"requests": {"cpu": "1"}}
        container = {"name": "c", "image": "agent:1", "resources": demand}
        await stage.create(SETS, "agent", spec=spec(template=template(containers=[container])))
        await stage.settle()
        (waiting,) = (await by_node(stage))["n1"]
        assert pods.node_name(waiting) == ""
        await stage.client.delete(resources.NODE, "n1")
        await stage.settle()
        assert sorted(await by_node(stage)) == ["n0"]

    play(scene)


def test_a_rolling_update_replaces_pod_by_pod_and_can_be_undone(play: Play) -> None:
    """No more are down than may be; a rollback is the old revision, newly numbered."""

    async def scene(stage: Any) -> None:
        await start(stage, nodes=5, updateStrategy=rolling(maxUnavailable=2))
        (first,) = (await stage.client.list(REVISIONS, "default")).items
        for image in ("agent:2", "agent:1"):
            await patch(stage, template=template(image))
            least = 5
            for _ in range(100):
                await stage.advance(0.05)
                ready = [p for p in await stage.pods() if pods.is_ready(p) and not objects.is_deleting(p)]
                least = min(least, len(ready))
            assert least >= 3
            await stage.settle()
            assert await images(stage) == {image: 5}
        numbers = {
            objects.name(each): each["revision"]
            for each in (await stage.client.list(REVISIONS, "default")).items
        }
        assert sorted(numbers.values()) == [2, 3]
        assert numbers[objects.name(first)] == 3
        current = await status(stage)
        assert (current["updatedNumberScheduled"], current["numberAvailable"]) == (5, 5)

    play(scene)


def rolling(**limits: Any) -> Object:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, **limits}}


def test_an_update_that_does_not_come_up_leaves_the_others(play: Play) -> None:
    """As many as may be down; a rollback needs no restart of those that were not touched."""

    async def scene(stage: Any) -> None:
        await start(stage, nodes=4, updateStrategy=rolling(maxUnavailable="50%"))
        uids = {objects.uid(pod) for pod in await stage.pods()}
        await patch(stage, template=template("agent:2", {"sick": "1"}))
        await stage.settle()
        assert await images(stage) == {"agent:1": 2, "agent:2": 2}
        current = await status(stage)
        assert (current["updatedNumberScheduled"], current["numberUnavailable"]) == (2, 2)
        await patch(stage, template={**template(), "metadata": {"labels": {"sick": None}}})
        await stage.settle()
        assert await images(stage) == {"agent:1": 4}
        assert len(uids & {objects.uid(pod) for pod in await stage.pods()}) == 2

    play(scene)


def test_with_a_surge_the_new_pod_stands_beside_the_old_one(play: Play) -> None:
    """The old one goes when the new one is available: no node is ever without."""

    async def scene(stage: Any) -> None:
        await start(stage, nodes=4, updateStrategy=rolling(maxSurge=1), minReadySeconds=10)
        await stage.advance(15)
        await patch(stage, template=template("agent:2"))
        doubles = 0
        for _ in range(700):
            await stage.advance(0.1)
            grouped = {
                node: [pod for pod in listed if not objects.is_deleting(pod)]
                for node, listed in (await by_node(stage)).items()
            }
            assert all(any(pods.is_ready(pod) for pod in listed) for listed in grouped.values())
            assert sum(len(listed) > 1 for listed in grouped.values()) <= 1
            doubles += any(len(listed) > 1 for listed in grouped.values())
        assert doubles
        await stage.settle()
        assert await images(stage) == {"agent:2": 4}

    play(scene)


def test_on_delete_a_pod_is_updated_when_it_is_deleted(play: Play) -> None:
    """Nothing is replaced by itself."""

    async def scene(stage: Any) -> None:
        await start(stage, updateStrategy={"type": "OnDelete"})
        await patch(stage, template=template("agent:2"))
        await stage.settle()
        assert await images(stage) == {"agent:1": 3}
        assert (await status(stage)).get("updatedNumberScheduled", 0) == 0
        await stage.client.delete(resources.POD, objects.name((await stage.pods())[0]), "default")
        await stage.settle()
        assert await images(stage) == {"agent:1": 2, "agent:2": 1}

    play(scene)


def test_a_pod_that_ended_is_made_anew(play: Play) -> None:
    """With an event that says how it ended."""

    async def scene(stage: Any) -> None:
        await start(stage, nodes=1)
        for phase, reason in (("Failed", "FailedDaemonPod"), ("Succeeded", "SucceededDaemonPod")):
            (pod,) = await stage.pods()
            await set_phase(stage, pod, phase)
            await stage.settle()
            (again,) = await stage.pods()
            assert objects.uid(again) != objects.uid(pod)
            verb = "kill" if phase == "Failed" else "delete"
            text = f"Found {phase.lower()} daemon pod default/{objects.name(pod)} on node n0"
            assert await stage.events(reason) == [f"{text}, will try to {verb} it"]

    play(scene)


def test_pods_that_fail_at_once_are_not_made_in_a_storm(play: Play) -> None:
    """After a second, two, four and so on."""

    async def scene(stage: Any) -> None:
        await start(stage, nodes=1, settle=False, template=template(labels={"refused": "1"}))
        await stage.advance(120)
        deleted = await stage.events("SuccessfulDelete")
        assert 5 <= len(deleted) <= 8

    play(scene)


def test_doubles_and_strangers(play: Play) -> None:
    """An orphan of the labels is adopted, and of two on a node the younger one goes."""

    async def scene(stage: Any) -> None:
        await start(stage, collect, nodes=1)
        (pod,) = await stage.pods()
        await stage.advance(10)
        labels = {"labels": {"app": "agent"}}
        await stage.create(
            resources.POD, "stray", metadata=labels, spec={**template()["spec"], "nodeName": "n0"}
        )
        await stage.settle()
        assert [objects.name(each) for each in await stage.pods()] == [objects.name(pod)]
        await stage.client.delete(SETS, "agent", "default", propagation="Orphan")
        await stage.settle()
        await stage.create(SETS, "agent", spec=spec())
        await stage.settle()
        (adopted,) = await stage.pods()
        assert objects.uid(adopted) == objects.uid(pod)
        await stage.client.delete(SETS, "agent", "default", propagation="Background")
        await stage.settle()
        assert await stage.pods() == []
        assert (await stage.client.list(REVISIONS, "default")).items == []

    play(scene)


def test_history_is_kept_within_its_limit(play: Play) -> None:
    """Beside the present revision."""

    async def scene(stage: Any) -> None:
        await start(stage, nodes=1, revisionHistoryLimit=1)
        for number in range(2, 5):
            await patch(stage, template=template(f"agent:{number}"))
            await stage.settle()
        listed = (await stage.client.list(REVISIONS, "default")).items
        assert sorted(each["revision"] for each in listed) == [3, 4]

    play(scene)


def test_a_revision_of_a_person_is_respected(play: Play) -> None:
    """One of the same template and a higher number stands for it; the next one follows it."""

    async def scene(stage: Any) -> None:
        await start(stage, nodes=1)
        (pod,) = await stage.pods()
        (first,) = (await stage.client.list(REVISIONS, "default")).items
        metadata = {"ownerReferences": first["metadata"]["ownerReferences"], "labels": {"app": "agent"}}
        await stage.create(REVISIONS, "by-hand", metadata=metadata, data=first["data"], revision=2)
        await stage.client.delete(REVISIONS, objects.name(first), "default")
        await stage.client.patch(SETS, "agent", "default", patch={"metadata": {"annotations": {"seen": "1"}}})
        await stage.settle()
        assert [objects.uid(each) for each in await stage.pods()] == [objects.uid(pod)]
        await patch(stage, template=template("agent:2"))
        await stage.settle()
        listed = (await stage.client.list(REVISIONS, "default")).items
        assert sorted(each["revision"] for each in listed) == [2, 3]
        assert await images(stage) == {"agent:2": 1}

    play(scene)


def test_ready_pods_count_as_available_after_their_time(play: Play) -> None:
    """Told when it is so, without another change."""

    async def scene(stage: Any) -> None:
        await start(stage, nodes=1, minReadySeconds=100, settle=False)
        await stage.advance(60)
        current = await status(stage)
        assert (current["numberReady"], current["numberUnavailable"]) == (1, 1)
        await stage.advance(60)
        current = await status(stage)
        assert (current["numberAvailable"], current.get("numberUnavailable", 0)) == (1, 0)

    play(scene)


def bad_day() -> Faults:
    return Faults(
        latency_s=0.3, lost_reply=0.05, lost_request=0.05, conflict=0.05, unavailable=0.05, cut_watch=0.02
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("surge", [0, 1])
def test_one_pod_a_node_on_a_bad_day(play: Play, surge: int, seed: int) -> None:
    """Lost answers, conflicts, refusals and cut watches: never two on a node, save for the surge."""

    async def scene(stage: Any) -> None:
        rng = random.Random(seed)
        strategy = rolling(maxSurge=1) if surge else rolling(maxUnavailable=1)
        await start(stage, settle=False, nodes=4, updateStrategy=strategy)
        for _ in range(4):
            for _ in range(200):
                await stage.advance(0.25)
                grouped = await by_node(stage)
                assert all(len(listed) <= 1 + surge for listed in grouped.values())
            await patch(stage, template=template(f"agent:{rng.randrange(1, 4)}"))
        await patch(stage, template=template("agent:9"))
        stage.faults.heal()
        await stage.settle(30.0)
        assert await images(stage) == {"agent:9": 4}
        current = await status(stage)
        assert (current["updatedNumberScheduled"], current["numberAvailable"]) == (4, 4)
        writes = stage.transport.writes
        await stage.advance(600)
        assert stage.transport.writes == writes

    play(scene, seed=seed, faults=bad_day())


@pytest.mark.parametrize("seed", range(4))
def test_no_more_are_down_than_may_be(play: Play, seed: int) -> None:
    """Of pods that are all ready, whatever happens to requests and answers."""

    async def scene(stage: Any) -> None:
        await start(stage, settle=False, nodes=4, updateStrategy=rolling(maxUnavailable=1))
        for _ in range(400):
            await stage.advance(0.5)
            if (await status(stage)).get("numberReady") == 4:
                break
        await patch(stage, template=template("agent:2"))
        for _ in range(300):
            await stage.advance(0.25)
            ready = [p for p in await stage.pods() if conditions.is_true(p, "Ready")]
            assert sum(not objects.is_deleting(pod) for pod in ready) >= 3
        stage.faults.heal()
        await stage.settle(30.0)
        assert await images(stage) == {"agent:2": 4}

    play(scene, seed=seed, faults=bad_day())


@pytest.mark.parametrize("seed", range(6))
def test_a_lost_answer_makes_no_second_pod(play: Play, seed: int) -> None:
    """Nor while the watch that would show the first one is late."""

    async def scene(stage: Any) -> None:
        await start(stage, settle=False, nodes=1)
        pods_seen: set[str] = set()
        for _ in range(600):
            await stage.advance(0.2)
            pods_seen |= {objects.uid(pod) for pod in await stage.pods()}
        stage.faults.heal()
        await stage.settle(30.0)
        pods_seen |= {objects.uid(pod) for pod in await stage.pods()}
        assert len(pods_seen) == 1
        assert stage.faults.injected["lost_reply"] > 0

    play(scene, seed=seed, faults=Faults(latency_s=2.0, lost_reply=0.4, cut_watch=0.3))
