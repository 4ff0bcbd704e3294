"""Connections of whom nothing is known yet: how many there may be, and who goes when there are more.

Used by the network edge. Who is known by a request is no stranger any more: their connections are bounded as
all that users share is (`flight`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

STRANGERS_MAX: Final = 1024
KNOWN_MAX: Final = 16_384
_OWN_DESCRIPTORS: Final = 256
"""What the process itself has open besides: the store, logs, calls of the node, copies for a backup."""
_STRANGERS_PART: Final = 4
"""One connection in so many may be a stranger's where the machine allows few."""


class Bounds(NamedTuple):
    """How many connections may be open, of strangers and of who is known."""

    strangers: int
    known: int


def bounds(descriptors: int) -> Bounds:
    """The bounds in a process that may open so many descriptors."""
    room = max(_STRANGERS_PART, descriptors - _OWN_DESCRIPTORS)
    strangers = min(STRANGERS_MAX, room // _STRANGERS_PART)
    return Bounds(strangers, min(KNOWN_MAX, room - strangers))


@dataclass(slots=True, eq=False)
class Connection:
    """One accepted connection; `drop` ends it at once."""

    peer: str
    drop: Callable[[], None] = lambda: None
    has_shaken_hands: bool = False
    is_lost: bool = False
    _strangers: Strangers | None = None
    _give_back: Callable[[], None] | None = None

    @property
    def is_known(self) -> bool:
        """Whether it counts among somebody's own."""
        return self._give_back is not None

    def known(self, give_back: Callable[[], None]) -> None:
        """Somebody answers for it from now on; `give_back` is called when it is lost."""
        self._leave()
        if self.is_lost:
            give_back()
        else:
            self._give_back = give_back

    def shaken_hands(self) -> None:
        self.has_shaken_hands = True
        if self._strangers is not None:
            self._strangers.greeted(self)

    def lost(self) -> None:
        """It is closed: nothing is counted for it any more. A second call does nothing."""
        self.is_lost = True
        self._leave()
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()

    def _leave(self) -> None:
        if self._strangers is not None:
            self._strangers.leave(self)
            self._strangers = None


@dataclass(slots=True)
class _Peer:
    """The strangers from one address, each dict in the order they came."""

    silent: dict[Connection, None] = field(default_factory=dict)
    """They have not ended their handshake."""
    greeted: dict[Connection, None] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.silent) + len(self.greeted)

    @property
    def first_to_go(self) -> Connection:
        return next(iter(self.silent or self.greeted))


class Strangers:
    """At most so many. One more takes the place of the one that has been silent longest.

    It is one of the address that has the most of them: who fills them all loses to everybody else. Nobody is
    turned away, so whoever shakes hands at once is answered however many others are silent.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._peers: dict[str, _Peer] = {}
        """By address; each has some."""

    def __len__(self) -> int:
        return self._count

    def enter(self, connection: Connection) -> Connection | None:
        """Count a new connection; who is to go for it, and is counted no more."""
        gone = self.oldest() if self._count >= self._most else None
        if gone is not None:
            gone._leave()  # noqa: SLF001 - the other half of this
        self._peers.setdefault(connection.peer, _Peer()).silent[connection] = None
        self._count += 1
        connection._strangers = self  # noqa: SLF001 - likewise
        return gone

    def oldest(self) -> Connection | None:
        """Who would have to go first, if anybody."""
        if not self._peers:
            return None
        return max(self._peers.values(), key=lambda peer: peer.count).first_to_go

    def greeted(self, connection: Connection) -> None:
        peer = self._peers[connection.peer]
        peer.silent.pop(connection, None)
        peer.greeted[connection] = None

    def leave(self, connection: Connection) -> None:
        peer = self._peers[connection.peer]
        (peer.greeted if connection in peer.greeted else peer.silent).pop(connection)
        self._count -= 1
        if not peer.count:
            del self._peers[connection.peer]
