"""Open connections whose user is not authenticated yet: how many may be, and which is closed for another.

Used by the network edge. Once a request has authenticated its user, a connection is bounded as all that users
share is (`flight`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

UNAUTHENTICATED_MAX: Final = 1024
AUTHENTICATED_MAX: Final = 16_384
_OWN_DESCRIPTORS: Final = 256
"""What the process itself has open besides: the store, logs, calls of the node, copies for a backup."""
_UNAUTHENTICATED_PART: Final = 4
"""One connection in so many may be unauthenticated where the machine allows few."""


class Bounds(NamedTuple):
    """How many connections may be open, before and after their user is authenticated."""

    unauthenticated: int
    authenticated: int


def bounds(descriptors: int) -> Bounds:
    """The bounds in a process that may open so many descriptors."""
    room = max(_UNAUTHENTICATED_PART, descriptors - _OWN_DESCRIPTORS)
    unauthenticated = min(UNAUTHENTICATED_MAX, room // _UNAUTHENTICATED_PART)
    return Bounds(unauthenticated, min(AUTHENTICATED_MAX, room - unauthenticated))


@dataclass(slots=True, eq=False)
class Connection:
    """One accepted connection; `drop` ends it at once, and `pool` counts it while it is unauthenticated."""

    peer: str
    drop: Callable[[], None] = lambda: None
    pool: Unauthenticated | None = None
    is_lost: bool = False
    _give_back: Callable[[], None] | None = None

    @property
    def is_authenticated(self) -> bool:
        """Whether it counts among a user's own."""
        return self._give_back is not None

    def authenticated(self, give_back: Callable[[], None]) -> None:
        """It counts among a user's own from now on; `give_back` is called when it is lost."""
        self._leave_pool()
        if self.is_lost:
            give_back()
        else:
            self._give_back = give_back

    def handshake_done(self) -> None:
        if self.pool is not None:
            self.pool.handshake_done(self)

    def lost(self) -> None:
        """It is closed: nothing is counted for it any more. A second call does nothing."""
        self.is_lost = True
        self._leave_pool()
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()

    def _leave_pool(self) -> None:
        if self.pool is not None:
            self.pool.remove(self)


@dataclass(slots=True)
class _Peer:
    """The connections from one address, each dict in the order they came."""

    shaking: dict[Connection, None] = field(default_factory=dict)
    """They have not ended their handshake."""
    silent: dict[Connection, None] = field(default_factory=dict)
    """They have, and have not authenticated anybody."""

    @property
    def count(self) -> int:
        return len(self.shaking) + len(self.silent)

    @property
    def oldest(self) -> Connection:
        return next(iter(self.shaking or self.silent))


class Unauthenticated:
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

    def add(self, peer: str, drop: Callable[[], None] = lambda: None) -> tuple[Connection, Connection | None]:
        """Count a new connection; it, and the one to close for it, which is counted no more."""
        evicted = self.oldest() if self._count >= self._most else None
        if evicted is not None:
            self.remove(evicted)
        connection = Connection(peer, drop, self)
        self._peers.setdefault(peer, _Peer()).shaking[connection] = None
        self._count += 1
        return connection, evicted

    def oldest(self) -> Connection | None:
        """The first one to close, if there is any."""
        if not self._peers:
            return None
        return max(self._peers.values(), key=lambda peer: peer.count).oldest

    def handshake_done(self, connection: Connection) -> None:
        """Close it later than those that have not come so far; nothing happens if it is not counted."""
        peer = self._peers.get(connection.peer)
        if peer is not None and connection in peer.shaking:
            del peer.shaking[connection]
            peer.silent[connection] = None

    def remove(self, connection: Connection) -> None:
        """Count a connection no more; nothing happens if it is not counted."""
        peer = self._peers.get(connection.peer)
        if peer is None:
            return
        listed = peer.shaking if connection in peer.shaking else peer.silent
        if connection not in listed:
            return
        del listed[connection]
        self._count -= 1
        if not peer.count:
            del self._peers[connection.peer]
