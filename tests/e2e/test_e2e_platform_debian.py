"""Packages of the distribution run in pods of a real platform."""

from __future__ import annotations

import json
from typing import Final

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, Platform, eventually, get

pytestmark = [pytest.mark.e2e, pytest.mark.root]

_BUILD_TIMEOUT_S: Final = 300.0


def _image(platform: Platform, package: str) -> str:
    """The image of a package; skipped, in apt's words, where apt cannot have it."""
    result = platform.run("image", "from-debian", package, "-o", "json", timeout_s=_BUILD_TIMEOUT_S)
    if result.status != 0 and "apt-get" in result.err:
        pytest.skip(result.err)
    assert result.status == 0, str(result)
    return str(json.loads(result.out)["reference"])


def test_redis_of_the_distribution_answers(platform: Platform, space: Kubectl) -> None:
    """A pod of the package is Ready by its own client's ping, and keeps what it is told."""
    probe = {"exec": {"command": ["redis-cli", "ping"]}, "periodSeconds": 1}
    main = {"name": "main", "image": _image(platform, "redis-server"), "readinessProbe": probe}
    space.apply(objects.pod("redis", main))
    space("wait", "--for=condition=Ready", "pod/redis", "--timeout=60s")
    assert space("exec", "redis", "--", "redis-cli", "ping").strip() == "PONG"
    assert space("exec", "redis", "--", "redis-cli", "set", "colour", "red").strip() == "OK"
    assert space("exec", "redis", "--", "sh", "-c", "redis-cli get colour").strip() == "red"


def test_prometheus_of_the_distribution_answers(platform: Platform, space: Kubectl) -> None:
    """A pod of the package serves its readiness page and has its own targets."""
    probe = {"httpGet": {"path": "/-/ready", "port": 9090}, "periodSeconds": 1}
    main = {"name": "main", "image": _image(platform, "prometheus"), "readinessProbe": probe}
    space.apply(objects.pod("prometheus", main))
    space("wait", "--for=condition=Ready", "pod/prometheus", "--timeout=60s")
    address = space.path("pod", "prometheus", ".status.podIP")
    targets = eventually(
        lambda: get(f"http://{address}:9090/api/v1/targets").value["data"]["activeTargets"], "it has targets"
    )
    assert any(target["labels"]["job"] == "prometheus" for target in targets)
