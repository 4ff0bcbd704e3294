"""ResourceQuota: what it counts, whom it refuses, and that nobody overshoots it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest

pytestmark = pytest.mark.anyio

PODS: Final = "/api/v1/namespaces/default/pods"
SERVICES: Final = "/api/v1/namespaces/default/services"
CLAIMS: Final = "/api/v1/namespaces/default/persistentvolumeclaims"
CONFIG_MAPS: Final = "/api/v1/namespaces/default/configmaps"
QUOTAS: Final = "/api/v1/namespaces/default/resourcequotas"
DEPLOYMENTS: Final = "/apis/apps/v1/namespaces/default/deployments"

Make = Callable[..., Any]


async def _limit(api: Any, name: str = "q", **spec: Any) -> None:
    stored = await api.post(QUOTAS, {"metadata": {"name": name}, "spec": spec})
    assert stored.status == 201, stored.json


def _sized(pod: Make, name: str, requests: dict[str, str], **limits: str) -> Any:
    document = pod(name)
    document["spec"]["containers"][0]["resources"] = {"requests": requests, "limits": limits}
    return document


async def test_a_namespace_has_no_more_pods_than_its_quota(api: Any, pod: Make) -> None:
    """Refused in Kubernetes' words; a pod that went, or is over, makes room."""
    await _limit(api, hard={"pods": "1"})
    assert (await api.post(PODS, pod("a"))).status == 201
    refused = await api.post(PODS, pod("b"))
    assert (refused.status, refused.json["reason"]) == (403, "Forbidden")
    assert refused.json["message"] == (
        'pods "b" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'
    )
    await api.patch(f"{PODS}/a/status", {"status": {"phase": "Succeeded"}})
    assert (await api.post(PODS, pod("b"))).status == 201
    await api.delete(f"{PODS}/b")
    assert (await api.post(PODS, pod("c"))).status == 201


async def test_compute_is_summed(api: Any, pod: Make) -> None:
    """Over containers and pods, in the spelling of quotas, every name that is exceeded listed."""
    await _limit(api, hard={"requests.cpu": "1", "limits.memory": "1Gi"})
    assert (await api.post(PODS, _sized(pod, "a", {"cpu": "600m"}, memory="512Mi"))).status == 201
    refused = await api.post(PODS, _sized(pod, "b", {"cpu": "500m"}, memory="768Mi"))
    assert refused.json["message"].endswith(
        "exceeded quota: q, requested: limits.memory=768Mi,requests.cpu=500m, used: limits.memory=512Mi,"
        "requests.cpu=600m, limited: limits.memory=1Gi,requests.cpu=1"
    )
    assert (await api.post(PODS, _sized(pod, "b", {"cpu": "400m"}, memory="512Mi"))).status == 201


async def test_containers_must_say_what_is_counted(api: Any, pod: Make) -> None:
    """Otherwise they would use what nobody counts."""
    await _limit(api, hard={"limits.cpu": "1", "requests.memory": "1Gi"})
    refused = await api.post(PODS, pod("a"))
    assert refused.json["message"] == (
        'pods "a" is forbidden: failed quota: q: must specify limits.cpu for: main; requests.memory for: main'
    )
    assert (await api.post(PODS, _sized(pod, "a", {}, cpu="1", memory="1Gi"))).status == 201


@pytest.mark.parametrize(
    ("scope", "inside", "outside"),
    [
        ("BestEffort", {}, {"resources": {"requests": {"cpu": "1m"}}}),
        ("NotBestEffort", {"resources": {"requests": {"cpu": "1m"}}}, {}),
        ("Terminating", {"activeDeadlineSeconds": 5}, {}),
        ("NotTerminating", {}, {"activeDeadlineSeconds": 5}),
    ],
)
async def test_a_scope_takes_some_pods_in(
    api: Any, pod: Make, scope: str, inside: dict[str, Any], outside: dict[str, Any]
) -> None:
    """The others are not counted and not refused."""

    def pod_of(name: str, spec: dict[str, Any]) -> Any:
        document = pod(name, **{k: v for k, v in spec.items() if k != "resources"})
        document["spec"]["containers"][0]["resources"] = spec.get("resources", {})
        return document

    await _limit(api, hard={"pods": "1"}, scopes=[scope])
    assert [(await api.post(PODS, pod_of(f"o{n}", outside))).status for n in range(2)] == [201, 201]
    assert [(await api.post(PODS, pod_of(f"i{n}", inside))).status for n in range(2)] == [201, 403]


async def test_a_scope_selector_looks_at_the_priority_class(api: Any, pod: Make) -> None:
    """By the class's name, or by there being one."""
    requirement = {"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}
    await _limit(api, hard={"pods": "0"}, scopeSelector={"matchExpressions": [requirement]})
    assert (await api.post(PODS, pod("a"))).status == 201
    assert (await api.post(PODS, pod("b", priorityClassName="system-cluster-critical"))).status == 201
    assert (await api.post(PODS, pod("c", priorityClassName="system-node-critical"))).status == 403


async def test_objects_of_any_kind_are_counted(api: Any, config_map: Make) -> None:
    """By their resource and group; those of long ago by a short name as well."""
    await _limit(api, hard={"count/deployments.apps": "0", "configmaps": "2", "count/secrets": "0"})
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    deployment = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    refused = await api.post(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": deployment})
    assert refused.json["message"] == (
        'deployments.apps "d" is forbidden: exceeded quota: q, requested: count/deployments.apps=1, '
        "used: count/deployments.apps=0, limited: count/deployments.apps=0"
    )
    had = len((await api.get(CONFIG_MAPS)).json["items"])
    codes = [(await api.post(CONFIG_MAPS, config_map(f"c{n}"))).status for n in range(3)]
    assert codes == [201] * (2 - had) + [403] * (1 + had)
    assert (await api.post("/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}})).status == 403


async def test_services_are_counted_by_what_they_open(api: Any) -> None:
    """An update that opens more is held to it as well, one that opens less is not."""
    await _limit(api, hard={"services.nodeports": "2", "services.loadbalancers": "0"})
    one = {"type": "NodePort", "ports": [{"name": "a", "port": 80}]}
    two = {"type": "NodePort", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}
    three = {"type": "NodePort", "ports": [*two["ports"], {"name": "c", "port": 82}]}
    assert (await api.post(SERVICES, {"metadata": {"name": "s"}, "spec": one})).status == 201
    assert (await api.put(f"{SERVICES}/s", {"metadata": {"name": "s"}, "spec": two})).status == 200
    refused = await api.put(f"{SERVICES}/s", {"metadata": {"name": "s"}, "spec": three})
    assert (
        "requested: services.nodeports=1, used: services.nodeports=2, limited: services.nodeports=2"
        in (refused.json["message"])
    )
    assert (await api.put(f"{SERVICES}/s", {"metadata": {"name": "s"}, "spec": one})).status == 200
    balanced = {"type": "LoadBalancer", "ports": [{"port": 80}], "allocateLoadBalancerNodePorts": False}
    refused = await api.post(SERVICES, {"metadata": {"name": "l"}, "spec": balanced})
    assert "services.loadbalancers=1" in refused.json["message"]
    plain = {"metadata": {"name": "p"}, "spec": {"ports": [{"port": 80}]}}
    assert (await api.post(SERVICES, plain)).status == 201


async def test_storage_is_counted_by_class(api: Any) -> None:
    """All of it, and that of one class by itself."""

    def claim(name: str, size: str, **spec: Any) -> Any:
        own = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
        return {"metadata": {"name": name}, "spec": {**own, **spec}}

    fast = "fast.storageclass.storage.k8s.io"
    await _limit(api, hard={"requests.storage": "3Gi", f"{fast}/requests.storage": "1Gi"})
    assert (await api.post(CLAIMS, claim("a", "1Gi", storageClassName="fast"))).status == 201
    refused = await api.post(CLAIMS, claim("b", "1Gi", storageClassName="fast"))
    assert (
        f"requested: {fast}/requests.storage=1Gi, used: {fast}/requests.storage=1Gi"
        in (refused.json["message"])
    )
    assert (await api.post(CLAIMS, claim("b", "2Gi"))).status == 201
    assert (await api.post(CLAIMS, claim("c", "1Gi"))).status == 403


class _Slow:
    """An admission that waits, while other writes are made."""

    async def mutate(self, context: Any, request: Any) -> None:
        del context, request

    async def validate(self, context: Any, request: Any) -> None:
        del context, request
        for _ in range(5):
            await anyio.lowlevel.checkpoint()


async def test_writes_at_one_moment_do_not_overshoot(start: Any, pod: Make) -> None:
    """What one is about to store counts for the others, and comes back if it is not stored."""
    async with start(admission=_Slow()) as api:
        await _limit(api, hard={"pods": "3", "services.nodeports": "2"})
        codes: list[int] = []

        async def make(number: int) -> None:
            codes.append((await api.post(PODS, pod(f"p{number}"))).status)

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(make, number)
        assert sorted(codes) == [201] * 3 + [403] * 5
        assert (await api.post(f"{PODS}?dryRun=All", pod("dry"))).status == 403
        await api.delete(f"{PODS}/{(await api.get(PODS)).json['items'][0]['metadata']['name']}")
        assert (await api.post(f"{PODS}?dryRun=All", pod("dry"))).status == 201
        assert (await api.post(PODS, {**pod("bad"), "spec": {"containers": []}})).status == 422
        assert (await api.post(PODS, pod("last"))).status == 201


async def test_an_update_under_way_counts_its_growth_alone(start: Any) -> None:
    """Two services that grow at one moment share what is left."""
    async with start(admission=_Slow()) as api:
        await _limit(api, hard={"services.nodeports": "3"})
        ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
        for name in ("s", "t"):
            spec = {"type": "NodePort", "ports": ports[:1]}
            assert (await api.post(SERVICES, {"metadata": {"name": name}, "spec": spec})).status == 201
        codes: list[int] = []

        async def grow(name: str) -> None:
            spec = {"type": "NodePort", "ports": ports}
            body = {"metadata": {"name": name}, "spec": spec}
            codes.append((await api.put(f"{SERVICES}/{name}", body)).status)

        async with anyio.create_task_group() as group:
            for name in ("s", "t"):
                group.start_soon(grow, name)
        assert sorted(codes) == [200, 403]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"hard": {"gold": "1"}},
            'spec.hard[gold]: Invalid value: "gold": must be a standard resource for quota',
        ),
        ({"hard": {"pods": "1.5"}}, 'spec.hard[pods]: Invalid value: "1500m": must be an integer'),
        (
            {"hard": {"pods": "-1"}},
            'spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0',
        ),
        ({"scopes": ["Big"]}, 'spec.scopes: Invalid value: ["Big"]: unsupported scope'),
        (
            {"scopes": ["BestEffort", "NotBestEffort"]},
            'spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes',
        ),
        (
            {"hard": {"cpu": "1"}, "scopes": ["BestEffort"]},
            'spec.scopes: Invalid value: ["BestEffort"]: unsupported scope applied to resource',
        ),
        (
            {"scopeSelector": {"matchExpressions": [{"scopeName": "Terminating", "operator": "In"}]}},
            (
                "spec.scopeSelector.matchExpressions.operator: Invalid value: \"In\": must be 'Exists' "
                "when scope is"
            ),
        ),
        (
            {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}},
            "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value",
        ),
    ],
)
async def test_what_no_quota_may_be(api: Any, spec: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(QUOTAS, {"metadata": {"name": "q"}, "spec": spec})
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_the_scopes_of_a_quota_are_fixed(api: Any) -> None:
    """Its limits are not; the status is the controller's."""
    await _limit(api, hard={"pods": "1"}, scopes=["BestEffort"])
    changed = await api.patch(
        f"{QUOTAS}/q", {"spec": {"hard": {"pods": "2"}}, "status": {"used": {"pods": "9"}}}
    )
    assert (changed.status, changed.json["status"]) == (200, {})
    refused = await api.patch(f"{QUOTAS}/q", {"spec": {"scopes": ["Terminating"]}})
    assert 'spec.scopes: Invalid value: ["Terminating"]: field is immutable' in refused.json["message"]
    status = {"hard": {"pods": "2", "limits.cpu": "1"}, "used": {"pods": "1", "limits.cpu": "0"}}
    await api.patch(f"{QUOTAS}/q/status", {"status": status})
    table = (await api.get(QUOTAS, accept="application/json;as=Table;v=v1;g=meta.k8s.io")).json
    assert table["rows"][0]["cells"] == ["q", "pods: 1/2", "limits.cpu: 0/1", "0s"]
