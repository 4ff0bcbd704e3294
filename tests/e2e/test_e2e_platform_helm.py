"""The real helm on a platform: hooks that are Jobs, waits for what runs, and a test of the release."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.e2e.harness import HERE, Helm, Kubectl, Platform, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.root]

CHART = HERE / "chart"
TIMEOUT = "--timeout=50s"


@pytest.fixture
def helm(platform: Platform, cluster: Kubectl) -> Iterator[Helm]:
    """In a namespace that has no release; what a test leaves there goes with it."""
    created = cluster("create", "-f", "-", "-o", "name", stdin=_NAMESPACE).strip()
    namespace = created.removeprefix("namespace/")
    yield Helm(platform.kubeconfig, namespace)
    cluster("delete", "namespace", namespace, "--wait=false")


_NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "helm-"}}


def jobs(kubectl: Kubectl) -> set[str]:
    return {job["metadata"]["name"] for job in kubectl.list("jobs")}


@pytest.mark.parametrize("wait", ["watcher", "legacy"])
def test_hooks_run_and_the_release_is_waited_for(helm: Helm, cluster: Kubectl, wait: str) -> None:
    """Jobs before and after run to their end; `--wait` waits for the replicas; `helm test` asks."""
    kubectl = cluster.inside(helm.namespace)
    helm("install", "r", CHART, f"--wait={wait}", "--wait-for-jobs", TIMEOUT, "--set", "replicas=2")
    assert kubectl.path("deployment", "r", ".status.readyReplicas") == "2"
    assert jobs(kubectl) == {"r-post-install"}, "what succeeded is deleted as its policy says"
    tested = helm("test", "r", "--logs", TIMEOUT)
    assert "Phase:          Succeeded" in tested
    assert "answer 200" in tested
    helm("upgrade", "r", CHART, f"--wait={wait}", TIMEOUT, "--set", "replicas=1,colour=blue")
    variable = ".spec.template.spec.containers[0].env[0].value"
    assert kubectl.path("deployment", "r", variable) == "blue"
    assert kubectl.path("deployment", "r", ".status.updatedReplicas") == "1"
    helm("rollback", "r", "1", f"--wait={wait}", TIMEOUT)
    assert kubectl.path("deployment", "r", ".status.readyReplicas") == "2"
    assert kubectl.path("deployment", "r", variable) == "red"
    helm("uninstall", "r", "--wait", "--cascade=foreground", TIMEOUT)
    # Helm waits for what goes in the foreground to be going, not always for it to be gone.
    eventually(lambda: not kubectl.list("deployments,replicasets,services"), "no part of the release")
    assert kubectl.list("pods", "-l", "app=r") == [], "what is deleted in the foreground goes last"


def test_a_hook_that_fails_stops_the_upgrade(helm: Helm, cluster: Kubectl) -> None:
    """Helm tells which hook it was, nothing is changed, and rolls back where it is told to."""
    kubectl = cluster.inside(helm.namespace)
    helm("install", "r", CHART, "--wait", TIMEOUT)
    wish = ("--set", "failing=true,colour=blue", TIMEOUT)
    message = helm.refused("upgrade", "r", CHART, *wish)
    assert "pre-upgrade hooks failed" in message, message
    assert kubectl.get("sign", "r")["spec"] == {"colour": "red"}
    assert json.loads(helm("list", "-o", "json"))[0]["status"] == "failed"
    helm("upgrade", "r", CHART, "--set", "colour=green", "--wait", TIMEOUT)
    assert kubectl.get("sign", "r")["spec"] == {"colour": "green"}


def test_a_release_that_does_not_become_ready_fails(helm: Helm, cluster: Kubectl) -> None:
    """An image that nobody has: the wait ends with its time, and the release before comes back."""
    kubectl = cluster.inside(helm.namespace)
    helm("install", "r", CHART, "--wait", TIMEOUT)
    image = ("--set", "image=ondol.local/absent:1", "--no-hooks")
    message = helm.refused("upgrade", "r", CHART, *image, "--wait", "--timeout=4s", "--rollback-on-failure")
    assert "r" in message
    assert kubectl.path("deployment", "r", ".spec.template.spec.containers[0].image").endswith("probe:1")
