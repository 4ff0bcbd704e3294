"""NetworkPolicies on a real platform: real kubectl, real containers, in the mesh and beside it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, Platform, eventually, get, through

pytestmark = [pytest.mark.e2e, pytest.mark.root]

BESIDE = {"sidecar.istio.io/inject": "false"}
DNS = {
    "to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}
SERVERS = ("web", "plain")
CLIENTS = ("inside", "beside")


def policy(name: str, selector: dict[str, str], **spec: Any) -> dict[str, Any]:
    full = {"podSelector": {"matchLabels": selector} if selector else {}, **spec}
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    return {**kind, "metadata": {"name": name}, "spec": full}


@dataclass(frozen=True, slots=True)
class Town:
    """Servers and clients in the mesh and beside it, and a client in a namespace of its own."""

    kubectl: Kubectl
    addresses: dict[str, str]

    def answers(self, client: str, url: str) -> bool:
        return through(self.addresses[client], url).status == 200

    def reaching(self) -> set[tuple[str, str]]:
        """Which clients have an answer of which servers; whoever has none hears so at once."""
        pairs = set()
        for client in (*CLIENTS, "stranger"):
            for server in SERVERS:
                host = f"{server}.{self.kubectl.namespace}"
                reply = through(self.addresses[client], f"http://{host}/")
                if reply.status == 200:
                    pairs.add((client, server))
                else:
                    assert reply.status in (0, 503), reply
                    is_unnamed = "name resolution" in str(reply.value)  # a resolver asks several times
                    assert is_unnamed or reply.seconds < 5, reply
        return pairs

    def end_of(self, pod: str) -> str:
        def ended() -> str:
            phase = self.kubectl.path("pod", pod, ".status.phase")
            return phase if phase in ("Succeeded", "Failed") else ""

        return eventually(ended, f"{pod} has ended")

    def settles(self, expected: set[tuple[str, str]], what: str) -> None:
        eventually(lambda: self.reaching() == expected, what)


EVERYBODY = {(client, server) for client in (*CLIENTS, "stranger") for server in SERVERS}


@pytest.fixture(scope="module")
def town(space: Kubectl, cluster: Kubectl) -> Iterator[Town]:
    port = [{"name": "web", "containerPort": objects.PORT}]
    apart = cluster.inside(f"{space.namespace}-apart")
    cluster("create", "namespace", apart.namespace)
    cluster("label", "namespace", apart.namespace, "town=apart")
    for name in SERVERS:
        labels = BESIDE if name == "plain" else {}
        space.apply(objects.service(name))
        space.apply(objects.pod(name, objects.container(ports=port), labels={**labels, "role": "server"}))
    space.apply(objects.pod("inside", labels={"role": "client"}))
    space.apply(objects.pod("beside", labels={"role": "client", **BESIDE}))
    apart.apply(objects.pod("stranger"))
    addresses = {}
    for name in (*SERVERS, *CLIENTS, "stranger"):
        where = apart if name == "stranger" else space
        where("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=30s")
        addresses[name] = where.path("pod", name, ".status.podIP")
    town = Town(space, addresses)
    town.settles(EVERYBODY, "everybody reaches everybody")
    yield town
    cluster("delete", "namespace", apart.namespace, "--wait=false")


@pytest.fixture(autouse=True)
def open_again(town: Town) -> Iterator[None]:
    """Each test ends without policies, and with everybody reaching everybody."""
    yield
    town.kubectl("delete", "networkpolicies", "--all")
    town.settles(EVERYBODY, "without policies all is open")


def test_nothing_is_said_to_be_ignored(town: Town) -> None:
    """The API takes a policy without a warning."""
    result = town.kubectl.run("apply", "-f", "-", stdin=policy("deny", {"app": "nobody"}))
    assert "Warning" not in result.err


def test_deny_all_that_comes_in(town: Town) -> None:
    """In the mesh or beside it, also on kept connections; the node reaches its pods, which stay ready."""
    town.kubectl.apply(policy("deny", {}))
    town.settles(set(), "nobody reaches anybody")
    refused = through(town.addresses["inside"], "http://web/")
    assert (refused.status, refused.seconds < 2) == (503, True), refused
    for name in SERVERS:
        assert get(f"http://{town.addresses[name]}:{objects.PORT}/").status == 200
        assert town.kubectl.path("pod", name, ".status.containerStatuses[0].ready") == "true"
        assert town.kubectl.path("pod", name, ".status.containerStatuses[0].restartCount") == "0"


def test_let_in_by_labels(town: Town) -> None:
    """Of pods and of namespaces; two policies allow what either does; labels may change."""
    ingress = [{"from": [{"podSelector": {"matchLabels": {"app": "beside"}}}]}]
    town.kubectl.apply(policy("beside", {"role": "server"}, ingress=ingress))
    town.settles({("beside", "web"), ("beside", "plain")}, "one of the clients is let in")
    apart = [{"from": [{"namespaceSelector": {"matchLabels": {"town": "apart"}}}]}]
    town.kubectl.apply(policy("apart", {"app": "web"}, ingress=apart))
    town.settles(
        {("beside", "web"), ("beside", "plain"), ("stranger", "web")}, "and another namespace, to one of them"
    )
    town.kubectl("label", "pod", "plain", "role=none", "--overwrite")
    named = {(client, "plain") for client in (*CLIENTS, "stranger")}
    town.settles({("beside", "web"), ("stranger", "web"), *named}, "who is no longer selected is free")
    town.kubectl("label", "pod", "plain", "role=server", "--overwrite")


@pytest.mark.parametrize(
    ("port", "is_open"),
    [
        ({"port": objects.PORT}, True),
        ({"port": "web"}, True),
        ({"port": objects.PORT - 10, "endPort": objects.PORT}, True),
        ({"port": 80}, False),  # a Service's port is not the pod's
        ({"port": objects.PORT, "protocol": "UDP"}, False),
        ({"port": "other"}, False),
    ],
)
def test_ports(town: Town, port: dict[str, Any], is_open: bool) -> None:
    """By number, by name, in a range, of a protocol."""
    town.kubectl.apply(policy("port", {"role": "server"}, ingress=[{"ports": [port]}]))
    town.settles(EVERYBODY if is_open else set(), "the port is as it was asked for")


def test_out_only_to_names_and_one_server(town: Town) -> None:
    """Without DNS no name is found; with it names are, and what is not allowed is refused at once."""
    free = {("stranger", server) for server in SERVERS}
    town.kubectl.apply(policy("out", {"role": "client"}, policyTypes=["Egress"]))
    town.settles(free, "nothing leaves")
    assert "name" in str(through(town.addresses["inside"], "http://web/").value)
    server = {"to": [{"podSelector": {"matchLabels": {"app": "web"}}}]}
    town.kubectl.apply(policy("names", {"role": "client"}, policyTypes=["Egress"], egress=[DNS, server]))
    town.settles({*free, ("inside", "web"), ("beside", "web")}, "names are found, and one server")
    assert through(town.addresses["inside"], "http://plain/").status == 503
    assert through(town.addresses["beside"], "http://plain/").status == 0


def test_a_network_without_a_part(town: Town) -> None:
    """Everywhere but to one address; the other way round, from nobody but one."""
    block = {"cidr": "0.0.0.0/0", "except": [f"{town.addresses['plain']}/32"]}
    town.kubectl.apply(
        policy("out", {"role": "client"}, policyTypes=["Egress"], egress=[{"to": [{"ipBlock": block}]}])
    )
    own = {("inside", "web"), ("beside", "web")}
    town.settles({*own, ("stranger", "web"), ("stranger", "plain")}, "one address is not reached")
    one = [{"from": [{"ipBlock": {"cidr": f"{town.addresses['inside']}/32"}}]}]
    town.kubectl.apply(policy("in", {"app": "web"}, ingress=one))
    town.settles({("inside", "web"), ("stranger", "plain")}, "and one is let in")


def test_no_part_that_ends_opens_anything(town: Town, platform: Platform) -> None:
    """The node's agent and the API are killed; what was refused stays refused, and later policies act."""
    town.kubectl.apply(policy("deny", {"role": "server"}))
    town.settles(set(), "nobody reaches anybody")
    for part in ("node", "api"):
        before = platform.pids()
        os.kill(before[part], signal.SIGKILL)

        def is_back(part: str = part, before: dict[str, int] = before) -> bool:
            for client in ("inside", "beside"):
                for server in SERVERS:
                    url = f"http://{town.addresses[server]}:{objects.PORT}/"
                    assert not town.answers(client, url)
            return platform.pids()[part] not in (0, before[part]) and platform.ready()

        eventually(is_back, f"{part} is back")
    ingress = [{"from": [{"podSelector": {"matchLabels": {"app": "beside"}}}]}]
    town.kubectl.apply(policy("beside", {"app": "web"}, ingress=ingress))
    town.settles({("beside", "web")}, "one is let in")


def test_a_pod_begins_under_its_policies(town: Town) -> None:
    """What its containers do first is judged already."""
    town.kubectl.apply(policy("out", {"job": "probe"}, policyTypes=["Egress"]))
    target = town.addresses["plain"]
    code = (
        "import socket, sys\n"
        f"try: socket.create_connection(('{target}', {objects.PORT}), 5)\n"
        "except ConnectionRefusedError: sys.exit(0)\n"
        "sys.exit(1)"
    )
    names = [f"probe-{number}" for number in range(3)]
    for name in names:
        labels = {"job": "probe", **BESIDE}
        town.kubectl.apply(objects.pod(name, objects.python(code), labels=labels, restartPolicy="Never"))
    for name in names:
        assert town.end_of(name) == "Succeeded"
        town.kubectl("delete", "pod", name, "--wait=false")
