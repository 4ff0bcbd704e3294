"""Searches as SQL: the spans that come into question, newest first, a page at a time.

A page looks at a bounded number of spans, however few of them match, so whoever waits for the file waits
for one page at most. The cursor is a span's start and its row: spans of one start are not looked at twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

PAGE_SPANS: Final = 1000
_NEWEST: Final = 2**63 - 1

_HAS_ATTRIBUTE: Final = """
(EXISTS (SELECT 1 FROM json_each(spans.attributes) pair WHERE pair.key = {key} AND {text} = {value})
 OR EXISTS (SELECT 1 FROM json_tree(iif(length(spans.details), spans.details, '{{}}')) pair
  WHERE pair.key = {key} AND (pair.path = '$.resource' OR pair.path LIKE '$.events[%].attributes')
  AND {text} = {value}))
"""
_TEXT: Final = (
    "CASE pair.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(pair.value AS TEXT) END"
)
_KEYS: Final = """
SELECT * FROM (SELECT start_ns, rowid AS row FROM spans
 WHERE {source} AND start_ns {bound} ORDER BY start_ns DESC, rowid DESC LIMIT {page})
"""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for; an empty or zero field does not narrow. Times in nanoseconds."""

    service: str = ""
    operation: str = ""
    start_ns: int = 0
    end_ns: int = 0
    duration_min_ns: int = 0
    duration_max_ns: int = 0
    attributes: Mapping[str, str] = {}
    limit: int = 20


class Pages:
    """The statement of one search, and the values that go with it at a cursor."""

    def __init__(self, query: Query) -> None:
        self._values: dict[str, Any] = {
            "service": query.service,
            "operation": query.operation,
            "oldest": query.start_ns,
            "shortest": query.duration_min_ns,
            "longest": query.duration_max_ns,
        }
        conditions = [
            condition
            for condition, value in (
                ("spans.name = :operation", query.operation),
                ("spans.duration_ns >= :shortest", query.duration_min_ns),
                ("spans.duration_ns <= :longest", query.duration_max_ns),
            )
            if value
        ]
        conditions += [
            self._attribute(number, key, value)
            for number, (key, value) in enumerate(query.attributes.items())
        ]
        self.start = (query.end_ns or _NEWEST, _NEWEST)
        """The cursor at which a search begins."""
        self.statement = (
            f"WITH page AS ({_keys(query.service)} ORDER BY start_ns DESC, row DESC LIMIT {PAGE_SPANS}) "  # noqa: S608 - fixed words, values are bound
            f"SELECT page.start_ns, page.row, spans.trace_id, {' AND '.join(conditions) or '1'} "
            "FROM page JOIN spans ON spans.rowid = page.row ORDER BY page.start_ns DESC, page.row DESC"
        )
        """Answers start, row, trace and whether it matches of each span of a page, newest first."""

    def values(self, cursor: tuple[int, int]) -> dict[str, Any]:
        return {**self._values, "at": cursor[0], "row": cursor[1]}

    def _attribute(self, number: int, key: str, value: str) -> str:
        """The condition for an attribute; some of Jaeger's tags are columns of their own."""
        match key, value:
            case "span.kind", _:
                condition = "spans.kind = :value{number}"
            case "error", "true":
                condition = f"(spans.error OR {_HAS_ATTRIBUTE})"
            case "otel.status_code", "ERROR":
                condition = "spans.error"
            case _:
                condition = _HAS_ATTRIBUTE
        self._values |= {f"key{number}": key, f"value{number}": value}
        return condition.format(key=f":key{number}", value=f":value{number}", text=_TEXT, number=number)


def _keys(service: str) -> str:
    """The next spans by each index that leads to some: of a service its own, and those that call it."""
    sources = ("service = :service", "called <> '' AND called = :service") if service else ("1",)
    return " UNION ".join(
        _KEYS.format(source=source, bound=bound, page=PAGE_SPANS)
        for source in sources
        for bound in ("= :at AND :at >= :oldest AND rowid < :row", "< :at AND start_ns >= :oldest")
    )
