"""nftables text as pure functions: the redirect inside a mesh pod and the host's rules for all pods.

The names of tables carry the instance id, so that several instances live on one host and each can
be removed whole.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

MESH_OUTBOUND_PORT: Final = 15001
_POD_TABLE: Final = "inet ondol-mesh"


def replaced(table: str, body: str) -> str:
    """A batch that puts the table in place of its former self in one transaction."""
    return f"add table {table}\ndelete table {table}\ntable {table} {{\n{body}}}\n"


def removed(table: str) -> str:
    return f"add table {table}\ndelete table {table}\n"


def host_table(instance: str) -> str:
    return f"ip ondol-{instance}"


def service_table(instance: str) -> str:
    return f"ip ondol-{instance}-services"


def mesh_redirect(direct: Iterable[ipaddress.IPv4Address]) -> str:
    """Inside a pod: TCP that leaves it goes to the proxy; loopback and `direct` addresses do not.

    Nothing accepts the packets when no proxy listens: connections are refused, never let past.
    """
    exempt = ", ".join(str(address) for address in direct)
    return replaced(
        _POD_TABLE,
        "  chain output {\n"
        "    type nat hook output priority -100; policy accept;\n"
        '    oifname "lo" return\n'
        "    ip daddr 127.0.0.0/8 return\n"
        f"    ip daddr {{ {exempt} }} return\n"
        f"    meta nfproto ipv4 meta l4proto tcp redirect to :{MESH_OUTBOUND_PORT}\n"
        "  }\n",
    )


def host(instance: str, bridge: str, pods: ipaddress.IPv4Network) -> str:
    """On the host: pods leave under the host's address, and may not pose as the host's loopback."""
    return replaced(
        host_table(instance),
        "  chain prerouting {\n"
        "    type filter hook prerouting priority -300; policy accept;\n"
        f'    iifname "{bridge}" ip daddr 127.0.0.0/8 drop\n'
        f'    iifname "{bridge}" ip saddr != {pods} drop\n'
        "  }\n"
        "  chain postrouting {\n"
        "    type nat hook postrouting priority 100; policy accept;\n"
        f'    ip saddr {pods} oifname != "{bridge}" masquerade\n'
        f'    ip saddr 127.0.0.0/8 oifname "{bridge}" masquerade\n'
        "  }\n",
    )
