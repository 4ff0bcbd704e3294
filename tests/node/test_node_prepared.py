"""Namespaces that are ready before a pod asks for them: the pod's are as any pod's, and nobody else's."""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from ondol.api import dataplane
from ondol.base.clock import SystemClock
from ondol.node import linux
from ondol.node.network import local, nft, sandbox
from ondol.node.network.prepared import PreparedSandboxes
from ondol.node.network.sandbox import Network, Wiring

pytestmark = [pytest.mark.root, pytest.mark.anyio]
if os.geteuid() != 0:
    pytest.skip("namespaces are made by root", allow_module_level=True)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """A bridge of its own, taken off the host afterwards."""
    number = uuid.uuid4().int
    pods = ipaddress.IPv4Network(f"10.{200 + number % 40}.{number // 40 % 250}.0/24")
    services = ipaddress.IPv4Network(f"172.{16 + number % 15}.0.0/24")
    instance = f"{number % 16**6:06x}"
    network = Network(instance, f"ondol{instance}", pods[1], pods, tmp_path, services)
    sandbox.prepare_host(network)
    yield network
    sandbox.remove_host(network)


@pytest.fixture(autouse=True)
def addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the machine as they are now, whatever bridges other tests make."""
    monkeypatch.setattr(local, "addresses", functools.partial(frozenset, local.addresses()))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a process in a sandbox sees of it."""

    rules: str
    interfaces: tuple[str, ...]
    hostname: str
    settings: tuple[str, ...]
    routes: str


_SETTINGS = (
    "net/ipv4/ip_unprivileged_port_start",
    "net/ipv4/ping_group_range",
    "net/ipv4/conf/eth0/accept_redirects",
    "kernel/shm_rmid_forced",
)


def _seen(network: Network, uid: str) -> Seen:
    def look() -> Seen:
        for kind, flag in (
            ("net", linux.CLONE_NEWNET),
            ("uts", linux.CLONE_NEWUTS),
            ("ipc", linux.CLONE_NEWIPC),
        ):
            linux.enter(str(network.namespace_path(kind, uid)), flag)
        settings = tuple(Path("/proc/sys", name).read_text(encoding="utf-8") for name in _SETTINGS)
        routes = Path("/proc/thread-self/net/route").read_text(encoding="utf-8")
        names = tuple(name for _, name in socket.if_nameindex())
        return Seen(nft.run("list ruleset"), names, socket.gethostname(), settings, routes)

    return linux.in_own_thread(look)


def _identities(network: Network, name: str) -> dict[str, int]:
    return {kind: network.namespace_path(kind, name).stat().st_ino for kind in sandbox.ALL_KINDS}


async def _filled(network: Network, tasks: anyio.abc.TaskGroup) -> PreparedSandboxes:
    sandboxes = PreparedSandboxes(network, SystemClock())
    tasks.start_soon(sandboxes.run)
    with anyio.fail_after(20):
        while len(sandbox.left_prepared(network)) < 4:  # noqa: ASYNC110 - a folder tells nobody
            await anyio.sleep(0.01)
        await anyio.sleep(0.05)
    return sandboxes


async def test_a_pod_gets_what_was_prepared_and_sees_what_any_pod_sees(network: Network) -> None:
    """The very namespaces, under its own name alone; rules, interfaces, name, settings, routes as ever."""
    async with anyio.create_task_group() as tasks:
        sandboxes = await _filled(network, tasks)
        before = {name: _identities(network, name) for name in sandbox.left_prepared(network)}
        for uid, address in (("first", network.pods[2]), ("second", network.pods[3])):
            wiring = Wiring(uid, "box", address, redirect=True, sysctls=(("kernel.shm_rmid_forced", "1"),))
            await anyio.to_thread.run_sync(sandboxes.create, wiring)
        tasks.cancel_scope.cancel()
    pods = [_identities(network, uid) for uid in ("first", "second")]
    assert all(each in before.values() for each in pods)
    assert pods[0] != pods[1]
    assert len(sandbox.left_prepared(network)) == 2
    assert sandbox.existing(network) == ["first", "second"]
    plain = Wiring("plain", "box", network.pods[4], redirect=True, sysctls=(("kernel.shm_rmid_forced", "1"),))
    await anyio.to_thread.run_sync(sandbox.create, network, plain)
    assert _seen(network, "first") == _seen(network, "plain")


async def test_what_is_prepared_is_nobodys_other(network: Network) -> None:
    """Pods without redirection, with exceptions from it, or with the host's IPC take the ordinary way."""
    capture = dataplane.capture({"traffic.sidecar.istio.io/excludeOutboundPorts": "9000"})
    assert capture != dataplane.EVERYTHING
    others = [
        Wiring("direct", "box", network.pods[2]),
        Wiring("some", "box", network.pods[3], redirect=True, capture=capture),
        Wiring("ipc", "box", network.pods[4], redirect=True, own_ipc=False),
    ]
    async with anyio.create_task_group() as tasks:
        sandboxes = await _filled(network, tasks)
        for wiring in others:
            await anyio.to_thread.run_sync(sandboxes.create, wiring)
        tasks.cancel_scope.cancel()
    assert len(sandbox.left_prepared(network)) == 4
    assert "9000" in _seen_rules(network, "some")
    assert "redirect" not in _seen_rules(network, "direct")


def _seen_rules(network: Network, uid: str) -> str:
    def look() -> str:
        linux.enter(str(network.namespace_path("net", uid)), linux.CLONE_NEWNET)
        return nft.run("list ruleset")

    return linux.in_own_thread(look)


async def test_what_was_prepared_at_other_addresses_is_thrown_away(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rules would let other addresses past the proxy than those of the machine now."""
    async with anyio.create_task_group() as tasks:
        sandboxes = await _filled(network, tasks)
        new = ipaddress.IPv4Address("192.0.2.77")
        monkeypatch.setattr(local, "addresses", _with(local.addresses, new))
        wiring = Wiring("pod", "box", network.pods[2], redirect=True)
        await anyio.to_thread.run_sync(sandboxes.create, wiring)
        tasks.cancel_scope.cancel()
    assert sandbox.left_prepared(network) == []
    assert str(new) in _seen_rules(network, "pod")


def _with(
    addresses: Callable[[], frozenset[ipaddress.IPv4Address]], new: ipaddress.IPv4Address
) -> Callable[[], frozenset[ipaddress.IPv4Address]]:
    return functools.partial(frozenset.union, addresses(), {new})


async def test_what_cannot_be_removed_is_in_nobodys_way(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent goes on, and has namespaces ready beside it."""
    sandbox.prepare(network, "prepared-78", [network.gateway])
    destroy = sandbox.destroy

    def busy(of: Network, name: str) -> None:
        if name == "prepared-78":
            raise OSError(16, "Device or resource busy")
        destroy(of, name)

    monkeypatch.setattr(sandbox, "destroy", busy)
    async with anyio.create_task_group() as tasks:
        await _filled(network, tasks)
        tasks.cancel_scope.cancel()
    destroy(network, "prepared-78")


async def test_leftovers_of_an_earlier_agent_are_removed(network: Network) -> None:
    """They are not used: who was in them meanwhile nobody knows."""
    sandbox.prepare(network, "prepared-77", [network.gateway])
    async with anyio.create_task_group() as tasks:
        await _filled(network, tasks)
        tasks.cancel_scope.cancel()
    assert "prepared-77" not in sandbox.left_prepared(network)
