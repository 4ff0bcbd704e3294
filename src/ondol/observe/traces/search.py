"""Searches as SQL: the spans that come into question, newest first, a page at a time.

A page looks at a bounded number of spans, however few of them match, so whoever waits for the file waits
for one page at most. The cursor is a span's start and its row: spans of one start are not looked at twice.

Every statement answers with one row, JSON where it has many things to say: between rows Python's lock is
taken and given up again, which takes long while other threads are busy, and the file is not free meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

PAGE_SPANS: Final = 1000
_NEWEST: Final = 2**63 - 1

_HAS_ATTRIBUTE: Final = """
(EXISTS (SELECT 1 FROM json_each(spans.attributes) pair WHERE pair.key = {key} AND {text} = {value})
 OR EXISTS (SELECT 1 FROM json_tree(CASE length(spans.details) WHEN 0 THEN '{{}}' ELSE spans.details END) pair
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
            f"WITH page AS MATERIALIZED ({_keys(query.service)} ORDER BY start_ns DESC, row DESC"  # noqa: S608 - fixed words, values are bound
            f" LIMIT {PAGE_SPANS}), matching AS (SELECT spans.trace_id FROM page JOIN spans ON"
            f" spans.rowid = page.row WHERE {' AND '.join(conditions) or '1'}"
            " ORDER BY page.start_ns DESC, page.row DESC) "
            "SELECT (SELECT count(*) FROM page), (SELECT min(start_ns) FROM page),"
            " (SELECT row FROM page ORDER BY start_ns, row LIMIT 1),"
            " (SELECT json_group_array(trace_id) FROM matching)"
        )
        """Answers how many spans a page has, its last start and row, and the traces of those that match."""

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


OF_TRACE: Final = f"""
SELECT json_group_array(json_array(trace_id, span_id, parent_id, service, name, kind, start_ns, duration_ns,
 error, CAST(attributes AS TEXT), CAST(details AS TEXT)))
FROM (SELECT * FROM spans WHERE trace_id = ? AND span_id > ? ORDER BY span_id LIMIT {PAGE_SPANS})
"""  # noqa: S608 - fixed words
"""The next spans of a trace after the one with that id."""

CALLS: Final = f"""
WITH page AS MATERIALIZED (
  SELECT * FROM (SELECT start_ns, rowid AS row FROM spans WHERE start_ns = ?1 AND rowid > ?2
   ORDER BY rowid LIMIT {PAGE_SPANS})
  UNION ALL
  SELECT * FROM (SELECT start_ns, rowid AS row FROM spans WHERE start_ns > ?1 AND start_ns <= ?3
   ORDER BY start_ns, rowid LIMIT {PAGE_SPANS})
  ORDER BY start_ns, row LIMIT {PAGE_SPANS}
), counted AS (
  SELECT child.service, child.called, parent.service AS its, parent.called AS called_by_it, count(*) AS count
  FROM page JOIN spans child ON child.rowid = page.row
  JOIN spans parent ON parent.trace_id = child.trace_id AND parent.span_id = child.parent_id
  GROUP BY 1, 2, 3, 4
)
SELECT (SELECT max(start_ns) FROM page), (SELECT row FROM page ORDER BY start_ns DESC, row DESC LIMIT 1),
 (SELECT json_group_array(json_array(service, called, its, called_by_it, count)) FROM counted)
"""  # noqa: S608 - fixed words
"""The last start and row of a page of spans, and its calls by both ends, counted."""
