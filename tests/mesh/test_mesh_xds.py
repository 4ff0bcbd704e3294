"""The delta xDS protocol: order, answers, refusals, reconnects; a client that plays Envoy finds it sound."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondol.base.clock import SystemClock
from ondol.mesh import server
from ondol.mesh.xds import types
from ondol.mesh.xds.stream import Stream
from ondol.mesh.xds.types import Accepted, Rejected, Request, Resource, Response, Snapshot

SHORT = {
    "C": types.CLUSTER,
    "E": types.ENDPOINTS,
    "L": types.LISTENER,
    "R": types.ROUTES,
}
NAMES = {url: short for short, url in SHORT.items()}


def resource(name: str, version: str) -> Resource:
    return Resource(name, version, f"{name}={version}".encode())


def snapshot(**kinds: Mapping[str, str]) -> Snapshot:
    """`snapshot(C={"a": "1"})`: names and versions by type."""
    return Snapshot(
        {SHORT[kind]: {name: resource(name, v) for name, v in each.items()} for kind, each in kinds.items()}
    )


class Client:
    """Plays Envoy: subscribes to what its clusters and listeners name, answers what it is sent.

    Refuses versions in `bad`. Holds the answer to new clusters until their endpoints came.
    """

    def __init__(self, stream: Stream, *, bad: Iterable[str] = ()) -> None:
        self.stream = stream
        self.bad = set(bad)
        self.has: dict[str, dict[str, str]] = {url: {} for url in NAMES}
        self.subscribed: dict[str, set[str]] = {types.ENDPOINTS: set(), types.ROUTES: set()}
        self.log: list[str] = []
        self.warming: set[str] = set()
        self.postponed: Request | None = None
        self.inbox: list[Response] = []

    def connect(self) -> None:
        versions = self.has
        for url in (types.CLUSTER, types.ENDPOINTS, types.LISTENER, types.ROUTES):
            names = tuple(sorted(self.subscribed.get(url, ())))
            if url in self.subscribed and not names:
                continue
            self._send(Request(url, subscribe=names, initial_versions=dict(versions[url])))
        self.run()

    def take(self, responses: list[Response]) -> None:
        self.inbox += responses
        self.run()

    def _send(self, request: Request) -> None:
        self.inbox += self.stream.receive(request)

    def run(self) -> None:
        steps = 0
        while self.inbox:
            steps += 1
            assert steps < 10_000, "the server never comes to rest"
            self._handle(self.inbox.pop(0))

    def _handle(self, response: Response) -> None:
        url = response.type_url
        self.log.append(
            NAMES[url]
            + "".join(f"+{r.name}{r.version}" for r in response.resources)
            + "".join(f"-{name}" for name in response.removed)
        )
        refused = [r.name for r in response.resources if f"{r.name}{r.version}" in self.bad]
        for r in response.resources:
            if r.name not in refused:
                self._put(url, r.name, r.version)
        for name in response.removed:
            self._drop(url, name)
        answer = Request(url, nonce=response.nonce, error=f"bad {refused}" if refused else "")
        if url == types.CLUSTER and self.warming:
            assert self.postponed is None
            self.postponed = answer
            return
        self._send(answer)
        if url == types.ENDPOINTS and not self.warming and self.postponed is not None:
            answer_, self.postponed = self.postponed, None
            self._send(answer_)

    def _put(self, url: str, name: str, version: str) -> None:
        if url == types.CLUSTER and self.has[url].get(name) != version:
            self.warming.add(name)  # one that is the same is left as it is
        self.has[url][name] = version
        dependent = {types.CLUSTER: types.ENDPOINTS, types.LISTENER: types.ROUTES}.get(url)
        if url == types.ENDPOINTS:
            self.warming.discard(name)
        if dependent is not None and name not in self.subscribed[dependent]:
            self.subscribed[dependent].add(name)
            self._send(Request(dependent, subscribe=(name,)))

    def _drop(self, url: str, name: str) -> None:
        self.has[url].pop(name, None)
        dependent = {types.CLUSTER: types.ENDPOINTS, types.LISTENER: types.ROUTES}.get(url)
        if dependent is not None and name in self.subscribed[dependent]:
            self.subscribed[dependent].discard(name)
            self.has[dependent].pop(name, None)
            self.warming.discard(name)
            self._send(Request(dependent, unsubscribe=(name,)))


def whole(**versions: str) -> Snapshot:
    """Each name as a cluster with endpoints and a listener with routes, all of the same version."""
    return snapshot(C=versions, E=versions, L=versions, R=versions)


def test_a_new_client_is_told_in_order() -> None:
    """Clusters, endpoints, listeners, routes: what is referred to comes first."""
    client = Client(Stream(whole(a="1")))
    client.connect()
    assert client.log == ["C+a1", "E+a1", "L+a1", "R+a1"]


def test_an_addition_makes_before_a_removal_breaks() -> None:
    """What is new is there before routes use it; what is old goes when nothing refers to it."""
    stream = Stream(whole(a="1"))
    client = Client(stream)
    client.connect()
    client.log.clear()
    client.take(stream.publish(whole(b="1")))
    assert client.log[:2] == ["C+b1", "E+b1"]
    assert client.log[-1] == "C-a"
    assert client.has == {url: {"b": "1"} for url in NAMES}


def test_only_what_changed_is_sent() -> None:
    """A change of one listener sends that listener."""
    stream = Stream(whole(a="1", b="1"))
    client = Client(stream)
    client.connect()
    client.log.clear()
    both = {"a": "1", "b": "1"}
    client.take(stream.publish(snapshot(C=both, E=both, L={"a": "1", "b": "2"}, R=both)))
    assert client.log == ["L+b2"]
    assert stream.publish(snapshot(C=both, E=both, L={"a": "1", "b": "2"}, R=both)) == []


def test_an_updated_cluster_gets_its_endpoints_again() -> None:
    """Envoy warms an updated cluster anew and waits for endpoints it does not ask for."""
    stream = Stream(whole(a="1"))
    client = Client(stream)
    client.connect()
    client.log.clear()
    one = {"a": "1"}
    client.take(stream.publish(snapshot(C={"a": "2"}, E=one, L=one, R=one)))
    assert client.log == ["C+a2", "E+a1"]
    assert not client.warming


def test_one_bad_resource_does_not_hold_up_the_others() -> None:
    """A refused response is taken apart; each resource is accepted or refused by itself, once."""
    names = {"a": "1", "b": "1", "c": "1"}
    stream = Stream(whole(**names))
    client = Client(stream, bad=["b2"])
    client.connect()
    stream.outcomes()
    client.log.clear()
    later = {"a": "2", "b": "2", "c": "2"}
    client.take(stream.publish(snapshot(C=names, E=names, L=names, R=later)))
    assert client.log == ["R+a2+b2+c2", "R+a2", "R+b2", "R+c2"]
    outcomes = stream.outcomes()
    refused = [o for o in outcomes if isinstance(o, Rejected)]
    assert [(o.resource.name, o.accepted and o.accepted.version) for o in refused] == [("b", "1")]
    assert {r.name for o in outcomes if isinstance(o, Accepted) for r in o.resources} == {"a", "c"}
    assert stream.publish(snapshot(C=names, E=names, L=names, R=later)) == []
    client.log.clear()
    client.take(stream.publish(snapshot(C=names, E=names, L=names, R=later | {"b": "3"})))
    assert client.log == ["R+b3"]


def test_what_was_refused_can_be_tried_again() -> None:
    """`retry` sends it once more, for what it depends on outside may be there now."""
    stream = Stream(snapshot(L={"a": "1"}))
    client = Client(stream, bad=["a1"])
    client.connect()
    client.log.clear()
    client.bad.clear()
    client.take(stream.retry(types.LISTENER))
    assert client.log[0] == "L+a1"
    assert client.has[types.LISTENER] == {"a": "1"}


def test_what_was_refused_and_comes_back_is_judged_anew() -> None:
    """A refusal is of what is offered: once another version stood in its place, it is forgotten."""
    names = {"a": "1"}
    stream = Stream(whole(**names))
    client = Client(stream, bad=["a2"])
    client.connect()
    worse = snapshot(C=names, E=names, L=names, R={"a": "2"})
    client.take(stream.publish(worse))
    client.take(stream.publish(whole(**names)))
    client.log.clear()
    client.take(stream.publish(worse))
    assert client.log == ["R+a2"]


def test_what_another_object_makes_is_judged_for_that_object() -> None:
    """One deleted and made again makes the same bytes before anybody looked: it hears of its own refusal."""
    names = {"a": "1"}

    def offered(uid: str) -> Snapshot:
        origin = types.Origin("VirtualService", "default", "r", f"{uid}:1")
        table = Resource("a", "2", b"a2", (origin,))
        return Snapshot({**whole(**names).resources, types.ROUTES: {"a": table}})

    stream = Stream(whole(**names))
    client = Client(stream, bad=["a2"])
    client.connect()
    client.take(stream.publish(offered("first")))
    stream.outcomes()
    client.log.clear()
    client.take(stream.publish(offered("first")))
    assert client.log == []
    client.take(stream.publish(offered("second")))
    assert client.log == ["R+a2"]
    (refused,) = [each for each in stream.outcomes() if isinstance(each, Rejected)]
    assert refused.resource.origins[0].version == "second:1"


def test_a_client_that_comes_back_is_told_only_what_it_missed() -> None:
    """Versions from before the stream count; what the client already runs is reported as running."""
    first = Client(Stream(whole(a="1", b="1")))
    first.connect()
    again = Stream(whole(a="1", c="1"))
    client = Client(again)
    client.has, client.subscribed = first.has, first.subscribed
    client.connect()
    assert client.log[0] == "C+c1"
    assert "a1" not in "".join(client.log)
    assert client.has == {url: {"a": "1", "c": "1"} for url in NAMES}
    running = {r.name for o in again.outcomes() if isinstance(o, Accepted) for r in o.resources}
    assert running == {"a", "c"}


def test_nothing_is_said_before_anything_is_known() -> None:
    """A control plane that has not read its objects yet does not tell a client that all is gone."""
    stream = Stream()
    client = Client(stream)
    client.has[types.CLUSTER] = {"a": "1"}
    client.connect()
    assert client.log == []
    client.take(stream.publish(snapshot(C={"a": "1"})))
    assert client.log == []


@pytest.mark.parametrize("names", [("*",), ()])
def test_wildcards(names: tuple[str, ...]) -> None:
    """All listeners, asked for by `*` or by naming none; unsubscribing `*` leaves the named ones."""
    stream = Stream(snapshot(L={"a": "1", "b": "1"}))
    (sent,) = stream.receive(Request(types.LISTENER, subscribe=names))
    assert [r.name for r in sent.resources] == ["a", "b"]
    stream.receive(Request(types.LISTENER, nonce=sent.nonce))
    assert stream.receive(Request(types.LISTENER, subscribe=("a",), unsubscribe=("*",)))[0].resources
    assert stream.settled is False


def test_a_name_that_does_not_exist_is_said_to_be_gone_once() -> None:
    """A client that asks for what is not there need not wait for it; it is sent when it appears."""
    stream = Stream(snapshot(R={}))
    (sent,) = stream.receive(Request(types.ROUTES, subscribe=("x",)))
    assert sent.removed == ("x",)
    assert stream.receive(Request(types.ROUTES, nonce=sent.nonce)) == []
    (sent,) = stream.publish(snapshot(R={"x": "1"}))
    assert [r.name for r in sent.resources] == ["x"]


def test_a_stale_answer_changes_nothing() -> None:
    """An answer to a nonce that is not in flight neither accepts nor refuses."""
    stream = Stream(snapshot(L={"a": "1"}))
    stream.receive(Request(types.LISTENER))
    assert stream.receive(Request(types.LISTENER, nonce="77", error="what?")) == []
    assert stream.outcomes() == []
    assert not stream.settled


worlds = st.dictionaries(st.sampled_from("abcde"), st.sampled_from("123"), max_size=5)


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(st.tuples(worlds, worlds), min_size=1, max_size=6),
    bad=st.sets(st.sampled_from(["a2", "b3", "c1", "e2"])),
    reconnects=st.sets(st.integers(0, 5)),
)
def test_a_client_ends_with_what_is_served(
    steps: list[tuple[dict[str, str], dict[str, str]]], bad: set[str], reconnects: set[int]
) -> None:
    """Published, refused or interrupted: the client comes to run all that it accepts, and no more."""
    stream = Stream()
    client = Client(stream, bad=bad)
    client.connect()
    upper: dict[str, str] = {}
    lower: dict[str, str] = {}
    for index, (upper, lower) in enumerate(steps):
        client.take(stream.publish(snapshot(C=lower, E=lower, L=upper, R=upper)))
        if index in reconnects:
            again = Stream(snapshot(C=lower, E=lower, L=upper, R=upper))
            client.stream, stream = again, again
            client.warming.clear()
            client.postponed = None
            client.connect()
    assert stream.settled
    for kind, expected in (("C", lower), ("L", upper)):
        has = client.has[SHORT[kind]]
        assert set(has) <= set(expected)
        for name, version in expected.items():
            assert has.get(name) == version or f"{name}{version}" in bad


def _frames(address: str, pings: int) -> list[int]:
    """The kinds of HTTP/2 frames that come back to a client that does nothing but ping."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(address)
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">I", 0)[1:] + b"\4\0\0\0\0\0")
        client.sendall((struct.pack(">I", 8)[1:] + b"\6\0\0\0\0\0" + b"ondolpng") * pings)
        stream = client.makefile("rb")
        kinds: list[int] = []
        while kinds.count(6) < pings and len(head := stream.read(9)) == 9:
            stream.read(int.from_bytes(head[:3], "big"))
            kinds.append(head[3])
        return kinds


@pytest.mark.anyio
async def test_pings_are_answered_however_many_come(tmp_path: Path) -> None:
    """Envoy's signs of life on a quiet stream are not called too many, and its connection stays."""
    path = tmp_path / "xds.sock"
    async with anyio.create_task_group() as tasks:
        await tasks.start(server.serve, server.Hub(clock=SystemClock()), f"unix:{path}")
        assert path.stat().st_mode & 0o777 == 0o600
        kinds = await anyio.to_thread.run_sync(_frames, str(path), 20)
        tasks.cancel_scope.cancel()
    assert kinds.count(6) == 20
    assert 7 not in kinds, "GOAWAY"
