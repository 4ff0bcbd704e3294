"""Typed values out of the strings of a ConfigMap; a `ValueError` says which key is wrong, and why."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Final

from ondol.base import quantity
from ondol.serverless.serving import wellknown

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,19}")
DISABLED: Final = "disabled"


class Reader:
    """The data of one ConfigMap; a key that is not there has its default, as has an empty value."""

    def __init__(self, data: Mapping[str, str]) -> None:
        self._data = data

    def text(self, key: str, default: str) -> str:
        return self._data.get(key) or default

    def boolean(self, key: str, *, default: bool) -> bool:
        text = self._data.get(key)
        if not text:
            return default
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        raise _unreadable(key, f"{text!r} is neither true nor false")

    def whole(self, key: str, default: int) -> int:
        text = self._data.get(key)
        if not text:
            return default
        if _WHOLE.fullmatch(text) is None:
            raise _unreadable(key, f"{text!r} is not a whole number")
        return int(text)

    def number(self, key: str, default: float) -> float:
        text = self._data.get(key)
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            raise _unreadable(key, f"{text!r} is not a number") from None
        if not math.isfinite(value):
            raise _unreadable(key, f"{text!r} is not a finite number")
        return value

    def seconds(self, key: str, default: float) -> float:
        """A duration as Go writes it."""
        text = self._data.get(key)
        if not text:
            return default
        if text.startswith("-"):
            return -self._seconds(key, text.removeprefix("-"))
        return self._seconds(key, text)

    def seconds_or_disabled(self, key: str, default: float | None) -> float | None:
        """A duration, or None for `disabled`."""
        text = self._data.get(key) or ""
        if text.lower() == DISABLED:
            return None
        if not text:
            return default
        if text.startswith("-"):
            raise _unreadable(key, "must be non-negative")
        return self._seconds(key, text)

    def choice(self, key: str, allowed: Iterable[str], default: str) -> str:
        """One of these words, in whatever case it is written."""
        text = (self._data.get(key) or default).lower()
        words = tuple(allowed)
        if text not in words:
            raise _unreadable(key, f"{self._data.get(key)!r} is not supported; use {', '.join(words)}")
        return text

    def amount(self, key: str) -> str:
        """A quantity of a resource, as it is written; empty for none."""
        text = self._data.get(key) or ""
        if text:
            try:
                quantity.parse(text)
            except ValueError as error:
                raise _unreadable(key, str(error)) from None
        return text

    @staticmethod
    def _seconds(key: str, text: str) -> float:
        try:
            return wellknown.duration_s(text)
        except ValueError as error:
            raise _unreadable(key, str(error)) from None


def _unreadable(key: str, why: str) -> ValueError:
    return ValueError(f'failed to parse "{key}": {why}')
