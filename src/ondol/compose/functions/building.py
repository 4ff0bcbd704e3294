"""A function's folder into an image, by the builder of its language and with the server around it."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from ondol.base import errors
from ondol.build import application, base, golang, image, programs
from ondol.build import project as projects
from ondol.build.image import Built
from ondol.build.server import Server
from ondol.build.store import ImageStore
from ondol.compose.functions.folder import Folder
from ondol.serverless.functions import languages, validation, values, wellknown

EXCLUDE: Final = (wellknown.FILE, wellknown.RUN_FOLDER)
"""Of a function's folder: what changes without the function changing."""
_BROUGHT: Final = re.compile(r"func[-_.]python(?![\w-])", re.IGNORECASE)
_DIGITS: Final = 12
_LIB: Final = f"{languages.SERVER_FOLDER}/lib"


def reference(folder: Folder, namespace: str) -> str:
    """The name of its images here, without a tag."""
    return f"ondol.local/{namespace or 'default'}/{folder.function.name}"


def build(
    folder: Folder,
    store: ImageStore,
    namespace: str,
    *,
    environment: Mapping[str, str] = os.environ,
    progress: Callable[[str], None] = lambda _: None,
) -> Built:
    """The image, named twice: `latest`, and by its content, which is what is deployed."""
    if reason := validation.not_deployable(folder.function):
        raise errors.HostError(reason, remedy=f"correct {folder.path / wellknown.FILE}")
    languages.language(folder.function.runtime)
    environment = {**environment, **_build_environment(folder, environment)}
    name = reference(folder, namespace)
    built = _build(folder, f"{name}:latest", store, environment, progress)
    built = replace(built, warnings=(*built.warnings, *_without_effect(folder)))
    digits = built.digest.partition(":")[2][:_DIGITS]
    store.tag(f"{name}:latest", f"{name}:{digits}")
    return replace(built, reference=f"{name}:{digits}")


def _without_effect(folder: Folder) -> list[str]:
    """What Knative's own tool reads of a folder, and nobody does here."""
    file = folder.path / ".funcignore"
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    says_something = any(line.strip() and not line.lstrip().startswith("#") for line in lines)
    return [".funcignore has no effect: write .dockerignore or .gitignore"] if says_something else []


def _build_environment(folder: Folder, environment: Mapping[str, str]) -> dict[str, str]:
    return {
        env.name: values.resolved(env.value or "", environment)
        for env in folder.function.build.build_envs
        if env.name
    }


def _build(
    folder: Folder,
    name: str,
    store: ImageStore,
    environment: Mapping[str, str],
    progress: Callable[[str], None],
) -> Built:
    match folder.function.runtime:
        case "python":
            return image.build(
                folder.path,
                name,
                store,
                serves=_python(folder),
                exclude=EXCLUDE,
                environment=environment,
                progress=progress,
            )
        case "node":
            return programs.node(
                folder.path,
                name,
                store,
                _node(),
                provided=languages.NODE_PROVIDED,
                exclude=EXCLUDE,
                environment=environment,
                progress=progress,
            )
        case "go":
            golang.toolchain(environment)
            with tempfile.TemporaryDirectory(prefix="ondol-go-") as place:
                progress("compiling")
                compile_go(folder, Path(place), environment)
                return programs.plain(
                    Path(place), "function", name, store, environment=environment, progress=progress
                )
        case _:
            return programs.plain(
                folder.path,
                languages.EXECUTABLE,
                name,
                store,
                exclude=EXCLUDE,
                environment=environment,
                progress=progress,
            )


def check_python(folder: Folder) -> None:
    """`HostError` if there is no module `function`."""
    places = ("function/__init__.py", "function.py", "src/function/__init__.py", "src/function.py")
    if not any((folder.path / place).is_file() for place in places):
        raise errors.HostError(
            f"{folder.path} has no module `function`, which exports new or handle",
            remedy="add function/__init__.py",
        )


def brings_server(folder: Folder) -> bool:
    """Whether a Python function asks for `func-python`, and so is served by that."""
    project = projects.read(folder.path)
    return any(_BROUGHT.match(line.strip()) for line in projects.requirement_lines(project))


def _python(folder: Folder) -> Server:
    check_python(folder)
    return Server(
        title="the server of Python functions",
        files={f"{_LIB}/{key}": path for key, path in languages.python_server().items()},
        entrypoint=(base.PYTHON,),
        arguments=languages.python_words(
            takes_events=folder.function.takes_events, brings_server=brings_server(folder)
        ),
        path=(_LIB,),
    )


def _node() -> Server:
    place = f"{languages.SERVER_FOLDER}/server.js"
    return Server(
        title="the server of Node.js functions",
        files={place: languages.node_server()},
        entrypoint=(programs.NODE, place, "/app"),
        env={"NODE_ENV": "production"},
    )


def compile_go(folder: Folder, target: Path, environment: Mapping[str, str]) -> None:
    """The program `function` in a folder, with the function's files beside it."""
    project = projects.read(folder.path)
    sources = application.sources(replace(project, exclude=EXCLUDE))
    if golang.exports(sources, "New"):
        is_instanced = True
    elif golang.exports(sources, "Handle"):
        is_instanced = False
    else:
        raise errors.HostError(
            f"{folder.path} exports neither New nor Handle",
            remedy="see the template: ondol func create -l go",
        )
    mains = languages.go_mains(takes_events=folder.function.takes_events, is_instanced=is_instanced)
    golang.compiled(sources, mains, target, environment=environment)
