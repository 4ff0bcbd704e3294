"""How the process of a function is started on this machine, in no container: command and environment.

What a language needs first (packages, a compiled program) is made below `.func`, once for the same input.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ondol.base import errors
from ondol.build import dependencies, interpreter, npm, programs
from ondol.build import project as projects
from ondol.build.interpreter import Interpreter
from ondol.compose.functions import building
from ondol.compose.functions.folder import Folder
from ondol.serverless.functions import languages, values


@dataclass(frozen=True, slots=True)
class Command:
    """What to start, and what the language adds to its environment."""

    words: tuple[str, ...]
    env: Mapping[str, str]


def command(folder: Folder, environment: Mapping[str, str] = os.environ) -> Command:
    """Make what is needed, which may take a while, and say how to start."""
    match folder.function.runtime:
        case "python":
            return _python(folder)
        case "node":
            return _node(folder)
        case "go":
            return _go(folder, environment)
        case name:
            languages.language(name)
            return _executable(folder)


def variables(folder: Folder, extra: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """The environment that func.yaml and the command line give; what only a cluster has is left out."""
    chosen = {}
    for env in folder.function.run.envs:
        if env.name is not None and env.value is not None and values.keyed(env.value) is None:
            chosen[env.name] = values.resolved(env.value, environment)
    return {**chosen, **extra}


def unavailable(folder: Folder) -> list[str]:
    """Variables that come from Secrets and ConfigMaps, which a host has not."""
    return [env.name or str(env.value) for env in folder.function.run.envs if _is_of_cluster(env.value or "")]


def _is_of_cluster(value: str) -> bool:
    return values.keyed(value) is not None or values.whole(value) is not None


def _python(folder: Folder) -> Command:
    building.check_python(folder)
    python = interpreter.probe()
    lib = folder.own / "lib"
    for key, path in languages.python_server().items():
        (lib / key).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, lib / key)
    project = projects.read(folder.path)
    projects.check_python(project, python.version)
    program = languages.python_words(
        takes_events=folder.function.takes_events, brings_server=building.brings_server(folder)
    )
    sources = [str(place) for place in (folder.path / "src", folder.path) if place.is_dir()]
    roots = [*sources, str(lib), *_installed(folder, project, python)]
    # Nothing of this machine's or a virtual environment's packages is in sight: only what it asks for.
    words = (str(python.executable), "-S", "-P", "-u", *program)
    # Bytecode goes by a file's size and the second it was written in: a change within it would go unseen.
    return Command(words, {"PYTHONPATH": os.pathsep.join(roots), "PYTHONDONTWRITEBYTECODE": "1"})


def _installed(folder: Folder, project: projects.Project, python: Interpreter) -> list[str]:
    lines = projects.requirement_lines(project)
    if not lines:
        return []
    key = hashlib.sha256("\n".join([python.abi, python.version, *lines]).encode()).hexdigest()[:16]
    place = folder.own / f"python-{key}" / "site-packages"
    if not place.exists():
        for old in folder.own.glob("python-*"):
            shutil.rmtree(old)
        with tempfile.TemporaryDirectory(prefix="install-", dir=folder.own) as temporary:
            target = Path(temporary) / "site-packages"
            target.mkdir()
            dependencies.install(project, python, target)
            place.parent.mkdir()
            target.rename(place)
    return [str(place)]


def _node(folder: Folder) -> Command:
    node = programs.node_executable()
    env = {}
    packages = npm.Packages.of(folder.path, provided=languages.NODE_PROVIDED)
    if packages is not None and not (folder.path / "node_modules").exists():
        env["NODE_PATH"] = str(_modules(folder, packages))
    return Command((str(node), str(languages.node_server()), str(folder.path)), env)


def _modules(folder: Folder, packages: npm.Packages) -> Path:
    content = b"\0".join(name.encode() + b"\0" + text for name, text in sorted(packages.files.items()))
    place = folder.own / f"node-{hashlib.sha256(content).hexdigest()[:16]}"
    if not place.exists():
        for old in folder.own.glob("node-*"):
            shutil.rmtree(old)
        with tempfile.TemporaryDirectory(prefix="install-", dir=folder.own) as temporary:
            npm.install(packages, Path(temporary))
            Path(temporary).rename(place)
            Path(temporary).mkdir()  # for the one who takes it away
    return place / "node_modules"


def _go(folder: Folder, environment: Mapping[str, str]) -> Command:
    target = folder.own / "go"
    with tempfile.TemporaryDirectory(prefix="compile-", dir=folder.own) as temporary:
        building.compile_go(folder, Path(temporary), environment)
        target.mkdir(exist_ok=True)
        (Path(temporary) / "function").replace(target / "function")
    return Command((str(target / "function"),), {})


def _executable(folder: Folder) -> Command:
    program = folder.path / languages.EXECUTABLE
    if not os.access(program, os.X_OK):
        raise errors.HostError(
            f"there is no executable {program}", remedy=f"put it there, and chmod +x {languages.EXECUTABLE}"
        )
    return Command((str(program),), {})


def version_of(toolchain: str, environment: Mapping[str, str] = os.environ) -> str:
    """What a toolchain of this machine says of itself; empty if it is not there."""
    name = environment.get("FUNC_GO", toolchain) if toolchain == "go" else toolchain
    program = shutil.which(name)
    if program is None:
        return ""
    flag = "version" if toolchain == "go" else "--version"
    done = subprocess.run([program, flag], capture_output=True, text=True, check=False)
    return done.stdout.strip()
