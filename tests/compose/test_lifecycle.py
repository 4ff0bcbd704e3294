"""What is due when, decided without a process: starts, ends, kills, restarts and waits."""

from __future__ import annotations

import pytest

from ondol.compose import lifecycle
from ondol.compose.lifecycle import Former, Leaving, Restart, Running, State, Turn
from ondol.compose.part import Epoch, Identity, Notify, Part


def _run(_notify: Notify) -> None:
    raise AssertionError


def _parts(*running: Running) -> dict[str, Running]:
    return {each.part.name: each for each in running}


def _names(running: list[Running]) -> list[str]:
    return [each.part.name for each in running]


@pytest.mark.parametrize(
    ("state", "retry_at", "is_due"),
    [
        (State.WAITING, 0.0, True),
        (State.BACKING_OFF, 99.0, True),
        (State.BACKING_OFF, 101.0, False),
        *((state, 0.0, False) for state in State if state not in (State.WAITING, State.BACKING_OFF)),
    ],
)
def test_a_part_is_started_once_and_again_after_its_back_off(
    state: State, retry_at: float, *, is_due: bool
) -> None:
    """What runs, ends or has ended is not started; what failed waits for its time."""
    running = Running(Part("api", _run), state, retry_at=retry_at)
    assert lifecycle.due_to_start(_parts(running), now=100.0) == ([running] if is_due else [])


@pytest.mark.parametrize("state", State)
def test_a_part_waits_for_what_it_needs(state: State) -> None:
    """Only a ready part is one that others can start on."""
    api = Running(Part("api", _run), state)
    envoy = Running(Part("envoy", _run, needs=("api",)))
    due = _names(lifecycle.due_to_start(_parts(envoy, api), now=0.0))
    assert ("envoy" in due) == (state is State.READY)


def test_a_part_is_asked_to_end_after_those_it_outlives() -> None:
    """It is asked once, and only if it has a process; what has none is just not started any more."""
    api = Running(Part("api", _run, outlives=("node", "control")), State.READY, pid=1)
    node = Running(Part("node", _run), State.READY, pid=2)
    control = Running(Part("control", _run), State.BACKING_OFF)
    parts = _parts(api, node, control)
    assert _names(lifecycle.due_to_end(parts)) == ["node"]
    assert _names(lifecycle.never_started(parts)) == ["control"]
    node.state, control.state = State.STOPPING, State.STOPPED
    assert lifecycle.due_to_end(parts) == lifecycle.never_started(parts) == []
    node.state, node.pid = State.STOPPED, 0
    assert _names(lifecycle.due_to_end(parts)) == ["api"]
    assert not lifecycle.all_ended(parts)
    api.state, api.pid = State.STOPPED, 0
    assert lifecycle.due_to_end(parts) == []
    assert lifecycle.all_ended(parts)


def test_what_does_not_end_in_time_is_overdue() -> None:
    """The grace runs from the request; a part that has ended is not overdue."""
    slow = Running(Part("slow", _run), State.STOPPING, pid=1, kill_at=10.0)
    ended = Running(Part("ended", _run), State.STOPPING, kill_at=10.0)
    serving = Running(Part("serving", _run), State.READY, pid=2, kill_at=10.0)
    parts = _parts(slow, ended, serving)
    assert lifecycle.overdue(parts, now=9.9) == []
    assert lifecycle.overdue(parts, now=10.0) == [slow]


def test_restarts_wait_ever_longer_until_a_part_has_lived() -> None:
    """At once, then from a tenth of a second on up to ten seconds; a steady life starts it all anew."""
    failures, delays = 0, []
    for _ in range(10):
        restart = lifecycle.restart(failures, lived_s=1.0)
        failures = restart.failures
        delays.append(restart.delay_s)
    assert delays == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0])
    assert lifecycle.restart(failures, lived_s=30.0).failures == failures + 1
    assert lifecycle.restart(failures, lived_s=30.1) == Restart(failures=1, delay_s=0.0)


def test_nothing_is_waited_for_longer_than_until_the_next_thing_is_due() -> None:
    """The first of: the logs, a restart, a kill, a probe, a verdict; never less than nothing."""
    failed = Running(Part("failed", _run), State.BACKING_OFF, retry_at=107.0)
    slow = Running(Part("slow", _run), State.STOPPING, pid=1, kill_at=105.0)
    engine = Running(
        Part("engine", _run, probe=lambda _pid: True, silence_max_s=30.0), State.READY, pid=2, probe_at=103.0
    )
    parts = _parts(failed, slow, engine)
    assert lifecycle.wait_s(parts, 100.0, [160.0]) == 3.0
    engine.probe_at = 150.0
    assert lifecycle.wait_s(parts, 100.0, [160.0]) == 5.0
    slow.pid = 0
    assert lifecycle.wait_s(parts, 100.0, [160.0]) == 7.0
    failed.state = State.STOPPED
    assert lifecycle.wait_s(parts, 100.0, [160.0]) == 7.5  # a quarter of the longest silence
    assert lifecycle.wait_s({}, 100.0, [160.0]) == 60.0
    assert lifecycle.wait_s({}, 200.0, [160.0]) == 0.0
    engine.state = State.STARTING
    assert lifecycle.wait_s(parts, 100.0, [160.0]) == 0.02


def test_only_what_serves_and_has_a_limit_is_watched() -> None:
    """A part that starts or ends may be silent, and one without a limit always."""
    watched = Running(Part("watched", _run, silence_max_s=1.0), State.READY)
    starting = Running(Part("starting", _run, silence_max_s=1.0), State.STARTING)
    free = Running(Part("free", _run), State.READY)
    assert [running for running, _ in lifecycle.watched(_parts(watched, starting, free))] == [watched]


def test_the_platform_is_ready_when_all_parts_are() -> None:
    """One that is away makes it not ready."""
    one, two = Running(Part("one", _run), State.READY), Running(Part("two", _run), State.BACKING_OFF)
    assert not lifecycle.all_ready(_parts(one, two))
    two.state = State.READY
    assert lifecycle.all_ready(_parts(one, two))


ENGINE = Part("envoy", _run, identity=lambda: Identity("x"))


@pytest.mark.parametrize(
    ("part", "former", "present", "turn"),
    [
        (Part("api", _run), None, None, Turn.ANEW),
        (Part("gateway", _run, overlaps=True), None, None, Turn.BESIDE),
        (ENGINE, Identity("a", "11"), Identity("a", "11"), Turn.STAYS),
        (ENGINE, Identity("a"), Identity("a"), Turn.STAYS),
        (ENGINE, Identity("a", "11"), Identity("b", "11"), Turn.BESIDE),
        (ENGINE, Identity("a", "11"), Identity("b", "12"), Turn.ANEW),
        (ENGINE, Identity("a", ""), Identity("b", ""), Turn.ANEW),
        (ENGINE, Identity("a", "11"), Identity("a", "12"), Turn.ANEW),
        (ENGINE, None, Identity("a", "11"), Turn.ANEW),
        (Part("api", _run), Identity("a", "11"), None, Turn.ANEW),
    ],
)
def test_what_becomes_of_a_process_of_former_code(
    part: Part, former: Identity | None, present: Identity | None, turn: Turn
) -> None:
    """Python parts run new code; an engine goes on if it is the same, or leaves to one of its kin."""
    assert lifecycle.turn(part, former, present) is turn


def test_heirs_are_of_one_line_and_others_begin_another() -> None:
    """Numbers grow along a line; lines differ from those before, of which something may be left."""
    first = lifecycle.next_epoch(Epoch(), beside=False)
    heir = lifecycle.next_epoch(first, beside=True)
    assert heir == Epoch(first.base, first.number + 1)
    bases = [first.base]
    epoch = heir
    for _ in range(lifecycle.BASES):
        epoch = lifecycle.next_epoch(epoch, beside=False)
        assert epoch.number == 0
        bases.append(epoch.base)
    assert len(set(bases[:-1])) == lifecycle.BASES
    assert bases[-1] == bases[0]
    assert max(bases) < lifecycle.BASES


def test_servers_are_renewed_before_those_that_speak_to_them() -> None:
    """Each is away for as long as itself takes: clients end when the server of the new code is ready."""
    api = Running(Part("api", _run, outlives=("node", "gateway")), State.READY, pid=1, turn=Turn.ANEW)
    node = Running(Part("node", _run), State.READY, pid=2, turn=Turn.ANEW)
    gateway = Running(Part("gateway", _run, overlaps=True), State.READY, pid=3, turn=Turn.BESIDE)
    observe = Running(Part("observe", _run), State.READY, pid=4, turn=Turn.ANEW)
    parts = _parts(api, node, gateway, observe)
    assert _names(lifecycle.due_to_renew(parts)) == ["api", "observe"]
    api.state = observe.state = State.RENEWING
    assert lifecycle.due_to_renew(parts) == lifecycle.due_to_start(parts, now=0.0) == []
    for ended in (api, observe):
        ended.state, ended.pid, ended.turn = State.WAITING, 0, Turn.STAYS
    assert _names(lifecycle.due_to_start(parts, now=0.0)) == ["api", "observe"]
    assert lifecycle.due_to_renew(parts) == []
    api.state = State.READY
    assert _names(lifecycle.due_to_renew(parts)) == ["node"]
    assert _names(lifecycle.due_to_start(parts, now=0.0)) == ["gateway", "observe"]


def test_an_heir_starts_once_what_it_needs_is_ready() -> None:
    """Its predecessor serves meanwhile; one that fails is tried again later."""
    control = Running(Part("control", _run), State.STARTING, pid=1)
    envoy = Running(Part("envoy", _run, needs=("control",)), State.READY, pid=2, turn=Turn.BESIDE)
    parts = _parts(control, envoy)
    assert lifecycle.due_to_start(parts, now=0.0) == []
    assert not lifecycle.is_settled(parts)
    control.state, control.turn = State.READY, Turn.ANEW
    assert lifecycle.due_to_start(parts, now=0.0) == []
    control.turn = Turn.STAYS
    assert not lifecycle.is_settled(parts)
    assert _names(lifecycle.due_to_start(parts, now=0.0)) == ["envoy"]
    envoy.turn, envoy.former = Turn.STAYS, Former(2, None, 0.0, Epoch(), None)
    assert not lifecycle.is_settled(parts)
    envoy.former = None
    assert lifecycle.is_settled(parts)


def test_who_was_succeeded_has_its_time_and_no_more() -> None:
    """It is asked to end when that is over, or when the platform stops; then it is killed."""
    early, late = Leaving("gateway", 1, end_at=10.0), Leaving("envoy", 2, end_at=20.0)
    leaving = [early, late]
    assert lifecycle.due_to_leave(leaving, 5.0, stopping=False) == []
    assert lifecycle.due_to_leave(leaving, 10.0, stopping=False) == [early]
    assert lifecycle.due_to_leave(leaving, 5.0, stopping=True) == [early, late]
    early.asked, early.end_at = True, 15.0
    assert lifecycle.due_to_leave(leaving, 12.0, stopping=True) == [late]
    assert lifecycle.due_to_leave(leaving, 15.0, stopping=True) == [early, late]
