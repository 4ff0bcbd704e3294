"""`image.build`: a folder with a Python application in, an image in the local store out.

Three layers, most lasting first, so that a change to the sources rebuilds the smallest: the
machine's Python (`base`), the dependencies, the application. One that needs a build back end has a
fourth below its sources, what that made of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ondol.base.clock import Clock, SystemClock
from ondol.build import application, base, dates, dependencies, distribution, entry, interpreter, oci, server
from ondol.build import project as projects
from ondol.build import reference as references
from ondol.build.project import Project
from ondol.build.server import Server
from ondol.build.store import ImageStore

_TITLE: Final = "org.opencontainers.image."


@dataclass(frozen=True, slots=True)
class BuiltLayer:
    """One layer of a built image; `kind` is base, dependencies, project or application."""

    kind: str
    digest: str
    size_bytes: int
    reused: bool


@dataclass(frozen=True, slots=True)
class Built:
    """What a build did, for the command line to show."""

    reference: str
    digest: str
    size_bytes: int
    seconds: float
    command: tuple[str, ...]
    layers: tuple[BuiltLayer, ...]
    warnings: tuple[str, ...]


def build(
    directory: Path,
    reference: str,
    store: ImageStore,
    *,
    python: Path | None = None,
    serves: Server | None = None,
    exclude: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
    progress: Callable[[str], None] = lambda _: None,
    clock: Clock | None = None,
) -> Built:
    """Build the application in `directory` and name the image `reference` in the store.

    `python` is the Python to put into the image (this process's own machine Python if none is
    given); `serves` is a server around the application's code, which is started in its place; files that
    match `exclude` stay out; `progress` is told each step. `SOURCE_DATE_EPOCH` in the environment dates the
    image.
    """
    monotonic = (clock or SystemClock()).monotonic
    started_s = monotonic()
    reference = references.full(reference)
    project = projects.read(directory)
    project = replace(project, exclude=(*project.exclude, *exclude))
    runtime = interpreter.probe(python)
    projects.check_python(project, runtime.version)
    files = application.sources(project)
    epoch_s = dates.epoch_s(environment)
    layers: list[tuple[str, oci.Layer, bool]] = []
    with store.building():
        progress("base: the machine's Python")
        layers.append(("base", *base.layer(store, runtime, epoch_s=epoch_s)))
        project_layers: list[tuple[str, oci.Layer, bool]] = []
        if project.needs_build:
            progress("project: built by its back end")
            wheel = distribution.built(store, project, files, runtime, epoch_s=epoch_s)
            project, project_layers = wheel.project, [("project", wheel.layer, wheel.reused)]
        if serves is None:
            start = entry.find(project, files.files, python=base.PYTHON)
        else:
            start = entry.Entry(serves.entrypoint, serves.arguments, "", {})
        if lines := projects.requirement_lines(project):
            progress("dependencies")
            layers.append(
                ("dependencies", *dependencies.layer(store, project, lines, runtime, epoch_s=epoch_s))
            )
        layers += project_layers
        if serves is not None:
            layers.append(("server", *server.layer(store, serves, runtime, epoch_s=epoch_s)))
        progress("application")
        layer, reused, warnings = application.layer(
            store, files, start, runtime, metadata=_metadata(project), epoch_s=epoch_s
        )
        layers.append(("application", layer, reused))
        process = _process(project, files, start, runtime.version, serves)
        named = put_together(store, reference, process, layers, epoch_s=epoch_s)
    return replace(named, seconds=monotonic() - started_s, warnings=tuple(warnings))


def put_together(
    store: ImageStore,
    reference: str,
    process: oci.Process,
    layers: Sequence[tuple[str, oci.Layer, bool]],
    *,
    epoch_s: int,
) -> Built:
    """Name the image of these layers (each with its kind and whether it was there already)."""
    only = [layer for _, layer, _ in layers]
    config = oci.config(process, only, epoch_s=epoch_s)
    store.put(config)
    named = store.add(reference, oci.manifest(config, only, {}))
    return Built(
        reference=reference,
        digest=named.digest,
        size_bytes=named.size_bytes,
        seconds=0.0,
        command=(*process.entrypoint, *process.arguments),
        layers=tuple(BuiltLayer(kind, la.digest, la.size_bytes, again) for kind, la, again in layers),
        warnings=(),
    )


def _metadata(project: Project) -> Mapping[str, str]:
    """The metadata by which Python in the image knows the application; a built one brings its own."""
    return {} if project.needs_build else distribution.metadata_files(project)


def _process(
    project: Project,
    files: application.Sources,
    start: entry.Entry,
    version: str,
    serves: Server | None,
) -> oci.Process:
    roots = [entry.HOME]
    if any(key.startswith("src/") for key in files.files):
        roots.insert(0, f"{entry.HOME}/src")
    if project.needs_build:
        roots.insert(0, distribution.PLACE)
    if serves is not None:
        roots += serves.path
    labels = {"title": project.name, "version": project.version, "description": project.description}
    return oci.Process(
        entrypoint=start.entrypoint,
        arguments=start.arguments,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": base.HOME,
            "LANG": "C.UTF-8",
            "PORT": str(project.port),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": ":".join(roots),
            "PYTHONUNBUFFERED": "1",
            **(serves.env if serves is not None else {}),
            **project.env,
        },
        user=f"{base.USER_ID}:{base.USER_ID}",
        working_dir=entry.HOME,
        port=project.port,
        labels={
            **{_TITLE + key: text for key, text in labels.items() if text},
            "ondol.dev/python": version,
        },
    )
