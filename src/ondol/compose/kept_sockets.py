"""The supervisor's copies of the parts' sockets: they outlive each process, and the supervisor's code."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator


class KeptSockets:
    """By part, then by the part's own name for it. Each is a copy of its own, closed here."""

    def __init__(self) -> None:
        self._by_part: dict[str, dict[str, socket.socket]] = {}

    def put(self, part: str, name: str, kept: socket.socket) -> None:
        """Keep it, in place of one of the same name."""
        self.drop(part, name)
        self._by_part.setdefault(part, {})[name] = kept

    def drop(self, part: str, name: str) -> None:
        if (kept := self._by_part.get(part, {}).pop(name, None)) is not None:
            kept.close()

    def drop_all(self, part: str) -> None:
        """Nobody listens for this part any more: who connects is refused."""
        for kept in self._by_part.pop(part, {}).values():
            kept.close()

    def drop_others(self, parts: Iterable[str]) -> None:
        """Those of parts that are not there."""
        for part in set(self._by_part) - set(parts):
            self.drop_all(part)

    def leave_to(self, part: str) -> dict[str, socket.socket]:
        """In a forked child: those of its part, which are the child's now; the others are closed."""
        mine = self._by_part.pop(part, {})
        self.drop_others(())
        return mine

    def all(self) -> Iterator[tuple[str, str, int]]:
        """Part, name and descriptor of each."""
        for part, by_name in self._by_part.items():
            for name, kept in by_name.items():
                yield part, name, kept.fileno()


def adopted(descriptor: int) -> socket.socket:
    """A socket that came with the process, closed in programs that it starts; `OSError` if it is none."""
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)
