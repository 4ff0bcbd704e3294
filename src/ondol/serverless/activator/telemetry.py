"""Who takes the spans of held requests: an exporter (`web.spans`), or nobody."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ondol.api.objects import Object


class Sink(Protocol):
    """Takes spans in, without waiting."""

    def add(self, spans: Iterable[Object]) -> None: ...


class Nowhere:
    """Nobody keeps spans."""

    def add(self, spans: Iterable[Object]) -> None:
        del spans
