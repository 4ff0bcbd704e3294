"""Connections of strangers: how many, who goes for another, and what is given back."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol import apiserver
from ondol.apiserver import connections
from ondol.apiserver.auth import identity
from ondol.apiserver.auth.identity import MASTERS, User
from ondol.apiserver.connections import Bounds, Connection, Strangers
from ondol.apiserver.flight import Flight
from ondol.base import errors


def entered(strangers: Strangers, peer: str) -> Connection:
    connection = Connection(peer)
    strangers.enter(connection)
    return connection


def test_the_longest_silent_goes_first() -> None:
    """Of one address: whoever has shaken hands is behind all who have not, whenever they came."""
    strangers = Strangers(3)
    polite, first, second = (entered(strangers, "a") for _ in range(3))
    polite.shaken_hands()
    assert strangers.enter(Connection("a")) is first
    assert strangers.enter(Connection("a")) is second
    assert len(strangers) == 3


def test_the_address_that_has_most_gives_way() -> None:
    """Who has the places of many loses to who has one, though that one is the oldest of all."""
    strangers = Strangers(5)
    lone = entered(strangers, "b")
    many = [entered(strangers, "a") for _ in range(4)]
    gone = [strangers.enter(Connection("c")) for _ in range(2)]
    assert gone == many[:2]
    assert strangers.enter(Connection("a")) is many[2]
    assert lone is not strangers.oldest()


@given(st.lists(st.tuples(st.sampled_from(["enter", "greet", "know", "lose"]), st.integers(0, 30))))
def test_no_more_than_may_be_and_nothing_is_lost_count_of(steps: list[tuple[str, int]]) -> None:
    """Whatever the order of events: the bound holds, and each is given back once, when it is lost."""
    strangers, all_of_them = Strangers(4), list[Connection]()
    given_back: list[int] = []
    known: set[int] = set()
    dropped: set[int] = set()
    for (step, number), count in zip(steps, itertools.count()):
        index = number % len(all_of_them) if all_of_them else -1
        if step == "enter":
            connection = Connection("ab"[number % 2])
            if (gone := strangers.enter(connection)) is not None:
                dropped.add(all_of_them.index(gone))
            all_of_them.append(connection)
        elif index >= 0 and step == "greet":
            all_of_them[index].shaken_hands()
        elif index >= 0 and step == "know" and not all_of_them[index].is_known:
            all_of_them[index].known(lambda index=count: given_back.append(index))  # type: ignore[misc]
            known.add(count)
        elif index >= 0 and step == "lose":
            all_of_them[index].lost()
        assert len(strangers) <= 4
    for connection in all_of_them:
        connection.lost()
        connection.lost()
    assert len(strangers) == 0
    assert strangers.oldest() is None
    assert sorted(given_back) == sorted(known)


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
    """They stay a stranger's, however often they ask."""
    flight = Flight(apiserver.ApiConfig(connections_max=1))
    for _ in range(3):
        connection = Connection("10.0.0.1")
        flight.own(connection, identity.anonymous())
        assert not connection.is_known
