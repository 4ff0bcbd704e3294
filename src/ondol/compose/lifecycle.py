"""The life of the parts as values: which is due to start, to end, to be killed, and when the next one is.

So is what becomes of their processes when newer code succeeds the supervisor (`Turn`).

Nothing here has an effect; the supervisor forks, signals and listens by these answers. Times are seconds of a
monotonic clock.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ondol.base.backoff import Backoff
from ondol.compose.part import Epoch, Identity, Part
from ondol.compose.watchdog import Watch

STOP_GRACE_S: Final = 10.0
_RESTART: Final = Backoff(initial_s=0.1, maximum_s=10.0)
_STEADY_AFTER_S: Final = 30.0
_PROBE_POLL_S: Final = 0.02
_HEIR_ATTEMPTS: Final = 3
BASES: Final = 16
"""How many lines of descent an engine can have before the first number comes again."""


class State(enum.StrEnum):
    """Where a part is in its life."""

    DORMANT = "dormant"
    """Nobody has asked for it yet."""
    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing-off"
    STOPPING = "stopping"
    RENEWING = "renewing"
    """Ends, to be started anew by newer code."""
    STOPPED = "stopped"
    FAILED = "failed"


_ENDING: Final = (State.STOPPING, State.RENEWING)
_ENDED: Final = (State.STOPPED, State.FAILED)
AT_REST: Final = (State.READY, State.DORMANT)
"""The states of parts of which nothing is awaited."""


class Turn(enum.Enum):
    """What is to become of a process that former code has started."""

    STAYS = enum.auto()
    BESIDE = enum.auto()
    """Its successor starts while it serves, and it leaves once that is ready."""
    ANEW = enum.auto()
    """It ends, and its successor starts."""


@dataclass(slots=True)
class Former:
    """A process that serves until its successor does."""

    pid: int
    channel: socket.socket | None
    started_at: float
    epoch: Epoch
    identity: Identity | None


@dataclass(slots=True)
class Leaving:
    """A process that was succeeded, and ends by itself once it has done what it had begun."""

    name: str
    pid: int
    end_at: float
    """When it is asked to end, and once `asked` when it is killed."""
    asked: bool = False


@dataclass(slots=True)
class Running:
    """What the supervisor keeps of a part; a `pid` of 0 says that it has no process.

    It has a `former` one while a successor that starts beside it is not ready.
    """

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
    channel: socket.socket | None = None
    unread: bytes = field(default=b"", repr=False)
    identity: Identity | None = None
    epoch: Epoch = field(default_factory=Epoch)
    turn: Turn = Turn.STAYS
    former: Former | None = None

    def __post_init__(self) -> None:
        if self.part.on_demand:
            self.state = State.DORMANT
        if self.part.silence_max_s is not None:
            self.watch = Watch(self.part.silence_max_s)


@dataclass(frozen=True, slots=True)
class Restart:
    """How a part goes on after its process has ended: its failures in a row, and how long it waits."""

    failures: int
    delay_s: float


Parts = Mapping[str, Running]


def all_ready(parts: Parts) -> bool:
    """Whether every part serves, or was not asked for."""
    return all(running.state in AT_REST for running in parts.values())


def asked_for(parts: Parts, name: str) -> list[Running]:
    """Those that have to start now that a part is asked for: it and what it needs, if they are dormant."""
    if name not in parts:
        return []
    running = parts[name]
    needs = [each for need in running.part.needs for each in asked_for(parts, need)]
    return [*needs, running] if running.state is State.DORMANT else needs


def all_ended(parts: Parts) -> bool:
    """Whether no part runs or will; those that leave are asked after apart."""
    return all(running.state in _ENDED for running in parts.values())


def due_to_start(parts: Parts, now: float) -> list[Running]:
    """Those never started, that have waited long enough or are to be succeeded, and whose needs are ready."""
    return [
        running
        for running in parts.values()
        if (
            running.state is State.WAITING
            or (running.state is State.BACKING_OFF and running.retry_at <= now)
            or _is_due_beside(running, parts)
        )
        and all(parts[name].state is State.READY for name in running.part.needs)
    ]


def _is_due_beside(running: Running, parts: Parts) -> bool:
    return (
        running.turn is Turn.BESIDE
        and running.state is State.READY
        and all(_is_renewed(parts[name]) for name in running.part.needs)
        and all(_is_renewed(server) for server in _servers(running, parts))
    )


def due_to_renew(parts: Parts) -> list[Running]:
    """Those that have to end before they start anew: servers before those that speak to them.

    So each is away for no longer than it takes itself, and never waits for another that starts.
    """
    return [
        running
        for running in parts.values()
        if running.turn is Turn.ANEW
        and running.pid
        and running.state is not State.RENEWING
        and all(_is_renewed(server) for server in _servers(running, parts))
    ]


def _servers(running: Running, parts: Parts) -> list[Running]:
    """Those that end after it, for it speaks to them."""
    return [each for each in parts.values() if running.part.name in each.part.outlives]


def _is_renewed(running: Running) -> bool:
    return running.turn is not Turn.ANEW and running.state in AT_REST


def turn(part: Part, former: Identity | None, present: Identity | None) -> Turn:
    """What becomes of a process, by what it runs (`former`) and what would be started now."""
    if present is None:
        return Turn.BESIDE if part.overlaps else Turn.ANEW
    if former == present:
        return Turn.STAYS
    is_kin = former is not None and former.kin and former.kin == present.kin
    return Turn.BESIDE if is_kin else Turn.ANEW


def next_epoch(epoch: Epoch, *, beside: bool) -> Epoch:
    """An heir is the next of its line; a process that starts alone begins another line.

    For what is left of a line that died may still be in the way.
    """
    return replace(epoch, number=epoch.number + 1) if beside else Epoch((epoch.base + 1) % BASES)


def is_out_of_attempts(failures: int) -> bool:
    """Whether successors have failed so often that their predecessor, which serves, goes on instead."""
    return failures >= _HEIR_ATTEMPTS


def is_settled(parts: Parts) -> bool:
    """Whether every part serves, and no process is about to be succeeded."""
    return all_ready(parts) and all(
        running.turn is Turn.STAYS and running.former is None for running in parts.values()
    )


def due_to_leave(leaving: Sequence[Leaving], now: float, *, stopping: bool) -> list[Leaving]:
    """Of those that were succeeded who is to be asked to end, or killed, now."""
    return [each for each in leaving if each.end_at <= now or (stopping and not each.asked)]


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
    return [running for running in parts.values() if running.state in _ENDING and running.pid]
