"""What Debian packages say of themselves, and which of them an image needs. Pure.

Source: Debian Policy, chapters 5 (control files) and 7 (relationships).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

INSTALLERS: Final = frozenset(
    [
        "adduser",
        "base-files",
        "base-passwd",
        "ca-certificates",
        "debconf",
        "debianutils",
        "dpkg",
        "init-system-helpers",
        "install-info",
        "lsb-base",
        "passwd",
        "runit-helper",
        "systemd",
        "systemd-standalone-sysusers",
        "systemd-sysv",
        "sysvinit-utils",
        "ucf",
        "update-inetd",
        "usr-is-merged",
        "usrmerge",
    ]
)
"""Packages that others depend on for their installation scripts, which never run in an image."""
_WORD: Final = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_REQUEST: Final = re.compile(r"[a-z0-9][a-z0-9+.-]+(?:=[A-Za-z0-9.+:~-]+)?")
_NOT_OF_A_TAG: Final = re.compile(r"[^A-Za-z0-9_.]+")
_TAG_MAX: Final = 128


@dataclass(frozen=True, slots=True)
class Package:
    """One package of one version; each of `needs` is a choice of names, of which one will do."""

    name: str
    version: str
    needs: tuple[tuple[str, ...], ...]
    provides: tuple[str, ...]
    text: str
    """Its control file, whole."""


def is_request(text: str) -> bool:
    """Whether apt may be asked for this: a package's name, perhaps `=` and a version."""
    return _REQUEST.fullmatch(text) is not None


def parse(text: str) -> Package:
    """The package of a control file; `KeyError` if that lacks a name or a version."""
    fields = _fields(text)
    needs = [*_relations(fields.get("Pre-Depends", "")), *_relations(fields.get("Depends", ""))]
    provides = [name for choice in _relations(fields.get("Provides", "")) for name in choice]
    return Package(fields["Package"], fields["Version"], tuple(needs), tuple(provides), text)


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith((" ", "\t")):
            fields[name] = f"{fields.get(name, '')} {line.strip()}"
        elif ":" in line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


def _relations(text: str) -> list[tuple[str, ...]]:
    """The names in `a (>= 1) | b:any, c`, without versions and architectures."""
    choices = [
        tuple(match[0] for part in choice.split("|") if (match := _WORD.match(part.strip())))
        for choice in text.split(",")
    ]
    return [choice for choice in choices if choice]


def closure(names: Iterable[str], packages: Mapping[str, Package]) -> list[Package]:
    """The packages and all that they need to run, of those that apt chose; sorted by name.

    What only installing needs is left out with what only that needs.
    """
    virtual: dict[str, list[str]] = {}
    for package in packages.values():
        for name in package.provides:
            virtual.setdefault(name, []).append(package.name)
    chosen: dict[str, Package] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in chosen or name not in packages:
            continue
        chosen[name] = packages[name]
        for choice in packages[name].needs:
            waiting += _satisfying(choice, packages, virtual)
    return [chosen[name] for name in sorted(chosen)]


def _satisfying(
    choice: Sequence[str], packages: Mapping[str, Package], virtual: Mapping[str, Sequence[str]]
) -> list[str]:
    """Which packages of those at hand stand for a choice; none where an installer is one of them."""
    if any(name in INSTALLERS for name in choice):
        return []
    real = [name for name in choice if name in packages]
    return real or [provider for name in choice for provider in virtual.get(name, ())]


def tag(version: str) -> str:
    """A version as the tag of an image: without its epoch, and without what no tag may have.

    >>> tag("5:7.0.15-1~deb12u10")
    '7.0.15-1-deb12u10'
    """
    _, colon, upstream = version.partition(":")
    return _NOT_OF_A_TAG.sub("-", upstream if colon else version)[:_TAG_MAX].strip("-.") or "latest"
