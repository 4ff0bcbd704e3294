"""Layers unpacked once into directories that overlayfs can stack.

A layer is unpacked beside its place and renamed when all of it, digest included, proved right: a
directory under `<data>/layers` is always whole. Deletions (`.wh.` entries) become what overlayfs
understands: a 0/0 character device for a name, an attribute for a whole directory.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final, Self

from ondol.base import errors, trees, zstd
from ondol.base.sparing import Room
from ondol.node import paths
from ondol.node.images.store import ImageCorrupt, ImageStore, Layer

_WHITEOUT: Final = ".wh."
_GZIP: Final = b"\x1f\x8b"
_OPAQUE: Final = ".wh..wh..opq"
_XATTR: Final = "SCHILY.xattr."
_HEADERS: Final = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_HEADER_BYTES_MAX: Final = 1 << 20
_CHUNK_BYTES: Final = 1 << 20
_ENTRIES_MAX: Final = 4_000_000
"""One that replaces a file again and again takes no room, but for ever."""
_BROKEN: Final = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError, errors.Invalid)


class _Hashed(io.RawIOBase):
    """A file read through a digest."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        chunk = self._source.read(size)
        self.digest.update(chunk)
        return chunk

    def exhaust(self) -> None:
        while self.read(1 << 20):
            pass


class Layers:
    """Unpacked layers under one directory; safe to use from several threads."""

    def __init__(self, root: Path, store: ImageStore) -> None:
        self.root = root
        self._store = store
        self._locks: dict[str, threading.Lock] = {}
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in root.glob(".unpacking-*"):
            trees.remove(leftover)

    def path(self, digest: str) -> Path:
        return self.root / digest.partition(":")[2]

    def unpack(self, layer: Layer) -> Path:
        """The layer's directory, unpacked now if it was not; blocks, `ImageCorrupt` when it is broken."""
        target = self.path(layer.digest)
        if target.exists():
            return target
        # One a layer, so that an image which takes long holds up no other's.
        with self._locks.setdefault(layer.digest, threading.Lock()):
            if not target.exists():
                self._unpack(layer, target)
        return target

    def _unpack(self, layer: Layer, target: Path) -> None:
        beside = self.root / f".unpacking-{target.name}"
        beside.mkdir(mode=0o755)
        try:
            self._extract(layer, beside)
            beside.rename(target)
        except _BROKEN as error:
            raise ImageCorrupt(f"layer {layer.digest} cannot be unpacked: {error}") from error
        finally:
            trees.remove(beside)

    def _extract(self, layer: Layer, into: Path) -> None:
        with self._store.blob_path(layer.digest).open("rb") as blob:
            beginning = blob.read(len(zstd.MAGIC))
            blob.seek(0)
            hashed = _Hashed(blob)
            with (
                _decompressed(hashed, beginning) as stream,
                _archive(stream) as archive,
                _Tree(into) as tree,
            ):
                for count, member in enumerate(archive, start=1):
                    if count > _ENTRIES_MAX:
                        raise ImageCorrupt(f"it has more than {_ENTRIES_MAX} entries")
                    tree.room.take(0, files=1)
                    _place(archive, member, tree)
                    # tarfile remembers every entry: of a megabyte that is packed well, hundreds of megabytes.
                    archive.members.clear()  # type: ignore[attr-defined]  # tarfile's own, not in its stubs
            hashed.exhaust()
        if hashed.digest.hexdigest() != target_digest(layer):
            raise ImageCorrupt(f"layer {layer.digest} does not match its digest")


def target_digest(layer: Layer) -> str:
    return layer.digest.partition(":")[2]


@contextmanager
def _decompressed(source: _Hashed, beginning: bytes) -> Iterator[IO[bytes]]:
    """The tar in a blob. Its bytes decide how it is packed: skopeo names a plain layer gzipped."""
    if beginning.startswith(_GZIP):
        with gzip.GzipFile(fileobj=source) as stream:
            yield stream  # type: ignore[misc]  # a GzipFile reads like any binary file
    elif beginning == zstd.MAGIC:
        yield zstd.reader(source)  # type: ignore[arg-type]  # it reads like any binary file
    else:
        yield source  # type: ignore[misc]  # it reads like any binary file


@contextmanager
def _archive(stream: IO[bytes]) -> Iterator[tarfile.TarFile]:
    with tarfile.open(fileobj=stream, mode="r|", errorlevel=2, tarinfo=_Member) as archive:
        yield archive


class _Member(tarfile.TarInfo):
    """An entry whose attributes and long names are bounded: tarfile reads each of these into memory whole."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADERS and self.size > _HEADER_BYTES_MAX:
            raise ImageCorrupt(f"an entry has attributes of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return]  # tarfile's own, not in its stubs


class _Tree:
    """The folder a layer is unpacked in: an entry's folder is found as inside a container, by descriptors.

    No link of the layer leads out of it: an absolute one begins at the layer's own root.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._parent_stack = ExitStack()
        self._parent_name = ""

    def __enter__(self) -> Self:
        self._descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.room = Room(self._descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        self._parent_stack.close()
        os.close(self._descriptor)

    def folder(self, name: str) -> Path:
        """What an entry's parent is, made where missing; valid until the next call.

        Entries come folder by folder, so the last one is kept open.
        """
        parent = os.path.dirname(name)  # noqa: PTH120 - a name in an archive, not a path of this machine
        if not self._parent_name or self._parent_name != parent:
            self.forget()
            walk = paths.opened(self._root, parent, as_root=True, missing=paths.NewFolder(0o755))
            self._place = Path(paths.by_descriptor(self._parent_stack.enter_context(walk)))
            self._parent_name = parent
        return self._place

    def forget(self) -> None:
        """A name may stand for something else from now on."""
        self._parent_stack.close()
        self._parent_name = ""


def _place(archive: tarfile.TarFile, member: tarfile.TarInfo, tree: _Tree) -> None:
    name = _inner_name(member.name)
    if not name:
        return
    base = os.path.basename(name)  # noqa: PTH119 - likewise
    if base == _OPAQUE:
        os.setxattr(tree.folder(name), "trusted.overlay.opaque", b"y")
    elif base.startswith(_WHITEOUT):
        _delete(tree.folder(name), base.removeprefix(_WHITEOUT), member)
    elif member.islnk():
        _link(member, tree, name)
    else:
        _write(archive, member, tree, name)


def _inner_name(name: str) -> str:
    """An entry's name without what it need not say; empty for the root itself."""
    inner = os.path.normpath(name.lstrip("/"))
    if inner.startswith("../") or inner == "..":
        raise ImageCorrupt(f"entry {name!r} lies outside the layer")
    return "" if inner == "." else inner


def _delete(folder: Path, name: str, member: tarfile.TarInfo) -> None:
    """Take a name away from the layers below; what this layer itself has under it stays."""
    if name in ("", ".", ".."):
        raise ImageCorrupt(f"entry {member.name!r} deletes nothing that has a name")
    target = folder / name
    if target.is_dir() and not target.is_symlink():
        os.setxattr(target, "trusted.overlay.opaque", b"y")
    elif not os.path.lexists(target):
        os.mknod(target, stat.S_IFCHR | 0o600, os.makedev(0, 0))


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, tree: _Tree, name: str) -> None:
    target = tree.folder(name) / os.path.basename(name)  # noqa: PTH119 - likewise
    was_deleted = _make_room(target, member)
    _make(archive, member, target, tree.room)
    os.chown(target, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        target.chmod(member.mode & 0o7777)
        os.utime(target, (member.mtime, member.mtime))
    if was_deleted and member.isdir():
        os.setxattr(target, "trusted.overlay.opaque", b"y")
    _attributes(member, target)
    if not member.isreg():
        tree.forget()


def _make_room(target: Path, member: tarfile.TarInfo) -> bool:
    """Remove what another entry put there, but a folder for a folder; whether it was a deletion."""
    try:
        there = target.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(there.st_mode):
        target.unlink()
    elif not member.isdir():
        trees.remove(target)
    return stat.S_ISCHR(there.st_mode) and there.st_rdev == 0


def _make(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, room: Room) -> None:
    """The bare entry; done by hand, since tarfile's own filters would drop set-uid bits."""
    if member.isdir():
        target.mkdir(exist_ok=True)
    elif member.issym():
        target.symlink_to(member.linkname)
    elif member.isfifo():
        os.mkfifo(target)
    elif member.isdev():
        kind = stat.S_IFBLK if member.isblk() else stat.S_IFCHR
        os.mknod(target, kind | 0o600, os.makedev(member.devmajor, member.devminor))
    else:
        content = archive.extractfile(member)
        if content is None:
            raise ImageCorrupt(f"entry {member.name!r} is of a type no layer may have")
        with target.open("xb") as file:
            while chunk := content.read(_CHUNK_BYTES):
                room.take(len(chunk))
                file.write(chunk)


def _link(member: tarfile.TarInfo, tree: _Tree, name: str) -> None:
    linked = _inner_name(member.linkname)
    tree.forget()
    descriptor = os.open(tree.folder(linked), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        target = tree.folder(name) / os.path.basename(name)  # noqa: PTH119 - likewise
        target.unlink(missing_ok=True)
        base = os.path.basename(linked)  # noqa: PTH119 - likewise
        os.link(base, target, src_dir_fd=descriptor, follow_symlinks=False)
    finally:
        os.close(descriptor)


def _attributes(member: tarfile.TarInfo, target: Path) -> None:
    """Set those a file may bring along: others would speak to overlayfs or to the host's security."""
    for header, value in member.pax_headers.items():
        name = header.removeprefix(_XATTR)
        if name != header and (name == "security.capability" or name.startswith("user.")):
            raw = value.encode("utf-8", "surrogateescape")
            os.setxattr(target, name, raw, follow_symlinks=False)
