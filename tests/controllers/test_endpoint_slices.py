"""Which endpoints stand in which slice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondol.api import objects
from ondol.api.objects import Key, Object
from ondol.controllers.endpoints import slices
from ondol.controllers.endpoints.reconciler import Reconciler
from ondol.sdk.store import Lister, Store


def service(**spec: Any) -> Object:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop", "uid": "svc", "labels": {"team": "x"}},
        "spec": {"selector": {"app": "web"}, "ports": ports, "ipFamilies": ["IPv4"], **spec},
    }


def pod(number: int, **facts: Any) -> Object:
    ready = "True" if facts.get("ready", True) else "False"
    deleted = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if facts.get("deleted") else {}
    ips = facts.get("ips", [f"10.0.{number // 250}.{number % 250 + 1}"])
    containers = [{"ports": [{"name": "web", "containerPort": facts.get("port", 9000)}]}]
    return {
        "metadata": {"name": f"p{number:04}", "namespace": "shop", "uid": f"u{number}", **deleted},
        "spec": {"nodeName": "n1", "containers": containers, **facts.get("spec", {})},
        "status": {
            "phase": facts.get("phase", "Running"),
            "podIP": ips[0] if ips else "",
            "podIPs": [{"ip": ip} for ip in ips],
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


NODES = {"n1": {"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z1"}}}}


def only(changes: slices.Changes) -> Object:
    assert not changes.update
    assert not changes.delete
    assert len(changes.create) == 1
    return changes.create[0]


def test_a_slice_tells_where_pods_are() -> None:
    """Address, conditions, pod, node and zone; labels and owner lead back to the Service."""
    document = only(slices.changes(service(), [pod(1)], NODES, []))
    assert document["addressType"] == "IPv4"
    assert document["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert document["endpoints"] == [
        {
            "addresses": ["10.0.0.2"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "namespace": "shop", "name": "p0001", "uid": "u1"},
            "nodeName": "n1",
            "zone": "z1",
        }
    ]
    assert document["metadata"]["labels"] == {
        "team": "x",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert objects.is_controlled_by(document, service())


def test_conditions_follow_the_pod() -> None:
    """One that is going may still serve; a Service may want those not ready too."""

    def outcome(**facts: Any) -> tuple[bool, bool, bool]:
        exposed = service(publishNotReadyAddresses=facts.pop("published", False))
        reported = slices.endpoint(exposed, pod(1, **facts), "10.0.0.1", None)["conditions"]
        return reported["ready"], reported["serving"], reported["terminating"]

    assert outcome() == (True, True, False)
    assert outcome(ready=False) == (False, False, False)
    assert outcome(deleted=True) == (False, True, True)
    assert outcome(ready=False, published=True) == (True, False, False)


def test_only_pods_with_an_address_that_still_run_are_endpoints() -> None:
    """An ended pod's address may be another's by now."""
    members = [pod(1, ips=[]), pod(2, phase="Succeeded"), pod(3, phase="Failed")]
    assert only(slices.changes(service(), members, NODES, []))["endpoints"] == []


def test_a_service_without_pods_has_a_slice_without_endpoints() -> None:
    """Clients watch slices: one of each family is always there, and is filled when pods come."""
    dual = service(ipFamilies=["IPv4", "IPv6"])
    empty = slices.changes(dual, [], NODES, []).create
    assert [(each["addressType"], each["ports"], each["endpoints"]) for each in empty] == [
        ("IPv4", [], []),
        ("IPv6", [], []),
    ]
    assert slices.changes(dual, [], NODES, empty) == slices.Changes()
    single = slices.changes(service(), [], NODES, []).create
    filled = slices.changes(service(), [pod(1)], NODES, single)
    assert not filled.create
    assert not filled.delete
    assert [objects.name(each) for each in filled.update] == [objects.name(single[0])]
    assert filled.update[0]["ports"][0]["port"] == 8080
    emptied = slices.changes(service(), [], NODES, filled.update)
    assert [(each["ports"], each["endpoints"]) for each in emptied.update] == [([], [])]
    assert not emptied.delete


def test_named_ports_are_looked_up_in_each_pod() -> None:
    """Pods that serve it on different ports stand in different slices."""
    named = service(ports=[{"name": "http", "port": 80, "targetPort": "web"}])
    needed = slices.changes(named, [pod(1), pod(2, port=9001), pod(3)], NODES, [])
    by_port = {created["ports"][0]["port"]: len(created["endpoints"]) for created in needed.create}
    assert by_port == {9000: 2, 9001: 1}


def test_each_family_has_slices_of_its_own() -> None:
    """A dual-stack pod is in both, if the Service has both."""
    both = pod(1, ips=["10.0.0.1", "fd00::1"])
    dual = slices.changes(service(ipFamilies=["IPv4", "IPv6"]), [both], NODES, [])
    assert sorted(created["addressType"] for created in dual.create) == ["IPv4", "IPv6"]
    assert only(slices.changes(service(), [both], NODES, []))["addressType"] == "IPv4"


def test_stateful_names_are_passed_on() -> None:
    """The hostname of a pod that belongs to this Service as its subdomain."""
    member = pod(1, spec={"hostname": "db-0", "subdomain": "web"})
    document = only(slices.changes(service(clusterIP="None"), [member], NODES, []))
    assert document["endpoints"][0]["hostname"] == "db-0"
    assert document["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_legacy_endpoints_part_ready_from_not_ready() -> None:
    """And leave out those that go."""
    members = [pod(1), pod(2, ready=False), pod(3, deleted=True)]
    endpoints = slices.legacy(service(), members)
    assert [a["ip"] for a in endpoints["subsets"][0]["addresses"]] == ["10.0.0.2"]
    assert [a["ip"] for a in endpoints["subsets"][0]["notReadyAddresses"]] == ["10.0.0.3"]
    assert endpoints["subsets"][0]["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert "subsets" not in slices.legacy(service(), [])


def test_legacy_endpoints_are_cut_at_a_thousand() -> None:
    """With the annotation that says so."""
    whole = slices.legacy(service(), [pod(n) for n in range(1000)])
    assert "annotations" not in whole["metadata"]
    endpoints = slices.legacy(service(), [pod(n) for n in range(1001)])
    assert len(endpoints["subsets"][0]["addresses"]) == 1000
    assert endpoints["metadata"]["annotations"] == {"endpoints.kubernetes.io/over-capacity": "truncated"}


_numbers = st.sets(st.integers(0, 600), max_size=450)


@given(_numbers, _numbers)
def test_writes_lead_to_exactly_the_pods_and_then_stop(before: set[int], after: set[int]) -> None:
    """No slice over a hundred, no pod twice, no second round, and kept pods stay where they are."""
    existing = applied([], slices.changes(service(), [pod(n) for n in before], NODES, []))
    members = [pod(n) for n in after]
    changed = slices.changes(service(), members, NODES, existing)
    later = applied(existing, changed)
    uids = [e["targetRef"]["uid"] for each in later for e in each["endpoints"]]
    assert sorted(uids) == sorted(f"u{n}" for n in after)
    assert all(len(each["endpoints"]) <= slices.SLICE_MAX for each in later)
    assert all(each["endpoints"] for each in later) or len(later) == 1
    assert slices.changes(service(), members, NODES, later) == slices.Changes()
    was, now = places(existing), places(later)
    assert all(now[uid] == was[uid] for uid in now.keys() & was.keys())


def applied(slices: list[Object], changes: slices.Changes) -> list[Object]:
    by_name = {objects.name(each): each for each in slices}
    for deleted in changes.delete:
        del by_name[objects.name(deleted)]
    for created in changes.create:
        assert objects.name(created) not in by_name
        by_name[objects.name(created)] = created
    for changed in changes.update:
        assert objects.name(changed) in by_name
        by_name[objects.name(changed)] = changed
    return list(by_name.values())


def places(slices: list[Object]) -> dict[str, str]:
    return {e["targetRef"]["uid"]: objects.name(each) for each in slices for e in each["endpoints"]}


@pytest.mark.parametrize(
    ("labels", "services"),
    [
        ({"app": "a", "tier": "b"}, {"both", "app", "tier"}),
        ({"app": "a"}, {"app"}),
        ({"tier": "b", "more": "x"}, {"tier"}),
        ({"app": "other", "tier": "b"}, {"tier"}),
        ({}, set()),
    ],
)
def test_a_pod_concerns_the_services_that_select_it(labels: dict[str, str], services: set[str]) -> None:
    """In its own namespace, by all labels of a selector; one without a selector selects nothing."""
    store = Store()
    informer = SimpleNamespace(add_index=store.add_index, lister=Lister(store))
    manager: Any = SimpleNamespace(client=None, informer=lambda _: informer)
    reconciler = Reconciler(manager)
    selectors = {
        "both": {"tier": "b", "app": "a"},
        "app": {"app": "a"},
        "tier": {"tier": "b"},
        "none": {},
        "nothing": None,
    }
    for namespace in ("here", "there"):
        for name, selector in selectors.items():
            metadata = {"name": name, "namespace": namespace}
            store.put(Key(namespace, name), {"metadata": metadata, "spec": {"selector": selector}})
    pod = {"metadata": {"name": "p", "namespace": "here", "labels": labels}}
    assert set(reconciler._services_of(pod)) == {Key("here", name) for name in services}


@pytest.mark.parametrize(
    ("distribution", "hints"),
    [
        (None, None),
        ("PreferClose", {"forZones": [{"name": "z1"}]}),
        ("PreferSameZone", {"forZones": [{"name": "z1"}]}),
        ("PreferSameNode", {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]}),
    ],
)
def test_hints_say_for_whom_an_endpoint_is(distribution: str | None, hints: Object | None) -> None:
    """Its own zone and node, where the Service prefers those near; ready endpoints alone have some."""
    one = service(trafficDistribution=distribution)
    document = only(slices.changes(one, [pod(1), pod(2, ready=False)], NODES, []))
    assert [endpoint.get("hints") for endpoint in document["endpoints"]] == [hints, None]
