"""The languages of functions: what each begins as, needs, and is served by (package data, read here)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.base import errors
from ondol.serverless.functions import wellknown

_HERE: Final = Path(__file__).parent
_SUFFIX: Final = ".tmpl"
SERVER_FOLDER: Final = "/opt/ondol"
"""Where a function's server stands in its image."""
EVENTS: Final = "cloudevents"


@dataclass(frozen=True, slots=True)
class Language:
    """A language; `toolchain` is the program without which nothing of it is built, empty for none."""

    name: str
    templates: tuple[str, ...]
    toolchain: str
    remedy: str = ""


LANGUAGES: Final = (
    Language(wellknown.EXECUTABLE, ("http",), ""),
    Language("go", ("cloudevents", "http"), "go", "apt-get install golang-go, or set FUNC_GO to a newer one"),
    Language("node", ("cloudevents", "http"), "node", "apt-get install nodejs npm"),
    Language("python", ("cloudevents", "http"), ""),
)
NODE_PROVIDED: Final = ("faas-js-runtime",)
"""What our server stands for."""
EXECUTABLE: Final = "main"
"""The program of a function in the language `executable`."""


def language(name: str) -> Language:
    """`HostError` for a language that is none of these."""
    for each in LANGUAGES:
        if each.name == name:
            return each
    words = f"the language {name} is not supported" if name else "no language is named"
    raise errors.HostError(words, remedy=f"use one of: {', '.join(each.name for each in LANGUAGES)}")


def template(name: str, template: str) -> Iterator[tuple[str, bytes]]:
    """The files of a new function, by their paths in its folder."""
    if template not in language(name).templates:
        raise errors.HostError(
            f"there is no template {template} for {name}",
            remedy=f"use one of: {', '.join(language(name).templates)}",
        )
    folder = _HERE / "templates" / name / template
    for path in sorted(folder.rglob(f"*{_SUFFIX}")):
        yield path.relative_to(folder).as_posix().removesuffix(_SUFFIX), path.read_bytes()


def python_server() -> dict[str, Path]:
    """The files of the package `ondol_function`, by their paths beside each other."""
    folder = _HERE / "runtimes" / "python"
    return {f"ondol_function/{path.name}": path for path in sorted(folder.glob("*.py"))}


def python_words(*, takes_events: bool, brings_server: bool) -> tuple[str, ...]:
    """What Python runs: our server, which hands over to `func-python` where the function brings that.

    `-m module` is what a container that is forked from a running Python may be started with.
    """
    options = {"cloudevent": takes_events, "func-python": brings_server}
    return ("-m", "ondol_function", *(word for word, is_asked in options.items() if is_asked))


def node_server() -> Path:
    return _HERE / "runtimes" / "node" / "server.js"


def go_mains(*, takes_events: bool, is_instanced: bool) -> dict[str, Path]:
    """The main files that a Go function is compiled with."""
    names = ("serve", "cloudevent" if takes_events else "http", "instanced" if is_instanced else "static")
    return {f"{name}.go": _HERE / "runtimes" / "go" / f"{name}.go" for name in names}
