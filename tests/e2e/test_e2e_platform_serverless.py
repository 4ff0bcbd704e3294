"""Serverless on a real platform: to zero, back on a request, and from revision to revision."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, Platform, Reply, eventually, get

pytestmark = [pytest.mark.e2e, pytest.mark.root]


def knative(name: str, version: str, **annotations: str) -> Any:
    notes = {"window": "6s", "scale-to-zero-pod-retention-period": "0s", **annotations}
    main = {
        "image": objects.IMAGE,
        "env": [{"name": "VERSION", "value": version}],  # and it ends at once when it is told to
        "ports": [{"containerPort": objects.PORT}],
    }
    template = {
        "metadata": {"annotations": {f"autoscaling.knative.dev/{k}": v for k, v in notes.items()}},
        "spec": {"containers": [main]},
    }
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"template": template},
    }


class Serving:
    """A Knative Service and the way to it from outside."""

    def __init__(self, platform: Platform, kubectl: Kubectl, name: str) -> None:
        self.kubectl = kubectl
        self.name = name
        self._ingress = platform.ingress
        self._host = f"{name}.{kubectl.namespace}.localhost"

    def apply(self, version: str, **annotations: str) -> None:
        self.kubectl.apply(knative(self.name, version, **annotations))
        self.kubectl("wait", "--for=condition=Ready", f"ksvc/{self.name}", "--timeout=25s")

    def ask(self, path: str = "/") -> Reply:
        return get(f"{self._ingress}{path}", headers={"Host": self._host})

    def pods(self) -> list[Any]:
        selector = f"serving.knative.dev/service={self.name}"
        return [
            p for p in self.kubectl.list("pods", "-l", selector) if "deletionTimestamp" not in p["metadata"]
        ]


def test_to_zero_and_back(space: Kubectl, platform: Platform) -> None:
    """Without requests no pod is left; requests that arrive then are held, and each is answered."""
    serving = Serving(platform, space, "sleepy")
    serving.apply("1")
    for kind in ("configuration", "revision", "route"):
        assert len(space.list(f"{kind}s.serving.knative.dev")) == 1
    assert serving.ask().value["version"] == "1"
    eventually(lambda: not serving.pods(), "no pod is left")
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: serving.ask(), range(8)))
    assert [reply.status for reply in replies] == [200] * 8
    assert max(reply.seconds for reply in replies) < 10
    assert serving.ask().seconds < 1, "a warm request goes straight to the pod"
    eventually(lambda: not serving.pods(), "no pod is left, again")


def test_scales_with_concurrency(space: Kubectl, platform: Platform) -> None:
    """More requests at a time than a replica is to take make more replicas; none of them is lost."""
    serving = Serving(platform, space, "busy")
    serving.apply("1", target="1", **{"max-scale": "3"})
    with ThreadPoolExecutor(6) as pool:
        replies = pool.map(lambda _: serving.ask("/sleep?s=4"), range(6))
        eventually(lambda: len(serving.pods()) > 1, "another replica")
        failed = [reply for reply in replies if reply.status != 200]
    assert failed == []
    assert len(serving.pods()) <= 3


def test_fewer_replicas_lose_no_request(space: Kubectl, platform: Platform) -> None:
    """Pods go while requests come, and nobody notices, although each ends as soon as it is told to."""
    serving = Serving(platform, space, "ebbing")
    serving.apply("1", target="1", **{"target-utilization-percentage": "100", "max-scale": "3"})
    with ThreadPoolExecutor(6) as pool:
        busy = pool.map(lambda _: serving.ask("/sleep?s=5"), range(6))
        eventually(lambda: len(serving.pods()) > 1, "more than one replica")
        assert {reply.status for reply in busy} == {200}
    replies: list[Reply] = []

    def trickle(count: int) -> None:
        """Requests with pauses: without, one after the other is a whole replica's load, and may be more."""
        for _ in range(count):
            replies.append(serving.ask())
            time.sleep(0.05)

    def one_is_left() -> bool:
        trickle(10)
        return len(serving.pods()) == 1

    eventually(one_is_left, "one replica", every_s=0.0)
    trickle(40)
    assert [reply for reply in replies if reply.status != 200] == []


def test_requests_through_the_activator_are_all_answered(space: Kubectl, platform: Platform) -> None:
    """With a hard limit each goes that way, to a server that ends its connection without a word."""
    serving = Serving(platform, space, "hard")
    hard = knative("hard", "1", **{"max-scale": "1"})
    hard["spec"]["template"]["spec"]["containerConcurrency"] = 1
    space.apply(hard)
    space("wait", "--for=condition=Ready", "ksvc/hard", "--timeout=25s")
    assert [reply for reply in (serving.ask() for _ in range(600)) if reply.status != 200] == []


def test_wrong_service_is_refused(space: Kubectl) -> None:
    """What can never work is told by kubectl apply, with its field; what has no effect is warned of."""
    wrong = knative("wrong", "1", **{"min-scale": "few"})
    wrong["spec"]["template"]["spec"]["containers"][0]["ports"].append({"containerPort": 9090})
    message = space.refused("apply", "-f", "-", stdin=wrong)
    assert "spec.template.spec.containers[0].ports[1]" in message
    assert "annotations[autoscaling.knative.dev/min-scale]: 'few' is not a valid value" in message
    odd = knative("odd", "1", tarrget="5")
    warned = space.run("apply", "--dry-run=server", "-f", "-", stdin=odd)
    assert "Warning: " in warned.err
    assert "tarrget]: this annotation is not known" in warned.err


def test_names_and_times_at_the_ingress(space: Kubectl, platform: Platform) -> None:
    """A public name is one in any case, an inner one is none; what takes too long is cut."""
    document = knative("named", "1", **{"min-scale": "1"})
    document["spec"]["template"]["spec"]["timeoutSeconds"] = 2
    space.apply(document)
    space("wait", "--for=condition=Ready", "ksvc/named", "--timeout=25s")

    def ask(host: str, path: str = "/") -> int:
        return get(f"{platform.ingress}{path}", headers={"Host": host}).status

    own = f"named.{space.namespace}"
    eventually(lambda: ask(f"{own}.localhost") == 200, "an answer")
    assert ask(f"{own}.localhost".upper()) == 200
    assert {ask(f"{own}{rest}") for rest in ("", ".svc", ".svc.cluster.local")} == {404}
    assert ask(f"{own}.localhost", "/sleep?s=5") == 504


def test_http2_through_the_activator_is_spread(space: Kubectl, platform: Platform) -> None:
    """The proxy's one connection carries many requests; each pod gets its part of them."""
    document = knative("streams", "1", **{"min-scale": "2", "target-burst-capacity": "-1"})
    container = document["spec"]["template"]["spec"]["containers"][0]
    container["env"].append({"name": "HTTP2", "value": "1"})
    container["ports"][0]["name"] = "h2c"
    space.apply(document)
    space("wait", "--for=condition=Ready", "ksvc/streams", "--timeout=25s")
    serving = Serving(platform, space, "streams")
    eventually(lambda: serving.ask().status == 200, "an answer")
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: serving.ask(), range(40)))
    assert {reply.status for reply in replies} == {200}
    assert len({reply.value["pod"] for reply in replies}) == 2


def test_being_routed_to_replaces_no_pod(space: Kubectl, platform: Platform) -> None:
    """A revision's pods stay the same ones when its Service becomes ready and routes to it."""
    serving = Serving(platform, space, "steady")
    serving.apply("1", **{"min-scale": "1"})
    assert serving.ask().status == 200
    time.sleep(1)
    selector = "serving.knative.dev/service=steady"
    assert len(space.list("replicasets", "-l", selector)) == 1


def test_new_revision_without_a_failed_request(space: Kubectl, platform: Platform) -> None:
    """While a new revision takes over, every request is answered, first by the old one, then by the new."""
    serving = Serving(platform, space, "changing")
    serving.apply("1", **{"min-scale": "1"})
    replies: list[Reply] = []
    done = threading.Event()

    def traffic() -> None:
        while not done.is_set():
            replies.append(serving.ask())
            time.sleep(0.02)

    thread = threading.Thread(target=traffic, daemon=True)
    thread.start()
    try:
        serving.apply("2", **{"min-scale": "1"})

        def taken_over() -> bool:
            return bool(replies) and replies[-1].status == 200 and replies[-1].value["version"] == "2"

        eventually(taken_over, "version 2")
        time.sleep(2)
    finally:
        done.set()
        thread.join(30)
    assert [reply for reply in replies if reply.status != 200] == []
    versions = [reply.value["version"] for reply in replies]
    assert versions[0] == "1"
    assert set(versions[-20:]) == {"2"}
    assert len(space.list("revisions.serving.knative.dev", "-l", "serving.knative.dev/service=changing")) == 2


def test_split_between_revisions(space: Kubectl, platform: Platform) -> None:
    """Traffic is split between named revisions by percent."""
    serving = Serving(platform, space, "split")
    serving.apply("1", **{"min-scale": "1"})
    first = space.path("ksvc", "split", ".status.latestReadyRevisionName")
    document = knative("split", "2", **{"min-scale": "1"})
    document["spec"]["traffic"] = [
        {"revisionName": first, "percent": 50},
        {"latestRevision": True, "percent": 50},
    ]
    space.apply(document)
    space("wait", "--for=condition=Ready", "ksvc/split", "--timeout=25s")
    seen = eventually(lambda: {serving.ask().value["version"] for _ in range(30)}, "answers")
    eventually(lambda: {serving.ask().value["version"] for _ in range(30)} == {"1", "2"}, f"both; {seen}")


def test_image_that_is_not_there(space: Kubectl) -> None:
    """A revision that cannot start says why on the Service; it does not become ready."""
    document = knative("imageless", "1")
    document["spec"]["template"]["spec"]["containers"][0]["image"] = "ondol.local/none:1"
    space.apply(document)

    def ready() -> Any:
        conditions = space.get("ksvc", "imageless").get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == "Ready" and c.get("message")), None)

    reported = eventually(ready, "a condition with a message", within_s=40)
    assert reported is not None
    assert reported["status"] != "True"
    space("delete", "ksvc", "imageless")
