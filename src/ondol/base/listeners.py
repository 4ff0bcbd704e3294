"""Sockets that outlive the process that reads them: somebody keeps a copy, and its successor goes on with it.

What connects, or is sent, meanwhile waits in the kernel instead of being refused.
"""

from __future__ import annotations

import socket
from collections.abc import Collection


class Listeners:
    """Keeps nothing: for processes that nobody succeeds. Names are those of whoever listens."""

    def inherit(self, name: str) -> socket.socket | None:
        """A predecessor's socket, which then is the caller's to close; None if there is none (any more)."""
        _ = name
        return None

    def keep(self, name: str, listening: socket.socket) -> None:
        """Have the socket outlive this process, until it is dropped."""

    def drop(self, name: str) -> None:
        """Have a socket end with this process's own copy; nothing happens if none of that name is kept."""

    def unclaimed(self) -> Collection[str]:
        """Names of those that were not inherited so far."""
        return ()


NONE = Listeners()
