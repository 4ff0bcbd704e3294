"""Limits and requests of a pod as a whole, its overhead, and the runtime that its class names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.node.scene import Scene, play

from ondol.api import demand, quality, resources
from ondol.api.objects import Object
from ondol.base import clock, errors
from ondol.node import value_sources
from ondol.node.pods import planning
from ondol.node.runtime import spec as oci
from ondol.node.runtime.handlers import Runtimes
from ondol.node.runtime.port import Creation, RuntimeFailed
from ondol.node.testing import FakeRuntime

GIB = 1 << 30


def pod(whole: Any, *containers: Any, **fields: Any) -> Object:
    listed = [{"name": f"c{n}", "resources": each} for n, each in enumerate(containers or [{}])]
    return {
        "metadata": {},
        "spec": {"containers": listed, **({"resources": whole} if whole else {}), **fields},
    }


SMALL = {"requests": {"cpu": "1", "memory": "1Gi"}}
FULL = {"limits": {"cpu": "2", "memory": "2Gi"}}


@pytest.mark.parametrize(
    ("whole", "containers", "outcome"),
    [
        (None, [SMALL], "Burstable"),
        ({}, [FULL], "Guaranteed"),
        (FULL, [{}], "Guaranteed"),
        (FULL, [SMALL], "Guaranteed"),
        ({"limits": {"memory": "2Gi"}}, [FULL], "Burstable"),
        ({"requests": {"cpu": "1"}}, [{}], "Burstable"),
    ],
)
def test_the_class_of_a_pod(whole: Any, containers: list[Any], outcome: str) -> None:
    """By the pod's own amounts where it has some, else by its containers'."""
    assert quality.of(pod(whole, *containers)) == outcome


def test_what_a_pod_counts_for() -> None:
    """Its own requests in place of its containers', and its overhead with them."""
    overhead = {"cpu": "250m", "memory": "1Gi"}
    counted = demand.of(pod({"requests": {"cpu": "3"}}, SMALL, SMALL, overhead=overhead))
    assert counted == {"cpu": 3250, "memory": 3 * GIB * 1000, "pods": 1000}


@pytest.mark.parametrize(
    ("whole", "overhead", "outcome"),
    [
        (None, {"memory": "1Gi"}, None),
        ({"requests": {"cpu": "1"}}, {}, None),
        (FULL, {}, oci.Limits(cpu_limit_millis=2000, memory_limit_bytes=2 * GIB)),
        (
            FULL,
            {"cpu": "500m", "memory": "1Gi"},
            oci.Limits(cpu_limit_millis=2500, memory_limit_bytes=3 * GIB),
        ),
        ({"limits": {"memory": "1Gi"}}, {"cpu": "1"}, oci.Limits(memory_limit_bytes=GIB)),
    ],
)
def test_what_holds_the_pod_as_a_whole(whole: Any, overhead: Any, outcome: oci.Limits | None) -> None:
    """Its own limits with its overhead; without limits of its own nothing does."""
    assert planning.pod_limits(pod(whole, overhead=overhead)) == outcome


def test_a_container_without_a_limit_has_the_pods() -> None:
    """One with a limit keeps it; the downward API says the same."""
    described = pod(FULL, {"limits": {"cpu": "1"}})
    (container,) = described["spec"]["containers"]
    assert planning.limits(container, described) == oci.Limits(1000, 1000, 2 * GIB)
    memory, facts = {"resource": "limits.memory"}, value_sources.PodFacts(allocatable={"memory": "64Gi"})
    assert value_sources.resource_value(described, container, memory, facts) == str(2 * GIB)


def test_who_dies_first_when_memory_runs_out() -> None:
    """What the pod requests beyond its containers is shared among them."""
    burstable = pod({"requests": {"memory": "4Gi"}}, {"requests": {"memory": "1Gi"}}, {})
    one, two = burstable["spec"]["containers"]
    assert planning.oom_score_adj(burstable, one, 10 * GIB, -1000) == 750
    assert planning.oom_score_adj(burstable, two, 10 * GIB, -1000) == 850


def test_a_runtime_is_looked_for_once_and_found_again(tmp_path: Path) -> None:
    """By the handler of the container, also by a later agent that is only told to delete it."""

    async def main() -> None:
        own, other = FakeRuntime(clock.SystemClock()), FakeRuntime(clock.SystemClock())
        searches: list[str] = []

        async def find(name: str) -> FakeRuntime:
            searches.append(name)
            if name != "other":
                raise errors.HostError(f"no {name}")
            return other

        runtimes = Runtimes(own, tmp_path, find)
        assert await runtimes.has_handler("")
        assert await runtimes.has_handler("other")
        assert not await runtimes.has_handler("none")
        handle = await runtimes.create(Creation("a", {"image": "i"}, tmp_path / "log", handler="other"))
        await runtimes.create(Creation("b", {"image": "i"}, tmp_path / "log"))
        assert (handle.runtime, other.container_ids(), own.container_ids()) == ("other", ["a"], ["b"])
        assert searches == ["other", "none"]
        await Runtimes(own, tmp_path, find).delete("a")
        assert other.container_ids() == []
        (tmp_path / "a" / "handler").write_text("none")
        with pytest.raises(RuntimeFailed, match="no none"):
            await Runtimes(own, tmp_path, find).delete("a")

    anyio.run(main)


def test_a_pod_of_a_class_that_nothing_runs() -> None:
    """It waits, and is told why; one of the node's own runtime runs."""

    async def scene(world: Scene) -> None:
        for name, handler in (("own", "fake"), ("alien", "kata")):
            await world.client.create(
                resources.RUNTIME_CLASS, {"metadata": {"name": name}, "handler": handler}
            )
        await world.pod("good", spec={"runtimeClassName": "own"})
        await world.pod("bad", spec={"runtimeClassName": "alien"})
        await world.until(lambda each: each["status"]["phase"] == "Running", "good")
        await world.clock.sleep(5.0)
        listed = (await world.client.list(resources.EVENT)).items
        (event,) = [each for each in listed if each["involvedObject"]["name"] == "bad"]
        words = 'failed to get sandbox runtime: no runtime for "kata" is configured'
        assert (event["reason"], event["message"]) == (
            "FailedCreatePodSandBox",
            f"Failed to create pod sandbox: {words}",
        )
        assert (await world.live("bad"))["status"]["phase"] == "Pending"

    play(scene)
