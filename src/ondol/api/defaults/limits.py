"""Defaults of LimitRanges."""

from __future__ import annotations

from typing import Any


def limit_range(document: Any) -> None:
    """What containers are given follows from what they may have, where it is not said."""
    for limit in document["spec"].get("limits") or ():
        if limit.get("type") != "Container":
            continue
        default = {**(limit.get("max") or {}), **(limit.get("default") or {})}
        request = {**(limit.get("min") or {}), **default, **(limit.get("defaultRequest") or {})}
        for field, amounts in (("default", default), ("defaultRequest", request)):
            if amounts:
                limit[field] = amounts
