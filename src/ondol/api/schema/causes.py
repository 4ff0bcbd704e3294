"""The causes of a 422, in Kubernetes' words (apimachinery `field.Error`).

Every validation of this project builds its causes here, so that reasons and messages agree.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ondol.base.errors import Cause


def required(path: str, detail: str = "") -> Cause:
    return Cause("FieldValueRequired", f"Required value: {detail}" if detail else "Required value", path)


def invalid(path: str, value: Any, detail: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {quoted(value)}: {detail}", path)


def type_invalid(path: str, value: Any, detail: str) -> Cause:
    return Cause("FieldValueTypeInvalid", f"Invalid value: {quoted(value)}: {detail}", path)


def not_supported(path: str, value: Any, supported: Iterable[Any]) -> Cause:
    listed = ", ".join(f'"{v}"' if isinstance(v, str) else f'"{quoted(v)}"' for v in supported)
    return Cause(
        "FieldValueNotSupported", f"Unsupported value: {quoted(value)}: supported values: {listed}", path
    )


def duplicate(path: str, value: Any) -> Cause:
    return Cause("FieldValueDuplicate", f"Duplicate value: {quoted(value)}", path)


def forbidden(path: str, detail: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {detail}", path)


def not_found(path: str, value: Any) -> Cause:
    return Cause("FieldValueNotFound", f"Not found: {quoted(value)}", path)


def too_long(path: str, limit: int) -> Cause:
    return Cause("FieldValueTooLong", f"Too long: may not be more than {limit} bytes", path)


def too_many(path: str, actual: int, limit: int) -> Cause:
    return Cause("FieldValueTooMany", f"Too many: {actual}: must have at most {limit} items", path)


def quoted(value: Any) -> str:
    """A value as messages quote it."""
    if value is None:
        return "null"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def child(path: str, name: str) -> str:
    """The path of a named field."""
    return f"{path}.{name}" if path else name
