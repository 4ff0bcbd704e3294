"""The mesh's security on a real platform: Istio's objects, kubectl, callers in the mesh and beside it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, Platform, eventually, get, through
from tests.ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.root]

BESIDE = {"sidecar.istio.io/inject": "false"}
CALLERS = ("friend", "stranger", "beside", "host")


def security(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, **spec},
    }


def friends_only(namespace: str) -> dict[str, Any]:
    source = {"principals": [f"cluster.local/ns/{namespace}/sa/friend"]}
    operation = {"methods": ["GET"], "notPaths": ["/admin*"]}
    rule = {"from": [{"source": source}], "to": [{"operation": operation}]}
    return security("AuthorizationPolicy", "web", action="ALLOW", rules=[rule])


@dataclass(frozen=True, slots=True)
class Court:
    """A server and its callers: pods of the mesh with accounts of their own, one beside it, and the host."""

    kubectl: Kubectl
    addresses: dict[str, str]

    def status(self, caller: str, path: str = "/") -> int:
        """Of a call of the server; 0 if nobody answers."""
        address = f"http://{self.addresses['web']}:{objects.PORT}{path}"
        if caller == "host":
            return get(address).status
        name = address if caller == "beside" else f"http://web{path}"
        return through(self.addresses[caller], name).status

    def statuses(self, path: str = "/") -> dict[str, int]:
        return {caller: self.status(caller, path) for caller in CALLERS}

    def settles(self, expected: dict[str, int], what: str) -> None:
        eventually(lambda: self.statuses() == expected, what)


OPEN = dict.fromkeys(CALLERS, 200)


@pytest.fixture(scope="module")
def court(space: Kubectl) -> Court:
    for account in ("friend", "stranger"):
        space("create", "serviceaccount", account)
        space.apply(objects.pod(account, serviceAccountName=account))
    space.apply(objects.pod("beside", labels=BESIDE))
    space.apply(objects.deployment("web"))
    space.apply(objects.service("web"))
    space("wait", "--for=condition=Available", "deployment/web", "--timeout=30s")
    addresses = {}
    for name in ("friend", "stranger", "beside"):
        space("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=30s")
        addresses[name] = space.path("pod", name, ".status.podIP")
    addresses["web"] = web(space)["status"]["podIP"]
    court = Court(space, addresses)
    court.settles(OPEN, "all is open at first")
    return court


def web(kubectl: Kubectl) -> dict[str, Any]:
    """The one pod of the server that is not ending."""
    listed = kubectl.list("pods", "-l", "app=web")
    (pod,) = [each for each in listed if "deletionTimestamp" not in each["metadata"]]
    return dict(pod)


@pytest.fixture(autouse=True)
def open_again(court: Court) -> Iterator[None]:
    yield
    court.kubectl("delete", "authorizationpolicies,peerauthentications,requestauthentications", "--all")
    court.settles(OPEN, "without policies all is open")


def test_who_is_allowed_comes_in(court: Court) -> None:
    """By its account, through the mesh; pods beside it and the host carry none. Probes go on."""
    court.kubectl.apply(friends_only(court.kubectl.namespace))
    court.settles({"friend": 200, "stranger": 403, "beside": 403, "host": 403}, "the friend alone is let in")
    assert court.status("friend", "/admin") == 403
    assert court.status("friend", "//admin") == 403
    assert court.status("friend", "/x/../admin") == 403
    printed = court.kubectl("get", "authorizationpolicy", "web")
    assert "True" in printed, printed
    pod = web(court.kubectl)
    assert pod["status"]["containerStatuses"][0]["ready"] is True
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def test_strict_wants_certificates(court: Court) -> None:
    """Of whoever calls: pods of the mesh have theirs without knowing, everybody else is refused."""
    court.kubectl.apply(security("PeerAuthentication", "web", mtls={"mode": "STRICT"}))
    court.settles({"friend": 200, "stranger": 200, "beside": 0, "host": 0}, "the mesh alone is let in")


def test_a_pod_that_begins_is_guarded_from_its_first_moment(court: Court) -> None:
    """Its containers start once what arrives is turned: nobody finds it open."""
    court.kubectl.apply(friends_only(court.kubectl.namespace))
    court.settles({"friend": 200, "stranger": 403, "beside": 403, "host": 403}, "the friend alone is let in")
    court.kubectl("rollout", "restart", "deployment/web")
    court.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    pod = eventually(lambda: web(court.kubectl), "one pod is left")
    conditions = {each["type"]: each["status"] for each in pod["status"]["conditions"]}
    assert conditions["mesh.ondol.dev/Guarded"] == "True"
    assert conditions["mesh.ondol.dev/ArrivalsTurned"] == "True"
    court.addresses["web"] = pod["status"]["podIP"]
    assert court.statuses() == {"friend": 200, "stranger": 403, "beside": 403, "host": 403}


@pytest.mark.parametrize("part", ["envoy", "control", "node"])
def test_nothing_is_let_in_while_a_part_is_away(court: Court, platform: Platform, part: str) -> None:
    """Killed and started again: calls may fail meanwhile, and none is let in that is not allowed."""
    court.kubectl.apply(friends_only(court.kubectl.namespace))
    court.settles({"friend": 200, "stranger": 403, "beside": 403, "host": 403}, "the friend alone is let in")
    before = platform.pids()[part]
    os.kill(before, signal.SIGKILL)
    for _ in range(30):
        assert {court.status(caller) for caller in ("stranger", "beside", "host")} <= {0, 403, 503}
    eventually(lambda: platform.pids().get(part) not in (0, None, before), f"{part} is there again")
    court.settles({"friend": 200, "stranger": 403, "beside": 403, "host": 403}, "all is as it was")


def test_a_policy_says_that_a_pod_is_open_while_its_node_is_away(court: Court, platform: Platform) -> None:
    """One that runs and is not turned: in force is what holds there, whatever the proxy runs already."""
    court.kubectl("rollout", "restart", "deployment/web")
    court.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    court.addresses["web"] = eventually(lambda: web(court.kubectl), "one pod is left")["status"]["podIP"]
    court.settles(OPEN, "the new pod is open")
    path = ".status.conditions[?(@.type=='Programmed')].reason"

    def says(reason: str) -> bool:
        return court.kubectl.path("authorizationpolicy", "web", path) == reason

    node = platform.pids()["node"]
    os.kill(node, signal.SIGSTOP)
    try:
        court.kubectl.apply(friends_only(court.kubectl.namespace))
        eventually(lambda: says("ArrivalsNotTurned"), "the policy says that the pod is not turned")
        assert court.status("host") == 200
    finally:
        os.kill(node, signal.SIGCONT)
    eventually(lambda: says("Programmed"), "the policy is in force")
    assert {court.status(caller) for caller in ("stranger", "beside", "host")} == {403}


def test_every_way_from_outside_leads_past_the_policy(court: Court, platform: Platform) -> None:
    """Ports of the machine and of nodes, a load balancer's address, the ingress, the API server's proxy."""
    space, machines, balanced = court.kubectl, free_port(), free_port()
    shown = objects.container(ports=[{"containerPort": objects.PORT, "hostPort": machines}])
    ports = [{"name": "http", "port": balanced, "targetPort": objects.PORT}]
    host = f"shown.{space.namespace}.example.test"
    route = {"route": [{"destination": {"host": "shown", "port": {"number": balanced}}}]}
    space.apply(objects.pod("shown", shown), objects.service("shown", type="LoadBalancer", ports=ports))
    space.apply(objects.virtual_service("shown", route, hosts=[host], gateways=["ondol-system/ingress"]))
    space("wait", "--for=condition=Ready", "pod/shown", "--timeout=30s")
    balancer = eventually(
        lambda: space.path("service", "shown", ".status.loadBalancer.ingress[0].ip"), "it has an address"
    )
    node_port = space.path("service", "shown", ".spec.ports[0].nodePort")
    proxied = f"/api/v1/namespaces/{space.namespace}/pods/shown:{objects.PORT}/proxy/"

    def statuses() -> dict[str, int]:
        return {
            "hostPort": get(f"http://127.0.0.1:{machines}/").status,
            "balancer": get(f"http://{balancer}:{balanced}/").status,
            "nodePort": get(f"http://127.0.0.1:{node_port}/").status,
            "ingress": get(platform.ingress, headers={"Host": host}).status,
            "proxy": 200 if space.run("get", "--raw", proxied).status == 0 else 403,
        }

    eventually(lambda: set(statuses().values()) == {200}, "it is open by every way")
    policy = friends_only(space.namespace)
    policy["spec"]["selector"] = {"matchLabels": {"app": "shown"}}
    space.apply(policy)
    eventually(lambda: set(statuses().values()) == {403}, "it is open by none")
