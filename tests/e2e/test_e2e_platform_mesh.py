"""The mesh on a real platform: names, Services, splits, retries, ingress, traces, through the real Envoy."""

from __future__ import annotations

import itertools
import json
import secrets
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, Platform, Reply, ask, eventually, get, through

pytestmark = [pytest.mark.e2e, pytest.mark.root]


_numbers: Final = itertools.count()


@dataclass(frozen=True, slots=True)
class World:
    """Two versions of `reviews`, and a pod that asks for them."""

    kubectl: Kubectl
    client: str

    def ask(self, host: str = "reviews", path: str = "/", **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return through(self.client, f"http://{host}{path}", named)

    def versions(self, count: int, host: str = "reviews") -> Counter[str]:
        """Who answered how many of so many requests."""
        return Counter(str(self.ask(host).value["version"]) for _ in range(count))

    def settled(self, document: Any) -> None:
        """Apply and wait until the proxy has taken it."""
        self.kubectl.apply(document)
        kind, name = document["kind"], document["metadata"]["name"]
        eventually(
            lambda: condition(self.kubectl, kind, name, "Programmed").get("status") == "True",
            f"{kind} {name} is programmed",
        )


def condition(kubectl: Kubectl, kind: str, name: str, type_: str) -> dict[str, Any]:
    """What the mesh says of an object as it is now, empty if it has not spoken yet."""
    obj = kubectl.get(kind, name)
    for entry in obj.get("status", {}).get("conditions", []):
        current = entry.get("observedGeneration") == obj["metadata"]["generation"]
        if current and entry["type"] == type_:
            return dict(entry)
    return {}


def printed(kubectl: Kubectl, kind: str, name: str) -> dict[str, str]:
    """Whether the proxy has it and why not, as a table shows them: each cell stands below its head."""
    head, row = kubectl("get", kind, name).splitlines()
    return {column: row[head.index(column) :].partition(" ")[0] for column in ("PROGRAMMED", "REASON")}


@pytest.fixture(scope="module")
def world(space: Kubectl) -> World:
    space.apply(
        objects.service("reviews"),
        objects.deployment("reviews-v1", app="reviews", version="1"),
        objects.deployment("reviews-v2", app="reviews", version="2"),
        objects.pod("client"),
        objects.subsets("reviews", "1", "2"),
    )
    for name in ("reviews-v1", "reviews-v2"):
        space("rollout", "status", f"deployment/{name}", "--timeout=25s")
    space("wait", "--for=condition=Ready", "pod/client", "--timeout=25s")
    ready = World(space, space.path("pod", "client", ".status.podIP"))
    eventually(lambda: ready.ask().status == 200, "the service answers")
    return ready


@pytest.fixture(autouse=True)
def plain(world: World) -> Iterator[None]:
    """Each test begins and ends without a VirtualService."""
    yield
    world.kubectl("delete", "virtualservices", "--all")


def test_names(world: World) -> None:
    """A Service is found by its short name and by every longer one; unknown names do not exist."""
    namespace = world.kubectl.namespace
    for suffix in ("", f".{namespace}", f".{namespace}.svc", f".{namespace}.svc.cluster.local"):
        assert world.ask(f"reviews{suffix}").status == 200, suffix
    assert world.ask("nobody").status in {0, 502, 503}


def test_requests_go_through_envoy(world: World) -> None:
    """The hop between two pods is Envoy's, and it tells the application where the request came in."""
    assert {"1", "2"} == set(world.versions(20))


def test_weighted_split(world: World) -> None:
    """Nine to one is nine to one, within what chance allows."""
    destinations = [
        {"destination": {"host": "reviews", "subset": "v1"}, "weight": 90},
        {"destination": {"host": "reviews", "subset": "v2"}, "weight": 10},
    ]
    world.settled(objects.virtual_service("reviews", {"route": destinations}))
    eventually(lambda: world.versions(40)["2"] < 16, "the split is there")
    seen = world.versions(200)
    assert seen["1"] + seen["2"] == 200
    assert 4 <= seen["2"] <= 42, seen  # more than four standard deviations


def test_header_match(world: World) -> None:
    """Requests with a header go elsewhere than all others."""
    testers = {
        "match": [{"headers": {"x-tester": {"exact": "yes"}}}],
        "route": [{"destination": {"host": "reviews", "subset": "v2"}}],
    }
    everyone = {"route": [{"destination": {"host": "reviews", "subset": "v1"}}]}
    world.settled(objects.virtual_service("reviews", testers, everyone))
    eventually(lambda: set(world.versions(10)) == {"1"}, "everyone gets version 1")
    assert {world.ask(x_tester="yes").value["version"] for _ in range(10)} == {"2"}
    assert {world.ask(x_tester="no").value["version"] for _ in range(5)} == {"1"}


def test_retries(world: World) -> None:
    """Failures are tried again as often as asked, and no oftener."""
    to_one = [{"destination": {"host": "reviews", "subset": "v1"}}]
    retries = {"attempts": 3, "retryOn": "5xx"}
    world.settled(objects.virtual_service("reviews", {"route": to_one, "retries": retries}))

    def retried() -> Reply | None:
        reply = world.ask(path=f"/flaky?key=a{next(_numbers)}&times=2")
        return reply if reply.status == 200 else None

    attempts = eventually(retried, "failures are tried again")
    assert attempts is not None
    assert attempts.value == 3
    assert world.ask(path="/flaky?key=b&times=9").status == 503
    assert world.ask(path="/flaky?key=b&times=0").value == 5


def test_timeout(world: World) -> None:
    """A request that takes longer than allowed is answered 504 in that time."""
    to_one = [{"destination": {"host": "reviews", "subset": "v1"}}]
    world.settled(objects.virtual_service("reviews", {"route": to_one, "timeout": "0.5s"}))
    eventually(lambda: world.ask(path="/sleep?s=0.9").status == 504, "the timeout is there")
    slow = world.ask(path="/sleep?s=3")
    assert slow.status == 504
    assert 0.4 < slow.seconds < 1.5
    assert world.ask(path="/sleep?s=0.1").status == 200


def test_faults_and_rewrites(world: World) -> None:
    """An injected fault answers in place of the service."""
    fault = {"abort": {"httpStatus": 418, "percentage": {"value": 100}}}
    rule = {"fault": fault, "route": [{"destination": {"host": "reviews"}}]}
    world.settled(objects.virtual_service("reviews", rule))
    eventually(lambda: world.ask().status == 418, "the fault is injected")


@pytest.mark.parametrize(
    ("host", "subset", "code"), [("reviews", "v9", "KIA1107"), ("nobody-there", "v1", "KIA1101")]
)
def test_destinations_that_are_not_there_are_told(world: World, host: str, subset: str, code: str) -> None:
    """A VirtualService that leads nowhere says so, and the one that served before goes on."""
    good = {"route": [{"destination": {"host": "reviews", "subset": "v1"}}]}
    world.settled(objects.virtual_service("reviews", good))
    rule = {"route": [{"destination": {"host": host, "subset": subset}}]}
    world.kubectl.apply(objects.virtual_service("reviews", rule))
    reported = eventually(
        lambda: condition(world.kubectl, "VirtualService", "reviews", "PassedAnalysis"), "a condition"
    )
    assert (reported["status"], reported["reason"]) == ("False", code), reported
    assert (subset if host == "reviews" else host) in reported["message"]
    accepted = condition(world.kubectl, "VirtualService", "reviews", "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "DestinationMissing"), accepted
    assert set(world.versions(10)) == {"1"}


def test_what_the_proxy_refuses_is_told_and_the_last_good_serves(world: World) -> None:
    """A VirtualService that Envoy does not take says why on itself; requests go on as before."""
    good = {"route": [{"destination": {"host": "reviews", "subset": "v1"}}]}
    world.settled(objects.virtual_service("reviews", good))
    assert set(world.versions(10)) == {"1"}
    bad = {
        "match": [{"uri": {"regex": "a(b"}}],
        "route": [{"destination": {"host": "reviews", "subset": "v2"}}],
    }
    world.kubectl.apply(objects.virtual_service("reviews", bad))
    reported = eventually(
        lambda: condition(world.kubectl, "VirtualService", "reviews", "Programmed"), "a condition"
    )
    assert reported["status"] == "False", reported
    assert "missing )" in reported["message"]
    assert printed(world.kubectl, "vs", "reviews") == {"PROGRAMMED": "False", "REASON": "RejectedByProxy"}
    assert reported["message"] in world.kubectl("get", "vs", "reviews", "-o", "wide")
    assert set(world.versions(10)) == {"1"}


def test_a_gateway_opens_no_port_that_it_may_not(world: World) -> None:
    """The machine's own are the administrator's to give: who asks for another reads why it is not had."""
    server = {"port": {"number": 587, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    spec = {"selector": {"istio": "ingressgateway"}, "servers": [server]}
    world.kubectl.apply({**objects.virtual_service("greedy"), "kind": "Gateway", "spec": spec})
    eventually(
        lambda: printed(world.kubectl, "gw", "greedy") == {"PROGRAMMED": "False", "REASON": "PortNotAllowed"},
        "the refusal is printed",
    )
    assert "setting ingress_ports" in condition(world.kubectl, "Gateway", "greedy", "Accepted")["message"]
    field = "involvedObject.name=greedy"
    eventually(
        lambda: "PortNotAllowed" in world.kubectl("get", "events", "--field-selector", field), "an event"
    )
    world.kubectl("delete", "gw", "greedy")


def test_opting_out(world: World, cluster: Kubectl) -> None:
    """A namespace labelled so is left alone: its pods reach Services directly, by no rule of the mesh."""
    good = {"fault": {"abort": {"httpStatus": 418, "percentage": {"value": 100}}}}
    rule = {**good, "route": [{"destination": {"host": "reviews"}}]}
    world.settled(objects.virtual_service("reviews", rule))
    eventually(lambda: world.ask().status == 418, "the mesh has the rule")
    namespace = f"{world.kubectl.namespace}-out"
    cluster("create", "namespace", namespace)
    cluster("label", "namespace", namespace, "istio.io/dataplane-mode=none")
    outside = cluster.inside(namespace)
    outside.apply(objects.pod("client"))
    outside("wait", "--for=condition=Ready", "pod/client", "--timeout=25s")
    address = outside.path("pod", "client", ".status.podIP")
    assert through(address, f"http://reviews.{world.kubectl.namespace}/").status == 200
    cluster("delete", "namespace", namespace, "--wait=false")


def test_host_reaches_services(world: World) -> None:
    """The machine itself reaches a Service by its cluster address."""
    address = world.kubectl.path("service", "reviews", ".spec.clusterIP")
    eventually(lambda: get(f"http://{address}/").status == 200, "the host reaches it")


def test_host_reaches_services_while_pods_come_and_go(world: World) -> None:
    """Pods that start and end beside a Service do not hold up who asks for it."""
    address = world.kubectl.path("service", "reviews", ".spec.clusterIP")
    slowest = 0.0
    for name in ("passing1", "passing2", "passing3"):
        world.kubectl.apply(objects.pod(name, objects.container(), terminationGracePeriodSeconds=0))
        world.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=25s")
        replies = [get(f"http://{address}/") for _ in range(8)]
        world.kubectl("delete", "pod", name)
        replies += [get(f"http://{address}/") for _ in range(8)]
        assert {reply.status for reply in replies} == {200}
        slowest = max(slowest, *(reply.seconds for reply in replies))
    assert slowest < 3


def test_ingress(world: World, platform: Platform) -> None:
    """From outside, the ingress address routes by host; an unknown host is 404."""
    host = f"{world.kubectl.namespace}.example.test"
    rule = {"route": [{"destination": {"host": "reviews", "port": {"number": 80}}}]}
    entry = objects.virtual_service("outside", rule, hosts=[host], gateways=["ondol-system/ingress"])
    world.settled(entry)
    eventually(lambda: get(platform.ingress, headers={"Host": host}).status == 200, "ingress answers")
    assert get(platform.ingress, headers={"Host": "unknown.example.test"}).status == 404


def test_scaling_does_not_lose_requests(world: World) -> None:
    """While endpoints come and go, requests are answered, by programs that end as soon as they are told."""
    world.kubectl("scale", "deployment/reviews-v1", "--replicas=3")
    failed = [r for _ in range(40) if (r := world.ask()).status != 200]
    world.kubectl("rollout", "status", "deployment/reviews-v1", "--timeout=25s")
    world.kubectl("scale", "deployment/reviews-v1", "--replicas=1")
    failed += [r for _ in range(60) if (r := world.ask()).status != 200]
    world.kubectl("rollout", "restart", "deployment/reviews-v1", "deployment/reviews-v2")
    with ThreadPoolExecutor(4) as pool:
        replies = pool.map(lambda _: world.ask(), range(600))
        world.kubectl("rollout", "status", "deployment/reviews-v1", "--timeout=25s")
        failed += [reply for reply in replies if reply.status != 200]
    assert failed == []


def test_traces(world: World, platform: Platform) -> None:
    """A request's spans join the caller's trace, which is listed, drawn and printed as data."""
    trace_id = secrets.token_hex(16)
    assert world.ask(traceparent=f"00-{trace_id}-{secrets.token_hex(8)}-01").status == 200

    def mine() -> list[Any]:
        listed = json.loads(platform("traces", "-o", "json", "--limit", "50"))
        return [trace for trace in listed if trace["traceId"] == trace_id]

    (summary,) = eventually(mine, "the trace is listed", every_s=0.5)
    assert summary["rootServiceName"] == "client"
    drawing = platform("traces", trace_id)
    assert "reviews" in drawing
    assert "ms" in drawing
    assert trace_id in platform("traces")


def test_a_pod_that_is_asked_directly(world: World) -> None:
    """A pod is reachable at its own address from another pod, through the mesh."""
    (one,) = world.kubectl.list("pods", "-l", "app=reviews,version=v2")
    reply = through(world.client, f"http://{one['status']['podIP']}:{objects.PORT}/")
    assert reply.value["version"] == "2"


def test_no_endpoint(world: World) -> None:
    """A Service that nothing stands behind answers with an error, at once."""
    world.kubectl.apply(objects.service("empty"))
    eventually(lambda: world.ask("empty").status == 503, "503 from the mesh")
    assert world.ask("empty").seconds < 3


def test_names_resolve_inside(world: World) -> None:
    """Names in DNS: a Service's cluster address, and what does not exist."""
    code = "import socket; print(socket.gethostbyname('reviews'))"
    world.kubectl.apply(objects.pod("resolver", objects.python(code), restartPolicy="Never"))
    eventually(lambda: world.kubectl.path("pod", "resolver", ".status.phase") == "Succeeded", "it resolved")
    address = world.kubectl.path("service", "reviews", ".spec.clusterIP")
    assert world.kubectl("logs", "resolver").strip() == address
    assert ask(world.client, "file", path="/etc/resolv.conf").count("nameserver") == 1
