"""WebSockets: what the API streams (logs, watches), sent as messages to clients that ask for the upgrade.

The request before the upgrade is authenticated, authorised and handled as the GET that it is. Then:

- a watch is accepted, by the first of the protocols that the client offers, if any; each event is one text
  message;
- a log is accepted by a protocol of `_LOG_PROTOCOLS`; an empty message comes first, then the bytes as they
  come, in binary messages, or as base64 in text ones by `base64.binary.k8s.io`;
- the end of what streams closes the WebSocket with 1000, a failure after it was accepted with 1011;
- an answer that does not stream (a list, an error) is the plain HTTP answer to the request, without upgrade.

Nothing that the client sends is read but its closing, unless the answer is a conversation (`Upgrade`).
Sources: kube-apiserver's `wsstream.NewReader`
(logs) and `WatchServer.HandleWS` (watches).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ondol.apiserver.exchange import (
    JSON,
    Answer,
    Message,
    Receive,
    Reply,
    Scope,
    Send,
    Stream,
    Upgrade,
)
from ondol.base import errors

BEARER: Final = "base64url.bearer.authorization.k8s.io."
"""Browsers cannot set headers for a WebSocket: a token may come as one of the protocols."""
_PROTOCOL: Final = b"sec-websocket-protocol"
_BASE64: Final = "base64.binary.k8s.io"
_PROGRAM_ORIGIN: Final = b"http://localhost"
"""What programs name whose library (Go's) asks for an origin; a page has it only from port 80."""
_BROWSER: Final = b"Mozilla/"
"""How the `User-Agent` of every browser begins, which no page can set."""
_LOG_PROTOCOLS: Final = ("", "binary.k8s.io", _BASE64)
_NORMAL: Final = 1000
_FAILED: Final = 1011


def as_request(scope: Scope) -> dict[str, Any]:
    """The scope of a WebSocket as that of the GET it began with; a token among its protocols as a header.

    `Forbidden` where a page of another origin would use what its browser holds of the user: pages may
    open WebSockets to anywhere, and nothing else keeps them from it.
    """
    headers = _authorized(scope["headers"], scope["subprotocols"])
    return {**scope, "type": "http", "method": "GET", "headers": headers}


def opening(scope: Scope) -> dict[str, Any]:
    """The same of a WebSocket that is handed on: its token is for this server, and goes no further."""
    offered = [each.strip() for name, v in scope["headers"] if name == _PROTOCOL for each in v.split(b",")]
    kept = [each for each in offered if not each.startswith(BEARER.encode())]
    headers = _authorized(scope["headers"], [each.decode("latin-1") for each in offered])
    if kept != offered:
        headers = [header for header in headers if header[0] != _PROTOCOL]
        headers += [(_PROTOCOL, b", ".join(kept))] if kept else []
    return {**scope, "headers": headers}


def _authorized(
    headers: Iterable[tuple[bytes, bytes]], protocols: Sequence[str]
) -> list[tuple[bytes, bytes]]:
    listed = [*headers]
    tokens = [name.removeprefix(BEARER) for name in protocols if name.startswith(BEARER)]
    if tokens and not any(name == b"authorization" for name, _ in listed):
        listed.append((b"authorization", b"Bearer " + _token(tokens[0])))
    named = dict(listed)
    origin = named.get(b"origin")  # `null` for pages in a sandbox and those that are files
    is_elsewhere = origin is not None and origin.partition(b"://")[2] != named.get(b"host")
    # Behind `kubectl proxy` the host is another one; what browsers say of it no page can forge.
    is_elsewhere = is_elsewhere and named.get(b"sec-fetch-site") != b"same-origin"
    if is_elsewhere and b"authorization" not in named and not _is_program(named):
        raise errors.Forbidden("a page of another origin may open a WebSocket with a token of its own only")
    return listed


def _is_program(headers: Mapping[bytes, bytes]) -> bool:
    """Whether no browser asks: its user runs it on purpose, so what it holds of the user may be used."""
    is_browser = headers.get(b"user-agent", b"").startswith(_BROWSER)
    return headers.get(b"origin") == _PROGRAM_ORIGIN and not is_browser


def _token(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise errors.Unauthorized("Unauthorized") from None


def reading(receive: Receive) -> Receive:
    """What a handler receives: nothing but the end, for a stream is not talked to."""

    async def next_message() -> Message:
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return {"type": "http.disconnect"}

    return next_message


class Sending:
    """The answer over one WebSocket; `status` is what it would be in plain HTTP."""

    def __init__(self, send: Send, receive: Receive, offered: Sequence[str], audit_id: str) -> None:
        self._send = send
        self._receive = receive
        self._offered = [name for name in offered if not name.startswith(BEARER)]
        self._audit_id = audit_id
        self._accepted = False
        self.status = 0
        self.is_panic = False

    async def answer(self, answer: Answer) -> None:
        if isinstance(answer, Reply):
            await self._refuse(answer)
            return
        if isinstance(answer, Upgrade):
            await self._converse(answer)
            return
        if not isinstance(answer, Stream):
            raise errors.BadRequest("a WebSocket is handed on by the edge alone")
        protocol = self._protocol(answer)

        async def emit(chunk: bytes) -> None:
            await self._accept(answer, protocol)
            for message in _messages(answer, protocol, chunk):
                await self._send({"type": "websocket.send", **message})

        await answer.produce(emit)
        await self._accept(answer, protocol)
        await self._send({"type": "websocket.close", "code": _NORMAL})

    async def _converse(self, upgrade: Upgrade) -> None:
        protocol = self._chosen(upgrade.protocols)

        async def accept() -> Conversation:
            self._accepted, self.status = True, 101
            headers = [(b"audit-id", self._audit_id.encode())]
            await self._send(
                {"type": "websocket.accept", "headers": headers, "subprotocol": protocol or None}
            )
            return Conversation(self._send, self._receive, protocol)

        is_gone = False
        try:
            await upgrade.converse(accept)
        except* OSError:
            is_gone = True
        if not is_gone:
            await self._send({"type": "websocket.close", "code": _NORMAL})

    def _chosen(self, protocols: Sequence[str]) -> str:
        """The first of the client's protocols that is spoken; `Forbidden` if it wants only others."""
        chosen = next((name for name in self._offered or [""] if name in protocols), None)
        if chosen is None:
            offered, supported = " ".join(self._offered), " ".join(name for name in protocols if name)
            raise errors.Forbidden(
                f"requested protocol(s) are not supported: [{offered}]; supports [{supported}]"
            )
        return chosen

    async def fail(self, reply: Reply) -> None:
        if self._accepted:
            await self._send({"type": "websocket.close", "code": _FAILED})
        else:
            await self._refuse(reply)

    def _protocol(self, answer: Stream) -> str:
        """The one of the client's protocols to speak; `Forbidden` if it wants only others."""
        if answer.content_type == JSON:
            return self._offered[0] if self._offered else ""
        return self._chosen(_LOG_PROTOCOLS)

    async def _accept(self, answer: Stream, protocol: str) -> None:
        if self._accepted:
            return
        self._accepted, self.status = True, 101
        accept: Message = {"type": "websocket.accept", "headers": [(b"audit-id", self._audit_id.encode())]}
        await self._send({**accept, "subprotocol": protocol or None})
        if answer.content_type != JSON:
            await self._send({"type": "websocket.send", **_piece(protocol, b"")})

    async def _refuse(self, reply: Reply) -> None:
        self.status = reply.status
        headers = [(b"content-type", reply.content_type), (b"audit-id", self._audit_id.encode())]
        start = {"status": reply.status, "headers": [*headers, *reply.headers]}
        await self._send({"type": "websocket.http.response.start", **start})
        await self._send({"type": "websocket.http.response.body", "body": reply.body})


def _messages(answer: Stream, protocol: str, chunk: bytes) -> Iterator[Message]:
    if answer.content_type == JSON:
        for line in chunk.splitlines(keepends=True):
            yield {"text": line.decode()}
    elif chunk:
        yield _piece(protocol, chunk)


def _piece(protocol: str, chunk: bytes) -> Message:
    return {"text": base64.b64encode(chunk).decode()} if protocol == _BASE64 else {"bytes": chunk}


MORE: Final = "ondol.more"
"""Key of a received message that is a piece of a larger one, to be followed by others."""


class Conversation:
    """The WebSocket of an `Upgrade`, once it was accepted."""

    def __init__(self, send: Send, receive: Receive, protocol: str) -> None:
        self._send = send
        self._receive = receive
        self.protocol = protocol

    async def receive(self) -> tuple[bytes, bool] | None:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            return None
        data = message.get("bytes")
        piece = data if data is not None else str(message.get("text", "")).encode()
        return piece, not message.get(MORE)

    async def send(self, data: bytes | str) -> None:
        kind = "bytes" if isinstance(data, bytes) else "text"
        await self._send({"type": "websocket.send", kind: data})
