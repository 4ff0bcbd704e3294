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
