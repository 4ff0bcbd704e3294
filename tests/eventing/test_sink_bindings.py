"""SinkBindings and ContainerSources: what the pods of a subject are told, and that it is undone."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.eventing.eventing_world import NAMESPACE, Scene, condition, not_true, play

from ondol.api import objects, resources
from ondol.api.objects import Key, Object, Resource
from ondol.apiserver import pki
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.contracts import eventing
from ondol.eventing import tokens
from ondol.eventing.configuration import trust
from ondol.eventing.sources import binding

SINK = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "shown"}}
SHOWN = "http://shown.default.svc.cluster.local"
APP = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"}
OVERRIDES = {"ceOverrides": {"extensions": {"tenant": "a"}}}
OVERRIDDEN = '{"extensions":{"tenant":"a"}}'


def _template(restart: str = "Always", **container: Any) -> Object:
    containers = [{"name": "main", "image": "app:1", **container}, {"name": "side", "image": "app:1"}]
    return {
        "metadata": {"labels": {"app": "a"}},
        "spec": {
            "restartPolicy": restart,
            "initContainers": [{"name": "first", "image": "app:1"}],
            "containers": containers,
        },
    }


def _deployment(**container: Any) -> Object:
    return {"selector": {"matchLabels": {"app": "a"}}, "template": _template(**container)}


def _environments(obj: Object) -> dict[str, dict[str, str]]:
    spec = objects.spec(obj)["template"]["spec"]
    return {
        container["name"]: {each["name"]: each.get("value", "") for each in container.get("env") or ()}
        for field in ("initContainers", "containers")
        for container in spec.get(field) or ()
    }


async def _environment(scene: Scene, resource: Resource, name: str) -> dict[str, dict[str, str]]:
    return _environments(await scene.get(resource, name))


def test_a_subject_is_told_the_sink_and_untold() -> None:
    """All its containers are, beside what they have; with the binding everything of it goes."""

    async def story(scene: Scene) -> None:
        await scene.service("shown")
        env = [{"name": "K_SINK", "value": "old"}, {"name": "A", "value": "b"}]
        await scene.create(resources.DEPLOYMENT, "app", _deployment(env=env))
        await scene.create(eventing.SINK_BINDING, "bound", {"sink": SINK, "subject": APP, **OVERRIDES})
        bound = await scene.settled(eventing.SINK_BINDING, "bound")
        assert not_true(bound) == {}
        assert objects.status(bound)["sinkUri"] == SHOWN
        variables = {"K_SINK": SHOWN, "K_CE_OVERRIDES": OVERRIDDEN}
        assert await _environment(scene, resources.DEPLOYMENT, "app") == {
            "first": variables,
            "main": {"A": "b", **variables},
            "side": variables,
        }
        await scene.settles()
        await scene.client.delete(eventing.SINK_BINDING, "bound", NAMESPACE)
        await scene.world.run_until_stable()
        await scene.world.assert_gone(eventing.SINK_BINDING, "bound", NAMESPACE)
        assert await _environment(scene, resources.DEPLOYMENT, "app") == {
            "first": {},
            "main": {"A": "b"},
            "side": {},
        }
        policies = await scene.client.list(resources.MUTATING_ADMISSION_POLICY)
        assert policies.items == []

    play(story)


@pytest.mark.parametrize("resource", binding.WORKLOADS, ids=lambda resource: str(resource.kind))
def test_a_subject_that_is_created_later_has_the_variables_at_once(resource: Resource) -> None:
    """So its first pods do; and the template of a Job cannot be changed afterwards."""

    async def story(scene: Scene) -> None:
        await scene.service("shown")
        subject: Object = {"apiVersion": resource.api_version, "kind": resource.kind}
        subject |= {"selector": {"matchLabels": {"bind": "yes"}}}
        await scene.create(eventing.SINK_BINDING, "bound", {"sink": SINK, "subject": subject, **OVERRIDES})
        bound = await scene.settled(eventing.SINK_BINDING, "bound")
        assert not_true(bound) == {}
        if resource == resources.JOB:
            spec: Object = {"template": _template("Never")}
        else:
            spec = _deployment()
        if resource == resources.STATEFUL_SET:
            spec["serviceName"] = "app"
        created = await scene.create(resource, "app", spec, labels={"bind": "yes"})
        variables = {"K_SINK": SHOWN, "K_CE_OVERRIDES": OVERRIDDEN}
        assert _environments(created) == {"first": variables, "main": variables, "side": variables}
        other = await scene.create(resource, "other", spec)
        assert _environments(other) == {"first": {}, "main": {}, "side": {}}
        await scene.world.run_until_stable()
        assert await _environment(scene, resource, "other") == {"first": {}, "main": {}, "side": {}}
        assert not_true(await scene.get(eventing.SINK_BINDING, "bound")) == {}

    play(story)


def test_what_a_binding_waits_for() -> None:
    """Its sink, its subject, and the kind of that; it binds them as they come, and follows the sink."""

    async def story(scene: Scene) -> None:
        await scene.create(eventing.SINK_BINDING, "bound", {"sink": SINK, "subject": APP})
        bound = await scene.settled(eventing.SINK_BINDING, "bound")
        assert condition(bound, "SinkProvided")[:2] == ("False", "NoAddressable")
        await scene.service("shown")
        bound = await scene.settled(eventing.SINK_BINDING, "bound")
        message = 'deployments.apps "app" not found'
        assert condition(bound, "Available") == ("False", "SubjectMissing", message)
        await scene.create(resources.DEPLOYMENT, "app", _deployment())
        assert not_true(await scene.settled(eventing.SINK_BINDING, "bound")) == {}
        await scene.client.patch(
            eventing.SINK_BINDING,
            "bound",
            NAMESPACE,
            patch={"spec": {"sink": {"ref": None, "uri": "http://x.example/y"}}},
        )
        await scene.settled(eventing.SINK_BINDING, "bound")
        environments = await _environment(scene, resources.DEPLOYMENT, "app")
        assert environments["side"] == {"K_SINK": "http://x.example/y", "K_CE_OVERRIDES": ""}
        # Whoever takes a variable away gets it back.
        await scene.client.patch(
            resources.DEPLOYMENT,
            "app",
            NAMESPACE,
            patch={"spec": {"template": {"spec": {"initContainers": [{"name": "first", "image": "app:2"}]}}}},
        )
        await scene.settled(eventing.SINK_BINDING, "bound")
        assert (await _environment(scene, resources.DEPLOYMENT, "app"))["first"][
            "K_SINK"
        ] == "http://x.example/y"
        subject = {"apiVersion": "example.com/v1", "kind": "Unknown", "name": "x"}
        await scene.create(eventing.SINK_BINDING, "other", {"sink": SINK, "subject": subject})
        other = await scene.settled(eventing.SINK_BINDING, "other")
        assert condition(other, "Available")[:2] == ("False", "SubjectUnavailable")
        await scene.client.delete(eventing.SINK_BINDING, "other", NAMESPACE)
        await scene.world.run_until_stable()
        await scene.world.assert_gone(eventing.SINK_BINDING, "other", NAMESPACE)

    play(story)


def test_a_job_that_was_created_before_its_binding() -> None:
    """Its template cannot be changed: the binding says what would mend it."""

    async def story(scene: Scene) -> None:
        await scene.service("shown")
        await scene.create(resources.JOB, "app", {"template": _template("Never")})
        subject = {"apiVersion": "batch/v1", "kind": "Job", "name": "app"}
        await scene.create(eventing.SINK_BINDING, "bound", {"sink": SINK, "subject": subject})
        bound = await scene.settled(eventing.SINK_BINDING, "bound")
        message = "the template of Job app cannot be changed: create the Job anew"
        assert condition(bound, "Available") == ("False", "SubjectImmutable", message)
        await scene.client.delete(resources.JOB, "app", NAMESPACE)
        await scene.create(resources.JOB, "app", {"template": _template("Never")})
        assert not_true(await scene.settled(eventing.SINK_BINDING, "bound")) == {}
        await scene.settles()

    play(story)


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"subject": {}}, "spec.subject.apiVersion", "missing field(s)"),
        ({"subject": {"apiVersion": "v1", "kind": "Pod"}}, "spec.subject.selector", "expected exactly one"),
        ({"subject": {**APP, "selector": {}}}, "spec.subject.name", "expected exactly one, got both"),
        ({"subject": {**APP, "namespace": "other"}}, "spec.subject.namespace", "invalid value: other"),
        (
            {
                "subject": {
                    "apiVersion": "v1",
                    "kind": "A",
                    "selector": {"matchExpressions": [{"operator": "?"}]},
                }
            },
            "spec.subject.selector",
            "is not a valid label selector operator",
        ),
        ({"subject": APP, "sink": {}}, "spec.sink.ref", "expected at least one"),
    ],
)
def test_bindings_that_are_refused(spec: Mapping[str, Any], field: str, message: str) -> None:
    """Each mistake at its place."""

    async def story(scene: Scene) -> None:
        with pytest.raises(errors.Invalid) as raised:
            await scene.create(eventing.SINK_BINDING, "bound", {"sink": SINK, **spec})
        assert any(c.field == field and message in c.message for c in raised.value.causes), (
            raised.value.causes
        )

    play(story, control=False, plane=False)


def test_a_container_source_runs_its_pods_with_the_sink() -> None:
    """They are started once there is one, and told it from their beginning."""

    async def story(scene: Scene) -> None:
        template = {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "x", "image": "x:1"}]},
        }
        await scene.create(
            eventing.CONTAINER_SOURCE, "events", {"sink": SINK, "template": template, **OVERRIDES}
        )
        source = await scene.settled(eventing.CONTAINER_SOURCE, "events")
        assert condition(source, "Ready")[0] == "False"
        assert condition(source, "SinkBindingReady")[:2] == ("False", "NoAddressable")
        await scene.world.assert_gone(resources.DEPLOYMENT, "events-deployment", NAMESPACE)
        await scene.service("shown")
        source = await scene.settled(eventing.CONTAINER_SOURCE, "events")
        deployment = await scene.get(resources.DEPLOYMENT, "events-deployment")
        assert objects.generation(deployment) == 1
        assert _environments(deployment) == {"x": {"K_SINK": SHOWN, "K_CE_OVERRIDES": OVERRIDDEN}}
        assert objects.labels(deployment) == {
            "a": "b",
            "sources.knative.dev/source": "container-source-controller",
            "sources.knative.dev/containerSource": "events",
        }
        assert condition(source, "SinkBindingReady")[0] == "True"
        assert condition(source, "ReceiveAdapterReady")[:2] == ("Unknown", "DeploymentUnavailable")
        available = [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}]
        await scene.client.patch(
            resources.DEPLOYMENT,
            "events-deployment",
            NAMESPACE,
            patch={"status": {"conditions": available}},
            subresource="status",
        )
        source = await scene.settled(eventing.CONTAINER_SOURCE, "events")
        assert not_true(source) == {}
        assert objects.status(source)["sinkUri"] == SHOWN
        await scene.settles()
        for child in (deployment, await scene.get(eventing.SINK_BINDING, "events-sinkbinding")):
            assert objects.is_controlled_by(child, source)

    play(story)


@pytest.mark.parametrize(
    ("template", "field"),
    [
        ({}, "spec.template.spec.containers"),
        ({"spec": {"containers": [{"image": "x"}]}}, "spec.template.spec.containers[0].name"),
        ({"spec": {"containers": [{"name": "x"}]}}, "spec.template.spec.containers[0].image"),
        (
            {"spec": {"containers": [{"name": "x", "image": "x", "ports": [{"containerPort": 0}]}]}},
            "spec.template.spec.containers[0].ports[0].containerPort",
        ),
        ({"spec": {"containers": "x"}}, "spec.template"),
    ],
)
def test_templates_that_are_refused(template: Object, field: str) -> None:
    """By the rules of the Deployment that it becomes."""

    async def story(scene: Scene) -> None:
        with pytest.raises(errors.Invalid) as raised:
            await scene.create(eventing.CONTAINER_SOURCE, "events", {"sink": SINK, "template": template})
        assert any(cause.field == field for cause in raised.value.causes), raised.value.causes

    play(story, control=False, plane=False)


def _mounts(obj: Object) -> dict[str, list[str]]:
    spec = objects.spec(obj)["template"]["spec"]
    return {
        container["name"]: [each["mountPath"] for each in container.get("volumeMounts") or ()]
        for field in ("initContainers", "containers")
        for container in spec.get(field) or ()
    }


def _volumes(obj: Object) -> list[str]:
    return [each["name"] for each in objects.spec(obj)["template"]["spec"].get("volumes") or ()]


async def _switch(scene: Scene, value: str) -> None:
    patch = {"data": {"authentication-oidc": value}}
    await scene.client.patch(resources.CONFIG_MAP, "config-features", eventing.NAMESPACE, patch=patch)


def _with_tokens(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are numbered, and count for an hour: what a server without a key cannot make."""
    numbers = count(1)

    async def issue(_client: object, account: Key, audience: str) -> tuple[str, float]:
        return f"{account.name} {audience} {next(numbers)}", scene.world.clock.now() + tokens.LIFETIME_S

    monkeypatch.setattr(tokens, "issue", issue)


_EVERY = {"first": ["/oidc"], "main": ["/oidc"], "side": ["/oidc"]}


async def _token(scene: Scene) -> str:
    secret = await scene.get(resources.SECRET, "bound-oidc-token")
    return base64.b64decode(secret["data"]["token"]).decode()


def test_pods_are_given_a_token_where_their_sink_asks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file that is renewed, also those that come later; it goes with the flag, and with the binding."""

    async def story(scene: Scene) -> None:
        _with_tokens(scene, monkeypatch)
        await scene.service("shown")
        await scene.world.advance(5)
        await _switch(scene, "enabled")
        await scene.create(resources.DEPLOYMENT, "app", _deployment())
        sink = {**SINK, "audience": "who"}
        await scene.create(eventing.SINK_BINDING, "bound", {"sink": sink, "subject": APP})
        await scene.world.run_until_stable(quiet_s=30, limit_s=600)
        bound = await scene.get(eventing.SINK_BINDING, "bound")
        account = "bound-oidc-sources.knative.dev-sinkbinding"
        assert not_true(bound) == {}
        assert objects.status(bound)["auth"] == {"serviceAccountName": account}
        assert objects.status(bound)["oidcTokenSecretName"] == "bound-oidc-token"
        assert await _token(scene) == f"{account} who 1"
        app = await scene.get(resources.DEPLOYMENT, "app")
        assert _mounts(app) == _EVERY
        assert _volumes(app) == ["oidc-token"]
        await scene.client.delete(resources.DEPLOYMENT, "app", NAMESPACE)
        later = await scene.create(resources.DEPLOYMENT, "app", _deployment())
        assert _mounts(later) == _EVERY
        assert _volumes(later) == ["oidc-token"]
        await scene.world.advance(tokens.LIFETIME_S / 2 + 10)
        assert await _token(scene) == f"{account} who 2"
        await _switch(scene, "disabled")
        await scene.settles()
        app = await scene.get(resources.DEPLOYMENT, "app")
        assert (_mounts(app), _volumes(app)) == ({"first": [], "main": [], "side": []}, [])
        await scene.world.assert_gone(resources.SECRET, "bound-oidc-token", NAMESPACE)
        assert "auth" not in objects.status(await scene.get(eventing.SINK_BINDING, "bound"))

    play(story)


def test_a_container_source_is_given_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pods have it from their beginning."""

    async def story(scene: Scene) -> None:
        _with_tokens(scene, monkeypatch)
        await scene.service("shown")
        await scene.world.advance(5)
        await _switch(scene, "enabled")
        template = {"spec": {"containers": [{"name": "main", "image": "app:1"}]}}
        sink = {**SINK, "audience": "who"}
        await scene.create(eventing.CONTAINER_SOURCE, "events", {"sink": sink, "template": template})
        await scene.world.run_until_stable(quiet_s=30, limit_s=600)
        deployment = await scene.get(resources.DEPLOYMENT, "events-deployment")
        assert _mounts(deployment) == {"main": ["/oidc"]}
        assert _volumes(deployment) == ["oidc-token"]
        assert objects.generation(deployment) == 1

    play(story)


def test_pods_are_given_the_bundles_of_trust(tmp_path: Path) -> None:
    """As they are now, also those that come later, in one file; it goes with the last bundle."""
    first, second = (
        pki.ensure(tmp_path / name, clock=SystemClock()).ca_file.read_text() for name in ("a", "b")
    )

    async def story(scene: Scene) -> None:
        await scene.service("shown")
        await scene.world.advance(5)
        metadata = {"name": "company", "namespace": eventing.NAMESPACE, "labels": {trust.LABEL: "true"}}
        bundle = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": first}}
        await scene.client.create(resources.CONFIG_MAP, bundle)
        await scene.create(resources.DEPLOYMENT, "app", _deployment())
        await scene.create(eventing.SINK_BINDING, "bound", {"sink": SINK, "subject": APP})
        template = {"spec": {"containers": [{"name": "main", "image": "app:1"}]}}
        await scene.create(eventing.CONTAINER_SOURCE, "events", {"sink": SINK, "template": template})
        bound = await scene.settled(eventing.SINK_BINDING, "bound")
        assert not_true(bound) == {}
        every = {name: ["/knative-custom-certs"] for name in ("first", "main", "side")}
        app = await scene.get(resources.DEPLOYMENT, "app")
        assert (_mounts(app), _volumes(app)) == (every, ["kne-bundle-volume"])
        [source] = objects.spec(app)["template"]["spec"]["volumes"][0]["projected"]["sources"]
        assert source == {"configMap": {"name": "bound-trust"}}
        file = "kn-combined-kne-bundle.pem"
        assert (await scene.get(resources.CONFIG_MAP, "bound-trust"))["data"] == {file: first}
        deployment = await scene.get(resources.DEPLOYMENT, "events-deployment")
        assert (_mounts(deployment), objects.generation(deployment)) == ({"main": every["main"]}, 1)
        await scene.client.delete(resources.DEPLOYMENT, "app", NAMESPACE)
        later = await scene.create(resources.DEPLOYMENT, "app", _deployment())
        assert (_mounts(later), _volumes(later)) == (every, ["kne-bundle-volume"])
        change = {"data": {"ca.crt": second}}
        await scene.client.patch(resources.CONFIG_MAP, "company", eventing.NAMESPACE, patch=change)
        await scene.settles()
        assert (await scene.get(resources.CONFIG_MAP, "bound-trust"))["data"] == {file: second}
        await scene.client.delete(resources.CONFIG_MAP, "company", eventing.NAMESPACE)
        await scene.settles()
        app = await scene.get(resources.DEPLOYMENT, "app")
        assert (_mounts(app), _volumes(app)) == ({"first": [], "main": [], "side": []}, [])
        assert _mounts(await scene.get(resources.DEPLOYMENT, "events-deployment")) == {"main": []}
        await scene.world.assert_gone(resources.CONFIG_MAP, "bound-trust", NAMESPACE)

    play(story)
