"""Sockets between parts: for their owner alone, and made anew where a former one is left."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ondol.base import errors, unix_socket


def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    """The mode is there as soon as the name is, whatever the umask."""
    with unix_socket.listen(tmp_path / "a.sock"):
        assert (tmp_path / "a.sock").stat().st_mode & 0o777 == 0o600


def test_a_socket_left_by_a_former_process_is_replaced(tmp_path: Path) -> None:
    """A start after a crash finds the old name in its way, and clients reach the new one."""
    path = tmp_path / "a.sock"
    unix_socket.listen(path).close()
    assert path.exists()
    with unix_socket.listen(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize(("length", "fits"), [(107, True), (108, False)])
def test_a_path_that_no_socket_can_have_is_told(length: int, fits: bool) -> None:
    """The kernel takes 107 bytes; more would be cut or refused without a word of why."""
    path = Path("/" + "x" * (length - 1))
    if fits:
        unix_socket.require_short(path)
    else:
        with pytest.raises(errors.HostError, match="too long for a socket"):
            unix_socket.require_short(path)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The error names the path."""
    with pytest.raises(errors.HostError, match=r"none/a\.sock"):
        unix_socket.listen(tmp_path / "none" / "a.sock")
