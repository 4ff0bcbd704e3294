"""EventTypes in their three versions, and RequestReplies."""

from __future__ import annotations

import pytest
from tests.eventing.eventing_world import NAMESPACE, Scene, condition, not_true, play

from ondol.api import objects
from ondol.api.objects import Resource
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing.cloudevents.event import Event
from ondol.eventing.types import documents

BROKER = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "b"}
V1BETA1 = Resource("eventing.knative.dev", "v1beta1", "eventtypes", "EventType")


def test_an_event_type_is_shown_in_every_version() -> None:
    """Attributes of v1beta3 are the fields of the earlier versions, whichever it was written in."""

    async def story(scene: Scene) -> None:
        await scene.settles()
        spec = {"type": "order.made", "source": "/shop", "schema": "http://s.test", "broker": "b"}
        await scene.create(eventing.EVENT_TYPE, "flat", spec)
        shown = await scene.get(eventing.EVENT_TYPE_V1BETA3, "flat")
        assert shown["apiVersion"] == "eventing.knative.dev/v1beta3"
        assert objects.spec(shown)["reference"] == BROKER
        values = {a["name"]: a.get("value") for a in objects.spec(shown)["attributes"]}
        assert values == {
            "specversion": None,
            "id": None,
            "type": "order.made",
            "source": "/shop",
            "schemadata": "http://s.test",
        }
        attributes = [{"name": name, "required": True} for name in ("id", "specversion", "source")]
        attributes.append({"name": "type", "value": "user.left", "required": True})
        await scene.create(eventing.EVENT_TYPE_V1BETA3, "listed", {"attributes": attributes})
        for resource in (eventing.EVENT_TYPE, V1BETA1):
            assert objects.spec(await scene.get(resource, "listed")) == {"type": "user.left"}
        listed = await scene.client.list(eventing.EVENT_TYPE_V1BETA3, NAMESPACE)
        assert [o["apiVersion"] for o in listed.items] == ["eventing.knative.dev/v1beta3"] * 2

    play(story)


def test_an_event_type_says_whether_who_has_it_is_there() -> None:
    """Without a reference it is ready; with one it follows that object."""

    async def story(scene: Scene) -> None:
        await scene.create(eventing.EVENT_TYPE, "plain", {"type": "a"})
        await scene.create(eventing.EVENT_TYPE, "of-broker", {"type": "a", "reference": BROKER})
        plain = await scene.settled(eventing.EVENT_TYPE, "plain")
        assert condition(plain, "ReferenceExists")[:2] == ("True", "ReferenceNotSet")
        missing = await scene.get(eventing.EVENT_TYPE, "of-broker")
        assert condition(missing, "Ready")[:2] == ("False", "ResourceDoesNotExist")
        await scene.create(eventing.BROKER, "b", {})
        shown = await scene.settled(eventing.EVENT_TYPE, "of-broker")
        assert not_true(shown) == {}
        assert objects.spec(shown)["reference"]["namespace"] == NAMESPACE
        await scene.settles()
        with pytest.raises(errors.Invalid, match=r"spec.attributes.source: .*missing field"):
            await scene.create(
                eventing.EVENT_TYPE_V1BETA3, "x", {"attributes": [{"name": "type"}, {"name": "id"}]}
            )

    play(story)


def test_events_of_one_type_and_source_have_one_event_type() -> None:
    """It belongs to who took them in, and its name is a DNS name."""
    broker = {"metadata": {"name": "b", "namespace": NAMESPACE, "uid": "u"}}
    event = Event({"id": "1", "source": "/Shop", "type": "Order Made", "specversion": "1.0"})
    again = Event({**event.attributes, "id": "2"})
    event_type = documents.of_event(event, eventing.BROKER, broker)
    assert event_type == documents.of_event(again, eventing.BROKER, broker)
    assert event_type["spec"]["type"] == "Order Made"
    assert event_type["spec"]["reference"] == {**BROKER, "namespace": NAMESPACE}
    assert event_type["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert event_type["metadata"]["name"].startswith("et-b-")
    other = Event({**event.attributes, "source": "/other"})
    assert documents.name_for(other, "b", NAMESPACE) != event_type["metadata"]["name"]


def test_a_request_reply_follows_its_broker() -> None:
    """It has an address of its own; its timeout and attributes have defaults."""

    async def story(scene: Scene) -> None:
        await scene.create(eventing.REQUEST_REPLY, "r", {"brokerRef": BROKER})
        waiting = await scene.settled(eventing.REQUEST_REPLY, "r")
        assert condition(waiting, "BrokerReady")[:2] == ("Unknown", "NotFound")
        await scene.create(eventing.BROKER, "b", {})
        shown = await scene.settled(eventing.REQUEST_REPLY, "r")
        assert not_true(shown) == {}
        status, spec = objects.status(shown), objects.spec(shown)
        assert status["address"]["url"] == (
            "http://request-reply.knative-eventing.svc.cluster.local/default/r"
        )
        assert status["annotations"] == {
            "knative.dev/brokerAddress": "http://broker-ingress.knative-eventing.svc.cluster.local/default/b"
        }
        assert (status["desiredReplicas"], status["readyReplicas"]) == (1, 1)
        assert (spec["timeout"], spec["correlationAttribute"], spec["replyAttribute"]) == (
            "PT30S",
            "correlationid",
            "replyid",
        )
        assert objects.labels(shown)[eventing.BROKER_LABEL] == "b"
        await scene.settles()

    play(story)
