"""Which fitting node is best, how constraints of spread are kept, and who gives way to whom."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api import objects
from ondol.api.objects import Object
from ondol.controllers.scheduler import accounts, filters, hosts, peers, preemption

NOWHERE = peers.Namespaces({})
ZONE = "zone"
WEB = {"app": "web"}


def node(name: str, *, zone: str = "", cpu: str = "4", labels: Object | None = None, **spec: Any) -> Object:
    listed = {"name": name, **({ZONE: zone} if zone else {}), **(labels or {})}
    return {
        "metadata": {"name": name, "labels": listed},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "100"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(name: str = "p", *, cpu: str = "", labels: Object | None = None, **spec: Any) -> Object:
    requests = {"cpu": cpu} if cpu else {}
    container = {"name": "c", "resources": {"requests": requests}}
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": labels or {}},
        "spec": {"containers": [container], **spec},
    }


def bound(*placed: tuple[Object, str]) -> accounts.Accounts:
    book = accounts.Accounts()
    for each, where in placed:
        book.observe(None, {**each, "spec": {**each["spec"], "nodeName": where}})
    return book


def chosen(pending: Object, nodes: list[Object], book: accounts.Accounts | None = None) -> filters.Choice:
    return filters.choose(pending, hosts.Fleet(map(hosts.of, nodes)), book or accounts.Accounts(), NOWHERE)


def term(app: str, key: str = ZONE) -> Object:
    return {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key}


def weighted(kind: str, app: str, weight: int = 100) -> Object:
    wish = {"weight": weight, "podAffinityTerm": term(app)}
    return {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}}


def like(key: str, value: str) -> Object:
    preference = {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}
    wish = {"weight": 5, "preference": preference}
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}}


SOFT = {"key": "slow", "effect": "PreferNoSchedule"}
DB = pod("db", labels={"app": "db"})


@pytest.mark.parametrize(
    ("pending", "nodes", "placed", "best"),
    [
        (pod(), [node("a"), node("b", cpu="8")], [], "b"),
        (pod(cpu="1"), [node("a", taints=[SOFT]), node("b", cpu="2")], [], "b"),
        (pod(tolerations=[{"key": "slow"}]), [node("a", taints=[SOFT]), node("b")], [], "a"),
        (pod(affinity=like("disk", "ssd")), [node("a"), node("b", labels={"disk": "ssd"})], [], "b"),
        (
            pod(affinity=weighted("podAffinity", "db")),
            [node("a", zone="1"), node("b", zone="2")],
            [(DB, "b")],
            "b",
        ),
        (
            pod(affinity=weighted("podAntiAffinity", "db")),
            [node("a", zone="1"), node("b", zone="2")],
            [(DB, "a")],
            "b",
        ),
        (
            pod(labels=WEB),
            [node("a", zone="1"), node("b", zone="2")],
            [(pod("fan", affinity=weighted("podAffinity", "web")), "b")],
            "b",
        ),
    ],
)
def test_what_makes_a_node_better(
    pending: Object, nodes: list[Object], placed: list[tuple[Object, str]], best: str
) -> None:
    """Room, taints that would rather not, what the pod likes of nodes and of others, and they of it."""
    assert chosen(pending, nodes, bound(*placed)).node == best


def spread(**more: Any) -> Object:
    constraint = {"maxSkew": 1, "topologyKey": ZONE, "labelSelector": {"matchLabels": WEB}}
    return pod(labels=WEB, topologySpreadConstraints=[{**constraint, **more}])


def test_even_shares_may_be_wished_for() -> None:
    """`ScheduleAnyway` prefers the emptier domain, and takes the fuller where there is no other."""
    nodes = [node("a", zone="1"), node("b", zone="2")]
    book = bound((pod("x", labels=WEB), "a"), (pod("y", labels=WEB), "a"))
    wish = spread(whenUnsatisfiable="ScheduleAnyway")
    assert chosen(wish, nodes, book).node == "b"
    assert chosen(wish, nodes[:1], book).node == "a"


@pytest.mark.parametrize(
    ("constraint", "nodes", "reason"),
    [
        ({}, [node("a")], "1 node(s) didn't match pod topology spread constraints (missing required label)"),
        ({"minDomains": 2}, [node("a", zone="1")], "1 node(s) didn't match pod topology spread constraints"),
        ({"minDomains": 1}, [node("a", zone="1")], ""),
    ],
)
def test_domains_that_are_missing(constraint: Object, nodes: list[Object], reason: str) -> None:
    """A node without the label never fits; with fewer domains than asked for, the absent count as empty."""
    book = bound((pod("x", labels=WEB), "a"))
    choice = chosen(spread(**constraint), nodes, book)
    assert choice.reason == (f"0/1 nodes are available: {reason}." if reason else "")


def test_only_nodes_that_could_have_it_count() -> None:
    """A domain the pod may not enter is no emptier one, unless the constraint says to look at all."""
    nodes = [node("a", zone="1", labels={"os": "x"}), node("b", zone="2")]
    book = bound((pod("x", labels=WEB), "a"))
    pending = spread()
    pending["spec"]["nodeSelector"] = {"os": "x"}
    assert chosen(pending, nodes, book).node == "a"
    pending["spec"]["topologySpreadConstraints"][0]["nodeAffinityPolicy"] = "Ignore"
    assert chosen(pending, nodes, book).node == ""


def test_pods_of_one_revision_are_spread_by_themselves() -> None:
    """`matchLabelKeys` counts only those that have the pod's own value."""
    nodes = [node("a", zone="1"), node("b", zone="2")]
    book = bound((pod("x", labels={**WEB, "rev": "1"}), "a"))
    pending = spread(matchLabelKeys=["rev"])
    pending["metadata"]["labels"] = {**WEB, "rev": "2"}
    book.observe(None, pod("y", labels={**WEB, "rev": "2"}, nodeName="b"))
    assert chosen(pending, nodes, book).node == "a"


def test_of_many_nodes_enough_are_looked_at() -> None:
    """And the next search begins behind them, so that all have their turn."""
    nodes = hosts.Fleet(hosts.of(node(f"n{number}")) for number in range(1000))
    choice = filters.choose(pod(), nodes, accounts.Accounts(), NOWHERE, start=990)
    assert choice.examined == 100
    assert int(choice.node[1:]) >= 990 or int(choice.node[1:]) < 90
    assert chosen(pod(cpu="9"), [node(f"n{number}") for number in range(150)]).examined == 150


# --- preemption


def important(name: str = "vip", priority: int = 10, cpu: str = "2", **spec: Any) -> Object:
    return pod(name, cpu=cpu, priority=priority, **spec)


def plan(pending: Object, nodes: list[Object], book: accounts.Accounts, *budgets: Object) -> preemption.Plan:
    fleet = hosts.Fleet(map(hosts.of, nodes))
    choice = filters.choose(pending, fleet, book, NOWHERE)
    assert not choice.node
    trial = filters.Trial(pending, peers.Cluster(fleet, book, NOWHERE))
    return preemption.plan(trial, choice, budgets)


def names(victims: Any) -> list[str]:
    return [victim["metadata"]["name"] for victim in victims]


def test_as_few_as_possible_give_way() -> None:
    """Of a node's lower pods only those whose room is needed, the least important ones."""
    low = [(important(f"p{n}", n, "1"), "a") for n in (1, 2, 3, 4)]
    plan_of_few = plan(important(), [node("a")], bound(*low))
    assert (plan_of_few.node, names(plan_of_few.victims)) == ("a", ["p2", "p1"])


def test_nobody_gives_way_to_an_equal() -> None:
    """Nor where it would not help, nor for who does not want it; each time it is said why."""
    equal = bound((important("x", 10, "4"), "a"))
    refused = plan(important(), [node("a"), node("b", unschedulable=True)], equal)
    assert refused.reason == (
        "0/2 nodes are available: 1 No preemption victims found for incoming pod, "
        "1 Preemption is not helpful for scheduling."
    )
    lower = bound((important("x", 1, "4"), "a"))
    never = plan(important(preemptionPolicy="Never"), [node("a")], lower)
    assert never.reason == "not eligible due to preemptionPolicy=Never."
    assert not plan(important(cpu="5"), [node("a")], lower).victims


@pytest.mark.parametrize(
    ("placed", "best"),
    [
        ([("x", 5, "4", "a"), ("y", 3, "4", "b")], "b"),  # the lowest of the highest
        ([("x", 3, "2", "a"), ("w", 3, "2", "a"), ("y", 3, "4", "b")], "b"),  # one is fewer than two
        ([("x", 3, "3", "a"), ("w", 1, "1", "a"), ("y", 3, "3", "b"), ("z", 2, "1", "b")], "a"),
    ],
)
def test_the_node_where_it_hurts_least(placed: list[tuple[Any, ...]], best: str) -> None:
    """By the highest of the victims, then by all of them together."""
    book = bound(*((important(name, priority, cpu), where) for name, priority, cpu, where in placed))
    assert plan(important(cpu="4"), [node("a"), node("b")], book).node == best


def test_budgets_are_kept_where_they_can_be() -> None:
    """A pod that a budget holds goes last, and its node is taken last."""
    budget = {
        "metadata": {"name": "b", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": WEB}},
        "status": {"disruptionsAllowed": 0},
    }
    guarded = important("guarded", 1, "2", labels=WEB)
    book = bound((guarded, "a"), (important("free", 5, "2"), "a"))
    assert names(plan(important(), [node("a")], book, budget).victims) == ["free"]
    book = bound((important("g", 1, "4", labels=WEB), "a"), (important("f", 5, "4"), "b"))
    assert plan(important(), [node("a"), node("b")], book, budget).node == "b"
    assert plan(important(), [node("a"), node("b")], book).node == "a"


def test_one_that_must_not_be_near_gives_way() -> None:
    """Not only room is made, but distance."""
    far = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term("web", "name")]}}
    book = bound((important("near", 1, "1", labels=WEB), "a"), (important("other", 1, "1"), "a"))
    assert names(plan(important(cpu="1", affinity=far), [node("a")], book).victims) == ["near"]


def test_room_that_was_made_is_kept() -> None:
    """Pods that come later and are not more important do not see it."""
    book = accounts.Accounts()
    vip = important()
    book.nominate(vip, "a")
    assert chosen(important("late", 10, "3"), [node("a")], book).node == ""
    assert chosen(important("higher", 11, "3"), [node("a")], book).node == "a"
    assert chosen(vip, [node("a")], book).node == "a"
    book.withdraw(objects.key(vip))
    assert chosen(important("late", 10, "3"), [node("a")], book).node == "a"
