"""ReplicaSets, Deployments, endpoints and the scheduler against the API server, on virtual time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import pytest

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.base.host_ports import HostPort
from ondol.controllers import endpoints, node, podgc, scheduler
from ondol.controllers.workloads import deployment, replicaset
from ondol.controllers.workloads.deployment import replica_sets

Play = Callable[..., None]
REVISION = "deployment.kubernetes.io/revision"
WORKLOADS = (deployment.add_to, replicaset.add_to, scheduler.add_to)
NO_VICTIMS = "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."


def template(image: str = "shop:1", **labels: str) -> Object:
    return {
        "metadata": {"labels": {"app": "web", **labels}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }


def spec(replicas: int = 3, image: str = "shop:1", **more: Any) -> Object:
    labels = more.pop("labels", {})
    selector = {"matchLabels": {"app": "web"}}
    return {"replicas": replicas, "selector": selector, "template": template(image, **labels), **more}


def plain_pod(**labels: str) -> Object:
    return {"metadata": {"labels": labels}, "spec": template()["spec"]}


async def rolled(stage: Any, name: str = "web") -> Object:
    """The deployment, which must be complete."""
    live: Object = await stage.client.get(resources.DEPLOYMENT, name, "default")
    replicas = live["spec"]["replicas"]
    counts = {f: live["status"].get(f, 0) for f in ("replicas", "updatedReplicas", "availableReplicas")}
    assert counts == dict.fromkeys(counts, replicas)
    assert live["status"]["observedGeneration"] == live["metadata"]["generation"]
    condition = conditions.get(live, "Progressing") or {}
    assert condition["reason"] == "NewReplicaSetAvailable"
    return live


async def sizes(stage: Any) -> dict[str, int]:
    """Replicas of each ReplicaSet by its image."""
    items = (await stage.client.list(resources.REPLICA_SET, "default")).items
    image = {objects.name(each): each["spec"]["template"]["spec"]["containers"][0]["image"] for each in items}
    return {image[objects.name(each)]: each["spec"]["replicas"] for each in items}


async def set_image(stage: Any, image: str, **more: Any) -> None:
    containers = [{"name": "c", "image": image}]
    patch = {"spec": {"template": {"spec": {"containers": containers}}, **more}}
    await stage.client.patch(resources.DEPLOYMENT, "web", "default", patch=patch)


def test_a_deployment_becomes_running_pods(play: Play) -> None:
    """Its pods are named after the set, bound, ready; the status and the events say so."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(*WORKLOADS)
        await stage.create(resources.DEPLOYMENT, "web", spec=spec())
        await stage.settle()
        live = await rolled(stage)
        assert live["metadata"]["annotations"][REVISION] == "1"
        pods = await stage.pods()
        assert len(pods) == 3
        assert all(p["spec"]["nodeName"] == "n1" for p in pods)
        assert "Scaled up replica set" in (await stage.events("ScalingReplicaSet"))[0]
        assert len(await stage.events("SuccessfulCreate")) == 3
        assert len(await stage.events("Scheduled")) == 3

    play(scene)


def test_a_new_template_replaces_the_old_and_can_be_undone(play: Play) -> None:
    """Revisions count on; going back reuses the old set."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(*WORKLOADS)
        await stage.create(resources.DEPLOYMENT, "web", spec=spec())
        await stage.settle()
        await set_image(stage, "shop:2")
        await stage.settle()
        assert (await rolled(stage))["metadata"]["annotations"][REVISION] == "2"
        assert await sizes(stage) == {"shop:1": 0, "shop:2": 3}
        await set_image(stage, "shop:1")
        await stage.settle()
        assert (await rolled(stage))["metadata"]["annotations"][REVISION] == "3"
        assert await sizes(stage) == {"shop:1": 3, "shop:2": 0}
        first = next(
            each
            for each in (await stage.client.list(resources.REPLICA_SET, "default")).items
            if each["spec"]["replicas"]
        )
        assert first["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"

    play(scene)


def test_a_rollout_that_cannot_start_leaves_enough_of_the_old(play: Play) -> None:
    """And is told as stuck after its deadline."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(*WORKLOADS)
        await stage.create(resources.DEPLOYMENT, "web", spec=spec(4, progressDeadlineSeconds=60))
        await stage.settle()
        sick = template("shop:2", sick="yes")
        await stage.client.patch(resources.DEPLOYMENT, "web", "default", patch={"spec": {"template": sick}})
        await stage.settle()
        assert await sizes(stage) == {"shop:1": 3, "shop:2": 2}
        await stage.advance(70)
        await stage.settle()
        live = await stage.client.get(resources.DEPLOYMENT, "web", "default")
        condition = conditions.get(live, "Progressing") or {}
        assert condition["reason"] == "ProgressDeadlineExceeded"
        assert conditions.is_true(live, "Available")

    play(scene)


def test_recreate_waits_until_the_last_old_pod_is_gone(play: Play) -> None:
    """Two versions never run side by side."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(*WORKLOADS)
        recreate = spec(2, strategy={"type": "Recreate"}, labels={"stuck": "yes"})
        await stage.create(resources.DEPLOYMENT, "web", spec=recreate)
        await stage.settle()
        await set_image(stage, "shop:2")
        await stage.settle()
        assert await sizes(stage) == {"shop:1": 0}
        leaving = await stage.pods()
        assert len(leaving) == 2
        for pod in leaving:
            await stage.client.delete(resources.POD, objects.name(pod), "default", grace_period_s=0)
        await stage.settle()
        assert await sizes(stage) == {"shop:1": 0, "shop:2": 2}
        await rolled(stage)

    play(scene)


def test_a_paused_deployment_scales_but_does_not_roll(play: Play) -> None:
    """Until it is resumed."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(*WORKLOADS)
        await stage.create(resources.DEPLOYMENT, "web", spec=spec())
        await stage.settle()
        await set_image(stage, "shop:2", paused=True, replicas=5)
        await stage.settle()
        assert await sizes(stage) == {"shop:1": 5}
        live = await stage.client.get(resources.DEPLOYMENT, "web", "default")
        assert (conditions.get(live, "Progressing") or {})["reason"] == "DeploymentPaused"
        await stage.client.patch(resources.DEPLOYMENT, "web", "default", patch={"spec": {"paused": False}})
        await stage.settle()
        assert await sizes(stage) == {"shop:1": 0, "shop:2": 5}
        await rolled(stage)

    play(scene)


def test_history_is_kept_within_its_limit(play: Play) -> None:
    """The oldest empty sets go when a rollout is complete."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(*WORKLOADS)
        await stage.create(resources.DEPLOYMENT, "web", spec=spec(1, revisionHistoryLimit=1))
        for number in (2, 3, 4):
            await stage.settle()
            await set_image(stage, f"shop:{number}")
        await stage.settle()
        assert await sizes(stage) == {"shop:3": 0, "shop:4": 1}

    play(scene)


def test_scaling_in_the_middle_is_shared(play: Play) -> None:
    """Both templates grow while a rollout stands."""

    async def scene(stage: Any) -> None:
        await stage.node(cpu="40")
        await stage.run(*WORKLOADS)
        await stage.create(resources.DEPLOYMENT, "web", spec=spec(10))
        await stage.settle()
        sick = {"spec": {"template": template("shop:2", sick="yes")}}
        await stage.client.patch(resources.DEPLOYMENT, "web", "default", patch=sick)
        await stage.settle()
        assert await sizes(stage) == {"shop:1": 8, "shop:2": 5}
        await stage.client.patch(resources.DEPLOYMENT, "web", "default", patch={"spec": {"replicas": 20}})
        await stage.settle()
        by_name = await sizes(stage)
        assert sum(by_name.values()) == 25
        assert by_name["shop:1"] > by_name["shop:2"] > 5

    play(scene)


def test_a_taken_name_makes_the_deployment_choose_another(play: Play) -> None:
    """A stranger's ReplicaSet with our name is left alone, and the collision is counted."""

    async def scene(stage: Any) -> None:
        await stage.node()
        stranger = {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "other"}},
            "template": {"metadata": {"labels": {"app": "other"}}, "spec": template()["spec"]},
        }
        created = await stage.create(resources.DEPLOYMENT, "web", spec=spec(1))
        hashed = replica_sets.template_hash(created["spec"]["template"], 0)
        await stage.create(resources.REPLICA_SET, f"web-{hashed}", spec=stranger)
        await stage.run(*WORKLOADS)
        await stage.settle()
        live = await rolled(stage)
        assert live["status"]["collisionCount"] == 1
        taken = await stage.client.get(resources.REPLICA_SET, f"web-{hashed}", "default")
        assert objects.controller_of(taken) is None

    play(scene)


Row = tuple[str, int, list[dict[str, str]], dict[str, int], dict[str, int]]
ROWS: list[Row] = [
    ("creates what is missing", 2, [], {"create": 2}, {"replicas": 2}),
    ("adopts a matching orphan", 1, [{"app": "web"}], {"patch": 1}, {"replicas": 1}),
    ("leaves a stranger alone", 1, [{"app": "other"}], {"create": 1}, {"replicas": 1}),
    ("deletes what is too much", 0, [{"app": "web"}], {"patch": 1, "delete": 1}, {"replicas": 0}),
]


@pytest.mark.parametrize("resource", replicaset.KINDS, ids=[each.kind for each in replicaset.KINDS])
@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_replica_set(play: Play, row: Row, resource: Resource) -> None:
    """Pods before, writes to pods, status after; of the elder kind too, whose selector is plain labels."""
    _, replicas, before, writes, status = row
    fields = spec(replicas)
    if resource == resources.REPLICATION_CONTROLLER:
        fields["selector"] = fields["selector"]["matchLabels"]

    async def scene(stage: Any) -> None:
        for number, labels in enumerate(before):
            await stage.create(resources.POD, f"p{number}", **plain_pod(**labels))
        await stage.create(resource, "web", spec=fields)
        manager = stage.manager("control")
        replicaset.add_to(manager)
        done: dict[str, int] = {}
        for verb in ("create", "patch", "delete"):
            setattr(manager.client, verb, counting(getattr(manager.client, verb), verb, done))
        await stage.start(manager)
        await stage.settle()
        assert done == writes
        live = await stage.client.get(resource, "web", "default")
        assert {field: live["status"][field] for field in status} == status
        assert live["status"]["observedGeneration"] == 1

    play(scene)


def counting(call: Callable[..., Any], verb: str, done: dict[str, int]) -> Callable[..., Any]:
    """The call, its uses on pods counted."""

    def counted(resource: Resource, *args: Any, **more: Any) -> Any:
        if resource == resources.POD:
            done[verb] = done.get(verb, 0) + 1
        return call(resource, *args, **more)

    return counted


def test_refused_pods_are_told_and_tried_again(play: Play) -> None:
    """On the set, on its Deployment and as an event; and it is over when pods can be made."""

    async def scene(stage: Any) -> None:
        await stage.node()
        manager = stage.manager("control")
        for add in WORKLOADS:
            add(manager)
        refused = errors.Forbidden('pods "web-" is forbidden: exceeded quota: small')
        create, full = manager.client.create, [True]

        async def create_within_quota(resource: Resource, *args: Any, **more: Any) -> Object:
            if resource == resources.POD and full[0] and not more.get("subresource"):
                raise refused
            written: Object = await create(resource, *args, **more)
            return written

        manager.client.create = create_within_quota
        await stage.start(manager)
        await stage.create(resources.DEPLOYMENT, "web", spec=spec(2))
        await stage.advance(5)
        for resource in (resources.REPLICA_SET, resources.DEPLOYMENT):
            (live,) = (await stage.client.list(resource, "default")).items
            condition = conditions.get(live, "ReplicaFailure") or {}
            assert (condition["reason"], condition["message"]) == ("FailedCreate", refused.message)
        assert await stage.events("FailedCreate") == [f"Error creating: {refused.message}"]
        full[0] = False
        await stage.advance(600)
        assert len(await stage.pods()) == 2
        live = await stage.client.get(resources.DEPLOYMENT, "web", "default")
        assert conditions.get(live, "ReplicaFailure") is None

    play(scene)


def test_pods_that_fail_at_once_are_not_replaced_in_a_storm(play: Play) -> None:
    """What its node refuses is tried again after ever longer times; a first failure is replaced at once."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(*WORKLOADS)
        await stage.create(resources.REPLICA_SET, "web", spec=spec(1, labels={"refused": "true"}))
        await stage.advance(0.9)
        assert len(await stage.pods()) == 2
        await stage.advance(400)
        assert 8 <= len(await stage.pods()) <= 12
        mended = {"spec": {"template": {"metadata": {"labels": {"refused": None}}}}}
        await stage.client.patch(resources.REPLICA_SET, "web", "default", patch=mended)
        await stage.advance(400)
        assert any(conditions.is_true(pod, "Ready") for pod in await stage.pods())

    play(scene)


def test_a_pod_that_stops_matching_is_released_and_replaced(play: Play) -> None:
    """It lives on, nobody's."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(replicaset.add_to, scheduler.add_to)
        await stage.create(resources.REPLICA_SET, "web", spec=spec(1))
        await stage.settle()
        (pod,) = await stage.pods()
        patch = {"metadata": {"labels": {"app": "debug"}}}
        await stage.client.patch(resources.POD, objects.name(pod), "default", patch=patch)
        await stage.settle()
        pods = {objects.labels(each)["app"]: each for each in await stage.pods()}
        assert objects.controller_of(pods["debug"]) is None
        assert objects.controller_of(pods["web"]) is not None

    play(scene)


def test_ready_pods_count_as_available_after_their_time(play: Play) -> None:
    """`minReadySeconds` passes without anyone writing."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(replicaset.add_to, scheduler.add_to)
        await stage.create(resources.REPLICA_SET, "web", spec=spec(1, minReadySeconds=60))
        await stage.settle()
        live = await stage.client.get(resources.REPLICA_SET, "web", "default")
        assert live["status"]["readyReplicas"] == 1
        assert "availableReplicas" not in live["status"]
        await stage.advance(61)
        await stage.settle()
        live = await stage.client.get(resources.REPLICA_SET, "web", "default")
        assert live["status"]["availableReplicas"] == 1

    play(scene)


def test_a_pod_waits_for_a_node_and_is_told_why(play: Play) -> None:
    """It is bound as soon as there is room."""

    async def scene(stage: Any) -> None:
        await stage.run(scheduler.add_to)
        await stage.node(cpu="1")
        big = plain_pod(app="big")
        big["spec"] = {"containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "2"}}}]}
        await stage.create(resources.POD, "big", **big)
        await stage.settle()
        pod = await stage.client.get(resources.POD, "big", "default")
        condition = conditions.get(pod, "PodScheduled") or {}
        assert condition["reason"] == "Unschedulable"
        reason = f"0/1 nodes are available: 1 Insufficient cpu. {NO_VICTIMS}"
        assert condition["message"] == reason
        assert await stage.events("FailedScheduling") == [reason]
        await stage.node("n2")
        await stage.settle()
        pod = await stage.client.get(resources.POD, "big", "default")
        assert pod["spec"]["nodeName"] == "n2"
        assert conditions.is_true(pod, "PodScheduled")

    play(scene)


def test_a_pod_waits_for_a_port_of_the_machine(play: Play) -> None:
    """It is told in Kubernetes' words, and bound once the program that has the port has gone."""
    taken = [HostPort("TCP", "127.0.0.1", 6443)]

    async def scene(stage: Any) -> None:
        await stage.run(functools.partial(scheduler.add_to, in_use=lambda: taken))
        await stage.node()
        ports = [{"containerPort": 80, "hostPort": 6443}]
        await stage.create(
            resources.POD, "p", spec={"containers": [{"name": "c", "image": "x", "ports": ports}]}
        )
        await stage.settle()
        reason = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
        reason = f"{reason} {NO_VICTIMS}"
        pod = await stage.client.get(resources.POD, "p", "default")
        assert (conditions.get(pod, "PodScheduled") or {})["message"] == reason
        assert await stage.events("FailedScheduling") == [reason]
        taken.clear()
        await stage.advance(5)
        await stage.settle()
        assert (await stage.client.get(resources.POD, "p", "default"))["spec"].get("nodeName")

    play(scene)


def test_a_freed_node_takes_the_next_pod(play: Play) -> None:
    """And no node is ever filled beyond what it has, however many pods come at once."""

    async def scene(stage: Any) -> None:
        await stage.run(scheduler.add_to)
        await stage.node(cpu="3")
        one = {"containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "1"}}}]}
        for number in range(5):
            await stage.create(resources.POD, f"p{number}", spec=one)
        await stage.settle()
        bound = [p for p in await stage.pods() if p["spec"].get("nodeName")]
        assert len(bound) == 3
        await stage.client.delete(resources.POD, objects.name(bound[0]), "default")
        await stage.settle()
        assert len([p for p in await stage.pods() if p["spec"].get("nodeName")]) == 3

    play(scene)


async def the_slice(stage: Any) -> Object:
    selector = "kubernetes.io/service-name=web"
    (slice_,) = (await stage.client.list(resources.ENDPOINT_SLICE, "default", label_selector=selector)).items
    return cast("Object", slice_)


def test_endpoints_follow_readiness(play: Play) -> None:
    """Ready pods are in, those that go leave, and nothing is written without a change."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(*WORKLOADS, endpoints.add_to)
        ports = [{"port": 80, "targetPort": 8080}]
        await stage.create(resources.SERVICE, "web", spec={"selector": {"app": "web"}, "ports": ports})
        await stage.create(resources.DEPLOYMENT, "web", spec=spec(3))
        await stage.settle()
        endpoints_slice = await the_slice(stage)
        assert [e["conditions"]["ready"] for e in endpoints_slice["endpoints"]] == [True] * 3
        assert endpoints_slice["ports"][0]["port"] == 8080
        legacy = await stage.client.get(resources.ENDPOINTS, "web", "default")
        assert len(legacy["subsets"][0]["addresses"]) == 3
        await stage.client.patch(resources.DEPLOYMENT, "web", "default", patch={"spec": {"replicas": 1}})
        await stage.settle()
        endpoints_slice = await the_slice(stage)
        assert len(endpoints_slice["endpoints"]) == 1
        writes = stage.transport.writes
        await stage.advance(300)
        assert stage.transport.writes == writes
        await stage.client.delete(resources.SERVICE, "web", "default")
        await stage.settle()
        await stage.assert_gone(resources.ENDPOINTS, "web", "default")

    play(scene)


def test_a_silent_node_loses_its_pods_in_the_end(play: Play) -> None:
    """Unknown after the grace period, unready at once, evicted when they tolerate it no longer."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(scheduler.add_to, node.add_to)
        document = plain_pod(app="web", stuck="yes")
        document["spec"]["tolerations"] = [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            for key in ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")
        ]
        await stage.create(resources.POD, "p", **document)
        await stage.advance(5)
        assert conditions.is_true(await stage.client.get(resources.POD, "p", "default"), "Ready")
        await stage.advance(60)
        host = await stage.client.get(resources.NODE, "n1")
        assert (conditions.get(host, "Ready") or {})["status"] == "Unknown"
        assert {t["effect"] for t in host["spec"]["taints"]} == {"NoSchedule", "NoExecute"}
        pod = await stage.client.get(resources.POD, "p", "default")
        assert not conditions.is_true(pod, "Ready")
        assert not objects.is_deleting(pod)
        await stage.advance(310)
        assert objects.is_deleting(await stage.client.get(resources.POD, "p", "default"))

    play(scene)


def test_tolerated_time_counts_from_when_the_pod_is_seen(play: Play) -> None:
    """A pod that comes to a node which is tainted for long has the whole of its time."""

    async def scene(stage: Any) -> None:
        taint = {"key": "drain", "effect": "NoExecute", "timeAdded": "2020-01-01T00:00:00Z"}
        await stage.node(taints=[taint])
        await stage.run(node.add_to)
        document = plain_pod(app="web")
        toleration = {"key": "drain", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 20}
        document["spec"] |= {"nodeName": "n1", "tolerations": [toleration]}
        await stage.create(resources.POD, "p", **document)
        await stage.advance(15)
        assert not objects.is_deleting(await stage.client.get(resources.POD, "p", "default"))
        await stage.advance(10)
        assert await stage.pods() == [] or objects.is_deleting((await stage.pods())[0])

    play(scene)


def test_heartbeats_keep_a_node_alive_without_a_write(play: Play) -> None:
    """And one that comes back is freed of its taints."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(node.add_to, kubelet=False)
        lease = {"metadata": {"name": "n1", "namespace": "kube-node-lease"}, "spec": {}}
        await stage.client.create(resources.LEASE, lease)
        writes = stage.transport.writes
        for beat in range(20):
            renewed = {"spec": {"renewTime": f"2026-01-01T00:{beat:02}:00.000000Z"}}
            await stage.client.patch(resources.LEASE, "n1", "kube-node-lease", patch=renewed)
            await stage.advance(10)
        assert stage.transport.writes == writes
        await stage.advance(60)
        host = await stage.client.get(resources.NODE, "n1")
        assert host["spec"]["taints"]
        ready = [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-02T00:00:00Z"}]
        await stage.client.patch(
            resources.NODE, "n1", patch={"status": {"conditions": ready}}, subresource="status"
        )
        await stage.advance(1)
        host = await stage.client.get(resources.NODE, "n1")
        assert not host.get("spec", {}).get("taints")

    play(scene)


def test_pods_of_a_lost_node_are_removed(play: Play) -> None:
    """After it had time to come back; and one never bound goes when it is deleted."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(scheduler.add_to, podgc.add_to)
        await stage.create(resources.POD, "p", **plain_pod(app="web", stuck="yes"))
        await stage.advance(5)
        await stage.client.delete(resources.NODE, "n1")
        await stage.advance(30)
        assert await stage.get(resources.POD, "p", "default") is not None
        await stage.advance(15)
        await stage.assert_gone(resources.POD, "p", "default")

    play(scene)
