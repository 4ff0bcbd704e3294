"""Admission: rules across kinds that may complete a write or refuse it.

Each plug-in is a function of the core, the strategy context and the request. Those of `PLUGINS` may complete
the object and run in order between the strategy's preparation and validation; those of `VALIDATING` see it
as it will be stored, and only refuse it or warn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ondol.apiserver.admission import (
    accounts,
    addresses,
    definitions,
    escalation,
    namespaces,
    node_restriction,
    pod_security,
    pods,
    services,
)
from ondol.apiserver.admission.request import Request
from ondol.apiserver.core import Core
from ondol.apiserver.strategies.base import Context

__all__ = ["PLUGINS", "VALIDATING", "Request", "admit", "validate"]

Plugin = Callable[[Core, Context, Request], None]

PLUGINS: Final[tuple[Plugin, ...]] = (
    definitions.admit,
    namespaces.admit,
    accounts.admit,
    pods.admit,
    addresses.admit,
    services.admit,
    escalation.admit,
)
VALIDATING: Final[tuple[Plugin, ...]] = (node_restriction.admit, pod_security.admit)


def admit(core: Core, context: Context, request: Request) -> None:
    """Let every plug-in complete `request.new` in place, or refuse."""
    for plugin in PLUGINS:
        plugin(core, context, request)


def validate(core: Core, context: Context, request: Request) -> None:
    """Let every plug-in look at the valid object, which none of them changes."""
    for plugin in VALIDATING:
        plugin(core, context, request)
