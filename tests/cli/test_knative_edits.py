"""What kn's flags make of a Service, and of its traffic: pure."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ondol.api.objects import Object
from ondol.cli.knative import edits, traffic
from ondol.cli.knative.edits import UPDATED, USER_IMAGE, Flags
from ondol.cli.knative.traffic import Shares, Tags
from ondol.cli.output import UsageError

STAMP = "2026-01-01T00:00:00Z"
DIGEST = "hello@sha256:" + "0" * 64


def service(*flags: Flags, stamp: str = STAMP, running: Object | None = None) -> Any:
    """A new service with these flags, one after the other."""
    obj = edits.new("hello", "shop")
    for each in flags:
        obj = edits.edited(obj, each, stamp=stamp, rng=random.Random(1), running=running)
    return obj


def template(*flags: Flags) -> Any:
    return service(Flags(image="hello"), *flags)["spec"]["template"]


def container(*flags: Flags) -> Any:
    return template(*flags)["spec"]["containers"][0]


def notes(*flags: Flags) -> dict[str, str]:
    own = template(*flags)["metadata"]["annotations"]
    return {key.rpartition("/")[2]: value for key, value in own.items() if key not in (UPDATED, USER_IMAGE)}


def test_a_new_service_is_what_kn_sends() -> None:
    """The image, and the two annotations by which later changes know what was typed and when."""
    assert service(Flags(image="hello")) == {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "hello", "namespace": "shop"},
        "spec": {
            "template": {
                "metadata": {"annotations": {USER_IMAGE: "hello", UPDATED: STAMP}},
                "spec": {"containers": [{"image": "hello"}]},
            }
        },
    }


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (Flags(port="h2c:9000"), "ports", [{"containerPort": 9000, "name": "h2c"}]),
        (Flags(port="9000"), "ports", [{"containerPort": 9000}]),
        (Flags(cmd="sh -c 'a b'"), "command", ["sh", "-c", "a b"]),
        (Flags(arg=["x", "-y"]), "args", ["x", "-y"]),
        (Flags(env=["A=1=2", "B="]), "env", [{"name": "A", "value": "1=2"}, {"name": "B", "value": ""}]),
        (Flags(env_from=["cm:one"]), "envFrom", [{"configMapRef": {"name": "one"}}]),
        (
            Flags(env_value_from=["A=secret:two:key"]),
            "env",
            [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "two", "key": "key"}}}],
        ),
        (
            Flags(request=["cpu=100m,memory=64Mi"]),
            "resources",
            {"requests": {"cpu": "100m", "memory": "64Mi"}},
        ),
        (Flags(limit=["cpu=1"]), "resources", {"limits": {"cpu": "1"}}),
        (Flags(pull_policy="always"), "imagePullPolicy", "Always"),
        (Flags(user=1000), "securityContext", {"runAsUser": 1000}),
    ],
)
def test_the_container(flags: Flags, field: str, value: Any) -> None:
    """Each flag is one field of it."""
    assert container(flags)[field] == value


def test_what_is_taken_away() -> None:
    """A name with a dash behind it."""
    changed = container(Flags(env=["A=1", "B=2"], request=["cpu=1"]), Flags(env=["A-"], request=["cpu-"]))
    assert (changed["env"], changed["resources"]) == ([{"name": "B", "value": "2"}], {"requests": {}})
    assert notes(Flags(annotation=["a=1", "b=2"]), Flags(annotation=["a-"])) == {"b": "2"}


@pytest.mark.parametrize(
    ("flags", "annotations"),
    [
        (Flags(scale="5"), {"min-scale": "5", "max-scale": "5"}),
        (Flags(scale="1..5"), {"min-scale": "1", "max-scale": "5"}),
        (Flags(scale="1.."), {"min-scale": "1"}),
        (Flags(scale="..5"), {"max-scale": "5"}),
        (Flags(scale_min=0, scale_max=3), {"min-scale": "0", "max-scale": "3"}),
        (Flags(scale_init=0, scale_activation=2), {"initial-scale": "0", "activation-scale": "2"}),
        (Flags(scale_metric="rps", scale_target=50), {"metric": "rps", "target": "50"}),
        (
            Flags(scale_utilization=80, scale_window="10s"),
            {"target-utilization-percentage": "80", "window": "10s"},
        ),
    ],
)
def test_scaling(flags: Flags, annotations: dict[str, str]) -> None:
    """They are annotations of the revision."""
    assert notes(flags) == annotations


def test_labels_and_annotations_go_where_they_belong() -> None:
    """To both, or one; a service has none about scaling."""
    asked = service(
        Flags(image="hello"),
        Flags(
            label=["team=a"],
            label_revision=["team=b"],
            label_service=["own=1"],
            annotation=["x=1", "autoscaling.knative.dev/window=10s"],
            annotation_service=["y=2"],
            cluster_local=True,
        ),
    )
    local = {"networking.knative.dev/visibility": "cluster-local"}
    assert asked["metadata"]["labels"] == {"team": "a", "own": "1", **local}
    assert asked["metadata"]["annotations"] == {"x": "1", "y": "2"}
    meta = asked["spec"]["template"]["metadata"]
    assert meta["labels"] == {"team": "b"}
    assert meta["annotations"]["autoscaling.knative.dev/window"] == "10s"
    open_again = edits.edited(asked, Flags(cluster_local=False), stamp="", rng=random.Random(1))
    assert open_again["metadata"]["labels"] == {"team": "a", "own": "1"}
    assert open_again["spec"] == asked["spec"]


def test_the_image_that_runs_is_kept() -> None:
    """By its digest, until another is asked for or the lock is taken away."""
    running = {
        "spec": {"containers": [{"name": "user-container", "image": "hello"}]},
        "status": {"containerStatuses": [{"name": "user-container", "imageDigest": DIGEST}]},
    }
    one = service(Flags(image="hello"))
    changed = edits.edited(one, Flags(env=["A=1"]), stamp=STAMP, rng=random.Random(1), running=running)
    assert changed["spec"]["template"]["spec"]["containers"][0]["image"] == DIGEST
    assert changed["spec"]["template"]["metadata"]["annotations"][USER_IMAGE] == "hello"
    free = edits.edited(
        one, Flags(env=["A=1"], lock_to_digest=False), stamp=STAMP, rng=random.Random(1), running=running
    )
    assert free["spec"]["template"]["spec"]["containers"][0]["image"] == "hello"
    assert USER_IMAGE not in free["spec"]["template"]["metadata"]["annotations"]
    again = edits.edited(changed, Flags(image="hello:2"), stamp=STAMP, rng=random.Random(1), running=running)
    assert again["spec"]["template"]["spec"]["containers"][0]["image"] == "hello:2"


def test_names_of_revisions() -> None:
    """By a template; a change without one leaves the naming to the server."""
    named = service(Flags(image="hello", revision_name="{{.Service}}-{{.Generation}}"))
    assert named["spec"]["template"]["metadata"]["name"] == "hello-1"
    after = edits.edited(named, Flags(env=["A=1"]), stamp=STAMP, rng=random.Random(1))
    assert "name" not in after["spec"]["template"]["metadata"]
    drawn = edits.revision_name("{{.Random 5}}", named, random.Random(1))
    assert drawn.startswith("hello-")
    assert len(drawn) == len("hello-") + 5


@pytest.mark.parametrize(
    "flags",
    [
        Flags(scale="x"),
        Flags(scale=".."),
        Flags(scale="1", scale_min=1),
        Flags(port="h2c"),
        Flags(env=["A"]),
        Flags(env_from=["one"]),
        Flags(env_value_from=["A=cm:one"]),
        Flags(pull_policy="often"),
        Flags(annotation_service=["autoscaling.knative.dev/window=10s"]),
        Flags(revision_name="{{.Kind}}"),
    ],
)
def test_what_cannot_be_meant(flags: Flags) -> None:
    """The flag is named."""
    with pytest.raises(UsageError):
        service(Flags(image="hello"), flags)


# --- traffic


def targets(
    *before: Object,
    tag: tuple[str, ...] = (),
    share: tuple[str, ...] = (),
    untag: tuple[str, ...] = (),
    **more: Any,
) -> list[tuple[str, int, str]]:
    obj = {
        "metadata": {"name": "hello"},
        "spec": {"traffic": list(before)},
        "status": {"traffic": list(before)},
    }
    listed = traffic.computed(obj, Tags(list(tag)), Shares(list(share), list(untag)), **more)
    return [(t.get("revisionName", "@latest"), t["percent"], t.get("tag", "")) for t in listed]


LATEST: Object = {"latestRevision": True, "percent": 100}
ONE: Object = {"revisionName": "one", "latestRevision": False, "percent": 100}


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [
        ([], {"tag": ("@latest=new",)}, [("@latest", 100, "new")]),
        ([LATEST], {"tag": ("one=old",)}, [("@latest", 100, ""), ("one", 0, "old")]),
        ([LATEST], {"share": ("one=100",)}, [("one", 100, "")]),
        ([LATEST], {"share": ("one=30", "@latest=70")}, [("@latest", 70, ""), ("one", 30, "")]),
        ([LATEST], {"share": ("one=30,@latest=70",)}, [("@latest", 70, ""), ("one", 30, "")]),
        ([LATEST], {"tag": ("one=old,@latest=new",)}, [("@latest", 100, "new"), ("one", 0, "old")]),
        ([LATEST], {"share": ("one=30%",)}, [("@latest", 70, ""), ("one", 30, "")]),
        ([ONE], {"share": ("one=90",), "makes_revision": True}, [("one", 90, ""), ("@latest", 10, "")]),
        (
            [{**ONE, "tag": "old"}],
            {"share": ("old=20", "@latest=80")},
            [("one", 20, "old"), ("@latest", 80, "")],
        ),
        ([{**LATEST, "tag": "now"}], {"untag": ("now",)}, [("@latest", 100, "")]),
        (
            [{**ONE, "percent": 0, "tag": "old"}, LATEST],
            {"untag": ("old",), "tag": ("@latest=old",)},
            [("@latest", 100, "old")],
        ),
        ([{**ONE, "tag": "old"}], {"tag": ("one=old",)}, [("one", 100, "old")]),
        ([{**ONE, "tag": "old"}], {"tag": ("one=other",)}, [("one", 100, "old"), ("one", 0, "other")]),
    ],
)
def test_traffic(before: list[Object], asked: dict[str, Any], after: list[tuple[str, int, str]]) -> None:
    """Tags and shares by revision, tag or `@latest`; what is missing goes to the only one that is left."""
    assert targets(*before, **asked) == after


@pytest.mark.parametrize(
    "asked",
    [
        {"share": ("one=50", "one=50")},
        {"share": ("one=101",)},
        {"share": ("one=60", "two=60")},
        {"share": ("one=x",)},
        {"share": ("two=10",)},
        {"untag": ("none",)},
        {"tag": ("two=old",)},
        {"tag": ("@latest=new",)},
    ],
)
def test_traffic_that_cannot_be_meant(asked: dict[str, Any]) -> None:
    """Shares that make no whole, tags that are another's or not there."""
    half = [{**ONE, "percent": 50, "tag": "old"}, {**LATEST, "percent": 50, "tag": "now"}]
    with pytest.raises(UsageError):
        targets(*half, **asked)
