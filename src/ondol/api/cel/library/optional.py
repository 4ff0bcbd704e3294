"""Values that may be absent: `optional.of(x)`, `a.?b.orValue(c)`, `list[?0]`."""

from __future__ import annotations

from typing import Any, Final

from ondol.api.cel import nodes, operators, values
from ondol.api.cel import types as t
from ondol.api.cel.errors import EvaluationError
from ondol.api.cel.functions import Function, function, method, overload
from ondol.api.cel.values import NONE, Optional

_V: Final = t.param("V")
_K: Final = t.param("K")
_OPTIONAL: Final = t.optional_of(_V)
_LIST: Final = t.list_of(_V)
_MAP: Final = t.map_of(_K, _V)


def _of_non_zero(value: Any) -> Optional:
    return NONE if values.is_zero(value) else Optional(value)


def _or(one: Optional, other: Optional) -> Optional:
    return one if one.has_value else other


def _or_value(one: Optional, other: Any) -> Any:
    return one.value if one.has_value else other


def _unwrapped(listed: list[Any]) -> list[Any]:
    for each in listed:
        if type(each) is not Optional:
            raise EvaluationError(f"value {each} is not optional")
    return [each.value for each in listed if each.has_value]


FUNCTIONS: Final[list[Function]] = [
    function("optional.of", overload("optional_of", (_V,), _OPTIONAL, Optional)),
    function("optional.ofNonZeroValue", overload("optional_ofNonZeroValue", (_V,), _OPTIONAL, _of_non_zero)),
    function("optional.none", overload("optional_none", (), _OPTIONAL, lambda: NONE)),
    function("value", method("optional_value", (_OPTIONAL,), _V, Optional.get)),
    function("hasValue", method("optional_hasValue", (_OPTIONAL,), t.BOOL, lambda each: each.has_value)),
    function("or", method("optional_or_optional", (_OPTIONAL, _OPTIONAL), _OPTIONAL, _or)),
    function("orValue", method("optional_orValue_value", (_OPTIONAL, _V), _V, _or_value)),
    function(
        nodes.OPTIONAL_INDEX,
        overload("list_optindex_optional_int", (_LIST, t.INT), _OPTIONAL, operators.optional_index),
        overload(
            "optional_list_optindex_optional_int",
            (t.optional_of(_LIST), t.INT),
            _OPTIONAL,
            operators.optional_index,
        ),
        overload("map_optindex_optional_value", (_MAP, _K), _OPTIONAL, operators.optional_index),
        overload(
            "optional_map_optindex_optional_value",
            (t.optional_of(_MAP), _K),
            _OPTIONAL,
            operators.optional_index,
        ),
    ),
    function(
        nodes.INDEX,
        overload("optional_list_index_int", (t.optional_of(_LIST), t.INT), _OPTIONAL, operators.index),
        overload("optional_map_index_value", (t.optional_of(_MAP), _K), _OPTIONAL, operators.index),
    ),
    function("optional.unwrap", overload("optional_unwrap", (t.list_of(_OPTIONAL),), _LIST, _unwrapped)),
    function("unwrapOpt", method("optional_unwrapOpt", (t.list_of(_OPTIONAL),), _LIST, _unwrapped)),
    function(
        "first",
        method("list_first", (_LIST,), _OPTIONAL, lambda each: Optional(each[0]) if each else NONE),
    ),
    function(
        "last",
        method("list_last", (_LIST,), _OPTIONAL, lambda each: Optional(each[-1]) if each else NONE),
    ),
]
TYPES: Final = {"optional_type": t.optional_of(t.DYN)}
