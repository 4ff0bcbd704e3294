"""The supervisor: starts the parts in order, restarts those that ended, stops all; one thread, no loop.

It is also the zygote: it has imported what the parts share, so a part starts by `fork`, in
milliseconds, and shares those pages of memory. That is why nothing here may start a thread.

What is due is decided in `lifecycle` and `watchdog`; here it is done.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ondol.base import errors, log
from ondol.base.clock import Clock, SystemClock
from ondol.compose import child, lifecycle, logs, processes
from ondol.compose.lifecycle import Running, State
from ondol.compose.part import Notify, Part
from ondol.compose.watchdog import Verdict

if TYPE_CHECKING:
    from ondol.compose.supervisor_metrics import (
        Exposition,
    )  # loads prometheus-client, which commands never need

_LOG_CHECK_S: Final = 60.0


class Supervisor:
    """Runs parts until told to stop; `on_change` sees every change of any part's state.

    Of the clock it reads the monotonic time alone. An `exposition` is answered between other things.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        log_dir: Path,
        on_change: Callable[[Sequence[Running]], None] = lambda _: None,
        clock: Clock | None = None,
        exposition: Exposition | None = None,
        startup_attempts: int = 3,
        log_check_s: float = _LOG_CHECK_S,
        log_bytes_max: int = logs.LOG_BYTES_MAX,
    ) -> None:
        self._parts = {part.name: Running(part) for part in parts}
        self._log_dir = log_dir
        self._on_change = on_change
        self._now = (clock or SystemClock()).monotonic
        self._startup_attempts = startup_attempts
        self._log_check_s = log_check_s
        self._log_bytes_max = log_bytes_max
        self._logs_due = 0.0
        self._selector = selectors.DefaultSelector()
        self._exposition = exposition
        self._stop_signal = 0
        self._was_ready = False
        self._log = log.get("supervisor")

    @property
    def parts(self) -> Sequence[Running]:
        return tuple(self._parts.values())

    def run(self) -> int:
        """Supervise until SIGTERM, SIGINT or SIGHUP; the signal's number is returned, SIGTERM for SIGHUP.

        A part that fails again and again before the platform was ever ready ends the attempt:
        everything is stopped and `HostError` carries the part's own words.
        """
        gc.collect()
        gc.freeze()  # keeps the shared pages shared: the collector of a child will not touch them
        with self._signals(), self._metrics_shown():
            while not (self._stop_signal and lifecycle.all_ended(self._parts)):
                self._start_or_end_due()
                self._listen()
                self._probe_watched()
                self._kill_silent()
                self._reap()
                self._probe_starting()
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

    def _start_or_end_due(self) -> None:
        if not self._stop_signal:
            for running in lifecycle.due_to_start(self._parts, self._now()):
                self._start(running)
            return
        for running in lifecycle.never_started(self._parts):
            self._set(running, State.STOPPED)
        for running in lifecycle.due_to_end(self._parts):
            os.kill(running.pid, signal.SIGTERM)
            running.kill_at = self._now() + lifecycle.STOP_GRACE_S
            self._set(running, State.STOPPING)

    def _start(self, running: Running) -> None:
        read_end, write_end = os.pipe()
        child.flush_output()  # or the child would write it again
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            self._selector.close()
            if self._exposition is not None:
                self._exposition.close()
            child.become(
                running.part, Notify(write_end), parent=parent, log_file=self._log_file(running.part)
            )
        os.close(write_end)
        os.set_blocking(read_end, False)
        running.pid, running.pipe, running.unread = pid, read_end, b""
        running.started_at = self._now()
        self._selector.register(read_end, selectors.EVENT_READ, running)
        self._log.info("part_started", name=running.part.name, pid=pid)
        self._set(running, State.STARTING)

    def _listen(self) -> None:
        """Sleep until something is due or reported.

        A part was silent for as long as it was listened to: not for the time in which this process
        did not run either (stopped, or the machine was), which is what goes beyond the timeout.
        """
        began = self._now()
        timeout_s = lifecycle.wait_s(self._parts, began, [self._logs_due])
        events = self._selector.select(timeout_s)
        slept_s = self._now() - began
        for _, watch in lifecycle.watched(self._parts):
            watch.listened(min(slept_s, timeout_s))
        for key, _ in events:
            if isinstance(key.data, Running):
                self._read_notice(key.data)
            elif key.data is not None:
                key.data()
            else:
                with contextlib.suppress(BlockingIOError):
                    os.read(key.fd, 4096)

    def _read_notice(self, running: Running) -> None:
        try:
            data = os.read(running.pipe, 65536)
        except BlockingIOError:
            return
        if not data:
            self._close_pipe(running)
            return
        *lines, running.unread = (running.unread + data).split(b"\n")
        _heard(running)
        for line in lines:
            word, _, message = line.decode(errors="replace").partition(" ")
            if word == "READY" and running.state is State.STARTING:
                self._set_ready(running)
            elif word == "FAILED":
                running.error = message

    def _probe_watched(self) -> None:
        """Ask those that cannot report by themselves whether they are alive."""
        now = self._now()
        for running, watch in lifecycle.watched(self._parts):
            if running.part.probe is None or running.probe_at > now:
                continue
            interval_s = watch.probe_interval_s
            if running.part.probe():
                _heard(running)
            running.probe_at = self._now() + interval_s

    def _kill_silent(self) -> None:
        """End a part that hangs, as its event loop may; it cannot be asked to."""
        for running, watch in lifecycle.watched(self._parts):
            if not watch.is_due:
                continue
            details = {"name": running.part.name, "pid": running.pid, "seconds": round(watch.silent_s, 1)}
            if watch.verdict(processes.runnable_s(running.pid)) is Verdict.BUSY:
                self._log.warning("part_busy", **details)
                watch.extend()
                continue
            self._log.warning("part_silent", **details)
            running.error = "stopped answering"
            _heard(running)
            os.kill(running.pid, signal.SIGKILL)

    def _set_ready(self, running: Running) -> None:
        running.error = ""
        running.probe_at = 0.0
        _heard(running)
        seconds = round(self._now() - running.started_at, 3)
        self._log.info("part_ready", name=running.part.name, seconds=seconds)
        self._set(running, State.READY)
        self._was_ready = self._was_ready or lifecycle.all_ready(self._parts)

    def _probe_starting(self) -> None:
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
        lived_s = self._now() - running.started_at
        running.pid = 0
        if self._stop_signal:
            self._set(running, State.STOPPED)
            return
        restart = lifecycle.restart(running.failures, lived_s)
        running.failures = restart.failures
        running.restarts += 1
        running.error = running.error or _cause_of(code)
        self._log.warning("part_died", name=running.part.name, cause=running.error, lived_s=round(lived_s, 3))
        if not self._was_ready and running.failures >= self._startup_attempts:
            self._set(running, State.FAILED)
            self.stop()
            return
        running.retry_at = self._now() + restart.delay_s
        self._set(running, State.BACKING_OFF)

    def _kill_overdue(self) -> None:
        for running in lifecycle.overdue(self._parts, self._now()):
            self._log.warning("part_killed", name=running.part.name, grace_s=lifecycle.STOP_GRACE_S)
            os.kill(running.pid, signal.SIGKILL)
            running.kill_at = self._now() + lifecycle.STOP_GRACE_S

    def _bound_logs(self) -> None:
        """Keep what the parts and this process write from filling the disk."""
        if self._logs_due <= self._now():
            logs.bound_all(self._log_dir, bytes_max=self._log_bytes_max)
            self._logs_due = self._now() + self._log_check_s

    def _set(self, running: Running, state: State) -> None:
        running.state = state
        self._on_change(self.parts)

    def _log_file(self, part: Part) -> Path:
        return self._log_dir / f"{part.name}.log"

    def _log_hint(self, running: Running) -> str:
        return f"see {self._log_file(running.part)}"

    @contextlib.contextmanager
    def _metrics_shown(self) -> Iterator[None]:
        if self._exposition is None:
            yield
            return
        self._exposition.open(self._selector, lambda: (self.parts, self._now()))
        try:
            yield
        finally:
            self._exposition.close()

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


def _heard(running: Running) -> None:
    if running.watch is not None:
        running.watch.heard(processes.runnable_s(running.pid))


def _cause_of(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"ended with exit status {code}"
