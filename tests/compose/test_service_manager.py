"""What a service manager is told, at a socket as systemd gives one."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ondol.compose import platform, service_manager
from ondol.compose.lifecycle import Running, State
from ondol.compose.part import Notify, Part


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """A service manager's socket, of which the environment tells."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@ondol-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listening:
        listening.bind(name.replace("@", "\0", 1))
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listening


def _run(_notify: Notify) -> None:
    raise AssertionError


def test_ready_is_said_once_everything_serves_and_stopping_once(manager: socket.socket) -> None:
    """Not before, and not again when a part has died and come back."""
    one, two = Running(Part("one", _run), State.READY), Running(Part("two", _run), State.STARTING)
    announce = platform._announcer()
    announce([one, two])
    with pytest.raises(BlockingIOError):
        manager.recv(1000)
    two.state = State.READY
    announce([one, two])
    assert manager.recv(1000).startswith(b"READY=1\n")
    two.state = State.BACKING_OFF
    announce([one, two])
    two.state = State.READY
    announce([one, two])
    one.state = two.state = State.STOPPED
    announce([one, two])
    announce([one, two])
    assert manager.recv(1000) == b"STOPPING=1"
    with pytest.raises(BlockingIOError):
        manager.recv(1000)


def test_reloading_says_when(manager: socket.socket) -> None:
    """A manager takes the next READY for this reload's by the time."""
    service_manager.reloading()
    lines = manager.recv(1000).decode().splitlines()
    assert lines[0] == "RELOADING=1"
    assert int(lines[1].removeprefix("MONOTONIC_USEC=")) > 0


@pytest.mark.parametrize("address", ["", "/nonexistent/socket", "vsock:2:1"])
def test_without_a_service_manager_nobody_is_told(address: str) -> None:
    """Nor is it an error if it has gone, or is reached in a way that only it knows."""
    service_manager.ready({"NOTIFY_SOCKET": address} if address else {})
