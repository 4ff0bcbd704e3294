"""The local image store: an OCI image layout on disk, written by builds, only read here.

`index.json` names images by `org.opencontainers.image.ref.name`; every blob is checked against its
digest before it is believed.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import platform
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ondol.base import errors

REF_NAME: Final = "org.opencontainers.image.ref.name"
PULLED: Final = "dev.ondol.image.pulled"
LOCAL_HOST: Final = "ondol.local"
"""The host in the names of images that were built here without one."""
_ALIKE_MAX: Final = 2
_DOCUMENT_BYTES_MAX: Final = 4 << 20
_INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


class ImageMissing(errors.OndolError):
    """The store has no such image."""


class ImageCorrupt(errors.OndolError):
    """The store has the image, but its content does not match its digest."""


@dataclass(frozen=True, slots=True)
class Layer:
    digest: str
    media_type: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """One image of this platform; `config` is the `config` part of the image configuration."""

    reference: str
    digest: str
    config: Mapping[str, Any]
    layers: Sequence[Layer]
    is_pulled: bool = False
    """A registry gave it: its name may mean another one there by now."""

    @property
    def id(self) -> str:
        """As in a container status' `imageID`."""
        return f"{repository(self.reference)}@{self.digest}"


@dataclass(frozen=True, slots=True)
class Stored:
    """An image that is here, as a Node's status lists it."""

    names: tuple[str, ...]
    size_bytes: int
    """Of its layers as they are stored."""
    digest: str = ""
    is_pulled: bool = False
    """A registry gave it, under each of its names."""


_DOMAIN: Final = (
    r"(?:\[[a-fA-F0-9:]+\]|[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*)(?::[0-9]+)?"
)
_PART: Final = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE: Final = re.compile(
    rf"(?:{_DOMAIN}/)?{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)
_REFERENCE_MAX: Final = 255
_TEXT_MAX: Final = 1024


def malformed(reference: str) -> str:
    """Why no image can be called so, empty when one can. Source: github.com/distribution/reference."""
    if len(reference) > _TEXT_MAX:
        return "invalid reference format: it is too long"
    if _REFERENCE.fullmatch(reference):
        is_long = len(repository(reference)) > _REFERENCE_MAX
        return f"repository name must not be more than {_REFERENCE_MAX} characters" if is_long else ""
    if _REFERENCE.fullmatch(reference.lower()):
        return "invalid reference format: repository name must be lowercase"
    return "invalid reference format"


def repository(reference: str) -> str:
    """The reference without tag and digest."""
    name = reference.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name


def has_registry(reference: str) -> bool:
    """Whether a name says which registry it is of, as Docker reads it."""
    first, slash, _ = reference.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


def is_local(reference: str) -> bool:
    """Whether a name says that the image is of this machine."""
    return reference.partition("/")[0] == LOCAL_HOST


def spellings(reference: str) -> list[str]:
    """The names under which an image may stand in the index, the most literal first.

    A name without a registry host is an image built here before it is one of Docker Hub.
    """
    has_tag = "@" in reference or repository(reference) != reference
    tagged = reference if has_tag else f"{reference}:latest"
    names = [reference, tagged]
    if "@" in reference:
        # As it is kept: the tag says nothing.
        tagged = f"{repository(reference)}@{reference.partition('@')[2]}"
        names.append(tagged)
    if "/" not in tagged:
        names += [f"{LOCAL_HOST}/{tagged}", f"docker.io/library/{tagged}", f"localhost/{tagged}"]
    elif not has_registry(reference):
        names += [f"{LOCAL_HOST}/{tagged}", f"docker.io/{tagged}"]
    elif tagged.startswith("docker.io/library/"):
        names += [tagged.removeprefix("docker.io/library/")]
    elif tagged.startswith(("docker.io/", "localhost/", f"{LOCAL_HOST}/")):
        names += [tagged.partition("/")[2]]
    return list(dict.fromkeys(names))


def _alike(reference: str, stored: Collection[str | None]) -> str:
    """What a person may have meant: the stored names most like it, then such images under other tags."""
    tails = {name: name.rpartition("/")[2] for name in sorted(filter(None, stored))}
    bare = {name: repository(tail) for name, tail in tails.items()}
    missing = reference.rpartition("/")[2]
    names = [*_close(missing, tails), *_close(repository(missing), bare)]
    best = list(dict.fromkeys(names))[:_ALIKE_MAX]
    return f", which has {' and '.join(best)}" if best else "; `ondol image ls` lists what is in it"


def _close(text: str, texts: Mapping[str, str]) -> list[str]:
    """The keys of texts like this one, the most like first."""
    close = difflib.get_close_matches(text, set(texts.values()), n=_ALIKE_MAX)
    return [name for each in close for name, own in texts.items() if own == each]


_TEXTS: Final = ("User", "WorkingDir", "StopSignal")
_LISTS: Final = ("Entrypoint", "Cmd", "Env")


def _sound(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration, each part of what it should be; `TypeError` names the one that is not."""
    for name in _TEXTS:
        if not isinstance(config.get(name), str | None):
            raise TypeError(f"{name} is not text")
    for name in _LISTS:
        parts = config.get(name)
        if parts is not None and not (isinstance(parts, list) and all(isinstance(p, str) for p in parts)):
            raise TypeError(f"{name} is not a list of texts")
    return config


class ImageStore:
    """Reads `<root>/index.json` and `<root>/blobs`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def blob_path(self, digest: str) -> Path:
        algorithm, _, encoded = digest.partition(":")
        if algorithm != "sha256" or len(encoded) != 64 or not encoded.isalnum():
            raise ImageCorrupt(f"digest {digest!r} is not a sha256 digest")
        return self._root / "blobs" / algorithm / encoded

    def resolve(self, reference: str) -> Image:
        """The image for this machine's platform; `ImageMissing` or `ImageCorrupt`."""
        try:
            return self._resolved(reference)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # Whoever made the image wrote these documents: anything may stand where a digest should.
            raise ImageCorrupt(
                f"{reference!r} is not a valid image: {type(error).__name__}: {error}"
            ) from error

    def _resolved(self, reference: str) -> Image:
        descriptor = self._find(reference)
        is_pulled = (descriptor.get("annotations") or {}).get(PULLED) == "true"
        while descriptor.get("mediaType") in _INDEXES:
            descriptor = self._for_this_platform(self._document(descriptor["digest"]), reference)
        manifest = self._document(descriptor["digest"])
        configuration = self._document(manifest["config"]["digest"])
        if not isinstance(manifest["layers"], list):
            raise TypeError("layers is not a list")
        layers = [
            Layer(str(layer["digest"]), str(layer.get("mediaType", "")), int(layer.get("size") or 0))
            for layer in manifest["layers"]
        ]
        config = _sound(configuration.get("config") or {})
        return Image(reference, descriptor["digest"], config, layers, is_pulled)

    def layer_digests(self) -> set[str]:
        """The layers of every image that has a name; `ImageCorrupt` if one of them cannot be read."""
        digests: set[str] = set()
        for entry in self._listed():
            try:
                image = self.resolve(f"@{entry['digest']}")
            except ImageMissing:
                continue  # of other platforms only: nothing of it is unpacked here
            digests |= {layer.digest for layer in image.layers}
        return digests

    def stored(self) -> list[Stored]:
        """Every image with a name that can run on this machine, the largest first."""
        names: dict[str, list[str]] = {}
        for entry in self._listed():
            name = (entry.get("annotations") or {}).get(REF_NAME)
            if name:
                names.setdefault(str(entry["digest"]), []).append(str(name))
        images = [stored for digest, listed in names.items() if (stored := self._stored(digest, listed))]
        return sorted(images, key=lambda image: (-image.size_bytes, image.names))

    def _stored(self, digest: str, names: Sequence[str]) -> Stored | None:
        """None for one that is damaged or for other machines: no container can be made of it."""
        by_digest = [f"{name}@{digest}" for name in dict.fromkeys(repository(name) for name in names)]
        try:
            image = self.resolve(f"{names[0]}@{digest}")
            is_pulled = all(self.resolve(name).is_pulled for name in names)
        except (ImageMissing, ImageCorrupt):
            return None
        size_bytes = sum(layer.size_bytes for layer in image.layers)
        return Stored((*by_digest, *sorted(names)), size_bytes, image.digest, is_pulled)

    def _find(self, reference: str) -> Mapping[str, Any]:
        listed = list(self._listed())
        _, _, digest = reference.partition("@")
        if digest:
            match = next((descriptor for descriptor in listed if descriptor.get("digest") == digest), None)
            if match is not None:
                return match
            if self.blob_path(digest).exists():  # stored without a name
                return {"digest": digest, "mediaType": self._document(digest).get("mediaType", "")}
        named = {(descriptor.get("annotations") or {}).get(REF_NAME): descriptor for descriptor in listed}
        for spelling in spellings(reference):
            if spelling in named:  # the last writer of a name wins
                return named[spelling]
        raise ImageMissing(f'image "{reference}" is not in the local image store{_alike(reference, named)}')

    def _listed(self) -> Iterator[Mapping[str, Any]]:
        try:
            content = (self._root / "index.json").read_bytes()
        except FileNotFoundError:
            return
        try:
            manifests: list[Mapping[str, Any]] = json.loads(content).get("manifests") or []
        except ValueError as error:
            raise ImageCorrupt(f"the image store's index.json cannot be read: {error}") from error
        yield from manifests

    def _for_this_platform(self, index: Mapping[str, Any], reference: str) -> Mapping[str, Any]:
        machine = platform.machine()
        architecture = _ARCHITECTURES.get(machine, machine)
        for manifest in index.get("manifests") or ():
            described = manifest.get("platform") or {}
            if (
                described.get("os", "linux") == "linux"
                and described.get("architecture", architecture) == architecture
            ):
                return dict(manifest)
        raise ImageMissing(f'image "{reference}" has no manifest for linux/{architecture}')

    def _document(self, digest: str) -> Mapping[str, Any]:
        try:
            with self.blob_path(digest).open("rb") as file:
                content = file.read(_DOCUMENT_BYTES_MAX + 1)
        except FileNotFoundError as error:
            raise ImageCorrupt(f"blob {digest} is missing") from error
        if len(content) > _DOCUMENT_BYTES_MAX:  # a layer, which an image calls its configuration
            raise ImageCorrupt(f"blob {digest} is too large for a document of an image")
        if hashlib.sha256(content).hexdigest() != digest.partition(":")[2]:
            raise ImageCorrupt(f"blob {digest} does not match its digest")
        document: Mapping[str, Any] = json.loads(content)
        return document
