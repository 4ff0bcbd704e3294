"""What the demo shows of its shop."""

from __future__ import annotations

import pytest

from ondol.cli import shop


@pytest.mark.parametrize(
    ("spans", "orphans", "is_whole"),
    [(8, 0, True), (10, 0, True), (8, 3, False), (6, 0, False)],
    ids=["without a call of the cache", "with one", "the way in is missing", "a call is missing"],
)
def test_a_trace_is_drawn_once_it_is_whole(spans: int, orphans: int, *, is_whole: bool) -> None:
    """With as many spans as a request has at least, and the parent of each."""
    assert shop._is_whole({"spanCount": spans, "orphanSpanCount": orphans}) is is_whole
