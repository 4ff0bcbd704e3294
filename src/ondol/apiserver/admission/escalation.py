"""RBAC: nobody grants what they do not hold."""

from __future__ import annotations

from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.auth import escalation
from ondol.apiserver.strategy import Context


def admit(parts: Parts, context: Context, request: Request) -> None:
    resource = request.served.resource
    if parts.rbac is None or request.operation == "delete":
        return
    escalation.check(parts.rbac, context.user, resource, request.new, request.old)
