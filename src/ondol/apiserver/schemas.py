"""What the verbs need to know of a kind's form: read, default, check, and how patches see it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

from ondol.api import defaults, validation
from ondol.api.defaults import cluster
from ondol.api.objects import Object
from ondol.api.patch import shape
from ondol.api.schema import typed
from ondol.api.validation import rbac, workloads
from ondol.base.errors import Cause

Warn: TypeAlias = Callable[[str], None]
_NO_RULES: Final = validation.Rules()


def unheard(message: str) -> None:
    """Nobody is told."""
    del message


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
    def is_heavy(self) -> bool:
        """Whether `problems` may take long even for a small object."""
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

    def problems(
        self, obj: Object, old: Object | None, subresource: str = "", warn: Warn = unheard
    ) -> list[Cause]:
        """What is wrong with an object that was read; `old` is None on create.

        `warn` is told what is wrong and may stay, since it has not changed.
        """
        ...


class BuiltinSchema:
    """The form of a built-in type: from the table of facts, with the defaults and rules of its kind."""

    selectable: tuple[str, ...] = ()
    structural = False
    is_heavy = False
    published: None = None

    def __init__(
        self,
        type_name: str,
        default: defaults.Rule | None = None,
        rules: validation.Rules = _NO_RULES,
    ) -> None:
        self.type_name = type_name
        self._default = default
        self._rules = rules

    @functools.cached_property  # many kinds are never written in a server's life
    def shape(self) -> shape.Shape:
        return shape.of_builtin(self.type_name)

    @functools.cached_property
    def _typed(self) -> typed.Typed:
        return typed.of(self.type_name)

    def read(self, document: Object) -> Object:
        obj = self._typed.decode(document)
        defaults.apply(self.type_name, obj, self._default)
        return obj

    def unknown_fields(self, document: Object) -> list[str]:
        return self._typed.unknown_fields(document)

    def problems(
        self, obj: Object, old: Object | None, subresource: str = "", warn: Warn = unheard
    ) -> list[Cause]:
        del warn
        if old is None:
            return validation.validate(obj, self._rules)
        if subresource in ("status", "binding", "finalize"):
            # The desired state has not changed: what is left is metadata, and what is reported.
            return validation.validate_part(obj, old, self._rules, subresource)
        return validation.validate_update(obj, old, self._rules, subresource)


BINDING: Final = BuiltinSchema("io.k8s.api.core.v1.Binding", rules=validation.Rules(nameless=True))
EVICTION: Final = BuiltinSchema("io.k8s.api.policy.v1.Eviction", rules=validation.Rules(nameless=True))
SCALE: Final = BuiltinSchema("io.k8s.api.autoscaling.v1.Scale", rules=validation.Rules(workloads.scale))
TOKEN_REQUEST: Final = BuiltinSchema(
    "io.k8s.api.authentication.v1.TokenRequest",
    cluster.token_request,
    validation.Rules(rbac.token_request, nameless=True),
)
DELETE_OPTIONS: Final = BuiltinSchema("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions")
PARTS: Final = (BINDING, EVICTION, SCALE, TOKEN_REQUEST, DELETE_OPTIONS)
"""What is sent to subresources and with deletes, and is no kind that is served by itself."""
