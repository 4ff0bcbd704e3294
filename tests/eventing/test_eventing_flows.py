"""Sequences and Parallels in a world: the channels and subscriptions they are made of."""

from __future__ import annotations

import random

import pytest
from tests.eventing.eventing_world import NAMESPACE, Scene, condition, not_true, play

from ondol.api import objects
from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.sdk.testing import rough


def to(name: str) -> Object:
    return {"ref": {"apiVersion": "v1", "kind": "Service", "name": name}}


def url(name: str) -> str:
    return f"http://{name}.default.svc.cluster.local"


async def entries(scene: Scene) -> dict[str, dict[str, tuple[str, str]]]:
    """By channel and subscription, where events go and where answers."""
    channels = (await scene.client.list(eventing.IN_MEMORY_CHANNEL, NAMESPACE)).items
    return {
        objects.name(channel): {
            entry["name"]: (entry.get("subscriberUri", ""), entry.get("replyUri", ""))
            for entry in objects.spec(channel).get("subscribers") or ()
        }
        for channel in channels
    }


async def services(scene: Scene, *names: str) -> None:
    for name in names:
        await scene.service(name)


def test_a_sequence_hands_answers_from_step_to_step() -> None:
    """A channel before each step; the last answers to the reply. Fewer steps leave nothing behind."""

    async def story(scene: Scene) -> None:
        await services(scene, "a", "b", "end")
        spec = {"steps": [to("a"), {**to("b"), "delivery": {"retry": 2}}], "reply": to("end")}
        await scene.create(eventing.SEQUENCE, "s", spec)
        flow = await scene.settled(eventing.SEQUENCE, "s")
        assert not_true(flow) == {}
        first, second = "s-kn-sequence-0", "s-kn-sequence-1"
        assert objects.status(flow)["address"]["url"] == url(f"{first}-kn-channel")
        assert await entries(scene) == {
            first: {first: (url("a"), url(f"{second}-kn-channel"))},
            second: {second: (url("b"), url("end"))},
        }
        status = objects.status(flow)
        assert [part["channel"]["name"] for part in status["channelStatuses"]] == [first, second]
        assert [part["ready"]["status"] for part in status["subscriptionStatuses"]] == ["True", "True"]
        await scene.client.patch(eventing.SEQUENCE, "s", NAMESPACE, patch={"spec": {"steps": [to("b")]}})
        await scene.settles()
        assert await entries(scene) == {first: {first: (url("b"), url("end"))}}
        left = (await scene.client.list(eventing.SUBSCRIPTION, NAMESPACE)).items
        assert [objects.name(subscription) for subscription in left] == [first]
        assert not_true(await scene.get(eventing.SEQUENCE, "s")) == {}

    play(story)


def test_a_parallel_gives_every_branch_what_its_filter_answers() -> None:
    """A branch without a filter gets all; one without a reply of its own has the Parallel's."""

    async def story(scene: Scene) -> None:
        await services(scene, "sieve", "a", "b", "own", "end")
        spec = {
            "branches": [
                {"filter": to("sieve"), "subscriber": to("a"), "reply": to("own")},
                {"subscriber": to("b")},
            ],
            "reply": to("end"),
        }
        await scene.create(eventing.PARALLEL, "p", spec)
        flow = await scene.settled(eventing.PARALLEL, "p")
        assert not_true(flow) == {}
        assert await entries(scene) == {
            "p-kn-parallel": {
                "p-kn-parallel-filter-0": (url("sieve"), url("p-kn-parallel-0-kn-channel")),
                "p-kn-parallel-filter-1": (url("p-kn-parallel-1-kn-channel"), ""),
            },
            "p-kn-parallel-0": {"p-kn-parallel-0": (url("a"), url("own"))},
            "p-kn-parallel-1": {"p-kn-parallel-1": (url("b"), url("end"))},
        }
        status = objects.status(flow)
        assert status["address"]["url"] == url("p-kn-parallel-kn-channel")
        assert status["ingressChannelStatus"]["channel"]["name"] == "p-kn-parallel"
        assert len(status["branchStatuses"]) == 2

    play(story)


@pytest.mark.parametrize("kind", [eventing.SEQUENCE, eventing.PARALLEL])
def test_a_flow_is_not_ready_before_its_parts(kind: object) -> None:
    """Knative says Unknown of a Sequence and False of a Parallel."""

    async def story(scene: Scene) -> None:
        resource = eventing.SEQUENCE if kind == eventing.SEQUENCE else eventing.PARALLEL
        spec: Object = (
            {"steps": [to("a")]} if kind == eventing.SEQUENCE else {"branches": [{"subscriber": to("a")}]}
        )
        await scene.create(resource, "f", spec)
        flow = await scene.settled(resource, "f")
        expected = "Unknown" if kind == eventing.SEQUENCE else "False"
        assert condition(flow, "SubscriptionsReady")[:2] == (expected, "SubscriptionsNotReady")
        await scene.service("a")
        assert not_true(await scene.settled(resource, "f")) == {}

    play(story)


def test_a_part_of_another_owner_is_told() -> None:
    """A channel of that name exists already."""

    async def story(scene: Scene) -> None:
        await scene.create(eventing.IN_MEMORY_CHANNEL, "s-kn-sequence-0", {})
        await scene.create(eventing.SEQUENCE, "s", {"steps": [to("a")]})
        flow = await scene.settled(eventing.SEQUENCE, "s")
        status, reason, message = condition(flow, "ChannelsReady")
        assert (status, reason) == ("False", "ChannelsNotReady")
        assert "s-kn-sequence-0" in message

    play(story)


@pytest.mark.parametrize("seed", range(6))
def test_flows_settle_whatever_was_lost(seed: int) -> None:
    """On a bad day their specs change and the controllers crash; then nothing is too many, none missing."""

    async def story(scene: Scene) -> None:
        rng = random.Random(seed)
        await services(scene, "a", "b")
        await scene.create(eventing.SEQUENCE, "s", {"steps": [to("a")]})
        await scene.create(eventing.PARALLEL, "p", {"branches": [{"subscriber": to("a")}]})
        for _ in range(6):
            steps = [to(rng.choice("ab")) for _ in range(rng.randint(1, 4))]
            branches = [{"subscriber": step} for step in steps]
            await scene.client.patch(eventing.SEQUENCE, "s", NAMESPACE, patch={"spec": {"steps": steps}})
            await scene.client.patch(
                eventing.PARALLEL, "p", NAMESPACE, patch={"spec": {"branches": branches}}
            )
            await scene.world.advance(rng.random() * 20)
            if rng.random() < 0.3:
                scene.crash()
                await scene.start()
        scene.world.faults.heal()
        await scene.settles()
        for resource, name in ((eventing.SEQUENCE, "s"), (eventing.PARALLEL, "p")):
            assert not_true(await scene.get(resource, name)) == {}, f"seed {seed}"
        channels = await entries(scene)
        assert len(channels) == 2 * len(steps) + 1
        assert [channels[f"s-kn-sequence-{n}"][f"s-kn-sequence-{n}"][0] for n in range(len(steps))] == [
            url(step["ref"]["name"]) for step in steps
        ]

    play(story, seed=seed, faults=rough())
