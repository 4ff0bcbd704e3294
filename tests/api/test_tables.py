"""Tables: ages, columns of built-in and custom kinds, and what travels with each row."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api.tables import age, builtin, custom, pods, table
from ondol.base import clock

_NOW = 1_700_000_000.0
_DAY = 86_400


def _meta(name: str, seconds_ago: float = 300, **more: Any) -> dict[str, Any]:
    return {"name": name, "creationTimestamp": clock.rfc3339(_NOW - seconds_ago), **more}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-2, "<invalid>"),
        (-1.5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (179 * 60 + 59, "179m"),
        (3 * 3600, "3h"),
        (7 * 3600 + 3540, "7h59m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (2 * _DAY, "2d"),
        (7 * _DAY + 23 * 3600, "7d23h"),
        (8 * _DAY, "8d"),
        (729 * _DAY, "729d"),
        (730 * _DAY, "2y"),
        (731 * _DAY, "2y1d"),
        (8 * 365 * _DAY, "8y"),
        (9 * 365 * _DAY + 100, "9y"),
    ],
)
def test_an_age_has_two_or_three_figures(seconds: float, text: str) -> None:
    """Ages get coarser as they grow, at the bounds kubectl users know."""
    assert age.human(seconds) == text


@given(st.integers(0, 10**9))
def test_an_age_never_overstates(seconds: int) -> None:
    """The age shown is never longer than the real one and less than a unit short of it."""
    units = {"s": 1, "m": 60, "h": 3600, "d": _DAY, "y": 365 * _DAY}
    total_s, number = 0, ""
    for character in age.human(seconds):
        if character.isdigit():
            number += character
        else:
            total_s, number, last = total_s + int(number) * units[character], "", units[character]
    assert total_s <= seconds < total_s + last


def test_an_absent_time_is_unknown() -> None:
    """A missing time is not an age of fifty years."""
    assert age.since(None, _NOW) == "<unknown>"
    assert age.since("yesterday", _NOW) == "<invalid>"


def _pod(status: dict[str, Any], spec: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _meta("web", **meta),
        "spec": {"containers": [{"name": "a"}, {"name": "b"}], **(spec or {})},
        "status": status,
    }


def _container(name: str = "a", ready: bool = False, restarts: int = 0, **state: Any) -> dict[str, Any]:
    return {"name": name, "ready": ready, "restartCount": restarts, "state": state}


_RUNNING: dict[str, Any] = {"startedAt": "2023-11-14T22:00:00Z"}
_READY = [{"type": "Ready", "status": "True"}]


@pytest.mark.parametrize(
    ("pod", "reason", "ready"),
    [
        (_pod({"phase": "Pending"}), "Pending", "0/2"),
        (_pod({"phase": "Failed", "reason": "Evicted"}), "Evicted", "0/2"),
        (
            _pod({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
            "SchedulingGated",
            "0/2",
        ),
        (
            _pod(
                {
                    "phase": "Pending",
                    "containerStatuses": [_container(waiting={"reason": "ContainerCreating"})],
                }
            ),
            "ContainerCreating",
            "0/2",
        ),
        (
            _pod(
                {
                    "phase": "Running",
                    "containerStatuses": [
                        _container("a", ready=True, running=_RUNNING),
                        _container("b", waiting={"reason": "CrashLoopBackOff"}),
                    ],
                }
            ),
            "CrashLoopBackOff",
            "1/2",
        ),
        (
            _pod(
                {
                    "phase": "Running",
                    "containerStatuses": [
                        _container("a", ready=True, running=_RUNNING),
                        _container("b", ready=True, running=_RUNNING),
                    ],
                }
            ),
            "Running",
            "2/2",
        ),
        (
            _pod(
                {
                    "phase": "Running",
                    "conditions": _READY,
                    "containerStatuses": [
                        _container("a", ready=True, running=_RUNNING),
                        _container("b", terminated={"reason": "Completed", "exitCode": 0}),
                    ],
                }
            ),
            "Running",
            "1/2",
        ),
        (
            _pod(
                {
                    "phase": "Running",
                    "containerStatuses": [
                        _container("a", terminated={"reason": "Completed", "exitCode": 0}),
                        _container("b", ready=True, running=_RUNNING),
                    ],
                }
            ),
            "NotReady",
            "1/2",
        ),
        (
            _pod(
                {
                    "phase": "Failed",
                    "containerStatuses": [
                        _container("a", terminated={"reason": "Completed", "exitCode": 0}),
                        _container("b", terminated={"reason": "Error", "exitCode": 3}),
                    ],
                }
            ),
            "Error",
            "0/2",
        ),
        (
            _pod({"phase": "Failed", "containerStatuses": [_container(terminated={"exitCode": 7})]}),
            "ExitCode:7",
            "0/2",
        ),
        (
            _pod(
                {
                    "phase": "Failed",
                    "containerStatuses": [_container(terminated={"exitCode": 137, "signal": 9})],
                }
            ),
            "Signal:9",
            "0/2",
        ),
        (
            _pod(
                {"phase": "Pending", "initContainerStatuses": [_container("i", running=_RUNNING)]},
                {"initContainers": [{"name": "i"}]},
            ),
            "Init:0/1",
            "0/2",
        ),
        (
            _pod(
                {
                    "phase": "Pending",
                    "initContainerStatuses": [
                        _container("i", terminated={"exitCode": 0}),
                        _container("j", waiting={"reason": "ImagePullBackOff"}),
                    ],
                },
                {"initContainers": [{"name": "i"}, {"name": "j"}]},
            ),
            "Init:ImagePullBackOff",
            "0/2",
        ),
        (
            _pod(
                {"phase": "Failed", "initContainerStatuses": [_container("i", terminated={"exitCode": 2})]},
                {"initContainers": [{"name": "i"}]},
            ),
            "Init:ExitCode:2",
            "0/2",
        ),
        (
            _pod(
                {
                    "phase": "Running",
                    "initContainerStatuses": [
                        {**_container("s", ready=True, running=_RUNNING), "started": True}
                    ],
                    "containerStatuses": [_container("a", ready=True, running=_RUNNING)],
                },
                {"initContainers": [{"name": "s", "restartPolicy": "Always"}]},
            ),
            "Running",
            "2/3",
        ),
        (_pod({"phase": "Running"}, deletionTimestamp="2023-11-14T22:00:00Z"), "Terminating", "0/2"),
        (_pod({"phase": "Succeeded"}, deletionTimestamp="2023-11-14T22:00:00Z"), "Succeeded", "0/2"),
        (
            _pod({"phase": "Running", "reason": "NodeLost"}, deletionTimestamp="2023-11-14T22:00:00Z"),
            "Unknown",
            "0/2",
        ),
    ],
)
def test_a_pods_status_is_the_word_kubectl_shows(pod: dict[str, Any], reason: str, ready: str) -> None:
    """One word sums up phase, deletion and the state of every container."""
    cells = pods.LAYOUT.cells(pod, _NOW)
    assert (cells[2], cells[1]) == (reason, ready)


def test_a_pod_row_has_its_wide_cells() -> None:
    """Restarts say when; address, node and gates stand in the wide columns."""
    pod = _pod(
        {
            "phase": "Running",
            "podIPs": [{"ip": "10.1.0.7"}],
            "conditions": [{"type": "gate", "status": "True"}],
            "containerStatuses": [
                {
                    **_container("a", ready=True, restarts=2, running=_RUNNING),
                    "lastState": {"terminated": {"finishedAt": clock.rfc3339(_NOW - 90)}},
                }
            ],
        },
        {"nodeName": "n1", "readinessGates": [{"conditionType": "gate"}, {"conditionType": "other"}]},
    )
    assert list(pods.LAYOUT.cells(pod, _NOW)) == [
        "web", "1/2", "Running", "2 (90s ago)", "5m", "10.1.0.7", "n1", "<none>", "1/2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("group", "kind", "obj", "cells"),
    [
        (
            "apps",
            "Deployment",
            {
                "metadata": _meta("web"),
                "spec": {
                    "replicas": 3,
                    "selector": {"matchLabels": {"app": "web"}},
                    "template": {
                        "spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}
                    },
                },
                "status": {"readyReplicas": 2, "updatedReplicas": 3},
            },
            ["web", "2/3", 3, 0, "5m", "a,b", "x,y", "app=web"],
        ),
        (
            "apps",
            "ReplicaSet",
            {"metadata": _meta("web-1"), "spec": {"replicas": 0}, "status": {}},
            ["web-1", 0, 0, 0, "5m", "", "", "<none>"],
        ),
        (
            "",
            "Service",
            {
                "metadata": _meta("s"),
                "spec": {
                    "type": "NodePort",
                    "clusterIPs": ["10.96.0.1"],
                    "ports": [
                        {"port": 80, "nodePort": 30080, "protocol": "TCP"},
                        {"port": 53, "protocol": "UDP"},
                    ],
                    "selector": {"b": "2", "a": "1"},
                },
            },
            ["s", "NodePort", "10.96.0.1", "<none>", "80:30080/TCP,53/UDP", "5m", "a=1,b=2"],
        ),
        (
            "",
            "Service",
            {"metadata": _meta("lb"), "spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {}}},
            ["lb", "LoadBalancer", "<none>", "<pending>", "<none>", "5m", "<none>"],
        ),
        (
            "",
            "Node",
            {
                "metadata": _meta("n", labels={"node-role.kubernetes.io/control-plane": ""}),
                "spec": {"unschedulable": True},
                "status": {
                    "conditions": [{"type": "Ready", "status": "False"}],
                    "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                    "nodeInfo": {
                        "kubeletVersion": "v1.34.0",
                        "kernelVersion": "6.1",
                        "architecture": "amd64",
                    },
                },
            },
            [
                "n",
                "NotReady,SchedulingDisabled",
                "control-plane",
                "5m",
                "v1.34.0",
                "192.0.2.1",
                "<none>",
                "<unknown>",
                "6.1 (amd64)",
                "<unknown>",
            ],
        ),
        ("", "Namespace", {"metadata": _meta("d"), "status": {"phase": "Active"}}, ["d", "Active", "5m"]),
        (
            "",
            "ConfigMap",
            {"metadata": _meta("c"), "data": {"a": ""}, "binaryData": {"b": ""}},
            ["c", 2, "5m"],
        ),
        (
            "",
            "Secret",
            {"metadata": _meta("s"), "type": "Opaque", "data": {"a": ""}},
            ["s", "Opaque", 1, "5m"],
        ),
        ("", "ServiceAccount", {"metadata": _meta("default")}, ["default", "5m"]),
        (
            "coordination.k8s.io",
            "Lease",
            {"metadata": _meta("l"), "spec": {"holderIdentity": "me"}},
            ["l", "me", "5m"],
        ),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            {
                "metadata": _meta("e"),
                "addressType": "IPv4",
                "ports": [{"port": 80}],
                "endpoints": [{"addresses": [f"10.0.0.{i}"]} for i in range(5)],
            },
            ["e", "IPv4", "80", "10.0.0.0,10.0.0.1,10.0.0.2 + 2 more...", "5m"],
        ),
        (
            "rbac.authorization.k8s.io",
            "RoleBinding",
            {
                "metadata": _meta("rb"),
                "roleRef": {"kind": "Role", "name": "r"},
                "subjects": [
                    {"kind": "User", "name": "u"},
                    {"kind": "ServiceAccount", "name": "sa", "namespace": "ns"},
                ],
            },
            ["rb", "Role/r", "5m", "u", "", "ns/sa"],
        ),
        (
            "scheduling.k8s.io",
            "PriorityClass",
            {"metadata": _meta("pc"), "value": 7, "globalDefault": True, "preemptionPolicy": "Never"},
            ["pc", 7, True, "5m", "Never"],
        ),
        (
            "",
            "Event",
            {
                "metadata": _meta("ev"),
                "involvedObject": {"kind": "Pod", "name": "web"},
                "type": "Warning",
                "reason": "BackOff",
                "message": "again \n",
                "firstTimestamp": clock.rfc3339(_NOW - 600),
                "lastTimestamp": clock.rfc3339(_NOW - 30),
                "count": 4,
                "source": {"component": "kubelet", "host": "n1"},
            },
            ["30s", "Warning", "BackOff", "pod/web", "", "kubelet, n1", "again", "10m", 4, "ev"],
        ),
    ],
)
def test_built_in_kinds_have_their_columns(
    group: str, kind: str, obj: dict[str, Any], cells: list[Any]
) -> None:
    """Each kind's row reads as kubectl prints it, one cell per column."""
    layout = builtin.layout(group, kind)
    assert list(layout.cells(obj, _NOW)) == cells
    assert len(layout.columns) == len(cells)


def test_a_kind_without_columns_of_its_own_shows_when_it_was_made() -> None:
    """And asking for the columns of a kind that has none is a slip in its name."""
    assert list(builtin.DEFAULT.cells({"metadata": _meta("r")}, _NOW)) == ["r", clock.rfc3339(_NOW - 300)]
    with pytest.raises(ValueError, match="no columns for ConfigMaps of ''"):
        builtin.layout("", "ConfigMaps")


def test_custom_columns_are_read_by_path_and_type() -> None:
    """Missing values, wrong types and filters behave as a CRD author expects."""
    layout = custom.layout(
        [
            {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
            {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
            {"name": "Image", "type": "string", "jsonPath": ".spec.image", "priority": 1},
            {"name": "Note", "type": "string", "jsonPath": r".metadata.annotations.example\.com/note"},
            {"name": "Ports", "type": "string", "jsonPath": ".spec.ports"},
            {"name": "Share", "type": "number", "jsonPath": ".spec.replicas"},
            {"name": "Paused", "type": "boolean", "jsonPath": ".spec.paused"},
            {"name": "Wrong", "type": "integer", "jsonPath": ".spec.paused"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ]
    )
    widget = {
        "metadata": _meta("w", annotations={"example.com/note": "hi"}),
        "spec": {"replicas": 3, "ports": [1, 2], "paused": True},
        "status": {"conditions": [{"type": "A", "status": "x"}, {"type": "Ready", "status": "True"}]},
    }
    assert list(layout.cells(widget, _NOW)) == ["w", "True", 3, None, "hi", "[1,2]", 3.0, True, None, "5m"]


def test_a_custom_kind_without_columns_shows_its_age() -> None:
    """Name and Age are what there is when the CRD declares nothing."""
    layout = custom.layout(())
    assert [column.name for column in layout.columns] == ["Name", "Age"]
    assert list(layout.cells({"metadata": _meta("w")}, _NOW)) == ["w", "5m"]


def test_a_table_carries_the_list_metadata_and_each_objects_metadata() -> None:
    """Paged lists and kubectl's sort both depend on what travels beside the cells."""
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _meta("c"), "data": {}}
    document = table.table(
        [obj],
        builtin.layout("", "ConfigMap"),
        now=_NOW,
        metadata={"resourceVersion": "7", "continue": "t", "remainingItemCount": 0, "selfLink": "x"},
    )
    assert document["kind"] == "Table"
    assert document["apiVersion"] == "meta.k8s.io/v1"
    assert document["metadata"] == {"resourceVersion": "7", "continue": "t", "remainingItemCount": 0}
    assert [c["name"] for c in document["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert document["rows"][0]["object"] == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }


def test_include_object_decides_what_each_row_carries() -> None:
    """`Object` carries the whole object, `None` nothing; a watch may leave out the headers."""
    pod = _pod({"phase": "Succeeded"})
    whole = table.table([pod], pods.LAYOUT, now=_NOW, include_object="Object", headers=False)
    bare = table.table([pod], pods.LAYOUT, now=_NOW, include_object="None", version="v1beta1")
    assert whole["rows"][0]["object"] is pod
    assert whole["columnDefinitions"] == []
    assert whole["rows"][0]["conditions"][0]["reason"] == "Succeeded"
    assert bare["rows"][0]["object"] is None
    assert bare["apiVersion"] == "meta.k8s.io/v1beta1"


def test_a_list_can_be_reduced_to_metadata() -> None:
    """Garbage collection and metadata informers read nothing else."""
    listed = table.partial_list([{"metadata": {"name": "a"}, "spec": {}}], {"resourceVersion": "3"})
    assert listed["kind"] == "PartialObjectMetadataList"
    assert listed["items"][0]["metadata"] == {"name": "a"}
    assert "spec" not in listed["items"][0]
