"""The kernel's table of Services: what differs leads where the whole table does, whatever came before."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import socket
import subprocess
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondol.api.objects import Key
from ondol.base import errors
from ondol.base.host_ports import HostPort
from ondol.node import linux
from ondol.node.network import conntrack, kernel_table, nft, nft_table, service_table
from ondol.node.network.kernel_table import Kernel, KernelTable
from ondol.node.network.nft_table import Table
from ondol.node.network.services import Backend, Entry, Owner

INSTANCE = "abcdef"
NAME = "ip ondol-abcdef-services"


def entry(
    name: str,
    places: Sequence[HostPort],
    backends: Sequence[Backend],
    *,
    sticky_s: int = 0,
    sources: Sequence[str] = (),
) -> Entry:
    owner = Owner("Service", Key("shop", name), name)
    own, led = tuple(places), tuple(sorted(backends))
    return Entry(owner, "", "TCP", 80, own, frozenset(own), sticky_s, led, sources=tuple(sources))


_PLACES = st.sampled_from([HostPort("TCP", address, 80) for address in ("10.96.0.1", "10.96.0.2", "")])
_BACKENDS = st.sets(st.sampled_from([Backend(f"10.244.0.{last}", 8080) for last in (2, 3)]))
_ENTRIES = st.builds(
    entry,
    st.sampled_from("abc"),
    st.sets(_PLACES, min_size=1).map(sorted),
    _BACKENDS.map(sorted),
    sticky_s=st.sampled_from([0, 10, 10800]),
    sources=st.sampled_from([(), ("10.8.0.0/16",), ("10.8.0.0/16", "10.9.1.0/24")]),
)
_RESERVED = st.sets(st.sampled_from([HostPort("TCP", "", 6443), HostPort("UDP", "10.244.0.1", 53)]))


def settled(entries: Sequence[Entry], reserved: set[HostPort]) -> Table:
    """A table in which each entry and each place stands once, as claims leave them."""
    taken: set[HostPort] = set()
    listed = []
    for each in {each.owner: each for each in entries}.values():
        if taken.isdisjoint(each.places):
            listed.append(each)
            taken.update(each.places)
    return service_table.table(INSTANCE, listed, reserved)


_TABLES = st.builds(settled, st.lists(_ENTRIES, max_size=4), _RESERVED)


class Ruleset:
    """nftables for one table, as strict as the kernel: each command holds or the batch is refused."""

    def __init__(self) -> None:
        self.elements: dict[str, dict[str, str]] | None = None
        self.chains: dict[str, list[str]] = {}
        self.clients: dict[str, str] = {}
        self.generation = 0
        self.batches: list[str] = []

    def run(self, batch: str) -> None:
        before = json.dumps([self.elements, self.chains, self.clients])
        try:
            self._whole(batch) if batch.startswith("add table") else self._lines(batch)
        except (AssertionError, KeyError, TypeError) as error:
            self.elements, self.chains, self.clients = json.loads(before)
            raise errors.HostError(f"refused: {error!r}", remedy="none") from error
        self.batches.append(batch)
        self.generation += 1

    def _whole(self, batch: str) -> None:
        self.elements = {name: {} for name in service_table.SETS}
        self.chains = {}
        self.clients = dict(re.findall(r"set (c-\w+) \{ (.*) \}", batch))
        for name, body in re.findall(r"(?:set|map) ([a-z-]+) \{\n(.*?)\n  \}", batch, re.DOTALL):
            listed = re.search(r"elements = \{ (.*) \}", body)
            self.elements[name] = _parsed(listed.group(1)) if listed else {}
        for name, body in re.findall(r"chain (\S+) \{\n(.*?)\n  \}", batch, re.DOTALL):
            self.chains[name] = [line.strip() for line in body.splitlines()]
        self._consistent()

    def _lines(self, batch: str) -> None:
        assert self.elements is not None, "no such table"
        for line in batch.splitlines():
            verb, noun, _, _, name, *rest = line.split(" ", 5)
            assert line.split(" ", 2)[2].startswith(NAME)
            match verb, noun:
                case "add", "chain":
                    self.chains.setdefault(name, [])
                case "flush", "chain":
                    self.chains[name].clear()
                case "add", "rule":
                    self.chains[name].append(rest[0])
                    self._consistent()
                case "delete", "chain":
                    del self.chains[name]
                    self._consistent()
                case _:
                    self._sets(verb, noun, name, "".join(rest).strip("{} "))

    def _sets(self, verb: str, noun: str, name: str, content: str) -> None:
        assert self.elements is not None
        match verb, noun:
            case "add", "set":
                assert self.clients.setdefault(name, content) == content
            case "delete", "set":
                del self.clients[name]
                self._consistent()
            case "add", "element":
                for key, verdict in _parsed(content).items():
                    assert self.elements[name].get(key, verdict) == verdict, "exists"
                    self.elements[name][key] = verdict
                self._consistent()
            case "delete", "element":
                for key in content.split(", "):
                    del self.elements[name][key]
            case _:
                raise AssertionError((verb, noun))

    def _consistent(self) -> None:
        for elements in (self.elements or {}).values():
            for verdict in elements.values():
                assert not verdict or verdict.removeprefix("goto ") in self.chains, verdict
        for rule in itertools.chain.from_iterable(self.chains.values()):
            assert set(re.findall(r"goto ([\w-]+)", rule)) <= self.chains.keys(), rule
            assert set(re.findall(r"@(c-\w+)", rule)) <= self.clients.keys(), rule

    @property
    def kernel(self) -> Kernel:
        return Kernel(self.run, lambda: self.generation, lambda _: self.digest())

    def digest(self) -> bytes:
        return b"" if self.elements is None else repr(self.content).encode()

    @property
    def content(self) -> Any:
        return (
            sorted(self.chains.items()),
            self.clients,
            {n: dict(sorted(e.items())) for n, e in (self.elements or {}).items()},
        )


def _parsed(listed: str) -> dict[str, str]:
    pairs = (each.partition(" : ") for each in listed.split(", "))
    return {key: verdict for key, _, verdict in pairs}


def whole(table: Table) -> Ruleset:
    ruleset = Ruleset()
    ruleset.run(nft_table.whole(table))
    return ruleset


@given(st.lists(_TABLES, min_size=2, max_size=5))
def test_differences_lead_to_the_whole(tables: list[Table]) -> None:
    """After any sequence of them, none of which is refused; what is the same has none."""
    ruleset = whole(tables[0])
    for old, new in itertools.pairwise(tables):
        batch = nft_table.difference(old, new)
        assert (batch == "") == (old == new)
        ruleset.run(batch)
        assert ruleset.content == whole(new).content


def test_what_stays_is_not_sent_again() -> None:
    """A change of one Service names that one alone."""
    places = {name: HostPort("TCP", f"10.96.0.{last}", 80) for last, name in enumerate("abc", start=1)}
    backend, other = Backend("10.244.0.2", 8080), Backend("10.244.0.3", 8080)
    old = settled([entry(name, [place], [backend]) for name, place in places.items()], set())
    new = settled([entry(n, [p], [other if n == "b" else backend]) for n, p in places.items()], set())
    chain = entry("b", [], []).chain
    rule = "meta l4proto tcp dnat ip to numgen random mod 1 map { 0 : 10.244.0.3 . 8080 }"
    assert nft_table.difference(old, new).splitlines() == [
        f"flush chain {NAME} {chain}",
        f"add rule {NAME} {chain} {rule}",
        f"add element {NAME} own {{ 10.244.0.3 . 10.244.0.3 }}",
    ]


ONE = settled([entry("a", [HostPort("TCP", "10.96.0.1", 80)], [Backend("10.244.0.2", 8080)])], set())
TWO = settled([entry("a", [HostPort("TCP", "10.96.0.1", 80)], [])], set())
STEPS = st.one_of(
    st.tuples(st.just("put"), _TABLES),
    st.sampled_from([("elsewhere", None), ("gone", None), ("flushed", None), ("check", None)]),
)


@settings(deadline=None)
@given(st.lists(STEPS, max_size=10), _TABLES)
def test_others_hands_are_mended(steps: list[tuple[str, Any]], last: Table) -> None:
    """Whatever others do to the table, a check and a put later it is whole again."""

    async def run() -> None:
        ruleset = Ruleset()
        table = KernelTable(ruleset.kernel)
        for step, argument in [*steps, ("put", last), ("check", None), ("put", last)]:
            match step:
                case "put":
                    await table.put(argument)
                case "check":
                    await table.check()
                case "elsewhere":
                    ruleset.generation += 1
                case "gone":
                    ruleset.elements, ruleset.chains = None, {}
                    ruleset.generation += 1
                case "flushed" if ruleset.elements is not None:
                    ruleset.elements["vips"] = {}
                    ruleset.generation += 1
        assert ruleset.content == whole(last).content

    anyio.run(run)


@pytest.mark.anyio
async def test_only_what_differs_is_put() -> None:
    """Whole at first, then by difference; the same table is nothing to do."""
    ruleset = Ruleset()
    table = KernelTable(ruleset.kernel)
    for each in (ONE, ONE, TWO, ONE):
        await table.put(each)
    first, *others = ruleset.batches
    assert first == nft_table.whole(ONE)
    assert others == [nft_table.difference(ONE, TWO), nft_table.difference(TWO, ONE)]


@pytest.mark.anyio
async def test_changes_elsewhere_cost_nothing() -> None:
    """Other tables of the machine may change as they like: ours is looked at, not put anew."""
    ruleset = Ruleset()
    table = KernelTable(ruleset.kernel)
    await table.put(ONE)
    assert await table.check()
    ruleset.generation += 1
    assert await table.check()
    await table.put(ONE)
    assert len(ruleset.batches) == 1


@pytest.mark.anyio
async def test_a_table_that_is_gone_is_put_whole() -> None:
    """At the next change even before anybody checks."""
    ruleset = Ruleset()
    table = KernelTable(ruleset.kernel)
    await table.put(ONE)
    ruleset.elements, ruleset.chains = None, {}
    await table.put(TWO)
    assert ruleset.batches[-1] == nft_table.whole(TWO)


@pytest.mark.anyio
async def test_what_was_refused_is_put_whole() -> None:
    """Nobody knows what the kernel has after an error."""
    ruleset = Ruleset()
    table = KernelTable(ruleset.kernel)
    await table.put(ONE)

    def refuse(batch: str) -> None:
        raise errors.HostError("no memory", remedy="none")

    table._kernel = Kernel(refuse, ruleset.kernel.generation, ruleset.kernel.digest)
    with pytest.raises(errors.HostError):
        await table.put(TWO)
    table._kernel = ruleset.kernel
    await table.put(ONE)
    assert ruleset.batches == [nft_table.whole(ONE)] * 2


def listed(ruleset: str) -> list[str]:
    """The kernel's table without its handles, in no order."""
    rows = []
    for each in json.loads(ruleset)["nftables"]:
        for kind, document in each.items():
            if kind != "metainfo":
                document.pop("handle", None)
                elements = document.get("elem")
                if elements:
                    document["elem"] = sorted(elements, key=json.dumps)
                rows.append(json.dumps({kind: document}, sort_keys=True))
    return sorted(rows)


def in_a_network_of_its_own(work: Any) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")

    def alone() -> None:
        linux.unshare(linux.CLONE_NEWNET)
        work()

    linux.in_own_thread(alone)


def kernels() -> list[str]:
    done = linux_nft("-j", "list", "table", *NAME.split())
    return listed(done)


def linux_nft(*arguments: str) -> str:
    return subprocess.run(["nft", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.mark.root
@settings(max_examples=15, deadline=None)
@given(st.lists(_TABLES, min_size=2, max_size=4))
def test_the_kernel_ends_with_the_same_table(tables: list[Table]) -> None:
    """By differences and whole: the kernel lists the same."""

    def compare() -> None:
        nft.run(nft_table.whole(tables[0]))
        for old, new in itertools.pairwise(tables):
            nft.run(nft_table.difference(old, new))
        by_difference = kernels()
        nft.run(nft_table.whole(tables[-1]))
        assert by_difference == kernels()

    in_a_network_of_its_own(compare)


@pytest.mark.root
def test_the_kernel_tells_who_changed_what() -> None:
    """Its generation moves with every change, the digest with those of the table."""
    kernel = kernel_table.Kernel()

    def look() -> None:
        assert kernel.digest(ONE) == b""
        kernel.run(nft_table.whole(ONE))
        generation, digest = kernel.generation(), kernel.digest(ONE)
        nft.run("add table ip other\n")
        assert (kernel.generation(), kernel.digest(ONE)) == (generation + 1, digest)
        nft.run(f"delete element {NAME} own {{ 10.244.0.2 . 10.244.0.2 }}\n")
        assert kernel.generation() == generation + 2
        assert kernel.digest(ONE) not in (digest, b"")
        nft.run("flush ruleset\n")
        assert kernel.digest(ONE) == b""

    in_a_network_of_its_own(look)


@pytest.mark.root
def test_a_client_stays_with_its_endpoint() -> None:
    """Every connection of one client goes where its first went, and other clients are led elsewhere too."""

    def connect() -> None:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        servers = [f"10.244.0.{last}" for last in range(2, 6)]
        clients = [f"10.9.0.{last}" for last in range(1, 25)]
        for address in (*servers, *clients):
            subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
        subprocess.run(["ip", "route", "add", "10.96.0.0/16", "dev", "lo"], check=True)
        place = HostPort("TCP", "10.96.0.1", 80)
        led = [Backend(address, 8080) for address in servers]
        nft.run(nft_table.whole(settled([entry("a", [place], led, sticky_s=600)], set())))
        listening = [socket.create_server((address, 8080)) for address in servers]
        chosen = {client: {_led_to("10.96.0.1", client) for _ in range(3)} for client in clients}
        assert all(len(each) == 1 for each in chosen.values())
        assert len(set.union(*chosen.values())) > 1
        (one,) = chosen[clients[0]]
        remaining = [backend for backend in led if backend.address != one]
        before, after = ([entry("a", [place], each, sticky_s=600)] for each in (led, remaining))
        nft.run(nft_table.difference(settled(before, set()), settled(after, set())))
        assert _led_to("10.96.0.1", clients[0]) != one
        for client in clients[1:]:
            assert chosen[client] == {one} or {_led_to("10.96.0.1", client)} == chosen[client]
        for each in listening:
            each.close()

    in_a_network_of_its_own(connect)


def _led_to(address: str, client: str) -> str:
    """The endpoint that a connection of the client reaches, as conntrack has it."""
    with socket.create_connection((address, 80), source_address=(client, 0)) as connection:
        port = connection.getsockname()[1]
        sent = conntrack.Tuple(client, address, port, 80)
        (flow,) = [each for each in conntrack.flows(socket.IPPROTO_TCP) if each.original == sent]
    return flow.reply.source


@pytest.mark.root
def test_datagrams_leave_an_endpoint_that_is_gone() -> None:
    """A client that sends from one port goes to the next endpoint once its flow is ended, and stays there."""

    def send() -> None:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        addresses = ("10.244.0.2", "10.244.0.3")
        for address in addresses:
            subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
        subprocess.run(["ip", "route", "add", "10.96.0.0/16", "dev", "lo"], check=True)
        servers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in addresses]
        for server, address in zip(servers, addresses, strict=True):
            server.bind((address, 8080))
            server.settimeout(5)
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        entries = [
            dataclasses.replace(
                entry("a", [HostPort("UDP", "10.96.0.1", 80)], [Backend(address, 8080)]), protocol="UDP"
            )
            for address in addresses
        ]
        nft.run(nft_table.whole(settled(entries[:1], set())))
        client.sendto(b"1", ("10.96.0.1", 80))
        assert servers[0].recv(10) == b"1"
        assert list(conntrack.stale(conntrack.flows(), entries[:1])) == []
        nft.run(nft_table.difference(settled(entries[:1], set()), settled(entries[1:], set())))
        (flow,) = conntrack.stale(conntrack.flows(), entries[1:])
        assert conntrack.end(flow)
        assert not conntrack.end(flow)
        client.sendto(b"2", ("10.96.0.1", 80))
        assert servers[1].recv(10) == b"2"
        for each in (client, *servers):
            each.close()

    in_a_network_of_its_own(send)


def test_only_translated_flows_go_stale() -> None:
    """Flows to a Service's address or node port that lead to no endpoint; never those to other machines."""
    service = dataclasses.replace(
        entry(
            "a", [HostPort("UDP", "10.96.0.1", 53), HostPort("UDP", "", 30053)], [Backend("10.244.0.2", 53)]
        ),
        protocol="UDP",
    )

    def flow(to: tuple[str, int], back: tuple[str, int]) -> conntrack.Flow:
        client, port = "10.9.0.1", 4000
        original = conntrack.Tuple(client, to[0], port, to[1])
        return conntrack.Flow(original, conntrack.Tuple(back[0], client, back[1], port), b"")

    led, gone = ("10.244.0.2", 53), ("10.244.0.9", 53)
    unserved = ("10.96.0.1", 53)
    elsewhere = ("192.0.2.7", 30053)
    cases = {
        flow(unserved, led): False,
        flow(unserved, gone): True,
        flow(unserved, unserved): True,
        flow(("192.0.2.1", 30053), led): False,
        flow(("192.0.2.1", 30053), gone): True,
        flow(elsewhere, elsewhere): False,
        flow(("10.96.0.9", 53), gone): False,
    }
    assert set(conntrack.stale(cases, [service])) == {each for each, is_stale in cases.items() if is_stale}
