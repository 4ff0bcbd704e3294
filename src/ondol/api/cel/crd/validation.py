"""Holds objects to the rules of their schema.

Rules run for every value they are declared for, first those of an object, then those of its parts. A rule
that names `oldSelf` is about a change, and runs where the old object has the value too. What a rule says of
a value that has not changed is a warning (ratcheting), so that objects older than a rule can still be
written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn

from ondol.api.cel import declared
from ondol.api.cel.crd import field_paths
from ondol.api.cel.environment import CALL_LIMIT, OBJECT_BUDGET
from ondol.api.cel.environment import rule as rule_environment
from ondol.api.cel.errors import CostExceeded, EvaluationError, NoSuchOverload, Refused, Uninstantiable
from ondol.api.cel.program import Outcome, Program, compile  # noqa: A004 - the word of the language
from ondol.api.cel.types import Type
from ondol.api.cel.values import NONE, Optional
from ondol.api.schema import causes
from ondol.api.schema.structural import has_rules
from ondol.base.errors import Cause

_MESSAGE_BYTES_MAX: Final = 5 * 1024
_COSTLY: Final = 50_000
"""Ten to twenty milliseconds."""
_STOPPED: Final = "no further validation rules will be run"
_OUT_OF_BUDGET: Final = f"validation failed due to running out of cost budget, {_STOPPED}"
_OVER_LIMIT: Final = f"'{{error}}': {_STOPPED} due to call cost exceeds limit for rule: {{rule}}"
_NO_OVERLOAD: Final = (
    "'{error}': call arguments did not match a supported operator, function or macro signature for rule:"
    " {rule}"
)
_MESSAGE_OVER_LIMIT: Final = f"{_STOPPED} due to call cost exceeds limit for messageExpression: {{source}}"
_MESSAGE_OUT_OF_BUDGET: Final = (
    f"messageExpression evaluation failed due to running out of cost budget, {_STOPPED}"
)
Schema = Mapping[str, Any]


class Judgement(NamedTuple):
    """What the rules say of an object: causes to refuse it, and warnings."""

    causes: list[Cause]
    warnings: list[str]


class _Stop(Exception):
    """The budget is spent: no further rule runs. Never leaves this module."""


class _Silent(Exception):
    """The expression of a message cost too much; its text says so. Never leaves this module."""


@dataclass(slots=True)
class _Rule:
    """A rule and its programs; `broken` says why there are none."""

    program: Program | None
    message_program: Program | None
    broken: str
    text: str
    message: str
    reason: str
    field_path: str
    uses_old_self: bool
    optional_old_self: bool


@dataclass(slots=True)
class _Node:
    """The rules of a node of the schema, and the nodes below that have any."""

    type_name: str
    rules: list[_Rule]
    properties: dict[str, _Node]
    values: _Node | None
    items: _Node | None
    list_keys: tuple[str, ...]


class Correlation(NamedTuple):
    """A value and what it was, as far as it can be found in the old object.

    `parent` is the closest pair above that could be found, for values that could not.
    """

    pair: tuple[Any, Any] | None
    parent: tuple[Any, Any] | None = None

    def key(self, name: str) -> Correlation:
        if self.pair is None:
            return self
        if self.parent is None and name in ("apiVersion", "kind"):
            return Correlation(None)
        new, old = self.pair
        both = type(old) is dict and type(new) is dict and name in old and name in new
        return Correlation((new[name], old[name]) if both else None, self.pair)

    def item(self, new: Any, old: Any) -> Correlation:
        if self.pair is None:
            return self
        return Correlation((new, old) if old is not None else None, self.pair)

    @property
    def is_unchanged(self) -> bool:
        pair = self.pair if self.pair is not None else self.parent
        return pair is not None and pair[0] is not None and bool(pair[0] == pair[1])


class Rules:
    """The compiled rules of one version of a definition."""

    def __init__(self, schema: Schema) -> None:
        self._root = _compiled(schema, declared.of_root(schema))
        self.is_costly = self._root is not None and _worst(self._root) > _COSTLY
        """Whether a validation may take as long as a large document's."""

    def validate(self, new: Any, old: Any = None) -> Judgement:
        """What the rules say of an object; `old` is None on create."""
        run = _Run()
        if self._root is not None:
            correlation = Correlation((new, old) if old is not None else None)
            with contextlib.suppress(_Stop):
                run.visit(self._root, _Visit("", new, old, correlation))
        return Judgement(run.causes, run.warnings)


def _compiled(schema: Schema, self_type: Type | None) -> _Node | None:
    """The rules of a node and all below it; None where there are none."""
    properties = {}
    for name, prop in (schema.get("properties") or {}).items():
        node = _part(prop)
        if node is not None:
            properties[name] = node
    values, items = schema.get("additionalProperties"), schema.get("items")
    of_values = _part(values) if isinstance(values, Mapping) else None
    of_items = _part(items) if isinstance(items, Mapping) else None
    rules = [
        _rule(rule, schema, self_type)
        for rule in schema.get("x-kubernetes-validations") or ()
        if (rule.get("rule") or "").strip() and self_type is not None
    ]
    if not (rules or properties or of_values or of_items):
        return None
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    is_map = schema.get("x-kubernetes-list-type") == "map"
    return _Node(
        schema.get("type") or "", rules, properties, of_values, of_items, tuple(keys) if is_map else ()
    )


def _part(schema: Schema) -> _Node | None:
    if not has_rules(schema):
        return None
    own = schema.get("x-kubernetes-validations")
    return _compiled(schema, declared.of_schema(schema) if own else None)


def _rule(rule: Mapping[str, Any], schema: Schema, self_type: Type | None) -> _Rule:
    assert self_type is not None  # noqa: S101 - rules without a type are not compiled
    optional = bool(rule.get("optionalOldSelf"))
    environment = rule_environment(self_type, optional_old_self=optional)
    program = message = None
    broken = ""
    try:
        program = compile(rule["rule"], environment)
        if rule.get("messageExpression"):
            message = compile(rule["messageExpression"], environment)
    except (Refused, Uninstantiable) as error:
        broken = "" if program is not None else str(error)
    path = rule.get("fieldPath") or ""
    return _Rule(
        program,
        message,
        broken,
        rule["rule"].strip(),
        (rule.get("message") or "").strip(),
        rule.get("reason") or "FieldValueInvalid",
        (field_paths.normalized(path, schema) or "") if path else "",
        program is not None and "oldSelf" in program.names,
        optional,
    )


class _Visit(NamedTuple):
    """A value on its way through the rules, with the value it was; None where there was none."""

    path: str
    value: Any
    old: Any
    correlation: Correlation

    @property
    def shown_path(self) -> str:
        return self.path or "<nil>"


def _worst(node: _Node) -> int:
    """What the rules of a node and of all below it may cost, each of them run once."""
    below = [*node.properties.values(), *(part for part in (node.values, node.items) if part is not None)]
    own = (min(rule.program.estimated_cost(), CALL_LIMIT) for rule in node.rules if rule.program is not None)
    return sum(own) + sum(map(_worst, below))


class _Run:
    """One validation: what was seen, and what of the budget is left."""

    def __init__(self) -> None:
        self.causes: list[Cause] = []
        self.warnings: list[str] = []
        self._budget = OBJECT_BUDGET

    def visit(self, node: _Node, at: _Visit) -> None:
        """The rules of a node and of all below it; null is not looked at."""
        if at.value is None:
            return
        for rule in node.rules:
            self._run_rule(node, rule, at)
        if type(at.value) is list and node.items is not None:
            self._visit_items(node, node.items, at)
        elif type(at.value) is dict:
            for name, item in at.value.items():
                below = node.properties.get(name) or node.values
                if below is not None:
                    path = f"{at.path}[{name}]" if below is node.values else causes.child(at.path, name)
                    before = at.old.get(name) if type(at.old) is dict else None
                    self.visit(below, _Visit(path, item, before, at.correlation.key(name)))

    def _visit_items(self, node: _Node, items: _Node, at: _Visit) -> None:
        before = _by_keys(node.list_keys, at.old) if type(at.old) is list else {}
        for index, item in enumerate(at.value):
            was = before.get(_keys_of(node.list_keys, item)) if before else None
            self.visit(items, _Visit(f"{at.path}[{index}]", item, was, at.correlation.item(item, was)))

    def _run_rule(self, node: _Node, rule: _Rule, at: _Visit) -> None:
        if self._budget <= 0:
            self._stop(node, at, _OUT_OF_BUDGET)
        if rule.program is None:
            self._refuse(node, at, f"rule compile error: {rule.broken}")
            return
        if rule.uses_old_self and at.old is None and not rule.optional_old_self:
            return
        activation = {"self": at.value, "oldSelf": at.old}
        if rule.optional_old_self:
            activation["oldSelf"] = NONE if at.old is None else Optional(at.old)
        outcome = rule.program.evaluate(activation, CALL_LIMIT)
        if not self._spend(outcome):
            self._stop(node, at, _OUT_OF_BUDGET)
        if outcome.error is not None:
            self._failed(node, rule, at, outcome.error)
        elif outcome.value is not True:
            self._broken(node, rule, at, activation)

    def _spend(self, outcome: Outcome) -> bool:
        """Take what an evaluation cost from the budget; whether it was there."""
        enough = outcome.cost <= self._budget
        self._budget -= outcome.cost
        return enough

    def _stop(self, node: _Node, at: _Visit, detail: str) -> NoReturn:
        self._refuse(node, at, detail)
        raise _Stop

    def _refuse(self, node: _Node, at: _Visit, detail: str) -> None:
        self.causes.append(causes.invalid(at.shown_path, node.type_name, detail))

    def _failed(self, node: _Node, rule: _Rule, at: _Visit, error: EvaluationError | CostExceeded) -> None:
        shown = rule.message or rule.text
        if isinstance(error, CostExceeded):
            self._stop(node, at, _OVER_LIMIT.format(error=error, rule=shown))
        elif isinstance(error, NoSuchOverload):
            self._refuse(node, at, _NO_OVERLOAD.format(error=error, rule=shown))
        else:
            self._refuse(node, at, f"{error} evaluating rule: {shown}")

    def _broken(self, node: _Node, rule: _Rule, at: _Visit, activation: Mapping[str, Any]) -> None:
        """Say that a value breaks a rule, in the words the rule has for it."""
        path = _joined(at.path, rule.field_path) or "<nil>"
        tolerated = not rule.uses_old_self and at.correlation.is_unchanged
        try:
            detail = self._message(rule, activation) or rule.message or f"failed rule: {rule.text}"
        except _Silent as silent:
            self._report(causes.invalid(path, node.type_name, str(silent)), tolerated=tolerated)
            raise _Stop from None
        self._report(_cause(rule.reason, path, at.value, detail), tolerated=tolerated)

    def _report(self, cause: Cause, *, tolerated: bool) -> None:
        if tolerated:
            self.warnings.append(f"{cause.field}: {cause.message}")
        else:
            self.causes.append(cause)

    def _message(self, rule: _Rule, activation: Mapping[str, Any]) -> str:
        """What the rule's expression says; empty where it has none that can be shown."""
        if rule.message_program is None:
            return ""
        outcome = rule.message_program.evaluate(activation, CALL_LIMIT)
        if isinstance(outcome.error, CostExceeded):
            source = causes.quoted(rule.message_program.source)
            raise _Silent(_MESSAGE_OVER_LIMIT.format(source=source))
        if not self._spend(outcome):
            raise _Silent(_MESSAGE_OUT_OF_BUDGET)
        text = outcome.value.strip() if isinstance(outcome.value, str) else ""
        return text if len(text.encode()) <= _MESSAGE_BYTES_MAX and "\n" not in text else ""


def _joined(path: str, field_path: str) -> str:
    """A path and one below it, which may begin with a key in brackets."""
    if not field_path or field_path.startswith("["):
        return path + field_path
    return causes.child(path, field_path)


def _cause(reason: str, path: str, value: Any, detail: str) -> Cause:
    """The cause of a rule's reason; objects and lists are not quoted."""
    if reason == "FieldValueForbidden":
        return causes.forbidden(path, detail)
    if reason == "FieldValueRequired":
        return causes.required(path, detail)
    whole = type(value) in (dict, list)
    if reason == "FieldValueDuplicate":
        return Cause(reason, "Duplicate value", path) if whole else causes.duplicate(path, value)
    if whole:
        return Cause("FieldValueInvalid", f"Invalid value: {detail}", path)
    return causes.invalid(path, value, detail)


def _keys_of(keys: tuple[str, ...], item: Any) -> Any:
    """What identifies an element of a list that is a map; None for what has no keys."""
    if type(item) is not dict or any(type(item.get(key)) in (type(None), dict, list) for key in keys):
        return None
    return tuple((type(item[key]).__name__, item[key]) for key in keys)


def _by_keys(keys: tuple[str, ...], items: list[Any]) -> dict[Any, Any]:
    """The elements of an old list by their keys; none for a list that is no map."""
    out: dict[Any, Any] = {}
    for item in items if keys else ():
        key = _keys_of(keys, item)
        if key is not None:
            out.setdefault(key, item)
    return out
