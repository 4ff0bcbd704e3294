"""A machine that runs short: when it is, what it tells, which images go, and which pod is sent away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.node.scene import Scene, is_ready, phase, play

from ondol.api import conditions, eviction_thresholds, objects, resources
from ondol.api.eviction_thresholds import DEFAULT, Level, Threshold
from ondol.api.objects import Object
from ondol.node.images.images import Images
from ondol.node.pressure import image_collection, lasting, ranking, readings
from ondol.node.pressure.image_collection import Local, Policy
from ondol.node.pressure.ranking import Candidate, Consumption

MIB, GIB = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("signal", "level", "is_met"),
    [
        ("memory.available", Level(100 * MIB, GIB), False),
        ("memory.available", Level(100 * MIB - 1, GIB), True),
        ("nodefs.available", Level(5, 100), False),
        ("nodefs.available", Level(4, 100), True),
        ("nodefs.inodesFree", Level(4, 100), True),
        ("nodefs.inodesFree", Level(0, 0), False),
        ("imagefs.available", Level(4, 100), True),
        ("pid.available", Level(999, 32768), True),
    ],
)
def test_the_thresholds_that_are_usual(signal: str, level: Level, is_met: bool) -> None:
    """The kubelet's; a disk that counts no inodes is short of none."""
    met = eviction_thresholds.met(eviction_thresholds.parse(DEFAULT), {signal: level})
    assert [each.signal for each in met] == [signal] * is_met


def test_memory_is_seen_to_first() -> None:
    """Whatever the order in which thresholds are named; what was not read is not met."""
    thresholds = eviction_thresholds.parse("nodefs.available<1Gi, memory.available<1Gi,pid.available<5")
    low = Level(0, 1)
    met = eviction_thresholds.met(thresholds, {"nodefs.available": low, "memory.available": low})
    assert [each.signal for each in met] == ["memory.available", "nodefs.available"]
    assert eviction_thresholds.parse("") == ()


@pytest.mark.parametrize(
    "text",
    [
        "memory<1Gi",
        "memory.available",
        "memory.available<101%",
        "memory.available<-1",
        "pid.available<x",
        "pid.available<1,pid.available<2",
    ],
)
def test_thresholds_that_cannot_be_read(text: str) -> None:
    """It is said, and nothing guessed."""
    with pytest.raises(ValueError, match=r".+"):
        eviction_thresholds.parse(text)


def test_a_condition_outlasts_its_shortage() -> None:
    """By the transition period, or not at all if that is nothing."""
    memory = (Threshold("memory.available"),)
    seen = lasting.seen(lasting.seen({}, memory, 100.0), (), 110.0)
    assert lasting.lasting(seen, 110.0, 300.0) == {"MemoryPressure"}
    assert lasting.lasting(seen, 400.0, 300.0) == frozenset()
    assert lasting.lasting(seen, 100.0, 0.0) == {"MemoryPressure"}


def pod(name: str, memory: str = "", priority: int = 0, **spec: Any) -> Object:
    resources = {"requests": {"memory": memory}} if memory else {}
    containers = [{"name": "main", "resources": resources}]
    return {"metadata": {"name": name}, "spec": {"containers": containers, "priority": priority, **spec}}


def used(name: str, total: int | None, **fields: Any) -> Candidate:
    return Candidate(pod(name, **fields), None if total is None else Consumption(total, {"main": total}))


def names(candidates: list[Candidate]) -> list[str]:
    return [objects.name(each.pod) for each in candidates]


def test_who_is_sent_away_first() -> None:
    """Who was not measured; who uses more than it asked for; the lower priority; who uses the most more."""
    candidates = [
        used("modest", 1 * GIB, memory="2Gi"),
        used("important", 9 * GIB, memory="1Gi", priority=9),
        used("large", 5 * GIB, memory="1Gi"),
        used("larger", 5 * GIB),
        used("unknown", None),
        used("modest-and-low", 1 * GIB, memory="2Gi", priority=-1),
    ]
    order = ["unknown", "larger", "large", "important", "modest-and-low", "modest"]
    assert names(ranking.ranked(candidates, "memory")) == order


def test_processes_are_ranked_by_priority_alone() -> None:
    """Nobody asks for processes, so nobody has more of them than it asked for."""
    candidates = [used("many", 900, priority=1), used("few", 3), used("some", 40)]
    assert names(ranking.ranked(candidates, "pids")) == ["some", "few", "many"]


def test_the_words_of_an_eviction() -> None:
    """What is short and by how much, and which containers use more than they asked for."""
    threshold, levels = Threshold("memory.available", 100 * MIB), {"memory.available": Level(51 * MIB, GIB)}
    assert ranking.message(used("p", 3 * GIB, memory="1Gi"), threshold, levels) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 51Mi. "
        "Container main was using 3Gi, request is 1Gi, has larger consumption of memory. "
    )
    assert ranking.message(used("p", 1000, memory="1Gi"), threshold, levels) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 51Mi. "
    )
    whole = used("p", 3 * GIB, resources={"requests": {"memory": "2Gi"}})
    assert "Pod p was using 3Gi, request is 2Gi, " in ranking.message(whole, threshold, levels)


TOLERANT: Any = {"tolerations": [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]}


@pytest.mark.parametrize(
    ("described", "shortages", "outcome"),
    [
        (pod("p"), [], ""),
        (pod("p"), ["MemoryPressure"], "The node had condition: [MemoryPressure]. "),
        (pod("p", memory="1Gi"), ["MemoryPressure"], ""),
        (pod("p", **TOLERANT), ["MemoryPressure"], ""),
        (pod("p", memory="1Gi"), ["DiskPressure"], "The node had condition: [DiskPressure]. "),
        (
            pod("p", memory="1Gi"),
            ["MemoryPressure", "DiskPressure"],
            "The node had condition: [DiskPressure MemoryPressure]. ",
        ),
        (pod("p", priority=2_000_000_000), ["DiskPressure"], ""),
    ],
)
def test_who_is_let_in(described: Object, shortages: list[str], outcome: str) -> None:
    """While memory is short who asks for some; while anything else is, only what the system needs."""
    assert ranking.refusal(described, frozenset(shortages)) == outcome


# Images


POLICY = Policy(85, 80, 120.0)


@pytest.mark.parametrize(
    ("available", "policy", "bytes_"),
    [(16, POLICY, 0), (15, POLICY, 5), (1, POLICY, 19), (1, Policy(100, 80), 0)],
)
def test_how_much_is_to_be_freed(available: int, policy: Policy, bytes_: int) -> None:
    """From the higher share on, down to the lower."""
    assert image_collection.excess(Level(available, 100), policy) == bytes_


def test_which_images_go() -> None:
    """The longest unused, as many as it takes; none that is used, young, or that no registry has."""
    images = [Local(name, 10, is_pulled=name != "built") for name in ("old", "older", "used", "built", "new")]
    seen = image_collection.sighted({}, images[:-1], {"old", "used"}, 100.0)
    seen = image_collection.sighted(seen, images, {"used"}, 900.0)
    terms: Any = {"now": 1000.0, "policy": POLICY}
    assert image_collection.doomed(images, seen, {"used"}, bytes_=5, **terms) == [images[1]]
    assert image_collection.doomed(images, seen, {"used"}, bytes_=999, **terms) == [images[1], images[0]]
    assert image_collection.doomed(images, seen, {"used"}, bytes_=0, **terms) == []


class Remover:
    """A source that notes what was to be removed."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def pull(self, reference: str, secrets: Any) -> int:
        raise AssertionError((reference, secrets))

    async def remove(self, names: Any) -> None:
        self.names += names


def test_images_of_the_store_are_removed(tmp_path: Path, layout: Callable[[str], Any]) -> None:
    """By all their names; those that a pod names, or has a container of, stay."""
    writer, remover = layout("images"), Remover()
    ids = {name: writer.image(f"registry.example/{name}:1", [name.encode()]) for name in ("a", "b", "c")}
    images = Images(tmp_path, remover)

    async def main() -> None:
        in_use = {"registry.example/a:1", f"registry.example/b@{ids['b']}"}
        assert await images.free(in_use, 0, POLICY, 0.0) == []
        assert await images.free(in_use, 999, POLICY, 1000.0) == []  # none of them was pulled
        assert remover.names == []

    anyio.run(main)


def test_a_machine_is_read(tmp_path: Path) -> None:
    """Every signal has a level within its capacity; images have none where they share the disk."""
    (tmp_path / "images").mkdir()
    levels = readings.measured(tmp_path, 1 << 40)
    assert set(levels) == {"memory.available", "pid.available", "nodefs.available", "nodefs.inodesFree"}
    assert all(0 <= level.available <= level.capacity for level in levels.values())


# The whole of it, on virtual time


def is_evicted(current: Object) -> bool:
    return phase(current) == "Failed" and objects.status(current).get("reason") == "Evicted"


def test_one_pod_at_a_time_is_sent_away() -> None:
    """The one that uses the most, and it is counted; the other stays once there is room.

    New ones are refused meanwhile, which is no eviction.
    """

    async def scene(world: Scene) -> None:
        machine = world.node.machine
        machine.consumption = {"greedy": Consumption(3 * GIB, {"main": 3 * GIB}), "modest": Consumption(MIB)}
        machine.levels = {"memory.available": Level(GIB, 2 * GIB)}
        await world.pod("greedy")
        await world.pod("modest")
        for name in ("greedy", "modest"):
            await world.until(is_ready, name)
        machine.levels = {"memory.available": Level(MIB, 2 * GIB)}
        await world.until(is_evicted, "greedy")
        machine.levels = {"memory.available": Level(GIB, 2 * GIB)}
        message = objects.status(await world.live("greedy"))["message"]
        assert message.startswith(
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: "
        )
        target = conditions.get(await world.live("greedy"), "DisruptionTarget")
        assert target is not None
        assert (target["status"], target["reason"]) == ("True", "TerminationByKubelet")
        assert world.workers.conditions == {"MemoryPressure"}
        await world.pod("late")
        await world.until(is_evicted, "late")
        await world.clock.sleep(310.0)
        assert world.workers.conditions == frozenset()
        assert is_ready(await world.live("modest"))
        assert "Evicted" in await world.events("greedy")
        assert world.workers._host.activity.evictions == {("memory.available",): 1}

    play(scene)


def test_images_go_before_pods_do() -> None:
    """Where that is enough nobody is sent away; the images of pods are named as used."""

    async def scene(world: Scene) -> None:
        machine = world.node.machine
        await world.pod()
        await world.until(is_ready)
        machine.levels = {"nodefs.available": Level(1, 100)}
        await world.until(lambda _: bool(machine.freed))
        machine.levels = {"nodefs.available": Level(50, 100)}
        await world.clock.sleep(30.0)
        (in_use, is_urgent), *_ = machine.freed
        assert (in_use, is_urgent) == ({"shop:1", "shop:1@digest"}, True)
        assert world.workers.conditions == {"DiskPressure"}

    play(scene)


def test_what_the_system_needs_stays() -> None:
    """However short the machine is."""

    async def scene(world: Scene) -> None:
        await world.pod(spec={"priorityClassName": "system-node-critical"}, namespace="kube-system")
        world.node.machine.levels = {"pid.available": Level(1, 100)}
        await world.clock.sleep(60.0)
        current = await world.client.get(resources.POD, "p", "kube-system")
        assert phase(current) == "Running"

    play(scene)
