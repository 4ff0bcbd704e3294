"""What is refused of Serving's kinds when they are written, as a table; no server."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ondol.api.objects import Object
from ondol.serverless.serving import validation

POD = "spec.template.spec"
CONTAINER = f"{POD}.containers[0]"
NOTES = "spec.template.metadata.annotations"
RULES = validation.rules(lambda deployment: [f"{deployment['kind']} was looked at"])


def service(name: str = "hello", **changes: Any) -> Object:
    """A Service; `changes` go to its parts by name."""
    container = {"image": "hello:1", **changes.get("container", {})}
    template = {
        "metadata": changes.get("template", {}),
        "spec": {"containers": [container, *changes.get("sidecars", [])], **changes.get("pod", {})},
    }
    found: Object = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "uid": "1", **changes.get("metadata", {})},
        "spec": {"template": template},
    }
    if "traffic" in changes:
        found["spec"]["traffic"] = changes["traffic"]
    return found


def notes(**given: str) -> Object:
    return {"annotations": {f"autoscaling.knative.dev/{k.replace('_', '-')}": v for k, v in given.items()}}


def wrong(obj: Object, old: Object | None = None, *, plural: str = "services") -> list[str]:
    return [c.field for c in RULES[f"{plural}.serving.knative.dev"].problems(obj, old)]


@pytest.mark.parametrize(
    "obj",
    [
        service(),
        service(container={"ports": [{"name": "h2c", "containerPort": 9000}]}),
        service(template=notes(min_scale="1", window="30s", target="5", foo="only warned of")),
        service(template={"name": "hello-first"}),
        service(
            traffic=[{"latestRevision": True, "percent": 90}, {"revisionName": "hello-1", "percent": 10}]
        ),
        service(traffic=[{"percent": 100}, {"latestRevision": True, "tag": "preview"}]),
        service(
            container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
            pod={"volumes": [{"name": "data", "emptyDir": {}}]},
        ),
        service(sidecars=[{"name": "other", "image": "x", "env": [{"name": "PORT", "value": "1"}]}]),
        service(metadata={"labels": {"networking.knative.dev/visibility": "cluster-local"}}),
    ],
)
def test_what_knative_takes_is_taken(obj: Object) -> None:
    """A Service within the rules is not refused."""
    assert RULES["services.serving.knative.dev"].problems(obj, None) == []


@pytest.mark.parametrize(
    ("obj", "fields"),
    [
        (service("a.b"), ["metadata.name"]),
        (service("1abc"), ["metadata.name"]),
        (service("a" * 64), ["metadata.name"]),
        (
            service(metadata={"labels": {"networking.knative.dev/visibility": "hidden"}}),
            ["metadata.labels[networking.knative.dev/visibility]"],
        ),
        (
            service(metadata=notes(min_scale="1")),
            ["metadata.annotations[autoscaling.knative.dev/min-scale]"],
        ),
        (service(template=notes(min_scale="many")), [f"{NOTES}[autoscaling.knative.dev/min-scale]"]),
        (service(template=notes(window="6500ms")), [f"{NOTES}[autoscaling.knative.dev/window]"]),
        (service(template=notes(target="nan")), [f"{NOTES}[autoscaling.knative.dev/target]"]),
        (service(template=notes(initial_scale="0")), [f"{NOTES}[autoscaling.knative.dev/initial-scale]"]),
        (
            service(template={"annotations": {"serving.knative.dev/progress-deadline": "0s"}}),
            [f"{NOTES}[serving.knative.dev/progress-deadline]"],
        ),
        (service(template={"name": "other"}), ["spec.template.metadata.name"]),
        (
            service(container={"ports": [{"containerPort": 80}, {"containerPort": 81}]}),
            [f"{CONTAINER}.ports[1]"],
        ),
        (
            service(
                container={"ports": [{"containerPort": 80}]},
                sidecars=[{"name": "b", "image": "b", "ports": [{"containerPort": 81}]}],
            ),
            [f"{POD}.containers[1].ports[0]"],
        ),
        (
            service(container={"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}),
            [f"{CONTAINER}.lifecycle"],
        ),
        (
            service(container={"ports": [{"name": "grpc", "containerPort": 80}]}),
            [f"{CONTAINER}.ports[0].name"],
        ),
        (
            service(container={"ports": [{"containerPort": 80, "hostPort": 80}]}),
            [f"{CONTAINER}.ports[0].hostPort"],
        ),
        (service(container={"env": [{"name": "PORT", "value": "1"}]}), [f"{CONTAINER}.env[0].name"]),
        (service(container={"env": [{"name": "K_SERVICE", "value": "x"}]}), [f"{CONTAINER}.env[0].name"]),
        (service(container={"image": ""}), [f"{CONTAINER}.image"]),
        (
            service(container={"volumeMounts": [{"name": "none", "mountPath": "/x"}]}),
            [f"{CONTAINER}.volumeMounts[0].name"],
        ),
        (
            service(
                container={"volumeMounts": [{"name": "data", "mountPath": "/dev/"}]},
                pod={"volumes": [{"name": "data", "emptyDir": {}}]},
            ),
            [f"{CONTAINER}.volumeMounts[0].mountPath"],
        ),
        (service(container={"resources": {"limits": {"cpu": "lots"}}}), [POD]),
        (service(traffic=[{"latestRevision": True, "percent": 50}]), ["spec.traffic"]),
        (
            service(traffic=[{"latestRevision": True, "revisionName": "hello-1", "percent": 100}]),
            ["spec.traffic[0].latestRevision"],
        ),
        (service(traffic=[{"latestRevision": False, "percent": 100}]), ["spec.traffic[0].latestRevision"]),
        (
            service(traffic=[{"tag": "a", "percent": 50}, {"tag": "a", "percent": 50}]),
            ["spec.traffic[0].tag", "spec.traffic[1].tag"],
        ),
    ],
)
def test_what_could_not_work_is_refused_with_its_field(obj: Object, fields: list[str]) -> None:
    """A mistake is told to its author at once, by the place where it is."""
    assert wrong(obj) == fields


def test_a_named_template_needs_a_new_name_for_each_change() -> None:
    """A Revision never changes, so neither does the template that has its name; annotations count."""
    old = service(template={"name": "hello-a"})
    changed = service(template={"name": "hello-a", **notes(min_scale="1")})
    assert wrong(changed, old) == ["spec.template.metadata.name"]
    assert wrong(service(template={"name": "hello-b", **notes(min_scale="1")}), old) == []
    moved = service(template={"name": "hello-a"}, traffic=[{"revisionName": "hello-a", "percent": 100}])
    assert wrong(moved, old) == []


def test_a_revision_is_immutable() -> None:
    """Its labels may change, as routing does, its spec may not."""
    revision: Object = {"metadata": {"name": "hello-00001"}, "spec": {"timeoutSeconds": 300}}
    changed = copy.deepcopy(revision) | {"spec": {"timeoutSeconds": 10}}
    routed = revision | {"metadata": {"name": "hello-00001", "labels": {"a": "b"}}}
    assert wrong(changed, revision, plural="revisions") == ["spec"]
    assert wrong(routed, revision, plural="revisions") == []


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        ({"configurationName": "hello"}, []),
        ({"revisionName": "hello-1"}, []),
        ({}, ["spec.traffic[0]"]),
        ({"configurationName": "hello", "revisionName": "hello-1"}, ["spec.traffic[0]"]),
        ({"revisionName": "hello-1", "latestRevision": True}, ["spec.traffic[0].latestRevision"]),
    ],
)
def test_a_route_points_at_one_thing(target: Object, fields: list[str]) -> None:
    """A Route's target is a Revision or a Configuration."""
    route: Object = {"metadata": {"name": "hello"}, "spec": {"traffic": [{**target, "percent": 100}]}}
    assert wrong(route, plural="routes") == fields


def test_a_wrong_object_may_still_be_labelled_by_controllers() -> None:
    """Whoever touches neither spec nor labels nor annotations is not told of a mistake of before."""
    old = service(template=notes(min_scale="many"))
    finalized = copy.deepcopy(old)
    finalized["metadata"]["finalizers"] = ["example.com/wait"]
    assert wrong(finalized, old) == []


def test_what_has_no_effect_is_warned_of_once() -> None:
    """An annotation nobody reads, a gradual roll-out, a field the node does not honour."""
    rules = RULES["services.serving.knative.dev"]
    obj = service(
        metadata={"annotations": {"serving.knative.dev/rollout-duration": "30s"}}, template=notes(tarrget="5")
    )
    assert rules.warnings(obj, None) == [
        "metadata.annotations[serving.knative.dev/rollout-duration] has no effect: traffic moves at once",
        f"{NOTES}[autoscaling.knative.dev/tarrget]: this annotation is not known",
        "Deployment was looked at",
    ]
    assert rules.warnings(obj, obj) == []
    limited = service(
        container={"ports": [{"name": "h2c", "containerPort": 80}]}, pod={"containerConcurrency": 1}
    )
    assert any("counts connections" in message for message in rules.warnings(limited, None))
