"""PriorityClasses through the API: what is refused, and what pods get of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
PODS = "/api/v1/namespaces/default/pods"
Make = Callable[..., Any]


def priority_class(name: str, value: int = 1000, **fields: Any) -> Any:
    return {"metadata": {"name": name}, "value": value, **fields}


async def test_a_new_server_has_the_classes_of_the_system(api: Any) -> None:
    """With Kubernetes' values, and columns as kubectl prints them."""
    table = (await api.get(CLASSES, accept="application/json;as=Table;v=v1;g=meta.k8s.io")).json
    assert [column["name"] for column in table["columnDefinitions"]] == [
        "Name",
        "Value",
        "Global-Default",
        "Age",
        "PreemptionPolicy",
    ]
    assert [[*row["cells"][:3], row["cells"][4]] for row in table["rows"]] == [
        ["system-cluster-critical", 2000000000, False, "PreemptLowerPriority"],
        ["system-node-critical", 2000001000, False, "PreemptLowerPriority"],
    ]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            priority_class("high", 1000000001),
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ),
        (
            priority_class("system-mine"),
            (
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for "
                "system use only. error: system-mine is not a known system priority class"
            ),
        ),
        (priority_class("a", preemptionPolicy="Maybe"), 'preemptionPolicy: Unsupported value: "Maybe"'),
    ],
)
async def test_what_a_class_may_not_be(api: Any, document: Any, message: str) -> None:
    """In Kubernetes' words."""
    refused = await api.post(CLASSES, document)
    assert refused.status == 422
    assert message in refused.json["message"]


async def test_a_class_of_the_system_is_as_it_must_be(api: Any) -> None:
    """It may be made again, but not otherwise."""
    await api.delete(f"{CLASSES}/system-node-critical")
    refused = await api.post(CLASSES, priority_class("system-node-critical", 5))
    assert "value of system-node-critical PriorityClass must be 2000001000" in refused.json["message"]
    marked = priority_class("system-node-critical", 2000001000, globalDefault=True)
    assert "globalDefault of system-node-critical" in (await api.post(CLASSES, marked)).json["message"]
    assert (await api.post(CLASSES, priority_class("system-node-critical", 2000001000))).status == 201


async def test_what_a_class_gives_does_not_change(api: Any) -> None:
    """Its description does, without a new generation."""
    stored = (await api.post(CLASSES, priority_class("a"))).json
    assert (stored["preemptionPolicy"], stored["metadata"]["generation"]) == ("PreemptLowerPriority", 1)
    for change, message in (
        ({"value": 2}, "value: Forbidden: may not be changed in an update."),
        ({"preemptionPolicy": "Never"}, 'preemptionPolicy: Invalid value: "Never": field is immutable'),
    ):
        refused = await api.patch(f"{CLASSES}/a", change)
        assert (refused.status, message in refused.json["message"]) == (422, True), refused.json
    changed = await api.patch(f"{CLASSES}/a", {"description": "for tests"})
    assert (changed.status, changed.json["metadata"]["generation"]) == (200, 1)


async def test_a_pod_gets_the_priority_of_its_class(api: Any, pod: Make) -> None:
    """And keeps it when the class is gone."""
    await api.post(CLASSES, priority_class("vip", preemptionPolicy="Never"))
    stored = await api.post(PODS, pod("p", priorityClassName="vip"))
    assert (stored.status, stored.json["spec"]["priority"], stored.json["spec"]["preemptionPolicy"]) == (
        201,
        1000,
        "Never",
    )
    assert not stored.warnings
    refused = await api.post(PODS, pod("q", priorityClassName="vip", priority=7))
    assert (refused.status, "computed 1000 from the given" in refused.json["message"]) == (403, True)
    await api.delete(f"{CLASSES}/vip")
    changed = await api.patch(f"{PODS}/p", {"metadata": {"labels": {"a": "b"}}})
    assert (changed.status, changed.json["spec"]["priority"]) == (200, 1000)
    assert (await api.post(PODS, pod("q", priorityClassName="vip"))).status == 403


async def test_one_class_is_for_pods_without_one(api: Any, pod: Make) -> None:
    """A second is refused, until the first is no longer marked."""
    await api.post(CLASSES, priority_class("usual", 10, globalDefault=True))
    spec = (await api.post(PODS, pod("p"))).json["spec"]
    assert (spec["priorityClassName"], spec["priority"]) == ("usual", 10)
    refused = await api.post(CLASSES, priority_class("other", globalDefault=True))
    assert (refused.status, refused.json["message"]) == (
        403,
        (
            'priorityclasses.scheduling.k8s.io "other" is forbidden: PriorityClass usual is already marked '
            "as default. Only one default can exist"
        ),
    )
    assert (await api.patch(f"{CLASSES}/usual", {"description": "the usual one"})).status == 200
    assert (await api.patch(f"{CLASSES}/usual", {"globalDefault": False})).status == 200
    assert (await api.post(CLASSES, priority_class("other", globalDefault=True))).status == 201
    assert (await api.post(PODS, pod("q"))).json["spec"]["priorityClassName"] == "other"
