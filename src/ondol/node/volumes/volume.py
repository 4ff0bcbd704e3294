"""What every kind of volume is to the node: a plan of what containers find there, and how that is made so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from ondol.base import errors, trees
from ondol.node import linux, value_sources
from ondol.node.volumes.lookup import Lookup

Spec: TypeAlias = Mapping[str, Any]


class VolumeFailed(errors.OndolError):
    """A volume cannot be made (yet); event FailedMount."""


class File(NamedTuple):
    """Content, mode and owner; root's if None."""

    content: bytes
    mode: int
    owner: int | None = None


Payload: TypeAlias = dict[str, File]
"""Files by their path relative to the volume."""


@dataclass(frozen=True, slots=True)
class Files:
    """A folder of the pod's own, in which these files must be; none for one that only offers room."""

    content: Payload = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The volume is this place of the machine, mounted as it is."""

    folder: Path
    type: str = ""
    """What must be there, in the words of a `hostPath`."""
    takes_group: bool = False
    """Whether what is in it is made the group's that is the pod's `fsGroup`."""


@dataclass(frozen=True, slots=True)
class Waits:
    """There can be none yet; what is waited for, as the pod's event tells it."""

    message: str


Plan: TypeAlias = Files | Elsewhere | Waits


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A service account token that a volume shows."""

    volume: str
    path: str
    audience: str
    expiration_s: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a pod's volumes are made from."""

    pod: Spec
    lookup: Lookup
    """ConfigMaps, Secrets, and whatever else a kind of volume leads to."""
    facts: value_sources.PodFacts
    tokens: Mapping[TokenRequest, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a volume is put, and as whose."""

    folder: Path
    """Its folder in the pod's own, or what an `Elsewhere` named."""
    fs_group: int | None
    """The pod's `fsGroup`: whose group the files are."""
    revision: str
    """Not used before in this folder: the name of what is written now."""
    type: str = ""
    """As `Elsewhere.type`."""
    only_on_mismatch: bool = False
    """What is in it is left alone where its folder is the group's already."""


class Volume(Protocol):
    """One volume of one pod. It keeps no state but its part of the spec: the folder is the state.

    The worker calls `resolve` until that waits for nothing, then `place` until that has succeeded once, then
    `resolve` and `refresh` whenever something that was looked up has changed. Whatever was to be placed is
    `remove`d when the pod has ended, be it that `place` failed or never came to its end. Where a volume is
    does not change once it is placed. A new agent begins with `place` again, so that is idempotent. `place`,
    `refresh` and `remove` block.
    """

    @property
    def is_read_only(self) -> bool:
        """Whether no container may write to it."""

    @property
    def options(self) -> Sequence[str]:
        """Options of its mounts, in the words of the runtime spec."""

    def unsupported(self) -> list[str]:
        """Which parts of this volume's spec the node cannot make, by path below its kind."""

    def resolve(self, inputs: Inputs) -> Plan:
        """What containers are to find: files, a place elsewhere, or nothing yet. Pure.

        It lets `lookup.NotRead` pass: it is asked again.
        """

    def place(self, at: Place, files: Payload) -> None:
        """Make it, or leave it as it is if it is there. `VolumeFailed`, `OSError`."""

    def refresh(self, at: Place, files: Payload) -> None:
        """Follow what `resolve` answers now. `VolumeFailed`, `OSError`."""

    def remove(self, folder: Path) -> None:
        """Free what the pod had of it on this machine; nothing of someone else's. `HostError`, `OSError`."""


Kind: TypeAlias = Callable[[str, Spec], Volume]
"""A volume from its name and its part of the spec; each kind's module has one, called `KIND`."""


class OwnFolder:
    """What most kinds have in common: a folder in the pod's own, which goes with it."""

    is_read_only = False
    options: Sequence[str] = ()

    def __init__(self, name: str, source: Spec) -> None:
        self.name = name
        self.source = source

    def unsupported(self) -> list[str]:
        return []

    def resolve(self, inputs: Inputs) -> Plan:  # noqa: ARG002 - the protocol's
        return Files()

    def place(self, at: Place, files: Payload) -> None:
        raise NotImplementedError

    def refresh(self, at: Place, files: Payload) -> None:
        """There is nothing to follow."""

    def remove(self, folder: Path) -> None:
        if linux.mounts_below(str(folder)) or folder.is_mount():  # what is mounted belongs to someone else
            raise errors.HostError(f"{folder} is still mounted", remedy="it is tried again")
        trees.remove(folder)
