"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ondol.base import files


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_whole(tmp_path: Path, *, durable: bool) -> None:
    """The new content with the mode asked for, and no draft beside it."""
    path = tmp_path / "file"
    path.write_bytes(b"before")
    files.replace(path, b"after", mode=0o640, durable=durable)
    assert path.read_bytes() == b"after"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_changes_nothing(tmp_path: Path) -> None:
    """What was there stays, and no draft is left."""
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fail() -> None:
        with files.replacing(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    """Each has a draft of its own; who ends last is whom readers see."""
    path = tmp_path / "file"
    with files.replacing(path) as first:
        first.write(b"first, and long")
        with files.replacing(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first, and long"


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The error is the system's, for callers to put into their own words."""
    with pytest.raises(FileNotFoundError):
        files.replace(tmp_path / "missing" / "file", b"")


def test_what_is_not_there_reads_as_nothing(tmp_path: Path) -> None:
    """None for the whole, no bytes for its end; of a short file the end is all of it."""
    path = tmp_path / "file"
    assert files.read(path) is None
    assert files.tail(path, 4) == b""
    path.write_bytes(b"abcdef")
    assert files.read(path) == b"abcdef"
    assert (files.tail(path, 4), files.tail(path, 40)) == (b"cdef", b"abcdef")
    os.truncate(path, 0)
    assert files.tail(path, 4) == b""
