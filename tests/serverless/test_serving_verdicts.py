"""The conditions of Serving objects, as tables: what is observed in, the status out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ondol.api.objects import Object
from ondol.serverless.serving import verdicts
from ondol.serverless.serving.names import Naming
from ondol.serverless.serving.routing import Target
from ondol.serverless.serving.verdicts import OK, Verdict

NOW = 1_700_000_000.0


def obj(name: str = "hello", *, generation: int = 1, observed: int | None = None, **status_: Any) -> Object:
    document = {"observedGeneration": generation if observed is None else observed, **status_}
    return {"metadata": {"name": name, "namespace": "shop", "generation": generation}, "status": document}


def condition(type_: str, value: str, reason: str = "", message: str = "") -> Object:
    document = {"reason": reason, "message": message}
    return {"type": type_, "status": value, **{k: v for k, v in document.items() if v}}


def outcomes(written: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c.get("reason", "")) for c in written["conditions"]}


def message(written: Mapping[str, Any], type_: str = "Ready") -> str:
    return next(str(c.get("message", "")) for c in written["conditions"] if c["type"] == type_)


def autoscaler(active: str = "True", *, initialized: bool = True, reason: str = "") -> Object:
    conditions = [
        condition("Active", active, reason),
        condition("ScaleTargetInitialized", "True" if initialized else "Unknown"),
    ]
    return obj(conditions=conditions, actualScale=2, desiredScale=3)


def pod(state: Object | None = None, *, ready: bool = False, last: Object | None = None) -> Object:
    container = {"name": "user-container", "state": state or {"running": {}}, "lastState": last or {}}
    return obj(
        "pod", containerStatuses=[container], conditions=[condition("Ready", "True" if ready else "False")]
    )


def waiting(reason: str, text: str = "") -> Object:
    return {"waiting": {"reason": reason, "message": text}}


def revision_status(
    *pods: Object,
    deployment: Object | None = None,
    scaler: Object | None = None,
    before: Object | None = None,
) -> Object:
    return verdicts.revision_status(before or obj(), deployment, scaler, pods, now=NOW)


def test_a_revision_that_answers() -> None:
    """Once its initial scale was reached it is ready, with the replicas the autoscaler tells."""
    status = revision_status(pod(ready=True), deployment=obj(), scaler=autoscaler())
    assert outcomes(status) == {
        "Active": ("True", ""),
        "ContainerHealthy": ("True", ""),
        "Ready": ("True", ""),
        "ResourcesAvailable": ("True", ""),
    }
    assert (status["actualReplicas"], status["desiredReplicas"]) == (2, 3)


def test_a_revision_at_zero_stays_ready() -> None:
    """Resting is no fault: Active is False and says so, Ready stays True."""
    status = outcomes(revision_status(deployment=obj(), scaler=autoscaler("False", reason="NoTraffic")))
    assert status["Active"] == ("False", "NoTraffic")
    assert status["Ready"] == ("True", "")


def test_a_new_revision_is_neither_ready_nor_failed() -> None:
    """Before anything is observed everything is Unknown."""
    assert outcomes(revision_status()) == {
        "Active": ("Unknown", "Deploying"),
        "ContainerHealthy": ("Unknown", "Deploying"),
        "Ready": ("Unknown", "Deploying"),
        "ResourcesAvailable": ("Unknown", "Deploying"),
    }


@pytest.mark.parametrize(
    ("state", "last", "reason", "expected"),
    [
        (
            waiting("ImagePullBackOff", "no such image"),
            None,
            "ContainerMissing",
            'Unable to fetch image "": no such image',
        ),
        (waiting("ErrImagePull"), None, "ContainerMissing", 'Unable to fetch image "": ErrImagePull'),
        (
            waiting("InvalidImageName", "bad name"),
            None,
            "ContainerMissing",
            'Unable to fetch image "": bad name',
        ),
        (
            waiting("CrashLoopBackOff", "back-off 10s"),
            {"terminated": {"exitCode": 3, "message": "no database"}},
            "ExitCode3",
            "Container failed with: no database",
        ),
        (
            waiting("CrashLoopBackOff", "back-off 10s"),
            {"terminated": {"exitCode": 1, "reason": "Error"}},
            "ExitCode1",
            "Container failed with: Error",
        ),
        (waiting("CreateContainerError", "no such user"), None, "CreateContainerError", "no such user"),
    ],
)
def test_a_revision_that_cannot_start_says_why(
    state: Object, last: Object | None, reason: str, expected: str
) -> None:
    """A missing image and a crash are told in the words of the container."""
    scaler = autoscaler("Unknown", initialized=False)
    status = revision_status(pod(state, last=last), deployment=obj(), scaler=scaler)
    assert outcomes(status)["Ready"] == ("False", reason)
    assert message(status) == expected


ENDED = {"terminated": {"exitCode": 7, "message": "no DATABASE_URL given\n"}}


@pytest.mark.parametrize(
    ("state", "last"),
    [
        (ENDED, None),
        ({"running": {}}, ENDED),
        (waiting("CrashLoopBackOff"), ENDED),
        (waiting("ContainerCreating"), ENDED),
    ],
)
@pytest.mark.parametrize("initialized", [False, True])
def test_a_crash_loop_stays_a_failure_through_its_restarts(
    state: Object, last: Object | None, initialized: bool
) -> None:
    """Between two failures nothing has got better, whatever state the container is in; its words are kept."""
    scaler = autoscaler("Unknown", initialized=initialized)
    written = revision_status(pod(state, last=last), deployment=obj(), scaler=scaler)
    assert outcomes(written)["Ready"] == ("False", "ExitCode7")
    assert message(written) == "Container failed with: no DATABASE_URL given"


def test_a_program_that_ends_well_has_failed_too() -> None:
    """A service is expected to run on; where it said nothing, that is said."""
    ended = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    written = revision_status(pod(last=ended), deployment=obj(), scaler=autoscaler(initialized=False))
    assert message(written) == "Container failed with: container exited with no error"


def test_the_cause_outlives_the_pods() -> None:
    """When the autoscaler has given up, the pods are gone and what they said is still told."""
    scaler = autoscaler("Unknown", initialized=False)
    failed = revision_status(pod(last=ENDED), deployment=obj(), scaler=scaler)
    before = obj(conditions=failed["conditions"])
    timed_out = autoscaler("False", initialized=False, reason="TimedOut")
    written = revision_status(deployment=obj(), scaler=timed_out, before=before)
    assert outcomes(written)["Ready"] == ("False", "ExitCode7")
    assert "no DATABASE_URL given" in message(written)


def test_a_pod_that_was_told_to_go_says_nothing_of_its_revision() -> None:
    """Going to zero ends every program by a signal."""
    going = pod({"terminated": {"exitCode": 143}})
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    written = revision_status(going, deployment=obj(), scaler=autoscaler("False", reason="NoTraffic"))
    assert outcomes(written)["Ready"] == ("True", "")


@pytest.mark.parametrize(
    ("late", "expected"), [(False, "Unknown"), (True, "False")], ids=["in time", "too late"]
)
def test_what_a_container_waits_for_is_named(late: bool, expected: str) -> None:
    """A ConfigMap that is missing may come yet; after the deadline its lack is the cause."""
    deployment = obj(conditions=[condition("Progressing", "False" if late else "True")])
    stuck = pod(waiting("CreateContainerConfigError", 'configmap "settings" not found'))
    written = revision_status(stuck, deployment=deployment, scaler=autoscaler("Unknown", initialized=False))
    available = next(c for c in written["conditions"] if c["type"] == "ResourcesAvailable")
    assert (available["status"], available["reason"]) == (expected, "CreateContainerConfigError")
    assert "settings" in available["message"]


def test_an_image_named_by_digest_fails_with_the_nodes_own_reason() -> None:
    """Knative cannot resolve a digest any further, so the node's word is the reason."""
    before = obj()
    before["spec"] = {"containers": [{"name": "user-container", "image": f"web@sha256:{'0' * 64}"}]}
    written = revision_status(
        pod(waiting("ImagePullBackOff", "no such blob")), deployment=obj(), before=before
    )
    assert outcomes(written)["Ready"] == ("False", "ImagePullBackOff")


def test_a_crash_beside_a_ready_pod_is_no_failure() -> None:
    """As long as one pod answers, the revision does."""
    crashing = pod(waiting("CrashLoopBackOff"), last={"terminated": {"exitCode": 1}})
    outcome = outcomes(revision_status(crashing, pod(ready=True), deployment=obj(), scaler=autoscaler()))
    assert outcome["Ready"] == ("True", "")


@pytest.mark.parametrize(
    ("type_", "value", "reason", "expected"),
    [
        ("Progressing", "False", "ProgressDeadlineExceeded", "ProgressDeadlineExceeded"),
        ("ReplicaFailure", "True", "FailedCreate", "FailedCreate"),
    ],
)
def test_a_deployment_that_fails(type_: str, value: str, reason: str, expected: str) -> None:
    """What its Deployment cannot do, a revision cannot."""
    deployment = obj(conditions=[condition(type_, value, reason, "quota")])
    status = revision_status(deployment=deployment, scaler=autoscaler("Unknown", initialized=False))
    assert outcomes(status)["ResourcesAvailable"] == ("False", expected)
    assert outcomes(status)["Ready"] == ("False", expected)


def test_a_pod_without_a_place_is_told() -> None:
    """What the scheduler says of the pod, the Revision says too."""
    lost = obj("pod", conditions=[condition("PodScheduled", "False", "Unschedulable", "0/1 nodes")])
    status = revision_status(lost, deployment=obj(), scaler=autoscaler("Unknown", initialized=False))
    assert outcomes(status)["Ready"] == ("False", "Unschedulable")
    assert message(status) == "0/1 nodes"


def test_a_start_that_was_given_up_stays_a_failure() -> None:
    """With its pods the Deployment lost all cause to complain; the Revision does not become unknown again."""
    timed_out = autoscaler("False", initialized=False, reason="TimedOut")
    status = revision_status(deployment=obj(conditions=[condition("Progressing", "True")]), scaler=timed_out)
    assert outcomes(status)["Ready"] == ("False", "ProgressDeadlineExceeded")


def test_digests_are_kept_while_no_pod_runs() -> None:
    """What ran last is still what the revision is."""
    running = pod(ready=True)
    running["status"]["containerStatuses"][0]["imageID"] = "sha256:abc"
    first = revision_status(running, deployment=obj(), scaler=autoscaler())
    statuses = [{"name": "user-container", "imageDigest": "sha256:abc"}]
    assert first["containerStatuses"] == statuses
    assert revision_status(before=obj(**first))["containerStatuses"] == statuses


def test_times_move_only_with_the_status() -> None:
    """The same observation later writes the same status, so that nothing is written."""
    first = revision_status(deployment=obj(), scaler=autoscaler())
    again = verdicts.revision_status(obj(**first), obj(), autoscaler(), [], now=NOW + 60)
    assert again == first


# --- Configuration


def test_configuration_follows_its_newest_revision() -> None:
    """A ready one becomes the latest ready; until then the one before stays it."""
    ready = obj("hello-00001", conditions=[condition("Ready", "True")])
    status = verdicts.configuration_status(obj(), ready, now=NOW)
    assert outcomes(status) == {"Ready": ("True", "")}
    assert status["latestReadyRevisionName"] == status["latestCreatedRevisionName"] == "hello-00001"
    new = obj("hello-00002", conditions=[condition("Ready", "Unknown")])
    later = verdicts.configuration_status(obj(**status), new, now=NOW)
    assert outcomes(later)["Ready"][0] == "Unknown"
    assert later["latestReadyRevisionName"] == "hello-00001"
    assert later["latestCreatedRevisionName"] == "hello-00002"


def test_configuration_tells_why_its_revision_failed() -> None:
    """In the sentence Knative uses, and the last good revision stays the latest ready."""
    failed = obj("hello-00002", conditions=[condition("Ready", "False", "ExitCode1", "crashed")])
    status = verdicts.configuration_status(obj(latestReadyRevisionName="hello-00001"), failed, now=NOW)
    assert outcomes(status)["Ready"] == ("False", "RevisionFailed")
    assert message(status) == 'Revision "hello-00002" failed with message: crashed.'
    assert status["latestReadyRevisionName"] == "hello-00001"


@pytest.mark.parametrize(
    ("third", "latest"), [("True", "hello-00003"), ("False", "hello-00002"), ("Unknown", "hello-00002")]
)
def test_a_good_revision_is_not_passed_over_for_a_broken_newer_one(third: str, latest: str) -> None:
    """Of those newer than the latest ready one, the newest that is ready follows it."""
    revisions = []
    for number, ready in ((1, "True"), (2, "True"), (3, third)):
        status = obj(f"hello-0000{number}", conditions=[condition("Ready", ready)])
        status["metadata"]["labels"] = {"serving.knative.dev/configurationGeneration": str(number)}
        revisions.append(status)
    before = obj(latestReadyRevisionName="hello-00001")
    status = verdicts.configuration_status(before, revisions[-1], revisions=revisions, now=NOW)
    assert status["latestReadyRevisionName"] == latest


def test_latest_ready_never_goes_back() -> None:
    """Not when the latest ready one fails later, and not when it is not seen."""
    revisions = []
    for number, ready in ((1, "True"), (2, "False")):
        status = obj(f"hello-0000{number}", conditions=[condition("Ready", ready)])
        status["metadata"]["labels"] = {"serving.knative.dev/configurationGeneration": str(number)}
        revisions.append(status)
    before = obj(latestReadyRevisionName="hello-00002")
    for seen in (revisions, revisions[:1]):
        status = verdicts.configuration_status(before, revisions[-1], revisions=seen, now=NOW)
        assert status["latestReadyRevisionName"] == "hello-00002"


def test_configuration_with_a_name_that_is_taken() -> None:
    """A changed template under an old name is a failure, not a silence."""
    status = verdicts.configuration_status(obj(), None, now=NOW, problem="taken")
    assert outcomes(status)["Ready"] == ("False", "RevisionNameTaken")


# --- Route


def route_status(
    *targets: Target, assigned: Verdict = OK, ingress: Verdict = OK, port: int = 8080, local: bool = False
) -> Object:
    route = obj()
    if local:
        route["metadata"]["labels"] = {"networking.knative.dev/visibility": "cluster-local"}
    naming = Naming("localhost", port)
    return verdicts.route_status(route, targets, assigned, ingress, naming=naming, now=NOW)


def test_route_says_where_it_is() -> None:
    """The public address with the ingress's port, the address inside, and each tag's own."""
    status = route_status(Target("one", 90, latest=True), Target("two", 10, tag="old"))
    assert status["url"] == "http://hello.shop.localhost:8080"
    assert status["address"] == {"url": "http://hello.shop.svc.cluster.local"}
    assert status["traffic"] == [
        {"revisionName": "one", "percent": 90, "latestRevision": True},
        {
            "revisionName": "two",
            "percent": 10,
            "latestRevision": False,
            "tag": "old",
            "url": "http://old-hello.shop.localhost:8080",
        },
    ]
    assert outcomes(status)["Ready"] == ("True", "")


@pytest.mark.parametrize(
    ("port", "local", "url"),
    [
        (80, False, "http://hello.shop.localhost"),
        (8080, True, "http://hello.shop.svc.cluster.local"),
    ],
)
def test_route_addresses(port: int, local: bool, url: str) -> None:
    """Port 80 needs no saying, and a local route has no public address."""
    assert route_status(Target("one", 100), port=port, local=local)["url"] == url


def test_route_that_cannot_be_resolved() -> None:
    """What is wrong with a target is wrong with the route."""
    problem = Verdict("False", "RevisionMissing", 'Revision "x" referenced in traffic not found.')
    status = route_status(assigned=problem, ingress=Verdict("Unknown"))
    assert outcomes(status)["AllTrafficAssigned"] == ("False", "RevisionMissing")
    assert outcomes(status)["Ready"] == ("False", "RevisionMissing")


@pytest.mark.parametrize(
    ("conditions", "reported", "expected"),
    [
        ([], False, "True"),
        ([], True, "Unknown"),
        ([{**condition("Programmed", "True"), "observedGeneration": 1}], True, "True"),
        ([{**condition("Programmed", "True"), "observedGeneration": 0}], True, "Unknown"),
        ([condition("Programmed", "False", "Refused", "no such host")], True, "False"),
        (
            [
                condition("Accepted", "False", "Invalid", "bad"),
                {**condition("Programmed", "True"), "observedGeneration": 1},
            ],
            True,
            "False",
        ),
    ],
)
def test_ingress_is_ready_when_the_mesh_says_so(
    conditions: list[Object], reported: bool, expected: str
) -> None:
    """Only a report on the present rules counts; a mesh that reports nothing is trusted."""
    assert verdicts.ingress_verdict(obj(conditions=conditions), reported=reported).status == expected


def test_ingress_without_rules_is_unknown() -> None:
    """Rules that are not written yet are neither good nor bad."""
    assert verdicts.ingress_verdict(None, reported=False).status == "Unknown"


# --- Service


def test_service_is_what_its_children_are() -> None:
    """Ready when both are, with their names and addresses."""
    configuration = obj(conditions=[condition("Ready", "True")], latestReadyRevisionName="hello-00001")
    route = obj(conditions=[condition("Ready", "True")], url="http://x", traffic=[], address={})
    status = verdicts.service_status(obj(), configuration, route, now=NOW)
    assert outcomes(status) == {
        "ConfigurationsReady": ("True", ""),
        "Ready": ("True", ""),
        "RoutesReady": ("True", ""),
    }
    assert (status["latestReadyRevisionName"], status["url"]) == ("hello-00001", "http://x")


def test_service_tells_its_childrens_trouble() -> None:
    """The child's reason and message are the Service's."""
    configuration = obj(conditions=[condition("Ready", "False", "RevisionFailed", "crashed")])
    route = obj(conditions=[condition("Ready", "Unknown", "RevisionMissing", "waiting")])
    status = verdicts.service_status(obj(), configuration, route, now=NOW)
    assert outcomes(status)["Ready"] == ("False", "RevisionFailed")
    assert outcomes(status)["RoutesReady"] == ("Unknown", "RevisionMissing")
    assert message(status) == "crashed"


def test_service_does_not_believe_an_old_report() -> None:
    """A child that has not seen the present spec says nothing about it."""
    stale = obj(generation=2, observed=1, conditions=[condition("Ready", "True")])
    status = outcomes(verdicts.service_status(obj(), stale, None, now=NOW))
    assert status["ConfigurationsReady"] == ("Unknown", "OutOfDate")
    assert status["Ready"][0] == "Unknown"
