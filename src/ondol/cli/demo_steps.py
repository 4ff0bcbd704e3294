"""What the steps of the demo share: waiting until something is so, and asking through the ingress."""

from __future__ import annotations

import http.client
from collections.abc import Awaitable, Callable
from typing import Any, Final

from ondol.api import conditions, objects
from ondol.api.objects import Resource
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.client import Client
from ondol.compose.instance import Instance
from ondol.compose.waiting import Deadline

NAMESPACE: Final = "shop"
_WAIT_S: Final = 90.0
_POLL_S: Final = 0.05


async def is_ready(client: Client, resource: Resource, name: str) -> bool:
    obj = await client.get(resource, name, NAMESPACE)
    observed = objects.status(obj).get("observedGeneration")
    return conditions.is_true(obj, "Ready") and observed == objects.generation(obj)


async def until(what: str, test: Callable[..., Awaitable[bool]], *arguments: Any) -> None:
    deadline = Deadline(_WAIT_S)
    while not await test(*arguments):
        if deadline.has_passed:
            raise errors.HostError(
                f"{what} was not ready after {_WAIT_S:.0f} s",
                remedy="kubectl -n shop get pods,events; see the logs folder of the data directory",
            )
        await SystemClock().sleep(_POLL_S)


def fetch(
    instance: Instance,
    host: str,
    path: str,
    *,
    headers: dict[str, str] | None = None,
    timeout_s: float = 30.0,
) -> tuple[int, bytes]:
    """One request through the ingress gateway; status 0 and the reason when no answer came."""
    connection = http.client.HTTPConnection("127.0.0.1", instance.ports.ingress, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Host": host, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error).encode()
    finally:
        connection.close()
