"""Files that a command writes for people: whole or not at all, and devices stay devices."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from ondol.base import errors
from ondol.cli import output


def test_what_fails_half_way_leaves_the_file_of_before(tmp_path: Path) -> None:
    """The new content takes the place of the old one only when it is whole."""
    target = tmp_path / "a.tar"
    target.write_bytes(b"old")

    def write() -> None:
        with output.whole_file(target) as file:
            file.write(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(errors.HostError, match=r"a\.tar cannot be written: No space left on device"):
        write()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.tar", b"old")]


def test_a_link_stays_one(tmp_path: Path) -> None:
    """What it leads to is written, with the mode asked for."""
    link = tmp_path / "link"
    link.symlink_to("real")
    with output.whole_file(link, mode=0o600) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o600


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """Nor is a device: `-o /dev/null` as root is not to take the machine's away."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content: list[bytes] = []
    reader = threading.Thread(target=lambda: content.append(pipe.read_bytes()))
    reader.start()
    with output.whole_file(pipe) as file:
        file.write(b"through")
    reader.join()
    assert content == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_without_room_is_told() -> None:
    """What cannot be written is named, and what to do."""

    def write() -> None:
        with output.whole_file(Path("/dev/full")) as file:
            file.write(b"x")

    with pytest.raises(errors.HostError, match=r"/dev/full cannot be written: No space left on device"):
        write()
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)
