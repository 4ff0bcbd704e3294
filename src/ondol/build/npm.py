"""The dependencies layer of a Node.js application: what npm installs, made once for the same lock file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.base import errors
from ondol.build import oci, tools
from ondol.build.archive import Tree
from ondol.build.entry import HOME
from ondol.build.errors import BuildError
from ondol.build.store import ImageStore

_RECIPE: Final = 1
_LOCKS: Final = ("package-lock.json", "npm-shrinkwrap.json")
_LOCAL: Final = ("file:", "link:", ".", "/", "~")


@dataclass(frozen=True, slots=True)
class Packages:
    """What a package.json asks for, and the files that say it."""

    directory: Path
    files: Mapping[str, bytes]

    @property
    def is_locked(self) -> bool:
        return any(lock in self.files for lock in _LOCKS)

    @staticmethod
    def of(directory: Path, *, provided: Collection[str] = ()) -> Packages | None:
        """None where nothing is to be installed but what is provided; `BuildError` for a bad package.json."""
        file = directory / "package.json"
        try:
            document = json.loads(file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise BuildError(
                f"{file} cannot be read: {errors.why(error)}", remedy=f"correct {file}"
            ) from error
        asked = document.get("dependencies") if isinstance(document, dict) else None
        if not isinstance(asked, dict) or not set(asked) - set(provided):
            return None
        for name, version in asked.items():
            if str(version).startswith(_LOCAL):
                raise BuildError(
                    f"{file}: {name} is a local folder ({version})",
                    remedy="put its sources into the application's folder, or publish it",
                )
        names = ("package.json", *_LOCKS, ".npmrc")
        present = {name: directory / name for name in names if (directory / name).is_file()}
        return Packages(directory, {name: path.read_bytes() for name, path in present.items()})


def layer(store: ImageStore, packages: Packages, node: Path, *, epoch_s: int) -> tuple[oci.Layer, bool]:
    """The layer of these packages in the store, and whether it was there already."""
    status = node.stat()
    digest = hashlib.sha256(f"{_RECIPE} {epoch_s} {node} {status.st_size} {status.st_mtime_ns}".encode())
    for name, content in sorted(_deciding(packages).items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    key = f"npm-{digest.hexdigest()[:16]}"
    title = "ondol: npm packages"
    record = store.remembered(key)
    if record is not None and store.has(record["digest"]):
        return oci.Layer(record["digest"], record["size"], title), True
    with tempfile.TemporaryDirectory(prefix="ondol-npm-") as folder:
        place = Path(folder)
        install(packages, place)
        tree = _tree(place / "node_modules")
        with store.draft() as draft:
            tree.write(draft, epoch_s=epoch_s)
    store.remember(key, {"digest": draft.digest, "size": draft.size_bytes})
    return oci.Layer(draft.digest, draft.size_bytes, title), False


def _deciding(packages: Packages) -> dict[str, bytes]:
    """Of package.json only what is installed counts: a changed script installs nothing anew."""
    document = json.loads(packages.files["package.json"])
    asked = {
        key: document.get(key) for key in ("dependencies", "optionalDependencies", "overrides", "engines")
    }
    others = {name: content for name, content in packages.files.items() if name != "package.json"}
    return {**others, "package.json": json.dumps(asked, sort_keys=True).encode()}


def install(packages: Packages, place: Path) -> None:
    """`node_modules` in a folder, without what is only for development."""
    npm = shutil.which("npm")
    if npm is None:
        raise errors.HostError(
            "the application has npm packages, but npm is not installed", remedy="apt-get install npm"
        )
    for name, content in packages.files.items():
        (place / name).write_bytes(content)
    verb = ["ci"] if packages.is_locked else ["install", "--no-package-lock"]
    options = ["--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"]
    task = tools.Task(
        "installing the npm packages",
        "check the network and the registry",
        "the npm packages cannot be installed",
        f"correct package.json and its lock in {packages.directory}, or check the registry",
    )
    tools.run(task, [npm, *verb, *options], place)


def _tree(modules: Path) -> Tree:
    tree = Tree()
    tree.folder(f"{HOME}/node_modules")
    for here, folders, names in os.walk(modules):
        folders.sort()
        for name in sorted([*names, *(f for f in folders if (Path(here) / f).is_symlink())]):
            path = Path(here) / name
            key = f"{HOME}/node_modules/{path.relative_to(modules).as_posix()}"
            if path.is_symlink():
                tree.link(key, str(path.readlink()))
            else:
                tree.file(key, path)
    return tree
