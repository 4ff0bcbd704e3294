"""What the shell offers while a command is typed: kinds and names as the server has them.

Never fails and never waits long: a shell that completes shows no errors.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import anyio

from ondol import client as clients
from ondol.api import objects, resources
from ondol.api.objects import Resource
from ondol.base import errors
from ondol.base.clock import SystemClock

_PATIENCE_S: Final = 2.0


def words(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Kinds for the first word, names for those after it, and names of the kind in `KIND/NA...`."""
    _ = args
    kind, slash, start = incomplete.rpartition("/")
    before = _typed(ctx)
    if slash:
        return [f"{kind}/{name}" for name in _names(ctx, kind, start)]
    if before and "/" not in before[0]:
        return _names(ctx, before[0], incomplete)
    return _kinds(ctx, incomplete)


def pods(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Names of pods, or names of the kind in `KIND/NA...`."""
    return words(ctx, args, incomplete) if "/" in incomplete else _names(ctx, "pods", incomplete)


def namespaces(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Names of namespaces."""
    _ = args

    async def read(client: clients.Client) -> list[str]:
        return await _listed(client, resources.NAMESPACE, "")

    return [name for name in _answers(ctx, lambda client, _: read(client)) if name.startswith(incomplete)]


def _typed(ctx: Any) -> list[str]:
    """The words of the command that stand before the one that is completed."""
    return [str(word) for word in ctx.params.get("words") or ()]


def _kinds(ctx: Any, start: str) -> list[str]:
    async def read(client: clients.Client, _namespace: str) -> list[str]:
        described = await client.describe()
        return sorted({name for entry in described for name in (entry.resource.plural, *entry.short_names)})

    return [name for name in _answers(ctx, read) if name.startswith(start)]


def _names(ctx: Any, kind: str, start: str) -> list[str]:
    async def read(client: clients.Client, namespace: str) -> list[str]:
        from ondol.cli import addressing  # noqa: PLC0415 - it is not needed by the commands that need this

        targets = await addressing.targets(client, [kind])
        return [name for target in targets for name in await _listed(client, target.resource, namespace)]

    return [name for name in _answers(ctx, read) if name.startswith(start)]


async def _listed(client: clients.Client, resource: Resource, namespace: str) -> list[str]:
    page = await client.list(resource, namespace if resource.namespaced else "", metadata_only=True)
    return [objects.name(item) for item in page.items]


def _answers(ctx: Any, read: Callable[[clients.Client, str], Awaitable[list[str]]]) -> list[str]:
    """What the server answers to `read`; nothing if it cannot be asked."""
    from ondol.cli import connection  # noqa: PLC0415 - it imports what completes its options

    async def run() -> list[str]:
        names: list[str] = []
        with SystemClock().move_on_after(_PATIENCE_S):
            namespace = ctx.params.get("namespace") or ""
            connected = connection.connect(_data_dir(ctx), _kubeconfig(ctx), namespace)
            async with aclosing(connected.client) as client:
                names = list(await read(client, connected.namespace))
        return names

    try:
        return anyio.run(run)
    except (errors.OndolError, OSError):
        return []


def _data_dir(ctx: Any) -> Path | None:
    chosen = ctx.params.get("data_dir") or os.environ.get("ONDOL_DATA_DIR")
    return Path(chosen) if chosen else None


def _kubeconfig(ctx: Any) -> str:
    return str(ctx.params.get("kubeconfig") or os.environ.get("KUBECONFIG") or "")
