"""LimitRanges: what they give, what they refuse, and what they may say themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

pytestmark = pytest.mark.anyio

PODS: Final = "/api/v1/namespaces/default/pods"
CLAIMS: Final = "/api/v1/namespaces/default/persistentvolumeclaims"
RANGES: Final = "/api/v1/namespaces/default/limitranges"

Make = Callable[..., Any]


async def _limit(api: Any, *limits: dict[str, Any]) -> Any:
    stored = await api.post(RANGES, {"metadata": {"name": "l"}, "spec": {"limits": list(limits)}})
    assert stored.status == 201, stored.json
    return stored.json


def _sized(pod: Make, requests: dict[str, str] | None = None, limits: dict[str, str] | None = None) -> Any:
    document = pod("p")
    document["spec"]["containers"][0]["resources"] = {"requests": requests or {}, "limits": limits or {}}
    return document


async def test_the_defaults_of_a_range_follow_from_its_bounds(api: Any) -> None:
    """From the most there may be to the limit, from the limit to the request, else from the least."""
    stored = await _limit(
        api, {"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "100m", "memory": "1Mi"}}
    )
    limit = stored["spec"]["limits"][0]
    assert limit["default"] == {"cpu": "2"}
    assert limit["defaultRequest"] == {"cpu": "2", "memory": "1Mi"}


async def test_pods_are_given_what_they_do_not_say(api: Any, pod: Make) -> None:
    """Requests and limits, with a note; what they say stays; their quality is that of the outcome."""
    await _limit(
        api,
        {"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "1"}},
    )
    stored = (await api.post(PODS, _sized(pod, {"memory": "1Gi"}))).json
    assert stored["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "1", "memory": "1Gi"},
        "requests": {"cpu": "1", "memory": "1Gi"},
    }
    assert stored["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu request for container main; cpu, memory limit for container main"
    )
    assert stored["status"]["qosClass"] == "Guaranteed"


BOUNDS: Final[dict[str, tuple[dict[str, Any], dict[str, str], dict[str, str], str]]] = {
    "too little": (
        {"type": "Container", "min": {"cpu": "100m"}},
        {"cpu": "50m"},
        {},
        "minimum cpu usage per Container is 100m, but request is 50m",
    ),
    "a limit that is too low": (
        {"type": "Container", "min": {"cpu": "100m"}, "defaultRequest": {"cpu": "100m"}},
        {},
        {"cpu": "50m"},
        "minimum cpu usage per Container is 100m, but request is 50m",
    ),
    "too much": (
        {"type": "Container", "max": {"memory": "1Gi"}},
        {},
        {"memory": "2Gi"},
        "maximum memory usage per Container is 1Gi, but limit is 2Gi",
    ),
    "a ratio": (
        {"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}},
        {"cpu": "100m"},
        {"cpu": "1"},
        "cpu max limit to request ratio per Container is 2, but provided ratio is 10.000000",
    ),
    "a ratio of nothing": (
        {"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}},
        {},
        {},
        "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
    ),
    "a pod that says nothing": (
        {"type": "Pod", "max": {"cpu": "1"}},
        {},
        {},
        "maximum cpu usage per Pod is 1.  No limit is specified",
    ),
    "a pod that wants too much": (
        {"type": "Pod", "max": {"memory": "1Gi"}},
        {},
        {"memory": "1536Mi"},
        "maximum memory usage per Pod is 1Gi, but limit is 1536Mi",
    ),
}


@pytest.mark.parametrize("name", BOUNDS)
async def test_pods_stay_within_bounds(api: Any, pod: Make, name: str) -> None:
    """Or are refused in Kubernetes' words."""
    limit, requests, limits, message = BOUNDS[name]
    await _limit(api, limit)
    refused = await api.post(PODS, _sized(pod, requests, limits))
    assert (refused.status, refused.json["reason"]) == (403, "Forbidden")
    assert refused.json["message"] == f'pods "p" is forbidden: {message}'


async def test_all_that_is_wrong_is_said_at_once(api: Any, pod: Make) -> None:
    """In one message."""
    await _limit(api, {"type": "Container", "max": {"cpu": "1", "memory": "1Gi"}})
    refused = await api.post(PODS, _sized(pod, {}, {"cpu": "2", "memory": "2Gi"}))
    assert refused.json["message"] == (
        'pods "p" is forbidden: [maximum cpu usage per Container is 1, but limit is 2, maximum '
        "memory usage per "
        "Container is 1Gi, but limit is 2Gi]"
    )


async def test_claims_stay_within_bounds(api: Any) -> None:
    """By what they request."""
    await _limit(api, {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}})
    for size, message in (
        ("512Mi", "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 512Mi"),
        ("3Gi", "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
    ):
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
        refused = await api.post(CLAIMS, {"metadata": {"name": "c"}, "spec": spec})
        assert refused.json["message"] == f'persistentvolumeclaims "c" is forbidden: {message}'


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            [{"type": "Cup"}],
            'spec.limits[0].type: Invalid value: "Cup": must be a standard limit type or fully qualified',
        ),
        (
            [{"type": "Pod", "max": {"cpu": "1"}}] * 2,
            'spec.limits[1].type: Duplicate value: "Pod"',
        ),
        (
            [{"type": "Pod", "default": {"cpu": "1"}}],
            "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
        ),
        (
            [{"type": "PersistentVolumeClaim"}],
            (
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is "
                "required, but "
                "neither was provided"
            ),
        ),
        (
            [{"type": "Container", "max": {"pods": "1"}}],
            'spec.limits[0].max[pods]: Invalid value: "pods": must be a standard resource for containers',
        ),
        (
            [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}],
            'spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
        ),
        (
            [{"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}}],
            (
                'spec.limits[0].defaultRequest[cpu]: Invalid value: "2": default request value 2 is '
                "greater than "
                "default limit value 1"
            ),
        ),
        (
            [{"type": "Container", "maxLimitRequestRatio": {"cpu": "500m"}}],
            'spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1',
        ),
        (
            [{"type": "Pod", "min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "3"}}],
            "ratio 3 is greater than max/min = 2.000000",
        ),
        (
            [{"type": "Container", "default": {"a.b/gpu": "2"}, "defaultRequest": {"a.b/gpu": "1"}}],
            "default value 2 must equal to defaultRequest value 1 in a.b/gpu",
        ),
    ],
)
async def test_what_no_limit_range_may_be(api: Any, limits: list[dict[str, Any]], message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(RANGES, {"metadata": {"name": "l"}, "spec": {"limits": limits}})
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_a_put_creates_a_limit_range(api: Any) -> None:
    """As Kubernetes lets it."""
    assert (await api.put(f"{RANGES}/l", {"metadata": {"name": "l"}, "spec": {"limits": []}})).status == 201
