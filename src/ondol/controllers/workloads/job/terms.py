"""What a Job asks for, with its defaults. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import objects

OWN: Final = "kubernetes.io/job-controller"
"""The value of `spec.managedBy` that means this controller."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The parts of a Job's spec that its pods are counted by."""

    parallelism: int
    completions: int | None
    """How many pods must succeed; None ends with the first one's success and all others' end."""
    is_indexed: bool
    is_suspended: bool
    backoff_limit: int
    backoff_limit_per_index: int | None
    max_failed_indexes: int | None
    deadline_s: int | None
    awaits_end: bool
    """Whether a pod that is being deleted is replaced only once it has ended."""
    restarts_in_place: bool
    failure_rules: Sequence[Mapping[str, Any]] | None
    success_rules: Sequence[Mapping[str, Any]]

    def valid_index(self, index: int | None) -> bool:
        return index is not None and index < (self.completions or 0)


def of(job: Mapping[str, Any]) -> Terms:
    spec = objects.spec(job)
    template = (spec.get("template") or {}).get("spec") or {}
    policy = spec.get("podFailurePolicy")
    return Terms(
        parallelism=_number(spec, "parallelism", 1),
        completions=spec.get("completions"),
        is_indexed=spec.get("completionMode") == "Indexed",
        is_suspended=bool(spec.get("suspend")),
        backoff_limit=_number(spec, "backoffLimit", 6),
        backoff_limit_per_index=spec.get("backoffLimitPerIndex"),
        max_failed_indexes=spec.get("maxFailedIndexes"),
        deadline_s=spec.get("activeDeadlineSeconds"),
        awaits_end=policy is not None or spec.get("podReplacementPolicy") == "Failed",
        restarts_in_place=template.get("restartPolicy") == "OnFailure",
        failure_rules=None if policy is None else policy.get("rules") or (),
        success_rules=(spec.get("successPolicy") or {}).get("rules") or (),
    )


def is_managed_elsewhere(job: Mapping[str, Any]) -> bool:
    """Whether `spec.managedBy` leaves the Job to a controller of somebody else."""
    return objects.spec(job).get("managedBy") not in (None, OWN)


def _number(spec: Mapping[str, Any], field: str, default: int) -> int:
    value = spec.get(field)
    return default if value is None else int(value)
