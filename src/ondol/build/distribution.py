"""The application as an installed distribution, so that `importlib.metadata` knows it in the image.

Name, version, entry points and requirements of a static `[project]` table are written down as the
installer would (https://packaging.python.org/specifications/core-metadata/), at no cost. What only a
build back end can tell or make (`setup.py`, `setup.cfg`, Poetry, dynamic fields, C extensions) is built
as a wheel by that back end, once for the same sources.
"""

from __future__ import annotations

import configparser
import email
import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ondol.build import application, base, dependencies, oci
from ondol.build.archive import Tree
from ondol.build.errors import BuildError
from ondol.build.interpreter import Interpreter
from ondol.build.project import Project
from ondol.build.store import ImageStore

PLACE: Final = "/opt/project"
"""Where a built application lies in the image, before its sources on the path of Python."""
_RECIPE: Final = 1
_BUILD_TIMEOUT_S: Final = 600
_LINES_MAX: Final = 12


def metadata_files(project: Project) -> dict[str, str]:
    """The files of the application's `.dist-info`, by their paths below the folder of the application."""
    if not project.name or not project.version:
        return {}
    folder = f"{_normalized(project.name)}-{project.version}.dist-info"
    headers = ["Metadata-Version: 2.1", f"Name: {project.name}", f"Version: {project.version}"]
    headers += [f"Summary: {project.description}"] if project.description else []
    headers += [f"Requires-Python: {project.requires_python}"] if project.requires_python else []
    headers += [f"Requires-Dist: {requirement}" for requirement in project.requirements]
    groups = {"console_scripts": project.scripts, **project.entry_points}
    sections = [f"[{group}]\n" + _entries(entries) for group, entries in sorted(groups.items()) if entries]
    files = {f"{folder}/METADATA": "\n".join(headers) + "\n", f"{folder}/INSTALLER": "ondol\n"}
    return {**files, f"{folder}/entry_points.txt": "\n".join(sections)} if sections else files


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _entries(entries: Mapping[str, str]) -> str:
    return "".join(f"{name} = {target}\n" for name, target in sorted(entries.items()))


@dataclass(frozen=True, slots=True)
class Wheel:
    """A built application: its layer, whether that was there already, and what it says of itself."""

    project: Project
    layer: oci.Layer
    reused: bool


def built(
    store: ImageStore, project: Project, sources: application.Sources, python: Interpreter, *, epoch_s: int
) -> Wheel:
    """The application built by its back end; its requirements and scripts are what the wheel says."""
    key = f"project-{_key(sources, python, epoch_s)}"
    record = store.remembered(key)
    if record is not None and store.has(record["digest"]):
        layer = oci.Layer(record["digest"], record["size"], _title(record["name"]))
        return Wheel(_described(project, record), layer, True)
    with tempfile.TemporaryDirectory(prefix="ondol-project-") as folder:
        installed = _install(_wheel(sources, python, Path(folder)), python, Path(folder) / "installed")
        described = _read(installed)
        provided = base.provided(store, python, epoch_s=epoch_s)
        content: Tree = dependencies.tree(installed, python, provided, place=PLACE)
        with store.draft() as draft:
            content.write(draft, epoch_s=epoch_s)
    record = {**described, "digest": draft.digest, "size": draft.size_bytes}
    store.remember(key, record)
    layer = oci.Layer(draft.digest, draft.size_bytes, _title(described["name"]))
    return Wheel(_described(project, record), layer, False)


def _title(name: str) -> str:
    return f"ondol: {name}, built"


def _key(sources: application.Sources, python: Interpreter, epoch_s: int) -> str:
    digest = hashlib.sha256(f"{_RECIPE}\n{epoch_s}\n{python.abi}\n{python.site}\n".encode())
    for name, path in sorted(sources.files.items()):
        digest.update(f"{name}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _wheel(sources: application.Sources, python: Interpreter, folder: Path) -> Path:
    """The wheel, built from a copy: back ends leave their own files beside the sources."""
    copy, wheels = folder / "sources", folder / "wheels"
    for name, path in sources.files.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy / name)
    _run([*dependencies.pip(python), "wheel", "--no-deps", "--quiet", "--wheel-dir", str(wheels), str(copy)])
    return next(wheels.glob("*.whl"))


def _install(wheel: Path, python: Interpreter, target: Path) -> Path:
    _run([*dependencies.installer(python), "--no-deps", "--target", str(target), str(wheel)])
    return target


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_BUILD_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise BuildError(
            f"building the application took more than {_BUILD_TIMEOUT_S} s",
            remedy="check the network and the package index",
        ) from error
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise BuildError(
            "the application cannot be built:\n  " + "\n  ".join(lines[-_LINES_MAX:]),
            remedy="correct its setup.py, setup.cfg or pyproject.toml",
        )


def _read(installed: Path) -> dict[str, str]:
    """Name, version, requirements and console scripts of the one distribution that is installed there."""
    info = next(installed.glob("*.dist-info"))
    message = email.message_from_string((info / "METADATA").read_text(encoding="utf-8"))
    requirements = [r for r in message.get_all("Requires-Dist") or () if "extra ==" not in r]
    return {
        "name": str(message["Name"]),
        "version": str(message["Version"]),
        "requirements": "\n".join(requirements),
        "scripts": "\n".join(f"{name}={target}" for name, target in _scripts(info).items()),
    }


def _scripts(info: Path) -> Mapping[str, str]:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # names keep their case
    file = info / "entry_points.txt"
    if file.exists():
        parser.read_string(file.read_text(encoding="utf-8"))
    return dict(parser["console_scripts"]) if "console_scripts" in parser else {}


def _described(project: Project, record: Mapping[str, str]) -> Project:
    """The project with what its wheel says of it."""
    scripts = dict(line.split("=", 1) for line in record["scripts"].splitlines())
    return replace(
        project,
        name=record["name"],
        version=record["version"],
        requirements=tuple(record["requirements"].splitlines()),
        scripts={name.strip(): target.strip() for name, target in scripts.items()},
    )
