"""Validation by a CRD's schema: every rule compiled to a closure, every cause in Kubernetes' words.

A check takes a value, its path and the list of causes to add to. Unknown fields are no business of
validation: they were pruned before, or kept on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from ondol.api.schema import causes, formats
from ondol.base import errors, regexp
from ondol.base.errors import Cause


class Causes(list[Cause]):
    """What is wrong with one document, and what matching its patterns may still cost."""

    __slots__ = ("budget",)

    def __init__(self, budget: regexp.Budget | None = None) -> None:
        super().__init__()
        self.budget = budget or regexp.Budget()


Check: TypeAlias = Callable[[Any, str, Causes], None]

_WORDS: Final = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
}
_OBJECT_RULES: Final = ("properties", "required", "additionalProperties", "minProperties", "maxProperties")
_EMBEDDED: Final = ("apiVersion", "kind")
_QUOTED_MAX: Final = 64


def compiled(schema: Mapping[str, Any]) -> Check:
    """The check of one schema and all below it."""
    checks = [*_typed(schema), *_valued(schema), *_joined(schema)]
    nullable = bool(schema.get("nullable"))
    has_type = _type_test(schema)

    def check(value: Any, path: str, problems: Causes) -> None:
        if value is None and nullable:
            return
        if has_type is not None and not has_type(value):
            problems.append(_wrong_type(schema, value, path))
            return
        for rule in checks:
            rule(value, path, problems)

    return check


def _type_test(schema: Mapping[str, Any]) -> Callable[[Any], bool] | None:
    if schema.get("x-kubernetes-int-or-string"):
        return lambda value: isinstance(value, str) or is_integer(value)
    return _TYPE_TESTS.get(schema.get("type", ""))


def is_integer(value: Any) -> bool:
    """Whether a JSON value is a whole number, however it was written."""
    return type(value) is int or (type(value) is float and value.is_integer())


_TYPE_TESTS: Final[dict[str, Callable[[Any], bool]]] = {
    "string": lambda value: type(value) is str,
    "boolean": lambda value: type(value) is bool,
    "integer": is_integer,
    "number": lambda value: type(value) in (int, float),
    "array": lambda value: type(value) is list,
    "object": lambda value: type(value) is dict,
}


def _wrong_type(schema: Mapping[str, Any], value: Any, path: str) -> Cause:
    expected = "integer,string" if schema.get("x-kubernetes-int-or-string") else schema["type"]
    actual = _WORDS.get(type(value), "null")
    named = f"{path} in body" if path else "body"
    return causes.type_invalid(path, actual, f'{named} must be of type {expected}: "{actual}"')


# --- objects and lists


def _typed(schema: Mapping[str, Any]) -> list[Check]:
    checks: list[Check] = []
    if any(key in schema for key in _OBJECT_RULES) or schema.get("x-kubernetes-embedded-resource"):
        checks.append(_object(schema))
    if isinstance(schema.get("items"), Mapping):
        checks.append(_items(compiled(schema["items"])))
    if schema.get("x-kubernetes-list-type") in ("set", "map"):
        checks.append(_unique(schema))
    return checks


def _object(schema: Mapping[str, Any]) -> Check:
    properties = {name: compiled(prop) for name, prop in (schema.get("properties") or {}).items()}
    embedded = schema.get("x-kubernetes-embedded-resource")
    required = [*(schema.get("required") or ()), *(_EMBEDDED if embedded else ())]
    values = schema.get("additionalProperties")
    other = compiled(values) if isinstance(values, Mapping) else None
    least, most = schema.get("minProperties"), schema.get("maxProperties")

    def check(value: Any, path: str, problems: Causes) -> None:
        if type(value) is not dict:
            return
        problems.extend(causes.required(causes.child(path, name)) for name in required if name not in value)
        for name, item in value.items():
            rule = properties.get(name) or other
            if rule is not None:
                rule(item, f"{path}.{name}" if path else name, problems)
        if least is not None and len(value) < least:
            problems.append(
                causes.invalid(path, len(value), f"{path} in body should have at least {least} properties")
            )
        if most is not None and len(value) > most:
            problems.append(causes.too_many(path, len(value), most))

    return check


def _items(rule: Check) -> Check:
    def check(value: Any, path: str, problems: Causes) -> None:
        if type(value) is list:
            for index, item in enumerate(value):
                rule(item, f"{path}[{index}]", problems)

    return check


def _unique(schema: Mapping[str, Any]) -> Check:
    keys: Sequence[str] = schema.get("x-kubernetes-list-map-keys") or ()
    properties = (schema.get("items") or {}).get("properties") or {}
    fallback = {key: (properties.get(key) or {}).get("default") for key in keys}

    def check(value: Any, path: str, problems: Causes) -> None:
        if type(value) is not list:
            return
        seen: set[str] = set()
        for index, item in enumerate(value):
            identity = {k: item.get(k, fallback[k]) for k in keys} if keys and type(item) is dict else item
            quoted = causes.quoted(identity)
            if quoted in seen:
                problems.append(causes.duplicate(f"{path}[{index}]", identity))
            seen.add(quoted)

    return check


# --- values


def _valued(schema: Mapping[str, Any]) -> list[Check]:
    checks = [_VALUE_RULES[key](schema) for key in _VALUE_RULES if schema.get(key) is not None]
    test = formats.check(schema.get("format") or "")
    if test is not None:
        checks.append(_format(test, schema["format"]))
    return checks


def _enum(schema: Mapping[str, Any]) -> Check:
    allowed = list(schema["enum"])
    exact = {causes.quoted(value) for value in allowed}

    def check(value: Any, path: str, problems: Causes) -> None:
        if causes.quoted(value) not in exact:
            problems.append(causes.not_supported(path, value, allowed))

    return check


def _bound(
    key: str, exclusive: str, word: str, fails: Callable[[Any, Any, bool], bool]
) -> Callable[[Mapping[str, Any]], Check]:
    def rule(schema: Mapping[str, Any]) -> Check:
        limit, strict = schema[key], bool(schema.get(exclusive))
        relation = f"{word} than {limit:g}" if strict else f"{word} than or equal to {limit:g}"

        def check(value: Any, path: str, problems: Causes) -> None:
            if type(value) in (int, float) and fails(value, limit, strict):
                problems.append(causes.invalid(path, value, f"{path} in body should be {relation}"))

        return check

    return rule


def _sized(
    key: str,
    of: type[str | list[Any]],
    fails: Callable[[int, int], bool],
    cause: Callable[[str, Any, int], Cause],
) -> Callable[[Mapping[str, Any]], Check]:
    def rule(schema: Mapping[str, Any]) -> Check:
        limit = schema[key]

        def check(value: Any, path: str, problems: Causes) -> None:
            if type(value) is of and fails(len(value), limit):
                problems.append(cause(path, value, limit))

        return check

    return rule


def _pattern(schema: Mapping[str, Any]) -> Check:
    expression = schema["pattern"]

    def check(value: Any, path: str, problems: Causes) -> None:
        if type(value) is not str:
            return
        try:
            if not regexp.compiled(expression).search(value, problems.budget):
                problems.append(causes.invalid(path, value, f"{path} in body should match '{expression}'"))
        except ValueError as wrong:  # in a definition that was stored when its pattern was still taken
            message = f"{path} in body should match '{expression}, but pattern is invalid: {wrong}'"
            problems.append(causes.invalid(path, value, message))
        except errors.TooLarge as wrong:
            problems.append(causes.invalid(path, value[:_QUOTED_MAX], str(wrong)))

    return check


def _multiple(schema: Mapping[str, Any]) -> Check:
    factor = schema["multipleOf"]

    def check(value: Any, path: str, problems: Causes) -> None:
        if type(value) in (int, float) and not float(value / factor).is_integer():
            problems.append(causes.invalid(path, value, f"{path} in body should be a multiple of {factor:g}"))

    return check


def _distinct(schema: Mapping[str, Any]) -> Check:
    is_required = bool(schema["uniqueItems"])

    def check(value: Any, path: str, problems: Causes) -> None:
        if is_required and type(value) is list and len({causes.quoted(item) for item in value}) < len(value):
            problems.append(causes.invalid(path, value, f"{path} in body shouldn't contain duplicates"))

    return check


def _format(test: Callable[[str], bool], name: str) -> Check:
    def check(value: Any, path: str, problems: Causes) -> None:
        if type(value) is str and not test(value):
            problems.append(causes.invalid(path, value, f'{path} in body must be of type {name}: "{value}"'))

    return check


def _short(path: str, value: Any, limit: int) -> Cause:
    return causes.invalid(path, value, f"{path} in body should be at least {limit} chars long")


def _few(path: str, value: Any, limit: int) -> Cause:
    return causes.invalid(path, len(value), f"{path} in body should have at least {limit} items")


_VALUE_RULES: Final[dict[str, Callable[[Mapping[str, Any]], Check]]] = {
    "enum": _enum,
    "minimum": _bound(
        "minimum", "exclusiveMinimum", "greater", lambda v, m, strict: v < m or (strict and v == m)
    ),
    "maximum": _bound(
        "maximum", "exclusiveMaximum", "less", lambda v, m, strict: v > m or (strict and v == m)
    ),
    "multipleOf": _multiple,
    "minLength": _sized("minLength", str, lambda n, m: n < m, _short),
    "maxLength": _sized("maxLength", str, lambda n, m: n > m, lambda path, _, m: causes.too_long(path, m)),
    "minItems": _sized("minItems", list, lambda n, m: n < m, _few),
    "maxItems": _sized(
        "maxItems", list, lambda n, m: n > m, lambda path, v, m: causes.too_many(path, len(v), m)
    ),
    "uniqueItems": _distinct,
    "pattern": _pattern,
}


# --- junctors


def _joined(schema: Mapping[str, Any]) -> list[Check]:
    checks: list[Check] = []
    checks.extend(compiled(part) for part in schema.get("allOf") or ())
    if schema.get("anyOf"):
        checks.append(_some([compiled(part) for part in schema["anyOf"]]))
    if schema.get("oneOf"):
        checks.append(_one([compiled(part) for part in schema["oneOf"]]))
    if schema.get("not") is not None:
        checks.append(_none(compiled(schema["not"])))
    return checks


def _passes(rule: Check, value: Any, path: str, budget: regexp.Budget) -> bool:
    problems = Causes(budget)
    rule(value, path, problems)
    return not problems


def _some(rules: list[Check]) -> Check:
    def check(value: Any, path: str, problems: Causes) -> None:
        if not any(_passes(rule, value, path, problems.budget) for rule in rules):
            problems.append(
                causes.invalid(path, value, f'"{path}" must validate at least one schema (anyOf)')
            )

    return check


def _one(rules: list[Check]) -> Check:
    def check(value: Any, path: str, problems: Causes) -> None:
        passed = sum(_passes(rule, value, path, problems.budget) for rule in rules)
        if passed != 1:
            message = f"Found {passed} valid alternatives" if passed else "Found none valid"
            message = f'"{path}" must validate one and only one schema (oneOf). {message}'
            problems.append(causes.invalid(path, value, message))

    return check


def _none(rule: Check) -> Check:
    def check(value: Any, path: str, problems: Causes) -> None:
        if _passes(rule, value, path, problems.budget):
            problems.append(causes.invalid(path, value, f'"{path}" must not validate the schema (not)'))

    return check
