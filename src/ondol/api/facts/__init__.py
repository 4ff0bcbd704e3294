"""The facts of the built-in kinds: which are served, and every field of every type they reach.

The JSON files beside this module are written by scripts/generate_kinds.py, one per package of types,
and read when a type of that package is first asked for. This is the one module of `api` that reads
package data; schemas, defaults, protobuf and OpenAPI are all driven by what it returns.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import msgspec

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
JSON_SCHEMA_PROPS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"

SCALARS = frozenset(
    {
        "string",
        "bytes",
        "int32",
        "int64",
        "double",
        "bool",
        "time",
        "micro-time",
        "duration",
        "quantity",
        "int-or-string",
        "raw",
        "fields",
        "json",
        "schema-or-array",
        "schema-or-bool",
        "schema-or-strings",
    }
)
"""Words for the types whose JSON form is not an object with fields of its own."""

_MARKS = re.compile(r"^(?:\[\]|\{\})*")


class Field(msgspec.Struct, frozen=True):
    """One field as the API describes it.

    `type` is a scalar's word, `[]item`, `{}value` or the name of a type; `n` is the protobuf number,
    or the path of numbers where protobuf nests what JSON inlines, or 0 where protobuf has none.
    `pointer` fields distinguish absent from zero; others have their zero value when they are absent.
    """

    type: str
    n: int | tuple[int, ...]
    required: bool = False
    pointer: bool = False
    default: Any = None
    list_type: str = msgspec.field(default="", name="list")
    list_keys: tuple[str, ...] = msgspec.field(default=(), name="keys")
    map_type: str = msgspec.field(default="", name="map")
    patch_merge_key: str = msgspec.field(default="", name="merge")
    patch_strategy: str = msgspec.field(default="", name="strategy")
    enum: tuple[str, ...] = ()
    wrapped: bool = False

    @property
    def path(self) -> tuple[int, ...]:
        """The protobuf numbers from the message that JSON shows down to this field; empty if none."""
        if isinstance(self.n, int):
            return (self.n,) if self.n else ()
        return self.n


class Type(msgspec.Struct, frozen=True):
    """The fields of one type, and the kind it is the document of, if any."""

    fields: dict[str, Field]
    gvk: tuple[str, str, str] | None = None
    map_type: str = msgspec.field(default="", name="map")


class SubresourceFacts(msgspec.Struct, frozen=True):
    """How a subresource is served, and the kind of its documents."""

    name: str
    group: str
    version: str
    kind: str
    verbs: tuple[str, ...]
    type: str


class KindFacts(msgspec.Struct, frozen=True, rename="camel"):
    """How a built-in kind is served."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    verbs: tuple[str, ...]
    type: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[SubresourceFacts, ...] = ()


def _read(file: str) -> bytes:
    return resources.files(__name__).joinpath(file).read_bytes()


@functools.cache
def kinds() -> tuple[KindFacts, ...]:
    """Every built-in kind that is served."""
    return msgspec.json.decode(_read("kinds.json"), type=tuple[KindFacts, ...])


@functools.cache
def package(name: str) -> dict[str, Type]:
    """The types of one package, by full name."""
    return msgspec.json.decode(_read(f"{name}.json"), type=dict[str, Type])


@functools.cache
def type_named(name: str) -> Type:
    """A type by its full name; `KeyError` if the table lacks it."""
    try:
        return package(name.rpartition(".")[0])[name]
    except FileNotFoundError:
        raise KeyError(name) from None


def split(type_word: str) -> tuple[str, str]:
    """The leading list and map marks of a field's type, and what they hold."""
    end = _MARKS.match(type_word)
    at = end.end() if end else 0
    return type_word[:at], type_word[at:]


def referenced(name: str) -> Iterator[str]:
    """The types a type's fields refer to."""
    for field in type_named(name).fields.values():
        word = split(field.type)[1]
        if word.startswith("schema-or-"):
            yield JSON_SCHEMA_PROPS
        elif word not in SCALARS:
            yield word


def reachable(*names: str) -> dict[str, Type]:
    """The named types and all they refer to, however deep, in order of name."""
    types: dict[str, Type] = {}
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in types:
            types[name] = type_named(name)
            pending.extend(referenced(name))
    return dict(sorted(types.items()))


def list_type(type_name: str) -> str:
    """The name of the type that lists `type_name`, or empty if the kind is never listed."""
    name = type_name + "List"
    return name if name in package(name.rpartition(".")[0]) else ""


@functools.cache
def _packages() -> dict[str, str]:
    """The package of types behind each apiVersion that is served."""
    packages: dict[str, str] = {}
    for kind in kinds():
        served = [(kind.group, kind.version, kind.type)]
        served += [(sub.group, sub.version, sub.type) for sub in kind.subresources]
        for group, version, name in served:
            packages[f"{group}/{version}" if group else version] = name.rpartition(".")[0]
    return packages


@functools.cache
def type_of(api_version: str, kind: str) -> str:
    """The type of a document by its apiVersion and kind, lists and options included; empty if unknown."""
    home = _packages().get(api_version, "")
    if home and f"{home}.{kind}" in package(home):
        return f"{home}.{kind}"
    return META + kind if META + kind in package(META.rstrip(".")) else ""
