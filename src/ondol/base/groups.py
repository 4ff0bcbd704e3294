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


@contextlib.contextmanager
def first(kind: type[Exception]) -> Iterator[None]:
    """Raise one error of a task group in which all are of this kind; any other group as it is."""
    try:
        yield
    except BaseExceptionGroup as group:
        matched, rest = group.split(kind)
        if matched is None or rest is not None:
            raise
        error: BaseException = matched
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
