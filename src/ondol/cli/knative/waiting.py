"""Waits until an object is ready, telling what it waits for as that changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from typer import Option

from ondol import client as clients
from ondol.api import conditions, objects
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.cli import terminal

_POLL_S: Final = 0.2
_SILENCE_S: Final = 10.0
"""After so long without a word from the object, where to look is told."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Whether and how long a command waits."""

    wait: Annotated[bool, Option("--wait/--no-wait", help="Wait until it is ready.")] = True
    wait_timeout: Annotated[int, Option("--wait-timeout", min=1, help="Seconds after which to give up.")] = (
        600
    )
    wait_window: Annotated[
        int, Option("--wait-window", min=0, help="Seconds in which a failure may turn out to be none.")
    ] = 2


async def until_ready(
    client: clients.Client, resource: Resource, name: str, namespace: str, patience: Patience
) -> Object:
    """The object when it is ready; what it says meanwhile goes to standard error."""
    clock = client.clock
    began_s, failed_s = clock.monotonic(), None
    reported: set[str] = set()
    elsewhere = f"see `ondol status` and `kubectl describe {resource.plural} {name}`"
    while True:
        obj = await client.get(resource, name, namespace)
        ready = _outcome(obj)
        passed_s = clock.monotonic() - began_s
        message = str(ready.get("message") or "")
        words = message
        if not reported and passed_s > _SILENCE_S:
            words = message or f"it is not ready, and nothing says why; {elsewhere}"
        if words and words not in reported:  # two that take turns are told once each
            reported.add(words)
            terminal.note(f"{passed_s:7.3f}s {words}")
        if ready.get("status") == "True":
            return obj
        failed_s = None if ready.get("status") != "False" else failed_s if failed_s is not None else passed_s
        if failed_s is not None and passed_s - failed_s >= patience.wait_window:
            raise errors.OndolError(f"{resource.kind} {name} is not ready: {ready.get('reason')}: {message}")
        if passed_s > patience.wait_timeout:
            raise errors.OndolError(
                f"{resource.kind} {name} is not ready after {patience.wait_timeout} seconds"
                + (f": {message}" if message else f"; {elsewhere}")
            )
        await clock.sleep(_POLL_S)


def _outcome(obj: Object) -> dict[str, Any]:
    """Its condition Ready, if it is about what the object asks for now."""
    if objects.status(obj).get("observedGeneration") != objects.generation(obj):
        return {}
    return dict(conditions.get(obj, "Ready") or {})


async def until_gone(
    client: clients.Client, resource: Resource, name: str, namespace: str, patience: Patience
) -> None:
    """Until nobody has the name any more."""
    began_s = client.clock.monotonic()
    while client.clock.monotonic() - began_s <= patience.wait_timeout:
        try:
            await client.get(resource, name, namespace)
        except errors.NotFound:
            return
        await client.clock.sleep(_POLL_S)
    raise errors.OndolError(f"{resource.kind} {name} is still there after {patience.wait_timeout} seconds")
