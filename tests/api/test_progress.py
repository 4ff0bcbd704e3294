"""When a Deployment has rolled out, as `kubectl rollout status` sees it."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api import progress

DONE = {
    "observedGeneration": 3,
    "replicas": 2,
    "updatedReplicas": 2,
    "readyReplicas": 2,
    "availableReplicas": 2,
}


def deployment(status: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"generation": 3}, "spec": {"replicas": 2, **spec}, "status": status}


def test_all_of_the_newest_template_and_available() -> None:
    """Nothing is left to wait for."""
    assert progress.is_rolled_out(deployment(DONE))


@pytest.mark.parametrize(
    ("status", "what"),
    [
        ({}, "nobody has seen it"),
        ({**DONE, "observedGeneration": 2}, "the counts are of the spec before"),
        ({**DONE, "updatedReplicas": 1}, "one replica is of the template before"),
        ({**DONE, "replicas": 3}, "one of before is still to go"),
        ({**DONE, "availableReplicas": 1}, "one is not available"),
        ({**DONE, "replicas": 4, "updatedReplicas": 4, "availableReplicas": 4}, "it is to shrink"),
    ],
)
def test_what_is_still_to_come(status: dict[str, Any], what: str) -> None:
    """Ready replicas alone do not say it, since those of before are ready too."""
    assert not progress.is_rolled_out(deployment(status)), what


def test_none_wanted_none_there() -> None:
    """Counts of zero are left out of a status."""
    assert progress.is_rolled_out(deployment({"observedGeneration": 3}, replicas=0))
