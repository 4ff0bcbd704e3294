"""What is refused of a policy because of its expressions: rules like those of `api.validation`.

An expression that is missing is for the rules of the kind to refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ondol.api import objects
from ondol.api.cel.environment import match_condition
from ondol.api.cel.policies.expressions import BOOL, Expression
from ondol.api.cel.policies.programs import Located, MutatingPrograms, ValidatingPrograms
from ondol.api.schema import causes
from ondol.base.errors import Cause


def validating_policy(obj: Mapping[str, Any]) -> Iterator[Cause]:
    """Of a ValidatingAdmissionPolicy."""
    return _problems(ValidatingPrograms(objects.spec(obj)).located())


def mutating_policy(obj: Mapping[str, Any]) -> Iterator[Cause]:
    """Of a MutatingAdmissionPolicy."""
    return _problems(MutatingPrograms(objects.spec(obj)).located())


def webhooks(obj: Mapping[str, Any]) -> Iterator[Cause]:
    """Of the match conditions of a webhook configuration."""
    environment = match_condition()
    located = (
        (
            f"webhooks[{index}].matchConditions[{at}].expression",
            Expression(str(condition.get("expression") or ""), environment, BOOL),
        )
        for index, webhook in enumerate(obj.get("webhooks") or ())
        for at, condition in enumerate(webhook.get("matchConditions") or ())
    )
    return _problems(located)


def _problems(located: Iterable[Located]) -> Iterator[Cause]:
    for path, expression in located:
        if expression.problem and expression.source.strip():
            yield causes.invalid(path, expression.source, expression.problem)
