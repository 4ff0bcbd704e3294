"""Which files of unpacked packages go into an image, and where: what runs, without manuals and scripts."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.build import elf
from ondol.build.archive import Entry, Tree
from ondol.build.debian import units
from ondol.build.debian.control import Package
from ondol.build.debian.units import Service
from ondol.build.errors import BuildError

_MERGED: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_PROGRAMS: Final = ("usr/bin", "usr/sbin", "bin", "sbin", "usr/games")
_UNITS: Final = ("lib/systemd/system", "usr/lib/systemd/system")
_LEFT_OUT: Final = (
    "etc/apparmor.d",
    "etc/bash_completion.d",
    "etc/cron.d",
    "etc/cron.daily",
    "etc/init.d",
    "etc/logrotate.d",
    "etc/rc",
    "etc/ufw",
    "usr/include",
    "usr/lib/debug",
    "usr/lib/init",
    "usr/lib/systemd",
    "usr/lib/sysusers.d",
    "usr/lib/tmpfiles.d",
    "usr/lib/udev",
    "usr/share/applications",
    "usr/share/apport",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/doc-base",
    "usr/share/fish",
    "usr/share/gdb",
    "usr/share/icons",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/menu",
    "usr/share/reportbug",
    "usr/share/zsh",
)
_DOCUMENTS: Final = "usr/share/doc/"
_SUFFIXES_LEFT_OUT: Final = (".a", ".la", ".pc")
_DATA: Final = ("var/lib/", "var/log/", "var/cache/", "var/spool/")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A package and the folder with its files."""

    package: Package
    folder: Path


def add(content: Tree, unpacked: Unpacked) -> None:
    """Put the files of a package where they belong, on a merged `/usr`, with a note that it is here."""
    for here, folders, names in os.walk(unpacked.folder):
        folders.sort()
        for name in sorted([*names, *folders]):
            path = Path(here) / name
            place = _place(str(path.relative_to(unpacked.folder)))
            if place in _MERGED or _is_left_out(place):
                continue
            _put(content, place, path)
    # Where scanners of images look for what is installed: one file a package, as in a distroless image.
    content.text(f"/var/lib/dpkg/status.d/{unpacked.package.name}", unpacked.package.text)


def _place(path: str) -> str:
    first, slash, _ = path.partition("/")
    return f"usr/{path}" if slash and first in _MERGED else path


def _is_left_out(place: str) -> bool:
    if place.startswith(_DOCUMENTS):
        return place.count("/") > 3 and not place.endswith("/copyright")
    return place.endswith(_SUFFIXES_LEFT_OUT) or any(
        place == prefix or place.startswith(f"{prefix}/") for prefix in _LEFT_OUT
    )


def _put(content: Tree, place: str, path: Path) -> None:
    if path.is_symlink():
        content.link(place, str(path.readlink()))
    elif path.is_dir():
        if place not in content and place.startswith(_DATA):
            content.folder(place)
    elif path.is_file():
        content.file(place, path)


def data_folders(unpacked: Iterable[Unpacked]) -> Iterator[str]:
    """Folders in which packages keep what they write; their scripts would give them to the service."""
    for each in unpacked:
        for parent in _DATA:
            for path in sorted((each.folder / parent).glob("**/")):
                place = str(path.relative_to(each.folder))
                if place.count("/") >= 2:
                    yield f"/{place}"


def service(unpacked: Iterable[Unpacked], name: str) -> Service | None:
    """What the package's unit starts, as its files say it; None if it has none of its own.

    The unit is that of the package's name, or else the only one. `BuildError` if several are there,
    or if no image can do what the unit says.
    """
    packages = list(unpacked)
    listed = [
        path
        for each in packages
        for folder in _UNITS
        for path in sorted((each.folder / folder).glob("*.service"))
        if "@" not in path.name and not path.is_symlink() and _is_own(path, each.folder)
    ]
    named = [path for path in listed if path.stem == name] or listed
    if not named:
        return None
    if len(named) > 1:
        raise BuildError(
            f"{name} has the units {', '.join(path.name for path in named)}",
            remedy="say what to run with --entrypoint",
        )
    try:
        return units.read(named[0].stem, named[0].read_text(), lambda path: _text(packages, path))
    except (units.Unreadable, UnicodeDecodeError) as error:
        raise BuildError(
            f"{named[0].name} cannot be followed: {error}", remedy="say what to run with --entrypoint"
        ) from error


def _text(unpacked: Iterable[Unpacked], path: str) -> str | None:
    for each in unpacked:
        file = each.folder / path.lstrip("/")
        if _is_own(file, each.folder):
            return file.read_text(errors="replace")
    return None


def _is_own(path: Path, folder: Path) -> bool:
    """Whether it is a file of the package: a link may lead out of its folder, to what this machine has."""
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


def program(unpacked: Unpacked) -> str:
    """The only program of a package, or the one of its name; `BuildError` where neither is."""
    programs = sorted(
        f"/{_place(str(path.relative_to(unpacked.folder)))}"
        for folder in _PROGRAMS
        for path in (unpacked.folder / folder).glob("*")
        if not path.is_dir()
    )
    name = unpacked.package.name
    named = [path for path in programs if path.rpartition("/")[2] == name] or programs
    if len(named) == 1:
        return named[0]
    listed = ", ".join(programs[:_LINES]) or "none"
    raise BuildError(
        f"{name} does not say what to start; its programs: {listed}",
        remedy="say what to run with --entrypoint",
    )


_LINES: Final = 8


def words(command: str) -> tuple[str, ...]:
    """A command as a person writes it; `BuildError` if its quotes do not end or it is empty."""
    try:
        split = tuple(shlex.split(command))
    except ValueError as error:
        raise BuildError(f"{command!r} is not a command: {error}") from None
    if not split:
        raise BuildError("an empty command starts nothing")
    return split


def missing_libraries(trees: Iterable[Tree], command: str) -> list[str]:
    """Shared libraries that the program needs, itself or through others, and that are in no layer."""
    entries: dict[str, Entry] = {}
    for tree in trees:
        entries |= tree.entries
    by_name: dict[str, str] = {path.rpartition("/")[2]: path for path in sorted(entries) if ".so" in path}
    waiting, seen, missing = [command.lstrip("/")], set[str](), set[str]()
    while waiting:
        path = waiting.pop()
        source = _source(entries, path)
        if path in seen or source is None or not elf.is_elf(source):
            continue
        seen.add(path)
        for name in elf.read(source).needed:
            if name in by_name:
                waiting.append(by_name[name])
            else:
                missing.add(name)
    return sorted(missing)


def _source(entries: dict[str, Entry], path: str) -> Path | None:
    """The file at a path, through links on its last part."""
    for _ in range(16):
        entry = entries.get(_place(path))
        if entry is None or not entry.target:
            return entry.source if entry is not None else None
        joined = os.path.normpath(f"/{path}/../{entry.target}")
        path = (entry.target if entry.target.startswith("/") else joined).lstrip("/")
    return None


def resolved(trees: Iterable[Tree], name: str) -> str:
    """A program's whole path: as it is, or where the image's PATH has it; `BuildError` if it has not."""
    entries: dict[str, Entry] = {}
    for tree in trees:
        entries |= tree.entries
    candidates = [name] if name.startswith("/") else [f"/usr/{folder}/{name}" for folder in ("sbin", "bin")]
    for candidate in candidates:
        if _place(candidate.lstrip("/")) in entries:
            return candidate
    raise BuildError(f"{name} is in none of the packages", remedy="say what to run with --entrypoint")
