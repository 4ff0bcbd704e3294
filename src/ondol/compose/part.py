"""What a part of the platform is to its supervisor: a process, declared once, that reports how it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
import termios
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from ondol.base.listeners import Listeners

KEEP = "KEEP"
DROP = "DROP"
WAKE = "WAKE"


@dataclass(frozen=True, slots=True)
class Epoch:
    """Which process of an engine this is: one line of descent has a `base`, each heir a `number` in it."""

    base: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """What a process runs: its code and what it was started with, and which others it can be heir to.

    A process of the same content needs no replacement; one of the same `kin`, if that says anything, takes
    over sockets and connections while both run.
    """

    content: str
    kin: str = ""


class Notify:
    """A part's end of the channel to its supervisor: called once the part serves.

    `listeners` are its sockets that outlive it, `epoch` what an engine has to know of its ancestors.
    """

    def __init__(
        self, fd: int, inherited: Mapping[str, socket.socket] | None = None, epoch: Epoch = Epoch()
    ) -> None:
        self._fd = fd
        self.epoch = epoch
        self.listeners: Listeners = _Kept(self, fd, dict(inherited or {}))

    def __call__(self) -> None:
        self.write("READY")

    def alive(self) -> None:
        """Report that the part's event loop goes round; nothing while the last report is still unread.

        So the channel never fills, and nobody waits, however long the supervisor does not read.
        """
        unread = int.from_bytes(fcntl.ioctl(self._fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        if not unread:
            self.write("ALIVE")

    def wake(self, name: str) -> None:
        """Have a part that starts on demand started, with those it needs; nothing if it runs already."""
        self.write(f"{WAKE} {name}")

    def failed(self, message: str) -> None:
        """Report why the part ends."""
        self.write(f"FAILED {message}")

    def write(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            os.write(self._fd, f"{line}\n".encode())


class _Kept(Listeners):
    """The supervisor keeps them: a copy goes through the channel."""

    def __init__(self, notify: Notify, fd: int, inherited: dict[str, socket.socket]) -> None:
        self._notify = notify
        self._fd = fd
        self._inherited = inherited

    def inherit(self, name: str) -> socket.socket | None:
        return self._inherited.pop(name, None)

    def keep(self, name: str, listening: socket.socket) -> None:
        with (
            socket.socket(fileno=os.dup(self._fd)) as channel,
            contextlib.suppress(BrokenPipeError, ConnectionResetError),
        ):
            socket.send_fds(channel, [f"{KEEP} {name}\n".encode()], [listening.fileno()])

    def drop(self, name: str) -> None:
        if (unclaimed := self._inherited.pop(name, None)) is not None:
            unclaimed.close()
        self._notify.write(f"{DROP} {name}")

    def unclaimed(self) -> Collection[str]:
        return tuple(self._inherited)


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the platform.

    `run` is called in the forked child and does not return before the part ends (an engine replaces the
    process by `exec`). It starts once the parts in `needs` are ready, and is asked to end once those in
    `outlives` have ended. Ready is a Python part when it calls its `Notify`; an engine cannot, so it has a
    `probe` instead, which is asked of its process id and must answer at once. One with a `silence_max_s`
    reports that it is alive, or answers its probe, more often than that, or it is killed and started again: a
    Python part later if it works all the while than if it hangs.

    When the supervisor is succeeded by newer code, a part with an `identity` goes on as it is if that is
    still the same, and the others are started anew: one that `overlaps` beside its former process, which is
    then asked by SIGUSR1 to end once it has answered all it has taken.

    One that is `on_demand` has no process until another part asks for it (`Notify.wake`), and costs nothing.
    From then on it is as any other, until the platform ends.

    `check` says by `HostError` that it could not start as things are, without touching anything that runs.
    `address` is where it listens, as `ondol status` prints it. `idle_memory_mib` is what it may take of
    memory at rest (proportional set size); the benchmarks name a part that takes more.
    """

    name: str
    run: Callable[[Notify], None]
    needs: tuple[str, ...] = ()
    outlives: tuple[str, ...] = ()
    probe: Callable[[int], bool] | None = None
    silence_max_s: float | None = None
    identity: Callable[[], Identity] | None = None
    overlaps: bool = False
    on_demand: bool = False
    check: Callable[[], None] | None = None
    address: str = ""
    idle_memory_mib: int = 0
