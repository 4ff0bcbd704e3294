"""`ondol func deploy` and `delete`, on a client that keeps what it is asked; the image is of last time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.commands import one_line, run

from ondol.api import objects, resources
from ondol.api.objects import Resource
from ondol.base import errors
from ondol.cli import connection
from ondol.client.client import ObjectList
from ondol.contracts import serving
from ondol.serverless.functions import wellknown


class _Api:
    """Stands for a client: a Service is ready as soon as it is applied, unless `ready` says otherwise."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Any] = {}
        self.deleted: list[str] = []
        self.has_eventing = True
        self.ready = {"type": "Ready", "status": "True"}

    async def aclose(self) -> None:
        return

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Any:
        try:
            return self.objects[resource.kind, name]
        except KeyError:
            raise errors.NotFound(f'{resource.plural} "{name}" not found in {namespace}') from None

    async def list(self, resource: Resource, namespace: str = "", *, label_selector: str = "") -> Any:
        assert namespace == "ns"
        if resource == resources.POD:
            assert label_selector == "serving.knative.dev/service=f"
            return ObjectList([], "1", "")
        if not self.has_eventing:
            raise errors.NotFound("the server could not find the requested resource")
        return ObjectList([obj for (kind, _), obj in self.objects.items() if kind == resource.kind], "1", "")

    async def apply(self, resource: Resource, document: Any, **_: object) -> Any:
        metadata = {**document["metadata"], "uid": "u1", "generation": 1}
        status = {"observedGeneration": 1, "conditions": [self.ready], "url": "http://f.ns.example"}
        applied = {**document, "metadata": metadata, "status": status}
        self.objects[resource.kind, objects.name(document)] = applied
        return applied

    async def delete(self, resource: Resource, name: str, namespace: str, *, uid: str = "") -> None:
        self.deleted.append(f"{resource.plural}/{namespace}/{name}{uid and '@' + uid}")
        del self.objects[resource.kind, name]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> _Api:
    """A cluster that answers, as far as these commands can tell."""
    fake = _Api()
    monkeypatch.setattr(
        connection,
        "connect",
        lambda _data_dir, _kubeconfig, namespace: connection.Connection(fake, namespace or "ns"),  # type: ignore[arg-type]  # all that they need
    )
    return fake


@pytest.fixture
def function(tmp_path: Path) -> Path:
    """A function that was built before."""
    place = tmp_path / "f"
    run("func", "create", "-l", "python", place)
    with (place / "func.yaml").open("a", encoding="utf-8") as file:
        file.write("deploy:\n  image: ondol.local/ns/f:1\n")
    return place


def deploy(function: Path, *words: str) -> Any:
    return run("func", "deploy", "--no-build", "--path", function, *words)


def spec(function: Path) -> Any:
    return yaml.safe_load((function / "func.yaml").read_text(encoding="utf-8"))


def test_what_is_deployed_is_written_down(api: _Api, function: Path) -> None:
    """The URL is printed; variables of the command line are kept, and taken away again."""
    deployed = deploy(function, "--env", "A=b=c", "--env", "B=")
    assert deployed.stdout == "http://f.ns.example\n"
    assert spec(function)["deploy"] == {
        "namespace": "ns",
        "image": "ondol.local/ns/f:1",
        "deployer": "knative",
    }
    assert spec(function)["run"]["envs"] == [{"name": "A", "value": "b=c"}, {"name": "B", "value": ""}]
    deploy(function, "--env", "A-")
    [container] = api.objects["Service", "f"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "ondol.local/ns/f:1"
    assert [env["name"] for env in container["env"]] == ["ADDRESS", "B"]
    assert "write NAME=VALUE" in one_line(deploy(function, "--env", "A"))


def test_subscriptions_become_triggers_and_go_with_the_file(api: _Api, function: Path) -> None:
    """Each deploy leaves exactly those that the file has."""
    run("func", "subscribe", "--path", function, "--filter", "type=a")
    run("func", "subscribe", "--path", function, "--source", "other")
    deploy(function)
    triggers = {name for kind, name in api.objects if kind == "Trigger"}
    assert triggers == {"f-function-trigger-0", "f-function-trigger-1"}
    document = spec(function)
    document["deploy"]["subscriptions"].pop()
    (function / "func.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    deploy(function)
    assert api.deleted == ["triggers/ns/f-function-trigger-1"]


def test_without_eventing_subscriptions_are_said(api: _Api, function: Path) -> None:
    """A function without any needs none."""
    api.has_eventing = False
    assert deploy(function).exit_code == 0
    run("func", "subscribe", "--path", function)
    refused = deploy(function)
    assert refused.exit_code == 1
    assert "the cluster has no Triggers" in refused.stderr


def test_the_place_of_others_is_not_taken_by_mistake(api: _Api, function: Path) -> None:
    """A Service that is no function, and another function of that name; `--replace` means it."""
    metadata = {"name": "f", "namespace": "ns", "uid": "u0"}
    api.objects["Service", "f"] = {"metadata": metadata}
    assert "the Service f in ns is no function" in one_line(deploy(function))
    labels = {wellknown.FUNCTION_LABEL: "true"}
    other = {**metadata, "labels": labels, "annotations": {wellknown.CREATED_ANNOTATION: "2001"}}
    api.objects["Service", "f"] = {"metadata": other}
    assert "is another function of that name, created 2001" in one_line(deploy(function))
    assert deploy(function, "--replace").exit_code == 0
    assert deploy(function).exit_code == 0


def test_one_that_does_not_become_ready_is_one_line(api: _Api, function: Path) -> None:
    """The reason in one line, whatever the condition says; nothing is written down."""
    api.ready = {"type": "Ready", "status": "False", "message": "Container failed:\nTraceback\n  boom"}
    failed = deploy(function)
    assert failed.exit_code == 1
    errors_shown = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert errors_shown == ["error: f does not become ready: Container failed: Traceback boom"]
    assert "namespace" not in spec(function)["deploy"]
    api.ready = {"type": "Ready", "status": "Unknown", "message": "starting"}
    assert "f was not ready after 0.1 s: starting" in deploy(function, "--timeout", "0.1").stderr


def test_a_function_is_deleted_by_its_folder_or_its_name(api: _Api, function: Path) -> None:
    """Exactly the Service that was looked at; the file says that it is deployed nowhere."""
    deploy(function)
    assert run("func", "delete", "--path", function).stdout == "function f deleted from ns\n"
    assert api.deleted == ["services/ns/f@u1"]
    assert "deploy" not in spec(function)
    gone = run("func", "delete", "f", "--path", function)
    assert (gone.exit_code, one_line(gone)) == (4, "error: no function f is deployed in ns")
    api.objects[serving.SERVICE.kind, "f"] = {"metadata": {"name": "f", "namespace": "ns"}}
    assert one_line(run("func", "delete", "f")) == "error: the Service f in ns is no function"


def test_there_must_be_an_image(api: _Api, tmp_path: Path) -> None:
    """`--no-build` deploys that of last time."""
    run("func", "create", "-l", "python", tmp_path / "f")
    assert one_line(deploy(tmp_path / "f")) == "error: there is no image of last time"
