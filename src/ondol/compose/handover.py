"""What a supervisor leaves to its successor, as a sealed document in memory that passes the `exec`.

Descriptors in it are open in the successor, under the same numbers. Times are of the monotonic clock, which
is the machine's.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from typing import Final

import msgspec

from ondol.base import errors
from ondol.compose.part import Epoch, Identity

FORMAT: Final = 1
"""Raised with every change that former code, or this, would take for something else."""
_BYTES_MAX: Final = 16 * 1024 * 1024
# fcntl(2); not all Pythons name them.
_F_ADD_SEALS: Final = 1033
_F_GET_SEALS: Final = 1034
_SEALS: Final = 1 | 2 | 4 | 8  # no other seal, no shorter, no longer, no other content


@dataclass(frozen=True, slots=True)
class PartLeft:
    """A part with its process; `channel` is -1 if it has none."""

    name: str
    pid: int
    state: str
    started_at: float
    restarts: int
    channel: int
    epoch: Epoch
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class ProcessLeft:
    """A process that has been succeeded already, and leaves until `end_at`."""

    name: str
    pid: int
    end_at: float


@dataclass(frozen=True, slots=True)
class SocketLeft:
    part: str
    name: str
    descriptor: int


@dataclass(frozen=True, slots=True)
class Handover:
    """All of it; `number` counts the successions, `supervisor` is the process that succeeds itself."""

    format: int
    version: str
    supervisor: int
    number: int
    parts: tuple[PartLeft, ...]
    leaving: tuple[ProcessLeft, ...] = ()
    sockets: tuple[SocketLeft, ...] = ()

    @property
    def descriptors(self) -> list[int]:
        """What has to pass the `exec`, besides the document itself."""
        channels = [part.channel for part in self.parts if part.channel >= 0]
        return [*channels, *(each.descriptor for each in self.sockets)]


def written(document: Handover) -> int:
    """A descriptor of a sealed file in memory with the document, which is closed at an `exec`."""
    descriptor = os.memfd_create("ondol-handover", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    content = msgspec.json.encode(document)
    while content:
        content = content[os.write(descriptor, content) :]
    seal(descriptor)
    return descriptor


def seal(descriptor: int) -> None:
    """From now on nobody changes the file in memory."""
    fcntl.fcntl(descriptor, _F_ADD_SEALS, _SEALS)


def read(descriptor: int) -> Handover:
    """The document; `HostError` says why it cannot be gone on from. The descriptor stays open."""
    try:
        if fcntl.fcntl(descriptor, _F_GET_SEALS) & _SEALS != _SEALS:
            raise _refusal("it is not sealed")
        content = os.pread(descriptor, _BYTES_MAX, 0)
        form = msgspec.json.decode(content, type=dict[str, object]).get("format")
        if form != FORMAT:
            raise _refusal(f"its format is {form}, and this version knows {FORMAT}")
        return msgspec.json.decode(content, type=Handover)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _refusal(str(error)) from error


def require_for(document: Handover, pid: int) -> None:
    """`HostError` if it is another process's."""
    if document.supervisor != pid:
        raise _refusal(f"it is for process {document.supervisor}, and this is {pid}")


def _refusal(why: str) -> errors.HostError:
    return errors.HostError(
        f"what the running version hands over cannot be read: {why}",
        remedy="stop the platform and start it: ondol down --keep-pods; ondol up --detach",
    )
