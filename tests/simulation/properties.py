"""What holds at every change of the truth, and what holds once everything was left in peace.

Each check sees one change (see `platform.Check`) and raises `Violated`, in words that say what went wrong.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from tests.simulation.platform import CPU, Check, Platform, Violated, is_ready

from ondol.api import objects, resources
from ondol.api.objects import Key, Object, Resource

STEADY: Final = "steady"
"""Label of workloads whose pods never fail by themselves: what is missing is missing by our own hand."""
GUARDED: Final = "guarded"
"""Label of workloads that a disruption budget guards, and nobody changes or deletes but by evictions."""


def one_process_of_a_name(
    platform: Platform, resource: Resource, before: Object | None, now: Object | None
) -> None:
    """A pod's successor of the same name runs only when it has ended: who locks a file relies on it."""
    if resource != resources.POD:
        return
    if now is not None:
        platform.keys_of_uids[objects.uid(now)] = objects.key(now)
    running = platform.node.runtime.running()
    uids = {
        record.uid
        for record in platform.node.records.all()
        if any(each.current is not None and each.current.id in running for each in record.containers.values())
    }
    names = Counter(platform.keys_of_uids[uid] for uid in uids if uid in platform.keys_of_uids)
    twice = [str(key) for key, count in names.items() if count > 1]
    if twice:
        raise Violated(f"two pods of one name run: {twice}")


def bound_once(platform: Platform, resource: Resource, before: Object | None, now: Object | None) -> None:
    """A pod stays on its node, and a node is never given more than it has."""
    if resource != resources.POD or now is None:
        return
    node = objects.spec(now).get("nodeName", "")
    if before is not None and objects.spec(before).get("nodeName", node) != node:
        raise Violated(f"pod {objects.key(now)} was bound again")
    if node and (before is None or not objects.spec(before).get("nodeName")):
        taken = [pod for pod in platform.pods() if objects.spec(pod).get("nodeName") and not is_over(pod)]
        if len(taken) > CPU:
            raise Violated(f"{len(taken)} pods of one core on {CPU}")


def rolled_out_without_a_gap(
    platform: Platform, resource: Resource, before: Object | None, now: Object | None
) -> None:
    """While a Deployment of steady pods changes, neither more nor fewer are there than it says.

    Pods that are going are counted as gone, and those that somebody else takes are not ours to answer for.
    """
    if resource != resources.POD:
        return
    for deployment in platform.truth[resources.DEPLOYMENT].values():
        spec = objects.spec(deployment)
        if STEADY not in objects.labels(deployment) or objects.is_deleting(deployment):
            continue
        sets = [
            each
            for each in platform.truth[resources.REPLICA_SET].values()
            if (objects.controller_of(each) or {}).get("uid") == objects.uid(deployment)
        ]
        pods = [pod for each in sets for pod in platform.owned(each) if not objects.is_deleting(pod)]
        available = sum(is_ready(pod) for pod in pods)
        key = objects.key(deployment)
        if available >= spec["replicas"]:
            platform.complete.add(key)
        if key in platform.complete and available < spec["replicas"] - 1:
            raise Violated(f"{key}: {available} of {spec['replicas']} pods are available, one may be missing")
        if len(pods) > spec["replicas"] + 1:
            raise Violated(f"{key}: {len(pods)} pods for {spec['replicas']}, one more is allowed")


def replicas_in_order(
    platform: Platform, resource: Resource, before: Object | None, now: Object | None
) -> None:
    """A StatefulSet makes a pod when those before it have been Ready, and never two of one ordinal."""
    if resource != resources.POD or now is None or before is not None:
        return
    owner = objects.controller_of(now) or {}
    if owner.get("kind") != "StatefulSet":
        return
    parent = platform.truth[resources.STATEFUL_SET].get(Key(objects.namespace(now), owner["name"]))
    if parent is None or objects.spec(parent).get("podManagementPolicy") == "Parallel":
        return
    ordinal = int(objects.name(now).rpartition("-")[2])
    by_name = {objects.name(pod): pod for pod in platform.owned(parent)}
    for lower in range(ordinal):
        pod = by_name.get(f"{owner['name']}-{lower}")
        if pod is None or objects.uid(pod) not in platform.ready_once:
            raise Violated(f"{objects.key(now)} is made while {owner['name']}-{lower} was never Ready")


def no_job_runs_too_wide(
    platform: Platform, resource: Resource, before: Object | None, now: Object | None
) -> None:
    """Of a Job no more pods live at once than its parallelism, and no more succeed than are asked for."""
    if resource != resources.POD or now is None:
        return
    owner = objects.controller_of(now) or {}
    job = platform.truth[resources.JOB].get(Key(objects.namespace(now), str(owner.get("name", ""))))
    if owner.get("kind") != "Job" or job is None or objects.uid(job) != owner["uid"]:
        return
    alive = [pod for pod in platform.owned(job) if not is_over(pod) and not objects.is_deleting(pod)]
    if len(alive) > objects.spec(job)["parallelism"]:
        raise Violated(f"{objects.key(job)}: {len(alive)} pods at once")
    if objects.status(job).get("succeeded", 0) > objects.spec(job)["completions"]:
        raise Violated(f"{objects.key(job)}: {objects.status(job)['succeeded']} pods have succeeded")


def guarded_by_the_budget(
    platform: Platform, resource: Resource, before: Object | None, now: Object | None
) -> None:
    """Evictions leave what the budget asks for."""
    if resource != resources.POD:
        return
    for budget in platform.truth[resources.POD_DISRUPTION_BUDGET].values():
        selector = objects.spec(budget)["selector"]["matchLabels"]
        pods = [pod for pod in platform.pods() if selector.items() <= objects.labels(pod).items()]
        healthy = sum(is_ready(pod) and not objects.is_deleting(pod) for pod in pods)
        key, least = objects.key(budget), objects.spec(budget)["minAvailable"]
        if healthy > least:
            platform.complete.add(key)
        if key in platform.complete and healthy < least:
            raise Violated(f"{healthy} healthy pods where the budget {key} asks for {least}")


def only_the_ready_are_listed(
    platform: Platform, resource: Resource, before: Object | None, now: Object | None
) -> None:
    """A Service sends no call to a pod that was never Ready."""
    if resource != resources.ENDPOINT_SLICE or now is None:
        return
    for endpoint in now.get("endpoints") or ():
        uid = (endpoint.get("targetRef") or {}).get("uid")
        if uid and endpoint["conditions"].get("ready") and uid not in platform.ready_once:
            raise Violated(f"{objects.key(now)} lists {endpoint['targetRef']['name']}, which was never Ready")


CHECKS: Final[tuple[Check, ...]] = (
    one_process_of_a_name,
    bound_once,
    rolled_out_without_a_gap,
    replicas_in_order,
    no_job_runs_too_wide,
    guarded_by_the_budget,
    only_the_ready_are_listed,
)


def is_over(pod: Object) -> bool:
    return objects.status(pod).get("phase") in ("Succeeded", "Failed")


# --- in peace


async def as_asked_for(platform: Platform) -> None:
    """Every workload has what it asks for, and nothing is there that nobody asks for."""
    truth = platform.truth
    for deployment in truth[resources.DEPLOYMENT].values():
        _expect_replicas(platform, deployment, _available(platform, deployment))
    for each in truth[resources.STATEFUL_SET].values():
        _expect_replicas(platform, each, platform.owned(each))
    for each in truth[resources.DAEMON_SET].values():
        if len(platform.owned(each)) != 1:
            raise Violated(f"DaemonSet {objects.key(each)} has {len(platform.owned(each))} pods on one node")
    for job in truth[resources.JOB].values():
        if not any(c["type"] in ("Complete", "Failed") for c in objects.status(job).get("conditions") or ()):
            raise Violated(f"Job {objects.key(job)} has not ended: {objects.status(job)}")
    _no_orphans(platform)
    _endpoints_agree(platform)
    _nothing_left_on_the_node(platform)


def _available(platform: Platform, deployment: Object) -> list[Object]:
    sets = platform.truth[resources.REPLICA_SET].values()
    uid = objects.uid(deployment)
    own = [each for each in sets if (objects.controller_of(each) or {}).get("uid") == uid]
    return [pod for each in own for pod in platform.owned(each)]


def _expect_replicas(platform: Platform, owner: Object, pods: list[Object]) -> None:
    replicas, status = objects.spec(owner)["replicas"], objects.status(owner)
    image = objects.spec(owner)["template"]["spec"]["containers"][0]["image"]
    name = f"{owner.get('kind', '')} {objects.key(owner)}"
    images = Counter(objects.spec(pod)["containers"][0]["image"] for pod in pods)
    if images != +Counter({image: replicas}):
        raise Violated(f"{name}: {dict(images)} where {replicas} of {image} are asked for")
    if image.startswith(("steady", "stubborn")):
        counts = {status.get(field, 0) for field in ("replicas", "readyReplicas", "updatedReplicas")}
        if counts != {replicas}:
            raise Violated(f"{name} says {status} of {replicas} pods")
    if status.get("observedGeneration") != objects.metadata(owner)["generation"]:
        raise Violated(f"{name} is of generation {objects.metadata(owner)['generation']}: {status}")


def _no_orphans(platform: Platform) -> None:
    alive = {objects.uid(each) for kind in platform.truth.values() for each in kind.values()}
    for resource, kind in platform.truth.items():
        for each in kind.values():
            if objects.is_deleting(each):
                raise Violated(f"{resource.kind} {objects.key(each)} is still going")
            owner = objects.controller_of(each)
            if owner is not None and owner["uid"] not in alive:
                raise Violated(f"{resource.kind} {objects.key(each)} has lost its {owner['kind']}")


def _endpoints_agree(platform: Platform) -> None:
    for service in platform.truth[resources.SERVICE].values():
        selector = objects.spec(service).get("selector")
        if not selector:
            continue
        ready = sorted(
            objects.status(pod)["podIP"]
            for pod in platform.pods()
            if selector.items() <= objects.labels(pod).items() and is_ready(pod)
        )
        listed = sorted(
            address
            for each in platform.truth[resources.ENDPOINT_SLICE].values()
            if objects.labels(each).get("kubernetes.io/service-name") == objects.name(service)
            for endpoint in each.get("endpoints") or ()
            if endpoint["conditions"].get("ready")
            for address in endpoint["addresses"]
        )
        if ready != listed:
            raise Violated(f"Service {objects.key(service)}: {listed} are listed, {ready} are ready")


def _nothing_left_on_the_node(platform: Platform) -> None:
    alive = {objects.uid(pod) for pod in platform.pods()}
    for uid in platform.node.machine.sandboxes:
        if uid not in alive:
            raise Violated(f"the sandbox of the pod {uid}, which is gone, is still there")
    recorded = {
        each.current.id
        for record in platform.node.records.all()
        for each in record.containers.values()
        if each.current is not None
    }
    if strays := platform.node.runtime.running() - recorded:
        raise Violated(f"containers run that belong to no pod: {strays}")
