"""What pods reach of the machine and of another platform's pods, with real packets and no platform."""

from __future__ import annotations

import ctypes
import functools
import ipaddress
import os
import socket
import struct
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from ondol.contracts import mesh, proxy
from ondol.node import linux
from ondol.node.network import local, netlink, nft, nft_table, rules, sandbox, service_table, services
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

    def inside(self, work: Callable[[], T], uid: str = "pod") -> T:
        """Do it in the pod's network."""
        path = str(self.network.namespace_path("net", uid))

        def entered() -> T:
            linux.enter(path, linux.CLONE_NEWNET)
            return work()

        return linux.in_own_thread(entered)


def reach(address: object, port: int, *, mark: int = 0, source: str = "") -> str:
    """What a connection is answered with, or how it fails."""
    with socket.socket() as client:
        client.settimeout(3)
        if source:
            client.bind((source, 0))
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
    table = service_table.table(instance, services.entries([service], [slice_]))
    nft.run(nft_table.whole(table))
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
                theirs = proxy.mark(one.network.instance, passthrough=passthrough)
                assert reach(address, port, mark=theirs) == REFUSED
    assert reach(two.pod, 8080, mark=proxy.mark(two.network.instance, passthrough=True)) == "two"
    assert reach(two.service, 80, mark=proxy.mark(two.network.instance)) == "two"


def test_only_root_asks_from_where_the_node_probes(sides: tuple[Side, Side]) -> None:
    """Guarded pods let that address past: nobody else has it, by whichever address a pod is called."""
    one, _ = sides

    def as_nobody(address: object, port: int, source: str) -> str:
        ctypes.CDLL(None).setfsuid(65534)  # of this thread, and so of the sockets that it opens
        return reach(address, port, source=source)

    for address, port in ((one.pod, 8080), (one.service, 80)):
        assert reach(address, port, source=mesh.PROBES_FROM) == "one"
        for source, answer in ((mesh.PROBES_FROM, REFUSED), ("", "one")):
            ask = functools.partial(as_nobody, address, port, source)
            assert linux.in_own_thread(ask) == answer


def test_the_proxy_does_not_dial_the_machine_for_pods(sides: tuple[Side, Side]) -> None:
    """Loopback and link never; the machine's other addresses only where no pod chose them."""
    one, _ = sides
    own = proxy.mark(one.network.instance)
    chosen = proxy.mark(one.network.instance, passthrough=True)
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
        client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, proxy.mark(one.network.instance))
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
    listed = local.addresses()
    assert not any(address.is_loopback for address in listed)
    for address in listed:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))


EVERYBODY = b"\xff" * 6
RESERVED = (bytes.fromhex("0180c2000000"), bytes.fromhex("0180c2000003"), bytes.fromhex("0180c200000e"))
"""Groups whose frames the bridge takes itself, past its rules: spanning tree, 802.1X, LLDP."""
ARP, IPV4, IPV6, VLAN = b"\x08\x06", b"\x08\x00", b"\x86\xdd", b"\x81\x00"


@pytest.fixture
def liar(sides: tuple[Side, Side]) -> Iterator[ipaddress.IPv4Address]:
    """The address of a second pod on the first platform, which has every right in its network."""
    network = sides[0].network
    address = network.pods[3]
    sandbox.create(network, Wiring("liar", "liar", address))
    yield address
    sandbox.destroy(network, "liar")


def claim(operation: int, mac: bytes, address: ipaddress.IPv4Address) -> bytes:
    """An ARP packet that says, unasked, where the address is."""
    about = mac + address.packed
    return struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + about + EVERYBODY + address.packed


def datagram(source: ipaddress.IPv4Address, target: ipaddress.IPv4Address, port: int, text: bytes) -> bytes:
    """An IPv4 packet of UDP."""
    body = struct.pack("!HHHH", 4000, port, 8 + len(text), 0) + text
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 17, 0) + source.packed + target.packed
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    check = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return head[:10] + struct.pack("!H", check) + head[12:] + body


def send(*frames: bytes) -> None:
    """Put them on the pod's wire as they are."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("eth0", 0))
        for frame in frames:
            wire.send(frame.ljust(60, b"\0"))


def bound(network: Network) -> set[tuple[str, str]]:
    """Ports and addresses by the rules of the bridge."""
    listing = nft.run(f"list set {rules.bridge_table(network.instance)} bound")
    assert all(each.mac == sandbox.mac_of(each.address) for each in rules.bindings(listing))
    return {(each.port, str(each.address)) for each in rules.bindings(listing)}


def test_nobody_takes_a_pods_address_by_arp(sides: tuple[Side, Side], liar: ipaddress.IPv4Address) -> None:
    """Whatever is claimed, and from whichever hardware address: the host's calls reach the pod."""
    one, _ = sides
    own, theirs = sandbox.mac_of(liar), sandbox.mac_of(one.pod)
    bridge = netlink.bridge_mac(one.network.bridge)
    lies = [
        target + source + ARP + claim(operation, mac, one.pod)
        for operation in (1, 2)
        for target in (EVERYBODY, bridge, *RESERVED)
        for source, mac in ((own, own), (theirs, own), (theirs, theirs))
    ]
    tagged = EVERYBODY + own + VLAN + b"\x00\x01" + ARP + claim(2, own, one.pod)
    poisoned = EVERYBODY + theirs + ARP + claim(1, own, liar)
    elsewhere = EVERYBODY + own + ARP + claim(1, theirs, liar)
    assert reach(one.pod, 8080) == "one", "the host has learned the address"
    assert one.inside(lambda: reach(one.pod, 8080), "liar") == "one"
    one.inside(lambda: send(*lies, tagged, poisoned, elsewhere), "liar")
    assert reach(one.pod, 8080) == "one"
    assert one.inside(lambda: reach(one.pod, 8080), "liar") == "one", "honest traffic goes on"


def test_no_pod_sends_from_anothers_address(sides: tuple[Side, Side], liar: ipaddress.IPv4Address) -> None:
    """Neither to the host nor to pods; to pods by way of the host alone."""
    one, _ = sides
    own, theirs = sandbox.mac_of(liar), sandbox.mac_of(one.pod)
    gateway, bridge = one.network.gateway, netlink.bridge_mac(one.network.bridge)

    def receiver() -> socket.socket:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("0.0.0.0", 0))
        server.settimeout(5)
        return server

    with receiver() as host, one.inside(receiver) as pod:
        for server, address in ((host, gateway), (pod, one.pod)):
            port = server.getsockname()[1]
            lies = [
                target + source + IPV4 + datagram(claimed, address, port, b"lie")
                for target in (bridge, theirs, EVERYBODY, *RESERVED)
                for source in (own, theirs)
                for claimed in (one.pod, gateway, one.network.pods[9], ipaddress.IPv4Address("192.0.2.1"))
            ]
            past = theirs + own + IPV4 + datagram(liar, address, port, b"past the host")
            tagged = bridge + own + VLAN + b"\x00\x01" + IPV4 + datagram(one.pod, address, port, b"lie")
            sixth = theirs + own + IPV6 + b"\x60" + bytes(39)
            honest = bridge + own + IPV4 + datagram(liar, address, port, b"honest")
            one.inside(functools.partial(send, *lies, past, tagged, sixth, honest), "liar")
            assert server.recvfrom(100)[0] == b"honest", "nothing came before it"


def test_what_is_bound_is_what_lives(sides: tuple[Side, Side], liar: ipaddress.IPv4Address) -> None:
    """From the making of a sandbox to its end, and again when the host is prepared anew."""
    one, _ = sides
    network = one.network
    pod, other = (network.port("pod"), str(one.pod)), (network.port("liar"), str(liar))
    assert bound(network) == {pod, other}
    nft.run(rules.removed(rules.bridge_table(network.instance)))
    for _ in range(2):
        sandbox.prepare_host(network, {"pod": one.pod, "liar": liar})
        assert bound(network) == {pod, other}
    assert one.inside(lambda: reach(one.pod, 8080), "liar") == "one"
    sandbox.destroy(network, "liar")
    assert bound(network) == {pod}
    nft.run(f"flush set {rules.bridge_table(network.instance)} bound")
    sandbox.create(network, Wiring("liar", "liar", liar))
    assert bound(network) == {other}
    sandbox.prepare_host(network, {"pod": one.pod, "liar": liar})


def test_without_the_bridges_rules_no_sandbox_is_made(
    sides: tuple[Side, Side], liar: ipaddress.IPv4Address
) -> None:
    """Somebody flushed the machine's rules: what lives can end, and what begins waits for them."""
    network = sides[0].network
    nft.run(rules.removed(rules.bridge_table(network.instance)))
    sandbox.destroy(network, "liar")
    assert sandbox.existing(network) == ["pod"]
    with pytest.raises(FileNotFoundError, match=f"table bridge ondol-{network.instance}"):
        sandbox.create(network, Wiring("liar", "liar", liar))
    sandbox.prepare_host(network, {"pod": sides[0].pod})
    sandbox.create(network, Wiring("liar", "liar", liar))
    assert (network.port("liar"), str(liar)) in bound(network)
