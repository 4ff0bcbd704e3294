"""Which shared libraries a set of programs needs, found as the dynamic linker would find them.

The order is the linker's: `DT_RPATH` of the object and of those that loaded it (unless the object
has a `DT_RUNPATH`), `DT_RUNPATH`, the linker's cache, then the default folders. Candidates of
another architecture are passed over, as the linker does; CPU-specific variants are not taken, so
that the outcome does not depend on the CPU of the day.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ondol.build import elf
from ondol.build.errors import BuildError

_CACHE_FILE: Final = Path("/etc/ld.so.cache")
_CACHE_MAGIC: Final = b"glibc-ld.so.cache1.1"
_CACHE_HEADER: Final = struct.Struct("=20sII20x")
_CACHE_ENTRY: Final = struct.Struct("=iIIIQ")
_DEFAULT_FOLDERS: Final = ("lib64", "usr/lib64", "lib", "usr/lib")


@dataclass(frozen=True, slots=True)
class Search:
    """Where a library may lie: the linker's cache (name → paths) and the default folders, in order."""

    cache: Mapping[str, Sequence[str]]
    folders: Sequence[str]

    @classmethod
    def of_machine(cls, multiarch: str = "") -> Search:
        """As this machine is set up; `multiarch` is Debian's triplet, empty elsewhere."""
        folders = [f"/{folder}/{multiarch}" for folder in ("lib", "usr/lib") if multiarch]
        return cls(read_cache(_CACHE_FILE), [*folders, *(f"/{folder}" for folder in _DEFAULT_FOLDERS)])


@dataclass(slots=True)
class Closure:
    """What was found: `files` by path, and in `cached` what only the linker's cache led to, by name."""

    files: set[str] = field(default_factory=set)
    cached: dict[str, str] = field(default_factory=dict)


def read_cache(path: Path) -> dict[str, list[str]]:
    """The linker's cache as name → paths, best first; empty where there is none (musl, for one)."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    start = content.find(_CACHE_MAGIC)
    if start < 0:
        return {}
    _, count, _ = _CACHE_HEADER.unpack_from(content, start)
    paths: dict[str, list[str]] = {}
    for number in range(count):
        offset = start + _CACHE_HEADER.size + number * _CACHE_ENTRY.size
        _, key, value, _, hardware = _CACHE_ENTRY.unpack_from(content, offset)
        if hardware == 0:
            paths.setdefault(_text(content, start + key), []).append(_text(content, start + value))
    return paths


def _text(content: bytes, offset: int) -> str:
    return content[offset : content.index(b"\0", offset)].decode()


def closure(roots: Iterable[Path], search: Search, *, machine: str, provided: Iterable[str] = ()) -> Closure:
    """Every library that the roots need, and the program interpreter; the roots themselves are left out.

    `provided` are libraries (by name) that another layer or the roots' own folder brings.
    `BuildError` if a library is found nowhere or a root is of another architecture.
    """
    libraries = Closure()
    present = set(provided)
    waiting: list[tuple[Path, tuple[str, ...]]] = [(root, ()) for root in roots]
    seen: set[str] = set()
    while waiting:
        path, inherited = waiting.pop()
        if str(path) in seen:
            continue
        seen.add(str(path))
        read = _read(path)
        if read.machine != machine:
            raise BuildError(
                f"{path} is made for {read.machine}, but this machine is {machine}",
                remedy="install the variant of the package that is made for this machine",
            )
        if read.interpreter:
            libraries.files.add(read.interpreter)
        rpath = () if read.runpath else (*_expanded(read.rpath, path), *inherited)
        for name in read.needed:
            if name in present:
                continue
            target, from_cache = _locate(name, path, read, rpath, search)
            libraries.files.add(target)
            if from_cache:
                libraries.cached[name] = target
            waiting.append((Path(target), rpath))
    return libraries


def _locate(
    name: str, user: Path, read: elf.Object, rpath: Sequence[str], search: Search
) -> tuple[str, bool]:
    if "/" in name:
        return name, False
    for folder in (*rpath, *_expanded(read.runpath, user)):
        if _fits(candidate := f"{folder}/{name}", read.machine):
            return candidate, False
    for candidate in search.cache.get(name, ()):
        if _fits(candidate, read.machine):
            return candidate, True
    for folder in search.folders:
        if _fits(candidate := f"{folder}/{name}", read.machine):
            return candidate, False
    raise BuildError(
        f"{user} needs the library {name}, which is not on this machine",
        remedy=f"install the system package that has {name} (apt-file search {name} names it)",
    )


def _expanded(paths: Iterable[str], user: Path) -> tuple[str, ...]:
    origin = str(user.parent)
    return tuple(p.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for p in paths)


def _fits(candidate: str, machine: str) -> bool:
    try:
        return _read(Path(candidate)).machine == machine
    except (OSError, elf.NotElf):
        return False


@functools.lru_cache(maxsize=4096)
def _read(path: Path) -> elf.Object:
    return elf.read(path)
