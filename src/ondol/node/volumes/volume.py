"""What every kind of volume is to the node: a place for containers, and the files that must be there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from ondol.base import errors
from ondol.node import linux, value_sources

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
class TokenRequest:
    """A service account token that a volume shows."""

    volume: str
    path: str
    audience: str
    expiration_s: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the files of a pod's volumes are made from."""

    pod: Spec
    sources: value_sources.Sources
    facts: value_sources.PodFacts
    tokens: Mapping[TokenRequest, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a volume is put, and as whose."""

    folder: Path
    """What `Volume.folder` answered."""
    fs_group: int | None
    """The pod's `fsGroup`: whose group the files are."""
    revision: str
    """Not used before in this folder: the name of what is written now."""


class Volume(Protocol):
    """One volume of one pod. It keeps no state but its part of the spec: the folder is the state.

    The worker calls `resolve`, then `place` until that has succeeded once, then `resolve` and `refresh`
    whenever something the pod refers to has changed, and `remove` when the pod has ended. A new agent
    begins with `place` again, so that is idempotent. `place`, `refresh` and `remove` block.
    """

    @property
    def is_read_only(self) -> bool:
        """Whether no container may write to it."""

    def unsupported(self) -> list[str]:
        """Which parts of this volume's spec the node cannot make, by path below its kind."""

    def folder(self, own: Path) -> Path:
        """What containers mount: `own`, the volume's folder in the pod's, or a place elsewhere."""

    def resolve(self, inputs: Inputs) -> Payload:
        """The files that must be there; none for a kind that only offers room. Pure.

        `VolumeFailed` while something they are made from is missing.
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

    def __init__(self, name: str, source: Spec) -> None:
        self.name = name
        self.source = source

    def unsupported(self) -> list[str]:
        return []

    def folder(self, own: Path) -> Path:
        return own

    def resolve(self, inputs: Inputs) -> Payload:  # noqa: ARG002 - the protocol's
        return {}

    def place(self, at: Place, files: Payload) -> None:
        raise NotImplementedError

    def refresh(self, at: Place, files: Payload) -> None:
        """There is nothing to follow."""

    def remove(self, folder: Path) -> None:
        if linux.mounts_below(str(folder)) or folder.is_mount():  # what is mounted belongs to someone else
            raise errors.HostError(f"{folder} is still mounted", remedy="it is tried again")
        if folder.exists():
            shutil.rmtree(folder)
