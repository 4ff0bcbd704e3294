"""The conditions of Serving objects: pure functions from what is observed to the status to write.

Condition types, reasons and messages: knative/specs Serving API, error signalling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.contracts import cluster, mesh
from ondol.serverless.autoscaler import scaler
from ondol.serverless.config.values import ServingConfig
from ondol.serverless.serving import wellknown
from ondol.serverless.serving.names import Naming
from ondol.serverless.serving.routing import Target

READY: Final = "Ready"
_NO_CONFIG: Final = ServingConfig()
_IMAGE_REASONS: Final = {
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "RegistryUnavailable",
}
_FATAL: Final = {"CreateContainerError", "RunContainerError"}
_STARTING: Final = {"ContainerCreating", "PodInitializing", "CrashLoopBackOff", ""}
"""Why a container may wait without anything being wrong with it, or with more to be said elsewhere."""
_NO_ERROR: Final = "container exited with no error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One condition's outcome; `status` is True, False or Unknown as the API spells them."""

    status: conditions.Status
    reason: str = ""
    message: str = ""


OK: Final = Verdict("True")


def with_ready(
    obj: Mapping[str, Any], verdicts: Mapping[str, Verdict], *, of_ready: Sequence[str], now: float
) -> list[Object]:
    """The object's conditions with `verdicts` written and Ready derived from `of_ready`."""
    listed: Sequence[Mapping[str, Any]] = conditions.of(obj)
    for type_, verdict in verdicts.items():
        listed = conditions.set(
            listed, type_, verdict.status, reason=verdict.reason, message=verdict.message, now=now
        )
    return sorted(conditions.ready_from(listed, of_ready, now=now), key=lambda c: str(c["type"]))


def revision_status(
    revision: Mapping[str, Any],
    deployment: Mapping[str, Any] | None,
    autoscaler: Mapping[str, Any] | None,
    pods: Sequence[Mapping[str, Any]],
    *,
    problem: Verdict | None = None,
    config: ServingConfig = _NO_CONFIG,
    now: float,
) -> Object:
    """The status of a Revision from its Deployment, its PodAutoscaler and its pods.

    `problem` says why one of its children cannot be.
    """
    initialized = autoscaler is not None and conditions.is_true(autoscaler, "ScaleTargetInitialized")
    pods = [pod for pod in pods if not objects.is_deleting(pod)]
    available = problem or (OK if initialized else _resources(revision, deployment, autoscaler, pods, config))
    healthy = _containers(revision, pods, initialized=initialized)
    verdicts = {"ResourcesAvailable": available, "ContainerHealthy": healthy, "Active": _active(autoscaler)}
    scaled = objects.status(autoscaler or {})
    log_url = config.log_url.replace("${REVISION_UID}", objects.uid(revision))
    return {
        **({"logUrl": log_url} if log_url else {}),
        "observedGeneration": objects.generation(revision),
        "conditions": with_ready(
            revision, verdicts, of_ready=("ContainerHealthy", "ResourcesAvailable"), now=now
        ),
        "containerStatuses": _container_statuses(revision, pods),
        "actualReplicas": int(scaled.get("actualScale") or 0),
        "desiredReplicas": max(0, int(scaled.get("desiredScale") or 0)),
    }


def _resources(
    revision: Mapping[str, Any],
    deployment: Mapping[str, Any] | None,
    autoscaler: Mapping[str, Any] | None,
    pods: Sequence[Mapping[str, Any]],
    config: ServingConfig,
) -> Verdict:
    for status, waiting in _waiting(pods):
        if waiting.get("reason") in _IMAGE_REASONS:
            return _image_missing(revision, status, waiting)
    for pod in () if config.deployment.always_schedulable else pods:
        scheduled = conditions.get(pod, "PodScheduled") or {}
        if scheduled.get("status") == "False":
            return Verdict("False", str(scheduled.get("reason") or "Unschedulable"), _message(scheduled))
    active = conditions.get(autoscaler or {}, "Active") or {}
    if active.get("reason") == scaler.TIMED_OUT:  # its pods are gone, so nobody else could say it any more
        return _lost(revision) or Verdict(
            "False", "ProgressDeadlineExceeded", "Initial scale was never achieved"
        )
    if deployment is None:
        return Verdict("Unknown", "Deploying")
    stuck = next(((s, w) for s, w in _waiting(pods) if w.get("reason") not in _STARTING), None)
    progressing = conditions.get(deployment, "Progressing")
    is_late = progressing is not None and progressing.get("status") == "False"
    if stuck is not None:  # it may come in time yet: what it refers to is often made right after it
        reason, text = str(stuck[1]["reason"]), str(stuck[1].get("message") or "")
        return Verdict("False" if is_late or reason in _FATAL else "Unknown", reason, text)
    if is_late:
        return Verdict("False", "ProgressDeadlineExceeded", "Initial scale was never achieved")
    refused = conditions.get(deployment, "ReplicaFailure")
    if refused is not None and refused.get("status") == "True":
        return Verdict("False", str(refused.get("reason") or "FailedCreate"), _message(refused))
    return Verdict("Unknown", "Deploying")


def _lost(revision: Mapping[str, Any]) -> Verdict | None:
    """What was wrong with the resources while there were pods to say it."""
    before = conditions.get(revision, "ResourcesAvailable") or {}
    if before.get("status") != "False":
        return None
    return Verdict("False", str(before.get("reason") or ""), _message(before))


def _image_missing(
    revision: Mapping[str, Any], status: Mapping[str, Any], waiting: Mapping[str, Any]
) -> Verdict:
    """Knative resolves tags itself and says ContainerMissing; a digest is the node's to find."""
    containers = objects.spec(revision).get("containers") or ()
    image = next((str(c.get("image")) for c in containers if c.get("name") == status.get("name")), "")
    reason, text = str(waiting["reason"]), str(waiting.get("message") or waiting["reason"])
    if "@" in image:
        return Verdict("False", reason, text)
    return Verdict("False", "ContainerMissing", f'Unable to fetch image "{image}": {text}')


def _message(condition: Mapping[str, Any]) -> str:
    return str(condition.get("message") or "")


def _containers(
    revision: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], *, initialized: bool
) -> Verdict:
    """Unhealthy from a container's first failure until a pod answers, however often it starts meanwhile."""
    if any(conditions.is_true(pod, READY) for pod in pods):
        return OK
    for status in _statuses(pods):
        if (ended := _ended(status)) is not None:
            return _exit_verdict(ended)
    before = conditions.get(revision, "ContainerHealthy") or {}
    if not pods and not initialized and before.get("status") == "False":
        return Verdict("False", str(before.get("reason") or ""), _message(before))
    return OK if initialized else Verdict("Unknown", "Deploying")


def _ended(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """How the container ended last, if it ever did."""
    for state in ("state", "lastState"):
        ended: Mapping[str, Any] | None = (status.get(state) or {}).get("terminated")
        if ended is not None:
            return ended
    return None


def _exit_verdict(ended: Mapping[str, Any]) -> Verdict:
    code = int(ended.get("exitCode") or 0)
    text = str(ended.get("message") or "").strip() or (_NO_ERROR if code == 0 else ended.get("reason") or "")
    return Verdict("False", f"ExitCode{code}", f"Container failed with: {text}")


def _active(autoscaler: Mapping[str, Any] | None) -> Verdict:
    active = conditions.get(autoscaler, "Active") if autoscaler is not None else None
    if active is None:
        return Verdict("Unknown", "Deploying")
    return Verdict(active["status"], str(active.get("reason") or ""), str(active.get("message") or ""))


def _statuses(pods: Sequence[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    for pod in pods:
        yield from objects.status(pod).get("containerStatuses") or ()


def _waiting(
    pods: Sequence[Mapping[str, Any]],
) -> Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Containers that wait, each with what it says of it."""
    for status in _statuses(pods):
        if waiting := (status.get("state") or {}).get("waiting"):
            yield status, waiting


def _container_statuses(revision: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> list[Object]:
    """Container names with the digests they run; known digests stay while no pod runs."""
    by_name = {s["name"]: s for s in objects.status(revision).get("containerStatuses") or ()}
    for status in _statuses(pods):
        if status.get("imageID"):
            by_name[status["name"]] = {"name": status["name"], "imageDigest": status["imageID"]}
    return [dict(by_name[name]) for name in sorted(by_name)]


def configuration_status(
    configuration: Mapping[str, Any],
    latest_created: Mapping[str, Any] | None,
    *,
    revisions: Sequence[Mapping[str, Any]] = (),
    now: float,
    problem: str = "",
) -> Object:
    """The status of a Configuration from the newest Revision it stamped out, and from all of them."""
    status = objects.status(configuration)
    latest_ready = _latest_ready(status.get("latestReadyRevisionName"), latest_created, revisions)
    verdict = Verdict("Unknown")
    if problem:
        verdict = Verdict("False", "RevisionNameTaken", problem)
    elif latest_created is not None:
        name = objects.name(latest_created)
        ready = conditions.get(latest_created, READY) or {}
        if ready.get("status") == "True":
            verdict = OK
        elif ready.get("status") == "False":
            message = f'Revision "{name}" failed with message: {ready.get("message", "")}.'
            verdict = Verdict("False", "RevisionFailed", message)
    desired: Object = {
        "observedGeneration": objects.generation(configuration),
        "conditions": with_ready(configuration, {"Revision": verdict}, of_ready=("Revision",), now=now),
    }
    desired["conditions"] = [c for c in desired["conditions"] if c["type"] == READY]
    created = objects.name(latest_created) if latest_created else status.get("latestCreatedRevisionName")
    if created:
        desired["latestCreatedRevisionName"] = created
    if latest_ready:
        desired["latestReadyRevisionName"] = latest_ready
    return desired


def _latest_ready(
    before: str | None, latest_created: Mapping[str, Any] | None, revisions: Sequence[Mapping[str, Any]]
) -> str | None:
    """The newest Revision that is ready, never one older than the one known before.

    A good Revision between the one that serves and a broken newest one gets its turn.
    """
    if latest_created is not None and conditions.is_true(latest_created, READY):
        return objects.name(latest_created)
    present = next((r for r in revisions if objects.name(r) == before), None)
    if before and present is None:
        return before  # what is unknown is not older than everything
    least = wellknown.generation_of(present) if present is not None else 0
    ready = [r for r in revisions if conditions.is_true(r, READY) and wellknown.generation_of(r) > least]
    return objects.name(max(ready, key=wellknown.generation_of)) if ready else before


def route_status(
    route: Mapping[str, Any],
    targets: Sequence[Target],
    assigned: Verdict,
    ingress: Verdict,
    *,
    naming: Naming,
    now: float,
) -> Object:
    """The status of a Route: where its traffic goes and under which addresses."""
    verdicts = {"AllTrafficAssigned": assigned, "IngressReady": ingress}
    return {
        "observedGeneration": objects.generation(route),
        "url": naming.url(route),
        "address": {"url": f"http://{cluster.service_host(objects.name(route), objects.namespace(route))}"},
        "traffic": [_traffic(target, route, naming) for target in targets],
        "conditions": with_ready(route, verdicts, of_ready=("AllTrafficAssigned", "IngressReady"), now=now),
    }


def _traffic(target: Target, route: Mapping[str, Any], naming: Naming) -> Object:
    share: Object = {
        "revisionName": target.revision,
        "percent": target.percent,
        "latestRevision": target.latest,
    }
    if target.tag:
        share["tag"] = target.tag
        share["url"] = naming.url(route, target.tag)
    return share


ROLLING_OUT: Final = Verdict(
    "Unknown", "RolloutInProgress", "A gradual rollout of the latest revision(s) is in progress."
)


def ingress_verdict(virtual_service: Mapping[str, Any] | None, *, reported: bool) -> Verdict:
    """Whether the mesh serves the Route's rules; a mesh that reports nothing is trusted."""
    if virtual_service is None:
        return Verdict("Unknown", "IngressNotConfigured", "the VirtualService does not exist yet")
    if not reported:
        return OK
    for type_ in (mesh.ACCEPTED, mesh.PROGRAMMED):
        condition = conditions.get(virtual_service, type_)
        if condition is not None and condition.get("status") == "False":
            return Verdict("False", "IngressNotConfigured", str(condition.get("message") or ""))
    programmed = conditions.get(virtual_service, mesh.PROGRAMMED)
    current = programmed is not None and programmed.get("observedGeneration") == objects.generation(
        virtual_service
    )
    if programmed is None or programmed.get("status") != "True" or not current:
        return Verdict("Unknown", "IngressNotConfigured", "the mesh has not taken up the rules yet")
    return OK


def service_status(
    service: Mapping[str, Any],
    configuration: Mapping[str, Any] | None,
    route: Mapping[str, Any] | None,
    *,
    problem: Verdict | None = None,
    now: float,
) -> Object:
    """The status of a Service: what its Configuration and its Route say, unless they are another's."""
    verdicts = {
        "ConfigurationsReady": problem or _of_child(configuration),
        "RoutesReady": problem or _of_route(configuration, route),
    }
    desired: Object = {
        "observedGeneration": objects.generation(service),
        "conditions": with_ready(service, verdicts, of_ready=("ConfigurationsReady", "RoutesReady"), now=now),
    }
    for child, fields in (
        ()
        if problem
        else (
            (configuration, ("latestCreatedRevisionName", "latestReadyRevisionName")),
            (route, ("url", "address", "traffic")),
        )
    ):
        status = objects.status(child or {})
        desired.update({field: status[field] for field in fields if field in status})
    return desired


def _of_route(configuration: Mapping[str, Any] | None, route: Mapping[str, Any] | None) -> Verdict:
    """What the Route says; Unknown if it is ready, but sends the newest revision's share to an older one."""
    verdict = _of_child(route)
    latest = objects.status(configuration or {}).get("latestReadyRevisionName")
    if verdict.reason == ROLLING_OUT.reason:
        return verdict
    for target in objects.status(route or {}).get("traffic") or ():
        if latest and target.get("latestRevision") and target.get("revisionName") != latest:
            message = "Traffic is not yet migrated to the latest revision."
            return Verdict("Unknown", "TrafficNotMigrated", message)
    return verdict


def _of_child(child: Mapping[str, Any] | None) -> Verdict:
    if child is None or objects.status(child).get("observedGeneration") != objects.generation(child):
        return Verdict("Unknown", "OutOfDate", "the child has not been reconciled yet")
    ready = conditions.get(child, READY)
    if ready is None:
        return Verdict("Unknown")
    return Verdict(ready["status"], str(ready.get("reason") or ""), str(ready.get("message") or ""))
