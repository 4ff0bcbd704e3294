"""The Pod row: readiness, restarts and the one-word status that sums up its containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import conditions, objects, pods
from ondol.api.tables import age, columns

_COLUMNS: Final = (
    columns.NAME,
    columns.string("Ready"),
    columns.string("Status"),
    columns.string("Restarts"),
    columns.AGE,
    columns.wide("IP"),
    columns.wide("Node"),
    columns.wide("Nominated Node"),
    columns.wide("Readiness Gates"),
)


@dataclass(frozen=True, slots=True)
class Summary:
    """What the row shows of a pod's containers."""

    reason: str
    ready: int
    total: int
    restarts: int
    last_restart: str = ""


def _cells(pod: columns.Document, now: float) -> Sequence[columns.Cell]:
    summary = summarize(pod)
    restarts = str(summary.restarts)
    if summary.restarts and summary.last_restart:
        restarts += f" ({age.since(summary.last_restart, now)} ago)"
    spec, status = objects.spec(pod), objects.status(pod)
    ips = status.get("podIPs") or ()
    return (
        objects.name(pod),
        f"{summary.ready}/{summary.total}",
        summary.reason,
        restarts,
        columns.age_of(pod, now),
        (ips[0].get("ip") if ips else status.get("podIP")) or "<none>",
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        _readiness_gates(pod),
    )


LAYOUT: Final = columns.Layout(_COLUMNS, _cells)


def _readiness_gates(pod: columns.Document) -> str:
    gates = objects.spec(pod).get("readinessGates") or ()
    passed = sum(conditions.is_true(pod, gate.get("conditionType", "")) for gate in gates)
    return f"{passed}/{len(gates)}" if gates else "<none>"


def summarize(pod: Mapping[str, Any]) -> Summary:
    """Status, readiness and restarts as `kubectl get pods` shows them."""
    initial = _initial(pod)
    initializing = initial.reason.startswith("Init:")
    summary = initial
    if not initializing or conditions.is_true(pod, "Initialized"):
        summary = _running(pod, initial)
    return Summary(
        _final(pod, summary.reason), summary.ready, summary.total, summary.restarts, summary.last_restart
    )


def _final(pod: Mapping[str, Any], reason: str) -> str:
    """The status column: `Terminating` for a pod being deleted, unless it has ended."""
    status = objects.status(pod)
    if not objects.is_deleting(pod):
        return reason
    if status.get("reason") == "NodeLost":
        return "Unknown"
    return reason if pods.is_terminal(pod) else "Terminating"


def _base_reason(pod: Mapping[str, Any]) -> str:
    status = objects.status(pod)
    scheduled = conditions.get(pod, "PodScheduled")
    if scheduled is not None and scheduled.get("reason") == "SchedulingGated":
        return "SchedulingGated"
    return str(status.get("reason") or status.get("phase") or "")


def _initial(pod: Mapping[str, Any]) -> Summary:
    """The summary of the init containers; the reason starts with `Init:` while they run."""
    spec = objects.spec(pod)
    declared = spec.get("initContainers") or ()
    sidecars = {c.get("name") for c in declared if c.get("restartPolicy") == "Always"}
    total = len(spec.get("containers") or ()) + len(sidecars)
    ready = restarts = 0
    last_restart = ""
    for index, container in enumerate(objects.status(pod).get("initContainerStatuses") or ()):
        restarts += container.get("restartCount") or 0
        last_restart = max(last_restart, _finished_before(container))
        sidecar = container.get("name") in sidecars
        if _succeeded(container):
            continue
        if sidecar and container.get("started"):
            ready += bool(container.get("ready"))
            continue
        reason = _init_reason(container, index, len(declared))
        return Summary(reason, ready, total, restarts, last_restart)
    return Summary(_base_reason(pod), ready, total, restarts, last_restart)


def _finished_before(container: Mapping[str, Any]) -> str:
    last = (container.get("lastState") or {}).get("terminated") or {}
    return str(last.get("finishedAt") or "")


def _succeeded(container: Mapping[str, Any]) -> bool:
    terminated = (container.get("state") or {}).get("terminated")
    return terminated is not None and not terminated.get("exitCode")


def _init_reason(container: Mapping[str, Any], index: int, total: int) -> str:
    state = container.get("state") or {}
    if (terminated := state.get("terminated")) is not None:
        return f"Init:{_terminated_reason(terminated)}"
    waiting = (state.get("waiting") or {}).get("reason")
    if waiting and waiting != "PodInitializing":
        return f"Init:{waiting}"
    return f"Init:{index}/{total}"


def _terminated_reason(terminated: Mapping[str, Any]) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _running(pod: Mapping[str, Any], initial: Summary) -> Summary:
    """The summary with the app containers; the first one that is not running gives the reason."""
    restarts, last_restart = _sidecar_restarts(pod)
    ready, reason, failed, has_running = initial.ready, initial.reason, "", False
    for container in reversed(objects.status(pod).get("containerStatuses") or ()):
        restarts += container.get("restartCount") or 0
        last_restart = max(last_restart, _finished_before(container))
        state = container.get("state") or {}
        if waiting := (state.get("waiting") or {}).get("reason"):
            reason = str(waiting)
        elif (terminated := state.get("terminated")) is not None:
            reason = _terminated_reason(terminated)
            failed = reason if terminated.get("exitCode") else failed
        elif container.get("ready") and state.get("running") is not None:
            has_running = True
            ready += 1
    if reason == "Completed":
        reason = _completed_reason(pod, has_running=has_running, failed=failed)
    return Summary(reason, ready, initial.total, restarts, last_restart)


def _completed_reason(pod: Mapping[str, Any], *, has_running: bool, failed: str) -> str:
    """The reason when one container completed: others may still run, or have failed."""
    if has_running and conditions.is_true(pod, "Ready"):
        return "Running"
    if failed:
        return failed
    return "NotReady" if has_running else "Completed"


def _sidecar_restarts(pod: Mapping[str, Any]) -> tuple[int, str]:
    declared = objects.spec(pod).get("initContainers") or ()
    sidecars = {c.get("name") for c in declared if c.get("restartPolicy") == "Always"}
    statuses = objects.status(pod).get("initContainerStatuses") or ()
    sidecar_statuses = [status for status in statuses if status.get("name") in sidecars]
    last = max((_finished_before(status) for status in sidecar_statuses), default="")
    return sum(status.get("restartCount") or 0 for status in sidecar_statuses), last
