"""Errors out of task groups: whoever called what ran in one hears of the one error, not of a group of one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def unwrapped() -> Iterator[None]:
    """Raise the one error of a task group as itself, also of a group inside of a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None
