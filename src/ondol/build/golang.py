"""A Go application compiled to one static program, with main files that somebody else gives.

The files go into a folder of the application's own module, so that they are compiled against exactly what its
go.mod and go.sum say; where they import `function`, the module's own name is put.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ondol.base import errors
from ondol.build import tools
from ondol.build.application import Sources
from ondol.build.errors import BuildError

_MODULE: Final = re.compile(r"^\s*module\s+\"?([^\s\"]+)\"?", re.MULTILINE)
_IMPORT: Final = re.compile(r'"function"')
_FOLDER: Final = "ondolmain"


def toolchain(environment: Mapping[str, str] = os.environ) -> str:
    """The `go` of this machine (or `FUNC_GO`); `HostError` if there is none."""
    program = shutil.which(environment.get("FUNC_GO") or "go")
    if program is None:
        raise errors.HostError(
            "this machine has no Go toolchain",
            remedy="apt-get install golang-go, or set FUNC_GO to a newer one",
        )
    return program


def compiled(
    sources: Sources,
    mains: Mapping[str, Path],
    target: Path,
    *,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Copy the application to the folder `target`, and compile it there to the program `function`."""
    go = toolchain(environment)
    for name, path in sources.files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target / name)
    module = _module(target / "go.mod")
    folder = target / _FOLDER
    folder.mkdir()
    for name, path in mains.items():
        text = path.read_text(encoding="utf-8")
        (folder / name).write_text(_IMPORT.sub(f'"{module}"', text), encoding="utf-8")
    command = [
        go,
        "build",
        "-trimpath",
        "-buildvcs=false",
        "-ldflags=-s -w -buildid=",
        "-o",
        "function",
        f"./{_FOLDER}",
    ]
    env = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", **environment, "GOFLAGS": _flags(environment)}
    task = tools.Task(
        "compiling",
        "check the network and the Go module proxy",
        "the function cannot be compiled",
        "correct it; go vet ./... shows more",
        shows_first=True,
    )
    tools.run(task, command, target, env)
    shutil.rmtree(folder)


def _flags(environment: Mapping[str, str]) -> str:
    """The user's, and leave to name what go.mod leaves out."""
    flags = environment.get("GOFLAGS", "")
    return flags if "-mod=" in flags else f"{flags} -mod=mod".strip()


def _module(file: Path) -> str:
    try:
        match = _MODULE.search(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        match = None
    if match is None:
        raise BuildError(f"{file.name} is missing, or names no module", remedy="go mod init function")
    return match[1]


def exports(sources: Sources, name: str) -> bool:
    """Whether a file of the application's own package has this function at its top."""
    pattern = re.compile(rf"^func\s+{name}\s*\(", re.MULTILINE)
    return any(
        "/" not in key
        and key.endswith(".go")
        and not key.endswith("_test.go")
        and pattern.search(path.read_text(encoding="utf-8", errors="replace"))
        for key, path in sources.files.items()
    )
