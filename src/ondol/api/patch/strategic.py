"""Strategic merge patch: a merge patch that knows which lists are keyed, and has directives.

Directives: `$patch: replace|delete|merge`, `$deleteFromPrimitiveList/<field>`,
`$setElementOrder/<field>` and `$retainKeys`. What is keyed, and by what, comes from a `PatchSchema`
(for built-in kinds `patch.shape` makes one from the table of facts). Order of a merged list:
`$setElementOrder` first, then the patch, then the live list.

>>> from ondol.api.patch import shape
>>> pod_spec = shape.of_builtin("io.k8s.api.core.v1.PodSpec")
>>> live = {"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}, {"name": "c"}]}
>>> apply(live, {"containers": [{"name": "b", "image": "b:2"}]}, pod_spec)["containers"]
[{'name': 'a', 'image': 'a:1'}, {'name': 'b', 'image': 'b:2'}, {'name': 'c'}]
>>> apply(live, {"containers": [{"name": "a", "$patch": "delete"}]}, pod_spec)["containers"]
[{'name': 'b', 'image': 'b:1'}, {'name': 'c'}]
>>> apply(live, {"containers": [{"name": "d"}, {"$patch": "replace"}]}, pod_spec)
{'containers': [{'name': 'd'}]}
>>> metadata = {"finalizers": ["x", "y"]}
>>> apply(metadata, {"$deleteFromPrimitiveList/finalizers": ["x"]}, shape.object_meta())
{'finalizers': ['y']}
>>> update = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}
>>> deployment = shape.of_builtin("io.k8s.api.apps.v1.DeploymentSpec")
>>> apply({"strategy": update}, {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}, deployment)
{'strategy': {'type': 'Recreate'}}
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from ondol.base import errors

_DIRECTIVE: Final = "$patch"
_RETAIN_KEYS: Final = "$retainKeys"
_DELETE_FROM: Final = "$deleteFromPrimitiveList/"
_ORDER: Final = "$setElementOrder/"

_Map: TypeAlias = dict[str, Any]
_List: TypeAlias = list[Any]


class PatchSchema(Protocol):
    """What strategic merge needs to know of an object: how each of its fields merges."""

    def patch_field(self, name: str) -> PatchField | None:
        """How the field merges; None for a field this type does not have."""
        ...


@dataclass(frozen=True, slots=True)
class PatchField:
    """How one field merges."""

    strategy: str = ""
    """`merge` (lists), `replace` (maps), or empty for the default: lists replace, maps merge."""
    merge_key: str = ""
    """For lists of objects that merge: the member that tells elements apart."""
    child: PatchSchema | None = None
    """The schema of the field's value, or of its elements if it is a list or a free map."""


_UNKNOWN: Final = PatchField()


def apply(document: _Map, patch: _Map, schema: PatchSchema) -> _Map:
    """The document after a strategic merge patch; `BadRequest` for a patch that makes no sense."""
    if not isinstance(patch, dict):
        raise errors.BadRequest("error decoding patch: a strategic merge patch is an object")
    return _merge_map(document, patch, schema)


def _field(schema: PatchSchema | None, name: str) -> PatchField:
    declared = schema.patch_field(name) if schema is not None else None
    return declared or _UNKNOWN


def _merge_map(original: _Map, patch: _Map, schema: PatchSchema | None) -> _Map:
    if _DIRECTIVE in patch:
        return _directed_map(patch)
    merged = _retained(original, patch)
    ordered = {key.removeprefix(_ORDER) for key in patch if key.startswith(_ORDER)}
    for name in ordered:
        _merge_ordered(merged, patch, name, _field(schema, name))
    for key, value in patch.items():
        if key == _RETAIN_KEYS or key.startswith(_ORDER) or key in ordered:
            continue
        if key.startswith(_DELETE_FROM):
            _delete_from(merged, key.removeprefix(_DELETE_FROM), value)
        elif value is None:
            merged.pop(key, None)
        else:
            _merge_field(merged, key, value, _field(schema, key))
    return merged


def _directed_map(patch: _Map) -> _Map:
    directive = patch[_DIRECTIVE]
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _DIRECTIVE}
    if directive == "delete":
        return {}
    if directive == "merge":
        raise errors.BadRequest("$patch: merge is the default of maps and cannot be written in one")
    raise _bad_directive(directive)


def _bad_directive(directive: Any) -> errors.BadRequest:
    return errors.BadRequest(f"unknown patch type: {directive}")


def _retained(original: _Map, patch: _Map) -> _Map:
    """A copy of the original, cut to the keys `$retainKeys` allows."""
    if _RETAIN_KEYS not in patch:
        return dict(original)
    keys = patch[_RETAIN_KEYS]
    if not isinstance(keys, list):
        raise errors.BadRequest("invalid patch format of retainKeys")
    for key, value in patch.items():
        exempt = value is None or key == _RETAIN_KEYS or key.startswith((_DELETE_FROM, _ORDER))
        if not exempt and key not in keys:
            raise errors.BadRequest("invalid patch format of retainKeys")
    return {key: value for key, value in original.items() if key in keys}


def _merge_field(merged: _Map, key: str, value: Any, field: PatchField) -> None:
    current = merged.get(key)
    if isinstance(current, dict) and isinstance(value, dict):
        replaces = field.strategy == "replace"
        merged[key] = value if replaces else _merge_map(current, value, field.child)
        return
    if isinstance(current, list) and isinstance(value, list) and field.strategy == "merge":
        merged[key] = _merge_list(current, value, field)
        return
    if isinstance(current, list) and isinstance(value, list):
        merged[key] = value
        return
    has_content, clean = _without_directives(value)
    if has_content:
        merged[key] = clean
    else:
        merged.pop(key, None)


def _without_directives(value: Any) -> tuple[bool, Any]:
    """A patch value as plain content: no nulls, no directives; False when nothing is left to keep."""
    if isinstance(value, dict):
        if _DIRECTIVE in value:
            return False, None
        cleaned = {
            key: _without_directives(item)
            for key, item in value.items()
            if item is not None and not _is_directive(key)
        }
        return True, {key: item for key, (has_content, item) in cleaned.items() if has_content}
    if isinstance(value, list):
        return True, [item for has_content, item in map(_without_directives, value) if has_content]
    return True, value


def _is_directive(key: str) -> bool:
    return key == _RETAIN_KEYS or key.startswith((_DELETE_FROM, _ORDER))


def _delete_from(merged: _Map, name: str, values: Any) -> None:
    if not isinstance(values, list):
        raise errors.BadRequest("invalid patch format of primitive list")
    current = merged.get(name)
    if isinstance(current, list):
        merged[name] = [item for item in current if not _contains(values, item)]


def _contains(values: _List, value: Any) -> bool:
    """Membership by JSON equality of scalars: `1` is not `true`."""
    return any(item == value and isinstance(item, bool) is isinstance(value, bool) for item in values)


def _merge_ordered(merged: _Map, patch: _Map, name: str, field: PatchField) -> None:
    """Merge a list that comes with `$setElementOrder`, then put it in that order."""
    order = patch[_ORDER + name]
    current = merged.get(name)
    changes = patch.get(name)
    for value in (order, current, changes):
        if value is not None and not isinstance(value, list):
            raise errors.BadRequest(f"expected a list in {_ORDER}{name} and its field")
    if order is None:
        raise errors.BadRequest("invalid patch format of setElementOrder list")
    if changes is None and name in patch:
        merged.pop(name, None)
        return
    if changes is None and current is None:
        return
    _check_order(changes or [], order, field.merge_key)
    live = _live_order(current or [], changes or [], field)
    merged[name] = _ordered(_merged_for_order(current, changes, field), order, live, field.merge_key)


def _live_order(current: _List, changes: _List, field: PatchField) -> _List:
    """The order others are woven in by; an element that comes for a deleted one takes its place."""
    if field.strategy != "merge" or not field.merge_key:
        return current
    remaining, plain = _directed_list(current, changes, field.merge_key)
    ranks = _ranks(remaining, field.merge_key)
    added = [item for item in plain if _identity(item, field.merge_key) not in ranks]
    return [*remaining, *added][: len(current)]


def _merged_for_order(current: _List | None, changes: _List | None, field: PatchField) -> _List:
    if changes is None:
        return current or []
    if current is None:
        added: _List = _without_directives(changes)[1]
        return added
    return _merge_list(current, changes, field) if field.strategy == "merge" else changes


def _check_order(changes: _List, order: _List, merge_key: str) -> None:
    """Each element the patch writes must stand in the order list, in the same sequence."""
    if not changes or not order:
        return
    positions = iter([_identity(item, merge_key) for item in order])
    for item in changes:
        if isinstance(item, dict) and _DIRECTIVE in item:
            continue
        if _identity(item, merge_key) not in positions:
            raise errors.BadRequest(
                f"The order in patch list:\n{changes}\n doesn't match {_ORDER[:-1]} list:\n{order}\n"
            )


def _merge_list(current: _List, patch: _List, field: PatchField) -> _List:
    if not current and not patch:
        return current
    elements = [*current, *patch]
    if any(isinstance(item, list) for item in elements):
        raise errors.BadRequest("lists of lists are not supported")
    if not any(isinstance(item, dict) for item in elements):
        merged = _unique(elements)
        return _ordered(merged, patch, current, "")
    if not all(isinstance(item, dict) for item in elements):
        raise errors.BadRequest("list element types are not identical")
    if not field.merge_key:
        raise errors.BadRequest("cannot merge lists without merge key")
    remaining, changes = _directed_list(current, patch, field.merge_key)
    merged = _merge_elements(remaining, changes, field)
    return _ordered(merged, changes, remaining, field.merge_key)


def _unique(values: _List) -> _List:
    distinct: _List = []
    for value in values:
        if not _contains(distinct, value):
            distinct.append(value)
    return distinct


def _directed_list(current: _List, patch: _List, merge_key: str) -> tuple[_List, _List]:
    """The live list less what directives delete (all of it under `replace`), and the plain changes."""
    remaining, changes, replace = current, [], False
    for item in patch:
        match item.get(_DIRECTIVE):
            case None:
                changes.append(item)
            case "delete":
                identity = _identity(item, merge_key)
                remaining = [
                    element for element in remaining if _identity_or_none(element, merge_key) != identity
                ]
            case "replace":
                replace = True
            case "merge":
                raise errors.BadRequest("merging lists cannot yet be specified in the patch")
            case directive:
                raise _bad_directive(directive)
    return ([], [_without_directives(item)[1] for item in changes]) if replace else (remaining, changes)


def _merge_elements(current: _List, changes: _List, field: PatchField) -> _List:
    merged = list(current)
    index = {_identity_or_none(item, field.merge_key): place for place, item in enumerate(merged)}
    for item in changes:
        identity = _identity(item, field.merge_key)
        place = index.get(identity)
        if place is None:
            index[identity] = len(merged)
            merged.append(_without_directives(item)[1])
        else:
            merged[place] = _merge_map(merged[place], item, field.child)
    return merged


def _identity(item: Any, merge_key: str) -> Hashable:
    """What identifies a list element: its merge key's value, or itself if it is a scalar."""
    if not merge_key:
        return type(item) is bool, item
    if not isinstance(item, dict) or merge_key not in item:
        raise errors.BadRequest(f"map: {item} does not contain declared merge key: {merge_key}")
    value = item[merge_key]
    if isinstance(value, dict | list):
        raise errors.BadRequest(f"the merge key {merge_key} is not a scalar in map: {item}")
    return type(value) is bool, value


def _identity_or_none(item: Any, merge_key: str) -> Hashable:
    return _identity(item, merge_key) if isinstance(item, Mapping) and merge_key in item else None


def _ordered(merged: _List, order: _List, live: _List, merge_key: str) -> _List:
    """Elements named in `order` in that order, the others as they stood, woven in by the live list.

    Another element comes before the first named one that stands behind it in the live list; one that
    has no live place comes last. Here b stood before c, and n is new:

    >>> def containers(names):
    ...     return [{"name": name} for name in names]
    >>> live = containers("abc")
    >>> ordered = _ordered([*live, {"name": "n"}], containers("nca"), live, "name")
    >>> "".join(item["name"] for item in ordered)
    'nbca'
    """
    ranks = _ranks(order, merge_key)
    live_ranks = _ranks(live, merge_key)
    named = [item for item in merged if _identity(item, merge_key) in ranks]
    others = [item for item in merged if _identity(item, merge_key) not in ranks]
    named.sort(key=lambda item: ranks[_identity(item, merge_key)])
    others.sort(key=lambda item: live_ranks.get(_identity(item, merge_key), len(live_ranks)))
    return _woven(others, named, live_ranks, merge_key)


def _ranks(items: _List, merge_key: str) -> dict[Hashable, int]:
    ranks: dict[Hashable, int] = {}
    for place, item in enumerate(items):
        ranks.setdefault(_identity(item, merge_key), place)
    return ranks


def _woven(
    others: Sequence[Any], named: Sequence[Any], live_ranks: Mapping[Hashable, int], merge_key: str
) -> _List:
    woven: _List = []
    waiting = list(reversed(others))
    for item in named:
        rank = live_ranks.get(_identity(item, merge_key))
        while waiting and rank is not None:
            other = live_ranks.get(_identity(waiting[-1], merge_key))
            if other is None or other >= rank:
                break
            woven.append(waiting.pop())
        woven.append(item)
    return [*woven, *reversed(waiting)]
