"""The supervisor with real, tiny processes."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.base.unix_http import UnixConnection
from ondol.compose.lifecycle import Running, State
from ondol.compose.part import Notify, Part
from ondol.compose.supervisor import Supervisor
from ondol.compose.supervisor_metrics import Exposition


def _sleeper(notify: Notify) -> None:
    notify()
    time.sleep(60)


def test_starts_in_order_and_stops_all(tmp_path: Path) -> None:
    """A part starts only once those it names are ready; SIGTERM ends them and is reported."""
    order: list[str] = []

    def on_change(parts: Sequence[Running]) -> None:
        order.extend(r.part.name for r in parts if r.state is State.READY and r.part.name not in order)
        if all(r.state is State.READY for r in parts):
            os.kill(os.getpid(), signal.SIGTERM)

    supervisor = Supervisor(
        [Part("second", _sleeper, needs=("first",)), Part("first", _sleeper)],
        log_dir=tmp_path,
        on_change=on_change,
    )
    assert supervisor.run() == signal.SIGTERM
    assert order == ["first", "second"]
    assert {r.state for r in supervisor.parts} == {State.STOPPED}


def test_a_part_on_demand_starts_with_what_it_needs_once_another_asks(tmp_path: Path) -> None:
    """Without a demand it has no process and holds nothing up; asked for, it runs like any other, once."""
    asked, rested = tmp_path / "asked", []

    def asker(notify: Notify) -> None:
        notify()
        while not asked.exists():
            time.sleep(0.01)
        notify.wake("late")
        notify.wake("late")
        notify.wake("nobody of this name")
        time.sleep(60)

    def on_change(parts: Sequence[Running]) -> None:
        states = {r.part.name: r.state for r in parts}
        if states == {"asker": State.READY, "engine": State.DORMANT, "late": State.DORMANT}:
            assert not any(r.pid for r in parts if r.part.name != "asker")
            rested.append(states)
            asked.touch()
        if set(states.values()) == {State.READY}:
            os.kill(os.getpid(), signal.SIGTERM)

    supervisor = Supervisor(
        [
            Part("asker", asker),
            Part("late", _sleeper, needs=("engine",), on_demand=True),
            Part("engine", _sleeper, on_demand=True),
        ],
        log_dir=tmp_path,
        on_change=on_change,
    )
    assert supervisor.run() == signal.SIGTERM
    assert rested
    assert {r.state for r in supervisor.parts} == {State.STOPPED}
    assert {r.restarts for r in supervisor.parts} == {0}


def test_a_platform_ends_with_parts_that_nobody_asked_for(tmp_path: Path) -> None:
    """A dormant part is no reason to wait."""

    def on_change(parts: Sequence[Running]) -> None:
        if parts[0].state is State.READY:
            os.kill(os.getpid(), signal.SIGTERM)

    parts = [Part("a", _sleeper), Part("b", _sleeper, on_demand=True)]
    supervisor = Supervisor(parts, log_dir=tmp_path, on_change=on_change)
    assert supervisor.run() == signal.SIGTERM
    assert {r.state for r in supervisor.parts} == {State.STOPPED}


def test_shows_the_parts_lives_as_metrics(tmp_path: Path) -> None:
    """Asked by a part while it runs: states, restarts, how long each has run, and its own process."""
    socket_file, page_file = tmp_path / "m.sock", tmp_path / "page"

    def asker(notify: Notify) -> None:
        if not page_file.exists():
            page_file.touch()
            raise RuntimeError("the first time")
        notify()
        connection = UnixConnection(str(socket_file), timeout=10)
        connection.request("GET", "/metrics")
        page_file.write_bytes(connection.getresponse().read())
        connection.close()
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)

    Supervisor(
        [Part("asker", asker), Part("second", _sleeper, needs=("nobody",)), Part("nobody", _sleeper)],
        log_dir=tmp_path,
        exposition=Exposition(socket_file),
    ).run()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page_file.read_text())
        for sample in family.samples
    }
    assert samples["ondol_supervisor_part_restarts_total", "asker"] == 1
    assert samples["ondol_supervisor_part_restarts_total", "second"] == 0
    assert samples["ondol_supervisor_part_state", "asker", "ready"] == 1
    assert samples["ondol_supervisor_part_state", "asker", "failed"] == 0
    assert samples["ondol_supervisor_part_uptime_seconds", "asker"] > 0
    assert samples["process_resident_memory_bytes",] > 0
    assert socket_file.stat().st_mode & 0o777 == 0o600


def test_restarts_a_killed_part(tmp_path: Path) -> None:
    """Kill -9 of a part brings a new process of it; the others keep their pid."""
    seen: dict[str, list[int]] = {"a": [], "b": []}

    def on_change(parts: Sequence[Running]) -> None:
        for running in parts:
            if running.state is State.READY and running.pid not in seen[running.part.name]:
                seen[running.part.name].append(running.pid)
        if all(r.state is State.READY for r in parts):
            if len(seen["a"]) == 1:
                os.kill(seen["a"][0], signal.SIGKILL)
            else:
                os.kill(os.getpid(), signal.SIGTERM)

    supervisor = Supervisor([Part("a", _sleeper), Part("b", _sleeper)], log_dir=tmp_path, on_change=on_change)
    supervisor.run()
    assert len(seen["a"]) == 2
    assert len(seen["b"]) == 1
    assert next(r for r in supervisor.parts if r.part.name == "a").restarts == 1


def test_hopeless_start_is_given_up_with_its_words(tmp_path: Path) -> None:
    """A part that cannot start ends the attempt, and the error says what the part said."""

    def broken(_: Notify) -> None:
        raise errors.HostError("port 6443 is in use", remedy="stop the other server")

    supervisor = Supervisor([Part("ok", _sleeper), Part("api", broken)], log_dir=tmp_path)
    with pytest.raises(errors.HostError, match="api: port 6443 is in use"):
        supervisor.run()
    assert all(r.pid == 0 for r in supervisor.parts)
    assert "HostError" in (tmp_path / "api.log").read_text()


class _Leaping(SystemClock):
    """Half a minute and more passes whenever it is read."""

    def __init__(self) -> None:
        self._time = 0.0

    def monotonic(self) -> float:
        self._time += 31.0
        return self._time


def test_failures_far_apart_are_not_counted_together(tmp_path: Path) -> None:
    """By the supervisor's clock: one that lived for half a minute and more each time is started on and on."""
    (tmp_path / "life").touch()

    def ends_five_times(notify: Notify) -> None:
        with (tmp_path / "life").open("a") as lives:
            lives.write("x")
        if (tmp_path / "life").stat().st_size > 5:
            _sleeper(notify)

    def on_change(parts: Sequence[Running]) -> None:
        if parts[0].state is State.READY:
            os.kill(os.getpid(), signal.SIGTERM)

    part = Part("api", ends_five_times)
    with pytest.raises(errors.HostError):
        Supervisor([part], log_dir=tmp_path).run()
    supervisor = Supervisor([part], log_dir=tmp_path, on_change=on_change, clock=_Leaping())
    assert supervisor.run() == signal.SIGTERM
    assert (supervisor.parts[0].restarts, supervisor.parts[0].failures) == (2, 1)


def test_engine_is_ready_when_its_probe_says_so(tmp_path: Path) -> None:
    """An engine that cannot notify is asked through its probe."""
    marker = tmp_path / "up"

    def engine(_: Notify) -> None:
        time.sleep(0.1)
        marker.touch()
        time.sleep(60)

    seen: list[tuple[State, bool]] = []

    def on_change(parts: Sequence[Running]) -> None:
        seen.append((parts[0].state, marker.exists()))
        if parts[0].state is State.READY:
            os.kill(os.getpid(), signal.SIGINT)

    supervisor = Supervisor(
        [Part("engine", engine, probe=lambda _pid: marker.exists())], log_dir=tmp_path, on_change=on_change
    )
    assert supervisor.run() == signal.SIGINT
    assert (State.STARTING, False) in seen
    assert (State.READY, True) in seen
    assert (State.READY, False) not in seen


def test_full_disk_under_the_logs(tmp_path: Path) -> None:
    """A part whose log cannot be written is heard all the same, and its process ends where it is."""
    (tmp_path / "api.log").symlink_to("/dev/full")

    def broken(_: Notify) -> None:
        print("x" * 100_000)  # noqa: T201 - what a library might say
        raise errors.HostError("no space left")

    supervisor = Supervisor([Part("api", broken)], log_dir=tmp_path)
    with pytest.raises(errors.HostError, match=r"api: (no space left|.*No space left on device)"):
        supervisor.run()


def test_a_part_ends_after_those_it_outlives(tmp_path: Path) -> None:
    """A server is asked to end only once its clients have: their last words still reach it."""
    order: list[str] = []

    def slow(notify: Notify) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        notify()
        signal.sigwait([signal.SIGTERM])
        time.sleep(0.3)

    def on_change(parts: Sequence[Running]) -> None:
        order.extend(r.part.name for r in parts if r.state is State.STOPPED and r.part.name not in order)
        if all(r.state is State.READY for r in parts):
            os.kill(os.getpid(), signal.SIGTERM)

    parts = [Part("server", _sleeper, outlives=("one", "two")), Part("one", slow), Part("two", _sleeper)]
    supervisor = Supervisor(parts, log_dir=tmp_path, on_change=on_change)
    assert supervisor.run() == signal.SIGTERM
    assert order == ["two", "one", "server"]


def test_a_log_that_grows_is_bounded_while_its_part_runs(tmp_path: Path) -> None:
    """The last lines of a long log are moved aside; the part goes on in the same file, undisturbed."""
    rotated = tmp_path / "chatty.log.1"

    def chatty(notify: Notify) -> None:
        os.write(1, b"".join(b"line %05d\n" % number for number in range(300)))
        notify()
        while not rotated.exists():
            time.sleep(0.01)
        os.write(1, b"goes on\n")
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)

    (tmp_path / "supervisor.log").write_text("own\n" * 1000)
    supervisor = Supervisor([Part("chatty", chatty)], log_dir=tmp_path, log_check_s=0.05, log_bytes_max=1100)
    assert supervisor.run() == signal.SIGTERM
    assert supervisor.parts[0].restarts == 0
    assert rotated.read_text().splitlines() == [f"line {number:05}" for number in range(200, 300)]
    assert (tmp_path / "chatty.log").read_text() == "goes on\n"
    assert (tmp_path / "supervisor.log").read_text() == ""
    assert (tmp_path / "supervisor.log.1").stat().st_size <= 1100


def _causes_of_death(part: Part, log_dir: Path) -> list[str]:
    """Run a part until it is ready again after its first death, and why it died."""
    causes: list[str] = []

    def on_change(parts: Sequence[Running]) -> None:
        (running,) = parts
        if running.state is State.BACKING_OFF:
            causes.append(running.error)
        if running.state is State.READY and running.restarts:
            os.kill(os.getpid(), signal.SIGTERM)

    Supervisor([part], log_dir=log_dir, on_change=on_change).run()
    return causes


def test_a_part_that_hangs_is_killed_and_started_again(tmp_path: Path) -> None:
    """A part whose loop stands still is alive to the kernel alone: it is ended, and told why."""
    assert _causes_of_death(Part("api", _sleeper, silence_max_s=0.2), tmp_path) == ["stopped answering"]


def test_a_part_that_speaks_is_left_alone(tmp_path: Path) -> None:
    """Words that come in time keep a part alive well beyond the longest silence."""

    def lively(notify: Notify) -> None:
        notify()
        for _ in range(30):
            notify.alive()
            time.sleep(0.05)
        raise errors.HostError("its own end")

    assert _causes_of_death(Part("api", lively, silence_max_s=1.0), tmp_path) == ["its own end"]


def test_an_engine_that_no_longer_answers_is_killed_and_started_again(tmp_path: Path) -> None:
    """A stopped process (SIGSTOP) has a socket, a pid and no life: only asking it finds that out."""

    def engine(_notify: Notify) -> None:
        with (tmp_path / "life").open("a") as lives:
            lives.write("x")
        time.sleep(60)

    answers = iter([True] * 3)  # once to be ready, twice when asked again; then it is frozen
    part = Part(
        "envoy",
        engine,
        probe=lambda _pid: (tmp_path / "life").read_text() == "xx" or next(answers, False),
        silence_max_s=0.3,
    )
    (tmp_path / "life").touch()
    assert _causes_of_death(part, tmp_path) == ["stopped answering"]
    assert (tmp_path / "life").read_text() == "xx"


def test_an_engine_that_answers_is_left_alone(tmp_path: Path) -> None:
    """Answers keep a part that says nothing alive well beyond the longest silence."""

    def engine(_notify: Notify) -> None:
        time.sleep(1.5)

    part = Part("envoy", engine, probe=lambda _pid: True, silence_max_s=0.5)
    assert _causes_of_death(part, tmp_path) == ["ended with exit status 0"]


def test_a_part_that_works_all_the_while_gets_more_time_than_one_that_hangs(tmp_path: Path) -> None:
    """Long work is not taken for a hang; work without an end is, later."""

    def busy(notify: Notify) -> None:
        notify()
        _work(1.2)  # three times the silence of one that hangs
        notify.alive()
        raise RuntimeError("its own end")

    def endless(notify: Notify) -> None:
        notify()
        _work(60.0)

    assert _causes_of_death(Part("api", busy, silence_max_s=0.4), tmp_path) == ["RuntimeError: its own end"]
    assert _causes_of_death(Part("api", endless, silence_max_s=0.2), tmp_path) == ["stopped answering"]


def _work(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_silence_that_nobody_listened_to_does_not_count(tmp_path: Path) -> None:
    """A supervisor that was stopped for longer than the limit, its parts as well, kills none on waking."""

    def frozen(notify: Notify) -> None:
        """Stop the supervisor for a while, be silent meanwhile, speak soon after it goes on."""
        notify()
        time.sleep(0.1)
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(os.getppid(), signal.SIGCONT)
        time.sleep(0.1)
        notify.alive()
        raise errors.HostError("its own end")

    read_end, write_end = os.pipe()
    if (pid := os.fork()) == 0:  # who runs the test must not be stopped
        try:
            causes = _causes_of_death(Part("api", frozen, silence_max_s=1.0), tmp_path)
            os.write(write_end, repr(causes).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as answer:
        assert answer.read() == "['its own end']"
    os.waitpid(pid, 0)


def test_signs_of_life_do_not_pile_up() -> None:
    """However often a part says that it lives while nobody reads, it neither waits nor fills the channel."""
    reader, writer = socket.socketpair()
    notify = Notify(writer.fileno())
    for _ in range(100_000):
        notify.alive()
    notify()
    assert reader.recv(65536) == b"ALIVE\nREADY\n"
    notify.alive()
    assert reader.recv(65536) == b"ALIVE\n"
    reader.close()
    writer.close()
