"""The expressions of admission policies: which are refused, and with which words."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api.cel.policies import checking, expressions
from ondol.api.cel.policies.expressions import Failed
from ondol.api.cel.values import NONE, Duration, Timestamp, Uint


def _undeclared(name: str, column: int, source: str) -> str:
    dots = "." * (column - 1)
    return (
        f"compilation failed: ERROR: <input>:1:{column}: undeclared reference to '{name}' (in container '')\n"
        f" | {source}\n | {dots}^"
    )


def _spec(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": spec}


VALIDATING: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"validations": [{"expression": "object.spec.replicas < 3"}]}, []),
    (
        {"validations": [{"expression": "object.spec.replicas"}]},
        [("spec.validations[0].expression", "must evaluate to bool but got dyn")],
    ),
    (
        {"validations": [{"expression": "true"}, {"expression": "params.x == 1"}]},
        [("spec.validations[1].expression", _undeclared("params", 1, "params.x == 1"))],
    ),
    (
        {
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "validations": [{"expression": "params.x == 1"}],
        },
        [],
    ),
    (
        {"validations": [{"expression": "true", "messageExpression": "1"}]},
        [("spec.validations[0].messageExpression", "must evaluate to string but got int")],
    ),
    (
        {"validations": [{"expression": "true", "messageExpression": "string(authorizer)"}]},
        [
            (
                "spec.validations[0].messageExpression",
                _undeclared("authorizer", 8, "string(authorizer)"),
            )
        ],
    ),
    (
        {"auditAnnotations": [{"key": "k", "valueExpression": "1"}]},
        [
            (
                "spec.auditAnnotations[0].valueExpression",
                "must evaluate to one of [string null_type] but got int",
            )
        ],
    ),
    (
        {"matchConditions": [{"name": "c", "expression": "variables.x"}]},
        [("spec.matchConditions[0].expression", _undeclared("variables", 1, "variables.x"))],
    ),
    (
        {
            "variables": [
                {"name": "early", "expression": "variables.late"},
                {"name": "late", "expression": "1"},
            ],
            "validations": [{"expression": "variables.late == 1"}],
        },
        [
            (
                "spec.variables[0].expression",
                (
                    "compilation failed: ERROR: <input>:1:10: undefined field 'late'\n"
                    " | variables.late\n | .........^"
                ),
            )
        ],
    ),
    (
        {
            "variables": [{"name": "l", "expression": "[1, 2]"}],
            "validations": [{"expression": "variables.l[0]"}],
        },
        [("spec.validations[0].expression", "must evaluate to bool but got int")],
    ),
    ({"validations": [{"expression": " "}]}, []),
]


@pytest.mark.parametrize(("spec", "problems"), VALIDATING)
def test_what_is_refused_of_a_validating_policy(
    spec: dict[str, Any], problems: list[tuple[str, str]]
) -> None:
    """What is refused of a validating policy."""
    causes = list(checking.validating_policy(_spec(**spec)))
    assert [(each.field, each.message.partition(": ")[2].partition('": ')[2]) for each in causes] == problems
    assert all(each.reason == "FieldValueInvalid" for each in causes)


def test_a_refusal_quotes_the_expression() -> None:
    """A refusal quotes the expression."""
    (cause,) = checking.validating_policy(_spec(validations=[{"expression": '"a" == b'}]))
    assert cause.message == 'Invalid value: "\\"a\\" == b": ' + _undeclared("b", 8, '"a" == b')


MUTATING: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"patchType": "JSONPatch", "jsonPatch": {"expression": '[JSONPatch{op: "add", path: "/a"}]'}}, []),
    (
        {"patchType": "JSONPatch", "jsonPatch": {"expression": "[1]"}},
        [
            (
                "spec.mutations[0].jsonPatch.expression",
                "must evaluate to list(JSONPatch) but got list(int)",
            )
        ],
    ),
    (
        {
            "patchType": "ApplyConfiguration",
            "applyConfiguration": {"expression": "Object{spec: Object.spec{replicas: 1}}"},
        },
        [],
    ),
    (
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object.spec{}"}},
        [
            (
                "spec.mutations[0].applyConfiguration.expression",
                "must evaluate to Object but got Object.spec",
            )
        ],
    ),
    ({"patchType": "Other"}, []),
]


@pytest.mark.parametrize(("mutation", "problems"), MUTATING)
def test_what_is_refused_of_a_mutating_policy(
    mutation: dict[str, Any], problems: list[tuple[str, str]]
) -> None:
    """What is refused of a mutating policy."""
    causes = list(checking.mutating_policy(_spec(mutations=[mutation])))
    assert [(each.field, each.message.rpartition('": ')[2]) for each in causes] == problems


@pytest.mark.parametrize(
    ("value", "document"),
    [
        ({"a": [Uint(1), 2.5, None, True]}, {"a": [1, 2.5, None, True]}),
        (b"ab", "YWI="),
        (Duration(90 * 10**9), "90s"),
        (Timestamp(0), "1970-01-01T00:00:00Z"),
    ],
)
def test_values_are_written_as_json(value: Any, document: Any) -> None:
    """Values are written as JSON."""
    assert expressions.to_json(value) == document


def test_what_json_has_no_form_for_is_refused() -> None:
    """What JSON has no form for is refused."""
    with pytest.raises(Failed, match="a value of type optional_type has no form in JSON"):
        expressions.to_json(NONE)
