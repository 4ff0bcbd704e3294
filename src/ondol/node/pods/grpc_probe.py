"""The gRPC health checking protocol (grpc.health.v1.Health/Check), for probes.

Loaded by the first pod that has such a probe: the library is heavy, and most nodes never need it.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import grpc
import grpc.aio
from anyio.abc import ByteStream

from ondol.api import release
from ondol.base import protowire
from ondol.node.pods.target import Answer

_METHOD: Final = "/grpc.health.v1.Health/Check"
_STATES: Final = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_OPTIONS: Final = (
    ("grpc.primary_user_agent", f"kube-probe/{release.NAME}"),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


async def ask(host: str, port: int, service: str, timeout_s: float, asked_from: str | None = None) -> Answer:
    """Whether the server says that it serves `service` (empty for the server as a whole), without TLS.

    Source: k8s.io/kubernetes/pkg/probe/grpc.
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if asked_from is None:
        return await _ask(address, address, service, timeout_s)
    async with _relay(host, port, asked_from) as relay:
        return await _ask(relay, address, service, timeout_s)


@asynccontextmanager
async def _relay(host: str, port: int, asked_from: str) -> AsyncIterator[str]:
    """An address that leads to the server by way of an address of this host: gRPC lets nobody choose one.

    It is a file in a folder of root's alone: whoever comes by it is let past a pod's guard.
    """

    async def carry(client: ByteStream) -> None:
        async with client:
            try:
                server = await anyio.connect_tcp(host, port, local_host=asked_from)
            except OSError:
                return  # its end tells the client
            async with server, anyio.create_task_group() as tasks:
                tasks.start_soon(_pump, client, server, tasks.cancel_scope)
                tasks.start_soon(_pump, server, client, tasks.cancel_scope)

    with tempfile.TemporaryDirectory(prefix="ondol-probe-") as folder:
        here = Path(folder, "relay")
        async with anyio.create_task_group() as tasks, await anyio.create_unix_listener(here) as listener:
            tasks.start_soon(listener.serve, carry)
            yield f"unix:{here}"
            tasks.cancel_scope.cancel()


async def _pump(source: ByteStream, sink: ByteStream, scope: anyio.CancelScope) -> None:
    """Until either side ends; a health check is over then."""
    with contextlib.suppress(
        OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError
    ):
        async for chunk in source:
            await sink.send(chunk)
    scope.cancel()


async def _ask(target: str, address: str, service: str, timeout_s: float) -> Answer:
    options = (*_OPTIONS, ("grpc.default_authority", address))
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        check = channel.unary_unary(_METHOD)
        try:
            state = status(await check(request(service), timeout=timeout_s))
        except grpc.aio.AioRpcError as error:
            return Answer("failure", _refused(address, timeout_s, error))
    if state == "SERVING":
        return Answer("success", "service healthy")
    return Answer("failure", f'service unhealthy (responded with "{state}")')


def _refused(address: str, timeout_s: float, error: grpc.aio.AioRpcError) -> str:
    match error.code():
        case grpc.StatusCode.UNIMPLEMENTED:
            what = "this server does not implement the grpc health protocol (grpc.health.v1.Health)"
            return f"error: {what}: {error.details()}"
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"timeout: health rpc did not complete within {timeout_s:g}s"
        case grpc.StatusCode.UNAVAILABLE:
            return f'error: failed to connect service at "{address}": connection refused or lost'
        case code:
            return f"error: health rpc probe failed: {code.name}: {error.details()}"


def request(service: str) -> bytes:
    """A `HealthCheckRequest`: field 1 is the service's name."""
    return protowire.put_bytes(1, service.encode()) if service else b""


def status(answer: bytes) -> str:
    """The state in a `HealthCheckResponse`: field 1, a number; absent is the first."""
    number = answer[1] if len(answer) > 1 and answer[0] == 0x08 else 0
    return _STATES[number] if number < len(_STATES) else str(number)
