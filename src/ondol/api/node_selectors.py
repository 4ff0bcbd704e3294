"""Which nodes a `NodeSelector` means: terms of expressions on labels and on the node's name. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.api import labels, objects

_OPERATORS: Final = {
    "In": labels.IN,
    "NotIn": labels.NOT_IN,
    "Exists": labels.EXISTS,
    "DoesNotExist": labels.DOES_NOT_EXIST,
    "Gt": labels.GREATER_THAN,
    "Lt": labels.LESS_THAN,
}


def matches(selector: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    """Whether any of the terms holds."""
    return any(term_matches(term, node) for term in selector.get("nodeSelectorTerms") or ())


def term_matches(term: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    """All expressions of a term must hold; a term without any matches nothing."""
    on_labels, on_fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    named = {"metadata.name": objects.name(node)}
    return bool(on_labels or on_fields) and (
        all(_holds(expression, objects.labels(node)) for expression in on_labels)
        and all(_holds(expression, named) for expression in on_fields)
    )


def _holds(expression: Mapping[str, Any], values_of: Mapping[str, str]) -> bool:
    operator = _OPERATORS.get(str(expression.get("operator")))
    if operator is None:
        return False
    values = tuple(sorted(set(expression.get("values") or ())))
    return labels.Requirement(str(expression.get("key")), operator, values).matches(values_of)
