"""`kubectl apply`, client-side and server-side, and `kubectl diff`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.e2e.harness import Kubectl

pytestmark = pytest.mark.e2e


def config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": data}


def deployment(image: str = "web:1", **spec: Any) -> dict[str, Any]:
    container = {"name": "web", "image": image}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    full = {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": full}


def server_side(kubectl: Kubectl, document: dict[str, Any], manager: str, *words: str) -> Any:
    return kubectl.run(
        "apply", "--server-side", "--field-manager", manager, *words, "-f", "-", stdin=document
    )


def test_created_unchanged_configured(kubectl: Kubectl) -> None:
    """Applying says what happened; applying the same again changes nothing, not even the version."""
    assert kubectl.apply(deployment()) == "deployment.apps/web created\n"
    version = kubectl.get("deployment", "web")["metadata"]["resourceVersion"]
    assert kubectl.apply(deployment()) == "deployment.apps/web unchanged\n"
    assert kubectl.get("deployment", "web")["metadata"]["resourceVersion"] == version
    assert kubectl.apply(deployment("web:2")) == "deployment.apps/web configured\n"


def test_apply_keeps_what_others_set(kubectl: Kubectl) -> None:
    """A three-way apply removes what left the file and keeps what others added."""
    kubectl.apply(config_map(mine="1", gone="1"))
    kubectl("patch", "configmap", "shared", "--type=merge", "-p", '{"data":{"theirs":"1"}}')
    kubectl.apply(config_map(mine="2"))
    assert kubectl.get("configmap", "shared")["data"] == {"mine": "2", "theirs": "1"}


def test_apply_a_folder_and_delete_it(kubectl: Kubectl, tmp_path: Any) -> None:
    """A folder of files is applied and deleted as a whole."""
    (tmp_path / "a.json").write_text(json.dumps(config_map(a="1")))
    (tmp_path / "b.json").write_text(json.dumps(deployment()))
    assert len(kubectl("apply", "-f", tmp_path).splitlines()) == 2
    kubectl("delete", "-f", tmp_path)
    kubectl.refused("get", "deployment", "web")


def test_apply_prune(kubectl: Kubectl) -> None:
    """--prune removes what was applied before under the label and is no longer in the set."""
    first, second = config_map(a="1"), {**config_map(b="1"), "metadata": {"name": "second"}}
    for document in (first, second):
        document["metadata"] = {**document["metadata"], "labels": {"set": "one"}}
    prune = ("apply", "--prune", "-l", "set=one", "-f", "-")
    allow = "--prune-allowlist" if kubectl.version.minor >= 26 else "--prune-whitelist"
    kubectl(*prune, f"{allow}=core/v1/ConfigMap", stdin=[first, second])
    assert "configmap/second pruned" in kubectl(*prune, f"{allow}=core/v1/ConfigMap", stdin=[first])
    assert "second" not in {o["metadata"]["name"] for o in kubectl.list("configmaps")}


def test_diff(kubectl: Kubectl) -> None:
    """`diff` shows a change with exit status 1, and none with 0; it changes nothing."""
    kubectl.apply(deployment())
    assert kubectl.run("diff", "-f", "-", stdin=deployment()).status == 0
    changed = kubectl.run("diff", "-f", "-", stdin=deployment("web:2"))
    assert changed.status == 1, str(changed)
    lines = [line.split() for line in changed.out.splitlines()]
    assert ["-", "-", "image:", "web:1"] in lines or ["-", "image:", "web:1"] in lines, changed.out
    assert kubectl.path("deployment", "web", ".spec.template.spec.containers[0].image") == "web:1"


def test_server_side_apply_conflict(kubectl: Kubectl) -> None:
    """Another manager's value is a conflict that names both; force takes the field over."""
    assert server_side(kubectl, config_map(a="1"), "first").status == 0
    conflict = server_side(kubectl, config_map(a="2"), "second")
    assert conflict.status == 1
    assert 'conflict with "first"' in conflict.err
    assert ".data.a" in conflict.err
    assert server_side(kubectl, config_map(a="2"), "second", "--force-conflicts").status == 0
    assert kubectl.get("configmap", "shared")["data"] == {"a": "2"}


def test_server_side_apply_shares_fields(kubectl: Kubectl) -> None:
    """Managers own fields apart; what one no longer applies goes, unless another owns it too."""
    for manager, data in (("first", {"a": "1", "both": "x"}), ("second", {"b": "2", "both": "x"})):
        assert server_side(kubectl, config_map(**data), manager).status == 0
    assert server_side(kubectl, config_map(), "first").status == 0
    assert kubectl.get("configmap", "shared")["data"] == {"b": "2", "both": "x"}


def test_server_side_apply_lists_by_key(kubectl: Kubectl) -> None:
    """Containers are merged by name: one manager's sidecar lives beside the other's container."""
    assert server_side(kubectl, deployment(), "first").status == 0
    sidecar = deployment()
    sidecar["spec"]["template"]["spec"]["containers"] = [{"name": "side", "image": "side:1"}]
    assert server_side(kubectl, sidecar, "second").status == 0
    containers = kubectl.get("deployment", "web")["spec"]["template"]["spec"]["containers"]
    assert [c["name"] for c in containers] == ["web", "side"]


def test_from_client_side_to_server_side(kubectl: Kubectl) -> None:
    """An object applied by client-side apply goes over to server-side apply without a conflict."""
    kubectl.version.need(26, "moving from client-side to server-side apply")
    kubectl.apply(config_map(a="1", b="1"))
    assert server_side(kubectl, config_map(a="2"), "kubectl").status == 0
    assert kubectl.get("configmap", "shared")["data"] == {"a": "2"}


def test_managed_fields_are_shown_on_demand(kubectl: Kubectl) -> None:
    """Who manages which field is there for those who ask."""
    kubectl.version.need(21, "--show-managed-fields")
    assert server_side(kubectl, config_map(a="1"), "first").status == 0
    text = kubectl("get", "configmap", "shared", "-o", "json", "--show-managed-fields")
    (entry,) = json.loads(text)["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("first", "Apply")
    assert entry["fieldsV1"] == {"f:data": {"f:a": {}}}
