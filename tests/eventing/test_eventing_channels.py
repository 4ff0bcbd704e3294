"""Channels and Subscriptions in a world: what becomes of them, in whichever order they come and go."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.eventing.eventing_world import NAMESPACE, PLANE, Scene, condition, not_true, play

from ondol.api import objects, resources
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.contracts import eventing
from ondol.sdk.testing import rough

CHANNEL = {"apiVersion": "messaging.knative.dev/v1", "kind": "Channel", "name": "c"}
IN_MEMORY = CHANNEL | {"kind": "InMemoryChannel"}
SUBSCRIBER = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "shown"}}
MISSING = 'failed to get object default/shown: services "shown" not found'
URL = "http://shown.default.svc.cluster.local"


def subscription(channel: Object = CHANNEL, **fields: Any) -> Object:
    return {"channel": channel, "subscriber": SUBSCRIBER, **fields}


async def subscribers(scene: Scene, name: str = "c") -> dict[str, Object]:
    """The entries of a channel, by the name of their Subscription."""
    channel = await scene.get(eventing.IN_MEMORY_CHANNEL, name)
    return {entry["name"]: entry for entry in objects.spec(channel).get("subscribers") or ()}


def test_a_channel_is_one_of_the_default_kind() -> None:
    """It repeats the address of the channel behind it, which is a Service that leads to the data plane."""

    async def story(scene: Scene) -> None:
        await scene.create(eventing.CHANNEL, "c", {})
        channel = await scene.settled(eventing.CHANNEL, "c")
        assert not_true(channel) == {}
        assert objects.annotations(channel)["messaging.knative.dev/subscribable"] == "v1"
        status = objects.status(channel)
        assert status["address"] == {
            "name": "http",
            "url": "http://c-kn-channel.default.svc.cluster.local",
        }
        assert status["channel"] == IN_MEMORY | {"namespace": NAMESPACE}
        backing = await scene.get(eventing.IN_MEMORY_CHANNEL, "c")
        assert objects.is_controlled_by(backing, channel)
        assert not_true(backing) == {}
        slice_ = await scene.get(resources.ENDPOINT_SLICE, "c-kn-channel")
        assert (slice_["endpoints"][0]["addresses"], slice_["ports"][0]["port"]) == ([PLANE[0]], PLANE[1])
        service = await scene.get(resources.SERVICE, "c-kn-channel")
        assert objects.is_controlled_by(service, backing)
        await scene.settles()

    play(story)


def test_a_channel_may_have_the_longest_of_names() -> None:
    """Its Service has as much of the name as fits, and tells it from others by a hash."""

    async def story(scene: Scene) -> None:
        name = "c" * 63
        await scene.create(eventing.CHANNEL, name, {})
        channel = await scene.settled(eventing.CHANNEL, name)
        assert not_true(channel) == {}
        host = objects.status(channel)["address"]["url"].removeprefix("http://")
        service = host.removesuffix(".default.svc.cluster.local")
        assert (len(service), service.endswith("-kn-channel")) == (63, True)
        await scene.get(resources.SERVICE, service)

    play(story)


def test_a_service_of_another_owner_is_left_to_it() -> None:
    """The channel says so, and is ready once the name is free."""

    async def story(scene: Scene) -> None:
        await scene.service("c-kn-channel")
        await scene.create(eventing.IN_MEMORY_CHANNEL, "c", {})
        channel = await scene.settled(eventing.IN_MEMORY_CHANNEL, "c")
        message = 'Channel Service failed: inmemorychannel: default/c does not own Service: "c-kn-channel"'
        assert condition(channel, "ChannelServiceReady") == ("False", "ChannelServiceFailed", message)
        assert "address" not in objects.status(channel)
        await scene.client.delete(resources.SERVICE, "c-kn-channel", NAMESPACE)
        assert not_true(await scene.settled(eventing.IN_MEMORY_CHANNEL, "c")) == {}

    play(story)


Step = tuple[str, Callable[[Scene], Awaitable[Any]]]
STEPS: tuple[Step, ...] = (
    ("channel", lambda scene: scene.create(eventing.CHANNEL, "c", {})),
    ("subscription", lambda scene: scene.create(eventing.SUBSCRIPTION, "s", subscription())),
    ("subscriber", lambda scene: scene.service("shown")),
    ("plane", lambda scene: scene.start_plane()),
)


@pytest.mark.parametrize(
    "steps", list(itertools.permutations(STEPS)), ids=lambda s: "-".join(name for name, _ in s)
)
def test_a_subscription_gets_ready_whatever_comes_first(steps: tuple[Step, ...]) -> None:
    """Channel, Subscription, subscriber and the data plane come in every order."""

    async def story(scene: Scene) -> None:
        for _, step in steps:
            await step(scene)
            await scene.world.advance(5)
        shown = await scene.settled(eventing.SUBSCRIPTION, "s")
        assert not_true(shown) == {}
        assert objects.status(shown)["physicalSubscription"] == {"subscriberUri": URL}
        entries = await subscribers(scene)
        assert entries["s"] == {
            "uid": objects.uid(shown),
            "name": "s",
            "generation": objects.generation(shown),
            "subscriberUri": URL,
        }
        await scene.settles()

    play(story, plane=False)


def test_every_subscription_has_an_entry_and_takes_it_along() -> None:
    """They share one list of the channel."""

    async def story(scene: Scene) -> None:
        await scene.service("shown")
        await scene.create(eventing.IN_MEMORY_CHANNEL, "c", {})
        names = [f"s{number}" for number in range(12)]
        for name in names:
            await scene.create(eventing.SUBSCRIPTION, name, subscription(IN_MEMORY))
        await scene.settles()
        assert sorted(await subscribers(scene)) == sorted(names)
        for name in names[::2]:
            await scene.client.delete(eventing.SUBSCRIPTION, name, NAMESPACE)
        await scene.settles()
        assert sorted(await subscribers(scene)) == sorted(names[1::2])
        left = (await scene.client.list(eventing.SUBSCRIPTION, NAMESPACE)).items
        assert sorted(map(objects.name, left)) == sorted(names[1::2])
        assert [not_true(obj) for obj in left] == [{}] * len(left)

    play(story)


@pytest.mark.parametrize("kind", ["Channel", "InMemoryChannel"])
def test_a_subscription_ends_without_its_channel(kind: str) -> None:
    """Its finalizer waits for no channel that is gone."""

    async def story(scene: Scene) -> None:
        await scene.service("shown")
        resource = eventing.CHANNEL if kind == "Channel" else eventing.IN_MEMORY_CHANNEL
        await scene.create(resource, "c", {})
        await scene.create(eventing.SUBSCRIPTION, "s", subscription(CHANNEL | {"kind": kind}))
        assert not_true(await scene.settled(eventing.SUBSCRIPTION, "s")) == {}
        await scene.client.delete(resource, "c", NAMESPACE)
        waiting = await scene.settled(eventing.SUBSCRIPTION, "s")
        plural = resource.group_resource
        message = (
            f'Failed to get Spec.Channel or backing channel: failed to get object default/c: {plural} "c"'
        )
        status, reason, text = condition(waiting, "ReferencesResolved")
        assert (status, reason, text) == ("Unknown", "ChannelReferenceFailed", f"{message} not found")
        await scene.client.delete(eventing.SUBSCRIPTION, "s", NAMESPACE)
        await scene.settles()
        await scene.world.assert_gone(eventing.SUBSCRIPTION, "s", NAMESPACE)

    play(story)


def test_how_events_are_delivered_is_the_subscriptions_else_the_channels() -> None:
    """One that says something is not added to by its channel, but for the dead letter sink."""

    async def story(scene: Scene) -> None:
        for name in ("shown", "dead"):
            await scene.service(name)
        sink = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "dead"}}
        delivery = {"retry": 3, "backoffPolicy": "linear", "deadLetterSink": sink}
        await scene.create(eventing.CHANNEL, "c", {"delivery": delivery})
        await scene.create(eventing.SUBSCRIPTION, "plain", subscription())
        own = subscription(delivery={"timeout": "PT5S"}, reply={"uri": "http://replies.test/"})
        await scene.create(eventing.SUBSCRIPTION, "own", own)
        await scene.settles()
        entries = await subscribers(scene)
        dead = {"uri": "http://dead.default.svc.cluster.local"}
        assert entries["plain"]["delivery"] == {
            "retry": 3,
            "backoffPolicy": "linear",
            "deadLetterSink": dead,
        }
        assert entries["own"]["delivery"] == {"timeout": "PT5S", "deadLetterSink": dead}
        assert entries["own"]["replyUri"] == "http://replies.test/"
        shown = await scene.get(eventing.SUBSCRIPTION, "own")
        assert objects.status(shown)["physicalSubscription"]["deadLetterSinkUri"] == dead["uri"]
        channel = await scene.get(eventing.CHANNEL, "c")
        assert objects.status(channel)["deadLetterSinkUri"] == dead["uri"]

    play(story)


@pytest.mark.parametrize(
    ("fields", "reason", "message"),
    [
        (
            {},
            "SubscriberResolveFailed",
            f"Failed to resolve spec.subscriber: {MISSING}",
        ),
        (
            {"subscriber": {"uri": "http://a.test"}, "reply": SUBSCRIBER},
            "ReplyResolveFailed",
            f"Failed to resolve spec.reply: {MISSING}",
        ),
        (
            {"subscriber": {"uri": "http://a.test"}, "delivery": {"deadLetterSink": SUBSCRIBER}},
            "DeadLetterSinkResolveFailed",
            f"Failed to resolve spec.delivery.deadLetterSink: {MISSING}",
        ),
    ],
)
def test_what_is_not_resolved_is_told(fields: Object, reason: str, message: str) -> None:
    """The condition names the field, and the object that is missing."""

    async def story(scene: Scene) -> None:
        await scene.create(eventing.CHANNEL, "c", {})
        await scene.create(eventing.SUBSCRIPTION, "s", subscription(**fields))
        waiting = await scene.settled(eventing.SUBSCRIPTION, "s")
        assert condition(waiting, "ReferencesResolved") == ("False", reason, message)
        assert condition(waiting, "Ready")[:2] == ("False", reason)
        assert await subscribers(scene) == {}
        await scene.service("shown")
        assert not_true(await scene.settled(eventing.SUBSCRIPTION, "s")) == {}

    play(story)


def test_a_channel_of_a_kind_that_is_not_there_waits_for_it() -> None:
    """The template names what nobody has installed."""

    async def story(scene: Scene) -> None:
        template = {"apiVersion": "messaging.knative.dev/v1beta1", "kind": "KafkaChannel"}
        await scene.create(eventing.CHANNEL, "c", {"channelTemplate": template})
        channel = await scene.settled(eventing.CHANNEL, "c")
        assert condition(channel, "BackingChannelReady")[:2] == ("False", "ChannelFailure")
        assert condition(channel, "Addressable")[:2] == ("False", "EmptyHostname")

    play(story)


KINDS: dict[str, tuple[Resource, Object]] = {
    "broker": (eventing.BROKER, {}),
    "trigger": (eventing.TRIGGER, {"broker": "broker", "subscriber": SUBSCRIBER}),
    "c": (eventing.CHANNEL, {}),
    "imc": (eventing.IN_MEMORY_CHANNEL, {}),
    "s1": (eventing.SUBSCRIPTION, subscription()),
    "s2": (eventing.SUBSCRIPTION, subscription()),
    "s3": (eventing.SUBSCRIPTION, subscription(IN_MEMORY | {"name": "imc"})),
}


async def change(scene: Scene, rng: random.Random) -> None:
    """Something comes, or goes."""
    name = rng.choice([*KINDS, "shown"])
    resource, spec = KINDS.get(name, (resources.SERVICE, {"ports": [{"port": 80}]}))
    live = await scene.world.get(resource, name, NAMESPACE)
    if live is None:
        await scene.create(resource, name, spec)
    elif not objects.is_deleting(live) and rng.random() < 0.5:
        await scene.client.delete(resource, name, NAMESPACE)


@pytest.mark.parametrize("seed", range(12))
def test_it_settles_whatever_was_lost(seed: int) -> None:
    """On a bad day with crashes, everything comes to what it should be, and no more writes follow."""

    async def story(scene: Scene) -> None:
        rng = random.Random(seed)
        for _ in range(14):
            await change(scene, rng)
            await scene.world.advance(rng.random() * 12)
            if rng.random() < 0.25:
                scene.crash()
                await scene.start()
        scene.world.faults.heal()
        for name, (resource, spec) in KINDS.items():
            if await scene.world.get(resource, name, NAMESPACE) is None:
                await scene.create(resource, name, spec)
        if await scene.world.get(resources.SERVICE, "shown", NAMESPACE) is None:
            await scene.service("shown")
        await scene.settles()
        for name, (resource, spec) in KINDS.items():
            live = await scene.world.get(resource, name, NAMESPACE)
            if live is None:  # it was going, and is gone by now
                live = await scene.create(resource, name, spec)
        await scene.settles()
        for name, (resource, _) in KINDS.items():
            assert not_true(await scene.get(resource, name)) == {}, f"{name} (seed {seed})"
        assert sorted(await subscribers(scene)) == ["s1", "s2"]
        assert sorted(await subscribers(scene, "imc")) == ["s3"]

    play(story, seed=seed, faults=rough())


def test_entries_cannot_be_written_into_a_channel() -> None:
    """They are those of the channel behind it."""

    async def story(scene: Scene) -> None:
        await scene.settles()
        with pytest.raises(errors.Invalid, match="must not set the field"):
            await scene.create(eventing.CHANNEL, "c", {"subscribers": [{"uid": "1"}]})

    play(story)
