"""What the documents of a registry say: which manifest is for this machine, which layers it has. Pure.

Of OCI's image format and of Docker's schema 2; whatever else a registry may hold (schema 1, charts, layers
that are elsewhere) is refused in words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ondol.build import manifests, oci
from ondol.build.registry.errors import Refused

DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFESTS: Final = (oci.MANIFEST, DOCKER_MANIFEST)
INDEXES: Final = (oci.INDEX, DOCKER_INDEX)
ACCEPT: Final = ", ".join((*MANIFESTS, *INDEXES))
BYTES_MAX: Final = manifests.BYTES_MAX
"""Of a manifest or a configuration."""
LAYERS_MAX: Final = 512
_SCHEMA_1: Final = re.compile(r"application/vnd\.docker\.distribution\.manifest\.v1\+(json|prettyjws)")
_LAYER: Final = re.compile(
    r"application/vnd\.(oci\.image\.layer\.v1\.tar(\+gzip|\+zstd)?"
    r"|docker\.image\.rootfs\.diff\.tar(\.gzip|\.zstd)?)"
)
_ELSEWHERE: Final = ("nondistributable", "foreign")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_DEFAULT_VARIANTS: Final = {"arm": ("v7", "v6", "v5"), "arm64": ("v8",), "amd64": ("v1",)}


class Descriptor(msgspec.Struct, frozen=True):
    digest: str
    size: int
    mediaType: str = ""  # noqa: N815 - its name in the document


class _Platform(msgspec.Struct, frozen=True):
    os: str = "linux"
    architecture: str = ""
    variant: str = ""


class _Entry(Descriptor, frozen=True, kw_only=True):
    platform: _Platform | None = None


class _Manifest(msgspec.Struct, frozen=True):
    config: Descriptor
    layers: list[Descriptor]


class _Index(msgspec.Struct, frozen=True):
    manifests: list[_Entry]


class _Config(msgspec.Struct, frozen=True):
    os: str = "linux"
    architecture: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """The blobs of a manifest."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


def media_type(text: bytes, header: str) -> str:
    """What a document is by its own words, else by its shape, else by the header it came with."""
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"the registry sent a manifest that is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Refused("the registry sent a manifest that is not a JSON object")
    named = str(document.get("mediaType") or "")
    header = header.partition(";")[0].strip()
    if document.get("schemaVersion") == 1 or _SCHEMA_1.fullmatch(named or header):
        raise Refused(
            "it is an image of Docker's schema 1, which no registry should hold any more; push it anew"
        )
    if not named:
        named = header if header in (*MANIFESTS, *INDEXES) else _by_shape(document)
    if named not in (*MANIFESTS, *INDEXES):
        raise Refused(f"{named or 'a document without a media type'} is no image")
    return named


def _by_shape(document: Mapping[str, Any]) -> str:
    if "layers" in document:
        return oci.MANIFEST
    return oci.INDEX if "manifests" in document else ""


def chosen(text: bytes, architecture: str) -> Descriptor:
    """The manifest of an index for Linux on this architecture; `Refused` names those it has instead."""
    entries = _decoded(text, _Index).manifests
    others = []
    fitting: dict[str, _Entry] = {}
    for entry in entries:
        platform = entry.platform or _Platform(architecture=architecture)
        if (platform.os, platform.architecture) == ("linux", architecture):
            fitting.setdefault(platform.variant, entry)
        elif platform.architecture not in ("", "unknown"):
            others.append("/".join(filter(None, (platform.os, platform.architecture, platform.variant))))
    for variant in (*_DEFAULT_VARIANTS.get(architecture, ()), "", *fitting):
        if variant in fitting:
            return checked(fitting[variant])
    listed = ", ".join(dict.fromkeys(others)) or "none"
    raise Refused(f"there is no image for linux/{architecture}; there are: {listed}")


def image(text: bytes) -> Image:
    """The blobs that a manifest names, each with a sound digest and a layer's media type."""
    manifest = _decoded(text, _Manifest)
    if len(manifest.layers) > LAYERS_MAX:
        raise Refused(f"the image has {len(manifest.layers)} layers, and at most {LAYERS_MAX} are taken")
    for layer in manifest.layers:
        if any(word in layer.mediaType for word in _ELSEWHERE):
            raise Refused(f"the layer {layer.digest} is not in the registry ({layer.mediaType})")
        if not _LAYER.fullmatch(layer.mediaType):
            raise Refused(f"{layer.mediaType or 'a layer without a media type'} is no layer of a file system")
        checked(layer)
    if checked(manifest.config).size > BYTES_MAX:
        raise Refused(f"the configuration has more than {BYTES_MAX >> 20} MiB")
    return Image(manifest.config, tuple(manifest.layers))


def verify_platform(text: bytes, architecture: str) -> None:
    """`Refused` if a configuration is of another platform than this machine's."""
    config = _decoded(text, _Config)
    if (config.os, config.architecture or architecture) != ("linux", architecture):
        raise Refused(
            f"it is an image for {config.os}/{config.architecture}, and this is linux/{architecture}"
        )


def checked(descriptor: Descriptor) -> Descriptor:
    if not _DIGEST.fullmatch(descriptor.digest):
        raise Refused(f"{descriptor.digest[:80]!r} is not a sha256 digest")
    if descriptor.size < 0:
        raise Refused(f"{descriptor.digest} has a size below nothing")
    return descriptor


def _decoded(text: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused(f"the registry sent a document that is none of an image: {error}") from error
