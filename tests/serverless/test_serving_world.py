"""Serving end to end on an API server in this process: only pods and the proxy are played."""

from __future__ import annotations

import json
import random

import pytest
from tests.serverless.serving_world import NAMESPACE, Cluster, Platform, PlayedProxy, started

from ondol import apiserver, sdk, store
from ondol.api import conditions, objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.contracts import mesh, serving
from ondol.sdk.testing.world import World
from ondol.serverless import wiring
from ondol.serverless.autoscaler.metrics import Counters
from ondol.serverless.serving import validation, wellknown

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("on_loopback")]
ANNOTATIONS = {"autoscaling.knative.dev/min-scale": "1"}


async def test_everything_of_a_service_is_owned(platform: Platform) -> None:
    """So that it goes with the Service: from the Configuration to the EndpointSlice."""
    await platform.serve("one")
    await platform.ready()
    owners = {}
    for resource, name in (
        (serving.CONFIGURATION, "hello"),
        (serving.ROUTE, "hello"),
        (serving.REVISION, "hello-00001"),
        (resources.DEPLOYMENT, "hello-00001-deployment"),
        (resources.SERVICE, "hello-00001"),
        (resources.SERVICE, "hello"),
        (serving.POD_AUTOSCALER, "hello-00001"),
        (mesh.VIRTUAL_SERVICE, "hello"),
        (resources.ENDPOINT_SLICE, "hello-00001"),
    ):
        owner = objects.controller_of(await platform.client.get(resource, name, NAMESPACE)) or {}
        owners[resource.plural, name] = owner.get("kind")
    assert owners == {
        ("configurations", "hello"): "Service",
        ("routes", "hello"): "Service",
        ("revisions", "hello-00001"): "Configuration",
        ("deployments", "hello-00001-deployment"): "Revision",
        ("services", "hello-00001"): "Revision",
        ("services", "hello"): "Route",
        ("podautoscalers", "hello-00001"): "Revision",
        ("virtualservices", "hello"): "Route",
        ("endpointslices", "hello-00001"): "PodAutoscaler",
    }


async def test_service_becomes_revision_route_and_rules(platform: Platform) -> None:
    """A Service gets its children, its addresses, and rules the mesh understands."""
    await platform.serve("one")
    service = await platform.ready()
    status = objects.status(service)
    assert status["url"] == "http://hello.default.localhost"
    assert status["latestReadyRevisionName"] == "hello-00001"
    assert status["traffic"] == [{"revisionName": "hello-00001", "percent": 100, "latestRevision": True}]
    rules = await platform.client.get(mesh.VIRTUAL_SERVICE, "hello", NAMESPACE)
    destination = rules["spec"]["http"][0]["route"][0]["destination"]
    assert destination["host"] == "hello-00001.default.svc.cluster.local"
    assert "hello.default.localhost" in rules["spec"]["hosts"]
    deployment = await platform.client.get(resources.DEPLOYMENT, "hello-00001-deployment", NAMESPACE)
    env = {e["name"]: e["value"] for e in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert (env["K_SERVICE"], env["K_REVISION"], env["TEXT"]) == ("hello", "hello-00001", "one")


async def test_to_zero_and_back_by_one_request(platform: Platform) -> None:
    """After a quiet window no pod is left; a request then waits for one and is answered."""
    await platform.serve("one")
    await platform.ready()
    await platform.eventually(
        resources.DEPLOYMENT, "hello-00001-deployment", lambda d: objects.spec(d)["replicas"] == 0
    )
    revision = await platform.eventually(
        serving.REVISION, "hello-00001", lambda r: conditions.is_false(r, "Active")
    )
    assert conditions.is_true(revision, "Ready")
    assert (await platform.request("hello-00001")).endswith(b"hello")
    await platform.eventually(serving.REVISION, "hello-00001", lambda r: conditions.is_true(r, "Active"))


async def test_new_revision_takes_over_when_it_is_ready(platform: Platform) -> None:
    """Traffic moves to the new revision only once it serves; the old one becomes reserve."""
    await platform.serve("one")
    await platform.ready()
    await platform.serve("two")
    service = await platform.ready(latest="hello-00002")
    assert objects.status(service)["traffic"][0]["revisionName"] == "hello-00002"
    old = await platform.eventually(
        serving.REVISION,
        "hello-00001",
        lambda r: objects.labels(r)[wellknown.ROUTING_STATE_LABEL] == "reserve",
    )
    assert wellknown.ROUTES_ANNOTATION not in objects.annotations(old)


async def test_broken_revision_does_not_take_over(platform: Platform) -> None:
    """A revision whose container crashes fails with its exit code; the old one goes on serving."""
    await platform.serve("one")
    await platform.ready()
    platform.cluster.crash.add("hello-00002")
    await platform.serve("two")
    service = await platform.eventually(
        serving.SERVICE, "hello", lambda s: conditions.is_false(s, "ConfigurationsReady")
    )
    live = conditions.get(service, "ConfigurationsReady") or {}
    assert live["reason"] == "RevisionFailed"
    assert "no such module" in live["message"]
    assert objects.status(service)["traffic"][0]["revisionName"] == "hello-00001"
    assert conditions.is_true(service, "RoutesReady")


async def test_traffic_is_split_and_tagged(platform: Platform) -> None:
    """Named revisions get their percentages, a tag gets a name of its own."""
    await platform.serve("one")
    await platform.ready()
    traffic: list[Object] = [
        {"revisionName": "hello-00001", "percent": 70, "tag": "old"},
        {"latestRevision": True, "percent": 30},
    ]
    await platform.serve("two", traffic=traffic)
    service = await platform.ready(latest="hello-00002")
    shares = [(t["revisionName"], t["percent"], t.get("tag")) for t in objects.status(service)["traffic"]]
    assert shares == [("hello-00001", 70, "old"), ("hello-00002", 30, None)]
    rules = await platform.client.get(mesh.VIRTUAL_SERVICE, "hello", NAMESPACE)
    weights = [[d["weight"] for d in rule["route"]] for rule in rules["spec"]["http"]]
    assert weights == [[100], [70, 30]]
    assert "old-hello.default.localhost" in rules["spec"]["hosts"]


async def test_a_named_revision_is_routed_to_once_it_is_ready(platform: Platform) -> None:
    """Until then the Service says what it waits for, and what served before goes on."""
    await platform.serve("one")
    await platform.ready()
    platform.cluster.slow.add("hello-00002")
    await platform.serve("two", traffic=[{"revisionName": "hello-00002", "percent": 100}])
    service = await platform.eventually(
        serving.SERVICE, "hello", lambda s: "not ready" in _message(s, "RoutesReady")
    )
    assert objects.status(service)["traffic"][0]["revisionName"] == "hello-00001"
    rules = await platform.client.get(mesh.VIRTUAL_SERVICE, "hello", NAMESPACE)
    assert "hello-00002" not in str(rules["spec"])
    platform.cluster.slow.clear()
    await platform.ready(latest="hello-00002")
    service = await platform.eventually(
        serving.SERVICE, "hello", lambda s: conditions.is_true(s, "RoutesReady")
    )
    assert objects.status(service)["traffic"][0]["revisionName"] == "hello-00002"


def _message(obj: Object, type_: str) -> str:
    return str((conditions.get(obj, type_) or {}).get("message") or "")


async def test_a_tag_that_is_gone_leaves_no_name(platform: Platform) -> None:
    """The Service that made a tag's name resolve goes with the tag."""
    tagged: list[Object] = [{"latestRevision": True, "percent": 100, "tag": "new"}]
    await platform.serve("one", traffic=tagged)
    await platform.ready()
    await platform.eventually(resources.SERVICE, "new-hello", objects.uid)
    await platform.serve("one", traffic=[{"latestRevision": True, "percent": 100}])
    await platform.until_deleted(resources.SERVICE, "new-hello")
    assert await platform.client.get(resources.SERVICE, "hello", NAMESPACE)


async def test_wrong_percentages_are_told() -> None:
    """Where nothing refuses them, shares that do not add up are reported, and what served before goes on."""
    async with started(refuses=False) as platform:
        await platform.serve("one")
        await platform.ready()
        await platform.serve("one", traffic=[{"latestRevision": True, "percent": 60}])
        service = await platform.eventually(
            serving.SERVICE, "hello", lambda s: conditions.is_false(s, "RoutesReady")
        )
        assert "add up to 60" in (conditions.get(service, "RoutesReady") or {})["message"]
        assert objects.status(service)["traffic"][0]["revisionName"] == "hello-00001"


async def test_a_revision_is_ready_when_its_least_replicas_are(platform: Platform) -> None:
    """One of three does not do: whoever updates would lose two thirds of what answered."""
    platform.cluster.started = 1
    await platform.serve("one", notes={"autoscaling.knative.dev/min-scale": "3"})
    await platform.eventually(
        serving.POD_AUTOSCALER, "hello-00001", lambda a: objects.status(a).get("actualScale") == 1
    )
    revision = await platform.client.get(serving.REVISION, "hello-00001", NAMESPACE)
    assert not conditions.is_true(revision, "Ready")
    platform.cluster.started = 3
    await platform.ready()
    scaler = await platform.client.get(serving.POD_AUTOSCALER, "hello-00001", NAMESPACE)
    assert objects.status(scaler)["actualScale"] == 3


async def test_load_scales_out(platform: Platform) -> None:
    """Concurrency beyond the target brings more replicas, as the proxy's counters tell it."""
    await platform.serve("one")
    await platform.ready()
    cluster = "outbound|80||hello-00001.default.svc.cluster.local"
    platform.proxy.busy[cluster] = Counters(active=200, total=1000)
    await platform.eventually(
        resources.DEPLOYMENT, "hello-00001-deployment", lambda d: objects.spec(d)["replicas"] == 3
    )


async def test_defaults_are_stored_and_make_no_changes(platform: Platform) -> None:
    """What a client reads back says everything; writing the same again is no new generation."""
    await platform.serve("one")
    service = await platform.client.get(serving.SERVICE, "hello", NAMESPACE)
    spec = service["spec"]["template"]["spec"]
    assert service["spec"]["traffic"] == [{"latestRevision": True, "percent": 100}]
    assert (spec["timeoutSeconds"], spec["containerConcurrency"], spec["enableServiceLinks"]) == (
        300,
        0,
        False,
    )
    assert spec["containers"][0]["name"] == "user-container"
    await platform.serve("one")
    bare = platform.document("one")
    bare["metadata"]["resourceVersion"] = service["metadata"]["resourceVersion"]
    replaced = await platform.client.update(serving.SERVICE, bare)
    assert objects.generation(replaced) == 1
    for kind in (serving.SERVICE, serving.CONFIGURATION, serving.ROUTE):
        stored = await platform.eventually(kind, "hello", objects.uid)
        assert objects.annotations(stored)[wellknown.CREATOR] == "system:admin", kind


async def test_refused_child_is_told() -> None:
    """What an API server without Serving's rules does not take of a Revision's children is told."""
    async with started(refuses=False) as platform:
        await _reports_refused_child(platform)


async def _reports_refused_child(platform: Platform) -> None:
    document = platform.document("one")
    container = document["spec"]["template"]["spec"]["containers"][0]
    container["volumeMounts"] = [{"name": "none", "mountPath": "/x"}]
    await platform.client.create(serving.SERVICE, document)
    service = await platform.eventually(serving.SERVICE, "hello", lambda s: conditions.is_false(s, "Ready"))
    assert 'volumeMounts[0].name: Not found: "none"' in (conditions.get(service, "Ready") or {})["message"]


async def test_overtaken_revision_keeps_no_replicas(platform: Platform) -> None:
    """A Revision that gets ready when a newer one is wanted already, and that no Route names, may rest."""
    platform.cluster.slow.add("hello-00001")
    await platform.serve("one", notes=ANNOTATIONS)
    await platform.eventually(resources.DEPLOYMENT, "hello-00001-deployment", objects.uid)
    await platform.serve("two", notes=ANNOTATIONS)
    await platform.ready(latest="hello-00002")
    platform.cluster.slow.clear()
    await platform.eventually(
        resources.DEPLOYMENT, "hello-00001-deployment", lambda d: objects.spec(d)["replicas"] == 0
    )


async def test_name_taken_by_somebody_else(platform: Platform) -> None:
    """A Configuration of another owner is not taken over."""
    other = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Configuration",
        "metadata": {"name": "hello", "namespace": NAMESPACE},
        "spec": {"template": {"spec": {"containers": [{"image": "x"}]}}},
    }
    await platform.client.create(serving.CONFIGURATION, other)
    await platform.serve("one")
    service = await platform.eventually(serving.SERVICE, "hello", lambda s: conditions.is_false(s, "Ready"))
    assert (conditions.get(service, "Ready") or {})["reason"] == "NotOwned"
    assert Key(NAMESPACE, "hello") == objects.key(service)


async def test_wrong_service_is_refused_when_it_is_written() -> None:
    """An API server that was given Serving's rules keeps to them, on every way in but the status."""
    rules = validation.rules(lambda _: ["seen"])
    app = apiserver.build(
        apiserver.ApiConfig(), store.open_memory(), SystemClock(), random.Random(1), rules=rules
    )
    async with World(app) as world:
        await sdk.install_crds(world.client, wiring.crds())
        platform = Platform(world, Cluster(world, 8080), PlayedProxy(world.client))
        wrong = platform.document("one", traffic=[{"latestRevision": True, "percent": 60}])
        with pytest.raises(errors.Invalid, match="Traffic targets sum to 60, want 100"):
            await world.client.create(serving.SERVICE, wrong)
        with pytest.raises(errors.Invalid, match="want 100"):
            await world.client.apply(serving.SERVICE, wrong)
        answer = await world.client.raw(
            "POST",
            serving.SERVICE.path(NAMESPACE),
            headers={"content-type": "application/json"},
            body=json.dumps(platform.document("one")).encode(),
        )
        assert answer.status == 201
        assert "seen" in answer.headers["warning"]
