"""The supervisor: starts the parts in order, restarts those that ended, stops all; one thread, no loop.

At SIGUSR2 it is succeeded by the code that is installed now, in the same process (`succession`).

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
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from ondol.base import errors, log
from ondol.base.clock import Clock, SystemClock
from ondol.compose import child, lifecycle, logs, part_words, processes, succession
from ondol.compose.handover import Handover
from ondol.compose.kept_sockets import KeptSockets
from ondol.compose.lifecycle import Former, Leaving, Running, State, Turn
from ondol.compose.part import DROP, KEEP, WAKE, Notify, Part
from ondol.compose.succession import Succession
from ondol.compose.watchdog import Verdict
from ondol.contracts import proxy

if TYPE_CHECKING:
    from ondol.compose.supervisor_metrics import (
        Exposition,
    )  # loads prometheus-client, which commands never need

_LOG_CHECK_S: Final = 60.0


class Supervisor:
    """Runs parts until told to stop; `on_change` sees every change of any part's state.

    Of the clock it reads the monotonic time alone. An `exposition` is answered between other things. Without
    a `successor` SIGUSR2 is not listened to; what a predecessor left (`inherited`) is gone on with.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        log_dir: Path,
        on_change: Callable[[Sequence[Running]], None] = lambda _: None,
        clock: Clock | None = None,
        exposition: Exposition | None = None,
        successor: Succession | None = None,
        inherited: Handover | None = None,
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
        self._successor = successor
        self._number = inherited.number if inherited is not None else 0
        self._succeeding = inherited is not None
        self._sockets = KeptSockets()
        self._leaving: list[Leaving] = []
        if inherited is not None:
            self._inherit(inherited)

    @property
    def leaving(self) -> Sequence[Leaving]:
        """Processes that were succeeded and are not done."""
        return tuple(self._leaving)

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
            while not self._is_over():
                self._start_or_end_due()
                self._end_leaving()
                self._listen()
                self._probe_watched()
                self._kill_silent()
                self._reap()
                self._probe_starting()
                self._kill_overdue()
                self._bound_logs()
                self._be_succeeded()
        self._sockets.drop_others(())
        if failed := next((r for r in self._parts.values() if r.state is State.FAILED), None):
            raise errors.HostError(f"{failed.part.name}: {failed.error}", remedy=self._log_hint(failed))
        return self._stop_signal

    def _is_over(self) -> bool:
        return bool(self._stop_signal) and lifecycle.all_ended(self._parts) and not self._leaving

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """Ask the parts to end, each once those it outlives have: SIGTERM, and SIGKILL after a grace."""
        if not self._stop_signal:
            self._stop_signal = signum
            self._log.info("stopping")

    def _start_or_end_due(self) -> None:
        if not self._stop_signal:
            for running in lifecycle.due_to_renew(self._parts):
                self._end(running, State.RENEWING)
            for running in lifecycle.due_to_start(self._parts, self._now()):
                self._start(running)
            return
        for running in self._parts.values():
            if (former := running.former) is not None:
                running.former = None
                self._leave(running, former)
        for running in lifecycle.never_started(self._parts):
            self._sockets.drop_all(running.part.name)
            self._set(running, State.STOPPED)
        for running in lifecycle.due_to_end(self._parts):
            self._end(running, State.STOPPING)

    def _end(self, running: Running, state: State) -> None:
        os.kill(running.pid, signal.SIGTERM)
        running.kill_at = self._now() + lifecycle.STOP_GRACE_S
        self._set(running, state)

    def _start(self, running: Running) -> None:
        """Fork the part's process; beside its former one, if it is to succeed that."""
        if running.pid:
            if running.channel is not None:
                self._selector.unregister(running.channel)
            running.former = Former(
                running.pid, running.channel, running.started_at, running.epoch, running.identity
            )
            running.failures = 0
        running.turn = Turn.STAYS
        before = running.epoch if running.former is None else running.former.epoch
        running.epoch = lifecycle.next_epoch(before, beside=running.former is not None)
        running.identity = succession.identity(running.part)
        mine, its = socket.socketpair()
        child.flush_output()  # or the child would write it again
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(running, its, parent)
        its.close()
        mine.setblocking(False)
        running.pid, running.channel, running.unread = pid, mine, b""
        running.started_at = self._now()
        self._selector.register(mine, selectors.EVENT_READ, running)
        self._log.info("part_started", name=running.part.name, pid=pid)
        self._set(running, State.STARTING)

    def _become(self, running: Running, channel: socket.socket, parent: int) -> NoReturn:
        """In the child: let go of what is the supervisor's and other parts', and be the part."""
        self._selector.close()
        if self._exposition is not None:
            self._exposition.close()
        for each in self._parts.values():
            for one in (each.channel, each.former.channel if each.former is not None else None):
                if one is not None:
                    one.close()
        inherited = self._sockets.leave_to(running.part.name)
        child.become(
            running.part,
            Notify(channel.detach(), inherited, running.epoch),
            parent=parent,
            log_file=self._log_file(running.part),
        )

    def _listen(self) -> None:
        """Sleep until something is due or reported.

        A part was silent for as long as it was listened to: not for the time in which this process
        did not run either (stopped, or the machine was), which is what goes beyond the timeout.
        """
        began = self._now()
        deadlines = [self._logs_due, *(each.end_at for each in self._leaving)]
        if self._successor is not None and self._successor.end_at is not None:
            deadlines.append(self._successor.end_at)
        timeout_s = lifecycle.wait_s(self._parts, began, deadlines)
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

    def _read_notice(self, running: Running) -> bool:
        """Take what a part has said; whether it had said anything."""
        if running.channel is None:
            return False
        try:
            data, sockets = part_words.received(running.channel)
        except BlockingIOError:
            return False
        if not data:
            self._close_channel(running)
            return False
        *lines, running.unread = (running.unread + data).split(b"\n")
        _heard(running)
        for line in lines:
            word, _, message = line.decode(errors="replace").partition(" ")
            self._take_word(running, word, message, sockets)
        for unclaimed in sockets:
            unclaimed.close()
        return True

    def _take_word(self, running: Running, word: str, message: str, sockets: deque[socket.socket]) -> None:
        if word == "READY" and running.state is State.STARTING:
            self._set_ready(running)
        elif word == "FAILED":
            running.error = message
        elif word == WAKE:
            self._wake(message)
        elif word == KEEP and sockets:
            self._sockets.put(running.part.name, message, sockets.popleft())
        elif word == DROP:
            self._sockets.drop(running.part.name, message)

    def _wake(self, name: str) -> None:
        """Start a part that somebody asks for, and what it needs; the loop does it at its next turn."""
        for running in lifecycle.asked_for(self._parts, name):
            self._log.info("part_asked_for", name=running.part.name)
            self._set(running, State.WAITING)

    def _probe_watched(self) -> None:
        """Ask those that cannot report by themselves whether they are alive."""
        now = self._now()
        for running, watch in lifecycle.watched(self._parts):
            if running.part.probe is None or running.probe_at > now:
                continue
            interval_s = watch.probe_interval_s
            if running.part.probe(running.pid):
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
        if (former := running.former) is not None:
            running.former = None
            self._leave(running, former)
        self._set(running, State.READY)
        self._was_ready = self._was_ready or lifecycle.all_ready(self._parts)

    def _probe_starting(self) -> None:
        for running in self._parts.values():
            probe = running.part.probe
            if running.state is State.STARTING and probe is not None and probe(running.pid):
                self._set_ready(running)

    def _reap(self) -> None:
        for running in self._parts.values():
            if running.former is not None and _has_ended(running.former.pid):
                self._log.warning("former_part_died", name=running.part.name, pid=running.former.pid)
                self._close(running.former.channel)
                running.former = None
            if not running.pid:
                continue
            pid, status = os.waitpid(running.pid, os.WNOHANG)
            if pid:
                while self._read_notice(running):  # its last words
                    pass
                self._close_channel(running)
                self._on_exit(running, os.waitstatus_to_exitcode(status))
        for each in [each for each in self._leaving if _has_ended(each.pid)]:
            self._log.info("former_part_ended", name=each.name, pid=each.pid)
            self._leaving.remove(each)
            self._on_change(self.parts)

    def _close_channel(self, running: Running) -> None:
        self._close(running.channel)
        running.channel = None

    def _close(self, channel: socket.socket | None) -> None:
        if channel is not None:
            with contextlib.suppress(KeyError):  # a former process's is not listened to
                self._selector.unregister(channel)
            channel.close()

    def _on_exit(self, running: Running, code: int) -> None:
        lived_s = self._now() - running.started_at
        running.pid = 0
        if self._stop_signal:
            self._sockets.drop_all(running.part.name)
            self._set(running, State.STOPPED)
            return
        if running.turn is Turn.ANEW:
            running.turn, running.error = Turn.STAYS, ""
            self._set(running, State.WAITING)
            return
        restart = lifecycle.restart(running.failures, lived_s)
        running.failures = restart.failures
        running.restarts += 1
        running.error = running.error or _cause_of(code)
        self._log.warning("part_died", name=running.part.name, cause=running.error, lived_s=round(lived_s, 3))
        if running.former is not None and lifecycle.is_out_of_attempts(running.failures):
            self._reinstate(running, running.former)
            return
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

    # Succession

    def _be_succeeded(self) -> None:
        """Have the newer code looked at, if that was asked for; and make way for it once it can go on."""
        successor = self._successor
        if successor is None or self._stop_signal:
            return
        if self._succeeding and lifecycle.is_settled(self._parts):
            self._succeeding = False
            self._log.info("succeeded", number=self._number)
            successor.done(self._number)
        if successor.is_asked and not successor.is_looking:
            successor.look(self._left(), self._now(), is_settled=lifecycle.is_settled(self._parts))
        elif successor.is_looking and successor.can_go_on(self._now()):
            child.flush_output()
            successor.go_on(self._left())

    def _left(self) -> Handover:
        return succession.document(
            tuple(self._parts.values()), self._leaving, self._sockets, number=self._number + 1
        )

    def _inherit(self, inherited: Handover) -> None:
        """Go on with the processes and sockets of the predecessor."""
        self._was_ready = True
        for left in inherited.parts:
            running = self._parts.get(left.name)
            if running is None:  # there is no such part any more
                succession.let_go(left)
                self._leaving.append(Leaving(left.name, left.pid, self._now()))
                continue
            succession.adopt(running, left)
            _heard(running)
            if running.channel is not None:
                self._selector.register(running.channel, selectors.EVENT_READ, running)
            self._log.info("part_inherited", name=left.name, pid=left.pid, turn=running.turn.name.lower())
        self._leaving += [Leaving(each.name, each.pid, each.end_at) for each in inherited.leaving]
        for each in inherited.sockets:
            succession.keep(self._sockets, each)
        self._sockets.drop_others(self._parts)

    def _leave(self, running: Running, former: Former) -> None:
        """Have a process that was succeeded end once it has done what it had begun."""
        self._close(former.channel)
        if running.part.overlaps:
            os.kill(former.pid, signal.SIGUSR1)
        self._leaving.append(Leaving(running.part.name, former.pid, self._now() + proxy.LINGER_S))
        self._log.info("former_part_leaves", name=running.part.name, pid=former.pid)

    def _reinstate(self, running: Running, former: Former) -> None:
        """Go on with the former process: none of its successors came to serve."""
        running.former = None
        running.pid, running.channel, running.started_at = former.pid, former.channel, former.started_at
        running.epoch, running.identity = former.epoch, former.identity
        if running.channel is not None:
            self._selector.register(running.channel, selectors.EVENT_READ, running)
        self._log.error("part_not_succeeded", name=running.part.name, cause=running.error)
        _heard(running)
        self._set(running, State.READY)

    def _end_leaving(self) -> None:
        due = lifecycle.due_to_leave(self._leaving, self._now(), stopping=bool(self._stop_signal))
        for each in due:
            os.kill(each.pid, signal.SIGKILL if each.asked else signal.SIGTERM)
            each.asked, each.end_at = True, self._now() + lifecycle.STOP_GRACE_S

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
        if self._successor is not None:
            handlers[signal.SIGUSR2] = signal.signal(signal.SIGUSR2, self._successor.ask)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # who started it by nohup wants it to stay
            handlers[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: self.stop(signal.SIGTERM))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, succession.BLOCKED)
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


def _has_ended(pid: int) -> bool:
    """Whether a child is no more; it is forgotten then."""
    return os.waitpid(pid, os.WNOHANG)[0] != 0


def _cause_of(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"ended with exit status {code}"
