"""Unauthenticated connections: how many, which is closed for another, and what is given back."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol import apiserver
from ondol.apiserver import connections
from ondol.apiserver.auth import identity
from ondol.apiserver.auth.identity import MASTERS, User
from ondol.apiserver.connections import Bounds, Connection, Unauthenticated
from ondol.apiserver.flight import Flight
from ondol.base import errors


def entered(pool: Unauthenticated, peer: str) -> Connection:
    return pool.add(peer)[0]


def evicted_for(pool: Unauthenticated, peer: str) -> Connection | None:
    return pool.add(peer)[1]


def test_the_longest_silent_goes_first() -> None:
    """Of one address: whoever has shaken hands is behind all who have not, whenever they came."""
    pool = Unauthenticated(3)
    polite, first, second = (entered(pool, "a") for _ in range(3))
    polite.handshake_done()
    assert evicted_for(pool, "a") is first
    assert evicted_for(pool, "a") is second
    assert len(pool) == 3


def test_the_address_that_has_most_gives_way() -> None:
    """Who has the places of many loses to who has one, though that one is the oldest of all."""
    pool = Unauthenticated(5)
    lone = entered(pool, "b")
    many = [entered(pool, "a") for _ in range(4)]
    assert [evicted_for(pool, "c") for _ in range(2)] == many[:2]
    assert evicted_for(pool, "a") is many[2]
    assert lone is not pool.oldest()


def test_one_that_was_evicted_is_not_counted_again() -> None:
    """Its handshake may end, and it may be lost, after another one has its place."""
    pool = Unauthenticated(1)
    first = entered(pool, "a")
    assert evicted_for(pool, "a") is first
    first.handshake_done()
    first.lost()
    assert len(pool) == 1


@given(st.lists(st.tuples(st.sampled_from(["add", "shake", "authenticate", "lose"]), st.integers(0, 30))))
def test_no_more_than_may_be_and_nothing_is_lost_count_of(steps: list[tuple[str, int]]) -> None:
    """Whatever the order of events: the bound holds, and each is given back once, when it is lost."""
    pool, every = Unauthenticated(4), list[Connection]()
    returned: list[int] = []
    owned: set[int] = set()
    for (step, number), count in zip(steps, itertools.count()):
        index = number % len(every) if every else -1
        if step == "add":
            every.append(entered(pool, "ab"[number % 2]))
        elif index >= 0 and step == "shake":
            every[index].handshake_done()
        elif index >= 0 and step == "authenticate" and not every[index].is_authenticated:
            every[index].authenticated(lambda index=count: returned.append(index))  # type: ignore[misc]
            owned.add(count)
        elif index >= 0 and step == "lose":
            every[index].lost()
        assert len(pool) <= 4
    for connection in every:
        connection.lost()
        connection.lost()
    assert len(pool) == 0
    assert pool.oldest() is None
    assert sorted(returned) == sorted(owned)


@pytest.mark.parametrize(
    ("descriptors", "bounds"),
    [
        (1 << 20, Bounds(1024, 16_384)),
        (4096, Bounds(960, 2880)),
        (1024, Bounds(192, 576)),
        (64, Bounds(1, 3)),
    ],
)
def test_bounds_fit_what_the_machine_allows(descriptors: int, bounds: Bounds) -> None:
    """A process that may open little keeps some of it for its own files."""
    assert connections.bounds(descriptors) == bounds


def test_a_users_connections_are_bounded() -> None:
    """One user has at most half; another finds some, and so do administrators when both have theirs."""
    flight = Flight(apiserver.ApiConfig(connections_max=16))

    def opened(user: User) -> list[Connection]:
        mine: list[Connection] = []
        with pytest.raises(errors.TooManyRequests, match="connections"):  # noqa: PT012 - until it is refused
            while len(mine) < 20:
                connection = Connection("10.0.0.1")
                flight.own(connection, user)
                mine.append(connection)
        return mine

    ann, ben = opened(User("ann")), opened(User("ben"))
    assert (len(ann), len(ben)) == (7, 3)
    flight.own(Connection("127.0.0.1"), User("root", (MASTERS,)))
    flight.own(ann[0], User("ann"))  # counted once
    for connection in ann:
        connection.lost()
    assert len(opened(User("eve"))) == 5


def test_nobody_answers_for_anonymous_connections() -> None:
    """They stay unauthenticated, however often they ask."""
    flight = Flight(apiserver.ApiConfig(connections_max=1))
    for _ in range(3):
        connection = Connection("10.0.0.1")
        flight.own(connection, identity.anonymous())
        assert not connection.is_authenticated
