"""Query parameters of the API that are not text: one reading for the API server and the node's own."""

from __future__ import annotations


def is_true(value: str | None) -> bool:
    """Whether a boolean parameter is on: any spelling but the empty one, `0` and Go's `false` is.

    None is a parameter that was not sent.
    """
    return value is not None and value not in ("", "0", "false", "False", "FALSE", "f", "F")
