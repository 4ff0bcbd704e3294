"""A function as an ASGI application: its health, its handler, and events where it takes those.

The contract is that of `func-python`: the module `function` exports `new`, which makes an object with
`handle` and perhaps `start`, `stop`, `alive` and `ready`, or a bare `handle`.
"""

from __future__ import annotations

import sys

from . import events

TYPE_CHECKING = False  # `typing` takes longer to import than this whole package
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .connection import Message, Receive, Send

LIVENESS = "/health/liveness"
READINESS = "/health/readiness"
_TEXT = [(b"content-type", b"text/plain")]


class NotAFunction(Exception):
    """The code does not export what a function must."""


class Bare:
    """A function that is a handler and nothing else."""

    def __init__(self, handle: Callable[..., Any]) -> None:
        self.handle = handle


def load(name: str = "function") -> Any:
    """Import the function's code and make the object that answers; `NotAFunction` without one."""
    __import__(name)
    module = sys.modules[name]
    if hasattr(module, "new"):
        function = module.new()
        if not hasattr(function, "handle"):
            raise NotAFunction("Function must implement a 'handle' method.")
        return function
    if hasattr(module, "handle"):
        return Bare(module.handle)
    raise NotAFunction("Function must export either 'new' or 'handle'")


class Application:
    """Answers each request: probes itself, the rest by the function."""

    def __init__(self, function: Any, *, takes_events: bool) -> None:
        self._function = function
        self._takes_events = takes_events

    async def start(self, environment: Mapping[str, str]) -> None:
        if hasattr(self._function, "start"):
            await _settled(self._function.start(dict(environment)))

    async def stop(self) -> None:
        if hasattr(self._function, "stop"):
            await _settled(self._function.stop())

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == LIVENESS:
            await self._health("alive", send)
        elif path == READINESS:
            await self._health("ready", send)
        elif self._takes_events:
            await self._event(scope, receive, send)
        else:
            await self._function.handle(scope, receive, send)

    async def _health(self, name: str, send: Send) -> None:
        is_well, words = True, "OK"
        if hasattr(self._function, name):
            verdict = await _settled(getattr(self._function, name)())
            is_well, words = verdict if isinstance(verdict, tuple) else (verdict, words)
        await _answer(send, 200 if is_well else 500, str(words).encode())

    async def _event(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        try:
            scope["event"] = events.decoded(scope["headers"], await _body(receive))
        except events.BadEvent as error:
            print(f"no CloudEvent: {scope['method']} {scope['path']}: {error}", file=sys.stderr)  # noqa: T201
            await _answer(send, 400, b"Bad Request: This endpoint expects CloudEvent requests. ")
            return
        sender = Sender(send)
        try:
            await self._function.handle(scope, receive, sender)
        except Exception as error:
            if sender.has_sent:
                raise
            import traceback  # noqa: PLC0415 - a function that does not fail never needs it

            traceback.print_exception(error, file=sys.stderr)
            attributes: dict[str, object] = {"type": "dev.functions.error", "source": "/cloudevent/error"}
            await sender.structured(events.CloudEvent(attributes, {"message": f"Error: {error}"}), 500)
            return
        if not sender.has_sent:  # nothing is answered: the event is taken
            await _answer(send, 200, b"")


class Sender:
    """`send` of a function that takes events: in structured mode, unless `binary` or `http` is asked."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_sent = False

    async def __call__(self, event: Any, status: int = 200) -> None:
        await self.structured(event, status)

    async def structured(self, event: Any, status: int = 200) -> None:
        await self._encoded(*events.structured(event), status)

    async def binary(self, event: Any, status: int = 200) -> None:
        await self._encoded(*events.binary(event), status)

    async def http(self, message: Message) -> None:
        """A message of ASGI as it is."""
        self.has_sent = True
        await self._send(message)

    async def _encoded(self, headers: list[tuple[bytes, bytes]], body: bytes, status: int) -> None:
        self.has_sent = True
        length = (b"content-length", b"%d" % len(body))
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        await self._send({"type": "http.response.body", "body": body})


async def _settled(value: Any) -> Any:
    """What a function's method answers, which may be a coroutine."""
    return await value if hasattr(value, "__await__") else value


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _answer(send: Send, status: int, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(_TEXT)})
    await send({"type": "http.response.body", "body": body})
