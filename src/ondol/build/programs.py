"""Images of what is no Python: a base layer of programs of this machine, and the author's files upon it.

`plain` is for an executable of the author's own (compiled to one file, or linked to libraries of this
machine), `node` for Node.js applications.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ondol.base import errors
from ondol.base.clock import Clock, SystemClock
from ondol.build import application, base, dates, elf, image, interpreter, npm, oci, server
from ondol.build import project as projects
from ondol.build import reference as references
from ondol.build.archive import Tree
from ondol.build.entry import HOME
from ondol.build.errors import BuildError
from ondol.build.image import Built
from ondol.build.interpreter import Interpreter
from ondol.build.server import Server
from ondol.build.store import ImageStore

_RECIPE: Final = 1
_WATCHED: Final = ("/etc/ld.so.cache", "/etc/ssl/certs/ca-certificates.crt", "/usr/share/zoneinfo/tzdata.zi")
NODE: Final = "/usr/bin/node"


def plain(
    directory: Path,
    program: str,
    reference: str,
    store: ImageStore,
    *,
    exclude: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
    progress: Callable[[str], None] = lambda _: None,
    clock: Clock | None = None,
) -> Built:
    """The image of a folder's files, of which it runs one: an executable that listens at `PORT`."""
    monotonic = (clock or SystemClock()).monotonic
    started_s = monotonic()
    executable = directory / program
    if not executable.is_file() or not os.access(executable, os.X_OK):
        raise BuildError(
            f"there is no executable {executable}", remedy=f"put it there, and chmod +x {program}"
        )
    if not elf.is_elf(executable):
        raise BuildError(
            f"{executable} is no program of Linux (ELF)", remedy="compile it; scripts need a language's image"
        )
    epoch_s = dates.epoch_s(environment)
    machine = interpreter.probe()
    with store.building():
        progress("base: the machine's libraries")
        layers = [("base", *_base(store, [], [executable], machine, epoch_s=epoch_s))]
        progress("application")
        layer, reused, warnings = _application(store, directory, exclude, epoch_s=epoch_s)
        layers.append(("application", layer, reused))
        process = _process((f"{HOME}/{program}",), (), {})
        built = image.put_together(store, references.full(reference), process, layers, epoch_s=epoch_s)
    return replace(built, seconds=monotonic() - started_s, warnings=tuple(warnings))


def node(
    directory: Path,
    reference: str,
    store: ImageStore,
    serves: Server,
    *,
    provided: Sequence[str] = (),
    exclude: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
    progress: Callable[[str], None] = lambda _: None,
    clock: Clock | None = None,
) -> Built:
    """The image of a Node.js application which the server runs: Node, dependencies, server, files.

    An application that asks only for packages that the server stands for (`provided`) has none installed.
    """
    monotonic = (clock or SystemClock()).monotonic
    started_s = monotonic()
    executable = node_executable()
    epoch_s = dates.epoch_s(environment)
    machine = interpreter.probe()
    with store.building():
        progress("base: the machine's Node.js")
        layers = [("base", *_base(store, [executable], [executable], machine, epoch_s=epoch_s))]
        if packages := npm.Packages.of(directory, provided=provided):
            progress("dependencies")
            layers.append(("dependencies", *npm.layer(store, packages, executable, epoch_s=epoch_s)))
        layers.append(("server", *server.layer(store, serves, machine, epoch_s=epoch_s)))
        progress("application")
        layer, reused, warnings = _application(store, directory, exclude, epoch_s=epoch_s)
        layers.append(("application", layer, reused))
        process = _process(serves.entrypoint, serves.arguments, serves.env)
        built = image.put_together(store, references.full(reference), process, layers, epoch_s=epoch_s)
    return replace(built, seconds=monotonic() - started_s, warnings=tuple(warnings))


def node_executable() -> Path:
    """This machine's Node.js; `HostError` if there is none."""
    executable = shutil.which("node")
    if executable is None:
        raise errors.HostError("this machine has no Node.js", remedy="apt-get install nodejs npm")
    return Path(executable).resolve()


def _base(
    store: ImageStore,
    programs: Sequence[Path],
    linked: Sequence[Path],
    machine: Interpreter,
    *,
    epoch_s: int,
) -> tuple[oci.Layer, bool]:
    """The programs, a shell and tools, and the libraries of all these and of what is `linked` besides."""
    digest = hashlib.sha256(f"{_RECIPE} {epoch_s} {machine.machine}\n".encode())
    needs = sorted(name for path in linked for name in elf.read(path).needed)
    for path in [*programs, *base.tools(), *map(Path, _WATCHED)]:
        if path.exists():
            status = path.stat()
            digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    digest.update(" ".join(needs).encode())
    key = f"programs-{digest.hexdigest()[:16]}"
    title = f"ondol: {', '.join(path.name for path in programs) or 'the libraries'} of this machine"
    record = store.remembered(key)
    if record is not None and store.has(record["digest"]):
        return oci.Layer(record["digest"], record["size"], title), True
    tree = Tree()
    for program in [*programs, *base.tools()]:
        tree.copy(str(program))
    for program in programs:
        if str(program) != f"/usr/bin/{program.name}":
            tree.link(f"/usr/bin/{program.name}", str(program))
    base.add_libraries(tree, [*linked, *base.tools()], machine)
    base.add_machine(tree, machine)
    with store.draft() as draft:
        tree.write(draft, epoch_s=epoch_s)
    store.remember(key, {"digest": draft.digest, "size": draft.size_bytes})
    return oci.Layer(draft.digest, draft.size_bytes, title), False


def _application(
    store: ImageStore, directory: Path, exclude: Sequence[str], *, epoch_s: int
) -> tuple[oci.Layer, bool, list[str]]:
    project = projects.read(directory)
    files = application.sources(replace(project, exclude=(*project.exclude, *exclude)))
    return application.plain_layer(store, files, epoch_s=epoch_s)


def _process(entrypoint: Sequence[str], arguments: Sequence[str], env: Mapping[str, str]) -> oci.Process:
    return oci.Process(
        entrypoint=entrypoint,
        arguments=arguments,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": base.HOME,
            "LANG": "C.UTF-8",
            "PORT": str(projects.PORT),
            **env,
        },
        user=f"{base.USER_ID}:{base.USER_ID}",
        working_dir=HOME,
        port=projects.PORT,
        labels={},
    )
