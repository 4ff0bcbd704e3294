"""Shares: what one tenant may have, what another then finds, and that all is given back."""

from __future__ import annotations

import contextlib

import pytest

from ondol.base import errors
from ondol.base.shares import Share, Shares


def _all(shares: Shares, tenant: str, *, is_bound: bool = True) -> int:
    """How many a tenant gets who takes all there are."""
    count = 0
    with contextlib.suppress(errors.TooManyRequests):
        while True:
            shares.take(tenant, is_bound=is_bound)
            count += 1
    return count


def test_a_tenant_has_as_much_as_it_leaves_free() -> None:
    """Half of it alone, the next one half of the rest; an eighth is for those who are not bound."""
    shares = Shares(80)
    assert [_all(shares, tenant) for tenant in ("a", "b", "c")] == [35, 17, 9]
    assert _all(shares, "root", is_bound=False) == 80 - 35 - 17 - 9
    assert shares.taken == 80


def test_what_a_block_took_is_given_back() -> None:
    """However it ends; and a refusal takes nothing."""
    shares = Shares(16)
    with contextlib.suppress(errors.TooManyRequests), Share(shares, "a") as share:
        share.grow(0)
        share.grow(7)
        assert shares.taken == 7
        share.grow(1)
        pytest.fail("there was room for more than the half")
    assert shares.taken == 0
    with Share(shares, "a") as share:
        share.grow(7)
