"""Boolean query parameters are read alike by the API server and the node."""

from __future__ import annotations

import pytest

from ondol.api import parameters


@pytest.mark.parametrize("value", ["1", "true", "True", "t", "yes", "watch"])
def test_any_spelling_but_those_of_false_is_true(value: str) -> None:
    """A client that sends a parameter means it."""
    assert parameters.is_true(value)


@pytest.mark.parametrize("value", [None, "", "0", "f", "F", "false", "False", "FALSE"])
def test_what_is_absent_empty_or_false_is_not(value: str | None) -> None:
    """Go's own spellings of false, and a parameter without a value."""
    assert not parameters.is_true(value)
