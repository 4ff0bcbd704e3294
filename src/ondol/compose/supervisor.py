"""The supervisor: starts the parts in order, restarts the dead, stops all; one thread and no event loop.

It is also the zygote: it has imported what the parts share, so a part starts by `fork`, in
milliseconds, and shares those pages of memory. That is why nothing here may start a thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import fcntl
import gc
import os
import selectors
import signal
import socket
import sys
import termios
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from ondol.base import errors, log
from ondol.base.backoff import Backoff
from ondol.compose import logs

_RESTART: Final = Backoff(initial_s=0.1, maximum_s=10.0)
_STEADY_AFTER_S: Final = 30.0
_STOP_GRACE_S: Final = 10.0
_POLL_S: Final = 0.02
_LISTENING_STEPS: Final = 4
_PROBES_IN_SILENCE: Final = 6
_BUSY_PATIENCE: Final = 4
"""How many times longer than one that hangs a part may be silent that works all the while."""
_LOG_CHECK_S: Final = 60.0
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15


class Notify:
    """A part's end of the pipe to its supervisor: called once the part serves."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __call__(self) -> None:
        self.say("READY")

    def alive(self) -> None:
        """Say that the part still gets to speak; nothing while the last words are still unread.

        So the pipe never fills, and nobody waits, however long the supervisor does not read.
        """
        unread = int.from_bytes(fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)), sys.byteorder)
        if not unread:
            self.say("ALIVE")

    def say(self, line: str) -> None:
        _write(self._fd, f"{line}\n".encode())


class State(enum.StrEnum):
    """Where a part is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing-off"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


_ENDED: Final = (State.STOPPED, State.FAILED)


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the platform.

    `run` is called in the forked child and does not return normally before the part ends (an
    engine replaces the process by `exec`). A Python part calls the `Notify` it is given when it
    serves; an engine cannot, so it has a `probe` instead, which must answer at once. It starts once
    those in `after` are ready, and is asked to end once those in `outlives` have ended. One with a
    `silence_max_s` says that it is alive, or answers its probe, more often than that, or it is killed
    and started again: a Python part later if it works all the while than if it hangs.
    """

    name: str
    run: Callable[[Notify], None]
    after: tuple[str, ...] = ()
    outlives: tuple[str, ...] = ()
    probe: Callable[[], bool] | None = None
    silence_max_s: float | None = None
    address: str = ""


@dataclass(slots=True)
class Running:
    """What the supervisor knows of a part; times are monotonic seconds."""

    part: Part
    state: State = State.WAITING
    pid: int = 0
    started_at: float = 0.0
    failures: int = 0
    restarts: int = 0
    retry_at: float = 0.0
    kill_at: float = 0.0
    silent_s: float = 0.0
    probe_at: float = 0.0
    runnable_s: float = 0.0
    """How long it had been at work, or next in line for it, when it was last heard."""
    patience: int = 1
    error: str = ""
    pipe: int = -1
    unread: bytes = field(default=b"", repr=False)


class Supervisor:
    """Runs parts until told to stop; `on_change` sees every change of any part's state."""

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        log_dir: Path,
        on_change: Callable[[Sequence[Running]], None] = lambda _: None,
        startup_attempts: int = 3,
        log_check_s: float = _LOG_CHECK_S,
        log_bytes_max: int = logs.LOG_BYTES_MAX,
    ) -> None:
        self._parts = {part.name: Running(part) for part in parts}
        self._log_dir = log_dir
        self._on_change = on_change
        self._startup_attempts = startup_attempts
        self._log_check_s = log_check_s
        self._log_bytes_max = log_bytes_max
        self._logs_due = 0.0
        self._selector = selectors.DefaultSelector()
        self._stop_signal = 0
        self._was_ready = False
        self._log = log.get("supervisor")

    @property
    def parts(self) -> Sequence[Running]:
        return tuple(self._parts.values())

    @property
    def ready(self) -> bool:
        return all(r.state is State.READY for r in self._parts.values())

    def run(self) -> int:
        """Supervise until SIGTERM, SIGINT or SIGHUP; the signal's number is returned, SIGTERM for SIGHUP.

        A part that fails again and again before the platform was ever ready ends the attempt:
        everything is stopped and `HostError` carries the part's own words.
        """
        gc.collect()
        gc.freeze()  # keeps the shared pages shared: the collector of a child will not touch them
        with self._signals():
            while not self._done():
                self._start_due()
                self._stop_due()
                self._wait()
                self._probe_watched()
                self._kill_silent()
                self._reap()
                self._probe()
                self._kill_overdue()
                self._bound_logs()
        if failed := next((r for r in self._parts.values() if r.state is State.FAILED), None):
            raise errors.HostError(f"{failed.part.name}: {failed.error}", remedy=self._log_hint(failed))
        return self._stop_signal

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """Ask the parts to end, each once those it outlives have: SIGTERM, and SIGKILL after a grace."""
        if not self._stop_signal:
            self._stop_signal = signum
            self._log.info("stopping")

    def _stop_due(self) -> None:
        if not self._stop_signal:
            return
        for running in self._parts.values():
            if running.state is State.STOPPING or running.state in _ENDED:
                continue
            if not running.pid:
                self._set(running, State.STOPPED)
            elif not any(self._parts[name].pid for name in running.part.outlives):
                os.kill(running.pid, signal.SIGTERM)
                running.kill_at = time.monotonic() + _STOP_GRACE_S
                self._set(running, State.STOPPING)

    def _done(self) -> bool:
        return bool(self._stop_signal) and all(r.state in _ENDED for r in self._parts.values())

    def _start_due(self) -> None:
        if self._stop_signal:
            return
        now = time.monotonic()
        for running in self._parts.values():
            due = running.state is State.WAITING or (
                running.state is State.BACKING_OFF and running.retry_at <= now
            )
            if due and all(self._parts[name].state is State.READY for name in running.part.after):
                self._start(running)

    def _start(self, running: Running) -> None:
        read_end, write_end = os.pipe()
        _flush_output()  # or the child would write it again
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            self._child(running.part, write_end, parent)
        os.close(write_end)
        os.set_blocking(read_end, False)
        running.pid, running.pipe, running.unread = pid, read_end, b""
        running.started_at = time.monotonic()
        self._selector.register(read_end, selectors.EVENT_READ, running)
        self._log.info("part_started", name=running.part.name, pid=pid)
        self._set(running, State.STARTING)

    def _child(self, part: Part, notify_fd: int, parent: int) -> NoReturn:
        """Become the part: own session, own log file, ended with the supervisor."""
        code = 1
        notify = Notify(notify_fd)
        try:
            os.setsid()
            for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(signum, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            _end_with_parent(part.name, parent)
            _redirect_output(self._log_dir / f"{part.name}.log")
            self._selector.close()
            part.run(notify)
            code = 0
        except errors.OndolError as error:
            remedy = f" ({error.remedy})" if isinstance(error, errors.HostError) and error.remedy else ""
            notify.say(f"FAILED {error}{remedy}")
            traceback.print_exc()  # last: the log may be on a full disk
        except BaseException as error:  # noqa: BLE001 - the child must end here, whatever happened
            notify.say(f"FAILED {type(error).__name__}: {error}")
            traceback.print_exc()
        finally:
            _flush_output()
            os._exit(code)

    def _wait(self) -> None:
        """Sleep until something is due or said.

        A part was silent for as long as it was listened to: not for the time in which this process
        did not run either (stopped, or the machine was), which is what goes beyond the timeout.
        """
        timeout_s, began = self._timeout_s(), time.monotonic()
        events = self._selector.select(timeout_s)
        slept_s = time.monotonic() - began
        for running, _ in self._watched():
            running.silent_s += min(slept_s, timeout_s)
        for key, _ in events:
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    os.read(key.fd, 4096)
            else:
                self._read_notice(key.data)

    def _timeout_s(self) -> float:
        if any(r.state is State.STARTING and r.part.probe for r in self._parts.values()):
            return _POLL_S
        deadlines = [self._logs_due]
        deadlines += [r.retry_at for r in self._parts.values() if r.state is State.BACKING_OFF]
        deadlines += [r.kill_at for r in self._parts.values() if r.state is State.STOPPING and r.pid]
        waits = [max(0.0, deadline - time.monotonic()) for deadline in deadlines]
        # In several steps, of which the last may be one that this process sleeps through.
        waits += [min(limit_s - r.silent_s, limit_s / _LISTENING_STEPS) for r, limit_s in self._watched()]
        waits += [max(0.0, r.probe_at - time.monotonic()) for r, _ in self._watched() if r.part.probe]
        return min(waits)

    def _read_notice(self, running: Running) -> None:
        try:
            data = os.read(running.pipe, 65536)
        except BlockingIOError:
            return
        if not data:
            self._close_pipe(running)
            return
        *lines, running.unread = (running.unread + data).split(b"\n")
        self._heard(running)
        for line in lines:
            word, _, text = line.decode(errors="replace").partition(" ")
            if word == "READY" and running.state is State.STARTING:
                self._set_ready(running)
            elif word == "FAILED":
                running.error = text

    def _heard(self, running: Running) -> None:
        running.silent_s, running.patience = 0.0, 1
        running.runnable_s = _runnable_s(running.pid)

    def _watched(self) -> Iterator[tuple[Running, float]]:
        """Those that have to speak up from time to time, and how long they may be silent."""
        for running in self._parts.values():
            if running.state is State.READY and running.part.silence_max_s is not None:
                yield running, running.part.silence_max_s * running.patience

    def _probe_watched(self) -> None:
        """Ask those that cannot speak up by themselves whether they are alive."""
        now = time.monotonic()
        for running, limit_s in self._watched():
            if running.part.probe is None or running.probe_at > now:
                continue
            if running.part.probe():
                self._heard(running)
            running.probe_at = time.monotonic() + limit_s / _PROBES_IN_SILENCE

    def _kill_silent(self) -> None:
        """End a part that hangs, as its event loop may; it cannot be asked to.

        One that has had work for most of its silence gets some more time to end it: all that it was doing
        would be lost, and come again.
        """
        for running, limit_s in self._watched():
            if running.silent_s < limit_s:
                continue
            seconds = round(running.silent_s, 1)
            busy = _runnable_s(running.pid) - running.runnable_s > running.silent_s / 2
            if busy and running.patience == 1:
                self._log.warning("part_busy", name=running.part.name, pid=running.pid, seconds=seconds)
                running.patience = _BUSY_PATIENCE
                continue
            self._log.warning("part_silent", name=running.part.name, pid=running.pid, seconds=seconds)
            running.error = "stopped answering"
            self._heard(running)
            os.kill(running.pid, signal.SIGKILL)

    def _set_ready(self, running: Running) -> None:
        running.error = ""
        running.probe_at = 0.0
        self._heard(running)
        self._log.info(
            "part_ready",
            name=running.part.name,
            seconds=round(time.monotonic() - running.started_at, 3),
        )
        self._set(running, State.READY)
        self._was_ready = self._was_ready or self.ready

    def _probe(self) -> None:
        for running in self._parts.values():
            if running.state is State.STARTING and running.part.probe is not None and running.part.probe():
                self._set_ready(running)

    def _reap(self) -> None:
        for running in self._parts.values():
            if not running.pid:
                continue
            pid, status = os.waitpid(running.pid, os.WNOHANG)
            if pid:
                self._read_last_words(running)
                self._on_exit(running, os.waitstatus_to_exitcode(status))

    def _read_last_words(self, running: Running) -> None:
        if running.pipe >= 0:
            self._read_notice(running)
        self._close_pipe(running)

    def _close_pipe(self, running: Running) -> None:
        if running.pipe >= 0:
            self._selector.unregister(running.pipe)
            os.close(running.pipe)
            running.pipe = -1

    def _on_exit(self, running: Running, code: int) -> None:
        lived_s = time.monotonic() - running.started_at
        running.pid = 0
        if self._stop_signal:
            self._set(running, State.STOPPED)
            return
        running.failures = 1 if lived_s > _STEADY_AFTER_S else running.failures + 1
        running.restarts += 1
        running.error = running.error or _cause_of(code)
        self._log.warning("part_died", name=running.part.name, cause=running.error, lived_s=round(lived_s, 3))
        if not self._was_ready and running.failures >= self._startup_attempts:
            self._set(running, State.FAILED)
            self.stop()
            return
        running.retry_at = time.monotonic() + (
            0.0 if running.failures == 1 else _RESTART.delay_s(running.failures - 1)
        )
        self._set(running, State.BACKING_OFF)

    def _kill_overdue(self) -> None:
        for running in self._parts.values():
            if running.state is State.STOPPING and running.pid and running.kill_at <= time.monotonic():
                self._log.warning("part_killed", name=running.part.name, grace_s=_STOP_GRACE_S)
                os.kill(running.pid, signal.SIGKILL)
                running.kill_at = time.monotonic() + _STOP_GRACE_S

    def _bound_logs(self) -> None:
        """Keep what the parts and this process write from filling the disk."""
        if self._logs_due <= time.monotonic():
            logs.bound_all(self._log_dir, bytes_max=self._log_bytes_max)
            self._logs_due = time.monotonic() + self._log_check_s

    def _set(self, running: Running, state: State) -> None:
        running.state = state
        self._on_change(self.parts)

    def _log_hint(self, running: Running) -> str:
        return f"see {self._log_dir / (running.part.name + '.log')}"

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn SIGTERM, SIGINT and SIGCHLD into wake-ups of the loop."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._selector.register(reader, selectors.EVENT_READ, None)
        before_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        handlers = {
            signal.SIGTERM: signal.signal(signal.SIGTERM, lambda n, _: self.stop(n)),
            signal.SIGINT: signal.signal(signal.SIGINT, lambda n, _: self.stop(n)),
            signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda *_: None),
        }
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # who started it by nohup wants it to stay
            handlers[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: self.stop(signal.SIGTERM))
        try:
            yield
        finally:
            for signum, handler in handlers.items():
                signal.signal(signum, handler)
            signal.set_wakeup_fd(before_fd)
            self._selector.close()
            reader.close()
            writer.close()


def _runnable_s(pid: int) -> float:
    """How long a process's first thread, whose event loop it is, has run or waited for a processor.

    On a full machine the wait belongs to it. 0 where the kernel does not tell (proc(5), `schedstat`).
    """
    try:
        run_ns, wait_ns, _ = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return 0.0
    return (int(run_ns) + int(wait_ns)) / 1e9


def _end_with_parent(name: str, parent: int) -> None:
    """Have the kernel end this process when the supervisor dies, and name it in process lists."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, f"ondol-{name}".encode()[:15], 0, 0, 0)
    if os.getppid() != parent:  # it was gone before the request was made
        os._exit(1)


def _redirect_output(file: Path) -> None:
    logs.bound(file)
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    # Whatever the parent had put in their place, the child writes to its own file, line by line.
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def _flush_output() -> None:
    """Write out what is buffered; on a full disk it is lost, and nobody ends for it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()


def _write(fd: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(fd, data)


def _cause_of(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"ended with exit status {code}"
