"""Samples as text, by family: each family's lines stand together, though objects come one by one.

A page of ten thousand pods is some seventy megabytes of text, of which most says the same again and again.
So what waits for its family's turn waits compressed: a few megabytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.apiserver.state_metrics import allowing
from ondol.apiserver.state_metrics.allowing import Allowed
from ondol.apiserver.state_metrics.families import Family, Labels, Subject

_FOLDED_BYTES: Final = 64 * 1024
"""How much text is compressed at a time: half a millisecond's work."""
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Section:
    """The part of the page that is about one kind: objects are added, then the text is taken, once."""

    def __init__(self, subject: Subject, labels: Allowed, annotations: Allowed) -> None:
        plural = subject.resource.plural
        self._identity = subject.identity
        self._families = (*subject.families, *_allowed(subject.noun, plural, labels, annotations))
        self._texts = [_Folded() for _ in self._families]

    def add(self, obj: Object) -> None:
        own = _labels(self._identity(obj))
        for family, text in zip(self._families, self._texts, strict=True):
            if lines := _lines(family, own, obj):
                text.add(lines)

    def pieces(self) -> Iterator[bytes]:
        """The text, piece by piece; families without samples are left out."""
        for family, text in zip(self._families, self._texts, strict=True):
            if not text.is_empty:
                yield _head(family)
                yield from text.pieces()


def _allowed(noun: str, plural: str, labels: Allowed, annotations: Allowed) -> Sequence[Family]:
    """The families of an object's labels and annotations, where some of them may be told."""
    families: list[Family] = []
    if patterns := allowing.keys(annotations, plural):
        families.append(
            Family(
                f"kube_{noun}_annotations",
                "Annotations, as far as they are to be told.",
                lambda obj: _pairs("annotation", allowing.chosen(patterns, objects.annotations(obj))),
            )
        )
    if keys := allowing.keys(labels, plural):
        families.append(
            Family(
                f"kube_{noun}_labels",
                "Labels, as far as they are to be told.",
                lambda obj: _pairs("label", allowing.chosen(keys, objects.labels(obj))),
            )
        )
    return families


def _pairs(prefix: str, pairs: dict[str, str]) -> list[tuple[Labels, float]]:
    return [(tuple(allowing.prometheus_labels(prefix, pairs)), 1)]


def _head(family: Family) -> bytes:
    return f"# HELP {family.name} {family.documentation}\n# TYPE {family.name} {family.type}\n".encode()


def _lines(family: Family, own: str, obj: Object) -> str:
    """The samples of one object in one family."""
    text = ""
    for labels, value in family.samples(obj):
        text += (
            f"{family.name}{{{own},{_labels(labels)}}} {value}\n"
            if labels
            else f"{family.name}{{{own}}} {value}\n"
        )
    return text


def _labels(labels: Labels) -> str:
    return ",".join([f'{name}="{_escaped(value)}"' for name, value in labels])


def _escaped(value: str) -> str:
    if '"' in value or "\\" in value or "\n" in value:
        return value.translate(_ESCAPES)
    return value


class _Folded:
    """Text that grows, compressed but for its end."""

    __slots__ = ("_end", "_folded")

    def __init__(self) -> None:
        self._folded: list[bytes] = []
        self._end = bytearray()

    @property
    def is_empty(self) -> bool:
        return not self._end and not self._folded

    def add(self, text: str) -> None:
        self._end += text.encode()
        if len(self._end) >= _FOLDED_BYTES:
            self._folded.append(zlib.compress(self._end, level=1))
            self._end = bytearray()

    def pieces(self) -> Iterator[bytes]:
        """The text in order; what was taken is no longer kept."""
        for number, folded in enumerate(self._folded):
            self._folded[number] = b""
            yield zlib.decompress(folded)
        yield bytes(self._end)
