"""The images of this machine: one OCI image layout that builds write and the node reads.

On disk: `oci-layout`, `index.json` (one manifest descriptor a reference, which stands whole in the
annotation `org.opencontainers.image.ref.name`), `blobs/sha256/<hex>`, and `cache/` with records of
layers that need not be built again. Every file appears by rename, after its bytes are on disk, and
blobs before the index that names them: a crash at any moment leaves a whole store and perhaps
blobs that nobody names, which `garbage_collect` takes away.

Locks are advisory file locks. Builds share `.lock` while they add blobs, so that garbage
collection (which takes it alone) never removes a blob that is about to be named; `.index.lock` is
held while the index is read, changed and written.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from ondol.base import files
from ondol.base.sparing import Sparing
from ondol.build import manifests, oci
from ondol.build import reference as references
from ondol.build.errors import BlobMissing, NotManifest, StoreError
from ondol.build.manifests import Parts

_CHUNK_BYTES: Final = 1 << 20
_DRAFT: Final = ".draft-"


@dataclass(frozen=True, slots=True)
class Image:
    """One name in the store; `size_bytes` is that of its layers, shared ones counted in full."""

    reference: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What garbage collection removed."""

    blobs: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A blob that is missing or is not what its name says, and the images that need it."""

    digest: str
    problem: str
    references: tuple[str, ...]


class Draft(Sparing):
    """A blob being written: hashed on the way, named by `ImageStore.draft` when it ends well."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size_bytes += len(data)
        return super().write(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


class ImageStore:
    """The layout in `directory`, made if there is none. Safe between processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._blobs = directory / "blobs" / "sha256"
        self._index = directory / "index.json"
        try:
            self._blobs.mkdir(parents=True, exist_ok=True)
            if not (directory / "oci-layout").exists():
                self._write(directory / "oci-layout", oci.canonical({"imageLayoutVersion": "1.0.0"}))
            with self._locked(".index.lock"):
                if not self._index.exists():
                    self._save([])
        except OSError as error:
            raise StoreError(
                f"the image store {directory} cannot be opened: {error.strerror}",
                remedy="run as the user that owns it, or choose another --data-dir",
            ) from error

    # --- reading

    def images(self) -> list[Image]:
        """Every image by name."""
        return sorted((self._image(entry) for entry in self._entries()), key=lambda image: image.reference)

    def find(self, reference: str) -> Image | None:
        """The image of exactly this name, as another tool may have written it, else of the full one."""
        entries = {_name(entry): entry for entry in self._entries()}
        entry = entries.get(reference) or entries.get(references.stored(reference))
        return self._image(entry) if entry is not None else None

    def manifest(self, digest: str) -> dict[str, Any]:
        """The manifest of an image; `StoreError` if it is missing, damaged or an index of several."""
        document = self._document(digest)
        if manifests.is_index(document):
            raise StoreError(
                f"{digest} is of several machines' images", remedy="name one of them by its digest"
            )
        return document

    def config(self, digest: str) -> dict[str, Any]:
        """The configuration of the image whose manifest has this digest."""
        return self._document(self.manifest(digest)["config"]["digest"])

    def blob(self, digest: str) -> Path:
        """Where a blob lies (or would)."""
        algorithm, _, encoded = digest.partition(":")
        if algorithm != "sha256" or len(encoded) != 64 or not set(encoded) <= set("0123456789abcdef"):
            raise StoreError(f"{digest!r} is not a sha256 digest")
        return self._blobs / encoded

    def has(self, digest: str) -> bool:
        return self.blob(digest).is_file()

    # --- writing

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """Hold off garbage collection while blobs are added and then named."""
        with self._locked(".lock", fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def draft(self) -> Iterator[Draft]:
        """A blob to write into; kept under its digest when the block ends without an error."""
        descriptor, name = tempfile.mkstemp(prefix=_DRAFT, dir=self._blobs)
        path = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                draft = Draft(file)
                yield draft
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            path.replace(self.blob(draft.digest))
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StoreError(
                f"a blob cannot be written to {self.directory}: {error}",
                remedy=f"make room on that disk (df -h {self.directory}), or remove images",
            ) from error
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        files.sync_folder(self._blobs)

    def put(self, content: bytes) -> str:
        """Keep these bytes; their digest is returned."""
        digest = oci.digest(content)
        if not self.has(digest):
            with self.draft() as draft:
                draft.write(content)
        return digest

    def add(self, reference: str, manifest: bytes, *, is_pulled: bool = False) -> Image:
        """Name an image whose blobs are in the store already; an image of that name is replaced.

        `is_pulled`: its name means what its registry says, which may say otherwise later.
        """
        document = self._parsed(manifest, "the manifest")
        with self.building():
            for needed in sorted(self._parts(document, "the manifest").blobs):
                if not self.has(needed):
                    raise BlobMissing(f"the blob {needed} is not in the store")
            digest = self.put(manifest)
            media_type = str(document.get("mediaType") or oci.MANIFEST)
            descriptor = oci.descriptor(media_type, digest, len(manifest))
            return self._name(references.stored(reference), descriptor, is_pulled=is_pulled)

    def tag(self, source: str, target: str) -> Image:
        """Give an image a second name; `StoreError` if there is no such image."""
        with self.building():
            entries = {_name(entry): entry for entry in self._entries()}
            entry = entries.get(source) or entries.get(references.stored(source))
            if entry is None:
                raise StoreError(
                    f"there is no image {references.stored(source)}",
                    remedy="name one that ImageStore.images() lists",
                )
            return self._name(
                references.full(target), oci.descriptor(entry["mediaType"], entry["digest"], entry["size"])
            )

    def remove(self, reference: str) -> bool:
        """Take a name away (blobs stay until `garbage_collect`); False if it was not there."""
        with self._locked(".index.lock"):
            entries = self._entries()
            is_literal = any(_name(entry) == reference for entry in entries)
            name = reference if is_literal else references.stored(reference)
            others = [entry for entry in entries if _name(entry) != name]
            if len(others) == len(entries):
                return False
            self._save(others)
        return True

    def discard(self, digest: str) -> bool:
        """Remove a blob that no image needs; False if one does."""
        with self._locked(".lock"):
            if any(digest in self._needs(entry["digest"]) for entry in self._entries()):
                return False
            self.blob(digest).unlink(missing_ok=True)
        return True

    # --- cached layers

    def remembered(self, key: str) -> dict[str, Any] | None:
        """What `remember` kept under the key, or None."""
        try:
            record = json.loads((self.directory / "cache" / f"{key}.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None  # never built, or the record is torn: building again mends it
        return record if isinstance(record, dict) else None

    def remember(self, key: str, record: Mapping[str, Any]) -> None:
        folder = self.directory / "cache"
        folder.mkdir(exist_ok=True)
        self._write(folder / f"{key}.json", oci.canonical(dict(record)))

    # --- housekeeping

    def garbage_collect(self) -> Collected:
        """Remove blobs that no image names, torn drafts, and cache records that named them.

        Waits for running builds. A manifest that cannot be read stops it: nothing is removed on a guess.
        """
        with self._locked(".lock"):
            needed = {digest for entry in self._entries() for digest in self._needs(entry["digest"])}
            blobs = size_bytes = 0
            for path in self._blobs.iterdir():
                if f"sha256:{path.name}" not in needed:
                    blobs, size_bytes = blobs + 1, size_bytes + path.stat().st_size
                    path.unlink()
            for record in (self.directory / "cache").glob("*.json"):
                remembered = self.remembered(record.stem)
                if remembered is None or remembered.get("digest") not in needed:
                    record.unlink()
        return Collected(blobs, size_bytes)

    def verify(self) -> list[Damage]:
        """Read every blob that an image names and compare it with its digest."""
        users: dict[str, set[str]] = {}
        damaged: dict[str, str] = {}
        for entry in self._entries():
            try:
                needs = self._needs(entry["digest"])
            except StoreError:
                needs = {entry["digest"]}
            for digest in needs:
                users.setdefault(digest, set()).add(_name(entry))
        for digest in users:
            if problem := self._problem(digest):
                damaged[digest] = problem
        return [Damage(d, problem, tuple(sorted(users[d]))) for d, problem in sorted(damaged.items())]

    def _problem(self, digest: str) -> str:
        actual = hashlib.sha256()
        try:
            with self.blob(digest).open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    actual.update(chunk)
        except FileNotFoundError:
            return "missing"
        except OSError as error:
            return f"unreadable: {error.strerror}"
        return "" if digest == f"sha256:{actual.hexdigest()}" else "its bytes have another digest"

    # --- the index

    def _entries(self) -> list[dict[str, Any]]:
        try:
            entries: list[dict[str, Any]] = json.loads(self._index.read_bytes())["manifests"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{self._index} is not an OCI index: {error}", remedy=f"restore or remove {self._index}"
            ) from error
        return entries

    def _save(self, entries: list[dict[str, Any]]) -> None:
        document = {
            "schemaVersion": 2,
            "mediaType": oci.INDEX,
            "manifests": sorted(entries, key=_name),
        }
        self._write(self._index, oci.canonical(document))

    def _name(self, name: str, descriptor: dict[str, Any], *, is_pulled: bool = False) -> Image:
        pulled = {oci.PULLED: "true"} if is_pulled else {}
        entry = {**descriptor, "annotations": {oci.REF_NAME: name, **pulled}}
        with self._locked(".index.lock"):
            self._save([*(e for e in self._entries() if _name(e) != name), entry])
        return self._image(entry)

    def _image(self, entry: Mapping[str, Any]) -> Image:
        try:
            size_bytes = sum(parts.size_bytes for parts in self._walk(entry["digest"]).values())
        except StoreError:
            size_bytes = 0  # a damaged image is still listed, so that it can be verified and removed
        return Image(_name(entry), entry["digest"], size_bytes)

    def _needs(self, digest: str) -> set[str]:
        walked = self._walk(digest)
        return {*walked, *(blob for parts in walked.values() for blob in parts.blobs)}

    def _walk(self, digest: str) -> dict[str, Parts]:
        """A manifest, or an index with all that it leads to here, each once however often it is named."""
        walked: dict[str, Parts] = {}
        waiting = [digest]
        while waiting:
            here = waiting.pop()
            if here in walked:
                continue
            try:
                walked[here] = self._parts(self._document(here), here)
            except NotManifest:
                if here == digest:
                    raise
                walked[here] = Parts()  # an index may name any blob: it is kept, and leads nowhere
            waiting += [inner for inner in walked[here].inner if self.has(inner)]
        return walked

    def _document(self, digest: str) -> dict[str, Any]:
        try:
            with self.blob(digest).open("rb") as file:
                content = file.read(manifests.BYTES_MAX + 1)
        except OSError as error:
            raise StoreError(
                f"the blob {digest} cannot be read: {error.strerror}", remedy="build the image again"
            ) from error
        if len(content) > manifests.BYTES_MAX:  # a layer, which somebody calls a document
            raise NotManifest(f"the blob {digest} is too large for a document of an image")
        if oci.digest(content) != digest:
            raise StoreError(f"the blob {digest} is damaged", remedy="build the image again")
        return self._parsed(content, digest)

    def _parsed(self, content: bytes, name: str) -> dict[str, Any]:
        try:
            return manifests.parsed(content)
        except (TypeError, ValueError) as error:
            raise NotManifest(f"{name} is no document of an image: {error}") from error

    def _parts(self, document: dict[str, Any], name: str) -> Parts:
        try:
            return manifests.parts(document)
        except ValueError as error:
            raise NotManifest(f"{name} is no manifest: {error}") from error

    @contextlib.contextmanager
    def _locked(self, name: str, how: int = fcntl.LOCK_EX) -> Iterator[None]:
        with (self.directory / name).open("ab") as lock:
            fcntl.flock(lock, how)
            yield

    def _write(self, target: Path, content: bytes) -> None:
        files.replace(target, content, mode=0o644)


def _name(entry: Mapping[str, Any]) -> str:
    return str((entry.get("annotations") or {}).get(oci.REF_NAME, ""))
