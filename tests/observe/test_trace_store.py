"""The store under search: pages, turns with those who hand in spans, names that outlive their spans."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ondol.observe.traces import store as stores
from ondol.observe.traces.search import PAGE_SPANS, Query
from ondol.observe.traces.spans import Details as SpanDetails
from ondol.observe.traces.spans import Event, Row, Span, row
from ondol.observe.traces.store import SpanStore
from ondol.observe.traces.turns import Turns

NOW_NS = 1_700_000_000_000_000_000
_DAY_NS = 24 * 3600 * 10**9
_PLENTY = 1 << 30


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SpanStore]:
    opened = SpanStore(tmp_path / "traces.db")
    yield opened
    opened.close()


def _row(number: int, **fields: Any) -> Row:
    plain: dict[str, Any] = {
        "trace_id": f"{number // 3 + 1:032x}",
        "span_id": f"{number + 1:016x}",
        "service": "front",
        "name": "work",
        "start_ns": NOW_NS + number,
        "duration_ns": 1,
    }
    return row(Span(**{**plain, **fields}))


@pytest.mark.parametrize("step_ns", [1, 0], ids=["one after another", "all at once"])
@pytest.mark.parametrize("count", [1, PAGE_SPANS - 1, PAGE_SPANS, PAGE_SPANS + 1, 3 * PAGE_SPANS + 7])
def test_searches_see_every_span_once(store: SpanStore, count: int, step_ns: int) -> None:
    """Whether the last page is full or not, and whether spans share their start or not: newest first."""
    store.add(_row(number, start_ns=NOW_NS + number * step_ns) for number in range(count))
    traces = [int(trace[0].trace_id, 16) for trace in store.search(Query(service="front", limit=_PLENTY))]
    assert sorted(traces) == list(range(1, (count - 1) // 3 + 2))
    if step_ns:
        assert traces == sorted(traces, reverse=True)
    assert len(store.search(Query(service="front", limit=2))) == min(2, len(traces))
    assert len(store.search(Query(limit=_PLENTY))) == len(traces)
    oldest = store.search(Query(end_ns=NOW_NS, start_ns=NOW_NS, limit=_PLENTY))
    assert len(oldest) == (1 if step_ns else len(traces))


def test_a_callee_is_found_among_many_pages(store: SpanStore) -> None:
    """By its own spans and by those that call it, each trace once, in the order of their starts."""
    call = {"upstream_cluster.name": "outbound|80||cart.shop.svc.cluster.local"}
    store.add(
        _row(number, service="cart" if number % 2 else "front", attributes={} if number % 2 else call)
        for number in range(2 * PAGE_SPANS + 10)
    )
    traces = [trace[0].trace_id for trace in store.search(Query(service="cart", limit=_PLENTY))]
    assert len(traces) == len(set(traces)) == (2 * PAGE_SPANS + 9) // 3 + 1
    assert traces == sorted(traces, reverse=True)


def test_calls_are_counted_across_pages(store: SpanStore) -> None:
    """Each call once, whichever page its two ends are on, and only those of the interval."""
    count = PAGE_SPANS + 500
    store.add(_row(number, trace_id="1" * 32, start_ns=NOW_NS + number // 900) for number in range(count))
    store.add(
        _row(
            count + number,
            trace_id="1" * 32,
            service="cart",
            parent_id=f"{number + 1:016x}",
            start_ns=NOW_NS + 10 + number // 900,
        )
        for number in range(count)
    )
    assert store.calls(0, 2**62) == [("cart", "", "front", "", count)]
    assert store.calls(NOW_NS + 10, NOW_NS + 10) == [("cart", "", "front", "", 900)]
    assert store.calls(NOW_NS + 5, NOW_NS + 9) == []


class _Counted(Turns):
    """Counts how often it was taken."""

    count = 0

    def __enter__(self) -> None:
        super().__enter__()
        self.count += 1


@pytest.mark.parametrize(
    "query", [Query(attributes={"a": "b"}, limit=20), Query(service="front", operation="none", limit=20)]
)
def test_a_search_takes_a_turn_for_each_page(store: SpanStore, query: Query) -> None:
    """However many spans do not match, exports wait for a page of them, not for all."""
    store.add(_row(number) for number in range(5 * PAGE_SPANS))
    turns = store._lock = _Counted()
    assert store.search(query) == []
    assert turns.count >= 5
    store.calls(0, 2**62)
    assert turns.count >= 10


def test_turns_are_taken_in_order() -> None:
    """Who asks again while another waits, waits for it: a search cannot keep an export out."""
    turns = Turns()
    order: list[str] = []
    is_waiting = threading.Event()

    def export() -> None:
        is_waiting.set()
        with turns:
            order.append("export")

    with turns:
        thread = threading.Thread(target=export)
        thread.start()
        is_waiting.wait()
        while not turns._waiting:
            pass
    with turns:
        order.append("page")
    thread.join()
    assert order == ["export", "page"]


def test_a_turn_that_ends_by_an_error_is_handed_on() -> None:
    """Whatever goes wrong inside, the next one gets it."""
    turns = Turns()
    for _ in range(2):
        with pytest.raises(ValueError, match="wrong"), turns:
            raise ValueError("wrong")


def test_names_outlive_their_spans_for_a_week(store: SpanStore) -> None:
    """A service without recent traces is still listed, as Jaeger does; not for ever."""
    call = {"upstream_cluster.name": "outbound|80||cart.shop.svc.cluster.local"}
    store.add([_row(1, attributes=call, kind="client")])
    assert store.forget(before_ns=NOW_NS + _DAY_NS, keep_spans=10, keep_bytes=_PLENTY) == 1
    assert store.search(Query()) == []
    assert store.services() == ["cart", "front"]
    assert store.operations("front") == [("work", "client")]
    assert store.operations("cart") == []  # it is called, and says nothing itself
    store.forget(before_ns=NOW_NS + 7 * _DAY_NS, keep_spans=10, keep_bytes=_PLENTY)
    assert store.services() == []
    store.add([_row(2)])
    assert store.services() == ["front"]


def test_names_are_bounded(store: SpanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of names without end the newest are kept, and one that is used again counts as new."""
    monkeypatch.setattr(stores, "_SEEN_MAX", 10)
    monkeypatch.setattr(stores, "_FORGOTTEN_AT_ONCE", 3)
    store.add(_row(number, name=f"op{number:02}") for number in range(30))
    store.add([_row(31, name="op00", start_ns=NOW_NS + 3601 * 10**9)])
    store.forget(before_ns=0, keep_spans=100, keep_bytes=_PLENTY)
    names = [name for name, _ in store.operations("front")]
    assert names == ["op00", *(f"op{number}" for number in range(21, 30))]
    assert store.operations("front", "client") == []


def test_an_older_file_gets_names_and_details(tmp_path: Path) -> None:
    """Its spans are searched as before, and their services are known."""
    file = tmp_path / "old.db"
    opened = SpanStore(file)
    opened.add([_row(1)])
    opened.close()
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.executescript("DROP TABLE operations; ALTER TABLE spans DROP COLUMN details;")
    opened = SpanStore(file)
    details = SpanDetails(events=(Event(time_ns=5, name="e"),))
    opened.add([_row(4, details=details)])
    assert opened.services() == ["front"]
    assert [span.details for (span,) in opened.search(Query())] == [details, SpanDetails()]
    opened.close()


@pytest.mark.parametrize("count", [1, 7, 8, 64, 65, 137])
def test_batches_of_any_size_are_kept_whole(store: SpanStore, count: int) -> None:
    """Whatever text, number or nothing they have: what is read is what was written."""
    spans = [
        Span(
            trace_id="1" * 32,
            span_id=f"{number + 1:016x}",
            service="s\0\"'",
            name="söup \U0001f372",
            start_ns=2**62 + number,
            duration_ns=2**61,
            error=bool(number % 2),
            attributes={"big": 2**63 - 1, "none": None, "deep": {"a": [1, "\0"]}},
        )
        for number in range(count)
    ]
    store.add(map(row, spans))
    assert store.trace("1" * 32) == spans
