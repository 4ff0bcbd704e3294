"""Merge patch (RFC 7386): the document of changes, where null means remove.

`diff` makes the smallest such patch between two documents, so that a controller writes only what it
changed.
"""

from __future__ import annotations

from typing import Any

from ondol.api.patch import json_patch


def apply(document: Any, patch: Any) -> Any:
    """The patched document; parts the patch does not mention are shared with the original."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = apply(merged.get(key), value)
        else:
            merged[key] = value
    return merged


def diff(before: Any, after: Any) -> Any:
    """The patch that turns `before` into `after`; `{}` when two objects are equal.

    A null inside `after` cannot be expressed in a merge patch: it becomes a removal.
    """
    if not isinstance(before, dict) or not isinstance(after, dict):
        return after
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        if key not in before:
            patch[key] = value
        elif isinstance(value, dict) and isinstance(before[key], dict):
            if inner := diff(before[key], value):
                patch[key] = inner
        elif not json_patch.same(before[key], value):
            patch[key] = value
    return patch
