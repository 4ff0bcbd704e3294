"""What all commands share: the common options, ways to print, and errors as one line."""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer
import yaml

from ondol.base import errors, files
from ondol.cli.terminal import note, write

FAILED, WRONG_USAGE, NOT_RUNNING, NOT_FOUND, INTERRUPTED = 1, 2, 3, 4, 130


class UsageError(errors.OndolError):
    """Words of a command line that cannot be understood, whatever the server knows."""


class Format(enum.StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def _namespaces(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    from ondol.cli import completion  # noqa: PLC0415 - a client, which only a shell that completes needs

    return completion.namespaces(ctx, args, incomplete)


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
NamespaceOption = Annotated[
    str,
    typer.Option(
        "--namespace",
        "-n",
        help="Namespace to work in.",
        show_default="of the kubeconfig, or default",
        autocompletion=_namespaces,
    ),
]


class _Dumper(yaml.SafeDumper):
    """YAML for people: texts of several lines stand as they are."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def document(value: Any, form: Format) -> None:
    """Print a document as JSON or YAML; what neither knows, as a path, is printed as its text."""
    text = json.dumps(value, indent=2, default=str)
    if form is Format.YAML:
        text = yaml.dump(json.loads(text), Dumper=_Dumper, sort_keys=False).rstrip()
    write(text)


async def lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The lines of a stream, whole, however it is cut into chunks."""
    rest = b""
    async for chunk in chunks:
        *complete, rest = (rest + chunk).split(b"\n")
        for line in complete:
            if line.strip():
                yield line


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, width: int = 0) -> None:
    """Print columns three spaces apart, as kubectl does; lines are cut at `width` unless it is 0."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    for line in [list(header), *cells]:
        padded = zip(line, widths, strict=True)
        text = "   ".join(cell.ljust(column) for cell, column in padded).rstrip()
        write(text if not width or len(text) <= width else text[: width - 1] + "…")


def megabytes(count: float) -> str:
    """A size for people: in MB, or in kB where it is less than one."""
    if not count:
        return "-"
    return f"{count / (1 << 20):.0f} MB" if count >= 1 << 20 else f"{max(1, count // 1024):.0f} kB"


def end_with(failures: Sequence[errors.OndolError]) -> None:
    """End a command that went on past its failures; nothing if there were none."""
    if failures:
        all_missing = all(isinstance(error, errors.NotFound) for error in failures)
        raise typer.Exit(NOT_FOUND if all_missing else FAILED)


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
    except UsageError as error:
        note(f"error: {error}")
        raise typer.Exit(WRONG_USAGE) from error
    except errors.OndolError as error:
        note(f"error: {error}")
        raise typer.Exit(FAILED) from error
    except PermissionError as error:
        if error.filename is None:
            raise
        note(f"error: {error.filename} cannot be used: {error.strerror}\n  try: run as a user who may")
        raise typer.Exit(FAILED) from error
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def whole_file(target: Path, *, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A file to write, which is there whole or not at all; a device or a pipe is written to as it is.

    `HostError` if it cannot be written. A link stays one: what it leads to is replaced.
    """
    try:
        if target.exists() and not target.is_file():
            with target.open("wb", buffering=0) as file:
                yield file
            return
        place = target.resolve()
        with files.replacing(place, mode=mode) as file:
            yield file
    except OSError as error:
        raise errors.HostError(
            f"{target} cannot be written: {error.strerror}", remedy="choose another place"
        ) from error


def load_documents(path: str) -> Iterator[Mapping[str, Any]]:
    """Every document of a YAML or JSON file, of all such files of a folder, or of `-` (standard input)."""
    for source, text in _texts(path):
        try:
            documents = list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        except yaml.YAMLError as error:
            why = " ".join(str(error).split())
            raise errors.OndolError(f"{source} is not valid YAML: {why}") from error
        for item in documents:
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
