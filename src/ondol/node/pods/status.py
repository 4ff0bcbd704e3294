"""A pod's status as a pure function of its record: phase, conditions and container states."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ondol.api import conditions, objects, pods, quality, resizes
from ondol.api.objects import Object
from ondol.base import clock
from ondol.contracts import mesh
from ondol.node import pod_spec, value_sources
from ondol.node.pods import decide, lifecycle, model, planning
from ondol.node.pods.model import Attempt, Container, Record, Spec

_CONDITIONS: Final = (
    mesh.SANDBOX_READY,
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    mesh.POD_ARRIVALS_TURNED,
)
_TURNED: Final = mesh.POD_ARRIVALS_TURNED

_DISRUPTED: Final = "DisruptionTarget"
_MESSAGES_MAX: Final = 12 * 1024
"""Bytes of all a pod's termination messages; each container has its share (as in the kubelet)."""


def status(
    pod: Spec,
    record: Record,
    *,
    runtime: str,
    host_ip: str,
    now: float,
    previous: Sequence[Mapping[str, Any]],
    is_starting: bool = False,
) -> Object:
    """The whole status this node answers for; conditions of others are not in it.

    `is_starting`: a container is being made or started that the record does not name yet.
    """
    phase = decide.phase(pod, record, is_starting=is_starting)
    document: Object = {
        "phase": phase,
        "conditions": _conditions(pod, record, phase, now, previous),
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "startTime": clock.rfc3339(record.start_time),
        "containerStatuses": _statuses(pod, record, pod_spec.app_containers(pod), runtime, now),
        "qosClass": quality.of(pod),
    }
    if pod_spec.init_containers(pod):
        document["initContainerStatuses"] = _statuses(
            pod, record, pod_spec.init_containers(pod), runtime, now
        )
    if ephemeral := pod_spec.ephemeral_containers(pod):
        document["ephemeralContainerStatuses"] = [
            _unprobed(each) for each in _statuses(pod, record, ephemeral, runtime, now)
        ]
    is_placed = record.has_sandbox or bool(record.containers)
    address = host_ip if objects.spec(pod).get("hostNetwork") and is_placed else record.address
    if address:
        document |= {"podIP": address, "podIPs": [{"ip": address}]}
    if record.failed_reason and phase == "Failed":
        document |= {"reason": record.failed_reason, "message": record.failed_message}
    generation = objects.metadata(pod).get("generation")
    return document if generation is None else {"observedGeneration": generation, **document}


def merge_patch(desired: Object, previous: Sequence[Mapping[str, Any]] = ()) -> Object:
    """The status as a strategic merge: what it no longer says is taken out of the one that is there.

    Addresses are replaced, not merged: a pod that was given a new one has lost the old. `previous`: the
    conditions that were written last.
    """
    unsaid = {"reason": None, "message": None}
    addresses = {name: [{"$patch": "replace"}, *desired.get(name, ())] for name in ("podIPs", "hostIPs")}
    listed = [{**unsaid, **condition} for condition in desired["conditions"]]
    types = {condition["type"] for condition in listed}
    before = {condition["type"] for condition in previous}
    over = [{"$patch": "delete", "type": t} for t in resizes.CONDITIONS if t in before - types]
    return {"podIP": None, **desired, **addresses, "conditions": [*listed, *over]}


def _conditions(
    pod: Spec, record: Record, phase: str, now: float, previous: Sequence[Mapping[str, Any]]
) -> list[Object]:
    generation = objects.metadata(pod).get("generation")
    changes = _resizes(record) if phase not in pods.TERMINAL else {}
    if record.failed_reason == decide.EVICTED:
        changes[_DISRUPTED] = model.Resize(generation or 0, "TerminationByKubelet", record.failed_message)
    kept = (*_CONDITIONS, *changes)
    own = [dict(condition) for condition in previous if condition.get("type") in kept]
    judged = "Failed" if record.failed_reason else phase
    values = {
        mesh.SANDBOX_READY: (record.has_sandbox, "", ""),
        "Initialized": _initialized(pod, record, judged),
        "Ready": _ready(pod, record, judged),
        "ContainersReady": _containers_ready(pod, record, judged),
        "PodScheduled": (True, "", ""),
    }
    if record.guarded_at is not None or conditions.get({"status": {"conditions": own}}, _TURNED):
        values[_TURNED] = (record.has_sandbox and record.guarded_at is not None, "", "")
    for name, (is_true, reason, message) in values.items():
        state: conditions.Status = "True" if is_true else "False"
        own = conditions.set(
            own, name, state, reason=reason, message=message, now=now, observed_generation=generation
        )
    for name, change in changes.items():
        own = conditions.set(
            own,
            name,
            "True",
            reason=change.reason,
            message=change.message,
            now=now,
            observed_generation=change.generation or None,
        )
    return own


def _resizes(record: Record) -> dict[str, model.Resize]:
    changes = {resizes.PENDING: record.resize_pending, resizes.IN_PROGRESS: record.resize_progress}
    return {name: change for name, change in changes.items() if change is not None}


_Verdict = tuple[bool, str, str]


def _initialized(pod: Spec, record: Record, phase: str) -> _Verdict:
    if phase == "Succeeded":
        return True, "PodCompleted", ""
    if decide.is_initialized(pod, record):
        return True, "", ""
    pending = [
        str(spec["name"])
        for spec in pod_spec.init_containers(pod)
        if not record.container(spec["name"]).has_succeeded and not record.container(spec["name"]).is_started
    ]
    return False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(pending)}]"


def _containers_ready(pod: Spec, record: Record, phase: str) -> _Verdict:
    if phase == "Succeeded":
        return False, "PodCompleted", ""
    if phase == "Failed":
        return False, "PodFailed", ""
    needed = [s for s in pod_spec.init_containers(pod) if model.is_sidecar(s)] + pod_spec.app_containers(pod)
    unready = [str(s["name"]) for s in needed if not is_ready(s, record.container(s["name"]))]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return True, "", ""


def _ready(pod: Spec, record: Record, phase: str) -> _Verdict:
    verdict = _containers_ready(pod, record, phase)
    if not verdict[0]:
        return verdict
    shut = [text for gate in objects.spec(pod).get("readinessGates") or () if (text := _shut(pod, gate))]
    return (False, "ReadinessGatesNotReady", ", ".join(shut)) if shut else (True, "", "")


def _shut(pod: Spec, gate: Spec) -> str:
    """What keeps a readiness gate shut, in the kubelet's words; empty when it is open."""
    name = gate["conditionType"]
    condition = conditions.get(pod, name)
    if condition is None:
        return f'corresponding condition of pod readiness gate "{name}" does not exist.'
    state = condition.get("status")
    return (
        ""
        if state == conditions.TRUE
        else f'the status of pod readiness gate "{name}" is not "True", but {state}'
    )


def is_ready(spec: Spec, container: Container) -> bool:
    """Running, started up, and its readiness probe (if it has one) says yes."""
    if not container.is_running or not container.is_started:
        return False
    return container.is_ready or not spec.get("readinessProbe")


def _statuses(pod: Spec, record: Record, specs: Sequence[Spec], runtime: str, now: float) -> list[Object]:
    """Of each container; of a pod that was given up, only those that ever began.

    A container that waits for ever would hide the pod's reason: `kubectl get` shows what it waits for.
    """
    statuses = [_container(pod, record, spec, runtime, now) for spec in specs]
    if not record.failed_reason:
        return statuses
    return [each for each in statuses if "waiting" not in each["state"] or each["lastState"]]


def _unprobed(document: Object) -> Object:
    """Of a container that nobody waits for: it is never ready."""
    return {**{field: value for field, value in document.items() if field != "started"}, "ready": False}


def _container(pod: Spec, record: Record, spec: Spec, runtime: str, now: float) -> Object:
    container = record.container(spec["name"])
    attempt = None if _is_first_in_making(container) else container.current
    is_init = any(spec is init for init in pod_spec.init_containers(pod)) and not model.is_sidecar(spec)
    ready = container.has_succeeded if is_init else is_ready(spec, container)
    state, last = _states(pod, record, spec, runtime, now)
    document: Object = {
        "name": spec["name"],
        "image": attempt.image if attempt else spec.get("image", ""),
        "imageID": attempt.image_id if attempt else "",
        "ready": ready,
        "started": container.is_running and container.is_started,
        "restartCount": container.restarts,
        "state": state,
        "lastState": last,
    }
    if attempt is not None and attempt.handle is not None:
        document["containerID"] = _id(attempt, runtime)
    if mounts := _mounts(spec):
        document["volumeMounts"] = mounts
    return document | _sizes(spec, attempt, record)


def _is_first_in_making(container: Container) -> bool:
    """Made but not started, and none before it was: nothing to tell of but that it is being created."""
    attempt = container.current
    return attempt is not None and not (container.is_running or attempt.exit or container.restarts)


def _mounts(spec: Spec) -> list[Object]:
    """How each volume is mounted, where one asks for more than that it is read-only itself."""
    mounts = spec.get("volumeMounts") or ()
    if not any((mount.get("recursiveReadOnly") or "Disabled") != "Disabled" for mount in mounts):
        return []
    return [_mount(mount) for mount in mounts]


def _mount(mount: Spec) -> Object:
    shown: Object = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if not mount.get("readOnly"):
        return shown
    try:
        is_recursive = planning.is_recursively_read_only(mount, platform.release())
    except value_sources.ConfigMissing:
        is_recursive = False
    return {**shown, "readOnly": True, "recursiveReadOnly": "Enabled" if is_recursive else "Disabled"}


def _id(attempt: Attempt, runtime: str) -> str:
    own = attempt.handle.runtime if attempt.handle is not None else ""
    return f"{own or runtime}://{attempt.id}"


def _sizes(spec: Spec, attempt: Attempt | None, record: Record) -> Object:
    """What is allocated to the container, and what it runs with."""
    allocated: Object = record.allocated.get(str(spec["name"])) or dict(spec.get("resources") or {})
    actual = attempt.resources if attempt is not None and attempt.is_running else None
    sizes: Object = {"resources": actual} if actual else {"resources": allocated} if allocated else {}
    return sizes | ({"allocatedResources": r} if (r := allocated.get("requests")) else {})


def _states(pod: Spec, record: Record, spec: Spec, runtime: str, now: float) -> tuple[Object, Object]:
    container = record.container(spec["name"])
    attempt = container.current
    room = _MESSAGES_MAX // max(sum(1 for _ in pod_spec.all_containers(pod)), 1)
    before = {"terminated": _terminated(container.last, runtime, room)} if container.last else {}
    if attempt is not None and attempt.is_running:
        return {"running": {"startedAt": clock.rfc3339(attempt.started_at)}}, before
    if attempt is not None and attempt.exit is not None:
        over = {"terminated": _terminated(attempt, runtime, room)}
        if container.waiting_reason:
            return {"waiting": _reasoned(container.waiting_reason, container.waiting_message)}, over
        will_restart = lifecycle.should_restart(pod, spec, container) and not record.failed_reason
        if container.retry_at > now and will_restart:
            return {"waiting": _crash_loop(record, spec, container, attempt)}, over
        return over, before
    return {"waiting": _reasoned(waiting_reason(pod, container), container.waiting_message)}, before


def waiting_reason(pod: Spec, container: Container) -> str:
    """Why it does not run yet; in a pod with init containers the kubelet calls all of it initializing."""
    default = "PodInitializing" if pod_spec.init_containers(pod) else "ContainerCreating"
    return container.waiting_reason or default


def _reasoned(reason: str, message: str) -> Object:
    return {"reason": reason, "message": message} if message else {"reason": reason}


def _crash_loop(record: Record, spec: Spec, container: Container, attempt: Attempt) -> Object:
    wait_s = container.retry_at - (attempt.exit.finished_at if attempt.exit else 0.0)
    who = f"{record.name}_{record.namespace}({record.uid})"
    message = f"back-off {wait_s:.0f}s restarting failed container={spec['name']} pod={who}"
    return {"reason": "CrashLoopBackOff", "message": message}


def _terminated(attempt: Attempt, runtime: str, room: int) -> Object:
    ended = attempt.exit
    state: Object = {"exitCode": ended.code if ended else 0, "reason": attempt.reason}
    if ended is not None:
        begun = attempt.started_at or ended.finished_at
        state |= {"startedAt": clock.rfc3339(begun), "finishedAt": clock.rfc3339(ended.finished_at)}
    if attempt.message:
        state["message"] = attempt.message.encode()[:room].decode(errors="ignore")
    if attempt.handle is not None:
        state["containerID"] = _id(attempt, runtime)
    return state
