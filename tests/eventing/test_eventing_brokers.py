"""Brokers and Triggers in a world: what becomes of them, in whichever order they come and go."""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.eventing.eventing_world import NAMESPACE, PLANE, Scene, condition, not_true, play, statuses

from ondol.api import objects, resources
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.contracts import eventing, proxy

SUBSCRIBER = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "shown"}}
INGRESS = "http://broker-ingress.knative-eventing.svc.cluster.local"


def trigger(**fields: Any) -> Object:
    return {"broker": "default", "subscriber": SUBSCRIBER, **fields}


def test_a_broker_is_ready_at_the_address_of_the_ingress() -> None:
    """Its class, config and delivery are Knative's defaults."""

    async def story(scene: Scene) -> None:
        await scene.create(eventing.BROKER, "default", {})
        broker = await scene.settled(eventing.BROKER, "default")
        assert not_true(broker) == {}
        status = objects.status(broker)
        assert status["address"] == {"name": "http", "url": f"{INGRESS}/default/default"}
        assert status["observedGeneration"] == objects.generation(broker)
        assert objects.annotations(broker)[eventing.BROKER_CLASS] == "MTChannelBasedBroker"
        assert objects.spec(broker) == {
            "config": {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "name": "config-br-default-channel",
                "namespace": "knative-eventing",
            },
            "delivery": {"retry": 10, "backoffPolicy": "exponential", "backoffDelay": "PT0.2S"},
        }
        assert condition(broker, "DeadLetterSinkResolved")[1] == "DeadLetterSinkNotConfigured"
        assert condition(broker, "EventPoliciesReady")[1] == "OIDCDisabled"

    play(story)


def test_a_broker_is_not_ready_before_the_data_plane_says_so() -> None:
    """Ready means that its address accepts events."""

    async def story(scene: Scene) -> None:
        await scene.create(eventing.BROKER, "default", {})
        broker = await scene.settled(eventing.BROKER, "default")
        assert condition(broker, "Ready")[0] == "Unknown"
        assert "address" in objects.status(broker)
        await scene.start_plane()
        assert not_true(await scene.settled(eventing.BROKER, "default")) == {}

    play(story, plane=False)


def test_a_broker_of_another_class_is_left_alone() -> None:
    """So is a Trigger of it, once it is there."""

    async def story(scene: Scene) -> None:
        await scene.service("shown")
        await scene.create(eventing.BROKER, "default", {}, annotations={eventing.BROKER_CLASS: "Kafka"})
        await scene.create(eventing.TRIGGER, "t", trigger())
        broker = await scene.settled(eventing.BROKER, "default")
        assert "address" not in objects.status(broker)
        assert "BrokerReady" not in statuses(await scene.get(eventing.TRIGGER, "t"))
        assert scene.demands == 0

    play(story)


def test_a_dead_letter_sink_is_resolved_and_passed_on() -> None:
    """A Trigger has its own, else its broker's; one that is missing keeps both from being ready."""

    async def story(scene: Scene) -> None:
        for name in ("shown", "own"):
            await scene.service(name)
        sink = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "dead"}}
        await scene.create(eventing.BROKER, "default", {"delivery": {"deadLetterSink": sink, "retry": 1}})
        await scene.create(eventing.TRIGGER, "t", trigger())
        own = {"deadLetterSink": {"uri": "/sink", "ref": SUBSCRIBER["ref"] | {"name": "own"}}}
        await scene.create(eventing.TRIGGER, "own", trigger(delivery=own))
        broker = await scene.settled(eventing.BROKER, "default")
        reason = "Unable to get the dead letter sink's URI"
        message = 'failed to get object default/dead: services "dead" not found'
        assert condition(broker, "DeadLetterSinkResolved") == ("False", reason, message)
        assert condition(broker, "Ready")[:2] == ("False", reason)
        waiting = await scene.get(eventing.TRIGGER, "t")
        assert condition(waiting, "DeadLetterSinkResolved")[1] == (
            "Broker default didn't set status.deadLetterSinkURI"
        )
        assert condition(waiting, "BrokerReady")[:2] == ("False", reason)
        await scene.service("dead")
        url = "http://dead.default.svc.cluster.local"
        broker = await scene.settled(eventing.BROKER, "default")
        assert objects.status(broker)["deadLetterSinkUri"] == url
        ready = await scene.get(eventing.TRIGGER, "t")
        assert objects.status(ready)["deadLetterSinkUri"] == url
        assert not_true(ready) == {}
        shown = await scene.get(eventing.TRIGGER, "own")
        assert objects.status(shown)["deadLetterSinkUri"] == "http://own.default.svc.cluster.local/sink"

    play(story)


Step = tuple[str, Callable[[Scene], Awaitable[Any]]]
STEPS: tuple[Step, ...] = (
    ("broker", lambda scene: scene.create(eventing.BROKER, "default", {})),
    ("trigger", lambda scene: scene.create(eventing.TRIGGER, "t", trigger())),
    ("subscriber", lambda scene: scene.service("shown")),
    ("plane", lambda scene: scene.start_plane()),
    ("control", lambda scene: scene.start()),
)


@pytest.mark.parametrize(
    "steps", list(itertools.permutations(STEPS))[::7], ids=lambda s: "-".join(name for name, _ in s)
)
def test_a_trigger_gets_ready_whatever_comes_first(steps: tuple[Step, ...]) -> None:
    """Broker, Trigger, subscriber and both planes come in many orders; at rest nothing is written."""

    async def story(scene: Scene) -> None:
        for _, step in steps:
            await step(scene)
            await scene.world.advance(5)
        shown = await scene.settled(eventing.TRIGGER, "t")
        assert not_true(shown) == {}
        assert objects.status(shown)["subscriberUri"] == "http://shown.default.svc.cluster.local"
        assert objects.labels(shown)[eventing.BROKER_LABEL] == "default"
        await scene.settles()

    play(story, control=False, plane=False)


@pytest.mark.parametrize(
    ("gone", "reasons"),
    [
        ((eventing.BROKER, "default"), {"BrokerReady": ("False", "BrokerDoesNotExist")}),
        (
            (resources.SERVICE, "shown"),
            {"SubscriberResolved": ("False", "Unable to get the Subscriber's URI")},
        ),
    ],
)
def test_a_trigger_that_loses_what_it_needs(
    gone: tuple[Resource, str], reasons: dict[str, tuple[str, str]]
) -> None:
    """It says which, and is ready again when that is back."""

    async def story(scene: Scene) -> None:
        await scene.service("shown")
        await scene.create(eventing.BROKER, "default", {})
        await scene.create(eventing.TRIGGER, "t", trigger())
        assert not_true(await scene.settled(eventing.TRIGGER, "t")) == {}
        await scene.client.delete(gone[0], gone[1], NAMESPACE)
        unready = not_true(await scene.settled(eventing.TRIGGER, "t"))
        assert {type_: unready[type_] for type_ in reasons} == reasons
        assert unready.keys() == {*reasons, "Ready"}
        await (scene.service("shown") if gone[1] == "shown" else scene.create(eventing.BROKER, "default", {}))
        assert not_true(await scene.settled(eventing.TRIGGER, "t")) == {}

    play(story)


def test_a_trigger_waits_for_its_dependency() -> None:
    """The annotation names an object that must be ready, of any kind."""

    async def story(scene: Scene) -> None:
        await scene.service("shown")
        await scene.create(eventing.BROKER, "default", {})
        ref = {"apiVersion": "messaging.knative.dev/v1", "kind": "InMemoryChannel", "name": "first"}
        await scene.create(
            eventing.TRIGGER, "t", trigger(), annotations={"knative.dev/dependency": json.dumps(ref)}
        )
        waiting = await scene.settled(eventing.TRIGGER, "t")
        assert condition(waiting, "DependencyReady")[:2] == ("False", "DependencyDoesNotExist")
        await scene.create(eventing.IN_MEMORY_CHANNEL, "first", {})
        assert not_true(await scene.settled(eventing.TRIGGER, "t")) == {}

    play(story)


def test_a_kind_that_is_installed_later_is_resolved_then() -> None:
    """Nobody has heard of it when the Trigger is made."""

    async def story(scene: Scene) -> None:
        await scene.create(eventing.BROKER, "default", {})
        ref = {"apiVersion": "toy.test/v1", "kind": "Toy", "name": "bear"}
        await scene.create(eventing.TRIGGER, "t", trigger(subscriber={"ref": ref}))
        waiting = await scene.settled(eventing.TRIGGER, "t")
        message = condition(waiting, "SubscriberResolved")[2]
        assert message.startswith("failed to get object default/bear: no kind")
        await scene.client.create(resources.CUSTOM_RESOURCE_DEFINITION, TOYS)
        await scene.world.advance(30)
        toy = Resource("toy.test", "v1", "toys", "Toy")
        await scene.create(toy, "bear", {})
        waiting = await scene.settled(eventing.TRIGGER, "t")
        assert condition(waiting, "SubscriberResolved")[2] == "address not set for Toy default/bear"
        addresses = [{"name": "one", "url": "http://bear.test/one"}]
        await scene.client.patch(
            toy, "bear", NAMESPACE, patch={"status": {"addresses": addresses}}, subresource="status"
        )
        shown = await scene.settled(eventing.TRIGGER, "t")
        assert objects.status(shown)["subscriberUri"] == "http://bear.test/one"
        assert not_true(shown) == {}

    play(story)


TOYS: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "toys.toy.test"},
    "spec": {
        "group": "toy.test",
        "scope": "Namespaced",
        "names": {"plural": "toys", "kind": "Toy"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}


def test_a_kind_that_cannot_be_listed_keeps_nobody_waiting() -> None:
    """Its objects are in a version that nobody converts: who refers to one says so, the others go on."""

    async def story(scene: Scene) -> None:
        await scene.service("shown")
        await scene.create(eventing.BROKER, "default", {})
        v1, v2 = TOYS["spec"]["versions"][0], {**TOYS["spec"]["versions"][0], "name": "v2", "storage": False}
        webhook = {"conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://nowhere.test/"}}
        conversion = {"strategy": "Webhook", "webhook": webhook}
        spec = {**TOYS["spec"], "versions": [v1, v2], "conversion": conversion}
        await scene.client.create(resources.CUSTOM_RESOURCE_DEFINITION, {**TOYS, "spec": spec})
        await scene.world.advance(5)
        await scene.create(Resource("toy.test", "v1", "toys", "Toy"), "bear", {})
        ref = {"apiVersion": "toy.test/v2", "kind": "Toy", "name": "bear"}
        for number in range(4):
            await scene.create(eventing.TRIGGER, f"t{number}", trigger(subscriber={"ref": ref}))
        await scene.create(eventing.TRIGGER, "sound", trigger())
        await scene.world.advance(60)
        assert not_true(await scene.get(eventing.TRIGGER, "sound")) == {}
        message = condition(await scene.get(eventing.TRIGGER, "t3"), "SubscriberResolved")[2]
        assert message == "failed to get lister for toys.toy.test: the server does not list them"

    play(story)


def test_nothing_is_demanded_while_nothing_is_there() -> None:
    """The namespace has its ConfigMaps, the data plane's Services come with the first broker; also later."""

    async def story(scene: Scene) -> None:
        await scene.settles()
        names = {objects.name(o) for o in (await scene.client.list(resources.CONFIG_MAP)).items}
        assert {"config-features", "config-br-defaults", "default-ch-webhook"} <= names
        assert scene.demands == 0
        services = await scene.client.list(resources.SERVICE, eventing.NAMESPACE)
        assert services.items == []
        await scene.create(eventing.BROKER, "default", {})
        await scene.settles()
        assert scene.demands == 1
        slices = (await scene.client.list(resources.ENDPOINT_SLICE, eventing.NAMESPACE)).items
        ends = {objects.name(s): (s["endpoints"][0]["addresses"][0], s["ports"][0]["port"]) for s in slices}
        assert ends == dict.fromkeys(eventing.SERVICES, PLANE)
        services = await scene.client.list(resources.SERVICE, eventing.NAMESPACE)
        assert all(proxy.CALLS_OUT in objects.labels(each) for each in services.items), (
            "the mesh waits for it"
        )
        scene.crash()
        await scene.start()
        await scene.settles()
        assert scene.demands == 2

    play(story)


def test_a_config_map_that_somebody_changed_stays_so() -> None:
    """It is made once; what it says counts from then on."""

    async def story(scene: Scene) -> None:
        await scene.settles()
        text = "clusterDefault:\n  brokerClass: Kafka\n"
        await scene.client.patch(
            resources.CONFIG_MAP,
            "config-br-defaults",
            eventing.NAMESPACE,
            patch={"data": {"default-br-config": text}},
        )
        await scene.settles()
        broker = await scene.create(eventing.BROKER, "default", {})
        assert objects.annotations(broker)[eventing.BROKER_CLASS] == "Kafka"
        assert objects.spec(broker) == {}
        for wrong in ("a: [", "a: 2026-13-45", "[" * 9_999):
            with pytest.raises(errors.Invalid, match="could not be converted"):
                await scene.client.patch(
                    resources.CONFIG_MAP,
                    "config-br-defaults",
                    eventing.NAMESPACE,
                    patch={"data": {"default-br-config": wrong}},
                )

    play(story)
