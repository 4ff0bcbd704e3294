"""NetworkPolicies with real packets between network namespaces: the kernel does what the table says."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import pytest

from ondol.api.objects import Object
from ondol.node import linux
from ondol.node.network import nft, nft_table, policies, policy_table, rules, sandbox, service_table, services
from ondol.node.network.nft_table import Table
from ondol.node.network.policies import NamedPort, Pod
from ondol.node.network.sandbox import Network, Wiring

pytestmark = pytest.mark.root

T = TypeVar("T")

LABELS = {"web": {"app": "web"}, "front": {"app": "front"}, "other": {"app": "other"}}
SPACES = {"shop": {"kubernetes.io/metadata.name": "shop"}, "bank": {"kubernetes.io/metadata.name": "bank"}}
SPACE = {"web": "shop", "front": "shop", "other": "bank"}
PORTS = (8080, 9090)


@dataclass(frozen=True, slots=True)
class Stage:
    """Three pods that answer on two ports, by TCP and UDP, and the machine that does so as well."""

    network: Network
    addresses: dict[str, str]

    def inside(self, pod: str, work: Callable[[], T]) -> T:
        def entered() -> T:
            linux.enter(str(self.network.namespace_path("net", pod)), linux.CLONE_NEWNET)
            return work()

        return linux.in_own_thread(entered) if pod != "host" else work()

    def table(self, listed: Sequence[Object]) -> Table:
        pods = [
            Pod(SPACE[name], self.addresses[name], labels, (NamedPort("admin", "TCP", 9090),))
            for name, labels in LABELS.items()
        ]
        resolver = Pod(
            "kube-system", self.addresses["host"], {"k8s-app": "kube-dns"}, (NamedPort("dns", "UDP", 9090),)
        )
        model = policies.compiled(listed, pods, SPACES, resolver)
        return policy_table.table(self.network.instance, model)

    def services(self) -> Table:
        """Each pod has one, on port 80."""
        listed, slices = [], []
        for number, name in enumerate(LABELS, start=7):
            metadata = {"name": name, "namespace": "shop", "uid": name}
            address = str(self.network.services[number])
            listed.append({"metadata": metadata, "spec": {"clusterIP": address, "ports": [{"port": 80}]}})
            labels = {"kubernetes.io/service-name": name}
            endpoints = [{"addresses": [self.addresses[name]]}]
            slices.append(
                {
                    "metadata": {"namespace": "shop", "labels": labels},
                    "endpoints": endpoints,
                    "ports": [{"port": 8080}],
                }
            )
            self.addresses[f"{name}'s service"] = address
        return service_table.table(self.network.instance, services.entries(listed, slices))

    def reaches(self, source: str, destination: str, protocol: str, port: int) -> bool | None:
        if protocol == "TCP":
            return self.inside(source, partial(tcp, self.addresses[destination], port))
        return self.inside(source, partial(udp, self.addresses[destination], port))


def tcp(address: str, port: int) -> bool:
    """Whether it connects; who may not hears so at once."""
    with socket.socket() as client:
        client.settimeout(20)
        try:
            client.connect((address, port))
        except OSError as error:
            if error.errno in (errno.ECONNREFUSED, errno.EHOSTUNREACH):
                return False
            raise
        return client.recv(1) == b"!"


def udp(address: str, port: int) -> bool | None:
    """The same; None where nobody says anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.connect((address, port))
        for _ in range(10):  # the kernel tells of refusals only so often
            client.send(b"?")
            try:
                return client.recv(1) == b"!"
            except TimeoutError:
                continue
            except OSError:
                return False
    return None


def serve(address: str) -> list[socket.socket]:
    """Answers by TCP and UDP on both ports of the network that the thread is in; connections are kept."""
    sockets = []
    for port in PORTS:
        listener = socket.create_server((address, port))
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind((address, port))
        threading.Thread(target=partial(_accept, listener), daemon=True).start()
        threading.Thread(target=partial(_answer, datagrams), daemon=True).start()
        sockets += [listener, datagrams]
    return sockets


def _accept(listener: socket.socket) -> None:
    with contextlib.ExitStack() as kept:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            kept.enter_context(client)
            client.sendall(b"!")


def _answer(datagrams: socket.socket) -> None:
    while True:
        content, address = datagrams.recvfrom(100)
        if content == b"end":
            return
        datagrams.sendto(b"!", address)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    number = uuid.uuid4().int
    instance = f"{number % 16**6:06x}"
    pods = ipaddress.IPv4Network(f"10.{110 + number % 40}.{number // 40 % 250}.0/24")
    range_ = ipaddress.IPv4Network(f"172.30.{number // 40 % 250}.0/24")
    folder = tmp_path_factory.mktemp("policies")
    network = Network(instance, f"ondol{instance}", pods[1], pods, folder, range_)
    sandbox.prepare_host(network)
    stage = Stage(network, {"host": str(pods[1])})
    sockets: list[socket.socket] = []
    for index, name in enumerate(LABELS, start=2):
        sandbox.create(network, Wiring(name, name, pods[index]))
        stage.addresses[name] = str(pods[index])
    for name, address in stage.addresses.items():
        sockets += stage.inside(name, partial(serve, address))
    nft.run(nft_table.whole(stage.services()))
    yield stage
    for each in sockets:
        if each.type == socket.SOCK_STREAM:
            each.shutdown(socket.SHUT_RDWR)
        else:
            each.sendto(b"end", each.getsockname())
        each.close()
    sandbox.remove_host(network)
    assert rules.policy_table(instance) not in nft.run("list tables")


def policy(name: str, selector: Object, *, namespace: str = "shop", **spec: object) -> Object:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": selector} if selector else {}, **spec},
    }


ADMIN = [{"port": "admin"}]
FROM_FRONT = [{"from": [{"podSelector": {"matchLabels": {"app": "front"}}}]}]
BANK = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "bank"}}}
RESOLVER = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
DENY = policy("deny", {}, policyTypes=["Ingress", "Egress"])

CASES: list[tuple[str, list[Object], dict[tuple[str, str, str, int], bool]]] = [
    ("none", [], {("front", "web", "TCP", 8080): True, ("other", "web", "UDP", 9090): True}),
    (
        "deny ingress",
        [policy("deny", {"app": "web"})],
        {
            ("front", "web", "TCP", 8080): False,
            ("front", "web", "UDP", 8080): False,
            ("other", "web", "TCP", 9090): False,
            ("host", "web", "TCP", 8080): True,  # the node reaches its pods
            ("host", "web", "UDP", 8080): True,
            ("web", "web", "TCP", 8080): True,  # and a pod itself
            ("web", "web's service", "TCP", 80): True,
            ("front", "web's service", "TCP", 80): False,
            ("front", "other's service", "TCP", 80): True,
            ("host", "web's service", "TCP", 80): True,
            ("web", "front", "TCP", 8080): True,
            ("web", "front", "UDP", 8080): True,
            ("web", "host", "TCP", 8080): True,
        },
    ),
    (
        "from a pod",
        [policy("front", {"app": "web"}, ingress=FROM_FRONT)],
        {
            ("front", "web", "TCP", 8080): True,
            ("front", "web", "UDP", 9090): True,
            ("other", "web", "TCP", 8080): False,
            ("other", "web", "UDP", 8080): False,
        },
    ),
    (
        "from a namespace, to a named port",
        [policy("bank", {"app": "web"}, ingress=[{"from": [BANK], "ports": ADMIN}])],
        {
            ("other", "web", "TCP", 9090): True,
            ("other", "web", "UDP", 9090): False,
            ("other", "web", "TCP", 8080): False,
            ("front", "web", "TCP", 9090): False,
        },
    ),
    (
        "two policies are more than one",
        [
            policy("bank", {"app": "web"}, ingress=[{"from": [BANK], "ports": ADMIN}]),
            policy("front", {"app": "web"}, ingress=FROM_FRONT),
        ],
        {
            ("front", "web", "TCP", 8080): True,
            ("other", "web", "TCP", 9090): True,
            ("other", "web", "TCP", 8080): False,
        },
    ),
    (
        "a range of ports",
        [policy("range", {"app": "web"}, ingress=[{"ports": [{"port": 8000, "endPort": 8080}]}])],
        {
            ("front", "web", "TCP", 8080): True,
            ("front", "web", "TCP", 9090): False,
            ("front", "web", "UDP", 8080): False,
        },
    ),
    (
        "deny all but the name server",
        [DENY, policy("dns", {}, policyTypes=["Egress"], egress=[{"to": [RESOLVER]}])],
        {
            ("front", "host", "UDP", 9090): True,
            ("front", "host", "TCP", 9090): False,
            ("front", "host", "UDP", 8080): False,
            ("front", "web", "TCP", 8080): False,
            ("front", "other", "UDP", 8080): False,
            ("other", "host", "TCP", 8080): True,
            ("host", "front", "TCP", 8080): True,
        },
    ),
    (
        "out to a network without a part",
        [
            policy(
                "blocks",
                {"app": "front"},
                egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["WEB"]}}]}],
            )
        ],
        {
            ("front", "web", "TCP", 8080): False,
            ("front", "other", "TCP", 8080): True,
            ("front", "other", "UDP", 8080): True,
            ("front", "host", "TCP", 8080): True,
        },
    ),
]


def test_the_kernel_does_what_the_table_says(stage: Stage) -> None:
    """Each world after the one before, by what differs; TCP and UDP, both directions, the machine too."""
    wrong = []
    nft.run(nft_table.whole(stage.table([])))
    before = stage.table([])
    for name, listed, expected in CASES:
        for each in listed:
            for rule in each["spec"].get("egress") or ():
                for peer in rule.get("to") or ():
                    if "ipBlock" in peer:
                        peer["ipBlock"]["except"] = [f"{stage.addresses['web']}/32"]
        after = stage.table(listed)
        nft.run(nft_table.difference(before, after))
        before = after
        for call, is_allowed in expected.items():
            answer = stage.reaches(*call)
            if answer != is_allowed:
                wrong.append((name, call, answer))
    assert wrong == []


@pytest.mark.parametrize(
    ("way", "at", "heard"), [("web", 8080, ConnectionResetError), ("web's service", 80, TimeoutError)]
)
def test_a_new_policy_holds_for_connections_that_are_there(
    stage: Stage, way: str, at: int, heard: type[OSError]
) -> None:
    """Nothing more of them arrives, and who called a pod's own address hears so; the callee's own go on."""
    nft.run(nft_table.whole(stage.table([])))
    with (
        stage.inside("front", socket.socket) as kept,
        stage.inside("web", socket.socket) as back,
    ):
        for client, server, port in ((kept, way, at), (back, "front", 8080)):
            client.settimeout(20)
            client.connect((stage.addresses[server], port))
            assert client.recv(1) == b"!"
        nft.run(nft_table.whole(stage.table([policy("deny", {"app": "web"})])))
        kept.sendall(b"more")
        kept.settimeout(20 if heard is ConnectionResetError else 0.2)
        with pytest.raises(heard):
            kept.recv(1)
        back.sendall(b"more")
        back.settimeout(0.2)
        with pytest.raises(TimeoutError):
            back.recv(1)  # nobody answers it, nobody ends it
