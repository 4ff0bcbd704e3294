"""Which volume a claim gets, and what is written to bind them: tables of pure functions."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api.objects import Object
from ondol.controllers.storage import binding, expansion, matching, protection

NODE = {"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"}}}
OTHER = {"metadata": {"name": "n2", "labels": {"kubernetes.io/hostname": "n2"}}}


def claim(size: str = "1Gi", modes: tuple[str, ...] = ("ReadWriteOnce",), **spec: Any) -> Object:
    own = {"accessModes": list(modes), "resources": {"requests": {"storage": size}}, "storageClassName": "c"}
    metadata = {"name": "a", "namespace": "ns", "uid": "u", "resourceVersion": "7"}
    return {"metadata": metadata, "spec": {**own, **spec}, "status": {"phase": "Pending"}}


def volume(
    name: str = "v",
    size: str = "1Gi",
    modes: tuple[str, ...] = ("ReadWriteOnce",),
    *,
    phase: str = "Available",
    metadata: Object | None = None,
    **spec: Any,
) -> Object:
    own = {"accessModes": list(modes), "capacity": {"storage": size}, "storageClassName": "c"}
    named = {"name": name, "uid": f"uid-{name}", "resourceVersion": "5", **(metadata or {})}
    return {"metadata": named, "spec": {**own, **spec}, "status": {"phase": phase}}


def on(node: str) -> Object:
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}


def reserved(uid: str = "", name: str = "a") -> Object:
    return {"namespace": "ns", "name": name, **({"uid": uid} if uid else {})}


@pytest.mark.parametrize(
    ("wish", "volumes", "name"),
    [
        (claim(), [], None),
        (claim(), [volume("big", "9Gi"), volume("fit", "2Gi"), volume("small", "1Mi")], "fit"),
        (claim(), [volume("b"), volume("a")], "a"),
        (claim(), [volume("many", modes=("ReadWriteOnce", "ReadOnlyMany")), volume("one", "5Gi")], "one"),
        (claim(modes=("ReadWriteMany",)), [volume()], None),
        (claim(), [volume(storageClassName="other")], None),
        (claim(storageClassName=None), [volume(storageClassName="")], "v"),
        (claim(), [volume(phase="Released")], None),
        (claim(), [volume(phase="Pending")], None),
        (claim(volumeMode="Block"), [volume()], None),
        (claim(volumeMode="Block"), [volume(volumeMode="Block")], "v"),
        (claim(selector={"matchLabels": {"k": "v"}}), [volume()], None),
        (claim(selector={"matchLabels": {"k": "v"}}), [volume(metadata={"labels": {"k": "v"}})], "v"),
        (claim(), [volume(claimRef=reserved("other"))], None),
        (claim(), [volume(claimRef=reserved(name="b"))], None),
        (claim(), [volume("free"), volume("mine", "9Gi", claimRef=reserved())], "mine"),
        (claim(), [volume("mine", "1Mi", claimRef=reserved())], None),
        (claim(), [volume("mine", claimRef=reserved("u"), storageClassName="other")], "mine"),
        (claim(), [volume(metadata={"deletionTimestamp": "t"})], None),
        ({**claim(), "metadata": {**claim()["metadata"], "deletionTimestamp": "t"}}, [volume()], None),
    ],
)
def test_the_best_volume(wish: Object, volumes: list[Object], name: str | None) -> None:
    """One that is reserved to the claim, else the smallest that does, which can do no more than is asked."""
    best = matching.best(wish, volumes)
    assert (best["metadata"]["name"] if best else None) == name


@pytest.mark.parametrize(
    ("volumes", "node", "name"),
    [
        ([volume()], None, None),
        ([volume(claimRef=reserved())], None, "v"),
        ([volume(nodeAffinity=on("n1"))], NODE, "v"),
        ([volume(nodeAffinity=on("n1"))], OTHER, None),
        ([volume()], OTHER, "v"),
        ([volume(claimRef=reserved(), nodeAffinity=on("n1"))], OTHER, None),
        ([volume("taken"), volume("x", "3Gi")], NODE, "x"),
    ],
)
def test_a_volume_for_a_claim_that_waits_for_a_node(
    volumes: list[Object], node: Object | None, name: str | None
) -> None:
    """Without the node none but a reserved one; with it one that can be had there and nobody took."""
    best = matching.best(claim(), volumes, node=node, is_delayed=True, taken={"taken"})
    assert (best["metadata"]["name"] if best else None) == name


@pytest.mark.parametrize(
    ("wish", "offer", "why"),
    [
        (claim(), volume(), ""),
        (claim("2Gi"), volume(), "requested PV is too small"),
        (claim(storageClassName="x"), volume(), "storageClassName does not match"),
        (claim(volumeAttributesClassName="x"), volume(), "volumeAttributesClassName does not match"),
        (claim(volumeMode="Block"), volume(), "incompatible volumeMode"),
        (claim(modes=("ReadOnlyMany",)), volume(), "incompatible accessMode"),
        (claim(), volume(metadata={"deletionTimestamp": "t"}), 'the volume is marked for deletion "v"'),
    ],
)
def test_a_volume_that_a_claim_names_and_cannot_have(wish: Object, offer: Object, why: str) -> None:
    """The reason is Kubernetes'."""
    assert matching.mismatch(wish, offer) == why


def test_binding_is_written_on_versions_and_once() -> None:
    """The volume first, on the version looked at; what is bound already is left alone."""
    patch = binding.reservation(volume(), claim())
    assert patch is not None
    assert patch["metadata"]["resourceVersion"] == "5"
    assert patch["metadata"]["annotations"] == {"pv.kubernetes.io/bound-by-controller": "yes"}
    assert patch["spec"]["claimRef"]["uid"] == "u"
    of_a_person = binding.reservation(volume(claimRef=reserved()), claim())
    assert of_a_person is not None
    assert "annotations" not in of_a_person["metadata"]
    assert binding.reservation(volume(claimRef=reserved("u")), claim()) is None
    pointing = binding.pointing(claim(), volume())
    assert pointing is not None
    assert pointing["spec"] == {"volumeName": "v"}
    bound = claim(volumeName="v")
    bound["metadata"]["annotations"] = {"pv.kubernetes.io/bind-completed": "yes"}
    assert binding.pointing(bound, volume()) is None


@pytest.mark.parametrize(
    ("annotations", "reference"),
    [({}, {"uid": None}), ({"pv.kubernetes.io/bound-by-controller": "yes"}, None)],
)
def test_a_volume_that_is_taken_back(annotations: Object, reference: Object | None) -> None:
    """What a person reserved stays reserved to a claim of that name."""
    patch = binding.release(volume(metadata={"annotations": annotations}, claimRef=reserved("u")))
    assert patch["spec"]["claimRef"] == reference


def test_growing_is_for_own_volumes_and_only_up() -> None:
    """Of a provisioner of others it is left to that one."""
    own = {"annotations": {"pv.kubernetes.io/provisioned-by": "ondol.dev/local"}}
    bound = claim("2Gi", volumeName="v")
    bound["metadata"]["annotations"] = {"pv.kubernetes.io/bind-completed": "yes"}
    patch = expansion.growth(bound, volume(metadata=own, claimRef=reserved("u")))
    assert patch is not None
    assert patch["spec"] == {"capacity": {"storage": "2Gi"}}
    assert expansion.growth(bound, volume(claimRef=reserved("u"))) is None
    assert expansion.growth(bound, volume("v", "3Gi", metadata=own, claimRef=reserved("u"))) is None
    assert expansion.growth(bound, volume(metadata=own, claimRef=reserved("other"))) is None


def pod(node: str = "n1", **metadata: Any) -> Object:
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "a"}}, {"name": "e", "ephemeral": {}}]
    named = {"name": "p", "namespace": "ns", "uid": "pod", **metadata}
    return {"metadata": named, "spec": {"volumes": volumes, **({"nodeName": node} if node else {})}}


@pytest.mark.parametrize(
    ("name", "owner", "user", "used"),
    [
        ("a", "", pod(), True),
        ("b", "", pod(), False),
        ("a", "", pod(""), False),
        ("a", "", pod(deletionTimestamp="t", deletionGracePeriodSeconds=0), True),
        ("p-e", "pod", pod(), True),
        ("p-e", "other", pod(), False),
        ("p-e", "pod", pod(deletionTimestamp="t", deletionGracePeriodSeconds=0), False),
        ("p-e", "pod", pod(deletionTimestamp="t", deletionGracePeriodSeconds=9), True),
    ],
)
def test_who_keeps_a_claim(name: str, owner: str, user: Object, used: bool) -> None:
    """A pod with a node; one that only waits to be collected does not keep the claim made for it."""
    wish = claim()
    wish["metadata"]["name"] = name
    if owner:
        wish["metadata"]["ownerReferences"] = [{"kind": "Pod", "uid": owner, "controller": True}]
    assert protection.in_use(wish, user) is used
