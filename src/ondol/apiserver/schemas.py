"""What the verbs need to know of a kind's form: read, default, check, and how patches see it."""

from __future__ import annotations

import functools
from typing import Protocol

from ondol.api import defaults
from ondol.api.objects import Object
from ondol.api.patch import shape
from ondol.api.schema import typed
from ondol.base.errors import Cause


class Schema(Protocol):
    """The form of one kind in one version."""

    selectable: tuple[str, ...]
    """The field selectors a custom kind declares."""
    structural: bool
    """Whether strategic merge patch is refused, as for custom kinds."""

    @property
    def shape(self) -> shape.Shape: ...

    def read(self, document: Object) -> Object:
        """A fresh copy with only known fields and all defaults; `BadRequest` if types are wrong."""
        ...

    def unknown_fields(self, document: Object) -> list[str]: ...

    def problems(self, obj: Object, old: Object | None) -> list[Cause]: ...


class BuiltinSchema:
    """The form of a built-in kind, from the table of facts."""

    selectable: tuple[str, ...] = ()
    structural = False

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name

    @functools.cached_property
    def shape(self) -> shape.Shape:
        return shape.of_builtin(self.type_name)

    @functools.cached_property
    def _typed(self) -> typed.Typed:
        return typed.of(self.type_name)

    def read(self, document: Object) -> Object:
        obj = self._typed.decode(document)
        defaults.apply(self.type_name, obj)
        return obj

    def unknown_fields(self, document: Object) -> list[str]:
        return self._typed.unknown_fields(document)

    def problems(self, obj: Object, old: Object | None) -> list[Cause]:
        del obj, old
        return []
