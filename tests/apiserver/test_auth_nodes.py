"""A node's own account: what it reads, what it writes, and what is another node's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ondol import store

Make = Callable[..., Any]
NS = "/api/v1/namespaces/default"
PODS = f"{NS}/pods"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def key() -> bytes:
    form = serialization.PrivateFormat.PKCS8
    generated = ec.generate_private_key(ec.SECP256R1())
    return generated.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


@pytest.fixture
async def api(start: Callable[..., Any]) -> AsyncIterator[Any]:
    """A server with tokens, nodes a and b, and secrets and ConfigMaps for both."""
    async with start(service_account_key=key()) as server:
        for node in ("a", "b"):
            await server.post("/api/v1/nodes", {"metadata": {"name": node}})
            await server.post(f"{NS}/serviceaccounts", {"metadata": {"name": f"account-{node}"}})
        for name in ("volume", "projected", "env", "env-from", "pull", "init", "other"):
            await server.post(f"{NS}/secrets", {"metadata": {"name": name}, "stringData": {"k": "v"}})
            await server.post(f"{NS}/configmaps", {"metadata": {"name": name}, "data": {"k": "v"}})
        yield server


def node(api: Any, name: str = "a") -> Any:
    return api.as_(f"system:node:{name}", "system:nodes")


def using(pod: Make, name: str, on: str) -> Any:
    """A pod that refers to secrets in every way there is."""
    reference = {"name": "k", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}
    main = {
        "name": "main",
        "image": "i",
        "env": [reference],
        "envFrom": [{"secretRef": {"name": "env-from"}}, {"configMapRef": {"name": "env-from"}}],
    }
    init = {"name": "first", "image": "i", "envFrom": [{"secretRef": {"name": "init"}}]}
    sources = [
        {"secret": {"name": "projected"}},
        {"configMap": {"name": "projected"}},
        {"serviceAccountToken": {"path": "t", "audience": "vault"}},
    ]
    volumes = [
        {"name": "v", "secret": {"secretName": "volume"}},
        {"name": "w", "configMap": {"name": "volume"}},
        {"name": "p", "projected": {"sources": sources}},
    ]
    document = pod(name, containers=[main], initContainers=[init], volumes=volumes)
    document["spec"] |= {
        "nodeName": on,
        "serviceAccountName": f"account-{on}",
        "imagePullSecrets": [{"name": "pull"}],
    }
    return document


@pytest.mark.parametrize("name", ["volume", "projected", "env", "env-from", "pull", "init"])
async def test_a_node_reads_what_its_pods_refer_to(api: Any, pod: Make, name: str) -> None:
    """One by one, from the moment a pod is bound to it; another node does not."""
    assert (await node(api).get(f"{NS}/secrets/{name}")).status == 403
    assert (await api.post(PODS, using(pod, "p", "a"))).status == 201
    assert (await node(api).get(f"{NS}/secrets/{name}")).status == 200
    refused = await node(api, "b").get(f"{NS}/secrets/{name}")
    assert refused.status == 403
    assert refused.json["message"] == (
        f'secrets "{name}" is forbidden: User "system:node:b" cannot get resource "secrets" in API group "" '
        "in the namespace \"default\": no relationship found between node 'b' and this object"
    )
    await api.delete(f"{PODS}/p?gracePeriodSeconds=0")
    assert (await node(api).get(f"{NS}/secrets/{name}")).status == 403


async def test_a_node_lists_and_watches_by_name(api: Any, pod: Make) -> None:
    """And nothing that a selector does not narrow to one object of its own."""
    await api.post(PODS, using(pod, "p", "a"))
    own = node(api)
    listed = await own.get(f"{NS}/secrets?fieldSelector=metadata.name%3Dvolume")
    assert (listed.status, len(listed.json["items"])) == (200, 1)
    async with own.watch(f"{NS}/secrets?watch=true&fieldSelector=metadata.name%3Dvolume") as watching:
        assert watching.status == 200
    for path in (
        f"{NS}/secrets",
        f"{NS}/configmaps",
        "/api/v1/secrets",
        "/api/v1/secrets?fieldSelector=metadata.name%3Dvolume",
        f"{NS}/secrets?fieldSelector=metadata.name%3Dother",
        f"{NS}/secrets?fieldSelector=metadata.name%21%3Dvolume",
        f"{NS}/secrets?fieldSelector=type%3DOpaque",
        f"{NS}/secrets?watch=true",
        f"{NS}/secrets/other",
        f"{NS}/configmaps/other",
        "/api/v1/namespaces/kube-system/configmaps/volume",
        f"{NS}/serviceaccounts/account-a",
        "/apis/apps/v1/deployments",
    ):
        assert (await own.get(path)).status == 403, path
    assert (await own.get(f"{NS}/configmaps/volume")).status == 200


async def test_the_name_in_a_path_holds_whatever_else_is_selected(api: Any, pod: Make) -> None:
    """A right to watch one object is none to the others that a field selector beside it picks."""
    await api.post(PODS, using(pod, "p", "a"))
    path = "/api/v1/watch/namespaces/default/secrets/volume"
    for selector in ("type%3DOpaque", "metadata.namespace%3Ddefault", "metadata.name%3Dother"):
        async with node(api).watch(f"{path}?fieldSelector={selector}") as watch:
            assert watch.status == 200
            if selector != "metadata.name%3Dother":
                assert (await watch.next())["object"]["metadata"]["name"] == "volume"
            assert await watch.quiet()


async def test_a_node_writes_no_secrets(api: Any, pod: Make) -> None:
    """Not even those it may read."""
    await api.post(PODS, using(pod, "p", "a"))
    own = node(api)
    assert (await own.delete(f"{NS}/secrets/volume")).status == 403
    assert (await own.patch(f"{NS}/secrets/volume", {"data": {}})).status == 403
    assert (await own.post(f"{NS}/secrets", {"metadata": {"name": "new"}})).status == 403
    assert (await own.delete(f"{NS}/secrets?fieldSelector=metadata.name%3Dvolume")).status == 403


async def test_a_node_sees_its_own_pods_and_node(api: Any, pod: Make) -> None:
    """Lists and watches must say that they ask for no others."""
    await api.post(PODS, using(pod, "p", "a"))
    own, other = node(api), node(api, "b")
    assert (await own.get("/api/v1/pods?fieldSelector=spec.nodeName%3Da")).status == 200
    assert (await own.get(f"{PODS}/p")).status == 200
    assert (await other.get(f"{PODS}/p")).status == 403
    assert (await other.get("/api/v1/pods?fieldSelector=spec.nodeName%3Da")).status == 403
    assert (await other.get("/api/v1/pods")).status == 403
    assert (await own.get(f"{PODS}/p/log")).status == 403
    assert (await own.get("/api/v1/nodes/a")).status == 200
    assert (await own.get("/api/v1/nodes/b")).status == 403
    assert (await own.get("/api/v1/nodes")).status == 403
    assert (await own.get("/api/v1/nodes?fieldSelector=metadata.name%3Da")).status == 200
    for path in ("/api/v1/services", "/api/v1/namespaces", "/apis/discovery.k8s.io/v1/endpointslices"):
        assert (await own.get(path)).status == 200, path


async def test_a_node_ends_and_describes_its_own_pods(api: Any, pod: Make) -> None:
    """It makes none, changes no spec and no label, and leaves those of others alone."""
    await api.post(PODS, using(pod, "p", "a"))
    own, other = node(api), node(api, "b")
    assert (await own.patch(f"{PODS}/p/status", {"status": {"phase": "Running"}})).status == 200
    assert (await other.patch(f"{PODS}/p/status", {"status": {"phase": "Failed"}})).status == 403
    assert (await own.patch(f"{PODS}/p", {"metadata": {"labels": {"a": "b"}}})).status == 403
    assert (await own.post(PODS, using(pod, "q", "a"))).status == 403
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "b"}}
    assert (await own.post(f"{PODS}/p/binding", binding)).status == 403
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    assert (await other.post(f"{PODS}/p/eviction", eviction)).status == 403
    refused = await other.delete(f"{PODS}/p")
    assert refused.status == 403
    assert 'node "b" can only delete pods with spec.nodeName set to itself' in refused.json["message"]
    assert (await own.delete(f"{PODS}/p?gracePeriodSeconds=0")).status == 200


async def test_a_node_keeps_its_own_node(api: Any) -> None:
    """Its status and ordinary labels; not its taints, the labels others trust, its end, or another node."""
    own = node(api)

    async def patched(document: Any, name: str = "a", part: str = "") -> int:
        return int((await own.patch(f"/api/v1/nodes/{name}{part}", document)).status)

    def labelled(label: str) -> Any:
        return {"metadata": {"labels": {label: "x"}}}

    assert await patched({"status": {"nodeInfo": {"machineID": "m"}}}, part="/status") == 200
    assert await patched({"status": {"nodeInfo": {"machineID": "m"}}}, "b", "/status") == 403
    for label in ("kubernetes.io/hostname", "example.com/any", "node.kubernetes.io/x", "plain"):
        assert await patched(labelled(label)) == 200, label
    for label in ("node-restriction.kubernetes.io/pci", "x.kubernetes.io/y", "k8s.io/z"):
        assert await patched(labelled(label)) == 403, label
    assert await patched(labelled("plain"), "b") == 403
    assert await patched({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}) == 403
    assert (await own.delete("/api/v1/nodes/a")).status == 403
    assert (await own.post("/api/v1/nodes", {"metadata": {"name": "c"}})).status == 403
    fresh = node(api, "new")
    assert (await fresh.post("/api/v1/nodes", {"metadata": {"name": "new"}})).status == 201


async def test_a_node_keeps_its_own_lease(api: Any) -> None:
    """In one namespace, under its own name."""
    own = node(api)
    lease = {"metadata": {"name": "a"}, "spec": {"holderIdentity": "a"}}
    assert (await own.post(LEASES, lease)).status == 201
    assert (await own.patch(f"{LEASES}/a", {"spec": {"holderIdentity": "a"}})).status == 200
    assert (await own.post(LEASES, {"metadata": {"name": "b"}})).status == 403
    assert (await node(api, "b").patch(f"{LEASES}/a", {"spec": {"holderIdentity": "b"}})).status == 403
    elsewhere = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    assert (await own.post(elsewhere, lease)).status == 403
    assert (await own.get(LEASES)).status == 403


async def test_a_node_asks_for_tokens_of_its_pods_only(api: Any, pod: Make) -> None:
    """Bound to a pod of its own by uid, for an audience that the pod mounts."""
    created = (await api.post(PODS, using(pod, "p", "a"))).json
    uid = created["metadata"]["uid"]
    bound = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}

    async def request_token(
        reference: Any, audiences: list[str], *, by: str = "a", account: str = "account-a"
    ) -> tuple[int, str]:
        spec = {"audiences": audiences, **({"boundObjectRef": reference} if reference else {})}
        path = f"{NS}/serviceaccounts/{account}/token"
        answer = await node(api, by).post(path, {"spec": spec})
        return answer.status, answer.json.get("message", "")

    assert (await request_token(bound, ["vault"]))[0] == 201
    assert (await request_token(bound, []))[0] == 201
    for reference, audiences, why in (
        (None, ["vault"], "not bound to a pod"),
        ({**bound, "uid": ""}, ["vault"], "without a uid"),
        ({**bound, "uid": "other"}, ["vault"], "does not match the UID in record"),
        ({**bound, "name": "none"}, ["vault"], '"none" not found'),
        ({"apiVersion": "v1", "kind": "Secret", "name": "volume"}, ["vault"], "not bound to a pod"),
        (bound, ["elsewhere"], 'audience "elsewhere" not found in pod spec volume'),
    ):
        status, message = await request_token(reference, audiences)
        assert status == 403, why
        assert why in message
    assert (await request_token(bound, ["vault"], by="b"))[0] == 403
    assert (await request_token(bound, ["vault"], account="account-b"))[0] == 403
    assert (await request_token(bound, ["vault"], account="default"))[0] == 403


async def test_only_both_name_and_group_make_a_node(api: Any, pod: Make) -> None:
    """Neither a user of that name nor a member of the group is one."""
    await api.post(PODS, using(pod, "p", "a"))
    assert (await api.as_("system:node:a").get(f"{NS}/secrets/volume")).status == 403
    assert (await api.as_("a", "system:nodes").get(f"{NS}/secrets/volume")).status == 403
    assert (await api.as_("system:node:", "system:nodes").get(f"{NS}/secrets/volume")).status == 403


async def test_reviews_know_what_nodes_may(api: Any, pod: Make) -> None:
    """`kubectl auth can-i --as` answers as the server would decide."""
    await api.post(PODS, using(pod, "p", "a"))
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": "system:node:a",
            "groups": ["system:nodes"],
            "resourceAttributes": {
                "verb": "get",
                "resource": "secrets",
                "namespace": "default",
                "name": "volume",
            },
        },
    }
    answer = await api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    assert answer.json["status"]["allowed"] is True


async def test_the_role_of_earlier_versions_is_taken_away(start: Callable[..., Any]) -> None:
    """It let the node read every Secret; one that an administrator took over stays."""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"}
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    auto = {"rbac.authorization.kubernetes.io/autoupdate": "true"}
    log = store.open_memory()
    name = "system:ondol:node"
    for noted, status in ((auto, 404), ({}, 200)):
        async with start(log) as api:
            earlier = {**role, "metadata": {"name": name, "annotations": noted}, "rules": []}
            assert (await api.post(path, earlier)).status == 201
        async with start(log) as api:
            assert (await api.get(f"{path}/{name}")).status == status
    log.close()


async def test_a_node_reads_the_claims_of_its_pods_and_their_volumes(api: Any, pod: Make) -> None:
    """By name, from the moment that the pod is bound to it; it changes none of them and lists no others."""
    sized = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}}
    for name in ("mine", "p-own", "free"):
        await api.post(f"{NS}/persistentvolumeclaims", {"metadata": {"name": name}, "spec": sized})
        spec: dict[str, Any] = {"capacity": {"storage": "1"}, "accessModes": ["ReadWriteOnce"]}
        spec |= {"hostPath": {"path": "/x"}, "claimRef": {"namespace": "default", "name": name}}
        await api.post("/api/v1/persistentvolumes", {"metadata": {"name": name}, "spec": spec})
    template = {"volumeClaimTemplate": {"spec": sized}}
    volumes = [
        {"name": "v", "persistentVolumeClaim": {"claimName": "mine"}},
        {"name": "own", "ephemeral": template},
    ]
    document = pod("p")
    document["spec"] |= {"volumes": volumes, "nodeName": "a"}
    assert (await api.post(PODS, document)).status == 201
    for place in (f"{NS}/persistentvolumeclaims", "/api/v1/persistentvolumes"):
        for name, status in (("mine", 200), ("p-own", 200), ("free", 403), ("none", 403)):
            assert (await node(api).get(f"{place}/{name}")).status == status
            one = f"{place}?fieldSelector=metadata.name%3D{name}"
            assert (await node(api).get(one)).status == status
            assert (await node(api, "b").get(f"{place}/{name}")).status == 403
        assert (await node(api).get(place)).status == 403
        assert (await node(api).patch(f"{place}/mine", {"metadata": {"labels": {"a": "b"}}})).status == 403
        assert (await node(api).delete(f"{place}/mine")).status == 403
