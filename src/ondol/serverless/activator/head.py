"""The head of an HTTP/1 request as bytes: found, checked for size, and told to be the last.

One request a connection through the activator: each held request can then go to the pod that is
free for it, and no connection outlives the moment when the pods take over.
"""

from __future__ import annotations

from typing import Final

HEAD_BYTES_MAX: Final = 64 * 1024
PREFACE: Final = b"PRI * HTTP/2.0\r\n"
_END: Final = b"\r\n\r\n"


def split(received: bytes) -> tuple[bytes, bytes] | None:
    """The head with its empty line and what follows it, or None while it is incomplete."""
    end = received.find(_END)
    if end < 0:
        return None
    end += len(_END)
    return received[:end], received[end:]


def is_http2(received: bytes) -> bool:
    """Whether the client speaks HTTP/2 with prior knowledge."""
    return received[: len(PREFACE)] == PREFACE[: len(received)] and len(received) >= 3


def asks_upgrade(head: bytes) -> bool:
    """Whether the request wants to leave HTTP (WebSocket and the like)."""
    return any(name == b"connection" and b"upgrade" in value.lower() for name, value in _headers(head))


def closing(head: bytes) -> bytes:
    """The head with `Connection: close`, except for an upgrade, which must keep its own."""
    if asks_upgrade(head):
        return head
    first, *lines = head[: -len(_END)].split(b"\r\n")
    kept = [line for line in lines if line.partition(b":")[0].strip().lower() != b"connection"]
    return b"\r\n".join([first, *kept, b"Connection: close"]) + _END


def _headers(head: bytes) -> list[tuple[bytes, bytes]]:
    lines = head[: -len(_END)].split(b"\r\n")[1:]
    return [
        (name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)
    ]


def answer(status: int, reason: str, body: str) -> bytes:
    """A short plain-text answer that closes the connection."""
    text = body.encode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(text)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + text
