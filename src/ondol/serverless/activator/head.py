"""The heads of an HTTP/1 request and of its answer: read from bytes, bounded in size, marked as the last.

One request a connection through the activator: each held request can then go to the pod that is
free for it, and no connection outlives the moment when the pods take over.
"""

from __future__ import annotations

import re
from typing import Final

HEAD_BYTES_MAX: Final = 64 * 1024
PREFACE: Final = b"PRI * HTTP/2.0\r\n"
_END: Final = b"\r\n\r\n"
_ANY_END: Final = re.compile(rb"\n\r?\n")
"""Where a head ends that may have been written with bare line ends; such a one is passed as it is."""
_ANSWER: Final = b"HTTP/1."
_SWITCHED: Final = b"101"


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
    others = [line for line in lines if line.partition(b":")[0].strip().lower() != b"connection"]
    return b"\r\n".join([first, *others, b"Connection: close"]) + _END


def traceparent(head: bytes) -> str:
    """The trace that an HTTP/1 request belongs to, as its header says; empty without one."""
    listed = [value for name, value in _headers(head) if name == b"traceparent"]
    return listed[0].decode("latin-1") if listed else ""


def _headers(head: bytes) -> list[tuple[bytes, bytes]]:
    lines = head[: -len(_END)].split(b"\r\n")[1:]
    return [
        (name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)
    ]


class Answer:
    """A pod's answer on its way: its head tells the client that the connection ends with it.

    Servers need not say so themselves when they were asked to close (RFC 9112, 9.6: SHOULD). The proxy would
    keep the connection for its next request, which would meet the end of it and be answered 503.
    """

    def __init__(self) -> None:
        self._waiting = b""
        self._is_past_head = False
        self.code = 0
        """Its status; 0 before it has one, and for another protocol."""

    def feed(self, received: bytes) -> bytes:
        """What can be sent on by now."""
        if self._is_past_head:
            return received
        self._waiting += received
        ready = b""
        while not self._is_past_head and self._begins_answer() and (end := _ANY_END.search(self._waiting)):
            head, self._waiting = self._waiting[: end.end()], self._waiting[end.end() :]
            status = head.partition(b" ")[2][:3]
            is_interim = status[:1] == b"1"
            ready += head if is_interim or not head.endswith(_END) else closing(head)
            self._is_past_head = not is_interim or status == _SWITCHED
            if self._is_past_head:
                self.code = int(status) if status.isdigit() else 0
        if self._is_past_head or not self._begins_answer() or len(self._waiting) > HEAD_BYTES_MAX:
            self._is_past_head = True
            ready += self.rest()
        return ready

    def rest(self) -> bytes:
        """What was kept back and will not become a whole head."""
        rest, self._waiting = self._waiting, b""
        return rest

    def _begins_answer(self) -> bool:
        """Whether what waits is HTTP/1, as far as can be seen: another protocol is not kept waiting."""
        return self._waiting[: len(_ANSWER)] == _ANSWER[: len(self._waiting)]


def answer(status: int, reason: str, body: str) -> bytes:
    """A short plain-text answer that closes the connection."""
    text = body.encode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(text)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + text
