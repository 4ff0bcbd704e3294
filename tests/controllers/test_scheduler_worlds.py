"""Pods of different priorities against the API server, on virtual time: who waits, and who gives way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.client import Call, ConnectionLost, Response
from ondol.controllers import disruption, scheduler
from ondol.controllers.scheduler.reconciler import Reconciler
from ondol.controllers.workloads import deployment, replicaset
from ondol.sdk.testing import Faults

from .conftest import names

Play = Callable[..., None]
PRIORITY_CLASS = objects.Resource(
    "scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False
)


async def classes(stage: Any, **values: int) -> None:
    for name, value in values.items():
        await stage.create(PRIORITY_CLASS, name, value=value)


async def pod(stage: Any, name: str, cpu: str, class_name: str, **labels: str) -> None:
    container = {"name": "c", "image": "x", "resources": {"requests": {"cpu": cpu}}}
    await stage.create(
        resources.POD,
        name,
        metadata={"labels": labels},
        spec={"containers": [container], "priorityClassName": class_name},
    )


async def live(stage: Any, name: str) -> Object:
    obj: Object = await stage.client.get(resources.POD, name, "default")
    return obj


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "faults", [Faults(), Faults(latency_s=0.3, conflict=0.2, unavailable=0.1, lost_reply=0.1)]
)
def test_the_important_pod_gets_the_room_of_others(play: Play, faults: Faults, seed: int) -> None:
    """No more of them go than must, they are told, and nobody slips into the room that was made."""

    async def scene(stage: Any) -> None:
        await stage.node(cpu="4")
        await classes(stage, low=1, middle=5, high=10)
        await stage.run(scheduler.add_to)
        for number in range(4):
            await pod(stage, f"low{number}", "1", "low")
        await stage.settle()
        await pod(stage, "later", "1", "low")
        await stage.settle()
        await pod(stage, "vip", "2", "high")
        await stage.settle()
        vip = await live(stage, "vip")
        assert objects.spec(vip).get("nodeName") == "n1", (objects.status(vip), names(await stage.pods()))
        left = names(await stage.pods())
        assert len([name for name in left if name.startswith("low")]) == 2
        assert not objects.spec(await live(stage, "later")).get("nodeName")
        assert set(await stage.events("Preempted")) == {
            f"Preempted by pod {objects.uid(await live(stage, 'vip'))} on node n1"
        }

    play(scene, faults=faults, seed=seed)


def test_a_victim_is_told_and_takes_its_time(play: Play) -> None:
    """It bears the condition while it ends, and the other names the node it will have."""

    async def scene(stage: Any) -> None:
        await stage.node(cpu="1")
        await classes(stage, low=1, high=10)
        await stage.run(scheduler.add_to)
        await pod(stage, "low", "1", "low", stuck="yes")
        await stage.settle()
        await pod(stage, "vip", "1", "high")
        await stage.advance(20.0)
        victim, vip = await live(stage, "low"), await live(stage, "vip")
        target = conditions.get(victim, "DisruptionTarget") or {}
        assert objects.is_deleting(victim)
        assert (target["status"], target["reason"]) == ("True", "PreemptionByScheduler")
        assert vip["status"]["nominatedNodeName"] == "n1"
        assert not objects.spec(vip).get("nodeName")
        assert len(await stage.events("Preempted")) == 1
        message = (conditions.get(vip, "PodScheduled") or {})["message"]
        assert message.startswith("0/1 nodes are available: 1 Insufficient cpu.")

    play(scene)


@pytest.mark.parametrize("is_bound", [True, False], ids=["answer", "request"])
def test_room_of_a_pod_that_may_be_bound_is_nobody_elses(play: Play, is_bound: bool) -> None:
    """A binding whose answer, or request, was lost is asked for again, and no other pod has its room."""

    async def scene(stage: Any) -> None:
        await stage.node(cpu="1")
        await classes(stage, low=1)
        manager = stage.manager("scheduler")
        ours = Reconciler(manager, frozenset)  # which nobody but this test drives
        await stage.start(manager)
        for name in ("first", "second"):
            await pod(stage, name, "1", "low")
        await stage.settle()
        request, lost = stage.transport.request, list[str]()

        async def losing(call: Call) -> Response:
            if call.path.endswith("/binding") and not lost:
                lost.append(call.path)
                if is_bound:
                    await request(call)
                raise ConnectionLost("it was lost")
            answer: Response = await request(call)
            return answer

        stage.transport.request = losing
        with pytest.raises(ConnectionLost):
            await ours.reconcile(objects.Key("default", "first"))
        for name in ("second", "first", "second"):
            await ours.reconcile(objects.Key("default", name))
        await stage.settle()
        assert objects.spec(await live(stage, "first"))["nodeName"] == "n1"
        assert not objects.spec(await live(stage, "second")).get("nodeName")

    play(scene)


def test_who_will_not_preempt_waits(play: Play) -> None:
    """A class may say so."""

    async def scene(stage: Any) -> None:
        await stage.node(cpu="1")
        await classes(stage, low=1)
        await stage.create(PRIORITY_CLASS, "polite", value=10, preemptionPolicy="Never")
        await stage.run(scheduler.add_to)
        await pod(stage, "low", "1", "low")
        await stage.settle()
        await pod(stage, "polite", "1", "polite")
        await stage.settle()
        assert len(await stage.pods()) == 2
        message = (conditions.get(await live(stage, "polite"), "PodScheduled") or {})["message"]
        assert message.endswith("preemption: not eligible due to preemptionPolicy=Never.")

    play(scene)


def test_of_those_who_wait_the_most_important_is_first(play: Play) -> None:
    """However long the others have waited, when room comes."""

    async def scene(stage: Any) -> None:
        await classes(stage, low=1, middle=5, high=10)
        await stage.run(scheduler.add_to, deployment.add_to, replicaset.add_to, disruption.add_to)
        for name in ("low", "middle", "high"):
            await pod(stage, name, "1", name)
        await stage.settle()
        await stage.node(cpu="1")
        await stage.settle()
        placed = [p for p in await stage.pods() if objects.spec(p).get("nodeName")]
        assert names(placed) == ["high"]
        assert await stage.events("Preempted") == []

    play(scene)
