"""Conversion webhooks: every verb in a version that is not the stored one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from tests.apiserver.conftest import Server, serving
from tests.apiserver.conversions import CRD, CRDS, V1, V2, Hook, definition, route, route_v2

from ondol.apiserver import documents

pytestmark = pytest.mark.anyio

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


@pytest.fixture
def hook() -> Hook:
    """The webhook that converts routes."""
    return Hook()


@pytest.fixture
async def api(hook: Hook) -> AsyncIterator[Server]:
    """A server with routes, stored in v1."""
    async with serving(poster=hook) as server:
        assert (await server.post(CRDS, definition())).status == 201
        await server.settle()
        yield server


def _stored(api: Server, name: str) -> Any:
    record = api.store.get("routes.example.org", f"default/{name}")
    return documents.parse(record.value) if record is not None else None


async def test_what_is_stored_in_one_version_is_read_in_another(api: Server, hook: Hook) -> None:
    """Its defaults are those of the version it is stored in; its metadata does not change."""
    created = (await api.post(V1, route("a"))).json
    assert hook.calls == []
    read = (await api.get(f"{V2}/a")).json
    assert read["apiVersion"] == "example.org/v2"
    assert read["spec"] == {"host": "a.test", "port": "80", "note": "of v1"}
    assert read["metadata"] == created["metadata"]
    assert hook.asked == [("v2", ["a"])]
    assert hook.calls[0]["apiVersion"] == "apiextensions.k8s.io/v1"
    assert hook.targets[0].url == "https://hooks.test/convert?timeout=30s"


async def test_what_is_written_in_another_version_is_stored_converted(api: Server, hook: Hook) -> None:
    """It is defaulted in the version of the request, and fields that are unknown where it is stored go."""
    sending = route_v2("a")
    sending["spec"]["only"] = "in v2"
    answer = await api.post(V2, sending)
    assert answer.status == 201, answer.json
    assert answer.json["spec"] == {"host": "a.test", "port": "80", "zone": "of v2", "note": "of v1"}
    assert _stored(api, "a")["apiVersion"] == "example.org/v1"
    assert _stored(api, "a")["spec"] == {"hostPort": "a.test:80", "zone": "of v2"}
    sent = hook.calls[0]["request"]["objects"][0]
    assert sent["spec"] == {"host": "a.test", "port": "80", "zone": "of v2", "only": "in v2"}
    asked = len(hook.calls)
    assert (await api.get(f"{V2}/a")).json == answer.json
    assert len(hook.calls) == asked, "what was just written is known"
    first = (await api.get(f"{V1}/a")).json
    assert first["spec"] == {"hostPort": "a.test:80", "zone": "of v2", "note": "of v1"}


async def test_every_way_to_change_an_object(api: Server) -> None:
    """Update, patch, apply, status and scale in the other version; generations count what changed there."""
    await api.post(V1, route("a"))
    read = (await api.get(f"{V2}/a")).json
    read["spec"]["host"] = "b.test"
    updated = await api.put(f"{V2}/a", read)
    assert (updated.status, updated.json["metadata"]["generation"]) == (200, 2)
    assert _stored(api, "a")["spec"]["hostPort"] == "b.test:80"
    patched = await api.patch(f"{V2}/a", {"spec": {"port": "81"}})
    assert patched.json["spec"]["port"] == "81"
    assert _stored(api, "a")["spec"]["hostPort"] == "b.test:81"
    applied = await api.apply(f"{V2}/a", route_v2("a", "c.test"), "me", force=True)
    assert applied.status == 200, applied.json
    assert _stored(api, "a")["spec"]["hostPort"] == "c.test:80"
    mine = [e for e in applied.json["metadata"]["managedFields"] if e["manager"] == "me"]
    assert [entry["apiVersion"] for entry in mine] == ["example.org/v2"]
    reported = await api.patch(f"{V2}/a/status", {"status": {"phase": "Ready"}})
    assert (reported.status, _stored(api, "a")["status"]) == (200, {"phase": "Ready"})
    scaled = await api.patch(f"{V2}/a/scale", {"spec": {"replicas": 3}})
    assert scaled.json["spec"] == {"replicas": 3}
    assert (await api.get(f"{V2}/a/scale")).json["spec"] == {"replicas": 3}
    assert (await api.get(f"{V1}/a")).json["spec"]["size"] == 3
    assert (await api.get(f"{V2}/a/status")).json["status"] == {"phase": "Ready"}
    created = await api.apply(f"{V2}/b", route_v2("b"), "me")
    assert created.status == 201
    again = await api.post(V2, route_v2("b"))
    assert (again.status, again.json["reason"]) == (409, "AlreadyExists")


async def test_a_patch_that_changes_nothing_writes_nothing(api: Server) -> None:
    """Nor does a dry run."""
    await api.post(V2, route_v2("a"))
    revision = api.store.revision
    assert (await api.patch(f"{V2}/a", {"spec": {"port": "80"}})).status == 200
    dry = await api.patch(f"{V2}/a?dryRun=All", {"spec": {"port": "81"}})
    assert dry.json["spec"]["port"] == "81"
    assert api.store.revision == revision


async def test_deletes(api: Server) -> None:
    """One, or those of a selection; one that waits for its finalizers is shown in the version asked for."""
    for name in ("a", "b", "c"):
        await api.post(V1, route(name, f"{name}.test"))
    await api.post(V1, route("kept", finalizers=["example.org/x"]))
    assert (await api.delete(f"{V2}/a")).json["status"] == "Success"
    waiting = await api.delete(f"{V2}/kept")
    assert waiting.json["spec"]["host"] == "a.test"
    assert _stored(api, "kept")["spec"]["hostPort"] == "a.test:80"
    removed = (await api.delete(f"{V2}?fieldSelector=spec.host%3Db.test")).json["items"]
    assert [(item["apiVersion"], item["spec"]["host"]) for item in removed] == [("example.org/v2", "b.test")]
    assert [item["metadata"]["name"] for item in (await api.get(V1)).json["items"]] == ["c", "kept"]


async def test_a_delete_asks_for_no_more_than_it_shows(api: Server, hook: Hook) -> None:
    """Only metadata changes: the rest stays as it was stored, whatever a conversion might make of it."""
    await api.post(V1, route("a", finalizers=["example.org/x"], annotations={"k": "v"}))
    before = _stored(api, "a")
    assert (await api.delete(f"{V2}/a")).status == 200
    assert hook.asked == [("v2", ["a"])]
    after = _stored(api, "a")
    assert (after["apiVersion"], after["spec"]) == ("example.org/v1", before["spec"])
    assert after["metadata"]["annotations"] == {"k": "v"}
    assert after["metadata"]["deletionTimestamp"]


async def test_one_manager_applies_in_two_versions(api: Server) -> None:
    """What it owns in one is another entry than what it owns in the other; both stay readable."""
    for target, document in ((V1, route("a")), (V2, route_v2("a", "b.test")), (V1, route("a", "c.test"))):
        applied = await api.apply(f"{target}/a", document, "me")
        assert applied.status in (200, 201), applied.json
    assert (await api.get(f"{V2}/a")).json["spec"]["host"] == "c.test"
    entries = applied.json["metadata"]["managedFields"]
    owned = {entry["apiVersion"]: entry["fieldsV1"]["f:spec"].keys() for entry in entries}
    assert "f:hostPort" in owned["example.org/v1"]
    conflict = await api.apply(f"{V1}/a", route("a", "d.test"), "other")
    assert conflict.status == 409


async def test_a_list_is_one_call(api: Server, hook: Hook) -> None:
    """Of five hundred objects in their order; a second list, of pages too, asks nothing again."""
    names = [f"r{number:03}" for number in range(500)]
    for name in names:
        await api.post(V1, route(name, f"{name}.test"))
    items = (await api.get(V2)).json["items"]
    assert [item["spec"]["host"] for item in items] == [f"{name}.test" for name in names]
    assert hook.asked == [("v2", names)]
    page = (await api.get(f"{V2}?limit=2")).json
    assert [item["spec"]["host"] for item in page["items"]] == ["r000.test", "r001.test"]
    more = (await api.get(f"{V2}?limit=2&continue={page['metadata']['continue']}")).json
    assert [item["spec"]["host"] for item in more["items"]] == ["r002.test", "r003.test"]
    assert len(hook.calls) == 1


async def test_selectors_and_tables_see_the_version_asked_for(api: Server) -> None:
    """A field of that version selects, and its columns show its fields."""
    await api.post(V1, route("a", "a.test", labels={"on": "yes"}))
    await api.post(V1, route("b", "b.test"))
    for query in ("fieldSelector=spec.host%3Da.test", "labelSelector=on%3Dyes"):
        items = (await api.get(f"{V2}?{query}")).json["items"]
        assert [item["spec"]["host"] for item in items] == ["a.test"], query
    table = (await api.get(V2, accept=TABLE)).json
    assert [row["cells"] for row in table["rows"]] == [["a", "a.test"], ["b", "b.test"]]


async def test_metadata_alone_needs_no_webhook(api: Server, hook: Hook) -> None:
    """So what only looks at metadata, as the garbage collector, works without it."""
    await api.post(V1, route("a", labels={"on": "yes"}))
    one = (await api.get(f"{V2}/a", accept=METADATA)).json
    assert (one["kind"], one["metadata"]["labels"]) == ("PartialObjectMetadata", {"on": "yes"})
    listed = (await api.get(V2, accept=METADATA_LIST)).json
    assert [item["metadata"]["name"] for item in listed["items"]] == ["a"]
    async with api.watch(f"{V2}?watch=true", accept=METADATA) as watch:
        assert (await watch.next())["object"]["metadata"]["name"] == "a"
    assert hook.calls == []


async def test_an_older_stored_version_stays_readable(api: Server, hook: Hook) -> None:
    """After the storage version changes, objects are converted from the version each is stored in."""
    await api.post(V2, route_v2("old", "old.test"))
    live = (await api.get(CRD)).json
    assert (await api.put(CRD, {**live, "spec": definition(storage="v2")["spec"]})).status == 200
    await api.settle()
    assert (await api.get(CRD)).json["status"]["storedVersions"] == ["v1", "v2"]
    await api.post(V1, route("new", "new.test"))
    assert (_stored(api, "old")["apiVersion"], _stored(api, "new")["apiVersion"]) == (
        "example.org/v1",
        "example.org/v2",
    )
    hook.calls.clear()
    items = {item["metadata"]["name"]: item["spec"] for item in (await api.get(V2)).json["items"]}
    assert (items["old"]["host"], items["new"]["host"]) == ("old.test", "new.test")
    assert hook.asked == [("v2", ["old"])]
    assert (await api.get(f"{V1}/new")).json["spec"]["hostPort"] == "new.test:80"
    # As a migration of the storage does it: an update that changes nothing.
    same = await api.put(f"{V2}/old", (await api.get(f"{V2}/old")).json)
    assert same.status == 200
    assert _stored(api, "old")["apiVersion"] == "example.org/v2"


async def test_the_older_protocol_and_a_service(hook: Hook) -> None:
    """v1beta1 is spoken to who asks for that first; a Service has port 443 unless it says otherwise."""
    async with serving(poster=hook) as server:
        crd = definition(
            conversionReviewVersions=["v3", "v1beta1", "v1"],
            clientConfig={"service": {"name": "hook", "namespace": "default"}},
        )
        created = await server.post(CRDS, crd)
        assert created.json["spec"]["conversion"]["webhook"]["clientConfig"]["service"]["port"] == 443
        await server.settle()
        await server.post(V1, route("a"))
        failed = await server.get(f"{V2}/a")
        assert failed.json["message"] == (
            'conversion webhook for example.org/v1, Kind=Route failed: service "hook" not found'
        )
        crd = (await server.get(CRD)).json
        webhook = crd["spec"]["conversion"]["webhook"]
        webhook["clientConfig"] = {"url": "https://hooks.test/convert"}
        assert (await server.put(CRD, crd)).status == 200
        await server.settle()
        assert (await server.get(f"{V2}/a")).json["spec"]["host"] == "a.test"
        assert hook.calls[0]["apiVersion"] == "apiextensions.k8s.io/v1beta1"


async def test_who_needs_the_same_object_waits_for_the_same_answer(api: Server, hook: Hook) -> None:
    """Requests at the same time are one call; who is cut off leaves it to the others."""
    await api.post(V1, route("a"))
    hook.waits = anyio.Event()
    hosts: list[str] = []

    async def read() -> None:
        hosts.append((await api.get(f"{V2}/a")).json["spec"]["host"])

    scope = anyio.CancelScope()

    async def cut_off() -> None:
        with scope:
            await read()

    async with anyio.create_task_group() as group:
        group.start_soon(cut_off)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(read)
        group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        assert len(hook.calls) == 1
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert len(hook.calls) == 2
        hook.waits.set()
    assert hosts == ["a.test", "a.test"]


async def test_admission_webhooks_see_the_version_of_their_rule(api: Server, hook: Hook) -> None:
    """A rule about v1 is about writes in v2 too; it is shown the object in v1, and its patch is of v1."""
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "sizes"},
        "webhooks": [
            {
                "name": "sizes.example.org",
                "clientConfig": {"url": "https://hooks.test/admit"},
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "matchPolicy": "Equivalent",
                "rules": [
                    {
                        "apiGroups": ["example.org"],
                        "apiVersions": ["v1"],
                        "resources": ["routes"],
                        "operations": ["CREATE"],
                    }
                ],
            }
        ],
    }
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    assert (await api.post(path, configuration)).status == 201
    hook.patch = [{"op": "replace", "path": "/spec/hostPort", "value": "b.test:81"}]
    answer = await api.post(V2, route_v2("a"))
    assert answer.status == 201, answer.json
    assert (answer.json["spec"]["host"], answer.json["spec"]["port"]) == ("b.test", "81")
    assert [each["spec"]["hostPort"] for each in hook.admitted] == ["a.test:80"]
