"""Whose process is at the other end of a connection."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ondol.base import loopback
from ondol.eventing import engine
from ondol.eventing.engine import EngineConfig

IMPOSTOR = """
import os, socket
os.setuid(65534)
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    peer, _ = server.accept()
    peer.sendall(b"INFO {}" + bytes((13, 10)))
    try:
        print(repr(peer.recv(4096)), flush=True)
    except ConnectionResetError:
        print(repr(b""), flush=True)
"""


def test_a_process_of_the_same_user_is_ours() -> None:
    """Both ends are this process's; one that nobody has taken yet is nobody's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as connection,
    ):
        assert loopback.owner(connection) is None
        taken, _ = server.accept()
        with taken:
            assert loopback.owner(connection) == loopback.owner(taken) == os.geteuid()
            assert loopback.is_ours(connection)


@pytest.fixture
def impostor() -> Iterator[subprocess.Popen[str]]:
    """A process of another user, which says at which port it listens, and then what it was sent."""
    command = [sys.executable, "-I", "-c", IMPOSTOR]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_nobody_else_is_shown_the_password(impostor: subprocess.Popen[str], tmp_path: Path) -> None:
    """Another user of the machine who listens at the event journal's port is sent nothing."""
    assert impostor.stdout is not None
    config = EngineConfig(tmp_path, tmp_path / "nats.json", int(impostor.stdout.readline()))
    assert not engine.ready(config)
    assert impostor.stdout.readline() == "b''\n"
