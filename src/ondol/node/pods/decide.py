"""What to do next for a pod: one pure function from its spec, its record and the facts to actions.

The worker carries the actions out, records what came of them and asks again; nothing here waits. Where a
pod stands is its `Stage`; `STAGES` says of each what may be begun there and which may come next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from ondol.api import objects
from ondol.node import pod_spec
from ondol.node.pods import lifecycle, model, resizing
from ondol.node.pods.lifecycle import should_restart
from ondol.node.pods.model import (
    Attempt,
    Container,
    ContainerStep,
    Facts,
    PodStep,
    Record,
    Spec,
)

DEFAULT_GRACE_S: Final = 30
EVICTED: Final = "Evicted"
SEAL_AFTER_S: Final = 2.0
"""For so long what arrived at a pod before it was guarded may go on: callers come anew by then."""
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
class Guard:
    """Turn what arrives to the proxy; `seals` ends what arrived before, too."""

    seals: bool


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
    must_restart: bool = False
    """Another run takes its place, whatever the restart policy says."""


@dataclass(frozen=True, slots=True)
class Resize:
    """Give a container that runs the size that is allocated to it."""

    container: str


@dataclass(frozen=True, slots=True)
class EndResize:
    """All that runs has the size that is allocated to it."""


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


ContainerAction: TypeAlias = Create | Start | Stop | Resize
Action: TypeAlias = (
    SetUpSandbox
    | PrepareVolumes
    | RefreshVolumes
    | Guard
    | EndResize
    | Fail
    | TearDown
    | Finish
    | ContainerAction
)


class Stage(StrEnum):
    """Where a pod stands on this node."""

    PREPARING = "preparing"
    RUNNING = "running"
    STOPPING = "stopping"
    CLEARING = "clearing"
    OVER = "over"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class StageFacts:
    """One row of the table of stages."""

    meaning: str
    actions: tuple[type[Action], ...]
    """What may be begun there."""
    following: tuple[Stage, ...]
    """Which stages may come next."""


STAGES: Final[Mapping[Stage, StageFacts]] = {
    Stage.PREPARING: StageFacts(
        "the sandbox or the volumes are not there yet",
        (SetUpSandbox, PrepareVolumes, Fail),
        (Stage.RUNNING, Stage.STOPPING, Stage.CLEARING, Stage.LEAVING),
    ),
    Stage.RUNNING: StageFacts(
        "containers are made, run and are made again, each in its turn",
        (RefreshVolumes, Guard, Create, Start, Stop, Resize, EndResize, Fail),
        (Stage.STOPPING, Stage.CLEARING),
    ),
    Stage.STOPPING: StageFacts(
        "the pod is to end, and something of it runs or is under way: applications first, then sidecars",
        (Stop,),
        (Stage.CLEARING, Stage.OVER, Stage.LEAVING),
    ),
    Stage.CLEARING: StageFacts(
        "nothing runs; sandbox, mounts and volumes are given back",
        (TearDown,),
        (Stage.OVER, Stage.LEAVING),
    ),
    Stage.OVER: StageFacts(
        "Succeeded or Failed; only its logs are left, until it is deleted", (), (Stage.LEAVING,)
    ),
    Stage.LEAVING: StageFacts("deleted, and nothing is left but the object and the files", (Finish,), ()),
}


@dataclass(frozen=True, slots=True)
class Decision:
    stage: Stage
    actions: tuple[Action, ...] = ()
    wake_at: float | None = None
    """Ask again by then even if nothing happens."""


@dataclass(frozen=True, slots=True)
class _Ahead:
    """As a `Decision`, of a part of the pod."""

    actions: tuple[Action, ...] = ()
    wake_at: float | None = None


def decide(pod: Spec, record: Record, facts: Facts) -> Decision:
    match at := stage(pod, record, facts):
        case Stage.PREPARING | Stage.RUNNING:
            return _forward(at, pod, record, facts)
        case Stage.STOPPING:
            names = [name for name in _next_to_stop(pod, record) if ContainerStep(name) not in facts.busy]
            grace = _ending_grace_s(pod, record, facts)
            return Decision(at, tuple(Stop(name, grace) for name in names))
        case Stage.CLEARING:
            return Decision(at, () if facts.busy else (TearDown(),))
        case Stage.LEAVING:
            return Decision(at, () if facts.busy else (Finish(),))
        case Stage.OVER:
            return Decision(at)


def stage(pod: Spec, record: Record, facts: Facts) -> Stage:
    if not facts.is_deleting and not outcome(pod, record):
        is_ready = record.has_sandbox and facts.are_volumes_ready
        return Stage.RUNNING if is_ready else Stage.PREPARING
    if record.is_any_running or facts.busy - ENDING_STEPS:
        return Stage.STOPPING
    if record.has_sandbox or record.volumes or PodStep.TEARDOWN in facts.busy:
        return Stage.CLEARING
    return Stage.LEAVING if facts.is_deleting else Stage.OVER


ENDING_STEPS: Final = frozenset({PodStep.TEARDOWN, PodStep.FINISH})
"""The steps that only a pod that ends has."""


def _ending_grace_s(pod: Spec, record: Record, facts: Facts) -> float:
    is_evicted = record.failed_reason == EVICTED and not facts.is_deleting
    return EVICTION_GRACE_S if is_evicted else grace_s(pod)


def _forward(at: Stage, pod: Spec, record: Record, facts: Facts) -> Decision:
    """The next steps of a pod that is to run, unless it has run for as long as it may."""
    deadline = _deadline(pod, record)
    if deadline is not None and facts.now >= deadline:
        message = "Pod was active on the node longer than the specified deadline"
        return Decision(at, (Fail("DeadlineExceeded", message),))
    ahead = _running(pod, record, facts) if at is Stage.RUNNING else _preparing(record, facts)
    moments = [moment for moment in (ahead.wake_at, deadline) if moment is not None]
    return Decision(at, ahead.actions, min(moments, default=None))


def grace_s(pod: Spec) -> float:
    """How long its containers may take to end, in seconds: as the deletion says, else as the pod does."""
    seconds = objects.metadata(pod).get("deletionGracePeriodSeconds")
    if seconds is None:
        seconds = objects.spec(pod).get("terminationGracePeriodSeconds")
    return float(DEFAULT_GRACE_S if seconds is None else seconds)


def _deadline(pod: Spec, record: Record) -> float | None:
    seconds = objects.spec(pod).get("activeDeadlineSeconds")
    return None if seconds is None else record.start_time + float(seconds)


def _next_to_stop(pod: Spec, record: Record) -> list[str]:
    sidecars = [str(c["name"]) for c in pod_spec.init_containers(pod) if model.is_sidecar(c)]
    alive = [
        name
        for name, container in record.containers.items()
        if container.current is not None and (container.is_running or container.current.is_created)
    ]
    first = [name for name in alive if name not in sidecars]
    return first or [name for name in reversed(sidecars) if name in alive][:1]


def _preparing(record: Record, facts: Facts) -> _Ahead:
    actions: list[Action] = []
    if not record.has_sandbox and facts.is_proxy_gone and PodStep.SANDBOX not in facts.busy:
        actions.append(SetUpSandbox())
    if not facts.are_volumes_ready and PodStep.VOLUMES not in facts.busy:
        actions.append(PrepareVolumes())
    return _Ahead(tuple(actions))


def _running(pod: Spec, record: Record, facts: Facts) -> _Ahead:
    is_stale = facts.are_volumes_stale and PodStep.REFRESH not in facts.busy
    # Who looks for why a pod does not get on cannot wait for it.
    specs = [*runnable(pod, record), *pod_spec.ephemeral_containers(pod)]
    ahead = [_next_of(pod, spec, record, facts) for spec in specs]
    is_resized = record.resize_progress is not None and resizing.is_settled(pod, record)
    guard = _guard(record, facts)
    first = (
        *((RefreshVolumes(),) if is_stale else ()),
        *guard.actions,
        *((EndResize(),) if is_resized else ()),
    )
    return _Ahead(
        (*first, *(action for each in ahead for action in each.actions)),
        min((each.wake_at for each in (guard, *ahead) if each.wake_at is not None), default=None),
    )


def _guard(record: Record, facts: Facts) -> _Ahead:
    """What arrived before may end by itself for a while; a new pod has nothing that did."""
    if not facts.is_guard_asked or record.is_sealed or PodStep.GUARD in facts.busy:
        return _Ahead()
    if record.guarded_at is None or not record.is_any_running:
        return _Ahead((Guard(seals=not record.is_any_running),))
    due = record.guarded_at + SEAL_AFTER_S
    return _Ahead((Guard(seals=True),)) if facts.now >= due else _Ahead(wake_at=due)


def runnable(pod: Spec, record: Record) -> Sequence[Spec]:
    """The containers whose turn it is: sidecars so far and the next init container, else all.

    Once an application container has run the pod stays initialized, whatever becomes of a sidecar.
    """
    if has_begun(pod, record):
        return [*filter(model.is_sidecar, pod_spec.init_containers(pod)), *pod_spec.app_containers(pod)]
    sidecars: list[Spec] = []
    for spec in pod_spec.init_containers(pod):
        container = record.container(spec["name"])
        if model.is_sidecar(spec):
            sidecars.append(spec)
            if not (container.is_running and container.is_started):
                return sidecars
        elif not container.has_succeeded:
            return [*sidecars, spec]
    return [*sidecars, *pod_spec.app_containers(pod)]


def is_initialized(pod: Spec, record: Record) -> bool:
    return has_begun(pod, record) or all(
        record.container(spec["name"]).is_started
        if model.is_sidecar(spec)
        else record.container(spec["name"]).has_succeeded
        for spec in pod_spec.init_containers(pod)
    )


def _next_of(pod: Spec, spec: Spec, record: Record, facts: Facts) -> _Ahead:
    """The next step of one container."""
    name = str(spec["name"])
    container = lifecycle.afresh(spec, record.container(name))
    if ContainerStep(name) in facts.busy:
        return _Ahead()
    if container.is_running and container.current is not None:
        return _running_on(pod, spec, record, container.current, facts)
    if container.current is not None and container.current.is_created:
        return _Ahead((Start(name),)) if facts.is_gate_open else _Ahead()
    if container.has_exited and not should_restart(pod, spec, container):
        return _Ahead()
    if facts.now < container.retry_at:
        return _Ahead(wake_at=container.retry_at)
    return _Ahead((Create(name),))


def _running_on(pod: Spec, spec: Spec, record: Record, current: Attempt, facts: Facts) -> _Ahead:
    """A container that runs goes on, unless its image was changed or a probe has given it up."""
    name, grace = str(spec["name"]), grace_s(pod)
    unhealthy = facts.unhealthy.get(name)
    if current.image != spec.get("image", current.image):
        return _Ahead((Stop(name, grace, f"Container {name} definition changed, will be restarted"),))
    if unhealthy is not None:
        own = unhealthy.grace_s
        return _Ahead((Stop(name, grace if own is None else own, unhealthy.why),))
    match resizing.way(spec, current, record.allocated):
        case "restart":
            why = f"Container {name} resize requires restart"
            return _Ahead((Stop(name, grace, why, must_restart=True),))
        case "update":
            return _resize(name, record, facts)
        case "":
            return _Ahead()


def _resize(name: str, record: Record, facts: Facts) -> _Ahead:
    retry_at = record.resize_progress.retry_at if record.resize_progress else 0.0
    if ContainerStep(name, RESIZE) in facts.busy:
        return _Ahead()
    return _Ahead((Resize(name),)) if facts.now >= retry_at else _Ahead(wake_at=retry_at)


RESIZE: Final = "resize of"
"""The part of a container's step that resizes it: nothing else waits for it."""


def phase(pod: Spec, record: Record, *, is_starting: bool = False) -> str:
    """Pending, Running, Succeeded or Failed, as the kubelet reports it.

    Terminal only once nothing of the pod runs or is about to (`is_starting`): whoever sees the phase may
    take what the pod had. Source: the kubelet's `getPhase` and its status manager.
    """
    is_over = not (record.is_any_running or is_starting)
    if is_over and (terminal := outcome(pod, record)):
        return terminal
    if is_over and objects.is_deleting(pod):
        return _result([record.container(spec["name"]) for spec in pod_spec.app_containers(pod)])
    return "Running" if _is_under_way(pod, record) else "Pending"


def outcome(pod: Spec, record: Record) -> str:
    """Succeeded or Failed when that is how the pod ends by its own rules, else empty.

    Containers may still run: sidecars, and those of a pod that was given up.
    """
    if record.failed_reason or _has_failed_init(pod, record):
        return "Failed"
    containers = [(spec, record.container(spec["name"])) for spec in pod_spec.app_containers(pod)]
    if not containers or not is_initialized(pod, record):
        return ""
    if not all(c.has_exited and not should_restart(pod, spec, c) for spec, c in containers):
        return ""
    return _result([container for _, container in containers])


def _result(containers: Sequence[Container]) -> str:
    """A container that never ran, or whose end nobody saw, counts as failed."""
    return "Succeeded" if containers and all(c.has_succeeded for c in containers) else "Failed"


def _has_failed_init(pod: Spec, record: Record) -> bool:
    plain = [spec for spec in pod_spec.init_containers(pod) if not model.is_sidecar(spec)]
    containers = [(spec, record.container(spec["name"])) for spec in plain]
    return any(
        c.has_exited and not c.has_succeeded and not should_restart(pod, spec, c) for spec, c in containers
    )


def has_begun(pod: Spec, record: Record) -> bool:
    """Whether an application container runs or ran."""
    return any(record.container(spec["name"]).has_begun for spec in pod_spec.app_containers(pod))


def _is_under_way(pod: Spec, record: Record) -> bool:
    containers = [record.container(spec["name"]) for spec in pod_spec.app_containers(pod)]
    return bool(containers) and is_initialized(pod, record) and all(c.has_begun for c in containers)
