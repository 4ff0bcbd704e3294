"""Looks after one container as conmon does, while it runs: its output into a log, its end into a file.

The shim is forked from the template and forks the container's first process, before anybody knows what for:
together they are a blank. It outlives the template and the node's agent.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import select
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from . import calls, container, groups, program

Request = Mapping[str, Any]

_CHUNK: Final = 65536
_LINE_MAX: Final = 8192
_REQUEST_MAX: Final = 4 * 1024 * 1024
_DRAIN_S: Final = 1.0


class Stop(Exception):
    """Nothing is to be run: the blank was not wanted, or could not be made."""


class Log:
    """A file in the CRI's format: time, stream, whether the line is whole, and the line."""

    def __init__(self, path: str, size_max: int) -> None:
        self._path = path
        self._size_max = size_max
        self._rest = {"stdout": b"", "stderr": b""}
        self.reopen()

    def reopen(self) -> None:
        """Write on into a new file of the name, after the old one was renamed."""
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size

    def take(self, stream: str, data: bytes) -> None:
        lines = (self._rest[stream] + data).split(b"\n")
        rest = lines.pop()
        entries = [self._entry(stream, line, whole=True) for line in lines]
        while len(rest) >= _LINE_MAX:
            entries.append(self._entry(stream, rest[:_LINE_MAX], whole=False))
            rest = rest[_LINE_MAX:]
        self._rest[stream] = rest
        self._write(b"".join(entries))

    def end(self) -> None:
        for stream, rest in self._rest.items():
            if rest:
                self._write(self._entry(stream, rest, whole=False))
        self._rest = {"stdout": b"", "stderr": b""}

    def _entry(self, stream: str, line: bytes, *, whole: bool) -> bytes:
        now = time.time_ns()
        moment = dt.datetime.fromtimestamp(now // 10**9, dt.UTC)
        stamp = f"{moment:%Y-%m-%dT%H:%M:%S}.{now % 10**9:09d}+00:00 {stream} {'F' if whole else 'P'} "
        return stamp.encode() + line + b"\n"

    def _write(self, data: bytes) -> None:
        if not data:
            return
        if self._size + len(data) > self._size_max:
            os.ftruncate(self._file, 0)
            self._size = 0
        try:
            self._size += os.write(self._file, data)
        except OSError:
            return  # a full disk: the program goes on, as it does under conmon


def run(agent: socket.socket, home: int, name: str, group: str, shim_group: str) -> Mapping[str, Any]:
    """Be a blank's shim; in the container's process, what it is to run is returned, and in it alone."""
    calls.name_process("ondol-shim")
    os.setsid()
    calls_home(home)
    blank = "" if groups.is_unified() else f"{group}/{name}/{name}"
    if blank:
        groups.make(blank)
    _leave_service(shim_group)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    out, err = os.pipe(), os.pipe()
    calls.unshare(calls.NEWPID)
    pid = os.fork()
    if pid == 0:
        for each in (agent, ours):
            each.close()
        return _first_process(theirs, blank, (out, err))
    for descriptor in (theirs.detach(), out[1], err[1]):
        os.close(descriptor)
    try:
        _serve(agent, ours, pid, blank, {out[0]: "stdout", err[0]: "stderr"})
    finally:
        os._exit(0)


def calls_home(home: int) -> None:
    """From the template's own mounts to those of the machine."""
    calls.enter(f"/proc/self/fd/{home}", calls.NEWNS)
    os.close(home)


def _leave_service(group: str) -> None:
    for tree in (f"{groups.ROOT}/systemd", f"{groups.ROOT}/unified", groups.ROOT):
        if group and Path(f"{tree}/cgroup.procs").exists():
            Path(f"{tree}{group}").mkdir(parents=True, exist_ok=True)
            with Path(f"{tree}{group}/cgroup.procs").open("w", encoding="ascii") as file:
                file.write("0")
            return


# The container's first process


def _first_process(
    control: socket.socket, group: str, pipes: tuple[tuple[int, int], tuple[int, int]]
) -> Mapping[str, Any]:
    os.setsid()
    if group:
        groups.join(group)
        calls.unshare(calls.NEWCGROUP)
    control.send(b"ready")
    message = control.recv(_REQUEST_MAX)
    if not message:
        os._exit(0)
    if not group:  # it is in the container's own by now
        calls.unshare(calls.NEWCGROUP)
    request = json.loads(message)
    spec = request["spec"]
    try:
        with program.no_imports():
            container.enter(spec, request["group"])
            control = _take_output(control, pipes)
            program.show_command(spec["process"]["args"])
            container.give_up_rights(spec, bytes.fromhex(request["filter"]))
        control.send(b"created")
    except BaseException as error:  # noqa: BLE001 - whatever it is, the shim tells it and nothing runs
        control.send(f"{type(error).__name__}: {error}".encode()[:1000])
        os._exit(1)
    if control.recv(16) != b"start":
        os._exit(0)
    control.close()
    process: Mapping[str, Any] = spec["process"]
    return process


def _take_output(control: socket.socket, pipes: tuple[tuple[int, int], tuple[int, int]]) -> socket.socket:
    """Standard input is the container's own `/dev/null`; of all else that is open here the control stays."""
    (_, out), (_, err) = pipes
    os.dup2(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    kept = os.dup2(control.detach(), 3, inheritable=False)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    return socket.socket(fileno=kept)


# The shim


def _serve(
    agent: socket.socket, control: socket.socket, pid: int, blank: str, outputs: Mapping[int, str]
) -> None:
    ready = control.recv(16) == b"ready"
    if ready:
        agent.send(b"ready")
    message = agent.recv(_REQUEST_MAX) if ready else b""
    if not message:
        _throw_away(pid, blank)
        return
    request = json.loads(message)
    try:
        group, log, inputs = _prepare(request, blank, pid)
        _create(control, {**request, "group": group})
        # Before the program, not before the work for it: the least share of a busy machine is very little.
        groups.limit(group, request["spec"]["linux"]["resources"])
    except (OSError, Stop) as error:
        _throw_away(pid, blank)
        groups.remove(request["spec"]["linux"]["cgroupsPath"])
        agent.send(json.dumps({"error": str(error)}).encode())
        return
    agent.send(json.dumps({"pid": pid, "shim": os.getpid()}).encode())
    agent.close()
    code = _watch(pid, control, outputs, log, inputs)
    _tell_end(request, code, group)


def _create(control: socket.socket, request: Request) -> None:
    """Have the first process become the container, as far as it goes before its start."""
    control.send(json.dumps(request).encode())
    answer = control.recv(1000)
    if answer != b"created":
        raise Stop(answer.decode(errors="replace") or "its first process ended")


def _prepare(request: Request, blank: str, pid: int) -> tuple[str, Log, dict[int, str]]:
    group = request["spec"]["linux"]["cgroupsPath"]
    parent, name = os.path.split(group)
    if not blank:
        groups.make(group)
        groups.join(group, pid)
    elif groups.rename(blank, name, Path(parent).name) != group:
        raise Stop(f"{group} is not where {blank} can be")
    inputs = {}
    for name in ("start", "ctl"):
        path = f"{request['bundle']}/{name}"
        os.mkfifo(path, 0o600)
        inputs[os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)] = name
    return group, Log(request["log"], request["log_max"]), inputs


def _throw_away(pid: int, blank: str) -> None:
    try:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    except OSError:
        pass
    if blank:
        groups.remove(blank)


def _watch(
    pid: int, control: socket.socket, outputs: Mapping[int, str], log: Log, inputs: Mapping[int, str]
) -> int:
    """Carry output until the container has ended; its exit code."""
    end = os.pidfd_open(pid)
    poll = select.poll()
    for descriptor in (end, *outputs, *inputs):
        poll.register(descriptor, select.POLLIN)
    left = set(outputs)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor in outputs:
                data = os.read(descriptor, _CHUNK)
                log.take(outputs[descriptor], data)
                if not data:
                    poll.unregister(descriptor)
                    left.discard(descriptor)
            elif descriptor in inputs:
                _heed(inputs[descriptor], os.read(descriptor, 4096), control, log)
            elif descriptor == end:
                _drain(left, outputs, log)
                _, status = os.waitpid(pid, 0)
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code


def _heed(name: str, words: bytes, control: socket.socket, log: Log) -> None:
    if name == "start":
        try:
            control.send(b"start")
        except OSError:
            return  # it has ended, of which its end tells
    elif any(line.startswith(b"2 ") for line in words.splitlines()):
        log.reopen()


def _drain(left: set[int], outputs: Mapping[int, str], log: Log) -> None:
    """What was written before the end; all processes of the container have ended with its first."""
    until = time.monotonic() + _DRAIN_S
    for descriptor in left:
        while time.monotonic() < until and select.select([descriptor], [], [], _DRAIN_S)[0]:
            data = os.read(descriptor, _CHUNK)
            if not data:
                break
            log.take(outputs[descriptor], data)
    log.end()


def _tell_end(request: Request, code: int, group: str) -> None:
    if groups.killed_for_memory(group):
        with Path(f"{request['last_words']}/oom").open("w", encoding="ascii"):
            pass
    for place in (f"{request['last_words']}/exit", request["exit"]):
        draft = f"{place}.draft"
        try:
            with Path(draft).open("w", encoding="ascii") as file:
                file.write(str(code))
            Path(draft).rename(place)
        except OSError:
            continue
