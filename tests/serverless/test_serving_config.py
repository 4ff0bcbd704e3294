"""The ConfigMaps of `knative-serving`: what they say, what is refused of them, and that they act at once."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from tests.serverless.serving_world import NAMESPACE, Platform

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.contracts import serving
from ondol.serverless.autoscaler.decide import Scaling
from ondol.serverless.config import values
from ondol.serverless.config.live import LiveConfig
from ondol.serverless.config.rules import ConfigMapRules
from ondol.serverless.config.values import ServingConfig
from ondol.serverless.serving import defaults
from ondol.serverless.serving.names import Naming

MAPS = values.NAMESPACE
ROUTE: Object = {"metadata": {"name": "web", "namespace": "shop", "labels": {"app": "secret"}}}


def config(name: str, **data: str) -> ServingConfig:
    return values.parse(ServingConfig(), f"config-{name}", {k.replace("_", "-"): v for k, v in data.items()})


def config_map(name: str, data: dict[str, str], namespace: str = MAPS, version: str = "1") -> Object:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": version}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def test_nothing_said_is_knatives_default() -> None:
    """Empty maps change nothing of what holds without them, whatever that is."""
    base = ServingConfig(scaling=Scaling(window_s=9), features=frozenset({"multi-container"}))
    assert values.merged(base, {name: {"_example": "x: y"} for name in values.NAMES}).scaling == base.scaling
    for name in set(values.NAMES) - {"config-domain"}:
        assert values.parse(base, name, {}) == base


@pytest.mark.parametrize(
    ("key", "text", "field", "value"),
    [
        ("container-concurrency-target-percentage", "80", "utilization", 0.8),
        ("container-concurrency-target-percentage", "0.5", "utilization", 0.5),
        ("container-concurrency-target-default", "10", "target", 10.0),
        ("requests-per-second-target-default", "50", "rps_target", 50.0),
        ("target-burst-capacity", "-1", "burst_capacity", -1.0),
        ("stable-window", "2m", "window_s", 120),
        ("panic-threshold-percentage", "150", "panic_threshold", 1.5),
        ("max-scale-up-rate", "10", "max_scale_up_rate", 10.0),
        ("enable-scale-to-zero", "false", "to_zero", False),
        ("scale-to-zero-grace-period", "5s", "grace_s", 5.0),
        ("min-scale", "2", "min_scale", 2),
        (
            "pod-autoscaler-class",
            "hpa.autoscaling.knative.dev",
            "autoscaler_class",
            "hpa.autoscaling.knative.dev",
        ),
    ],
)
def test_the_autoscaler_is_told(key: str, text: str, field: str, value: Any) -> None:
    """Each key of `config-autoscaler` is the default of what revisions say, or holds for all."""
    assert getattr(values.parse(ServingConfig(), "config-autoscaler", {key: text}).scaling, field) == value


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("config-autoscaler", {"stable-window": "5s"}, "stable-window must be in"),
        ("config-autoscaler", {"stable-window": "soon"}, 'failed to parse "stable-window"'),
        ("config-autoscaler", {"initial-scale": "0"}, "when allow-zero-initial-scale is false"),
        ("config-autoscaler", {"max-scale": "5", "max-scale-limit": "3"}, "max-scale-limit(3)"),
        ("config-autoscaler", {"max-scale-limit": "3"}, "must be in [1, max-scale-limit(3)] range"),
        ("config-autoscaler", {"min-scale": "3", "max-scale": "2"}, "must be less than max-scale (2)"),
        ("config-autoscaler", {"target-burst-capacity": "-2"}, "non-negative or -1"),
        ("config-autoscaler", {"enable-scale-to-zero": "maybe"}, "neither true nor false"),
        ("config-defaults", {"revision-timeout-seconds": "700"}, "max-revision-timeout-seconds (600)"),
        ("config-defaults", {"container-concurrency": "2000"}, "must be in [0, 1000] range"),
        ("config-defaults", {"revision-cpu-request": "much"}, 'failed to parse "revision-cpu-request"'),
        ("config-defaults", {"container-name-template": "{{.Kind}}"}, "{{.Kind}} is not supported"),
        ("config-deployment", {"progress-deadline": "0s"}, "non-positive duration"),
        ("config-deployment", {"runtime-class-name": "- a"}, "cannot be parsed"),
        ("config-domain", {"example.com": "selector: [1]"}, "selector invalid"),
        ("config-features", {"multi-container": "yes"}, "use enabled, allowed, disabled"),
        ("config-gc", {"min-non-active-revisions": "30", "max-non-active-revisions": "3"}, "must be <="),
        ("config-gc", {"retain-since-create-time": "-1h"}, "must be non-negative"),
        ("config-network", {"rollout-duration": "-1"}, "must be a positive integer"),
        ("config-network", {"domain-template": "{{.Name}}/x"}, "url path"),
        ("config-network", {"tag-template": "{{.Namespace}}"}, "is not supported in a template"),
        ("config-network", {"domain-template": "{{.Name}"}, "braces"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(name: str, data: dict[str, str], words: str) -> None:
    """When it is written; the map of another namespace is nobody's business."""
    rules = ConfigMapRules(ServingConfig())
    causes, _ = rules.judge(config_map(name, data), None)
    assert words in causes[0].message
    assert rules.judge(config_map(name, data, namespace="shop"), None) == ([], [])


def test_keys_without_effect_are_warned_of_once() -> None:
    """Those of Knative's own parts, and those that nobody knows."""
    rules = ConfigMapRules(ServingConfig())
    new = config_map(
        "config-deployment", {"queue-sidecar-image": "q", "progress-deadline": "9s", "_example": ""}
    )
    assert rules.judge(new, None)[1] == ["data[queue-sidecar-image] has no effect: no pod has a queue-proxy"]
    assert rules.judge(new, config_map("config-deployment", {"queue-sidecar-image": "q"}))[1] == []


@pytest.mark.parametrize(
    ("data", "domain"),
    [
        ({}, "localhost"),
        ({"example.com": ""}, "example.com"),
        ({"example.com": "", "secret.example": "selector: {app: secret}"}, "secret.example"),
        ({"example.com": "selector: {app: other}"}, "localhost"),
    ],
)
def test_domains_are_chosen_by_labels(data: dict[str, str], domain: str) -> None:
    """The most specific one, and the platform's own where none is for all."""
    parsed = values.parse(ServingConfig(), "config-domain", data)
    assert parsed.network.naming.public_host(ROUTE) == f"web.shop.{domain}"


def test_names_are_made_by_templates() -> None:
    """A tag's name first, then the domain's; https needs somebody in front, so it has no port of ours."""
    base = ServingConfig(network=values.Network(Naming("example.com", 8080)))
    data = {
        "tag-template": "{{.Name}}-at-{{ .Tag }}",
        "domain-template": '{{.Name}}-{{.Namespace}}.{{index .Labels "app"}}.{{.Domain}}',
    }
    naming = values.parse(base, "config-network", data).network.naming
    assert naming.url(ROUTE) == "http://web-shop.secret.example.com:8080"
    assert naming.url(ROUTE, "old") == "http://web-at-old-shop.secret.example.com:8080"
    secure = values.parse(base, "config-network", {"default-external-scheme": "https"}).network.naming
    assert secure.url(ROUTE) == "https://web.shop.example.com"


def test_a_domain_of_the_cluster_is_not_published() -> None:
    """Knative's way of keeping whole groups of services inside."""
    parsed = values.parse(ServingConfig(), "config-domain", {"svc.cluster.local": "selector: {app: secret}"})
    assert parsed.network.naming.url(ROUTE) == "http://web.shop.svc.cluster.local"


def test_revisions_get_the_defaults() -> None:
    """Times, concurrency, names and resources of whoever leaves them out."""
    asked = config(
        "defaults",
        revision_timeout_seconds="60",
        revision_idle_timeout_seconds="10",
        container_concurrency="5",
        enable_service_links="default",
        container_name_template="{{.Name}}-app",
        revision_cpu_request="100m",
        revision_memory_limit="64Mi",
    ).defaults
    resources_ = {"requests": {"cpu": "1"}}
    spec = {"containers": [{"image": "x", "resources": resources_}]}
    filled = defaults.revision_spec(spec, asked, {"name": "web"})
    assert (filled["timeoutSeconds"], filled["idleTimeoutSeconds"], filled["containerConcurrency"]) == (
        60,
        10,
        5,
    )
    assert "enableServiceLinks" not in filled
    assert filled["containers"][0]["name"] == "web-app"
    assert filled["containers"][0]["resources"] == {"requests": {"cpu": "1"}, "limits": {"memory": "64Mi"}}


def test_runtime_classes_are_chosen_by_labels() -> None:
    """The one with most labels of the revision; none where none fits."""
    text = "gvisor: {selector: {safe: 'yes'}}\nkata: {}"
    parsed = config("deployment", runtime_class_name=text).deployment
    assert parsed.runtime_class({"safe": "yes"}) == "gvisor"
    assert parsed.runtime_class({}) == "kata"
    assert values.Deployment().runtime_class({}) == ""


def test_features_are_switched() -> None:
    """`allowed` opens what is a user's to ask for; a header chooses a tag only when it is `enabled`."""
    tag = "tag-header-based-routing"
    on = config(
        "features", **{"kubernetes.podspec-nodeselector": "Allowed", "multi-container": "disabled"}
    ).features
    assert "kubernetes.podspec-nodeselector" in on
    assert "multi-container" not in on
    assert tag not in values.parse(ServingConfig(), "config-features", {tag: "allowed"}).features
    assert tag in values.parse(ServingConfig(), "config-features", {tag: "enabled"}).features


def test_a_broken_map_counts_as_it_was() -> None:
    """What could be read last goes on to hold; a map that is gone holds nothing."""
    maps = {"config-gc": config_map("config-gc", {"min-non-active-revisions": "3"})}
    live = LiveConfig(ServingConfig(), maps.get)
    assert live().collection.least == 3
    maps["config-gc"] = config_map("config-gc", {"min-non-active-revisions": "x"}, version="2")
    assert live().collection.least == 3
    del maps["config-gc"]
    assert live().collection.least == 20


# --- in a platform


async def put(platform: Platform, name: str, data: dict[str, str]) -> None:
    await platform.client.patch(resources.CONFIG_MAP, name, MAPS, patch={"data": data})


@pytest.mark.anyio
async def test_the_maps_are_there_and_act_at_once(platform: Platform) -> None:
    """A changed domain changes the addresses of Routes that are there; a wrong value is refused."""
    await platform.serve("one")
    await platform.ready()
    await put(platform, "config-domain", {"example.com": ""})
    await platform.eventually(
        serving.SERVICE, "hello", lambda s: objects.status(s)["url"] == "http://hello.default.example.com"
    )
    with pytest.raises(errors.Invalid, match="must be a positive integer"):
        await put(platform, "config-network", {"rollout-duration": "-5"})
    await put(platform, "config-defaults", {"revision-timeout-seconds": "42"})
    other = await platform.client.create(serving.SERVICE, platform.document("two", name="other"))
    assert other["spec"]["template"]["spec"]["timeoutSeconds"] == 42
    document = platform.document("three", name="third")
    document["spec"]["template"]["spec"]["timeoutSeconds"] = 601
    with pytest.raises(errors.Invalid, match="expected 0 <= 601 <= 600"):
        await platform.client.create(serving.SERVICE, document)


@pytest.mark.anyio
async def test_a_revision_may_be_ready_at_zero(platform: Platform) -> None:
    """With `initial-scale: 0`, once the cluster allows it: no pod is made until the first request."""
    note = {"autoscaling.knative.dev/initial-scale": "0"}
    with pytest.raises(errors.Invalid, match="initial-scale"):
        await platform.serve("one", notes=note)
    await put(platform, "config-autoscaler", {"allow-zero-initial-scale": "true"})
    platform.cluster.slow.add("hello-00001")
    await platform.serve("one", notes=note)
    service = await platform.ready()
    marked = {"metadata": {"annotations": {"deployment.kubernetes.io/revision": "1"}}}
    await platform.client.patch(resources.DEPLOYMENT, "hello-00001-deployment", NAMESPACE, patch=marked)
    await anyio.sleep(0.3)  # as long as controllers may take to answer the change
    deployment = await platform.client.get(resources.DEPLOYMENT, "hello-00001-deployment", NAMESPACE)
    assert objects.spec(deployment)["replicas"] == 0
    assert conditions.is_true(service, "RoutesReady")
    assert (await platform.client.list(resources.POD, NAMESPACE)).items == []
    platform.cluster.slow.clear()
    with anyio.fail_after(20):
        assert (await platform.request("hello-00001")).endswith(b"hello")
    deployment = await platform.client.get(resources.DEPLOYMENT, "hello-00001-deployment", NAMESPACE)
    assert objects.spec(deployment)["replicas"] == 1
