"""What a StatefulSet does next: identity, order of actions, owners of claims, and status, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api.objects import Object
from ondol.base.clock import rfc3339
from ondol.controllers.workloads.statefulset import identity, plan, retention, set_status
from ondol.controllers.workloads.statefulset.plan import Revision

NOW: Final = 1_700_000_000.0
OLD: Final = Revision("web-old", {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}})
NEW: Final = Revision("web-new", OLD.template)


def stateful_set(replicas: int = 3, **spec: Any) -> Object:
    full = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "serviceName": "db",
        **spec,
    }
    metadata = {"name": "web", "namespace": "d", "uid": "set", "generation": 7}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": full, "status": {}}


def pod(word: str, number: int) -> Object:
    """A pod by a word: its state (`ready`, `sick`, …), with `old` before it of the old revision."""
    revision = OLD if word.startswith("old") else NEW
    document = identity.pod(stateful_set(), revision.template, revision.name, number)
    document["metadata"]["uid"] = f"uid-{number}"
    state = word.removeprefix("old") or "ready"
    is_ready = state in ("ready", "gone", "fresh")
    since = rfc3339(NOW - (1 if state == "fresh" else 1000))
    condition = {"type": "Ready", "status": str(is_ready), "lastTransitionTime": since}
    phase = {"pending": "Pending", "failed": "Failed", "succeeded": "Succeeded"}.get(state, "Running")
    document["status"] = {"phase": phase, "conditions": [condition]}
    if state in ("gone", "leaving"):
        document["metadata"]["deletionTimestamp"] = rfc3339(NOW)
    return document


def members(words: str) -> list[Object]:
    """Pods by their words, in the order of ordinals; `-` is none."""
    return [pod(word, number) for number, word in enumerate(words.split()) if word != "-"]


def words_of(actions: Sequence[plan.Action]) -> list[str]:
    return [
        f"{type(action).__name__.lower()} {identity.ordinal(action.pod)}"
        if isinstance(action, plan.Create | plan.Delete | plan.AddClaims | plan.Correct)
        else type(action).__name__.lower()
        for action in actions
    ]


def planned(words: str, replicas: int = 3, current: Revision = NEW, **spec: Any) -> list[plan.Action]:
    set_ = stateful_set(replicas, **spec)
    return plan.plan(set_, current, NEW, members(words), claims={}, now=NOW)


PARALLEL: Final = {"podManagementPolicy": "Parallel"}
PARTITION: Final = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}


@pytest.mark.parametrize(
    ("words", "spec", "expected"),
    [
        ("", {}, ["create 0"]),
        ("ready", {}, ["create 1"]),
        ("sick", {}, []),
        ("pending", {}, []),
        ("gone", {}, []),
        ("ready ready ready", {}, []),
        ("ready - ready", {}, ["create 1"]),
        ("failed", {}, ["delete 0"]),
        ("ready succeeded ready", {}, ["delete 1"]),
        ("fresh", {"minReadySeconds": 60}, []),
        ("ready", {"minReadySeconds": 60}, ["create 1"]),
        ("", PARALLEL, ["create 0", "create 1", "create 2"]),
        ("sick - failed", PARALLEL, ["create 1", "delete 2"]),
        # too many
        ("ready ready ready ready ready", {}, ["delete 4"]),
        ("ready ready ready ready gone", {}, []),
        ("ready sick ready ready ready", {}, []),
        ("ready ready ready sick sick", {}, []),
        ("ready ready ready sick ready", {}, ["delete 4"]),
        ("ready ready ready ready sick", {}, ["delete 4"]),
        ("ready ready ready sick sick", PARALLEL, ["delete 4", "delete 3"]),
        # updates
        ("old old old", {}, ["delete 2"]),
        ("old old ready", {}, ["delete 1"]),
        ("old old sick", {}, []),
        ("old old oldsick", {}, []),
        ("old old oldsick", PARALLEL, ["delete 2"]),
        ("old old oldleaving", PARALLEL, []),
        ("old old -", PARALLEL, ["create 2"]),
        ("old old fresh", {"minReadySeconds": 60}, []),
        ("old old old old", {}, ["delete 3"]),
        ("old old old", PARTITION, ["delete 2"]),
        ("old old ready", PARTITION, []),
        ("old old old", {"updateStrategy": {"type": "OnDelete"}}, []),
    ],
)
def test_what_is_done_next(words: str, spec: Object, expected: list[str]) -> None:
    """One step of an ordered set, or all of a parallel one."""
    assert words_of(planned(words, **spec)) == expected


@pytest.mark.parametrize("spec", [{}, PARALLEL])
def test_a_failed_pod_is_left_for_a_while(spec: Object) -> None:
    """Whatever revision it is of."""
    listed = members("ready oldfailed ready")
    set_ = stateful_set(**spec)
    assert plan.plan(set_, OLD, NEW, listed, claims={}, now=NOW, waits={"web-1": 2.0}) == []
    assert words_of(plan.plan(set_, OLD, NEW, listed, claims={}, now=NOW)) == ["delete 1"]


@pytest.mark.parametrize(
    ("spec", "status", "revision"),
    [
        (PARTITION, {}, "web-old"),
        ({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}, {}, "web-new"),
        ({"updateStrategy": {"type": "OnDelete"}}, {}, "web-new"),
        ({"updateStrategy": {"type": "RollingUpdate"}}, {"currentReplicas": 2}, "web-old"),
        ({"updateStrategy": {"type": "RollingUpdate"}}, {"currentReplicas": 1}, "web-new"),
    ],
)
def test_of_which_revision_a_missing_pod_is_made(spec: Object, status: Object, revision: str) -> None:
    """The current one below the partition, or below the number of pods that are still of it."""
    set_ = {**stateful_set(**spec), "status": status}
    (action,) = plan.plan(set_, OLD, NEW, members("old"), claims={}, now=NOW)
    assert isinstance(action, plan.Create)
    assert identity.revision(action.pod) == revision


def test_a_set_that_is_deleted_does_nothing() -> None:
    """Neither makes pods nor takes them away."""
    set_ = stateful_set()
    set_["metadata"]["deletionTimestamp"] = rfc3339(NOW)
    assert plan.plan(set_, NEW, NEW, members("failed"), claims={}, now=NOW) == []


WORDS: Final = ("-", "ready", "sick", "pending", "failed", "gone", "old", "oldsick", "oldfailed", "oldgone")


@given(st.lists(st.sampled_from(WORDS), max_size=6), st.integers(0, 5))
def test_an_ordered_set_does_one_thing_at_a_time(words: list[str], replicas: int) -> None:
    """And makes a pod only behind pods that are all ready; whatever state the pods are in."""
    listed = members(" ".join(words))
    actions = plan.plan(stateful_set(replicas), OLD, NEW, listed, claims={}, now=NOW)
    assert len(actions) <= 1
    for action in actions:
        if isinstance(action, plan.Create):
            before = words[: identity.ordinal(action.pod)]
            assert all(word in ("ready", "old") for word in before)


@given(st.lists(st.sampled_from(WORDS[1:]), min_size=1, max_size=6))
def test_an_update_takes_no_ready_pod_beside_one_that_is_down(words: list[str]) -> None:
    """Ordered: nothing that is ready goes while another is not."""
    actions = plan.plan(stateful_set(len(words)), OLD, NEW, members(" ".join(words)), claims={}, now=NOW)
    ready = {number for number, word in enumerate(words) if word in ("ready", "old")}
    taken = {identity.ordinal(each.pod) for each in actions if isinstance(each, plan.Delete)}
    assert not taken & ready or len(ready) == len(words)


CLAIM: Final = {
    "metadata": {"name": "data", "labels": {"a": "b"}},
    "spec": {"accessModes": ["ReadWriteOnce"]},
}


def claim(number: int, *references: Object, **metadata: Any) -> Object:
    named = {"name": f"data-web-{number}", "namespace": "d", "ownerReferences": list(references)}
    return {"metadata": {**named, **metadata}}


def policy(deleted: str, scaled: str) -> Object:
    return {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}


def test_claims_are_created_before_their_pod() -> None:
    """Of the template, with the selector's labels, and owned by the set where they go with it."""
    fields = {"volumeClaimTemplates": [CLAIM], **policy("Delete", "Retain")}
    first, second = planned("", **fields)
    assert isinstance(first, plan.AddClaims)
    assert isinstance(second, plan.Create)
    (added,) = first.claims
    assert added["metadata"]["name"] == "data-web-0"
    assert added["metadata"]["labels"] == {"a": "b", "app": "web"}
    assert [each["uid"] for each in added["metadata"]["ownerReferences"]] == ["set"]
    assert added["spec"] == CLAIM["spec"]
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}}
    assert second.pod["spec"]["volumes"] == [volume]


def reference(kind: str, name: str, uid: str, *, controller: bool = True) -> Object:
    return {"kind": kind, "name": name, "uid": uid, "controller": controller}


SET: Final = reference("StatefulSet", "web", "set")
POD: Final = reference("Pod", "web-1", "uid-1")
OTHER: Final = reference("ConfigMap", "other", "x")


@pytest.mark.parametrize(
    ("deleted", "scaled", "replicas", "present", "expected"),
    [
        ("Retain", "Retain", 2, [], None),
        ("Retain", "Retain", 2, [SET], []),
        ("Delete", "Retain", 2, [], ["set"]),
        ("Delete", "Retain", 2, [SET], None),
        ("Delete", "Retain", 1, [SET], None),
        ("Retain", "Delete", 2, [], None),
        ("Retain", "Delete", 1, [], ["uid-1"]),
        ("Retain", "Delete", 2, [POD], []),
        ("Delete", "Delete", 2, [POD], ["set"]),
        ("Delete", "Delete", 1, [SET], ["uid-1"]),
        ("Delete", "Delete", 1, [POD], None),
        ("Delete", "Retain", 2, [{**SET, "controller": False}], ["set"]),
        ("Delete", "Delete", 1, [OTHER], None),
        ("Delete", "Delete", 1, [OTHER, {**SET, "controller": False}], ["x"]),
        ("Retain", "Retain", 1, [OTHER], None),
        ("Delete", "Retain", 2, [{**OTHER, "controller": False}], ["x", "set"]),
        ("Delete", "Retain", 2, [{**SET, "uid": "earlier"}], None),
        ("Retain", "Delete", 1, [{**POD, "uid": "earlier"}], None),
    ],
)
def test_whose_a_claim_is(
    deleted: str, scaled: str, replicas: int, present: list[Object], expected: list[str] | None
) -> None:
    """By the policy and by whether its pod stays; others' affairs are left alone."""
    set_ = stateful_set(replicas, **policy(deleted, scaled))
    references = retention.references(set_, pod("ready", 1), claim(1, *present))
    assert (None if references is None else [each["uid"] for each in references]) == expected


def test_a_pod_waits_for_a_claim_that_goes_with_its_forerunner() -> None:
    """Only where claims go when the set shrinks."""
    fields = {"volumeClaimTemplates": [CLAIM]}
    stale = {"data-web-0": claim(0, reference("Pod", "web-0", "earlier"))}
    for scaled, expected in (("Delete", []), ("Retain", ["create 0"])):
        set_ = stateful_set(1, **fields, **policy("Retain", scaled))
        assert words_of(plan.plan(set_, NEW, NEW, [], claims=stale, now=NOW)) == expected


def test_a_claim_with_another_controller_is_told() -> None:
    """While the pod waits for it; nothing about the claim is changed."""
    set_ = stateful_set(1, volumeClaimTemplates=[CLAIM], **policy("Delete", "Retain"))
    foreign = {"data-web-0": claim(0, OTHER)}
    (action,) = plan.plan(set_, NEW, NEW, members("pending"), claims=foreign, now=NOW)
    assert isinstance(action, plan.Tell)
    assert action.reason == "ConflictingController"
    assert "PersistentVolumeClaim data-web-0 has a conflicting OwnerReference" in action.message


def test_an_adopted_pod_is_corrected() -> None:
    """Labels, and volumes although these cannot change: the server says so."""
    stray = pod("ready", 0)
    del stray["metadata"]["labels"][identity.POD_NAME]
    set_ = stateful_set(1, volumeClaimTemplates=[CLAIM])
    actions = plan.plan(set_, NEW, NEW, [stray], claims={"data-web-0": claim(0)}, now=NOW)
    (action,) = actions
    assert isinstance(action, plan.Correct)
    assert action.patch["metadata"]["labels"] == {identity.POD_NAME: "web-0", identity.POD_INDEX: "0"}
    assert action.patch["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == "data-web-0"


@pytest.mark.parametrize(
    ("name", "is_member", "number"),
    [
        ("web-0", True, 0),
        ("web-12", True, 12),
        ("web-x", False, -1),
        ("web", False, -1),
        ("web-a-1", False, 1),
    ],
)
def test_who_is_a_member(name: str, is_member: bool, number: int) -> None:
    """By the name alone."""
    stray = {"metadata": {"name": name}}
    assert (identity.is_member(stateful_set(), stray), identity.ordinal(stray)) == (is_member, number)


def test_a_pod_has_its_identity() -> None:
    """Also where the template says otherwise."""
    template = {"metadata": {}, "spec": {"hostname": "x", "subdomain": "y", "volumes": [{"name": "data"}]}}
    own = identity.pod(stateful_set(volumeClaimTemplates=[CLAIM]), template, "r", 4)
    assert (own["spec"]["hostname"], own["spec"]["subdomain"]) == ("web-4", "db")
    assert len(own["spec"]["volumes"]) == 1
    bare = identity.pod(stateful_set(serviceName=""), template, "r", 4)
    assert "subdomain" not in bare["spec"]


def counts(words: str, replicas: int = 3, **more: Any) -> dict[str, Any]:
    status = set_status.status(
        stateful_set(replicas, minReadySeconds=60), "web-old", "web-new", members(words), now=NOW, **more
    )
    return {field: value for field, value in status.items() if value is not None}


def test_the_status_counts_pods() -> None:
    """All, ready and available ones, and those of both revisions that are not going."""
    assert counts("old oldgone fresh sick", replicas=4) == {
        "replicas": 4,
        "readyReplicas": 3,
        "availableReplicas": 2,
        "currentReplicas": 1,
        "updatedReplicas": 2,
        "currentRevision": "web-old",
        "updateRevision": "web-new",
        "collisionCount": 0,
        "observedGeneration": 7,
    }
    assert counts("old old", deleted={"uid-1"})["currentReplicas"] == 1
    assert counts("")["availableReplicas"] == 0


def test_an_update_that_is_done_becomes_the_current_revision() -> None:
    """When all are of it and ready, and none is too many."""
    assert counts("ready fresh ready")["currentRevision"] == "web-new"
    assert counts("ready fresh ready", replicas=2)["currentRevision"] == "web-old"
    assert counts("ready sick ready")["currentRevision"] == "web-old"
    assert set_status.next_available_s(stateful_set(minReadySeconds=60), members("fresh ready"), NOW) == 59
