"""Patches and server-side apply, as the server applies them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from ondol.apiserver import bodies

pytestmark = pytest.mark.anyio

CMS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
Make = Callable[..., dict[str, Any]]


def _deployment(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": list(containers)}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


def _images(deployment: Any) -> dict[str, str]:
    return {c["name"]: c["image"] for c in deployment["spec"]["template"]["spec"]["containers"]}


async def test_each_kind_of_patch(api: Any) -> None:
    """JSON patch by path, merge patch whole lists, strategic merge lists by key."""
    await api.post(DEPLOYMENTS, _deployment({"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}))
    change = {"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "b:2"}]}}}}
    strategic = await api.patch(f"{DEPLOYMENTS}/d", change, "strategic-merge-patch+json")
    assert _images(strategic.json) == {"a": "a:1", "b": "b:2"}
    steps = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "z:3"}]
    patched = await api.patch(f"{DEPLOYMENTS}/d", steps, "json-patch+json")
    assert sorted(_images(patched.json).values()) in (["a:1", "z:3"], ["b:2", "z:3"])
    merged = await api.patch(f"{DEPLOYMENTS}/d", change)
    assert _images(merged.json) == {"b": "b:2"}


async def test_a_failed_test_operation_is_unprocessable(api: Any, config_map: Make) -> None:
    """Operators lean on 422 for a JSON patch whose test does not hold."""
    await api.post(CMS, config_map("a", {"k": "1"}))
    steps = [{"op": "test", "path": "/data/k", "value": "2"}, {"op": "remove", "path": "/data/k"}]
    refused = await api.patch(f"{CMS}/a", steps, "json-patch+json")
    assert (refused.status, refused.json["reason"]) == (422, "Invalid")
    assert (await api.get(f"{CMS}/a")).json["data"] == {"k": "1"}


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        ({"apiVersion": "v2"}, "merge-patch+json", 422),
        ({"kind": "Secret"}, "merge-patch+json", 422),
        ({"metadata": {"name": "b"}}, "merge-patch+json", 400),
        ({"metadata": {"namespace": "b"}}, "merge-patch+json", 400),
        ({"metadata": None}, "merge-patch+json", 400),
        ({"metadata": {"resourceVersion": "1"}}, "merge-patch+json", 409),
        ({"metadata": {"uid": "1"}}, "merge-patch+json", 409),
        ({"data": {"k": 1}}, "merge-patch+json", 422),
        ([], "merge-patch+json", 400),
        ({}, "json-patch+json", 400),
        ([{"op": "add", "path": "/data", "value": 3}], "json-patch+json", 422),
        ({"$patch": "explode"}, "strategic-merge-patch+json", 400),
        ({}, "x-patch+json", 415),
    ],
)
async def test_patches_that_cannot_be(api: Any, config_map: Make, body: Any, kind: str, code: int) -> None:
    """Refused with a reason; the object stays as it was."""
    before = (await api.post(CMS, config_map("a", {"k": "v"}))).json
    refused = await api.patch(f"{CMS}/a", body, kind)
    assert refused.status == code, refused.json
    assert (await api.get(f"{CMS}/a")).json == before


async def test_a_patch_to_nothing_is_not_found(api: Any) -> None:
    """Only apply creates."""
    assert (await api.patch(f"{CMS}/none", {"data": {}})).status == 404
    assert (await api.patch(f"{CMS}/Bad_Name", {"data": {}})).status == 404
    assert (await api.patch(f"{CMS}/none", [], "json-patch+json")).status == 404


@pytest.mark.parametrize("collection", [CMS, DEPLOYMENTS])
async def test_apply_of_a_new_object_checks_its_name(api: Any, config_map: Make, collection: str) -> None:
    """A name no object may have is the caller's mistake, not something that was not found."""
    if collection == CMS:
        document = config_map("Bad_Name")
    else:
        document = _deployment({"name": "a", "image": "a:1"})
        document["metadata"] = {**document["metadata"], "name": "Bad_Name"}
    refused = await api.apply(f"{collection}/Bad_Name", document, "one")
    assert (refused.status, refused.json["reason"]) == (422, "Invalid")
    assert [cause["field"] for cause in refused.json["details"]["causes"]] == ["metadata.name"]
    assert (await api.get(f"{collection}/Bad_Name")).status == 404


async def test_concurrent_patches_all_happen(api: Any, config_map: Make) -> None:
    """A patch without a version is decided again until it fits: none is lost."""
    await api.post(CMS, config_map("a"))
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(api.patch, f"{CMS}/a", {"data": {f"k{number}": "v"}})
    assert len((await api.get(f"{CMS}/a")).json["data"]) == 20


async def test_apply_creates_owns_and_takes_back(api: Any, config_map: Make) -> None:
    """What a manager applied and no longer applies is removed; others' fields stay."""
    answer = await api.apply(f"{CMS}/a", config_map("a", {"x": "1", "y": "1"}), "one")
    assert answer.status == 201
    await api.patch(f"{CMS}/a", {"data": {"z": "1"}})
    changed = await api.apply(f"{CMS}/a", config_map("a", {"x": "2"}), "one")
    assert changed.status == 200
    assert changed.json["data"] == {"x": "2", "z": "1"}
    owners = {e["manager"]: e["operation"] for e in changed.json["metadata"]["managedFields"]}
    assert owners == {"one": "Apply", "test": "Update"}


async def test_applying_the_same_again_writes_nothing(api: Any) -> None:
    """A controller that applies what is there does not move the revision."""
    document = _deployment({"name": "a", "image": "a:1"})
    await api.apply(f"{DEPLOYMENTS}/d", document, "one")
    revision = api.store.revision
    await api.clock.advance(60)
    assert (await api.apply(f"{DEPLOYMENTS}/d", document, "one")).status == 200
    assert api.store.revision == revision


async def test_apply_conflicts_name_the_fields(api: Any) -> None:
    """Two managers, one field: the second is told who has it, unless it takes it by force."""
    document = _deployment({"name": "a", "image": "a:1"}, replicas=1)
    await api.apply(f"{DEPLOYMENTS}/d", document, "one")
    other = {**document, "spec": {**document["spec"], "replicas": 5}}
    refused = await api.apply(f"{DEPLOYMENTS}/d", other, "two")
    assert (refused.status, refused.json["reason"]) == (409, "Conflict")
    assert 'Apply failed with 1 conflict: conflict with "one"' in refused.json["message"]
    (cause,) = refused.json["details"]["causes"]
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".spec.replicas")
    forced = await api.apply(f"{DEPLOYMENTS}/d", other, "two", force=True)
    assert forced.json["spec"]["replicas"] == 5


async def test_apply_needs_a_manager_and_no_managed_fields(api: Any, config_map: Make) -> None:
    """The two mistakes every client makes once."""
    nameless = await api.patch(f"{CMS}/a", config_map("a"), "apply-patch+yaml")
    assert nameless.status == 422
    assert "fieldManager" in nameless.json["message"]
    owned = await api.apply(f"{CMS}/a", config_map("a", managedFields=[]), "one")
    assert (owned.status, owned.json["message"]) == (400, "metadata.managedFields must be nil")


async def test_apply_of_a_status_owns_the_status_alone(api: Any) -> None:
    """Controllers apply the status they report; the spec is not theirs."""
    await api.apply(f"{DEPLOYMENTS}/d", _deployment({"name": "a", "image": "a:1"}), "one")
    document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "default"},
        "status": {"replicas": 2},
    }
    reported = await api.apply(f"{DEPLOYMENTS}/d/status", document, "controller")
    assert reported.status == 200, reported.json
    assert reported.json["status"]["replicas"] == 2
    entry = next(e for e in reported.json["metadata"]["managedFields"] if e["manager"] == "controller")
    assert entry["subresource"] == "status"
    assert list(entry["fieldsV1"]) == ["f:status"]


async def test_what_admission_adds_is_nobodys(api: Any, pod: Make) -> None:
    """Applying a pod again does not take away the tolerations and volumes the server added."""
    path = "/api/v1/namespaces/default/pods/p"
    answer = await api.apply(path, pod("p"), "one")
    assert answer.json["spec"]["volumes"]
    again = await api.apply(path, pod("p"), "one")
    assert again.json == answer.json


@pytest.fixture
async def freely(api: Any) -> str:
    """The path of a custom kind whose spec may hold anything."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything}}}
    spec = {
        "group": "example.org",
        "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
    }
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert (await api.post(crds, {"metadata": {"name": "things.example.org"}, "spec": spec})).status == 201
    await api.settle()
    return "/apis/example.org/v1/namespaces/default/things"


def _nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


async def test_depth_has_a_bound_that_no_patch_gets_past(api: Any, freely: str) -> None:
    """What is stored can be shown, owned and patched; what is deeper is refused as the client's fault."""
    document = {"metadata": {"name": "deep"}, "spec": _nested(bodies.DEPTH_MAX - 1)}
    assert (await api.post(freely, document)).status == 201
    one = f"{freely}/deep"
    assert (await api.get(one, accept="application/yaml")).status == 200
    again = (await api.get(one)).json
    assert (
        await api.put(one, {**again, "metadata": {**again["metadata"], "labels": {"a": "b"}}})
    ).status == 200
    applied = {
        **document,
        "metadata": {"name": "owned"},
        "apiVersion": again["apiVersion"],
        "kind": again["kind"],
    }
    assert (await api.apply(f"{freely}/owned", applied, "m")).status == 201

    deeper = {"metadata": {"name": "deeper"}, "spec": _nested(bodies.DEPTH_MAX)}
    end = "/spec" + "/a" * (bodies.DEPTH_MAX - 2)
    one_more = {"op": "add", "path": f"{end}/a", "value": {}}
    much_more = [{"op": "add", "path": end + "/a" * (1 + n * 100), "value": _nested(101)} for n in range(20)]
    refused = [
        await api.post(freely, deeper),
        await api.patch(one, {"spec": deeper["spec"]}),
        await api.patch(one, [one_more], "json-patch+json"),
        await api.patch(one, much_more, "json-patch+json"),
    ]
    assert [(r.status, "deep" in r.json["message"]) for r in refused] == [(400, True)] * 4
    assert (await api.get(one)).json["spec"] == document["spec"]


async def test_copies_of_copies_are_bounded(api: Any, config_map: Make) -> None:
    """Each copy may double the document: forty of them would fill the memory."""
    await api.post(CMS, config_map("a", {"k": "v" * 100}))
    doubling = [{"op": "copy", "from": "/data", "path": f"/data/{n}"} for n in range(40)]
    refused = await api.patch(f"{CMS}/a", doubling, "json-patch+json")
    assert (refused.status, refused.json["reason"]) == (413, "RequestEntityTooLarge")


async def test_owners_are_nested_no_deeper_than_documents(api: Any, config_map: Make) -> None:
    """A record of owners that the server could not follow is refused as the client's fault."""
    for depth, status in ((bodies.DEPTH_MAX - 1, 201), (bodies.DEPTH_MAX + 9, 400), (700, 400)):
        fields: Any = {}
        for _ in range(depth):
            fields = {"f:a": fields}
        entry = {"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1"}
        document = config_map(f"owned-{depth}")
        document["metadata"]["managedFields"] = [{**entry, "fieldsV1": fields}]
        answer = await api.post("/api/v1/namespaces/default/configmaps", document)
        assert answer.status == status, (depth, answer.json)


async def test_apply_to_an_object_with_elements_that_have_no_name(api: Any) -> None:
    """It is the client's fault, not the server's."""
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    created = await api.post(accounts, {"metadata": {"name": "sa"}, "secrets": [{"fieldPath": "x"}]})
    assert created.status == 201, created.json
    document = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sa"}}
    answer = await api.apply(f"{accounts}/sa", document, "m")
    assert (answer.status, "omits all key fields" in answer.json["message"]) == (400, True), answer.json
