"""Gradual roll-outs as a function of the state before, the goal and the time; no server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.serverless.serving import rollout, routing
from ondol.serverless.serving.rollout import SECOND_NS, Moving, Rollout, Share, Steps
from ondol.serverless.serving.routing import Target

BEGAN_S = 1_700_000_000


def ns(seconds: float) -> int:
    return round((BEGAN_S + seconds) * SECOND_NS)


def moving(*shares: tuple[str, int], name: str = "web", tag: str = "", **steps: int) -> Moving:
    percent = sum(share for _, share in shares)
    return Moving(name, percent, tag, tuple(Share(*share) for share in shares), Steps(**steps))


def end(*shares: tuple[str, int], **names: Any) -> Rollout:
    return Rollout((moving(*shares, **names),))


def shares(state: Rollout, name: str = "web", tag: str = "") -> list[tuple[str, int]]:
    return [(share.revision, share.percent) for share in state.shares(name, tag)]


def played(
    duration_s: float, ready_s: float, *, before: Rollout, goal: Rollout
) -> list[list[tuple[str, int]]]:
    """The states of a whole roll-out, whose first percent takes `ready_s` to be served."""
    state = rollout.step(goal, before, ns(0))
    states, now_ns = [shares(state)], ns(ready_s)
    state = rollout.observed(state, now_ns, duration_s)
    while not state.is_done:
        now_ns = state.next_ns
        state = rollout.step(goal, state, now_ns)
        states.append(shares(state))
    return states


@pytest.mark.parametrize(
    ("duration_s", "ready_s", "steps"),
    [
        (75, 15, [99, 74, 49, 24, 0]),
        (75, 15.5, [99, 72, 45, 18, 0]),
        (10, 30, [99, 0]),
        (1, 0.2, [99, 0]),
        (5, 0.2, [99, 74, 49, 24, 0]),
    ],
)
def test_steps_follow_from_how_long_the_first_percent_took(
    duration_s: float, ready_s: float, steps: list[int]
) -> None:
    """1 % first, then equal steps as far apart as that took, never less than a second; 100 % at the end."""
    states = played(duration_s, ready_s, before=end(("one", 100)), goal=end(("two", 100)))
    assert [dict(state).get("one", 0) for state in states] == steps
    assert all(sum(share for _, share in state) == 100 for state in states)


def test_a_long_duration_moves_one_percent_at_a_time() -> None:
    """A percent is the smallest step: there are never more steps than percents."""
    states = played(1000, 1, before=end(("one", 100)), goal=end(("two", 100)))
    assert [dict(state)["two"] for state in states] == list(range(1, 101))


def test_it_ends_within_the_duration() -> None:
    """The last step comes when the duration has passed since the beginning."""
    state = rollout.step(end(("two", 100)), end(("one", 100)), ns(0))
    state = rollout.observed(state, ns(15), 75)
    while not state.is_done:
        last_ns = state.next_ns
        state = rollout.step(end(("two", 100)), state, last_ns)
    assert last_ns == ns(75)


def test_nothing_moves_before_its_time() -> None:
    """Before the first percent is served, and between two steps, a reconcile changes nothing."""
    goal = end(("two", 100))
    begun = rollout.step(goal, end(("one", 100)), ns(0))
    assert rollout.step(goal, begun, ns(1000)) == begun
    ready = rollout.observed(begun, ns(15), 75)
    assert rollout.observed(ready, ns(16), 75) == ready
    assert rollout.step(goal, ready, ns(29)) == ready
    assert shares(rollout.step(goal, ready, ns(30))) == [("one", 74), ("two", 26)]


def test_a_newer_revision_midway_begins_anew() -> None:
    """It takes its first percent from the newest of before, whose rest goes first."""
    before = end(("one", 60), ("two", 40), began_ns=1, next_ns=2, every_ns=1, size=20)
    begun = rollout.step(end(("three", 100)), before, ns(0))
    assert shares(begun) == [("one", 60), ("two", 39), ("three", 1)]
    assert begun.configurations[0].steps == Steps(began_ns=ns(0))
    ready = rollout.observed(begun, ns(15), 60)
    assert ready.configurations[0].steps.size == 33
    assert shares(rollout.step(end(("three", 100)), ready, ns(30))) == [
        ("one", 60),
        ("two", 6),
        ("three", 34),
    ]
    later = rollout.step(end(("three", 100)), rollout.step(end(("three", 100)), ready, ns(30)), ns(45))
    assert shares(later) == [("one", 33), ("three", 67)]


@pytest.mark.parametrize(
    ("percent", "left"),
    [
        (80, [("one", 60), ("two", 20)]),
        (40, [("one", 20), ("two", 20)]),
        (15, [("two", 15)]),
    ],
)
def test_a_changed_share_is_the_newest_to_gain_and_the_oldest_to_lose(
    percent: int, left: list[tuple[str, int]]
) -> None:
    """When the Route gives the Configuration more or less midway."""
    before = end(("one", 60), ("two", 20), began_ns=1, next_ns=ns(9), every_ns=1, size=5)
    state = rollout.step(end(("two", percent)), before, ns(0))
    assert shares(state) == left


def test_several_targets_move_each_by_itself() -> None:
    """Two Configurations and a tag: each has its own state; a share of one percent just changes hands."""
    goal = Rollout(
        (
            moving(("a2", 70), name="a"),
            moving(("b1", 29), name="b"),
            moving(("c2", 1), name="c"),
            moving(("a2", 100), name="a", tag="next"),
        )
    )
    before = Rollout(
        (
            moving(("a1", 70), name="a"),
            moving(("b1", 29), name="b"),
            moving(("c1", 1), name="c"),
            moving(("a1", 100), name="a", tag="next"),
        )
    )
    state = rollout.step(goal, before, ns(0))
    assert shares(state, "a") == [("a1", 69), ("a2", 1)]
    assert shares(state, "b") == [("b1", 29)]
    assert shares(state, "c") == [("c2", 1)]
    assert shares(state, "a", "next") == [("a1", 99), ("a2", 1)]


def test_new_names_begin_at_the_end() -> None:
    """What was not routed before has nothing to move from."""
    state = rollout.step(end(("two", 100), tag="new"), end(("one", 100)), ns(0))
    assert shares(state, tag="new") == [("two", 100)]
    assert shares(rollout.step(end(("two", 100)), None, ns(0))) == [("two", 100)]


def test_a_revision_that_is_gone_leaves_its_share_to_the_oldest() -> None:
    """No request is sent to what is not there."""
    state = rollout.without(end(("one", 60), ("two", 39), ("three", 1)), ["one"])
    assert shares(state) == [("two", 99), ("three", 1)]


def test_the_state_is_written_as_knative_writes_it() -> None:
    """So that either reads what the other left; what is not sound counts as nothing."""
    state = end(("one", 99), ("two", 1), began_ns=5)
    text = rollout.encode(state)
    assert text == (
        '{"configurations":[{"configurationName":"web","percent":100,"revisions":'
        '[{"revisionName":"one","percent":99},{"revisionName":"two","percent":1}],"stepParams":{"starttime":5}}]}'
    )
    assert rollout.decode(text) == state
    for broken in (None, "", "{", text.replace("99", "98"), text.replace('"percent":100', '"percent":101')):
        assert rollout.decode(broken) is None


@given(
    before=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    percent=st.integers(0, 100),
    newer=st.booleans(),
    size=st.integers(0, 100),
    now_s=st.integers(0, 100),
)
def test_shares_always_make_the_whole(
    before: list[int], percent: int, newer: bool, size: int, now_s: int
) -> None:
    """Whatever was before: nobody has less than nothing, and together they have what the Route gives."""
    former = [(f"r{number}", share) for number, share in enumerate(before)]
    newest = "next" if newer else former[-1][0]
    goal = end((newest, percent)) if percent else Rollout()
    state = rollout.step(goal, end(*former, began_ns=1, next_ns=ns(50), every_ns=1, size=size), ns(now_s))
    result = shares(state)
    assert sum(share for _, share in result) == percent
    assert all(share > 0 for _, share in result[:-1])
    assert not percent or result[-1][0] == newest


# --- what the rules and the status make of it


LATEST = Target("two", 100, latest=True, configuration="web")


def test_the_rules_and_the_status_follow_the_state() -> None:
    """Both revisions are listed with their shares; the whole of it is 100."""
    state = rollout.step(routing.goal([LATEST]), end(("one", 100)), ns(0))
    traffic = routing.traffic([LATEST], state)
    assert [(t.revision, t.percent, t.latest) for t in traffic.listed] == [
        ("one", 99, True),
        ("two", 1, True),
    ]
    assert traffic.revisions == {"one", "two"}


def test_a_share_of_several_targets_is_divided_among_them() -> None:
    """Two targets that follow one Configuration have together what it has, each as much as it asks for."""
    tagged = Target("two", 30, tag="new", latest=True, configuration="web")
    rest = Target("two", 70, latest=True, configuration="web")
    before = Rollout((moving(("one", 100)), moving(("one", 100), tag="new")))
    traffic = routing.traffic([tagged, rest], rollout.step(routing.goal([tagged, rest]), before, ns(0)))
    assert [(t.revision, t.percent, t.tag) for t in traffic.listed] == [
        ("one", 30, "new"),
        ("one", 69, ""),
        ("two", 1, ""),
    ]
    assert [(t.revision, t.percent) for t in traffic.tagged["new"]] == [("one", 99), ("two", 1)]


def test_a_tag_without_a_share_moves_too() -> None:
    """Its own name leads to both meanwhile, and the status lists both with no share of the rest."""
    tagged = Target("two", 0, tag="new", latest=True, configuration="web")
    other = Target("fixed", 100)
    before = Rollout((moving(("one", 100), tag="new"),))
    traffic = routing.traffic([tagged, other], rollout.step(routing.goal([tagged, other]), before, ns(0)))
    assert [(t.revision, t.percent) for t in traffic.listed] == [("one", 0), ("two", 0), ("fixed", 100)]
    assert [(t.revision, t.percent) for t in traffic.tagged["new"]] == [("one", 99), ("two", 1)]
