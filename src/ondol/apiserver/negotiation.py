"""What the client wants to read: the format, and the form (whole, Table, metadata only)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

from ondol.base import errors

_FORMATS: Final = {
    "application/json": "json",
    "application/yaml": "yaml",
    "*/*": "json",
    "application/*": "json",
}
_FORMS: Final = frozenset({"Table", "PartialObjectMetadata", "PartialObjectMetadataList"})
_META_VERSIONS: Final = frozenset({"v1", "v1beta1"})


@dataclass(frozen=True, slots=True)
class Accepted:
    """One way to answer that the client takes."""

    format: str = "json"
    form: str = ""
    """Empty, `Table`, `PartialObjectMetadata` or `PartialObjectMetadataList`."""
    version: str = "v1"
    """Of meta.k8s.io, for the forms."""

    @property
    def plain(self) -> bool:
        return self.format == "json" and not self.form


DEFAULT: Final = Accepted()


@functools.lru_cache(maxsize=256)
def accepted(header: str) -> Accepted:
    """The first acceptable clause, by quality and then by place; `NotAcceptable` if there is none."""
    if not header:
        return DEFAULT
    clauses = [_clause(text) for text in header.split(",")]
    for _, media_type, parameters in sorted(clauses, key=lambda clause: -clause[0]):
        if form := _accept(media_type, parameters):
            return form
    raise errors.NotAcceptable(
        "only the following media types are accepted: application/json, application/yaml"
    )


def _clause(text: str) -> tuple[float, str, dict[str, str]]:
    media_type, *rest = (part.strip() for part in text.split(";"))
    parameters = dict(part.split("=", 1) for part in rest if "=" in part)
    try:
        quality = float(parameters.get("q", "1"))
    except ValueError:
        quality = 1.0
    return quality, media_type.lower(), parameters


def _accept(media_type: str, parameters: dict[str, str]) -> Accepted | None:
    encoding = _FORMATS.get(media_type)
    if encoding is None:
        return None
    form = parameters.get("as", "")
    if not form:
        return Accepted(encoding)
    version = parameters.get("v", "")
    if form in _FORMS and parameters.get("g") == "meta.k8s.io" and version in _META_VERSIONS:
        return Accepted(encoding, form, version)
    return None
