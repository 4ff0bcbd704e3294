"""The metrics of every part, at the one place that `ondol status` names."""

from __future__ import annotations

import urllib.parse

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.harness import Kubectl, Platform

pytestmark = [pytest.mark.e2e, pytest.mark.root]

# What tells most of a part; of each there is at least one sample.
_TELLING = {
    "apiserver_request": "api",
    "ondol_store_commit_duration_seconds": "api",
    "ondol_supervisor_part_state": "supervisor",
    "workqueue_depth": "control",
    "pilot_xds": "control",
    "pilot_xds_pushes": "control",
    "controller_runtime_reconcile": "control",
    "rest_client_requests": "gateway",
    "kubelet_running_pods": "node",
    "ondol_observe_spans": "observe",
    "envoy_server_live": "envoy",
}


def test_every_part_shows_its_metrics(platform: Platform, cluster: Kubectl) -> None:
    """All of them answer, and each tells what is particular to it; the command line shows the same page."""
    address = urllib.parse.urlsplit(platform.status()["metrics"])
    for page in (cluster("get", "--raw", address.path), platform("metrics")):
        families = {family.name: family for family in text_string_to_metric_families(page)}
        up = {sample.labels["part"]: sample.value for sample in families["up"].samples}
        assert up.pop("events", 1) == 1  # there once something has needed it
        assert up == dict.fromkeys(("supervisor", "api", "control", "node", "gateway", "envoy"), 1)
        for name, part in _TELLING.items():
            assert part in {sample.labels["part"] for sample in families[name].samples}, name


def test_metrics_are_for_who_may_read_them(cluster: Kubectl) -> None:
    """The role that Kubernetes has for it is enough, and nothing less."""
    path = "/ondol/metrics"
    refused = cluster.refused("get", "--raw", path, "--as", "bob", "--as-group", "system:authenticated")
    assert "cannot get path" in str(refused)
    page = cluster("get", "--raw", path, "--as", "prometheus", "--as-group", "system:monitoring")
    assert 'up{part="api"} 1' in page
