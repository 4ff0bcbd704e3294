"""Services: addresses are given out once, kept, checked and given back."""

from __future__ import annotations

import ipaddress
from typing import Any

import anyio
import pytest

from ondol import apiserver

pytestmark = pytest.mark.anyio

SERVICES = "/api/v1/namespaces/default/services"


def _service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


async def test_a_service_gets_an_address_of_its_own(api: Any) -> None:
    """From the network, above the band people choose from, and never the same twice."""
    specs = [(await api.post(SERVICES, _service(f"s{n}"))).json["spec"] for n in range(20)]
    addresses = {spec["clusterIP"] for spec in specs}
    assert len(addresses) == 20
    network = ipaddress.ip_network("10.96.0.0/16")
    assert all(ipaddress.ip_address(a) in network and a != "10.96.0.1" for a in addresses)
    assert all(spec["clusterIPs"] == [spec["clusterIP"]] for spec in specs)


async def test_concurrent_services_share_nothing(start: Any) -> None:
    """Even when they are created at one moment in a network with just enough room."""
    config = apiserver.ApiConfig(service_cidr="10.1.0.0/28")
    async with start(config=config) as api:
        codes: list[int] = []

        async def make(number: int) -> None:
            codes.append((await api.post(SERVICES, _service(f"s{number}"))).status)

        async with anyio.create_task_group() as group:
            for number in range(15):
                group.start_soon(make, number)
        services = (await api.get(SERVICES)).json["items"]
        addresses = [service["spec"]["clusterIP"] for service in services]
        assert (
            len(addresses) == len(set(addresses)) == 14
        )  # 16, less the network's, the last and nothing else
        assert sorted(codes) == [201] * 13 + [500, 500]
        await api.delete(
            f"{SERVICES}/{next(s['metadata']['name'] for s in services if 'provider' not in str(s))}"
        )
        assert (await api.post(SERVICES, _service("late"))).status == 201


async def test_a_chosen_address_is_checked(api: Any) -> None:
    """In the network and free, or refused in the words kubectl users know."""
    assert (await api.post(SERVICES, _service("a", clusterIP="10.96.0.10"))).status == 201
    taken = await api.post(SERVICES, _service("b", clusterIP="10.96.0.10"))
    assert taken.status == 422
    assert "failed to allocate IP 10.96.0.10: provided IP is already allocated" in taken.json["message"]
    outside = await api.post(SERVICES, _service("b", clusterIP="10.1.0.1"))
    assert "the provided IP (10.1.0.1) is not in the valid range" in outside.json["message"]
    assert (await api.post(SERVICES, _service("b", clusterIP="None"))).json["spec"]["clusterIP"] == "None"


async def test_node_ports_are_given_out_and_kept(api: Any) -> None:
    """A node port stays through changes that do not mention it, and goes with the type."""
    created = (await api.post(SERVICES, _service("a", type="NodePort"))).json
    port = created["spec"]["ports"][0]["nodePort"]
    assert 30000 <= port <= 32767
    replaced = await api.put(f"{SERVICES}/a", _service("a", type="NodePort", selector={"app": "x"}))
    assert replaced.status == 200, replaced.json
    assert replaced.json["spec"]["ports"][0]["nodePort"] == port
    assert replaced.json["spec"]["clusterIP"] == created["spec"]["clusterIP"]
    ports = [{"port": 80, "nodePort": port}]
    taken = await api.post(SERVICES, _service("b", type="NodePort", ports=ports))
    assert "provided port is already allocated" in taken.json["message"]
    ports = [{"port": 80, "nodePort": 80}]
    outside = await api.post(SERVICES, _service("b", type="NodePort", ports=ports))
    assert "The range of valid ports is 30000-32767" in outside.json["message"]
    plain = await api.put(f"{SERVICES}/a", _service("a", type="ClusterIP"))
    assert "nodePort" not in plain.json["spec"]["ports"][0]


async def test_an_address_cannot_be_changed(api: Any) -> None:
    """Clients would still call the old one."""
    created = (await api.post(SERVICES, _service("a"))).json
    refused = await api.patch(
        f"{SERVICES}/a", {"spec": {"clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"]}}
    )
    assert refused.status == 422
    assert (await api.get(f"{SERVICES}/a")).json["spec"]["clusterIP"] == created["spec"]["clusterIP"]


async def test_an_external_name_has_no_address(api: Any) -> None:
    """It is a name for something elsewhere; a Service that becomes one gives its address back."""
    answer = await api.post(SERVICES, _service("a", type="ExternalName", externalName="example.org"))
    assert "clusterIP" not in answer.json["spec"]
    other = (await api.post(SERVICES, _service("b", clusterIP="10.96.0.9"))).json
    assert other["spec"]["clusterIP"] == "10.96.0.9"
    body = _service("b", type="ExternalName", externalName="example.org")
    assert (await api.put(f"{SERVICES}/b", body)).status == 200
    assert (await api.post(SERVICES, _service("c", clusterIP="10.96.0.9"))).status == 201


_BALANCED = {
    "type": "LoadBalancer",
    "externalTrafficPolicy": "Local",
    "loadBalancerClass": "x.test/y",
    "healthCheckNodePort": 30999,
}


@pytest.mark.parametrize(
    ("before", "change", "left"),
    [
        ({"type": "NodePort"}, {"type": "ClusterIP"}, {"clusterIP", "clusterIPs", "ipFamilies"}),
        ({"type": "NodePort"}, {"type": "ExternalName", "externalName": "x.test"}, set()),
        (_BALANCED, {"type": "ClusterIP"}, {"clusterIP", "clusterIPs", "ipFamilies"}),
        (_BALANCED, {"type": "ExternalName", "externalName": "x.test"}, set()),
        (_BALANCED, {"type": "NodePort"}, {"clusterIP", "ipFamilies", "externalTrafficPolicy", "nodePort"}),
        ({"externalIPs": ["203.0.113.9"]}, {"externalIPs": None}, {"clusterIP", "ipFamilies"}),
    ],
)
@pytest.mark.parametrize("how", ["merge-patch+json", "strategic-merge-patch+json", "put"])
async def test_a_type_takes_its_fields_along_when_it_goes(
    api: Any, before: dict[str, Any], change: dict[str, Any], left: set[str], how: str
) -> None:
    """What only the former type has is dropped, where the client did not write it anew."""
    live = (await api.post(SERVICES, _service("s", **before))).json
    if how == "put":
        spec = {key: value for key, value in {**live["spec"], **change}.items() if value is not None}
        changed = await api.put(f"{SERVICES}/s", {**live, "spec": spec})
    else:
        changed = await api.patch(f"{SERVICES}/s", {"spec": change}, how)
    assert changed.status == 200, changed.json
    spec = changed.json["spec"]
    present = {*spec, *spec["ports"][0]}
    dependent = {*_BALANCED, "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "nodePort"}
    dependent |= {"allocateLoadBalancerNodePorts"}
    assert left <= present
    if "externalTrafficPolicy" not in left:
        assert "externalTrafficPolicy" not in present
    fields = dependent - left - {"type", "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"}
    assert not present & fields
    assert ("clusterIP" in present) is ("clusterIP" in left)


async def test_a_field_of_the_former_type_that_is_written_anew_is_refused(api: Any) -> None:
    """Only what the client left alone goes silently."""
    await api.post(SERVICES, _service("s", type="NodePort"))
    patch = {"spec": {"type": "ClusterIP", "externalTrafficPolicy": "Local"}}
    refused = await api.patch(f"{SERVICES}/s", patch)
    assert refused.status == 422
    assert "spec.externalTrafficPolicy" in refused.json["message"]


async def test_a_dry_run_takes_no_address(api: Any) -> None:
    """What was only tried out is free again."""
    body = _service("a", clusterIP="10.96.0.9")
    assert (await api.post(f"{SERVICES}?dryRun=All", body)).json["spec"]["clusterIP"] == "10.96.0.9"
    assert (await api.post(SERVICES, body)).status == 201


async def test_the_server_has_a_service_of_its_own(api: Any) -> None:
    """`kubernetes` in `default` leads to where the server is reached."""
    service = (await api.get(f"{SERVICES}/kubernetes")).json
    assert service["spec"]["clusterIP"] == "10.96.0.1"
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
    own = (await api.get(path)).json
    assert own["endpoints"][0]["addresses"] == ["192.0.2.1"]
    assert own["ports"][0]["port"] == 6443
    legacy = (await api.get("/api/v1/namespaces/default/endpoints/kubernetes")).json
    assert legacy["subsets"] == [
        {"addresses": [{"ip": "192.0.2.1"}], "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}]}
    ]
    assert legacy["metadata"]["labels"] == {"endpointslice.kubernetes.io/skip-mirror": "true"}


_BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"


@pytest.mark.parametrize(
    "path",
    [
        f"{SERVICES}/kubernetes",
        "/api/v1/namespaces/default/endpoints/kubernetes",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:basic-user",
        f"{_BINDINGS}/cluster-admin",
    ],
)
async def test_what_the_server_needs_comes_back(api: Any, path: str) -> None:
    """`kubectl delete all --all` takes it along; pods must not be cut off until a restart."""
    await api.settle()
    live = (await api.get(path)).json
    await api.delete(path)
    assert (await api.get(path)).status == 404
    await api.clock.advance(1.0)
    await api.settle()
    again = (await api.get(path)).json
    for field in ("spec", "subsets", "endpoints", "rules", "roleRef"):
        assert again.get(field) == live.get(field)
    revision = api.store.revision
    await api.clock.advance(10.0)
    await api.settle()
    assert api.store.revision == revision


async def test_a_namespace_of_the_system_comes_back_once_it_is_gone(api: Any) -> None:
    """While it ends nothing is made in it; then it is there again, with its account."""
    path = "/api/v1/namespaces/kube-node-lease"
    ending = (await api.delete(path)).json
    await api.clock.advance(2.0)
    await api.settle()
    assert (await api.get(path)).json["status"]["phase"] == "Terminating"
    await api.put(f"{path}/finalize", {**ending, "spec": {"finalizers": []}})
    await api.clock.advance(1.0)
    await api.settle()
    assert (await api.get(path)).json["status"]["phase"] == "Active"
    assert (await api.get(f"{path}/serviceaccounts/default")).status == 200


async def test_an_altered_service_of_the_server_is_put_right(api: Any) -> None:
    """Its port too is what pods reach the API by."""
    await api.settle()
    await api.patch(f"{SERVICES}/kubernetes", {"spec": {"ports": [{"port": 1, "name": "https"}]}})
    await api.clock.advance(1.0)
    await api.settle()
    assert (await api.get(f"{SERVICES}/kubernetes")).json["spec"]["ports"][0]["port"] == 443


async def test_an_address_that_is_none_is_refused(api: Any) -> None:
    """As the client's fault, by a create as by an apply."""
    for refused in (
        await api.post(SERVICES, _service("s", clusterIP="app")),
        await api.post(SERVICES, _service("s", clusterIP="fe80::1%eth0")),
    ):
        assert (refused.status, "valid IP address" in refused.json["message"]) == (422, True), refused.json


async def test_a_health_check_has_a_port_of_its_own(api: Any) -> None:
    """One is given where only local endpoints are led to; it stays as it is, and goes with the policy."""
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    live = (await api.post(SERVICES, _service("a", **spec))).json
    port = live["spec"]["healthCheckNodePort"]
    assert 30000 <= port <= 32767
    taken = await api.post(SERVICES, _service("b", **spec, healthCheckNodePort=port))
    assert taken.status == 422
    assert "spec.healthCheckNodePort: Invalid value" in taken.json["message"]
    kept = await api.put(f"{SERVICES}/a", {**live, "spec": {**live["spec"], "healthCheckNodePort": 0}})
    assert kept.json["spec"]["healthCheckNodePort"] == port
    other = {**live, "spec": {**live["spec"], "healthCheckNodePort": 31111 if port != 31111 else 31112}}
    refused = await api.put(f"{SERVICES}/a", {**other, "metadata": {"name": "a"}})
    assert "spec.healthCheckNodePort: Forbidden: field is immutable" in refused.json["message"]
    left = await api.patch(f"{SERVICES}/a", {"spec": {"externalTrafficPolicy": "Cluster"}})
    assert "healthCheckNodePort" not in left.json["spec"]
    assert (await api.post(SERVICES, _service("b", **spec, healthCheckNodePort=port))).status == 201


async def test_health_checks_are_for_local_balancers(api: Any) -> None:
    """Others may not name a port, and nobody a distribution that there is not."""
    answer = await api.post(SERVICES, _service("a", type="NodePort", healthCheckNodePort=30999))
    assert "may only be set when `type` is 'LoadBalancer'" in answer.json["message"]
    answer = await api.post(SERVICES, _service("a", trafficDistribution="Nearest"))
    assert answer.json["details"]["causes"][0]["field"] == "spec.trafficDistribution"
