"""Whether a Job has come to its end, and which. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import conditions, objects, pods
from ondol.api.objects import Object
from ondol.controllers.workloads.job import failures, indexes
from ondol.controllers.workloads.job.tally import Tally
from ondol.controllers.workloads.job.terms import Terms

COMPLETE: Final = "Complete"
FAILED: Final = "Failed"
SUSPENDED: Final = "Suspended"
SUCCESS_MET: Final = "SuccessCriteriaMet"
FAILURE_TARGET: Final = "FailureTarget"
OWN: Final = (COMPLETE, FAILED, SUSPENDED, SUCCESS_MET, FAILURE_TARGET)
"""The conditions of a Job."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a Job ends: first told as decided (`interim`), and as done (`final`) when its pods have ended."""

    succeeds: bool
    reason: str
    message: str

    @property
    def interim(self) -> str:
        return SUCCESS_MET if self.succeeds else FAILURE_TARGET

    @property
    def final(self) -> str:
        return COMPLETE if self.succeeds else FAILED


def is_finished(job: Mapping[str, Any]) -> bool:
    return conditions.is_true(job, COMPLETE) or conditions.is_true(job, FAILED)


def decided(job: Object) -> Verdict | None:
    """What an earlier turn decided: it stays so."""
    for type_ in (SUCCESS_MET, FAILURE_TARGET):
        condition = conditions.get(job, type_)
        if condition is not None and condition.get("status") == "True":
            reason, message = (str(condition.get(field) or "") for field in ("reason", "message"))
            return Verdict(type_ == SUCCESS_MET, reason, message)
    return None


def early(job: Object, terms: Terms, tally: Tally, now: float) -> Verdict | None:
    """An end that does not wait for the pods that run: by failure, deadline, or the success policy."""
    return (
        decided(job)
        or _by_policy(terms, tally)
        or _by_limits(job, terms, tally, now)
        or _by_index(terms, tally)
        or _by_success(terms, tally)
    )


def complete(terms: Terms, tally: Tally, active: int) -> Verdict | None:
    """The end of a Job whose pods have all done what was asked for."""
    enough = tally.succeeded > 0 if terms.completions is None else tally.succeeded >= terms.completions
    if not enough or active:
        return None
    return Verdict(
        succeeds=True, reason="CompletionsReached", message="Reached expected number of succeeded pods"
    )


def deadline_in_s(job: Object, terms: Terms, now: float) -> float | None:
    """Seconds until the Job has run too long; None if it may run for ever, or does not run.

    One that was just resumed has no deadline yet: its start is still that of the time before.
    """
    started = pods.moment(objects.status(job).get("startTime"))
    if terms.deadline_s is None or started is None or terms.is_suspended:
        return None
    if conditions.is_true(job, SUSPENDED):
        return None
    return started + terms.deadline_s - now


def _failure(reason: str, message: str) -> Verdict:
    return Verdict(succeeds=False, reason=reason, message=message)


def _by_policy(terms: Terms, tally: Tally) -> Verdict | None:
    if not terms.failure_rules:
        return None
    for pod in tally.claimed:
        if failures.is_failed(pod, terms) and (message := failures.match(pod, terms).message):
            return _failure("PodFailurePolicy", message)
    return None


def _by_limits(job: Object, terms: Terms, tally: Tally, now: float) -> Verdict | None:
    if tally.failed > terms.backoff_limit or failures.has_restarted_too_often(terms, tally.claimed):
        return _failure("BackoffLimitExceeded", "Job has reached the specified backoff limit")
    left_s = deadline_in_s(job, terms, now)
    if left_s is not None and left_s <= 0:
        return _failure("DeadlineExceeded", "Job was active longer than specified deadline")
    return None


def _by_index(terms: Terms, tally: Tally) -> Verdict | None:
    failed = tally.failed_indexes
    if not failed:
        return None
    if terms.max_failed_indexes is not None and len(failed) > terms.max_failed_indexes:
        text = "Job has exceeded the specified maximal number of failed indexes"
        return _failure("MaxFailedIndexesExceeded", text)
    if len(failed) + len(tally.succeeded_indexes) >= (terms.completions or 0):
        return _failure("FailedIndexes", "Job has failed indexes")
    return None


def _by_success(terms: Terms, tally: Tally) -> Verdict | None:
    if not tally.succeeded_indexes:
        return None
    for number, rule in enumerate(terms.success_rules):
        if _is_met(rule, tally.succeeded_indexes, terms.completions or 0):
            text = f"Matched rules at index {number}"
            return Verdict(succeeds=True, reason="SuccessPolicy", message=text)
    return None


def _is_met(rule: Mapping[str, Any], succeeded: set[int], completions: int) -> bool:
    count, named = rule.get("succeededCount"), rule.get("succeededIndexes")
    if named is None:
        return count is not None and len(succeeded) >= count
    required = indexes.parse(str(named), completions)
    met = len(required & succeeded)
    return bool(required) and (met == len(required) or (count is not None and met >= count))
