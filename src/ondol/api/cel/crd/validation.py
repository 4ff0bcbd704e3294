"""Holds objects to the rules of their schema.

Rules run for every value they are declared for, first those of an object, then those of its parts. A rule that
names `oldSelf` is about a change, and runs where the old object has the value too. What a rule finds in a value
that has not changed is a warning (ratcheting), so that objects of before a rule can still be written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ondol.api.cel import declared
from ondol.api.cel.crd import field_paths
from ondol.api.cel.environment import CALL_LIMIT, OBJECT_BUDGET
from ondol.api.cel.environment import rule as rule_environment
from ondol.api.cel.errors import CostExceeded, EvaluationError, NoSuchOverload, Refused, Uninstantiable
from ondol.api.cel.program import Outcome, Program, compile
from ondol.api.cel.types import Type
from ondol.api.cel.values import NONE, Optional
from ondol.api.schema import causes
from ondol.api.schema.structural import has_rules
from ondol.base.errors import Cause

_MESSAGE_BYTES_MAX: Final = 5 * 1024
_OUT_OF_BUDGET: Final = (
    "validation failed due to running out of cost budget, no further validation rules will be run"
)
Schema = Mapping[str, Any]


class Judgement(NamedTuple):
    """What the rules say of an object: causes to refuse it, and warnings."""

    causes: list[Cause]
    warnings: list[str]


class _Stop(Exception):  # noqa: N818 - never leaves this module
    """The budget is spent: no further rule runs."""


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

    def index(self, new: Any, old: Any) -> Correlation:
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

    def validate(self, new: Any, old: Any = None) -> Judgement:
        """What the rules say of an object; `old` is None on create."""
        run = _Run()
        if self._root is not None:
            correlation = Correlation((new, old) if old is not None else None)
            try:
                run.visit(self._root, "", new, old, correlation)
            except _Stop:
                pass
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


class _Run:
    """One validation: what was found, and what of the budget is left."""

    def __init__(self) -> None:
        self.causes: list[Cause] = []
        self.warnings: list[str] = []
        self._budget = OBJECT_BUDGET

    def visit(self, node: _Node, path: str, value: Any, old: Any, correlation: Correlation) -> None:
        """The rules of a node and of all below it; null is not looked at."""
        if value is None:
            return
        for rule in node.rules:
            self._run_rule(node, rule, path, value, old, correlation)
        if type(value) is list and node.items is not None:
            self._visit_items(node, node.items, path, value, old, correlation)
        elif type(value) is dict:
            for name, item in value.items():
                below = node.properties.get(name) or node.values
                if below is not None:
                    where = f"{path}[{name}]" if node.values is below else causes.child(path, name)
                    before = old.get(name) if type(old) is dict else None
                    self.visit(below, where, item, before, correlation.key(name))

    def _visit_items(
        self, node: _Node, items: _Node, path: str, value: list[Any], old: Any, correlation: Correlation
    ) -> None:
        before = _by_keys(node.list_keys, old) if type(old) is list else {}
        for index, item in enumerate(value):
            was = before.get(_keys_of(node.list_keys, item)) if before else None
            self.visit(items, f"{path}[{index}]", item, was, correlation.index(item, was))

    def _run_rule(
        self, node: _Node, rule: _Rule, path: str, value: Any, old: Any, correlation: Correlation
    ) -> None:
        if self._budget <= 0:
            self._stop(node, path, _OUT_OF_BUDGET)
        if rule.program is None:
            self._refuse(path, node, f"rule compile error: {rule.broken}")
            return
        if rule.uses_old_self and old is None and not rule.optional_old_self:
            return
        activation = {"self": value, "oldSelf": old}
        if rule.optional_old_self:
            activation["oldSelf"] = NONE if old is None else Optional(old)
        outcome = rule.program.evaluate(activation, CALL_LIMIT)
        self._spend(outcome, lambda: self._stop(node, path, _OUT_OF_BUDGET))
        if outcome.error is not None:
            self._failed(node, rule, path, outcome.error)
        elif outcome.value is not True:
            ratchets = not rule.uses_old_self and correlation.is_unchanged
            self._broken(node, rule, path, value, activation, ratchets=ratchets)

    def _spend(self, outcome: Outcome, stop: Callable[[], None]) -> None:
        if outcome.cost > self._budget:
            stop()
        self._budget -= outcome.cost

    def _stop(self, node: _Node, path: str, detail: str) -> None:
        self._refuse(path, node, detail)
        raise _Stop

    def _refuse(self, path: str, node: _Node, detail: str) -> None:
        self.causes.append(causes.invalid(path or "<nil>", node.type_name, detail))

    def _failed(self, node: _Node, rule: _Rule, path: str, error: EvaluationError | CostExceeded) -> None:
        shown = rule.message or rule.text
        if isinstance(error, CostExceeded):
            self._stop(
                node,
                path,
                f"'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}",
            )  # noqa: E501  # one message
        elif isinstance(error, NoSuchOverload):
            self._refuse(
                path,
                node,
                f"'{error}': call arguments did not match a supported operator, function or macro signature for rule: {shown}",
            )  # noqa: E501  # one message
        else:
            self._refuse(path, node, f"{error} evaluating rule: {shown}")

    def _broken(
        self,
        node: _Node,
        rule: _Rule,
        path: str,
        value: Any,
        activation: Mapping[str, Any],
        *,
        ratchets: bool,
    ) -> None:
        """Say that a value breaks a rule, in the words the rule has for it."""
        place = causes.child(path, rule.field_path) if rule.field_path else path or "<nil>"
        place = place.replace(".[", "[")

        def stop(detail: str) -> None:
            self._report(causes.invalid(place, node.type_name, detail), ratchets=ratchets)
            raise _Stop

        detail = self._message(rule, activation, stop) or rule.message or f"failed rule: {rule.text}"
        self._report(_cause(rule.reason, place, value, detail), ratchets=ratchets)

    def _report(self, cause: Cause, *, ratchets: bool) -> None:
        if ratchets:
            self.warnings.append(f"{cause.field}: {cause.message}")
        else:
            self.causes.append(cause)

    def _message(self, rule: _Rule, activation: Mapping[str, Any], stop: Callable[[str], None]) -> str:
        """What the rule's expression says; empty where it has none that can be shown."""
        if rule.message_program is None:
            return ""
        outcome = rule.message_program.evaluate(activation, CALL_LIMIT)
        source = causes.quoted(rule.message_program.source)
        if isinstance(outcome.error, CostExceeded):
            stop(
                f"no further validation rules will be run due to call cost exceeds limit for messageExpression: {source}"
            )  # noqa: E501  # one message
        self._spend(
            outcome,
            lambda: stop(
                "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run"
            ),
        )  # noqa: E501  # one message
        text = outcome.value.strip() if isinstance(outcome.value, str) else ""
        return text if len(text.encode()) <= _MESSAGE_BYTES_MAX and "\n" not in text else ""


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
