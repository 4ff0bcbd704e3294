"""Defaults of what makes pods: of the spec, and of the pod in its template."""

from __future__ import annotations

from typing import Any, Final

from ondol.api import objects
from ondol.api.defaults import pods

_NO_LIMIT: Final = (1 << 31) - 1
_RETRIES: Final = 6


def deployment(document: Any) -> None:
    spec = document["spec"]
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    pods.pod_spec(spec["template"]["spec"])


def replica_set(document: Any) -> None:
    spec = document["spec"]
    spec.setdefault("replicas", 1)
    pods.pod_spec(spec["template"]["spec"])


def stateful_set(document: Any) -> None:
    spec = document["spec"]
    if not spec.get("podManagementPolicy"):
        spec["podManagementPolicy"] = "OrderedReady"
    strategy = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
        strategy.setdefault("rollingUpdate", {})
    if strategy["type"] == "RollingUpdate" and strategy.get("rollingUpdate") is not None:
        strategy["rollingUpdate"].setdefault("partition", 0)
    retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    for field in ("whenDeleted", "whenScaled"):
        retention[field] = retention.get(field) or "Retain"
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    for claim in spec.get("volumeClaimTemplates") or ():
        claim |= {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
        pods.claim_spec(claim["spec"])
        claim.setdefault("status", {}).setdefault("phase", "Pending")
    pods.pod_spec(spec["template"]["spec"])


def daemon_set(document: Any) -> None:
    spec = document["spec"]
    strategy = spec.setdefault("updateStrategy", {})
    strategy["type"] = strategy.get("type") or "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    spec.setdefault("revisionHistoryLimit", 10)
    pods.pod_spec(spec["template"]["spec"])


def replication_controller(document: Any) -> None:
    """Labels and selector are those of the template, unless they are written."""
    spec = document["spec"]
    labels = dict(objects.labels(spec.get("template") or {}))
    if labels:
        spec["selector"] = spec.get("selector") or labels
        if not objects.labels(document):
            document["metadata"]["labels"] = labels
    spec.setdefault("replicas", 1)
    if spec.get("template") is not None:
        pods.pod_spec(spec["template"]["spec"])


def pod_template(document: Any) -> None:
    pods.pod_spec(document["template"]["spec"])


def job(document: Any) -> None:
    spec = document["spec"]
    labels = objects.labels(spec["template"])
    if labels and not objects.labels(document):
        document["metadata"]["labels"] = dict(labels)
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", _RETRIES if spec.get("backoffLimitPerIndex") is None else _NO_LIMIT)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    replaced = "TerminatingOrFailed" if spec.get("podFailurePolicy") is None else "Failed"
    spec.setdefault("podReplacementPolicy", replaced)
    spec.setdefault("manualSelector", False)
    _job_spec(spec)


def cron_job(document: Any) -> None:
    """Those of the job come when it is made, but for what depends on nothing else of it."""
    spec = document["spec"]
    spec["concurrencyPolicy"] = spec.get("concurrencyPolicy") or "Allow"
    spec.setdefault("suspend", False)
    spec.setdefault("successfulJobsHistoryLimit", 3)
    spec.setdefault("failedJobsHistoryLimit", 1)
    _job_spec(spec["jobTemplate"]["spec"])


def _job_spec(spec: Any) -> None:
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        for condition in rule.get("onPodConditions") or ():
            condition["status"] = condition.get("status") or "True"
    pods.pod_spec(spec["template"]["spec"])
