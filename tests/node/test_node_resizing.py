"""In-place resize: what is taken on, what waits, how containers get it, and what is told of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.node.scene import Scene, is_ready, play, state

from ondol.api import conditions, demand, objects, resizes, resources
from ondol.api.objects import Object
from ondol.client import PatchType
from ondol.node.pods import admission, container_resize, decide, model, resizing, status
from ondol.node.pods.decide import EndResize, Resize, Stop
from ondol.node.pods.model import Attempt, Container, ContainerStep, Facts, Record
from ondol.node.runtime import cgroups, spec
from ondol.node.runtime.port import Handle

HANDLE = Handle("id", 1, 2, 3, 4)
SMALL = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
LARGE = {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
ROOM = {"cpu": "4", "memory": "8Gi", "pods": "110"}


def pod(amounts: Any, *policies: tuple[str, str], **fields: Any) -> Object:
    listed = [{"resourceName": name, "restartPolicy": restarts} for name, restarts in policies]
    main = {"name": "main", "image": "i", "resources": amounts, "resizePolicy": listed}
    meta = {"name": "p", "namespace": "n", "uid": "u", "generation": 2}
    return {"metadata": meta, "spec": {"containers": [main], **fields}}


def record(actual: Any, allocated: Any, **fields: Any) -> Record:
    current = Attempt(0, "id", "i", "d", HANDLE, 1.0, resources=actual)
    containers = {"main": Container(current, is_started=True)}
    allocation = {"main": allocated}
    return Record("u", "n", "p", "boot", 0.0, "10.0.0.2", True, containers, allocated=allocation, **fields)


CPU_RESTARTS = ("cpu", "RestartContainer")
MEMORY_RESTARTS = ("memory", "RestartContainer")
ONLY_CPU = {"requests": {"cpu": "1500m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}


@pytest.mark.parametrize(
    ("policies", "allocated", "outcome"),
    [
        ((), SMALL, ""),
        ((), {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"memory": "1Gi"}}, ""),
        ((), LARGE, "update"),
        ((MEMORY_RESTARTS,), LARGE, "restart"),
        ((MEMORY_RESTARTS,), ONLY_CPU, "update"),
        ((CPU_RESTARTS,), ONLY_CPU, "restart"),
    ],
)
def test_how_a_container_gets_its_size(policies: Any, allocated: Any, outcome: str) -> None:
    """By its own control group, unless a resource that changes is one that restarts it."""
    container = pod(LARGE, *policies)["spec"]["containers"][0]
    current = record(SMALL, allocated).containers["main"].current
    assert current is not None
    assert resizing.way(container, current, {"main": allocated}) == outcome


def test_a_run_that_an_older_agent_made_is_left_alone() -> None:
    """Nobody has said what it runs with."""
    asked = pod(LARGE)
    assert decide.decide(asked, record(None, LARGE), Facts(9.0, are_volumes_ready=True)).actions == ()


def test_what_is_decided_for_a_pod_that_is_resized() -> None:
    """It is resized once at a time, waits after a failure, and the resize ends when all have their size."""
    ready = Facts(9.0, are_volumes_ready=True)
    progress = model.Resize(2)
    waiting = record(SMALL, LARGE, resize_progress=progress)
    assert decide.decide(pod(LARGE), waiting, ready).actions == (Resize("main"),)
    busy = Facts(9.0, are_volumes_ready=True, busy=frozenset({ContainerStep("main", decide.RESIZE)}))
    assert decide.decide(pod(LARGE), waiting, busy).actions == ()
    failed = resizing.not_resized(waiting, "why", retry_at=12.0)
    later = decide.decide(pod(LARGE), failed, ready)
    assert (later.actions, later.wake_at) == ((), 12.0)
    done = resizing.resized(waiting, "main")
    assert decide.decide(pod(LARGE), done, ready).actions == (EndResize(),)
    stopped = decide.decide(pod(LARGE, MEMORY_RESTARTS), waiting, ready).actions
    assert stopped == (Stop("main", 30.0, "Container main resize requires restart", must_restart=True),)


@pytest.mark.parametrize(
    ("asked", "others", "reason", "message"),
    [
        ({"cpu": "2"}, [{"cpu": "2"}], "", ""),
        (
            {"cpu": "5"},
            [],
            "Infeasible",
            "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000",
        ),
        (
            {"memory": "9Gi"},
            [],
            "Infeasible",
            "Node didn't have enough capacity: memory, requested: 9663676416, capacity: 8589934592",
        ),
        (
            {"cpu": "3"},
            [{"cpu": "2"}],
            "Deferred",
            "Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000",
        ),
    ],
)
def test_whether_the_node_has_room(
    asked: dict[str, str], others: list[dict[str, str]], reason: str, message: str
) -> None:
    """More than the node has is never possible; more than the others leave may be later."""
    beside = [pod({"requests": each}) for each in others]
    assert resizing.pending(pod({"requests": asked}), beside, ROOM) == (reason, message)


def test_whose_turn_comes_first() -> None:
    """Who asks for no more; then the higher priority, the better class, and who asked earlier."""
    shrinks = (pod(SMALL, priority=0), record(LARGE, LARGE))
    important = (pod(LARGE, priority=9), record(SMALL, SMALL))
    guaranteed = (pod({"limits": {"cpu": "2", "memory": "1Gi"}}), record(SMALL, SMALL))
    earlier = (
        pod(LARGE),
        resizing.put_off({"metadata": {"generation": 1}}, record(SMALL, SMALL), "Deferred", ""),
    )
    plain = (pod(LARGE), record(SMALL, SMALL))
    order = sorted([plain, earlier, guaranteed, important, shrinks], key=lambda each: resizing.turn(*each))
    assert order == [shrinks, important, guaranteed, earlier, plain]


def test_the_allocated_pod_is_the_pod_in_other_sizes() -> None:
    """Nothing else of it differs, and one that has what it asks for is itself."""
    asked = pod(LARGE)
    assert resizing.allocated(asked, {"main": LARGE}) is asked
    smaller = resizing.allocated(asked, {"main": SMALL})
    assert smaller == pod(SMALL)
    assert asked == pod(LARGE)


def test_only_containers_that_stay_are_resized() -> None:
    """Applications and sidecars; what merely prepares the pod keeps what it was written with."""
    init = [{"name": "once"}, {"name": "beside", "restartPolicy": "Always", "resources": SMALL}]
    assert resizing.desired(pod(LARGE, initContainers=init)) == {"beside": SMALL, "main": LARGE}


@pytest.mark.parametrize(
    ("before", "limit", "used", "outcome"),
    [
        ("2Gi", 1 << 30, 1 << 30, True),
        ("2Gi", 1 << 30, 1000, False),
        ("1Gi", 2 << 30, 3 << 30, False),
        (None, 9, 9, True),
    ],
)
def test_a_limit_below_what_is_used(before: str | None, limit: int, used: int, outcome: bool) -> None:
    """Only a limit that falls, or is new, can be too low."""
    amounts: Any = {"limits": {"memory": before}} if before else {}
    attempt = Attempt(0, "id", "i", "d", HANDLE, 1.0, resources=amounts)
    assert container_resize.is_below(limit, cgroups.Usage(0, used, used), attempt) is outcome


def test_what_a_runtime_is_told() -> None:
    """Shares always, quota and memory where they are limited."""
    assert spec.update_options(spec.Limits(500, 1000, 64)) == [
        "--cpu-share=512",
        "--cpu-period=100000",
        "--cpu-quota=100000",
        "--memory=64",
    ]
    assert spec.update_options(spec.Limits()) == ["--cpu-share=2"]


def shown(of: Object, kept: Record, previous: Any = ()) -> Object:
    return status.status(of, kept, runtime="crun", host_ip="1.2.3.4", now=9.0, previous=previous)


def test_the_status_of_a_resize() -> None:
    """What runs, what is allocated, and the conditions with the generation that asked."""
    put_off = resizing.put_off(pod(LARGE), record(SMALL, SMALL), "Deferred", "no room")
    document = shown(pod(LARGE), put_off)
    (main,) = document["containerStatuses"]
    assert (main["resources"], main["allocatedResources"]) == (SMALL, SMALL["requests"])
    condition = conditions.find(document["conditions"], resizes.PENDING)
    assert condition is not None
    assert (condition["status"], condition["reason"], condition["message"]) == ("True", "Deferred", "no room")
    assert condition["observedGeneration"] == 2
    accepted = resizing.accepted(pod(LARGE), put_off)
    document = shown(pod(LARGE), accepted, document["conditions"])
    (main,) = document["containerStatuses"]
    assert (main["resources"], main["allocatedResources"]) == (SMALL, LARGE["requests"])
    assert conditions.find(document["conditions"], resizes.PENDING) is None
    assert conditions.find(document["conditions"], resizes.IN_PROGRESS) is not None


def test_a_condition_that_is_over_is_taken_out() -> None:
    """By the patch, for a merge alone would leave it."""
    during = shown(pod(LARGE), resizing.accepted(pod(LARGE), record(SMALL, SMALL)))
    after = shown(pod(LARGE), record(LARGE, LARGE))
    patch = status.merge_patch(after, during["conditions"])
    assert {"$patch": "delete", "type": resizes.IN_PROGRESS} in patch["conditions"]
    assert all("$patch" not in each for each in status.merge_patch(after, after["conditions"])["conditions"])


def counted(*, reason: str = "", actual: Any = None, allocated: Any = None) -> int:
    """Thousandths of a processor that a pod that asks for two counts for."""
    statuses = [{"name": "main", "resources": actual, "allocatedResources": allocated}]
    listed = [{"type": resizes.PENDING, "status": "True", "reason": reason}] if reason else []
    return demand.of({**pod(LARGE), "status": {"containerStatuses": statuses, "conditions": listed}})["cpu"]


def test_what_counts_while_a_pod_is_resized() -> None:
    """The most of what is asked for, allocated and in use; not what can never be had."""
    four: Any = {"requests": {"cpu": "4"}}
    assert counted() == 2000
    assert counted(reason="Deferred", actual=SMALL, allocated={"cpu": "1"}) == 2000
    assert counted(reason="Infeasible", actual=SMALL, allocated={"cpu": "1"}) == 1000
    assert counted(reason="Deferred", actual=four, allocated={"cpu": "1"}) == 4000


def test_a_pod_is_admitted_beside_what_is_allocated() -> None:
    """Others count by their specs, as they are allocated, whatever their status says."""
    other = {**pod(SMALL), "status": {"conditions": [{"type": resizes.PENDING, "reason": "Deferred"}]}}
    assert admission.lack(pod({"requests": {"cpu": "3"}}), [other], ROOM) is None


def sizes(**requests: str) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "main", "resources": {"requests": requests}}]}}


async def resize(world: Scene, name: str = "p", **requests: str) -> None:
    await world.client.patch(
        resources.POD,
        name,
        "default",
        patch=sizes(**requests),
        subresource="resize",
        patch_type=PatchType.STRATEGIC,
    )


def is_settled(current: Object) -> bool:
    return not resizes.is_under_way(current)


def asks(cpu: str) -> dict[str, Any]:
    return {"resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}}


def test_a_container_is_resized_without_a_restart() -> None:
    """Its status says what it runs with; events tell of the beginning and the end."""

    async def scene(world: Scene) -> None:
        await world.pod(container=asks("1"))
        await world.until(is_ready)
        await resize(world, cpu="2")
        await world.until(lambda p: state(p)["resources"]["requests"]["cpu"] == "2" and is_settled(p))
        live = await world.live()
        assert state(live)["allocatedResources"]["cpu"] == "2"
        assert state(live)["restartCount"] == 0
        (limits,) = world.node.runtime.sizes.values()
        assert limits.cpu_request_millis == 2000
        events = await world.events()
        assert [each for each in events if each.startswith("Resize")] == ["ResizeStarted", "ResizeCompleted"]

    play(scene)


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
def test_a_container_is_restarted_for_its_size(policy: str) -> None:
    """Where its resize policy says so, whatever the restart policy makes of how it ended."""

    async def scene(world: Scene) -> None:
        restarts = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
        await world.pod(container={**asks("1"), "resizePolicy": restarts}, spec={"restartPolicy": policy})
        await world.until(is_ready)
        await resize(world, cpu="2")
        await world.until(lambda p: state(p)["restartCount"] == 1 and is_ready(p) and is_settled(p))
        assert state(await world.live())["resources"]["requests"]["cpu"] == "2"
        assert world.node.runtime.sizes == {}

    play(scene)


def test_a_resize_waits_for_room() -> None:
    """Deferred while others have it, also across a restart of the agent; made as soon as one has gone."""

    async def scene(world: Scene) -> None:
        await world.pod("big", container=asks("30"))
        await world.pod(container=asks("5"))
        await world.until(is_ready)
        await resize(world, cpu="15")
        await world.until(resizes.is_under_way)
        pending = conditions.get(await world.live(), resizes.PENDING)
        assert pending is not None
        assert pending["reason"] == "Deferred"
        await world.clock.sleep(1.0)  # events gather for a moment
        world.end_agent()
        await world.start_agent()
        await world.clock.sleep(15.0)
        assert state(await world.live())["resources"]["requests"]["cpu"] == "5"
        await world.client.delete(resources.POD, "big", "default")
        await world.until(lambda p: state(p)["resources"]["requests"]["cpu"] == "15" and is_settled(p))
        assert "ResizeDeferred" in await world.events()

    play(scene)


def test_a_resize_beyond_the_node_is_infeasible() -> None:
    """It stays as it is until the pod asks for something that can be."""

    async def scene(world: Scene) -> None:
        await world.pod(container=asks("1"))
        await world.until(is_ready)
        await resize(world, cpu="41")
        await world.until(resizes.is_infeasible)
        await resize(world, cpu="1")
        await world.until(is_settled)
        assert world.node.runtime.sizes == {}
        assert objects.status(await world.live())["containerStatuses"][0]["restartCount"] == 0

    play(scene)


def test_a_resize_that_fails_is_tried_again() -> None:
    """The condition says why meanwhile, an event tells once."""

    async def scene(world: Scene) -> None:
        await world.pod(container=asks("1"))
        await world.until(is_ready)
        world.node.runtime.failures["update"] = 3
        await resize(world, cpu="2")

        def has_failed(current: Object) -> bool:
            condition = conditions.get(current, resizes.IN_PROGRESS) or {}
            return (condition.get("reason"), condition.get("message")) == ("Error", "injected: update")

        await world.until(has_failed)
        await world.until(is_settled)
        assert (await world.events()).count("ResizeError") == 1

    play(scene)


def test_records_of_older_agents_are_read() -> None:
    """They know nothing of sizes: what the pod asks for now is what it has."""
    old = {"uid": "u", "namespace": "n", "name": "p", "boot": "b", "start_time": 1.0}
    current = msgspec.convert(old, Record)
    assert resizing.admitted(pod(SMALL), current).allocated == {"main": SMALL}
    running = resizing.admitted(pod(SMALL), record(None, {})).container("main").current
    assert running is not None
    assert running.resources == SMALL
