"""The status of a policy follows its generation."""

from __future__ import annotations

from typing import Any

from ondol import store
from ondol.apiserver.auth.identity import User
from ondol.apiserver.policies.observed import Observed
from ondol.apiserver.reservations import Reservations
from ondol.apiserver.strategy import Context


def test_a_policy_is_observed_as_it_is_written() -> None:
    """A policy is observed as it is written."""
    with Reservations(store.open_memory()).begin() as reserved:
        context = Context(User("u"), 0.0, False, lambda *_: None, lambda _: None, reserved)
        written: dict[str, Any] = {"metadata": {"name": "p"}, "spec": {"a": 1}, "status": {"x": 1}}
        Observed().prepare_for_create(context, written)
        assert written["status"] == {"typeChecking": {}, "observedGeneration": 1}
        changed = {**written, "metadata": {**written["metadata"]}, "spec": {"a": 2}}
        Observed().prepare_for_update(context, changed, written)
    assert changed["metadata"]["generation"] == 2
    assert changed["status"] == {"typeChecking": {}, "observedGeneration": 2}
    assert written["status"]["observedGeneration"] == 1
