"""Admission: rules across kinds that may complete a write or refuse it.

Each plug-in is a function of the core, the strategy context and the request; they run in the order
of `PLUGINS`, between the strategy's preparation and validation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ondol.apiserver.admission import accounts, addresses, definitions, escalation, namespaces, pods, services
from ondol.apiserver.admission.request import Request
from ondol.apiserver.core import Core
from ondol.apiserver.strategies.base import Context

__all__ = ["PLUGINS", "Request", "admit"]

PLUGINS: Final[tuple[Callable[[Core, Context, Request], None], ...]] = (
    definitions.admit,
    namespaces.admit,
    accounts.admit,
    pods.admit,
    addresses.admit,
    services.admit,
    escalation.admit,
)


def admit(core: Core, context: Context, request: Request) -> None:
    """Let every plug-in complete `request.new` in place, or refuse."""
    for plugin in PLUGINS:
        plugin(core, context, request)
