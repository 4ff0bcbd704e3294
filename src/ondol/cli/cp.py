"""The command `cp`: files between this machine and a container, which needs a `tar`, as with kubectl."""

from __future__ import annotations

import os
import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Final, NamedTuple

import anyio
import typer

from ondol.base import errors
from ondol.cli import connection, output, speaking, terminal
from ondol.cli.connection import KubeconfigOption
from ondol.cli.output import DataDir, NamespaceOption
from ondol.cli.speaking import ContainerOption
from ondol.client import remote_command

Write = Callable[[bytes], object]
_CHUNK: Final = 64 * 1024
_SPOOLED_BYTES_MAX: Final = 8 * 1024 * 1024


class Place(NamedTuple):
    """A path, in a pod if one is named."""

    path: str
    pod: str = ""
    namespace: str = ""


def copy(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="`file`, `pod:path` or `namespace/pod:path`.")
    ],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The same; one of the two is in a pod.")],
    container: ContainerOption = "",
    data_dir: DataDir = None,
    kubeconfig: KubeconfigOption = "",
    namespace: NamespaceOption = "",
) -> None:
    """Copy files and folders to or from a container that has a `tar`."""

    async def run() -> None:
        origin, destination = place(source), place(target)
        if bool(origin.pod) == bool(destination.pod):
            raise output.UsageError("one of the two is a path here, and one is `pod:path`")
        inner = origin if origin.pod else destination
        connected = connection.connect(data_dir, kubeconfig, inner.namespace or namespace)
        async with aclosing(connected.client) as client:
            where = speaking.Target(client, connected.namespace, inner.pod, container)
            with tempfile.SpooledTemporaryFile(_SPOOLED_BYTES_MAX) as archive:
                if origin.pod:
                    await _download(where, origin.path, Path(destination.path), archive)
                else:
                    await _upload(where, Path(origin.path), destination.path, archive)

    with output.explained():
        anyio.run(run)


def place(text: str) -> Place:
    """`path`, `pod:path` or `namespace/pod:path`; what begins like a path is one, with a colon or not."""
    owner, colon, path = text.partition(":")
    if not colon or text.startswith((".", "/")) or owner.count("/") > 1:
        return Place(text)
    namespace, _, pod = owner.rpartition("/")
    if not pod or not path:
        raise output.UsageError(f"{text!r} is neither a path nor `pod:path`")
    return Place(path, pod, namespace)


async def _download(where: speaking.Target, source: str, target: Path, archive: IO[bytes]) -> None:
    path = posixpath.normpath(source)
    folder, name = posixpath.split(path)
    await _tar(where, ["tar", "cf", "-", "-C", folder or ".", name or "."], archive.write)
    archive.seek(0)
    _unpack(archive, name, target)


def _unpack(archive: IO[bytes], name: str, target: Path) -> None:
    if target.is_dir() and name not in ("", "."):
        target = target / name
    with tarfile.open(fileobj=archive, mode="r|") as members:
        for member in members:
            _extract(members, member, name, target)


def _extract(members: tarfile.TarFile, member: tarfile.TarInfo, name: str, target: Path) -> None:
    """Under the name that was asked for; whatever leads out of it is refused."""
    inner = posixpath.relpath(posixpath.normpath(member.name), name or ".")
    if member.issym() or member.islnk():
        terminal.note(f"warning: {member.name}: links are not copied")
        return
    if inner.startswith(".."):
        raise errors.BadRequest(f"{member.name} is not in what was asked for")
    path = target / inner
    if not path.parent.resolve().is_relative_to(target.parent.resolve()):  # by a link that was there before
        raise errors.BadRequest(f"{member.name} is not in what was asked for")
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
    elif (content := members.extractfile(member)) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb", opener=partial(_opened, member.mode)) as file:
            shutil.copyfileobj(content, file, _CHUNK)
    else:
        terminal.note(f"warning: {member.name}: neither a file nor a folder")


def _opened(mode: int, path: str, flags: int) -> int:
    """A file for its owner to read and write, executable if it was; a link in its place is refused."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o644 | (mode & 0o111))


async def _upload(where: speaking.Target, source: Path, target: str, archive: IO[bytes]) -> None:
    folder, name = posixpath.split(target)
    if not name or await _is_folder(where, target):
        folder, name = target, ""
    _pack(source, name, archive)
    await _tar(where, ["tar", "xmf", "-", "-C", folder or "."], lambda _: None, archive)


def _pack(source: Path, name: str, archive: IO[bytes]) -> None:
    """Under another name, if there is one."""
    if not source.exists():
        raise errors.HostError(f"{source} does not exist")
    with tarfile.open(fileobj=archive, mode="w") as members:
        members.add(source, name or source.resolve().name)
    archive.seek(0)


async def _is_folder(where: speaking.Target, path: str) -> bool:
    try:
        return await _run(where, ["test", "-d", path], lambda _: None, None, bytearray()) == 0
    except errors.Internal:  # it has no `test`
        return False


async def _tar(
    where: speaking.Target, command: list[str], write: Write, archive: IO[bytes] | None = None
) -> None:
    complaints = bytearray()
    code = await _run(where, command, write, archive, complaints)
    if code != 0:
        why = complaints.decode(errors="replace").strip() or f"tar ended with {code}"
        raise errors.BadRequest(f"{where.pod}: {why}")


async def _run(
    where: speaking.Target, command: list[str], write: Write, stdin: IO[bytes] | None, complaints: bytearray
) -> int:
    query = [("stdout", "true"), ("stderr", "true"), ("stdin", "true" if stdin else "false")]
    query += [("container", where.container)] if where.container else []
    query += [("command", word) for word in command]
    async with where.client.converse(where.path("exec"), query, remote_command.PROTOCOL) as socket:
        outputs = {remote_command.STDOUT: write, remote_command.STDERR: complaints.extend}
        return await remote_command.run(socket, outputs, _chunks(stdin) if stdin else None)


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while data := file.read(_CHUNK):
        yield data
