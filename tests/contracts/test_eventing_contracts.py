"""Both ends of what Eventing's two planes promise each other, and what tools find its kinds by."""

from __future__ import annotations

import pytest

from ondol.api import objects
from ondol.api.objects import Resource
from ondol.contracts import eventing
from ondol.eventing import kinds, wellknown
from ondol.eventing.brokers import status as brokers
from ondol.eventing.channels import documents
from ondol.eventing.channels import status as channels
from ondol.eventing.channels.documents import Plane
from ondol.eventing.requests import reconciler as requests

CONTROL = {
    eventing.BROKER: brokers.BROKER_CONDITIONS,
    eventing.TRIGGER: brokers.TRIGGER_CONDITIONS,
    eventing.IN_MEMORY_CHANNEL: channels.IN_MEMORY_CONDITIONS,
    eventing.REQUEST_REPLY: (
        wellknown.ADDRESSABLE,
        wellknown.EVENT_POLICIES_READY,
        requests.BROKER_READY,
    ),
}


@pytest.mark.parametrize("resource", list(CONTROL))
def test_no_condition_has_two_writers(resource: Resource) -> None:
    """Each plane has its own, and Ready is the control plane's."""
    plane = set(eventing.PLANE_CONDITIONS[resource])
    assert plane
    assert not plane & {*CONTROL[resource], eventing.READY}


def test_a_broker_is_at_the_path_of_its_name() -> None:
    """By which the data plane knows it."""
    broker = {"metadata": {"name": "b", "namespace": "n"}}
    place = "broker-ingress.knative-eventing.svc.cluster.local/n/b"
    assert brokers.broker_urls(broker) == (f"http://{place}", f"https://{place}")


@pytest.mark.parametrize("name", ["c", "a-kn-channel", "s-kn-sequence-0", "c" * 63])
def test_a_channel_is_known_by_its_service(name: str) -> None:
    """The first word of the host that events are sent to."""
    channel = {
        "apiVersion": "messaging.knative.dev/v1",
        "kind": "InMemoryChannel",
        "metadata": {"name": name, "namespace": "n", "uid": "u"},
    }
    service, slice_ = documents.channel_objects(channel, Plane("192.0.2.1", 8008))
    assert objects.name(service) == eventing.channel_service(name)
    assert eventing.is_channel_service(objects.name(service))
    assert objects.labels(slice_)["kubernetes.io/service-name"] == objects.name(service)
    assert service["spec"]["ports"][0]["targetPort"] == slice_["ports"][0]["port"]


@pytest.mark.parametrize("service", ["broker-ingress", "kn-channel", "-kn-channel", ""])
def test_what_is_no_channel(service: str) -> None:
    """Other services of the data plane, and others."""
    assert not eventing.is_channel_service(service)


def test_every_kind_has_its_definition() -> None:
    """In the version by which it is addressed, with a status of its own."""
    served = {
        (crd["spec"]["group"], version["name"], crd["spec"]["names"]["plural"])
        for crd in kinds.definitions()
        for version in crd["spec"]["versions"]
        if version["served"] and "status" in version["subresources"]
    }
    addressed = [value for value in vars(eventing).values() if isinstance(value, Resource)]
    assert addressed
    assert [r for r in addressed if (r.group, r.version, r.plural) not in served] == []


def test_tools_find_what_takes_events() -> None:
    """By the labels that Knative's own look for."""
    labelled = {
        crd["spec"]["names"]["kind"]
        for crd in kinds.definitions()
        if objects.labels(crd).get("duck.knative.dev/addressable") == "true"
    }
    expected = {"Broker", "Channel", "InMemoryChannel", "Sequence", "Parallel", "RequestReply"}
    assert expected <= labelled
    subscribable = {
        crd["spec"]["names"]["kind"]
        for crd in kinds.definitions()
        if objects.labels(crd).get("messaging.knative.dev/subscribable") == "true"
    }
    assert subscribable == {"Channel", "InMemoryChannel"}
