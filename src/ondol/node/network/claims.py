"""Which owner gets an address and port of this machine that several ask for; the others get the reason.

Pure. A rule of one owner never keeps another's from being programmed: what clashes loses alone. The
platform's own ports come first, then the addresses that the API gave to one Service, then the older.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ondol.base.host_ports import HostPort
from ondol.node.network.services import Entry, Owner

_TAKEN: Final = "is in use by {}"
_PLATFORM: Final = _TAKEN.format("the platform itself")
_PROGRAM: Final = _TAKEN.format("a program of this machine")
_EVERYWHERE: Final = ""
_ELSEWHERE: Final = "is no address of this machine"


class Loss(NamedTuple):
    """What an owner asked for and did not get."""

    owner: Owner
    place: HostPort
    why: str
    """`is in use by` somebody, or what else is wrong with the place."""

    def __str__(self) -> str:
        where = "" if self.place.is_everywhere else f"{self.place.address}:"
        return f"{where}{self.place.port}/{self.place.protocol} {self.why}"


Grant = tuple[str, HostPort]
"""An owner's uid and what it has."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The entries with what each of them has, and the losses."""

    entries: Sequence[Entry]
    losses: Sequence[Loss] = ()

    @property
    def grants(self) -> frozenset[Grant]:
        return frozenset((entry.owner.uid, place) for entry in self.entries for place in entry.places)


def settle(
    entries: Sequence[Entry],
    *,
    reserved: Collection[HostPort] = (),
    in_use: Collection[HostPort] = (),
    before: Collection[Grant] = (),
    is_local: Callable[[str], bool] = lambda _: False,
) -> Settlement:
    """Decide who has what.

    `reserved` are the platform's own ports and `in_use` those on which a program of the machine listens;
    who was granted a port `before` keeps it though a program has opened it since, and before its equals.
    """
    book = _Book(reserved, in_use, frozenset(before), is_local)
    for entry, place in sorted(_places(entries), key=functools.partial(_rank, before=book.before)):
        book.enter(entry.owner, place, is_assigned=place in entry.assigned)
    granted = [
        dataclasses.replace(entry, places=tuple(p for p in entry.places if (entry.owner, p) in book.granted))
        for entry in entries
    ]
    return Settlement([entry for entry in granted if entry.places], book.losses)


def _places(entries: Iterable[Entry]) -> Iterator[tuple[Entry, HostPort]]:
    return ((entry, place) for entry in entries for place in entry.places)


def _rank(place_of_entry: tuple[Entry, HostPort], before: Collection[Grant]) -> tuple[object, ...]:
    """Times of creation are whole seconds: of two that are as old, one that has the place keeps it."""
    entry, place = place_of_entry
    is_new = (entry.owner.uid, place) not in before
    return (place not in entry.assigned, entry.created, is_new, entry.owner, place)


@dataclass(slots=True)
class _Book:
    reserved: Collection[HostPort]
    in_use: Collection[HostPort]
    before: frozenset[Grant]
    is_local: Callable[[str], bool]
    granted: set[tuple[Owner, HostPort]] = field(default_factory=set)
    losses: list[Loss] = field(default_factory=list)
    _holders: dict[tuple[str, int], dict[str, Owner]] = field(default_factory=dict)
    """By protocol and port, then by address; `_EVERYWHERE` is every address of the machine."""

    def enter(self, owner: Owner, place: HostPort, *, is_assigned: bool) -> None:
        """Grant the place, or note why not; what an owner has already it does not lose to itself."""
        if (owner, place) in self.granted:
            return
        why = self._objection(owner, place, is_assigned=is_assigned)
        if why:
            self.losses.append(Loss(owner, place, why))
            return
        self.granted.add((owner, place))
        address = _EVERYWHERE if place.is_everywhere else place.address
        self._holders.setdefault((place.protocol, place.port), {})[address] = owner

    def _objection(self, owner: Owner, place: HostPort, *, is_assigned: bool) -> str:
        is_here = place.is_everywhere or self.is_local(place.address)
        if owner.kind == "Pod" and not is_here:
            return _ELSEWHERE  # or its `hostIP` would take over what is meant for others
        if not is_assigned and is_here:
            if any(place.clashes(each) for each in self.reserved):
                return _PLATFORM
            if (owner.uid, place) not in self.before and any(place.clashes(each) for each in self.in_use):
                return _PROGRAM
        holder = self._holder(place)
        return _TAKEN.format(holder) if holder is not None else ""

    def _holder(self, place: HostPort) -> Owner | None:
        """Who has what clashes; every address of the machine is none of those that are elsewhere."""
        holders = self._holders.get((place.protocol, place.port), {})
        everywhere = holders.get(_EVERYWHERE)
        if not place.is_everywhere:
            return holders.get(place.address) or (everywhere if self.is_local(place.address) else None)
        return everywhere or next((holders[each] for each in holders if self.is_local(each)), None)
