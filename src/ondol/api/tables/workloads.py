"""The columns of what makes pods, and of what limits how many are away: workloads, Jobs, budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ondol.api import conditions, labels, objects
from ondol.api.tables import age, columns
from ondol.api.tables.columns import AGE, NAME, Cell, Column, Document, Layout, integer, string, wide
from ondol.base import errors, timestamps


def _deployment(obj: Document, now: float) -> Sequence[Cell]:
    status = objects.status(obj)
    return (
        objects.name(obj),
        f"{status.get('readyReplicas') or 0}/{_replicas(obj)}",
        status.get("updatedReplicas") or 0,
        status.get("availableReplicas") or 0,
        columns.age_of(obj, now),
        *_template(objects.spec(obj)),
        selector_text(objects.spec(obj).get("selector"), ""),
    )


def _replica_set(obj: Document, now: float) -> Sequence[Cell]:
    status = objects.status(obj)
    return (
        objects.name(obj),
        _replicas(obj),
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        columns.age_of(obj, now),
        *_template(objects.spec(obj)),
        selector_text(objects.spec(obj).get("selector"), "<none>"),
    )


def _replicas(obj: Document) -> int:
    desired = objects.spec(obj).get("replicas")
    return 1 if desired is None else int(desired)


def _template(spec: Mapping[str, Any]) -> tuple[str, str]:
    """Names and images of the containers."""
    containers = objects.spec(spec.get("template") or {}).get("containers") or ()
    names = ",".join(c.get("name", "") for c in containers)
    return names, ",".join(c.get("image", "") for c in containers)


def selector_text(selector: Any, empty: str) -> str:
    try:
        return str(labels.from_document(selector)) or empty
    except errors.BadRequest:
        return "<invalid>"


def _pairs(chosen: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((chosen or {}).items())) or "<none>"


def _stateful_set(obj: Document, now: float) -> Sequence[Cell]:
    ready = objects.status(obj).get("readyReplicas") or 0
    template = _template(objects.spec(obj))
    return objects.name(obj), f"{ready}/{_replicas(obj)}", columns.age_of(obj, now), *template


_COUNTED: Final = (
    "desiredNumberScheduled",
    "currentNumberScheduled",
    "numberReady",
    "updatedNumberScheduled",
    "numberAvailable",
)


def _daemon_set(obj: Document, now: float) -> Sequence[Cell]:
    spec, status = objects.spec(obj), objects.status(obj)
    return (
        objects.name(obj),
        *(status.get(field) or 0 for field in _COUNTED),
        _pairs(objects.spec(spec.get("template") or {}).get("nodeSelector")),
        columns.age_of(obj, now),
        *_template(spec),
        selector_text(spec.get("selector"), "<none>"),
    )


def _replication_controller(obj: Document, now: float) -> Sequence[Cell]:
    spec, status = objects.spec(obj), objects.status(obj)
    return (
        objects.name(obj),
        spec.get("replicas") or 0,
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        columns.age_of(obj, now),
        *_template(spec),
        _pairs(spec.get("selector")),
    )


def _pod_template(obj: Document, now: float) -> Sequence[Cell]:
    del now
    return objects.name(obj), *_template(obj), _pairs(objects.labels(obj.get("template") or {}))


def _controller_revision(obj: Document, now: float) -> Sequence[Cell]:
    owner = objects.controller_of(obj)
    controller = "<none>"
    if owner is not None:
        group = str(owner.get("apiVersion") or "").rpartition("/")[0]
        kind = str(owner.get("kind") or "").lower()
        controller = f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"
    return objects.name(obj), controller, obj.get("revision") or 0, columns.age_of(obj, now)


_PHASES: Final = (
    ("Complete", "Complete"),
    ("Failed", "Failed"),
    ("", "Terminating"),
    ("Suspended", "Suspended"),
    ("FailureTarget", "FailureTarget"),
    ("SuccessCriteriaMet", "SuccessCriteriaMet"),
)
"""Conditions of a Job and what is shown for the first that holds; none stands for being deleted."""


def _job(obj: Document, now: float) -> Sequence[Cell]:
    spec = objects.spec(obj)
    return (
        objects.name(obj),
        next((shown for kind, shown in _PHASES if _holds(obj, kind)), "Running"),
        _completions(obj),
        _duration(obj, now),
        columns.age_of(obj, now),
        *_template(spec),
        selector_text(spec.get("selector"), "<none>"),
    )


def _holds(job: Document, condition: str) -> bool:
    return conditions.is_true(job, condition) if condition else objects.is_deleting(job)


def _completions(job: Document) -> str:
    spec, succeeded = objects.spec(job), objects.status(job).get("succeeded") or 0
    if spec.get("completions") is not None:
        return f"{succeeded}/{spec['completions']}"
    parallelism = spec.get("parallelism") or 0
    return f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"


def _duration(job: Document, now: float) -> str:
    status = objects.status(job)
    if not status.get("startTime"):
        return ""
    ended = status.get("completionTime")
    end = timestamps.parse_rfc3339(str(ended)) if ended else now
    return age.human(end - timestamps.parse_rfc3339(str(status["startTime"])))


def _cron_job(obj: Document, now: float) -> Sequence[Cell]:
    spec, status = objects.spec(obj), objects.status(obj)
    job = objects.spec(spec.get("jobTemplate") or {})
    last = status.get("lastScheduleTime")
    suspended = spec.get("suspend")
    return (
        objects.name(obj),
        spec.get("schedule") or "",
        spec.get("timeZone") or "<none>",
        "<unset>" if suspended is None else str(bool(suspended)),
        len(status.get("active") or ()),
        age.since(last, now) if last else "<none>",
        columns.age_of(obj, now),
        *_template(job),
        selector_text(job.get("selector"), "<none>"),
    )


def _disruption_budget(obj: Document, now: float) -> Sequence[Cell]:
    spec = objects.spec(obj)
    limits = [spec.get(field) for field in ("minAvailable", "maxUnavailable")]
    cells = ["N/A" if limit is None else str(limit) for limit in limits]
    allowed = objects.status(obj).get("disruptionsAllowed") or 0
    return objects.name(obj), *cells, allowed, columns.age_of(obj, now)


_WORKLOAD: Final = (wide("Containers"), wide("Images"), wide("Selector"))
_REPLICATED: Final = (NAME, integer("Desired"), integer("Current"), integer("Ready"), AGE, *_WORKLOAD)

LAYOUTS: Final[Mapping[tuple[str, str], Layout]] = {
    ("", "PodTemplate"): Layout(
        (NAME, string("Containers"), string("Images"), string("Pod Labels")), _pod_template
    ),
    ("", "ReplicationController"): Layout(_REPLICATED, _replication_controller),
    ("apps", "ControllerRevision"): Layout(
        (NAME, string("Controller"), string("Revision"), AGE), _controller_revision
    ),
    ("apps", "DaemonSet"): Layout(
        (
            NAME,
            *(integer(name) for name in ("Desired", "Current", "Ready", "Up-to-date", "Available")),
            string("Node Selector"),
            AGE,
            *_WORKLOAD,
        ),
        _daemon_set,
    ),
    ("apps", "Deployment"): Layout(
        (NAME, string("Ready"), string("Up-to-date"), string("Available"), AGE, *_WORKLOAD), _deployment
    ),
    ("apps", "ReplicaSet"): Layout(_REPLICATED, _replica_set),
    ("apps", "StatefulSet"): Layout((NAME, string("Ready"), AGE, *_WORKLOAD[:2]), _stateful_set),
    ("batch", "CronJob"): Layout(
        (
            NAME,
            string("Schedule"),
            string("Timezone"),
            Column("Suspend", "boolean"),
            integer("Active"),
            string("Last Schedule"),
            AGE,
            *_WORKLOAD,
        ),
        _cron_job,
    ),
    ("batch", "Job"): Layout(
        (NAME, string("Status"), string("Completions"), string("Duration"), AGE, *_WORKLOAD), _job
    ),
    ("policy", "PodDisruptionBudget"): Layout(
        (NAME, string("Min Available"), string("Max Unavailable"), integer("Allowed Disruptions"), AGE),
        _disruption_budget,
    ),
}
