"""Sockets for a successor, where nobody keeps them."""

from __future__ import annotations

import socket

from ondol.base import listeners


def test_who_has_no_successor_keeps_nothing() -> None:
    """The socket stays its owner's alone, whatever is asked."""
    with socket.socket() as listening:
        listeners.NONE.keep("one", listening)
        assert listeners.NONE.inherit("one") is None
        assert list(listeners.NONE.unclaimed()) == []
        listeners.NONE.drop("one")
        assert listening.fileno() >= 0
