"""The example operator in a world of its own, and the cache it runs."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ondol import apiserver, sdk, store
from ondol.api import objects, resources
from ondol.base import errors
from ondol.base.clock import SystemClock
from ondol.sdk.testing import World

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # type hints are looked up there
    spec.loader.exec_module(module)
    return module


EXAMPLE = load(EXAMPLES / "cache-operator" / "cache_operator.py")
CACHE = EXAMPLE.Cache.definition.resource
SERVER = EXAMPLES / "shop" / "cache" / "cache.py"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock = SystemClock()
    app = apiserver.build(apiserver.ApiConfig(), store.open_memory(), clock, random.Random(0))
    async with World(app, clock=clock) as started:
        await sdk.install_crds(started.client, [EXAMPLE.Cache])
        await started.start(EXAMPLE.CacheOperator())
        yield started


async def create(world: World, **spec: Any) -> None:
    metadata = {"name": "carts", "namespace": "default"}
    await world.client.create(CACHE, {"metadata": metadata, "spec": spec})
    await world.run_until_stable()


async def report_ready(world: World, count: int) -> None:
    """What the Deployment's controller would say."""
    deployment = await world.client.get(resources.DEPLOYMENT, "carts", "default")
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    seen = {"observedGeneration": objects.generation(deployment)}
    status = {"status": {**seen, **dict.fromkeys(counts, count)}}
    await world.client.patch(resources.DEPLOYMENT, "carts", "default", patch=status, subresource="status")
    await world.run_until_stable()


@pytest.mark.anyio
async def test_a_cache_becomes_a_deployment_and_a_service(world: World) -> None:
    """Children carry the spec, its defaults and their owner."""
    await create(world, memory="32Mi")
    cache = await world.client.get(CACHE, "carts", "default")
    deployment = await world.client.get(resources.DEPLOYMENT, "carts", "default")
    service = await world.client.get(resources.SERVICE, "carts", "default")
    assert objects.is_controlled_by(deployment, cache)
    assert objects.is_controlled_by(service, cache)
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "ondol.local/shop/cache:latest"
    assert {"name": "CACHE_MEMORY_BYTES", "value": str(32 * 2**20)} in container["env"]
    assert cache["spec"] == {"memory": "32Mi", "replicas": 1, "ttlSeconds": 0}
    assert cache["status"]["phase"] == "Starting"
    assert cache["status"]["address"] == "http://carts.default"


@pytest.mark.anyio
async def test_readiness_becomes_status_condition_and_event(world: World) -> None:
    """What the Deployment reports is what the Cache reports, by generation."""
    await create(world, replicas=2)
    await world.assert_condition(CACHE, "carts", "default", "Ready", "False")
    await report_ready(world, 2)
    cache = await world.assert_condition(CACHE, "carts", "default", "Ready")
    assert (cache["status"]["phase"], cache["status"]["ready"]) == ("Running", 2)
    assert cache["status"]["observedGeneration"] == cache["metadata"]["generation"]
    reasons = {event["reason"] for event in (await world.client.list(resources.EVENT, "default")).items}
    assert reasons == {"Starting", "Running"}


@pytest.mark.anyio
async def test_a_change_that_rolls_out_is_not_ready(world: World) -> None:
    """The replicas of before still answer, and do not count: what was asked for is not there yet."""
    await create(world)
    await report_ready(world, 1)
    await world.assert_condition(CACHE, "carts", "default", "Ready")
    await world.client.patch(CACHE, "carts", "default", patch={"spec": {"memory": "48Mi"}})
    await world.run_until_stable()
    await world.assert_condition(CACHE, "carts", "default", "Ready", "False")
    await report_ready(world, 1)
    await world.assert_condition(CACHE, "carts", "default", "Ready")


@pytest.mark.anyio
async def test_a_child_that_is_tampered_with_is_mended(world: World) -> None:
    """Deleted or changed, the children come back as described."""
    await create(world)
    await world.client.delete(resources.SERVICE, "carts", "default")
    await world.client.patch(resources.DEPLOYMENT, "carts", "default", patch={"spec": {"replicas": 7}})
    await world.run_until_stable()
    assert await world.get(resources.SERVICE, "carts", "default") is not None
    deployment = await world.client.get(resources.DEPLOYMENT, "carts", "default")
    assert deployment["spec"]["replicas"] == 1


@pytest.mark.anyio
async def test_deleting_a_cache_runs_its_finalizer_and_takes_all_along(world: World) -> None:
    """The finalizer is set, run and removed by the framework."""
    await create(world)
    cache = await world.client.get(CACHE, "carts", "default")
    assert objects.finalizers(cache) == ("shop.ondol.dev/caches-operator",)
    await world.client.delete(CACHE, "carts", "default")
    await world.run_until_stable()
    await world.assert_gone(CACHE, "carts", "default")
    await world.assert_gone(resources.DEPLOYMENT, "carts", "default")
    reasons = [event["reason"] for event in (await world.client.list(resources.EVENT, "default")).items]
    assert "Emptied" in reasons


@pytest.mark.anyio
async def test_the_schema_refuses_what_the_types_forbid(world: World) -> None:
    """Constraints written as type hints are held by the API server."""
    for spec in ({"replicas": 11}, {"memory": "lots"}, {"ttlSeconds": -1}):
        with pytest.raises(errors.Invalid):
            await create(world, **spec)


def test_the_operator_is_short() -> None:
    """The example promises under 80 lines."""
    assert len((EXAMPLES / "cache-operator" / "cache_operator.py").read_text().splitlines()) < 80


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_least_recently_used_entry_leaves_a_full_cache() -> None:
    """Memory is bounded by bytes; use keeps an entry."""
    module = load(SERVER)
    cache = module.Cache(3 * (256 + 1 + 100), 0)
    for key in "abc":
        assert cache.put(key, b"x" * 100, "text/plain")
    cache.get("a")
    cache.put("d", b"x" * 100, "text/plain")
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]
    assert cache.stats()["evictions"] == 1
    assert not cache.put("big", b"x" * 2000, "text/plain")


def test_entries_expire() -> None:
    """By the cache's own time to live, or the entry's."""
    clock = Clock()
    cache = load(SERVER).Cache(10_000, 60, clock)
    cache.put("short", b"", "", 1)
    cache.put("usual", b"", "")
    cache.put("ever", b"", "", 0)
    clock.now = 59
    assert [key for key in ("short", "usual", "ever") if cache.get(key)] == ["usual", "ever"]
    clock.now = 10_000
    assert cache.get("usual") is None
    assert cache.get("ever") is not None
    assert cache.stats()["used_bytes"] == 256 + len("ever")


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], http.client.HTTPConnection]]:
    environment = {**os.environ, "PORT": "0", "CACHE_MEMORY_BYTES": "5000"}
    with subprocess.Popen(
        [sys.executable, str(SERVER)], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rsplit(maxsplit=1)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        yield process, connection
        connection.close()
        process.kill()


def test_the_cache_serves_http_until_it_is_told_to_stop(
    server: tuple[subprocess.Popen[str], http.client.HTTPConnection],
) -> None:
    """Put, get, delete, statistics and a graceful end."""
    process, connection = server

    def ask(method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        return answer.status, answer.read()

    assert ask("GET", "/keys/a") == (404, b'{"error":"no such key"}')
    assert ask("PUT", "/keys/a%2Fb", b"value") == (204, b"")
    assert ask("GET", "/keys/a%2Fb") == (200, b"value")
    assert ask("PUT", "/keys/x?ttl=soon", b"v")[0] == 400
    assert ask("PUT", "/keys/x", b"v" * 4900)[0] == 413
    assert json.loads(ask("GET", "/stats")[1])["entries"] == 1
    assert ask("DELETE", "/keys/a%2Fb") == (204, b"")
    assert ask("DELETE", "/keys/a%2Fb") == (404, b"")
    assert ask("PUT", "/keys/y", b"v" * 6000)[0] == 413
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
