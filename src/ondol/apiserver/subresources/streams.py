"""pods/exec and pods/attach: a conversation with a process of a pod, carried to the agent of its node.

Over a WebSocket. A message begins with its channel: 0 input, 1 output, 2 errors, 3 outcome, 4 size of the
terminal; by version 5, 255 and a channel end that channel. The base64 protocols have a digit and text.
Sources: kubelet's `remotecommand/websocket.go`, apimachinery's `wsstream`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import anyio

from ondol.api import status
from ondol.api.objects import Object
from ondol.apiserver.admission.request import Request as AdmissionRequest
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Request, Socket, Upgrade
from ondol.apiserver.ports import NodeProxy, NodeSocket
from ondol.apiserver.served import Served
from ondol.apiserver.subresources import logs
from ondol.base import errors

_V5: Final = "v5.channel.k8s.io"
_V4: Final = frozenset({_V5, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"})
"""Those whose outcome is a Status; that of the others is a sentence, if it is no success."""
_BASE64: Final = frozenset({"v4.base64.channel.k8s.io", "base64.channel.k8s.io"})
PROTOCOLS: Final = (*sorted(_V4, reverse=True), "channel.k8s.io", "base64.channel.k8s.io", "")
_INPUT, _OUTCOME, _SIZE, _CLOSED = 0, 3, 4, 255
_GATHERED_BYTES_MAX: Final = 1 << 20
Accept = Callable[[], Awaitable[Socket]]


async def execute(core: Core, request: Request, served: Served) -> Upgrade:
    """pods/exec."""
    command = request.values("command")
    if not command or not command[0]:
        raise errors.BadRequest("you must specify at least 1 command")
    asked = {name: request.flag(name) for name in ("stdin", "stdout", "stderr", "tty")}
    return await _upgrade(core, request, served, kind="PodExecOptions", asked=asked, command=command)


async def attach(core: Core, request: Request, served: Served) -> Upgrade:
    """pods/attach; outputs are wanted unless it says otherwise."""
    asked = {name: request.flag(name) for name in ("stdin", "tty")}
    asked |= {name: request.flag(name) if name in request.query else True for name in ("stdout", "stderr")}
    return await _upgrade(core, request, served, kind="PodAttachOptions", asked=asked, command=[])


async def _upgrade(
    core: Core, request: Request, served: Served, *, kind: str, asked: dict[str, bool], command: list[str]
) -> Upgrade:
    if asked["tty"]:
        asked["stderr"] = False  # a terminal has one output
    if not (asked["stdin"] or asked["stdout"] or asked["stderr"]):
        raise errors.BadRequest("you must specify at least 1 of stdin, stdout, stderr")
    info = request.info
    pod = live_pod(core, request, served)
    container = logs.container_of(pod, request.query.get("container") or "")
    node = logs.node_of(core, pod)
    proxy = proxy_of(core)
    options: Object = {"kind": kind, "apiVersion": "v1", **asked, "container": container}
    await admit(core, request, served, {**options, **({"command": command} if command else {})})
    path = f"/{info.subresource}/{info.namespace}/{info.name}/{container}"
    query = [(name, "true") for name, is_asked in asked.items() if is_asked]
    query += [("command", word) for word in command]

    async def converse(accept: Accept) -> None:
        async with proxy.connect(node, path, query) as agent:
            await _Bridge(await accept(), agent, asked).run()

    opened = [name for name in ("stdin", "stdout", "stderr") if asked[name]]
    return Upgrade(PROTOCOLS, converse, streams=("error", *opened, *(("resize",) if asked["tty"] else ())))


def live_pod(core: Core, request: Request, served: Served) -> Object:
    pod = core.lookup(served.resource, request.info.namespace, request.info.name)
    if pod is None:
        raise status.not_found(served.resource, request.info.name)
    return pod


def proxy_of(core: Core) -> NodeProxy:
    if core.node_proxy is None:
        raise errors.Unavailable("this server has no way to reach node agents")
    return core.node_proxy


async def admit(core: Core, request: Request, served: Served, options: Object) -> None:
    """Ask the plug-ins and what is outside whether the caller may connect so."""
    info = request.info
    named = {**options, "metadata": {"name": info.name, "namespace": info.namespace}}
    asked = AdmissionRequest("connect", served, info.namespace, named, None, info.subresource)
    with core.reservations.begin() as reserved:
        await core.admission.validate(core.context(request.user, request.warn, reserved), asked)


class _Bridge:
    """Carries the messages of one conversation both ways; no side is read faster than the other takes."""

    def __init__(self, socket: Socket, agent: NodeSocket, asked: Mapping[str, bool]) -> None:
        self._socket = socket
        self._agent = agent
        self._asked = asked
        self._is_text = socket.protocol in _BASE64

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                await self._from_client()
                tasks.cancel_scope.cancel()

            tasks.start_soon(listen)
            await self._to_client()
            tasks.cancel_scope.cancel()

    async def _to_client(self) -> None:
        while (message := await self._agent.receive()) is not None:
            channel, data = message[0], message[1:]
            if channel == _OUTCOME:
                await self._send(_OUTCOME, self._outcome(json.loads(data)))
                return
            await self._send(channel, data)
        await self._send(_OUTCOME, self._outcome({"error": "the node's agent went away"}))

    async def _send(self, channel: int, data: bytes) -> None:
        if channel == _OUTCOME and not data:
            return
        if self._is_text:
            await self._socket.send(f"{channel}{base64.b64encode(data).decode()}")
        else:
            await self._socket.send(bytes((channel,)) + data)

    def _outcome(self, outcome: Mapping[str, Any]) -> bytes:
        document = ended(outcome)
        if self._socket.protocol in _V4:
            return json.dumps(document).encode()
        return str(document.get("message", "")).encode()

    async def _from_client(self) -> None:
        """Until the client is gone, or says what no client may."""
        gathered = b""
        channel = -1
        while (received := await self._socket.receive()) is not None:
            piece, is_whole = received
            if channel < 0 and not piece:
                continue
            if channel < 0:
                channel, piece = piece[0] - (ord("0") if self._is_text else 0), piece[1:]
            if channel == _INPUT and not self._is_text:
                await self._input(piece)
            else:
                gathered += piece
                if len(gathered) > _GATHERED_BYTES_MAX:
                    return
            if is_whole:
                if gathered and not await self._whole(channel, gathered):
                    return
                gathered, channel = b"", -1

    async def _input(self, data: bytes) -> None:
        if data and self._asked["stdin"]:
            await self._agent.send(bytes((_INPUT,)) + data)

    async def _whole(self, channel: int, data: bytes) -> bool:
        """A message that counts as a whole only; False if it breaks the protocol."""
        if self._is_text:
            try:
                data = base64.b64decode(data, validate=True)
            except binascii.Error:
                return False
        if channel == _INPUT:
            await self._input(data)
        elif channel == _SIZE:
            await self._agent.send(bytes((_SIZE,)) + data)
        elif channel == _CLOSED and self._socket.protocol == _V5:
            if len(data) != 1:
                return False
            if data[0] == _INPUT:
                await self._agent.send(bytes((_CLOSED, _INPUT)))
        return True


def ended(outcome: Mapping[str, Any]) -> Object:
    """The Status of how a command ended: `code`, or why it could not be begun (`error`)."""
    if error := outcome.get("error"):
        message = f"Internal error occurred: {error}"
        failure = {"message": message, "reason": "InternalError", "code": 500}
        return {"metadata": {}, "status": "Failure", **failure}
    code = int(outcome.get("code", 0))
    if not code:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
