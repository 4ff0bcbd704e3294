"""LimitRanges through the API: what is refused of them, and what they do to pods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

LIMITS = "/api/v1/namespaces/default/limitranges"
PODS = "/api/v1/namespaces/default/pods"
Make = Callable[..., Any]


def limit_range(*limits: Any, name: str = "l") -> Any:
    return {"metadata": {"name": name}, "spec": {"limits": list(limits)}}


def of_containers(**amounts: Any) -> Any:
    return {"type": "Container", **amounts}


def container(name: str = "c", **resources: Any) -> Any:
    return {"name": name, "image": "example.org/app:1", "resources": resources}


async def test_bounds_are_defaults_where_none_are_named(api: Any) -> None:
    """The limit is the maximum, the request the limit, or the minimum; of pods there are no defaults."""
    limits = of_containers(max={"cpu": "1"}, min={"cpu": "100m", "memory": "1Mi"})
    stored = (await api.post(LIMITS, limit_range(limits, {"type": "Pod", "max": {"cpu": "2"}}))).json
    first, second = stored["spec"]["limits"]
    assert (first["default"], first["defaultRequest"]) == ({"cpu": "1"}, {"cpu": "1", "memory": "1Mi"})
    assert second == {"type": "Pod", "max": {"cpu": "2"}}


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (
            {"type": "Dish"},
            '[0].type: Invalid value: "Dish": must be a standard limit type or fully qualified',
        ),
        (of_containers(max={"dish": "1"}), "[0].max[dish]: Invalid value"),
        (
            of_containers(min={"cpu": "2"}, max={"cpu": "1"}),
            '[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
        ),
        (
            of_containers(default={"cpu": "1"}, defaultRequest={"cpu": "2"}),
            "default request value 2 is greater than default limit value 1",
        ),
        (
            of_containers(default={"cpu": "3"}, max={"cpu": "2"}),
            '[0].default[cpu]: Invalid value: "2": default value 3 is greater than max value 2',
        ),
        (of_containers(maxLimitRequestRatio={"cpu": "500m"}), "ratio 500m is less than 1"),
        (
            of_containers(maxLimitRequestRatio={"cpu": "3"}, min={"cpu": "1"}, max={"cpu": "2"}),
            "ratio 3 is greater than max/min = 2.000000",
        ),
        (
            of_containers(default={"a.b/gpu": "2"}, defaultRequest={"a.b/gpu": "1"}),
            "default value 2 must equal to defaultRequest value 1 in a.b/gpu",
        ),
        (
            {"type": "Pod", "default": {"cpu": "1"}},
            "[0].default: Forbidden: may not be specified when `type` is 'Pod'",
        ),
        (
            {"type": "PersistentVolumeClaim"},
            "either minimum or maximum storage value is required, but neither was provided",
        ),
    ],
)
async def test_what_a_limit_range_may_not_say(api: Any, limit: Any, message: str) -> None:
    """In Kubernetes' words."""
    refused = await api.post(LIMITS, limit_range(limit))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_a_type_has_one_limit(api: Any) -> None:
    """Two of one type would contradict each other."""
    refused = await api.post(LIMITS, limit_range(of_containers(), of_containers()))
    assert 'spec.limits[1].type: Duplicate value: "Container"' in refused.json["message"]


async def test_pods_get_the_default_amounts(api: Any, pod: Make) -> None:
    """What they name stays; a note says what was added, and their quality of service follows."""
    limits = of_containers(default={"cpu": "1", "memory": "64Mi"}, defaultRequest={"cpu": "500m"})
    await api.post(LIMITS, limit_range(limits))
    containers = [container("a"), container("b", requests={"cpu": "200m"})]
    stored = (await api.post(PODS, pod("p", containers=containers))).json
    amounts = [each["resources"] for each in stored["spec"]["containers"]]
    limit = {"cpu": "1", "memory": "64Mi"}
    assert amounts == [
        {"limits": limit, "requests": {"cpu": "500m", "memory": "64Mi"}},
        {"limits": limit, "requests": {"cpu": "200m", "memory": "64Mi"}},
    ]
    assert stored["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu, memory request for container a; cpu, memory limit for container a; "
        "memory request for container b; cpu, memory limit for container b"
    )
    assert stored["status"]["qosClass"] == "Burstable"
    changed = await api.patch(f"{PODS}/p", {"metadata": {"labels": {"a": "b"}}})
    assert changed.status == 200


@pytest.mark.parametrize(
    ("limit", "resources", "why"),
    [
        (
            {"max": {"cpu": "1"}},
            {"limits": {"cpu": "2"}},
            "maximum cpu usage per Container is 1, but limit is 2",
        ),
        (
            {"min": {"memory": "64Mi"}},
            {"requests": {"memory": "32Mi"}},
            "minimum memory usage per Container is 64Mi, but request is 32Mi",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"limits": {"cpu": "1"}, "requests": {"cpu": "250m"}},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {},
            "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ),
    ],
)
async def test_a_pod_out_of_bounds_is_refused(
    api: Any, pod: Make, limit: Any, resources: Any, why: str
) -> None:
    """In Kubernetes' words."""
    await api.post(LIMITS, limit_range(of_containers(**limit)))
    refused = await api.post(PODS, pod("p", containers=[container(**resources)]))
    assert (refused.status, refused.json["message"]) == (403, f'pods "p" is forbidden: {why}')


async def test_a_pod_is_bound_as_a_whole(api: Any, pod: Make) -> None:
    """Containers add up, init containers run before them; what names no amount is refused as well."""
    await api.post(LIMITS, limit_range({"type": "Pod", "max": {"cpu": "1", "memory": "1Gi"}}))
    both = [container(name, limits={"cpu": "600m", "memory": "256Mi"}) for name in ("a", "b")]
    refused = await api.post(PODS, pod("p", containers=both))
    assert refused.json["message"].endswith("maximum cpu usage per Pod is 1, but limit is 1200m")
    refused = await api.post(PODS, pod("p", containers=[container()]))
    assert (
        "[maximum cpu usage per Pod is 1.  No limit is specified, maximum memory" in refused.json["message"]
    )
    assert (await api.post(PODS, pod("p", containers=both[:1], initContainers=[both[1]]))).status == 201
