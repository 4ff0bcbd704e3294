"""What manifests and indexes name: the blobs that must be beside them, the manifests that may be. Pure.

Whoever pushed or imported one wrote it: its shape is verified before anything in it is followed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

BYTES_MAX: Final = 4 << 20
"""Of any document of an image; what is larger is no document."""
_ELSEWHERE: Final = ("nondistributable", "foreign")

_Digest = Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]
_Size = Annotated[int, msgspec.Meta(ge=0)]


class _Descriptor(msgspec.Struct, frozen=True):
    digest: _Digest
    size: _Size = 0
    mediaType: str = ""  # noqa: N815 - its name in the document


class _Manifest(msgspec.Struct, frozen=True):
    config: _Descriptor
    layers: list[_Descriptor]


class _Index(msgspec.Struct, frozen=True):
    manifests: list[_Descriptor]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a document names: `blobs` (configuration and layers), `inner` manifests, bytes of the layers."""

    blobs: frozenset[str] = frozenset()
    inner: frozenset[str] = frozenset()
    size_bytes: int = 0


def parsed(text: bytes) -> dict[str, Any]:
    """A document of an image; `ValueError` or `TypeError` if it is none."""
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(document, dict):
        raise TypeError("it is not a JSON object")
    return document


def is_index(document: dict[str, Any]) -> bool:
    """Whether it leads to manifests and is none itself."""
    return "manifests" in document and "layers" not in document


def parts(document: dict[str, Any]) -> Parts:
    """What a manifest or an index names; `ValueError` if it is neither, or not in the form of one.

    Layers that are not distributed are nobody's to have; what an index names may be of other machines.
    """
    if is_index(document):
        index = msgspec.convert(document, _Index)
        return Parts(inner=frozenset(each.digest for each in index.manifests))
    manifest = msgspec.convert(document, _Manifest)
    layers = [layer for layer in manifest.layers if not any(w in layer.mediaType for w in _ELSEWHERE)]
    blobs = frozenset([manifest.config.digest, *(layer.digest for layer in layers)])
    return Parts(blobs, size_bytes=sum(layer.size for layer in manifest.layers))
