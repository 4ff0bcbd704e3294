"""OwnerReferencesPermissionEnforcement: which rights it takes to name an owner."""

from __future__ import annotations

from typing import Any, Final

import pytest

from ondol import apiserver

pytestmark = pytest.mark.anyio

CMS: Final = "/api/v1/namespaces/default/configmaps"
RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"


def owned(*, blocks: bool | None = None, kind: str = "Node", uid: str = "u") -> dict[str, Any]:
    reference = {"apiVersion": "v1", "kind": kind, "name": "n", "uid": uid}
    blocking = {} if blocks is None else {"blockOwnerDeletion": blocks}
    return {"ownerReferences": [{**reference, **blocking}]}


async def _may(api: Any, *rules: tuple[str, tuple[str, ...]]) -> Any:
    """A caller who has these verbs on these resources."""
    listed = [{"apiGroups": [""], "resources": [name], "verbs": list(verbs)} for name, verbs in rules]
    await api.post(f"{RBAC}/clusterroles", {"metadata": {"name": "ann"}, "rules": listed})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "ann"}
    subjects = [{"kind": "User", "name": "ann"}]
    binding = {"metadata": {"name": "ann"}, "roleRef": role, "subjects": subjects}
    await api.post(f"{RBAC}/clusterrolebindings", binding)
    return api.as_("ann")


@pytest.fixture
def strict() -> apiserver.ApiConfig:
    """A server that looks at owners."""
    return apiserver.ApiConfig(enforce_owner_references=True)


async def test_by_default_nobody_looks(api: Any) -> None:
    """Whoever writes an object says whose it is."""
    ann = await _may(api, ("configmaps", ("create", "patch")))
    assert (await ann.post(CMS, {"metadata": {"name": "a"}})).status == 201
    assert (await ann.patch(f"{CMS}/a", {"metadata": owned(blocks=True)})).status == 200


@pytest.mark.parametrize(("verbs", "status"), [(("patch",), 403), (("patch", "delete"), 200)])
async def test_changing_an_owner_takes_the_right_to_delete(
    start: Any, strict: apiserver.ApiConfig, verbs: tuple[str, ...], status: int
) -> None:
    """Of the object: its owner's end would be its own."""
    async with start(config=strict) as api:
        await api.post(CMS, {"metadata": {"name": "a"}})
        ann = await _may(api, ("configmaps", verbs))
        changed = await ann.patch(f"{CMS}/a", {"metadata": owned()})
        assert changed.status == status, changed.json
        if status == 403:
            assert "cannot set an ownerRef on a resource you can't delete: " in changed.json["message"]
        assert (await ann.patch(f"{CMS}/a", {"data": {"k": "v"}})).status == 200


@pytest.mark.parametrize(
    ("metadata", "rules", "message"),
    [
        (owned(), (), ""),
        (owned(blocks=False), (), ""),
        (
            owned(blocks=True),
            (),
            "an ownerReference refers to a resource you can't set finalizers on: ",
        ),
        (owned(blocks=True), (("nodes/finalizers", ("update",)),), ""),
        (owned(blocks=True), (("*/finalizers", ("update",)),), ""),
        (
            owned(blocks=True, kind="Nothing"),
            (),
            "cannot find RESTMapping for APIVersion v1 Kind Nothing",
        ),
    ],
)
async def test_keeping_an_owner_takes_the_right_to_its_finalizers(
    start: Any,
    strict: apiserver.ApiConfig,
    metadata: dict[str, Any],
    rules: tuple[tuple[str, tuple[str, ...]], ...],
    message: str,
) -> None:
    """Also at the creation, where naming one takes no other right."""
    async with start(config=strict) as api:
        ann = await _may(api, ("configmaps", ("create",)), *rules)
        created = await ann.post(CMS, {"metadata": {"name": "a", **metadata}})
        assert (created.status, message in created.json.get("message", "")) == (403 if message else 201, True)


async def test_what_was_so_before_takes_no_right(start: Any, strict: apiserver.ApiConfig) -> None:
    """A reference that blocks already may stay beside a new one."""
    async with start(config=strict) as api:
        await api.post(CMS, {"metadata": {"name": "a", **owned(blocks=True)}})
        ann = await _may(api, ("configmaps", ("patch", "delete")))
        both = {
            "ownerReferences": [*owned(blocks=True)["ownerReferences"], *owned(uid="v")["ownerReferences"]]
        }
        assert (await ann.patch(f"{CMS}/a", {"metadata": both})).status == 200
