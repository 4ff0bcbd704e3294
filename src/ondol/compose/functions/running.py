"""A function served on this machine while it is worked on: started anew with each change, at the same port.

The next process is made beside the one that serves; when it listens, connections go to it and the other one
ends its requests and stops. One that does not come up changes nothing: the version before goes on answering.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
from anyio.abc import Listener, Process, SocketAttribute, SocketStream

from ondol.base import errors
from ondol.base.clock import Clock
from ondol.compose.functions import commands, relay
from ondol.compose.functions.commands import Command
from ondol.compose.functions.folder import Folder, load

HOST: Final = "127.0.0.1"
PORT: Final = 8080
START_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.02
_LOOK_S: Final = 0.2
_STOP_S: Final = 5.0
_RESTART_S: Final = 0.5
_NOT_WATCHED: Final = frozenset(
    [
        ".func",
        ".git",
        ".hg",
        ".venv",
        "venv",
        "__pycache__",
        "node_modules",
        ".pytest_cache",
        ".idea",
        ".vscode",
    ]
)


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a function is run; `port` 0 is 8080, or any other if that is taken."""

    host: str = HOST
    port: int = 0
    env: Mapping[str, str] | None = None
    reloads: bool = True
    start_timeout_s: float = START_TIMEOUT_S


class Ended(errors.HostError):
    """The function's process ended before it listened."""


@dataclass(slots=True)
class _Instance:
    process: Process
    port: int


class Runner:
    """Serves one function until it is cancelled."""

    def __init__(
        self,
        folder: Folder,
        wishes: Wishes,
        clock: Clock,
        note: Callable[[str], None],
        *,
        environment: Mapping[str, str] = os.environ,
        on_serving: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._folder = folder
        self._wishes = wishes
        self._clock = clock
        self._note = note
        self._environment = environment
        self._on_serving = on_serving
        self._relay = relay.Relay(clock)
        self._instance: _Instance | None = None

    async def run(self) -> None:
        """Serve until SIGINT or SIGTERM; `HostError` if it does not come up at first."""
        wishes = self._wishes
        listener = await self._listener()
        host, port = (
            str(listener.extra(SocketAttribute.local_address)[0]),  # noqa: S610 - no query
            listener.extra(SocketAttribute.local_port),  # noqa: S610 - likewise
        )
        job = self._folder.own / "runs" / str(port)
        failure: errors.HostError | None = None
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(_end_at_signals, tasks.cancel_scope)
            tasks.start_soon(listener.serve, self._relay.handle)
            try:
                before = snapshot(self._folder.path)
                self._instance = await self._started()
                self._relay.turn_to(self._instance.port)
                job.mkdir(parents=True, exist_ok=True)
                self._on_serving(f"http://{_spelled(host)}:{port}")
                tasks.start_soon(self._watch_process)
                if wishes.reloads:
                    await self._watch_files(before)
                await anyio.sleep_forever()
            except errors.HostError as error:  # as it is, and not in a group of exceptions
                failure = error
            finally:
                tasks.cancel_scope.cancel()
                shutil.rmtree(job, ignore_errors=True)
                with anyio.CancelScope(shield=True):
                    if self._instance is not None:
                        await self._stop(self._instance)
        if failure is not None:
            raise failure

    async def _listener(self) -> Listener[SocketStream]:
        host, port = self._wishes.host, self._wishes.port
        try:
            if port:
                return await relay.listen(host, port)
            return await relay.listener(
                host, PORT, lambda: self._note(f"port {PORT} is taken: another is used")
            )
        except OSError as error:
            raise errors.HostError(
                f"cannot listen at {host}:{port or PORT}: {errors.why(error)}",
                remedy="choose another --address",
            ) from error

    async def _started(self) -> _Instance:
        """A new process that listens; `HostError` with the reason if it does not."""
        folder = self._folder
        command = await anyio.to_thread.run_sync(commands.command, folder, self._environment)
        instance = await self._spawn(command)
        try:
            with self._clock.fail_after(self._wishes.start_timeout_s):
                await self._until_it_listens(instance)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await self._stop(instance)
            if isinstance(error, TimeoutError):
                raise Ended(
                    f"the function did not listen within {self._wishes.start_timeout_s:g} s",
                    remedy="have it listen at the port that PORT names, or raise run.startTimeout",
                ) from error
            raise
        return instance

    async def _until_it_listens(self, instance: _Instance) -> None:
        while not await _listens(instance.port):
            if instance.process.returncode is not None:
                raise Ended(
                    f"the function ended ({_ending(instance.process.returncode)}) before it listened",
                    remedy="see what it wrote above",
                )
            await self._clock.sleep(_POLL_S)

    async def _spawn(self, command: Command) -> _Instance:
        port = _free_port()
        address = f"{HOST}:{port}"
        env = {
            **self._environment,
            "PORT": str(port),
            "LISTEN_ADDRESS": address,
            "ADDRESS": HOST,
            **command.env,
            **commands.variables(self._folder, self._wishes.env or {}, self._environment),
        }
        try:
            process = await anyio.open_process(
                command.words, cwd=self._folder.path, env=env, stdin=None, stdout=None, stderr=None
            )
        except OSError as error:
            raise errors.HostError(f"{command.words[0]} cannot be started: {errors.why(error)}") from error
        return _Instance(process, port)

    async def _stop(self, instance: _Instance) -> None:
        process = instance.process
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            with self._clock.move_on_after(_STOP_S):
                await process.wait()
        if process.returncode is None:
            process.kill()
        await process.wait()

    async def _watch_process(self) -> None:
        """Start it again when it ends by itself."""
        while (instance := self._instance) is not None:
            status = await instance.process.wait()
            if self._instance is not instance:
                continue
            self._note(f"the function ended ({_ending(status)}): it is started again")
            await self._clock.sleep(_RESTART_S)
            if self._instance is instance:
                await self._replace()
                if self._instance is instance:  # it does not come up: the next change may mend it
                    self._relay.turn_to(0)
                    await self._replaced(instance)

    async def _replaced(self, instance: _Instance) -> None:
        while self._instance is instance:
            await self._clock.sleep(_LOOK_S)

    async def _watch_files(self, before: Mapping[Path, tuple[int, int]]) -> None:
        while True:
            await self._clock.sleep(_LOOK_S)
            now = snapshot(self._folder.path)
            if now == before:
                continue
            changed = sorted({*now.items()} ^ {*before.items()})
            before = now
            name = changed[0][0].relative_to(self._folder.path)
            self._note(f"{name} changed")
            await self._replace()

    async def _replace(self) -> None:
        """The next process in place of this one, if it comes up."""
        before = self._instance
        try:
            self._folder = load(self._folder.path)
            instance = await self._started()
        except errors.HostError as error:
            remedy = f"\n  try: {error.remedy}" if error.remedy else ""
            still = "; the version before goes on answering" if _is_alive(before) else ""
            self._note(f"error: {error}{still}{remedy}")
            return
        self._instance = instance
        self._relay.turn_to(instance.port)
        self._note("serving the new version")
        if before is not None:
            await self._stop(before)


async def _end_at_signals(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as numbers:
        async for _ in numbers:
            scope.cancel()


def _is_alive(instance: _Instance | None) -> bool:
    return instance is not None and instance.process.returncode is None


def _ending(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"


def _spelled(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


async def _listens(port: int) -> bool:
    try:
        async with await anyio.connect_tcp(HOST, port):
            return True
    except OSError:
        return False


def snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    """Time and size of each file whose change matters."""
    files: dict[Path, tuple[int, int]] = {}
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NOT_WATCHED]
        for name in names:
            if name.endswith((".pyc", "~", ".swp")):
                continue
            path = Path(here) / name
            try:
                status = path.stat()
            except OSError:
                continue  # it has gone meanwhile
            files[path] = (status.st_mtime_ns, status.st_size)
    return files


def local_port(folder: Path) -> int:
    """The port at which `run` serves the function of a folder now; 0 if it does not."""
    runs = folder / ".func" / "runs"
    for job in sorted(runs.iterdir()) if runs.is_dir() else ():
        if job.name.isdigit():
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex((HOST, int(job.name))) == 0:
                    return int(job.name)
    return 0
