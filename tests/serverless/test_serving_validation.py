"""What is refused of Serving's kinds when they are written, as a table; no server."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ondol.api.objects import Object
from ondol.serverless.config.live import LiveConfig
from ondol.serverless.config.values import ServingConfig
from ondol.serverless.serving import defaults, podspec, validation

POD = "spec.template.spec"
CONTAINER = f"{POD}.containers[0]"
NOTES = "spec.template.metadata.annotations"
ALLOWED = podspec.DEFAULT_FEATURES
RULES = validation.rules(lambda deployment: [f"{deployment['kind']} was looked at"])


def service(name: str = "hello", **changes: Any) -> Object:
    """A Service; `changes` go to its parts by name."""
    container = {"image": "hello:1", **changes.get("container", {})}
    template = {
        "metadata": changes.get("template", {}),
        "spec": {"containers": [container, *changes.get("sidecars", [])], **changes.get("pod", {})},
    }
    document: Object = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "uid": "1", **changes.get("metadata", {})},
        "spec": {"template": template},
    }
    if "traffic" in changes:
        document["spec"]["traffic"] = changes["traffic"]
    return document


def notes(**values: str) -> Object:
    return {"annotations": {f"autoscaling.knative.dev/{k.replace('_', '-')}": v for k, v in values.items()}}


def wrong(
    obj: Object, old: Object | None = None, *, plural: str = "services", features: frozenset[str] = ALLOWED
) -> list[str]:
    """The places of what is refused, once what is written was filled in."""
    rules = validation.rules(config=LiveConfig(ServingConfig(features=features)))[
        f"{plural}.serving.knative.dev"
    ]
    before = None if old is None else filled(old, plural)
    return [c.field for c in rules.judge(filled(obj, plural, before), before)[0]]


def filled(obj: Object, plural: str = "services", old: Object | None = None) -> Object:
    copied = copy.deepcopy(obj)
    RULES[f"{plural}.serving.knative.dev"].default(copied, old, "ann")
    return copied


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
        service(
            container={"ports": [{}]},
            sidecars=[{"name": "other", "image": "x", "env": [{"name": "PORT", "value": "1"}]}],
        ),
        service(container={"livenessProbe": {"httpGet": {}}, "startupProbe": {"tcpSocket": {"port": 8080}}}),
        service(container={"readinessProbe": {"httpGet": {"scheme": "http", "port": "http"}}}),
        service(container={"securityContext": {"privileged": False, "capabilities": {"drop": ["ALL"]}}}),
        service(container={"image": "registry.example.com:5000/a/b:1@sha256:" + "0" * 64}),
        service(pod={"hostNetwork": False, "nodeSelector": {}, "automountServiceAccountToken": False}),
        service(metadata={"annotations": {"serving.knative.dev/rollout-duration": "1m30s"}}),
        service(template=notes(activation_scale="3", min_scale="2", max_scale="3")),
        service(template=notes(scale_to_zero_pod_retention_period="1500ms")),
        service(metadata={"labels": {"networking.knative.dev/visibility": "cluster-local"}}),
    ],
)
def test_what_knative_takes_is_taken(obj: Object) -> None:
    """A Service within the rules is not refused."""
    assert wrong(obj) == []


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
                sidecars=[{"name": "b", "image": "b", "ports": [{"containerPort": 80}]}],
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
        (service(container={"image": "foo:bar:baz"}), [f"{CONTAINER}.image"]),
        (service(container={"name": "queue-proxy"}), [f"{CONTAINER}.name"]),
        (service(container={"ports": [{"containerPort": 8012}]}), [f"{CONTAINER}.ports[0].containerPort"]),
        (
            service(container={"securityContext": {"privileged": True}}),
            [f"{CONTAINER}.securityContext.privileged"],
        ),
        (
            service(container={"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}),
            [f"{CONTAINER}.securityContext.capabilities.add"],
        ),
        (
            service(container={"livenessProbe": {"tcpSocket": {"port": 1234}}}),
            [f"{CONTAINER}.livenessProbe.tcpSocket.port"],
        ),
        (
            service(container={"startupProbe": {}, "livenessProbe": {"periodSeconds": 3}}),
            [f"{CONTAINER}.livenessProbe", f"{CONTAINER}.startupProbe"],
        ),
        (
            service(container={"readinessProbe": {"failureThreshold": 5, "timeoutSeconds": 2}}),
            [f"{CONTAINER}.readinessProbe.failureThreshold", f"{CONTAINER}.readinessProbe.timeoutSeconds"],
        ),
        (service(container={"stdin": True, "tty": True}), [f"{CONTAINER}.stdin", f"{CONTAINER}.tty"]),
        (service(container={"restartPolicy": "Always"}), [f"{CONTAINER}.restartPolicy"]),
        (service(pod={"terminationGracePeriodSeconds": 5}), [f"{POD}.terminationGracePeriodSeconds"]),
        (service(pod={"hostNetwork": True}), [f"{POD}.hostNetwork"]),
        (service(pod={"automountServiceAccountToken": True}), [f"{POD}.automountServiceAccountToken"]),
        (service(sidecars=[{"name": "other", "image": "x"}]), [f"{POD}.containers"]),
        (
            service(
                container={"ports": [{"containerPort": 80}]},
                sidecars=[{"name": "b", "image": "b", "livenessProbe": {"exec": {"command": ["x"]}}}],
            ),
            [f"{POD}.containers[1].livenessProbe"],
        ),
        (
            service(
                container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
                pod={"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}]},
            ),
            [
                f"{POD}.volumes[0].persistentVolumeClaim",
                f"{POD}.volumes[0].persistentVolumeClaim.readOnly",
            ],
        ),
        (
            service(
                container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
                pod={"volumes": [{"name": "data"}]},
            ),
            [f"{POD}.volumes[0]"],
        ),
        (
            service(
                container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
                pod={"volumes": [{"name": "data", "hostPath": {"path": "/"}}]},
            ),
            [f"{POD}.volumes[0].hostPath"],
        ),
        (service(pod={"volumes": [{"name": "data", "emptyDir": {}}]}), [f"{POD}.volumes[0].name"]),
        (
            service(
                container={"volumeMounts": [{"name": "data", "mountPath": "a/b"}]},
                pod={"volumes": [{"name": "data", "emptyDir": {}}]},
            ),
            [f"{CONTAINER}.volumeMounts[0].mountPath"],
        ),
        (
            service(
                container={"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}
            ),
            [f"{CONTAINER}.env[0].valueFrom.fieldRef"],
        ),
        (
            service(metadata={"annotations": {"serving.knative.dev/rollout-duration": "soon"}}),
            ["metadata.annotations[serving.knative.dev/rollout-duration]"],
        ),
        (
            service(metadata={"annotations": {"serving.knative.dev/rollout-duration": "1500ms"}}),
            ["metadata.annotations[serving.knative.dev/rollout-duration]"],
        ),
        (
            service(template=notes(min_scale="5", max_scale="2")),
            [f"{NOTES}[autoscaling.knative.dev/max-scale]"],
        ),
        (service(template=notes(max_scale="2147483648")), [f"{NOTES}[autoscaling.knative.dev/max-scale]"]),
        (service(template=notes(min_scale="1_000")), [f"{NOTES}[autoscaling.knative.dev/min-scale]"]),
        (
            service(template=notes(activation_scale="2", min_scale="3")),
            [f"{NOTES}[autoscaling.knative.dev/activation-scale]"],
        ),
        (
            service(template=notes(activation_scale="4", max_scale="3")),
            [f"{NOTES}[autoscaling.knative.dev/activation-scale]"],
        ),
        (
            service(template=notes(target_burst_capacity="-0.5")),
            [f"{NOTES}[autoscaling.knative.dev/target-burst-capacity]"],
        ),
        (
            service(traffic=[{"configurationName": "a", "percent": 100}]),
            ["spec.traffic[0].configurationName"],
        ),
        (service(traffic=[{"url": "http://a", "percent": 100}]), ["spec.traffic[0].url"]),
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


@pytest.mark.parametrize(
    ("feature", "obj"),
    [
        ("kubernetes.podspec-nodeselector", service(pod={"nodeSelector": {"a": "b"}})),
        ("kubernetes.podspec-init-containers", service(pod={"initContainers": [{"image": "x"}]})),
        (
            "kubernetes.containerspec-addcapabilities",
            service(container={"securityContext": {"capabilities": {"add": ["NET_BIND_SERVICE"]}}}),
        ),
        ("kubernetes.podspec-securitycontext", service(pod={"securityContext": {"runAsUser": 1000}})),
        ("multi-container-probing", service(container={"livenessProbe": {"tcpSocket": {"port": 1234}}})),
        (
            "kubernetes.podspec-volumes-hostpath",
            service(
                container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
                pod={"volumes": [{"name": "data", "hostPath": {"path": "/srv"}}]},
            ),
        ),
    ],
)
def test_a_feature_opens_what_is_refused_without_it(feature: str, obj: Object) -> None:
    """Knative's flags are this platform's setting, off as they are there."""
    assert wrong(obj) != []
    assert wrong(obj, features=ALLOWED | {feature}) == []


def test_a_feature_that_is_on_by_default_can_be_off() -> None:
    """Empty directories and several containers are what Knative allows unless told not to."""
    scratch = service(
        container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        pod={"volumes": [{"name": "data", "emptyDir": {}}]},
    )
    assert wrong(scratch, features=frozenset()) == [f"{POD}.volumes[0].emptyDir"]


def test_who_writes_is_noted() -> None:
    """The creator once, who changes the spec each time; who only labels is nobody."""
    old = filled(service())
    assert old["metadata"]["annotations"] == {
        "serving.knative.dev/creator": "ann",
        "serving.knative.dev/lastModifier": "ann",
    }
    rules = RULES["services.serving.knative.dev"]
    changed = service(pod={"timeoutSeconds": 10})
    rules.default(changed, old, "bob")
    assert changed["metadata"]["annotations"] == {
        "serving.knative.dev/creator": "ann",
        "serving.knative.dev/lastModifier": "bob",
    }
    labelled = service(metadata={"labels": {"a": "b"}})
    rules.default(labelled, old, "bob")
    assert labelled["metadata"]["annotations"] == old["metadata"]["annotations"]
    of_service = {"metadata": {"name": "c", "ownerReferences": [{"kind": "Service", "name": "c"}]}}
    child = {**of_service, "spec": service()["spec"]}
    RULES["configurations.serving.knative.dev"].default(child, None, "control")
    assert "annotations" not in child["metadata"]


@pytest.mark.parametrize("name", ["creator", "lastModifier"])
def test_a_signature_cannot_be_forged(name: str) -> None:
    """Nobody can say that somebody else made or changed it."""
    key = f"serving.knative.dev/{name}"
    assert wrong(service(metadata={"annotations": {key: "eve"}}), service()) == [
        f"metadata.annotations[{key}]"
    ]


def test_a_template_left_alone_stays_as_it_was_stored() -> None:
    """What an older version stored without a default makes no new Revision when something else changes."""
    old = service(template={"name": "hello-a"})
    moved = service(template={"name": "hello-a"}, traffic=[{"revisionName": "hello-a", "percent": 100}])
    RULES["services.serving.knative.dev"].default(moved, old, "ann")
    assert moved["spec"]["template"] == old["spec"]["template"]
    assert moved["spec"]["traffic"] == [{"revisionName": "hello-a", "percent": 100, "latestRevision": False}]
    assert RULES["services.serving.knative.dev"].judge(moved, old)[0] == []


def test_filling_in_twice_changes_nothing() -> None:
    """What is read back and written again is the same object."""
    once = filled(service(sidecars=[{"image": "b", "ports": [{}]}]))
    assert filled(once, old=once) == once


@pytest.mark.parametrize(
    ("plural", "label", "kind"),
    [
        ("configurations", "service", "Service"),
        ("routes", "service", "Service"),
        ("revisions", "configuration", "Configuration"),
    ],
)
def test_a_label_that_names_an_owner_must_be_true(plural: str, label: str, kind: str) -> None:
    """Nobody slips an object under somebody else's Service."""
    key = f"serving.knative.dev/{label}"
    spec = service()["spec"]["template"]["spec"] if plural == "revisions" else service()["spec"]
    spec = {"traffic": [{"revisionName": "a", "percent": 100}]} if plural == "routes" else spec
    metadata: Object = {"name": "hello", "labels": {key: "other"}}
    obj: Object = {"apiVersion": "serving.knative.dev/v1", "kind": plural.capitalize()[:-1]}
    obj |= {"metadata": metadata, "spec": spec}
    assert wrong(obj, plural=plural) == [f"metadata.labels[{key}]"]
    metadata["ownerReferences"] = [{"kind": kind, "name": "other", "uid": "1", "controller": True}]
    assert wrong(obj, plural=plural) == []


def test_a_revision_made_by_hand_is_held_to_the_same_rules() -> None:
    """It is no way around a Service's."""
    spec = {"hostPID": True, "containers": [{"image": "x"}]}
    assert wrong({"metadata": {"name": "hello"}, "spec": spec}, plural="revisions") == ["spec.hostPID"]


@pytest.mark.parametrize("plural", ["configurations", "routes"])
def test_scaling_annotations_belong_on_the_template(plural: str) -> None:
    """On the object itself they would mean nothing."""
    spec = service()["spec"] if plural == "configurations" else {}
    spec = spec or {"traffic": [{"revisionName": "a", "percent": 100}]}
    obj: Object = {"apiVersion": "serving.knative.dev/v1", "kind": plural.capitalize()[:-1], "spec": spec}
    obj["metadata"] = {"name": "hello", **notes(min_scale="1")}
    assert wrong(obj, plural=plural) == ["metadata.annotations[autoscaling.knative.dev/min-scale]"]


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
    revision: Object = {
        "metadata": {"name": "hello-00001"},
        "spec": defaults.revision_spec({"containers": [{"image": "x"}]}),
    }
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
        ({"configurationName": "hello", "latestRevision": False}, ["spec.traffic[0].latestRevision"]),
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
    """An annotation nobody reads, a field the node does not honour."""
    rules = RULES["services.serving.knative.dev"]
    obj = service(template=notes(tarrget="5"))
    assert rules.judge(obj, None)[1] == [
        f"{NOTES}[autoscaling.knative.dev/tarrget]: this annotation is not known",
        "Deployment was looked at",
    ]
    assert rules.judge(obj, obj)[1] == []


def test_a_template_is_made_a_workload_once_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is most of the work of a write: what is wrong and what has no effect is read from the same one."""
    judged: list[Any] = []
    deployment = validation._deployment

    def counted(obj: Any) -> Object:
        judged.append(obj)
        return deployment(obj)

    monkeypatch.setattr(validation, "_deployment", counted)
    rules = RULES["services.serving.knative.dev"]
    first = filled(service())
    assert rules.judge(first, None) == ([], ["Deployment was looked at"])
    assert judged == [first]
    moved = copy.deepcopy(first)
    moved["metadata"]["labels"] = {"a": "b"}
    assert rules.judge(moved, first) == ([], [])
    assert judged == [first, moved]
    changed = copy.deepcopy(first)
    changed["spec"]["template"]["metadata"] = {"annotations": {"a": "b"}}
    assert rules.judge(changed, first) == ([], []), "what was told of it before"
    assert judged == [first, moved, changed, first]


def test_a_change_is_told_what_it_brings() -> None:
    """A field that has no effect is told of when it comes, not because others are there already."""

    def unsupported(deployment: Object) -> list[str]:
        annotations = deployment["spec"]["template"]["metadata"]["annotations"]
        return sorted(set("ab") & set(annotations))

    rules = validation.rules(unsupported)["services.serving.knative.dev"]
    first, second = (
        filled(service(template={"annotations": dict.fromkeys(keys, "x")})) for keys in ("a", "ab")
    )
    assert rules.judge(first, None) == ([], ["a"])
    assert rules.judge(second, first) == ([], ["b"])


@pytest.mark.parametrize(
    ("text", "added", "removed"),
    [
        ("", set(), set()),
        ("kubernetes.podspec-affinity", {"kubernetes.podspec-affinity"}, set()),
        (
            " kubernetes.podspec-affinity , -multi-container",
            {"kubernetes.podspec-affinity"},
            {"multi-container"},
        ),
    ],
)
def test_the_setting_adds_to_the_defaults(text: str, added: set[str], removed: set[str]) -> None:
    """A flag is turned on by its name and off by its name with a dash."""
    assert podspec.features(text) == (ALLOWED | added) - removed


def test_an_unknown_feature_is_named() -> None:
    """A misspelled flag must not be off in silence."""
    with pytest.raises(ValueError, match="podspec-afinity"):
        podspec.features("kubernetes.podspec-afinity")


def test_a_wrong_account_is_told_as_knative_tells_it() -> None:
    """Its conformance tests look for value, path and reason in this order."""
    rules = validation.rules()["services.serving.knative.dev"]
    (cause,) = rules.judge(filled(service(pod={"serviceAccountName": "foo@bar.baz"})), None)[0]
    begin = f"foo@bar.baz: {POD}.serviceAccountName\na lowercase RFC 1123 subdomain must consist of"
    assert begin in f"{cause.field}: {cause.message}"
