"""Images in and out as archives that other tools read and write.

In: an OCI image layout (a folder, or a tar of one) and what `docker save` writes (`manifest.json` with a
configuration and layers, https://github.com/moby/moby/blob/master/image/spec/spec.md), each perhaps
gzipped or packed by zstd. Out: a tar that is both, as Docker's own is since version 25.

Names in an archive are looked up, never used as paths here; every blob is kept under the digest of its
own bytes, and a layer must be what the configuration says of it.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from ondol.base import errors, reserve, zstd
from ondol.base.sparing import Sparing
from ondol.build import oci
from ondol.build import reference as references
from ondol.build.errors import BuildError, StoreError
from ondol.build.store import Image, ImageStore

_INDEXES: Final = (oci.INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS: Final = (oci.MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
_FULL_NAME: Final = "io.containerd.image.name"
_CHUNK_BYTES: Final = 1 << 20
_DOCUMENT_BYTES_MAX: Final = 4 << 20
_GZIP: Final = b"\x1f\x8b"


class _Archive:
    """Files of an archive or a folder by their names in it."""

    def __init__(self, names: Sequence[str], opened: Callable[[str], IO[bytes]]) -> None:
        self.names = frozenset(names)
        self._opened = opened

    def document(self, name: str) -> Any:
        """A JSON document; `BuildError` if it is not there, too large, or none."""
        with self.open(name) as file:
            text = file.read(_DOCUMENT_BYTES_MAX + 1)
        if len(text) > _DOCUMENT_BYTES_MAX:
            raise BuildError(f"{name} in the archive has more than {_DOCUMENT_BYTES_MAX >> 20} MiB")
        try:
            return json.loads(text)
        except ValueError as error:
            raise BuildError(f"{name} in the archive is not JSON: {error}") from error

    def open(self, name: str) -> IO[bytes]:
        if name not in self.names:
            raise BuildError(f"the archive has no {name}", remedy="export the image again")
        return self._opened(name)


def load(source: Path, store: ImageStore, *, reference: str = "") -> list[Image]:
    """Take the images of an archive or folder into the store; `reference` names the only one."""
    with _archive(source) as archive, _understood(source), store.building():
        if "index.json" in archive.names:
            archived = list(_from_layout(archive, store))
        elif "manifest.json" in archive.names:
            archived = list(_from_docker(source, archive, store))
        else:
            raise _no_archive(source)
        return [store.add(name, manifest) for name, manifest in _named(source, archived, reference)]


def _no_archive(source: Path) -> BuildError:
    return BuildError(
        f"{source} is neither an OCI image layout nor an archive of docker save",
        remedy="skopeo copy docker://NAME oci-archive:FILE, or docker save NAME -o FILE",
    )


@contextlib.contextmanager
def _understood(source: Path) -> Iterator[None]:
    """Whoever made the archive wrote its documents: anything may stand where a digest should."""
    try:
        yield
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise BuildError(f"{source} is not a valid image: {error!r}") from error


@contextlib.contextmanager
def _archive(source: Path) -> Iterator[_Archive]:
    try:
        if source.is_dir():
            files = [path for path in source.rglob("*") if path.is_file()]
            by_name = {path.relative_to(source).as_posix(): path for path in files}
            yield _Archive([*by_name], lambda name: by_name[name].open("rb"))
            return
        with _plain(source) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            members = {member.name.removeprefix("./"): member for member in tar if not member.isdir()}
            yield _Archive([*members], lambda name: _extracted(tar, members[name]))
    except FileNotFoundError as error:
        raise errors.HostError(f"{source}: no such file or folder") from error
    except (tarfile.TarError, OSError, EOFError) as error:
        if isinstance(error, OSError) and reserve.is_full(error):
            raise BuildError(f"{source} cannot be unpacked: {errors.why(error)}") from error
        raise BuildError(
            f"{source} cannot be read: {errors.why(error)}", remedy="export the image again"
        ) from error


@contextlib.contextmanager
def _plain(source: Path) -> Iterator[IO[bytes]]:
    """The file as bytes of a tar, unpacked on the way if it is packed."""
    with source.open("rb") as file, _unpacked(file) as stream:
        if stream is file:
            yield file
            return
        with tempfile.TemporaryFile() as plain:
            # A packed file cannot be read in any order.
            shutil.copyfileobj(stream, Sparing(plain), _CHUNK_BYTES)
            plain.seek(0)
            yield plain


def _extracted(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    """The content of a file; a link (docker save shares layers by them) is followed inside the archive."""
    content = tar.extractfile(member)
    if content is None:
        raise BuildError(f"{member.name} in the archive is not a file")
    return content


# --- an OCI image layout


class _Blob(msgspec.Struct):
    digest: str


class _Layer(_Blob, kw_only=True):
    size: int
    mediaType: str = ""  # noqa: N815 - its name in the document


class _Manifest(msgspec.Struct):
    """What is read of a manifest once it is stored, here and on the node."""

    config: _Blob
    layers: list[_Layer]


_NamedManifest = tuple[str, bytes]
"""The name that an archive gives an image (perhaps none), and its manifest."""


def _from_layout(archive: _Archive, store: ImageStore) -> Iterator[_NamedManifest]:
    for descriptor in archive.document("index.json").get("manifests") or ():
        annotations = descriptor.get("annotations") or {}
        name = annotations.get(_FULL_NAME) or annotations.get(oci.REF_NAME) or ""
        manifest = _for_this_machine(archive, descriptor)
        with archive.open(_blob(manifest["digest"])) as file:
            text = file.read(_DOCUMENT_BYTES_MAX)
        if oci.digest(text) != manifest["digest"]:
            raise BuildError(f"the manifest of {name or 'the image'} does not match its digest")
        document = msgspec.json.decode(text, type=_Manifest)
        for part in (document.config, *document.layers):
            _keep(archive, store, _blob(part.digest), part.digest)
        yield str(name), text


def _for_this_machine(archive: _Archive, descriptor: Mapping[str, Any]) -> Mapping[str, Any]:
    """The manifest for this machine's platform, through indexes of several."""
    if descriptor.get("mediaType") in _MANIFESTS:
        return descriptor
    if descriptor.get("mediaType") not in _INDEXES:
        raise BuildError(f"{descriptor.get('mediaType')} is not the media type of an image")
    architecture = oci.architecture()
    for entry in archive.document(_blob(descriptor["digest"])).get("manifests") or ():
        described = entry.get("platform") or {}
        is_ours = (described.get("os"), described.get("architecture")) == ("linux", architecture)
        if is_ours and _blob(entry["digest"]) in archive.names:
            return _for_this_machine(archive, entry)
    raise BuildError(f"the archive has no image for linux/{architecture}")


def _blob(digest: str) -> str:
    algorithm, _, encoded = str(digest).partition(":")
    return f"blobs/{algorithm}/{encoded}"


def _keep(archive: _Archive, store: ImageStore, name: str, digest: str) -> None:
    """Copy a blob; `BuildError` if its bytes are not what the digest says."""
    if store.has(digest):
        return
    with archive.open(name) as file, store.draft() as draft:
        while chunk := file.read(_CHUNK_BYTES):
            draft.write(chunk)
        if draft.digest != digest:
            raise BuildError(f"{name} in the archive does not match its digest", remedy="export it again")


# --- docker save


def _from_docker(source: Path, archive: _Archive, store: ImageStore) -> Iterator[_NamedManifest]:
    listed = archive.document("manifest.json")
    if isinstance(listed, dict):  # an image's own manifest, as in skopeo's `dir:`
        raise _no_archive(source)
    for entry in listed:
        with archive.open(entry["Config"]) as file:
            config = file.read(_DOCUMENT_BYTES_MAX)
        diff_ids = json.loads(config)["rootfs"]["diff_ids"]
        layers = [_keep_layer(archive, store, *pair) for pair in zip(entry["Layers"], diff_ids, strict=True)]
        store.put(config)
        for name in entry.get("RepoTags") or [""]:
            yield name, oci.manifest(config, layers, {})


def _keep_layer(archive: _Archive, store: ImageStore, name: str, diff_id: str) -> oci.Layer:
    """A layer, unpacked if it was packed; `BuildError` if it is not what the configuration says."""
    with archive.open(name) as file, _unpacked(file) as plain, store.draft() as draft:
        while chunk := plain.read(_CHUNK_BYTES):
            draft.write(chunk)
        if draft.digest != diff_id:
            raise BuildError(f"{name} in the archive does not match its digest", remedy="export it again")
    return oci.Layer(draft.digest, draft.size_bytes, "")


@contextlib.contextmanager
def _unpacked(file: IO[bytes]) -> Iterator[IO[bytes]]:
    beginning = file.read(len(zstd.MAGIC))
    file.seek(0)
    if beginning == zstd.MAGIC:
        yield zstd.reader(file)
        return
    if not beginning.startswith(_GZIP):
        yield file
        return
    with gzip.open(file) as plain:
        yield plain  # type: ignore[misc]  # a GzipFile reads like any binary file


# --- names


def _named(source: Path, images: Sequence[_NamedManifest], reference: str) -> Iterator[_NamedManifest]:
    """Each image with the full name that it gets here."""
    if reference and len({manifest for _, manifest in images}) > 1:
        raise BuildError(f"{source} holds several images, which --tag would give one name")
    if reference and images:
        yield references.full(reference), images[0][1]
        return
    for name, manifest in images:
        if not name or ("/" not in name and ":" not in name and "." not in name and name == "latest"):
            raise BuildError(f"{source} does not name the image in it", remedy="give it a name with --tag")
        yield references.of_docker(name), manifest


# --- out


@dataclass(frozen=True, slots=True)
class _Part:
    """A file of the archive: of a blob, or of a document."""

    name: str
    source: Path | None = None
    content: bytes = b""


def save(reference: str, store: ImageStore, target: IO[bytes]) -> Image:
    """Write an image as a tar that is an OCI image layout and an archive of `docker load`."""
    image = store.find(reference)
    if image is None:
        raise errors.NotFound(f"there is no image {reference}")
    manifest = store.manifest(image.digest)
    with tarfile.open(None, "w|", target) as tar:
        for part in _parts(image, manifest, store):
            _add(tar, part)
    return image


def _parts(image: Image, manifest: Mapping[str, Any], store: ImageStore) -> Iterator[_Part]:
    digests = [image.digest, manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
    yield _Part("oci-layout", content=oci.canonical({"imageLayoutVersion": "1.0.0"}))
    size_bytes = store.blob(image.digest).stat().st_size
    annotations = {oci.REF_NAME: image.reference, _FULL_NAME: image.reference}
    entry = {**oci.descriptor(oci.MANIFEST, image.digest, size_bytes), "annotations": annotations}
    index = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [entry]}
    yield _Part("index.json", content=oci.canonical(index))
    layers = [_blob(digest) for digest in digests[2:]]
    docker = [{"Config": _blob(digests[1]), "RepoTags": [image.reference], "Layers": layers}]
    yield _Part("manifest.json", content=oci.canonical(docker))
    for digest in dict.fromkeys(digests):
        path = store.blob(digest)
        if not path.is_file():
            raise StoreError(f"the blob {digest} is missing", remedy="build or import the image again")
        yield _Part(_blob(digest), source=path)


def _add(tar: tarfile.TarFile, part: _Part) -> None:
    info = tarfile.TarInfo(part.name)
    info.mode = 0o644
    if part.source is None:
        info.size = len(part.content)
        tar.addfile(info, io.BytesIO(part.content))
        return
    with part.source.open("rb") as file:
        info.size = part.source.stat().st_size
        tar.addfile(info, file)
