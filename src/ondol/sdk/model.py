"""Typed custom resources: frozen structs that describe a kind and view its documents.

An operator's author writes one `Model` for the spec, one `Status`, and a `CustomResource` that
names them; `sdk.schema` derives the CustomResourceDefinition and `CustomResource.view` reads a
document. The document stays the truth: what the structs do not know survives in `raw`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import msgspec

from ondol.api import objects
from ondol.api.objects import Key, Object, Resource


class Model(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A part of a custom resource: `snake_case` here, `camelCase` in documents."""


class Condition(Model, frozen=True, kw_only=True):
    """One observation about the object, as `metav1.Condition`."""

    type: str
    status: str
    last_transition_time: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0


class Status(Model, frozen=True, kw_only=True):
    """What every status has; the framework writes both fields."""

    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`; `priority` 1 shows it only with `-o wide`."""

    name: str
    json_path: str
    type: str = "string"
    priority: int = 0
    description: str = ""
    format: str = ""


@dataclass(frozen=True, slots=True)
class Scale:
    """The scale subresource: where replicas are asked for, reported, and selected."""

    spec_path: str = ".spec.replicas"
    status_path: str = ".status.replicas"
    selector_path: str = ""


@dataclass(frozen=True, slots=True)
class Definition:
    """How a kind is served."""

    resource: Resource
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    scale: Scale | None = None
    selectable_fields: tuple[str, ...] = ()


class CustomResource(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Subclass with `spec` and, if there is any, `status`; decorate with `custom_resource`."""

    definition: ClassVar[Definition]

    metadata: Mapping[str, Any] = msgspec.field(default_factory=dict)
    raw: Object = msgspec.field(default_factory=dict)

    @classmethod
    def view(cls, document: Object) -> Self:
        """The typed view of a document; `msgspec.ValidationError` names the field that does not fit."""
        typed = msgspec.convert({k: v for k, v in document.items() if k != "raw"}, cls)
        msgspec.structs.force_setattr(typed, "raw", document)
        return typed

    @property
    def name(self) -> str:
        return objects.name(self.raw)

    @property
    def namespace(self) -> str:
        return objects.namespace(self.raw)

    @property
    def uid(self) -> str:
        return objects.uid(self.raw)

    @property
    def generation(self) -> int:
        return objects.generation(self.raw)

    @property
    def key(self) -> Key:
        return objects.key(self.raw)


T = TypeVar("T", bound=CustomResource)


def custom_resource(
    *,
    group: str,
    version: str = "v1",
    kind: str = "",
    plural: str = "",
    namespaced: bool = True,
    short_names: Sequence[str] = (),
    categories: Sequence[str] = (),
    columns: Sequence[Column] = (),
    scale: Scale | None = None,
    selectable_fields: Sequence[str] = (),
) -> Callable[[type[T]], type[T]]:
    """Name the kind a `CustomResource` describes; its plural is the kind with an `s` unless given."""

    def decorate(cls: type[T]) -> type[T]:
        name = kind or cls.__name__
        resource = Resource(group, version, plural or f"{name.lower()}s", name, namespaced=namespaced)
        cls.definition = Definition(
            resource, tuple(short_names), tuple(categories), tuple(columns), scale, tuple(selectable_fields)
        )
        return cls

    return decorate


def plain(value: Any) -> Any:
    """The value as it stands in a document: lists, not tuples; strings, not enums or times."""
    return msgspec.json.decode(msgspec.json.encode(value))


def rules(*pairs: tuple[str, str]) -> msgspec.Meta:
    """CEL rules for `Annotated`: pairs of an expression over `self` and the message when it fails."""
    listed = [{"rule": rule, "message": message} for rule, message in pairs]
    return msgspec.Meta(extra_json_schema={"x-kubernetes-validations": listed})


IMMUTABLE = rules(("self == oldSelf", "the field is immutable"))
"""`Annotated[str, IMMUTABLE]`: set once, never changed."""
