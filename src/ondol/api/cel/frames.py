"""The layout of a frame, in which one evaluation keeps what it knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

Frame: TypeAlias = list[Any]
Run: TypeAlias = Callable[[Frame], Any]

COST: Final = 0
LIMIT: Final = 1
CACHE: Final = 2
FIRST_SLOT: Final = 3
