"""Backups: everything that cannot be made anew (objects, certificates, settings, addresses) as one archive.

Made of a running platform through its API server, which alone has the store's file, or of one that is down.
Restored into a folder that is empty or damaged; what was there is kept beside it, untouched.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import json
import shutil
import ssl
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, Final

from ondol import __version__, store
from ondol.apiserver import documents
from ondol.apiserver.handlers import backups as served
from ondol.apiserver.pki import Pki
from ondol.base import errors
from ondol.compose import folders, hints, lock, waiting
from ondol.compose import instance as instances
from ondol.compose.instance import Instance
from ondol.compose.settings import CONFIG_FILE, Settings
from ondol.store import repair

_MANIFEST: Final = "ondol-backup.json"
_FORMAT: Final = 1
_STORE: Final = "store.db"
_PARTS: Final = (_STORE, instances.FILE, CONFIG_FILE, "pki")
_TIMEOUT_S: Final = 120.0


def create(settings: Settings, target: IO[bytes]) -> None:
    """Write the archive (a gzipped tar); `HostError` if there is nothing to back up or it is damaged."""
    instance = instances.load(settings.data_dir)
    if instance is None or not instance.pki_dir.exists():
        raise errors.HostError(
            f"there is no platform in {settings.data_dir}", remedy="choose its folder with --data-dir"
        )
    with _scratch(settings.data_dir) as folder:
        copy = folder / _STORE
        if lock.holder(instance.lock_file) is not None:
            _fetch(instance, copy)
        else:
            with lock.hold(instance.lock_file), hints.restorable(settings.data_dir):
                repair.copy(instance.store_file, copy)
        manifest = folder / _MANIFEST
        manifest.write_text(json.dumps(_manifest(instance), indent=2) + "\n", encoding="utf-8")
        _pack(settings.data_dir, manifest, copy, target)


def _pack(data_dir: Path, manifest: Path, copy: Path, target: IO[bytes]) -> None:
    """Write the archive; an error of the target is reported apart from one of the data directory."""
    try:
        with tarfile.open(fileobj=target, mode="w|gz") as archive:
            archive.add(manifest, _MANIFEST)
            archive.add(copy, _STORE)
            for name in (instances.FILE, CONFIG_FILE, "pki"):
                if (place := data_dir / name).exists():
                    archive.add(place, name)
    except OSError as error:
        raise errors.HostError(
            f"the backup cannot be written: {error.strerror or error}", remedy="choose another place for it"
        ) from error


def _manifest(instance: Instance) -> dict[str, object]:
    now = dt.datetime.fromtimestamp(waiting.now(), dt.UTC).isoformat(timespec="seconds")
    return {"format": _FORMAT, "version": __version__, "created": now, "instance": instance.id}


@contextlib.contextmanager
def _scratch(data_dir: Path) -> Iterator[Path]:
    """A folder on the same disk, so that what is in it can be moved into place at once."""
    with _writable(data_dir), tempfile.TemporaryDirectory(prefix=served.SCRATCH, dir=data_dir) as name:
        yield Path(name)


@contextlib.contextmanager
def _writable(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise errors.HostError(
            f"{error.filename or data_dir} cannot be written: {error.strerror or error}",
            remedy=f"{hints.as_root(data_dir)}; or make some room on the disk, or choose another --data-dir",
        ) from error


def _fetch(instance: Instance, target: Path) -> None:
    """A copy of the store from the API server that has it open."""
    pki = Pki(instance.pki_dir)
    context = ssl.create_default_context(cafile=str(pki.ca_file))
    context.load_cert_chain(*pki.client_files("admin"))
    connection = http.client.HTTPSConnection(
        "127.0.0.1", instance.ports.api, context=context, timeout=_TIMEOUT_S
    )
    try:
        connection.request("GET", served.PATH)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise errors.HostError(
                f"the API server refused to make a backup: {_message(answer.read())}",
                remedy=hints.command("status", instance.data_dir),
            )
        with target.open("wb") as file:
            shutil.copyfileobj(answer, file, 1 << 18)
    except (OSError, http.client.HTTPException) as error:
        raise errors.HostError(
            f"the API server does not answer: {error}",
            remedy=f"{hints.command('status', instance.data_dir)}, or stop it and then again: "
            f"{hints.command('down', instance.data_dir)}",
        ) from error
    finally:
        connection.close()


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()[:200]


def restore(settings: Settings, source: IO[bytes], *, force: bool = False) -> Path | None:
    """Put an archive into the data directory; returns the folder with the former content, or None.

    `HostError` if a platform runs there, or what is there is whole (unless forced), or the archive is not.
    """
    with _alone(settings.data_dir), _scratch(settings.data_dir) as folder:
        if not force:
            _refuse_whole(settings.data_dir)
        _unpack(source, folder)
        store.require_readable(folder / _STORE)
        if (problem := repair.problem(folder / _STORE, documents.is_whole)) is not None:
            raise errors.HostError(f"the backup is damaged: {problem}", remedy="use another backup")
        _adopt(settings.data_dir, folder / instances.FILE)
        aside = _put_aside(settings.data_dir, _PARTS)
        for name in _PARTS:
            if (folder / name).exists():
                (folder / name).replace(settings.data_dir / name)
    return aside


def _adopt(data_dir: Path, file: Path) -> None:
    """Make the instance that of this folder: what is named after it on the machine must be its own."""
    instance = instances.load(file.parent)
    if instance is None:
        raise errors.HostError("the backup is damaged: it has no instance", remedy="use another backup")
    instances.save(replace(instance, id=instances.identity(data_dir)))


def salvage(settings: Settings) -> tuple[repair.Salvaged, Path | None]:
    """Make a new store of what can be read of a damaged one; returns also the folder with the damaged one."""
    store_file = settings.data_dir / _STORE
    with _alone(settings.data_dir), _scratch(settings.data_dir) as folder:
        _refuse_whole(settings.data_dir)
        if not store_file.exists():
            raise errors.HostError(
                f"there is no {store_file}",
                remedy=f"{hints.command('restore FILE', settings.data_dir)} (a backup)",
            )
        saved = repair.salvage(store_file, folder / _STORE, documents.is_whole)
        aside = _put_aside(settings.data_dir, (_STORE,))
        (folder / _STORE).replace(store_file)
    return saved, aside


@contextlib.contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """While no platform runs on the folder; a failure leaves no folder and no lock that was not there."""
    missing = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
    lock_file = data_dir / instances.LOCK_FILE
    is_new = not lock_file.exists()
    try:
        with _writable(data_dir):
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with lock.hold(lock_file):
            try:
                yield
            except BaseException:
                if is_new:
                    lock_file.unlink()  # while it is held: another who waits for it has seen it
                raise
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):  # not begun, or somebody else's by now
                folder.rmdir()
        raise


def _refuse_whole(data_dir: Path) -> None:
    """`HostError` if a store is there and nothing is wrong with it."""
    store_file = data_dir / _STORE
    if not store_file.exists() or repair.problem(store_file, documents.is_whole) is not None:
        return
    if repair.examine(store_file, documents.is_whole):
        raise errors.HostError(
            f"{store_file} exists and is not damaged",
            remedy="choose another folder with --data-dir, or --force to take its place (it is kept aside)",
        )


def _put_aside(data_dir: Path, names: tuple[str, ...]) -> Path | None:
    """Move what there is of these, with the journals, into a folder of its own beside."""
    existing = [place for name in names if (place := data_dir / name).exists()]
    existing += [file for file in repair.files(data_dir / _STORE) if file not in existing]
    if not existing:
        return None
    now = dt.datetime.fromtimestamp(waiting.now(), dt.UTC).strftime("%Y%m%dT%H%M%S")
    aside = Path(tempfile.mkdtemp(prefix=f"{folders.ASIDE}{now}-", dir=data_dir))
    for place in existing:
        place.replace(aside / place.name)
    return aside


def _unpack(source: IO[bytes], folder: Path) -> None:
    """The files of an archive that belong there, private; nothing else is taken from it."""
    try:
        with tarfile.open(fileobj=source, mode="r|gz") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                content = archive.extractfile(member) if member.isfile() else None
                if content is None or not _belongs(name):
                    continue
                place = folder / name
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                place.touch(mode=0o600)
                with place.open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise errors.HostError(
            f"the backup cannot be read: {errors.why(error)}", remedy="use another backup"
        ) from error
    if not (folder / _MANIFEST).exists() or not (folder / _STORE).exists():
        raise errors.HostError(
            "this is not a backup of ondol, or only a part of one", remedy="use another backup"
        )
    _require_restorable(json.loads((folder / _MANIFEST).read_text(encoding="utf-8")))


def _require_restorable(manifest: Mapping[str, object]) -> None:
    """`HostError` for an archive whose form this version does not know; it names the one that made it."""
    written = manifest.get("format")
    if written != _FORMAT:
        which = "a newer" if isinstance(written, int) and written > _FORMAT else "another"
        raise errors.HostError(
            f"the backup was made by {which} version ({manifest.get('version')}, format {written})",
            remedy="restore it with the version that made it",
        )


def _belongs(name: PurePosixPath) -> bool:
    return (
        not name.is_absolute()
        and ".." not in name.parts
        and (str(name) == _MANIFEST or name.parts[0] in _PARTS)
    )
