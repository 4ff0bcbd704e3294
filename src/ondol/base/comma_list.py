"""Lists written in one text, with commas between: of settings, annotations and selectors of features."""

from __future__ import annotations


def items(text: str) -> tuple[str, ...]:
    """The items in order, without the blanks around them; empty ones are left out (`"a, ,b,"` has two)."""
    return tuple(item for part in text.split(",") if (item := part.strip()))
