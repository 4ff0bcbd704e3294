"""A process in a pod as the client's side speaks with it: the channels of `v5.channel.k8s.io`.

Input, outputs, sizes of the terminal and the end, over one WebSocket. Source: client-go's
`tools/remotecommand/v5.go`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import anyio

from ondol.api import status
from ondol.base import errors
from ondol.client.transport import MessageSocket

PROTOCOL: Final = "v5.channel.k8s.io"
STDIN, STDOUT, STDERR, OUTCOME, SIZE, CLOSED = 0, 1, 2, 3, 4, 255


async def run(
    socket: MessageSocket,
    outputs: Mapping[int, Callable[[bytes], object]],
    stdin: AsyncIterator[bytes] | None = None,
    sizes: AsyncIterator[tuple[int, int]] | None = None,
) -> int:
    """Speak with it to its end: its exit code. `ApiError` for an end that is none of its own.

    `outputs` are called with what comes by their channel; `sizes` are columns and rows of the terminal.
    """

    async def send_input(pieces: AsyncIterator[bytes]) -> None:
        async for piece in pieces:
            await socket.send(bytes((STDIN,)) + piece)
        await socket.send(bytes((CLOSED, STDIN)))

    async def send_sizes(pairs: AsyncIterator[tuple[int, int]]) -> None:
        async for width, height in pairs:
            await socket.send(bytes((SIZE,)) + json.dumps({"Width": width, "Height": height}).encode())

    async with anyio.create_task_group() as tasks:
        if stdin is not None:
            tasks.start_soon(send_input, stdin)
        if sizes is not None:
            tasks.start_soon(send_sizes, sizes)
        outcome: Mapping[str, Any] | None = None
        while outcome is None and (message := await socket.receive()) is not None:
            if message[0] == OUTCOME:
                outcome = json.loads(message[1:])
            elif message[0] in outputs and len(message) > 1:
                outputs[message[0]](message[1:])
        tasks.cancel_scope.cancel()
    return exit_code(outcome)


def exit_code(outcome: Mapping[str, Any] | None) -> int:
    """Of the Status with which it ended."""
    if outcome is None:
        raise errors.Unavailable("the connection ended before the process did")
    if outcome.get("status") == "Success":
        return 0
    for cause in (outcome.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise status.error_from(outcome, int(outcome.get("code") or 500))
