"""The application layer: the sources at `/app`, their bytecode, and launchers for their scripts."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.build import base, bytecode, dependencies, elf, ignoring, oci, secrecy
from ondol.build.archive import Tree
from ondol.build.entry import HOME, Entry
from ondol.build.errors import BuildError
from ondol.build.interpreter import Interpreter
from ondol.build.project import Project
from ondol.build.store import ImageStore

_NAMED_MAX: Final = 5
_LEFT_OUT: Final = frozenset(
    [
        ".func",
        ".git",
        ".hg",
        ".svn",
        ".venv",
        "venv",
        ".tox",
        ".nox",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".hypothesis",
        ".idea",
        ".vscode",
        ".DS_Store",
        "__pycache__",
        "node_modules",
    ]
)


@dataclass(frozen=True, slots=True)
class Sources:
    """The files that go into the image, by their paths relative to the folder; `secrets` stayed out."""

    files: Mapping[str, Path]
    links: Mapping[str, str]
    secrets: Sequence[str] = ()


def sources(project: Project) -> Sources:
    """The application's files.

    Left out is what belongs to tools, version control and virtual environments, what its ignore file
    names, and what looks like a secret.
    """
    choice = _Choice(project, ignoring.of(project.directory))
    files: dict[str, Path] = {}
    links: dict[str, str] = {}
    for here, folders, names in os.walk(project.directory):
        relative = os.path.relpath(here, project.directory)
        prefix = "" if relative == "." else f"{relative}/"
        for name in [*folders]:
            path = Path(here) / name
            if path.is_symlink():
                folders.remove(name)
                names.append(name)
            elif choice.leaves_out(path, prefix + name, is_folder=True):
                folders.remove(name)
        for name in names:
            path, key = Path(here) / name, prefix + name
            if choice.leaves_out(path, key, is_folder=False):
                continue
            if path.is_symlink():
                links[key] = _inner_target(path, project.directory)
            else:
                files[key] = path
    return Sources(files, links, tuple(sorted(choice.secrets)))


class _Choice:
    """Decides of each path; remembers which looked like secrets."""

    def __init__(self, project: Project, ignored: ignoring.Ignored) -> None:
        self.secrets: list[str] = []
        self._project = project
        self._ignored = ignored

    def leaves_out(self, path: Path, key: str, *, is_folder: bool) -> bool:
        name = path.name
        if name in _LEFT_OUT or name.endswith((".egg-info", ".pyc", ".pyo")):
            return True
        if _matches(key, self._project.exclude):
            return True
        if _matches(key, self._project.include):
            return False
        if is_folder and (path / "pyvenv.cfg").exists():
            return True
        if self._ignored.leaves_out(key, is_folder=is_folder):
            return not (is_folder and self._project.include)  # a file in it may be asked for
        is_secret = secrecy.is_secret_folder(name) if is_folder else secrecy.is_secret(path)
        if is_secret:
            self.secrets.append(key + "/" * is_folder)
        return is_secret


def _matches(path: str, patterns: Sequence[str]) -> bool:
    name = path.rpartition("/")[2]
    return any(fnmatch.fnmatch(path, p) or fnmatch.fnmatch(name, p) for p in patterns)


def _inner_target(link: Path, directory: Path) -> str:
    target = os.readlink(link)  # noqa: PTH115 - the text as it stands in the link
    inner = (link.parent / target).resolve()
    if Path(target).is_absolute() or not inner.is_relative_to(directory.resolve()):
        raise BuildError(
            f"{link} points out of the application, to {target}",
            remedy="replace the link by the file, or exclude it in [tool.ondol] exclude",
        )
    return target


def plain_layer(store: ImageStore, sources: Sources, *, epoch_s: int) -> tuple[oci.Layer, bool, list[str]]:
    """The layer of files that no Python runs; the same three as `layer`."""
    return (*_stored(store, _content(sources), epoch_s=epoch_s), _secrets_left_out(sources.secrets))


def _content(sources: Sources) -> Tree:
    content = Tree()
    content.folder(HOME)
    for key, path in sources.files.items():
        try:
            content.file(f"{HOME}/{key}", path)
        except OSError as error:
            raise BuildError(f"{path} cannot be read: {error.strerror}", remedy=f"check {path}") from error
    for key, target in sources.links.items():
        content.link(f"{HOME}/{key}", target)
    return content


def _stored(store: ImageStore, content: Tree, *, epoch_s: int) -> tuple[oci.Layer, bool]:
    before = {path.name for path in (store.directory / "blobs" / "sha256").iterdir()}
    with store.draft() as draft:
        content.write(draft, epoch_s=epoch_s)
    application = oci.Layer(draft.digest, draft.size_bytes, "ondol: the application")
    return application, draft.digest.partition(":")[2] in before


def layer(
    store: ImageStore,
    sources: Sources,
    entry: Entry,
    python: Interpreter,
    *,
    metadata: Mapping[str, str],
    epoch_s: int,
) -> tuple[oci.Layer, bool, list[str]]:
    """The layer in the store, whether the very same was there already, and warnings."""
    content = _content(sources)
    for key, text in metadata.items():
        content.text(f"{HOME}/{key}", text)
    for place, text in entry.launchers.items():
        content.text(place, text, mode=0o755)
    warnings = [*_secrets_left_out(sources.secrets), *_compile(content, sources, entry, python)]
    provided = base.provided(store, python, epoch_s=epoch_s)
    compiled_files = [p for key, p in sources.files.items() if key.endswith(".so") and elf.is_elf(p)]
    dependencies.add_libraries(content, compiled_files, python, provided)
    return (*_stored(store, content, epoch_s=epoch_s), warnings)


def _secrets_left_out(secrets: Sequence[str]) -> list[str]:
    if not secrets:
        return []
    names = ", ".join(secrets[:_NAMED_MAX])
    more = f" and {len(secrets) - _NAMED_MAX} more" if len(secrets) > _NAMED_MAX else ""
    remedy = "give them to pods as Secrets, or name them in [tool.ondol] include"
    return [f"left out, since they look like secrets: {names}{more}; {remedy}"]


def _compile(content: Tree, sources: Sources, entry: Entry, python: Interpreter) -> list[str]:
    done = bytecode.compiled(
        {f"{HOME}/{key}": path for key, path in sources.files.items() if key.endswith(".py")}, python
    )
    if entry.file and (problem := done.problems.get(f"{HOME}/{entry.file}")):
        raise BuildError(f"{entry.file} is not valid Python: {problem}", remedy=f"correct {entry.file}")
    for place, code in done.code.items():
        content.text(bytecode.cached_path(place, python), code)
    return [
        f"{place.removeprefix(HOME + '/')} is not valid Python: {problem}"
        for place, problem in sorted(done.problems.items())
    ]
