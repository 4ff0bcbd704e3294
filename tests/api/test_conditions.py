"""Conditions: transition times, replacement and the derived Ready."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api import conditions

_THEN = 1_700_000_000.0
_LATER = _THEN + 60


def test_a_new_condition_is_appended_with_its_time() -> None:
    """The first write of a condition is a transition."""
    written = conditions.set([], "Ready", "True", reason="Up", message="all good", now=_THEN)
    assert written == [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Up",
            "message": "all good",
            "lastTransitionTime": "2023-11-14T22:13:20Z",
        }
    ]


def test_the_transition_time_moves_only_with_the_status() -> None:
    """A new message is not a transition; a new status is."""
    first = conditions.set([], "Ready", "False", reason="Starting", now=_THEN)
    second = conditions.set(first, "Ready", "False", reason="Pulling", now=_LATER, observed_generation=3)
    third = conditions.set(second, "Ready", "True", now=_LATER)
    assert second[0]["lastTransitionTime"] == first[0]["lastTransitionTime"]
    assert second[0]["reason"] == "Pulling"
    assert second[0]["observedGeneration"] == 3
    assert third[0]["lastTransitionTime"] == "2023-11-14T22:14:20Z"
    assert "reason" not in third[0]


def test_the_given_list_is_not_changed() -> None:
    """Documents from caches are shared, so a new list is returned."""
    listed = conditions.set([], "Ready", "False", now=_THEN)
    before = [dict(c) for c in listed]
    conditions.set(listed, "Ready", "True", now=_LATER)
    conditions.remove(listed, "Ready")
    assert listed == before


def test_reading_an_object_without_status_finds_nothing() -> None:
    """A fresh object has no conditions and is not ready."""
    assert conditions.get({}, "Ready") is None
    assert not conditions.is_true({"status": {}}, "Ready")
    assert conditions.is_false({"status": {"conditions": [{"type": "A", "status": "False"}]}}, "A")


@pytest.mark.parametrize(
    ("dependents", "status", "reason"),
    [
        ({"A": "True", "B": "True"}, "True", None),
        ({"A": "Unknown", "B": "False"}, "False", "B"),
        ({"A": "Unknown", "B": "True"}, "Unknown", "A"),
        ({"A": "True"}, "Unknown", None),
    ],
)
def test_ready_follows_its_dependents(dependents: dict[str, Any], status: str, reason: str | None) -> None:
    """False beats Unknown beats True; the reason is the deciding dependent's."""
    listed = [{"type": t, "status": s, "reason": t, "message": t} for t, s in dependents.items()]
    ready = conditions.find(conditions.ready_from(listed, ("A", "B"), now=_THEN), "Ready")
    assert ready is not None
    assert ready["status"] == status
    assert ready.get("reason") == reason


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from(["True", "False", "Unknown"])), max_size=8))
def test_writing_the_same_twice_changes_nothing(writes: list[tuple[str, Any]]) -> None:
    """Types stay unique and a repeated write is the identity."""
    listed: list[dict[str, Any]] = []
    for type_, status in writes:
        listed = conditions.set(listed, type_, status, now=_THEN)
        assert conditions.set(listed, type_, status, now=_LATER) == listed
    assert len({c["type"] for c in listed}) == len(listed)
