"""What to do next for a pod: one pure function from what is wanted and known to actions.

The worker carries the actions out, records what came of them and asks again; nothing here waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from ondol.api import objects
from ondol.base.backoff import Backoff
from ondol.node.pods import model
from ondol.node.pods.model import Attempt, Container, Facts, Record, Spec, Unhealthy
from ondol.node.runtime.port import Exit

CLEAN_RUN_S: Final = 600.0
DEFAULT_GRACE_S: Final = 30
EVICTED: Final = "Evicted"
EVICTION_GRACE_S: Final = 1.0  # as the kubelet's immediate eviction


@dataclass(frozen=True, slots=True)
class SetUpSandbox:
    """Make namespaces, address and rules."""


@dataclass(frozen=True, slots=True)
class PrepareVolumes:
    """Make every volume's content."""


@dataclass(frozen=True, slots=True)
class RefreshVolumes:
    """Bring the content of written volumes up to date with what they show."""


@dataclass(frozen=True, slots=True)
class Create:
    """Bring the image, stack the root, make the container; it does not run yet."""

    container: str


@dataclass(frozen=True, slots=True)
class Start:
    container: str


@dataclass(frozen=True, slots=True)
class Stop:
    """preStop hook, stop signal, grace, SIGKILL."""

    container: str
    grace_s: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Fail:
    """The pod as a whole has failed for a reason of its own."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class TearDown:
    """Nothing runs and nothing will: give sandbox and mounts back."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left: remove the object and what the disk knows of it."""


Action: TypeAlias = (
    SetUpSandbox | PrepareVolumes | RefreshVolumes | Create | Start | Stop | Fail | TearDown | Finish
)


@dataclass(frozen=True, slots=True)
class Decision:
    actions: tuple[Action, ...] = ()
    wake_at: float | None = None
    """Ask again by then even if nothing happens."""


def decide(pod: Spec, record: Record, facts: Facts) -> Decision:
    if facts.is_deleting:
        return _ending(pod, record, facts, grace_s(pod), is_final=True)
    if outcome(pod, record):
        grace = EVICTION_GRACE_S if record.failed_reason == EVICTED else grace_s(pod)
        return _ending(pod, record, facts, grace, is_final=False)
    deadline = _deadline(pod, record)
    if deadline is not None and facts.now >= deadline:
        message = "Pod was active on the node longer than the specified deadline"
        return Decision((Fail("DeadlineExceeded", message),))
    return _earliest(_running(pod, record, facts), deadline)


def grace_s(pod: Spec) -> float:
    given = objects.metadata(pod).get("deletionGracePeriodSeconds")
    if given is None:
        given = objects.spec(pod).get("terminationGracePeriodSeconds")
    return float(DEFAULT_GRACE_S if given is None else given)


def _deadline(pod: Spec, record: Record) -> float | None:
    seconds = objects.spec(pod).get("activeDeadlineSeconds")
    return None if seconds is None else record.start_time + float(seconds)


def _earliest(decision: Decision, moment: float | None) -> Decision:
    moments = [m for m in (decision.wake_at, moment) if m is not None]
    return Decision(decision.actions, min(moments) if moments else None)


def _ending(pod: Spec, record: Record, facts: Facts, grace: float, *, is_final: bool) -> Decision:
    """Applications stop first, sidecars after them in reverse order, then everything goes back."""
    if record.is_any_running:
        return Decision(
            tuple(Stop(name, grace) for name in _next_to_stop(pod, record) if name not in facts.busy)
        )
    if facts.busy:
        return Decision()
    if record.has_sandbox or facts.are_volumes_ready:
        return Decision((TearDown(),))
    return Decision((Finish(),)) if is_final else Decision()


def _next_to_stop(pod: Spec, record: Record) -> list[str]:
    sidecars = [str(c["name"]) for c in model.init_containers(pod) if model.is_sidecar(c)]
    alive = [
        name
        for name, container in record.containers.items()
        if container.current is not None and (container.is_running or container.current.is_created)
    ]
    first = [name for name in alive if name not in sidecars]
    return first or [name for name in reversed(sidecars) if name in alive][:1]


def _running(pod: Spec, record: Record, facts: Facts) -> Decision:
    actions: list[Action] = []
    if not record.has_sandbox and facts.is_proxy_gone and "sandbox" not in facts.busy:
        actions.append(SetUpSandbox())
    if not facts.are_volumes_ready and "volumes" not in facts.busy:
        actions.append(PrepareVolumes())
    if not record.has_sandbox or not facts.are_volumes_ready:
        return Decision(tuple(actions))
    if facts.are_volumes_stale and "refresh" not in facts.busy:
        actions.append(RefreshVolumes())
    decisions = [_forward(pod, spec, record, facts) for spec in runnable(pod, record)]
    return Decision(
        (*actions, *(action for decision in decisions for action in decision.actions)),
        min((d.wake_at for d in decisions if d.wake_at is not None), default=None),
    )


def runnable(pod: Spec, record: Record) -> Sequence[Spec]:
    """The containers whose turn it is: sidecars so far and the next init container, else all.

    Once an application container has run the pod stays initialized, whatever becomes of a sidecar.
    """
    if has_begun(pod, record):
        return [*filter(model.is_sidecar, model.init_containers(pod)), *model.app_containers(pod)]
    sidecars: list[Spec] = []
    for spec in model.init_containers(pod):
        container = record.container(spec["name"])
        if model.is_sidecar(spec):
            sidecars.append(spec)
            if not (container.is_running and container.is_started):
                return sidecars
        elif not container.has_succeeded:
            return [*sidecars, spec]
    return [*sidecars, *model.app_containers(pod)]


def is_initialized(pod: Spec, record: Record) -> bool:
    return has_begun(pod, record) or all(
        record.container(spec["name"]).is_started
        if model.is_sidecar(spec)
        else record.container(spec["name"]).has_succeeded
        for spec in model.init_containers(pod)
    )


def _forward(pod: Spec, spec: Spec, record: Record, facts: Facts) -> Decision:
    """The next step of one container."""
    name = str(spec["name"])
    container = afresh(spec, record.container(name))
    if name in facts.busy:
        return Decision()
    if container.is_running and container.current is not None:
        return _running_on(pod, spec, container.current, facts.unhealthy.get(name))
    if container.current is not None and container.current.is_created:
        return Decision((Start(name),)) if facts.is_gate_open else Decision()
    if container.has_exited and not should_restart(pod, spec, container):
        return Decision()
    if facts.now < container.retry_at:
        return Decision(wake_at=container.retry_at)
    return Decision((Create(name),))


def afresh(spec: Spec, container: Container) -> Container:
    """The container as it stands for its image: the back-off was from another one if that was changed."""
    if container.tried_image in ("", spec.get("image", "")):
        return container
    return msgspec.structs.replace(container, failures=0, retry_at=0.0)


def begun_anew(pod: Spec, record: Record) -> Record:
    """The record for a new sandbox: what is to run runs from the beginning, init containers too.

    They may have filled what is gone with the machine's last run: memory, the network. Source: the kubelet's
    `computePodActions`.
    """
    renewed = dict(record.containers)
    for spec in model.all_containers(pod):
        container = record.container(spec["name"])
        is_init = spec in model.init_containers(pod) and not model.is_sidecar(spec)
        if container.has_exited and (is_init or should_restart(pod, spec, container)):
            renewed[str(spec["name"])] = msgspec.structs.replace(
                container, current=None, last=container.current, is_started=False, is_ready=False
            )
    return msgspec.structs.replace(record, containers=renewed)


def _running_on(pod: Spec, spec: Spec, current: Attempt, unhealthy: Unhealthy | None) -> Decision:
    """A container that runs goes on, unless its image was changed or a probe has given it up."""
    name, grace = str(spec["name"]), grace_s(pod)
    if current.image != spec.get("image", current.image):
        return Decision((Stop(name, grace, f"Container {name} definition changed, will be restarted"),))
    if unhealthy is not None:
        own = unhealthy.grace_s
        return Decision((Stop(name, grace if own is None else own, unhealthy.why),))
    return Decision()


def should_restart(pod: Spec, spec: Spec, container: Container) -> bool:
    """Whether a container that ended runs again, by the pod's restart policy."""
    if model.is_sidecar(spec):
        return True
    policy = model.restart_policy(pod)
    is_init = any(spec["name"] == init["name"] for init in model.init_containers(pod))
    if container.has_succeeded:
        return policy == "Always" and not is_init
    return policy != "Never"


def exited(container: Container, ended: Exit, *, message: str, backoff: Backoff) -> Container:
    """The container after its end: reason, and when it may run again (at once after a first failure)."""
    attempt = container.current
    if attempt is None:
        return container
    reason = "OOMKilled" if ended.oom_killed else "Completed" if ended.code == 0 else "Error"
    over = msgspec.structs.replace(
        attempt, exit=ended, reason=attempt.reason or reason, message=message or attempt.message
    )
    was_clean = attempt.started_at > 0 and ended.finished_at - attempt.started_at >= CLEAN_RUN_S
    failures = 1 if was_clean else container.failures + 1
    wait_s = backoff.delay_s(failures - 1) if failures > 1 else 0.0
    return msgspec.structs.replace(
        container,
        current=over,
        failures=failures,
        retry_at=ended.finished_at + wait_s if wait_s else 0.0,
        is_ready=False,
        is_started=False,
        waiting_reason="",
        waiting_message="",
    )


def phase(pod: Spec, record: Record, *, is_starting: bool = False) -> str:
    """Pending, Running, Succeeded or Failed, as the kubelet reports it.

    Terminal only once nothing of the pod runs or is about to (`is_starting`): whoever sees the phase may
    take what the pod had. Source: the kubelet's `getPhase` and its status manager.
    """
    is_over = not (record.is_any_running or is_starting)
    if is_over and (terminal := outcome(pod, record)):
        return terminal
    if is_over and objects.is_deleting(pod):
        return _result([record.container(spec["name"]) for spec in model.app_containers(pod)])
    return "Running" if _is_under_way(pod, record) else "Pending"


def outcome(pod: Spec, record: Record) -> str:
    """Succeeded or Failed when that is how the pod ends by its own rules, else empty.

    Containers may still run: sidecars, and those of a pod that was given up.
    """
    if record.failed_reason or _has_failed_init(pod, record):
        return "Failed"
    containers = [(spec, record.container(spec["name"])) for spec in model.app_containers(pod)]
    if not containers or not is_initialized(pod, record):
        return ""
    if not all(c.has_exited and not should_restart(pod, spec, c) for spec, c in containers):
        return ""
    return _result([container for _, container in containers])


def _result(containers: Sequence[Container]) -> str:
    """A container that never ran, or whose end nobody saw, counts as failed."""
    return "Succeeded" if containers and all(c.has_succeeded for c in containers) else "Failed"


def _has_failed_init(pod: Spec, record: Record) -> bool:
    if model.restart_policy(pod) != "Never":
        return False
    return any(
        not model.is_sidecar(spec)
        and record.container(spec["name"]).has_exited
        and not record.container(spec["name"]).has_succeeded
        for spec in model.init_containers(pod)
    )


def has_begun(pod: Spec, record: Record) -> bool:
    """Whether an application container runs or ran."""
    return any(record.container(spec["name"]).has_begun for spec in model.app_containers(pod))


def _is_under_way(pod: Spec, record: Record) -> bool:
    containers = [record.container(spec["name"]) for spec in model.app_containers(pod)]
    return bool(containers) and is_initialized(pod, record) and all(c.has_begun for c in containers)
