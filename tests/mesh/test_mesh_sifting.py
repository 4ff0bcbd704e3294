"""A Route of which nothing can be made takes none of its host's other Routes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.base.memo import Memo
from ondol.mesh.gateway_api import expansion
from ondol.mesh.gateway_api.expansion import Expansion, Objects, Surroundings
from ondol.mesh.gateway_api.feed import gateway_class
from ondol.mesh.gateway_api.sifting import Sifter
from ondol.mesh.translate.registry import VirtualService
from ondol.mesh.xds import types

ROUTES = ("a", "b", "c", "d", "e")
WHY = "too large a number"
BAD: Sequence[tuple[str, ...]] = [(), ("e",), ("a",), ("c",), ("a", "d"), ("d", "e"), ROUTES]
MEANT = {"ingress": {"name": "gw"}, "between pods": {"name": "web", "kind": "Service", "group": ""}}


def document(kind: str, name: str, second: int, spec: Mapping[str, Any]) -> Object:
    created = f"2026-01-01T00:00:{second:02}Z"
    metadata = {"name": name, "namespace": "default", "creationTimestamp": created, "resourceVersion": "1"}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": dict(spec)}


LISTENER = {"name": "main", "port": 80, "protocol": "HTTP"}
GATEWAY = document("Gateway", "gw", 0, {"gatewayClassName": "ondol", "listeners": [LISTENER]})
SERVICE = document("Service", "web", 0, {"ports": [{"port": 80}]})


def route(name: str, parent: Object, path: str = "") -> Object:
    rule = {
        "matches": [{"path": {"value": f"/{path or name}"}}],
        "backendRefs": [{"name": "web", "port": 80}],
    }
    spec = {"parentRefs": [parent], "rules": [rule]}
    return document("HTTPRoute", name, ROUTES.index(name) + 1, spec)


class Mesh:
    """A translation and a proxy that take no rule with a route of these."""

    def __init__(self, bad: Sequence[str], way: str) -> None:
        self.bad, self.way = bad, way
        self.answers = 1
        self.sifter = Sifter()
        self.memo = Memo()
        self.expansion = Expansion()
        self.runs: types.Resource | None = None
        self.history: list[str] = []
        """The Routes that were served, each time that something was accepted."""

    def take(self, *routes: Object) -> None:
        """Serve these, and go on until nothing changes."""
        around = Surroundings({objects.key(SERVICE): SERVICE})
        listed = {"GatewayClass": [gateway_class("ondol")], "Gateway": [GATEWAY], "HTTPRoute": list(routes)}
        self.expansion = expansion.expand(Objects(listed), around, self.memo)
        self.memo.sweep()
        for _ in range(100):
            if not self._step():
                return
        raise AssertionError(f"it has no end: {self.history[-20:]}")

    def _step(self) -> bool:
        rules = self.sifter.served(self.expansion.virtual_services, self.expansion.joined)
        present = {rule.origin: names_of(rule) for rule in rules}
        refused = [origin for origin, names in present.items() if names & set(self.bad)]
        table = types.Resource("table", "1", b"", tuple(present))
        if not refused:
            self.runs = table
            self.history.append("".join(sorted(set[str]().union(*present.values()) & set(ROUTES))))
            accepted = self.sifter.observe([types.Accepted(types.ROUTES, (table,))])
            return accepted or self.sifter.next_trial()
        if self.way == "translation":
            return self.sifter.refuse(refused[0], WHY)
        rejected = types.Rejected(types.ROUTES, table, WHY, self.runs)
        changed = [self.sifter.observe([rejected]) for _ in range(self.answers)]
        return any(changed) or self.sifter.next_trial()

    def left_out(self) -> str:
        """The Routes that are told that they are not served."""
        of = self.expansion.sources
        return "".join(
            each for each in ROUTES if self.sifter.why(("HTTPRoute", Key("default", each)), of) == WHY
        )


def names_of(rule: VirtualService) -> set[str]:
    """The Routes that a rule has something of, by their paths."""
    uris = (match.uri for each in rule.spec.http for match in each.match)
    texts = ((uri.exact or uri.prefix) if uri else "" for uri in uris)
    return {str(text).strip("/")[:1] for text in texts if text}


@pytest.mark.parametrize("way", ["translation", "proxy"])
@pytest.mark.parametrize("parent", MEANT.values(), ids=MEANT.keys())
@pytest.mark.parametrize("bad", BAD, ids="".join)
def test_only_the_bad_are_left_out(bad: Sequence[str], parent: Object, way: str) -> None:
    """Whichever they are, and however it is noticed; they alone are told."""
    mesh = Mesh(bad, way)
    mesh.take(*(route(name, parent) for name in ROUTES))
    assert mesh.history[-1] == "".join(each for each in ROUTES if each not in bad)
    assert mesh.left_out() == "".join(bad)


def test_what_was_accepted_before_stays() -> None:
    """A change of one Route that cannot be served takes the others away not even for a moment."""
    parent = MEANT["ingress"]
    listed = [route(name, parent) for name in ROUTES]
    mesh = Mesh((), "proxy")
    mesh.take(*listed)
    mesh.bad, mesh.history = ("b",), []
    mesh.take(*(route("b", parent, "b2") if each["metadata"]["name"] == "b" else each for each in listed))
    assert set(mesh.history) == {"acde"}
    assert mesh.left_out() == "b"


@pytest.mark.parametrize("bad", BAD[:-1], ids="".join)
def test_answers_of_several_tables_are_taken_once(bad: Sequence[str]) -> None:
    """What was refused in one is not to blame for less when the next says the same."""
    mesh = Mesh(bad, "proxy")
    mesh.answers = 3
    mesh.take(*(route(name, MEANT["ingress"]) for name in ROUTES))
    assert mesh.left_out() == "".join(bad)


def test_a_route_that_was_mended_is_back() -> None:
    """What is left out stays so until it is something else."""
    parent = MEANT["ingress"]
    listed = [route(name, parent) for name in ROUTES]
    mesh = Mesh(("b",), "proxy")
    mesh.take(*listed)
    mesh.take(*listed)
    assert mesh.left_out() == "b"
    mesh.bad = ()
    mesh.take(*(route("b", parent, "b2") if each["metadata"]["name"] == "b" else each for each in listed))
    assert mesh.history[-1] == "abcde"
    assert not mesh.left_out()


def test_what_is_said_of_a_part_is_said_of_the_whole() -> None:
    """A rule that is served in part is another version: its findings are those of the Routes all the same."""
    parent = MEANT["ingress"]
    mesh = Mesh(("b",), "proxy")
    mesh.take(route("a", parent), route("b", parent))
    (whole,) = (rule.origin for rule in mesh.expansion.virtual_services)
    (part,) = (
        rule.origin for rule in mesh.sifter.served(mesh.expansion.virtual_services, mesh.expansion.joined)
    )
    assert whole != part
    assert mesh.sifter.of_whole({part: "lost"}) == {part: "lost", whole: "lost"}


@pytest.mark.parametrize("bad", [("a",), ("a", "b")])
def test_a_host_keeps_its_holder_while_its_routes_are_bad(bad: Sequence[str]) -> None:
    """With nothing left to serve the rule is there, so that no other namespace gets the host meanwhile."""
    parent = MEANT["ingress"]
    mesh = Mesh(bad, "translation")
    mesh.take(*(route(name, parent) for name in bad))
    (rule,) = mesh.sifter.served(mesh.expansion.virtual_services, mesh.expansion.joined)
    assert rule.claimant == "default"
    assert [each.direct_response.status for each in rule.spec.http if each.direct_response] == [404]
