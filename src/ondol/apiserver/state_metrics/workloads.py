"""`kube_deployment_*`, `kube_job_*` and so on: what makes pods, and what sizes it."""

from __future__ import annotations

import functools
import zoneinfo
from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Any, Final

from ondol.api import conditions, cron, objects, resources, shares
from ondol.api.objects import Object
from ondol.apiserver.state_metrics.families import (
    Family,
    Sample,
    Subject,
    amount,
    at,
    condition_statuses,
    created,
    deleted,
    each_of,
    exists,
    generation,
    info,
    moment,
    namespaced,
    number,
    one,
    owned,
    revision,
    seconds,
    truths,
)

# Deployments, replica sets, replication controllers


def _status(noun: str, suffix: str, field: str, what: str) -> Family:
    """A number of the status; 0 where it is not written."""
    return number(f"kube_{noun}_status_{suffix}", what, "status", field, default=0)


_PROGRESS_REASONS: Final = frozenset(
    {
        "ReplicaSetUpdated",
        "ReplicaSetCreateError",
        "NewReplicaSetCreated",
        "FoundNewReplicaSet",
        "NewReplicaSetAvailable",
        "ProgressDeadlineExceeded",
        "DeploymentPaused",
        "DeploymentResumed",
        "MinimumReplicasAvailable",
        "MinimumReplicasUnavailable",
        "FailedCreate",
    }
)


def _deployment_conditions(deployment: Object) -> Iterable[Sample]:
    for condition in conditions.of(deployment):
        reason = str(condition.get("reason") or "")
        usual = reason if reason in _PROGRESS_REASONS else "unknown"
        labels = (("reason", usual), ("condition", str(condition.get("type"))))
        yield from truths(str(condition.get("status")), "status", *labels)


def _rolling(deployment: Object, field: str, *, up: bool) -> Iterable[Sample]:
    """A share of the replicas, in pods, as the rollout takes it."""
    share = at(deployment, "spec", "strategy", "rollingUpdate", field)
    if share is None:
        return ()
    return one(shares.scaled(share, int(objects.spec(deployment).get("replicas") or 0), up=up))


DEPLOYMENT: Final = Subject(
    resources.DEPLOYMENT,
    "deployment",
    namespaced("deployment"),
    (
        created("deployment"),
        deleted("deployment"),
        generation("deployment"),
        owned("deployment"),
        _status("deployment", "replicas", "replicas", "Its pods."),
        _status("deployment", "replicas_ready", "readyReplicas", "Its ready pods."),
        _status("deployment", "replicas_available", "availableReplicas", "Its available pods."),
        _status(
            "deployment",
            "replicas_unavailable",
            "unavailableReplicas",
            "Pods it lacks, or that are not available.",
        ),
        _status("deployment", "replicas_updated", "updatedReplicas", "Its pods of the newest template."),
        _status(
            "deployment", "observed_generation", "observedGeneration", "The generation that its status is of."
        ),
        Family("kube_deployment_status_condition", "Its conditions.", _deployment_conditions),
        number("kube_deployment_spec_replicas", "Pods it should have.", "spec", "replicas"),
        number("kube_deployment_spec_paused", "Whether it is paused.", "spec", "paused", default=0),
        Family(
            "kube_deployment_spec_strategy_rollingupdate_max_unavailable",
            "Pods it may lack during a rollout.",
            functools.partial(_rolling, field="maxUnavailable", up=False),
        ),
        Family(
            "kube_deployment_spec_strategy_rollingupdate_max_surge",
            "Pods it may have beyond its number during a rollout.",
            functools.partial(_rolling, field="maxSurge", up=True),
        ),
    ),
)


def _replicas(noun: str) -> Iterable[Family]:
    """What replica sets and replication controllers have in common."""
    yield created(noun)
    yield generation(noun)
    yield owned(noun)
    yield _status(noun, "replicas", "replicas", "Its pods.")
    yield _status(
        noun, "fully_labeled_replicas", "fullyLabeledReplicas", "Its pods with all labels of its template."
    )
    yield _status(noun, "ready_replicas", "readyReplicas", "Its ready pods.")
    yield _status(noun, "observed_generation", "observedGeneration", "The generation that its status is of.")
    yield number(f"kube_{noun}_spec_replicas", "Pods it should have.", "spec", "replicas")


REPLICA_SET: Final = Subject(
    resources.REPLICA_SET, "replicaset", namespaced("replicaset"), tuple(_replicas("replicaset"))
)
REPLICATION_CONTROLLER: Final = Subject(
    resources.REPLICATION_CONTROLLER,
    "replicationcontroller",
    namespaced("replicationcontroller"),
    (
        *_replicas("replicationcontroller"),
        _status("replicationcontroller", "available_replicas", "availableReplicas", "Its available pods."),
    ),
)

# Stateful sets, daemon sets


def _revision(stateful_set: Object, field: str) -> Iterable[Sample]:
    return info(("revision", str(objects.status(stateful_set).get(field) or "")))


def _retention(stateful_set: Object) -> Iterable[Sample]:
    policy = objects.spec(stateful_set).get("persistentVolumeClaimRetentionPolicy") or {}
    deletion, scaling = str(policy.get("whenDeleted") or ""), str(policy.get("whenScaled") or "")
    return info(("when_deleted", deletion), ("when_scaled", scaling)) if deletion or scaling else ()


STATEFUL_SET: Final = Subject(
    resources.STATEFUL_SET,
    "statefulset",
    namespaced("statefulset"),
    (
        created("statefulset"),
        deleted("statefulset"),
        generation("statefulset"),
        _status("statefulset", "replicas", "replicas", "Its pods."),
        _status("statefulset", "replicas_current", "currentReplicas", "Its pods of the current revision."),
        _status("statefulset", "replicas_ready", "readyReplicas", "Its ready pods."),
        _status("statefulset", "replicas_available", "availableReplicas", "Its available pods."),
        _status("statefulset", "replicas_updated", "updatedReplicas", "Its pods of the newest revision."),
        _status(
            "statefulset",
            "observed_generation",
            "observedGeneration",
            "The generation that its status is of.",
        ),
        number("kube_statefulset_replicas", "Pods it should have.", "spec", "replicas"),
        number(
            "kube_statefulset_ordinals_start", "The number of its first pod.", "spec", "ordinals", "start"
        ),
        Family("kube_statefulset_persistentvolumeclaim_retention_policy", "When its claims go.", _retention),
        Family(
            "kube_statefulset_status_current_revision",
            "The revision it comes from.",
            functools.partial(_revision, field="currentRevision"),
        ),
        Family(
            "kube_statefulset_status_update_revision",
            "The revision it goes to.",
            functools.partial(_revision, field="updateRevision"),
        ),
    ),
)

DAEMON_SET: Final = Subject(
    resources.DAEMON_SET,
    "daemonset",
    namespaced("daemonset"),
    (
        created("daemonset"),
        deleted("daemonset"),
        generation("daemonset"),
        _status(
            "daemonset",
            "current_number_scheduled",
            "currentNumberScheduled",
            "Nodes with a pod that should have one.",
        ),
        _status(
            "daemonset", "desired_number_scheduled", "desiredNumberScheduled", "Nodes that should have a pod."
        ),
        _status("daemonset", "number_available", "numberAvailable", "Nodes with an available pod."),
        _status(
            "daemonset",
            "number_misscheduled",
            "numberMisscheduled",
            "Nodes with a pod that should have none.",
        ),
        _status("daemonset", "number_ready", "numberReady", "Nodes with a ready pod."),
        _status("daemonset", "number_unavailable", "numberUnavailable", "Nodes without an available pod."),
        _status(
            "daemonset",
            "updated_number_scheduled",
            "updatedNumberScheduled",
            "Nodes with a pod of the newest template.",
        ),
        _status(
            "daemonset", "observed_generation", "observedGeneration", "The generation that its status is of."
        ),
    ),
)

# Jobs

_JOB_FAILURES: Final = ("BackoffLimitExceeded", "DeadlineExceeded", "Evicted")


def _job_failed(job: Object) -> Iterable[Sample]:
    """The number of failed pods: by the reason that the job failed for, if it has."""
    failed = int(objects.status(job).get("failed") or 0)
    if not failed:
        return one(0)
    reason = str((conditions.get(job, "Failed") or {}).get("reason") or "")
    if reason in _JOB_FAILURES:
        return each_of("reason", _JOB_FAILURES, reason)
    return [((("reason", ""),), failed)]


def _job_condition(job: Object, type: str) -> Iterable[Sample]:
    condition = conditions.get(job, type)
    return truths(str(condition.get("status")), "condition") if condition is not None else ()


def _job_suspended(job: Object) -> Iterable[Sample]:
    condition = conditions.get(job, "Suspended")
    return one(int(condition.get("status") == "True")) if condition is not None else ()


JOB: Final = Subject(
    resources.JOB,
    "job",
    namespaced("job_name"),
    (
        exists("job"),
        created("job"),
        owned("job"),
        number("kube_job_spec_parallelism", "Pods it may run at once.", "spec", "parallelism"),
        number("kube_job_spec_completions", "Pods that have to succeed.", "spec", "completions"),
        number(
            "kube_job_spec_active_deadline_seconds", "How long it may take.", "spec", "activeDeadlineSeconds"
        ),
        _status("job", "active", "active", "Its pods that run."),
        _status("job", "ready", "ready", "Its ready pods."),
        _status("job", "succeeded", "succeeded", "Its pods that have succeeded."),
        Family("kube_job_status_failed", "Its pods that have failed.", _job_failed),
        Family("kube_job_status_suspended", "Whether it is suspended.", _job_suspended),
        moment("kube_job_status_start_time", "When it was begun.", "status", "startTime"),
        moment("kube_job_status_completion_time", "When it was complete.", "status", "completionTime"),
        Family(
            "kube_job_complete", "Whether it is complete.", functools.partial(_job_condition, type="Complete")
        ),
        Family("kube_job_failed", "Whether it has failed.", functools.partial(_job_condition, type="Failed")),
    ),
)


def _cron_job(cron_job: Object) -> Iterable[Sample]:
    spec = objects.spec(cron_job)
    return info(
        ("schedule", str(spec.get("schedule") or "")),
        ("concurrency_policy", str(spec.get("concurrencyPolicy") or "")),
        ("timezone", str(spec.get("timeZone") or "local")),
    )


def _next_time(cron_job: Object) -> float | None:
    """When it is due next; `ValueError` if its schedule or its zone is none."""
    spec = objects.spec(cron_job)
    zone_name = spec.get("timeZone")
    try:
        zone = UTC if zone_name is None else zoneinfo.ZoneInfo(str(zone_name))
    except (zoneinfo.ZoneInfoNotFoundError, OSError) as error:
        raise ValueError(f"unknown time zone {zone_name}") from error
    schedule = cron.parse(str(spec.get("schedule") or ""))
    last = seconds(objects.status(cron_job).get("lastScheduleTime"))
    after = last if last is not None else seconds(at(cron_job, "metadata", "creationTimestamp"))
    return None if after is None else cron.following(schedule, after, zone)


def _due(cron_job: Object) -> Iterable[Sample]:
    if objects.spec(cron_job).get("suspend"):
        return ()
    try:
        return one(_next_time(cron_job))
    except ValueError:
        return ()


def _is_never_due(cron_job: Object) -> Iterable[Sample]:
    try:
        _next_time(cron_job)
    except ValueError:
        return one(1)
    return ()


CRON_JOB: Final = Subject(
    resources.CRON_JOB,
    "cronjob",
    namespaced("cronjob"),
    (
        Family("kube_cronjob_info", "Its schedule.", _cron_job),
        created("cronjob"),
        revision("cronjob"),
        Family("kube_cronjob_next_schedule_time", "When it is due next.", _due),
        Family("kube_cronjob_schedule_invalid", "That its schedule cannot be read.", _is_never_due),
        Family(
            "kube_cronjob_status_active",
            "Its jobs that run.",
            lambda cron_job: one(len(objects.status(cron_job).get("active") or ())),
        ),
        moment(
            "kube_cronjob_status_last_schedule_time", "When it was begun last.", "status", "lastScheduleTime"
        ),
        moment(
            "kube_cronjob_status_last_successful_time",
            "When it succeeded last.",
            "status",
            "lastSuccessfulTime",
        ),
        number("kube_cronjob_spec_suspend", "Whether it is suspended.", "spec", "suspend", default=0),
        number(
            "kube_cronjob_spec_starting_deadline_seconds",
            "How late it may begin.",
            "spec",
            "startingDeadlineSeconds",
        ),
        number(
            "kube_cronjob_spec_successful_job_history_limit",
            "How many jobs that succeeded stay.",
            "spec",
            "successfulJobsHistoryLimit",
        ),
        number(
            "kube_cronjob_spec_failed_job_history_limit",
            "How many jobs that failed stay.",
            "spec",
            "failedJobsHistoryLimit",
        ),
    ),
)

# Autoscalers

_SOURCES: Final = {
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "External": "external",
}


def _target(autoscaler: Object) -> Iterable[Sample]:
    reference = objects.spec(autoscaler).get("scaleTargetRef") or {}
    return info(
        ("scaletargetref_api_version", str(reference.get("apiVersion") or "")),
        ("scaletargetref_kind", str(reference.get("kind") or "")),
        ("scaletargetref_name", str(reference.get("name") or "")),
    )


def _metrics(listed: Iterable[Mapping[str, Any]], part: str) -> Iterable[Sample]:
    """What an autoscaler goes by: a sample for each value of each metric; the first of two alike counts."""
    samples: dict[Any, float] = {}
    for metric in listed:
        source = metric.get(_SOURCES.get(str(metric.get("type")), ""))
        if not source:
            continue
        name = str(source.get("name") or at(source, "metric", "name") or "")
        values = source.get(part) or {}
        container = str(source.get("container") or "")
        for kind, field in (
            ("value", "value"),
            ("average", "averageValue"),
            ("utilization", "averageUtilization"),
        ):
            if (value := values.get(field)) is not None:
                labels = (("metric_name", name), ("metric_target_type", kind), ("container", container))
                samples.setdefault(labels, amount(value))
    return samples.items()


def _tolerance(autoscaler: Object, direction: str) -> Iterable[Sample]:
    value = at(autoscaler, "spec", "behavior", direction, "tolerance")
    return one(None if value is None else amount(value))


HORIZONTAL_POD_AUTOSCALER: Final = Subject(
    resources.HORIZONTAL_POD_AUTOSCALER,
    "horizontalpodautoscaler",
    namespaced("horizontalpodautoscaler"),
    (
        Family("kube_horizontalpodautoscaler_info", "What it sizes.", _target),
        created("horizontalpodautoscaler"),
        deleted("horizontalpodautoscaler"),
        generation("horizontalpodautoscaler"),
        number(
            "kube_horizontalpodautoscaler_spec_max_replicas",
            "The most pods.",
            "spec",
            "maxReplicas",
            default=0,
        ),
        number(
            "kube_horizontalpodautoscaler_spec_min_replicas",
            "The least pods.",
            "spec",
            "minReplicas",
            default=1,
        ),
        Family(
            "kube_horizontalpodautoscaler_spec_target_metric",
            "What its metrics should be.",
            lambda obj: _metrics(objects.spec(obj).get("metrics") or (), "target"),
        ),
        Family(
            "kube_horizontalpodautoscaler_status_target_metric",
            "What its metrics are.",
            lambda obj: _metrics(objects.status(obj).get("currentMetrics") or (), "current"),
        ),
        Family(
            "kube_horizontalpodautoscaler_spec_behavior_scale_up_tolerance",
            "The change upwards that it passes over.",
            functools.partial(_tolerance, direction="scaleUp"),
        ),
        Family(
            "kube_horizontalpodautoscaler_spec_behavior_scale_down_tolerance",
            "The change downwards that it passes over.",
            functools.partial(_tolerance, direction="scaleDown"),
        ),
        Family("kube_horizontalpodautoscaler_status_condition", "Its conditions.", condition_statuses),
        _status("horizontalpodautoscaler", "current_replicas", "currentReplicas", "Pods there are."),
        _status("horizontalpodautoscaler", "desired_replicas", "desiredReplicas", "Pods there should be."),
    ),
)
