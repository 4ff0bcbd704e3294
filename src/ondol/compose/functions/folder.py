"""A function's folder: its `func.yaml`, and `.func`, where is kept what only this copy of it knows."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from ondol.base import errors, files, names
from ondol.serverless.functions import languages, reading, wellknown, writing
from ondol.serverless.functions.model import Function

_IGNORED: Final = f"/{wellknown.RUN_FOLDER}\n"


@dataclass(frozen=True, slots=True)
class Folder:
    """A function where it lies."""

    path: Path
    function: Function
    warnings: tuple[str, ...] = ()

    @property
    def own(self) -> Path:
        """Its `.func`, made if it is not there; git leaves it alone.

        What is written stays in the folder, which may be somebody else's: `HostError` for a link.
        """
        place = self.path / wellknown.RUN_FOLDER
        ignored = self.path / ".gitignore"
        for link in (place, ignored):
            if link.is_symlink():
                raise errors.HostError(f"{link} is a link: nothing is written there", remedy=f"remove {link}")
        place.mkdir(exist_ok=True)
        lines = ignored.read_text(encoding="utf-8").splitlines() if ignored.exists() else []
        if not {_IGNORED.strip(), wellknown.RUN_FOLDER, f"{wellknown.RUN_FOLDER}/"} & set(lines):
            with ignored.open("a", encoding="utf-8") as file:
                file.write(("\n" if lines and lines[-1].strip() else "") + _IGNORED)
        return place

    def changed(self, **fields: object) -> Folder:
        return replace(self, function=msgspec.structs.replace(self.function, **fields))

    def save(self) -> None:
        """Write `func.yaml`, if it says something else than before."""
        file = self.path / wellknown.FILE
        text = writing.text(self.function)
        if reading.read(file.read_text(encoding="utf-8")).function == self.function:
            return
        files.replace(file, text.encode(), mode=0o644)


def load(path: Path) -> Folder:
    """The function in a folder; one line that says what is wrong if there is none."""
    path = path.absolute()
    file = path / wellknown.FILE
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise errors.HostError(
            f"{path} is no function: there is no {wellknown.FILE}",
            remedy="go to its folder, name it with --path, or make one: ondol func create -l python NAME",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise errors.HostError(
            f"{file} cannot be read: {errors.why(error)}", remedy=f"correct {file}"
        ) from error
    checked = reading.read(text, str(file))
    function = checked.function
    if not function.name:
        function = msgspec.structs.replace(function, name=path.name)
    return Folder(path, function, checked.warnings)


def create(path: Path, language: str, template: str, now_s: float, note: Callable[[str], None]) -> Folder:
    """A new function in a folder, which is made or is empty."""
    path = path.absolute()
    if (path / wellknown.FILE).exists():
        raise errors.HostError(f"{path} has a function already", remedy="choose another folder")
    if path.exists() and not path.is_dir():
        raise errors.HostError(f"{path} is no folder", remedy="choose another name")
    if path.exists() and (present := sorted(p.name for p in path.iterdir() if not p.name.startswith("."))):
        raise errors.HostError(f"{path} is not empty: it has {present[0]}", remedy="choose another folder")
    name = path.name
    if not names.is_dns1035_label(name):
        raise errors.HostError(
            f"{name!r} is no name of a function: lower-case letters, digits and -, a letter first",
            remedy="choose another folder name",
        )
    contents = list(languages.template(language, template))
    try:
        path.mkdir(parents=True, exist_ok=True)
        for key, content in contents:
            (path / key).parent.mkdir(parents=True, exist_ok=True)
            (path / key).write_bytes(content)
        function = Function(
            spec_version=wellknown.SPEC_VERSION,
            name=name,
            runtime=language,
            created=datetime.fromtimestamp(now_s, UTC).isoformat(),
            invoke="cloudevent" if template == languages.EVENTS else "",
        )
        (path / wellknown.FILE).write_text(writing.text(function), encoding="utf-8")
    except OSError as error:
        raise errors.HostError(
            f"{path} cannot be written: {errors.why(error)}", remedy="choose another place"
        ) from error
    folder = Folder(path, function)
    note(f"created {language} function {posixpath.basename(path)} in {folder.own.parent}")
    return folder
