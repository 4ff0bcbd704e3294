"""A world with controllers in it, run on virtual time, and a node agent that only pretends."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from ondol import apiserver, sdk, store
from ondol.api import conditions, objects, resources
from ondol.api import pods as api_pods
from ondol.api.objects import Key, Object, Resource
from ondol.base import errors
from ondol.base.clock import rfc3339
from ondol.node.local_volumes import provisioner
from ondol.sdk.testing import Faults, LoopClock, World, simulate

T = TypeVar("T")
Add = Callable[[sdk.Manager], None]
ExitCode = Callable[[Object], int | None]
Usage = Callable[[Object], tuple[int, int] | None]


class Kubelet:
    """Runs what is bound, in no time: an address, ready, and gone when it is deleted.

    Pods labelled `sick` never become ready, pods labelled `stuck` are never removed, pods labelled
    `refused` fail at once. Pods for which there is an `exit_code` end with it.
    """

    def __init__(self, manager: sdk.Manager, exit_code: ExitCode) -> None:
        self._exit_code = exit_code
        self._client = manager.client
        self._clock = manager.clock
        self._pods = manager.informer(resources.POD)
        self.started = 0
        controller = sdk.Controller("kubelet", self.reconcile)
        controller.watch(self._pods)
        manager.add(controller)

    async def reconcile(self, key: Key) -> sdk.Result | None:
        pod = self._pods.lister.get(key)
        if pod is None or not objects.spec(pod).get("nodeName"):
            return None
        if objects.is_deleting(pod):
            if "stuck" not in objects.labels(pod):
                await self._remove(pod)
            return None
        if "refused" in objects.labels(pod):
            await self._refuse(pod)
        elif not objects.status(pod).get("podIP"):
            await self._start(pod)
        elif objects.status(pod)["phase"] == "Running" and (code := self._exit_code(pod)) is not None:
            await self._end(pod, code)
        return None

    async def _remove(self, pod: Object) -> None:
        try:
            await self._client.delete(
                resources.POD,
                objects.name(pod),
                objects.namespace(pod),
                grace_period_s=0,
                uid=objects.uid(pod),
            )
        except (errors.NotFound, errors.Conflict):
            return

    async def _refuse(self, pod: Object) -> None:
        if objects.status(pod).get("phase") != "Failed":
            name, namespace = objects.name(pod), objects.namespace(pod)
            patch = {"status": {"phase": "Failed", "reason": "Unsupported"}}
            await self._client.patch(resources.POD, name, namespace, patch=patch, subresource="status")

    async def _end(self, pod: Object, code: int) -> None:
        now = self._clock.now()
        ended = {"exitCode": code, "finishedAt": rfc3339(now)}
        status = {
            "phase": "Failed" if code else "Succeeded",
            "conditions": conditions.set(conditions.of(pod), "Ready", "False", now=now),
            "containerStatuses": [
                {"name": each["name"], "image": each["image"], "imageID": "", "ready": False}
                | {"restartCount": 0, "state": {"terminated": ended}}
                for each in objects.spec(pod)["containers"]
            ],
        }
        await self._client.patch(
            resources.POD,
            objects.name(pod),
            objects.namespace(pod),
            patch={"metadata": {"uid": objects.uid(pod)}, "status": status},
            subresource="status",
        )

    async def _start(self, pod: Object) -> None:
        self.started += 1
        address = f"10.1.{self.started // 250}.{self.started % 250 + 1}"
        sick = "sick" in objects.labels(pod)
        listed = conditions.set(
            conditions.of(pod), "Ready", "False" if sick else "True", now=self._clock.now()
        )
        status = {
            "phase": "Running",
            "startTime": rfc3339(self._clock.now()),
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": listed,
        }
        await self._client.patch(
            resources.POD,
            objects.name(pod),
            objects.namespace(pod),
            patch={"status": status},
            subresource="status",
        )


class Summary:
    """An agent's answer, with all it tells in one piece."""

    status, content_type = 200, "application/json"

    def __init__(self, document: Object) -> None:
        self._document = document

    async def chunks(self) -> AsyncIterator[bytes]:
        yield json.dumps(self._document).encode()


class Agents:
    """Tells what the pods of a stage use, as node agents do."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    @contextlib.asynccontextmanager
    async def get(self, node: str, path: str, query: Mapping[str, str]) -> AsyncIterator[Summary]:
        assert (path, query) == ("/stats/summary", {})
        pods = [self._usage(pod) for pod in await self._stage.pods() if api_pods.node_name(pod) == node]
        yield Summary(
            {"node": {"nodeName": node, **self._counters((0, 0))}, "pods": [each for each in pods if each]}
        )

    def _usage(self, pod: Object) -> Object | None:
        used = self._stage.usage(pod)
        if used is None:
            return None
        reference = {key: pod["metadata"][key] for key in ("name", "namespace", "uid")}
        return {"podRef": reference, "containers": [{"name": "c", **self._counters(used)}]}

    def _counters(self, used: tuple[int, int]) -> Object:
        cpu = {
            "time": rfc3339(self._stage.clock.now()),
            "usageNanoCores": used[0] * 10**6,
            "windowSeconds": 15,
        }
        return {"cpu": cpu, "memory": {"workingSetBytes": used[1] * 1024 * 1024}}

    def connect(self, node: str, path: str, query: Sequence[tuple[str, str]]) -> Any:
        raise AssertionError(node, path, query)


class Stage(World):
    """A world with shorthands for the objects of these tests."""

    def __init__(self, *, seed: int = 0, faults: Faults | None = None) -> None:
        clock = LoopClock()
        self.requests: list[tuple[str, str]] = []
        self.exit_code: ExitCode = lambda _: None
        """With what a running pod ends; None for one that runs on."""
        self.usage: Usage = lambda _: None
        """What a running pod uses, in thousandths of a core and MiB; None for one that tells nothing."""
        self.app = apiserver.build(
            apiserver.ApiConfig(), store.open_memory(), clock, random.Random(seed), node_proxy=Agents(self)
        )
        super().__init__(self.app, clock=clock, seed=seed, faults=faults)

    async def run(self, *adds: Add, kubelet: bool = True) -> sdk.Manager:
        """Start a manager with these controllers, and one that plays node agent."""
        manager = self.manager("control")
        for add in adds:
            add(manager)
        if kubelet:
            agent = self.manager("kubelet")
            Kubelet(agent, lambda pod: self.exit_code(pod))  # noqa: PLW0108 - it may be another one later
            await self.start(agent)
        return await self.start(manager)

    async def node(self, name: str = "n1", *, cpu: str = "4", ready: str = "True", **spec: Any) -> Object:
        now = rfc3339(self.clock.now())
        status = {
            "allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": now}],
        }
        labels = {"kubernetes.io/hostname": name, **spec.pop("labels", {})}
        document = {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status}
        return await self.client.create(resources.NODE, document)

    async def create(self, resource: Resource, name: str, **fields: Any) -> Object:
        metadata = {"name": name, **fields.pop("metadata", {})}
        if resource.namespaced:
            metadata.setdefault("namespace", "default")
        return await self.client.create(resource, {"metadata": metadata, **fields})

    async def pods(self, namespace: str = "default") -> list[Object]:
        return (await self.client.list(resources.POD, namespace)).items

    async def events(self, reason: str = "") -> list[str]:
        items = (await self.client.list(resources.EVENT)).items
        return sorted(event["message"] for event in items if reason in ("", event["reason"]))

    async def settle(self, quiet_s: float = 2.0) -> None:
        await self.run_until_stable(quiet_s=quiet_s)


class Disk:
    """Folders by name; each with whether it is marked. A removal is remembered with what the server had."""

    def __init__(self) -> None:
        self.folders: set[str] = set()
        self.marks: set[str] = set()
        self.removed: list[str] = []
        self.failures = 0

    async def make(self, name: str) -> Path:
        if self.failures:
            self.failures -= 1
            raise OSError(28, "No space left on device")
        self.marks.add(name)
        self.folders.add(name)
        return Path("/volumes") / name

    async def keep(self, name: str) -> None:
        self.marks.discard(name)

    async def marked(self) -> list[str]:
        return sorted(self.marks)

    async def remove(self, name: str) -> None:
        self.removed.append(name)
        self.folders.discard(name)
        self.marks.discard(name)


async def provision(stage: Stage, disk: Disk) -> None:
    """Have the node n1 make local volumes for claims."""
    agent = stage.manager("provisioner")
    provisioner.add_to(agent, "n1", disk)
    await stage.start(agent)


@pytest.fixture
def play() -> Callable[..., None]:
    """Run a scene in a fresh world on virtual time."""

    def run(
        scene: Callable[[Stage], Awaitable[None]], *, seed: int = 0, faults: Faults | None = None
    ) -> None:
        async def main() -> None:
            async with Stage(seed=seed, faults=faults) as stage:
                with anyio.fail_after(1_000_000):
                    await scene(stage)

        simulate(main, seed=seed)

    return run


def template(image: str = "shop:1", **labels: str) -> Object:
    return {
        "metadata": {"labels": {"app": "web", **labels}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }


def deployment_spec(replicas: int = 3, image: str = "shop:1", **more: Any) -> Object:
    labels = more.pop("labels", {})
    return {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "template": template(image, **labels),
        **more,
    }


def names(listed: Iterable[Object]) -> list[str]:
    return sorted(objects.name(each) for each in listed)
