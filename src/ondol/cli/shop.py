"""The steps of the demo with the shop and the lines it prints; every number in them is measured."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from ondol import client as clients
from ondol.api import conditions, objects
from ondol.api import resources as kinds
from ondol.api.objects import Object, Resource
from ondol.base import errors, quantity
from ondol.build import image
from ondol.build.store import ImageStore
from ondol.cli import output, resources, shop_events, terminal, traces
from ondol.cli.demo_steps import NAMESPACE, fetch, is_ready, until
from ondol.client import Client
from ondol.compose import hints, platform, waiting
from ondol.compose.instance import Instance
from ondol.compose.waiting import Deadline, Stopwatch
from ondol.contracts import eventing, serving

_CACHE: Final = Resource("shop.ondol.dev", "v1", "caches", "Cache")
_IMAGES: Final = (("ondol.local/shop/app:latest", "shop"), ("ondol.local/shop/cache:latest", "shop/cache"))
_DEPLOYMENTS: Final = ("front", "catalog", "cart", "reviews-v1", "reviews-v2")
_REQUESTS: Final = 200
_SPANS_OF_A_REQUEST: Final = 8
"""At least: the way in and the three calls it leads to, two each. The cart may call its cache besides."""


async def show(instance: Instance, examples: Path, watch: Stopwatch) -> None:
    """Run the whole story against a platform that is up."""
    await anyio.to_thread.run_sync(_build, instance, examples)
    async with aclosing(clients.from_kubeconfig(instance.kubeconfig)) as client:
        await _deploy(client, instance, examples)
        await until("the shop's first answer", _answers, instance)
        terminal.write(f"\nFrom nothing to a running shop: {watch.elapsed_s:.1f} s")
        await anyio.to_thread.run_sync(_traffic, instance)
        await anyio.to_thread.run_sync(_trace, instance)
        await _cold_start(client, instance)
        await shop_events.show(client, instance)
        await _operator_action(client)
    _resources(instance)


def _build(instance: Instance, examples: Path) -> None:
    terminal.write("\nImages, without Docker and without a registry:")
    store = ImageStore(instance.data_dir / "images")
    for reference, folder in _IMAGES:
        built = image.build(examples / folder, reference, store)
        size = built.size_bytes / (1 << 20)
        terminal.write(f"  {reference:<32} {built.seconds:5.1f} s  {size:5.0f} MB  {built.digest[:19]}")


async def _deploy(client: Client, instance: Instance, examples: Path) -> None:
    terminal.write("\nThe shop:")
    watch = Stopwatch()
    await until("the operator's kind", _cache_kind, client)
    for document in output.load_documents(str(examples / "shop" / "manifests")):
        await resources.apply_document(client, dict(document), NAMESPACE)
    for name in _DEPLOYMENTS:
        await until(f"deployment {name}", _is_available, client, name)
        terminal.write(f"  {name:<12} ready after {watch.elapsed_s:4.1f} s")
    await until("cache carts", is_ready, client, _CACHE, "carts")
    terminal.write(f"  {'carts':<12} ready after {watch.elapsed_s:4.1f} s  (made by the cache operator)")
    await until("serverless thumbnail", is_ready, client, serving.SERVICE, "thumbnail")
    terminal.write(f"  {'thumbnail':<12} ready after {watch.elapsed_s:4.1f} s  (serverless)")
    await until("broker orders", is_ready, client, eventing.BROKER, "orders")
    await shop_events.deploy(client, instance, examples)
    terminal.write(f"  {'receipts':<12} ready after {watch.elapsed_s:4.1f} s  (a function, from its code)")


async def _answers(instance: Instance) -> bool:
    """Whether a page comes; on a second start the pods of the first come up again meanwhile."""
    status, _ = await anyio.to_thread.run_sync(fetch, instance, "shop.localhost", "/products/stove")
    return status == 200


async def _cache_kind(client: Client) -> bool:
    try:
        await client.list(_CACHE, NAMESPACE)
    except errors.NotFound:
        return False
    return True


async def _is_available(client: Client, name: str) -> bool:
    deployment = await client.get(kinds.DEPLOYMENT, name, NAMESPACE)
    return conditions.is_true(deployment, "Available")


def _traffic(instance: Instance) -> None:
    """Send requests from outside and count which version of reviews answered."""
    seen: Counter[str] = Counter()
    testers: Counter[str] = Counter()
    failed = 0
    status, body = fetch(instance, "shop.localhost", "/buy/tea")
    watch = Stopwatch()
    for number in range(_REQUESTS):
        is_tester = number % 10 == 0
        headers = {"x-tester": "yes"} if is_tester else {}
        answer, page = fetch(instance, "shop.localhost", "/products/stove", headers=headers)
        if answer == 200:
            (testers if is_tester else seen)[json.loads(page)["reviews"]["version"]] += 1
        else:
            failed += 1
    took = watch.elapsed_s
    total = sum(seen.values()) or 1
    terminal.write(f"\nTraffic: {_REQUESTS} requests in {took:.1f} s, one after the other; {failed} failed")
    shares = ", ".join(f"{v} {n} ({100 * n / total:.0f} %)" for v, n in sorted(seen.items()))
    terminal.write(f"  split 90/10 between versions of reviews: {shares}")
    terminal.write(f"  with the header x-tester: yes: {dict(testers)}")
    terminal.write(
        f"  the cart, kept in the operator's cache: {json.loads(body)['items'] if status == 200 else status}"
    )
    if failed or status != 200 or set(testers) != {"v2"} or not seen["v1"] > seen["v2"]:
        raise errors.HostError(
            "the traffic did not go as the rules say", remedy=hints.command("traces", instance.data_dir)
        )


def _trace(instance: Instance) -> None:
    """Draw the fullest of the newest traces that are whole: the proxy's threads send their spans apart."""
    terminal.write("\nOne request, drawn from its spans:")
    deadline = Deadline(15.0)
    while not (whole := [each for each in traces.summaries(instance, limit=40) if _is_whole(each)]):
        if deadline.has_passed:
            raise errors.HostError("no whole trace arrived in 15 s", remedy="see logs/observe.log")
        waiting.sleep(0.25)
    fullest = max(whole, key=lambda summary: int(summary["spanCount"]))
    document = traces.ask(instance, f"/api/v3/traces/{fullest['traceId']}")["result"]
    for line in traces.draw(document, width=100):
        terminal.write(f"  {line}")


def _is_whole(summary: Mapping[str, Any]) -> bool:
    """Whether all of a request's spans have arrived, the one it began with among them."""
    return int(summary["spanCount"]) >= _SPANS_OF_A_REQUEST and not int(summary["orphanSpanCount"])


async def _cold_start(client: Client, instance: Instance) -> None:
    """Let the serverless service rest, then time the first request that finds nobody."""
    terminal.write("\nServerless: thumbnail rests at zero until somebody asks")
    watch = Stopwatch()
    await until("thumbnail at zero", _is_at_zero, client)
    terminal.write(f"  at zero replicas after {watch.elapsed_s:.1f} s without requests")

    def timed() -> float:
        watch = Stopwatch()
        status, body = fetch(instance, "thumbnail.shop.localhost", "/thumbnails/tea")
        if status != 200:
            why = body.decode(errors="replace").strip()[:200] or "nothing more"
            raise errors.HostError(
                f"a request at zero was answered {status}: {why}",
                remedy="run the demo again with --keep, and see the logs in its data directory",
            )
        return watch.elapsed_s

    cold = await anyio.to_thread.run_sync(timed)
    warm = await anyio.to_thread.run_sync(timed)
    terminal.write(f"  first request, from zero: {cold * 1000:.0f} ms; the next one: {warm * 1000:.1f} ms")


async def _is_at_zero(client: Client) -> bool:
    pods = await client.list(kinds.POD, NAMESPACE, label_selector=f"{serving.SERVICE_LABEL}=thumbnail")
    return not pods.items


async def _operator_action(client: Client) -> None:
    """Change the custom resource and show what the operator made of it."""
    terminal.write("\nThe operator: the cache is given more memory")
    patch = {"spec": {"memory": "48Mi"}}
    patched = await client.patch(_CACHE, "carts", NAMESPACE, patch=patch)
    await until("the cache with more memory", _has_memory, client, "48Mi")
    await until("cache carts", is_ready, client, _CACHE, "carts")
    await until("the operator's word", _is_announced, client, patched)
    cache = await client.get(_CACHE, "carts", NAMESPACE)
    terminal.write(
        f"  status: {json.dumps({k: v for k, v in objects.status(cache).items() if k != 'conditions'})}"
    )
    for event in await _events_since(client, patched):
        terminal.write(f"  event: {event.get('reason')}: {event.get('message') or event.get('note')}")


async def _is_announced(client: Client, patched: Object) -> bool:
    """Whether the operator has said that the changed cache runs."""
    return any(event.get("reason") == "Running" for event in await _events_since(client, patched))


async def _has_memory(client: Client, memory: str) -> bool:
    deployments = await client.list(kinds.DEPLOYMENT, NAMESPACE)
    size = str(quantity.bytes_of(memory))
    return any(f'"{size}"' in json.dumps(d.get("spec")) for d in deployments.items if _owned_by_cache(d))


def _owned_by_cache(obj: Object) -> bool:
    owner = objects.controller_of(obj)
    return owner is not None and owner.get("kind") == "Cache"


async def _events_since(client: Client, patched: Object) -> list[Object]:
    """The Events of an object after its change, the oldest first."""
    events = (await client.list(kinds.EVENT, NAMESPACE)).items
    own = [e for e in events if (e.get("involvedObject") or {}).get("uid") == objects.uid(patched)]
    return sorted((e for e in own if _revision(e) > _revision(patched)), key=_revision)


def _revision(obj: Object) -> int:
    return int(objects.resource_version(obj))


def _resources(instance: Instance) -> None:
    """Memory and processor time of each part of the platform, as the kernel accounts them."""
    report = platform.status(instance.data_dir)
    terminal.write("\nThe platform itself:")
    for part in report.parts:
        size = output.megabytes(part.memory_bytes)
        terminal.write(f"  {part.name:<12} {part.state:<8} {size:>8}  {part.cpu_s:5.1f} s of processor time")
    terminal.write(f"  {'in all':<12} {'':<8} {output.megabytes(report.memory_bytes):>8}")
