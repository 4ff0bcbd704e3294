"""The command `port-forward`: ports of this machine that lead into a pod."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import anyio
import anyio.abc
import typer

from ondol import client as clients
from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.cli import addressing, completion, connection, output, speaking, terminal
from ondol.cli.connection import KubeconfigOption
from ondol.cli.output import DataDir, NamespaceOption
from ondol.client.transport import MessageSocket

_PROTOCOL: Final = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
_PORT_MAX: Final = 65535


def port_forward(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="POD | KIND/NAME [LOCAL:]REMOTE...",
            help="A pod, or what has pods (`svc/front`), and ports: `8080`, `9000:80`, `:http`.",
            autocompletion=completion.pods,
            show_default=False,
        ),
    ],
    address: Annotated[str, typer.Option("--address", help="Address to listen at.")] = "127.0.0.1",
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Lead ports of this machine into a pod, until Ctrl-C."""

    async def run() -> None:
        if len(words) < 2:
            raise output.UsageError("name a pod and its ports: `ondol port-forward web 8080:80`")
        connected = connection.connect(data_dir, kubeconfig, namespace)
        async with speaking.reached(connected, words[:1]) as where:
            pod = await where.client.get(resources.POD, where.pod, where.namespace)
            service = await _service(where.client, words[0], where.namespace)
            pairs = [_pair(word, pod, service) for word in words[1:]]
            await _forward(where.client, pod, pairs, address)

    with output.explained():
        anyio.run(run)


async def _service(client: clients.Client, word: str, namespace: str) -> Object | None:
    """The Service that the pod was named by: its ports have numbers of their own."""
    if "/" not in word:
        return None
    [target] = await addressing.targets(client, [word])
    if target.resource.group_resource != resources.SERVICE.group_resource:
        return None
    return await client.get(resources.SERVICE, target.name, namespace)


def _pair(word: str, pod: Object, service: Object | None) -> tuple[int, int]:
    """The port here, 0 for any that is free, and the one in the pod."""
    local, colon, remote = word.rpartition(":")
    asked = _number(remote)
    inner = remote_port(remote, pod, service)
    here = _number(local) if local else 0 if colon else (asked or inner)
    if here is None:
        raise output.UsageError(f"{local} is no port number")
    return here, inner


def remote_port(text: str, pod: Object, service: Object | None) -> int:
    """A port of the pod by its number or name; by those of the Service, if there is one."""
    if service is not None:
        text = _target_port(text, service)
    number = _number(text)
    if number is not None:
        return number
    for container in objects.spec(pod).get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("name") == text:
                return int(port["containerPort"])
    raise output.UsageError(f"{text} is neither a port number nor the name of a port of the pod")


def _target_port(text: str, service: Object) -> str:
    for port in objects.spec(service).get("ports") or ():
        if text in (str(port["port"]), port.get("name")):
            return str(port.get("targetPort") or port["port"])
    raise output.UsageError(f"Service {objects.name(service)} has no port {text}")


def _number(text: str) -> int | None:
    is_number = text.isascii() and text.isdecimal() and 0 < int(text) <= _PORT_MAX
    return int(text) if is_number else None


async def _forward(
    client: clients.Client, pod: Object, pairs: Sequence[tuple[int, int]], address: str
) -> None:
    path = resources.POD.path(objects.namespace(pod), objects.name(pod), "portforward")
    async with anyio.create_task_group() as tasks:
        for local, remote in pairs:
            listener = await _listen(address, local)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - anyio's
            terminal.write(f"Forwarding from {address}:{port} -> {remote}")
            terminal.flush()
            tasks.start_soon(listener.serve, _Connections(client, path, remote))


async def _listen(address: str, port: int) -> Any:
    try:
        return await anyio.create_tcp_listener(local_host=address, local_port=port)
    except OSError as error:
        raise errors.HostError(f"cannot listen at {address}:{port}: {errors.why(error)}") from error


class _Connections:
    """Each connection to the port here is one by a WebSocket of its own."""

    def __init__(self, client: clients.Client, path: str, port: int) -> None:
        self._client = client
        self._path = path
        self._port = port

    async def __call__(self, stream: anyio.abc.ByteStream) -> None:
        query = [("ports", str(self._port))]
        async with stream:
            try:
                async with self._client.converse(self._path, query, _PROTOCOL) as socket:
                    await _carry(stream, socket, self._port)
            except errors.ApiError as error:
                terminal.note(f"error: {error.message}")


async def _carry(stream: anyio.abc.ByteStream, socket: MessageSocket, port: int) -> None:
    """Both directions, until the pod's is over or the one who connected is gone."""
    opened: Mapping[bytes, bytes] = {bytes((each,)): struct.pack("<H", port) for each in (_DATA, _ERROR)}
    for _ in opened:
        message = await socket.receive()
        if message is None or opened.get(message[:1]) != message[1:]:
            raise errors.Unavailable("the server does not forward the port")

    async with anyio.create_task_group() as tasks:

        async def inward() -> None:
            try:
                async for data in stream:
                    await socket.send(bytes((_DATA,)) + data)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass
            tasks.cancel_scope.cancel()

        tasks.start_soon(inward)
        while (message := await socket.receive()) is not None:
            if message[0] == _ERROR:
                terminal.note(f"error: {message[1:].decode(errors='replace')}")
            else:
                try:
                    await stream.send(message[1:])
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    break
        tasks.cancel_scope.cancel()
