"""Custom resources of a definition that is going away: none are created any more."""

from __future__ import annotations

from ondol.apiserver.admission.parts import Parts
from ondol.apiserver.admission.request import Request
from ondol.apiserver.strategy import Context
from ondol.base import errors


def admit(parts: Parts, context: Context, request: Request) -> None:
    del parts, context
    if request.operation == "create" and request.served.terminating:
        raise errors.MethodNotAllowed(
            f"create is not supported on resources of kind "
            f'"{request.served.resource.group_resource}": create not allowed while custom resource '
            "definition is terminating"
        )
