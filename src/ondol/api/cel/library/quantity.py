"""Quantities of resources: `quantity('1Gi').isGreaterThan(quantity('500Mi'))`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from ondol.api.cel import types as t
from ondol.api.cel import values
from ondol.api.cel.errors import EvaluationError
from ondol.api.cel.functions import Function, function, method, overload
from ondol.api.cel.library.standard import traversal
from ondol.api.cel.values import Opaque, TypeValue
from ondol.base import quantity

QUANTITY: Final = t.object_named("kubernetes.Quantity")
_TEXT_MAX: Final = 100
"""Characters of a quantity: a longer exponent would be a number of that many digits."""


@dataclass(frozen=True, slots=True)
class Quantity(Opaque):
    amount: Fraction

    cel_type = TypeValue("kubernetes.Quantity")


def _amount(text: str) -> Fraction:
    if len(text) > _TEXT_MAX:
        raise ValueError(text)
    return quantity.parse(text)


def _quantity(text: str) -> Quantity:
    try:
        return Quantity(_amount(text))
    except ValueError:
        message = (
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        )
        raise EvaluationError(message) from None


def _is_quantity(text: str) -> bool:
    try:
        _amount(text)
    except ValueError:
        return False
    return True


def _is_integer(value: Quantity) -> bool:
    amount = value.amount
    return amount.denominator == 1 and values.INT_MIN <= amount <= values.INT_MAX


def _integer(value: Quantity) -> int:
    if not _is_integer(value):
        raise EvaluationError("cannot convert value to integer")
    return int(value.amount)


def _float(value: Quantity) -> float:
    try:
        return float(value.amount)
    except OverflowError:
        return float("inf") if value.amount > 0 else float("-inf")


def _sign(value: Quantity) -> int:
    return (value.amount > 0) - (value.amount < 0)


def _compare(one: Quantity, other: Quantity) -> int:
    return (one.amount > other.amount) - (one.amount < other.amount)


def _plus(value: Any) -> Fraction:
    return value.amount if isinstance(value, Quantity) else Fraction(value)


def _add(one: Quantity, other: Any) -> Quantity:
    return Quantity(one.amount + _plus(other))


def _sub(one: Quantity, other: Any) -> Quantity:
    return Quantity(one.amount - _plus(other))


_TWO: Final = (QUANTITY, QUANTITY)
FUNCTIONS: Final[list[Function]] = [
    function("quantity", overload("string_to_quantity", (t.STRING,), QUANTITY, _quantity, traversal)),
    function("isQuantity", overload("is_quantity_string", (t.STRING,), t.BOOL, _is_quantity, traversal)),
    function("sign", overload("quantity_sign", (QUANTITY,), t.INT, _sign)),
    function(
        "isGreaterThan",
        method("quantity_is_greater_than", _TWO, t.BOOL, lambda one, other: one.amount > other.amount),
    ),
    function(
        "isLessThan",
        method("quantity_is_less_than", _TWO, t.BOOL, lambda one, other: one.amount < other.amount),
    ),
    function("compareTo", method("quantity_compare_to", _TWO, t.INT, _compare)),
    function("asApproximateFloat", method("quantity_get_float", (QUANTITY,), t.DOUBLE, _float)),
    function("asInteger", method("quantity_get_int", (QUANTITY,), t.INT, _integer)),
    function("isInteger", method("quantity_is_integer", (QUANTITY,), t.BOOL, _is_integer)),
    function(
        "add",
        method("quantity_add", _TWO, QUANTITY, _add),
        method("quantity_add_int", (QUANTITY, t.INT), QUANTITY, _add),
    ),
    function(
        "sub",
        method("quantity_sub", _TWO, QUANTITY, _sub),
        method("quantity_sub_int", (QUANTITY, t.INT), QUANTITY, _sub),
    ),
]
TYPES: Final = {"kubernetes.Quantity": QUANTITY}
