"""An int-or-percent of a whole: `2` or `"25%"`, as roll-outs and disruption budgets are written."""

from __future__ import annotations


def scaled(value: int | str, total: int, *, up: bool) -> int:
    """The number that is meant; percentages of `total` are rounded up or down.

    Raises `ValueError` for a text that is neither.
    """
    if isinstance(value, str) and value.endswith("%"):
        share = int(value[:-1]) * total
        return -(-share // 100) if up else share // 100
    return int(value)
