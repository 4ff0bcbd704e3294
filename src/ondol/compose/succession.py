"""A supervisor is succeeded by the code that is installed now, in the same process; children stay its own.

First the newer code is run beside it, with the same settings and with what would be left to it, to say
whether it could go on (`ondol up --check`). Only then the process becomes the newer code by `exec`. How that
went is told in a file, for whoever asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from ondol import __version__
from ondol.base import errors, files, log
from ondol.compose import handover, kept_sockets, lifecycle
from ondol.compose.handover import Handover, PartLeft, ProcessLeft, SocketLeft
from ondol.compose.kept_sockets import KeptSockets
from ondol.compose.lifecycle import Leaving, Running, State, Turn
from ondol.compose.part import Identity, Part

BLOCKED: Final = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Held back from before the `exec` until the newer code listens to them: sooner they would end it."""
_LOOK_MAX_S: Final = 120.0
_REPORT: Final = "restart.json"
DONE: Final = "done"
REFUSED: Final = "refused"
_WORDS_MAX: Final = 2000


def command(data_dir: Path, flags: Mapping[str, str]) -> list[str]:
    """What starts the code that is installed, in the foreground, whichever command has started this."""
    words = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    return [sys.executable, "-P", "-m", "ondol.cli", "up", "--data-dir", str(data_dir), *words]


def document(
    parts: Sequence[Running], leaving: Sequence[Leaving], sockets: KeptSockets, *, number: int
) -> Handover:
    """What is left to the successor."""
    return Handover(
        handover.FORMAT,
        __version__,
        os.getpid(),
        number,
        tuple(_part(running) for running in parts if running.pid),
        tuple(ProcessLeft(each.name, each.pid, each.end_at) for each in leaving),
        tuple(SocketLeft(*each) for each in sockets.all()),
    )


def _part(running: Running) -> PartLeft:
    return PartLeft(
        running.part.name,
        running.pid,
        str(running.state),
        running.started_at,
        running.restarts,
        running.channel.fileno() if running.channel is not None else -1,
        running.epoch,
        running.identity,
    )


def identity(part: Part) -> Identity | None:
    """What the part's process would run if it were started now; None if that cannot be said."""
    if part.identity is None:
        return None
    try:
        return part.identity()
    except (errors.OndolError, OSError) as error:  # as while packages are being replaced
        log.get("succession").warning("identity_unknown", name=part.name, error=str(error))
        return None


def adopt(running: Running, left: PartLeft) -> None:
    """Take up a part's process; what becomes of it is its `turn`."""
    running.pid, running.started_at, running.restarts = left.pid, left.started_at, left.restarts
    running.epoch, running.identity = left.epoch, left.identity
    if left.channel >= 0:
        running.channel = kept_sockets.adopted(left.channel)
        running.channel.setblocking(False)
    present = identity(running.part)
    if running.part.identity is not None and present is None:
        running.turn = Turn.STAYS  # what serves is not given up for what is unknown
    else:
        running.turn = lifecycle.turn(running.part, left.identity, present)
    running.state = State.READY
    if left.state != State.READY:  # it fell ill while the newer code was looked at
        running.turn = Turn.ANEW


def let_go(left: PartLeft) -> None:
    """Listen no more to a process that is not taken up."""
    if left.channel >= 0:
        kept_sockets.adopted(left.channel).close()


def keep(sockets: KeptSockets, left: SocketLeft) -> None:
    """Take up a socket."""
    sockets.put(left.part, left.name, kept_sockets.adopted(left.descriptor))


class Succession:
    """Asks the newer code, and becomes it; `command` starts it, `reloading` is called just before.

    `ready` is called if that did not happen after all. `locks` are the descriptors that have to stay open
    besides what is left.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        locks: Iterable[int] = (),
        reloading: Callable[[], None] = lambda: None,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._command = list(command)
        self._folder = folder
        self._locks = list(locks)
        self._reloading = reloading
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None
        self._words: IO[bytes] | None = None
        self._number = 0
        self._log = log.get("succession")
        self.is_asked = False
        self.end_at: float | None = None
        """When the newer code has to have said whether it can go on."""

    def ask(self, *_: object) -> None:
        """Somebody wants the newer code; the handler of a signal."""
        self.is_asked = True

    @property
    def is_looking(self) -> bool:
        return self._process is not None

    def look(self, left: Handover, now: float, *, is_settled: bool) -> None:
        """Have the newer code say whether it can go on; only if everything runs and nothing changes."""
        self.is_asked, self._number = False, left.number
        if not is_settled:
            self._refuse("the platform is not ready: see ondol status")
            return
        with contextlib.ExitStack() as opened:
            try:
                descriptor = handover.written(left)
                opened.callback(os.close, descriptor)
                words = os.fdopen(os.memfd_create("ondol-words"), "w+b")
                self._process = self._asked(descriptor, words)
            except OSError as error:
                self._refuse(f"{self._command[0]} cannot be run: {error.strerror}")
                return
        self._words, self.end_at = words, now + _LOOK_MAX_S

    def _asked(self, descriptor: int, words: IO[bytes]) -> subprocess.Popen[bytes]:
        """The newer code, asked whether it could go on from the document."""
        return subprocess.Popen(
            [*self._command, "--check", "--handover", str(descriptor)],
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            pass_fds=(descriptor,),
            start_new_session=True,
        )

    def can_go_on(self, now: float) -> bool:
        """Whether the newer code has said that it can; why not is told."""
        if self._process is None or self._words is None or self.end_at is None:
            return False
        code = self._process.poll()
        if code is None and now < self.end_at:
            return False
        if code is None:
            self._process.kill()
            self._process.wait()
        with self._words as file:
            file.seek(0)
            words = file.read().decode(errors="replace").strip()
        self._process = self._words = self.end_at = None
        if code == 0:
            return True
        why = words[-_WORDS_MAX:] or f"exit status {code}"
        self._refuse(f"not checked in {_LOOK_MAX_S:.0f} s" if code is None else why)
        return False

    def go_on(self, left: Handover) -> None:
        """Become the newer code; returns only if that cannot be."""
        try:
            descriptor = handover.written(left)
        except OSError as error:
            self._refuse(f"nothing can be handed over: {error.strerror}")
            return
        passed = [descriptor, *self._locks, *left.descriptors]
        command = [*self._command, "--handover", str(descriptor)]
        self._log.info("to_be_succeeded", number=left.number, processes=len(left.parts))
        self._reloading()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
        try:
            for each in passed:
                os.set_inheritable(each, True)
            os.execv(command[0], command)  # noqa: S606 - our own command line, no shell
        except OSError as error:
            for each in passed:
                os.set_inheritable(each, False)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(descriptor)
            self._ready()
            self._refuse(f"{command[0]} cannot be run: {error.strerror}")

    def done(self, number: int) -> None:
        """Tell that the newer code has everything running."""
        self._number = number
        self._report(DONE, __version__)

    def _refuse(self, why: str) -> None:
        self._log.error("not_succeeded", why=why)
        self._report(REFUSED, why)

    def _report(self, outcome: str, words: str) -> None:
        """Tell how it went; who asked waits for that."""
        text = json.dumps({"number": self._number, "outcome": outcome, "words": words})
        with contextlib.suppress(OSError):
            files.replace(self._folder / _REPORT, text.encode(), mode=0o600, durable=False)


def outcome(folder: Path) -> tuple[str, str] | None:
    """Of the last succession: `DONE` with the version, or `REFUSED` with the words why not."""
    try:
        report = json.loads((folder / _REPORT).read_text(encoding="utf-8"))
        return str(report["outcome"]), str(report["words"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget_outcome(folder: Path) -> None:
    """So that the next one is told apart from the last."""
    (folder / _REPORT).unlink(missing_ok=True)
