"""pods/eviction: a delete that says why, if the pod's disruption budget allows it.

Follows Kubernetes' `pkg/registry/core/pod/storage/eviction.go`. What is admitted is the eviction; the status
and the delete that it leads to are not asked about again.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from ondol.api import conditions, objects, pods, resources, status
from ondol.api.disruption import covers
from ondol.api.objects import Object, Resource
from ondol.apiserver import answers, deleting, documents, lenses, metadata, schemas, writing
from ondol.apiserver.admission.request import Request as AdmissionRequest
from ondol.apiserver.core import Core
from ondol.apiserver.deleting import DeleteOptions
from ondol.apiserver.exchange import Reply, Request
from ondol.apiserver.handlers import changing, removing
from ondol.apiserver.served import Served
from ondol.apiserver.subresources.binding import SUCCESS
from ondol.base import clock, errors

_EVICTION: Final = Resource("policy", "v1", "evictions", "Eviction")
_TRIES: Final = 20
_DISRUPTED_MAX: Final = 2000
_WAIT_S: Final = 10
_VIOLATION: Final = "Cannot evict pod as it would violate the pod's disruption budget."
_TOO_MANY_BUDGETS: Final[Object] = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "message": (
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    ),
    "code": 500,
}


async def create(core: Core, request: Request, served: Served) -> Reply:
    eviction = await changing.read_typed(core, request, _EVICTION, schemas.EVICTION)
    document = eviction.get("deleteOptions") or {}
    options = DeleteOptions.of(document)
    how = removing.dry_run_too(changing.options(request), document)
    await _admit(core, request, served, how, eviction)
    evicting = _Evicting(core, served, dataclasses.replace(how, admitted=True), request.info.namespace)
    budgets = await evicting.evict(request.info.name, options)
    if budgets > 1:
        return answers.document(request, _TOO_MANY_BUDGETS, 500)
    return answers.document(request, SUCCESS, 201)


async def _admit(
    core: Core, request: Request, served: Served, how: writing.Options, eviction: Object
) -> None:
    with core.reservations.begin() as reserved:
        context = core.context(how.user, how.warn, reserved, dry_run=how.dry_run)
        asked = AdmissionRequest("create", served, request.info.namespace, eviction, None, "eviction")
        await core.admission.mutate(context, asked)
        await core.admission.validate(context, asked)


class _Evicting:
    """One eviction."""

    def __init__(self, core: Core, served: Served, how: writing.Options, namespace: str) -> None:
        self._core = core
        self._served = served
        self._how = how
        self._namespace = namespace

    async def evict(self, name: str, options: DeleteOptions) -> int:
        """Evict the pod, unless more than one budget is about it: answers how many are."""
        for _ in range(_TRIES):
            pod = self._pod(name)
            if not _is_free(pod):
                return await self._within_budget(pod, options)
            try:
                await self._delete(name, _pinned(options, pod) if _may_get_ready(pod) else options)
            except errors.Conflict:
                if options.resource_version:
                    raise
            else:
                return 0
        raise status.conflict(self._served.resource, name)

    def _pod(self, name: str) -> Object:
        pod = self._core.lookup(self._served.resource, self._namespace, name)
        if pod is None:
            raise status.not_found(self._served.resource, name)
        return pod

    async def _within_budget(self, pod: Object, options: DeleteOptions) -> int:
        budgets = [
            budget
            for budget in self._core.list_objects(resources.POD_DISRUPTION_BUDGET, self._namespace)
            if covers(budget, pod)
        ]
        if len(budgets) > 1:
            return len(budgets)
        unhealthy = bool(budgets) and _may_go_unhealthy(pod, budgets[0])
        if budgets and not unhealthy:
            await self._spend(budgets[0], pod)
        try:
            await self._delete(objects.name(pod), _pinned(options, pod) if unhealthy else options)
        except errors.Conflict:
            if not unhealthy or options.resource_version:
                raise
            raise _busy(objects.name(budgets[0])) from None
        return len(budgets)

    async def _spend(self, budget: Object, pod: Object) -> None:
        """Take one disruption off the budget; `TooManyRequests` if it has none."""
        served = self._core.catalogue.of(resources.POD_DISRUPTION_BUDGET)
        writes = writing.Writes(self._core, served, self._how)
        now = self._core.clock.now()
        lens = lenses.Status(served.strategy.status_reset)
        await writes.update(
            self._namespace, objects.name(budget), lens, lambda live: _spent(live, objects.name(pod), now)
        )

    async def _delete(self, name: str, options: DeleteOptions) -> None:
        """Say why in the pod's status, and delete it: both only if the preconditions hold."""
        served = self._served
        writes = writing.Writes(self._core, served, self._how)
        if not self._how.dry_run:
            now = self._core.clock.now()

            def marked(pod: Object) -> Object:
                metadata.check_preconditions(pod, served.resource, options.uid, options.resource_version)
                return _marked(pod, now)

            lens = lenses.Status(served.strategy.status_reset)
            written = documents.parse((await writes.update(self._namespace, name, lens, marked)).value)
            if options.resource_version:
                version = objects.resource_version(written)
                options = dataclasses.replace(options, resource_version=version)
        await deleting.delete(writes, self._namespace, name, options)


def _marked(pod: Object, now: float) -> Object:
    if objects.is_deleting(pod):
        return pod
    listed = conditions.set(
        conditions.of(pod),
        "DisruptionTarget",
        "True",
        reason="EvictionByEvictionAPI",
        message="Eviction API: evicting",
        now=now,
    )
    return {**pod, "status": {**objects.status(pod), "conditions": listed}}


def _pinned(options: DeleteOptions, pod: Object) -> DeleteOptions:
    """With the version of the pod that was looked at as a condition, unless the client has one."""
    if options.resource_version:
        return options
    return dataclasses.replace(options, resource_version=objects.resource_version(pod))


def _is_over(pod: Object) -> bool:
    return pods.is_terminal(pod) or objects.is_deleting(pod)


def _is_free(pod: Object) -> bool:
    """Whether the pod serves nobody yet or any more, so that no budget is asked."""
    return _is_over(pod) or objects.status(pod).get("phase") == "Pending"


def _may_get_ready(pod: Object) -> bool:
    return not _is_over(pod)


def _may_go_unhealthy(pod: Object, budget: Object) -> bool:
    """Whether the pod is not ready, and its going takes nothing from what the budget protects."""
    if conditions.is_true(pod, "Ready"):
        return False
    if objects.spec(budget).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    current, desired = (objects.status(budget).get(f) or 0 for f in ("currentHealthy", "desiredHealthy"))
    return current >= desired > 0


def _spent(budget: Object, pod: str, now: float) -> Object:
    name, before = objects.name(budget), objects.status(budget)
    allowed = before.get("disruptionsAllowed") or 0
    if (before.get("observedGeneration") or 0) < objects.generation(budget):
        raise _busy(name)
    if allowed < 0:
        raise _forbidden(name, "pdb disruptions allowed is negative")
    disrupted: dict[str, Any] = {**(before.get("disruptedPods") or {})}
    if len(disrupted) > _DISRUPTED_MAX:
        why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise _forbidden(name, why)
    if allowed == 0:
        needed, healthy = before.get("desiredHealthy") or 0, before.get("currentHealthy") or 0
        why = f"The disruption budget {name} needs {needed} healthy pods and has {healthy} currently"
        raise errors.TooManyRequests(_VIOLATION, causes=[errors.Cause("DisruptionBudget", why)])
    after = {**before, "disruptionsAllowed": allowed - 1}
    if allowed == 1:
        after["conditions"] = conditions.set(
            conditions.of(budget),
            "DisruptionAllowed",
            "False",
            reason="InsufficientPods",
            now=now,
            observed_generation=before.get("observedGeneration"),
        )
    after["disruptedPods"] = {**disrupted, pod: clock.rfc3339(now)}
    return {**budget, "status": after}


def _busy(budget: str) -> errors.TooManyRequests:
    why = f"The disruption budget {budget} is still being processed by the server."
    cause = errors.Cause("DisruptionBudget", why)
    return errors.TooManyRequests(_VIOLATION, causes=[cause], retry_after_s=_WAIT_S)


def _forbidden(budget: str, why: str) -> errors.Forbidden:
    details = {"name": budget, "group": "policy", "kind": "poddisruptionbudget"}
    return errors.Forbidden(f'poddisruptionbudget.policy "{budget}" is forbidden: {why}', details=details)
