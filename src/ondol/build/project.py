"""What the author of an application says about it: `pyproject.toml`, requirements, `Pipfile`, `Procfile`.

Read into one frozen value; what is wrong in a file is a `BuildError` that names the file. Of
`[tool.ondol]` these are known: `entrypoint`, `port`, `env`, `exclude`, `include`; anything else is refused.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ondol.build import pipfile
from ondol.build.errors import BuildError

PORT: Final = 8080
_TOOL_KEYS: Final = {
    "entrypoint": (str, list),
    "port": (int,),
    "env": (dict,),
    "exclude": (list,),
    "include": (list,),
}
_CLAUSE: Final = re.compile(r"\s*(~=|==|!=|<=|>=|<|>)\s*(\d+(?:\.\d+)*)(\.\*)?\s*")
_INCLUDE: Final = re.compile(r"^\s*(?:-r|--requirement|-c|--constraint)[\s=]+(\S+)")
_LOCAL: Final = re.compile(r"^\s*(?:-e\b|--editable\b|\.|/|file:)|@\s*file:")


@dataclass(frozen=True, slots=True)
class Project:
    """An application as its files describe it. Empty where they say nothing."""

    directory: Path
    name: str = ""
    version: str = ""
    description: str = ""
    requires_python: str = ""
    requirements: Sequence[str] = ()
    requirements_file: Path | None = None
    scripts: Mapping[str, str] = field(default_factory=dict)
    processes: Mapping[str, str] = field(default_factory=dict)
    entrypoint: str | Sequence[str] = ""
    port: int = PORT
    env: Mapping[str, str] = field(default_factory=dict)
    exclude: Sequence[str] = ()
    include: Sequence[str] = ()
    entry_points: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    pinned: Sequence[str] | None = None
    """Requirements of Pipenv's files, which go before those of the project; None without these files."""
    needs_build: bool = False
    """Whether only a build back end can say what the application is and has."""


def read(directory: Path) -> Project:
    """The application in the folder."""
    if not directory.is_dir():
        raise BuildError(f"{directory} is not a folder", remedy="name the folder of a Python application")
    directory = directory.absolute()
    document = _pyproject(directory / "pyproject.toml")
    metadata, tool = document.get("project", {}), document.get("tool", {})
    own = _checked(tool.get("ondol", {}), directory / "pyproject.toml")
    requirements_file = directory / "requirements.txt"
    return Project(
        directory=directory,
        name=str(metadata.get("name", "")),
        version=str(metadata.get("version", "")),
        description=str(metadata.get("description", "")),
        requires_python=str(metadata.get("requires-python", "")),
        requirements=tuple(metadata.get("dependencies", ())),
        requirements_file=requirements_file if requirements_file.is_file() else None,
        scripts=dict(metadata.get("scripts", {})),
        processes=_procfile(directory / "Procfile"),
        entrypoint=own.get("entrypoint", ""),
        port=own.get("port", PORT),
        env={str(key): str(value) for key, value in own.get("env", {}).items()},
        exclude=tuple(own.get("exclude", ())),
        include=tuple(own.get("include", ())),
        entry_points={
            **{name: dict(entries) for name, entries in metadata.get("entry-points", {}).items()},
            "gui_scripts": dict(metadata.get("gui-scripts", {})),
        },
        pinned=pipfile.requirements(directory),
        needs_build=_needs_build(directory, document),
    )


def _needs_build(directory: Path, document: Mapping[str, Any]) -> bool:
    """Whether there is a distribution to build of which `[project]` does not say all."""
    if "project" in document:
        extensions = document.get("tool", {}).get("setuptools", {}).get("ext-modules")
        is_dynamic = bool(document["project"].get("dynamic"))
        return is_dynamic or bool(extensions) or (directory / "setup.py").exists()
    has_setup = (directory / "setup.py").exists() or (directory / "setup.cfg").exists()
    return has_setup or "poetry" in document.get("tool", {})


def _pyproject(file: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BuildError(f"{file} is not valid TOML: {error}", remedy=f"correct {file}") from error
    for table in ("project", "tool"):
        if not isinstance(document.get(table, {}), dict):
            raise BuildError(f"{file}: {table} is not a table", remedy=f"correct {file}")
    return document


def _checked(own: Any, file: Path) -> dict[str, Any]:
    if not isinstance(own, dict):
        raise BuildError(f"{file}: tool.ondol is not a table", remedy=f"correct {file}")
    for key, value in own.items():
        kinds = _TOOL_KEYS.get(key)
        if kinds is None:
            keys = ", ".join(_TOOL_KEYS)
            raise BuildError(f"{file}: [tool.ondol] has no setting {key!r}", remedy=f"use one of: {keys}")
        if not isinstance(value, kinds) or isinstance(value, bool):
            words = " or ".join(kind.__name__ for kind in kinds)
            raise BuildError(f"{file}: [tool.ondol] {key} must be of type {words}", remedy=f"correct {file}")
    if not 0 < own.get("port", PORT) < 1 << 16:
        raise BuildError(f"{file}: [tool.ondol] port must be from 1 to 65535", remedy=f"correct {file}")
    return own


def _procfile(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    commands = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, command = line.partition(":")
        if not colon or not command.strip():
            raise BuildError(f"{file}:{number} is not `name: command`", remedy=f"correct {file}")
        commands[name.strip()] = command.strip()
    return commands


def requirement_lines(project: Project) -> list[str]:
    """Everything that decides which dependencies are installed, included files in place.

    A requirement on a local folder is refused: its content is in no line, so a cached layer could be stale.
    """
    if project.requirements_file is not None:
        return _lines(project.requirements_file, set())
    if project.pinned is not None:
        return list(project.pinned)
    return sorted(project.requirements)


def _lines(file: Path, seen: set[Path]) -> list[str]:
    if file.resolve() in seen:
        return []
    seen.add(file.resolve())
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise BuildError(
            f"{file} cannot be read: {error.strerror}", remedy=f"add or correct {file}"
        ) from error
    requirements: list[str] = []
    for line in text.splitlines():
        bare = line.split(" #")[0].strip()
        if not bare or bare.startswith("#"):
            continue
        if _LOCAL.search(bare):
            raise BuildError(
                f"{file}: {bare!r} names a local folder or file",
                remedy="put its sources into the application's folder, or publish it to a package index",
            )
        requirements.append(bare)
        if include := _INCLUDE.match(bare):
            requirements += _lines(file.parent / include[1], seen)
    return requirements


def own_lines(file: Path) -> list[str]:
    """The requirements of one file, what it includes named by absolute paths instead of taken in."""

    def absolute(include: re.Match[str]) -> str:
        return include[0].replace(include[1], str(file.parent / include[1]))

    return [_INCLUDE.sub(absolute, line) for line in _lines(file, set(_included(file)))]


def _included(file: Path) -> Iterator[Path]:
    for line in file.read_text(encoding="utf-8").splitlines():
        if include := _INCLUDE.match(line):
            yield (file.parent / include[1]).resolve()


def check_python(project: Project, version: str) -> None:
    """`BuildError` if the application refuses the machine's Python (`requires-python`)."""
    have = _numbers(version)
    for clause in filter(str.strip, project.requires_python.split(",")):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise BuildError(f"requires-python: {clause.strip()!r} is not understood", remedy="use >=3.11")
        if not _holds(have, match[1], _numbers(match[2]), prefix=bool(match[3])):
            raise BuildError(
                f"the application needs Python {project.requires_python}, but the machine's is {version}",
                remedy="build with another one (--python), or change requires-python",
            )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _holds(have: tuple[int, ...], operator: str, bound: tuple[int, ...], *, prefix: bool) -> bool:
    same = have[: len(bound)] == bound if prefix else _padded(have) == _padded(bound)
    match operator:
        case "==":
            return same
        case "!=":
            return not same
        case "~=":
            return _padded(have) >= _padded(bound) and have[: len(bound) - 1] == bound[:-1]
        case ">=":
            return _padded(have) >= _padded(bound)
        case "<=":
            return _padded(have) <= _padded(bound)
        case ">":
            return _padded(have) > _padded(bound)
        case _:
            return _padded(have) < _padded(bound)


def _padded(numbers: tuple[int, ...]) -> tuple[int, ...]:
    return (*numbers, *(0,) * (4 - len(numbers)))
