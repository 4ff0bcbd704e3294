"""The lock: one supervisor a data directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ondol.base import errors
from ondol.compose import lock

_HOLDER = """
import pathlib, sys, time
from ondol.compose import lock
with lock.hold(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


_FORKS = """
import os, pathlib, sys, time
from ondol.compose import lock
with lock.hold(pathlib.Path(sys.argv[1])):
    if os.fork():
        print("held", flush=True)
        time.sleep(60)
    sys.stdin.read()
"""


def test_nobody_holds_what_is_not_there(tmp_path: Path) -> None:
    """Asking makes no file."""
    assert lock.holder(tmp_path / "lock") is None
    assert not (tmp_path / "lock").exists()


def test_the_holder_is_known_and_forgotten(tmp_path: Path) -> None:
    """While it is held the file says by whom; afterwards nobody holds it."""
    file = tmp_path / "lock"
    with lock.hold(file):
        assert lock.holder(file) == os.getpid()
        assert file.stat().st_mode & 0o777 == 0o600
    assert lock.holder(file) is None


def test_a_second_holder_is_refused(tmp_path: Path) -> None:
    """The error names the folder and the process that has it; the first holder is not disturbed."""
    file = tmp_path / "lock"
    with lock.hold(file):
        with (
            pytest.raises(errors.HostError, match=f"already running on .* \\(pid {os.getpid()}\\)") as raised,
            lock.hold(file),
        ):
            pytest.fail("held twice")
        assert raised.value.remedy
        assert lock.holder(file) == os.getpid()


def test_asking_does_not_take_it_away(tmp_path: Path) -> None:
    """A status command that asks at the wrong moment keeps nobody from starting."""
    file = tmp_path / "lock"
    with lock.hold(file):
        pass
    assert lock.holder(file) is None
    with lock.hold(file):
        assert lock.holder(file) == os.getpid()


def test_kill_9_frees_it(tmp_path: Path) -> None:
    """The kernel frees the lock of a process that had no time to."""
    file = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(file)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert lock.holder(file) == holder.pid
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
        assert lock.holder(file) is None
        with lock.hold(file):
            assert lock.holder(file) == os.getpid()


def test_a_child_that_outlives_its_parent_does_not_hold_it(tmp_path: Path) -> None:
    """Programs started meanwhile do not inherit the lock."""
    file = tmp_path / "lock"
    with lock.hold(file):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with child:
        try:
            assert lock.holder(file) is None
        finally:
            child.kill()


def test_those_who_ask_do_not_hinder_a_start(tmp_path: Path) -> None:
    """However often a status command asks, whoever wants the lock gets it."""
    file = tmp_path / "lock"
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            lock.holder(file)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(500):
            with lock.hold(file):
                pass
    finally:
        is_over.set()
        asking.join()


def test_the_children_of_a_killed_holder_are_waited_for(tmp_path: Path) -> None:
    """What a killed supervisor forked still has its ports: the next start waits until it has ended."""
    file = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", _FORKS, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdin is not None
        assert killed.stdout is not None
        assert killed.stdout.readline() == "held\n"
        killed.send_signal(signal.SIGKILL)
        killed.wait(10)
        assert lock.holder(file) == killed.pid
        with pytest.raises(errors.HostError, match="already running"), lock.hold(file, ending_s=0.0):
            pytest.fail("held beside a child")
        killed.stdin.close()  # what the child waits for
        with lock.hold(file):
            assert lock.holder(file) == os.getpid()


def test_a_platform_of_another_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may read the lock but not end its holder learns whose it is, and the command that may."""
    file = tmp_path / "lock"

    def refuse(_pid: int, _signum: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(sys, "argv", ["/usr/bin/ondol", "down", "--keep-pods"])
    with lock.hold(file):
        monkeypatch.setattr(os, "kill", refuse)
        with pytest.raises(errors.HostError, match="belongs to another user") as caught:
            lock.holder(file)
    typed = f"sudo ondol down --keep-pods --data-dir {tmp_path}"
    assert caught.value.remedy == f"{typed}; or choose another --data-dir"
