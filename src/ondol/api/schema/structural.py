"""Custom resources: pruning, defaulting and validation by a CRD's schema.

A `Structural` is compiled once when the CRD is established. The order for a write is `decode`, then
`default`, then `validate`. Rules in CEL (`x-kubernetes-validations`) are compiled with the first validation.

>>> size = {"type": "integer", "minimum": 1, "default": 1}
>>> box = {"type": "object", "properties": {"size": size, "label": {"type": "string", "nullable": True}}}
>>> compiled = Structural({"type": "object", "properties": {"spec": box}})
>>> box = compiled.decode({"spec": {"weight": 3, "size": None, "label": None}})  # no field `weight`
>>> box
{'spec': {'size': None, 'label': None}}
>>> compiled.default(box)  # a null that may not be gives way to the default
>>> box
{'spec': {'size': 1, 'label': None}}
>>> compiled.validate({"spec": {"size": 0}})[0].message
'Invalid value: 0: spec.size in body should be greater than or equal to 1'
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ondol.api import facts
from ondol.api.objects import Object
from ondol.api.schema import causes, model, typed, validation
from ondol.base.errors import Cause

if TYPE_CHECKING:
    from ondol.api.cel.crd.validation import Rules

Default: TypeAlias = Callable[[Any], None]
Warn: TypeAlias = Callable[[str], None]
_META: Final = facts.META + "ObjectMeta"
_BLOCKING: Final = frozenset(
    (
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    )
)
_NOT_ALL_CHECKED: Final = causes.invalid(
    "<nil>",
    None,
    "some validation rules were not checked because the object was invalid; correct the existing errors to"
    " complete validation",
)


def _silently(message: str) -> None:
    del message


class Structural:
    """The compiled walkers of one version of a CRD."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema
        self.node = model.of_openapi(schema)
        self._default = _defaulter(self.node)
        self._has_rules = has_rules(schema)
        self._check = validation.compiled({**schema, "properties": _without_root_fields(schema)})

    def decode(self, document: Object) -> Object:
        """A copy without the fields the schema does not know and nulls it does not allow.

        `BadRequest` if metadata is malformed.
        """
        pruned: Object = _pruned(self.node, document)
        return pruned

    def unknown_fields(self, document: Object) -> list[str]:
        """The paths of the fields `decode` drops."""
        return unknown(self.node, document)

    def default(self, document: Object) -> None:
        """Apply the schema's defaults in place; a null where none is allowed gives way to a default."""
        if self._default is not None:
            self._default(document)

    def validate(self, document: Object) -> list[Cause]:
        """Everything wrong with the document by its schema and its rules."""
        return self._ruled(self._problems(document), document, None, _silently)

    def validate_update(self, new: Object, old: Object, warn: Warn = _silently) -> list[Cause]:
        """As `validate`, forgiving what was wrong already and did not change (ratcheting).

        `warn` is told of the rules an unchanged value breaks.
        """
        problems = self._problems(new)
        if problems:
            before = {cause for cause in self._problems(old) if cause.reason != "FieldValueRequired"}
            problems = [c for c in problems if c not in before or _at(new, c.field) != _at(old, c.field)]
        return self._ruled(problems, new, old, warn)

    def _problems(self, document: Object) -> list[Cause]:
        problems = validation.Causes()
        self._check(document, "", problems)
        return problems

    @property
    def is_heavy(self) -> bool:
        """Whether a validation may take long: its rules are to be compiled, or may cost much."""
        if "_rules" not in self.__dict__:
            return self._has_rules
        return self._rules is not None and self._rules.is_costly

    @functools.cached_property
    def _rules(self) -> Rules | None:
        if not self._has_rules:
            return None
        from ondol.api.cel.crd import validation as cel  # noqa: PLC0415 - only who has rules pays for CEL

        return cel.Rules(self.schema)

    def _ruled(self, problems: list[Cause], new: Object, old: Object | None, warn: Warn) -> list[Cause]:
        """The problems with what the rules find, which look only at what has the form of the schema."""
        rules = self._rules
        if rules is None:
            return problems
        if any(cause.reason in _BLOCKING for cause in problems):
            return [*problems, _NOT_ALL_CHECKED]
        judgement = rules.validate(new, old)
        for warning in judgement.warnings:
            warn(warning)
        return [*problems, *judgement.causes]


def _at(value: Any, path: str) -> Any:
    """The value at a cause's path, or None; keys may contain the characters that separate a path."""
    if not path:
        return value
    if isinstance(value, list) and path.startswith("["):
        index, _, rest = path[1:].partition("]")
        return _at(value[int(index)], rest.removeprefix(".")) if int(index) < len(value) else None
    for key, inner in value.items() if isinstance(value, dict) else ():
        rest = path.removeprefix(key)
        if path.startswith(key) and rest[:1] in ("", ".", "["):
            match = _at(inner, rest.removeprefix("."))
            if match is not None:
                return match
    return None


def _without_root_fields(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema's properties less apiVersion and kind; metadata stays, since it may restrict the name."""
    properties = dict(schema.get("properties") or {})
    properties.pop("apiVersion", None)
    properties.pop("kind", None)
    return properties


def has_rules(schema: Mapping[str, Any]) -> bool:
    """Whether a schema has rules in CEL anywhere."""
    if schema.get("x-kubernetes-validations"):
        return True
    parts = [*(schema.get("properties") or {}).values(), schema.get("items")]
    parts.append(schema.get("additionalProperties"))
    return any(has_rules(part) for part in parts if isinstance(part, Mapping))


def _pruned(node: model.Node, value: Any) -> Any:
    """A copy of the value that has only what the node describes.

    A field stays if it is described, if the object has an `element` for other fields, or if it is open
    (`x-kubernetes-preserve-unknown-fields`): an open object keeps fields, and prunes inside described ones.
    """
    if type(value) is dict and node.kind == model.OBJECT:
        return _pruned_object(node, value)
    if node.kind == model.BARE:
        return _pruned_bare(value)
    element = node.element
    if type(value) is dict and element is not None:
        return {key: _pruned(element, item) for key, item in value.items() if not _drops(element, item)}
    if type(value) is list and element is not None:
        return [_pruned(element, item) for item in value]
    return copy.deepcopy(value)


def _pruned_object(node: model.Node, value: Object) -> Object:
    out: Object = {}
    for key, item in value.items():
        child = node.fields.get(key) or node.element
        if child is None:
            if node.open:
                out[key] = copy.deepcopy(item)
        elif child.type_name == _META:
            out[key] = _metadata(item, out.get("kind") or value.get("kind") or "")
        elif type(item) in (dict, list):
            out[key] = _pruned(child, item)
        elif not _drops(child, item):
            out[key] = item
    return out


def _pruned_bare(value: Any) -> Any:
    if type(value) is list:
        return [_pruned_bare(item) for item in value]
    return {} if type(value) is dict else value


def _drops(node: model.Node, value: Any) -> bool:
    """Whether a member is a null that may not be, and that no default takes the place of.

    Go's encoder writes nil slices and maps as null; they mean nothing.
    """
    return value is None and not node.nullable and node.default is None and node.kind != model.BARE


def _metadata(value: Any, kind: str) -> Object:
    return typed.of(_META).decode({} if value is None else value, kind=kind, path="metadata")


def unknown(node: model.Node, value: Any) -> list[str]:
    """The paths of the fields that pruning drops from a value, sorted."""
    paths: list[str] = []
    _unknown(node, value, "", paths)
    return sorted(paths)


def _unknown(node: model.Node, value: Any, path: str, paths: list[str]) -> None:
    if type(value) is dict and node.kind == model.OBJECT:
        for key, item in value.items():
            child = node.fields.get(key) or node.element
            field_path = f"{path}.{key}" if path else key
            if child is not None:
                _unknown(child, item, field_path, paths)
            elif not node.open:
                paths.append(field_path)
    elif node.kind == model.BARE:
        _unknown_in_bare(value, path, paths)
    elif type(value) is dict and node.element is not None:
        for key, item in value.items():
            _unknown(node.element, item, f"{path}.{key}" if path else key, paths)
    elif type(value) is list and node.element is not None:
        for index, item in enumerate(value):
            _unknown(node.element, item, f"{path}[{index}]", paths)


def _unknown_in_bare(value: Any, path: str, paths: list[str]) -> None:
    if type(value) is list:
        for index, item in enumerate(value):
            _unknown_in_bare(item, f"{path}[{index}]", paths)
    elif type(value) is dict:
        paths.extend(f"{path}.{key}" for key in value)


def _defaulter(node: model.Node) -> Default | None:
    """The in-place defaulting below a node; None where there is nothing to default.

    A default is written before what is inside it is defaulted, so that a default `{}` of an object is
    filled by the defaults of its fields. An absent object without a default stays absent, whatever its
    fields' defaults are.
    """
    if node.kind != model.OBJECT:
        return _each(node.element) if node.element is not None else None
    if node.type_name:
        return None
    steps = []
    for name, child in node.fields.items():
        inner = _defaulter(child)
        if inner is not None or child.default is not None:
            steps.append((name, child.default, child.nullable, inner))
    return _fields(steps) if steps else None


def _fields(steps: list[tuple[str, Any, bool, Default | None]]) -> Default:
    def apply(value: Any) -> None:
        if type(value) is not dict:
            return
        for name, default, nullable, inner in steps:
            if default is not None and (name not in value or (value[name] is None and not nullable)):
                value[name] = copy.deepcopy(default)
            if inner is not None and name in value:
                inner(value[name])

    return apply


def _each(element: model.Node) -> Default | None:
    inner = _defaulter(element)
    default, nullable = element.default, element.nullable
    if inner is None and default is None:
        return None

    def apply(value: Any) -> None:
        places: Any = (
            enumerate(value) if type(value) is list else value.items() if type(value) is dict else ()
        )
        for place, item in list(places):
            if item is None and default is not None and not nullable:
                value[place] = copy.deepcopy(default)
            if inner is not None:
                inner(value[place])

    return apply
