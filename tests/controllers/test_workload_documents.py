"""What ReplicaSets and Deployments make and say, as pure functions."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.base.clock import rfc3339
from ondol.controllers.workloads.deployment import replica_sets, rollout, rollout_status
from ondol.controllers.workloads.podcontrol import pod_from_template
from ondol.controllers.workloads.replicaset import replica_status, sizing

NOW = 1_700_000_000.0


def pod(name: str, **facts: Any) -> Object:
    """A pod that is bound, running and ready since an hour, unless told otherwise."""
    ready = facts.get("ready", True)
    since = rfc3339(NOW - facts.get("ready_s", 3600))
    return {
        "metadata": {
            "name": name,
            "uid": name,
            "labels": {"app": "web"},
            "creationTimestamp": rfc3339(NOW - facts.get("age_s", 7200)),
            "annotations": facts.get("annotations", {}),
        },
        "spec": {"nodeName": facts.get("node", "n1")},
        "status": {
            "phase": facts.get("phase", "Running"),
            "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": since}],
            "containerStatuses": [{"restartCount": facts.get("restarts", 0)}],
        },
    }


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"node": ""}, {}),
        ({"phase": "Pending"}, {}),
        ({"phase": "Unknown"}, {}),
        ({"phase": "Pending"}, {"phase": "Unknown"}),
        ({"ready": False}, {}),
        ({"annotations": {sizing.DELETION_COST: "-1"}}, {}),
        ({}, {"annotations": {sizing.DELETION_COST: "1"}}),
        ({}, {"node": "n2"}),
        ({"ready_s": 10}, {}),
        ({"restarts": 5}, {}),
        ({"age_s": 3700}, {}),
    ],
)
def test_the_pod_least_missed_goes_first(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Whatever the order they come in; `n1` is crowded by a pod of the same workload."""
    one, other, crowd = pod("b", **first), pod("a", **second), pod("c", node="n1")
    for order in ([one, other], [other, one]):
        chosen = sizing.surplus(order, [*order, crowd], 1, NOW)
        assert [objects.name(each) for each in chosen] == ["b"]


def test_a_deletion_cost_that_is_no_number_counts_as_none() -> None:
    """Validation refuses it, an old object may still have it."""
    assert sizing.deletion_cost(pod("a", annotations={sizing.DELETION_COST: "x"})) == 0


def replica_set(**fields: Any) -> Object:
    spec = {
        "replicas": 3,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}, "annotations": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "shop:1"}]},
        },
    }
    metadata = {"name": "web", "namespace": "shop", "uid": "rs-1", "generation": 2}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {**metadata, **fields.pop("metadata", {})},
        "spec": {**spec, **fields.pop("spec", {})},
        "status": fields.pop("status", {}),
    }


@pytest.mark.parametrize(
    ("failed_s", "replicas", "wait_s"),
    [
        ([], 1, 0),
        ([0], 1, 0),
        ([5, 0], 1, 1),
        ([5, 1], 1, 0),
        ([9, 5, 1], 1, 1),
        ([9, 5, 2], 1, 0),
        ([1, 1, 1], 3, 0),
        ([0] * 6, 3, 1),
        ([0] * 1000, 1, 300),
        ([1200, 900, 0], 1, 0),
    ],
)
def test_replacing_what_failed_waits_longer_each_time(
    failed_s: list[float], replicas: int, wait_s: float
) -> None:
    """Rounds of failures count, those within ten minutes; pods that run or have gone well do not."""
    failed = [pod(f"p{n}", phase="Failed", age_s=age) for n, age in enumerate(failed_s)]
    others = [pod("running", age_s=0), pod("done", phase="Succeeded", age_s=0)]
    assert sizing.replacement_wait_s([*failed, *others], replicas, NOW) == wait_s


def test_a_pod_is_its_template_with_an_owner() -> None:
    """Labels and annotations come along, the name is the server's to give."""
    document = pod_from_template(replica_set(), objects.spec(replica_set())["template"])
    assert document["metadata"]["generateName"] == "web-"
    assert document["metadata"]["labels"] == {"app": "web"}
    assert document["metadata"]["annotations"] == {"a": "b"}
    assert objects.is_controlled_by(document, replica_set())
    assert document["spec"] == {"containers": [{"name": "c", "image": "shop:1"}]}


def test_replica_set_status_counts_pods() -> None:
    """Ready, available and fully labelled ones; zero is left out as Kubernetes does."""
    waiting = replica_set(spec={"minReadySeconds": 60})
    pods = [pod("a"), pod("b", ready_s=10), pod("c", ready=False)]
    counted = replica_status.status(waiting, pods, failure=None, now=NOW)
    assert counted == {
        "replicas": 3,
        "fullyLabeledReplicas": 3,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "observedGeneration": 2,
        "conditions": None,
    }
    assert replica_status.next_available_s(waiting, pods, NOW) == 50
    none = replica_status.status(waiting, [], failure=None, now=NOW)
    assert (none["replicas"], none["readyReplicas"]) == (0, None)


def test_a_failure_to_make_pods_is_a_condition_until_it_is_over() -> None:
    """The first reason stays while it lasts."""
    failing = replica_status.status(replica_set(), [], failure=("FailedCreate", "no"), now=NOW)
    assert failing["conditions"][0]["reason"] == "FailedCreate"
    again = replica_set(status={"conditions": failing["conditions"]})
    same = replica_status.status(again, [], failure=("FailedCreate", "other"), now=NOW + 9)
    assert same["conditions"] == failing["conditions"]
    assert replica_status.status(again, [], failure=None, now=NOW)["conditions"] is None


def deployment(**fields: Any) -> Object:
    spec = {
        "replicas": 3,
        "progressDeadlineSeconds": 600,
        "selector": {"matchLabels": {"app": "web"}},
        "template": replica_set()["spec"]["template"],
    }
    metadata = {"name": "web", "namespace": "shop", "uid": "d-1", "generation": 1}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**metadata, **fields.pop("metadata", {})},
        "spec": {**spec, **fields.pop("spec", {})},
        "status": fields.pop("status", {}),
    }


def owned(name: str, template: Object, created: float, **fields: Any) -> Object:
    document = replica_set(spec={"template": template, **fields.pop("spec", {})}, **fields)
    metadata = {"name": name, "uid": name, "creationTimestamp": rfc3339(created)}
    return {**document, "metadata": {**document["metadata"], **metadata}}


def test_the_set_of_a_template_has_its_hash_in_name_labels_and_selector() -> None:
    """So that pods of different templates never meet."""
    document = replica_sets.replica_set(deployment(), [], rollout.terms(deployment()))
    hashed = document["metadata"]["labels"][replica_sets.HASH_LABEL]
    assert document["metadata"]["name"] == f"web-{hashed}"
    assert document["spec"]["selector"]["matchLabels"] == {"app": "web", replica_sets.HASH_LABEL: hashed}
    assert document["spec"]["template"]["metadata"]["labels"] == {
        "app": "web",
        replica_sets.HASH_LABEL: hashed,
    }
    assert document["metadata"]["annotations"][replica_sets.REVISION] == "1"
    assert objects.is_controlled_by(document, deployment())


def test_templates_are_the_same_whatever_the_server_adds_in_emptiness() -> None:
    """A null timestamp, an empty map, the hash label: none makes another template."""
    plain = deployment()["spec"]["template"]
    dressed = {
        "metadata": {
            "creationTimestamp": None,
            **plain["metadata"],
            "labels": {"app": "web", replica_sets.HASH_LABEL: "x"},
        },
        "spec": {**plain["spec"], "securityContext": {}},
    }
    assert replica_sets.template_hash(plain, 0) == replica_sets.template_hash(dressed, 0)
    assert replica_sets.template_hash(plain, 0) != replica_sets.template_hash(plain, 1)
    changed = {**plain, "spec": {"containers": [{"name": "c", "image": "shop:2"}]}}
    assert replica_sets.template_hash(plain, 0) != replica_sets.template_hash(changed, 0)


def test_the_oldest_set_of_the_template_is_the_current_one() -> None:
    """Others, even of the same template, are old ones."""
    template = deployment()["spec"]["template"]
    other = {**template, "spec": {"containers": []}}
    listed = [owned("late", template, NOW + 9), owned("early", template, NOW), owned("old", other, NOW - 9)]
    new, olds = replica_sets.split(deployment(), listed)
    assert new is not None
    assert objects.name(new) == "early"
    assert [objects.name(each) for each in olds] == ["old", "late"]


def test_going_back_to_a_template_gives_it_the_next_revision() -> None:
    """And what it was before is noted; the Deployment's own annotations come along."""
    annotations = {replica_sets.REVISION: "1"}
    current = owned("a", {}, NOW, metadata={"annotations": annotations})
    olds = [owned("b", {}, NOW, metadata={"annotations": {replica_sets.REVISION: "2"}})]
    changed = deployment(metadata={"annotations": {"team": "x", replica_sets.REVISION: "2"}})
    assert replica_sets.updated(current, changed, olds) == {
        "metadata": {
            "annotations": {
                "team": "x",
                replica_sets.REVISION: "3",
                replica_sets.REVISION_HISTORY: "1",
            }
        }
    }
    settled = {replica_sets.REVISION: "3", "team": "x"}
    assert replica_sets.updated(owned("a", {}, NOW, metadata={"annotations": settled}), changed, olds) == {}


def test_revision_history_is_cut_at_the_front() -> None:
    """It stays below two thousand characters."""
    assert replica_sets.history("", "1") == "1"
    assert replica_sets.history("1,3", "5") == "1,3,5"
    long = replica_sets.history(",".join(str(n) for n in range(1000)), "1000")
    assert len(long) <= 2000
    assert long.endswith(",999,1000")


def test_only_empty_and_observed_sets_beyond_the_limit_go() -> None:
    """The lowest revisions first; one that still has pods stays."""

    def old(name: str, revision: int, **fields: Any) -> Object:
        spec = {"replicas": fields.get("replicas", 0)}
        status = {"observedGeneration": 2, "replicas": fields.get("pods", 0)}
        annotations = {replica_sets.REVISION: str(revision)}
        return owned(name, {}, NOW, spec=spec, status=status, metadata={"annotations": annotations})

    olds = [old("c", 3), old("a", 1), old("b", 2, pods=1), old("d", 4)]
    assert [objects.name(each) for each in replica_sets.expired(olds, 2)] == ["a"]
    assert [objects.name(each) for each in replica_sets.expired(olds, 0)] == ["a", "c", "d"]


def verdict(obj: Object, type: str) -> tuple[str, str, str]:
    condition = conditions.find(obj["conditions"], type) or {}
    return condition["status"], condition["reason"], condition["message"]


def running(ready: int, *, name: str = "web-1", size: int = 3) -> Object:
    status = {"replicas": size, "readyReplicas": ready, "availableReplicas": ready}
    return owned(name, deployment()["spec"]["template"], NOW, spec={"replicas": size}, status=status)


def test_a_rollout_tells_its_progress_in_kubernetes_words() -> None:
    """Created, progressing, done: what `kubectl rollout status` waits for."""
    fresh = running(0, size=3)
    first = rollout_status.status(
        deployment(), fresh, [fresh], progressing=rollout_status.new_set_created("web-1"), now=NOW
    )
    assert verdict(first, "Available")[:2] == ("False", "MinimumReplicasUnavailable")
    assert verdict(first, "Progressing") == (
        "True",
        "ReplicaSetUpdated",
        'ReplicaSet "web-1" is progressing.',
    )
    assert first["unavailableReplicas"] == 3
    ready = running(3)
    last = rollout_status.status(deployment(status=first), ready, [ready], now=NOW + 5)
    assert verdict(last, "Available") == (
        "True",
        "MinimumReplicasAvailable",
        "Deployment has minimum availability.",
    )
    assert verdict(last, "Progressing") == (
        "True",
        "NewReplicaSetAvailable",
        'ReplicaSet "web-1" has successfully progressed.',
    )
    assert last["unavailableReplicas"] is None


def test_a_stuck_rollout_is_told_after_its_deadline() -> None:
    """The deadline counts from the last step forward."""
    stuck = running(1)
    first = rollout_status.status(deployment(), stuck, [stuck], now=NOW)
    settled = rollout_status.status(deployment(status=first), stuck, [stuck], now=NOW + 599)
    assert settled == first
    assert rollout_status.check_again_s(deployment(status=first), first, NOW + 100) == 501
    late = rollout_status.status(deployment(status=first), stuck, [stuck], now=NOW + 601)
    message = 'ReplicaSet "web-1" has timed out progressing.'
    assert verdict(late, "Progressing") == ("False", "ProgressDeadlineExceeded", message)
    assert rollout_status.check_again_s(deployment(), late, NOW + 601) is None


def test_a_pause_stops_the_deadline() -> None:
    """Paused and resumed are said as such."""
    stuck = running(1)
    first = rollout_status.status(deployment(), stuck, [stuck], now=NOW)
    halted = deployment(status=first, spec={"paused": True})
    paused = rollout_status.status(halted, stuck, [stuck], rolling_out=False, now=NOW)
    assert verdict(paused, "Progressing") == ("Unknown", "DeploymentPaused", "Deployment is paused")
    assert rollout_status.check_again_s(halted, paused, NOW) is None
    resumed = rollout_status.status(deployment(status=paused), stuck, [stuck], rolling_out=False, now=NOW)
    assert verdict(resumed, "Progressing")[1] == "DeploymentResumed"


def test_a_sets_failure_is_shown_on_the_deployment() -> None:
    """Until the set has none."""
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}
    failing = running(0)
    failing = {**failing, "status": {**failing["status"], "conditions": [failure]}}
    reported = rollout_status.status(deployment(), failing, [failing], now=NOW)
    assert verdict(reported, "ReplicaFailure") == ("True", "FailedCreate", "quota")
    over = rollout_status.status(deployment(status=reported), running(0), [running(0)], now=NOW)
    assert conditions.find(over["conditions"], "ReplicaFailure") is None
