"""The command that starts an application, from its configuration or else from its files. Pure.

In this order: `[tool.ondol] entrypoint`; the `web` process of a `Procfile`; `[project.scripts]`;
`main.py`; `app.py`; `__main__.py` of the folder; the one package that has a `__main__.py`.

What Python runs (a file, `-m module`) are the image's arguments, Python itself is its entrypoint:
a Pod that gives `args` runs another module of the same image. A script's launcher is an entrypoint
on its own, so that a Pod's `args` are the program's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ondol.build.errors import BuildError
from ondol.build.project import Project

HOME: Final = "/app"
_SCRIPT_FOLDER: Final = "/usr/local/bin"
_TARGET: Final = re.compile(r"\s*([\w.]+)\s*:\s*([\w.]+)\s*")
_FILES: Final = ("main.py", "app.py", "__main__.py")


@dataclass(frozen=True, slots=True)
class Entry:
    """How to start: `file` is the source that runs first, empty if that is none of the application's.

    `launchers` are programs to add, by their paths in the image.
    """

    entrypoint: tuple[str, ...]
    arguments: tuple[str, ...]
    file: str
    launchers: Mapping[str, str]


def find(project: Project, files: Collection[str], *, python: str) -> Entry:
    """The entry of a project that has these files (paths relative to its folder)."""
    launchers = {
        f"{_SCRIPT_FOLDER}/{name}": _launcher(name, target, python)
        for name, target in sorted(project.scripts.items())
    }
    if project.entrypoint:
        words, launcher = _words(project), f"{_SCRIPT_FOLDER}/entrypoint"
        if _is_function(words[0], files):
            text = _launcher("entrypoint", words[0], python)
            return Entry((launcher,), tuple(words[1:]), "", {**launchers, launcher: text})
        return Entry(*_configured(words, project, files, python), "", launchers)
    if "web" in project.processes:
        return Entry(("/bin/sh", "-c"), (f"exec {project.processes['web']}",), "", launchers)
    if project.scripts:
        return Entry((f"{_SCRIPT_FOLDER}/{_script(project)}",), (), "", launchers)
    for name in _FILES:
        if name in files:
            return Entry((python,), (f"{HOME}/{name}",), name, launchers)
    packages = sorted(filter(None, (_runnable_package(path) for path in files)))
    if len(packages) == 1:
        return Entry((python,), ("-m", packages[0]), "", launchers)
    raise BuildError(
        f"{project.directory} has no entry: nothing says what to run"
        + (f" ({' and '.join(packages)} can all be run)" if packages else ""),
        remedy="add a main.py, or [project.scripts] or [tool.ondol] entrypoint to pyproject.toml",
    )


def _words(project: Project) -> list[str]:
    raw = project.entrypoint
    words = shlex.split(raw) if isinstance(raw, str) else [str(word) for word in raw]
    if not words or not words[0]:
        raise BuildError("[tool.ondol] entrypoint is empty", remedy="name a file or a command")
    return words


def _is_function(word: str, files: Collection[str]) -> bool:
    """Whether a word is `module:function` of a module that the application has."""
    module, colon, function = word.partition(":")
    path = module.replace(".", "/")
    places = (f"{path}.py", f"{path}/__init__.py")
    return bool(colon and function) and any(p in files or f"src/{p}" in files for p in places)


def _configured(
    words: Sequence[str], project: Project, files: Collection[str], python: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`[tool.ondol] entrypoint`: a module or a file, which Python runs, or any command."""
    if words[0] in {"python", "python3"}:
        return (python,), tuple(words[1:])
    if words[0].endswith(".py"):
        if words[0] not in files:
            raise BuildError(
                f"[tool.ondol] entrypoint names {words[0]}, which is not there",
                remedy=f"add it to {project.directory}",
            )
        return (python,), (f"{HOME}/{words[0]}", *words[1:])
    if _is_module(words[0], files):
        return (python,), ("-m", *words)
    return tuple(words), ()


def _is_module(word: str, files: Collection[str]) -> bool:
    path = word.replace(".", "/")
    places = (f"{path}.py", f"{path}/__main__.py")
    return any(place in files or f"src/{place}" in files for place in places)


def _script(project: Project) -> str:
    names = sorted(project.scripts)
    if project.name in names:
        return project.name
    if len(names) == 1:
        return names[0]
    raise BuildError(
        f"[project.scripts] has several entries ({', '.join(names)}) and none is named as the project",
        remedy="choose one with [tool.ondol] entrypoint",
    )


def _launcher(name: str, target: str, python: str) -> str:
    match = _TARGET.fullmatch(target)
    if match is None:
        raise BuildError(
            f"[project.scripts] {name} = {target!r} is not `module:function`", remedy="correct pyproject.toml"
        )
    module, function = match[1], match[2]
    top = function.split(".", 1)[0]
    return f"#!{python}\nimport sys\n\nfrom {module} import {top}\n\nsys.exit({function}())\n"


def _runnable_package(path: str) -> str:
    parts = path.removeprefix("src/").split("/")
    return ".".join(parts[:-1]) if parts[-1] == "__main__.py" and len(parts) == 2 else ""
