"""Custom resources of a definition that is going away: none are created any more."""

from __future__ import annotations

from ondol.apiserver.admission.request import Request
from ondol.apiserver.core import Core
from ondol.apiserver.strategies.base import Context
from ondol.base import errors


def admit(core: Core, context: Context, request: Request) -> None:
    del core, context
    if request.operation == "create" and request.served.terminating:
        raise errors.MethodNotAllowed(
            f"create is not supported on resources of kind "
            f'"{request.served.resource.group_resource}": create not allowed while custom resource '
            "definition is terminating"
        )
