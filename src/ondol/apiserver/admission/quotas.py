"""ResourceQuota: nothing is created, or grows, beyond what the quotas of its namespace leave.

Follows Kubernetes' `apiserver/pkg/admission/plugin/resourcequota`, but counts what there is rather than what
was reported. What is admitted is reserved until it is stored, so that concurrent writes do not overshoot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ondol.api import objects, quota, resources
from ondol.api.objects import Object
from ondol.api.quota import Use
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.strategy import Context
from ondol.base import errors, quantity

_GROWING: Final = (resources.SERVICE, resources.PERSISTENT_VOLUME_CLAIM)


def admit(parts: Parts, context: Context, request: Request) -> None:
    """In the validating phase, behind everything else."""
    if not _is_counted(request):
        return
    quotas = parts.quotas.quotas(request.namespace)
    if not quotas:
        return
    resource = request.served.resource
    use = quota.of(resource, request.new, context.now)
    former = quota.of(resource, request.old, context.now) if request.old is not None else Use()
    for each in quotas:
        if quota.is_about(each, use):
            _check(parts, context, request, each, _growth(use, former))
    if not context.dry_run:
        name = objects.name(request.new)
        claim = parts.quotas.claim(request.served, request.namespace, name, use, former)
        context.reserved.add(claim)


def _is_counted(request: Request) -> bool:
    resource = request.served.resource
    if not resource.namespaced or request.operation == "delete":
        return False
    if request.operation == "create":
        return not request.subresource
    if request.subresource:
        return resource == resources.POD and request.subresource == "resize"
    return resource in _GROWING


def _growth(use: Use, former: Use) -> dict[str, int]:
    grown = {name: amount - former.amounts.get(name, 0) for name, amount in use.amounts.items()}
    return {name: amount for name, amount in grown.items() if amount > 0}


def _check(parts: Parts, context: Context, request: Request, of: Object, growth: Mapping[str, int]) -> None:
    hard: Mapping[str, Any] = objects.spec(of).get("hard") or {}
    counted = quota.names(hard, request.served.resource)
    if request.served.resource == resources.POD and (silent := quota.missing(request.new, counted)):
        listed = "; ".join(f"{name} for: {','.join(containers)}" for name, containers in silent.items())
        raise _refused(request, f"failed quota: {objects.name(of)}: must specify {listed}")
    asked = {name: amount for name, amount in growth.items() if name in counted}
    if not asked:
        return
    used = parts.quotas.used(of, request.served, asked, context.now)
    beyond = sorted(
        name for name, amount in asked.items() if used.get(name, 0) + amount > quantity.milli_of(hard[name])
    )
    if beyond:
        limits = {name: quantity.milli_of(hard[name]) for name in beyond}
        raise _refused(
            request,
            f"exceeded quota: {objects.name(of)}, requested: {_listed(beyond, asked)}, "
            f"used: {_listed(beyond, used)}, limited: {_listed(beyond, limits, hard)}",
        )


def _listed(
    names: Iterable[str], amounts: Mapping[str, int], written: Mapping[str, str] | None = None
) -> str:
    """Amounts as messages name them, or as they were written."""
    shown = written or {}
    return ",".join(
        f"{name}={shown.get(name) or quota.spelled(name, amounts.get(name, 0))}" for name in names
    )


def _refused(request: Request, why: str) -> errors.Forbidden:
    resource, name = request.served.resource, objects.name(request.new)
    details = {"name": name, "kind": resource.plural, **({"group": resource.group} if resource.group else {})}
    return errors.Forbidden(f'{resource.group_resource} "{name}" is forbidden: {why}', details=details)
