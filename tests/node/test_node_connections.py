"""What the proxy has in a pod's network: its connections pass the redirect, and end with the pod."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ondol.contracts import proxy
from ondol.node import linux
from ondol.node.network import connections, nft, rules, sandbox
from ondol.node.network.sandbox import Network, Wiring

pytestmark = pytest.mark.root


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    number = uuid.uuid4().int
    instance = f"{number % 16**6:06x}"
    pods = ipaddress.IPv4Network(f"10.{150 + number % 40}.{number // 40 % 250}.0/24")
    services = ipaddress.IPv4Network("172.31.0.0/24")
    network = Network(instance, f"ondol{instance}", pods[1], pods, tmp_path, services)
    sandbox.prepare_host(network)
    yield network
    sandbox.remove_host(network)


def inside(network: Network, work: partial[socket.socket] | partial[str]) -> object:
    def entered() -> object:
        linux.enter(str(network.namespace_path("net", "pod")), linux.CLONE_NEWNET)
        return work()

    return linux.in_own_thread(entered)


def dial(address: object, port: int, mark: int = 0) -> socket.socket:
    client = socket.socket()
    client.settimeout(5)
    if mark:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    try:
        client.connect((str(address), port))
    except OSError:
        client.close()
        raise
    return client


def command(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_connections_end_with_the_pod(network: Network) -> None:
    """Whoever holds one reads that at once, also one that a server sends nothing on, and nothing stays."""
    sandbox.create(network, Wiring("pod", "pod", network.pods[2]))
    witness = f"wt{network.instance}"
    path = str(network.namespace_path("net", "pod"))
    command("ip", "link", "add", witness, "type", "veth", "peer", "name", "witness", "netns", path)
    with socket.create_server((str(network.gateway), 0)) as server:
        port = server.getsockname()[1]
        kept = inside(network, partial(dial, network.gateway, port))
        assert isinstance(kept, socket.socket)
        far, _ = server.accept()
        sandbox.destroy(network, "pod")
        with kept, pytest.raises(ConnectionAbortedError):
            kept.recv(1)
        far.close()
    deadline = time.monotonic() + 30
    while witness in command("ip", "-o", "link"):  # goes with the namespace that its other end is in
        assert time.monotonic() < deadline, "the namespace lives on"
        time.sleep(0.02)


def test_without_the_kernels_help_they_end_by_themselves(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that ends nobody's connections keeps no sandbox from going."""

    def refused() -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(connections, "end_all", refused)
    sandbox.create(network, Wiring("pod", "pod", network.pods[2]))
    sandbox.destroy(network, "pod")
    assert sandbox.existing(network) == []


def test_the_redirect_knows_the_proxys_connections(network: Network) -> None:
    """They go where they are dialled, all others to the proxy; so in pods that an earlier version made."""
    sandbox.create(network, Wiring("pod", "pod", network.pods[2], redirect=True))
    mark = proxy.mark(network.instance)
    elsewhere = ipaddress.IPv4Address("192.0.2.77")  # not exempt as the machine's own addresses are
    command("ip", "addr", "add", f"{elsewhere}/32", "dev", network.bridge)

    def reached() -> list[bool]:
        results = []
        with socket.create_server((str(elsewhere), 0)) as server:
            for each in (mark, proxy.mark(network.instance, passthrough=True), 0):
                try:
                    client = inside(network, partial(dial, elsewhere, server.getsockname()[1], each))
                except ConnectionRefusedError:
                    results.append(False)
                else:
                    assert isinstance(client, socket.socket)
                    results.append(client.getpeername() == server.getsockname())
                    client.close()
        return results

    assert reached() == [True, True, False]
    text = rules.mesh_redirect([network.gateway])
    inside(
        network, partial(nft.run, "\n".join(line for line in text.splitlines() if "mark" not in line) + "\n")
    )
    assert reached() == [False, False, False]
    for _ in range(2):
        sandbox.prepare_host(network, {"pod": network.pods[2]})
        assert reached() == [True, True, False]
    assert str(inside(network, partial(nft.run, "list ruleset"))).count("mark") == 1
