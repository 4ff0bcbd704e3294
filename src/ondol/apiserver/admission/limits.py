"""LimitRanger: the LimitRanges of a namespace complete its new pods, and refuse those out of bounds.

Follows `plugin/pkg/admission/limitranger`. What pods that are there already ask for cannot be changed.
"""

from __future__ import annotations

from ondol.api import limits, objects, quality, resources, status
from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.strategy import Context


def complete_pod(parts: Parts, context: Context, request: Request) -> None:
    """Give containers the amounts they do not name; the pod's quality of service follows from them."""
    del context
    if request.operation != "create" or request.subresource:
        return
    ranges = parts.state.list_objects(resources.LIMIT_RANGE, request.namespace)
    completed = [limits.complete(request.new, limit_range) for limit_range in ranges]
    if any(completed):
        request.new["status"] = {**objects.status(request.new), "qosClass": quality.of(request.new)}


def check_pod(parts: Parts, context: Context, request: Request) -> None:
    """Refuse what the first LimitRange that is not kept to says."""
    del context
    if request.operation != "create" or request.subresource:
        return
    for limit_range in parts.state.list_objects(resources.LIMIT_RANGE, request.namespace):
        problems = limits.problems(request.new, limit_range)
        if problems:
            why = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
            raise status.forbidden(request.served.resource, objects.name(request.new), why)
