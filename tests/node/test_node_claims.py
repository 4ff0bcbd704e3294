"""Who has an address and port when several ask: one does, the others are told, the table is always taken."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondol.api.objects import Object
from ondol.base.host_ports import HostPort
from ondol.node import linux
from ondol.node.config import NodeConfig
from ondol.node.network import claims, nft, nft_table, service_table, services
from ondol.node.network.services import Entry
from ondol.node.service_rules import ServiceRules

BRIDGE, LAN, OUTSIDE = "10.100.0.1", "192.0.2.2", "203.0.113.77"
RESERVED = (HostPort("TCP", "", 6443), HostPort("UDP", BRIDGE, 53))


def service(name: str, *external_ips: str, created: int = 0, **spec: Any) -> Object:
    port: Object = {"port": 80, "targetPort": 8080}
    port |= {key: spec.pop(key) for key in ("port", "protocol", "nodePort") if key in spec}
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"svc-{name}",
            "creationTimestamp": _time(created),
        },
        "spec": {
            "clusterIP": f"10.101.0.{ord(name[0])}",
            "externalIPs": list(external_ips),
            "ports": [port],
            **spec,
        },
    }


def pod(name: str, port: int, *, created: int = 0, **more: Any) -> Object:
    """A pod with a host port."""
    container_port = {"containerPort": 8080, "hostPort": port, **more}
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"pod-{name}",
            "creationTimestamp": _time(created),
        },
        "spec": {"containers": [{"name": "c", "ports": [container_port]}]},
        "status": {"podIP": "10.100.0.9"},
    }


def _time(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}Z"


def entries(*objs: Object) -> list[Entry]:
    pods = [obj for obj in objs if obj["metadata"]["uid"].startswith("pod-")]
    listed = [obj for obj in objs if obj not in pods]
    here = services.Here("n1", LAN)
    return [*services.entries(listed, [], here=here), *services.host_ports(pods)]


def is_local(address: str) -> bool:
    return address in (BRIDGE, LAN, "127.0.0.1")


def settled(
    *objs: Object, in_use: Collection[HostPort] = (), before: Collection[Any] = ()
) -> claims.Settlement:
    return claims.settle(entries(*objs), reserved=RESERVED, in_use=in_use, before=before, is_local=is_local)


def losers(settlement: claims.Settlement) -> dict[str, list[str]]:
    owners: dict[str, list[str]] = {}
    for loss in settlement.losses:
        owners.setdefault(loss.owner.key.name, []).append(str(loss))
    return owners


@pytest.mark.parametrize(
    ("objs", "lost"),
    [
        pytest.param([service("a"), service("b")], {}, id="strangers"),
        pytest.param(
            [service("young", OUTSIDE, created=2), service("old", OUTSIDE, created=1)],
            {"young": ["203.0.113.77:80/TCP is in use by Service shop/old"]},
            id="one external IP, the older has it",
        ),
        pytest.param(
            [service("b", OUTSIDE), service("a", OUTSIDE)],
            {"b": ["203.0.113.77:80/TCP is in use by Service shop/a"]},
            id="of one age, the first by name has it",
        ),
        pytest.param(
            [service("a", OUTSIDE), service("b", OUTSIDE, port=81), service("c", OUTSIDE, protocol="UDP")],
            {},
            id="other ports and protocols of an address are free",
        ),
        pytest.param(
            [service("thief", "10.101.0.118", created=1), service("victim", created=2)],
            {"thief": ["10.101.0.118:80/TCP is in use by Service shop/victim"]},
            id="a Service's own address is its own, however old the other",
        ),
        pytest.param(
            [pod("a", 8000), pod("b", 8000), pod("c", 8000, protocol="UDP"), pod("d", 8001)],
            {"b": ["8000/TCP is in use by Pod shop/a"]},
            id="one host port",
        ),
        pytest.param(
            [pod("all", 8000, created=1), pod("one", 8000, created=2, hostIP="127.0.0.1")],
            {"one": ["127.0.0.1:8000/TCP is in use by Pod shop/all"]},
            id="one of all addresses",
        ),
        pytest.param(
            [pod("one", 8000, created=1, hostIP=LAN), pod("all", 8000, created=2)],
            {"all": ["8000/TCP is in use by Pod shop/one"]},
            id="all addresses where one is taken",
        ),
        pytest.param(
            [pod("a", 8000, hostIP=LAN), pod("b", 8000, hostIP="127.0.0.1")], {}, id="two addresses"
        ),
        pytest.param(
            [pod("p", 53, hostIP="8.8.8.8"), pod("q", 80, hostIP="10.101.0.97"), service("a")],
            {
                "p": ["8.8.8.8:53/TCP is no address of this machine"],
                "q": ["10.101.0.97:80/TCP is no address of this machine"],
            },
            id="an address that a pod takes from others",
        ),
        pytest.param(
            [pod("p", 80), service("s", OUTSIDE)], {}, id="an address elsewhere is none of the machine's"
        ),
        pytest.param(
            [pod("p", 80, created=2), service("s", LAN, created=1)],
            {"p": ["80/TCP is in use by Service shop/s"]},
            id="an external IP that is the machine's",
        ),
        pytest.param(
            [pod("p", 30080, created=1), service("s", nodePort=30080, created=2)],
            {"s": ["30080/TCP is in use by Pod shop/p"]},
            id="node port and host port",
        ),
        pytest.param(
            [pod("p", 6443, created=0), service("s", LAN, port=6443)],
            {
                "p": ["6443/TCP is in use by the platform itself"],
                "s": ["192.0.2.2:6443/TCP is in use by the platform itself"],
            },
            id="the platform's own port",
        ),
        pytest.param(
            [pod("p", 53, protocol="UDP"), pod("q", 53), pod("r", 53, protocol="UDP", hostIP=LAN)],
            {"p": ["53/UDP is in use by the platform itself"]},
            id="the platform's own port at its address",
        ),
        pytest.param([service("s", OUTSIDE, port=6443)], {}, id="its number at an address elsewhere"),
    ],
)
def test_who_has_what(objs: list[Object], lost: dict[str, list[str]]) -> None:
    """Each loses what is somebody else's and nothing more, in whatever order they are listed."""
    for listed in (objs, objs[::-1]):
        settlement = settled(*listed)
        assert losers(settlement) == lost
        requested = {(e.owner, place) for e in entries(*objs) for place in e.places}
        granted = {(e.owner, place) for e in settlement.entries for place in e.places}
        assert granted == requested - {(loss.owner, loss.place) for loss in settlement.losses}


def test_what_a_program_listens_on_is_not_taken_over() -> None:
    """Unless it came later: who has had a port keeps it."""
    ssh = [HostPort("TCP", "0.0.0.0", 22)]
    objs = [pod("p", 22), service("s", LAN, port=22), service("t", OUTSIDE, port=22)]
    taken = settled(*objs, in_use=ssh)
    assert losers(taken) == {
        "p": ["22/TCP is in use by a program of this machine"],
        "s": ["192.0.2.2:22/TCP is in use by a program of this machine"],
    }
    first = settled(pod("p", 22))
    assert losers(settled(pod("p", 22), in_use=ssh, before=first.grants)) == {}


def test_of_one_age_who_has_a_place_keeps_it() -> None:
    """Times of creation are whole seconds: whoever came within one is not the older for its name."""
    first = settled(service("web", OUTSIDE))
    both = settled(service("web", OUTSIDE), service("late", OUTSIDE), before=first.grants)
    assert losers(both) == {"late": ["203.0.113.77:80/TCP is in use by Service shop/web"]}
    older = settled(
        service("web", OUTSIDE, created=2), service("late", OUTSIDE, created=1), before=first.grants
    )
    assert set(losers(older)) == {"web"}


def test_sidecars_have_host_ports_and_what_is_over_has_none() -> None:
    """Init containers that stay count, others do not; a pod that ended has given its ports back."""
    staying = pod("s", 8000)
    ports = staying["spec"]["containers"].pop()["ports"]
    staying["spec"]["initContainers"] = [{"name": "i", "ports": ports, "restartPolicy": "Always"}]
    assert len(services.host_ports([staying])) == 1
    del staying["spec"]["initContainers"][0]["restartPolicy"]
    assert services.host_ports([staying]) == []
    ended = pod("e", 8000)
    ended["status"]["phase"] = "Failed"
    assert services.host_ports([ended]) == []


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.5", "::ffff:7f00:1", "nowhere"]
)
def test_special_addresses_are_never_programmed(address: str) -> None:
    """Whoever wrote them, and whenever: objects of before the rule are still there."""
    slice_ = {
        "metadata": {"name": "x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "a"}},
        "endpoints": [{"addresses": [address]}, {"addresses": ["10.100.0.9"]}],
        "ports": [{"port": 8080}],
    }
    (entry,) = services.entries([service("a")], [slice_])
    assert [backend.address for backend in entry.backends] == ["10.100.0.9"]


def test_where_the_activator_listens_nothing_is_translated() -> None:
    """A pod with that host port gets it everywhere but there."""
    slice_ = {
        "metadata": {"name": "x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "a"}},
        "endpoints": [{"addresses": [BRIDGE]}],
        "ports": [{"port": 40001}, {"port": 40002, "protocol": "UDP"}],
    }
    addresses = services.served_at(BRIDGE, slice_)
    assert addresses == {HostPort("TCP", BRIDGE, 40001), HostPort("UDP", BRIDGE, 40002)}
    table = nft_table.whole(service_table.table("abcdef", settled(pod("p", 40001)).entries, addresses))
    before, _, after = table.partition("ip daddr . meta l4proto . th dport @kept return")
    assert f"{BRIDGE} . tcp . 40001" in before
    assert "@node-ports" in after


def test_where_the_activator_listens_is_followed_slice_by_slice() -> None:
    """No slice is searched for a change elsewhere; what a slice no longer says is no longer kept."""

    class NotSearched:
        @property
        def lister(self) -> Any:
            raise AssertionError("every slice was looked at")

    config = NodeConfig(
        "abcdef", "n", Path("/nowhere"), LAN, pod_cidr="10.100.0.0/16", reserved_ports=frozenset(RESERVED)
    )
    host: Any = SimpleNamespace(config=config, client=None)
    slices: Any = NotSearched()
    rules = ServiceRules(host, slices, slices)

    def at(port: int, address: str = BRIDGE) -> Object:
        metadata = {"name": "x", "namespace": "shop"}
        return {"metadata": metadata, "endpoints": [{"addresses": [address]}], "ports": [{"port": port}]}

    old: Object | None = None
    for new, ports in [
        (at(40001), {40001}),
        (at(40002), {40002}),
        (at(40002, "10.100.0.9"), set()),
        (at(40003), {40003}),
        (None, set()),
    ]:
        rules.slice_changed(old, new)
        beside = rules._untranslated(claims.Settlement([])) - set(RESERVED)
        assert beside == {HostPort("TCP", BRIDGE, port) for port in ports}
        old = new


_ADDRESSES = st.sampled_from([OUTSIDE, LAN, "10.101.0.97", "127.0.0.1"])
_SERVICES = st.builds(
    service,
    st.sampled_from(["a", "b", "c"]),
    _ADDRESSES,
    _ADDRESSES,
    created=st.integers(0, 2),
    port=st.sampled_from([80, 6443]),
    nodePort=st.sampled_from([0, 30080]),
    type=st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]),
    internalTrafficPolicy=st.sampled_from(["Cluster", "Local"]),
    loadBalancerSourceRanges=st.sampled_from([[], ["10.8.0.0/16"]]),
)
_PODS = st.builds(
    pod,
    st.sampled_from(["p", "q", "r"]),
    st.sampled_from([80, 30080, 6443]),
    created=st.integers(0, 2),
    hostIP=st.sampled_from(["", "0.0.0.0", LAN, "127.0.0.1"]),
)
_WORLDS = st.lists(st.one_of(_SERVICES, _PODS), max_size=8, unique_by=lambda obj: obj["metadata"]["uid"])


@settings(deadline=None)
@given(_WORLDS, st.randoms(use_true_random=False))
def test_no_place_is_had_twice_and_order_says_nothing(objs: list[Object], rng: Any) -> None:
    """One owner a place, nothing of the platform's, and the same whichever way the objects come."""
    settlement = settled(*objs)
    places = [place for entry in settlement.entries for place in entry.places]
    assert len(places) == len(set(places))
    assert not any(place.clashes(RESERVED[0]) and place.is_everywhere for place in places)
    shuffled = list(objs)
    rng.shuffle(shuffled)
    assert settled(*shuffled) == settlement
    requested = sum(len(entry.places) for entry in entries(*objs))
    assert requested == len(places) + len(settlement.losses)


def in_a_network_of_its_own(work: Callable[[], object]) -> None:
    def alone() -> None:
        linux.unshare(linux.CLONE_NEWNET)
        work()

    linux.in_own_thread(alone)


@pytest.mark.root
@settings(max_examples=20, deadline=None)
@given(_WORLDS)
def test_the_kernel_takes_every_table(objs: list[Object]) -> None:
    """Whatever users ask for, the rules of the others are programmed."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    table = service_table.table("abcdef", settled(*objs).entries, RESERVED)
    in_a_network_of_its_own(lambda: nft.run(nft_table.whole(table)))
