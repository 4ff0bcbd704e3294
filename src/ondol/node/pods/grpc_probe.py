"""The gRPC health checking protocol (grpc.health.v1.Health/Check), for probes.

Loaded by the first pod that has such a probe: the library is heavy, and most nodes never need it.
"""

from __future__ import annotations

from typing import Final

import grpc
import grpc.aio

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


async def ask(host: str, port: int, service: str, timeout_s: float) -> Answer:
    """Whether the server says that it serves `service` (empty for the server as a whole), without TLS.

    Source: k8s.io/kubernetes/pkg/probe/grpc.
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
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
