"""Delete: grace, finalizers, preconditions, propagation, collections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ondol import store
from ondol.store.sqlite import Database

pytestmark = pytest.mark.anyio

CMS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
Make = Callable[..., dict[str, Any]]


async def test_an_object_that_nothing_holds_goes_at_once(api: Any, config_map: Make) -> None:
    """The answer is a Status that names what went."""
    created = (await api.post(CMS, config_map("a"))).json
    answer = await api.delete(f"{CMS}/a")
    assert answer.status == 200
    assert answer.json["status"] == "Success"
    assert answer.json["details"] == {"name": "a", "kind": "configmaps", "uid": created["metadata"]["uid"]}
    assert (await api.get(f"{CMS}/a")).status == 404
    assert (await api.delete(f"{CMS}/a")).status == 404


async def test_finalizers_hold_an_object(api: Any, config_map: Make) -> None:
    """Deletion begins, no finalizer may be added, and with the last one the object goes."""
    await api.post(CMS, config_map("a", finalizers=["example.org/one", "example.org/two"]))
    answer = await api.delete(f"{CMS}/a")
    assert answer.json["kind"] == "ConfigMap"
    assert answer.json["metadata"]["deletionTimestamp"] == "2023-11-14T22:13:20Z"
    assert answer.json["metadata"]["deletionGracePeriodSeconds"] == 0
    more = {"metadata": {"finalizers": ["example.org/one", "example.org/three"]}}
    refused = await api.patch(f"{CMS}/a", more)
    assert refused.status == 422
    assert "no new finalizers can be added" in refused.json["message"]
    revision = api.store.revision
    assert (await api.delete(f"{CMS}/a")).status == 200  # again, to no effect
    assert api.store.revision == revision
    await api.patch(f"{CMS}/a", {"metadata": {"finalizers": ["example.org/two"]}})
    assert (await api.get(f"{CMS}/a")).status == 200
    async with api.watch(f"{CMS}?watch=true&resourceVersion={api.store.revision}") as watch:
        await api.patch(f"{CMS}/a", {"metadata": {"finalizers": None}})
        assert (await watch.next())["type"] == "DELETED"
    assert (await api.get(f"{CMS}/a")).status == 404


@pytest.mark.parametrize("field", ["uid", "resourceVersion"])
async def test_preconditions_protect(api: Any, config_map: Make, field: str) -> None:
    """A delete meant for another incarnation or version does nothing."""
    created = (await api.post(CMS, config_map("a"))).json
    refused = await api.delete(f"{CMS}/a", {"preconditions": {field: "77"}})
    assert (refused.status, refused.json["reason"]) == (409, "Conflict")
    assert refused.json["message"].startswith(
        f'Operation cannot be fulfilled on ConfigMap "a": the {field[0].upper()}'
    )
    assert "in the precondition (77) does not match" in refused.json["message"]
    good = {"preconditions": {field: created["metadata"][field]}}
    assert (await api.delete(f"{CMS}/a", good)).status == 200


@pytest.mark.parametrize(
    ("policy", "finalizers"),
    [("Foreground", ["foregroundDeletion"]), ("Orphan", ["orphan"])],
)
async def test_propagation_leaves_word_for_the_collector(
    api: Any, config_map: Make, policy: str, finalizers: list[str]
) -> None:
    """Foreground and Orphan are finalizers; Background takes them away again."""
    await api.post(CMS, config_map("a"))
    answer = await api.delete(f"{CMS}/a?propagationPolicy={policy}")
    assert answer.json["metadata"]["finalizers"] == finalizers
    assert (await api.delete(f"{CMS}/a", {"propagationPolicy": "Background"})).status == 200
    assert (await api.get(f"{CMS}/a")).status == 404


@pytest.mark.parametrize(
    "options",
    [
        {"propagationPolicy": "Sideways"},
        {"propagationPolicy": "Orphan", "orphanDependents": True},
        {"kind": "Pod"},
        {"gracePeriodSeconds": "soon"},
    ],
)
async def test_options_that_cannot_be(api: Any, config_map: Make, options: dict[str, Any]) -> None:
    """Refused, and the object stays."""
    await api.post(CMS, config_map("a"))
    assert (await api.delete(f"{CMS}/a", options)).status in (400, 422)
    assert (await api.get(f"{CMS}/a")).status == 200


async def test_a_running_pod_ends_gracefully(api: Any, pod: Make) -> None:
    """The node has the grace period to end it; the node's own delete with grace 0 is the end."""
    await api.post(PODS, pod("p", terminationGracePeriodSeconds=20))
    await api.post(f"{PODS}/p/binding", {"target": {"name": "n1"}})
    deleting = (await api.delete(f"{PODS}/p")).json
    assert deleting["metadata"]["deletionGracePeriodSeconds"] == 20
    assert deleting["metadata"]["deletionTimestamp"] == "2023-11-14T22:13:40Z"
    longer = (await api.delete(f"{PODS}/p", {"gracePeriodSeconds": 60})).json
    assert longer["metadata"]["deletionGracePeriodSeconds"] == 20  # a delete only shortens
    shorter = (await api.delete(f"{PODS}/p", {"gracePeriodSeconds": 5})).json
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
    assert shorter["metadata"]["deletionTimestamp"] == "2023-11-14T22:13:25Z"
    await api.patch(f"{PODS}/p/status", {"status": {"phase": "Succeeded"}})
    assert (await api.get(f"{PODS}/p")).status == 200
    assert (await api.delete(f"{PODS}/p", {"gracePeriodSeconds": 0})).json["kind"] == "Pod"
    assert (await api.get(f"{PODS}/p")).status == 404


async def test_a_pod_nobody_runs_goes_at_once(api: Any, pod: Make) -> None:
    """Without a node there is nobody to be graceful to."""
    await api.post(PODS, pod("p"))
    await api.delete(f"{PODS}/p")
    assert (await api.get(f"{PODS}/p")).status == 404


async def test_a_negative_grace_is_one_second(api: Any, pod: Make) -> None:
    """As Kubernetes reads it."""
    await api.post(PODS, pod("p"))
    await api.post(f"{PODS}/p/binding", {"target": {"name": "n1"}})
    answer = (await api.delete(f"{PODS}/p?gracePeriodSeconds=-1")).json
    assert answer["metadata"]["deletionGracePeriodSeconds"] == 1


async def test_collections_are_deleted_by_selector(api: Any, config_map: Make) -> None:
    """Only what is selected goes, and a dry run takes nothing."""
    for name, label in (("a", "x"), ("b", "x"), ("c", "y")):
        await api.post(CMS, config_map(name, labels={"l": label}))
    dry = await api.delete(f"{CMS}?labelSelector=l%3Dx&dryRun=All")
    assert len(dry.json["items"]) == 2
    answer = await api.delete(f"{CMS}?labelSelector=l%3Dx")
    assert answer.json["kind"] == "ConfigMapList"
    left = (await api.get(CMS)).json["items"]
    assert [item["metadata"]["name"] for item in left] == ["c"]


async def test_a_dry_delete_deletes_nothing(api: Any, config_map: Make) -> None:
    """In the query or in the options."""
    await api.post(CMS, config_map("a"))
    assert (await api.delete(f"{CMS}/a?dryRun=All")).status == 200
    assert (await api.delete(f"{CMS}/a", {"dryRun": ["All"]})).status == 200
    assert (await api.get(f"{CMS}/a")).status == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dryRun": ["Foo"]}, 'Unsupported value: "Foo"'),
        ({"dryRun": "All"}, "cannot unmarshal string into Go struct field DeleteOptions.dryRun"),
        ({"preconditions": "x"}, "DeleteOptions.preconditions"),
        ({"preconditions": {"uid": 3}}, "DeleteOptions.preconditions.uid"),
        ({"gracePeriodSeconds": "3"}, "DeleteOptions.gracePeriodSeconds"),
        ({"orphanDependents": "x"}, "DeleteOptions.orphanDependents"),
        ({"kind": "ConfigMap"}, "must be DeleteOptions"),
        ([], "not a JSON object"),
    ],
)
async def test_delete_options_that_cannot_be_read_delete_nothing(
    api: Any, config_map: Make, pod: Make, options: Any, message: str
) -> None:
    """An option taken for none would make a delete of what was to be a trial."""
    await api.post(CMS, config_map("a"))
    refused = await api.delete(f"{CMS}/a", options)
    assert (refused.status, message in refused.json["message"]) == (400, True), refused.json
    assert (await api.get(f"{CMS}/a")).status == 200
    await api.post(PODS, pod("p"))
    evicted = await api.post(f"{PODS}/p/eviction", {"deleteOptions": options})
    if isinstance(options, dict) and "kind" not in options:
        assert evicted.status == 400, evicted.json
        assert (await api.get(f"{PODS}/p")).status == 200


async def test_a_large_collection_goes_in_few_commits(
    start: Callable[..., Any], tmp_path: Path, config_map: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each object by itself would wait for the disk as often as there are objects."""
    commits = 0
    commit = Database.commit

    def counted(database: Database, rows: Any) -> None:
        nonlocal commits
        commits += 1
        commit(database, rows)

    log = store.open_file(tmp_path / "store.db")
    async with start(log) as api:
        for number in range(300):
            await api.post(CMS, config_map(f"n{number:03}"))
        monkeypatch.setattr(Database, "commit", counted)
        answer = await api.delete(CMS)
        monkeypatch.undo()
        assert answer.status == 200
        names = [item["metadata"]["name"] for item in answer.json["items"]]
        assert names == [f"n{number:03}" for number in range(300)]
        assert (await api.get(CMS)).json["items"] == []
    log.close()
    assert commits < 100


async def test_a_collection_stops_at_the_first_refusal(api: Any, config_map: Make) -> None:
    """What cannot be deleted is said."""
    for name in ("a", "b"):
        await api.post(CMS, config_map(name))
    refused = await api.delete(CMS, {"preconditions": {"uid": "other"}})
    assert (refused.status, refused.json["reason"]) == (409, "Conflict")
    assert len((await api.get(CMS)).json["items"]) == 2
