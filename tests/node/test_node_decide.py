"""What a pod's worker does next, as a table and as laws."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api import conditions
from ondol.api.objects import Object
from ondol.node.config import restart_backoff
from ondol.node.pods import decide, lifecycle, model, status
from ondol.node.pods.decide import (
    Create,
    Fail,
    Finish,
    PrepareVolumes,
    RefreshVolumes,
    SetUpSandbox,
    Start,
    Stop,
    TearDown,
)
from ondol.node.pods.model import Attempt, Container, ContainerStep, Facts, PodStep, Record, Unhealthy
from ondol.node.runtime.port import Exit, Handle

NOW = 1000.0
HANDLE = Handle("id", 1, 2, 3, 4)
BACKOFF = restart_backoff()


def pod(policy: str = "Always", init: list[Object] | None = None, **spec: Any) -> Object:
    return {
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {
            "containers": [{"name": "main"}],
            "restartPolicy": policy,
            "initContainers": init or [],
            **spec,
        },
    }


def added(init: list[Object] | None = None, policy: str = "Always") -> Object:
    """With a container that was added to look at the others."""
    return pod(policy, init, ephemeralContainers=[{"name": "look", "targetContainerName": "main"}])


def of_image(image: str) -> Object:
    return pod(containers=[{"name": "main", "image": image}])


def attempt(number: int = 0, *, started: bool = True, code: int | None = None) -> Attempt:
    ended = None if code is None else Exit(code, oom_killed=False, finished_at=NOW)
    return Attempt(number, "id", "i", "d", HANDLE, NOW - 1 if started else 0.0, ended)


def record(*, sandbox: bool = True, **containers: Container) -> Record:
    return Record("u", "n", "p", "boot", NOW - 10, "10.0.0.2", sandbox, containers)


def ended_record(reason: str = "DeadlineExceeded", **containers: Container) -> Record:
    return Record("u", "n", "p", "boot", NOW - 10, "10.0.0.2", True, containers, failed_reason=reason)


def evicted(**containers: Container) -> Record:
    return ended_record("Evicted", **containers)


READY = Facts(NOW, are_volumes_ready=True)
STALE = Facts(NOW, are_volumes_ready=True, are_volumes_stale=True)
REFRESHING = Facts(NOW, are_volumes_ready=True, are_volumes_stale=True, busy=frozenset({PodStep.REFRESH}))
UNMADE = Facts(NOW, are_volumes_stale=True)
ILL = Facts(NOW, are_volumes_ready=True, unhealthy={"main": Unhealthy("why")})
ILL_AT_ONCE = Facts(NOW, are_volumes_ready=True, unhealthy={"main": Unhealthy("why", 0.0)})
CREATED = Container(attempt(started=False))
RUNNING = Container(attempt(), is_started=True)
FAILED = Container(attempt(code=1))
DONE = Container(attempt(code=0))
BACKING_OFF = Container(attempt(code=1), failures=3, retry_at=NOW + 40, tried_image="old")
NO_IMAGE = Container(failures=3, retry_at=NOW + 40, waiting_reason="ImagePullBackOff", tried_image="old")
SIDECAR = {"name": "side", "restartPolicy": "Always"}


@pytest.mark.parametrize(
    ("what", "spec", "recorded", "facts", "actions"),
    [
        ("a new pod", pod(), record(sandbox=False), Facts(NOW), (SetUpSandbox(), PrepareVolumes())),
        (
            "while both are made",
            pod(),
            record(sandbox=False),
            Facts(NOW, busy=frozenset({PodStep.SANDBOX, PodStep.VOLUMES})),
            (),
        ),
        ("ready to create", pod(), record(), READY, (Create("main"),)),
        ("created, gate open", pod(), record(main=CREATED), READY, (Start("main"),)),
        ("created, gate closed", pod(), record(main=CREATED), Facts(NOW, False, True, False), ()),
        ("running", pod(), record(main=RUNNING), READY, ()),
        ("ended, restarts", pod(), record(main=FAILED), READY, (Create("main"),)),
        ("ended, backs off", pod(), record(main=Container(attempt(code=1), retry_at=NOW + 5)), READY, ()),
        ("failed for good", pod("Never"), record(main=FAILED), READY, (TearDown(),)),
        ("succeeded", pod("OnFailure"), record(main=DONE), READY, (TearDown(),)),
        ("succeeded, given back", pod("OnFailure"), record(sandbox=False, main=DONE), Facts(NOW), ()),
        ("init first", pod(init=[{"name": "a"}]), record(), READY, (Create("a"),)),
        ("init done", pod(init=[{"name": "a"}]), record(a=DONE), READY, (Create("main"),)),
        ("init failed for good", pod("Never", [{"name": "a"}]), record(a=FAILED), READY, (TearDown(),)),
        ("sidecar not started up", pod(init=[SIDECAR]), record(side=Container(attempt())), READY, ()),
        ("sidecar up", pod(init=[SIDECAR]), record(side=RUNNING), READY, (Create("main"),)),
        ("deleting stops", pod(), record(main=RUNNING), Facts(NOW, True, True), (Stop("main", 30.0),)),
        (
            "sidecars stop last",
            pod(init=[SIDECAR]),
            record(side=RUNNING, main=RUNNING),
            Facts(NOW, True, True),
            (Stop("main", 30.0),),
        ),
        (
            "then the sidecar",
            pod(init=[SIDECAR]),
            record(side=RUNNING, main=DONE),
            Facts(NOW, True, True),
            (Stop("side", 30.0),),
        ),
        ("stopped", pod(), record(main=DONE), Facts(NOW, True, True), (TearDown(),)),
        (
            "a container called like the last step is being made",
            pod(),
            record(),
            Facts(NOW, True, True, busy=frozenset({ContainerStep("finish"), ContainerStep("teardown")})),
            (),
        ),
        (
            "one called like the refresh",
            pod(init=[{"name": "refresh", "restartPolicy": "Always"}]),
            record(refresh=RUNNING),
            Facts(
                NOW,
                are_volumes_ready=True,
                are_volumes_stale=True,
                busy=frozenset({ContainerStep("refresh"), ContainerStep("main")}),
            ),
            (RefreshVolumes(),),
        ),
        ("all given back", pod(), record(sandbox=False, main=DONE), Facts(NOW, True), (Finish(),)),
        ("volumes changed", pod(), record(main=RUNNING), STALE, (RefreshVolumes(),)),
        ("changed again meanwhile", pod(), record(main=RUNNING), REFRESHING, ()),
        (
            "changed before they were made",
            pod(),
            record(),
            Facts(NOW, are_volumes_stale=True),
            (PrepareVolumes(),),
        ),
        ("one was added", added(), record(main=RUNNING), READY, (Create("look"),)),
        (
            "one was added while init runs",
            added([{"name": "a"}]),
            record(a=RUNNING),
            READY,
            (Create("look"),),
        ),
        ("the added one runs", added(), record(main=RUNNING, look=RUNNING), READY, ()),
        ("the added one has failed", added(), record(main=RUNNING, look=FAILED), READY, ()),
        (
            "the application is done, the added one runs on",
            added(policy="Never"),
            record(main=DONE, look=RUNNING),
            READY,
            (Stop("look", 30.0),),
        ),
        ("an added one alone keeps no pod", added(policy="Never"), record(main=DONE), READY, (TearDown(),)),
        ("a probe gave it up", pod(), record(main=RUNNING), ILL, (Stop("main", 30.0, "why"),)),
        ("with a grace of its own", pod(), record(main=RUNNING), ILL_AT_ONCE, (Stop("main", 0.0, "why"),)),
        (
            "a sidecar fails after the application began",
            pod("Never", [SIDECAR]),
            record(side=FAILED, main=RUNNING),
            READY,
            (Create("side"),),
        ),
        (
            "the application restarts while its sidecar is away",
            pod(init=[SIDECAR]),
            record(side=Container(attempt(code=1), retry_at=NOW + 5), main=FAILED),
            READY,
            (Create("main"),),
        ),
        ("backs off from another image", of_image("new"), record(main=BACKING_OFF), READY, (Create("main"),)),
        ("backs off from this image", of_image("old"), record(main=BACKING_OFF), READY, ()),
        ("an image that could not be had", of_image("old"), record(main=NO_IMAGE), READY, ()),
        ("another one instead", of_image("new"), record(main=NO_IMAGE), READY, (Create("main"),)),
        ("evicted", pod(), evicted(main=RUNNING), READY, (Stop("main", 1.0),)),
        ("over its deadline", pod(activeDeadlineSeconds=5), record(main=RUNNING), READY, None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_next_step(
    what: str, spec: Object, recorded: Record, facts: Facts, actions: tuple[Any, ...] | None
) -> None:
    """Each situation has one answer."""
    steps = decide.decide(spec, recorded, facts).actions
    if actions is None:
        assert isinstance(steps[0], Fail)
        assert steps[0].reason == "DeadlineExceeded"
    else:
        assert steps == actions


def test_wakes_for_back_off_and_deadline() -> None:
    """A decision says when to ask again if nothing happens."""
    backing_off = record(main=Container(attempt(code=1), retry_at=NOW + 5))
    assert decide.decide(pod(), backing_off, READY).wake_at == NOW + 5
    assert decide.decide(pod(activeDeadlineSeconds=12), backing_off, READY).wake_at == NOW + 2


@given(st.integers(1, 30))
def test_back_off_grows_to_its_bound(failures: int) -> None:
    """The first restart is at once, later ones wait 10 s and twice as long each, up to five minutes."""
    ending = record(main=Container(attempt()))
    ended = Exit(1, oom_killed=False, finished_at=NOW)
    for _ in range(failures):
        ending = lifecycle.exited(ending, "main", ended, message="", backoff=BACKOFF)
    container = ending.container("main")
    wait_s = container.retry_at - NOW if container.retry_at else 0.0
    assert wait_s == (0 if failures == 1 else min(10.0 * 2.0 ** (failures - 2), 300.0))


def test_a_shorter_longest_wait_is_also_the_first() -> None:
    """As the kubelet's `maxContainerRestartPeriod`."""
    assert [restart_backoff(4.0).delay_s(failures) for failures in (1, 2, 3)] == [4.0, 4.0, 4.0]
    assert [restart_backoff(60.0).delay_s(failures) for failures in (1, 2, 3, 4)] == [10.0, 20.0, 40.0, 60.0]


def test_a_clean_run_forgives() -> None:
    """Ten minutes without a crash start the back-off anew."""
    running = record(main=Container(attempt(), failures=7))
    ended = Exit(1, oom_killed=False, finished_at=NOW + lifecycle.CLEAN_RUN_S)
    after = lifecycle.exited(running, "main", ended, message="", backoff=BACKOFF)
    assert after.container("main").retry_at == 0.0


def deleted(policy: str = "Always", **spec: Any) -> Object:
    document = pod(policy, **spec)
    document["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return document


AGAIN = Container(attempt(1, started=False), last=attempt(code=1))


@pytest.mark.parametrize(
    ("spec", "recorded", "phase"),
    [
        (pod(), record(), "Pending"),
        (pod(), record(main=CREATED), "Pending"),
        (pod(), record(main=RUNNING), "Running"),
        (pod(), record(main=AGAIN), "Running"),
        (pod(), record(main=DONE), "Running"),
        (pod("OnFailure"), record(main=FAILED), "Running"),
        (pod("OnFailure"), record(main=DONE), "Succeeded"),
        (pod("Never"), record(main=FAILED), "Failed"),
        (pod(init=[{"name": "i"}]), record(i=RUNNING), "Pending"),
        (pod("Never", [{"name": "i"}]), record(i=FAILED), "Failed"),
        (pod("Never", [SIDECAR]), record(side=RUNNING), "Pending"),
        (pod("Never", [SIDECAR]), record(side=FAILED, main=RUNNING), "Running"),
        # Only once every container has ended: whoever sees the phase may take what they held.
        (pod("Never", [SIDECAR]), record(side=RUNNING, main=DONE), "Running"),
        (pod("Never", [SIDECAR]), record(side=FAILED, main=DONE), "Succeeded"),
        (pod("Never", [SIDECAR, {"name": "i"}]), record(side=RUNNING, i=FAILED), "Pending"),
        (pod(), ended_record(main=RUNNING), "Running"),
        (pod(), ended_record(main=CREATED), "Pending"),
        (pod(), ended_record(main=FAILED), "Failed"),
        (deleted(), record(main=RUNNING), "Running"),
        (deleted(), record(main=DONE), "Succeeded"),
        (deleted(), record(main=FAILED), "Failed"),
        (deleted(), record(), "Failed"),
    ],
)
def test_phases(spec: Object, recorded: Record, phase: str) -> None:
    """As the kubelet computes and reports them."""
    assert decide.phase(spec, recorded) == phase


def test_no_terminal_phase_while_a_container_is_made() -> None:
    """The record does not know of it yet, but it is about to run."""
    for spec, recorded in ((pod(), ended_record()), (deleted(), record())):
        assert decide.phase(spec, recorded) == "Failed"
        assert decide.phase(spec, recorded, is_starting=True) == "Pending"


def status_of(spec: Object, recorded: Record) -> Object:
    return status.status(spec, recorded, runtime="crun", host_ip="1.2.3.4", now=NOW, previous=[])


def test_a_pod_that_is_given_up_is_not_ready_and_says_why_at_its_end() -> None:
    """Unready at once; reason and message belong to the phase (kubelet: status manager)."""
    ending, ended = status_of(pod(), ended_record(main=RUNNING)), status_of(pod(), ended_record(main=FAILED))
    assert "reason" not in ending
    assert ended["reason"] == "DeadlineExceeded"
    for reported in (ending, ended):
        ready = conditions.get({"status": reported}, "Ready")
        assert ready is not None
        assert (ready["status"], ready["reason"]) == ("False", "PodFailed")


def test_a_sidecar_that_restarts_leaves_the_pod_initialized() -> None:
    """Once an application container ran."""
    reported = status_of(pod(init=[SIDECAR]), record(side=FAILED, main=RUNNING))
    assert conditions.is_true({"status": reported}, "Initialized")
    assert conditions.is_false({"status": reported}, "Ready")


def test_status_says_which_spec_it_is_of() -> None:
    """`observedGeneration` of the pod and of each condition (PodObservedGenerationTracking)."""
    spec = pod()
    spec["metadata"]["generation"] = 3
    reported = status_of(spec, record(main=RUNNING))
    assert reported["observedGeneration"] == 3
    assert {c["observedGeneration"] for c in reported["conditions"]} == {3}
    assert "observedGeneration" not in status_of(pod(), record())


def test_readiness_gates() -> None:
    """Each that is shut is told, in the kubelet's words."""
    spec = pod(readinessGates=[{"conditionType": "a"}, {"conditionType": "b"}, {"conditionType": "c"}])
    spec["status"] = {"conditions": [{"type": "a", "status": "False"}, {"type": "b", "status": "True"}]}
    ready = conditions.get({"status": status_of(spec, record(main=RUNNING))}, "Ready")
    assert ready is not None
    assert ready["message"] == (
        'the status of pod readiness gate "a" is not "True", but False, '
        'corresponding condition of pod readiness gate "c" does not exist.'
    )


STATES = st.sampled_from([Container(), CREATED, RUNNING, FAILED, DONE])


@given(st.sampled_from(["Always", "OnFailure", "Never"]), STATES, STATES, st.booleans(), st.booleans())
def test_nothing_starts_in_a_pod_that_ends(
    policy: str, first: Container, second: Container, deleting: bool, sandbox: bool
) -> None:
    """Deleted or terminal pods never create or start, and Finish comes only when nothing runs."""
    spec = pod(policy, containers=[{"name": "main"}, {"name": "other"}])
    recorded = record(sandbox=sandbox, main=first, other=second)
    facts = Facts(NOW, is_deleting=deleting, are_volumes_ready=sandbox)
    actions = decide.decide(spec, recorded, facts).actions
    if deleting or decide.outcome(spec, recorded):
        assert not any(isinstance(a, Create | Start | SetUpSandbox | PrepareVolumes) for a in actions)
    if Finish() in actions:
        assert deleting
        assert not recorded.is_any_running


@given(STATES, STATES, st.sampled_from(["Always", "OnFailure", "Never"]), st.booleans())
def test_status_is_whole(first: Container, second: Container, policy: str, sandbox: bool) -> None:
    """Every container has exactly one state, and Ready implies every container ready."""
    spec = pod(policy, containers=[{"name": "main"}, {"name": "other"}])
    recorded = record(sandbox=sandbox, main=first, other=second)
    reported = status.status(spec, recorded, runtime="crun", host_ip="1.2.3.4", now=NOW, previous=[])
    assert all(len(s["state"]) == 1 for s in reported["containerStatuses"])
    if conditions.is_true({"status": reported}, "Ready"):
        assert all(s["ready"] for s in reported["containerStatuses"])
    again = status.status(
        spec, recorded, runtime="crun", host_ip="1.2.3.4", now=NOW + 60, previous=reported["conditions"]
    )
    assert again["conditions"] == reported["conditions"], "times move only with states"


@pytest.mark.parametrize("recorded", [record(), record(a=DONE)])
def test_a_pod_with_init_containers_is_initializing(recorded: Record) -> None:
    """Until the main container is made, as the kubelet has it; without init containers it is created."""
    for init, reason in (([{"name": "a"}], "PodInitializing"), ([], "ContainerCreating")):
        reported = status.status(
            pod(init=init), recorded, runtime="crun", host_ip="1.2.3.4", now=NOW, previous=[]
        )
        assert reported["containerStatuses"][0]["state"] == {"waiting": {"reason": reason}}


def test_a_reboot_loses_what_ran() -> None:
    """After a reboot running containers count as ended, ended ones stay as they were."""
    after = model.rebooted(record(main=RUNNING, other=DONE), "new", NOW + 1)
    lost, other = after.container("main").current, after.container("other").current
    assert lost is not None
    assert lost.reason == "ContainerStatusUnknown"
    assert other == DONE.current
    assert (after.boot, after.has_sandbox) == ("new", False)


def test_a_refused_pod_waits_for_nothing() -> None:
    """No container of it is said to be waiting: `kubectl get` would show that instead of the reason."""
    spec = {
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "c"}]},
    }
    refused = Record("u", "n", "p", "boot", NOW, failed_reason="UnsupportedField", failed_message="no")
    reported = status.status(spec, refused, runtime="crun", host_ip="1.2.3.4", now=NOW, previous=[])
    assert (reported["phase"], reported["reason"]) == ("Failed", "UnsupportedField")
    assert reported["containerStatuses"] == reported["initContainerStatuses"] == []


def test_a_new_sandbox_is_begun_from_the_beginning() -> None:
    """Init containers run again and the others after them; what will not run again stays as it ended."""
    spec = pod("OnFailure", [{"name": "i"}, SIDECAR], containers=[{"name": "main"}, {"name": "done"}])
    before = model.rebooted(record(i=DONE, side=RUNNING, main=RUNNING, done=DONE), "new", NOW)
    after = lifecycle.placed(spec, before, "10.0.0.3")
    assert after.container("done") == DONE
    for name in ("i", "side", "main"):
        container = after.container(name)
        assert container.current is None
        assert container.last == before.container(name).current
        assert container.next_number == 1, "no two runs share a name"
    always = pod(init=[{"name": "i"}])
    lost = model.rebooted(record(i=DONE, main=RUNNING), "new", NOW)
    again = lifecycle.placed(always, lost, "10.0.0.3")
    assert decide.decide(always, again, READY).actions == (Create("i"),)
    assert decide.phase(always, again) == "Pending"


def test_messages_share_their_room() -> None:
    """12 KiB for a pod: each container's share, and no character is cut in half."""
    ended = msgspec.structs.replace(attempt(code=1), message="é" * 2048)
    spec = pod("Never", containers=[{"name": name} for name in ("main", "b", "c", "d", "e")])
    reported = status_of(spec, record(main=Container(ended)))
    assert reported["containerStatuses"][0]["state"]["terminated"]["message"] == "é" * (12 * 1024 // 5 // 2)


def test_added_containers_are_told_apart() -> None:
    """They have statuses of their own, are never ready, and the pod is ready without them."""
    recorded = record(main=RUNNING, look=FAILED)
    reported = status.status(added(), recorded, runtime="crun", host_ip="1.2.3.4", now=NOW, previous=[])
    (look,) = reported["ephemeralContainerStatuses"]
    assert (look["name"], look["ready"], look["restartCount"]) == ("look", False, 0)
    assert "started" not in look
    assert look["state"]["terminated"]["exitCode"] == 1
    assert [each["name"] for each in reported["containerStatuses"]] == ["main"]
    assert {c["type"]: c["status"] for c in reported["conditions"]}["Ready"] == "True"
    assert model.field_path(added(), "look") == "spec.ephemeralContainers{look}"
