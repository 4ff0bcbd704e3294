"""What the instances of a function write: of each pod as it starts, those that come later included."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import anyio

from ondol.api import objects, resources
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.client import Client
from ondol.contracts import serving

_USER_CONTAINER: Final = "user-container"
_POLL_S: Final = 0.2


async def follow(
    client: Client,
    name: str,
    namespace: str,
    write: Callable[[bytes], object],
    *,
    since_s: int | None = None,
    goes_on: bool = True,
    but: Collection[str] = (),
) -> None:
    """Write what its pods write, until cancelled if it `goes_on`; not of those with the uids `but`."""
    seen = set(but)
    async with anyio.create_task_group() as tasks:
        while True:
            for pod in await pods(client, name, namespace):
                if objects.uid(pod) not in seen and _has_started(pod):
                    seen.add(objects.uid(pod))
                    tasks.start_soon(_pod, client, pod, write, since_s, goes_on)
            if not goes_on:
                return
            await SystemClock().sleep(_POLL_S)


async def pods(client: Client, name: str, namespace: str) -> list[objects.Object]:
    """The pods that a function has now."""
    selector = f"{serving.SERVICE_LABEL}={name}"
    return list((await client.list(resources.POD, namespace, label_selector=selector)).items)


def _has_started(pod: Mapping[str, Any]) -> bool:
    states = [
        status.get(word) or {}
        for status in objects.status(pod).get("containerStatuses") or ()
        for word in ("state", "lastState")
    ]
    return any("running" in state or "terminated" in state for state in states)


async def _pod(
    client: Client,
    pod: Mapping[str, Any],
    write: Callable[[bytes], object],
    since_s: int | None,
    goes_on: bool,
) -> None:
    try:
        async with client.log(
            objects.namespace(pod),
            objects.name(pod),
            container=_container(pod),
            follow=goes_on,
            since_s=since_s,
        ) as chunks:
            async for chunk in chunks:
                write(chunk)
    except errors.ApiError:
        return  # it has gone meanwhile, or writes no more


def _container(pod: Mapping[str, Any]) -> str:
    names = [str(container["name"]) for container in objects.spec(pod).get("containers") or ()]
    return _USER_CONTAINER if _USER_CONTAINER in names else names[0]
