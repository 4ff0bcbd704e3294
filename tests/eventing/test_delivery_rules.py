"""What is decided about deliveries: tables of answers, pauses, dead letters, rounds, order and trimming."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.eventing.cloudevents import event as events
from ondol.eventing.delivery import deadletters, order, outcome, policy, trimming, ttl
from ondol.eventing.delivery.order import Lanes, Settled
from ondol.eventing.delivery.outcome import Outcome
from ondol.eventing.delivery.policy import Policy
from ondol.eventing.delivery.trimming import History, Mark
from ondol.eventing.journal.port import StreamState

EVENT = events.new(id="1", source="/s", type="t")
NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, Outcome.DELIVERED) for status in (200, 201, 202, 204, 299)),
        *((status, Outcome.RETRY) for status in (0, 404, 408, 409, 429, 500, 502, 503, 504, 599)),
        *(
            (status, Outcome.REFUSED)
            for status in (100, 300, 301, 307, 400, 401, 403, 405, 410, 413, 415, 422)
        ),
    ],
)
def test_what_an_answer_means(status: int, expected: Outcome) -> None:
    """As the specification's table and Knative's client have it."""
    assert outcome.of(status) is expected


@pytest.mark.parametrize(
    ("status", "expected"), [(200, True), (201, True), (202, False), (204, True), (400, False)]
)
def test_which_answers_can_have_a_reply(status: int, expected: bool) -> None:
    """Not one that says that the event is still to be worked on."""
    assert outcome.may_reply(status) is expected


@pytest.mark.parametrize(
    ("status", "value", "expected"),
    [
        (503, b"5", 5.0),
        (429, b"0", 0.0),
        (503, b"Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
        (503, b"Tue, 14 Nov 2023 22:13:10 GMT", 0.0),
        (503, b"soon", None),
        (503, b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        (503, b"-1", None),
        (500, b"5", None),
        (200, b"5", None),
    ],
)
def test_how_long_a_subscriber_asks_to_be_spared(status: int, value: bytes, expected: float | None) -> None:
    """Seconds or a date, of the two codes that may ask."""
    assert outcome.retry_after_s(status, [(b"Retry-After", value)], NOW) == expected
    assert outcome.retry_after_s(status, [], NOW) is None


@pytest.mark.parametrize(
    ("is_exponential", "expected"), [(True, [0.5, 1.0, 2.0, 4.0]), (False, [0.0, 0.5, 1.0, 1.5])]
)
def test_pauses_grow_as_in_knatives_client(is_exponential: bool, expected: list[float]) -> None:
    """It counts the first failure as number 0."""
    terms = Policy(retries=9, backoff_s=0.5, is_exponential=is_exponential)
    assert [policy.pause_s(terms, failures) for failures in (1, 2, 3, 4)] == expected


@pytest.mark.parametrize(
    ("bound_s", "asked_s", "expected"),
    [
        (None, 60.0, 1.0),
        (0.0, 60.0, 1.0),
        (30.0, 60.0, 30.0),
        (90.0, 60.0, 60.0),
        (90.0, 0.1, 1.0),
        (90.0, None, 1.0),
    ],
)
def test_a_subscriber_is_spared_up_to_a_bound(
    bound_s: float | None, asked_s: float | None, expected: float
) -> None:
    """The longer of the two waits, and none of its own where the policy has no bound."""
    terms = Policy(retries=1, backoff_s=1.0, retry_after_max_s=bound_s)
    assert policy.pause_s(terms, 1, asked_s) == expected


@given(st.integers(0, 10**9), st.floats(0, 1e6), st.booleans())
def test_a_pause_is_never_longer_than_a_day(failures: int, backoff_s: float, is_exponential: bool) -> None:
    """However often it failed."""
    terms = Policy(backoff_s=backoff_s, is_exponential=is_exponential)
    assert 0 <= policy.pause_s(terms, failures) <= policy.PAUSE_MAX_S


def test_a_policy_from_a_specification() -> None:
    """Each field; what is absent is none."""
    spec = {
        "retry": 3,
        "backoffPolicy": "linear",
        "backoffDelay": "PT2S",
        "timeout": "PT5S",
        "retryAfterMax": "PT1M",
        "format": "json",
    }
    assert policy.of(spec) == Policy(3, 2.0, False, 5.0, 60.0, True)
    assert policy.of({}) == Policy()
    assert policy.of({"retry": 1, "backoffDelay": "PT2S"}).backoff_s == 0.0


def test_a_triggers_own_delivery_hides_its_brokers() -> None:
    """All or nothing."""
    default = {"retry": 10, "deadLetterSink": {"uri": "http://dead"}}
    assert policy.effective({"retry": 1}, default) == {"retry": 1}
    assert policy.effective(None, default) == default
    assert policy.effective(None, None) == {}


def test_a_dead_letter_says_what_became_of_it() -> None:
    """Where, what was answered, and the answer, cut where the attribute ends."""
    letter = deadletters.letter(EVENT, "http://sub/", 503, b"x" * 5000)
    assert letter.attributes["knativeerrordest"] == "http://sub/"
    assert letter.attributes["knativeerrorcode"] == "503"
    assert len(letter.attributes["knativeerrordata"]) == 1024
    assert "knativeerrordata" not in deadletters.letter(EVENT, "http://sub/", 500, b"").attributes


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "255"), ("255", "254"), ("2", "1"), ("1", None), ("0", None), ("-5", None), ("many", "255")],
)
def test_rounds_are_counted_down_at_the_ingress(value: str | None, expected: str | None) -> None:
    """What is used up is not taken."""
    event = EVENT if value is None else EVENT.with_attributes({ttl.ATTRIBUTE: value})
    admitted = ttl.admitted(event)
    assert (admitted.attributes[ttl.ATTRIBUTE] if admitted else None) == expected


def test_which_events_stay_in_order() -> None:
    """Those of a partition key; else those of a source about a subject."""
    keyed = EVENT.with_attributes(partitionkey="k")
    assert order.key(keyed) == order.key(events.new(id="2", source="/other", type="t", partitionkey="k"))
    assert order.key(EVENT) == order.key(EVENT.with_attributes(id="2"))
    assert order.key(EVENT) != order.key(EVENT.with_attributes(subject="x"))
    assert order.key(EVENT) != order.key(keyed)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_lanes_give_each_key_its_events_one_after_the_other(steps: list[tuple[str, bool]]) -> None:
    """A lane is free when nobody works on it; its items leave in the order in which they came."""
    lanes: Lanes[int] = Lanes()
    model: dict[str, list[int]] = {}
    for number, (lane, adds) in enumerate(steps):
        if adds:
            assert lanes.add(lane, number) == (not model.get(lane))
            model.setdefault(lane, []).append(number)
        elif model.get(lane):
            assert lanes.first(lane) == model[lane].pop(0)
            assert lanes.advance(lane) == bool(model[lane])
        assert len(lanes) == sum(map(len, model.values()))


def test_what_is_settled_is_remembered_above_the_floor() -> None:
    """And forgotten below it, where nothing comes again."""
    settled = Settled()
    settled.add(3)
    settled.add(5)
    settled.forget_below(3)
    assert [number in settled for number in (1, 3, 4, 5, 6)] == [True, True, False, True, False]
    settled.forget_below(1)
    assert settled.floor == 3


FULL = StreamState(100, 1000, 1, 100, round((NOW - 1000) * 1e9), round(NOW * 1e9))


@pytest.mark.parametrize(
    ("floors", "history", "marks", "expected"),
    [
        ([100], History(10_000, 10_000), [], None),
        ([100], History(500, 10_000), [], 51),
        ([30], History(500, 10_000), [], 31),
        ([100, 0], History(500, 10_000), [], None),
        ([], History(500, 10_000), [], 51),
        ([100], History(10_000, 100), [Mark(40, NOW - 200), Mark(80, NOW - 50)], 41),
        ([20], History(10_000, 100), [Mark(40, NOW - 200)], 21),
        ([100], History(0, 10_000), [], 101),
    ],
)
def test_what_a_stream_may_forget(
    floors: list[int], history: History, marks: list[Mark], expected: int | None
) -> None:
    """History beyond its bounds, and never what somebody has yet to get."""
    assert trimming.below(FULL, floors, history, marks, NOW) == expected


def test_a_stream_whose_last_event_is_old_forgets_all_that_was_delivered() -> None:
    """Though nobody has marked how old its events are: the process may be new."""
    assert trimming.below(FULL, [100], History(10_000, 100), [], NOW + 200) == 101
    assert trimming.below(FULL, [99], History(10_000, 100), [], NOW + 200) == 100
