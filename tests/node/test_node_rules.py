"""Addresses of pods, and the rules of the kernel's filter for them and for Services."""

from __future__ import annotations

import errno
import ipaddress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api import dataplane
from ondol.api.objects import Key, Object
from ondol.base import errors, files
from ondol.base.host_ports import HostPort
from ondol.base.memo import Memo
from ondol.base.reserve import Reserve
from ondol.node.network import ipam, nft_table, rules, service_table, services


def pool_in(folder: Path, network: ipaddress.IPv4Network) -> ipam.AddressPool:
    return ipam.AddressPool(network, folder / "a.json", Reserve(folder / "reserve", 4096))


def test_addresses_come_back_late(tmp_path: Path) -> None:
    """A freed address is given out again only after all others; what is given survives a restart."""
    network = ipaddress.IPv4Network("10.0.0.0/29")
    pool = pool_in(tmp_path, network)
    first = pool.take("a")
    assert first == pool.take("a")
    pool.give_back("a")
    addresses = [str(pool.take(owner)) for owner in "bcde"]
    assert str(first) not in addresses
    again = pool_in(tmp_path, network)
    assert str(again.take("b")) == addresses[0]
    assert again.take("f") == first
    with pytest.raises(errors.HostError, match="no free address"):
        again.take("g")


def test_a_damaged_pool_is_filled_again(tmp_path: Path) -> None:
    """Addresses in use are put back into a pool whose file cannot be read."""
    (tmp_path / "a.json").write_text("{half")
    pool = ipam.AddressPool(
        ipaddress.IPv4Network("10.0.0.0/29"), tmp_path / "a.json", Reserve(tmp_path / "r", 4096)
    )
    pool.reserve("a", ipaddress.IPv4Address("10.0.0.2"))
    assert str(pool.take("a")) == "10.0.0.2"
    assert str(pool.take("b")) != "10.0.0.2"


def test_what_could_not_be_written_is_not_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that the disk has no room for has not happened, and happens when it is tried again."""
    pool = pool_in(tmp_path, ipaddress.IPv4Network("10.0.0.0/29"))
    pool.take("a")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(files, "replace", full)
        with pytest.raises(OSError, match="No space"):
            pool.take("b")
        with pytest.raises(OSError, match="No space"):
            pool.give_back("a")
    assert pool.owners() == ["a"]
    pool.give_back("a")
    pool.take("b")
    assert pool_in(tmp_path, ipaddress.IPv4Network("10.0.0.0/29")).owners() == ["b"]


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40))
def test_no_two_owners_share_an_address(owners: list[str]) -> None:
    """Whatever comes and goes, addresses are distinct, inside, and never the gateway's."""
    import tempfile  # noqa: PLC0415 - a fresh folder for each example

    with tempfile.TemporaryDirectory() as folder:
        pool = ipam.AddressPool(
            ipaddress.IPv4Network("10.0.0.0/28"), Path(folder, "a.json"), Reserve(Path(folder, "r"), 4096)
        )
        taken: dict[str, Any] = {}
        for owner in owners:
            if owner in taken:
                pool.give_back(owner)
                del taken[owner]
            else:
                taken[owner] = pool.take(owner)
        assert len(set(taken.values())) == len(taken)
        assert pool.gateway not in taken.values()


def test_bridge_text() -> None:
    """A pod's frames pass with its own two addresses; the rest is dropped, and other ports are let alone."""
    pod = rules.Bound("va1b2c301234567", b"\x0a\x58\x0a\x00\x00\x02", ipaddress.IPv4Address("10.0.0.2"))
    element = '"va1b2c301234567" . 0a:58:0a:00:00:02 . 10.0.0.2'
    text = rules.bridge("a1b2c3", b"\x02\x00\x00\x00\x00\x01", [pod])
    lines = [line.strip() for line in text.splitlines()]
    assert lines[:3] == [
        "add table bridge ondol-a1b2c3",
        "delete table bridge ondol-a1b2c3",
        "table bridge ondol-a1b2c3 {",
    ]
    assert f"elements = {{ {element} }}" in lines
    chain = lines[lines.index("chain prerouting {") + 1 : -2]
    assert chain == [
        "type filter hook prerouting priority -300; policy accept;",
        'iifname != "va1b2c3*" accept',
        "ether type ip iifname . ether saddr . ip saddr @bound ether daddr 02:00:00:00:00:01 accept",
        "ether type ip iifname . ether saddr . ip saddr @bound ip daddr 224.0.0.0/4 accept",
        (
            "ether type arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 "
            "iifname . ether saddr . arp saddr ip @bound "
            "iifname . arp saddr ether . arp saddr ip @bound accept"
        ),
        "drop",
    ]
    assert "elements" not in rules.bridge("a1b2c3", pod.mac, [])
    assert rules.bindings(text) == [pod]
    assert pod.key == b"va1b2c301234567\0\x0a\x58\x0a\0\0\x02\0\0\x0a\0\0\x02"
    assert rules.unbind("a1b2c3", [pod]) == f"delete element bridge ondol-a1b2c3 bound {{ {element} }}\n"


def test_mesh_redirect_text() -> None:
    """Loopback and the node are let past, all other TCP goes to the proxy's port."""
    text = rules.mesh_redirect([ipaddress.IPv4Address("10.0.0.1")])
    assert "ip daddr { 10.0.0.1 } return" in text
    assert text.index("127.0.0.0/8 return") < text.index("redirect to :15001")


def test_istios_annotations_choose_what_is_turned_to_the_proxy() -> None:
    """What is excluded is let past first; then named ports, then named ranges, and nothing else."""
    traffic = {
        "excludeOutboundPorts": "25, 3306",
        "excludeOutboundIPRanges": "10.9.0.0/16",
        "includeOutboundPorts": "8080",
        "includeOutboundIPRanges": "10.0.0.0/8,172.16.0.1",
        "excludeInterfaces": "eth1",
        "excludeInboundPorts": "22",
    }
    capture = dataplane.capture({f"traffic.sidecar.istio.io/{name}": text for name, text in traffic.items()})
    text = rules.mesh_redirect([ipaddress.IPv4Address("10.0.0.1")], capture)
    lines = [line.strip() for line in text.splitlines()]
    start = lines.index("ip daddr { 10.0.0.1 } return") + 1
    assert lines[start : start + 6] == [
        'oifname { "eth1" } return',
        "tcp dport { 25, 3306 } return",
        "ip daddr 10.9.0.0/16 return",
        "meta nfproto ipv4 tcp dport { 8080 } redirect to :15001",
        "ip daddr 10.0.0.0/8 meta l4proto tcp redirect to :15001",
        "ip daddr 172.16.0.1/32 meta l4proto tcp redirect to :15001",
    ]
    assert text.count("redirect") == 3
    none = dataplane.capture({"traffic.sidecar.istio.io/includeOutboundIPRanges": ""})
    assert "redirect" not in rules.mesh_redirect([ipaddress.IPv4Address("10.0.0.1")], none)


def service(name: str, address: str, **extra: Any) -> Object:
    spec_ = {"clusterIP": address, "ports": [{"name": "http", "port": 80}], **extra}
    return {"metadata": {"name": name, "namespace": "n"}, "spec": spec_}


def slice_of(name: str, *endpoints: Object) -> Object:
    labels = {"kubernetes.io/service-name": name}
    return {
        "metadata": {"name": f"{name}-x", "namespace": "n", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": list(endpoints),
    }


def test_service_entries() -> None:
    """Ready endpoints of the port with the same name; headless and external Services have none."""
    unready = {"addresses": ["10.1.0.3"], "conditions": {"ready": False}}
    entries = services.entries(
        [service("a", "10.0.0.5"), service("h", "None"), service("e", "", type="ExternalName")],
        [slice_of("a", {"addresses": ["10.1.0.2"]}, unready)],
    )
    place = HostPort("TCP", "10.0.0.5", 80)
    assert [(e.owner.key, e.places, e.backends) for e in entries] == [
        (Key("n", "a"), (place,), (services.Backend("10.1.0.2", 8080),))
    ]


def test_the_entries_of_a_service_are_made_once() -> None:
    """Remembered or not they are the same; only what has another document is looked at again."""
    memo = Memo()
    listed = [service("a", "10.0.0.5"), service("b", "10.0.0.6")]
    slices = [slice_of(name, {"addresses": ["10.1.0.2"]}) for name in ("a", "b")]
    first = services.entries(listed, slices, memo)
    changed = [slices[0], slice_of("b", {"addresses": ["10.1.0.3"]})]
    again = services.entries(listed, changed, memo)
    assert again == services.entries(listed, changed)
    assert again[0] is first[0]
    assert again[1].backends == (services.Backend("10.1.0.3", 8080),)
    assert services.entries(listed[:1], changed, memo) == again[:1]


def test_local_policies_lead_to_pods_of_this_node() -> None:
    """Inside and outside apart, each by its own policy."""
    here = services.Here("n1")
    endpoints = [
        {"addresses": ["10.1.0.2"], "nodeName": "n1"},
        {"addresses": ["10.2.0.2"], "nodeName": "n2"},
    ]
    near, everywhere = ["10.1.0.2"], ["10.1.0.2", "10.2.0.2"]

    def led(**policies: str) -> list[list[str]]:
        port = {"name": "http", "port": 80, "nodePort": 30080}
        one = service("a", "10.0.0.5", type="NodePort", **policies) | {}
        one["spec"]["ports"] = [port]
        listed = services.entries([one], [slice_of("a", *endpoints)], here=here)
        return [[backend.address for backend in entry.backends] for entry in listed]

    assert led() == [everywhere]
    assert led(internalTrafficPolicy="Local") == [near, everywhere]
    assert led(externalTrafficPolicy="Local") == [everywhere, near]
    assert led(internalTrafficPolicy="Local", externalTrafficPolicy="Local") == [near, near]


def balanced(**spec_: Any) -> Object:
    return service("a", "10.0.0.5", type="LoadBalancer", **spec_)


@pytest.mark.parametrize(
    ("spec_", "address"),
    [
        ({}, "192.0.2.1"),
        ({"loadBalancerIP": "192.0.2.9"}, "192.0.2.9"),
        ({"loadBalancerClass": "example.com/lb"}, ""),
        ({"type": "ClusterIP"}, ""),
    ],
)
def test_loads_are_balanced_at_an_address_of_the_machine(spec_: Object, address: str) -> None:
    """Unless another class is to do it, or nobody asked."""
    here = services.Here("n1", "192.0.2.1")
    one = balanced() if not spec_ else service("a", "10.0.0.5", **{"type": "LoadBalancer", **spec_})
    listed = services.entries([one], [slice_of("a", {"addresses": ["10.1.0.2"]})], here=here)
    places = [place.address for entry in listed for place in entry.places]
    assert places == (["10.0.0.5", address] if address else ["10.0.0.5"])


def test_only_some_are_led_on_where_sources_are_named() -> None:
    """From elsewhere nothing is translated at that address; the ClusterIP leads everyone."""
    here = services.Here("n1", "192.0.2.1")
    one = balanced(loadBalancerSourceRanges=["10.9.0.0/16", " 10.8.1.7/24 "])
    listed = services.entries([one], [slice_of("a", {"addresses": ["10.1.0.2"]})], here=here)
    table = service_table.table("abcdef", listed)
    (guarded,) = [entry for entry in listed if entry.sources]
    assert table.elements["vips"]["192.0.2.1 . tcp . 80"] == f"goto {guarded.chain}-from"
    assert table.chains[f"{guarded.chain}-from"] == (
        f"ip saddr {{ 10.8.1.0/24, 10.9.0.0/16 }} goto {guarded.chain}",
    )
    assert list(table.chains).index(guarded.chain) < list(table.chains).index(f"{guarded.chain}-from")


def test_service_table_text() -> None:
    """Served ports are translated, empty ones refused."""
    listed = services.entries(
        [service("a", "10.0.0.5"), service("b", "10.0.0.6")],
        [slice_of("a", {"addresses": ["10.1.0.2"]})],
    )
    text = nft_table.whole(service_table.table("abcdef", listed))
    assert f"10.0.0.5 . tcp . 80 : goto {listed[0].chain}" in text
    assert "dnat ip to numgen random mod 1 map { 0 : 10.1.0.2 . 8080 }" in text
    rejected = text[text.index("set rejected {") :].split("}", 1)[0]
    assert "10.0.0.6 . tcp . 80" in rejected


def test_sticky_services_remember_clients() -> None:
    """An endpoint has a set of its clients with the Service's time, a client in it returns, others choose."""
    one = service(
        "a",
        "10.0.0.5",
        sessionAffinity="ClientIP",
        sessionAffinityConfig={"clientIP": {"timeoutSeconds": 7}},
    )
    (entry,) = services.entries([one], [slice_of("a", {"addresses": ["10.1.0.2"]})])
    table = service_table.table("abcdef", [entry])
    ((clients, seconds),) = table.timed.items()
    endpoint = clients.replace("c-", "e-")
    assert seconds == 7
    assert table.chains == {
        endpoint: (f"update @{clients} {{ ip saddr }}", "meta l4proto tcp dnat ip to 10.1.0.2:8080"),
        entry.chain: (
            f"ip saddr @{clients} goto {endpoint}",
            f"meta l4proto tcp numgen random mod 1 vmap {{ 0 : goto {endpoint} }}",
        ),
    }


@pytest.mark.parametrize(
    ("flags", "addresses"),
    [
        ([{"ready": True}, {"ready": False}], ["10.1.0.2"]),
        ([{"ready": False, "serving": True, "terminating": True}, {"ready": True}], ["10.1.0.3"]),
        ([{"ready": False, "serving": True, "terminating": True}, {"ready": False}], ["10.1.0.2"]),
        ([{"ready": False, "serving": False, "terminating": True}, {"ready": False}], []),
    ],
)
def test_draining_endpoints_serve_where_none_is_ready(flags: list[Object], addresses: list[str]) -> None:
    """Those that end and still serve are the last resort, as kube-proxy has it."""
    endpoints = [{"addresses": [f"10.1.0.{n}"], "conditions": each} for n, each in enumerate(flags, start=2)]
    (entry,) = services.entries([service("a", "10.0.0.5")], [slice_of("a", *endpoints)])
    assert [backend.address for backend in entry.backends] == addresses
