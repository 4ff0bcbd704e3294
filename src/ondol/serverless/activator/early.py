"""Pods that are starting, asked here whether they answer: a held request need not wait for their status.

The node asks the same question and writes what it hears into the pod's status, which comes back here a
little later. As with Knative's activator, a pod that has answered here may have the requests that are held
(knative/serving `pkg/activator/net/revision_backends.go`). Nothing else is decided by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import anyio
import anyio.abc

from ondol.api import conditions, objects
from ondol.base.clock import Clock
from ondol.contracts import mesh
from ondol.serverless.activator.throttler import Endpoint

_FIRST_WAIT_S: Final = 0.003
_SELDOM_S: Final = 0.05
_WAIT_MAX_S: Final = 0.5
_SHARE: Final = 0.05
"""Of the time since a pod was first asked: so long until it is asked again."""
_TIMEOUT_S: Final = 1.0
_STATUS_BYTES: Final = len(b"HTTP/1.1 200")


class Question(NamedTuple):
    """How a pod is asked: whether it takes a connection or, with a request, whether it answers 2xx or 3xx."""

    endpoint: Endpoint
    request: bytes = b""
    is_soon: bool = False
    """Whether its containers are free to start; else it is asked seldom."""


def question(pod: Mapping[str, Any], port: int) -> Question | None:
    """That of the pod's one readiness probe, if there is just one and it is as simple as that."""
    spec, status = objects.spec(pod), objects.status(pod)
    address = str(status.get("podIP") or "")
    if not address or objects.is_deleting(pod) or conditions.is_true(pod, "Ready"):
        return None
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    probes = [each["readinessProbe"] for each in containers if each.get("readinessProbe")]
    if len(probes) != 1 or spec.get("readinessGates") or any(each.get("startupProbe") for each in containers):
        return None
    (probe,) = probes
    if probe.get("initialDelaySeconds") or int(probe.get("successThreshold") or 1) > 1:
        return None
    endpoint = Endpoint(address, port)
    is_soon = conditions.is_true(pod, mesh.POD_PROGRAMMED)
    if (action := probe.get("tcpSocket")) is not None and _is_own(action, port):
        return Question(endpoint, is_soon=is_soon)
    action = probe.get("httpGet")
    if action is None or not _is_own(action, port) or (action.get("scheme") or "HTTP") != "HTTP":
        return None
    return Question(endpoint, _request(action, endpoint), is_soon=is_soon)


def _is_own(action: Mapping[str, Any], port: int) -> bool:
    return not action.get("host") and action.get("port") == port


def _request(action: Mapping[str, Any], endpoint: Endpoint) -> bytes:
    path = str(action.get("path") or "/")
    own = {"Host": f"{endpoint.host}:{endpoint.port}", "User-Agent": "kube-probe/ondol", "Accept": "*/*"}
    headers = list(own.items())
    for each in action.get("httpHeaders") or ():
        headers = [pair for pair in headers if pair[0].lower() != str(each["name"]).lower()]
        headers.append((str(each["name"]), str(each.get("value") or "")))
    lines = [f"GET {path if path.startswith('/') else '/' + path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in [*headers, ("Connection", "close")]]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def answers(asked: Question, clock: Clock, own: str = "") -> bool:
    """Ask once; from an address of this machine, if `own` names one."""
    with clock.move_on_after(_TIMEOUT_S):
        try:
            async with await _connected(asked.endpoint, own) as stream:
                if not asked.request:
                    return True
                await stream.send(asked.request)
                received = b""
                while len(received) < _STATUS_BYTES:
                    received += await stream.receive()
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
            return False
        return received.startswith(b"HTTP/1.") and received[9:10] in {b"2", b"3"}
    return False


async def _connected(at: Endpoint, own: str) -> anyio.abc.SocketStream:
    if not own:
        return await anyio.connect_tcp(at.host, at.port)
    return await anyio.connect_tcp(at.host, at.port, local_host=own)


def wait_s(asked: Question, since_s: float) -> float:
    """How long until the next time, when the pod has been asked for so long."""
    least_s = _FIRST_WAIT_S if asked.is_soon else _SELDOM_S
    return min(max(least_s, _SHARE * since_s), _WAIT_MAX_S)
