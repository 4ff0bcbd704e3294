"""Logs are bounded, whatever writes them and whatever the disk says."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ondol.compose import logs


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    """Nothing is moved before it is too large, and a log that is not there is nothing."""
    file = tmp_path / "api.log"
    logs.bound(file, bytes_max=4)
    file.write_text("abc\n")
    logs.bound(file, bytes_max=4)
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("api.log", "abc\n")]


def test_whole_lines_of_the_end_are_kept(tmp_path: Path) -> None:
    """Of a log that is much too large the last lines stay, none of them cut, and those of before go."""
    file = tmp_path / "api.log"
    (tmp_path / "api.log.1").write_text("of before\n" * 10)
    file.write_text("first\n" * 100 + "second\nthird\n")
    logs.bound(file, bytes_max=15)
    assert (tmp_path / "api.log.1").read_text() == "second\nthird\n"
    assert file.read_text() == ""
    file.write_text("first\n" * 100 + "second\nthird\n")
    logs.bound(file, bytes_max=13)
    assert (tmp_path / "api.log.1").read_text() == "second\nthird\n"


def test_writers_go_on_in_the_same_file(tmp_path: Path) -> None:
    """Who has the log open to append writes at its new beginning: no hole, no lost line."""
    file = tmp_path / "api.log"
    with file.open("a") as stream:
        stream.write("x" * 100)
        stream.flush()
        logs.bound(file, bytes_max=10)
        stream.write("next\n")
    assert file.read_bytes() == b"next\n"


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be kept is given up: the log is emptied, which is what a full disk needs."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "sendfile", full)
    file = tmp_path / "api.log"
    file.write_text("x" * 100)
    logs.bound(file, bytes_max=10)
    assert file.read_text() == ""


def test_logs_of_devices_and_folders_are_let_be(tmp_path: Path) -> None:
    """A log that leads elsewhere, or is no file, stops nothing; nor does a folder that is not there."""
    (tmp_path / "api.log").symlink_to("/dev/full")
    (tmp_path / "node.log").mkdir()
    (tmp_path / "control.log").write_text("x" * 100)
    logs.bound_all(tmp_path, bytes_max=10)
    logs.bound_all(tmp_path / "gone", bytes_max=10)
    assert (tmp_path / "control.log").read_text() == ""
