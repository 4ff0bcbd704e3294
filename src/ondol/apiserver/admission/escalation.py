"""RBAC: nobody grants what they do not hold."""

from __future__ import annotations

from ondol.apiserver.admission.request import Request
from ondol.apiserver.auth import escalation, rbac
from ondol.apiserver.core import Core
from ondol.apiserver.strategies.base import Context


def admit(core: Core, context: Context, request: Request) -> None:
    resource = request.served.resource
    if core.rbac is None or request.operation == "delete" or resource not in rbac.KINDS:
        return
    escalation.check(core.rbac, context.user, resource, request.new, request.old)
