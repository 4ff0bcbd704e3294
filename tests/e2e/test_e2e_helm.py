"""The real helm against the API server alone: releases, what templates may look up, and refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.e2e.harness import HERE, ApiServer, Helm, Kubectl

pytestmark = pytest.mark.e2e

CHART = HERE / "chart"
BARE = ("--set", "workloads=false")


@pytest.fixture
def helm(api_server: ApiServer, kubectl: Kubectl) -> Helm:
    """In the namespace of the test."""
    return Helm(api_server.kubeconfig, kubectl.namespace)


def seen(kubectl: Kubectl) -> dict[str, str]:
    return dict(kubectl.get("configmap", "r-seen")["data"])


def history(helm: Helm) -> list[tuple[int, str]]:
    entries: list[dict[str, Any]] = json.loads(helm("history", "r", "-o", "json"))
    return [(entry["revision"], entry["status"]) for entry in entries]


@pytest.mark.parametrize("applied", ["true", "false"])
def test_a_release_from_its_birth_to_its_end(helm: Helm, kubectl: Kubectl, applied: str) -> None:
    """Installed, upgraded, rolled back and uninstalled, by server-side apply and by helm's own patches."""
    side = f"--server-side={applied}"
    helm("install", "r", CHART, *BARE, side)
    password = kubectl.get("secret", "r-password")["data"]["password"]
    assert kubectl.get("sign", "r")["spec"] == {"colour": "red"}
    helm("upgrade", "r", CHART, *BARE, "--set", "colour=blue", side)
    assert kubectl.get("sign", "r")["spec"] == {"colour": "blue"}
    assert "NotFound" in kubectl.refused("get", "configmap", "r-only-red")
    helm("rollback", "r", "1", side)
    assert kubectl.get("sign", "r")["spec"] == {"colour": "red"}
    assert kubectl.get("configmap", "r-only-red")
    assert kubectl.get("secret", "r-password")["data"]["password"] == password
    assert history(helm) == [(1, "superseded"), (2, "superseded"), (3, "deployed")]
    assert [r["name"] for r in json.loads(helm("list", "-o", "json"))] == ["r"]
    helm("uninstall", "r", "--wait")
    left = {o["metadata"]["name"] for o in kubectl.list("configmaps,secrets,signs")}
    assert left == {"r-kept", "kube-root-ca.crt"}


def test_templates_look_up_what_is_there(helm: Helm, kubectl: Kubectl) -> None:
    """`lookup`, `.Capabilities` and `.Release` tell of this server; a secret made once stays."""
    helm("install", "r", CHART, *BARE)
    password = kubectl.get("secret", "r-password")["data"]["password"]
    first = seen(kubectl)
    assert first["kubernetes"].startswith("v1.")
    assert (first["deployments"], first["nothing"]) == ("true", "false")
    assert (first["absent"], first["first"]) == ("0", "true")
    assert int(first["namespaces"]) == len(kubectl.list("namespaces"))
    helm("upgrade", "r", CHART, *BARE, "--set", "colour=green")
    assert kubectl.get("secret", "r-password")["data"]["password"] == password
    assert seen(kubectl) | {"namespaces": ""} == first | {
        "namespaces": "",
        "colour": "green",
        "revision": "2",
        "first": "false",
    }


def test_a_dry_run_by_the_server_stores_nothing(helm: Helm, kubectl: Kubectl) -> None:
    """It renders with what is there, and leaves nothing behind."""
    helm("install", "seen", CHART, *BARE)
    rendered = helm("install", "r", CHART, *BARE, "--dry-run=server", "--skip-crds")
    assert "kubernetes: v1." in rendered
    assert "NotFound" in kubectl.refused("get", "configmap", "r-seen")


def test_what_another_owns_is_not_taken(helm: Helm, kubectl: Kubectl) -> None:
    """An object that is there without helm's labels stops the install, unless it is told to take it."""
    kubectl("create", "configmap", "r-seen")
    message = helm.refused("install", "r", CHART, *BARE)
    assert 'ConfigMap "r-seen" in namespace' in message
    assert "cannot be imported into the current release" in message
    helm("install", "r", CHART, *BARE, "--take-ownership")
    assert seen(kubectl)["colour"] == "red"


def test_another_managers_field_is_a_conflict(helm: Helm, kubectl: Kubectl) -> None:
    """Server-side apply names whose field it is; helm tells it, and takes it when it is forced."""
    helm("install", "r", CHART, *BARE)
    kubectl("patch", "configmap", "r-seen", "--type=merge", "-p", '{"data":{"colour":"grey"}}')
    message = helm.refused("upgrade", "r", CHART, *BARE, "--set", "colour=blue")
    assert 'conflict with "kubectl-patch"' in message, message
    assert ".data.colour" in message
    helm("upgrade", "r", CHART, *BARE, "--set", "colour=blue", "--force-conflicts")
    assert seen(kubectl)["colour"] == "blue"


def test_a_failed_upgrade_is_rolled_back(helm: Helm, kubectl: Kubectl) -> None:
    """What the server refuses fails the upgrade; with `--rollback-on-failure` the release before is back."""
    helm("install", "r", CHART, *BARE)
    assert "colour" in helm.refused("upgrade", "r", CHART, *BARE, "--set", "colour=pink")
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "q"},
        "spec": {"hard": {"configmaps": "0"}},
    }
    helm("upgrade", "r", CHART, *BARE, "--set", "colour=blue")
    kubectl.apply(quota)
    message = helm.refused("upgrade", "r", CHART, *BARE, "--set", "colour=red", "--rollback-on-failure")
    assert "exceeded quota" in message, message
    assert kubectl.get("sign", "r")["spec"] == {"colour": "blue"}
    assert history(helm)[-1][1] == "deployed"
    assert helm("get", "values", "r", "-o", "json").strip().endswith("}")
    assert "r-seen" in helm("get", "manifest", "r")
