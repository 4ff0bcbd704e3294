"""What the node asks of a container runtime; `oci` implements it, tests may too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from ondol.base import errors
from ondol.node.runtime.spec import Limits

STDOUT: Final = 1
STDERR: Final = 2
"""The channels of what a process writes, as its own descriptors are numbered."""


class RuntimeFailed(errors.OndolError):
    """The runtime refused; the message is its own."""


class ExecTimeout(errors.OndolError):
    """A command in a container took longer than it may."""


class Handle(msgspec.Struct, frozen=True):
    """A created container as it is found again after the agent was away; pids come with their start time."""

    id: str
    pid: int
    pid_started: int
    shim_pid: int
    shim_started: int
    runtime: str = ""
    """What runs it; empty is the node's own runtime."""


class Exit(msgspec.Struct, frozen=True):
    """How a container ended; `code` is 128 + signal when a signal ended it."""

    code: int
    oom_killed: bool
    finished_at: float


@dataclass(frozen=True, slots=True)
class ExecResult:
    code: int
    output: bytes


@dataclass(frozen=True, slots=True)
class Creation:
    """A container to be made from an OCI runtime spec."""

    id: str
    spec: Mapping[str, Any]
    log_path: Path
    stdin: bool = False
    stdin_once: bool = False
    """Whether its input ends with the first who attaches and leaves."""
    terminal: bool = False
    handler: str = ""
    """The runtime that is to run it; empty is the node's own."""
    image: str = ""
    """The id of the image that its root is made of; empty where it is of none, or of more."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command to be run in a container, and which of its streams are wanted."""

    args: Sequence[str]
    terminal: bool = False
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True


class Session(Protocol):
    """A process that is spoken with while it runs; who does not read makes it wait."""

    async def read(self) -> tuple[int, bytes]:
        """A channel and what was written to it next; nothing (and any channel) at the end of all of them."""

    async def write(self, data: bytes) -> None:
        """To its input, as it takes it; what it takes no more is lost."""

    def close_input(self) -> None: ...

    async def resize(self, width: int, height: int) -> None:
        """Columns and rows of its terminal; nothing where it has none."""

    async def wait(self) -> int:
        """Its exit code, after `read` came to the end; 0 of a container that was attached to."""


class Runtime(Protocol):
    """Containers by id. Everything survives the agent: `Handle`s are valid after its restart."""

    @property
    def name(self) -> str:
        """As in `containerID: <name>://<id>`."""

    @property
    def version(self) -> str: ...

    async def has_handler(self, name: str) -> bool:
        """Whether containers can be run by the runtime of this name; the empty one is the node's own."""

    async def create(self, creation: Creation) -> Handle: ...

    async def start(self, handle: Handle) -> None: ...

    async def wait(self, handle: Handle) -> Exit:
        """Until the container has ended; at once if it has."""

    def is_running(self, handle: Handle) -> bool: ...

    def signal(self, handle: Handle, number: int) -> None:
        """Send to the container's first process; nothing when it has ended."""

    async def exec(self, handle: Handle, args: Sequence[str], timeout_s: float) -> ExecResult:
        """Run a command inside, with the container's own user and environment."""

    def command(self, handle: Handle, command: Command) -> AbstractAsyncContextManager[Session]:
        """Run a command inside, as `exec`, spoken with for the length of the block and killed at its end.

        `RuntimeFailed` by `wait` where it cannot be begun.
        """

    def attach(self, handle: Handle, *, stdin: bool) -> AbstractAsyncContextManager[Session]:
        """The container's own input (if `stdin`) and output, from now on; `RuntimeFailed` if it has none."""

    async def update(self, handle: Handle, limits: Limits) -> None:
        """Let a container that runs have these shares and limits from now on; what is None stays as it is."""

    async def reopen_log(self, handle: Handle) -> None:
        """Write on into a new file, after the old one was renamed."""

    async def delete(self, container_id: str) -> None:
        """Kill what is left of it and forget it; nothing when it is not known."""

    def container_ids(self) -> list[str]:
        """Ids of all containers this runtime keeps for the instance."""
