"""Paths of the API server that Kubernetes does not have: the platform's own."""

from __future__ import annotations

from typing import Final

METRICS: Final = "/ondol/metrics"
"""The metrics of every part of the platform on one page, a label `part` saying whose."""
MESH_METRICS: Final = "/ondol/metrics/mesh"
"""Calls between workloads, in the families of Istio's standard metrics."""
STATE_METRICS: Final = "/ondol/metrics/state"
"""What all objects are, in the families of kube-state-metrics."""
