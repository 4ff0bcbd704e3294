"""The real Prometheus, by the configuration that the documentation gives."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e import objects
from tests.e2e.harness import ROOT, Kubectl, Platform, eventually, get

pytestmark = [pytest.mark.e2e, pytest.mark.root]

_BUILD_TIMEOUT_S: Final = 300.0
_BLOCKS: Final = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "metrics.md").read_text(), re.DOTALL)
_PAGES: Final = ("", "/cadvisor", "/resource", "/probes")
_JOBS: Final = {"istio", "kube-apiserver", "kube-state-metrics", "kubelet", "ondol"}
_QUERIES: Final = (
    # As the rules of kubernetes-mixin join what containers use with where their pods run.
    (
        'count(container_cpu_usage_seconds_total{job="kubelet",metrics_path="/metrics/cadvisor",image!=""}'
        " * on (namespace, pod) group_left(node) topk by (namespace, pod) (1, max by (namespace, pod, node)"
        ' (kube_pod_info{job="kube-state-metrics",node!=""})))'
    ),
    'count(container_memory_working_set_bytes{job="kubelet",metrics_path="/metrics/cadvisor",image!=""})',
    'count(container_network_receive_bytes_total{job="kubelet",namespace=~".+"})',
    'count(kube_pod_owner{job="kube-state-metrics"})',
    'count(kube_node_status_allocatable{job="kube-state-metrics",resource="cpu"} > 0)',
    'count(kubelet_node_name{job="kubelet",metrics_path="/metrics"})',
    (
        'count(kubelet_running_pods{job="kubelet",metrics_path="/metrics"} * on (instance) group_left(node)'
        ' kubelet_node_name{job="kubelet",metrics_path="/metrics"})'
    ),
    'count(prober_probe_total{job="kubelet",metrics_path="/metrics/probes"})',
    'count(machine_memory_bytes{job="kubelet"})',
    'count(istio_build{job="istio"})',
)


def test_every_page_of_the_node_can_be_read(cluster: Kubectl) -> None:
    """Through the API server, by whoever may; each parses, and no series or heading stands there twice."""
    name = cluster("get", "nodes", "-o", "name").strip().removeprefix("node/")
    for page in _PAGES:
        text = cluster("get", "--raw", f"/api/v1/nodes/{name}/proxy/metrics{page}")
        _check(text)
    for page in ("state", "mesh"):
        _check(cluster("get", "--raw", f"/ondol/metrics/{page}"))


def _check(text: str) -> None:
    samples = [
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    assert len(samples) == len(set(samples))
    for kind in ("# TYPE", "# HELP"):
        heads = [line.split(" ")[2] for line in text.splitlines() if line.startswith(kind)]
        assert len(heads) == len(set(heads))
    counters = re.findall(r"^# TYPE (\S+) counter$", text, re.MULTILINE)
    assert all(name.endswith("_total") for name in counters)


@pytest.fixture
def address(platform: Platform, cluster: Kubectl, space: Kubectl) -> Iterator[str]:
    """Where Prometheus answers; skipped, in apt's words, where apt cannot have it."""
    result = platform.run("image", "from-debian", "prometheus", "-o", "json", timeout_s=_BUILD_TIMEOUT_S)
    if result.status != 0 and "apt-get" in result.err:
        pytest.skip(result.err)
    image = str(json.loads(result.out)["reference"])
    rights, configuration = _BLOCKS
    listed = list(
        yaml.safe_load_all(rights.replace("namespace: monitoring", f"namespace: {space.namespace}"))
    )
    node = cluster("get", "nodes", "-o", "name").strip().removeprefix("node/")
    configuration = configuration.replace("15s", "1s").replace("NODE", node)
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prometheus"}}
    try:
        for obj in (*listed, {**config, "data": {"prometheus.yml": configuration}}):
            space.apply(obj)
        space.apply(_prometheus(image))
        space("wait", "--for=condition=Ready", "pod/prometheus", "--timeout=25s")
        yield f"http://{space.path('pod', 'prometheus', '.status.podIP')}:9090"
    finally:
        cluster("delete", "clusterrole/prometheus", "--ignore-not-found")
        bindings = ("clusterrolebinding/prometheus", "clusterrolebinding/prometheus-monitoring")
        cluster("delete", *bindings, "--ignore-not-found")


def _prometheus(image: str) -> Any:
    main = {
        "name": "main",
        "image": image,
        "command": ["prometheus", "--config.file=/config/prometheus.yml", "--storage.tsdb.path=/data"],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": 9090}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/config"}, {"name": "data", "mountPath": "/data"}],
    }
    volumes = [{"name": "config", "configMap": {"name": "prometheus"}}, {"name": "data", "emptyDir": {}}]
    account = {"runAsUser": 65534, "runAsGroup": 65534, "fsGroup": 65534}
    return objects.pod(
        "prometheus", main, volumes=volumes, serviceAccountName="prometheus", securityContext=account
    )


def test_prometheus_reads_all_pages_as_documented(address: str) -> None:
    """Every target is up, no sample is there twice, and the queries of public rules have answers."""

    def targets() -> Any:
        listed = get(f"{address}/api/v1/targets").value["data"]["activeTargets"]
        jobs = {target["labels"]["job"] for target in listed}
        return listed if jobs == _JOBS and all(target["health"] == "up" for target in listed) else []

    listed = eventually(targets, "all targets are up")
    assert not [target["lastError"] for target in listed if target["lastError"]]
    for query in _QUERIES:

        def answer(query: str = query) -> Any:
            where = f"{address}/api/v1/query?query={urllib.parse.quote(query)}"
            return get(where).value["data"]["result"]

        result = eventually(answer, f"an answer to {query}")
        assert float(result[0]["value"][1]) > 0
    own = str(get(f"{address}/metrics").value)
    assert "prometheus_target_scrapes_sample_duplicate_timestamp_total 0" in own
