"""Documents seen through their type: which fields they mention, how two differ, how they merge.

The walks of structured-merge-diff over plain JSON documents, driven by a `shape.TypeSchema`.
`patch.apply` composes them; nothing here knows managers. `ValueError` is an element of a set or keyed
list that cannot be named. The examples below share one type, a struct with a keyed list:

>>> port = shape.struct({"name": shape.LEAF, "port": shape.LEAF})
>>> spec = shape.struct({"replicas": shape.LEAF, "ports": shape.keyed_list(port, "name")})
>>> owned(spec, {"replicas": 2, "ports": [{"name": "web", "port": 80}]})
{'f:replicas': {}, 'f:ports': {'k:{"name":"web"}': {'.': {}, 'f:name': {}, 'f:port': {}}}}
>>> live = {"replicas": 2, "ports": [{"name": "web", "port": 80}, {"name": "old", "port": 1}]}
>>> applied = {"replicas": 3, "ports": [{"name": "web"}, {"name": "new"}]}
>>> merge(spec, live, applied)["ports"]
[{'name': 'web', 'port': 80}, {'name': 'old', 'port': 1}, {'name': 'new'}]
>>> change = compare(spec, live, merge(spec, live, applied))
>>> change.modified, change.removed
({'f:replicas': {}}, {})
>>> change.added
{'f:ports': {'k:{"name":"new"}': {'.': {}, 'f:name': {}}}}
>>> remove(spec, live, {"f:ports": {'k:{"name":"old"}': {}}})
{'replicas': 2, 'ports': [{'name': 'web', 'port': 80}]}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from ondol.api.patch import fieldset, json_patch, shape
from ondol.api.patch.fieldset import SELF, FieldSet

_Node: TypeAlias = FieldSet | None
"""A field and what is below it: `{}` is a member, None is nothing."""

_ABSENT: Final = object()
_NOTHING: Final[tuple[_Node, _Node, _Node]] = (None, None, None)
_LEAF: Final = "leaf"
_CONTAINERS: Final = (dict, list)


class Comparison(NamedTuple):
    """How the right document differs from the left."""

    added: FieldSet
    modified: FieldSet
    removed: FieldSet

    @property
    def is_same(self) -> bool:
        return not (self.added or self.modified or self.removed)

    def without(self, ignored: FieldSet) -> Comparison:
        """The same, blind to these fields and all below them."""
        if not ignored:
            return self
        return Comparison(*(fieldset.difference(fields, ignored, below=True) for fields in self))


def _form(schema: shape.TypeSchema, value: Any) -> str:
    """How this value is walked: `map`, `list`, or `leaf` when it is owned whole."""
    form = schema.form
    if form == "any":
        return "map" if isinstance(value, dict) else _LEAF
    if schema.atomic or form == _LEAF:
        return _LEAF
    fits = value is None or isinstance(value, dict if form == "map" else list)
    return form if fits else _LEAF


def _forms(schema: shape.TypeSchema, left: Any, right: Any) -> tuple[str, str]:
    """The forms of two values; null takes the other's."""
    if left is None:
        form = _form(schema, right)
        return form, form
    form = _form(schema, left)
    return form, form if right is None else _form(schema, right)


def _child(schema: shape.TypeSchema, name: str) -> shape.TypeSchema:
    return schema.fields.get(name) or schema.element or shape.ANY


def _element(schema: shape.TypeSchema) -> shape.TypeSchema:
    return schema.element or shape.ANY


def path_element(schema: shape.TypeSchema, item: Any) -> str:
    """How an element of a set or keyed list is named; `ValueError` if it cannot be."""
    if not schema.keys:
        if item is None or isinstance(item, dict | list):
            raise ValueError("associative list without keys has an element that is not a scalar")
        return fieldset.value(item)
    if not isinstance(item, dict):
        raise ValueError(  # noqa: TRY004 - one error for all elements that cannot be named
            "associative list with keys may not have non-map elements"
        )
    defaults = schema.key_defaults
    keys = {
        key: item[key] if key in item else defaults[key] for key in schema.keys if _has(key, item, defaults)
    }
    if not keys:
        listed = " ".join(f'"{key}"' for key in schema.keys)
        raise ValueError(
            f"associative list with keys has an element that omits all key fields [{listed}] "
            "(and doesn't have default values for any key fields)"
        )
    return fieldset.keyed(keys)


def _has(key: str, item: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    return key in item or key in defaults


def owned(schema: shape.TypeSchema, document: Mapping[str, Any]) -> FieldSet:
    """The fields a document mentions: every leaf, and every element of a keyed list or free map.

    A struct's fields are no members by themselves: `spec` with `replicas` inside owns `.spec.replicas`
    alone, so that two managers can share a struct. An element of a list, or of a free map, is a member
    beside its fields, since somebody added it; so is an empty or null struct, which has nothing else.
    """
    node = _owned(schema, document, member=False)
    return node or {}


def _owned(schema: shape.TypeSchema, value: Any, *, member: bool) -> _Node:
    form = _form(schema, value)
    if form == _LEAF:
        return {}
    below: FieldSet = {}
    if form == "map":
        declared = schema.fields
        for name, item in (value or {}).items():
            itself = item is None or item == {} or name not in declared
            node = _owned(_child(schema, name), item, member=itself)
            if node is not None:
                below["f:" + name] = node
    else:
        element = _element(schema)
        for name, items in _by_element(schema, value or ()).items():
            below[name] = {} if len(items) > 1 else _owned(element, items[0], member=True) or {}
    return _node(below, member=member)


def _node(below: FieldSet, *, member: bool) -> _Node:
    if not below:
        return {} if member else None
    return {SELF: {}, **below} if member else below


def _by_element(schema: shape.TypeSchema, items: Sequence[Any]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for item in items:
        grouped.setdefault(path_element(schema, item), []).append(item)
    return grouped


def compare(schema: shape.TypeSchema, left: Any, right: Any) -> Comparison:
    """What was added, modified and removed on the way from left to right.

    A field is in at most one of the three. Values that are owned whole (leaves, atomic lists) are
    modified, never added to; where the form itself changed (a list became a map) the whole is modified.
    """
    added, modified, removed = _delta(schema, left, right)
    return Comparison(_root(added), _root(modified), _root(removed))


def _root(node: _Node) -> FieldSet:
    if not node:
        return {}
    return {element: below for element, below in node.items() if element != SELF}


def _delta(schema: shape.TypeSchema, left: Any, right: Any) -> tuple[_Node, _Node, _Node]:
    if left is right:
        return _NOTHING
    if left is _ABSENT:
        return _all(schema, right), None, None
    if right is _ABSENT:
        return None, None, _all(schema, left)
    left_form, right_form = _forms(schema, left, right)
    if left_form != right_form:
        return _root(_all(schema, right)) or None, {}, _root(_all(schema, left)) or None
    if left_form == _LEAF or not (left or right):
        return _NOTHING if json_patch.same(left, right) else (None, {}, None)
    if left_form == "map":
        return _map_delta(schema, left or {}, right or {})
    return _list_delta(schema, left or [], right or [])


def _map_delta(
    schema: shape.TypeSchema, left: Mapping[str, Any], right: Mapping[str, Any]
) -> tuple[_Node, _Node, _Node]:
    added: FieldSet = {}
    modified: FieldSet = {}
    removed: FieldSet = {}
    for name, item in right.items():
        before = left.get(name, _ABSENT)
        if before is item or (before == item and type(item) is str):
            continue
        delta = _delta(_child(schema, name), before, item)
        if delta is not _NOTHING:
            _record("f:" + name, delta, added, modified, removed)
    for name, item in left.items():
        if name not in right:
            removed["f:" + name] = _all(_child(schema, name), item)
    return added or None, modified or None, removed or None


def _record(
    name: str, delta: tuple[_Node, _Node, _Node], added: FieldSet, modified: FieldSet, removed: FieldSet
) -> None:
    for node, into in zip(delta, (added, modified, removed), strict=True):
        if node is not None:
            into[name] = node


def _list_delta(
    schema: shape.TypeSchema, left: Sequence[Any], right: Sequence[Any]
) -> tuple[_Node, _Node, _Node]:
    added: FieldSet = {}
    modified: FieldSet = {}
    removed: FieldSet = {}
    before, after = _by_element(schema, left), _by_element(schema, right)
    element = _element(schema)
    for name in {**before, **after}:
        delta = _element_delta(element, before.get(name, []), after.get(name, []))
        _record(name, delta, added, modified, removed)
    return added or None, modified or None, removed or None


def _element_delta(
    element: shape.TypeSchema, before: list[Any], after: list[Any]
) -> tuple[_Node, _Node, _Node]:
    """One element's difference; repeated elements are owned whole, as one."""
    if len(before) > 1 and len(after) > 1:
        return _NOTHING if json_patch.same(before, after) else (None, {}, None)
    if len(before) > 1:
        return (_all(element, after[0]) if after else None), None, {}
    if len(after) > 1:
        return {}, None, (_all(element, before[0]) if before else None)
    return _delta(element, before[0] if before else _ABSENT, after[0] if after else _ABSENT)


def _all(schema: shape.TypeSchema, value: Any) -> FieldSet:
    """Every field of a value that came or went, containers included."""
    form = _form(schema, value)
    if form == _LEAF or not value:
        return {}
    below: FieldSet = {SELF: {}}
    if form == "map":
        for name, item in value.items():
            # Most values are scalars, which are owned whole whatever their type.
            below["f:" + name] = _all(_child(schema, name), item) if isinstance(item, _CONTAINERS) else {}
        return below
    for name, items in _by_element(schema, value).items():
        below[name] = {} if len(items) > 1 else _all(_element(schema), items[0])
    return below


def merge(schema: shape.TypeSchema, live: Any, applied: Any) -> Any:
    """The live value with the applied one laid over it; nothing is removed by merging.

    Maps merge by field, keyed lists and sets by element (`_woven` says in which order), all else is
    replaced whole. What the applied value does not mention is shared with the live one, not copied.
    """
    if applied is _ABSENT or live is applied:
        return live
    if live is _ABSENT:
        return applied
    live_form, form = _forms(schema, live, applied)
    if form == _LEAF or live_form != form or not live:
        return applied
    if not applied:
        return live
    if form == "map":
        return _merged_map(schema, live, applied)
    return _merged_list(schema, live, applied)


def _merged_map(
    schema: shape.TypeSchema, live: Mapping[str, Any], applied: Mapping[str, Any]
) -> Mapping[str, Any]:
    merged = dict(live)
    for name, item in applied.items():
        merged[name] = merge(_child(schema, name), live.get(name, _ABSENT), item)
    return merged


def _merged_list(schema: shape.TypeSchema, live: Sequence[Any], applied: Sequence[Any]) -> list[Any]:
    """Shared elements in the applied order, the live ones around them where they stood."""
    element = _element(schema)
    applied_items = {path_element(schema, item): item for item in applied}
    names = [path_element(schema, item) for item in live]
    current = _by_element(schema, live)
    merged: list[Any] = []
    for name, position in _woven(list(applied_items), names):
        if name not in applied_items:
            merged.append(live[position])
            continue
        live_items = current.get(name, [])
        # A repeated element cannot be merged with: the applied one stands in for all of them.
        merged.append(merge(element, live_items[0] if len(live_items) == 1 else _ABSENT, applied_items[name]))
    return merged


def _woven(applied: Sequence[str], live: Sequence[str]) -> Iterator[tuple[str, int]]:
    """The order of a merged list: names, with the live position of those only the live list has.

    What is applied comes in its own order. What only the live list has comes in the live order, each
    before the first shared element that stands behind it there and has not been yielded yet; at the
    end of the live list, new elements follow. Every name of either list comes once.

    >>> def order(applied, live):
    ...     return "".join(name for name, _ in _woven(applied, live))
    >>> order("ab", live="axb")  # x stays between its neighbours
    'axb'
    >>> order("ba", live="axb")  # b comes first now: x, which stood before b, comes before both
    'xba'
    >>> order("bna", live="axb")  # n is new and keeps its applied place
    'xbna'
    >>> order("n", live="xyz")
    'xyzn'
    """
    in_live, in_applied = set(live), set(applied)
    shared = iter([name for name in applied if name in in_live])
    next_shared = next(shared, None)
    yielded: set[str] = set()
    live_at = applied_at = 0
    while live_at < len(live) or applied_at < len(applied):
        name = live[live_at] if live_at < len(live) else None
        both = name is not None and applied_at < len(applied)
        if name is not None and name not in in_applied:
            yield name, live_at
            live_at += 1
            continue
        if both and next_shared is not None and name != next_shared:
            live_at += 1  # shared, but another shared element comes first
            continue
        if name in yielded or (both and name == applied[applied_at]):
            live_at += 1
        if applied_at < len(applied):
            name = applied[applied_at]
            yielded.add(name)
            yield name, -1
            applied_at += 1
            next_shared = next(shared, None) if name == next_shared else next_shared


def remove(schema: shape.TypeSchema, value: Any, fields: FieldSet) -> Any:
    """The value without these fields and elements; what is emptied but not named itself stays, empty."""
    form = _form(schema, value)
    if form == _LEAF or not value:
        return value
    if form == "map":
        return _removed_from_map(schema, value, fields)
    element = _element(schema)
    remaining = []
    for item in value:
        node = fields.get(path_element(schema, item))
        if node is None:
            remaining.append(item)
        elif not fieldset.is_member(node):
            remaining.append(remove(element, item, node))
    return remaining


def _removed_from_map(
    schema: shape.TypeSchema, value: Mapping[str, Any], fields: FieldSet
) -> Mapping[str, Any]:
    remaining: dict[str, Any] = {}
    for name, item in value.items():
        node = fields.get("f:" + name)
        if node is None:
            remaining[name] = item
        elif not fieldset.is_member(node):
            remaining[name] = remove(_child(schema, name), item, node)
    return remaining


def with_named_fields(schema: shape.TypeSchema, fields: FieldSet) -> FieldSet:
    """The set with every declared field on the way to a member made a member too.

    Pruning needs it: a struct goes with its last field only if the manager's set names the struct too.

    >>> with_named_fields(shape.struct({"a": shape.struct({"b": shape.LEAF})}), {"f:a": {"f:b": {}}})
    {'f:a': {'.': {}, 'f:b': {}}}
    """
    members: FieldSet = {}
    for name, node in fields.items():
        if name == SELF:
            continue
        named = name.startswith("f:") and name[2:] in schema.fields
        child = _child(schema, name[2:]) if name.startswith("f:") else _element(schema)
        below = with_named_fields(child, node)
        members[name] = _node(below, member=named or fieldset.is_member(node)) or {}
    return members


def reconciled(schema: shape.TypeSchema, fields: FieldSet) -> FieldSet:
    """The set after the schema made some of its maps or lists atomic: they are owned whole then.

    >>> reconciled(shape.struct({"m": shape.map_of(atomic=True)}), {"f:m": {"f:a": {}}})
    {'f:m': {}}
    """
    changed: FieldSet = {}
    for name, node in fields.items():
        if name == SELF or not node:
            continue
        child = _child(schema, name[2:]) if name.startswith("f:") else _element(schema)
        if child.form == "any":
            continue
        below = {} if child.atomic else reconciled(child, node)
        if below is not node:
            changed[name] = below
    return {**fields, **changed} if changed else fields


def problems(schema: shape.TypeSchema, value: Any, path: str = "") -> Iterator[str]:
    """What keeps a value from being applied: unknown fields, unnameable or repeated elements."""
    if schema.form in ("any", _LEAF) or value is None:
        return
    if schema.form == "map":
        yield from _map_problems(schema, value, path)
    elif not isinstance(value, list):
        yield f"{path}: expected list, got {value!r}"
    else:
        yield from _list_problems(schema, value, path)


def _map_problems(schema: shape.TypeSchema, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: expected map, got {value!r}"
        return
    for name, item in value.items():
        child = schema.fields.get(name) or schema.element
        if child is None:
            yield f"{path}.{name}: field not declared in schema"
        else:
            yield from problems(child, item, f"{path}.{name}")


def _list_problems(schema: shape.TypeSchema, value: Sequence[Any], path: str) -> Iterator[str]:
    seen: set[str] = set()
    for index, item in enumerate(value):
        name = f"i:{index}"
        if not schema.atomic:
            try:
                name = path_element(schema, item)
            except ValueError as error:
                yield f"{path}: element {index}: {error}"
                return
            if name in seen:
                yield f"{path}: duplicate entries for key {fieldset.render((name,))}"
            seen.add(name)
        yield from problems(_element(schema), item, path + fieldset.render((name,)))
