"""One model for the shape of documents, whether the table of facts or a CRD's schema describes it.

A `Node` describes one value. Apply, patch and the walkers of this package navigate nodes without
knowing where the description came from. Nodes of the table are built when first visited, so a kind
costs what its documents use.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.api import facts

OBJECT: Final = "object"
"""A value with named fields."""
MAP: Final = "map"
"""An object whose keys are data; `element` describes the values."""
LIST: Final = "list"
ANY: Final = "any"
"""Any JSON value."""

BARE: Final = "bare"
"""A value that is allowed but not described (`additionalProperties: true`): objects in it keep no fields."""

_SPECIAL: Final = {"raw": ANY, "fields": ANY, "json": ANY}
_ROOT_METADATA: Final = facts.META + "ObjectMeta"


@dataclass(slots=True)
class Node:
    """What the value at one path of a document may be.

    `kind` is OBJECT, MAP, LIST, ANY, BARE or a scalar's word as in the table (`string`, `int32`, ...).
    An object may have an `element` beside its fields, for those not named.
    """

    kind: str
    element: Node | None = None
    list_type: str = ""
    list_keys: tuple[str, ...] = ()
    map_type: str = ""
    patch_merge_key: str = ""
    patch_strategy: str = ""
    required: bool = False
    pointer: bool = True
    default: Any = None
    enum: tuple[Any, ...] = ()
    type_name: str = ""
    open: bool = False
    """Fields that are not described are kept."""
    nullable: bool = False
    embedded: bool = False
    """The value is itself an API object, with apiVersion, kind and metadata."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """The OpenAPI schema of a CRD this node came from; empty for the table's."""
    _load: Callable[[], dict[str, Node]] | None = None
    _fields: dict[str, Node] | None = None

    @property
    def fields(self) -> dict[str, Node]:
        """The named fields of an object; empty for everything else."""
        if self._fields is None:
            self._fields = self._load() if self._load is not None else {}
        return self._fields

    @property
    def atomic(self) -> bool:
        """Whether the value is owned and replaced as a whole."""
        if self.kind == LIST:
            return self.list_type in ("", "atomic")
        return self.map_type == "atomic" or self.kind not in (OBJECT, MAP)

    def child(self, key: str) -> Node | None:
        """The node of a field or of a map's value; None where nothing describes it."""
        if self.kind == MAP:
            return self.element
        return self.fields.get(key) or self.element


@functools.cache
def of_type(name: str) -> Node:
    """The node of a type of the table."""
    described = facts.type_named(name)
    return Node(OBJECT, type_name=name, map_type=described.map_type, _load=lambda: _fields_of(described))


def _fields_of(described: facts.Type) -> dict[str, Node]:
    return {name: _of_field(field) for name, field in described.fields.items()}


def _of_field(described: facts.Field) -> Node:
    node = _of_word(described.type, described)
    node.required = described.required
    node.pointer = described.pointer
    node.default = described.default
    node.enum = described.enum
    node.patch_merge_key = described.patch_merge_key
    node.patch_strategy = described.patch_strategy
    return node


def _of_word(word: str, described: facts.Field) -> Node:
    if word.startswith("[]"):
        element = _element(word)
        return Node(LIST, element, described.list_type, described.list_keys)
    if word.startswith("{}"):
        return Node(MAP, _element(word), map_type=described.map_type)
    if word in facts.SCALARS:
        return Node(_SPECIAL.get(word, word), type_name=word)
    type_facts = facts.type_named(word)
    return Node(
        OBJECT,
        type_name=word,
        map_type=described.map_type or type_facts.map_type,
        _load=lambda: of_type(word).fields,
    )


_PLAIN: Final = facts.Field(type="", n=0)


def _element(word: str) -> Node:
    inner = word[2:]
    if inner.startswith(("[]", "{}")) or inner in facts.SCALARS:
        return _of_word(inner, _PLAIN)
    return of_type(inner)


def of_openapi(schema: Mapping[str, Any]) -> Node:
    """The node of a CRD's openAPIV3Schema; its root always has apiVersion, kind and metadata."""
    return _embedding(of_schema(schema))


def _embedding(node: Node) -> Node:
    described = node.fields
    node.kind = OBJECT
    described.setdefault("apiVersion", Node("string"))
    described.setdefault("kind", Node("string"))
    described["metadata"] = Node(
        OBJECT, type_name=_ROOT_METADATA, _load=lambda: of_type(_ROOT_METADATA).fields
    )
    return node


_TYPES: Final = {"string": "string", "integer": "int64", "number": "double", "boolean": "bool"}


def of_schema(schema: Mapping[str, Any]) -> Node:
    """The node of a part of a CRD's schema."""
    node = Node(
        _kind_of(schema),
        list_type=schema.get("x-kubernetes-list-type") or "",
        list_keys=tuple(schema.get("x-kubernetes-list-map-keys") or ()),
        map_type=schema.get("x-kubernetes-map-type") or "",
        default=schema.get("default"),
        enum=tuple(schema.get("enum") or ()),
        open=bool(schema.get("x-kubernetes-preserve-unknown-fields")),
        nullable=bool(schema.get("nullable")),
        embedded=bool(schema.get("x-kubernetes-embedded-resource")),
        schema=schema,
    )
    if node.kind == MAP:
        values = schema["additionalProperties"]
        node.element = of_schema(values) if isinstance(values, Mapping) else Node(BARE)
    elif node.kind == LIST:
        node.element = of_schema(schema.get("items") or {"x-kubernetes-preserve-unknown-fields": True})
    elif node.kind == OBJECT:
        properties = schema.get("properties") or {}
        needed = set(schema.get("required") or ())
        node._fields = {name: of_schema(prop) for name, prop in properties.items()}
        for name in needed & properties.keys():
            node.fields[name].required = True
        if schema.get("additionalProperties") is True:
            node.element = Node(BARE)
    return _embedding(node) if node.embedded else node


def _kind_of(schema: Mapping[str, Any]) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "int-or-string"
    declared = schema.get("type")
    if declared == "array":
        return LIST
    if declared == "object":
        values = schema.get("additionalProperties")
        return MAP if values is not None and values is not False and not schema.get("properties") else OBJECT
    if declared is None:
        return OBJECT if schema.get("properties") else ANY
    return _TYPES[declared]
