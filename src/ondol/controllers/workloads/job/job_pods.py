"""The pods of a Job: the next ones that are made, and which go first. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.controllers.workloads.job import failures, indexes, tally
from ondol.controllers.workloads.job.tally import Tally
from ondol.controllers.workloads.job.terms import Terms
from ondol.controllers.workloads.podcontrol import pod_from_template
from ondol.controllers.workloads.replicaset import sizing

_PREFIX_MAX: Final = 58
_VARIABLE: Final = "JOB_COMPLETION_INDEX"


def target(terms: Terms, counted: Tally) -> int:
    """How many pods should run now."""
    if terms.completions is None:
        return len(counted.active) if counted.succeeded else terms.parallelism
    return max(0, min(terms.parallelism, terms.completions - counted.succeeded))


def surplus(terms: Terms, active: Sequence[Object], count: int, now: float) -> list[Object]:
    """The pods that go: doubles of an index and those without one, then those least missed up to `count`."""
    gone: list[Object] = []
    left = list(active)
    if terms.is_indexed:
        by_index: dict[int | None, list[Object]] = {}
        for pod in active:
            index = indexes.of(pod)
            by_index.setdefault(index if terms.valid_index(index) else None, []).append(pod)
        gone = by_index.pop(None, [])
        for doubles in by_index.values():
            gone += sizing.surplus(doubles, active, len(doubles) - 1, now) if len(doubles) > 1 else []
        uids = {objects.uid(pod) for pod in gone}
        left = [pod for pod in active if objects.uid(pod) not in uids]
    more = count - len(gone)
    return gone + (sizing.surplus(left, left, more, now) if more > 0 else [])


def following(
    job: Object, terms: Terms, counted: Tally, count: int, now: float
) -> tuple[list[Object], float | None]:
    """Up to `count` pods to make now, and in how many seconds to look again, if waiting is all there is."""
    if terms.backoff_limit_per_index is None and (wait_s := failures.wait_s(counted.claimed, terms, now)):
        return [], wait_s
    if not terms.is_indexed:
        return [_pod(job)] * count, None
    taken = counted.succeeded_indexes | tally.of_pods(counted.active) | (counted.failed_indexes or set())
    if terms.awaits_end:
        taken |= tally.of_pods(counted.terminating)
    free = indexes.first_free(count, terms.completions or 0, taken)
    if terms.backoff_limit_per_index is None:
        return [_indexed(job, index) for index in free], None
    waits = {index: failures.index_wait_s(counted.replaceable.get(index), now) for index in free}
    ready = [index for index in free if not waits[index]]
    if not ready:
        return [], min(waits.values(), default=None)
    return [
        _indexed(job, index, failures.inherited(counted.replaceable.get(index), terms)) for index in ready
    ], None


def _pod(job: Object) -> Object:
    template = objects.spec(job).get("template") or {}
    return pod_from_template(job, template, finalizers=(tally.FINALIZER,))


def _indexed(job: Object, index: int, annotations: Mapping[str, str] | None = None) -> Object:
    """The pod of an index: in its names, as an annotation and a label, and for its containers to read."""
    template = objects.spec(job).get("template") or {}
    marks = {indexes.ANNOTATION: str(index)}
    pod = pod_from_template(
        job,
        template,
        labels=marks,
        annotations={**marks, **(annotations or {})},
        finalizers=(tally.FINALIZER,),
    )
    suffix = f"-{index}-"
    pod["metadata"]["generateName"] = f"{objects.name(job)[: _PREFIX_MAX - len(suffix)]}{suffix}"
    spec: Any = pod["spec"]
    spec["hostname"] = f"{objects.name(job)}-{index}"
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        variables = container.setdefault("env", [])
        if all(variable.get("name") != _VARIABLE for variable in variables):
            field = {"fieldPath": f"metadata.labels['{indexes.ANNOTATION}']"}
            variables.append({"name": _VARIABLE, "valueFrom": {"fieldRef": field}})
    return pod
