"""Ownership graphs, node taints, namespace conditions and aggregated rules, as pure functions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from ondol.api import conditions, objects, resources
from ondol.api.objects import Key, Object
from ondol.base.clock import rfc3339
from ondol.controllers import catalogue
from ondol.controllers.aggregation.rules import aggregated_rules
from ondol.controllers.garbage import graph as garbage
from ondol.controllers.garbage.graph import Graph, Node
from ondol.controllers.namespace import deletion
from ondol.controllers.node import taints

NOW = 1_700_000_000.0


def item(uid: str, *owners: str, block: bool = True, finalizer: str = "") -> Node:
    references = tuple({"uid": owner, "blockOwnerDeletion": block} for owner in owners)
    finalizers = (finalizer,) if finalizer else ()
    return Node(resources.POD, Key("shop", uid), uid, references, bool(finalizer), finalizers)


def test_new_owned_objects_are_looked_at() -> None:
    """Their owner may be gone already; objects without one are of no interest."""
    graph = Graph()
    assert graph.put(item("a")) == set()
    assert graph.put(item("b", "a")) == {"b"}
    assert graph.put(item("b", "a")) == set()
    assert [each.uid for each in graph.dependents("a")] == ["b"]


def test_a_node_is_made_of_a_small_part_of_its_object() -> None:
    """The collector keeps that part of every object there is, and decides by it as by the whole."""
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "o", "blockOwnerDeletion": True}
    whole: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "c",
            "namespace": "n",
            "uid": "u",
            "resourceVersion": "7",
            "labels": {"a": "b"},
            "annotations": {"large": "x" * 1000},
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [owner],
            "finalizers": ["foregroundDeletion"],
            "deletionTimestamp": "2026-01-01T00:00:00Z",
        },
        "data": {"k": "v"},
    }
    part = garbage.needed(whole)
    assert garbage.node(resources.CONFIG_MAP, part) == garbage.node(resources.CONFIG_MAP, whole)
    assert objects.resource_version(part) == "7"
    assert set(part) == {"metadata"}
    assert not {"labels", "annotations", "creationTimestamp"} & set(part["metadata"])
    bare = garbage.needed({"metadata": {"name": "c", "uid": "u", "ownerReferences": []}})
    assert bare == {"metadata": {"name": "c", "uid": "u"}}


def test_a_lost_owner_sends_for_its_dependents() -> None:
    """And a lost dependent for the owner that waits for it."""
    graph = Graph()
    for each in (item("a"), item("b", "a"), item("c", "a", "x")):
        graph.put(each)
    assert graph.discard("a") == {"b", "c"}
    assert graph.put(item("a", finalizer="foregroundDeletion")) == {"a", "b", "c"}
    assert graph.discard("b") == {"a"}
    assert graph.put(item("c", "x")) == {"c", "a"}
    assert list(graph.dependents("a")) == []


def test_orphaning_is_the_owners_business() -> None:
    """Its dependents are not to be deleted, so only it is looked at."""
    graph = Graph()
    graph.put(item("b", "a"))
    assert graph.put(item("a", finalizer="orphan")) == {"a"}
    assert graph.nodes["a"].orphans_dependents


def test_only_blocking_references_hold_an_owner_back() -> None:
    """`blockOwnerDeletion` says so."""
    owner = item("a", finalizer="foregroundDeletion")
    assert owner.is_blocked_by(item("b", "a"))
    assert not owner.is_blocked_by(item("b", "a", block=False))
    assert not owner.is_blocked_by(item("b", "c"))


def node(ready: str | None = "True", **spec: Any) -> Object:
    listed = [] if ready is None else [{"type": "Ready", "status": ready}]
    return {"metadata": {"name": "n1"}, "spec": spec, "status": {"conditions": listed}}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (node(), []),
        (node("False"), [("not-ready", "NoExecute"), ("not-ready", "NoSchedule")]),
        (node(None), [("not-ready", "NoExecute"), ("not-ready", "NoSchedule")]),
        (node("Unknown"), [("unreachable", "NoExecute"), ("unreachable", "NoSchedule")]),
        (node(unschedulable=True), [("unschedulable", "NoSchedule")]),
    ],
)
def test_conditions_become_taints(host: Object, expected: list[tuple[str, str]]) -> None:
    """Not ready, unreachable or cordoned; taints for evictions carry their time."""
    tainted = taints.taints(host, host["status"]["conditions"], NOW)
    assert [(t["key"].removeprefix("node.kubernetes.io/"), t["effect"]) for t in tainted] == expected
    assert all(("timeAdded" in t) == (t["effect"] == "NoExecute") for t in tainted)
    again = taints.taints(
        {**host, "spec": {**host["spec"], "taints": tainted}}, host["status"]["conditions"], NOW + 9
    )
    assert again == tainted


def test_taints_of_others_stay_and_ours_go_when_they_are_over() -> None:
    """A node that is ready again keeps what its administrator put there."""
    own = {"key": "mine", "effect": "NoSchedule"}
    ended = {"key": taints.NOT_READY, "effect": "NoExecute", "timeAdded": rfc3339(NOW)}
    assert taints.taints(node(taints=[ended, own]), [{"type": "Ready", "status": "True"}], NOW) == [own]


@pytest.mark.parametrize(
    ("tolerations", "tolerated_s"),
    [
        ([], 0),
        ([{"key": taints.UNREACHABLE, "operator": "Exists", "effect": "NoExecute"}], None),
        ([{"key": taints.UNREACHABLE, "operator": "Exists", "tolerationSeconds": 300}], 300),
        ([{"operator": "Exists", "tolerationSeconds": 0}], 0),
        ([{"operator": "Exists", "tolerationSeconds": -5}], 0),
        ([{"key": "other", "operator": "Exists"}], 0),
        (
            [
                {"operator": "Exists"},
                {"key": taints.UNREACHABLE, "operator": "Exists", "tolerationSeconds": 9},
            ],
            None,
        ),
    ],
)
def test_taints_are_tolerated_for_a_time(tolerations: list[Object], tolerated_s: float | None) -> None:
    """By the first toleration that fits; taints that only keep new pods away send none off."""
    taint = {"key": taints.UNREACHABLE, "effect": "NoExecute", "timeAdded": rfc3339(NOW - 100)}
    assert taints.tolerated_s({"spec": {"tolerations": tolerations}}, [taint]) == tolerated_s
    harmless = {**taint, "effect": "NoSchedule"}
    assert taints.tolerated_s({"spec": {"tolerations": tolerations}}, [harmless]) is None


def test_nothing_is_known_of_a_silent_node() -> None:
    """Every condition it used to report becomes Unknown, once."""
    first = taints.unknown_conditions(node(), NOW)
    outcomes = {c["type"]: (c["status"], c["reason"]) for c in first}
    assert outcomes["Ready"] == ("Unknown", "NodeStatusUnknown")
    assert outcomes["MemoryPressure"] == ("Unknown", "NodeStatusNeverUpdated")
    assert taints.unknown_conditions({"status": {"conditions": first}}, NOW + 9) == first


def test_a_namespace_tells_what_keeps_it() -> None:
    """What remains, which finalizers hold it, what could not be deleted."""
    remains = deletion.Remains(Counter({"pods.": 2}), Counter({"x/y": 1}), ["secrets: no"])
    listed = deletion.deletion_conditions({}, remains, NOW)
    outcomes = {c["type"]: (c["status"], c["message"]) for c in listed}
    assert outcomes["NamespaceContentRemaining"] == (
        "True",
        "Some resources are remaining: pods. has 2 resource instances",
    )
    assert outcomes["NamespaceFinalizersRemaining"][0] == "True"
    assert outcomes["NamespaceDeletionContentFailure"][0] == "True"
    assert not remains.empty
    clean = deletion.deletion_conditions({"status": {"conditions": listed}}, deletion.Remains(), NOW)
    assert all(condition["status"] == "False" for condition in clean)
    assert len(clean) == 5


def test_aggregated_rules_are_those_of_the_selected_roles() -> None:
    """Each once, by the names of the roles, without its own."""

    def role(name: str, verb: str, **labels: str) -> Object:
        return {"metadata": {"name": name, "labels": labels}, "rules": [{"verbs": [verb]}]}

    selector = {"matchLabels": {"to": "x"}}
    outer = {**role("x", "old", to="x"), "aggregationRule": {"clusterRoleSelectors": [selector]}}
    others = [role("b", "get", to="x"), role("a", "list", to="x"), role("c", "get", to="x"), role("d", "no")]
    assert aggregated_rules(outer, [outer, *others]) == [{"verbs": ["list"]}, {"verbs": ["get"]}]


def crd(*, established: bool = True, served: bool = True) -> Object:
    return {
        "metadata": {"name": "beds.garden.test"},
        "spec": {
            "group": "garden.test",
            "scope": "Namespaced",
            "names": {"plural": "beds", "kind": "Bed"},
            "versions": [
                {"name": "v1", "served": served, "storage": False},
                {"name": "v2", "served": served, "storage": True},
            ],
        },
        "status": {"conditions": [{"type": "Established", "status": str(established)}]},
    }


def test_custom_kinds_are_reached_by_their_storage_version() -> None:
    """Once they are established and served."""
    resource = catalogue.custom_resource(crd())
    assert resource is not None
    assert (resource.api_version, resource.plural, resource.namespaced) == ("garden.test/v2", "beds", True)
    assert catalogue.custom_resource(crd(established=False)) is None
    assert catalogue.custom_resource(crd(served=False)) is None
    assert conditions.of(crd())
