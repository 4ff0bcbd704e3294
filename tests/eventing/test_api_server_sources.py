"""ApiServerSources: which changes they tell of, what they say, and whose rights they have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from tests.eventing.eventing_world import NAMESPACE, Scene, condition, not_true, play
from tests.eventing.sources_world import Recorder, play_sources

from ondol.api import objects, resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.contracts import eventing

SINK = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "shown"}}
MAPS = {"apiVersion": "v1", "kind": "ConfigMap"}


async def _allow(scene: Scene, *kinds: str) -> None:
    """The account `default` of the namespace may look at these."""
    rules = [{"apiGroups": ["*"], "resources": list(kinds), "verbs": ["get", "list", "watch"]}]
    role = {"metadata": {"name": "looks"}, "rules": rules}
    await scene.client.create(resources.CLUSTER_ROLE, role)
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": NAMESPACE}
    binding = {
        "metadata": {"name": "looks"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "looks"},
        "subjects": [subject],
    }
    await scene.client.create(resources.CLUSTER_ROLE_BINDING, binding)


async def _map(scene: Scene, name: str, namespace: str = NAMESPACE, **metadata: Any) -> None:
    document = {"metadata": {"name": name, "namespace": namespace, **metadata}, "data": {"a": "1"}}
    await scene.client.create(resources.CONFIG_MAP, document)


async def _source(scene: Scene, **spec: Any) -> Object:
    await scene.service("shown")
    desired = {"sink": SINK, "resources": [MAPS], **spec}
    await scene.create(eventing.API_SERVER_SOURCE, "changes", desired)
    return await scene.settled(eventing.API_SERVER_SOURCE, "changes")


def _seen(recorder: Recorder) -> list[tuple[str, str]]:
    return [(event.type.rpartition(".")[2], event.attributes["name"]) for _, event, _ in recorder.events]


def test_each_change_is_an_event() -> None:
    """Not what is there when it begins; in the order of the changes, as references."""

    async def story(scene: Scene, recorder: Recorder) -> None:
        await _allow(scene, "configmaps")
        await _map(scene, "before")
        source = await _source(scene)
        assert not_true(source) == {}
        assert objects.spec(source)["mode"] == "Reference"
        assert objects.spec(source)["serviceAccountName"] == "default"
        status = objects.status(source)
        assert status["namespaces"] == [NAMESPACE]
        assert [each["type"] for each in status["ceAttributes"]] == [
            f"dev.knative.apiserver.ref.{change}" for change in ("add", "update", "delete")
        ]
        assert recorder.events == []
        await _map(scene, "one")
        await scene.client.patch(resources.CONFIG_MAP, "before", NAMESPACE, patch={"data": {"b": "2"}})
        await scene.client.delete(resources.CONFIG_MAP, "one", NAMESPACE)
        await scene.client.create(
            resources.CONFIG_MAP, {"metadata": {"name": "elsewhere", "namespace": "kube-system"}}
        )
        await scene.world.run_until_stable()
        assert _seen(recorder) == [("add", "one"), ("update", "before"), ("delete", "one")]
        _, event, target = recorder.events[0]
        assert event.type == "dev.knative.apiserver.ref.add"
        assert event.source == "https://kubernetes.default.svc"
        assert event.subject == "/apis/v1/namespaces/default/configmaps/one"
        assert event.extensions == {
            "kind": "ConfigMap",
            "apiversion": "v1",
            "name": "one",
            "namespace": NAMESPACE,
        }
        reference = {"kind": "ConfigMap", "namespace": NAMESPACE, "name": "one", "apiVersion": "v1"}
        assert json.loads(event.data or b"") == reference
        assert target.url == "http://shown.default.svc.cluster.local"

    play_sources(story)


def test_the_whole_resource() -> None:
    """Where it is asked for, with overrides; what is deleted as it was last."""

    async def story(scene: Scene, recorder: Recorder) -> None:
        await _allow(scene, "configmaps")
        await _source(scene, mode="Resource", ceOverrides={"extensions": {"tenant": "a"}})
        await _map(scene, "one")
        await scene.client.delete(resources.CONFIG_MAP, "one", NAMESPACE)
        await scene.world.run_until_stable()
        assert [event.type for _, event, _ in recorder.events] == [
            "dev.knative.apiserver.resource.add",
            "dev.knative.apiserver.resource.delete",
        ]
        for _, event, _ in recorder.events:
            document = json.loads(event.data or b"")
            assert (document["kind"], document["data"]) == ("ConfigMap", {"a": "1"})
            assert event.attributes["tenant"] == "a"

    play_sources(story)


def test_selectors_and_owners() -> None:
    """Of a kind those with the labels, and those of the owner that is asked for."""

    async def story(scene: Scene, recorder: Recorder) -> None:
        await _allow(scene, "configmaps", "secrets")
        kinds = [{**MAPS, "selector": {"matchLabels": {"a": "b"}}}]
        await _source(scene, resources=kinds, owner={"apiVersion": "apps/v1", "kind": "Deployment"})
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": "1", "controller": True}
        other = {**owner, "kind": "StatefulSet"}
        for name, labels, owners in (
            ("meant", {"a": "b"}, [owner]),
            ("unlabelled", {}, [owner]),
            ("orphan", {"a": "b"}, []),
            ("of-another", {"a": "b"}, [other]),
        ):
            await _map(scene, name, labels=labels, ownerReferences=owners)
        await scene.world.run_until_stable()
        assert _seen(recorder) == [("add", "meant")]

    play_sources(story)


def test_namespaces_by_their_labels() -> None:
    """They come and go with their labels; what is not about them goes on."""

    async def story(scene: Scene, recorder: Recorder) -> None:
        await _allow(scene, "configmaps")
        for name in ("team-a", "team-b", "other"):
            labels = {"team": "yes"} if name == "team-a" else {}
            await scene.client.create(resources.NAMESPACE, {"metadata": {"name": name, "labels": labels}})
        source = await _source(scene, namespaceSelector={"matchLabels": {"team": "yes"}})
        assert objects.status(source)["namespaces"] == ["team-a"]
        patch = {"metadata": {"labels": {"team": "yes"}}}
        await scene.client.patch(resources.NAMESPACE, "team-b", patch=patch)
        source = await scene.settled(eventing.API_SERVER_SOURCE, "changes")
        assert objects.status(source)["namespaces"] == ["team-a", "team-b"]
        for name in ("team-a", "team-b", "other"):
            await _map(scene, f"of-{name}", name)
        await scene.world.run_until_stable()
        assert sorted(_seen(recorder)) == [("add", "of-team-a"), ("add", "of-team-b")]
        await scene.client.patch(
            eventing.API_SERVER_SOURCE,
            "changes",
            NAMESPACE,
            patch={"spec": {"namespaceSelector": {"matchLabels": None}}},
        )
        await scene.settled(eventing.API_SERVER_SOURCE, "changes")
        await _map(scene, "everywhere", "other")
        await scene.world.run_until_stable()
        assert ("add", "everywhere") in _seen(recorder)

    play_sources(story)


@pytest.mark.parametrize("account", ["x\r\nimpersonate-group: system:masters", "other:default", "a b"])
def test_an_account_that_can_be_none_is_refused(account: str) -> None:
    """Its name becomes the name of a user, in a header."""

    async def story(scene: Scene, recorder: Recorder) -> None:
        spec = {"sink": SINK, "resources": [MAPS], "serviceAccountName": account}
        with pytest.raises(errors.Invalid, match=r"spec\.serviceAccountName"):
            await scene.create(eventing.API_SERVER_SOURCE, "changes", spec)

    play_sources(story)


def test_rights_are_those_of_its_account() -> None:
    """It says what is missing, and begins once it may look."""

    async def story(scene: Scene, recorder: Recorder) -> None:
        await scene.service("shown")
        await scene.create(eventing.API_SERVER_SOURCE, "changes", {"sink": SINK, "resources": [MAPS]})
        await scene.world.advance(10)
        source = await scene.get(eventing.API_SERVER_SOURCE, "changes")
        assert condition(source, "SufficientPermissions")[0] == "False"
        assert condition(source, "SufficientPermissions")[2] == (
            "User system:serviceaccount:default:default cannot get, list, watch resource "
            '"configmaps" in API group "" in Namespace "default"'
        )
        await _map(scene, "unseen")
        await _allow(scene, "configmaps")
        await scene.world.advance(40)
        assert not_true(await scene.settled(eventing.API_SERVER_SOURCE, "changes")) == {}
        await _map(scene, "seen")
        await scene.world.run_until_stable()
        assert _seen(recorder) == [("add", "seen")]
        annotations = {"features.knative.dev/apiserversource-skip-permissions-check": "true"}
        spec = {"sink": SINK, "resources": [{"apiVersion": "v1", "kind": "Secret"}]}
        await scene.create(eventing.API_SERVER_SOURCE, "unchecked", spec, annotations=annotations)
        await scene.world.advance(20)
        unchecked = await scene.get(eventing.API_SERVER_SOURCE, "unchecked")
        assert condition(unchecked, "SufficientPermissions")[0] == "True"
        assert condition(unchecked, "Deployed") == (
            "Unknown",
            "DeploymentUnavailable",
            "waiting to see secrets as system:serviceaccount:default:default",
        )

    play_sources(story)


def test_filters_are_for_its_events() -> None:
    """Where the flag allows them."""

    async def story(scene: Scene, recorder: Recorder) -> None:
        await scene.world.run_until_stable()
        flags = {"data": {"new-apiserversource-filters": "enabled"}}
        await scene.client.patch(resources.CONFIG_MAP, "config-features", eventing.NAMESPACE, patch=flags)
        await _allow(scene, "configmaps")
        await _source(scene, filters=[{"suffix": {"type": ".add"}}, {"not": {"exact": {"name": "no"}}}])
        for name in ("yes", "no"):
            await _map(scene, name)
            await scene.client.delete(resources.CONFIG_MAP, name, NAMESPACE)
        await scene.world.run_until_stable()
        assert _seen(recorder) == [("add", "yes")]

    play_sources(story)


def test_a_source_that_goes_tells_nothing_more() -> None:
    """Neither does one that is pointed nowhere."""

    async def story(scene: Scene, recorder: Recorder) -> None:
        await _allow(scene, "configmaps")
        await _source(scene)
        await scene.client.delete(eventing.API_SERVER_SOURCE, "changes", NAMESPACE)
        await scene.world.run_until_stable()
        await _map(scene, "one")
        await scene.world.run_until_stable()
        assert recorder.events == []

    play_sources(story)


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"mode": "Other"}, "spec.mode", "invalid value: Other"),
        ({"resources": []}, "spec.resources", "missing field(s)"),
        (
            {"resources": [{"apiVersion": "a/b/c", "kind": "A"}]},
            "spec.resources[0].apiVersion",
            "invalid value",
        ),
        ({"resources": [{"apiVersion": "v1", "kind": " "}]}, "spec.resources[0].kind", "missing field(s)"),
        ({"owner": {"apiVersion": "v1"}}, "spec.owner.kind", "missing field(s)"),
        ({"filters": [{"exact": {"type": "a"}}]}, "spec.filters", "NewAPIServerFilters feature is disabled"),
        ({"sink": {}}, "spec.sink.ref", "expected at least one"),
        (
            {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "?"}]}},
            "spec.namespaceSelector",
            "not a valid label selector operator",
        ),
    ],
)
def test_what_is_refused(spec: Mapping[str, Any], field: str, message: str) -> None:
    """Each mistake at its place, in Knative's words."""

    async def story(scene: Scene) -> None:
        desired = {"sink": SINK, "resources": [MAPS], **spec}
        with pytest.raises(errors.Invalid) as raised:
            await scene.create(eventing.API_SERVER_SOURCE, "changes", desired)
        assert any(c.field == field and message in c.message for c in raised.value.causes), (
            raised.value.causes
        )

    play(story, control=False, plane=False)
