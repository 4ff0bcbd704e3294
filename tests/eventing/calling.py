"""Calls an ASGI application as a server would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ondol.base.clock import Clock
from ondol.eventing.exchange import Answer
from ondol.eventing.intake import Intake
from ondol.eventing.shares import Shares
from ondol.web.application import Asgi

Headers = Sequence[tuple[bytes, bytes]]


async def call(
    application: Asgi, method: str, path: str, headers: Headers = (), body: bytes = b"", *, pieces: int = 1
) -> Answer:
    """The answer to one request, whose body comes in so many pieces."""
    size = max(1, -(-len(body) // pieces))
    parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages[-1]["more_body"] = False
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "headers": list(headers),
    }
    await application(scope, receive, send)
    start, *rest = sent
    content = b"".join(message["body"] for message in rest)
    return Answer(start["status"], tuple(start["headers"]), content)


def header(answer: Answer, name: bytes) -> str | None:
    """A header of an answer."""
    return next((value.decode() for key, value in answer.headers if key == name), None)


def roomy(clock: Clock, *, count_max: int = 100, bytes_max: int = 1 << 26) -> Intake:
    """Room for what a test sends."""
    return Intake(clock, Shares(count_max=count_max, bytes_max=bytes_max))
