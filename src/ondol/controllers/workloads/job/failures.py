"""What the end of a Job's pod means: failure or not, counted or not, and when the next is tried. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import conditions, objects, pods
from ondol.api.objects import Object
from ondol.controllers.workloads.job.terms import Terms

COUNT: Final = "batch.kubernetes.io/job-index-failure-count"
IGNORED: Final = "batch.kubernetes.io/job-index-ignored-failure-count"
_BACKOFF_S: Final = 10.0
_BACKOFF_S_MAX: Final = 600.0


@dataclass(frozen=True, slots=True)
class Match:
    """What the pod failure policy says of a pod; no action where no rule is about it."""

    action: str = ""
    message: str = ""
    """Why the whole Job fails, of the action FailJob."""

    @property
    def is_counted(self) -> bool:
        return self.action != "Ignore"


def is_failed(pod: Mapping[str, Any], terms: Terms) -> bool:
    """Whether the pod counts as failed: also one that is deleted, unless its end is awaited."""
    phase = pods.phase(pod)
    if phase == "Failed":
        return True
    return not terms.awaits_end and objects.is_deleting(pod) and phase != "Succeeded"


def match(pod: Object, terms: Terms) -> Match:
    """What the first rule that is about the pod says."""
    for number, rule in enumerate(terms.failure_rules or ()):
        action = str(rule.get("action"))
        subject = _subject(pod, rule)
        if subject:
            place = f"{objects.namespace(pod)}/{objects.name(pod)}"
            text = f"{subject.format(place)} matching {action} rule at index {number}"
            return Match(action, text if action == "FailJob" else "")
    return Match()


def _subject(pod: Object, rule: Mapping[str, Any]) -> str:
    """What of the pod a rule is about, with a place for the pod's own; empty if nothing is."""
    if (requirement := rule.get("onExitCodes")) is not None:
        for container in _ended(pod):
            code = container["state"]["terminated"]["exitCode"]
            if _is_required(container, code, requirement):
                return f"Container {container['name']} for pod {{}} failed with exit code {code}"
        return ""
    for condition in conditions.of(pod):
        for pattern in rule.get("onPodConditions") or ():
            status = pattern.get("status") or "True"
            if (condition.get("type"), condition.get("status")) == (pattern.get("type"), status):
                return f"Pod {{}} has condition {condition['type']}"
    return ""


def _ended(pod: Object) -> Iterator[Mapping[str, Any]]:
    status = objects.status(pod)
    for field in ("containerStatuses", "initContainerStatuses"):
        for container in status.get(field) or ():
            if (container.get("state") or {}).get("terminated"):
                yield container


def _is_required(container: Mapping[str, Any], code: int, requirement: Mapping[str, Any]) -> bool:
    if code == 0 or requirement.get("containerName") not in (None, container["name"]):
        return False
    is_listed = code in (requirement.get("values") or ())
    return is_listed if requirement.get("operator") == "In" else not is_listed


def fails_index(pod: Object, terms: Terms) -> bool:
    """Whether the pod's failure is the last that its index may have."""
    if not is_failed(pod, terms):
        return False
    matched = match(pod, terms)
    if matched.action == "FailIndex":
        return True
    return matched.is_counted and _annotated(pod, COUNT) >= (terms.backoff_limit_per_index or 0)


def absolute(pod: Object) -> int:
    """How many pods of its index failed before it, those that are not counted too."""
    return _annotated(pod, COUNT) + _annotated(pod, IGNORED)


def inherited(replaced: Object | None, terms: Terms) -> dict[str, str]:
    """The annotations of a pod that replaces one of its index: how often that failed."""
    if replaced is None:
        return {COUNT: "0"}
    is_counted = match(replaced, terms).is_counted
    counted = _annotated(replaced, COUNT) + is_counted
    ignored = _annotated(replaced, IGNORED) + (not is_counted)
    return {COUNT: str(counted)} | ({IGNORED: str(ignored)} if ignored else {})


def _annotated(pod: Object, name: str) -> int:
    text = objects.annotations(pod).get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def finished_at(pod: Object) -> float:
    """When the pod ended, in seconds: its last container's end, or the nearest that is written of it."""
    status, spec = objects.status(pod), objects.spec(pod)
    sidecars = {
        each["name"] for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"
    }
    last = [
        *(status.get("containerStatuses") or ()),
        *(each for each in status.get("initContainerStatuses") or () if each["name"] in sidecars),
    ]
    ends = [pods.moment(((s.get("state") or {}).get("terminated") or {}).get("finishedAt")) for s in last]
    if ends and None not in ends:
        return max(end for end in ends if end is not None)
    ready = conditions.get(pod, "Ready") or {}
    if ready.get("status") == "False" and (at := pods.moment(ready.get("lastTransitionTime"))):
        return at
    if at := pods.moment(objects.metadata(pod).get("deletionTimestamp")):
        return at - (objects.metadata(pod).get("deletionGracePeriodSeconds") or 0)
    return pods.created_at(pod)


def wait_s(claimed: Iterable[Object], terms: Terms, now: float) -> float:
    """How long to wait before another pod is tried, in seconds; 0 if that may be now.

    Ten seconds after the first failure since the last success, twice that after each further one.
    """
    ended = list(claimed)
    last_success = max((finished_at(pod) for pod in ended if pods.phase(pod) == "Succeeded"), default=0.0)
    failed = [finished_at(pod) for pod in ended if is_failed(pod, terms)]
    return _wait_s([at for at in failed if at > last_success], now)


def index_wait_s(replaced: Object | None, now: float) -> float:
    """The same for one index of a Job that counts failures by index."""
    if replaced is None:
        return 0.0
    return _wait_s([finished_at(replaced)] * (absolute(replaced) + 1), now)


def _wait_s(failed: Sequence[float], now: float) -> float:
    if not failed:
        return 0.0
    wait = min(_BACKOFF_S_MAX, _BACKOFF_S * 2.0 ** min(len(failed) - 1, 16))
    return max(0.0, max(failed) + wait - now)


def has_restarted_too_often(terms: Terms, claimed: Iterable[Object]) -> bool:
    """Of pods whose containers restart in place: whether they did so as often as pods may fail."""
    if not terms.restarts_in_place:
        return False
    restarts = sum(_restarts(pod) for pod in claimed if pods.phase(pod) in ("Running", "Pending"))
    return restarts > 0 if terms.backoff_limit == 0 else restarts >= terms.backoff_limit


def _restarts(pod: Object) -> int:
    status = objects.status(pod)
    listed = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return sum(int(container.get("restartCount") or 0) for container in listed)
