"""Create, get and update: what the server sets, keeps and refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ondol.api import protobuf

pytestmark = pytest.mark.anyio

CMS = "/api/v1/namespaces/default/configmaps"
Make = Callable[..., dict[str, Any]]


async def test_a_created_object_has_what_the_server_sets(api: Any, config_map: Make) -> None:
    """uid, creation time, resourceVersion and owners of fields; what the client forged is dropped."""
    sent = config_map("a", {"k": "v"}, uid="mine", creationTimestamp="2001-01-01T00:00:00Z", selfLink="/x")
    created = await api.post(CMS, sent)
    assert created.status == 201
    metadata = created.json["metadata"]
    assert metadata["namespace"] == "default"
    assert metadata["uid"] not in ("", "mine")
    assert metadata["creationTimestamp"] == "2023-11-14T22:13:20Z"
    assert "selfLink" not in metadata
    (entry,) = metadata["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("test", "Update")
    assert entry["fieldsV1"]["f:data"] == {".": {}, "f:k": {}}
    assert (await api.get(f"{CMS}/a")).json == created.json


async def test_names_are_taken_once(api: Any, config_map: Make) -> None:
    """A second create of a name is refused with AlreadyExists and changes nothing."""
    await api.post(CMS, config_map("a", {"k": "first"}))
    again = await api.post(CMS, config_map("a", {"k": "second"}))
    assert (again.status, again.json["reason"]) == (409, "AlreadyExists")
    assert again.json["message"] == 'configmaps "a" already exists'
    assert (await api.get(f"{CMS}/a")).json["data"] == {"k": "first"}


async def test_generated_names_differ(api: Any) -> None:
    """GenerateName gives each object a name of its own."""
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "job-"}}
    names = {(await api.post(CMS, document)).json["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("job-") and len(name) == 9 for name in names)


async def test_a_missing_object_is_not_found(api: Any) -> None:
    """The Status names the resource and the object."""
    missing = await api.get(f"{CMS}/none")
    assert missing.status == 404
    assert missing.json == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'configmaps "none" not found',
        "reason": "NotFound",
        "details": {"name": "none", "kind": "configmaps"},
        "code": 404,
    }
    grouped = await api.get("/apis/apps/v1/namespaces/default/deployments/none")
    expected = b'"details":{"name":"none","group":"apps","kind":"deployments"},"code":404}\n'
    assert grouped.body.endswith(expected)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/nonsense", 404),
        ("GET", "/nothing", 404),
        ("PATCH", "/api/v1/namespaces/default/pods/p/nothing", 404),
        ("POST", CMS, 400),
        ("PUT", CMS, 405),
    ],
)
async def test_every_failure_has_details_and_ends_its_line(
    api: Any, method: str, path: str, code: int
) -> None:
    """Go clients follow the pointer without looking, and read until the line ends."""
    failed = await api(method, path)
    assert (failed.status, failed.json["code"]) == (code, code)
    assert isinstance(failed.json["details"], dict)
    assert failed.body.endswith(b"}\n")


async def test_a_status_is_there_before_anyone_reports(api: Any) -> None:
    """It is a struct to Go, so the answer to a create has it."""
    answer = await api.post(f"{_APPS}/deployments", {"metadata": {"name": "d"}, "spec": _WORKLOAD})
    assert answer.json["status"] == {}
    answer = await api.post(f"{_APPS}/replicasets", {"metadata": {"name": "r"}, "spec": _WORKLOAD})
    assert answer.json["status"] == {"replicas": 0}


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"kind": "Secret"}, 400, "the object provided is a Secret"),
        ({"apiVersion": "v2"}, 400, "the API version in the data (v2) does not match"),
        ({"metadata": {"name": "a", "namespace": "other"}}, 400, "does not match the namespace"),
        ({"metadata": {"name": "a", "resourceVersion": "5"}}, 400, "resourceVersion should not be set"),
        ({"metadata": {"name": "Not A Name"}}, 422, "metadata.name: Invalid value"),
        ({"metadata": {}}, 422, "name or generateName is required"),
        ({"metadata": "text"}, 400, "metadata: must be an object"),
        ({"data": {"k": 5}}, 400, "cannot unmarshal number into Go struct field"),
        ({"metadata": {"name": "a", "labels": {"a b": "c"}}}, 422, "metadata.labels: Invalid value"),
    ],
)
async def test_what_cannot_be_is_refused(
    api: Any, config_map: Make, change: dict[str, Any], code: int, message: str
) -> None:
    """Each refusal says which part is wrong, and nothing is stored."""
    refused = await api.post(CMS, {**config_map("a"), **change})
    assert refused.status == code, refused.json
    assert message in refused.json["message"]
    assert (await api.get(f"{CMS}/a")).status == 404


async def test_version_zero_asks_for_nothing(api: Any, config_map: Make) -> None:
    """`resourceVersion: "0"` is no condition of a write; where a kind needs one it counts as none."""
    assert (await api.post(CMS, config_map("a", {"k": "0"}, resourceVersion="0"))).status == 201
    put = await api.put(f"{CMS}/a", config_map("a", {"k": "1"}, resourceVersion="0"))
    assert (put.status, put.json["data"]) == (200, {"k": "1"})
    for kind in ("merge-patch+json", "strategic-merge-patch+json"):
        patch = {"metadata": {"resourceVersion": "0"}, "data": {"k": kind}}
        patched = await api.patch(f"{CMS}/a", patch, kind)
        assert (patched.status, patched.json["data"]) == (200, {"k": kind})
    applied = await api.apply(f"{CMS}/a", config_map("a", {"k": "2"}, resourceVersion="0"), "m", force=True)
    assert (applied.status, applied.json["data"]) == (200, {"k": "2"})
    nonsense = await api.patch(f"{CMS}/a", {"metadata": {"resourceVersion": "abc"}})
    assert (nonsense.status, "resourceVersion" in nonsense.json["message"]) == (400, True)
    lease = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l"
    assert (await api.put(lease, {"metadata": {"name": "l", "resourceVersion": "7"}})).status == 201
    refused = await api.put(lease, {"metadata": {"name": "l", "resourceVersion": "0"}})
    assert (refused.status, refused.json["message"]) == (
        422,
        (
            'leases.coordination.k8s.io "l" is invalid: metadata.resourceVersion: '
            "Invalid value: 0: must be specified for an update"
        ),
    )


async def test_an_apply_that_creates_is_of_no_version(api: Any, config_map: Make) -> None:
    """A version the client knew is left out; a uid names an object that is not there: a conflict."""
    created = await api.apply(f"{CMS}/a", config_map("a", resourceVersion="7"), "m")
    assert created.status == 201
    assert created.json["metadata"]["resourceVersion"] != "7"
    refused = await api.apply(f"{CMS}/b", config_map("b", uid="u"), "m")
    assert (refused.status, refused.json["message"]) == (
        409,
        (
            'Operation cannot be fulfilled on configmaps "b": uid mismatch: the provided object '
            "specified uid u, "
            "and no existing object was found"
        ),
    )


async def test_a_name_that_is_being_deleted_is_told_of(api: Any, config_map: Make) -> None:
    """It is taken until the finalizers are gone, which is another thing than being in use."""
    await api.post(CMS, config_map("a", finalizers=["x.test/y"]))
    taken = await api.post(CMS, config_map("a"))
    assert taken.json["message"] == 'configmaps "a" already exists'
    await api.delete(f"{CMS}/a")
    taken = await api.post(CMS, config_map("a"))
    assert (taken.status, taken.json["reason"]) == (409, "AlreadyExists")
    assert taken.json["message"] == 'object is being deleted: configmaps "a" already exists'


async def test_generations_count_what_is_wished_for(api: Any) -> None:
    """Of a Deployment also its annotations, which its ReplicaSets take over; of others the spec alone."""
    for kind, counted in (("deployments", 1), ("replicasets", 0)):
        path = f"{_APPS}/{kind}"
        document = {"metadata": {"name": "g", "generation": 7}, "spec": _WORKLOAD}
        assert (await api.post(path, document)).json["metadata"]["generation"] == 1
        for patch, more in (
            ({"metadata": {"labels": {"x": "y"}}}, 0),
            ({"metadata": {"annotations": {"x": "y"}}}, counted),
            ({"spec": {"replicas": 5}}, 1),
            ({"metadata": {"generation": 99}}, 0),
        ):
            before = (await api.get(f"{path}/g")).json["metadata"]["generation"]
            after = (await api.patch(f"{path}/g", patch)).json["metadata"]["generation"]
            assert after == before + more, patch


async def test_bodies_come_as_yaml_too(api: Any) -> None:
    """YAML is JSON to the server; a date stays the text it is."""
    text = b"kind: ConfigMap\napiVersion: v1\nmetadata: {name: q}\ndata: {when: 2001-01-01, k: 'yes'}\n"
    created = await api("POST", CMS, text, {"content-type": "application/yaml"})
    assert created.status == 201
    assert created.json["data"] == {"when": "2001-01-01", "k": "yes"}
    answer = await api.get(f"{CMS}/q", accept="application/yaml")
    assert answer.headers["content-type"] == "application/yaml"
    assert b"when: '2001-01-01'" in answer.body


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"{", {}, 400),
        (b"[1]", {}, 400),
        (b"", {}, 400),
        (b"\xff\xfe", {"content-type": "application/yaml"}, 400),
        (b'{"metadata": {"name": "\xff"}}', {}, 400),
        (b"a: [", {"content-type": "application/yaml"}, 400),
        (b"{}", {"content-type": "text/html"}, 415),
        (b"[" * 100_000, {}, 400),
        (b"[" * 200_000, {"content-type": "application/yaml"}, 400),
        (b"a: &a [*a]", {"content-type": "application/yaml"}, 400),
        (b"x" * (3 * 1024 * 1024 + 1), {}, 413),
    ],
)
async def test_bodies_that_cannot_be_read(api: Any, body: bytes, headers: dict[str, str], code: int) -> None:
    """Broken, foreign or oversized bodies get a Status, never a crash."""
    refused = await api("POST", CMS, body, {"content-type": "application/json", **headers})
    assert refused.status == code, refused.body
    assert refused.json["kind"] == "Status"


async def test_an_announced_giant_is_refused_before_it_is_read(api: Any) -> None:
    """Four gigabytes to come: refused at the first line, on a connection that is then closed."""

    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing of it is read")

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = {"content-type": "application/json", "content-length": "4294967296"}
    await api.app(api._scope("POST", CMS, headers), receive, send)
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]


async def test_a_body_that_was_cut_off_is_no_body(api: Any, config_map: Make) -> None:
    """Half of a YAML document may read as a whole one, and no body as a delete without preconditions."""
    await api.post(CMS, config_map("kept", {"k": "v"}))
    half = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: half}\n"
    for method, name, sent in (("PATCH", "half", half), ("DELETE", "kept", b"")):
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": sent, "more_body": True},
            {"type": "http.disconnect"},
        ]
        answers: list[dict[str, Any]] = []

        async def receive(left: list[dict[str, Any]] = messages) -> dict[str, Any]:
            return left.pop(0)

        async def send(message: dict[str, Any], answers: list[dict[str, Any]] = answers) -> None:
            answers.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": f"{CMS}/{name}",
            "query_string": b"fieldManager=m",
            "headers": [(b"content-type", b"application/apply-patch+yaml")],
            "ondol.identity": {"name": "admin", "groups": ["system:masters"]},
        }
        await api.app(scope, receive, send)
        assert answers == [], "nobody is there to be answered"
    assert (await api.get(f"{CMS}/half")).status == 404
    assert (await api.get(f"{CMS}/kept")).status == 200


async def test_protobuf_bodies_are_understood(api: Any, config_map: Make) -> None:
    """Go clients send built-in kinds as protobuf."""
    body = protobuf.encode(config_map("pb", {"k": "v"}))
    created = await api("POST", CMS, body, {"content-type": protobuf.MEDIA_TYPE})
    assert (created.status, created.json["data"]) == (201, {"k": "v"})


async def test_accept_is_honoured_or_refused(api: Any) -> None:
    """What cannot be produced is 406; among several clauses the first possible one wins."""
    assert (await api.get(CMS, accept="text/html")).status == 406
    both = "application/vnd.kubernetes.protobuf,application/json"
    assert (await api.get(CMS, accept=both)).headers["content-type"] == "application/json"


async def test_put_replaces_and_counts_on_the_version(api: Any, config_map: Make) -> None:
    """With a stale resourceVersion PUT is a conflict; with the current or none it replaces."""
    first = (await api.post(CMS, config_map("a", {"k": "1"}))).json
    second = await api.put(f"{CMS}/a", {**first, "data": {"k": "2"}})
    assert second.status == 200
    assert int(second.json["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    stale = await api.put(f"{CMS}/a", {**first, "data": {"k": "3"}})
    assert (stale.status, stale.json["reason"]) == (409, "Conflict")
    assert "the object has been modified; please apply your changes" in stale.json["message"]
    blind = await api.put(f"{CMS}/a", config_map("a", {"k": "4"}))
    assert blind.json["data"] == {"k": "4"}
    assert blind.json["metadata"]["uid"] == first["metadata"]["uid"]


async def test_put_cannot_move_an_object(api: Any, config_map: Make) -> None:
    """Name and uid are the object's identity."""
    first = (await api.post(CMS, config_map("a"))).json
    assert (await api.put(f"{CMS}/a", config_map("b"))).status == 400
    other = {**first, "metadata": {**first["metadata"], "uid": "0"}}
    assert (await api.put(f"{CMS}/a", other)).status == 409
    assert (await api.put(f"{CMS}/none", config_map("none"))).status == 404


async def test_writing_the_same_again_writes_nothing(api: Any, config_map: Make) -> None:
    """No new revision and no event for a write that changes nothing, even later."""
    first = (await api.post(CMS, config_map("a", {"k": "1"}))).json
    revision = api.store.revision
    await api.clock.advance(100)
    assert (await api.put(f"{CMS}/a", first)).json == first
    assert (await api.put(f"{CMS}/a", config_map("a", {"k": "1"}))).json == first
    assert (await api.patch(f"{CMS}/a", {"data": {"k": "1"}})).json == first
    assert api.store.revision == revision


async def test_dry_runs_do_everything_but_write(api: Any, config_map: Make) -> None:
    """The answer is what would be; nothing is."""
    revision = api.store.revision
    answer = await api.post(f"{CMS}?dryRun=All", config_map("a"))
    assert answer.status == 201
    assert answer.json["metadata"]["uid"]
    assert "resourceVersion" not in answer.json["metadata"]
    assert (await api.get(f"{CMS}/a")).status == 404
    assert (await api.post(f"{CMS}?dryRun=Some", config_map("a"))).status == 400
    assert (await api.post(f"{CMS}?dryRun=All", {**config_map("a"), "data": 5})).status == 400
    assert api.store.revision == revision


_POD_SPEC = {"containers": [{"name": "c", "image": "i"}]}
_TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": _POD_SPEC}
_WORKLOAD = {"selector": {"matchLabels": {"a": "b"}}, "template": _TEMPLATE}
_APPS = "/apis/apps/v1/namespaces/default"


@pytest.mark.parametrize(
    ("path", "spec", "writes_labels"),
    [
        ("/api/v1/namespaces/default/pods", _POD_SPEC, True),
        ("/api/v1/namespaces/default/services", {"ports": [{"port": 80}]}, True),
        ("/api/v1/namespaces", {}, True),
        ("/api/v1/nodes", {}, True),
        (f"{_APPS}/replicasets", _WORKLOAD, True),
        (f"{_APPS}/deployments", _WORKLOAD, False),
    ],
)
@pytest.mark.parametrize("how", ["patch", "put", "apply"])
async def test_metadata_is_written_with_the_status(
    api: Any, path: str, spec: Any, writes_labels: bool, how: str
) -> None:
    """Labels and annotations sent to the status subresource are kept, but a Deployment's labels are not."""
    live = (await api.post(path, {"metadata": {"name": "m"}, "spec": spec})).json
    change = {"labels": {"l": "status"}, "annotations": {"a": "status"}}
    if how == "patch":
        written = await api.patch(f"{path}/m/status", {"metadata": change})
    elif how == "put":
        written = await api.put(f"{path}/m/status", {**live, "metadata": {**live["metadata"], **change}})
    else:
        body = {field: live[field] for field in ("apiVersion", "kind")}
        written = await api.apply(f"{path}/m/status", {**body, "metadata": change}, "me")
    assert written.status == 200, written.json
    metadata = (await api.get(f"{path}/m")).json["metadata"]
    assert metadata["annotations"]["a"] == "status"
    assert ((metadata.get("labels") or {}).get("l") == "status") is writes_labels
    wrong = await api.patch(f"{path}/m/status", {"metadata": {"annotations": {"not ok": "x"}}})
    assert (wrong.status, "metadata.annotations" in wrong.json["message"]) == (422, True)


async def test_a_pod_keeps_its_owners_and_what_an_agent_does_not_know_of(api: Any) -> None:
    """A status without quality of service or observed generations leaves them as they were."""
    path = "/api/v1/namespaces/default/pods"
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u"}
    document = {"metadata": {"name": "p", "ownerReferences": [owner]}, "spec": _POD_SPEC}
    live = (await api.post(path, document)).json
    condition = {"type": "Ready", "status": "True", "observedGeneration": 1}
    status = {**live["status"], "observedGeneration": 1, "conditions": [condition]}
    live = (await api.put(f"{path}/p/status", {**live, "status": status})).json
    assert live["status"]["observedGeneration"] == 1
    bare = {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}
    metadata = {**live["metadata"], "ownerReferences": []}
    changed = (await api.put(f"{path}/p/status", {**live, "metadata": metadata, "status": bare})).json
    assert changed["metadata"]["ownerReferences"] == [owner]
    assert changed["status"]["qosClass"] == "BestEffort"
    assert changed["status"]["observedGeneration"] == 1
    assert changed["status"]["conditions"][0]["observedGeneration"] == 1


async def test_status_and_spec_are_written_apart(api: Any) -> None:
    """The main resource never changes the status, the status subresource nothing else."""
    path = "/apis/apps/v1/namespaces/default/deployments"
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    created = (
        await api.post(path, {"metadata": {"name": "d"}, "spec": spec, "status": {"replicas": 9}})
    ).json
    assert created["metadata"]["generation"] == 1
    assert "replicas" not in created.get("status", {})
    body = {**created, "status": {"replicas": 3}, "spec": {**created["spec"], "replicas": 7}}
    reported = (await api.put(f"{path}/d/status", body)).json
    assert reported["status"] == {"replicas": 3}
    assert reported["spec"]["replicas"] == 1
    assert reported["metadata"]["generation"] == 1
    body = {**reported, "status": {"replicas": 5}, "spec": {**created["spec"], "replicas": 7}}
    changed = (await api.put(f"{path}/d", body)).json
    assert changed["spec"]["replicas"] == 7
    assert changed["status"] == {"replicas": 3}
    assert changed["metadata"]["generation"] == 2
    labelled = (await api.patch(f"{path}/d", {"metadata": {"labels": {"a": "b"}}})).json
    assert labelled["metadata"]["generation"] == 2


async def test_scale_reads_and_writes_replicas_alone(api: Any) -> None:
    """The Scale view shows the selector as text and sets nothing but replicas."""
    path = "/apis/apps/v1/namespaces/default/deployments"
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    await api.post(path, {"metadata": {"name": "d"}, "spec": spec})
    scale = (await api.get(f"{path}/d/scale")).json
    assert (scale["kind"], scale["spec"], scale["status"]) == (
        "Scale",
        {"replicas": 1},
        {"replicas": 0, "selector": "app=x"},
    )
    scaled = await api.put(f"{path}/d/scale", {**scale, "spec": {"replicas": 4}})
    assert scaled.json["spec"] == {"replicas": 4}
    stale = await api.put(f"{path}/d/scale", {**scale, "spec": {"replicas": 5}})
    assert stale.status == 409
    assert (await api.patch(f"{path}/d/scale", {"spec": {"replicas": -1}})).status == 422
    tried = await api.patch(f"{path}/d/scale?dryRun=All", {"spec": {"replicas": 7}})
    assert tried.json["spec"] == {"replicas": 7}, "a dry run shows what would be"
    assert (await api.get(f"{path}/d")).json["spec"]["replicas"] == 4


@pytest.mark.parametrize(
    ("method", "body", "kind", "answer"),
    [
        ("PUT", {"spec": 3}, "json", (400, "Go struct field Scale.spec")),
        ("PUT", {"spec": {"replicas": True}}, "json", (400, "Go struct field Scale.spec.replicas")),
        ("PUT", {"metadata": "x"}, "json", (400, "metadata: must be an object")),
        ("PUT", {"metadata": {"name": "e"}}, "json", (400, "does not match the name on the URL")),
        (
            "PUT",
            {"apiVersion": "v1", "kind": "Pod"},
            "json",
            (400, "does not match the expected API version"),
        ),
        ("PATCH", {"spec": 3}, "merge-patch+json", (422, "Go struct field Scale.spec")),
        ("PATCH", {"metadata": None}, "merge-patch+json", (400, "metadata: must be an object")),
        ("PATCH", {"kind": "Pod"}, "merge-patch+json", (422, "may not be changed by a patch")),
        (
            "PATCH",
            [{"op": "replace", "path": "", "value": []}],
            "json-patch+json",
            (422, "not a JSON object"),
        ),
    ],
)
async def test_a_scale_that_is_none_is_refused(
    api: Any, method: str, body: Any, kind: str, answer: tuple[int, str]
) -> None:
    """Its fields have types and its name is the URL's, as for every object."""
    code, message = answer
    path = "/apis/apps/v1/namespaces/default/deployments"
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await api.post(
        path, {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": labels}, "template": template}}
    )
    refused = await api(method, f"{path}/d/scale", body, {"content-type": f"application/{kind}"})
    assert (refused.status, message in refused.json["message"]) == (code, True), refused.json
    assert (await api.get(f"{path}/d")).json["spec"]["replicas"] == 1


async def test_leases_need_their_version_and_put_creates_them(api: Any) -> None:
    """A lease is renewed only by who saw the last renewal; PUT to a free name creates it."""
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    answer = await api.put(f"{path}/l", {"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}})
    assert answer.status == 201
    blind = await api.put(f"{path}/l", {"metadata": {"name": "l"}, "spec": {"holderIdentity": "b"}})
    assert blind.status == 422
    assert "must be specified for an update" in blind.json["message"]


async def test_events_have_two_spellings(api: Any) -> None:
    """An Event written by the old API is read by the new one with the new names, and back."""
    event = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Tested",
        "message": "hello",
        "type": "Normal",
        "count": 2,
    }
    assert (await api.post("/api/v1/namespaces/default/events", event)).status == 201
    path = "/apis/events.k8s.io/v1/namespaces/default/events"
    read = (await api.get(f"{path}/e")).json
    assert (read["apiVersion"], read["note"], read["deprecatedCount"]) == ("events.k8s.io/v1", "hello", 2)
    assert read["regarding"]["name"] == "p"
    listed = (await api.get(f"{path}?fieldSelector=regarding.name%3Dp")).json
    assert [item["note"] for item in listed["items"]] == ["hello"]
    new = {
        "metadata": {"name": "n", "namespace": "default"},
        "eventTime": "2023-11-14T22:13:20.000000Z",
        "reportingController": "test/controller",
        "reportingInstance": "test-0",
        "action": "Testing",
        "reason": "Tested",
        "type": "Normal",
        "note": "from the new",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
    }
    answer = await api.post(path, new)
    assert answer.status == 201, answer.json
    old = (await api.get("/api/v1/namespaces/default/events/n")).json
    assert (old["message"], old["involvedObject"]["name"]) == ("from the new", "p")


async def test_events_go_after_an_hour(api: Any) -> None:
    """Events are kept for their time and not longer."""
    event = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Tested",
    }
    await api.post("/api/v1/namespaces/default/events", event)
    await api.clock.advance(3500)
    assert (await api.get("/api/v1/namespaces/default/events/e")).status == 200
    await api.clock.advance(200)
    assert (await api.get("/api/v1/namespaces/default/events/e")).status == 404
