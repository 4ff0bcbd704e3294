"""What pods reach of the machine and of another platform's pods, with real packets and no platform."""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from ondol.api import dataplane
from ondol.node import linux
from ondol.node.network import local, nft, sandbox, services
from ondol.node.network.sandbox import Network, Wiring

pytestmark = pytest.mark.root

T = TypeVar("T")

REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Side:
    """One platform's network with one pod, which listens on port 8080."""

    network: Network
    pod: ipaddress.IPv4Address
    service: ipaddress.IPv4Address
    """An address of the pod's Service, port 80."""

    def inside(self, work: Callable[[], T]) -> T:
        """Do it in the pod's network."""
        path = str(self.network.namespace_path("net", "pod"))

        def entered() -> T:
            linux.enter(path, linux.CLONE_NEWNET)
            return work()

        return linux.in_own_thread(entered)


def reach(address: object, port: int, *, mark: int = 0) -> str:
    """What a connection is answered with, or how it fails."""
    with socket.socket() as client:
        client.settimeout(3)
        if mark:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        try:
            client.connect((str(address), port))
            return client.recv(100).decode()
        except (ConnectionRefusedError, ConnectionResetError):
            return REFUSED
        except OSError as error:
            return type(error).__name__


def listen(name: str, address: str, port: int) -> socket.socket:
    """A server that answers everybody with its name."""
    server = socket.create_server((address, port))

    def answer() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                client.sendall(name.encode())

    threading.Thread(target=answer, daemon=True).start()
    return server


def _side(folder: Path, name: str) -> Side:
    number = uuid.uuid4().int
    second, third = 200 + number % 40, number // 40 % 250
    instance = f"{number % 16**6:06x}"
    pods = ipaddress.IPv4Network(f"10.{second}.{third}.0/24")
    range_ = ipaddress.IPv4Network(f"172.{16 + number % 15}.{third}.0/24")
    network = Network(instance, f"ondol{instance}", pods[1], pods, folder / name, range_)
    sandbox.prepare_host(network)
    sandbox.create(network, Wiring("pod", name, pods[2]))
    owner = {"name": name, "namespace": "default", "uid": name}
    service = {"metadata": owner, "spec": {"clusterIP": str(range_[7]), "ports": [{"port": 80}]}}
    slice_ = {
        "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "endpoints": [{"addresses": [str(pods[2])]}],
        "ports": [{"port": 8080}],
    }
    nft.run(services.table(instance, services.entries([service], [slice_])))
    return Side(network, pods[2], range_[7])


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """Two platforms side by side; each pod answers with its name."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    folder = tmp_path_factory.mktemp("sides")
    one, two = _side(folder, "one"), _side(folder, "two")
    servers = [
        side.inside(functools.partial(listen, name, "0.0.0.0", 8080))
        for side, name in ((one, "one"), (two, "two"))
    ]
    yield one, two
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
    for side in (one, two):
        sandbox.remove_host(side.network)


def test_platforms_do_not_reach_each_other(sides: tuple[Side, Side]) -> None:
    """Not by a pod's address, a Service's or the node's, and not through the other's proxy."""
    one, two = sides
    assert reach(two.pod, 8080) == "two", "the host reaches pods"
    assert reach(two.service, 80) == "two"
    assert one.inside(lambda: reach(one.service, 80)) == "one", "a pod reaches its own platform"
    with listen("node", str(two.network.gateway), 8090):
        for address, port in ((two.pod, 8080), (two.service, 80), (two.network.gateway, 8090)):
            assert one.inside(functools.partial(reach, address, port)) == REFUSED
            for passthrough in (False, True):
                theirs = dataplane.mark(one.network.instance, passthrough=passthrough)
                assert reach(address, port, mark=theirs) == REFUSED
    assert reach(two.pod, 8080, mark=dataplane.mark(two.network.instance, passthrough=True)) == "two"
    assert reach(two.service, 80, mark=dataplane.mark(two.network.instance)) == "two"


def test_the_proxy_does_not_dial_the_machine_for_pods(sides: tuple[Side, Side]) -> None:
    """Loopback and link never; the machine's other addresses only where no pod chose them."""
    one, _ = sides
    own = dataplane.mark(one.network.instance)
    chosen = dataplane.mark(one.network.instance, passthrough=True)
    with listen("host", "0.0.0.0", 0) as server:
        port = server.getsockname()[1]
        assert reach("127.0.0.1", port) == "host", "who is on the machine reaches it"
        for mark in (own, chosen):
            for address in ("127.0.0.1", "127.8.8.8", "0.0.0.0"):
                assert reach(address, port, mark=mark) == REFUSED
            assert reach("169.254.169.254", 80, mark=mark) in (REFUSED, "OSError")
        for address in map(str, local.addresses()):
            assert reach(address, port, mark=chosen) == REFUSED
        assert reach(one.network.gateway, port, mark=own) == "host", "an endpoint may be at the node"


def test_a_mapped_address_is_what_it_maps_to(sides: tuple[Side, Side]) -> None:
    """An IPv6 socket to ::ffff:127.0.0.1 sends IPv4, and the rules see that."""
    one, _ = sides
    with listen("host", "127.0.0.1", 0) as server, socket.socket(socket.AF_INET6) as client:
        client.settimeout(3)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, dataplane.mark(one.network.instance))
        with pytest.raises(ConnectionRefusedError):
            client.connect(("::ffff:127.0.0.1", server.getsockname()[1]))


def test_an_address_that_no_service_has_is_refused(sides: tuple[Side, Side]) -> None:
    """At once, from the host and from pods; nothing of it leaves by the default route."""
    one, _ = sides
    nobody = one.network.services[99]
    assert reach(nobody, 80) == REFUSED
    assert one.inside(lambda: reach(nobody, 80)) == REFUSED
    assert reach(one.service, 81) == REFUSED


def test_a_pods_loopback_is_its_own(sides: tuple[Side, Side]) -> None:
    """What listens on the machine's is not there."""
    one, _ = sides
    with listen("host", "127.0.0.1", 0) as server:
        port = server.getsockname()[1]
        assert one.inside(lambda: reach("127.0.0.1", port)) == REFUSED


def test_the_machines_own_addresses_are_listed() -> None:
    """As its routing has them, loopback aside."""
    found = local.addresses()
    assert not any(address.is_loopback for address in found)
    for address in found:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
