"""The columns of webhook configurations, admission policies and their bindings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ondol.api import objects
from ondol.api.tables import columns
from ondol.api.tables.columns import AGE, NAME, Cell, Document, Layout, integer, string

_UNSET: Final = "<unset>"


def _configuration(obj: Document, now: float) -> Sequence[Cell]:
    return objects.name(obj), len(obj.get("webhooks") or ()), columns.age_of(obj, now)


def _policy(field: str) -> Callable[[Document, float], Sequence[Cell]]:
    def cells(obj: Document, now: float) -> Sequence[Cell]:
        spec = objects.spec(obj)
        kind = spec.get("paramKind")
        params = f"{kind.get('apiVersion') or ''}/{kind.get('kind') or ''}" if kind is not None else _UNSET
        return objects.name(obj), len(spec.get(field) or ()), params, columns.age_of(obj, now)

    return cells


def _binding(obj: Document, now: float) -> Sequence[Cell]:
    spec = objects.spec(obj)
    ref = spec.get("paramRef")
    params = _UNSET if ref is None else _params(ref)
    return objects.name(obj), spec.get("policyName") or "", params, columns.age_of(obj, now)


def _params(ref: Mapping[str, Any]) -> str:
    if ref.get("name"):
        return f"{ref.get('namespace') or '*'}/{ref['name']}"
    return _UNSET if ref.get("selector") is None else _selector(ref["selector"])


def _selector(selector: Mapping[str, Any]) -> str:
    """As Kubernetes writes a selector there: the struct, field by field."""
    pairs = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    expressions = "".join(_expression(each) for each in selector.get("matchExpressions") or ())
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{pairs}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )


def _expression(expression: Mapping[str, Any]) -> str:
    values = " ".join(expression.get("values") or ())
    key, operator = expression.get("key") or "", expression.get("operator") or ""
    return f"LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},"


CONFIGURATION: Final = Layout((NAME, integer("Webhooks"), AGE), _configuration)
VALIDATING_POLICY: Final = Layout(
    (NAME, integer("Validations"), string("ParamKind"), AGE), _policy("validations")
)
MUTATING_POLICY: Final = Layout((NAME, integer("Mutations"), string("ParamKind"), AGE), _policy("mutations"))
BINDING: Final = Layout((NAME, string("PolicyName"), string("ParamRef"), AGE), _binding)
