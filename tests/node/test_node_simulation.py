"""The node's own pod workers on virtual time, over a runtime and a machine that only pretend."""

from __future__ import annotations

import itertools
import random
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.node.scene import IMAGE, Scene, is_absent, is_ready, phase, play, state, waits_for

from ondol.api import objects, pod_references, resources
from ondol.api.objects import Object
from ondol.contracts import mesh as mesh_contract
from ondol.node.pods import decide
from ondol.node.pods.decide import STAGES, Stage
from ondol.node.pods.worker import PodWorker
from ondol.node.testing import Program
from ondol.sdk.testing import rough

VOLUMES = [{"name": "v", "emptyDir": {}}]


def test_a_pod_from_its_creation_to_its_end() -> None:
    """Sandbox, volumes, container, Ready; then SIGTERM, and nothing is left of it."""

    async def scene(world: Scene) -> None:
        await world.pod()
        assert await world.until(is_ready) < 1.0
        await world.client.delete(resources.POD, "p", "default")
        assert await world.until(is_absent) < 1.0
        assert [number for _, number, _ in world.node.runtime.signals] == [signal.SIGTERM]
        assert world.node.runtime.container_ids() == []
        assert world.node.machine.sandboxes == {}
        assert world.node.records.all() == []

    play(scene)


def test_an_image_that_appears_is_used_at_once() -> None:
    """However long the back-off has grown; another image that comes changes nothing."""

    async def scene(world: Scene) -> None:
        await world.pod(container={"image": "late:1"})
        await world.until(lambda pod: waits_for(pod) == "ErrImagePull")
        await world.until(lambda pod: waits_for(pod) == "ImagePullBackOff")
        await world.clock.sleep(200.0)
        before = (await world.events()).count("BackOff")
        await world.add_image("other:1")
        await world.clock.sleep(1.0)
        assert (await world.events()).count("BackOff") == before
        await world.add_image("late:1")
        assert await world.until(is_ready) < 1.0

    play(scene)


def test_an_image_that_appears_while_it_is_looked_for() -> None:
    """The look was too early and the news too: the pod did not wait yet. It is used at once all the same."""

    async def scene(world: Scene) -> None:
        world.node.machine.looking_s = 2.0
        await world.pod(container={"image": "late:1"})
        await world.clock.sleep(1.0)
        await world.add_image("late:1")
        await world.until(lambda pod: waits_for(pod) == "ErrImagePull" or is_ready(pod), limit_s=5.0)
        assert await world.until(is_ready) < 3.0

    play(scene)


def test_a_crash_loop_backs_off() -> None:
    """At once after the first crash, then after 10, 20 and 40 s, the most that is set here."""

    async def scene(world: Scene) -> None:
        world.node.runtime.programs[IMAGE] = Program(lifetime_s=1.0, code=3)
        await world.pod()
        times = []
        for restarts in range(1, 6):
            await world.until(lambda pod, n=restarts: state(pod).get("restartCount") == n)  # type: ignore[misc]  # a bound default
            times.append(world.clock.monotonic())
        waits = [round(after - before) for before, after in itertools.pairwise(times)]
        assert waits == [11, 21, 41, 41]
        await world.until(lambda pod: waits_for(pod) == "CrashLoopBackOff")
        pod = await world.live()
        assert state(pod)["lastState"]["terminated"]["exitCode"] == 3
        world.node.runtime.programs[IMAGE] = Program()
        await world.until(is_ready)

    play(scene)


@pytest.mark.parametrize("ends", ["deleted", "failed"])
def test_only_who_runs_again_backs_off(ends: str) -> None:
    """A container that ended for good, or with its pod, is not said to be restarted."""

    async def scene(world: Scene) -> None:
        world.node.runtime.programs[IMAGE] = Program(lifetime_s=1.0, code=42)
        rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
        again = {"restartPolicy": "Never", "restartPolicyRules": rules}
        await world.pod(container=again, spec={"restartPolicy": "Never"})
        await world.until(lambda pod: state(pod).get("restartCount") == 0 and is_ready(pod))
        lasting = Program() if ends == "deleted" else Program(lifetime_s=1.0, code=3)
        world.node.runtime.programs[IMAGE] = lasting
        await world.until(lambda pod: state(pod).get("restartCount") == 1)
        if ends == "deleted":
            await world.clock.sleep(5.0)
            await world.client.delete(resources.POD, "p", "default")
            await world.until(is_absent)
        else:
            await world.until(lambda pod: phase(pod) == "Failed")
        assert "BackOff" not in await world.events()

    play(scene)


def test_a_runtime_that_fails() -> None:
    """Making and starting fail a few times, so do sandbox and volumes: it is told, and tried again."""

    async def scene(world: Scene) -> None:
        world.node.machine.failures = {"sandbox": 2, "volumes": 2}
        world.node.runtime.failures = {"create": 1, "start": 1}
        await world.pod(spec={"volumes": VOLUMES})
        await world.until(is_ready)
        reasons = await world.events()
        assert {"FailedCreatePodSandBox", "FailedMount", "Failed", "Started"} <= set(reasons)
        assert len(world.node.runtime.container_ids()) == 1
        world.node.runtime.failures = {"delete": 3}
        await world.client.delete(resources.POD, "p", "default")
        await world.until(is_absent)
        assert world.node.runtime.container_ids() == []

    play(scene)


@pytest.mark.parametrize(
    ("stopping_s", "signals", "expected_s"),
    [(0.0, ["SIGTERM"], 5.0), (3.0, ["SIGTERM"], 8.0), (1e9, ["SIGTERM", "SIGKILL"], 20.0)],
    ids=["ends at once", "takes its time", "does not listen"],
)
def test_a_graceful_end(stopping_s: float, signals: list[str], expected_s: float) -> None:
    """The `preStop` hook, SIGTERM, and SIGKILL when the grace period of both is over."""

    async def scene(world: Scene) -> None:
        world.node.runtime.programs[IMAGE] = Program(stopping_s=stopping_s)
        hook = {"lifecycle": {"preStop": {"sleep": {"seconds": 5}}}}
        await world.pod(container=hook, spec={"terminationGracePeriodSeconds": 20})
        await world.until(is_ready)
        await world.client.delete(resources.POD, "p", "default")
        assert await world.until(is_absent) == pytest.approx(expected_s, abs=0.3)
        assert [signal.Signals(number).name for _, number, _ in world.node.runtime.signals] == signals

    play(scene)


def test_a_shorter_grace_period_is_heeded() -> None:
    """A second deletion that leaves less time ends a container that is being waited for."""

    async def scene(world: Scene) -> None:
        world.node.runtime.programs[IMAGE] = Program(stopping_s=1e9)
        await world.pod(spec={"terminationGracePeriodSeconds": 1000})
        await world.until(is_ready)
        await world.client.delete(resources.POD, "p", "default")
        await world.clock.sleep(10.0)
        await world.client.delete(resources.POD, "p", "default", grace_period_s=2)
        assert await world.until(is_absent) == pytest.approx(2.0, abs=0.3)

    play(scene)


def test_probes_decide() -> None:
    """Ready while readiness says so; restarted when liveness gives up, with the grace of the probe."""

    async def scene(world: Scene) -> None:
        answers = world.node.runtime.answers
        answers |= {"ready?": 1, "alive?": 0}
        probe = {"periodSeconds": 1, "failureThreshold": 2}
        container = {
            "readinessProbe": {"exec": {"command": ["ready?"]}, **probe},
            "livenessProbe": {"exec": {"command": ["alive?"]}, **probe},
        }
        await world.pod(container=container)
        await world.until(lambda pod: "running" in state(pod)["state"])
        await world.clock.sleep(5.0)
        assert not is_ready(await world.live())
        answers["ready?"] = 0
        assert await world.until(is_ready) < 2.0
        answers["ready?"] = 1
        assert await world.until(lambda pod: not is_ready(pod)) < 3.0
        answers |= {"ready?": 0, "alive?": 1}
        await world.until(lambda pod: state(pod).get("restartCount") == 1)
        answers["alive?"] = 0
        await world.until(is_ready)
        assert "Unhealthy" in await world.events()

    play(scene)


def test_a_new_agent_goes_on_where_the_old_one_ended() -> None:
    """What runs runs on and is not started twice; what ended meanwhile is told with its own exit code."""

    async def scene(world: Scene) -> None:
        await world.pod("stays")
        world.node.runtime.programs["job:1"] = Program(lifetime_s=30.0, code=7)
        world.node.machine.add_image("job:1")
        await world.pod("ends", container={"image": "job:1"}, spec={"restartPolicy": "Never"})
        await world.until(is_ready, "stays")
        await world.until(is_ready, "ends")
        running = world.node.runtime.running()
        world.end_agent()
        await world.clock.sleep(60.0)
        await world.start_agent()
        await world.until(lambda pod: phase(pod) == "Failed", "ends")
        assert state(await world.live("ends"))["state"]["terminated"]["exitCode"] == 7
        assert is_ready(await world.live("stays"))
        assert world.node.runtime.running() < running
        assert state(await world.live("stays"))["restartCount"] == 0

    play(scene)


def test_a_pod_deleted_while_no_agent_runs() -> None:
    """The new agent ends what is left of it, though nobody can tell it of the pod any more."""

    async def scene(world: Scene) -> None:
        await world.pod()
        await world.until(is_ready)
        world.end_agent()
        await world.client.delete(resources.POD, "p", "default", grace_period_s=0)
        await world.start_agent()
        await world.clock.sleep(5.0)
        assert world.node.runtime.container_ids() == []
        assert world.node.machine.sandboxes == {}
        assert world.node.records.all() == []

    play(scene)


def test_a_full_disk_keeps_no_pod() -> None:
    """Nothing new is begun; what ends is told and goes; with room again all is as before."""

    async def scene(world: Scene) -> None:
        world.node.machine.add_image("job:1")
        world.node.runtime.programs["job:1"] = Program(lifetime_s=20.0, code=4)
        await world.pod("deleted")
        await world.pod("over", container={"image": "job:1"}, spec={"restartPolicy": "Never"})
        await world.pod("again", container={"image": "job:1"})
        for name in ("deleted", "over", "again"):
            await world.until(is_ready, name)
        world.node.records.is_full = True
        await world.client.delete(resources.POD, "deleted", "default")
        await world.until(is_absent, "deleted", limit_s=60.0)
        await world.until(lambda pod: phase(pod) == "Failed", "over", limit_s=60.0)
        await world.pod("new")
        await world.clock.sleep(60.0)
        assert phase(await world.live("new")) == "Pending"
        assert world.node.runtime.running() == set()
        world.node.records.is_full = False
        await world.until(is_ready, "new", limit_s=30.0)
        await world.until(lambda pod: state(pod).get("restartCount", 0) > 0, "again", limit_s=30.0)
        world.end_agent()
        await world.start_agent()
        await world.clock.sleep(5.0)
        assert state(await world.live("over"))["state"]["terminated"]["exitCode"] == 4

    play(scene)


@pytest.fixture
def steps_between_stages(monkeypatch: pytest.MonkeyPatch) -> set[tuple[Stage, Stage]]:
    """Which stage followed which, in the life of every worker in the simulations of this test."""
    seen: set[tuple[Stage, Stage]] = set()
    latest: dict[str, Stage] = {}
    original = decide.decide
    run = PodWorker.run

    async def begun(worker: PodWorker) -> None:
        latest.pop(worker.uid, None)
        await run(worker)

    monkeypatch.setattr(PodWorker, "run", begun)

    def watched(pod: Any, record: Any, facts: Any) -> decide.Decision:
        decision = original(pod, record, facts)
        for action in decision.actions:
            assert isinstance(action, STAGES[decision.stage].actions), decision
        before = latest.get(record.uid, decision.stage)
        latest[record.uid] = decision.stage
        if before != decision.stage:
            seen.add((before, decision.stage))
        return decision

    monkeypatch.setattr(decide, "decide", watched)
    return seen


def test_pods_go_from_stage_to_stage_as_the_table_says(
    steps_between_stages: set[tuple[Stage, Stage]],
) -> None:
    """In whatever order things happen: no step that is not in the table, none in it that never comes."""
    for seed in range(4):
        play(happenings, seed=seed, faults=rough())
    play(ended_before_it_began)
    play(cleared_before_it_ran, mesh=True)
    table = {(stage, after) for stage, facts in STAGES.items() for after in facts.following}
    assert steps_between_stages == table


def test_the_page_has_the_table_of_stages() -> None:
    """docs/node.md tells of the same stages, actions and successors as the code."""
    rows = ["| Stage | While | What is begun | Then |", "|---|---|---|---|"]
    for stage, facts in STAGES.items():
        actions = ", ".join(f"`{action.__name__}`" for action in facts.actions) or "nothing"
        following = ", ".join(facts.following) or "gone"
        rows.append(f"| {stage} | {facts.meaning} | {actions} | {following} |")
    assert "\n".join(rows) in (Path(__file__).parents[2] / "docs/node.md").read_text()


async def ended_before_it_began(world: Scene) -> None:
    """Pods that are deleted, or whose time is over, while the first steps fail or are to be tried again."""
    world.node.machine.working_s = 2.0
    world.node.machine.failures = {"sandbox": 99, "volumes": 99}
    await world.pod("deleted", spec={"volumes": VOLUMES})
    await world.pod("late", spec={"activeDeadlineSeconds": 1, "volumes": VOLUMES})
    await world.pod("bare", spec={"activeDeadlineSeconds": 1})
    await world.clock.sleep(0.5)
    await world.client.delete(resources.POD, "deleted", "default")
    await world.until(is_absent, "deleted")
    await world.until(lambda pod: phase(pod) == "Failed", "late")
    await world.until(lambda pod: phase(pod) == "Failed", "bare")
    await world.clock.sleep(30.0)
    world.node.machine.working_s = 0.01
    for number in range(12):
        await world.pod(f"waits{number}")
    await world.clock.sleep(3.0)
    for number in range(12):
        await world.client.delete(resources.POD, f"waits{number}", "default")
        await world.until(is_absent, f"waits{number}")


async def cleared_before_it_ran(world: Scene) -> None:
    """A pod that waits for the mesh to leave its former sandbox is deleted: only its volumes were made."""
    world.end_agent()
    await world.pod(spec={"volumes": VOLUMES})
    programmed = {"status": {"conditions": [{"type": mesh_contract.POD_PROGRAMMED, "status": "True"}]}}
    await world.client.patch(resources.POD, "p", "default", patch=programmed, subresource="status")
    await world.start_agent()
    await world.clock.sleep(5.0)
    assert world.node.machine.sandboxes == {}
    assert len(world.node.machine.volumes) == 1
    await world.client.delete(resources.POD, "p", "default")
    await world.until(is_absent)
    assert world.node.machine.volumes == {}


def test_a_failed_pod_stays_failed_though_the_disk_forgot() -> None:
    """Its failure could not be written before the agent ended; the API knows of it all the same."""

    async def scene(world: Scene) -> None:
        await world.pod(spec={"activeDeadlineSeconds": 5})
        await world.until(is_ready)
        world.node.records.is_full = True
        await world.until(lambda pod: phase(pod) == "Failed")
        world.end_agent()
        await world.start_agent()
        await world.clock.sleep(5.0)
        assert phase(await world.live()) == "Failed"
        assert world.node.runtime.running() == set()

    play(scene)


async def happenings(world: Scene) -> None:
    """Pods of many manners come and go, the agent now and then; then all heals and everything settles."""
    rng = world.rng
    world.node.machine.add_image("job:1")
    world.node.runtime.programs |= {
        IMAGE: Program(stopping_s=rng.choice([0.0, 3.0])),
        "job:1": Program(lifetime_s=4.0, code=rng.choice([0, 1])),
    }
    for number in range(10):
        await happening(world, f"p{number}", rng)
        await world.clock.sleep(rng.choice([0.0, 0.02, 0.3, 5.0]))
        if number % 4 == 3:
            await another_agent(world, rng)
    world.faults.heal()
    world.node.records.is_full = False
    world.node.runtime.failures.clear()
    world.node.machine.failures.clear()
    world.node.machine.defects = 0
    await world.clock.sleep(400.0)
    await settled(world)


async def another_agent(world: Scene, rng: random.Random) -> None:
    """It takes its time to begin; a pod may go meanwhile, and its name to another one."""
    world.end_agent()
    await world.clock.sleep(rng.random())
    world.node.machine.adopting_s = rng.choice([0.0, 2.0])
    name = objects.name(rng.choice((await world.client.list(resources.POD, "default")).items))

    async def meanwhile() -> None:
        await world.clock.sleep(1.0)
        await world.client.delete(resources.POD, name, "default", grace_period_s=0)
        await world.pod(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(meanwhile)
        await world.start_agent()


async def happening(world: Scene, name: str, rng: random.Random) -> None:
    """A pod comes, and another may go."""
    spec: Object = {"restartPolicy": rng.choice(["Always", "OnFailure", "Never"])}
    if rng.random() < 0.5:
        spec["volumes"] = VOLUMES
    if rng.random() < 0.2:
        spec["activeDeadlineSeconds"] = rng.choice([1, 3])
    if rng.random() < 0.2:
        spec["hostUsers"] = False  # is refused
    if rng.random() < 0.3:
        spec["initContainers"] = [{"name": "init", "image": "job:1"}]
    world.node.runtime.failures = {"create": rng.choice([0, 1]), "delete": rng.choice([0, 1])}
    world.node.machine.failures = {"sandbox": rng.choice([0, 0, 2]), "volumes": rng.choice([0, 0, 2])}
    world.node.records.is_full = rng.random() < 0.1
    world.node.machine.defects = rng.choice([0, 0, 0, 1])
    await world.pod(name, container={"image": rng.choice([IMAGE, "job:1", "absent:1"])}, spec=spec)
    if rng.random() < 0.6:
        await world.clock.sleep(rng.choice([0.0, 0.0, 0.01, 0.03, 1.0]))
        pods = (await world.client.list(resources.POD, "default")).items
        victim = objects.name(rng.choice(pods))
        await world.client.delete(resources.POD, victim, "default", grace_period_s=rng.choice([None, 0, 5]))
        if rng.random() < 0.5 and not await world.live(victim):
            await world.pod(victim)


async def settled(world: Scene) -> None:
    """Every pod is where it belongs, and the machine holds nothing else."""
    pods = (await world.client.list(resources.POD, "default")).items
    alive = {objects.uid(pod) for pod in pods}
    assert not any(objects.is_deleting(pod) for pod in pods), world.seed
    open_ = {objects.uid(pod) for pod in pods if phase(pod) in ("Pending", "Running")}
    assert set(world.node.machine.sandboxes) == open_, world.seed
    assert set(world.node.machine.volumes) <= open_, world.seed
    assert {record.uid for record in world.node.records.all()} <= alive, world.seed
    recorded = [each.current for record in world.node.records.all() for each in record.containers.values()]
    assert world.node.runtime.running() <= {attempt.id for attempt in recorded if attempt}, world.seed
    for pod in pods:
        assert phase(pod), (world.seed, pod)
        if state(pod).get("image") == "absent:1" and phase(pod) == "Pending":
            has_init = "initContainers" in pod["spec"]
            assert has_init or waits_for(pod) == "ImagePullBackOff", (world.seed, pod)


def test_a_change_asks_no_pod_that_does_not_refer_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pod refers to is looked up once; a ConfigMap's changes reach those that mount it alone."""
    looked: list[Any] = []
    original = pod_references.of

    def counted(spec: Any) -> pod_references.References:
        looked.append(spec)
        return original(spec)

    async def scene(world: Scene) -> None:
        await world.client.create(
            resources.CONFIG_MAP, {"metadata": {"name": "m", "namespace": "default"}, "data": {"k": "0"}}
        )
        for number in range(20):
            volumes = [{"name": "v", "configMap": {"name": "m"}}] if number < 2 else []
            await world.pod(f"p{number}", spec={"volumes": volumes})
        for number in range(20):
            await world.until(is_ready, f"p{number}")
        await world.clock.sleep(5.0)
        monkeypatch.setattr(pod_references, "of", counted)
        written = world.node.machine.written
        before = dict(written)
        for number in range(1, 6):
            patch = {"data": {"k": str(number)}}
            await world.client.patch(resources.CONFIG_MAP, "m", "default", patch=patch)
            await world.clock.sleep(1.0)
        pods = [objects.uid(await world.live(f"p{number}")) for number in range(2)]
        rewritten = {uid: count - before[uid] for uid, count in written.items() if count > before[uid]}
        assert rewritten == dict.fromkeys(pods, 5)
        assert [world.node.machine.volumes[uid]["v"]["k"].content for uid in pods] == [b"5", b"5"]
        assert looked == []  # each refresh asks its own volumes, and nobody looks through a pod again

    play(scene)
