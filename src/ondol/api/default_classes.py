"""Which class is for objects that name none: of storage, of ingress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ondol.api import objects

STORAGE: Final = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
INGRESS: Final = ("ingressclass.kubernetes.io/is-default-class",)


def is_default(obj: Mapping[str, Any], annotations: Iterable[str]) -> bool:
    """Whether one of the annotations marks the class as the one for objects without."""
    marks = objects.annotations(obj)
    return any(marks.get(annotation) == "true" for annotation in annotations)


def newest(classes: Iterable[Mapping[str, Any]], annotations: Iterable[str]) -> str:
    """The name of the class for objects without: of several the newest, then the first by name.

    Empty if there is none.
    """
    marked = sorted((each for each in classes if is_default(each, annotations)), key=objects.name)
    if not marked:
        return ""
    return objects.name(max(marked, key=lambda each: objects.metadata(each).get("creationTimestamp") or ""))
