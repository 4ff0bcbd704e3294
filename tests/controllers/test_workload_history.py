"""The history of a workload's templates, and the pods made from one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from ondol import sdk
from ondol.api import objects
from ondol.api.objects import Object, Resource
from ondol.api.protobuf import scalars
from ondol.base import protowire
from ondol.base.clock import rfc3339
from ondol.controllers.workloads import history
from ondol.controllers.workloads.podcontrol import pod_from_template

Play = Callable[..., None]
NOW = 1_700_000_000.0
WORKLOAD = Resource("toy.dev", "v1", "batches", "Batch")
REVISION = Resource("toy.dev", "v1", "controllerrevisions", "ControllerRevision")
"""The kind as a custom one, for the server does not serve it yet."""


def definition(resource: Resource) -> Object:
    anything: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": resource.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": anything},
        "subresources": {"status": {}},
    }
    names = {"plural": resource.plural, "singular": resource.kind.lower(), "kind": resource.kind}
    spec = {"group": resource.group, "scope": "Namespaced", "names": names, "versions": [version]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": resource.group_resource},
        "spec": spec,
    }


def test_a_pod_has_what_its_template_has() -> None:
    """Named by its controller, or by the server."""
    owner = workload()
    template = {"metadata": {"labels": {"a": "b"}, "name": "ignored"}, "spec": {"hostname": "h"}}
    named = pod_from_template(owner, template, name="web-0")
    assert named["metadata"]["name"] == "web-0"
    assert "generateName" not in named["metadata"]
    assert named["metadata"]["labels"] == {"a": "b"}
    assert objects.is_controlled_by(named, owner)
    assert pod_from_template(owner, template)["metadata"]["generateName"] == "web-"


def test_a_pod_shares_nothing_with_its_template() -> None:
    """What a controller adds to a pod stays out of the informers' documents."""
    template = {
        "metadata": {"labels": {"app": "web"}, "annotations": {"a": "1"}, "finalizers": ["test.dev/a"]},
        "spec": {"containers": [{"name": "c", "env": []}]},
    }
    metadata = {"name": "web", "namespace": "d", "uid": "u"}
    owner = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata,
        "spec": {"template": template},
    }
    before = copy.deepcopy(owner)
    pod = pod_from_template(
        owner,
        template,
        labels={"ordinal": "0"},
        annotations={"a": "2"},
        finalizers=("test.dev/a", "test.dev/b"),
    )
    assert pod["metadata"]["labels"] == {"app": "web", "ordinal": "0"}
    assert pod["metadata"]["annotations"] == {"a": "2"}
    assert pod["metadata"]["finalizers"] == ["test.dev/a", "test.dev/b"]
    for field in ("labels", "annotations"):
        pod["metadata"][field]["own"] = "x"
    pod["metadata"]["finalizers"].append("own")
    pod["spec"]["hostname"] = "web-0"
    pod["spec"]["containers"][0]["env"].append({"name": "A"})
    assert owner == before
    bare = pod_from_template(owner, {"spec": {}})
    assert bare["metadata"].keys() == {"generateName", "namespace", "ownerReferences"}


def workload(image: str = "shop:1", collisions: int | None = None) -> Object:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template},
        "status": {} if collisions is None else {"collisionCount": collisions},
    }


def revision(name: str, number: int, image: str = "shop:1", age: float = 0) -> Object:
    stamp = rfc3339(NOW - age)
    return {
        "metadata": {"name": name, "creationTimestamp": stamp},
        "data": history.template_data(workload(image)),
        "revision": number,
    }


def test_data_is_hashed_as_go_would_write_it() -> None:
    """FNV-1 of 32 bits over sorted JSON with `<`, `>` and `&` escaped, in the alphabet of names."""
    assert history.canonical({"b": 1, "a": "<&>"}) == b'{"a":"\\u003c\\u0026\\u003e","b":1}'
    # FNV-1 of nothing is its offset basis, 2166136261; of "{}" it is what follows from the definition.
    value = 2166136261
    for byte in b"{}7":
        value = (value * 16777619) % 2**32 ^ byte
    alphabet = "bcdfghjklmnpqrstvwxz2456789"
    assert history.data_hash({}, 7) == "".join(alphabet[ord(digit) % 27] for digit in str(value))
    assert history.data_hash({}, None) != history.data_hash({}, 0)


def test_data_is_written_as_go_would_write_it() -> None:
    """`kubectl rollout undo` and others compare the bytes of a revision with those of their own patch."""
    data = history.template_data(workload("<b&c>"))
    assert msgspec.json.encode(data) == msgspec.json.encode(data, order="sorted")
    (_, raw) = next(iter(protowire.fields(scalars.WRITERS["json"](data))))
    assert raw == history.canonical(data)


def test_a_revision_stands_for_its_template() -> None:
    """Named by the hash, labelled with it, owned by the workload."""
    owner = workload()
    document = history.document(owner, history.template_data(owner), 3, labels={"app": "web"})
    hashed = document["metadata"]["labels"][history.HASH_LABEL]
    assert document["metadata"]["name"] == f"web-{hashed}"
    assert document["metadata"]["labels"]["app"] == "web"
    assert document["data"]["spec"]["template"]["$patch"] == "replace"
    assert (document["revision"], objects.is_controlled_by(document, owner)) == (3, True)
    assert len(history.revision_name("x" * 300, "hash")) == 228


def names(listed: Iterable[Mapping[str, Any]]) -> list[str]:
    return [objects.name(each) for each in listed]


def test_revisions_are_ordered_and_found_by_their_data() -> None:
    """By number, then age, then name; of several that are equal the newest is meant."""
    listed = [revision("c", 2, "b"), revision("b", 1, "a", age=5), revision("a", 1, "a", age=9)]
    assert names(history.ordered(listed)) == ["a", "b", "c"]
    assert history.next_number(listed) == 3
    assert history.next_number([]) == 1
    equal = history.equal_revision(listed, {"data": history.template_data(workload("a"))})
    assert equal is not None
    assert objects.name(equal) == "b"
    assert history.equal_revision(listed, {"data": {}}) is None


def test_the_oldest_unused_revisions_expire() -> None:
    """Those in use stay and do not count against the limit."""
    listed = [revision(name, number) for number, name in enumerate("abcde")]
    assert names(history.expired(listed, {"a", "e"}, 1)) == ["b", "c"]
    assert history.expired(listed, set(), 9) == []


def test_a_history_follows_its_workload(play: Play) -> None:
    """A new template, an old one again, a name that is taken, and the limit."""

    async def scene(stage: Any) -> None:
        kinds = [WORKLOAD, REVISION]
        await sdk.install_crds(stage.client, [definition(kind) for kind in kinds], clock=stage.clock)
        manager = stage.manager("history")
        records = history.History(manager, manager.informer(WORKLOAD), resource=REVISION)
        await stage.start(manager)

        async def settle(image: str) -> tuple[Object, int | None, list[Object]]:
            await stage.settle()
            owner["spec"] = workload(image)["spec"]
            revisions = await records.claim(owner)
            return *await records.settle(owner, revisions, labels={"app": "web"}), revisions

        owner = await stage.create(WORKLOAD, "web", spec=workload("a")["spec"])
        first, _, _ = await settle("a")
        second, _, _ = await settle("b")
        assert (first["revision"], second["revision"]) == (1, 2)
        assert objects.name(first) != objects.name(second)
        again, _, _ = await settle("a")
        assert (objects.name(again), again["revision"]) == (objects.name(first), 3)
        same, _, _ = await settle("a")
        assert objects.resource_version(same) == objects.resource_version(again)

        name = history.revision_name("web", history.data_hash(history.template_data(workload("c"))))
        await stage.create(REVISION, name, data={}, revision=9)
        third, collisions, revisions = await settle("c")
        assert collisions == 1
        assert objects.name(third) != name
        assert names(revisions) == [objects.name(second), objects.name(first)]
        await stage.settle()
        await records.truncate(await records.claim(owner), {objects.name(third)}, 1)
        await stage.settle()
        assert sorted(names(await records.claim(owner))) == sorted([objects.name(first), objects.name(third)])

    play(scene)
