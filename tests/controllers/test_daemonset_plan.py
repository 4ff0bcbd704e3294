"""What a DaemonSet does next: where its pods are, which go and come, failures and status, as tables."""

from __future__ import annotations

from typing import Any, Final

import pytest

from ondol.api import objects
from ondol.api.objects import Object
from ondol.base.clock import rfc3339
from ondol.controllers.workloads.daemonset import daemon_pods, daemon_status, placement, plan
from ondol.controllers.workloads.daemonset.plan import View
from ondol.controllers.workloads.replacements import Replacements

NOW: Final = 1_700_000_000.0
GENERATION: Final = {"deprecated.daemonset.template.generation": "2"}


def daemon_set(
    *, unavailable: Any = 1, surge: Any = 0, strategy: str = "RollingUpdate", **pod: Any
) -> Object:
    rolling = {"maxUnavailable": unavailable, "maxSurge": surge}
    update = {"type": strategy, **({"rollingUpdate": rolling} if strategy == "RollingUpdate" else {})}
    template = {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [], **pod}}
    metadata = {"name": "agent", "namespace": "d", "uid": "u", "generation": 3, "annotations": GENERATION}
    spec = {"template": template, "updateStrategy": update, "minReadySeconds": 60}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec}


def pod(word: str, node: str, name: str) -> Object:
    """A pod by a word: `new`, `old`, each also with `sick`, `fresh`, `failed`, `gone` after it."""
    revision, _, state = word.partition("+")
    document = daemon_pods.pod(daemon_set(), "new", node, name=name)
    document["metadata"]["labels"] = {"controller-revision-hash": revision}
    document["metadata"] |= {"uid": name, "creationTimestamp": rfc3339(NOW - 5000)}
    document["spec"]["nodeName"] = node
    since = rfc3339(NOW - (1 if state == "fresh" else 1000))
    ready = {"type": "Ready", "status": str(state in ("", "fresh", "gone")), "lastTransitionTime": since}
    phase = {"failed": "Failed", "succeeded": "Succeeded"}.get(state, "Running")
    document["status"] = {"phase": phase, "conditions": [ready]}
    if state == "gone":
        document["metadata"]["deletionTimestamp"] = rfc3339(NOW)
    return document


def view(nodes: str, **fields: Any) -> View:
    """Nodes by the words of their pods: `new old,new -`; `!` before them is a node that is no place."""
    listed: list[Object] = []
    pods: list[Object] = []
    for number, words in enumerate(nodes.split()):
        taints = [{"key": "own", "effect": "NoSchedule"}] if words.startswith("!") else []
        listed.append({"metadata": {"name": f"n{number}"}, "spec": {"taints": taints}})
        present = words.removeprefix("!").split(",")
        pods += [
            pod(word, f"n{number}", f"p{number}{'abc'[place]}")
            for place, word in enumerate(present)
            if word != "-"
        ]
    return plan.view(daemon_set(**fields), "new", listed, pods, NOW)


def names(pods: list[Object]) -> list[str]:
    return sorted(map(objects.name, pods))


SURGE: Final = {"unavailable": 0, "surge": 1}


@pytest.mark.parametrize(
    ("nodes", "fields", "created", "deleted"),
    [
        ("- new -", {}, ["n0", "n2"], []),
        ("new,new new,old,old", {}, [], ["p0b", "p1b", "p1c"]),
        ("new+gone", {}, [], []),
        ("new+gone", SURGE, ["n0"], []),
        ("new+failed new+succeeded", {}, [], ["p0a", "p1a"]),
        ("!new !-", {}, [], []),
        ("old,new+sick", SURGE, [], []),
        ("old+sick,new+sick", SURGE, [], ["p0a"]),
        ("old,new", SURGE, [], ["p0a"]),
        ("old,new+fresh", SURGE, [], []),
        ("old,old,new+sick", SURGE, [], ["p0b"]),
    ],
)
def test_one_pod_is_kept_on_each_node(
    nodes: str, fields: Object, created: list[str], deleted: list[str]
) -> None:
    """With a surge two, while the new one is not available and the old one is ready."""
    kept = plan.keep(view(nodes, **fields), {})
    assert (kept.nodes, names(kept.deleted)) == (created, deleted)


@pytest.mark.parametrize(
    ("nodes", "fields", "created", "deleted"),
    [
        ("old old old", {}, [], ["p0a"]),
        ("new old old", {}, [], ["p1a"]),
        ("new+fresh old old", {}, [], []),
        ("- old old", {}, [], []),
        ("old+gone old old", {}, [], []),
        ("old old+sick old", {}, [], ["p1a"]),
        ("old old+sick old", {"unavailable": 2}, [], ["p0a", "p1a"]),
        ("old old old old", {"unavailable": "50%"}, [], ["p0a", "p1a"]),
        ("old old old", {"unavailable": "50%"}, [], ["p0a", "p1a"]),
        ("old old", {"unavailable": 0, "surge": 0}, [], ["p0a"]),
        ("old old", {"strategy": "OnDelete"}, [], []),
        ("old old old", SURGE, ["n0"], []),
        ("old,new+fresh old old", SURGE, [], []),
        ("old,new old old", SURGE, ["n1"], ["p0a"]),
        ("old old+sick old", SURGE, ["n1", "n0"], []),
        ("!old new", SURGE, [], ["p0a"]),
        ("!old new+sick", SURGE, [], []),
        ("!old+sick new", SURGE, [], ["p0a"]),
        ("!old new old", {"unavailable": 0, "surge": "100%"}, ["n2"], ["p0a"]),
    ],
)
def test_an_update_goes_on(nodes: str, fields: Object, created: list[str], deleted: list[str]) -> None:
    """As far as the limits allow; what is down already goes beyond them."""
    rolled = plan.roll(view(nodes, **fields))
    assert (rolled.nodes, names(rolled.deleted)) == (created, deleted)


def test_pods_of_nodes_that_are_gone() -> None:
    """One that was never bound is deleted here; a bound one is collected elsewhere."""
    waiting, bound = pod("new", "lost", "a"), pod("new", "lost", "b")
    del waiting["spec"]["nodeName"]
    kept = plan.keep(plan.view(daemon_set(), "new", [], [waiting, bound], NOW), {})
    assert names(kept.deleted) == ["a"]


def test_failed_pods_wait_longer_each_time() -> None:
    """By node; a changed set and a long silence begin anew."""
    replacements = Replacements()
    waits: list[float] = []
    now = NOW
    for _ in range(5):
        assert replacements.waits(daemon_set(), ["n0"], now) == {}
        replacements.note(daemon_set(), ["n0"], now)
        left = replacements.waits(daemon_set(), ["n0", "n1"], now)
        assert list(left) == ["n0"]
        kept = plan.keep(view("new+failed new"), left)
        assert (kept.deleted, kept.wait_s) == ([], left["n0"])
        waits.append(left["n0"])
        now += waits[-1]
    assert waits == [1, 2, 4, 8, 16]
    replacements.note(daemon_set(), ["n0"], now)
    changed = {**daemon_set(), "metadata": {**daemon_set()["metadata"], "generation": 4}}
    assert replacements.waits(changed, ["n0"], now) == {}
    replacements.forget("u")
    assert replacements.waits(daemon_set(), ["n0"], now) == {}


def node(name: str, *, taints: list[Object] | None = None, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints or []}}


def taint(key: str, effect: str) -> list[Object]:
    return [{"key": key, "effect": effect}]


AFFINE: Final = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]
        }
    }
}


@pytest.mark.parametrize(
    ("fields", "where", "expected"),
    [
        ({}, node("n"), (True, True)),
        ({"nodeName": "n"}, node("n"), (True, True)),
        ({"nodeName": "m"}, node("n"), (False, False)),
        ({"nodeSelector": {"a": "b"}}, node("n"), (False, False)),
        ({"nodeSelector": {"a": "b"}}, node("n", a="b"), (True, True)),
        ({"affinity": AFFINE}, node("n"), (False, False)),
        ({"affinity": AFFINE}, node("n", gpu="1"), (True, True)),
        ({}, node("n", taints=taint("own", "NoSchedule")), (False, True)),
        ({}, node("n", taints=taint("own", "NoExecute")), (False, False)),
        ({}, node("n", taints=taint("own", "PreferNoSchedule")), (True, True)),
        (
            {"tolerations": [{"operator": "Exists"}]},
            node("n", taints=taint("own", "NoExecute")),
            (True, True),
        ),
        ({}, node("n", taints=taint("node.kubernetes.io/unschedulable", "NoSchedule")), (True, True)),
        ({}, node("n", taints=taint("node.kubernetes.io/not-ready", "NoSchedule")), (False, True)),
        ({}, node("n", taints=taint("node.kubernetes.io/not-ready", "NoExecute")), (True, True)),
        ({}, node("n", taints=taint("node.kubernetes.io/network-unavailable", "NoSchedule")), (False, True)),
        (
            {"hostNetwork": True},
            node("n", taints=taint("node.kubernetes.io/network-unavailable", "NoSchedule")),
            (True, True),
        ),
    ],
)
def test_where_a_daemon_runs_and_where_it_may_stay(
    fields: Object, where: Object, expected: tuple[bool, bool]
) -> None:
    """By name, selector, affinity and taints."""
    place = placement.placement(daemon_set(**fields), where)
    assert (place.runs, place.stays) == expected


def test_only_some_changes_of_a_node_matter() -> None:
    """Labels and taints, coming and going; not its heartbeats."""
    before = node("n")
    assert not placement.affects(before, {**before, "status": {"phase": "x"}})
    assert placement.affects(before, node("n", a="b"))
    assert placement.affects(before, node("n", taints=taint("a", "NoExecute")))
    assert placement.affects(before, None)
    assert placement.affects(None, before)


def test_a_pod_is_pinned_to_its_node() -> None:
    """In place of the template's own requirement, beside its preferences; a time limit is lifted."""
    preferred = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}]}
    own = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}
    limited = {**own, "tolerationSeconds": 5}
    affinity = {"nodeAffinity": {**AFFINE["nodeAffinity"], **preferred}}
    created = daemon_pods.pod(
        daemon_set(affinity=affinity, tolerations=[limited]), "hash", "n7", name="agent-x"
    )
    nodes = created["spec"]["affinity"]["nodeAffinity"]
    field = {"key": "metadata.name", "operator": "In", "values": ["n7"]}
    required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    assert nodes == {**preferred, "requiredDuringSchedulingIgnoredDuringExecution": required}
    assert own in created["spec"]["tolerations"]
    assert limited not in created["spec"]["tolerations"]
    assert daemon_pods.target_node(created) == "n7"
    labels = objects.labels(created)
    assert (labels["controller-revision-hash"], labels["pod-template-generation"]) == ("hash", "2")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"controller-revision-hash": "h"}, True),
        ({"controller-revision-hash": "g"}, False),
        ({"controller-revision-hash": "g", "pod-template-generation": "2"}, True),
        ({}, False),
    ],
)
def test_which_pods_are_of_the_template(labels: Object, expected: bool) -> None:
    """By the hash, or by the number that is older than it."""
    assert daemon_pods.is_updated(daemon_set(), "h", {"metadata": {"labels": labels}}) is expected


def test_the_status_counts_nodes() -> None:
    """Of several pods on a node the eldest; a pod on a node that is no place is misscheduled."""
    looked = view("new old,new old+sick new+fresh - !old")
    status = {k: v for k, v in daemon_status.status(looked, collisions=None).items() if v is not None}
    assert status == {
        "desiredNumberScheduled": 5,
        "currentNumberScheduled": 4,
        "numberMisscheduled": 1,
        "numberReady": 3,
        "updatedNumberScheduled": 2,
        "numberAvailable": 2,
        "numberUnavailable": 3,
        "observedGeneration": 3,
    }
    assert daemon_status.next_available_s(looked) == 59
