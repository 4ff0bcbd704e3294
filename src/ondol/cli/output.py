"""What all commands share: the common options, ways to print, and errors as one line."""

from __future__ import annotations

import enum
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from ondol.base import errors

FAILED, NOT_RUNNING, NOT_FOUND = 1, 3, 4


class Format(enum.StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="ONDOL_DATA_DIR",
        help="Folder of the platform; each folder is a platform of its own.",
        show_default="/var/lib/ondol",
        readable=False,  # what cannot be read is said where it is read, as an error of ours
    ),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print.")]
NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="Namespace to work in.")]


def write(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")


def write_bytes(chunk: bytes) -> None:
    """Print bytes as they are, at once."""
    sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def note(text: str) -> None:
    """Say something to the person, not to the pipe."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def sudo() -> str:
    """What who came by sudo puts before the next command too: the platform's files are root's."""
    return "sudo " if "SUDO_UID" in os.environ else ""


class _Dumper(yaml.SafeDumper):
    """YAML for people: texts of several lines stand as they are."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def document(value: Any, form: Format) -> None:
    """Print a document as JSON or YAML."""
    if form is Format.YAML:
        write(yaml.dump(value, Dumper=_Dumper, sort_keys=False).rstrip())
    else:
        write(json.dumps(value, indent=2, default=str))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print columns two spaces apart, as kubectl does."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    for line in [list(header), *cells]:
        write("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def megabytes(count: float) -> str:
    return f"{count / (1 << 20):.0f} MB" if count else "-"


@contextmanager
def explained() -> Iterator[None]:
    """Turn expected errors into one line on standard error and a stable exit status."""
    try:
        yield
    except errors.HostError as error:
        note(f"error: {error}" + (f"\n  try: {error.remedy}" if error.remedy else ""))
        raise typer.Exit(NOT_RUNNING if isinstance(error, errors.NotRunning) else FAILED) from error
    except errors.NotFound as error:
        note(f"error: {error.message}")
        raise typer.Exit(NOT_FOUND) from error
    except errors.ApiError as error:
        note(f"error: {error.message}")
        raise typer.Exit(FAILED) from error
    except errors.OndolError as error:
        note(f"error: {error}")
        raise typer.Exit(FAILED) from error
    except BrokenPipeError:
        raise typer.Exit(0) from None


def load_documents(path: str) -> Iterator[Mapping[str, Any]]:
    """Every document of a YAML or JSON file, of all such files of a folder, or of `-` (standard input)."""
    for source, text in _texts(path):
        try:
            found = list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        except yaml.YAMLError as error:
            why = " ".join(str(error).split())
            raise errors.OndolError(f"{source} is not valid YAML: {why}") from error
        for item in found:
            if item is not None:
                yield from _members(source, item)


def _members(source: str, item: Any) -> Iterator[Mapping[str, Any]]:
    """The document, or what is in it if it is a List."""
    if not isinstance(item, dict) or "kind" not in item or "apiVersion" not in item:
        raise errors.OndolError(f"{source}: a document has no apiVersion and kind")
    if item["kind"] != "List":
        yield item
        return
    for member in item.get("items") or ():
        yield from _members(source, member)


def _texts(path: str) -> Iterator[tuple[str, str]]:
    if path == "-":
        yield "standard input", sys.stdin.read()
        return
    place = Path(path)
    if not place.exists():
        raise errors.OndolError(f"{path}: no such file or folder")
    files = (
        sorted(f for f in place.iterdir() if f.suffix in {".yaml", ".yml", ".json"})
        if place.is_dir()
        else [place]
    )
    for file in files:
        try:
            yield str(file), file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise errors.OndolError(f"{file} is not text: {error.reason}") from error
        except OSError as error:
            raise errors.OndolError(f"{file} cannot be read: {error.strerror}") from error
