"""Services of type LoadBalancer: reached at an address of the machine, from where they may be."""

from __future__ import annotations

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, eventually, get

pytestmark = pytest.mark.e2e
PORT = 28080
INGRESS = ".status.loadBalancer.ingress[0].ip"


def answers(url: str) -> bool:
    try:
        return get(url, timeout_s=2.0).status == 200
    except OSError:
        return False


def test_a_load_balancer_is_reached_at_its_address(space: Kubectl) -> None:
    """As long as it is one, from the networks it names alone; a second one of the port waits for it."""
    ports = [{"name": "http", "port": PORT, "targetPort": objects.PORT}]
    space.apply(objects.deployment("web"), objects.service("web", type="LoadBalancer", ports=ports))
    space("rollout", "status", "deployment/web", "--timeout=25s")
    address = eventually(lambda: space.path("service", "web", INGRESS), "it has an address")
    url = f"http://{address}:{PORT}/"
    eventually(lambda: answers(url), "it answers")
    assert address in space("get", "service", "web", "--no-headers")

    space.apply(objects.service("late", type="LoadBalancer", ports=ports))
    reason = '.status.conditions[?(@.status=="False")].message'
    message = eventually(lambda: space.path("service", "late", reason), "it is told who has the port")
    assert f"{address}:{PORT}/TCP is in use by Service" in message
    assert not space.path("service", "late", INGRESS)

    patch = '{"spec": {"loadBalancerSourceRanges": ["192.0.2.0/24"]}}'
    space("patch", "service", "web", "--patch", patch)
    eventually(lambda: not answers(url), "nobody from here is let in")
    patch = '{"spec": {"loadBalancerSourceRanges": ["10.0.0.0/8", "127.0.0.0/8"]}}'
    space("patch", "service", "web", "--patch", patch)
    eventually(lambda: answers(url), "it answers again")

    space("delete", "service", "web")
    eventually(lambda: space.path("service", "late", INGRESS) == address, "the other has the address now")


def test_a_health_check_says_whether_pods_are_here(space: Kubectl) -> None:
    """200 with how many are ready, as kube-proxy answers, and 503 once there is none."""
    ports = [{"name": "http", "port": PORT + 1, "targetPort": objects.PORT}]
    local = objects.service("checked", type="LoadBalancer", externalTrafficPolicy="Local", ports=ports)
    space.apply(objects.deployment("checked", replicas=2), local)
    space("rollout", "status", "deployment/checked", "--timeout=60s")
    url = f"http://127.0.0.1:{space.path('service', 'checked', '.spec.healthCheckNodePort')}/healthz"

    def local_endpoints() -> tuple[int, int]:
        reply = get(url)
        return reply.status, reply.value["localEndpoints"]

    eventually(lambda: local_endpoints() == (200, 2), "both are counted")
    space("scale", "deployment/checked", "--replicas=0")
    eventually(lambda: local_endpoints() == (503, 0), "nobody is here")


def test_clients_stay_with_their_pod(space: Kubectl) -> None:
    """Of three pods one client of a sticky Service reaches one, with a timeout of its own."""
    ports = [{"name": "http", "port": PORT + 2, "targetPort": objects.PORT}]
    sticky = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}}}
    space.apply(
        objects.deployment("sticky", replicas=3),
        objects.service("sticky", type="LoadBalancer", ports=ports, **sticky),
    )
    space("rollout", "status", "deployment/sticky", "--timeout=60s")
    address = eventually(lambda: space.path("service", "sticky", INGRESS), "it has an address")
    url = f"http://{address}:{PORT + 2}/"
    eventually(lambda: answers(url), "it answers")
    reached = {get(url).value["pod"] for _ in range(15)}
    assert len(reached) == 1
    space("delete", "pod", reached.pop(), "--wait=true")
    eventually(lambda: answers(url), "another pod answers")
