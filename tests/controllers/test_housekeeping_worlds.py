"""Garbage collection, namespaces, service accounts and aggregation against the API server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ondol import controllers
from ondol.api import objects, resources
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.controllers import garbage, namespace
from ondol.controllers.catalogue import Catalogue

Play = Callable[..., None]
BED = Resource("garden.test", "v1", "beds", "Bed")
CRD: Object = {
    "metadata": {"name": "beds.garden.test"},
    "spec": {
        "group": "garden.test",
        "scope": "Namespaced",
        "names": {"plural": "beds", "singular": "bed", "kind": "Bed", "listKind": "BedList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}


def collector(manager: Any) -> None:
    garbage.add_to(manager, Catalogue(manager))


def owned_by(*owners: Object, kind: str = "ConfigMap", version: str = "v1", block: bool = True) -> Object:
    references = [
        {
            "apiVersion": owner.get("apiVersion", version),
            "kind": owner.get("kind", kind),
            "name": objects.name(owner),
            "uid": objects.uid(owner),
            "blockOwnerDeletion": block,
        }
        for owner in owners
    ]
    return {"ownerReferences": references}


async def config_map(stage: Any, name: str, **metadata: Any) -> Object:
    created: Object = await stage.create(resources.CONFIG_MAP, name, metadata=metadata)
    return created


async def remaining(stage: Any) -> list[str]:
    items = (await stage.client.list(resources.CONFIG_MAP, "default")).items
    return sorted(objects.name(each) for each in items)


def test_dependents_follow_their_owner_in_the_background(play: Play) -> None:
    """The whole chain goes; what has a second living owner stays and forgets the first."""

    async def scene(stage: Any) -> None:
        await stage.run(collector, kubelet=False)
        one, two = await config_map(stage, "one"), await config_map(stage, "two")
        child = await config_map(stage, "child", **owned_by(one))
        await config_map(stage, "grandchild", **owned_by(child))
        await config_map(stage, "shared", **owned_by(one, two))
        await stage.settle()
        await stage.client.delete(resources.CONFIG_MAP, "one", "default")
        await stage.settle()
        assert await remaining(stage) == ["shared", "two"]
        shared = await stage.client.get(resources.CONFIG_MAP, "shared", "default")
        assert [ref["name"] for ref in objects.owner_references(shared)] == ["two"]

    play(scene)


def test_what_was_orphaned_before_is_found_at_the_start(play: Play) -> None:
    """An owner that vanished while nobody looked, or was replaced by another of its name."""

    async def scene(stage: Any) -> None:
        one = await config_map(stage, "one")
        await config_map(stage, "child", **owned_by(one))
        await stage.client.delete(resources.CONFIG_MAP, "one", "default")
        await config_map(stage, "one")
        await stage.run(collector, kubelet=False)
        await stage.settle()
        assert await remaining(stage) == ["one"]

    play(scene)


def test_in_the_foreground_the_owner_goes_last(play: Play) -> None:
    """It waits for what blocks it, however deep; what does not block goes after it."""

    async def scene(stage: Any) -> None:
        await stage.run(collector, kubelet=False)
        one = await config_map(stage, "one")
        child = await config_map(stage, "child", **owned_by(one))
        await config_map(stage, "grandchild", finalizers=["test/hold"], **owned_by(child))
        await config_map(stage, "loose", **owned_by(one, block=False))
        await stage.client.delete(resources.CONFIG_MAP, "child", "default", propagation="Foreground")
        await stage.client.delete(resources.CONFIG_MAP, "one", "default", propagation="Foreground")
        await stage.settle()
        assert await remaining(stage) == ["child", "grandchild", "loose", "one"]
        await stage.client.patch(
            resources.CONFIG_MAP, "grandchild", "default", patch={"metadata": {"finalizers": None}}
        )
        await stage.settle()
        assert await remaining(stage) == []

    play(scene)


def test_orphans_lose_their_reference_and_stay(play: Play) -> None:
    """When the deleter asked for it."""

    async def scene(stage: Any) -> None:
        await stage.run(collector, kubelet=False)
        one = await config_map(stage, "one")
        await config_map(stage, "child", **owned_by(one))
        await stage.settle()
        await stage.client.delete(resources.CONFIG_MAP, "one", "default", propagation="Orphan")
        await stage.settle()
        assert await remaining(stage) == ["child"]
        child = await stage.client.get(resources.CONFIG_MAP, "child", "default")
        assert list(objects.owner_references(child)) == []

    play(scene)


def test_a_circle_does_not_block(play: Play) -> None:
    """Two that own each other go together."""

    async def scene(stage: Any) -> None:
        await stage.run(collector, kubelet=False)
        one = await config_map(stage, "one")
        two = await config_map(stage, "two", **owned_by(one))
        patch = {"metadata": owned_by(two)}
        await stage.client.patch(resources.CONFIG_MAP, "one", "default", patch=patch)
        await stage.settle()
        await stage.client.delete(resources.CONFIG_MAP, "one", "default", propagation="Foreground")
        await stage.settle()
        assert await remaining(stage) == []

    play(scene)


def test_custom_kinds_own_and_are_owned(play: Play) -> None:
    """Also when they are defined after the collector started."""

    async def scene(stage: Any) -> None:
        await stage.run(collector, kubelet=False)
        await stage.settle()
        await stage.client.create(resources.CUSTOM_RESOURCE_DEFINITION, CRD)
        await stage.settle()
        plot = await stage.create(BED, "plot")
        await config_map(stage, "soil", **owned_by(plot))
        soil = await config_map(stage, "seed")
        await stage.create(BED, "sprout", metadata=owned_by(soil))
        await stage.settle()
        assert await remaining(stage) == ["seed", "soil"]
        await stage.client.delete(BED, "plot", "default")
        await stage.client.delete(resources.CONFIG_MAP, "seed", "default")
        await stage.settle()
        assert await remaining(stage) == []
        await stage.assert_gone(BED, "sprout", "default")

    play(scene)


def test_a_kind_that_is_followed_has_one_watch(play: Play) -> None:
    """The collector hears of it through that, and goes on without it when the kind goes and comes again."""

    async def scene(stage: Any) -> None:
        def following(manager: Any) -> None:
            for resource in (resources.CONFIG_MAP, BED):
                manager.informer(resource)
            collector(manager)

        await stage.client.create(resources.CUSTOM_RESOURCE_DEFINITION, CRD)
        await stage.settle()
        opened = list[tuple[str, str]]()
        stream = stage.transport.stream

        def counting(call: Any) -> Any:
            opened.append((call.path, call.headers.get("accept", "")))
            return stream(call)

        stage.transport.stream = counting
        await stage.run(following, kubelet=False)
        plot = await stage.create(BED, "plot")
        await config_map(stage, "sprout", **owned_by(plot))
        await stage.settle()
        of_config_maps = [path for path, _ in opened if path == "/api/v1/configmaps"]
        assert len(of_config_maps) == 1
        assert len([path for path, _ in opened if path.endswith("/beds")]) == 1
        await stage.client.delete(resources.CUSTOM_RESOURCE_DEFINITION, "beds.garden.test")
        await stage.settle()
        assert await remaining(stage) == ["sprout"], "its owner's kind is not served: nobody can tell"
        await stage.client.create(resources.CUSTOM_RESOURCE_DEFINITION, CRD)
        await stage.advance(30)
        assert await remaining(stage) == []
        again = await stage.create(BED, "plot")
        await config_map(stage, "sprout", **owned_by(again))
        await stage.settle()
        assert await remaining(stage) == ["sprout"]
        await stage.client.delete(BED, "plot", "default")
        await stage.settle()
        assert await remaining(stage) == []

    play(scene)


def test_an_owner_of_an_unknown_kind_costs_nothing(play: Play) -> None:
    """Nobody can tell whether it is there, so nothing is deleted until its kind is known."""

    async def scene(stage: Any) -> None:
        await stage.run(collector, kubelet=False)
        ghost = {"apiVersion": "garden.test/v1", "kind": "Bed", "metadata": {"name": "x", "uid": "ghost"}}
        await config_map(stage, "child", **owned_by(ghost))
        await stage.settle()
        assert await remaining(stage) == ["child"]
        await stage.client.create(resources.CUSTOM_RESOURCE_DEFINITION, CRD)
        await stage.settle()
        assert await remaining(stage) == []

    play(scene)


def test_an_owner_in_another_namespace_is_none(play: Play) -> None:
    """The dependent goes, and an event says why."""

    async def scene(stage: Any) -> None:
        await stage.run(collector, kubelet=False)
        metadata = {"name": "far", "namespace": "kube-public"}
        far = await stage.client.create(resources.CONFIG_MAP, {"metadata": metadata})
        await config_map(stage, "child", **owned_by(far))
        await stage.settle()
        assert await remaining(stage) == []
        (message,) = await stage.events("OwnerRefInvalidNamespace")
        assert 'does not exist in namespace "default"' in message

    play(scene)


def test_a_namespace_goes_with_everything_in_it(play: Play) -> None:
    """Pods first, custom objects too, and it waits for finalizers."""

    def add(manager: Any) -> None:
        namespace.add_to(manager, Catalogue(manager))

    async def scene(stage: Any) -> None:
        await stage.client.create(resources.CUSTOM_RESOURCE_DEFINITION, CRD)
        await stage.run(add)
        await stage.client.create(resources.NAMESPACE, {"metadata": {"name": "shop"}})
        await stage.settle()
        own = {"namespace": "shop"}
        await stage.create(resources.SECRET, "s", metadata=own)
        await stage.create(BED, "held", metadata={**own, "finalizers": ["test/hold"]})
        pod_spec = {"containers": [{"name": "c", "image": "x"}], "nodeName": "n1"}
        await stage.create(resources.POD, "p", metadata={**own, "labels": {"stuck": "yes"}}, spec=pod_spec)
        await stage.settle()
        await stage.client.delete(resources.NAMESPACE, "shop")
        await stage.advance(5)
        assert await stage.get(resources.SECRET, "s", "shop") is not None
        await stage.client.delete(resources.POD, "p", "shop", grace_period_s=0)
        await stage.advance(5)
        await stage.assert_gone(resources.SECRET, "s", "shop")
        live = await stage.client.get(resources.NAMESPACE, "shop")
        assert live["status"]["phase"] == "Terminating"
        reasons = {c["type"]: c["message"] for c in live["status"]["conditions"]}
        assert reasons["NamespaceContentRemaining"] == (
            "Some resources are remaining: beds.garden.test. has 1 resource instances"
        )
        assert "test/hold in 1 resource instances" in reasons["NamespaceFinalizersRemaining"]
        await stage.client.patch(BED, "held", "shop", patch={"metadata": {"finalizers": None}})
        await stage.advance(5)
        await stage.assert_gone(resources.NAMESPACE, "shop")

    play(scene)


def test_a_namespace_waits_for_servers_that_do_not_say_what_they_serve(play: Play) -> None:
    """Its conditions say which; all else in it goes meanwhile."""

    def add(manager: Any) -> None:
        namespace.add_to(manager, Catalogue(manager))

    async def scene(stage: Any) -> None:
        await stage.run(add)
        spec = {
            "group": "far.test",
            "version": "v1",
            "groupPriorityMinimum": 10,
            "versionPriority": 10,
            "service": {"namespace": "default", "name": "none"},
        }
        far = await stage.create(resources.API_SERVICE, "v1.far.test", spec=spec)
        await stage.client.create(resources.NAMESPACE, {"metadata": {"name": "shop"}})
        await stage.create(resources.SECRET, "s", metadata={"namespace": "shop"})
        await stage.client.delete(resources.NAMESPACE, "shop")
        await stage.advance(10)
        await stage.assert_gone(resources.SECRET, "s", "shop")
        live = await stage.client.get(resources.NAMESPACE, "shop")
        failure = next(
            c for c in live["status"]["conditions"] if c["type"] == "NamespaceDeletionDiscoveryFailure"
        )
        assert (failure["status"], failure["reason"]) == ("True", "DiscoveryFailed")
        assert failure["message"] == (
            "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server "
            "APIs: far.test/v1: stale GroupVersion discovery: far.test/v1"
        )
        await stage.client.delete(resources.API_SERVICE, far["metadata"]["name"])
        await stage.advance(10)
        await stage.assert_gone(resources.NAMESPACE, "shop")

    play(scene)


def everything(manager: Any) -> None:
    controllers.add_to(manager, controllers.ControllersConfig(root_ca="-----BEGIN-----"))


def test_every_namespace_has_its_account_and_certificate(play: Play) -> None:
    """They come back when they are removed or changed."""

    async def scene(stage: Any) -> None:
        await stage.run(everything)
        await stage.client.create(resources.NAMESPACE, {"metadata": {"name": "shop"}})
        await stage.advance(1)
        await stage.client.get(resources.SERVICE_ACCOUNT, "default", "shop")
        live = await stage.client.get(resources.CONFIG_MAP, "kube-root-ca.crt", "shop")
        assert live["data"] == {"ca.crt": "-----BEGIN-----"}
        patch = {"data": {"ca.crt": "forged", "more": "x"}}
        await stage.client.patch(resources.CONFIG_MAP, "kube-root-ca.crt", "shop", patch=patch)
        await stage.client.delete(resources.SERVICE_ACCOUNT, "default", "shop")
        await stage.advance(1)
        await stage.client.get(resources.SERVICE_ACCOUNT, "default", "shop")
        live = await stage.client.get(resources.CONFIG_MAP, "kube-root-ca.crt", "shop")
        assert live["data"] == {"ca.crt": "-----BEGIN-----"}
        await stage.client.delete(resources.NAMESPACE, "shop")
        await stage.advance(10)
        await stage.assert_gone(resources.NAMESPACE, "shop")

    play(scene)


def test_aggregated_roles_show_their_rules(play: Play) -> None:
    """Those of the roles their labels select, as these come."""

    async def scene(stage: Any) -> None:
        await stage.run(everything)
        selector = {"matchLabels": {"to": "gardener"}}
        rule = {"apiGroups": ["garden.test"], "resources": ["beds"], "verbs": ["get"]}
        await stage.create(
            resources.CLUSTER_ROLE, "gardener", aggregationRule={"clusterRoleSelectors": [selector]}
        )
        await stage.create(
            resources.CLUSTER_ROLE, "beds", metadata={"labels": {"to": "gardener"}}, rules=[rule]
        )
        await stage.advance(1)
        live = await stage.client.get(resources.CLUSTER_ROLE, "gardener")
        assert live["rules"] == [rule]
        view = await stage.client.get(resources.CLUSTER_ROLE, "view")
        assert view["rules"]

    play(scene)


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
def test_deleting_a_deployment_leaves_nothing(play: Play, propagation: str) -> None:
    """Sets and pods go with it, and then nobody writes any more."""

    async def scene(stage: Any) -> None:
        await stage.node()
        await stage.run(everything)
        template = {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "x"}]},
        }
        spec = {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template}
        await stage.create(resources.DEPLOYMENT, "web", spec=spec)
        await stage.advance(2)
        assert len(await stage.pods()) == 3
        await stage.client.delete(resources.DEPLOYMENT, "web", "default", propagation=propagation)
        await stage.advance(5)
        for resource in (resources.DEPLOYMENT, resources.REPLICA_SET, resources.POD):
            assert (await stage.client.list(resource, "default")).items == []
        writes = stage.transport.writes
        await stage.advance(20)
        assert stage.transport.writes == writes

    play(scene)


def test_nothing_can_be_made_in_a_namespace_that_goes(play: Play) -> None:
    """The server says so, and the controllers take it quietly."""

    async def scene(stage: Any) -> None:
        await stage.client.create(resources.NAMESPACE, {"metadata": {"name": "shop"}})
        await stage.client.delete(resources.NAMESPACE, "shop")
        with pytest.raises(errors.Forbidden):
            await stage.create(resources.CONFIG_MAP, "x", metadata={"namespace": "shop"})
        manager = await stage.run(everything)
        await stage.advance(5)
        await stage.assert_gone(resources.NAMESPACE, "shop")
        assert sum(each.metrics.errors for each in manager.controllers) == 0

    play(scene)
