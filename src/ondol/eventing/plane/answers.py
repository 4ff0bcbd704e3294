"""Answers of the data plane; on bare ASGI, for every event passes."""

from __future__ import annotations

from typing import NamedTuple

from ondol.base import errors
from ondol.eventing import exchange
from ondol.web.application import Send


class Answered(NamedTuple):
    """A status, words for people, and headers."""

    status: int
    message: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()


async def answer(send: Send, answered: Answered) -> None:
    body = f"{answered.message}\n".encode() if answered.message else b""
    headers = [(b"content-length", b"%d" % len(body)), *answered.headers]
    if body:
        headers.append((b"content-type", b"text/plain; charset=utf-8"))
    await send({"type": "http.response.start", "status": answered.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def refusal(error: errors.ApiError) -> Answered:
    """The answer that says an error."""
    return Answered(error.status_code, error.message, tuple(exchange.refusal_headers(error)))
