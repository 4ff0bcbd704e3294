"""Admission webhooks through the API: who is asked, what they may change, and what their failures come to."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
import pytest

from ondol.api.objects import Object
from ondol.apiserver.ports import HttpsTarget

pytestmark = pytest.mark.anyio

CONFIGURATIONS: Final = "/apis/admissionregistration.k8s.io/v1"
CONFIG_MAPS: Final = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS: Final = "/apis/apps/v1/namespaces/default/deployments"
SERVICES: Final = "/api/v1/namespaces/default/services"
Answer = Callable[[Object], Any]
Make = Callable[..., Any]


class Servers:
    """Implements the `Poster` port: a server for each URL, with what it was sent."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = dict(answers)
        self.seen: list[tuple[str, Object]] = []
        self.targets: list[HttpsTarget] = []

    async def post(self, target: HttpsTarget, body: bytes) -> tuple[int, bytes]:
        name = target.url.partition("?")[0].rpartition("/")[2]
        review = json.loads(body)
        self.seen.append((name, review["request"]))
        self.targets.append(target)
        answer = self.answers[name](review["request"])
        if isinstance(answer, Awaitable):
            answer = await answer
        if isinstance(answer, bytes):
            return 200, answer
        if isinstance(answer, int):
            return answer, b"no such thing"
        response = {"uid": review["request"]["uid"], **answer}
        return 200, json.dumps({**review, "request": None, "response": response}).encode()

    def called(self) -> list[str]:
        return [name for name, _ in self.seen]


@pytest.fixture(name="deployment")
def deployment_fixture() -> Make:
    """Makes Deployments of one replica."""

    def deployment(name: str) -> Object:
        labels = {"app": name}
        containers = [{"name": "c", "image": "example.org/app:1"}]
        template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
        return {
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        }

    return deployment


def allow(request: Object) -> Object:
    del request
    return {"allowed": True}


def patching(*operations: Object) -> Answer:
    patch = base64.b64encode(json.dumps(operations).encode()).decode()
    return lambda _: {"allowed": True, "patchType": "JSONPatch", "patch": patch}


def hook(name: str, *resources: str, **fields: Any) -> Object:
    """A webhook for writes of these resources, of every group and version."""
    rule = {
        "operations": ["*"],
        "apiGroups": ["*"],
        "apiVersions": ["*"],
        "resources": list(resources or ("configmaps",)),
    }
    return {
        "name": f"{name}.example.org",
        "clientConfig": {"url": f"https://hooks.example.org/{name}"},
        "rules": [rule],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **fields,
    }


async def configure(api: Any, kind: str, *hooks: Object, name: str = "c") -> None:
    document = {"metadata": {"name": name}, "webhooks": list(hooks)}
    answer = await api.post(f"{CONFIGURATIONS}/{kind}webhookconfigurations", document)
    assert answer.status == 201, answer.json


async def test_what_a_webhook_is_shown(start: Any, config_map: Make) -> None:
    """The write with its user, its options and both states, in the form of Kubernetes."""
    servers = Servers(a=allow)
    async with start(poster=servers) as api:
        await configure(api, "validating", hook("a"))
        await api.post(f"{CONFIG_MAPS}?fieldManager=me", config_map("m", {"k": "1"}))
        await api.patch(f"{CONFIG_MAPS}/m", {"data": {"k": "2"}})
        await api.delete(f"{CONFIG_MAPS}/m")
    (_, created), (_, updated), (_, deleted) = servers.seen
    assert created["kind"] == created["requestKind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert created["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (created["operation"], created["name"], created["namespace"]) == ("CREATE", "m", "default")
    assert created["userInfo"] == {"username": "admin", "groups": ["system:masters", "system:authenticated"]}
    assert created["options"] == {
        "kind": "CreateOptions",
        "apiVersion": "meta.k8s.io/v1",
        "fieldManager": "me",
    }
    assert (created["object"]["data"], created["oldObject"], created["dryRun"]) == ({"k": "1"}, None, False)
    assert (updated["operation"], updated["oldObject"]["data"]) == ("UPDATE", {"k": "1"})
    assert (deleted["operation"], deleted["object"], deleted["oldObject"]["data"]) == (
        "DELETE",
        None,
        {"k": "2"},
    )
    assert deleted["options"]["kind"] == "DeleteOptions"


async def test_what_a_webhook_adds_is_defaulted_and_checked(start: Any, pod: Make) -> None:
    """A container that it injects is as whole as one that the client sends, and has the pod's token."""
    sidecar = {"name": "side", "image": "example.org/side:1"}
    servers = Servers(a=patching({"op": "add", "path": "/spec/containers/-", "value": sidecar}))
    async with start(poster=servers) as api:
        await configure(api, "mutating", hook("a", "pods"))
        answer = await api.post("/api/v1/namespaces/default/pods", pod("p"))
        assert answer.status == 201, answer.json
        injected = answer.json["spec"]["containers"][1]
        assert (injected["imagePullPolicy"], injected["terminationMessagePath"]) == (
            "IfNotPresent",
            "/dev/termination-log",
        )
        assert injected.get("volumeMounts") == answer.json["spec"]["containers"][0].get("volumeMounts")
        servers.answers["a"] = patching({"op": "add", "path": "/spec/containers/-", "value": {"name": "x"}})
        assert (await api.post("/api/v1/namespaces/default/pods", pod("q"))).status == 422


async def test_what_a_webhook_changes_counts_as_a_generation(start: Any, deployment: Make) -> None:
    """Controllers hear of it; a status or an identity that it writes is nothing."""
    changes: list[Object] = [
        {"op": "replace", "path": "/spec/replicas", "value": 7},
        {"op": "add", "path": "/status", "value": {"readyReplicas": 99}},
        {"op": "replace", "path": "/metadata/uid", "value": "mine"},
    ]
    servers = Servers(a=allow)
    async with start(poster=servers) as api:
        await configure(api, "mutating", hook("a", "deployments"))
        stored = (await api.post(DEPLOYMENTS, deployment("d"))).json
        servers.answers["a"] = patching(*changes)
        changed = (await api.patch(f"{DEPLOYMENTS}/d", {"metadata": {"labels": {"a": "b"}}})).json
    assert (changed["spec"]["replicas"], changed["metadata"]["generation"]) == (7, 2)
    assert changed["metadata"]["uid"] == stored["metadata"]["uid"]
    assert "readyReplicas" not in changed["status"]


async def test_a_webhook_for_a_part_changes_that_part(start: Any, deployment: Make) -> None:
    """For a status it changes the status; the scale it sees as a Scale."""
    servers = Servers(
        status=patching({"op": "add", "path": "/spec/replicas", "value": 42}),
        scale=patching({"op": "replace", "path": "/spec/replicas", "value": 4}),
    )
    async with start(poster=servers) as api:
        await api.post(DEPLOYMENTS, deployment("d"))
        await configure(
            api, "mutating", hook("status", "deployments/status"), hook("scale", "deployments/scale")
        )
        await api.patch(f"{DEPLOYMENTS}/d/status", {"status": {"replicas": 1}})
        assert (await api.get(f"{DEPLOYMENTS}/d")).json["spec"]["replicas"] == 1
        scaled = await api.patch(f"{DEPLOYMENTS}/d/scale", {"spec": {"replicas": 3}})
        assert (scaled.status, scaled.json["spec"]["replicas"]) == (200, 4)
        assert (await api.get(f"{DEPLOYMENTS}/d")).json["spec"]["replicas"] == 4
    shown = dict(servers.seen)["scale"]
    assert shown["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert (shown["subResource"], shown["object"]["spec"]) == ("scale", {"replicas": 3})


async def test_addresses_are_given_out_behind_webhooks(start: Any) -> None:
    """One that makes a Service of another type has its ports allocated."""
    servers = Servers(a=patching({"op": "replace", "path": "/spec/type", "value": "NodePort"}))
    async with start(poster=servers) as api:
        await configure(api, "mutating", hook("a", "services"))
        service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
        stored = (await api.post(SERVICES, service)).json
    assert stored["spec"]["type"] == "NodePort"
    assert stored["spec"]["ports"][0]["nodePort"]


async def test_webhooks_are_called_in_order_and_again_where_they_ask_for_it(
    start: Any, config_map: Make
) -> None:
    """Of configurations by name; the first, which asks for it, sees what the second has changed."""
    servers = Servers(
        first=patching({"op": "add", "path": "/data/first", "value": "1"}),
        second=patching({"op": "add", "path": "/data/second", "value": "2"}),
        third=allow,
    )
    async with start(poster=servers) as api:
        await configure(
            api, "mutating", hook("second"), hook("third", reinvocationPolicy="IfNeeded"), name="b"
        )
        await configure(api, "mutating", hook("first", reinvocationPolicy="IfNeeded"), name="a")
        stored = (await api.post(CONFIG_MAPS, config_map("m", {"k": "1"}))).json
    assert stored["data"] == {"k": "1", "first": "1", "second": "2"}
    assert servers.called() == ["first", "second", "third", "first"]
    assert servers.seen[3][1]["object"]["data"] == stored["data"]


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        ({"allowed": False}, 400, 'admission webhook "a.example.org" denied the request without explanation'),
        (
            {"allowed": False, "status": {"code": 403, "message": "not today"}},
            403,
            'admission webhook "a.example.org" denied the request: not today',
        ),
        (
            {"allowed": False, "status": {"code": 200, "reason": "Invalid"}},
            422,
            "denied the request: Invalid",
        ),
    ],
)
async def test_a_refusal_is_told_in_kubernetes_words(
    start: Any, config_map: Make, answer: Object, status: int, message: str
) -> None:
    """With the webhook's own code, if that is one of an error."""
    servers = Servers(a=lambda _: answer)
    async with start(poster=servers) as api:
        await configure(api, "validating", hook("a"))
        refused = await api.post(CONFIG_MAPS, config_map("m"))
        assert (refused.status, message in refused.json["message"]) == (status, True), refused.json
        assert (await api.get(f"{CONFIG_MAPS}/m")).status == 404


def _unreachable(_: Object) -> Any:
    raise ConnectionRefusedError(111, "Connection refused")


def _patching(patch: bytes, *, allowed: bool = True) -> Answer:
    text = base64.b64encode(patch).decode()
    return lambda _: {"allowed": allowed, "patchType": "JSONPatch", "patch": text}


_BAD_ANSWERS: Final[list[tuple[Answer, str]]] = [
    (_unreachable, "failed to call webhook: Post"),
    (lambda _: 503, "the server answered 503"),
    (lambda _: b"<html>", "received invalid webhook response: could not decode"),
    (lambda _: b"{}", "webhook response was absent"),
    (lambda _: {"uid": "another", "allowed": True}, "expected response.uid="),
    (lambda _: {"allowed": True, "patch": "W10="}, "response.patch but not response.patchType"),
    (lambda _: {"allowed": True, "patchType": "JSONPatch"}, "response.patchType but not response.patch"),
    (lambda _: {"allowed": True, "patchType": "Merge", "patch": "W10="}, "invalid response.patchType"),
    (lambda _: b'{"response":{"status":' + b'{"a":' * 9999 + b"1" + b"}" * 10001, "could not decode"),
    (lambda _: {"allowed": False, "status": {"details": [1]}}, "could not decode the response"),
    *(
        (_patching(patch), "received undecodable patch in webhook response")
        for patch in (b'"no list"', b"{}", b"[5]", b"[", b"\xff", b"[" * 9999)
    ),
    (lambda _: {"allowed": True, "patchType": "JSONPatch", "patch": "!"}, "received undecodable patch"),
    (lambda _: {"allowed": False, "status": {"message": 5, "reason": 7}}, "could not decode the response"),
]


@pytest.mark.parametrize(("answer", "message"), _BAD_ANSWERS)
async def test_a_failing_webhook_refuses_or_is_passed_over(
    start: Any, config_map: Make, answer: Answer, message: str
) -> None:
    """By its failure policy."""
    servers = Servers(a=answer)
    async with start(poster=servers) as api:
        await configure(api, "mutating", hook("a"))
        refused = await api.post(CONFIG_MAPS, config_map("m"))
        assert refused.status == 500
        assert 'failed calling webhook "a.example.org"' in refused.json["message"]
        assert message in refused.json["message"]
        path = f"{CONFIGURATIONS}/mutatingwebhookconfigurations/c"
        await api.patch(path, {"webhooks": [hook("a", failurePolicy="Ignore")]})
        assert (await api.post(CONFIG_MAPS, config_map("m"))).status == 201


@pytest.mark.parametrize(
    "patch",
    [
        [{"op": "remove", "path": "/data/missing/x"}],
        [{"op": "replace", "path": "", "value": [1]}],
        [{"op": "add", "path": "/data", "value": 5}],
        [{"op": "add", "path": "/data" + "/a" * n, "value": {"a": {}}} for n in range(1200)],
        [None],
    ],
)
async def test_a_patch_that_does_not_fit_is_the_webhooks_fault(
    start: Any, config_map: Make, patch: Any
) -> None:
    """The client is told of an internal error, and nothing is stored."""
    text = base64.b64encode(json.dumps(patch).encode()).decode()
    servers = Servers(a=lambda _: {"allowed": True, "patchType": "JSONPatch", "patch": text})
    async with start(poster=servers) as api:
        await configure(api, "mutating", hook("a"))
        assert (await api.post(CONFIG_MAPS, config_map("m"))).status == 500
        assert (await api.get(f"{CONFIG_MAPS}/m")).status == 404


@pytest.mark.parametrize("patch", [b"null", b"[]", b" null "])
async def test_an_empty_patch_changes_nothing(start: Any, config_map: Make, patch: bytes) -> None:
    """Also as `null`, which is Go's word for an empty list."""
    async with start(poster=Servers(a=_patching(patch))) as api:
        await configure(api, "mutating", hook("a"))
        assert (await api.post(CONFIG_MAPS, config_map("m"))).status == 201
        assert (await api.delete(f"{CONFIG_MAPS}/m")).status == 200


async def test_a_deletion_cannot_be_patched(start: Any, config_map: Make) -> None:
    """There is no object to change: the webhook is told of, and nothing is deleted."""
    async with start(poster=Servers(a=_patching(b'[{"op": "add", "path": "/a", "value": 1}]'))) as api:
        assert (await api.post(CONFIG_MAPS, config_map("m"))).status == 201
        await configure(api, "mutating", hook("a"))
        refused = await api.delete(f"{CONFIG_MAPS}/m")
        assert refused.status == 500
        assert "attempted to modify the object" in refused.json["message"]
        assert (await api.get(f"{CONFIG_MAPS}/m")).status == 200


async def test_what_a_refusal_would_have_changed_is_not_looked_at(start: Any, config_map: Make) -> None:
    """The refusal is told, not that its patch is none."""
    async with start(poster=Servers(a=_patching(b"{}", allowed=False))) as api:
        await configure(api, "mutating", hook("a"))
        refused = await api.post(CONFIG_MAPS, config_map("m"))
        assert "denied the request" in refused.json["message"]


async def test_a_webhook_that_hangs_is_given_up(start: Any, config_map: Make) -> None:
    """After its own time limit, and other writes do not wait for it."""
    servers = Servers(a=lambda _: anyio.sleep_forever())
    selector = {"matchLabels": {"hangs": "true"}}
    async with start(poster=servers) as api:
        await configure(api, "validating", hook("a", timeoutSeconds=5, objectSelector=selector))
        hanging = config_map("m", labels={"hangs": "true"})

        async def write() -> Any:
            answer = await api.post(CONFIG_MAPS, hanging)
            assert (await api.post(CONFIG_MAPS, config_map("other"))).status == 201
            return answer

        answer = await api.overdue(write(), seconds=5)
    assert answer.status == 500
    assert "context deadline exceeded" in answer.json["message"]


@pytest.mark.parametrize(
    ("fields", "called"),
    [
        ({"namespaceSelector": {"matchLabels": {"team": "a"}}}, []),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}, ["a"]),
        ({"objectSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}, []),
        ({"matchConditions": [{"name": "c", "expression": "object.metadata.name == 'm'"}]}, ["a"]),
        ({"matchConditions": [{"name": "c", "expression": "request.operation == 'DELETE'"}]}, []),
        ({"matchConditions": [{"name": "c", "expression": "request.userInfo.username != 'admin'"}]}, []),
    ],
)
async def test_who_is_asked(start: Any, config_map: Make, fields: Object, called: list[str]) -> None:
    """By labels of the namespace and of the object, and by expressions."""
    servers = Servers(a=allow)
    async with start(poster=servers) as api:
        await configure(api, "validating", hook("a", **fields))
        assert (await api.post(CONFIG_MAPS, config_map("m"))).status == 201
    assert servers.called() == called


@pytest.mark.parametrize(
    ("rule", "called"),
    [
        ({"operations": ["UPDATE"]}, []),
        ({"apiGroups": ["apps"]}, []),
        ({"resources": ["*/*"]}, ["a"]),
        ({"resources": ["*"]}, ["a"]),
        ({"resources": ["configmaps/status"]}, []),
        ({"scope": "Cluster"}, []),
        ({"scope": "Namespaced"}, ["a"]),
    ],
)
async def test_rules_name_what_they_are_about(
    start: Any, config_map: Make, rule: Object, called: list[str]
) -> None:
    """Operations, groups, versions, resources with their parts, and the scope."""
    servers = Servers(a=allow)
    document = hook("a")
    document["rules"] = [{**document["rules"][0], **rule}]
    async with start(poster=servers) as api:
        await configure(api, "validating", document)
        await api.post(CONFIG_MAPS, config_map("m"))
    assert servers.called() == called


async def test_a_condition_that_fails_leaves_it_to_the_failure_policy(start: Any, config_map: Make) -> None:
    """Refused, or the webhook is not asked."""
    conditions = [{"name": "c", "expression": "object.data.missing == 'x'"}]
    servers = Servers(a=allow)
    async with start(poster=servers) as api:
        await configure(api, "validating", hook("a", matchConditions=conditions))
        refused = await api.post(CONFIG_MAPS, config_map("m", {"k": "1"}))
        assert (refused.status, "no such key: missing" in refused.json["message"]) == (403, True), (
            refused.json
        )
        path = f"{CONFIGURATIONS}/validatingwebhookconfigurations/c"
        ignored = hook("a", matchConditions=conditions, failurePolicy="Ignore")
        await api.patch(path, {"webhooks": [ignored]})
        assert (await api.post(CONFIG_MAPS, config_map("m"))).status == 201
    assert servers.called() == []


async def test_other_versions_of_a_kind_are_shown_as_the_rule_names_them(start: Any) -> None:
    """An autoscaler that is written in the second version is shown in the first to who asks for that."""
    servers = Servers(a=patching({"op": "replace", "path": "/spec/maxReplicas", "value": 9}), b=allow)
    rule = {"operations": ["*"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"], "resources": ["*"]}
    scaler = {
        "metadata": {"name": "h"},
        "spec": {
            "maxReplicas": 3,
            "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
        },
    }
    async with start(poster=servers) as api:
        await configure(
            api,
            "mutating",
            {**hook("a"), "rules": [rule]},
            {**hook("b"), "rules": [rule], "matchPolicy": "Exact"},
        )
        path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
        stored = await api.post(path, scaler)
        assert stored.status == 201, stored.json
    ((_, seen),) = servers.seen
    assert (seen["kind"]["version"], seen["requestKind"]["version"]) == ("v1", "v2")
    assert seen["object"]["apiVersion"] == "autoscaling/v1"
    assert (stored.json["apiVersion"], stored.json["spec"]["maxReplicas"]) == ("autoscaling/v2", 9)


async def test_a_dry_run_calls_only_webhooks_without_effects(start: Any, config_map: Make) -> None:
    """They are told; one that may have effects refuses it."""
    servers = Servers(a=allow)
    async with start(poster=servers) as api:
        await configure(api, "validating", hook("a"))
        assert (await api.post(f"{CONFIG_MAPS}?dryRun=All", config_map("m"))).status == 201
        assert servers.seen[0][1]["dryRun"] is True
        # An older version of the API took such webhooks, and the store may still have them.
        [configuration] = (await api.get(f"{CONFIGURATIONS}/validatingwebhookconfigurations")).json["items"]
        configuration["webhooks"][0]["sideEffects"] = "Some"
        path = f"{CONFIGURATIONS}/validatingwebhookconfigurations/c"
        if (await api.put(path, configuration)).status == 200:
            refused = await api.post(f"{CONFIG_MAPS}?dryRun=All", config_map("m"))
            assert (refused.status, "does not support dry run" in refused.json["message"]) == (400, True)


async def test_warnings_of_webhooks_reach_the_client(start: Any, config_map: Make) -> None:
    """As they are."""
    servers = Servers(a=lambda _: {"allowed": True, "warnings": ["this is old"]})
    async with start(poster=servers) as api:
        await configure(api, "validating", hook("a"))
        answer = await api.post(CONFIG_MAPS, config_map("m"))
    assert any("this is old" in warning for warning in answer.warnings)


async def test_configurations_are_not_asked_about(start: Any, config_map: Make) -> None:
    """What refuses everything can be taken away."""
    servers = Servers(a=lambda _: {"allowed": False})
    async with start(poster=servers) as api:
        await configure(api, "validating", hook("a", "*/*"))
        assert (await api.post(CONFIG_MAPS, config_map("m"))).status == 400
        path = f"{CONFIGURATIONS}/validatingwebhookconfigurations/c"
        assert (await api.delete(path)).status == 200
        assert (await api.post(CONFIG_MAPS, config_map("m"))).status == 201


async def test_a_service_is_reached_by_its_ready_endpoints(start: Any, config_map: Make) -> None:
    """By the name in its certificate, at the port that its own name leads to."""
    servers = Servers(admit=allow)
    client = {"service": {"namespace": "default", "name": "hooks", "path": "/admit"}, "caBundle": "Y2E="}
    async with start(poster=servers) as api:
        await configure(api, "validating", {**hook("a"), "clientConfig": client})
        missing = await api.post(CONFIG_MAPS, config_map("m"))
        assert 'service "hooks" not found' in missing.json["message"]
        ports = [{"name": "https", "port": 443, "targetPort": 8443}]
        await api.post(SERVICES, {"metadata": {"name": "hooks"}, "spec": {"ports": ports}})
        empty = await api.post(CONFIG_MAPS, config_map("m"))
        assert 'no endpoints available for service "hooks"' in empty.json["message"]
        endpoints = [
            {"addresses": ["10.1.0.5"], "conditions": {"ready": False}},
            {"addresses": ["10.1.0.6"], "conditions": {"ready": True}},
        ]
        document = {
            "metadata": {"name": "hooks-1", "labels": {"kubernetes.io/service-name": "hooks"}},
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{"name": "https", "port": 8443}],
        }
        path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
        assert (await api.post(path, document)).status == 201
        servers.targets.clear()
        assert (await api.post(CONFIG_MAPS, config_map("m"))).status == 201
    (target,) = servers.targets
    assert target.address == ("10.1.0.6", 8443)
    assert (target.server_name, target.authority) == ("hooks.default.svc", b"ca")
    assert target.url == "https://hooks.default.svc:443/admit?timeout=10s"


async def test_an_evicted_pod_is_asked_about_as_an_eviction(start: Any, pod: Make) -> None:
    """Guards of drains see the eviction, and not the delete it leads to."""
    servers = Servers(a=allow)
    async with start(poster=servers) as api:
        await api.post("/api/v1/namespaces/default/pods", pod("p"))
        await configure(api, "validating", hook("a", "pods", "pods/*"))
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
        assert (await api.post("/api/v1/namespaces/default/pods/p/eviction", eviction)).status == 201
    assert [(seen["operation"], seen["subResource"]) for _, seen in servers.seen] == [("CREATE", "eviction")]


async def test_calls_are_counted(start: Any, config_map: Make) -> None:
    """Under the names of Kubernetes' API server."""
    servers = Servers(a=lambda _: {"allowed": False})
    async with start(poster=servers) as api:
        await configure(api, "validating", hook("a"))
        await api.post(CONFIG_MAPS, config_map("m"))
        page = (await api.get("/metrics")).body.decode()
    labels = 'error_type="no_error",name="a.example.org",operation="CREATE",type="validating"'
    line = next(
        line for line in page.splitlines() if line.startswith("apiserver_admission_webhook_rejection_count")
    )
    assert line.endswith(" 1.0"), line
    assert set(labels.split(",")) == set(line[line.index("{") + 1 : line.index("}")].split(","))
