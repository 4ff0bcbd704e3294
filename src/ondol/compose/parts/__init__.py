"""The parts of a platform, one module a process: how it is declared, and how it is put together in its child.

Each has a function `part` for the supervisor. What only that part needs is imported in its child, in its
functions, so that the supervisor, and so every other part, does not carry it.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from typing import Final

import ondol
from ondol.base import errors
from ondol.compose.instance import Instance
from ondol.compose.part import Part
from ondol.compose.parts import api, control, envoy, events, gateway, nats, node, observe
from ondol.compose.settings import Settings

_MODULES: Final = (api, control, node, gateway, observe, envoy, nats, events)
# What at least two parts use and what starts no thread: imported once, before the fork.
_SHARED: Final = (
    "anyio._backends._asyncio",
    "uvloop",
    "msgspec",
    "aiohttp",
    "uvicorn",
    "uvicorn.protocols.http.httptools_impl",
    "ondol.base.metrics",
    "ondol.web.serving",
    "ondol.client.http",
    "ondol.sdk",
    "ondol.api.kinds",
    "ondol.api.patch.strategic",
)


def preload() -> None:
    """Import what the parts share."""
    for module in _SHARED:
        importlib.import_module(module)


def load_all() -> None:
    """Import every module of the installed code; `HostError` names the first that cannot be."""
    for module in pkgutil.walk_packages(ondol.__path__, "ondol."):
        if module.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(module.name)
        except Exception as error:
            raise errors.HostError(
                f"{module.name} cannot be loaded: {type(error).__name__}: {error}",
                remedy="install ondol anew: pip install --force-reinstall ondol",
            ) from error


def of(instance: Instance, settings: Settings) -> list[Part]:
    """Every part of the platform, in the order of their start, but for those that settings leave out."""
    absent = {gateway} if not settings.serverless else set()
    absent |= {nats, events} if not settings.eventing else set()
    parts = [module.part(instance, settings) for module in _MODULES if module not in absent]
    names = {part.name for part in parts}
    return [
        dataclasses.replace(part, outlives=tuple(name for name in part.outlives if name in names))
        for part in parts
    ]
