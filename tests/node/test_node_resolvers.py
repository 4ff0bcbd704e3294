"""The machine's resolvers: whom pods and their name server ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from ondol.node import resolvers
from ondol.node.pods import etc

STUB = "nameserver 127.0.0.53\nsearch lan\n"
REAL = "nameserver 192.0.2.53\nsearch lan\n"


@pytest.mark.parametrize(
    ("text", "behind", "taken"),
    [(STUB, REAL, REAL), (STUB, None, STUB), (REAL, STUB, REAL), ("", REAL, "")],
)
def test_servers_behind_one_on_loopback(tmp_path: Path, text: str, behind: str | None, taken: str) -> None:
    """Are those that systemd-resolved asks, where it stands before them."""
    (tmp_path / "resolv.conf").write_text(text)
    if behind is not None:
        (tmp_path / "behind").write_text(behind)
    assert resolvers.host_file(tmp_path / "resolv.conf", tmp_path / "behind") == taken


@pytest.mark.parametrize(
    ("spec", "servers"),
    [
        ({"dnsPolicy": "Default"}, ["10.244.0.1"]),
        ({"dnsPolicy": "Default", "hostNetwork": True}, ["127.0.0.53"]),
        ({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True}, ["10.244.0.1"]),
        ({"hostNetwork": True}, ["127.0.0.53"]),
        ({}, ["10.244.0.1"]),
        ({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"]}}, ["192.0.2.1"]),
    ],
)
def test_pods_are_led_to_servers_they_reach(spec: dict[str, object], servers: list[str]) -> None:
    """By their policy; the machine's loopback is for pods on its network alone."""
    pod = {"metadata": {"name": "a", "namespace": "ns"}, "spec": spec}
    text = etc.resolv_conf(pod, name_server="10.244.0.1", domain="cluster.local", host_file=STUB)
    assert etc.parse_resolv_conf(text)[0] == servers
