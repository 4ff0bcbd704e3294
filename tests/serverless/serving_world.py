"""A platform of Serving for tests: an API server in this process, with pods and the proxy played."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc

from ondol import apiserver, sdk, store
from ondol.api import conditions, objects, resources
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.client import Client
from ondol.contracts import mesh, serving
from ondol.sdk.testing.world import World
from ondol.serverless import wiring
from ondol.serverless.activator import head
from ondol.serverless.autoscaler.decide import Scaling
from ondol.serverless.autoscaler.metrics import Counters
from ondol.serverless.config import values
from ondol.serverless.config.live import LiveConfig
from ondol.serverless.config.values import ServingConfig
from ondol.serverless.serving import validation, wellknown

NAMESPACE = "default"
NODE, POD = "192.0.2.1", "192.0.2.2"
NONE: Mapping[str, str] = {}
VIRTUAL_SERVICE_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "virtualservices.networking.istio.io"},
    "spec": {
        "group": "networking.istio.io",
        "scope": "Namespaced",
        "names": {"plural": "virtualservices", "kind": "VirtualService"},
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


class PlayedProxy:
    """A proxy that sends requests where the endpoints say and counts none."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.busy: dict[str, Counters] = {}

    async def counters(self) -> Mapping[str, Counters]:
        return self.busy

    async def hosts(self, cluster: str) -> frozenset[str]:
        name = cluster.split("|")[3].split(".", maxsplit=1)[0]
        listed = await self._client.get(resources.ENDPOINT_SLICE, name, NAMESPACE)
        port = listed["ports"][0]["port"]
        return frozenset(f"{e['addresses'][0]}:{port}" for e in listed["endpoints"])


class Cluster:
    """The played world: a node that runs Deployments' pods as one tiny server, and a mesh that agrees."""

    def __init__(self, world: World, port: int) -> None:
        self.client = world.client
        self.port = port
        self.crash: set[str] = set()
        self.slow: set[str] = set()
        self.started = 100
        """How many pods of a Deployment get ready."""

    async def run(self) -> None:
        while True:
            for deployment in (await self.client.list(resources.DEPLOYMENT, NAMESPACE)).items:
                await self._run_pods(deployment)
            for rules in (await self.client.list(mesh.VIRTUAL_SERVICE, NAMESPACE)).items:
                await self._programmed(rules)
            await anyio.sleep(0.02)

    async def _programmed(self, rules: Object) -> None:
        current = conditions.get(rules, "Programmed") or {}
        if current.get("observedGeneration") == objects.generation(rules):
            return
        written = conditions.set(
            (), "Programmed", "True", now=0, observed_generation=objects.generation(rules)
        )
        await self.client.patch(
            mesh.VIRTUAL_SERVICE,
            objects.name(rules),
            NAMESPACE,
            patch={"status": {"conditions": written}},
            subresource="status",
        )

    async def _run_pods(self, deployment: Object) -> None:
        name, spec = objects.name(deployment), objects.spec(deployment)
        revision = objects.labels(deployment)[wellknown.REVISION_LABEL]
        names = {f"{name}-{n}" for n in range(int(spec["replicas"]))}
        pods = (
            await self.client.list(
                resources.POD, NAMESPACE, label_selector=f"{wellknown.REVISION_LABEL}={revision}"
            )
        ).items
        for pod in pods:
            if objects.name(pod) not in names:
                await self.client.delete(resources.POD, objects.name(pod), NAMESPACE, grace_period_s=0)
        for pod_name in names - {objects.name(p) for p in pods}:
            await self._create_pod(pod_name, spec["template"])
        for pod in sorted(pods, key=objects.name)[: self.started]:
            if revision not in self.slow and not objects.status(pod).get("podIP"):
                await self._start_pod(objects.name(pod), revision)

    async def _create_pod(self, name: str, template: Mapping[str, Any]) -> None:
        metadata = {"name": name, "namespace": NAMESPACE, "labels": template["metadata"]["labels"]}
        await self.client.create(
            resources.POD, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        )

    async def _start_pod(self, name: str, revision: str) -> None:
        status: dict[str, Any] = {
            "phase": "Running",
            "podIP": POD,
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        if revision in self.crash:
            waiting = {"reason": "CrashLoopBackOff", "message": "back-off"}
            ended = {"exitCode": 3, "reason": "Error", "message": "no such module"}
            status["conditions"][0]["status"] = "False"
            status["containerStatuses"] = [
                {
                    "name": "user-container",
                    "image": "x",
                    "imageID": "",
                    "ready": False,
                    "restartCount": 2,
                    "state": {"waiting": waiting},
                    "lastState": {"terminated": ended},
                }
            ]
        await self.client.patch(
            resources.POD, name, NAMESPACE, patch={"status": status}, subresource="status"
        )


class Platform:
    """What a test works with."""

    def __init__(self, world: World, cluster: Cluster, proxy: PlayedProxy) -> None:
        self.client = world.client
        self.cluster = cluster
        self.proxy = proxy

    def document(
        self,
        text: str,
        *,
        name: str = "hello",
        traffic: list[Object] | None = None,
        notes: Mapping[str, str] = NONE,
        of_service: Mapping[str, str] = NONE,
    ) -> Object:
        annotations = {"autoscaling.knative.dev/window": "6s", **notes}
        container = {
            "image": "ondol.local/hello:latest",
            "env": [{"name": "TEXT", "value": text}],
            "ports": [{"containerPort": self.cluster.port}],
        }
        spec: Object = {
            "template": {"metadata": {"annotations": annotations}, "spec": {"containers": [container]}}
        }
        if traffic:
            spec["traffic"] = traffic
        document: Object = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "spec": spec}
        document["metadata"] = {"name": name, "namespace": NAMESPACE, "annotations": dict(of_service)}
        return document

    async def serve(
        self,
        text: str,
        *,
        traffic: list[Object] | None = None,
        notes: Mapping[str, str] = NONE,
        of_service: Mapping[str, str] = NONE,
    ) -> None:
        document = self.document(text, traffic=traffic, notes=notes, of_service=of_service)
        await self.client.apply(serving.SERVICE, document)

    async def eventually(
        self, resource: Resource, name: str, test: Callable[[Object], Any], *, namespace: str = NAMESPACE
    ) -> Object:
        """The object once `test` holds of it; the last state is shown when it never does."""
        obj: Object = {}
        with anyio.move_on_after(20):
            while True:
                try:
                    obj = await self.client.get(resource, name, namespace)
                    if test(obj):
                        return obj
                except errors.NotFound:
                    pass
                await anyio.sleep(0.02)
        raise AssertionError(f"it never came to that: {obj}")

    async def ready(self, name: str = "hello", *, latest: str = "") -> Object:
        return await self.eventually(
            serving.SERVICE,
            name,
            lambda s: (
                conditions.is_true(s, "Ready")
                and objects.status(s).get("observedGeneration") == objects.generation(s)
                and (not latest or objects.status(s)["latestReadyRevisionName"] == latest)
            ),
        )

    async def until_deleted(self, resource: Resource, name: str) -> None:
        with anyio.fail_after(20):
            while True:
                try:
                    await self.client.get(resource, name, NAMESPACE)
                except errors.NotFound:
                    return
                await anyio.sleep(0.02)

    async def request(self, revision: str) -> bytes:
        """What the proxy would do: connect to the endpoint of the revision's Service."""
        slice_ = await self.client.get(resources.ENDPOINT_SLICE, revision, NAMESPACE)
        host, port = slice_["endpoints"][0]["addresses"][0], slice_["ports"][0]["port"]
        async with await anyio.connect_tcp(host, port) as stream:
            await stream.send(b"GET / HTTP/1.1\r\nhost: hello\r\n\r\n")
            answer = b""
            while True:
                try:
                    answer += await stream.receive()
                except anyio.EndOfStream:
                    return answer


@asynccontextmanager
async def started(*, refuses: bool = True) -> AsyncIterator[Platform]:
    """A platform; one that does not refuse has an API server without Serving's rules."""
    clock, base = SystemClock(), ServingConfig(scaling=Scaling(window_s=6))
    config = LiveConfig(base)
    rules = validation.rules(config=config) if refuses else {}
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), clock, random.Random(1), rules=rules)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, World(app, clock=clock) as world, anyio.create_task_group() as group:
        await sdk.install_crds(world.client, [VIRTUAL_SERVICE_CRD, *wiring.crds()])
        proxy = PlayedProxy(world.client)
        control, gateway = world.manager("control"), world.manager("gateway")
        config.lookup = lambda name: app.core.lookup(resources.CONFIG_MAP, values.NAMESPACE, name)
        await wiring.install(world.client)
        wiring.add_to(control, base)
        gateway_config = wiring.GatewayConfig(NODE, base)
        wiring.add_gateway_to(gateway, proxy, gateway_config, random.Random(1))
        await world.start(control, gateway)
        group.start_soon(listener.serve, _answer)
        cluster = Cluster(world, listener.extra(anyio.abc.SocketAttribute.local_port))  # noqa: S610
        group.start_soon(cluster.run)
        yield Platform(world, cluster, proxy)
        group.cancel_scope.cancel()


async def _answer(stream: anyio.abc.SocketStream) -> None:
    async with stream:
        await stream.receive()
        await stream.send(head.answer(200, "OK", "hello"))
