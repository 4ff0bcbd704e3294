"""Containers that begin as a fork of a Python that is there already: no start of an interpreter, no imports.

A template (`forking`) has loaded the standard library's usual modules and nothing of anybody's; the blanks it
makes wait in control groups and a process namespace of their own. `create` has a blank become the container,
in the pod's namespaces, root, groups, rights and filter. What is not such a container, or such an image, or
finds no blank, is made by the ordinary runtime, as is everything where templates cannot be had.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from ondol.base import files, log
from ondol.base.clock import Clock
from ondol.base.signal import Signal
from ondol.node import linux, paths
from ondol.node.runtime import bpf, oci, spec
from ondol.node.runtime.forking import container, groups, program
from ondol.node.runtime.port import Command, Creation, ExecResult, Exit, Handle, RuntimeFailed, Session

_PROGRAM: Final = Path(__file__).parent / "forking" / "launch.py"
_BLANKS: Final = 3
_REST_S: Final = 0.5
"""How long after a start others are made ready: a start is not to be held up by that."""
_AGAIN_S: Final = 30.0
_FORKS_MAX: Final = 256
"""Blanks of one template: its siblings share where things lie in memory, and the secret of its hashes."""
_READY_S: Final = 20.0
_ANSWER_S: Final = 10.0
_MESSAGE_MAX: Final = 1024 * 1024
_IMAGES_MAX: Final = 256
_PIECE: Final = 1 << 20
_MARK: Final = "start"

_log = log.get("node.runtime")


def unfit(document: Mapping[str, Any]) -> str:
    """Why a container is made by the ordinary runtime; empty for one that a blank can become."""
    return program.unfit(document["process"]) or container.unfit(document)


@dataclass(slots=True)
class _Template:
    """A running template: where it is told to make blanks, and the files that it has in memory."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    files: Sequence[bytes]
    forks: int = 0

    def end(self) -> None:
        self.control.close()
        self.process.wait()


class Forking:
    """The `Runtime` of crun's containers, of which those that fit are forked; `run` keeps blanks ready."""

    def __init__(self, own: oci.OciRuntime, folders: oci.Folders, clock: Clock, group: str) -> None:
        self._own = own
        self._folders = folders
        self._clock = clock
        self._group = group
        self._template: _Template | None = None
        self._blanks: deque[socket.socket] = deque()
        self._asking = anyio.Lock()
        """A template answers in the order it is asked."""
        self._taken = Signal()
        self._images: OrderedDict[str, bool] = OrderedDict()
        self._last_number = 0

    @property
    def name(self) -> str:
        return self._own.name

    @property
    def version(self) -> str:
        return self._own.version

    # Blanks

    async def run(self) -> None:
        """Have blanks ready until cancelled."""
        if self._own.name != "crun" or os.uname().machine != "x86_64":
            _log.info("no_templates", why="they need crun and x86-64")
            return
        await anyio.to_thread.run_sync(self._remove_leftovers)
        try:
            while True:
                if not await self._fill():
                    await self._clock.sleep(_AGAIN_S)
                    continue
                await self._taken.wait()
                while self._taken.is_set:
                    self._taken.clear()
                    await self._clock.sleep(_REST_S)
        finally:
            self._end()

    def _end(self) -> None:
        for blank in self._blanks:
            blank.close()
        self._blanks.clear()
        if self._template is not None:
            self._template.end()
            self._template = None

    def _remove_leftovers(self) -> None:
        for tree in groups.hierarchies():
            for folder in Path(tree + self._group).glob("prepared-*"):
                name = folder.name
                groups.remove(f"{self._group}/{name}/{name}")

    async def _fill(self) -> bool:
        try:
            while len(self._blanks) < _BLANKS:
                if self._template is None or self._template.forks >= _FORKS_MAX:
                    async with self._asking:
                        await anyio.to_thread.run_sync(self._begin)
                self._blanks.append(await self._blank())
        except (OSError, RuntimeFailed) as error:
            _log.warning("no_template", error=str(error))
            if self._template is not None:
                self._template.end()
                self._template = None
            return False
        return True

    def _begin(self) -> None:
        if self._template is not None:
            self._template.end()  # its blanks and their containers live on
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        interpreter = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
        with theirs:
            arguments = [
                str(_PROGRAM.parent.parent),
                interpreter,
                str(theirs.fileno()),
                f"{self._group}/shim",
            ]
            process = subprocess.Popen(
                [interpreter, "-I", "-S", str(_PROGRAM), *arguments, *_package_folders()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={"LANG": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
        ours.settimeout(_READY_S)
        try:
            listed = ours.recv(_MESSAGE_MAX)
        except OSError:
            process.kill()
            listed = b""
        if not listed:
            ours.close()
            process.wait()
            raise RuntimeFailed("the template ended at its start, or did not come up")
        self._template = _Template(process, ours, listed.split(b"\n"))
        self._images.clear()

    async def _blank(self) -> socket.socket:
        async with self._asking:
            template = self._template
            if template is None or template.forks >= _FORKS_MAX:
                raise RuntimeFailed("there is no template")
            self._last_number += 1
            template.forks += 1
            name = f"prepared-{os.getpid()}-{self._last_number}"
            template.control.send(f"{name}\n{self._group}".encode())
            with anyio.CancelScope(shield=True):  # a blank that nobody takes would live on
                blank = await anyio.to_thread.run_sync(_received, template.control)
        try:  # it waits for the kernel; others need not wait for it
            await anyio.to_thread.run_sync(_await_ready, blank)
        except anyio.get_cancelled_exc_class():
            blank.close()
            raise
        return blank

    # Containers

    async def create(self, creation: Creation) -> Handle:
        blank = await self._fitting(creation)
        if blank is not None:
            with blank:
                try:
                    return await self._fork(creation, blank)
                except (OSError, RuntimeFailed, ValueError) as error:
                    _log.warning("not_forked", container=creation.id, error=str(error))
                    shutil.rmtree(self._folders.bundles / creation.id, ignore_errors=True)
        return await self._own.create(creation)

    async def _fitting(self, creation: Creation) -> socket.socket | None:
        template = self._template
        if template is None or creation.stdin or creation.terminal or not creation.image:
            return None
        if unfit(creation.spec) or _has_groups(creation.spec):
            return None
        if creation.image not in self._images:
            root = Path(creation.spec["root"]["path"])
            same = await anyio.to_thread.run_sync(_has_same, root, creation.spec, template.files)
            self._images[creation.image] = same
            while len(self._images) > _IMAGES_MAX:
                self._images.popitem(last=False)
        if not self._images[creation.image]:
            return None
        self._taken.set()
        if self._blanks:
            return self._blanks.popleft()
        try:  # of many that start at once most find none: to fork one is less than an interpreter still
            return await self._blank()
        except (OSError, RuntimeFailed) as error:
            _log.debug("no_blank", error=str(error))
            return None

    async def _fork(self, creation: Creation, blank: socket.socket) -> Handle:
        document, filter_ = creation.spec, b""
        if profile := (document.get("linux") or {}).get("seccomp"):
            compiled = await anyio.to_thread.run_sync(bpf.compiled, profile)
            if compiled is None:
                raise RuntimeFailed("its system call filter cannot be compiled here")
            filter_ = compiled
        bundle = self._own.prepare(creation)
        request = {
            "spec": {**document, "linux": {**document["linux"], "seccomp": None}},
            "filter": filter_.hex(),
            "bundle": str(bundle),
            "log": str(creation.log_path),
            "log_max": oci.LOG_CAP_BYTES,
            "exit": str(self._folders.exits / creation.id),
            "last_words": str(self._folders.last_words(creation.id)),
        }
        blank.setblocking(False)
        blank.send(json.dumps(request).encode())
        state = self._folders.state / creation.id
        described = json.dumps(document).encode()
        _describe(bundle, state, described, filter_)
        with self._clock.fail_after(_ANSWER_S):
            await anyio.wait_readable(blank)
        answer = json.loads(blank.recv(_MESSAGE_MAX) or b'{"error": "the blank has ended"}')
        if "error" in answer:
            shutil.rmtree(state, ignore_errors=True)
            raise RuntimeFailed(answer["error"])
        pid, shim = int(answer["pid"]), int(answer["shim"])
        started = linux.process_started(pid)
        status = _status(creation, bundle, pid, started, self._clock.now())
        (state / "status").write_text(json.dumps(status), encoding="utf-8")
        return Handle(creation.id, pid, started, shim, linux.process_started(shim))

    def _is_forked(self, container_id: str) -> bool:
        return (self._folders.bundles / container_id / _MARK).exists()

    async def start(self, handle: Handle) -> None:
        if not self._is_forked(handle.id):
            await self._own.start(handle)
            return
        try:
            descriptor = os.open(
                self._folders.bundles / handle.id / _MARK, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError as error:
            raise RuntimeFailed(f"the container has ended before its start: {error}") from error
        try:
            os.write(descriptor, b"1")
        finally:
            os.close(descriptor)

    @contextlib.asynccontextmanager
    async def attach(self, handle: Handle, *, stdin: bool) -> AsyncIterator[Session]:
        if self._is_forked(handle.id):
            raise RuntimeFailed(
                "the container was forked from a template and has no console to attach to: "
                "read its log, or run a command in it"
            )
        async with self._own.attach(handle, stdin=stdin) as session:
            yield session

    # As of any container of crun's

    async def has_handler(self, name: str) -> bool:
        return await self._own.has_handler(name)

    async def wait(self, handle: Handle) -> Exit:
        return await self._own.wait(handle)

    def is_running(self, handle: Handle) -> bool:
        return self._own.is_running(handle)

    def signal(self, handle: Handle, number: int) -> None:
        self._own.signal(handle, number)

    async def exec(self, handle: Handle, args: Sequence[str], timeout_s: float) -> ExecResult:
        return await self._own.exec(handle, args, timeout_s)

    @contextlib.asynccontextmanager
    async def command(self, handle: Handle, command: Command) -> AsyncIterator[Session]:
        async with self._own.command(handle, command) as session:
            yield session

    async def update(self, handle: Handle, limits: spec.Limits) -> None:
        await self._own.update(handle, limits)

    async def reopen_log(self, handle: Handle) -> None:
        await self._own.reopen_log(handle)

    async def delete(self, container_id: str) -> None:
        await self._own.delete(container_id)

    def container_ids(self) -> list[str]:
        return self._own.container_ids()


def _has_groups(document: Mapping[str, Any]) -> bool:
    """Whether the pod has control groups already, and so none of a blank's can become them."""
    if groups.is_unified():
        return False  # a blank has none
    pod = str(Path(document["linux"]["cgroupsPath"]).parent)
    return any(Path(tree + pod).exists() for tree in groups.hierarchies())


def _package_folders() -> list[str]:
    """Where the machine's own packages are: nothing of them is to get into a template."""
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    named = {sysconfig.get_path(name, vars=base) for name in ("purelib", "platlib")}
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    debian = {"/usr/lib/python3/dist-packages", f"/usr/local/lib/python{version}/dist-packages"}
    return sorted({path for path in named if path} | debian)


def _received(control: socket.socket) -> socket.socket:
    """The blank that the template has just made."""
    _, descriptors, _, _ = socket.recv_fds(control, 256, 1)
    if not descriptors:
        raise RuntimeFailed("the template has ended")
    return socket.socket(fileno=descriptors[0])


def _await_ready(blank: socket.socket) -> None:
    """Until it waits in its groups."""
    blank.settimeout(_READY_S)
    try:
        is_ready = blank.recv(16) == b"ready"
    except OSError:
        blank.close()
        raise
    if not is_ready:
        blank.close()
        raise RuntimeFailed("a blank could not be made")


def _has_same(root: Path, document: Mapping[str, Any], names: Sequence[bytes]) -> bool:
    """Whether the image has the template's interpreter, and all that is loaded of it, at the same places."""
    command = document["process"]["args"][0]
    own = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    if not command.startswith("/") or not _is_same(root, command, own):
        return False
    for name in map(os.fsdecode, names):
        if not _is_same(root, name, name):
            _log.info("image_differs", file=name)
            return False
    return True


def _is_same(root: Path, name: str, own: str) -> bool:
    """Whether the file in the root is byte for byte that of the machine."""
    try:
        with (
            paths.opened(root, name, as_root=True) as place,
            Path(own).open("rb") as ours,
            Path(paths.by_descriptor(place)).open("rb") as theirs,
        ):
            if os.fstat(ours.fileno()).st_size != os.fstat(theirs.fileno()).st_size:
                return False
            while piece := ours.read(_PIECE):
                if theirs.read(_PIECE) != piece:
                    return False
    except (OSError, paths.PathEscapes):
        return False
    return True


def _describe(bundle: Path, state: Path, document: bytes, filter_: bytes) -> None:
    """What crun must know of a container to run commands in it, change it, and remove it."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (bundle, state):
        files.replace(folder / "config.json", document, durable=False)
    if filter_:
        files.replace(state / "seccomp.bpf", filter_, durable=False)


def _status(creation: Creation, bundle: Path, pid: int, started: int, now: float) -> Mapping[str, Any]:
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    return {
        "pid": pid,
        "process-start-time": started,
        "cgroup-path": creation.spec["linux"]["cgroupsPath"],
        "scope": "",
        "rootfs": creation.spec["root"]["path"],
        "systemd-cgroup": False,
        "bundle": str(bundle),
        "created": f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}",
        "owner": "root",
        "detached": True,
        "external_descriptors": '["/dev/null","/dev/null","/dev/null"]',
    }
