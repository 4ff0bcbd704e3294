"""Pipenv's files as requirement lines: `Pipfile.lock` if there is one, else `Pipfile`.

https://github.com/pypa/pipfile. What only development needs (`develop`, `dev-packages`) is left out.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ondol.base import errors
from ondol.build.errors import BuildError

LOCK = "Pipfile.lock"
FILE = "Pipfile"


def requirements(directory: Path) -> list[str] | None:
    """Exact versions with hashes from the lock, or else the ranges of `Pipfile`; None without both."""
    if (directory / LOCK).is_file():
        document = _read(directory / LOCK, json.loads)
        return sorted(_line(directory / LOCK, *pair) for pair in (document.get("default") or {}).items())
    if (directory / FILE).is_file():
        document = _read(directory / FILE, tomllib.loads)
        return sorted(_line(directory / FILE, *pair) for pair in (document.get("packages") or {}).items())
    return None


def _read(file: Path, parse: Any) -> Mapping[str, Any]:
    try:
        document = parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(f"{file} cannot be read: {errors.why(error)}", remedy=f"correct {file}") from error
    if not isinstance(document, dict):
        raise BuildError(f"{file} is not a table", remedy=f"correct {file}")
    return document


def _line(file: Path, name: str, requirement: Any) -> str:
    """One package as a line of a requirements file."""
    fields = {"version": requirement} if isinstance(requirement, str) else dict(requirement)
    if unsupported := {"git", "path", "file", "editable", "svn", "hg"} & fields.keys():
        raise BuildError(
            f"{file}: {name} comes from {min(unsupported)}, not from a package index",
            remedy="publish it to a package index, or put its sources into the application's folder",
        )
    version = str(fields.get("version") or "*")
    extras = f"[{','.join(fields['extras'])}]" if fields.get("extras") else ""
    return " ".join([f"{name}{extras}{'' if version == '*' else version}", *_conditions(fields)])


def _conditions(fields: Mapping[str, Any]) -> Iterator[str]:
    marker = fields.get("markers") or ""
    if not marker and "sys_platform" in fields:
        marker = f"sys_platform {fields['sys_platform']}"
    if marker:
        yield f"; {marker}"
    for digest in fields.get("hashes") or ():
        yield f"--hash={digest}"
