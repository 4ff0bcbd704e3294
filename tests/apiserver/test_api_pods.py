"""Pods: what admission gives them, how they are bound, evicted and read from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

pytestmark = pytest.mark.anyio

PODS = "/api/v1/namespaces/default/pods"
Make = Callable[..., dict[str, Any]]


async def test_a_pod_gets_its_account_token_and_tolerations(api: Any, pod: Make) -> None:
    """As the admission plug-ins of Kubernetes do it."""
    created = (await api.post(PODS, pod("p"))).json
    spec = created["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    sources = volume["projected"]["sources"]
    assert [next(iter(source)) for source in sources] == ["serviceAccountToken", "configMap", "downwardAPI"]
    assert sources[0]["serviceAccountToken"] == {"expirationSeconds": 3607, "path": "token"}
    (mount,) = spec["containers"][0]["volumeMounts"]
    assert mount == {
        "name": volume["name"],
        "readOnly": True,
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
    }
    assert [t["key"] for t in spec["tolerations"]] == [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]
    assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    assert created["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert created["metadata"]["generation"] == 1


async def test_a_pod_may_do_without_a_token(api: Any, pod: Make) -> None:
    """Neither the pod nor its account need want one; the pod's word counts over the account's."""
    bare = (await api.post(PODS, pod("p", automountServiceAccountToken=False))).json
    assert "volumes" not in bare["spec"]
    account = {"metadata": {"name": "quiet"}, "automountServiceAccountToken": False}
    await api.post("/api/v1/namespaces/default/serviceaccounts", account)
    quiet = (await api.post(PODS, pod("q", serviceAccountName="quiet"))).json
    assert "volumes" not in quiet["spec"]
    loud = pod("r", serviceAccountName="quiet", automountServiceAccountToken=True)
    assert (await api.post(PODS, loud)).json["spec"]["volumes"]


async def test_a_mount_of_ones_own_is_kept(api: Any, pod: Make) -> None:
    """A container that mounts something at the token's path is left alone."""
    path = "/var/run/secrets/kubernetes.io/serviceaccount"
    document = pod("p", volumes=[{"name": "mine", "emptyDir": {}}])
    document["spec"]["containers"][0]["volumeMounts"] = [{"name": "mine", "mountPath": path}]
    created = (await api.post(PODS, document)).json
    assert [volume["name"] for volume in created["spec"]["volumes"]] == ["mine"]


async def test_a_pod_without_its_account_is_forbidden(api: Any, pod: Make) -> None:
    """An account that does not exist cannot run anything."""
    refused = await api.post(PODS, pod("p", serviceAccountName="nobody"))
    assert refused.status == 403
    assert 'serviceaccount "nobody" not found' in refused.json["message"]


async def test_an_unknown_priority_class_is_forbidden(api: Any, pod: Make) -> None:
    """Those of the system are there from the start."""
    assert (await api.post(PODS, pod("p", priorityClassName="vip"))).status == 403
    answer = await api.post(PODS, pod("p", priorityClassName="system-node-critical"))
    assert answer.json["spec"]["priority"] == 2000001000


async def test_a_pod_is_bound_once(api: Any, pod: Make) -> None:
    """A binding sets the node and the condition; the second one is a conflict."""
    created = (await api.post(PODS, pod("p"))).json
    bound = await api.post(f"{PODS}/p/binding", {"target": {"kind": "Node", "name": "n1"}})
    assert (bound.status, bound.json["status"]) == (201, "Success")
    now = (await api.get(f"{PODS}/p")).json
    assert now["spec"]["nodeName"] == "n1"
    assert {c["type"]: c["status"] for c in now["status"]["conditions"]} == {"PodScheduled": "True"}
    assert now["metadata"]["generation"] == 1
    again = await api.post(f"{PODS}/p/binding", {"target": {"name": "n2"}})
    assert (again.status, again.json["reason"]) == (409, "Conflict")
    assert 'pod p is already assigned to node "n1"' in again.json["message"]
    await api.post(PODS, pod("q"))
    wrong = {"metadata": {"name": "q", "uid": created["metadata"]["uid"]}, "target": {"name": "n1"}}
    assert (await api.post(f"{PODS}/q/binding", wrong)).status == 409
    legacy = {"metadata": {"name": "q"}, "target": {"name": "n1"}}
    assert (await api.post("/api/v1/namespaces/default/bindings", legacy)).status == 201
    assert (await api.post(f"{PODS}/none/binding", {"target": {"name": "n"}})).status == 404
    labelled = {"target": {"name": "n"}, "metadata": {"labels": "x"}}
    wrongs: list[dict[str, Any]] = [{"target": {}}, {"target": "n"}, labelled]
    for nonsense in wrongs:
        assert (await api.post(f"{PODS}/q/binding", nonsense)).status == 400


async def test_of_many_schedulers_one_binds(api: Any, pod: Make) -> None:
    """Two bindings at the same moment: one wins, the other is told."""
    await api.post(PODS, pod("p"))
    codes: list[int] = []

    async def bind(node: str) -> None:
        codes.append((await api.post(f"{PODS}/p/binding", {"target": {"name": node}})).status)

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(bind, f"n{number}")
    assert sorted(codes) == [201, 409, 409, 409, 409]


async def test_the_spec_of_a_pod_is_fixed(api: Any, pod: Make) -> None:
    """Only images and a few more may change."""
    await api.post(PODS, pod("p"))
    assert (await api.patch(f"{PODS}/p", {"spec": {"hostname": "other"}})).status == 422
    assert (await api.patch(f"{PODS}/p", {"spec": {"nodeName": "n1"}})).status == 422
    image = [{"op": "replace", "path": "/spec/containers/0/image", "value": "example.org/app:2"}]
    changed = await api.patch(f"{PODS}/p", image, "json-patch+json")
    assert changed.status == 200, changed.json
    assert changed.json["metadata"]["generation"] == 2


async def test_an_eviction_is_a_delete_that_says_why(api: Any, pod: Make) -> None:
    """The pod under deletion carries the condition."""
    await api.post(PODS, pod("p"))
    await api.post(f"{PODS}/p/binding", {"target": {"name": "n1"}})
    evicted = await api.post(f"{PODS}/p/eviction", {"metadata": {"name": "p"}})
    assert evicted.status == 201
    now = (await api.get(f"{PODS}/p")).json
    assert now["metadata"]["deletionTimestamp"]
    reasons = {c["type"]: c.get("reason") for c in now["status"]["conditions"]}
    assert reasons["DisruptionTarget"] == "EvictionByEvictionAPI"


@pytest.mark.parametrize(
    ("limits", "requests", "quality"),
    [
        ({}, {}, "BestEffort"),
        ({"cpu": "1", "memory": "1Gi"}, {}, "Guaranteed"),
        ({"cpu": "1", "memory": "1Gi"}, {"cpu": "1000m", "memory": "1024Mi"}, "Guaranteed"),
        ({"memory": "1Gi"}, {}, "Burstable"),
        ({"cpu": "1", "memory": "1Gi"}, {"cpu": "500m"}, "Burstable"),
    ],
)
async def test_quality_of_service(
    api: Any, pod: Make, limits: dict[str, str], requests: dict[str, str], quality: str
) -> None:
    """From requests and limits, as eviction order needs it."""
    document = pod("p")
    document["spec"]["containers"][0]["resources"] = {"limits": limits, "requests": requests}
    assert (await api.post(PODS, document)).json["status"]["qosClass"] == quality


async def test_fields_nobody_acts_on_are_told(api: Any, pod: Make) -> None:
    """A warning a field, on create and when a change brings it, not on every write."""
    document = pod("p", hostUsers=False, volumes=[{"name": "v", "nfs": {"server": "s", "path": "/"}}])
    answer = await api.post(PODS, document)
    assert answer.status == 201, answer.json
    assert sorted(answer.warnings) == [
        '299 - "spec.hostUsers: user namespaces are not made, and the node refuses pods that want one"',
        '299 - "spec.volumes[0].nfs: the node refuses pods with such a volume"',
    ]
    assert (await api.patch(f"{PODS}/p", {"metadata": {"labels": {"a": "b"}}})).warnings == []
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {**pod("x")["spec"], "hostUsers": False}}
    deployment = {
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    warned = await api.post("/apis/apps/v1/namespaces/default/deployments", deployment)
    assert len(warned.warnings) == 1
    assert "spec.template.spec.hostUsers" in warned.warnings[0]


class _Answer:
    def __init__(self, status: int, chunks: list[bytes]) -> None:
        self.status = status
        self.content_type = "text/plain"
        self._chunks = chunks

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


class _Nodes:
    """A node agent that remembers what it was asked."""

    def __init__(self, answer: _Answer) -> None:
        self.answer = answer
        self.calls: list[tuple[str, str, dict[str, str]]] = []

    @asynccontextmanager
    async def get(self, node: str, path: str, query: Mapping[str, str]) -> AsyncIterator[_Answer]:
        self.calls.append((node, path, dict(query)))
        yield self.answer


_NODE = {"metadata": {"name": "n1"}}


async def test_logs_come_from_the_node(start: Any, pod: Make) -> None:
    """The request is passed on to the agent of the pod's node, and its answer streamed back."""
    nodes = _Nodes(_Answer(200, [b"one\n", b"two\n"]))
    async with start(node_proxy=nodes) as api:
        await api.post("/api/v1/nodes", _NODE)
        await api.post(PODS, pod("p"))
        unbound = await api.get(f"{PODS}/p/log")
        assert (unbound.status, unbound.json["message"]) == (400, "pod p does not have a host assigned")
        await api.post(f"{PODS}/p/binding", {"target": {"name": "n1"}})
        async with api.watch(f"{PODS}/p/log?follow=true&tailLines=5&container=main") as log:
            assert log.headers["content-type"] == "text/plain"
            await api.settle()
        assert nodes.calls == [("n1", "/containerLogs/default/p/main", {"follow": "true", "tailLines": "5"})]
        assert (await api.get(f"{PODS}/p/log?container=none")).status == 400
        assert (await api.get(f"{PODS}/p/log?tailLines=-1")).status == 400
        assert (await api.get(f"{PODS}/none/log")).status == 404


async def test_a_container_must_be_named_among_several(start: Any, pod: Make) -> None:
    """Unless an annotation names the default."""
    nodes = _Nodes(_Answer(200, []))
    async with start(node_proxy=nodes) as api:
        await api.post("/api/v1/nodes", _NODE)
        document = pod("p", nodeName="n1")
        document["spec"]["containers"].append({"name": "side", "image": "i"})
        await api.post(PODS, document)
        refused = await api.get(f"{PODS}/p/log")
        assert "choose one of: [main side]" in refused.json["message"]


async def test_what_the_node_refuses_is_passed_on(start: Any, pod: Make) -> None:
    """A Status with the agent's words; a node that is not known is not found."""
    nodes = _Nodes(_Answer(400, [b"container is waiting to start"]))
    async with start(node_proxy=nodes) as api:
        await api.post(PODS, pod("p", nodeName="n1"))
        assert (await api.get(f"{PODS}/p/log")).status == 404
        await api.post("/api/v1/nodes", _NODE)
        async with api.watch(f"{PODS}/p/log") as log:
            assert log.status == 400


@pytest.mark.parametrize("how", ["put", "strategic-merge-patch+json", "merge-patch+json"])
async def test_a_pod_can_be_written_again_as_it_was_sent(api: Any, pod: Any, how: str) -> None:
    """What admission gave it is given again, or kept, where the manifest says nothing of it."""
    tolerations = [{"key": "dedicated", "operator": "Exists"}]
    sent = pod("p", tolerations=tolerations)
    live = (await api.post(PODS, sent)).json
    assert len(live["spec"]["tolerations"]) == 3
    assert live["spec"]["priority"] == 0
    if how == "put":
        spec = {**live["spec"], "tolerations": tolerations}
        del spec["priority"], spec["preemptionPolicy"]
        again = await api.put(f"{PODS}/p", {**live, "spec": spec})
    else:
        change = {"tolerations": tolerations, "priority": None, "preemptionPolicy": None}
        again = await api.patch(f"{PODS}/p", {"spec": change}, how)
    assert again.status == 200, again.json
    assert again.json["spec"] == live["spec"]


async def test_a_priority_is_computed_never_chosen(api: Any, pod: Any) -> None:
    """A number that is not the class's is refused, in the words of the admission."""
    assert (await api.post(PODS, pod("same", priority=0))).status == 201
    refused = await api.post(PODS, pod("p", priority=7))
    assert (refused.status, refused.json["message"]) == (
        403,
        (
            'pods "p" is forbidden: the integer value of priority (7) must not be provided in pod spec; '
            "priority admission controller computed 0 from the given PriorityClass name"
        ),
    )
    refused = await api.post(PODS, pod("p", preemptionPolicy="Never"))
    assert (refused.status, "string value of PreemptionPolicy (Never)" in refused.json["message"]) == (
        403,
        True,
    )


async def test_the_older_name_of_the_account_is_a_mirror(api: Any, pod: Any) -> None:
    """In pods and in templates: either name alone gives both, and of two the newer counts."""
    await api.post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "sa"}})
    for name, spec in (
        ("a", {"serviceAccount": "sa"}),
        ("b", {"serviceAccountName": "sa"}),
        ("c", {"serviceAccountName": "sa", "serviceAccount": "other"}),
    ):
        created = (await api.post(PODS, pod(name, **spec))).json["spec"]
        assert (created["serviceAccountName"], created["serviceAccount"]) == ("sa", "sa")
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {**pod("x")["spec"], "serviceAccount": "sa"}}
    body = {
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    created = (await api.post("/apis/apps/v1/namespaces/default/deployments", body)).json
    assert created["spec"]["template"]["spec"]["serviceAccountName"] == "sa"


async def test_warnings_come_with_the_answer(api: Any, pod: Any) -> None:
    """Of a new pod, and of a template whenever it changes."""
    document = pod("p")
    document["spec"]["containers"][0]["env"] = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    answer = await api.post(PODS, document)
    assert answer.status == 201
    assert any("hides previous definition" in warning for warning in answer.warnings)
    assert not (await api.patch(f"{PODS}/p", {"metadata": {"labels": {"a": "b"}}})).warnings
