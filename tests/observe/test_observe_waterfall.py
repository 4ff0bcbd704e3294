"""Waterfalls: trees from spans, own time and waits, the critical path, the drawing."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.observe.traces.spans import Span, called, callee
from ondol.observe.traces.waterfall import cells, render, waterfall

MS = 1_000_000


def _span(span_id: str, parent: str, service: str, start: int, end: int, *, callee: str = "") -> Span:
    attributes = {"upstream_cluster.name": f"outbound|80||{callee}.shop.svc.cluster.local"} if callee else {}
    return Span(
        trace_id="1" * 32,
        span_id=span_id,
        parent_id=parent,
        service=service,
        name=f"op-{span_id}",
        start_ns=start * MS,
        duration_ns=(end - start) * MS,
        attributes=attributes,
    )


TRACE = [
    _span("a", "", "ingress", 0, 100),
    _span("b", "a", "ingress", 5, 98, callee="front"),
    _span("c", "b", "front", 20, 60),
    _span("d", "c", "front", 30, 60, callee="reviews"),
    _span("e", "b", "front", 65, 90),
    _span("f", "e", "front", 66, 90, callee="cart"),
]


def test_own_time_and_waits_of_a_request_through_proxies() -> None:
    """Time inside an attempt is its service's; time between taking a request and the attempt is a wait."""
    shares = {s.service: (s.self_ns // MS, s.wait_ns // MS, s.calls) for s in waterfall(TRACE).shares}
    assert shares == {"reviews": (30, 10, 1), "cart": (24, 1, 1), "front": (28, 7, 1)}


def test_a_revision_is_called_by_its_services_name() -> None:
    """The proxy says what traces call a cluster, if that is not the name in the cluster's own."""
    span = _span("b", "a", "ingress", 5, 98, callee="front-00001")
    assert (span.callee, span.called) == ("front-00001", "front-00001")
    attributes = {**span.attributes, "upstream_cluster.canonical_service": "front"}
    assert (callee(attributes), called(attributes)) == ("front", "front")


def test_everything_adds_up() -> None:
    """Own times and waits together are the whole trace, nothing twice, nothing lost."""
    rows = waterfall(TRACE)
    assert sum(s.self_ns + s.wait_ns for s in rows.shares) == rows.duration_ns


def test_rows_are_in_drawing_order_with_depth() -> None:
    """Parents stand before children, siblings by their start."""
    assert [(n.span.span_id, n.depth) for n in waterfall(TRACE).rows] == [
        ("a", 0),
        ("b", 1),
        ("c", 2),
        ("d", 3),
        ("e", 2),
        ("f", 3),
    ]


def test_critical_path_is_what_the_end_waited_for() -> None:
    """Of two parallel calls only the longer one is critical."""
    spans = [
        _span("a", "", "front", 0, 100),
        _span("b", "a", "slow", 10, 95),
        _span("c", "a", "fast", 10, 20),
    ]
    assert {n.span.span_id for n in waterfall(spans).rows if n.critical} == {"a", "b"}


def test_critical_path_passes_over_what_ran_beside() -> None:
    """A call that overlaps a later one held nothing up; the one that ended before the later one did."""
    spans = [
        _span("a", "", "front", 0, 100),
        _span("b", "a", "first", 5, 30),
        _span("c", "a", "beside", 10, 60),
        _span("d", "a", "last", 40, 120),
    ]
    assert {n.span.span_id for n in waterfall(spans).rows if n.critical} == {"a", "b", "d"}


def test_missing_parent_is_told() -> None:
    """A span whose parent never came is drawn as a root and says so."""
    rows = waterfall([_span("x", "lost", "front", 0, 10)])
    assert rows.rows[0].orphan
    assert "(parent missing)" in render(rows)[0]


def test_no_spans_is_an_error() -> None:
    """There is no waterfall of nothing."""
    with pytest.raises(ValueError, match="at least one span"):
        waterfall([])


def test_drawing_fits_the_width_and_shows_each_service() -> None:
    """Every row fits, bars start where spans do, and the sums follow."""
    lines = render(waterfall(TRACE), width=90)
    assert all(len(line) <= 90 for line in lines)
    assert "ingress → front" in lines[1]
    assert lines[0].index("█") < lines[3].index("█")
    assert any(line.startswith("reviews") and "30.00 ms" in line for line in lines)


def test_a_deep_trace_keeps_its_names() -> None:
    """Where indentation would fill the column, the depth is a number and the name is still there."""
    spans = [_span(f"{n}", f"{n - 1}" if n else "", f"s{n}", n, 4000 - n) for n in range(1500)]
    lines = render(waterfall(spans), width=80)
    assert all(len(line) <= 80 for line in lines)
    assert "1400> s1400" in lines[1400]


def test_what_a_span_says_cannot_steer_the_terminal() -> None:
    """Escapes and line ends in names are shown as replaced characters, one row a span."""
    span = msgspec.structs.replace(_span("a", "", "shop\x1b[2J", 0, 10), name="a\nb\x07")
    lines = render(waterfall([span]), width=80)
    assert len(lines) == 5
    assert all(character.isprintable() for line in lines for character in line)


def test_wide_characters_take_two_columns() -> None:
    """Bars stand below one another whatever the script of the names."""
    spans = [
        msgspec.structs.replace(_span("a", "", "shop", 0, 10), name=name, span_id=name)
        for name in ("주문", "ab", "e\u0301", "결" * 60)
    ]
    lines = render(waterfall(spans), width=80)[:4]
    starts = {cells(line.partition("10.00 ms")[0]) for line in lines}
    assert len(starts) == 1
    assert all(cells(line) <= 80 for line in lines)


def test_long_durations_stay_in_their_column() -> None:
    """From a second on they are seconds."""
    lines = render(waterfall([_span("a", "", "s", 0, 90_000), _span("b", "a", "s", 0, 999)]), width=80)
    assert "90.00 s" in lines[0]
    assert "999.00 ms" in lines[1]
    assert lines[0].index("█") == lines[1].index("█")


@st.composite
def _traces(draw: st.DrawFn) -> list[Span]:
    count = draw(st.integers(1, 12))
    spans = []
    for number in range(count):
        start = draw(st.integers(0, 1000))
        parent = draw(st.sampled_from(["", *map(str, range(count + 1))]))
        spans.append(
            _span(str(number), parent, draw(st.sampled_from("abc")), start, start + draw(st.integers(0, 500)))
        )
    return spans


@given(_traces())
def test_any_set_of_spans_is_drawn(spans: list[Span]) -> None:
    """Lost parents, rings, skewed clocks: the waterfall never fails and own time is never negative."""
    rows = waterfall(spans)
    assert all(node.self_ns >= 0 for node in rows.rows)
    assert render(rows, width=80)
