"""Processes that are spoken with while they run: commands in a container, and a container attached to.

A command is the runtime's own `exec`, between pipes or behind a terminal; who attaches speaks with the
container's shim at its socket. Nothing is kept but what the kernel keeps of pipes and sockets: who does not
read stops who writes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import stat
import struct
import subprocess
import termios
import tty
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio

from ondol.base import files
from ondol.base.clock import Clock
from ondol.node.runtime.port import STDERR, STDOUT, RuntimeFailed

_CHUNK: Final = 32 * 1024
_POLL_S: Final = 0.02
_STARTING_S: Final = 10.0
_END_S: Final = 2.0
_PTY_MAJORS: Final = range(136, 144)
_SIGNALLED: Final = 128
# What conmon puts before each piece of output, and how large its pieces may be.
_CONMON_CHANNELS: Final = {2: STDOUT, 3: STDERR}
_PACKET_BYTES_MAX: Final = 64 * 1024


@dataclass(slots=True)
class Descriptors:
    """Our ends of what a process is connected by; -1 where it is not."""

    stdin: int = -1
    outputs: dict[int, int] = field(default_factory=dict)
    """Of each channel."""

    def close(self) -> None:
        self.close_input()
        for descriptor in set(self.outputs.values()):
            os.close(descriptor)
        self.outputs = {}

    def close_input(self) -> None:
        if self.stdin >= 0 and self.stdin not in self.outputs.values():
            os.close(self.stdin)
        self.stdin = -1


class Exec:
    """One command in a container, begun by `start` and ended by `end`, whatever it does."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        """`arguments` call the runtime, which writes `pid` and what it complains of, `log`, to the folder."""
        self._arguments = arguments
        self._environment = environment
        self._folder = folder
        self._ours = Descriptors()
        self._open: dict[int, int] = {}
        """The outputs that have not come to their end."""
        self._process: subprocess.Popen[bytes] | None = None
        self._clock: Clock
        self._is_terminal = False

    def start(self, clock: Clock, *, stdin: bool, stdout: bool, stderr: bool, terminal: bool) -> None:
        """Blocks as long as a process takes to be started."""
        self._clock, self._is_terminal = clock, terminal
        theirs = _terminal(self._ours) if terminal else _pipes(self._ours, stdin, stdout, stderr)
        try:
            self._process = subprocess.Popen(
                self._arguments,
                stdin=theirs[0],
                stdout=theirs[1],
                stderr=theirs[2],
                env=self._environment,
                start_new_session=True,  # a group of its own, which is killed as a whole
            )
        except BaseException:
            self._ours.close()
            raise
        finally:
            for descriptor in {each for each in theirs if each >= 0}:
                os.close(descriptor)
        self._open = dict(self._ours.outputs)

    async def read(self) -> tuple[int, bytes]:
        """As `Session`.

        Once the command has ended, only what is there already counts: what it left running may have its
        output open for ever.
        """
        while self._open:
            has_ended = self._has_ended()
            for channel, descriptor in list(self._open.items()):
                if (data := _read(descriptor)) is None:
                    continue
                del self._open[channel]
                if data:
                    self._open[channel] = descriptor  # the others come first next time
                    return channel, data
            if has_ended:
                break
            if self._open:
                await self._news()
        return STDOUT, b""

    async def _news(self) -> None:
        """Until there is something to read, or the command has ended."""
        async with anyio.create_task_group() as tasks:

            async def first(wait: Callable[..., Awaitable[None]], *arguments: int) -> None:
                await wait(*arguments)
                tasks.cancel_scope.cancel()

            tasks.start_soon(first, self._ended)
            for descriptor in self._open.values():
                tasks.start_soon(first, anyio.wait_readable, descriptor)

    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    async def _ended(self) -> None:
        if self._process is None or self._has_ended():
            return
        descriptor = os.pidfd_open(self._process.pid)
        try:
            await anyio.wait_readable(descriptor)
        finally:
            os.close(descriptor)

    async def write(self, data: bytes) -> None:
        await _write(self._ours, data)

    def close_input(self) -> None:
        self._ours.close_input()

    async def resize(self, width: int, height: int) -> None:
        """The terminal has so many columns and rows; nothing where there is none."""
        if not self._is_terminal or not self._ours.outputs:
            return
        _set_size(self._ours.outputs[STDOUT], width, height)
        # The terminal in the container is another one, which the runtime made when the process began.
        if (pid := await self._begun()) is not None:
            with contextlib.suppress(OSError):  # it has ended, or has no terminal any more
                _resize_terminal_of(pid, width, height)

    async def _begun(self) -> int | None:
        with self._clock.move_on_after(_STARTING_S):
            while not self._has_ended():
                if (pid := self._pid()) is not None:
                    return pid
                await self._clock.sleep(_POLL_S)
        return None

    def _pid(self) -> int | None:
        written = files.read(self._folder / "pid")
        return int(written) if written else None

    async def wait(self) -> int:
        """The command's exit code, 128 and the signal if one ended it; `RuntimeFailed` if it never began."""
        await self._ended()
        code = self._process.wait() if self._process is not None else 0
        if code != 0 and self._pid() is None:
            complaint = (files.read(self._folder / "log") or b"").decode(errors="replace").strip()
            raise RuntimeFailed(complaint or f"the runtime ended with {code}")
        return code if code >= 0 else _SIGNALLED - code

    async def end(self) -> None:
        """Kill what is left of the command's process group, and close everything."""
        with anyio.CancelScope(shield=True):
            with self._clock.move_on_after(_END_S):
                while not self._has_ended():
                    self._kill_command()
                    await self._clock.sleep(_POLL_S)
            if self._process is not None and not self._has_ended():
                _kill_group(self._process.pid)
            await self._ended()
            if self._process is not None:
                self._process.wait()
        self._ours.close()

    def _kill_command(self) -> None:
        """Its whole group: the command's own or one the runtime made for it, never that of this process."""
        pid = self._pid()
        if pid is None:
            return  # it begins just now, and has a pid soon
        with contextlib.suppress(ProcessLookupError):
            if (group := os.getpgid(pid)) != os.getpgrp():
                _kill_group(group)


class Attachment:
    """The input and output of a container, at its shim's socket. Its end is the container's, or ours."""

    def __init__(self, control: Path, *, takes_input: bool) -> None:
        """`control` is the pipe by which the shim is told of a terminal's size."""
        self._control = control
        self._takes_input = takes_input
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def open(self, path: Path) -> None:
        """`RuntimeFailed` where no shim listens."""
        descriptor = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
        try:  # by the folder's descriptor: addresses of sockets are short
            self._socket.connect(f"/proc/self/fd/{descriptor}/{path.name}")
        except OSError as error:
            self._socket.close()
            raise RuntimeFailed(f"the container cannot be attached to: {error.strerror}") from error
        finally:
            os.close(descriptor)
        self._socket.setblocking(False)

    async def read(self) -> tuple[int, bytes]:
        while True:
            try:
                packet = self._socket.recv(_PACKET_BYTES_MAX)
            except BlockingIOError:
                await anyio.wait_readable(self._socket)
                continue
            except ConnectionError:
                return STDOUT, b""
            if not packet:
                return STDOUT, b""
            if packet[0] in _CONMON_CHANNELS and len(packet) > 1:
                return _CONMON_CHANNELS[packet[0]], packet[1:]

    async def write(self, data: bytes) -> None:
        if not self._takes_input:
            return
        for start in range(0, len(data), 8192):
            await self._send(data[start : start + 8192])

    async def _send(self, piece: bytes) -> None:
        while True:
            try:
                self._socket.send(piece)
            except BlockingIOError:
                await anyio.wait_writable(self._socket)
            except OSError:
                return  # the container takes nothing any more
            else:
                return

    def close_input(self) -> None:
        if not self._takes_input:
            return
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def resize(self, width: int, height: int) -> None:
        with contextlib.suppress(OSError):  # it has ended
            descriptor = os.open(self._control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(descriptor, f"1 {height} {width}\n".encode())
            finally:
                os.close(descriptor)

    async def wait(self) -> int:
        return 0

    def close(self) -> None:
        self._socket.close()


def _pipes(ours: Descriptors, stdin: bool, stdout: bool, stderr: bool) -> tuple[int, int, int]:
    """Make pipes for what is asked for; their other ends, /dev/null in place of the others."""
    theirs = [subprocess.DEVNULL] * 3
    if stdin:
        theirs[0], ours.stdin = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(ours.stdin, False)
    for channel, is_asked in ((STDOUT, stdout), (STDERR, stderr)):
        if is_asked:
            ours.outputs[channel], theirs[channel] = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(ours.outputs[channel], False)
    return theirs[0], theirs[1], theirs[2]


def _terminal(ours: Descriptors) -> tuple[int, int, int]:
    """Make a terminal that hands everything on unchanged: the container has its own."""
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    ours.stdin = master
    ours.outputs[STDOUT] = master
    return slave, slave, slave


async def _write(ours: Descriptors, data: bytes) -> None:
    view = memoryview(data)
    while view and ours.stdin >= 0:
        try:
            view = view[os.write(ours.stdin, view) :]
        except BlockingIOError:
            await anyio.wait_writable(ours.stdin)
        except OSError:  # it reads no more
            ours.close_input()


def _set_size(descriptor: int, width: int, height: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def _resize_terminal_of(pid: int, width: int, height: int) -> None:
    """The terminal that is the process' input, if it is one: it may have put anything in that place."""
    place = os.open(f"/proc/{pid}/fd/0", os.O_PATH | os.O_CLOEXEC)
    try:
        status = os.fstat(place)
        if not stat.S_ISCHR(status.st_mode) or os.major(status.st_rdev) not in _PTY_MAJORS:
            return
        flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(f"/proc/self/fd/{place}", flags)
    finally:
        os.close(place)
    try:
        _set_size(descriptor, width, height)
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> bytes | None:
    """What is there; nothing at the end, None where that is still to come."""
    try:
        return os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno != errno.EIO:  # a terminal that nobody has open
            raise
        return b""


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
