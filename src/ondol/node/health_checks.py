"""Health checks of Services: a port each that says whether this node has endpoints of the Service.

For balancers before the node: one with `externalTrafficPolicy: Local` leads only to pods of the node that it
comes to, and a node without answers 503. The answers are kube-proxy's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import anyio
import anyio.abc

from ondol.api import objects
from ondol.api.objects import Key
from ondol.api.services import has_health_check
from ondol.base.clock import Clock
from ondol.node import shares
from ondol.node.network import services
from ondol.node.shares import Shares

_HEAD_MAX: Final = 8192
_PATIENCE_S: Final = 5.0
_CONNECTIONS_MAX, _CONNECTIONS_EACH_MAX = 64, 16
"""At one port at once, and of one address. More are closed: each that waited would be a descriptor."""


_Serving: TypeAlias = tuple[anyio.CancelScope, anyio.abc.Listener[anyio.abc.SocketStream]]


@dataclass(frozen=True, slots=True)
class Check:
    """What is told of a Service, and at which port."""

    service: Key
    port: int
    endpoints: int
    """Ready ones on this node."""


def checks(
    listed: Iterable[Mapping[str, Any]], slices: Iterable[Mapping[str, Any]], node: str
) -> dict[Key, Check]:
    """The checks of the Services that have one."""
    ports = {
        objects.key(each): int(port)
        for each in listed
        if (port := objects.spec(each).get("healthCheckNodePort")) and has_health_check(objects.spec(each))
    }
    local: dict[Key, set[str]] = {key: set() for key in ports}
    for one in slices:
        if (addresses := local.get(services.service_of(one))) is not None:
            for endpoint in one.get("endpoints") or ():
                if services.is_ready(endpoint) and endpoint.get("nodeName") == node:
                    addresses.update(endpoint.get("addresses") or ())
    return {key: Check(key, port, len(local[key])) for key, port in ports.items()}


def answer(check: Check) -> bytes:
    """The response to a GET of any path."""
    body = json.dumps(
        {
            "service": {"namespace": check.service.namespace, "name": check.service.name},
            "localEndpoints": check.endpoints,
            "serviceProxyHealthy": True,
        },
        indent="\t",
    ).encode()
    status = "200 OK" if check.endpoints else "503 Service Unavailable"
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
        f"X-Load-Balancing-Endpoint-Weight: {check.endpoints}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


class HealthChecks:
    """`keep` what is served in step; who owns the task group ends it all."""

    def __init__(self, tasks: anyio.abc.TaskGroup, clock: Clock, address: str = "0.0.0.0") -> None:
        self._tasks = tasks
        self._clock = clock
        self._address = address
        self._checks: dict[Key, Check] = {}
        self._served: dict[Key, tuple[int, _Serving]] = {}

    async def keep(self, desired: Mapping[Key, Check]) -> dict[Key, str]:
        """Serve these and no others; by Service, why one could not be."""
        self._checks = dict(desired)
        for key, (port, (scope, listener)) in list(self._served.items()):
            if key not in desired or desired[key].port != port:
                scope.cancel()
                await listener.aclose()
                del self._served[key]
        failed: dict[Key, str] = {}
        for key in desired.keys() - self._served.keys():
            try:
                self._served[key] = desired[key].port, await self._tasks.start(self._serve, desired[key])
            except OSError as error:
                failed[key] = f"failed to start healthcheck {key} on port {desired[key].port}: {error}"
        return failed

    async def _serve(self, check: Check, *, task_status: anyio.abc.TaskStatus[_Serving]) -> None:
        listener = await anyio.create_tcp_listener(
            local_host=self._address, local_port=check.port, reuse_port=False
        )
        connections = Shares(_CONNECTIONS_MAX, _CONNECTIONS_EACH_MAX)

        async def connection(stream: anyio.abc.SocketStream) -> None:
            with connections.one(shares.asker(stream)) as has_place:
                async with stream:
                    if has_place:
                        await self._respond(stream, check.service)

        with anyio.CancelScope() as scope:
            async with listener:
                task_status.started((scope, listener))
                await listener.serve(connection)

    async def _respond(self, stream: anyio.abc.SocketStream, service: Key) -> None:
        head = b""
        try:
            with self._clock.fail_after(_PATIENCE_S):
                while b"\r\n\r\n" not in head and len(head) < _HEAD_MAX:
                    head += await stream.receive()
                if (check := self._checks.get(service)) is not None:
                    await stream.send(answer(check))
        except (TimeoutError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # who asked does not wait for the answer
