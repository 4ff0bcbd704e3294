"""Pod Security through the API: labels of namespaces, pods, templates, updates, exemptions and defaults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ondol import apiserver
from ondol.api.pod_security import policies
from ondol.api.pod_security.policies import LevelVersion, Policy

Make = Callable[..., Any]
PODS = "/api/v1/namespaces/default/pods"
NAMESPACES = "/api/v1/namespaces"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
GOOD = {
    "name": "main",
    "image": "example.org/app:1",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}


async def label(api: Any, namespace: str = "default", **modes: str | None) -> Any:
    labels = {policies.PREFIX + mode.replace("_", "-"): value for mode, value in modes.items()}
    return await api.patch(f"{NAMESPACES}/{namespace}", {"metadata": {"labels": labels}})


async def test_pods_that_break_the_enforced_level_are_refused(api: Any, pod: Make) -> None:
    """403 in Kubernetes' words; one that keeps to the level is taken."""
    assert (await label(api, enforce="restricted")).status == 200
    refused = await api.post(PODS, pod("a"))
    assert (refused.status, refused.json["reason"]) == (403, "Forbidden")
    assert refused.json["message"].startswith(
        'pods "a" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false '
        '(container "main" must set securityContext.allowPrivilegeEscalation=false), '
    )
    assert refused.json["details"] == {"name": "a", "kind": "pods"}
    taken = await api.post(PODS, pod("b", containers=[GOOD]))
    assert taken.status == 201
    assert "PodSecurity" not in str(taken.warnings)
    dry = await api.post(f"{PODS}?dryRun=All", pod("a"))
    assert dry.status == 403


@pytest.mark.parametrize("field", ["initContainers", "containers"])
async def test_baseline_is_enforced_on_every_container(api: Any, pod: Make, field: str) -> None:
    """And on the pod itself; what baseline allows goes through."""
    await label(api, enforce="baseline")
    bad = {"name": "x", "image": "i", "securityContext": {"privileged": True}}
    containers = [{"name": "main", "image": "i"}]
    spec = {"containers": containers, "initContainers": [], field: [bad]}
    assert (await api.post(PODS, pod("a", **spec))).status == 403
    assert (await api.post(PODS, pod("b", hostNetwork=True))).status == 403
    assert (await api.post(PODS, pod("c"))).status == 201
    applied = await api.apply(f"{PODS}/d", pod("d", hostPID=True), "m")
    assert applied.status == 403


async def test_only_updates_that_matter_are_looked_at(api: Any, pod: Make) -> None:
    """Pods from before the label may be relabelled, finished and deleted; a new image is looked at."""
    await api.post(PODS, pod("old", hostNetwork=True))
    await label(api, enforce="baseline")
    relabelled = await api.patch(f"{PODS}/old", {"metadata": {"labels": {"a": "b"}}})
    assert relabelled.status == 200
    image = {"spec": {"containers": [{"name": "main", "image": "other:1"}]}}
    refused = await api.patch(f"{PODS}/old", image, "strategic-merge-patch+json")
    assert refused.status == 403
    status = await api.patch(f"{PODS}/old/status", {"status": {"phase": "Failed"}})
    assert status.status == 200
    binding = {"apiVersion": "v1", "kind": "Binding", "target": {"name": "n"}, "metadata": {"name": "old"}}
    assert (await api.post(f"{PODS}/old/binding", binding)).status == 201
    assert (await api.delete(f"{PODS}/old")).status == 200


async def test_warnings_for_pods_and_for_templates(api: Any, pod: Make) -> None:
    """A workload is never refused: its author is told what will become of its pods."""
    await label(api, enforce="baseline", warn="restricted")
    warned = await api.post(PODS, pod("a"))
    assert warned.status == 201
    assert 'would violate PodSecurity \\"restricted:latest\\": allowPrivilegeEscalation' in warned.warnings[0]
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod("x", hostNetwork=True)["spec"]},
        },
    }
    answer = await api.post(DEPLOYMENTS, deployment)
    assert answer.status == 201
    assert "host namespaces (hostNetwork=true)" in answer.warnings[0]
    scaled = await api.patch(f"{DEPLOYMENTS}/web/scale", {"spec": {"replicas": 2}})
    assert (scaled.status, scaled.warnings) == (200, [])


async def test_a_stricter_level_is_not_warned_of_twice(api: Any, pod: Make) -> None:
    """What is refused is not warned of as well; without a label of its own the warning level follows."""
    await label(api, enforce="baseline", warn="restricted")
    assert (await api.post(PODS, pod("a", hostNetwork=True))).warnings == []


@pytest.mark.parametrize(
    ("modes", "why"),
    [
        ({"enforce": "strict"}, "must be one of privileged, baseline, restricted"),
        ({"warn_version": "1.34"}, 'must be "latest" or "v1.x"'),
    ],
)
async def test_labels_that_mean_nothing_are_refused(api: Any, modes: dict[str, str], why: str) -> None:
    """On create and on update, by the label's own path."""
    refused = await label(api, **modes)
    assert refused.status == 422
    (cause,) = refused.json["details"]["causes"]
    assert cause["field"].startswith("metadata.labels[pod-security.kubernetes.io/")
    assert cause["message"].endswith(why)
    labels = {policies.PREFIX + mode.replace("_", "-"): value for mode, value in modes.items()}
    new = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": labels}}
    assert (await api.post(NAMESPACES, new)).status == 422


async def test_existing_pods_that_break_a_stricter_level_are_named(api: Any, pod: Make) -> None:
    """Those with the same violations together; a looser level says nothing."""
    for name in ("a", "b", "c"):
        await api.post(PODS, pod(name, hostNetwork=True))
    await api.post(PODS, pod("d"))
    stricter = await label(api, enforce="baseline")
    assert stricter.status == 200
    first, second = stricter.warnings
    assert 'existing pods in namespace \\"default\\" violate the new PodSecurity enforce level' in first
    assert second == '299 - "a (and 2 other pods): host namespaces"'
    assert (await label(api, enforce="privileged")).warnings == []


def settings(**fields: Any) -> apiserver.ApiConfig:
    return apiserver.ApiConfig(pod_security=policies.Settings(**fields))


async def test_defaults_and_exemptions(start: Callable[..., Any], pod: Make) -> None:
    """What the cluster holds pods to without labels; namespaces, users and runtime classes let through."""
    config = settings(
        defaults=Policy(enforce=LevelVersion("baseline")),
        exempt_users=frozenset({"trusted"}),
        exempt_namespaces=frozenset({"kube-system"}),
        exempt_runtime_classes=frozenset({"vm"}),
    )
    async with start(config=config) as api:
        bad = pod("a", hostNetwork=True)
        assert (await api.post(PODS, bad)).status == 403
        assert (await api.as_("trusted", "system:masters").post(PODS, bad)).status == 201
        assert (await api.post("/api/v1/namespaces/kube-system/pods", bad)).status == 201
        runtime_class = {"metadata": {"name": "vm"}, "handler": "vm"}
        await api.post("/apis/node.k8s.io/v1/runtimeclasses", runtime_class)
        assert (await api.post(PODS, pod("b", hostNetwork=True, runtimeClassName="vm"))).status == 201
        ignored = await label(api, "kube-system", enforce="restricted")
        assert (
            "is exempt from Pod Security, and the policy (enforce=restricted:latest)" in ignored.warnings[0]
        )
        assert (await label(api, enforce="privileged")).status == 200
        assert (await api.post(PODS, pod("c", hostNetwork=True))).status == 201


async def test_what_is_audited_is_told_in_the_log(
    api: Any, pod: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the level, the violations and who did it; the client hears nothing of it."""
    await label(api, audit="restricted")
    answer = await api.post(PODS, pod("a"))
    assert (answer.status, answer.warnings) == (201, [])
    written = "".join(capsys.readouterr())
    assert "pod_security" in written
    assert "allowPrivilegeEscalation != false" in written
