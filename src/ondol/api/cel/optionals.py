"""Fields of values that may be absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ondol.api.cel import names, values
from ondol.api.cel.errors import NoSuchOverload
from ondol.api.cel.values import Optional


def optional_field(value: Any, key: str) -> Optional:
    """`value.?key`: absent where there is no such field."""
    if type(value) is Optional:
        if not value.has_value:
            return values.NONE
        value = value.value
    if not isinstance(value, Mapping):
        raise NoSuchOverload
    if key not in value:
        key = names.unescaped(key)
    if key not in value:
        return values.NONE
    inner = value[key]
    return inner if type(inner) is Optional else Optional(inner)
