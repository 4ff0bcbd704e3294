"""The dependencies layer: what pip (or uv) installs for the machine's Python, made reproducible.

Made once for the same requirements, Python and architecture, and then taken from the store. What
an installer leaves that differs from run to run (its name, its paths, its bytecode) is dropped or
made anew. Compiled packages are checked: each must be of this architecture, and the system
libraries they use beyond the base layer's come along.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ondol.base import errors
from ondol.build import base, bytecode, elf, libraries, oci, sdk, tools
from ondol.build import project as projects
from ondol.build.archive import Tree
from ondol.build.interpreter import Interpreter
from ondol.build.project import Project
from ondol.build.store import ImageStore

_RECIPE: Final = 1
_OF_THE_INSTALLER: Final = frozenset({"INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"})
_SHEBANG: Final = re.compile(rb"^#!.*python[^\n]*\n")


def layer(
    store: ImageStore, project: Project, lines: Sequence[str], python: Interpreter, *, epoch_s: int
) -> tuple[oci.Layer, bool]:
    """The layer of these requirements in the store, and whether it was there already."""
    title = f"ondol: {len(lines)} requirements for {python.abi}"
    provided = base.provided(store, python, epoch_s=epoch_s)
    has_sdk = any(sdk.is_named(line) for line in lines)
    key = f"deps-{_key([*lines, sdk.digest() if has_sdk else ''], python, provided, epoch_s)}"
    record = store.remembered(key)
    if record is not None and store.has(record["digest"]):
        return oci.Layer(record["digest"], record["size"], title), True
    with tempfile.TemporaryDirectory(prefix="ondol-dependencies-") as folder:
        target = Path(folder) / "installed"
        target.mkdir()
        install(project, python, target)
        if has_sdk:
            _add_sdk(target)
        content = tree(target, python, provided)
        with store.draft() as draft:
            content.write(draft, epoch_s=epoch_s)
    store.remember(key, {"digest": draft.digest, "size": draft.size_bytes})
    return oci.Layer(draft.digest, draft.size_bytes, title), False


def _key(lines: Sequence[str], python: Interpreter, provided: set[str], epoch_s: int) -> str:
    text = "\n".join([str(_RECIPE), str(epoch_s), python.abi, str(python.site), *lines, *sorted(provided)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def install(project: Project, python: Interpreter, target: Path) -> None:
    """The requirements of a project in a folder, by uv or pip."""
    command = [*installer(python), "--target", str(target), "-r", str(_requirements_file(project, target))]
    task = tools.Task(
        "installing the dependencies",
        "check the network and the package index",
        "the dependencies cannot be installed",
        f"correct the requirements in {project.directory}, or check the package index",
    )
    tools.run(task, command, project.directory)


def _requirements_file(project: Project, target: Path) -> Path:
    """The author's own, or one written for the installer: hashes are understood in files only."""
    lines = projects.requirement_lines(project)
    has_sdk = any(sdk.is_named(line) for line in lines)
    if project.requirements_file is not None:
        if not has_sdk:
            return project.requirements_file
        lines = projects.own_lines(project.requirements_file)
    others = [line for line in lines if not sdk.is_named(line)]
    file = target.parent / f"{target.name}.requirements.txt"
    file.write_text("\n".join([*others, *(sdk.requirements() if has_sdk else ())]) + "\n", encoding="utf-8")
    return file


def _add_sdk(installed: Path) -> None:
    """The Operator SDK as this machine has it, beside what was installed."""
    for name, path in sdk.files().items():
        (installed / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, installed / name)
    for name, text in sdk.metadata().items():
        (installed / name).parent.mkdir(exist_ok=True)
        (installed / name).write_text(text, encoding="utf-8")


def installer(python: Interpreter) -> list[str]:
    """The command of uv where it is installed (it is faster), else that of a pip."""
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--quiet", "--link-mode", "copy", "--python", str(python.executable)]
    options = ["install", "--quiet", "--no-compile", "--no-input", "--disable-pip-version-check"]
    return [*pip(python), *options, "--no-warn-script-location", "--root-user-action", "ignore"]


def pip(python: Interpreter) -> list[str]:
    """A pip that works for this Python; `HostError` if the machine has none."""
    for executable in (sys.executable, str(python.executable)):
        probe = subprocess.run([executable, "-m", "pip", "--version"], capture_output=True, check=False)
        if probe.returncode == 0:
            return [executable, "-m", "pip", "--python", str(python.executable)]
    raise errors.HostError(
        "the application has dependencies, but neither uv nor pip is installed",
        remedy="apt-get install python3-pip",
    )


def tree(installed: Path, python: Interpreter, provided: set[str], *, place: str = "") -> Tree:
    """What was installed, at its place in the image, with bytecode and system libraries.

    The place is that Python's site folder unless another is named.
    """
    root = Path(place) if place else python.site
    content = Tree()
    sources: dict[str, Path] = {}
    compiled_files: list[Path] = []
    for path in _files(installed):
        relative = path.relative_to(installed)
        if relative.parts[0] == "bin":
            content.text(f"/usr/local/bin/{relative.name}", _script(path), mode=0o755)
            continue
        target = str(root / relative)
        if path.name == "RECORD" and relative.parts[0].endswith(".dist-info"):
            content.text(target, _record(path))
            continue
        content.file(target, path)
        if path.suffix == ".py":
            sources[target] = path
        elif ".so" in path.name and elf.is_elf(path):
            compiled_files.append(path)
    for source, code in bytecode.compiled(sources, python).code.items():
        content.text(bytecode.cached_path(source, python), code)
    add_libraries(content, compiled_files, python, provided)
    return content


def add_libraries(
    content: Tree, compiled_files: Sequence[Path], python: Interpreter, provided: set[str]
) -> None:
    """The system libraries that compiled modules use beyond those of the base layer."""
    own = {path.name for path in compiled_files}
    search = libraries.Search.of_machine(python.multiarch)
    closure = libraries.closure(
        compiled_files, search, machine=python.machine, provided=provided | own | base.libpython(python)
    )
    linked = {os.path.realpath(path) for path in compiled_files}
    for path in sorted(closure.files):
        if Path(path).name not in provided and os.path.realpath(path) not in linked:
            content.copy(path)


def _files(installed: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(installed):
        folders[:] = sorted(folder for folder in folders if folder != "__pycache__")
        for name in sorted(files):
            if name not in _OF_THE_INSTALLER and not name.endswith(".pyc") and name != ".lock":
                yield Path(here) / name


def _script(path: Path) -> bytes:
    """A command of a dependency, run by the image's Python instead of the installer's."""
    content = path.read_bytes()
    return _SHEBANG.sub(f"#!{base.PYTHON}\n".encode(), content, count=1)


def _record(path: Path) -> str:
    """The list of a distribution's files without those that are not in the layer."""
    lines = [
        line
        for line in path.read_text(encoding="utf-8").splitlines()
        if (name := line.split(",", 1)[0]).rpartition("/")[2] not in _OF_THE_INSTALLER
        and "__pycache__" not in name
        and not name.startswith(("../", "bin/"))
    ]
    return "\n".join(sorted(lines)) + "\n"
