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
import shutil
import stat
import tarfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from ondol.node.images.store import ImageCorrupt, ImageStore, Layer

_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_XATTR: Final = "SCHILY.xattr."
_BROKEN: Final = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError)


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
        self._root = root
        self._store = store
        self._lock = threading.Lock()
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in root.glob(".unpacking-*"):
            shutil.rmtree(leftover)

    def path(self, digest: str) -> Path:
        return self._root / digest.partition(":")[2]

    def unpack(self, layer: Layer) -> Path:
        """The layer's directory, unpacked now if it was not; blocks, `ImageCorrupt` when it is broken."""
        target = self.path(layer.digest)
        if target.exists():
            return target
        with self._lock:
            if not target.exists():
                self._unpack(layer, target)
        return target

    def _unpack(self, layer: Layer, target: Path) -> None:
        beside = self._root / f".unpacking-{target.name}"
        beside.mkdir(mode=0o755)
        try:
            self._extract(layer, beside)
            beside.rename(target)
        except _BROKEN as error:
            raise ImageCorrupt(f"layer {layer.digest} cannot be unpacked: {error}") from error
        finally:
            if beside.exists():
                shutil.rmtree(beside)

    def _extract(self, layer: Layer, into: Path) -> None:
        with self._store.blob_path(layer.digest).open("rb") as blob:
            hashed = _Hashed(blob)
            with _decompressed(hashed, layer.media_type) as stream, _archive(stream) as archive:
                for member in archive:
                    _place(archive, member, into)
            hashed.exhaust()
        if hashed.digest.hexdigest() != target_digest(layer):
            raise ImageCorrupt(f"layer {layer.digest} does not match its digest")


def target_digest(layer: Layer) -> str:
    return layer.digest.partition(":")[2]


@contextmanager
def _decompressed(source: _Hashed, media_type: str) -> Iterator[IO[bytes]]:
    if media_type.endswith(("gzip", "diff.tar.gzip")):
        with gzip.GzipFile(fileobj=source) as stream:
            yield stream  # type: ignore[misc]  # a GzipFile reads like any binary file
    elif media_type.endswith("zstd"):
        raise ImageCorrupt("zstd layers are not supported on this Python; build the image with gzip layers")
    else:
        yield source  # type: ignore[misc]  # it reads like any binary file


@contextmanager
def _archive(stream: IO[bytes]) -> Iterator[tarfile.TarFile]:
    with tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as archive:
        yield archive


def _place(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    name = os.path.normpath(member.name.lstrip("/"))
    if name in (".", ""):
        return
    if name.startswith("../") or name == "..":
        raise ImageCorrupt(f"entry {member.name!r} lies outside the layer")
    parent = _inside(root, Path(name).parent)
    base = Path(name).name
    if base == _OPAQUE:
        os.setxattr(parent, "trusted.overlay.opaque", b"y")
    elif base.startswith(_WHITEOUT):
        os.mknod(parent / base.removeprefix(_WHITEOUT), stat.S_IFCHR | 0o600, os.makedev(0, 0))
    else:
        _write(archive, member, root, parent / base)


def _inside(root: Path, relative: Path) -> Path:
    """The real directory for `relative`, made where missing; it may not lead out of the layer."""
    wanted = root / relative
    real = Path(os.path.realpath(wanted))
    if real != root and root not in real.parents:
        raise ImageCorrupt(f"entry {relative} leads out of the layer through a link")
    real.mkdir(parents=True, exist_ok=True)
    return real


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path, target: Path) -> None:
    if member.islnk():
        _link(member, root, target)
        return
    if target.is_symlink() or (target.exists() and not (target.is_dir() and member.isdir())):
        shutil.rmtree(target) if target.is_dir() and not target.is_symlink() else target.unlink()
    _make(archive, member, target)
    os.chown(target, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        target.chmod(member.mode & 0o7777)
        os.utime(target, (member.mtime, member.mtime))
    _attributes(member, target)


def _make(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
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
        with target.open("wb") as file:
            shutil.copyfileobj(content, file, 1 << 20)


def _link(member: tarfile.TarInfo, root: Path, target: Path) -> None:
    linked = os.path.normpath(member.linkname.lstrip("/"))
    source = _inside(root, Path(linked).parent) / Path(linked).name
    target.unlink(missing_ok=True)
    os.link(source, target, follow_symlinks=False)


def _attributes(member: tarfile.TarInfo, target: Path) -> None:
    for header, value in member.pax_headers.items():
        if header.startswith(_XATTR):
            raw = value.encode("utf-8", "surrogateescape")
            os.setxattr(target, header.removeprefix(_XATTR), raw, follow_symlinks=False)
