"""The platform of Serving that the tests of this folder share."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import cast

import anyio
import anyio.abc
import pytest
from tests.serverless.serving_world import NODE, POD, Platform, started

from ondol.api.objects import Key
from ondol.base import listeners
from ondol.serverless.activator.activator import Activator


@pytest.fixture
def on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback can be no endpoint: the addresses are of documentation, and who means them gets there."""
    connect, bind = anyio.connect_tcp, Activator._bind

    async def connect_tcp(host: str, port: int) -> anyio.abc.SocketStream:
        assert host in (NODE, POD)
        return await connect("127.0.0.1", port)

    def bind_on_loopback(_activator: Activator, revision: Key, port: int) -> socket.socket:
        return bind(
            cast("Activator", SimpleNamespace(address="127.0.0.1", _listeners=listeners.NONE)), revision, port
        )

    monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)
    monkeypatch.setattr(Activator, "_bind", bind_on_loopback)


@pytest.fixture
async def platform(on_loopback: None) -> AsyncIterator[Platform]:
    del on_loopback
    async with started() as whole:
        yield whole
