"""Which pods the mesh serves, and what of their traffic: Istio's labels and annotations."""

from __future__ import annotations

from typing import Any

import pytest

from ondol.api.validation import pods
from ondol.contracts import mesh

MODE, INJECT, INJECTION = mesh.MODE_LABEL, mesh.INJECT, mesh.INJECTION_LABEL


@pytest.mark.parametrize(
    ("labels", "annotations", "namespace", "expected"),
    [
        ({}, {}, {}, True),
        ({MODE: "none"}, {}, {}, False),
        ({INJECT: "false"}, {}, {}, False),
        ({}, {INJECT: "false"}, {}, False),
        ({INJECT: "False"}, {}, {}, False),
        ({INJECT: "true"}, {INJECT: "false"}, {}, True),
        ({INJECT: "false"}, {INJECT: "true"}, {}, False),
        ({MODE: "ambient", INJECT: "false"}, {}, {}, True),
        ({}, {}, {INJECTION: "disabled"}, False),
        ({}, {}, {INJECTION: "enabled"}, True),
        ({}, {}, {MODE: "none"}, False),
        ({}, {}, {MODE: "ambient", INJECTION: "disabled"}, True),
        ({INJECT: "true"}, {}, {INJECTION: "disabled"}, True),
        ({MODE: "ambient"}, {}, {MODE: "none"}, True),
    ],
)
def test_who_is_in_the_mesh(
    labels: dict[str, str], annotations: dict[str, str], namespace: dict[str, str], expected: bool
) -> None:
    """Everybody who does not opt out: the pod before its namespace, a label before an annotation."""
    pod = {"metadata": {"labels": labels, "annotations": annotations}, "spec": {}}
    assert mesh.in_mesh(pod, {"metadata": {"labels": namespace}}) is expected


@pytest.mark.parametrize(
    "annotation",
    [
        {"excludeOutboundPorts": "80; drop"},
        {"excludeOutboundPorts": "0"},
        {"includeOutboundPorts": "65536"},
        {"includeOutboundIPRanges": "10.0.0.0/33"},
        {"excludeOutboundIPRanges": "example.com"},
        {"excludeInterfaces": 'a" accept'},
    ],
)
def test_an_annotation_that_cannot_be_read_refuses_the_pod(annotation: dict[str, str]) -> None:
    """As Istio's injector does: what would be taken for nothing is told when the pod is made."""
    ((name, value),) = annotation.items()
    full = f"traffic.sidecar.istio.io/{name}"
    pod: dict[str, Any] = {"metadata": {"annotations": {full: value}}, "spec": {}}
    refused = [cause for cause in pods.pod(pod) if cause.field == "metadata.annotations"]
    assert len(refused) == 1
    assert full in refused[0].message
