"""Sets of fields, kept in their wire form: the `FieldsV1` documents of `metadata.managedFields`.

A set is a tree of path elements: `f:<field>`, `k:{<keys>}` (an element of a keyed list), `v:<value>`
(an element of a set) and `i:<index>`. A node `{}` is a member; a node with children is a member only
if it holds `.` too. The root is never a member, so `{}` at the root is the empty set. All functions
are pure: they share what they do not change. `patch.apply` and `patch.typed` are the callers.

>>> one = {"f:spec": {"f:replicas": {}, "f:ports": {'k:{"name":"web"}': {".": {}, "f:port": {}}}}}
>>> for path in paths(one):
...     print(render(path))
.spec.replicas
.spec.ports[name="web"]
.spec.ports[name="web"].port
>>> union(one, {"f:spec": {}}) == {"f:spec": {".": {}, **one["f:spec"]}}  # `.spec` is a member now
True
>>> intersection(one, {"f:spec": {"f:replicas": {}, "f:paused": {}}})
{'f:spec': {'f:replicas': {}}}
"""

from __future__ import annotations

import functools
import json
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import msgspec

FieldSet: TypeAlias = dict[str, Any]

SELF: Final = "."
_RANKS: Final = {"f": 0, "k": 1, "v": 2, "i": 3}


def field(name: str) -> str:
    """The path element of a map's or struct's field."""
    return "f:" + name


def keyed(keys: Mapping[str, Any]) -> str:
    """The path element of an element of a keyed list, by the values of its keys."""
    return "k:" + _json({key: _number(value) for key, value in sorted(keys.items())})


def value(item: Any) -> str:
    """The path element of a set's element."""
    return "v:" + _json(_number(item))


def _json(item: Any) -> str:
    return msgspec.json.encode(item).decode()


def _number(item: Any) -> Any:
    """Whole floats as integers: `80.0` and `80` are one key."""
    return int(item) if isinstance(item, float) and item.is_integer() else item


@functools.lru_cache(maxsize=4096)
def _canonical(element: str) -> str | None:
    """The one spelling of an element; None for an element type of some future version."""
    kind, _, text = element.partition(":")
    if len(element) < 2 or element[1] != ":":
        raise ValueError(f"missing colon: {element}")
    if kind == "k":
        keys = msgspec.json.decode(text)
        if not isinstance(keys, dict):
            raise ValueError(f"not a key: {element}")
        return keyed(keys)
    if kind == "v":
        return value(msgspec.json.decode(text))
    if kind == "i":
        return f"i:{int(text)}"
    return element if kind == "f" else None


def decode(document: Any) -> FieldSet:
    """A set as some client wrote it, in canonical spelling; `ValueError` if it is none."""
    if not isinstance(document, dict):
        raise ValueError("a field set is an object")  # noqa: TRY004 - one error for all wrong input
    fields: FieldSet = {}
    for element, node in document.items():
        if element == SELF:
            fields[SELF] = {}
        elif (canonical := _canonical(element)) is not None:
            fields[canonical] = decode(node)
    return fields


def encode(fields: FieldSet) -> FieldSet:
    """The set with its elements in canonical order, as servers write it."""
    ordered = sorted(fields, key=_order) if len(fields) > 1 else fields
    return {element: encode(node) if (node := fields[element]) else {} for element in ordered}


def _order(element: str) -> tuple[int, str]:
    return _RANKS.get(element[0], -1), element


def from_paths(paths: Iterable[Iterable[str]]) -> FieldSet:
    """The set with exactly these paths as members."""
    fields: FieldSet = {}
    for path in paths:
        single: FieldSet = {}
        for element in reversed(tuple(path)):
            single = {element: single}
        fields = union(fields, single)
    return fields


def paths(fields: FieldSet, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every member's path, in canonical order."""
    members = sorted((e for e in fields if e != SELF), key=_order)
    yield from ((*prefix, e) for e in members if is_member(fields[e]))
    for element in members:
        yield from paths(fields[element], (*prefix, element))


def is_member(node: FieldSet) -> bool:
    return not node or SELF in node


def has(fields: FieldSet, path: Iterable[str]) -> bool:
    node: FieldSet | None = fields
    for element in path:
        node = node.get(element) if node is not None else None
        if node is None:
            return False
    return node is not None and node is not fields and is_member(node)


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of either."""
    if left is right or not right:
        return left
    return _union_nodes(left, right) if left else right


def _union_nodes(left: FieldSet, right: FieldSet) -> FieldSet:
    merged = dict(left)
    for element, node in right.items():
        mine = merged.get(element)
        if mine is None:
            merged[element] = node
        elif mine is not node and element != SELF:
            merged[element] = _union_below(mine, node)
    return merged


def _union_below(mine: FieldSet, other: FieldSet) -> FieldSet:
    """Two nodes below the root, where `{}` means a member without children."""
    if not mine and not other:
        return mine
    if not mine:
        return other if SELF in other else {SELF: {}, **other}
    if not other:
        return mine if SELF in mine else {SELF: {}, **mine}
    return _union_nodes(mine, other)


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of both."""
    shared: FieldSet = {}
    for element, node in left.items():
        other = right.get(element)
        if other is None or element == SELF:
            continue
        children = intersection(node, other) if node and other else {}
        _put_node(shared, element, children, member=is_member(node) and is_member(other))
    return shared


def difference(left: FieldSet, right: FieldSet, *, below: bool = False) -> FieldSet:
    """Members of the left that are not members of the right.

    Children outlive their parent, unless a member of the right takes all that is `below` it along.

    >>> difference({"f:spec": {".": {}, "f:a": {}, "f:b": {}}}, {"f:spec": {"f:a": {}}})
    {'f:spec': {'.': {}, 'f:b': {}}}
    >>> difference({"f:spec": {"f:a": {}}}, {"f:spec": {}})
    {'f:spec': {'f:a': {}}}
    >>> difference({"f:spec": {"f:a": {}}}, {"f:spec": {}}, below=True)
    {}
    """
    if not left or not right:
        return left
    remaining: FieldSet = {}
    for element, node in left.items():
        if element == SELF:
            continue
        other = right.get(element)
        if other is None:
            remaining[element] = node
        elif is_member(other) and (below or not node):
            continue  # it goes whole, or there is nothing below that would outlive it
        else:
            children = difference(node, other, below=below)
            _put_node(remaining, element, children, member=is_member(node) and not is_member(other))
    return remaining


def _put_node(fields: FieldSet, element: str, children: FieldSet, *, member: bool) -> None:
    """Set a node of `fields` from its children and whether it is a member itself; nothing if neither."""
    below = {e: n for e, n in children.items() if e != SELF} if SELF in children else children
    if member:
        fields[element] = {SELF: {}, **below} if below else {}
    elif below:
        fields[element] = below


def render(path: Iterable[str]) -> str:
    """A path as conflicts name it: `.spec.containers[name="web"].image`."""
    return "".join(map(_render, path))


def _render(element: str) -> str:
    kind, text = element[0], element[2:]
    if kind == "f":
        return f".{text}"
    if kind == "k":
        keys = msgspec.json.decode(text)
        return "[" + ",".join(f"{key}={_scalar(item)}" for key, item in sorted(keys.items())) + "]"
    return f"[={_scalar(msgspec.json.decode(text))}]" if kind == "v" else f"[{text}]"


def _scalar(item: Hashable) -> str:
    return json.dumps(item, ensure_ascii=False)
