"""nftables text as pure functions: the redirect inside a mesh pod, the host's rules and its bridge's.

The names of tables carry the instance id, so that several instances live on one host and each can
be removed whole.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ondol.api import dataplane
from ondol.contracts import proxy
from ondol.contracts.mesh import PROBES_FROM

MESH_OUTBOUND_PORT: Final = 15001
MESH_INBOUND_PORT: Final = 15006
BOUND: Final = "bound"
"""The set of what pods send from, in the table of the bridge."""
_POD_TABLE: Final = "inet ondol-mesh"
_GUARD_TABLE: Final = "ip ondol-guard"
_BRIDGES: Final = "ondol*"
"""The bridges of all platforms on the machine."""
_NEVER_DIALLED: Final = ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16")

_MARKED: Final = f"meta mark & 0x{proxy.MARK_MASK:08x} == 0x{proxy.MARK:08x}"
"""As nftables lists it."""
_PROXYS_OWN: Final = f"{_MARKED} return"


def replaced(table: str, body: str) -> str:
    """A batch that puts the table in place of its former self in one transaction."""
    return f"add table {table}\ndelete table {table}\ntable {table} {{\n{body}}}\n"


def removed(table: str) -> str:
    return f"add table {table}\ndelete table {table}\n"


def host_table(instance: str) -> str:
    return f"ip ondol-{instance}"


def service_table(instance: str) -> str:
    return f"ip ondol-{instance}-services"


def policy_table(instance: str) -> str:
    return f"ip ondol-{instance}-policies"


def bridge_table(instance: str) -> str:
    return f"bridge {bridge_table_name(instance)}"


def bridge_table_name(instance: str) -> str:
    return f"ondol-{instance}"


def mesh_redirect(
    direct: Iterable[ipaddress.IPv4Address], capture: dataplane.Capture = dataplane.EVERYTHING
) -> str:
    """Inside a pod: TCP that leaves it goes to the proxy; loopback, `direct` and what it excludes do not.

    What the proxy dials from here is let past by its mark, which a pod can set only with CAP_NET_ADMIN or
    CAP_NET_RAW. Nothing accepts the packets when no proxy listens: connections are refused, never let past.
    """
    exempt = ", ".join(str(address) for address in direct)
    lines = [
        "type nat hook output priority -100; policy accept;",
        _PROXYS_OWN,
        'oifname "lo" return',
        "ip daddr 127.0.0.0/8 return",
        f"ip daddr {{ {exempt} }} return",
        *_captured(capture),
    ]
    body = "".join(f"    {line}\n" for line in lines)
    return replaced(_POD_TABLE, f"  chain output {{\n{body}  }}\n")


def proxy_let_past(listing: str) -> str:
    """What lets the proxy's connections pass in a pod's rules as they are listed; empty if they do."""
    if f"table {_POD_TABLE} " not in listing or _MARKED in listing:
        return ""
    return f"insert rule {_POD_TABLE} output {_PROXYS_OWN}\n"


def _captured(capture: dataplane.Capture) -> Iterator[str]:
    """The rules of Istio's annotations, in the order in which Istio has them."""
    redirect = f"redirect to :{MESH_OUTBOUND_PORT}"
    if capture.excluded_interfaces:
        names = [f'"{name}"' for name in capture.excluded_interfaces]
        yield f"oifname {_set(names)} return"
    if capture.excluded_ports:
        yield f"tcp dport {_set(capture.excluded_ports)} return"
    yield from (f"ip daddr {network} return" for network in capture.excluded_ranges)
    if capture.ports:
        yield f"meta nfproto ipv4 tcp dport {_set(capture.ports)} {redirect}"
    if capture.ranges is None:
        yield f"meta nfproto ipv4 meta l4proto tcp {redirect}"
    yield from (f"ip daddr {network} meta l4proto tcp {redirect}" for network in capture.ranges or ())


def guard(capture: dataplane.Capture, *, seals: bool) -> str:
    """Inside a pod: TCP that arrives goes to the proxy. What the node probes, and what is excluded, does not.

    Nothing accepts the packets when no proxy listens: connections are refused, never let past. With `seals`
    what arrived before, and is not turned, is reset.
    """
    lines = [f"ip saddr {PROBES_FROM} return"]
    if capture.excluded_inbound_ports:
        lines.append(f"tcp dport {_set(capture.excluded_inbound_ports)} return")
    ports = capture.inbound_ports
    taken = "meta l4proto tcp" if ports is None else f"tcp dport {_set(ports)}" if ports else ""
    arrivals = ["type nat hook prerouting priority -100; policy accept;", 'iifname != "eth0" return', *lines]
    sealed = ["type filter hook input priority -10; policy accept;", 'iifname != "eth0" return', *lines]
    if taken:
        arrivals.append(f"{taken} redirect to :{MESH_INBOUND_PORT}")
        sealed.append(f"{taken} ct direction original ct status & dnat == 0 reject with tcp reset")
    chains = {"arrivals": arrivals, **({"sealed": sealed} if seals else {})}
    bodies = [
        f"  chain {name} {{\n" + "".join(f"    {line}\n" for line in chain) + "  }\n"
        for name, chain in chains.items()
    ]
    return replaced(_GUARD_TABLE, "".join(bodies))


def _set(members: Iterable[object]) -> str:
    return f"{{ {', '.join(str(member) for member in dict.fromkeys(members))} }}"


def strangers(instance: str, direction: str, verdict: str) -> str:
    """A line for what comes from (`iifname`) or goes to (`oifname`) other platforms' pods."""
    return f'    {direction} "{_BRIDGES}" {direction} != "{_bridge(instance)}" {verdict}\n'


def strangers_mark(instance: str) -> str:
    """What matches connections of other platforms' proxies."""
    return f"{_MARKED} meta mark & {proxy.INSTANCE_MASK:#x} != 0x{instance}"


def _bridge(instance: str) -> str:
    return f"ondol{instance}"


def _ports(instance: str) -> str:
    """The bridge ports of the instance's pods."""
    return f"v{instance}*"


@dataclass(frozen=True, slots=True)
class Bound:
    """What the pod behind a bridge port sends from."""

    port: str
    mac: bytes
    address: ipaddress.IPv4Address

    def __str__(self) -> str:
        return f'"{self.port}" . {self.mac.hex(":")} . {self.address}'

    @property
    def key(self) -> bytes:
        """As the kernel has it: each part padded to four bytes, the name to its sixteen."""
        return self.port.encode().ljust(16, b"\0") + self.mac.ljust(8, b"\0") + self.address.packed


def bridge(instance: str, mac: bytes, bound: Iterable[Bound]) -> str:
    """On the bridge: pods send from their own addresses alone, and to each other by way of the host.

    IPv4 and ARP that name the pod's hardware and IP address pass, everything else is dropped before the
    bridge learns of it. Unicast goes to the bridge's own `mac`, where the host's rules judge it. (An
    `isolated` port would say the same, and break Services where br_netfilter translates inside the bridge.)
    """
    ip_source = "iifname . ether saddr . ip saddr @bound"
    lines = [
        "type filter hook prerouting priority -300; policy accept;",
        f'iifname != "{_ports(instance)}" accept',
        f"ether type ip {ip_source} ether daddr {mac.hex(':')} accept",
        f"ether type ip {ip_source} ip daddr 224.0.0.0/4 accept",
        (
            "ether type arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 "
            "iifname . ether saddr . arp saddr ip @bound "
            "iifname . arp saddr ether . arp saddr ip @bound accept"
        ),
        "drop",
    ]
    elements = ", ".join(map(str, bound))
    content = f"    elements = {{ {elements} }}\n" if elements else ""
    return replaced(
        bridge_table(instance),
        f"  set {BOUND} {{\n    type ifname . ether_addr . ipv4_addr;\n{content}  }}\n"
        "  chain prerouting {\n" + "".join(f"    {line}\n" for line in lines) + "  }\n",
    )


def unbind(instance: str, bound: Iterable[Bound]) -> str:
    return f"delete element {bridge_table(instance)} {BOUND} {{ {', '.join(map(str, bound))} }}\n"


_ELEMENT: Final = re.compile(r'"(\w+)" \. ([0-9a-f:]{17}) \. ([0-9.]+)')


def bindings(listing: str) -> list[Bound]:
    """What `nft list` tells of the set."""
    return [
        Bound(port, bytes.fromhex(mac.replace(":", "")), ipaddress.IPv4Address(address))
        for port, mac, address in _ELEMENT.findall(listing)
    ]


def host(
    instance: str,
    pods: ipaddress.IPv4Network,
    services: ipaddress.IPv4Network,
) -> str:
    """On the host: who may reach whom, besides what the table of Services translates.

    - Pods leave under the host's address, and may not pose as the host's loopback.
    - What a bridge port hands to the host itself came past the bridge's rules: frames to a reserved group
      address, such as that of LLDP.
    - A Service's address that nobody has programmed is refused here, not sent to the default route.
    - Other platforms of the machine, their pods and their proxies, do not reach these pods.
    - What the proxy dials for the ingress begins in the host's own namespace: it reaches neither the host's
      loopback nor its link, and where the caller chose the address (`passthrough`) none of the host's own.
      What it dials for a pod begins in that pod's, and is judged as all that comes from there.
    - Guarded pods let past what the node probes: nobody else sends from that address. It goes by where a
      packet is going: one to a Service's address or port still has the interface of its way before that was
      translated.
    """
    bridge = _bridge(instance)
    mark = proxy.mark(instance)
    passthrough = proxy.mark(instance, passthrough=True)
    return replaced(
        host_table(instance),
        "  chain prerouting {\n"
        "    type filter hook prerouting priority -300; policy accept;\n"
        f'    iifname "{_ports(instance)}" drop\n'
        f'    iifname "{bridge}" ip daddr 127.0.0.0/8 drop\n'
        f'    iifname "{bridge}" ip saddr != {pods} drop\n'
        f'    iifname != "lo" ip saddr {PROBES_FROM} drop\n'
        "  }\n"
        "  chain forward {\n"
        "    type filter hook forward priority -20; policy accept;\n"
        f'    oifname "{bridge}" iifname "{_BRIDGES}" iifname != "{bridge}" reject\n'
        f'    iifname "{bridge}" oifname "{_BRIDGES}" oifname != "{bridge}" reject\n'
        f"    ip daddr {services} reject\n"
        "  }\n"
        "  chain input {\n"
        "    type filter hook input priority -20; policy accept;\n"
        f'    ip daddr {pods} iifname "{_BRIDGES}" iifname != "{bridge}" reject\n'
        "  }\n"
        "  chain output {\n"
        "    type filter hook output priority -20; policy accept;\n"
        f"    ip daddr {services} reject\n"
        f"    ip saddr {PROBES_FROM} ip daddr {pods} meta skuid != 0 reject\n"
        f"    {strangers_mark(instance)} ip daddr {pods} reject\n"
        f"    meta mark {{ {mark:#x}, {passthrough:#x} }} ip daddr {{ {', '.join(_NEVER_DIALLED)} }} reject\n"
        f"    meta mark {passthrough:#x} fib daddr type {{ local, broadcast, multicast }} reject\n"
        "  }\n"
        "  chain postrouting {\n"
        "    type nat hook postrouting priority 100; policy accept;\n"
        f'    ip saddr {pods} oifname != "{bridge}" masquerade\n'
        f'    ip saddr 127.0.0.0/8 oifname "{bridge}" masquerade\n'
        "  }\n",
    )
