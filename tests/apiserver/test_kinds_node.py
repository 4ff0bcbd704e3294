"""RuntimeClasses: what is refused, and what pods get of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

pytestmark = pytest.mark.anyio

CLASSES: Final = "/apis/node.k8s.io/v1/runtimeclasses"
PODS: Final = "/api/v1/namespaces/default/pods"
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"
Make = Callable[..., Any]


def _class(name: str = "fast", **fields: Any) -> Any:
    return {"metadata": {"name": name}, "handler": "runc", **fields}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"handler": "A"}, 'handler: Invalid value: "A": a lowercase RFC 1123 label must consist of'),
        (
            {"overhead": {"podFixed": {"cpu": "-1"}}},
            'overhead.limits.cpu: Invalid value: "-1": must be greater than or equal to 0',
        ),
        (
            {"scheduling": {"nodeSelector": {"a b": "c"}}},
            'scheduling.nodeSelector: Invalid value: "a b": name part must consist of',
        ),
        (
            {"scheduling": {"tolerations": [{"operator": "Exists", "key": "a"}] * 2}},
            "scheduling.tolerations[1]: Duplicate value:",
        ),
    ],
)
async def test_what_no_class_may_be(api: Any, fields: Any, message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(CLASSES, _class(**fields))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_what_runs_a_class_is_fixed(api: Any) -> None:
    """PUT also creates; who overwrites says what they have seen."""
    named = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", **_class()}
    assert (await api.put(f"{CLASSES}/fast", named)).status == 201
    assert "must be specified for an update" in (await api.put(f"{CLASSES}/fast", named)).json["message"]
    refused = await api.patch(f"{CLASSES}/fast", {"handler": "crun"})
    assert 'handler: Invalid value: "crun": field is immutable' in refused.json["message"]
    assert (await api.get(CLASSES, accept=TABLE)).json["rows"][0]["cells"] == ["fast", "runc", "0s"]
    warned = await api.patch(
        f"{CLASSES}/fast", {"scheduling": {"nodeSelector": {"beta.kubernetes.io/os": "linux"}}}
    )
    assert any("scheduling.nodeSelector: deprecated since v1.14" in each for each in warned.warnings)


async def test_a_pod_gets_what_its_class_says(api: Any, pod: Make) -> None:
    """Its overhead and where it goes; tolerations that others include are left out."""
    every = {"operator": "Exists", "key": "a"}
    scheduling = {"nodeSelector": {"kind": "fast"}, "tolerations": [every]}
    await api.post(CLASSES, _class(overhead={"podFixed": {"cpu": "250m"}}, scheduling=scheduling))
    own = [{"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"}]
    stored = await api.post(
        PODS, pod("p", runtimeClassName="fast", nodeSelector={"zone": "z"}, tolerations=own)
    )
    assert stored.status == 201, stored.json
    spec = stored.json["spec"]
    assert (spec["overhead"], spec["nodeSelector"]) == ({"cpu": "250m"}, {"zone": "z", "kind": "fast"})
    assert [each for each in spec["tolerations"] if each.get("key") == "a"] == [every]
    same = await api.post(PODS, pod("q", runtimeClassName="fast", overhead={"cpu": "0.25"}))
    assert same.status == 201, same.json


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"runtimeClassName": "none"}, 'pods "p" is forbidden: pod rejected: RuntimeClass "none" not found'),
        (
            {"runtimeClassName": "fast", "overhead": {"cpu": "1"}},
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            {"overhead": {"cpu": "1"}},
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            {"runtimeClassName": "fast", "nodeSelector": {"kind": "slow"}},
            (
                "conflict: runtimeClass.scheduling.nodeSelector[kind] = fast; pod.spec.nodeSelector[kind] = "
                "slow"
            ),
        ),
    ],
)
async def test_what_no_pod_of_a_class_may_say(api: Any, pod: Make, spec: Any, message: str) -> None:
    """Refused in Kubernetes' words."""
    scheduling = {"nodeSelector": {"kind": "fast"}}
    await api.post(CLASSES, _class(overhead={"podFixed": {"cpu": "250m"}}, scheduling=scheduling))
    refused = await api.post(PODS, pod("p", **spec))
    assert (refused.status, message in refused.json["message"]) == (403, True), refused.json
