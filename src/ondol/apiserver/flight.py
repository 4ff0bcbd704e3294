"""Requests under way and the connections they come by: how many at once, and what part one tenant may have.

A write takes its place once its body is here, so who sends slowly keeps nobody else from writing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from ondol.apiserver.auth.identity import ANONYMOUS, MASTERS, NODES, User
from ondol.apiserver.config import ApiConfig
from ondol.apiserver.ports import Connection
from ondol.base import errors
from ondol.base.shares import Share, Shares

_PLATFORM_GROUPS: Final = frozenset({MASTERS, NODES})
_PLATFORM: Final = "system:ondol:"
"""What the names of the platform's own parts begin with; like administrators they have no share of their
own, since each of them works for everybody."""


class Flight:
    """The bounds of one server."""

    def __init__(self, config: ApiConfig) -> None:
        self.reads = Places(config.reads_in_flight_max)
        self.writes = Places(config.writes_in_flight_max)
        self.arriving = Places(2 * config.writes_in_flight_max)
        """Writes whose bodies are on their way, or that are made."""
        self.body_bytes = Places(config.bodies_bytes_max)
        self.connections = Places(config.connections_max)

    def own(self, connection: Connection | None, user: User) -> None:
        """Count a connection among its user's, from the first request they are known by until it is closed.

        `TooManyRequests` if they have too many. Whoever is anonymous has none: theirs are a stranger's.
        """
        if connection is None or connection.is_authenticated or user.name == ANONYMOUS:
            return
        try:
            self.connections.take(user)
        except errors.TooManyRequests:
            text = "Too many connections are open: close some, or try again later."
            raise errors.TooManyRequests(text, retry_after_s=1) from None
        connection.authenticated(partial(self.connections.give_back, user))


class Places:
    """Places that users share by their tenants; the platform's parts and administrators are not bound."""

    def __init__(self, count: int) -> None:
        self._shares = Shares(count)

    def take(self, user: User, number: int = 1) -> None:
        """Take places; `TooManyRequests` if there are not so many, for this user or at all."""
        self._shares.take(user.tenant, number, is_bound=not _is_platform(user))

    def give_back(self, user: User, number: int = 1) -> None:
        self._shares.give_back(user.tenant, number)

    def share(self, user: User) -> Share:
        """What grows inside of a `with` block."""
        return Share(self._shares, user.tenant, is_bound=not _is_platform(user))

    def one(self, user: User) -> Place:
        return Place(self, user)


class Place:
    """A place for as long as a `with` block lasts."""

    __slots__ = ("_places", "_user")

    def __init__(self, places: Places, user: User) -> None:
        self._places = places
        self._user = user

    def __enter__(self) -> None:
        self._places.take(self._user)

    def __exit__(self, *_: object) -> None:
        self._places.give_back(self._user)


class Body:
    """Room for a body that grows while it arrives, until the end of a `with` block."""

    __slots__ = ("_flight", "_share", "_user")

    def __init__(self, flight: Flight, user: User) -> None:
        self._flight = flight
        self._user = user
        self._share = flight.body_bytes.share(user)

    def __enter__(self) -> Callable[[int], None]:
        self._flight.arriving.take(self._user)
        return self._share.grow

    def __exit__(self, *exit_: object) -> None:
        self._flight.arriving.give_back(self._user)
        self._share.__exit__(*exit_)


def _is_platform(user: User) -> bool:
    return not _PLATFORM_GROUPS.isdisjoint(user.groups) or user.name.startswith(_PLATFORM)
