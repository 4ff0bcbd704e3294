"""The life of the parts as values: which is due to start, to end, to be killed, and when the next one is.

Nothing here has an effect; the supervisor forks, signals and listens by these answers. Times are seconds of a
monotonic clock.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from ondol.base.backoff import Backoff
from ondol.compose.part import Part
from ondol.compose.watchdog import Watch

STOP_GRACE_S: Final = 10.0
_RESTART: Final = Backoff(initial_s=0.1, maximum_s=10.0)
_STEADY_AFTER_S: Final = 30.0
_PROBE_POLL_S: Final = 0.02


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


@dataclass(slots=True)
class Running:
    """What the supervisor keeps of a part; a `pid` of 0 says that it has no process."""

    part: Part
    state: State = State.WAITING
    pid: int = 0
    started_at: float = 0.0
    failures: int = 0
    restarts: int = 0
    retry_at: float = 0.0
    kill_at: float = 0.0
    probe_at: float = 0.0
    error: str = ""
    watch: Watch | None = field(default=None, init=False)
    pipe: int = -1
    unread: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if self.part.silence_max_s is not None:
            self.watch = Watch(self.part.silence_max_s)


@dataclass(frozen=True, slots=True)
class Restart:
    """How a part goes on after its process has ended: its failures in a row, and how long it waits."""

    failures: int
    delay_s: float


Parts = Mapping[str, Running]


def all_ready(parts: Parts) -> bool:
    return all(running.state is State.READY for running in parts.values())


def all_ended(parts: Parts) -> bool:
    return all(running.state in _ENDED for running in parts.values())


def due_to_start(parts: Parts, now: float) -> list[Running]:
    """Those that were never started or have waited long enough, and whose needs are ready."""
    return [
        running
        for running in parts.values()
        if (
            running.state is State.WAITING or (running.state is State.BACKING_OFF and running.retry_at <= now)
        )
        and all(parts[name].state is State.READY for name in running.part.needs)
    ]


def due_to_end(parts: Parts) -> list[Running]:
    """While the platform stops: those with a process that were not asked yet, and outlive no running part."""
    return [
        running
        for running in parts.values()
        if running.pid
        and running.state is not State.STOPPING
        and not any(parts[name].pid for name in running.part.outlives)
    ]


def never_started(parts: Parts) -> list[Running]:
    """While the platform stops: those that have no process, and will get none."""
    return [running for running in parts.values() if not running.pid and running.state not in _ENDED]


def overdue(parts: Parts, now: float) -> list[Running]:
    """Those that were asked to end and did not in time."""
    return [running for running in _stopping(parts) if running.kill_at <= now]


def restart(failures: int, lived_s: float) -> Restart:
    """The first failure, or one after a long life, is mended at once; those that follow wait ever longer."""
    failures = 1 if lived_s > _STEADY_AFTER_S else failures + 1
    return Restart(failures, 0.0 if failures == 1 else _RESTART.delay_s(failures - 1))


def watched(parts: Parts) -> Iterator[tuple[Running, Watch]]:
    """Those that have to report or answer from time to time."""
    for running in parts.values():
        if running.state is State.READY and running.watch is not None:
            yield running, running.watch


def wait_s(parts: Parts, now: float, deadlines: Iterable[float]) -> float:
    """How long nothing is due, unless a part or a signal is heard: of the parts, or by other deadlines."""
    if any(running.state is State.STARTING and running.part.probe for running in parts.values()):
        return _PROBE_POLL_S
    times = [*deadlines]
    times += [running.retry_at for running in parts.values() if running.state is State.BACKING_OFF]
    times += [running.kill_at for running in _stopping(parts)]
    times += [running.probe_at for running, _ in watched(parts) if running.part.probe]
    waits = [max(0.0, time - now) for time in times]
    return min(waits + [watch.wait_s() for _, watch in watched(parts)])


def _stopping(parts: Parts) -> list[Running]:
    return [running for running in parts.values() if running.state is State.STOPPING and running.pid]
