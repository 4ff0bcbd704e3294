"""What happens to the platform in a simulation: what its users do, and what fate does."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from tests.simulation.platform import CPU, PROGRAMS, Platform
from tests.simulation.properties import GUARDED, STEADY

from ondol.api import objects, resources
from ondol.api.objects import Object, Resource
from ondol.base import errors

NAMESPACE: Final = "default"
_STEADY_IMAGES: Final = ("steady:1", "steady:2")
_IMAGES: Final = ("steady:1", "steady:2", "stubborn:1", "crashing:1")


def _template(app: str, image: str, **spec: object) -> Object:
    container = {"name": "c", "image": image, "resources": {"requests": {"cpu": "1"}}}
    return {
        "metadata": {"labels": {"app": app}},
        "spec": {
            "containers": [container],
            "terminationGracePeriodSeconds": 5,
            "automountServiceAccountToken": False,
            **spec,
        },
    }


def _workload(app: str, image: str, **spec: object) -> Object:
    return {
        "metadata": {"name": app, "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": {"app": app}}, "template": _template(app, image), **spec},
    }


async def begin(platform: Platform) -> None:
    """What every simulation has: a steady Deployment with a Service, and one that a budget guards."""
    steady = _workload("steady", "steady:1", replicas=2)
    steady["metadata"]["labels"] = {STEADY: "yes"}
    steady["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}
    guarded = _workload("guarded", "steady:1", replicas=2)
    guarded["metadata"]["labels"] = {GUARDED: "yes"}
    budget = {
        "metadata": {"name": "guarded", "namespace": NAMESPACE},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}},
    }
    service = {
        "metadata": {"name": "steady", "namespace": NAMESPACE},
        "spec": {"selector": {"app": "steady"}, "ports": [{"port": 80}]},
    }
    await platform.client.create(resources.SERVICE, service)
    await platform.client.create(resources.POD_DISRUPTION_BUDGET, budget)
    await platform.client.create(resources.DEPLOYMENT, steady)
    await platform.client.create(resources.DEPLOYMENT, guarded)


async def roll_out(platform: Platform, rng: random.Random) -> None:
    """The steady Deployment gets another image: what runs may not fall below what it promises."""
    template = _template("steady", rng.choice(_STEADY_IMAGES))
    patch = {"spec": {"template": template}}
    await platform.client.patch(resources.DEPLOYMENT, "steady", NAMESPACE, patch=patch)


async def drain(platform: Platform, rng: random.Random) -> None:
    """Somebody asks for one guarded pod after the other to go, as `kubectl drain` does."""
    for pod in [each for each in platform.pods() if objects.labels(each).get("app") == "guarded"]:
        name = objects.name(pod)
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        with contextlib.suppress(errors.ApiError):
            await platform.client.create(
                resources.POD, eviction, NAMESPACE, name=name, subresource="eviction"
            )
        await platform.clock.sleep(rng.choice([0.0, 1.0, 2.0]))


async def deployment(platform: Platform, rng: random.Random) -> None:
    """One that is made, scaled, changed or deleted, with whatever image."""
    await _come_and_go(
        platform,
        rng,
        resources.DEPLOYMENT,
        _workload(rng.choice(["front", "back"]), rng.choice(_IMAGES), replicas=rng.randrange(4)),
    )


async def stateful_set(platform: Platform, rng: random.Random) -> None:
    """Its pods have names that come again."""
    spec = {"replicas": rng.randrange(4), "serviceName": "db"}
    live = platform.truth[resources.STATEFUL_SET].get(objects.Key(NAMESPACE, "db"))
    policy = rng.choice(["OrderedReady", "Parallel"])
    if live is not None:
        policy = objects.spec(live)["podManagementPolicy"]
    document = _workload("db", rng.choice(_STEADY_IMAGES), podManagementPolicy=policy, **spec)
    await _come_and_go(platform, rng, resources.STATEFUL_SET, document)


async def daemon_set(platform: Platform, rng: random.Random) -> None:
    """One pod on the one node."""
    await _come_and_go(platform, rng, resources.DAEMON_SET, _workload("agent", rng.choice(_STEADY_IMAGES)))


async def job(platform: Platform, rng: random.Random) -> None:
    """Tasks that succeed, and some that fail until the Job gives up."""
    name = rng.choice(["import", "export"])
    if objects.Key(NAMESPACE, name) in platform.truth[resources.JOB]:
        await platform.client.delete(resources.JOB, name, NAMESPACE, propagation="Background")
        return
    completions = rng.randrange(1, 4)
    spec = {
        "completions": completions,
        "parallelism": rng.randrange(1, 3),
        "backoffLimit": rng.randrange(3),
        "template": _template(name, rng.choice(["task:good", "task:bad"]), restartPolicy="Never"),
    }
    await platform.client.create(
        resources.JOB, {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}
    )


async def lose_a_pod(platform: Platform, rng: random.Random) -> None:
    """Somebody deletes one; those that promises are made of are left alone.

    Not at once (`--force`): who asks for that gets a successor before the pod has ended.
    """
    pods = [pod for pod in platform.pods() if objects.labels(pod).get("app") not in ("steady", "guarded")]
    if not pods:
        return
    pod = rng.choice(pods)
    await platform.client.delete(
        resources.POD, objects.name(pod), NAMESPACE, grace_period_s=rng.choice([None, 1, 2])
    )


async def crash_the_controllers(platform: Platform, rng: random.Random) -> None:
    """They begin anew, with empty caches."""
    await platform.restart_controllers()


async def crash_the_agent(platform: Platform, rng: random.Random) -> None:
    """Its containers live on, and another agent takes them up."""
    await platform.restart_agent()


async def mend(platform: Platform) -> None:
    """Who sees pods crash again and again takes them away: else they would do so for ever."""
    sets = (await platform.client.list(resources.REPLICA_SET, NAMESPACE)).items
    for live in (await platform.client.list(resources.DEPLOYMENT, NAMESPACE)).items:
        if _crashes(live, sets):
            await platform.client.delete(resources.DEPLOYMENT, objects.name(live), NAMESPACE)
    await _make_room(platform)


async def _make_room(platform: Platform) -> None:
    """Who asks for more than there is takes something away, with room for a pod more of each roll-out."""
    listed = (await platform.client.list(resources.DEPLOYMENT, NAMESPACE)).items
    sets = (await platform.client.list(resources.STATEFUL_SET, NAMESPACE)).items
    asked = sum(objects.spec(each)["replicas"] for each in (*listed, *sets)) + len(listed) + 1
    for live in listed:
        if asked > CPU and objects.name(live) in ("front", "back"):
            await platform.client.delete(resources.DEPLOYMENT, objects.name(live), NAMESPACE)
            asked -= objects.spec(live)["replicas"] + 1


def _crashes(deployment: Object, replica_sets: Sequence[Object]) -> bool:
    """Its newest pods do, or those of an older template that a roll-out has no room to replace."""
    sets = [
        each
        for each in replica_sets
        if objects.is_controlled_by(each, deployment) and objects.spec(each).get("replicas")
    ]
    return any(_image(each).startswith("crashing") for each in (deployment, *sets))


def _image(workload: Object) -> str:
    image: str = objects.spec(workload)["template"]["spec"]["containers"][0]["image"]
    return image


async def _come_and_go(platform: Platform, rng: random.Random, resource: Resource, document: Object) -> None:
    key = objects.key(document)
    live = platform.truth[resource].get(key)
    if live is None:
        await platform.client.create(resource, document)
    elif objects.is_deleting(live):
        return
    elif rng.random() < 0.25:
        how = rng.choice(["Background", "Foreground"])
        await platform.client.delete(resource, key.name, key.namespace, propagation=how)
    else:
        patch = {
            "spec": {
                name: document["spec"][name] for name in ("replicas", "template") if name in document["spec"]
            }
        }
        await platform.client.patch(resource, key.name, key.namespace, patch=patch)


Happening = Callable[[Platform, random.Random], Awaitable[None]]
HAPPENINGS: Final[tuple[tuple[Happening, int], ...]] = (
    (roll_out, 3),
    (drain, 3),
    (deployment, 4),
    (stateful_set, 4),
    (daemon_set, 1),
    (job, 3),
    (lose_a_pod, 4),
    (crash_the_controllers, 1),
    (crash_the_agent, 1),
)
"""Each with how often it happens, beside the others."""


async def happen(platform: Platform, rng: random.Random) -> str:
    """One of them, by chance; its name. What the server refuses is refused."""
    happening = rng.choices([each for each, _ in HAPPENINGS], [weight for _, weight in HAPPENINGS])[0]
    try:
        await happening(platform, rng)
    except errors.ApiError:
        return f"{happening.__name__} (refused)"
    return happening.__name__


assert set(_IMAGES) <= set(PROGRAMS)
