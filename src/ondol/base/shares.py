"""A number of places, or of bytes, that tenants share so that none of them takes it all.

The API server bounds requests, bodies and connections with it, `observe` the exports that it takes in.
"""

from __future__ import annotations

from typing import Final, Self

from ondol.base import errors

_RESERVED_PART: Final = 8
"""One in so many is for those alone that are not bound."""


class Shares:
    """So many of something. A tenant has at most as many as it leaves free, so that the next finds some.

    So one alone has half of what is not reserved, a second one half of the rest, and however many there
    are, those who are not bound by this find what is reserved.

        Shares(80) reserves 10: the first tenant may have 35, the second then 17, the third 9, …
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._reserved = count // _RESERVED_PART
        self._taken = 0
        self._by_tenant: dict[str, int] = {}

    @property
    def taken(self) -> int:
        """How many are taken now, by all together."""
        return self._taken

    def take(self, tenant: str, number: int = 1, *, is_bound: bool = True) -> None:
        """Take some; `TooManyRequests` if there are not so many, for this tenant or at all."""
        taken = self._by_tenant.get(tenant, 0) + number
        free = self._count - self._taken - number
        if is_bound:
            free -= self._reserved
        if free < 0 or (is_bound and taken > max(free, 1)):
            raise errors.TooManyRequests("Too many requests, please try again later.", retry_after_s=1)
        self._taken += number
        self._by_tenant[tenant] = taken

    def give_back(self, tenant: str, number: int = 1) -> None:
        self._taken -= number
        rest = self._by_tenant.pop(tenant) - number
        if rest:
            self._by_tenant[tenant] = rest


class Share:
    """What one taker has of `Shares`: it grows inside of a `with` block, and is given back at its end."""

    __slots__ = ("_is_bound", "_number", "_shares", "_tenant")

    def __init__(self, shares: Shares, tenant: str, *, is_bound: bool = True) -> None:
        self._shares = shares
        self._tenant = tenant
        self._is_bound = is_bound
        self._number = 0

    def grow(self, number: int) -> None:
        """Take so many more; `TooManyRequests` if there are not so many."""
        if number:
            self._shares.take(self._tenant, number, is_bound=self._is_bound)
            self._number += number

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._number:
            self._shares.give_back(self._tenant, self._number)
            self._number = 0
