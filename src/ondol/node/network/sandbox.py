"""A pod's sandbox without a pause process: namespaces that live by a bind mount, an address, a bridge port.

`<run>/netns/<uid>` (and `ipc`, `uts` beside it) is what containers join and what the mesh's proxy
opens. A pod's address is a /32 behind a gateway: all pod traffic passes the host's routing, so that
address translation sees both directions without bridge filtering.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.api import dataplane, sysctls
from ondol.base import errors, log
from ondol.contracts.mesh import PROBES_FROM
from ondol.node import linux
from ondol.node.network import connections, local, netlink, nft, rules

_KINDS: Final = {"net": linux.CLONE_NEWNET, "ipc": linux.CLONE_NEWIPC, "uts": linux.CLONE_NEWUTS}
PREPARED: Final = "prepared-"
"""How names of sandboxes begin that are no pod's yet."""
ALL_KINDS: Final = ("net", "uts", "ipc")
_FOLDERS: Final = {"net": "netns", "ipc": "ipcns", "uts": "utsns", "pid": "pidns"}
_POD_SYSCTLS: Final = (
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("net/ipv4/ping_group_range", "0 2147483647"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/eth0/accept_redirects", "0"),
    ("net/ipv6/conf/eth0/disable_ipv6", "1"),
)

_log = log.get("node.network")


@dataclass(frozen=True, slots=True)
class Wiring:
    """How one pod is attached; `address` is None for a pod in the host's network."""

    uid: str
    hostname: str
    address: ipaddress.IPv4Address | None
    redirect: bool = False
    capture: dataplane.Capture = dataplane.EVERYTHING
    """Of a redirected pod: which of its connections are turned to the proxy."""
    own_ipc: bool = True
    sysctls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    """The instance's side: bridge, its address, the pods' range and where namespaces are kept."""

    instance: str
    bridge: str
    gateway: ipaddress.IPv4Address
    pods: ipaddress.IPv4Network
    run_dir: Path
    services: ipaddress.IPv4Network
    mtu: int = 1500

    def namespace_path(self, kind: str, uid: str) -> Path:
        return self.run_dir / _FOLDERS[kind] / uid

    def port(self, uid: str) -> str:
        """The bridge port of a pod: 15 characters, unlike any other instance's."""
        return f"v{self.instance}{hashlib.sha256(uid.encode()).hexdigest()[:8]}"


def mac_of(address: ipaddress.IPv4Address) -> bytes:
    """A locally administered address derived from the IP, so a reused IP never meets a stale neighbour."""
    return b"\x0a\x58" + address.packed


def prepare_host(network: Network, living: Mapping[str, ipaddress.IPv4Address] | None = None) -> None:
    """Bridge, forwarding and the host's rules; safe to repeat.

    `living` are the addresses of the pods that have a sandbox already, by uid: others are cut off.
    """
    for folder in _FOLDERS.values():
        (network.run_dir / folder).mkdir(parents=True, exist_ok=True)
    with netlink.Netlink() as host:
        host.add_bridge(network.bridge)
        # Else frames to the reserved group addresses teach the bridge who is where, past its rules.
        Path("/sys/class/net", network.bridge, "bridge/no_linklocal_learn").write_text("1")
        index = socket.if_nametoindex(network.bridge)
        host.add_address(index, ipaddress.IPv4Interface((network.gateway, network.pods.prefixlen)))
        host.add_address(index, ipaddress.IPv4Interface((PROBES_FROM, 32)))
        host.set_up(index)
    _set_sysctl("net/ipv4/ip_forward", "1")
    # An interface's own counts where the one for all is off. A pod that was told to go to another directly
    # would hear of no refusal for a second: the kernel counts redirects and refusals together.
    for interface in ("all", network.bridge):
        _set_sysctl(f"net/ipv4/conf/{interface}/send_redirects", "0")
    _set_sysctl(f"net/ipv6/conf/{network.bridge}/disable_ipv6", "1")  # the rules know IPv4 alone
    bound = [_bound(network, uid, address) for uid, address in (living or {}).items()]
    nft.run(
        rules.host(network.instance, network.pods, network.services)
        + rules.bridge(network.instance, netlink.bridge_mac(network.bridge), bound)
    )
    for uid in living or ():
        linux.in_own_thread(functools.partial(_let_proxy_pass, str(network.namespace_path("net", uid))))
    # For the host's own calls of 127.0.0.1:<node port>; the rules keep pods from using it.
    _set_sysctl(f"net/ipv4/conf/{network.bridge}/route_localnet", "1")


def remove_host(network: Network) -> None:
    """Undo `prepare_host` and every sandbox of the instance."""
    # The rules first: to take one pod at a time out of them costs some 12 ms each.
    for table in (rules.host_table, rules.service_table, rules.policy_table, rules.bridge_table):
        nft.run(rules.removed(table(network.instance)))
    for uid in [*existing(network), *left_prepared(network)]:
        destroy(network, uid)
    with netlink.Netlink() as host:
        host.delete(network.bridge)


def existing(network: Network) -> list[str]:
    """Pods that have a sandbox, or part of one."""
    return [name for name in _names(network) if not name.startswith(PREPARED)]


def left_prepared(network: Network) -> list[str]:
    """What was prepared, also by an earlier agent, and became no pod's."""
    return [name for name in _names(network) if name.startswith(PREPARED)]


def _names(network: Network) -> list[str]:
    names: set[str] = set()
    for folder in _FOLDERS.values():
        path = network.run_dir / folder
        names.update(entry.name for entry in path.iterdir()) if path.exists() else None
    return sorted(names)


def create(network: Network, wiring: Wiring, prepared: str = "") -> dict[str, str]:
    """Make the sandbox; namespace kinds and the paths that stand for them. Blocks a few milliseconds.

    `prepared` names namespaces of `prepare` that become the pod's; its kinds are all.
    """
    destroy(network, wiring.uid)
    kinds = kinds_of(wiring)
    if kinds:
        linux.in_own_thread(lambda: _build(network, wiring, kinds, prepared))
        if wiring.address is not None:
            bound = _bound(network, wiring.uid, wiring.address)
            netlink.add_bridge_set_element(rules.bridge_table_name(network.instance), rules.BOUND, bound.key)
            _reflect(network.port(wiring.uid))
    return {kind: str(network.namespace_path(kind, wiring.uid)) for kind in kinds}


def prepare(network: Network, name: str, direct: Iterable[ipaddress.IPv4Address]) -> None:
    """Make namespaces for a pod that is not there yet, which redirect to the proxy. Blocks."""

    def build() -> None:
        _make(network, name, ALL_KINDS)
        nft.run(rules.mesh_redirect(sorted(direct)))

    destroy(network, name)
    linux.in_own_thread(build)


def _bound(network: Network, uid: str, address: ipaddress.IPv4Address) -> rules.Bound:
    return rules.Bound(network.port(uid), mac_of(address), address)


def _unbind(network: Network, port: str) -> None:
    """Take what is bound to the port out of the bridge's rules, should they still stand."""
    table = rules.bridge_table(network.instance)
    try:
        bound = rules.bindings(nft.run(f"list set {table} {rules.BOUND}"))
    except errors.HostError:
        if f"table {table}" in nft.run("list tables").splitlines():
            raise
        return
    bound_here = [each for each in bound if each.port == port]
    if bound_here:
        nft.run(rules.unbind(network.instance, bound_here))


def kinds_of(wiring: Wiring) -> Sequence[str]:
    """The namespaces the pod has of its own."""
    owned = {"net": wiring.address is not None, "uts": wiring.address is not None, "ipc": wiring.own_ipc}
    return tuple(kind for kind, is_owned in owned.items() if is_owned)


def _reflect(port: str) -> None:
    """Let a pod reach itself through its Service.

    Where the kernel filters bridged packets (br_netfilter, as Docker turns on), translation happens
    inside the bridge, which sends nothing back through the port it came by unless told to.
    """
    Path("/sys/class/net", port, "brport", "hairpin_mode").write_text("1")


def guard(network: Network, uid: str, capture: dataplane.Capture, *, seals: bool) -> None:
    """Turn what arrives at the pod to the proxy, past its containers; safe to repeat. Blocks."""
    namespace = str(network.namespace_path("net", uid))

    def build() -> None:
        linux.enter(namespace, linux.CLONE_NEWNET)
        nft.run(rules.guard(capture, seals=seals))

    linux.in_own_thread(build)


def _let_proxy_pass(namespace: str) -> None:
    """In a pod whose redirect an earlier version made: or the proxy, which dials from there, calls itself."""
    linux.enter(namespace, linux.CLONE_NEWNET)
    if batch := rules.proxy_let_past(nft.run("list ruleset")):
        nft.run(batch)


def _build(network: Network, wiring: Wiring, kinds: Sequence[str], prepared: str) -> None:
    # What the machine itself offers is reached past the proxy, which dials none of its addresses.
    direct = {network.gateway, *local.addresses()} if wiring.redirect and not prepared else set()
    with netlink.Netlink() as host:
        bridge = socket.if_nametoindex(network.bridge) if wiring.address else 0
        if prepared:
            _move_into(network, prepared, wiring.uid, kinds)
        else:
            _make(network, wiring.uid, kinds)
        if "uts" in kinds:
            socket.sethostname(wiring.hostname)
        if wiring.address is not None:
            if wiring.redirect and not prepared:
                nft.run(rules.mesh_redirect(sorted(direct), wiring.capture))
            _attach(network, wiring, wiring.address, host, bridge)
    for name, value in wiring.sysctls:
        _set_own_sysctl(name, value, kinds)


def _make(network: Network, name: str, kinds: Sequence[str]) -> None:
    """New namespaces, in which the calling thread is from then on."""
    flags = 0
    for kind in kinds:
        flags |= _KINDS[kind]
    linux.unshare(flags)
    for kind in kinds:
        _keep(kind, network.namespace_path(kind, name))


def _move_into(network: Network, prepared: str, uid: str, kinds: Sequence[str]) -> None:
    """Enter what was prepared, and have it stand under the pod's name alone."""
    for kind in kinds:
        former = network.namespace_path(kind, prepared)
        linux.enter(str(former), _KINDS[kind])
        _keep(kind, network.namespace_path(kind, uid))
        linux.unmount_all(str(former))
        former.unlink()


def _set_own_sysctl(name: str, value: str, kinds: Sequence[str]) -> None:
    """One the pod asks for: below `/proc/sys` the calling thread sees those of its own namespaces.

    Whatever the pod was told before: what is not of a namespace it has for itself is the host's.
    """
    if not sysctls.is_valid(name) or sysctls.namespace(name) not in kinds:
        raise errors.Invalid(f"sysctl {name!r} is not of a namespace of the pod's own")
    Path("/proc/sys", sysctls.path(name)).write_text(value, encoding="utf-8")


def _keep(kind: str, path: Path) -> None:
    path.touch(mode=0o600)
    linux.mount(f"/proc/thread-self/ns/{kind}", str(path), flags=linux.MS_BIND)


def _attach(
    network: Network, wiring: Wiring, address: ipaddress.IPv4Address, host: netlink.Netlink, bridge: int
) -> None:
    descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        host.add_veth(
            network.port(wiring.uid),
            master=bridge,
            peer="eth0",
            peer_namespace=descriptor,
            peer_mac=mac_of(address),
            mtu=network.mtu,
        )
    finally:
        os.close(descriptor)
    for name, value in _POD_SYSCTLS:
        _set_sysctl(name, value)
    with netlink.Netlink() as pod:
        index = socket.if_nametoindex("eth0")
        pod.set_up(1)
        pod.add_address(index, ipaddress.IPv4Interface((address, 32)))
        pod.set_up(index)
        pod.add_link_route(index, network.gateway)
        pod.add_default_route(index, network.gateway)


def destroy(network: Network, uid: str) -> None:
    """Remove what there is of the pod's sandbox, and end what connections the proxy has in it."""
    namespace = network.namespace_path("net", uid)
    with contextlib.ExitStack() as stack:
        last = ""
        if has_namespace(network, uid):
            descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            last = f"/proc/self/fd/{descriptor}"
        if namespace.exists():
            with netlink.Netlink() as host:
                host.delete(network.port(uid))
            _unbind(network, network.port(uid))
        for kind in _FOLDERS:
            path = network.namespace_path(kind, uid)
            if path.exists():
                linux.unmount_all(str(path))
                path.unlink()
        if last:  # nobody opens it by its name any more: what is ended now was the last
            linux.in_own_thread(lambda: _end_connections(last, uid))


def _end_connections(namespace: str, uid: str) -> None:
    linux.enter(namespace, linux.CLONE_NEWNET)
    try:
        connections.end_all()
    except OSError as error:  # they end by their keepalive
        _log.info("connections_not_ended", pod=uid, error=str(error))


def has_namespace(network: Network, uid: str) -> bool:
    """Whether the pod's network namespace made earlier still stands."""
    path = network.namespace_path("net", uid)
    return path.exists() and _filesystem_magic(path) == _NSFS_MAGIC


_NSFS_MAGIC: Final = 0x6E736673


def _filesystem_magic(path: Path) -> int:
    buffer = (ctypes.c_long * 32)()
    if ctypes.CDLL(None, use_errno=True).statfs(str(path).encode(), ctypes.byref(buffer)) != 0:
        return 0
    return int(buffer[0])


def _set_sysctl(name: str, value: str) -> None:
    path = Path("/proc/sys", name)
    if path.exists() or "/ipv6/" not in name:  # a kernel without IPv6 has nothing to turn off
        path.write_text(value)
