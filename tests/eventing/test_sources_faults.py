"""Sources, sinks and transforms on a bad day: faults, changes and crashes; then all is as it should be."""

from __future__ import annotations

import random

import pytest
from tests.eventing.eventing_world import NAMESPACE, Scene, not_true, play
from tests.eventing.sources_world import Recorder

from ondol.api import objects, resources
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.contracts import eventing
from ondol.eventing.cloudevents import http
from ondol.eventing.cloudevents.event import Event, new
from ondol.eventing.exchange import Incoming
from ondol.eventing.sinks.job_sink import JobSinks
from ondol.eventing.sources import wiring
from ondol.sdk import Manager
from ondol.sdk.testing import rough

SINK = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "shown"}}
APP = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"}
POD = {"containers": [{"name": "main", "image": "app:1"}]}
JOB = {"spec": {"template": {"spec": {"restartPolicy": "Never", **POD}}}}
OBJECTS: dict[Resource, Object] = {
    eventing.PING_SOURCE: {"sink": SINK},
    eventing.INTEGRATION_SOURCE: {"sink": SINK, "timer": {"message": "m", "period": 60_000}},
    eventing.API_SERVER_SOURCE: {"sink": SINK, "resources": [{"apiVersion": "v1", "kind": "ConfigMap"}]},
    eventing.SINK_BINDING: {"sink": SINK, "subject": APP},
    eventing.CONTAINER_SOURCE: {"sink": SINK, "template": {"spec": POD}},
    eventing.WEBHOOK_SOURCE: {"sink": SINK, "provider": "github", "allowUnsigned": True},
    eventing.JOB_SINK: {"job": JOB},
    eventing.EVENT_TRANSFORM: {"sink": SINK, "jsonata": {"expression": "$"}},
}
PLAYED_ELSEWHERE = {eventing.CONTAINER_SOURCE, eventing.EVENT_TRANSFORM, eventing.API_SERVER_SOURCE}
"""Kinds that wait for what nothing plays here: a Deployment's pods, an expression's parser, rights."""


async def _adapters(scene: Scene) -> Manager:
    manager = scene.world.manager("ondol-events")
    wiring.add_adapters_to(manager, Recorder(scene.world.clock))
    return await scene.world.start(manager)


@pytest.mark.parametrize("seed", range(6))
def test_everything_comes_to_what_it_should_be(seed: int) -> None:
    """And nothing is written once it has."""
    rng = random.Random(seed)

    async def story(scene: Scene) -> None:
        adapters = await _adapters(scene)
        template = {"metadata": {"labels": {"a": "b"}}, "spec": POD}
        await scene.create(
            resources.DEPLOYMENT, "app", {"selector": {"matchLabels": {"a": "b"}}, "template": template}
        )
        for resource, spec in OBJECTS.items():
            await scene.create(resource, "one", spec)
            await scene.world.advance(rng.uniform(0, 5))
        await scene.service("shown")
        await scene.world.advance(rng.uniform(0, 10))
        scene.crash()
        await scene.world.advance(rng.uniform(0, 10))
        scene.world.crash(adapters)
        await scene.start()
        await _adapters(scene)
        for resource in OBJECTS:
            patch = {
                "metadata": {"labels": {"changed": "yes"}},
                "spec": {"ceOverrides": {"extensions": {"a": "b"}}},
            }
            if resource in (eventing.JOB_SINK, eventing.EVENT_TRANSFORM):
                del patch["spec"]
            await scene.client.patch(resource, "one", NAMESPACE, patch=patch)
            await scene.world.advance(rng.uniform(0, 5))
        scene.world.faults.heal()
        await scene.world.advance(600)
        for resource in OBJECTS.keys() - PLAYED_ELSEWHERE:
            assert not_true(await scene.get(resource, "one")) == {}, (resource.kind, seed)
        for name in ("app", "one-deployment"):
            spec = objects.spec(await scene.get(resources.DEPLOYMENT, name))["template"]["spec"]
            [container] = spec["containers"]
            assert [each["name"] for each in container["env"]] == ["K_SINK", "K_CE_OVERRIDES"]
            assert container["env"][1]["value"] == '{"extensions":{"a":"b"}}'
        policies = await scene.client.list(resources.MUTATING_ADMISSION_POLICY)
        assert len(policies.items) == 2
        for resource in (eventing.SINK_BINDING, eventing.CONTAINER_SOURCE):
            await scene.client.delete(resource, "one", NAMESPACE)
        await scene.world.advance(60)
        container = objects.spec(await scene.get(resources.DEPLOYMENT, "app"))["template"]["spec"][
            "containers"
        ][0]
        assert "env" not in container

    play(story, seed=seed, faults=rough(), plane=False)


@pytest.mark.parametrize("seed", range(6))
def test_no_event_of_a_job_sink_is_lost_or_doubled(seed: int) -> None:
    """Its sender tries again whatever fails: in the end there is one Job of each event, with its Secret."""
    rng = random.Random(seed)
    events = [new(id=str(number), source="/s", type="t") for number in range(8)]

    async def story(scene: Scene) -> None:
        await scene.create(eventing.JOB_SINK, "work", {"job": JOB})
        sinks = await _sinks(scene)
        for event in events:
            while not await _is_taken(sinks, event):
                await scene.world.advance(1)
                if rng.random() < 0.2:
                    scene.world.crash(scene.world.managers[-1])
                    sinks = await _sinks(scene)
        listed = await scene.client.list(resources.JOB, NAMESPACE)
        assert len(listed.items) == len(events)
        for job in listed.items:
            secret = await scene.get(resources.SECRET, objects.name(job))
            assert objects.is_controlled_by(secret, job)

    play(story, seed=seed, faults=rough(), plane=False)


async def _sinks(scene: Scene) -> JobSinks:
    manager = scene.world.manager("ondol-events")
    sinks = JobSinks(manager)
    await scene.world.start(manager)
    return sinks


async def _is_taken(sinks: JobSinks, event: Event) -> bool:
    headers, body = http.encode(event)
    try:
        answer = await sinks.handle(Incoming("POST", "/default/work", headers, body))
    except errors.ApiError:
        return False
    return answer.status == 202
