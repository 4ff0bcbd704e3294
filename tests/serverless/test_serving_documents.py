"""The children Serving makes of its objects, as tables: parent in, child out."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ondol.api import objects
from ondol.api.objects import Object
from ondol.contracts import mesh
from ondol.mesh.model import coming
from ondol.serverless.serving import crds, defaults, documents, routing
from ondol.serverless.serving.names import Naming
from ondol.serverless.serving.routing import Target

CONTAINER: Object = {"image": "ondol.local/hello:latest"}


def parent(kind: str, spec: Any, **metadata: Any) -> Object:
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": kind,
        "metadata": {"name": "hello", "namespace": "shop", "uid": "u-1", "generation": 1, **metadata},
        "spec": spec,
    }


def service(**spec: Any) -> Object:
    return parent("Service", {"template": {"spec": {"containers": [CONTAINER]}}, **spec})


def revision(spec: Object | None = None, **metadata: Any) -> Object:
    labels = {
        "serving.knative.dev/service": "hello",
        "serving.knative.dev/configuration": "hello",
        "serving.knative.dev/routingState": "active",
    }
    filled = defaults.revision_spec(spec or {"containers": [CONTAINER]})
    return parent("Revision", filled, **{"name": "hello-00001", "labels": labels, **metadata})


def owner(child: Object) -> tuple[str, str, bool]:
    (reference,) = child["metadata"]["ownerReferences"]
    return reference["kind"], reference["uid"], reference["controller"]


def only_container(deployment: Object) -> Object:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_every_child_is_owned_and_in_its_parents_namespace() -> None:
    """Deleting a parent deletes its children; none leaves the namespace."""
    of_service, of_revision, of_route = service(), revision(), parent("Route", {})
    targets = [Target("hello-00001", 100)]
    traffic = routing.traffic(targets, routing.goal(targets))
    children = [
        (of_service, documents.configuration(of_service)),
        (of_service, documents.route(of_service)),
        (of_revision, documents.deployment(of_revision, progress_deadline_s=600)),
        (of_revision, documents.revision_service(of_revision)),
        (of_revision, documents.pod_autoscaler(of_revision)),
        (of_route, documents.placeholder_service(of_route, "hello")),
        (of_route, routing.virtual_service(of_route, traffic, Naming("localhost"))),
    ]
    for above, child in children:
        assert owner(child) == (above["kind"], "u-1", True), child["kind"]
        assert objects.namespace(child) == "shop"


def test_making_children_changes_no_parent() -> None:
    """Parents come from caches and are shared."""
    for above, make in (
        (service(), documents.configuration),
        (service(traffic=[{"latestRevision": True, "percent": 100}]), documents.route),
        (parent("Configuration", service()["spec"]), documents.revision),
        (revision(), lambda r: documents.deployment(r, progress_deadline_s=1)),
        (revision(), documents.pod_autoscaler),
    ):
        before = copy.deepcopy(above)
        child = make(above)
        child["spec"]["touched"] = child["metadata"]["labels"]["touched"] = "yes"
        assert above == before


def test_configuration_takes_template_labels_and_annotations() -> None:
    """All but kubectl's own bookkeeping, which speaks of the parent."""
    document = service()
    document["metadata"] |= {
        "labels": {"team": "a"},
        "annotations": {"note": "b", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
    }
    child = documents.configuration(document)
    assert child["spec"]["template"] == document["spec"]["template"]
    assert objects.labels(child) == {
        "team": "a",
        "serving.knative.dev/service": "hello",
        "serving.knative.dev/serviceUID": "u-1",
    }
    assert objects.annotations(child) == {"note": "b"}


@pytest.mark.parametrize(
    ("traffic", "expected"),
    [
        (None, [{"configurationName": "hello", "latestRevision": True, "percent": 100}]),
        (
            [{"latestRevision": True, "percent": 90}, {"revisionName": "hello-00001", "percent": 10}],
            [
                {"configurationName": "hello", "latestRevision": True, "percent": 90},
                {"revisionName": "hello-00001", "latestRevision": False, "percent": 10},
            ],
        ),
        (
            [{"percent": 100}, {"revisionName": "old", "tag": "before"}],
            [
                {"configurationName": "hello", "latestRevision": True, "percent": 100},
                {"revisionName": "old", "latestRevision": False, "tag": "before"},
            ],
        ),
        (
            [{"revisionName": "", "percent": 100}],
            [{"configurationName": "hello", "latestRevision": True, "percent": 100}],
        ),
    ],
)
def test_route_targets(traffic: list[Object] | None, expected: list[Object]) -> None:
    """A target without a revision follows the Service's Configuration."""
    targets = service(traffic=traffic) if traffic else service()
    assert documents.route(targets)["spec"]["traffic"] == expected


@pytest.mark.parametrize(
    ("explicit_name", "generation", "expected"),
    [
        ("", 1, "hello-00001"),
        ("", 12345, "hello-12345"),
        ("", 123456, "hello-123456"),
        ("hello-v2", 7, "hello-v2"),
    ],
)
def test_revision_names(explicit_name: str, generation: int, expected: str) -> None:
    """As the template asks, or the Configuration's name and generation in five digits."""
    template = {
        "metadata": {"name": explicit_name} if explicit_name else {},
        "spec": {"containers": [CONTAINER]},
    }
    name = parent("Configuration", {"template": template}, generation=generation)
    assert documents.revision_name(name) == expected
    assert objects.name(documents.revision(name)) == expected


def test_revision_takes_the_templates_labels_not_the_configurations() -> None:
    """A Configuration's own labels stay where they are, except those that say which Service it serves."""
    template = {
        "metadata": {"labels": {"tier": "web"}, "annotations": {"autoscaling.knative.dev/min-scale": "1"}},
        "spec": {"containers": [CONTAINER]},
    }
    labels = {"team": "a", "serving.knative.dev/service": "hello"}
    child = documents.revision(parent("Configuration", {"template": template}, labels=labels))
    assert objects.labels(child) == {
        "tier": "web",
        "serving.knative.dev/service": "hello",
        "serving.knative.dev/configuration": "hello",
        "serving.knative.dev/configurationUID": "u-1",
        "serving.knative.dev/configurationGeneration": "1",
        "serving.knative.dev/routingState": "pending",
    }
    assert objects.annotations(child) == {"autoscaling.knative.dev/min-scale": "1"}


def test_defaults_of_a_revision() -> None:
    """Names, limits and the probe that Serving assumes."""
    spec = defaults.revision_spec({"containers": [CONTAINER]})
    assert (spec["containerConcurrency"], spec["timeoutSeconds"], spec["enableServiceLinks"]) == (
        0,
        300,
        False,
    )
    assert spec["containers"] == [
        {
            **CONTAINER,
            "name": "user-container",
            "resources": {},
            "readinessProbe": {"tcpSocket": {"port": 0}, "successThreshold": 1},
        }
    ]
    assert defaults.revision_spec(spec) == spec


def test_defaults_of_several_containers() -> None:
    """Each gets a name; only the one with a port is probed."""
    spec = defaults.revision_spec(
        {"containers": [{"image": "a"}, {"image": "b", "ports": [{"containerPort": 9000}]}]}
    )
    assert [c["name"] for c in spec["containers"]] == ["user-container-0", "user-container-1"]
    assert ["readinessProbe" in c for c in spec["containers"]] == [False, True]


def test_a_probe_of_ones_own_is_kept() -> None:
    """Only a probe that says nothing of how to probe becomes a TCP probe."""
    probe = {"httpGet": {"path": "/ready"}, "periodSeconds": 3}
    spec = defaults.revision_spec({"containers": [{**CONTAINER, "readinessProbe": probe}]})
    assert spec["containers"][0]["readinessProbe"] == {
        "httpGet": {"path": "/ready", "port": 0},
        "periodSeconds": 3,
        "successThreshold": 1,
        "failureThreshold": 3,
        "timeoutSeconds": 1,
    }


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, (300, None)),
        ({"timeoutSeconds": 0}, (300, None)),
        ({"timeoutSeconds": 400}, (400, None)),
        ({"timeoutSeconds": 400, "responseStartTimeoutSeconds": 0}, (400, 0)),
    ],
)
def test_default_timeouts(spec: Object, expected: tuple[int, int | None]) -> None:
    """None and 0 mean the default; the beginning of an answer is limited only for who asks for it."""
    filled = defaults.revision_spec({"containers": [CONTAINER], **spec})
    assert (filled["timeoutSeconds"], filled.get("responseStartTimeoutSeconds")) == expected


def test_default_names_clash_with_nobodys() -> None:
    """A name that an author chose is not given again."""
    containers: list[Object] = [{"image": "a"}, {"image": "b", "name": "user-container-0"}, {"image": "c"}]
    filled = defaults.revision_spec({"containers": containers, "initContainers": [{"image": "d"}]})
    names = [c["name"] for c in filled["containers"]]
    assert names == ["user-container-1", "user-container-0", "user-container-2"]
    assert filled["initContainers"][0]["name"] == "init-container"


def test_volumes_that_cannot_be_written_are_mounted_read_only() -> None:
    """So says what is stored, whatever its author wrote."""
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("config", "scratch")]
    volumes = [{"name": "config", "configMap": {"name": "c"}}, {"name": "scratch", "emptyDir": {}}]
    container = {**CONTAINER, "volumeMounts": mounts}
    filled = defaults.revision_spec({"containers": [container], "volumes": volumes})
    assert [m.get("readOnly", False) for m in filled["containers"][0]["volumeMounts"]] == [True, False]


@pytest.mark.parametrize("probe", ["readinessProbe", "livenessProbe", "startupProbe"])
@pytest.mark.parametrize("kind", ["httpGet", "tcpSocket", "grpc"])
def test_a_probe_without_a_port_gets_the_containers(probe: str, kind: str) -> None:
    """Knative's authors name none: there is one port, the container's own."""
    container = {**CONTAINER, "ports": [{"containerPort": 3000}], probe: {kind: {}}}
    child = documents.deployment(revision({"containers": [container]}), progress_deadline_s=1)
    assert only_container(child)[probe][kind]["port"] == 3000


def test_a_probes_scheme_is_spelled_as_kubernetes_does() -> None:
    """Knative reads it in any case."""
    probe = {"httpGet": {"path": "/", "scheme": "http"}}
    child = documents.deployment(
        revision({"containers": [{**CONTAINER, "readinessProbe": probe}]}), progress_deadline_s=1
    )
    assert only_container(child)["readinessProbe"]["httpGet"]["scheme"] == "HTTP"


@pytest.mark.parametrize(
    ("policy", "expected"), [(None, "FallbackToLogsOnError"), ("File", "File")], ids=["unsaid", "said"]
)
def test_last_words_of_a_program_are_kept(policy: str | None, expected: str) -> None:
    """A program that fails and wrote no message is quoted from its output, unless told otherwise."""
    container = {**CONTAINER, **({"terminationMessagePolicy": policy} if policy else {})}
    child = documents.deployment(revision({"containers": [container]}), progress_deadline_s=1)
    assert only_container(child)["terminationMessagePolicy"] == expected


def test_a_revision_was_made_by_who_changed_its_configuration() -> None:
    """As Knative says it."""
    notes = {"serving.knative.dev/creator": "ann", "serving.knative.dev/lastModifier": "bob"}
    child = documents.revision(parent("Configuration", service()["spec"], annotations=notes))
    assert objects.annotations(child) == {"serving.knative.dev/creator": "bob"}


def test_the_services_of_a_routes_names_keep_what_they_said() -> None:
    """As Knative's do: what the route says no longer stays, but for visibility, which is each name's own."""
    labels = {"team": "b", "networking.knative.dev/visibility": "cluster-local"}
    notes = {"note": "b", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
    live = {"metadata": {"labels": {**labels, "tier": "c"}, "annotations": notes}}
    child = documents.placeholder_service(
        parent("Route", {}, labels={"team": "a"}, annotations={"more": "d"}), "hello", live
    )
    expected = {"team": "a", "tier": "c", "serving.knative.dev/route": "hello"}
    assert objects.labels(child) == expected
    assert objects.annotations(child) == {"note": "b", "more": "d"}


def test_the_services_of_a_routes_names_say_what_the_route_says() -> None:
    """Its labels and annotations but for visibility, which is each name's own."""
    labels = {"team": "a", "networking.knative.dev/visibility": "cluster-local"}
    child = documents.placeholder_service(
        parent("Route", {}, labels=labels, annotations={"note": "b"}), "hello"
    )
    assert objects.labels(child) == {"team": "a", "serving.knative.dev/route": "hello"}
    assert objects.annotations(child) == {"note": "b"}


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([], (8080, "http1")),
        ([{"containerPort": 3000}], (3000, "http1")),
        ([{"containerPort": 3000, "name": "http1"}], (3000, "http1")),
        ([{"containerPort": 3000, "name": "h2c"}], (3000, "h2c")),
        ([{"name": "h2c"}], (8080, "h2c")),
    ],
)
def test_user_port(ports: list[Object], expected: tuple[int, str]) -> None:
    """The port and protocol requests go to; 8080 and HTTP/1 unless said otherwise."""
    assert documents.user_port({"containers": [{**CONTAINER, "ports": ports}]}) == expected


def test_deployment_names_no_replicas() -> None:
    """Their number belongs to the autoscaler; an apply must not take it away."""
    child = documents.deployment(revision(), progress_deadline_s=600)
    assert "replicas" not in child["spec"]
    assert objects.name(child) == "hello-00001-deployment"
    assert child["spec"]["progressDeadlineSeconds"] == 600


def test_deployment_selects_its_own_pods() -> None:
    """The selector is by uid, so that a revision of the same name made anew takes no old pods."""
    child = documents.deployment(revision(), progress_deadline_s=600)
    selector = child["spec"]["selector"]["matchLabels"]
    labels = child["spec"]["template"]["metadata"]["labels"]
    assert selector == {"serving.knative.dev/revisionUID": "u-1"}
    assert selector.items() <= labels.items()
    assert labels["service.istio.io/canonical-name"] == "hello"
    assert labels["serving.knative.dev/revision"] == "hello-00001"


def test_an_author_may_name_the_application() -> None:
    """The label `app` is the revision's name only where the template has none."""
    plain = documents.deployment(revision({}), progress_deadline_s=600)
    assert plain["spec"]["template"]["metadata"]["labels"]["app"] == "hello-00001"
    named = revision({})
    named["metadata"]["labels"]["app"] = "shop"
    child = documents.deployment(named, progress_deadline_s=600)
    assert child["spec"]["template"]["metadata"]["labels"]["app"] == "shop"


def test_what_changes_in_a_revisions_life_does_not_reach_its_pods() -> None:
    """What routes write on it is on no pod: a change of traffic would roll all pods."""
    first = documents.deployment(revision(), progress_deadline_s=600)
    written = {
        "serving.knative.dev/routes": "hello",
        "serving.knative.dev/routingStateModified": "2026-01-01T00:00:00Z",
    }
    moved = revision(annotations=written)
    moved["metadata"]["labels"]["serving.knative.dev/routingState"] = "reserve"
    assert documents.deployment(moved, progress_deadline_s=600)["spec"] == first["spec"]


def test_container_of_a_deployment() -> None:
    """Its port is named and told by PORT, the open port of its probe filled in; Serving's fields are gone."""
    spec = {"containers": [{**CONTAINER, "env": [{"name": "A", "value": "b"}]}], "timeoutSeconds": 20}
    child = documents.deployment(revision(spec), progress_deadline_s=600)
    container = only_container(child)
    assert container["env"] == [
        {"name": "A", "value": "b"},
        {"name": "PORT", "value": "8080"},
        {"name": "K_REVISION", "value": "hello-00001"},
        {"name": "K_CONFIGURATION", "value": "hello"},
        {"name": "K_SERVICE", "value": "hello"},
    ]
    assert container["ports"] == [{"name": "user-port", "containerPort": 8080, "protocol": "TCP"}]
    assert container["readinessProbe"]["tcpSocket"] == {"port": 8080}
    pod = child["spec"]["template"]["spec"]
    assert {"containerConcurrency", "timeoutSeconds"}.isdisjoint(pod)
    assert pod["terminationGracePeriodSeconds"] == 22
    assert container["lifecycle"] == {"preStop": {"sleep": {"seconds": 2}}}


def test_http_probe_of_an_http2_server_becomes_tcp() -> None:
    """A server that speaks only HTTP/2 could not answer an HTTP/1 probe."""
    spec = {
        "containers": [
            {
                **CONTAINER,
                "ports": [{"name": "h2c", "containerPort": 50051}],
                "readinessProbe": {"httpGet": {"path": "/"}, "failureThreshold": 2},
            }
        ]
    }
    probe = only_container(documents.deployment(revision(spec), progress_deadline_s=1))["readinessProbe"]
    assert "httpGet" not in probe
    assert probe["tcpSocket"] == {"port": 50051}
    assert probe["failureThreshold"] == 2


@pytest.mark.parametrize(
    ("port_name", "expected"),
    [("http1", ("http", "http")), ("h2c", ("http2", "kubernetes.io/h2c"))],
)
def test_service_of_a_revision(port_name: str, expected: tuple[str, str]) -> None:
    """It has no selector, for the autoscaler chooses its endpoints, and says its protocol."""
    spec = {"containers": [{**CONTAINER, "ports": [{"containerPort": 8080, "name": port_name}]}]}
    child = documents.revision_service(revision(spec))
    assert "selector" not in child["spec"]
    (port,) = child["spec"]["ports"]
    assert (port["name"], port["appProtocol"], port["port"]) == (*expected, 80)


@pytest.mark.parametrize("is_counted", [False, True])
def test_service_of_a_revision_says_what_its_pods_will_be_like(*, is_counted: bool) -> None:
    """As the Deployment makes them: the mesh knows while there are none who will be let in."""
    spec = {"containers": [{**CONTAINER, "ports": [{"containerPort": 9000}]}], "timeoutSeconds": 20}
    of_revision = {**revision(spec, labels={"tier": "back"})}
    of_revision["metadata"]["annotations"] = {mesh.INJECT: "false", "other": "x"}
    pods = coming.read(documents.revision_service(of_revision, is_counted=is_counted))
    template = documents.deployment(of_revision, progress_deadline_s=60)["spec"]["template"]
    assert pods is not None
    assert pods.labels == objects.labels(template)
    assert pods.annotations.items() <= objects.annotations(template).items()
    assert (pods.port, pods.hold_s, pods.per_connection) == (9000, 20, int(is_counted))
    assert not pods.in_mesh(None)


def test_traces_call_all_revisions_by_the_services_name() -> None:
    """Pods who call and the Service that is called say the same."""
    of_revision = revision(labels={"serving.knative.dev/service": "hello"})
    template = documents.deployment(of_revision, progress_deadline_s=60)["spec"]["template"]
    named = [
        objects.labels(child)[mesh.CANONICAL_NAME]
        for child in (template, documents.revision_service(of_revision))
    ]
    assert named == ["hello", "hello"]


@pytest.mark.parametrize(
    ("state", "expected"),
    [("active", "Reachable"), ("reserve", "Unreachable"), ("pending", "Unknown"), ("", "Unknown")],
)
def test_reachability_follows_the_routing_state(state: str, expected: str) -> None:
    """Only a revision that a route has left is unreachable; a new one is not yet."""
    labels = {"serving.knative.dev/routingState": state} if state else {}
    child = documents.pod_autoscaler(revision(labels=labels))
    assert child["spec"]["reachability"] == expected
    assert child["spec"]["scaleTargetRef"]["name"] == "hello-00001-deployment"


def test_autoscaler_is_told_its_annotations_only() -> None:
    """What speaks of scaling is passed on, the rest is not its business."""
    annotations = {
        "autoscaling.knative.dev/window": "6s",
        "serving.knative.dev/progress-deadline": "30s",
        "serving.knative.dev/routes": "hello",
        "note": "b",
    }
    child = documents.pod_autoscaler(revision(annotations=annotations))
    assert set(objects.annotations(child)) == {
        "autoscaling.knative.dev/window",
        "serving.knative.dev/progress-deadline",
    }


def test_the_kinds_explain_themselves() -> None:
    """`kubectl explain` has a sentence for each kind and each field that is Serving's own."""
    for crd in crds.definitions():
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        spec = schema["properties"]["spec"]
        assert schema["description"], crd["metadata"]["name"]
        assert [name for name, field in spec["properties"].items() if not field.get("description")] == []
