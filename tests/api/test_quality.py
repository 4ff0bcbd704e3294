"""A pod's quality of service."""

from __future__ import annotations

import pytest

from ondol.api import quality
from ondol.api.objects import Object


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        (
            {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}},
            "Guaranteed",
        ),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
        ({"limits": {"cpu": "1"}}, "Burstable"),
        ({"requests": {"cpu": "0", "memory": 0}}, "BestEffort"),
    ],
)
def test_quality_of_service(resources: Object, expected: str) -> None:
    """By requests and limits of CPU and memory."""
    pod = {"spec": {"containers": [{"name": "a", "resources": resources}]}}
    assert quality.of(pod) == expected
