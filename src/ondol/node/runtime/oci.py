"""crun or runc under conmon, one small shim process a container.

conmon owns the container's output and waits for its end, so neither is lost while the agent is
away: logs are files in the CRI format, exits are files in `<run>/exits`. The agent learns of an
end from the shim's own end (a pidfd), started and adopted containers alike.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from ondol.base import errors, files, log
from ondol.base.clock import Clock
from ondol.node import linux
from ondol.node.runtime import bpf, cgroups, sessions, spec
from ondol.node.runtime.port import (
    Command,
    Creation,
    ExecResult,
    ExecTimeout,
    Exit,
    Handle,
    RuntimeFailed,
    Session,
)

_log = log.get("node.runtime")
# conmon reads no path beyond ASCII without a locale that has it.
_ENVIRONMENT: Final = {
    "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    "XDG_RUNTIME_DIR": "",
    "LC_CTYPE": "C.UTF-8",
}
LOG_CAP_BYTES: Final = 200 * 1024 * 1024
_EXECS_MAX: Final = 64
_COMPILED: Final = "run.oci.seccomp_bpf_data"
_KILLED: Final = 128 + signal.SIGKILL


@dataclass(frozen=True, slots=True)
class Binary:
    """A runtime found to work. `wrapper` calls it where a tree of cgroups must be hidden from it."""

    name: str
    path: str
    version: str
    wrapper: str = ""

    @property
    def hides_unified(self) -> bool:
        return bool(self.wrapper)

    @property
    def careful_path(self) -> str:
        """For calls that look at cgroups."""
        return self.wrapper or self.path


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the runtime keeps things: on disk what must outlive a reboot, in `run` what must not."""

    data: Path
    run: Path

    @property
    def exits(self) -> Path:
        """How containers ended: in memory, since a full disk would have no room for it."""
        return self.run / "exits"

    def last_words(self, container_id: str) -> Path:
        """Where a container's shim writes its end besides, before `exits`: in memory as well.

        A shim that cannot write here gives up, and nothing tells the exit code.
        """
        return self.run / "shims" / container_id

    @property
    def bundles(self) -> Path:
        return self.data / "containers"

    @property
    def state(self) -> Path:
        return self.run / "oci"

    @property
    def sockets(self) -> Path:
        return self.run / "attach"

    def prepare(self) -> None:
        for path in (self.exits, self.bundles, self.state, self.sockets):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)


class OciRuntime:
    """The `Runtime` over one working binary."""

    def __init__(self, binary: Binary, folders: Folders, clock: Clock, *, shim_cgroup: str = "") -> None:
        self._binary = binary
        self._folders = folders
        self._clock = clock
        self._shim_cgroup = shim_cgroup
        self._execs = anyio.CapacityLimiter(_EXECS_MAX)
        folders.prepare()

    @property
    def name(self) -> str:
        return self._binary.name

    @property
    def version(self) -> str:
        return self._binary.version

    async def has_handler(self, name: str) -> bool:
        return name in ("", self.name)

    def prepare(self, creation: Creation) -> Path:
        """Folders for the container; the one for its description."""
        bundle = self._folders.bundles / creation.id
        bundle.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._forget_end(creation.id)
        self._folders.last_words(creation.id).mkdir(mode=0o700, parents=True)
        creation.log_path.parent.mkdir(parents=True, exist_ok=True)
        return bundle

    async def create(self, creation: Creation) -> Handle:
        bundle = self.prepare(creation)
        pid = await self._run_shim(bundle, creation)
        shim_pid = int((bundle / "conmon.pid").read_text())
        self._leave_service(shim_pid)
        return Handle(creation.id, pid, linux.process_started(pid), shim_pid, linux.process_started(shim_pid))

    def _described(self, document: Mapping[str, Any]) -> bytes:
        """The container's `config.json`; for crun with its system call filter compiled beside the profile."""
        profile = (document.get("linux") or {}).get("seccomp")
        if profile and self._binary.name == "crun" and (program := bpf.compiled(profile)):
            added = {_COMPILED: base64.b64encode(program).decode()}
            document = {**document, "annotations": {**(document.get("annotations") or {}), **added}}
        return json.dumps(document).encode()

    def _shim_arguments(self, creation: Creation, bundle: Path) -> list[str]:
        arguments = ["conmon", "--api-version", "1", "--cid", creation.id, "--cuuid", creation.id]
        arguments += ["--name", creation.id, "--runtime", self._binary.path]
        arguments += ["--runtime-arg", f"--root={self._folders.state}", "--bundle", str(bundle)]
        arguments += [
            "--container-pidfile",
            str(bundle / "pid"),
            "--conmon-pidfile",
            str(bundle / "conmon.pid"),
        ]
        arguments += ["--log-path", f"k8s-file:{creation.log_path}", "--log-size-max", str(LOG_CAP_BYTES)]
        arguments += [
            "--exit-dir",
            str(self._folders.exits),
            "--persist-dir",
            str(self._folders.last_words(creation.id)),
        ]
        arguments += ["--socket-dir-path", str(self._folders.sockets), "--full-attach"]
        arguments += ["--log-level", "error", "--no-sync-log"]
        if creation.stdin:
            arguments += ["--stdin"] if creation.stdin_once else ["--stdin", "--leave-stdin-open"]
        return [*arguments, "--terminal"] if creation.terminal else arguments

    async def _run_shim(self, bundle: Path, creation: Creation) -> int:
        """The pid of the created container; conmon answers on a pipe once the runtime has made it."""
        reader, writer = os.pipe()
        try:
            output = await anyio.to_thread.run_sync(self._spawn_shim, bundle, creation, writer)
            answer = await _read_line(reader)
        except FileNotFoundError as error:
            raise errors.HostError(
                "conmon is not installed", remedy="install it, e.g. apt-get install conmon"
            ) from error
        finally:
            os.close(reader)
        return _created_pid(answer, output, bundle)

    def _spawn_shim(self, bundle: Path, creation: Creation, writer: int) -> bytes:
        """The output of the shim's foreground half until it forks to the background. Closes `writer`."""

        def spawn() -> bytes:
            if self._binary.hides_unified:
                _hide_unified()
            done = subprocess.run(
                self._shim_arguments(creation, bundle),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # some complaints it makes there, some on standard error
                stderr=subprocess.STDOUT,
                env={**_ENVIRONMENT, "_OCI_SYNCPIPE": str(writer)},
                pass_fds=(writer,),
                start_new_session=True,
                cwd=self._folders.last_words(creation.id),  # where conmon writes that memory ran out
                check=False,
            )
            return done.stdout

        try:
            files.replace(bundle / "config.json", self._described(creation.spec), durable=False)
            return linux.in_own_thread(spawn) if self._binary.hides_unified else spawn()
        finally:
            os.close(writer)

    def _leave_service(self, shim_pid: int) -> None:
        """A service manager that ends our service by its cgroup must not end the shims with it."""
        if not self._shim_cgroup:
            return
        try:
            cgroups.adopt(shim_pid, self._shim_cgroup)
        except OSError as error:
            _log.warning("shim_stays_in_service_cgroup", pid=shim_pid, error=str(error))

    async def start(self, handle: Handle) -> None:
        done = await self._call(self._binary.path, "start", handle.id)
        if done.code != 0:
            raise RuntimeFailed(_message(done.output))

    async def wait(self, handle: Handle) -> Exit:
        await _wait_for_end(handle.shim_pid, handle.shim_started)
        recorded = self._recorded_exit(handle)
        if recorded is not None:
            return recorded
        # The shim died without a word: its container has lost its output, so it may not run on.
        self.signal(handle, signal.SIGKILL)
        await _wait_for_end(handle.pid, handle.pid_started)
        return Exit(_KILLED, self._was_oom_killed(handle.id), self._clock.now())

    def _recorded_exit(self, handle: Handle) -> Exit | None:
        path = self._folders.exits / handle.id
        text = files.read(path)
        if not text:
            return None
        return Exit(int(text), self._was_oom_killed(handle.id), path.stat().st_mtime)

    def _was_oom_killed(self, container_id: str) -> bool:
        return (self._folders.last_words(container_id) / "oom").exists()

    def _forget_end(self, container_id: str) -> None:
        shutil.rmtree(self._folders.last_words(container_id), ignore_errors=True)
        (self._folders.exits / container_id).unlink(missing_ok=True)

    def is_running(self, handle: Handle) -> bool:
        is_same = linux.process_started(handle.pid) == handle.pid_started
        return is_same and handle.pid_started != 0 and not (self._folders.exits / handle.id).exists()

    def signal(self, handle: Handle, number: int) -> None:
        try:
            descriptor = os.pidfd_open(handle.pid)
        except ProcessLookupError:
            return
        try:
            if linux.process_started(handle.pid) == handle.pid_started:
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return
        finally:
            os.close(descriptor)

    async def exec(self, handle: Handle, args: Sequence[str], timeout_s: float) -> ExecResult:
        process = {**self._process_of(handle.id), "args": list(args), "terminal": False}
        return await anyio.to_thread.run_sync(
            partial(self._exec, handle.id, process, timeout_s), abandon_on_cancel=True, limiter=self._execs
        )

    def _exec(self, container_id: str, process: Mapping[str, Any], timeout_s: float) -> ExecResult:
        """Run it and, when its time is over, end it: it would stay in the container for ever."""
        with tempfile.TemporaryDirectory(dir=self._folders.run, prefix="exec-") as folder:
            described, pid = Path(folder, "process.json"), Path(folder, "pid")
            described.write_text(json.dumps(process), encoding="utf-8")
            arguments = ("exec", "--process", str(described), "--pid-file", str(pid), container_id)
            try:
                return self._run(self._binary.careful_path, *arguments, timeout_s=timeout_s)
            except subprocess.TimeoutExpired as error:
                if written := files.read(pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(written), signal.SIGKILL)
                command = process["args"]
                raise ExecTimeout(f"command {command!r} timed out after {timeout_s:g}s") from error

    def _process_of(self, container_id: str) -> Mapping[str, Any]:
        described = files.read(self._folders.bundles / container_id / "config.json")
        if described is None:
            raise RuntimeFailed(f"container {container_id} is not known")
        process: Mapping[str, Any] = json.loads(described)["process"]
        return process

    @contextlib.asynccontextmanager
    async def command(self, handle: Handle, command: Command) -> AsyncIterator[Session]:
        process = {**self._process_of(handle.id), "args": list(command.args), "terminal": command.terminal}
        if command.terminal and not any(each.startswith("TERM=") for each in process["env"]):
            process["env"] = [*process["env"], "TERM=xterm"]
        with tempfile.TemporaryDirectory(dir=self._folders.run, prefix="exec-") as name:
            folder = Path(name)
            (folder / "process.json").write_text(json.dumps(process), encoding="utf-8")
            session = sessions.Exec(self._exec_arguments(handle.id, folder), folder, _ENVIRONMENT)
            begin = partial(
                session.start,
                self._clock,
                stdin=command.stdin,
                stdout=command.stdout,
                stderr=command.stderr,
                terminal=command.terminal,
            )
            try:
                await anyio.to_thread.run_sync(begin)
                yield session
            finally:
                await session.end()

    def _exec_arguments(self, container_id: str, folder: Path) -> list[str]:
        runtime = [self._binary.careful_path, f"--root={self._folders.state}", "--log", str(folder / "log")]
        own = ["--process", str(folder / "process.json"), "--pid-file", str(folder / "pid")]
        return [*runtime, "exec", *own, container_id]

    @contextlib.asynccontextmanager
    async def attach(self, handle: Handle, *, stdin: bool) -> AsyncIterator[Session]:
        bundle = self._folders.bundles / handle.id
        session = sessions.Attachment(bundle / "ctl", takes_input=stdin)
        session.open(bundle / "attach")
        try:
            yield session
        finally:
            session.close()

    async def update(self, handle: Handle, limits: spec.Limits) -> None:
        done = await self._call(self._binary.careful_path, "update", *spec.update_options(limits), handle.id)
        if done.code != 0:
            raise RuntimeFailed(_message(done.output))

    async def reopen_log(self, handle: Handle) -> None:
        control = self._folders.bundles / handle.id / "ctl"
        descriptor = os.open(control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"2 0 0\n")
        finally:
            os.close(descriptor)

    async def delete(self, container_id: str) -> None:
        if (self._folders.state / container_id).exists():
            done = await self._call(self._binary.careful_path, "delete", "--force", container_id)
            if done.code != 0 and (self._folders.state / container_id).exists():
                raise RuntimeFailed(_message(done.output))
        shutil.rmtree(self._folders.bundles / container_id, ignore_errors=True)
        self._forget_end(container_id)

    def container_ids(self) -> list[str]:
        return sorted(entry.name for entry in self._folders.bundles.iterdir())

    async def _call(self, path: str, *arguments: str) -> ExecResult:
        return await anyio.to_thread.run_sync(partial(self._run, path, *arguments))

    def _run(self, path: str, *arguments: str, timeout_s: float | None = None) -> ExecResult:
        """Call the runtime from a thread: a plain spawn there is quicker than one by the event loop."""
        done = subprocess.run(
            [path, f"--root={self._folders.state}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_ENVIRONMENT,
            timeout=timeout_s,
            check=False,
        )
        return ExecResult(done.returncode, done.stdout)


async def _read_line(descriptor: int) -> bytes:
    received = b""
    while not received.endswith(b"\n"):
        await anyio.wait_readable(descriptor)
        chunk = os.read(descriptor, 65536)
        if not chunk:
            break
        received += chunk
    return received


def _hide_unified() -> None:
    """Give this thread, and what it starts, a mount namespace without the version 2 tree."""
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_SLAVE)
    linux.unmount("/sys/fs/cgroup/unified")


def _created_pid(answer: bytes, log: bytes, bundle: Path) -> int:
    if not answer:
        raise RuntimeFailed(f"the shim ended without an answer: {_message(log) or bundle.name}")
    document = json.loads(answer)
    pid = int(document.get("data", -1))
    if pid <= 0:
        raise RuntimeFailed(
            _message(str(document.get("message", "")).encode()) or "the container was not created"
        )
    return pid


def _message(output: bytes) -> str:
    """The runtime's own words, without the frame runc puts around them."""
    text = output.decode(errors="replace").strip()
    if 'msg="' in text:
        text = text.rpartition('msg="')[2].rstrip('"').replace('\\"', '"')
    return text[:1000]


async def _wait_for_end(pid: int, started: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if linux.process_started(pid) == started:
            await anyio.wait_readable(descriptor)
    finally:
        os.close(descriptor)
