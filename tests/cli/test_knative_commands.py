"""`ondol service`, `revision`, `route` and `domain`, on a client that keeps what it is told."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.commands import one_line, run

from ondol.api import objects
from ondol.api.objects import Object, Resource
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.cli import connection
from ondol.client.client import ObjectList
from ondol.contracts import serving


class _Api:
    """Stands for a client: one namespace of objects, which are ready as soon as they are written."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.objects: dict[tuple[str, str], Object] = {}
        self.outcome = ("True", "", "")

    async def aclose(self) -> None:
        return

    def put(self, resource: Resource, obj: Object) -> Object:
        stored = copy.deepcopy(obj)
        before = self.objects.get((resource.plural, objects.name(obj)))
        generation = objects.generation(before) if before else 0
        changed = before is None or before["spec"] != obj["spec"]
        stored["metadata"] |= {"generation": generation + changed, "resourceVersion": "1"}
        stored["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
        status, reason, message = self.outcome
        name, number = objects.name(obj), objects.generation(stored)
        stored["status"] = {
            "observedGeneration": number,
            "url": f"http://{name}.default.localhost",
            "latestReadyRevisionName": f"{name}-{number:05d}",
            "traffic": [{"revisionName": f"{name}-{number:05d}", "percent": 100, "latestRevision": True}],
            "conditions": [{"type": "Ready", "status": status, "reason": reason, "message": message}],
        }
        self.objects[resource.plural, name] = stored
        return stored

    async def create(self, resource: Resource, obj: Object) -> Object:
        return self.put(resource, obj)

    async def update(self, resource: Resource, obj: Object) -> Object:
        return self.put(resource, obj)

    async def apply(self, resource: Resource, obj: Object, **_: object) -> Object:
        return self.put(resource, obj)

    async def get(self, resource: Resource, name: str, namespace: str) -> Object:
        del namespace
        if (resource.plural, name) not in self.objects:
            raise errors.NotFound(f'{resource.group_resource} "{name}" not found')
        return self.objects[resource.plural, name]

    async def list(self, resource: Resource, namespace: str, **_: object) -> ObjectList:
        del namespace
        return ObjectList(
            [o for (plural, _), o in self.objects.items() if plural == resource.plural], "1", ""
        )

    async def delete(self, resource: Resource, name: str, namespace: str) -> None:
        await self.get(resource, name, namespace)
        del self.objects[resource.plural, name]

    def service(self, name: str = "hello") -> Any:
        return self.objects["services", name]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> _Api:
    played = _Api()
    monkeypatch.setattr(
        connection,
        "connect",
        lambda _data_dir, _kubeconfig, namespace: connection.Connection(played, namespace or "default"),  # type: ignore[arg-type]  # all that these commands need
    )
    return played


def test_a_service_is_made_and_its_address_printed(api: _Api) -> None:
    """The address alone goes to standard output, for scripts; the rest is told beside it."""
    result = run("service", "create", "hello", "--image", "hello:1", "--env", "A=1", "--scale", "1..3")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "http://hello.default.localhost\n"
    assert "created to latest revision 'hello-00001'" in result.stderr
    spec = api.service()["spec"]["template"]["spec"]
    assert spec["containers"] == [{"image": "hello:1", "env": [{"name": "A", "value": "1"}]}]


def test_a_second_one_needs_force(api: _Api) -> None:
    """Then it takes the place of the first; its authors stay."""
    run("service", "create", "hello", "--image", "hello:1", "--env", "A=1")
    api.service()["metadata"]["annotations"] = {"serving.knative.dev/creator": "ann"}
    assert "already exists" in one_line(run("service", "create", "hello", "--image", "hello:2"))
    assert run("service", "create", "hello", "--image", "hello:2", "--force").exit_code == 0
    assert api.service()["spec"]["template"]["spec"]["containers"] == [{"image": "hello:2"}]
    assert api.service()["metadata"]["annotations"] == {"serving.knative.dev/creator": "ann"}


def test_updates_change_what_is_said(api: _Api) -> None:
    """And nothing else; without anything to change it is a mistake."""
    run("service", "create", "hello", "--image", "hello:1", "--env", "A=1")
    assert run("services", "update", "hello", "--env", "B=2", "--traffic", "@latest=100").exit_code == 0
    env = api.service()["spec"]["template"]["spec"]["containers"][0]["env"]
    assert [each["name"] for each in env] == ["A", "B"]
    assert api.service()["spec"]["traffic"] == [{"latestRevision": True, "percent": 100}]
    assert run("service", "update", "hello").exit_code == 2
    same = run("service", "update", "hello", "--label-service", "team=a", "--no-wait")
    assert same.stdout == "Service 'hello' updated in namespace 'default'.\n"


def test_what_does_not_get_ready_is_an_error(api: _Api) -> None:
    """With the reason; what is waited for is told meanwhile."""
    api.outcome = ("False", "RevisionFailed", "no such image")
    result = run("service", "create", "hello", "--image", "hello:1", "--wait-window", "0")
    assert result.exit_code == 1
    assert "s no such image" in result.stderr
    assert "error: Service hello is not ready: RevisionFailed: no such image" in result.stderr


def test_a_file_is_changed_by_flags(api: _Api, tmp_path: Path) -> None:
    """It needs one service, and a name that fits."""
    file = tmp_path / "service.yaml"
    document = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "hello"},
        "spec": {"template": {"spec": {"containers": [{"image": "hello:1"}]}}},
    }
    file.write_text(yaml.safe_dump(document))
    assert run("service", "apply", "-f", file, "--env", "A=1", "-n", "shop").exit_code == 0
    applied = api.service()
    assert applied["metadata"]["namespace"] == "shop"
    assert applied["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]
    assert "is called hello, not other" in one_line(run("service", "create", "other", "-f", file))
    assert "--image" in one_line(run("service", "apply", "hello"))


def test_lists_and_descriptions(api: _Api) -> None:
    """Tables for people, documents and the address for scripts."""
    run("service", "create", "hello", "--image", "hello:1")
    listed = run("service", "list").stdout.splitlines()
    assert listed[0].split() == ["NAME", "URL", "LATEST", "AGE", "CONDITIONS", "READY", "REASON"]
    assert listed[1].split()[:3] == ["hello", "http://hello.default.localhost", "hello-00001"]
    assert json.loads(run("service", "list", "-o", "json").stdout)["items"][0]["kind"] == "Service"
    assert run("service", "describe", "hello", "-o", "url").stdout == "http://hello.default.localhost\n"
    described = run("service", "describe", "hello").stdout
    assert "100%  hello-00001 (latest)" in described
    assert "++ Ready" in described
    revision: Object = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Revision",
        "spec": {"timeoutSeconds": 9},
    }
    labels = {"serving.knative.dev/service": "hello", "serving.knative.dev/configurationGeneration": "1"}
    revision["metadata"] = {"name": "hello-00001", "namespace": "default", "labels": labels}
    api.put(serving.REVISION, revision)
    row = run("revisions", "list").stdout.splitlines()[1].split()
    assert row[:4] == ["hello-00001", "hello", "100%", "1"]
    assert "Timeout:" in run("revision", "describe", "hello-00001").stdout
    assert run("routes", "list").stderr == "No routes found.\n"
    assert run("route", "describe", "hello").exit_code == 4


def test_a_newest_revision_without_a_share_is_shown(api: _Api) -> None:
    """A service that never became ready has no targets; what it could not start is what one looks for."""
    run("service", "create", "hello", "--image", "hello:1")
    service = api.objects["services", "hello"]
    service["status"] |= {"traffic": [], "latestCreatedRevisionName": "hello-00001"}
    labels = {"serving.knative.dev/service": "hello"}
    api.outcome = ("False", "ContainerMissing", "no such image")
    api.put(
        serving.REVISION,
        {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Revision",
            "metadata": {"name": "hello-00001", "namespace": "default", "labels": labels},
            "spec": {"containers": [{"image": "hello:1"}]},
        },
    )
    described = run("service", "describe", "hello").stdout
    assert "-  hello-00001 (newest, ContainerMissing)" in described
    assert "hello:1" in described


def test_an_export_can_be_created_again(api: _Api, tmp_path: Path) -> None:
    """It has nothing that only this place says."""
    run("service", "create", "hello", "--image", "hello:1")
    text = run("service", "export", "hello").stdout
    exported = yaml.safe_load(text)
    assert set(exported) == {"apiVersion", "kind", "metadata", "spec"}
    assert exported["metadata"] == {"name": "hello"}
    run("service", "delete", "hello")
    file = tmp_path / "exported.yaml"
    file.write_text(text)
    assert run("service", "create", "-f", file).exit_code == 0


def test_deleting(api: _Api) -> None:
    """By name, several or all; a missing one does not stop the others."""
    for name in ("a", "b"):
        run("service", "create", name, "--image", "x")
    result = run("service", "delete", "none", "a")
    assert (result.exit_code, set(api.objects)) == (4, {("services", "b")})
    assert run("service", "delete", "--all").exit_code == 0
    assert api.objects == {}
    assert run("service", "delete").exit_code == 2


def test_a_name_that_is_nobodys_says_who_gives_it(api: _Api) -> None:
    """The claim is an administrator's object, of which the condition says only that it is missing."""
    api.outcome = ("False", "DomainAlreadyClaimed", "no ClusterDomainClaim")
    result = run("domain", "create", "shop.example", "--ref", "hello", "--wait-window", "0")
    assert result.exit_code == 1
    assert "try: have an administrator make a ClusterDomainClaim of the name" in result.stderr


def test_names_of_ones_own(api: _Api) -> None:
    """Services of Knative by their name alone, others by their kind."""
    run("service", "create", "hello", "--image", "hello:1")
    assert run("domain", "create", "shop.example", "--ref", "hello", "--tls", "own").exit_code == 0
    mapping = api.objects["domainmappings", "shop.example"]
    assert mapping["spec"] == {
        "ref": {
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "name": "hello",
            "namespace": "default",
        },
        "tls": {"secretName": "own"},
    }
    assert run("domain", "update", "shop.example", "--ref", "svc:web").exit_code == 0
    mapping = api.objects["domainmappings", "shop.example"]
    assert (mapping["spec"]["ref"]["apiVersion"], mapping["spec"]["ref"]["name"]) == ("v1", "web")
    assert run("domains", "list").stdout.splitlines()[1].split()[-1] == "web"
    assert "Reference:" in run("domain", "describe", "shop.example").stdout
    assert "--ref" in one_line(run("domain", "create", "x.example", "--ref", "pod:x"))
    assert run("domain", "delete", "shop.example").exit_code == 0


def test_the_platform_as_a_service_has_a_word_of_its_own() -> None:
    """`boot`; the former words go on working, and help does not show them among the services."""
    assert "systemd" in run("boot", "--help").stdout
    shown = run("service", "--help").stdout
    assert "uninstall" not in shown
    assert run("service", "install", "--help").exit_code == 0
