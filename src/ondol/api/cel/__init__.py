"""CEL, the language of rules, with Kubernetes' libraries and its limits of cost.

Pure: text and documents in, values out. `compile` an expression for an `environment`, then `evaluate` it as
often as needed; JSON is read where it is used and never converted as a whole.

    lexer → parser (macros) → checker → compile → Program.evaluate
                                     ↘ cost: what it may cost at worst

>>> from ondol.api import cel
>>> schema = {"type": "object", "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}}}
>>> program = cel.compile("self.min <= self.max", cel.rule(cel.of_schema(schema)))
>>> program.evaluate({"self": {"min": 3, "max": 2}}).value
False

Whoever imports this package pays for the whole language; the API server does so with its first rule.
"""

from __future__ import annotations

from ondol.api.cel.declared import of_root, of_schema
from ondol.api.cel.environment import (
    CALL_LIMIT,
    MATCH_BUDGET,
    OBJECT_BUDGET,
    Environment,
    match_condition,
    policy,
    rule,
)
from ondol.api.cel.errors import CelError, CostExceeded, EvaluationError, NoSuchOverload, Refused
from ondol.api.cel.program import Outcome, Program, compile  # noqa: A004 - the word of the language

__all__ = [
    "CALL_LIMIT",
    "MATCH_BUDGET",
    "OBJECT_BUDGET",
    "CelError",
    "CostExceeded",
    "Environment",
    "EvaluationError",
    "NoSuchOverload",
    "Outcome",
    "Program",
    "Refused",
    "compile",
    "match_condition",
    "of_root",
    "of_schema",
    "policy",
    "rule",
]
