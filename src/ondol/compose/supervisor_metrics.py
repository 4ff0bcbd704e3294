"""The supervisor's metrics: the parts' lives, and what every process tells of itself.

The supervisor has no thread and no event loop: it waits for many things in one `select`, of which the socket
at which `observe` asks for this page is one. A page is small enough for a socket to take it whole.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from ondol.base import metrics, unix_socket
from ondol.base.metrics import Family, LabelValues
from ondol.compose.lifecycle import Running, State

_NAME: Final = ("name",)
_REQUEST_BYTES: Final = 4096
_HEAD: Final = "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n"


def families(parts: Sequence[Running], now: float) -> Iterator[Family]:
    """Of each part by its name; `now` is of the clock that `started_at` was read from.

    The label is `name`, since `part` says on the merged page who tells of it.
    """
    states: dict[LabelValues, float] = {
        (each.part.name, str(state)): float(each.state is state) for each in parts for state in State
    }
    uptimes = {(each.part.name,): now - each.started_at if each.pid else 0.0 for each in parts}
    restarts = {(each.part.name,): each.restarts for each in parts}
    yield metrics.counter(
        "ondol_supervisor_part_restarts_total", "Processes of a part that died.", restarts, _NAME
    )
    yield metrics.gauge(
        "ondol_supervisor_part_state", "1 for the state a part is in.", states, ("name", "state")
    )
    yield metrics.gauge(
        "ondol_supervisor_part_uptime_seconds",
        "How long a part's process has run; 0 if it has none.",
        uptimes,
        _NAME,
    )


class Exposition:
    """A socket of the run folder that answers each request with the page; never waits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listening: socket.socket | None = None
        self._selector: selectors.BaseSelector | None = None
        self._page: metrics.Page
        self._asking: set[socket.socket] = set()

    def open(
        self, selector: selectors.BaseSelector, look: Callable[[], tuple[Sequence[Running], float]]
    ) -> None:
        """Listen; what `selector` has as `data` of these sockets is to be called when they are ready.

        `look` tells of the parts, and the time.
        """
        self._page = metrics.Page(lambda: families(*look()))
        self._selector = selector
        self._listening = unix_socket.listen(self._path)
        self._listening.setblocking(False)
        selector.register(self._listening, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Let go of the sockets; the child after a fork does so too, and leaves the path alone."""
        for opened in (*self._asking, self._listening):
            if opened is not None:
                opened.close()
        self._asking.clear()
        self._listening = None

    def _accept(self) -> None:
        if self._listening is None or self._selector is None:
            return
        with contextlib.suppress(OSError):  # who asked has gone already
            asking, _ = self._listening.accept()
            asking.setblocking(False)
            self._asking.add(asking)
            self._selector.register(asking, selectors.EVENT_READ, lambda: self._answer(asking))

    def _answer(self, asking: socket.socket) -> None:
        """Whatever was asked; the socket is for `observe` alone, which asks for one thing."""
        if self._selector is not None:
            self._selector.unregister(asking)
        self._asking.discard(asking)
        with asking, contextlib.suppress(OSError):
            if asking.recv(_REQUEST_BYTES):
                body = self._page.text()
                asking.sendall(_HEAD.format(metrics.CONTENT_TYPE, len(body)).encode() + body)
