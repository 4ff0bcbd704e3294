"""What is wrong with the rules of a definition's schema, in Kubernetes' words.

A rule must compile, be a boolean, and not cost more than it may on the largest object the schema allows: so
many lists and maps it stands in, so often it runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ondol.api.cel import declared
from ondol.api.cel.crd import field_paths
from ondol.api.cel.environment import rule as rule_environment
from ondol.api.cel.errors import Refused, Uninstantiable
from ondol.api.cel.program import Program, compile  # noqa: A004 - the word of the language
from ondol.api.cel.types import SIZE_MAX, Type
from ondol.api.schema import causes
from ondol.base.errors import Cause

RULE_COST_MAX: Final = 10_000_000
SCHEMA_COST_MAX: Final = 100_000_000
REASONS: Final = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_LINE_END: Final = re.compile(r"[\n\r]")
_EXPENSIVE_SHOWN_MAX: Final = 4

Schema = Mapping[str, Any]


@dataclass(slots=True)
class _Total:
    """What all rules of a schema may cost together, and the most expensive of them."""

    cost: int = 0
    expensive: list[tuple[int, str]] = field(default_factory=list)

    def observe(self, path: str, cost: int) -> None:
        self.cost = min(self.cost + cost, SIZE_MAX)
        if cost >= SCHEMA_COST_MAX // 100:
            self.expensive.append((cost, path))


@dataclass(frozen=True, slots=True)
class _Place:
    """A node of the schema: where it is, and how often an object may have it (None: without bound)."""

    schema: Schema
    path: str
    count: int | None = 1
    uncorrelatable: str = ""
    """The path of the list whose elements cannot be found again in the old object."""
    root: bool = False

    def below(self) -> Iterator[_Place]:
        """The places of fields, elements and values."""
        schema, path = self.schema, self.path
        for name, prop in (schema.get("properties") or {}).items():
            yield _Place(prop, f"{path}.properties[{name}]", self._times(1), self.uncorrelatable)
        values, items = schema.get("additionalProperties"), schema.get("items")
        if isinstance(values, Mapping):
            count = self._times(schema.get("maxProperties"))
            yield _Place(values, f"{path}.additionalProperties", count, self.uncorrelatable)
        if isinstance(items, Mapping):
            lost = "" if schema.get("x-kubernetes-list-type") == "map" else path
            count = self._times(schema.get("maxItems"))
            yield _Place(items, f"{path}.items", count, lost or self.uncorrelatable)

    def _times(self, limit: int | None) -> int | None:
        if self.count is None or limit is None:
            return None
        return min(self.count * max(limit, 0), SIZE_MAX)


def check(schema: Schema, path: str) -> list[Cause]:
    """Every cause to refuse the rules of a version's schema, which is structural already."""
    problems: list[Cause] = []
    total = _Total()
    waiting = [_Place(schema, path, root=True)]
    while waiting:
        place = waiting.pop()
        waiting += place.below()
        rules = place.schema.get("x-kubernetes-validations")
        if rules:
            problems += _of_place(place, rules, total)
    return problems + list(_of_total(total, path))


def _of_place(place: _Place, rules: list[Mapping[str, Any]], total: _Total) -> list[Cause]:
    path = f"{place.path}.x-kubernetes-validations"
    problems = [
        cause for index, rule in enumerate(rules) for cause in _form(rule, f"{path}[{index}]", place.schema)
    ]
    if problems:
        return problems
    self_type = declared.of_root(place.schema) if place.root else declared.of_schema(place.schema)
    if self_type is None:
        message = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations"  # noqa: E501  # one message
        return [Cause("InternalError", f"Internal error: {message}", path)]
    checked = _Rules(place, self_type, total)
    return [c for index, rule in enumerate(rules) for c in checked.check(rule, f"{path}[{index}]")]


def _form(rule: Mapping[str, Any], path: str, schema: Schema) -> Iterator[Cause]:
    """What does not depend on the expressions."""
    text, message = (rule.get("rule") or "").strip(), rule.get("message") or ""
    if not text:
        yield causes.required(f"{path}.rule", "rule is not specified")
    elif message and not message.strip():
        yield causes.invalid(f"{path}.message", message, "must be non-empty if specified")
    elif _LINE_END.search(message.strip()):
        yield causes.invalid(f"{path}.message", message, "must not contain line breaks")
    elif _LINE_END.search(text) and not message:
        yield causes.required(f"{path}.message", "message must be specified if rule contains line breaks")
    expression = rule.get("messageExpression") or ""
    if expression and not expression.strip():
        yield causes.required(f"{path}.messageExpression", "messageExpression must be non-empty if specified")
    reason = rule.get("reason")
    if reason is not None and reason not in REASONS:
        yield causes.not_supported(f"{path}.reason", reason, REASONS)
    field_path = rule.get("fieldPath") or ""
    if field_path and not field_path.strip():
        yield causes.invalid(f"{path}.fieldPath", field_path, "must be non-empty if specified")
    if _LINE_END.search(field_path):
        yield causes.invalid(f"{path}.fieldPath", field_path, "must not contain line breaks")
    if field_path and field_paths.normalized(field_path, schema) is None:
        yield causes.invalid(f"{path}.fieldPath", field_path, "must be a valid path")


class _Rules:
    """Checks the expressions of one place."""

    def __init__(self, place: _Place, self_type: Type, total: _Total) -> None:
        self._place = place
        self._type = self_type
        self._total = total

    def check(self, rule: Mapping[str, Any], path: str) -> Iterator[Cause]:
        environment = rule_environment(self._type, optional_old_self=bool(rule.get("optionalOldSelf")))
        try:
            program = compile(rule["rule"], environment)
        except (Refused, Uninstantiable) as error:
            yield causes.invalid(f"{path}.rule", rule, problem_of(error))
            return
        if program.result.kind != "bool":
            yield causes.invalid(f"{path}.rule", rule, "cel expression must evaluate to a bool")
            return
        yield from self._cost(program, f"{path}.rule", "estimated rule cost")
        if rule.get("messageExpression"):
            yield from self._message(rule, path)
        if "oldSelf" not in program.names:
            if rule.get("optionalOldSelf") is not None:
                detail = "may not be set if oldSelf is not used in rule"
                yield causes.invalid(f"{path}.optionalOldSelf", rule["optionalOldSelf"], detail)
        elif self._place.uncorrelatable:
            detail = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {self._place.uncorrelatable}"  # noqa: E501  # one message
            yield causes.invalid(f"{path}.rule", rule["rule"], detail)

    def _message(self, rule: Mapping[str, Any], path: str) -> Iterator[Cause]:
        path = f"{path}.messageExpression"
        environment = rule_environment(self._type, optional_old_self=bool(rule.get("optionalOldSelf")))
        try:
            program = compile(rule["messageExpression"], environment)
        except (Refused, Uninstantiable) as error:
            yield causes.invalid(path, rule, f"messageExpression {problem_of(error)}")
            return
        if program.result.kind != "string":
            yield causes.invalid(path, rule, "messageExpression must evaluate to a string")
            return
        yield from self._cost(program, path, "estimated messageExpression cost", once=True)

    def _cost(self, program: Program, path: str, what: str, *, once: bool = False) -> Iterator[Cause]:
        cost = program.estimated_cost()
        if not once:
            count = self._place.count
            if count is None:
                count = declared.REQUEST_BYTES_MAX // (self._type.size_min + 1)
            cost = min(cost * count, SIZE_MAX)
        if cost > RULE_COST_MAX:
            yield causes.forbidden(path, _exceeds(what, cost, RULE_COST_MAX))
        self._total.observe(path, cost)


def problem_of(error: Refused | Uninstantiable) -> str:
    """Why an expression is refused, in one text."""
    step = "compilation failed" if isinstance(error, Refused) else "program instantiation failed"
    return f"{step}: {error}"


def _exceeds(what: str, cost: int, limit: int) -> str:
    times = cost / limit
    factor = "more than 100x" if times > 100 else f"{times:.6f}x" if times < 1.5 else f"{times:.1f}x"
    return f"{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"  # noqa: E501  # one message


def _of_total(total: _Total, path: str) -> Iterator[Cause]:
    if total.cost <= SCHEMA_COST_MAX:
        return
    for _, place in sorted(total.expensive, reverse=True)[:_EXPENSIVE_SHOWN_MAX]:
        detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        yield causes.forbidden(place, detail)
    what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
    yield causes.forbidden(path, _exceeds(what, total.cost, SCHEMA_COST_MAX))
