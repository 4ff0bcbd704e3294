"""What the verbs need to know of a kind's form: read, default, check, and how patches see it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Protocol

from ondol.api import defaults, validation
from ondol.api.objects import Object
from ondol.api.patch import shape
from ondol.api.schema import typed
from ondol.base.errors import Cause


class Schema(Protocol):
    """The form of one kind in one version."""

    @property
    def selectable(self) -> tuple[str, ...]:
        """The field selectors a custom kind declares."""
        ...

    @property
    def structural(self) -> bool:
        """Whether strategic merge patch is refused, as for custom kinds."""
        ...

    @property
    def shape(self) -> shape.Shape:
        """How apply and the patches see the kind."""
        ...

    @property
    def published(self) -> Mapping[str, Any] | None:
        """The schema a custom kind's definition gives; none for built-in kinds."""
        ...

    def read(self, document: Object) -> Object:
        """A fresh copy with only known fields and all defaults; `BadRequest` if types are wrong."""
        ...

    def unknown_fields(self, document: Object) -> list[str]: ...

    def problems(self, obj: Object, old: Object | None, subresource: str = "") -> list[Cause]:
        """What is wrong with an object that was read; `old` is None on create."""
        ...


class BuiltinSchema:
    """The form of a built-in kind, from the table of facts."""

    selectable: tuple[str, ...] = ()
    structural = False
    published: None = None

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name

    @functools.cached_property  # many kinds are never written in a server's life
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

    def problems(self, obj: Object, old: Object | None, subresource: str = "") -> list[Cause]:
        if old is None:
            return validation.validate(self.type_name, obj)
        if subresource in ("status", "binding", "finalize"):
            # What validation knows beyond metadata is about wishes, and those have not changed.
            return validation.validate_metadata_update(self.type_name, obj, old)
        return validation.validate_update(self.type_name, obj, old)
