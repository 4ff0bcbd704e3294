"""Makes ASGI applications of what answers whole requests: JobSinks, transforms, webhooks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from ondol.api.objects import Key
from ondol.base import errors
from ondol.contracts import cluster
from ondol.eventing import exchange
from ondol.eventing.exchange import Answer, Handle, Incoming
from ondol.eventing.intake import Gone, Intake
from ondol.web.application import Asgi, Receive, Scope, Send

EVENT_BYTES_MAX: Final = 1 << 20


def application(handle: Handle, intake: Intake, *, name: str = "", bytes_max: int = EVENT_BYTES_MAX) -> Asgi:
    """Reads requests up to a size, within the bounds of `intake`; an `ApiError` is answered in words.

    Applications of other names have their own parts of what `intake` takes.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            place = intake.enter(name, scope["headers"], bytes_max)
            try:
                body = await intake.body(place, receive)
                path: bytes = scope.get("raw_path") or scope["path"].encode()
                incoming = Incoming(scope["method"], path.decode("latin-1"), tuple(scope["headers"]), body)
                answered = await handle(incoming)
            finally:
                intake.leave(place)
        except Gone:
            return
        except errors.ApiError as error:
            answered = exchange.refusal(error)
        await answer(send, answered)

    return serve


async def answer(send: Send, answered: Answer) -> None:
    """Send an answer."""
    headers = [*answered.headers, (b"content-length", b"%d" % len(answered.body))]
    await send({"type": "http.response.start", "status": answered.status, "headers": headers})
    await send({"type": "http.response.body", "body": answered.body})


def by_service(handle: Callable[[Key, Incoming], Awaitable[Answer]]) -> Handle:
    """Handles requests by the Service whose host was called, in whichever of its forms."""

    async def serve(incoming: Incoming) -> Answer:
        key = cluster.service_of(incoming.header(b"host"))
        if key is None:
            return exchange.words(404, f"{incoming.header(b'host')!r} is the host of no Service")
        return await handle(key, incoming)

    return serve
