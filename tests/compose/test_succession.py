"""Newer code succeeds a supervisor in its own process: what goes on, what starts anew, what is refused."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ondol.base import errors
from ondol.compose import handover, succession
from ondol.compose.handover import Handover, PartLeft, ProcessLeft, SocketLeft
from ondol.compose.part import Epoch, Identity
from ondol.compose.supervisor import Supervisor

PATIENCE_S = 30.0


class Small:
    """The platform of `succeeding.py`, and the "code" that is installed for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.install("1")
        self.engine("first", "kin")
        script = Path(__file__).with_name("succeeding.py")
        with (folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(script), str(folder)], stdout=output, stderr=subprocess.STDOUT
            )

    def install(self, version: str) -> None:
        (self.folder / "version").write_text(version)

    def engine(self, content: str, kin: str) -> None:
        (self.folder / "engine").write_text(f"{content} {kin}")

    def parts(self) -> dict[str, Any]:
        with contextlib.suppress(OSError):
            return dict(json.loads((self.folder / "parts.json").read_text()))
        return {}

    def pid(self, name: str) -> int:
        return int(self.parts()[name][0])

    def is_ready(self) -> bool:
        states = [each[1] for name, each in self.parts().items() if name != "leaving"]
        return len(states) == 3 and set(states) == {"ready"}

    def answer(self) -> list[str]:
        """Which version serves, and by which process."""
        port = int((self.folder / "port").read_text())
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as asking:
            return asking.recv(100).decode().split()

    def succeed(self) -> tuple[str, str]:
        """Ask for the newer code: how that went."""
        succession.forget_outcome(self.folder)
        self.process.send_signal(signal.SIGUSR2)
        self.until(lambda: succession.outcome(self.folder) is not None)
        outcome = succession.outcome(self.folder)
        assert outcome is not None
        return outcome

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, (self.folder / "output").read_text()
            assert time.monotonic() < deadline, (self.folder / "output").read_text()
            time.sleep(0.01)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    running = Small(tmp_path)
    try:
        running.until(running.is_ready)
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
        running.process.wait(PATIENCE_S)


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_newer_code_goes_on_with_processes_and_sockets(small: Small) -> None:
    """The process stays, so does the engine; parts are of the new version, at the socket of the old."""
    engine, server, port = small.pid("engine"), small.pid("server"), (small.folder / "port").read_text()
    assert small.answer() == ["1", str(server)]
    small.install("2")
    assert small.succeed()[0] == succession.DONE
    version, pid = small.answer()
    assert (version, int(pid)) == ("2", small.pid("server"))
    assert (small.folder / "port").read_text() == port
    assert small.pid("engine") == engine
    assert small.pid("server") != server
    assert not _is_alive(server)
    assert small.succeed()[0] == succession.DONE  # and again
    assert small.pid("engine") == engine


def test_who_connects_meanwhile_waits(small: Small) -> None:
    """No connection is refused or reset while the part that listens is replaced."""
    small.install("2")
    succession.forget_outcome(small.folder)
    small.process.send_signal(signal.SIGUSR2)
    versions = []
    while succession.outcome(small.folder) is None:
        versions.append(small.answer()[0])
    versions.append(small.answer()[0])
    assert versions == sorted(versions)
    assert set(versions) == {"1", "2"}


def test_a_changed_engine_is_succeeded_while_it_runs(small: Small) -> None:
    """Its heir is the next of its line, and starts beside it; it then leaves by itself."""
    former = small.pid("engine")
    small.engine("second", "kin")
    assert small.succeed()[0] == succession.DONE
    assert small.pid("engine") != former
    assert (small.folder / "epochs").read_text().split() == ["0", "1"]
    small.until(lambda: small.parts()["leaving"] == [former])
    assert _is_alive(former)
    os.kill(former, signal.SIGTERM)
    small.until(lambda: small.parts()["leaving"] == [])


def test_an_engine_that_cannot_be_succeeded_is_started_anew(small: Small) -> None:
    """Its successor begins a line of its own once it has ended."""
    former = small.pid("engine")
    small.engine("second", "stranger")
    assert small.succeed()[0] == succession.DONE
    assert not _is_alive(former)
    assert (small.folder / "epochs").read_text().split() == ["0", "0"]


def test_an_engine_whose_heirs_fail_goes_on(small: Small) -> None:
    """It serves all the while; the rest of the platform is of the new version."""
    former = small.pid("engine")
    small.install("2")
    small.engine("second", "kin")
    (small.folder / "engine-fails").touch()
    assert small.succeed()[0] == succession.DONE
    assert small.pid("engine") == former
    assert _is_alive(former)
    assert small.answer()[0] == "2"


def test_a_part_that_overlaps_ends_when_its_work_is_done(small: Small) -> None:
    """Its successor serves before it is asked to end, and what it has begun it ends."""
    former = small.pid("gateway")
    begun = small.folder / "begun"
    begun.touch()
    assert small.succeed()[0] == succession.DONE
    assert small.pid("gateway") != former
    assert former in small.parts()["leaving"]
    assert _is_alive(former)
    assert small.succeed()[0] == succession.DONE  # the next code knows of it, too
    assert former in small.parts()["leaving"]
    begun.unlink()
    small.until(lambda: small.parts()["leaving"] == [])


def test_code_that_cannot_run_changes_nothing(small: Small) -> None:
    """The words of its check are told, and every process goes on."""
    before = small.parts()
    small.install("2")
    (small.folder / "broken").touch()
    assert small.succeed() == (succession.REFUSED, "the newer code is broken")
    assert small.parts() == before
    assert small.answer()[0] == "1"
    (small.folder / "broken").unlink()
    assert small.succeed()[0] == succession.DONE


def test_a_stop_ends_those_that_leave_as_well(small: Small) -> None:
    """Nothing of the platform outlives its supervisor."""
    former = small.pid("engine")
    small.engine("second", "kin")
    small.succeed()
    pids = [former, *(small.pid(name) for name in ("server", "engine", "gateway"))]
    small.process.terminate()
    assert small.process.wait(PATIENCE_S) == 0
    assert [pid for pid in pids if _is_alive(pid)] == []


def test_a_part_that_there_is_no_more_is_let_go(tmp_path: Path) -> None:
    """Its process leaves, and what it was heard by is closed."""
    mine, its = socket.socketpair()
    with its:
        left = PartLeft("gone", os.getpid(), "ready", 0.0, 0, mine.detach(), Epoch())
        inherited = Handover(handover.FORMAT, "0.1.0", os.getpid(), 1, (left,))
        supervisor = Supervisor([], log_dir=tmp_path, inherited=inherited)
        assert [each.name for each in supervisor.leaving] == ["gone"]
        assert its.recv(1) == b""


# The document

LEFT = Handover(
    handover.FORMAT,
    "0.1.0",
    os.getpid(),
    3,
    (
        PartLeft("api", 10, "ready", 1.5, 2, 7, Epoch()),
        PartLeft("envoy", 11, "ready", 2.5, 0, -1, Epoch(1, 2), Identity("abc", "11.104")),
    ),
    (ProcessLeft("envoy", 9, 900.0),),
    (SocketLeft("api", "127.0.0.1:6443", 8),),
)


def test_the_document_passes_as_it_is() -> None:
    """What is read is what was written, and names the descriptors that have to stay open."""
    descriptor = handover.written(LEFT)
    try:
        assert handover.read(descriptor) == LEFT
        with pytest.raises(PermissionError):
            os.write(descriptor, b"x")
    finally:
        os.close(descriptor)
    assert sorted(LEFT.descriptors) == [7, 8]
    with pytest.raises(errors.HostError, match="for process"):
        handover.require_for(LEFT, os.getpid() + 1)


@pytest.mark.parametrize(
    ("content", "sealed", "why"),
    [
        (b"", True, "truncated"),
        (b"{", True, "truncated"),
        (b"[]", True, "object"),
        (b"{}", True, "its format is None"),
        (b'{"format": 99}', True, "its format is 99, and this version knows 1"),
        (b'{"format": 1, "version": "0.1"}', True, "missing required field"),
        (b'{"format": 1}', False, "not sealed"),
    ],
)
def test_a_document_that_is_not_understood_is_refused(content: bytes, sealed: bool, why: str) -> None:
    """In words, with what to do instead."""
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    try:
        os.write(descriptor, content)
        if sealed:
            handover.seal(descriptor)
        with pytest.raises(errors.HostError, match=why) as caught:
            handover.read(descriptor)
        assert "ondol down --keep-pods" in caught.value.remedy
    finally:
        os.close(descriptor)


def test_what_nobody_understands_is_done_away_with() -> None:
    """Processes of an unreadable predecessor are ended and its descriptors closed, but for the lock's."""
    script = """
import os, time
from ondol.compose import predecessor, processes
if (child := os.fork()) == 0:
    time.sleep(60)
    os._exit(0)
document, other, lock = (os.memfd_create(name, 0) for name in ("document", "other", "lock"))
assert processes.children() == [child]
assert predecessor.taken_up(document, spared=(lock,)) is None
assert processes.children() == []
for descriptor, is_open in ((document, False), (other, False), (lock, True)):
    try:
        os.fstat(descriptor)
        assert is_open
    except OSError:
        assert not is_open
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
