"""Layers as reproducible tar archives: the same content gives the same bytes.

Entries are sorted, owned by root (unless they say otherwise), dated at the epoch, and have one of a
few modes whatever the umask was; folders on the way are made. Not compressed: a local store gains
nothing from it, and a build and a pull would wait for it.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from ondol.build.errors import BuildError
from ondol.build.store import Draft

_FOLDER_MODE: Final = 0o755
_LINKS_MAX: Final = 40


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands at a path: a file (of `source` or of `content`), a link to `target`, or a folder."""

    mode: int = _FOLDER_MODE
    source: Path | None = None
    content: bytes | None = None
    target: str = ""
    owner: int = 0


class Tree:
    """Paths (absolute, as in the container) and what stands there."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, path: str) -> bool:
        return _key(path) in self._entries

    @property
    def entries(self) -> Mapping[str, Entry]:
        return self._entries

    def folder(self, path: str, *, mode: int = _FOLDER_MODE, owner: int = 0) -> None:
        self._put(path, Entry(mode=mode, owner=owner))

    def text(self, path: str, content: str | bytes, *, mode: int = 0o644) -> None:
        self._put(path, Entry(mode=mode, content=content.encode() if isinstance(content, str) else content))

    def link(self, path: str, target: str) -> None:
        self._put(path, Entry(mode=0o777, target=target))

    def file(self, path: str, source: Path) -> None:
        """A copy of a file of this machine; its mode becomes 755 or 644, as its owner may run it."""
        status = source.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BuildError(f"{source} is neither a file nor a folder", remedy=f"remove or exclude {source}")
        self._put(path, Entry(mode=0o755 if status.st_mode & stat.S_IXUSR else 0o644, source=source))

    def copy(self, path: str) -> str:
        """A file of this machine at its own path, with every link on the way to it.

        The path it really has is returned. A merged `/usr` (`/lib` → `/usr/lib`) comes out merged.
        """
        done, rest = "/", list(PurePosixPath(path).parts[1:])
        for _ in range(_LINKS_MAX * 8):
            if not rest:
                break
            here = os.path.join(done, rest.pop(0))  # noqa: PTH118 - pure text, and "." must stay
            if os.path.islink(here):  # noqa: PTH114 - likewise
                target = os.readlink(here)  # noqa: PTH115 - likewise
                self.link(here, target)
                joined = os.path.normpath(os.path.join(done, target))  # noqa: PTH118 - likewise
                done, rest = "/", [*PurePosixPath(joined).parts[1:], *rest]
            else:
                done = here
        else:
            raise BuildError(f"{path} leads through too many links")
        self.file(done, Path(done))
        return done

    def write(self, draft: Draft, *, epoch_s: int) -> None:
        """The archive, byte for byte the same for the same tree."""
        for path in list(self._entries):
            for parent in PurePosixPath(path).parents:
                if str(parent) != ".":
                    self._entries.setdefault(str(parent), Entry())
        with tarfile.open(None, "w|", draft) as tar:  # type: ignore[call-overload]  # only written to
            for path in sorted(self._entries, key=lambda p: p.split("/")):
                _add(tar, path, self._entries[path], epoch_s)

    def _put(self, path: str, entry: Entry) -> None:
        self._entries[_key(path)] = entry


def _key(path: str) -> str:
    return path.strip("/")


def _add(tar: tarfile.TarFile, path: str, entry: Entry, epoch_s: int) -> None:
    info = tarfile.TarInfo(path)
    info.mode, info.mtime, info.uid, info.gid = entry.mode, epoch_s, entry.owner, entry.owner
    if entry.target:
        info.type, info.linkname = tarfile.SYMTYPE, entry.target
        tar.addfile(info)
    elif entry.content is not None:
        info.size = len(entry.content)
        tar.addfile(info, io.BytesIO(entry.content))
    elif entry.source is not None:
        with entry.source.open("rb") as file:
            info.size = os.fstat(file.fileno()).st_size
            tar.addfile(info, file)
    else:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
