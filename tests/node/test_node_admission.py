"""Whether a node has room for a pod that names it itself."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.node.pods import admission

NODE = {"cpu": "2", "memory": "1Gi", "pods": "3"}


def pod(**requests: str) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "a", "resources": {"requests": requests}}]}}


@pytest.mark.parametrize(
    ("requests", "others", "lack"),
    [
        (pod(), [], ""),
        (pod(cpu="2", memory="1Gi"), [], ""),
        (pod(cpu="1"), [pod(cpu="1"), pod(memory="1Gi")], ""),
        (pod(), [pod(cpu="3")], ""),
        (pod(cpu="2001m"), [], "resource: cpu, requested: 2001, used: 0, capacity: 2000"),
        (pod(cpu="1"), [pod(cpu="1500m")], "resource: cpu, requested: 1000, used: 1500, capacity: 2000"),
        (pod(memory="1Ki"), [pod(memory="1Gi")], "memory, requested: 1024, used: 1073741824, capacity: 1073"),
        (pod(memory="9e900"), [], "resource: memory, requested: 9000"),
        (pod(), [pod()] * 3, "resource: pods, requested: 1, used: 3, capacity: 3"),
        ({"spec": {"overhead": {"cpu": "3"}, "containers": [{}]}}, [], "resource: cpu, requested: 3000"),
        (pod(**{"example.com/card": "1"}), [], ""),
    ],
)
def test_what_a_node_has_too_little_of(requests: dict[str, Any], others: list[Any], lack: str) -> None:
    """In the kubelet's words; a pod that asks for nothing of a resource does not care how full it is."""
    message = admission.lack(requests, others, NODE)
    assert (message is None) is (not lack)
    assert lack in str(message or "")
