"""How objects stand: what is served in place of a refused one, and who is blamed."""

from __future__ import annotations

from typing import Any

from ondol.mesh import conditions, definitions
from ondol.mesh.acceptance import Acceptance, Refusal
from ondol.mesh.kinds.kind import Finding, Progress
from ondol.mesh.translate.registry import Rule
from ondol.mesh.xds import types
from ondol.mesh.xds.types import Accepted, Rejected, Resource, Snapshot

ROUTE = {"route": [{"destination": {"host": "web"}}]}


def document(name: str, generation: int, **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "uid": name, "generation": generation}
    return {"kind": "VirtualService", "metadata": meta, "spec": {"hosts": [name], "http": [ROUTE]} | spec}


def served(acceptance: Acceptance, *documents: dict[str, Any]) -> dict[str, str]:
    """Versions in force by name."""
    admitted = acceptance.admit("VirtualService", documents)
    return {rule.origin.name: rule.origin.version for rule in admitted}


def table(*rules: Rule[Any], version: str = "1") -> Resource:
    return Resource("80|default", version, b"", tuple(rule.origin for rule in rules))


def accept(acceptance: Acceptance, resource: Resource) -> None:
    acceptance.observe([Accepted(types.ROUTES, (resource,))])


def test_what_we_refuse_keeps_its_last_good_version() -> None:
    """A version that means nothing is not served; the one that ran before is; a mended one is."""
    acceptance = Acceptance()
    accept(acceptance, table(*acceptance.admit("VirtualService", [document("a", 1)])))
    bad = document("a", 2, http=[])
    assert served(acceptance, bad) == {"a": "a:1"}
    refusal = acceptance.refusal("VirtualService", bad)
    assert refusal is not None
    assert not refusal.by_proxy
    assert served(acceptance, document("a", 3)) == {"a": "a:3"}


def test_a_new_object_that_is_refused_is_not_served() -> None:
    """Without a good version there is nothing to keep."""
    assert served(Acceptance(), document("a", 1, http=[])) == {}


def test_a_gateway_with_a_port_of_the_platform_is_not_served() -> None:
    """It is refused as what is unsound is, and told why."""
    server = {"port": {"number": 6443, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    gateway = {**document("gw", 1), "spec": {"servers": [server]}}
    assert Acceptance().admit("Gateway", [gateway]) != []
    acceptance = Acceptance(lambda number: "a port of the platform itself" if number == 6443 else "")
    assert acceptance.admit("Gateway", [gateway]) == []
    refusal = acceptance.refusal("Gateway", gateway)
    assert refusal is not None
    assert refusal.reason == "PortNotAllowed"
    assert "platform itself" in refusal.message
    listed = conditions.of_rule(gateway, refusal=refusal, progress=Progress.UNUSED, findings=(), now=0.0)
    assert [(c["status"], c["reason"]) for c in listed[:2]] == [("False", "PortNotAllowed")] * 2
    assert ("PortNotAllowed", refusal.message) in conditions.warnings([], listed)


def test_a_port_that_was_opened_is_judged_anew() -> None:
    """What an earlier process refused for its port is served once the administrator lets it."""
    server = {"port": {"number": 9000, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    gateway = {**document("gw", 1), "spec": {"servers": [server]}}
    closed, opened = Acceptance(lambda number: f"{number} is closed"), Acceptance()
    assert closed.admit("Gateway", [gateway]) == []
    opened.restore(closed.export())
    assert opened.admit("Gateway", [gateway]) != []
    assert opened.refusal("Gateway", gateway) is None


def test_envoys_refusal_blames_what_is_new() -> None:
    """Of the objects in a refused table, the one that changed is at fault."""
    acceptance = Acceptance()
    first = document("a", 1), document("b", 1)
    good = table(*acceptance.admit("VirtualService", first))
    accept(acceptance, good)
    changed = document("a", 1), document("b", 2)
    worse = table(*acceptance.admit("VirtualService", changed), version="2")
    assert acceptance.observe([Rejected(types.ROUTES, worse, "no such regex", good)])
    assert served(acceptance, *changed) == {"a": "a:1", "b": "b:1"}
    refusal = acceptance.refusal("VirtualService", changed[1])
    assert refusal is not None
    assert (refusal.by_proxy, refusal.message) == (True, "no such regex")
    assert acceptance.refusal("VirtualService", changed[0]) is None


def test_of_several_suspects_each_is_tried_alone() -> None:
    """They step back together, come back one by one, and only the guilty one stays out."""
    acceptance = Acceptance()
    documents = document("a", 1), document("b", 1), document("c", 1)
    guilty = "b"
    accepted: Resource | None = None
    served_names: list[set[str]] = []
    for version in range(20):
        rules = acceptance.admit("VirtualService", documents)
        served_names.append({rule.origin.name for rule in rules})
        resource = table(*rules, version=str(version))
        if guilty in served_names[-1]:
            acceptance.observe([Rejected(types.ROUTES, resource, "bad", accepted)])
        else:
            accept(acceptance, resource)
            accepted = resource
            if not acceptance.next_trial(Snapshot()):
                break
    assert served_names[1] == set()
    assert served(acceptance, *documents) == {"a": "a:1", "c": "c:1"}
    assert [acceptance.refusal("VirtualService", each) is not None for each in documents] == [
        False,
        True,
        False,
    ]


def test_what_cannot_be_translated_steps_back_too() -> None:
    """A failure of the translation is the object's refusal, told as such, once."""
    acceptance = Acceptance()
    accept(acceptance, table(*acceptance.admit("VirtualService", [document("a", 1)])))
    (rule,) = acceptance.admit("VirtualService", [document("a", 2)])
    assert acceptance.refuse(rule.origin, "too large a number")
    assert served(acceptance, document("a", 2)) == {"a": "a:1"}
    assert not acceptance.refuse(rule.origin, "again")


def test_what_serves_for_a_refused_object_outlives_the_process() -> None:
    """A new control plane neither sends the refused version again nor forgets the good one."""
    acceptance = Acceptance()
    good = table(*acceptance.admit("VirtualService", [document("a", 1)]))
    accept(acceptance, good)
    second = document("a", 2, hosts=["b"])
    worse = table(*acceptance.admit("VirtualService", [second]), version="2")
    acceptance.observe([Rejected(types.ROUTES, worse, "no", good)])
    again = Acceptance()
    again.restore(acceptance.export())
    (rule,) = again.admit("VirtualService", [second])
    assert (rule.origin.version, rule.spec.hosts) == ("a:1", ("a",))
    assert again.refusal("VirtualService", second) == acceptance.refusal("VirtualService", second)
    assert again.export() == acceptance.export()
    assert served(again, document("a", 3)) == {"a": "a:3"}
    assert again.export() == []


def test_running_means_all_of_it_runs() -> None:
    """An object runs when every resource made from it does, in the version that is served."""
    acceptance = Acceptance()
    rule = acceptance.admit("VirtualService", [document("a", 1)])[0]
    one, two = table(rule), Resource("80|other", "1", b"", (rule.origin,))
    snapshot = Snapshot({types.ROUTES: {one.name: one, two.name: two}})
    assert acceptance.running(snapshot) == {rule.origin: False}
    accept(acceptance, one)
    assert acceptance.running(snapshot) == {rule.origin: False}
    accept(acceptance, two)
    assert acceptance.running(snapshot) == {rule.origin: True}
    acceptance.disconnected()
    assert acceptance.running(snapshot) == {rule.origin: False}
    assert acceptance.running(Snapshot()) == {}


def test_what_is_gone_is_forgotten() -> None:
    """A deleted object is served no longer, and one made anew under its name starts afresh."""
    acceptance = Acceptance()
    accept(acceptance, table(*acceptance.admit("VirtualService", [document("a", 1)])))
    assert served(acceptance) == {}
    assert served(acceptance, document("a", 1, http=[])) == {}


def test_what_has_no_destination_waits_while_another_version_serves() -> None:
    """A version that leads nowhere is held back, and takes over once its destination exists."""
    acceptance = Acceptance()
    accept(acceptance, table(*acceptance.admit("VirtualService", [document("a", 1)])))
    second = document("a", 2)
    acceptance.admit("VirtualService", [second])
    (candidate,) = acceptance.candidates("VirtualService")
    assert acceptance.wait_for("VirtualService", {candidate.origin: "no subset v9"})
    assert served(acceptance, second) == {"a": "a:1"}
    refusal = acceptance.refusal("VirtualService", second)
    assert refusal is not None
    assert (refusal.reason, refusal.message) == ("DestinationMissing", "no subset v9")
    later = Acceptance()
    later.restore(acceptance.export())
    later.admit("VirtualService", [second])
    assert later.wait_for("VirtualService", {candidate.origin: "no subset v9"})
    assert served(later, second) == {"a": "a:1"}
    assert acceptance.wait_for("VirtualService", {})
    assert served(acceptance, second) == {"a": "a:2"}
    assert acceptance.refusal("VirtualService", second) is None


def test_the_first_version_serves_even_if_it_leads_nowhere() -> None:
    """Without another version there is nothing to wait behind: callers learn of it as in Istio."""
    acceptance = Acceptance()
    (rule,) = acceptance.admit("VirtualService", [document("a", 1)])
    assert not acceptance.wait_for("VirtualService", {rule.origin: "no service"})
    assert served(acceptance, document("a", 1)) == {"a": "a:1"}


def refused_once(acceptance: Acceptance, *documents: dict[str, Any]) -> Resource:
    """All of them served and refused, the table that was refused."""
    worse = table(*acceptance.admit("VirtualService", documents), version="bad")
    acceptance.observe([Rejected(types.ROUTES, worse, "port is busy")])
    return worse


def test_what_envoy_refused_is_tried_again_with_growing_waits() -> None:
    """After one second, then two; while it is tried it still counts as refused, until all is settled."""
    acceptance, first = Acceptance(), document("a", 1)
    refused_once(acceptance, first)
    assert acceptance.retry(now=100.0) == 1.0
    assert served(acceptance, first) == {}
    acceptance.retry(now=101.0)
    assert acceptance.next_trial(Snapshot())
    assert served(acceptance, first) == {"a": "a:1"}
    assert acceptance.refusal("VirtualService", first) is not None
    refused_once(acceptance, first)
    assert served(acceptance, first) == {}
    assert acceptance.retry(now=200.0) == 2.0
    acceptance.retry(now=202.0)
    assert acceptance.next_trial(Snapshot())
    accept(acceptance, table(*acceptance.admit("VirtualService", [first])))
    assert not acceptance.next_trial(Snapshot())
    assert acceptance.refusal("VirtualService", first) is None
    assert acceptance.export() == []
    assert acceptance.retry(now=300.0) is None


def test_a_change_around_a_refused_object_hastens_its_next_try() -> None:
    """Long waits are cut to the first one when any rule comes, changes or goes."""
    acceptance, first = Acceptance(), document("a", 1)
    for _ in range(6):
        refused_once(acceptance, first)
        acceptance.retry(now=0.0)
        acceptance.retry(now=100.0)
        acceptance.next_trial(Snapshot())
    refused_once(acceptance, first)
    assert acceptance.retry(now=200.0) == 30.0
    acceptance.admit("Gateway", [])
    assert acceptance.retry(now=200.0) == 30.0
    acceptance.admit("VirtualService", [first, document("b", 1)])
    assert acceptance.retry(now=200.0) == 1.0


def test_what_was_refused_is_tried_once_at_every_start() -> None:
    """A new process serves the good version first, then gives the refused one a try by itself."""
    acceptance, second = Acceptance(), document("a", 2, hosts=["b"])
    good = table(*acceptance.admit("VirtualService", [document("a", 1)]))
    accept(acceptance, good)
    worse = table(*acceptance.admit("VirtualService", [second]), version="2")
    acceptance.observe([Rejected(types.ROUTES, worse, "no", good)])
    again = Acceptance()
    again.restore(acceptance.export())
    assert served(again, second) == {"a": "a:1"}
    again.retry(now=0.0)
    assert again.next_trial(Snapshot())
    assert served(again, second) == {"a": "a:2"}


def test_what_could_not_be_translated_is_tried_when_something_around_it_changes() -> None:
    """The reason may have been another object."""
    acceptance, first = Acceptance(), document("a", 1)
    (rule,) = acceptance.admit("VirtualService", [first])
    acceptance.refuse(rule.origin, "too large a number")
    assert served(acceptance, first) == {}
    assert served(acceptance, first, document("b", 1)) == {"a": "a:1", "b": "b:1"}


def test_a_trial_is_passed_only_by_what_envoy_runs() -> None:
    """Silence is no consent: a table that was not yet asked for leaves the object refused."""
    acceptance, first = Acceptance(), document("a", 1)
    refused_once(acceptance, first)
    acceptance.retry(now=0.0)
    acceptance.retry(now=1.0)
    acceptance.next_trial(Snapshot())
    offered = table(*acceptance.admit("VirtualService", [first]), version="2")
    snapshot = Snapshot({types.ROUTES: {offered.name: offered}})
    acceptance.next_trial(snapshot)
    assert acceptance.refusal("VirtualService", first) is not None
    accept(acceptance, offered)
    acceptance.next_trial(snapshot)
    assert acceptance.refusal("VirtualService", first) is None


def test_what_is_odd_is_told_once_as_a_warning() -> None:
    """A new finding or refusal makes an event; one that stands as before makes none."""
    obj = document("a", 1)
    origin = Acceptance.origin("VirtualService", obj)

    def judged(refusal: Refusal | None, *findings: Finding) -> list[dict[str, Any]]:
        return conditions.of_rule(obj, refusal=refusal, progress=Progress.RUNNING, findings=findings, now=1.0)

    sound = judged(None)
    odd = judged(None, Finding(origin, "KIA1107", "no subset v9"))
    assert conditions.warnings([], sound) == []
    assert conditions.warnings(sound, odd) == [("KIA1107", "KIA1107: no subset v9")]
    assert conditions.warnings(odd, odd) == []
    refused = judged(Refusal("RejectedByProxy", "port is busy", by_proxy=True))
    assert conditions.warnings(sound, refused) == [("RejectedByProxy", "port is busy")]


def test_every_table_has_the_reason() -> None:
    """Why the proxy does not have an object is printed beside that it has not; the words in wide output."""
    path = '.status.conditions[?(@.type=="Programmed")]'
    for crd in definitions.crds():
        for version in crd["spec"]["versions"]:
            columns = {c["name"]: c for c in version["additionalPrinterColumns"]}
            assert columns["Reason"]["jsonPath"] == f"{path}.reason"
            assert "priority" not in columns["Reason"]
            assert (columns["Message"]["jsonPath"], columns["Message"]["priority"]) == (f"{path}.message", 1)
