"""Policies of a Knative Service at zero: its first request has its caller's identity, too."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, Platform, Reply, eventually, get, through

pytestmark = [pytest.mark.e2e, pytest.mark.root]

HTTP2: dict[str, Any] = {
    "env": [{"name": "HTTP2", "value": "1"}],
    "ports": [{"containerPort": objects.PORT, "name": "h2c"}],
}


def knative(name: str, concurrency: int = 0, **fields: Any) -> Any:
    notes = {"window": "6s", "scale-to-zero-pod-retention-period": "0s"}
    main = {"image": objects.IMAGE, "ports": [{"containerPort": objects.PORT}], **fields}
    annotations = {f"autoscaling.knative.dev/{key}": value for key, value in notes.items()}
    spec = {"containers": [main], "containerConcurrency": concurrency, "timeoutSeconds": 15}
    template = {"metadata": {"annotations": annotations}, "spec": spec}
    metadata = {"name": name}
    head = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": metadata}
    return {**head, "spec": {"template": template}}


def security(kind: str, **spec: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"serving.knative.dev/service": "hello"}}
    head = {"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": {"name": "hello"}}
    return {**head, "spec": {"selector": selector, **spec}}


class Hello:
    """A Knative Service that lets one caller in, and another caller."""

    def __init__(self, space: Kubectl, platform: Platform) -> None:
        self.space, self.platform = space, platform
        for account in ("friend", "stranger"):
            space("create", "serviceaccount", account)
            space.apply(objects.pod(account, serviceAccountName=account))
        for account in ("friend", "stranger"):
            space("wait", "--for=condition=Ready", f"pod/{account}", "--timeout=30s")
        self.addresses = {
            account: space.path("pod", account, ".status.podIP") for account in ("friend", "stranger")
        }

    def call(self, caller: str, path: str = "/") -> Reply:
        return through(self.addresses[caller], f"http://hello.{self.space.namespace}{path}")

    def pods(self) -> list[Any]:
        return self.space.list("pods", "-l", "serving.knative.dev/service=hello")

    def sleeps(self) -> None:
        eventually(lambda: not self.pods(), "no pod is left", within_s=60)

    def apply(self, concurrency: int = 0, **fields: Any) -> None:
        self.space.apply(knative("hello", concurrency, **fields))
        self.space("wait", "--for=condition=Ready", "ksvc/hello", "--timeout=40s")


@pytest.fixture(scope="module")
def hello(space: Kubectl, platform: Platform) -> Hello:
    started = Hello(space, platform)
    source = {"principals": [f"cluster.local/ns/{space.namespace}/sa/friend"]}
    space.apply(
        security("AuthorizationPolicy", action="ALLOW", rules=[{"from": [{"source": source}]}]),
        security("PeerAuthentication", mtls={"mode": "STRICT"}),
    )
    return started


@pytest.mark.parametrize(("concurrency", "fields"), [(0, {}), (1, {}), (0, HTTP2)])
def test_first_requests_have_identities(hello: Hello, concurrency: int, fields: dict[str, Any]) -> None:
    """The allowed caller is held and let in, another is held and refused; from outside nobody is."""
    hello.apply(concurrency, **fields)
    for caller, status in (("friend", 200), ("stranger", 403)):
        hello.sleeps()
        reply = hello.call(caller)
        assert reply.status == status, reply
    host = {"Host": f"hello.{hello.space.namespace}.localhost"}
    assert get(hello.platform.ingress, headers=host).status == 403, "the ingress is known, and not allowed"
    replies = [hello.call("friend").status for _ in range(20)]
    assert replies == [200] * 20


def test_a_held_request_outlives_its_activator(hello: Hello) -> None:
    """Killed while it holds one: the proxy asks the next activator."""
    hello.apply(env=[{"name": "VERSION", "value": "late"}], command=["sh", "-c", SLOW])
    hello.sleeps()
    replies: list[Reply] = []
    asking = threading.Thread(target=lambda: replies.append(hello.call("friend")))
    asking.start()
    eventually(hello.pods, "the request is held")
    before = hello.platform.pids()["gateway"]
    os.kill(before, signal.SIGKILL)
    asking.join()
    assert replies[0].status == 200, replies


def test_where_no_pod_comes_the_time_ends(hello: Hello) -> None:
    """The caller is told so when the Service's time is over, by the proxy."""
    hello.sleeps()
    hello.space.apply(quota())
    reply = hello.call("friend")
    hello.space("delete", "resourcequota", "none")
    assert reply.status == 503, reply
    assert reply.seconds < 20


SLOW = "sleep 2; exec python3 main.py"


def quota() -> Any:
    metadata = {"name": "none"}
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": metadata,
        "spec": {"hard": {"pods": "0"}},
    }
