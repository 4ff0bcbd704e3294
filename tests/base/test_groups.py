"""Errors out of task groups."""

from __future__ import annotations

import pytest

from ondol.base import errors, groups


def test_one_of_a_kind_stands_for_all() -> None:
    """However deep; a group that has another kind too is left whole."""
    first, second = errors.NotFound("first"), errors.Conflict("second")
    with pytest.raises(errors.NotFound, match="first"), groups.first(errors.OndolError):
        raise ExceptionGroup("", [ExceptionGroup("", [first]), second])
    with pytest.raises(ExceptionGroup), groups.first(errors.OndolError):
        raise ExceptionGroup("", [first, ValueError()])
    with pytest.raises(ValueError, match="alone"), groups.unwrapped():
        raise ExceptionGroup("", [ValueError("alone")])
