"""Where a pod may run, where it runs best, and what is taken on a node."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api.objects import Key, Object
from ondol.base.host_ports import HostPort
from ondol.controllers.scheduler import accounts, filters, hosts, peers

NOWHERE = peers.Namespaces({})
ZONE = "topology.kubernetes.io/zone"


def node(name: str = "n1", *, cpu: str = "2", ready: str = "True", zone: str = "z1", **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "labels": {ZONE: zone, "disk": "ssd", "size": "8"}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "3"},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def pod(name: str = "p", *, cpu: str = "", labels: dict[str, str] | None = None, **spec: Any) -> Object:
    requests = {"cpu": cpu} if cpu else {}
    container = {"name": "c", "resources": {"requests": requests}, "ports": spec.pop("ports", [])}
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": labels or {}},
        "spec": {"containers": [container], **spec},
    }


def bound(*placed: tuple[Object, str]) -> accounts.Accounts:
    book = accounts.Accounts()
    for each, where in placed:
        book.observe(None, {**each, "spec": {**each["spec"], "nodeName": where}})
    return book


def chosen(pending: Object, *nodes: Object, book: accounts.Accounts | None = None) -> filters.Choice:
    return filters.choose(pending, hosts.Fleet(map(hosts.of, nodes)), book or accounts.Accounts(), NOWHERE)


def affinity(kind: str, label: str, key: str = ZONE) -> Object:
    term = {"labelSelector": {"matchLabels": {"app": label}}, "topologyKey": key}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def node_affinity(operator: str, key: str, *values: str) -> Object:
    expression = {"key": key, "operator": operator, "values": list(values)}
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def own_node(name: str) -> Object:
    """As DaemonSets ask for the node of a pod."""
    field = {"key": "metadata.name", "operator": "In", "values": [name]}
    required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


TAINT = {"key": "k", "value": "v", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("pending", "host", "reason"),
    [
        (pod(), node(), ""),
        (pod(), node(ready="False"), "node(s) were not ready"),
        (pod(tolerations=[{"key": "node.kubernetes.io/not-ready"}]), node(ready="False"), ""),
        (pod(), node(unschedulable=True), "node(s) were unschedulable"),
        (pod(tolerations=[{"operator": "Exists"}]), node(unschedulable=True), ""),
        (pod(nodeSelector={"disk": "ssd"}), node(), ""),
        (pod(nodeSelector={"disk": "hdd"}), node(), "node(s) didn't match Pod's node affinity/selector"),
        (pod(affinity=node_affinity("In", "disk", "ssd", "nvme")), node(), ""),
        (pod(affinity=node_affinity("Gt", "size", "4")), node(), ""),
        (pod(affinity=node_affinity("DoesNotExist", "gpu")), node(), ""),
        (
            pod(affinity=node_affinity("NotIn", "disk", "ssd")),
            node(),
            "node(s) didn't match Pod's node affinity/selector",
        ),
        (pod(affinity=own_node("n1")), node(), ""),
        (pod(affinity=own_node("n2")), node(), "node(s) didn't match Pod's node affinity/selector"),
        (pod(), node(taints=[TAINT]), "node(s) had untolerated taint(s)"),
        (pod(), node(taints=[{**TAINT, "effect": "PreferNoSchedule"}]), ""),
        (pod(tolerations=[{"key": "k", "value": "v"}]), node(taints=[TAINT]), ""),
        (pod(tolerations=[{"key": "k", "operator": "Exists"}]), node(taints=[TAINT]), ""),
        (
            pod(tolerations=[{"key": "k", "value": "other"}]),
            node(taints=[TAINT]),
            "node(s) had untolerated taint(s)",
        ),
        (
            pod(tolerations=[{"key": "k", "operator": "Exists", "effect": "NoExecute"}]),
            node(taints=[TAINT]),
            "node(s) had untolerated taint(s)",
        ),
        (pod(cpu="2"), node(), ""),
        (pod(cpu="2001m"), node(), "Insufficient cpu"),
        (pod(affinity=affinity("podAffinity", "db")), node(), "node(s) didn't match pod affinity rules"),
        (pod(labels={"app": "db"}, affinity=affinity("podAffinity", "db")), node(), ""),
    ],
)
def test_each_filter_says_why(pending: Object, host: Object, reason: str) -> None:
    """One node, one reason, in Kubernetes' words."""
    expected = filters.Choice("n1") if not reason else None
    expected = expected or filters.Choice(reason=f"0/1 nodes are available: 1 {reason}.")
    assert chosen(pending, host) == expected


def test_reasons_are_counted() -> None:
    """Over all nodes, in order of their words."""
    nodes = [node("a", ready="False"), node("b", cpu="1"), node("c", cpu="1")]
    reason = "0/3 nodes are available: 1 node(s) were not ready, 2 Insufficient cpu."
    assert chosen(pod(cpu="2"), *nodes) == filters.Choice(reason=reason)
    assert chosen(pod()).reason == "no nodes available to schedule pods"


def test_resources_of_bound_pods_are_taken() -> None:
    """CPU, and the number of pods a node may have."""
    book = bound((pod("a", cpu="1500m"), "n1"))
    assert chosen(pod(cpu="500m"), node(), book=book).node == "n1"
    assert "Insufficient cpu" in chosen(pod(cpu="501m"), node(), book=book).reason
    full = bound(*((pod(f"p{n}"), "n1") for n in range(3)))
    assert "Too many pods" in chosen(pod(), node(), book=full).reason


def test_init_containers_count_by_their_peak() -> None:
    """They run one by one; sidecars stay beside what follows."""
    pending = pod(cpu="500m")
    pending["spec"]["initContainers"] = [
        {"resources": {"requests": {"cpu": "100m"}}, "restartPolicy": "Always"},
        {"resources": {"requests": {"cpu": "1"}}},
    ]
    assert accounts.demand(pending).resources["cpu"] == 1100
    limited = pod()
    limited["spec"]["containers"][0]["resources"] = {"limits": {"memory": "1Gi"}}
    assert accounts.demand(limited).resources["memory"] == 1024**3 * 1000


def test_a_port_that_somebody_else_has_is_not_free() -> None:
    """Whatever listens on the machine is in the way of a host port as another pod is."""
    port = {"containerPort": 80, "hostPort": 22}
    places: list[object] = []

    def in_use() -> list[HostPort]:
        places.append(True)
        return [HostPort("TCP", "0.0.0.0", 22)]

    def reason(pending: Object) -> str:
        return filters.choose(
            pending, hosts.Fleet([hosts.of(node())]), accounts.Accounts(), NOWHERE, in_use
        ).reason

    message = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
    assert reason(pod(ports=[port])) == message
    assert reason(pod(ports=[{**port, "hostIP": "127.0.0.1"}])) == message
    assert reason(pod(ports=[{**port, "protocol": "UDP"}])) == ""
    assert len(places) == 3
    assert reason(pod(ports=[{"containerPort": 22}])) == ""
    assert len(places) == 3, "who asks for no port is not waited for"


def test_host_ports_are_taken_once() -> None:
    """All addresses clash with each; other protocols do not."""
    port = {"containerPort": 80, "hostPort": 80}
    book = bound((pod("a", ports=[port]), "n1"))
    assert "free ports" in chosen(pod(ports=[port]), node(), book=book).reason
    assert "free ports" in chosen(pod(ports=[{**port, "hostIP": "1.1.1.1"}]), node(), book=book).reason
    assert chosen(pod(ports=[{**port, "protocol": "UDP"}]), node(), book=book).node == "n1"
    assert chosen(pod(ports=[port]), node(), node("n2"), book=book).node == "n2"


def test_the_emptier_node_is_better_and_siblings_part() -> None:
    """Room first, then distance from pods of the same owner, then the name."""
    assert chosen(pod(), node("b"), node("a")).node == "a"
    assert chosen(pod(), node("a"), node("b"), book=bound((pod("x", cpu="1"), "a"))).node == "b"
    owned = {"ownerReferences": [{"uid": "rs", "controller": True}]}
    sibling, pending = pod("s"), pod("w")
    sibling["metadata"].update(owned)
    pending["metadata"].update(owned)
    assert chosen(pending, node("a"), node("b"), book=bound((sibling, "a"))).node == "b"


def test_affinity_looks_at_the_domain_of_other_pods() -> None:
    """Near one, far from another, and not where one that is there objects."""
    nodes = [node("a", zone="z1"), node("b", zone="z1"), node("c", zone="z2")]
    database = pod("db", labels={"app": "db"})
    book = bound((database, "c"))
    assert chosen(pod(affinity=affinity("podAffinity", "db")), *nodes, book=book).node == "c"
    assert chosen(pod(affinity=affinity("podAntiAffinity", "db")), *nodes, book=book).node == "a"
    hermit = pod("h", labels={"app": "h"}, affinity=affinity("podAntiAffinity", "web"))
    alone = bound((hermit, "a"))
    assert chosen(pod(labels={"app": "web"}), *nodes, book=alone).node == "c"
    choice = chosen(pod(labels={"app": "web"}), *nodes[:2], book=alone)
    assert "existing pods anti-affinity rules" in choice.reason


def test_namespaces_of_affinity_are_its_own_or_chosen() -> None:
    """By name, by label, or the pod's own."""
    namespaces = peers.Namespaces({"shop": {"tier": "a"}, "data": {"tier": "b"}})
    assert namespaces.of({}, "shop") == {"shop"}
    assert namespaces.of({"namespaces": ["x"]}, "shop") == {"x"}
    assert namespaces.of({"namespaceSelector": {"matchLabels": {"tier": "b"}}}, "shop") == {"data"}
    assert namespaces.of({"namespaceSelector": {}}, "shop") == {"shop", "data"}


def test_spread_keeps_domains_level() -> None:
    """The difference to the emptiest domain stays within the skew."""
    nodes = [node("a", zone="z1"), node("b", zone="z2")]
    labels = {"app": "web"}
    constraint = {
        "maxSkew": 1,
        "topologyKey": ZONE,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": labels},
    }
    pending = pod(labels=labels, topologySpreadConstraints=[constraint])
    assert chosen(pending, *nodes, book=bound((pod("x", labels=labels), "a"))).node == "b"
    blocked = chosen(
        pending, nodes[0], node("b", zone="z2", ready="False"), book=bound((pod("x", labels=labels), "a"))
    )
    assert "topology spread" in blocked.reason


_events = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["", "n1", "n2", "gone", "ended"]), st.integers(1, 5)),
    max_size=30,
)


@given(_events)
def test_accounts_are_the_sum_of_the_pods_there_are(history: list[tuple[int, str, int]]) -> None:
    """Whatever happened before, usage is what the living bound pods ask for."""
    book = accounts.Accounts()
    world: dict[Key, Object] = {}
    for number, fate, cpu in history:
        key = Key("shop", f"p{number}")
        old = world.get(key)
        if fate == "gone":
            book.observe(world.pop(key, None), None)
            continue
        new = old or pod(key.name, cpu=str(cpu))
        if fate == "ended":
            new = {**new, "status": {"phase": "Succeeded"}}
        elif fate and "nodeName" not in new["spec"]:
            new = {**new, "spec": {**new["spec"], "nodeName": fate}}
        world[key] = new
        book.observe(old, new)
    for name in ("n1", "n2"):
        living = [
            p
            for p in world.values()
            if p["spec"].get("nodeName") == name and p.get("status", {}).get("phase") != "Succeeded"
        ]
        expected = sum(accounts.demand(p).resources["cpu"] for p in living)
        assert book.usage(name).resources["cpu"] == expected
        assert len(book.usage(name).pods) == len(living)


def test_an_assumed_pod_counts_until_it_is_forgotten() -> None:
    """A watch that does not show the binding yet changes nothing; the binding itself confirms it."""
    book = accounts.Accounts()
    pending = pod(cpu="1")
    book.observe(None, pending)
    book.assume(pending, "n1")
    book.observe(pending, {**pending, "status": {"conditions": []}})
    assert book.usage("n1").resources["cpu"] == 1000
    book.observe(pending, {**pending, "spec": {**pending["spec"], "nodeName": "n1"}})
    assert book.usage("n1").resources["cpu"] == 1000
    other = pod("q", cpu="1")
    book.assume(other, "n1")
    book.forget(other)
    assert book.usage("n1").resources["cpu"] == 1000
