"""Routes on an API server in this process: gradual roll-outs, tags by header, names by configuration."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.serverless.serving_world import NAMESPACE, Platform

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.contracts import mesh, serving
from ondol.serverless.config import values
from ondol.serverless.serving import wellknown

pytestmark = pytest.mark.anyio


async def test_traffic_moves_gradually(platform: Platform) -> None:
    """One percent first, said in the conditions; the whole of it in the end."""
    slowly = {"serving.knative.dev/rollout-duration": "2s"}
    await platform.serve("one", of_service=slowly)
    await platform.ready()
    await platform.serve("two", of_service=slowly)
    service = await platform.eventually(
        serving.SERVICE, "hello", lambda s: _reason(s, "RoutesReady") == "RolloutInProgress"
    )
    assert [(t["revisionName"], t["percent"]) for t in objects.status(service)["traffic"]] == [
        ("hello-00001", 99),
        ("hello-00002", 1),
    ]
    rules = await platform.client.get(mesh.VIRTUAL_SERVICE, "hello", NAMESPACE)
    assert [d["weight"] for d in rules["spec"]["http"][0]["route"]] == [99, 1]
    old = await platform.client.get(serving.REVISION, "hello-00001", NAMESPACE)
    assert objects.labels(old)[wellknown.ROUTING_STATE_LABEL] == "active"
    service = await platform.ready(latest="hello-00002")
    assert [(t["revisionName"], t["percent"]) for t in objects.status(service)["traffic"]] == [
        ("hello-00002", 100)
    ]


def _reason(obj: Object, type_: str) -> str:
    return str((conditions.get(obj, type_) or {}).get("reason") or "")


async def test_tags_by_header_follow_the_feature(platform: Platform) -> None:
    """Switching it on makes a rule for each tag's header, switching it off takes them away."""
    tagged: list[Object] = [{"latestRevision": True, "percent": 100, "tag": "now"}]
    await platform.serve("one", traffic=tagged)
    await platform.ready()
    for word, count in (("enabled", 3), ("disabled", 2)):
        await platform.client.patch(
            resources.CONFIG_MAP,
            "config-features",
            values.NAMESPACE,
            patch={"data": {"tag-header-based-routing": word}},
        )
        await platform.eventually(mesh.VIRTUAL_SERVICE, "hello", _has_rules(count))


def _has_rules(count: int) -> Callable[[Object], bool]:
    return lambda rules: len(rules["spec"]["http"]) == count
