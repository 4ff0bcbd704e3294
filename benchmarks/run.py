"""Measures what the README says, on a platform of its own, and prints a table beside the aims.

`python benchmarks/run.py [name ...]` runs all measurements or the named ones and writes
`benchmarks/results/<time>.json`. Machines are noisy: medians are printed, with the spread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform as machine
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import api_load
import at_size
import events as event_rates
import scaling as steps

from ondol import client as clients
from ondol.api import conditions, objects
from ondol.api import resources as kinds
from ondol.build import image
from ondol.build.store import ImageStore
from ondol.cli import shop
from ondol.client import Client
from ondol.compose import parts, platform, settings
from ondol.compose.instance import Instance
from ondol.contracts import mesh as mesh_kinds
from ondol.contracts import serving

HERE = Path(__file__).resolve().parent
ROUNDS = 20
FUNCTIONS = 8
FUNCTION_ROUNDS = 200
PAUSE_S = 0.6
"""After a service has come to rest: what is kept ready for the next start is ready by then."""
NAMESPACE = "bench"
LOAD_IMAGE = "ondol.local/bench/load:latest"


class Row:
    """One line of the table."""

    def __init__(self, what: str, value: float, unit: str, aim: str, *, good: bool, note: str = "") -> None:
        self.what, self.value, self.unit, self.aim, self.good, self.note = what, value, unit, aim, good, note

    def document(self) -> dict[str, Any]:
        return vars(self)


def main() -> None:
    names = list(MEASUREMENTS)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(names))
    chosen = parser.parse_args().names or names
    if unknown := set(chosen) - set(names):
        parser.error(f"no measurement is called {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="ondol-bench-") as folder:
        configured = settings.load(Path(folder) / "data", flags={"scale_to_zero_after_s": 6.0})
        rows += _start(configured, chosen)
        instance = platform.require_running(configured.data_dir)
        try:
            for name in chosen:
                if MEASUREMENTS[name] is not None:
                    rows += MEASUREMENTS[name](instance)
        finally:
            platform.stop(configured)
            _print(rows)  # also what was measured before one that failed
    _write(rows)


def _start(configured: settings.Settings, chosen: list[str]) -> list[Row]:
    """Time from the command to ready, five times on the same data, then left running."""
    times = []
    for _ in range(5 if "up" in chosen else 1):
        platform.stop(configured)
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "ondol.cli", "up", "--detach", "--data-dir", str(configured.data_dir)],
            check=True,
            capture_output=True,
            env={**os.environ, "ONDOL_SCALE_TO_ZERO_AFTER_S": str(configured.scale_to_zero_after_s)},
        )
        times.append(time.monotonic() - began)
    if "up" not in chosen:
        return []
    median = statistics.median(times)
    return [_row("ondol up to ready", median, "s", 5.0, spread=times)]


def memory(instance: Instance) -> list[Row]:
    """Proportional set size of all parts after a minute of rest, and the processor time of that minute."""
    rest_s = 60.0
    before = platform.status(instance.data_dir)
    time.sleep(rest_s)
    after = platform.status(instance.data_dir)
    used = sum(p.cpu_s for p in after.parts) - sum(p.cpu_s for p in before.parts)
    bounds = {p.name: p.idle_memory_mib for p in parts.of(instance, settings.Settings(instance.data_dir))}
    sizes = ", ".join(_size(p.name, p.memory_bytes >> 20, bounds.get(p.name)) for p in after.parts)
    return [
        _row("idle memory, all parts", after.memory_bytes / (1 << 20), "MB", 400.0, note=sizes),
        _row("idle processor, share of one core", 100 * used / rest_s, "%", 2.0),
    ]


def _size(name: str, mib: int, bound_mib: int | None) -> str:
    """A part's memory, and its bound if that is passed."""
    return f"{name} {mib}" + (f" (more than {bound_mib})" if bound_mib and mib > bound_mib else "")


def pod(instance: Instance) -> list[Row]:
    """Create a pod whose image is present; until its Ready condition is seen by a watch."""
    _build(instance)
    times = anyio.run(_pods, instance)
    return [
        _row("pod: create to Ready", statistics.median(times) * 1000, "ms", 400.0, spread=times, scale=1000)
    ]


async def _pods(instance: Instance) -> list[float]:
    times = []
    async with aclosing(clients.from_kubeconfig(instance.kubeconfig)) as client:
        await _namespace(client)
        for number in range(ROUNDS):
            name = f"pod-{number}"
            document = _pod(name, [{"name": "main", "image": LOAD_IMAGE}])
            began = time.monotonic()
            created = await client.create(kinds.POD, document)
            await _watch_ready(client, name, objects.resource_version(created))
            times.append(time.monotonic() - began)
            await client.delete(kinds.POD, name, NAMESPACE, grace_period_s=0)
    return times


async def _watch_ready(client: Client, name: str, version: str) -> None:
    async with client.watch(
        kinds.POD, NAMESPACE, resource_version=version, field_selector=f"metadata.name={name}"
    ) as events:
        async for event in events:
            if event.type != "BOOKMARK" and conditions.is_true(event.object, "Ready"):
                return


def cold(instance: Instance) -> list[Row]:
    """A request to a serverless service at zero, from outside, until its whole answer is there."""
    _build(instance)
    times = anyio.run(_cold_starts, instance)
    return [
        _row(
            "serverless: first request from zero",
            statistics.median(times) * 1000,
            "ms",
            600.0,
            spread=times,
            scale=1000,
        )
    ]


def function(instance: Instance) -> list[Row]:
    """Cold requests to Python that needs no package, as functions do: 200, of eight services in turn."""
    _build(instance)
    times = sorted(anyio.run(_cold_functions, instance))
    return [
        _row(
            f"serverless: Python from zero, {rank}",
            times[min(len(times) - 1, int(len(times) * share))] * 1000,
            "ms",
            aim,
            spread=times,
            scale=1000,
        )
        for rank, share, aim in (("p50", 0.5, 30.0), ("p99", 0.99, 80.0))
    ]


async def _cold_functions(instance: Instance) -> list[float]:
    """Each service rests while the others are asked."""
    times = []
    names = [f"function-{number}" for number in range(FUNCTIONS)]
    async with aclosing(clients.from_kubeconfig(instance.kubeconfig)) as client:
        await _namespace(client)
        for name in names:
            await client.apply(serving.SERVICE, _serverless(name))
        for name in names:
            await _until(partial(_ready, client, serving.SERVICE, name))
        for number in range(FUNCTION_ROUNDS):
            name = names[number % FUNCTIONS]
            await _until(partial(_no_pods, client, name))
            await anyio.sleep(PAUSE_S)
            times.append(await _first_answer(instance, name))
        for name in names:
            await client.delete(serving.SERVICE, name, NAMESPACE)
    return times


async def _first_answer(instance: Instance, name: str) -> float:
    began = time.monotonic()
    host = f"{name}.{NAMESPACE}.localhost"
    status, _body = await anyio.to_thread.run_sync(shop.fetch, instance, host, "/")
    if status != 200:
        raise SystemExit(f"the cold request was answered {status}")
    return time.monotonic() - began


def _serverless(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "template": {
                "metadata": {"annotations": {"autoscaling.knative.dev/window": "6s"}},
                "spec": {"containers": [{"image": LOAD_IMAGE}]},
            }
        },
    }


async def _cold_starts(instance: Instance) -> list[float]:
    times = []
    async with aclosing(clients.from_kubeconfig(instance.kubeconfig)) as client:
        await _namespace(client)
        await client.apply(serving.SERVICE, _serverless("cold"))
        await _until(lambda: _ready(client, serving.SERVICE, "cold"))
        for _ in range(ROUNDS):
            await _until(partial(_no_pods, client, "cold"))
            times.append(await _first_answer(instance, "cold"))
        await client.delete(serving.SERVICE, "cold", NAMESPACE)
    return times


async def _no_pods(client: Client, name: str) -> bool:
    selector = f"serving.knative.dev/service={name}"
    return not (await client.list(kinds.POD, NAMESPACE, label_selector=selector)).items


async def _ready(client: Client, resource: objects.Resource, name: str) -> bool:
    return conditions.is_true(await client.get(resource, name, NAMESPACE), "Ready")


def scaling(instance: Instance) -> list[Row]:
    """A step of load on one replica of twenty; then as much while a revision is rolled out, and so on."""
    _build(instance)
    figures = steps.measure(instance, LOAD_IMAGE)
    rows = []
    for what, figure in figures.items():
        if isinstance(figure, float):
            rows.append(_row(f"serverless: {what}", figure, "s", 3.0))
        else:
            note = f"of {figure['answered'] + figure['failed']} requests {' '.join(figure['failures'])}"
            rows.append(_row(f"serverless: {what}, failed", figure["failed"], "", 0.0, note=note))
    return rows


def mesh(instance: Instance) -> list[Row]:
    """The same client at 1,000 requests a second: straight to a pod, through the proxy, to a guarded pod."""
    _build(instance)
    figures = anyio.run(_mesh, instance)
    note = ", ".join(f"{way} {figure}" for way, figure in figures.items())
    aims = {"through": (0.5, 2.0), "guarded": (0.5, 2.0)}
    words = {"through": "mesh hop", "guarded": "mesh hop with certificates and a policy"}
    return [
        _row(
            f"{words[way]} at 1,000 req/s, added {p}",
            figures[way][f"{p}_ms"] - figures["direct"][f"{p}_ms"],
            "ms",
            aim,
            note=note,
        )
        for way, pair in aims.items()
        for p, aim in zip(("p50", "p99"), pair, strict=True)
    ]


async def _mesh(instance: Instance) -> dict[str, dict[str, float]]:
    async with aclosing(clients.from_kubeconfig(instance.kubeconfig)) as client:
        await _namespace(client)
        await client.apply(mesh_kinds.AUTHORIZATION_POLICY, _policy("guarded"))
        for name in ("server", "guarded"):
            await client.apply(
                kinds.POD, _pod(name, [{"name": "main", "image": LOAD_IMAGE}], labels={"app": name})
            )
            await client.apply(kinds.SERVICE, _service(name))
            await _until(partial(_ready, client, kinds.POD, name))
        address = objects.status(await client.get(kinds.POD, "server", NAMESPACE))["podIP"]
        opted_out = {"istio.io/dataplane-mode": "none"}
        ways: dict[str, tuple[str, int, dict[str, str]]] = {
            "direct": (address, 8080, opted_out),
            "through": ("server", 80, {}),
            "guarded": ("guarded", 80, {}),
        }
        rounds: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for number in range(3):  # in turn, so that a drift of the machine falls on all
            for way, target in ways.items():
                rounds[way].append(await _load(client, f"{way}-{number}", *target))
    return {way: _median(reports) for way, reports in rounds.items()}


def _service(name: str) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": name}, "ports": ports},
    }


def _policy(app: str) -> dict[str, Any]:
    """Whoever is of the namespace may read, with mutual TLS."""
    rule = {
        "from": [{"source": {"namespaces": [NAMESPACE]}}],
        "to": [{"operation": {"methods": ["GET", "POST"]}}],
    }
    return {
        "apiVersion": mesh_kinds.AUTHORIZATION_POLICY.api_version,
        "kind": "AuthorizationPolicy",
        "metadata": {"name": app, "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": {"app": app}}, "rules": [rule]},
    }


def _median(reports: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(r[key] for r in reports) for key in reports[0]}


async def _load(client: Client, name: str, host: str, port: int, labels: dict[str, str]) -> dict[str, float]:
    env = [{"name": "TARGET_HOST", "value": host}, {"name": "TARGET_PORT", "value": str(port)}]
    container = {"name": "main", "image": LOAD_IMAGE, "args": ["-m", "client"], "env": env}
    document = _pod(name, [container], labels=labels)
    document["spec"]["restartPolicy"] = "Never"
    await client.create(kinds.POD, document)
    await _until(lambda: _succeeded(client, name))
    async with client.log(NAMESPACE, name) as chunks:
        text = b"".join([chunk async for chunk in chunks])
    await client.delete(kinds.POD, name, NAMESPACE, grace_period_s=0)
    return dict(json.loads(text.decode().strip().splitlines()[-1]))


async def _succeeded(client: Client, name: str) -> bool:
    phase = objects.status(await client.get(kinds.POD, name, NAMESPACE)).get("phase")
    if phase == "Failed":
        raise SystemExit(f"the load client {name} failed")
    return bool(phase == "Succeeded")


def api(instance: Instance) -> list[Row]:
    """ConfigMaps of 600 bytes over TLS on 16 connections: create, get, list of 500."""
    aims = {"create": 1500.0, "get": 6000.0, "list of 500": 400.0}
    rates = api_load.measure(instance.kubeconfig)
    return [
        Row(f"API server: {verb}", rate, "/s", f"≥ {aims[verb]:,.0f}", good=rate >= aims[verb])
        for verb, rate in rates.items()
    ]


def services(instance: Instance) -> list[Row]:
    """Processor time of control for one more Knative service, beside none and beside 300."""
    _build(instance)
    costs = anyio.run(_services, instance)
    return [
        _row(
            f"control: a Knative service beside {existing}",
            parts["control"] * 1000,
            "ms",
            400.0,
            note=", ".join(f"{part} {used * 1000:.0f}" for part, used in parts.items()),
        )
        for existing, parts in costs.items()
    ]


async def _services(instance: Instance) -> dict[int, dict[str, float]]:
    # One of its own: it waits for a namespace without pods, and other measurements leave theirs.
    namespace = f"{NAMESPACE}-services"
    async with aclosing(clients.from_kubeconfig(instance.kubeconfig)) as client:
        await _namespace(client, namespace)
        return await at_size.cost_of_services(client, instance, namespace, LOAD_IMAGE)


def watchers(instance: Instance) -> list[Row]:
    """From a write to its event at one of 100 watchers, at 500 writes a second over TLS."""
    rounds = [at_size.watch_delivery(instance.kubeconfig) for _ in range(3)]
    return [
        _row(
            f"watch: a write to 100 watchers, {rank}",
            statistics.median(r[rank] for r in rounds),
            "ms",
            aim,
            note=", ".join(f"{r[rank]:.1f} at {r['rate']:.0f}/s" for r in rounds),
        )
        for rank, aim in (("p50", 10.0), ("p99", 42.0))
    ]


def events(_instance: Instance) -> list[Row]:
    """Events kept and delivered, by a data plane and a NATS of its own: without proxy or API server."""
    figures = event_rates.figures()
    rate, late_ms = figures["delivered_per_s"], figures[f"p99_ms_at_{event_rates.RATE}"]
    note = f"{figures['plane_us_per_event']} µs of the plane, {figures['nats_us_per_event']} of NATS each"
    return [
        Row("events kept and delivered, 1 KB", rate, "/s", "≥ 5,000", good=rate >= 5000, note=note),
        Row("event, sent to delivered, at 1,000/s, p99", late_ms, "ms", "≤ 20", good=late_ms <= 20),
    ]


MEASUREMENTS: dict[str, Callable[[Instance], list[Row]] | None] = {
    "up": None,
    "memory": memory,
    "pod": pod,
    "cold": cold,
    "function": function,
    "scaling": scaling,
    "mesh": mesh,
    "api": api,
    "services": services,
    "watchers": watchers,
    "events": events,
}


def _build(instance: Instance) -> None:
    image.build(HERE / "load", LOAD_IMAGE, ImageStore(instance.data_dir / "images"))


async def _namespace(client: Client, name: str = NAMESPACE) -> None:
    await client.apply(kinds.NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def _pod(
    name: str, containers: list[dict[str, Any]], *, labels: dict[str, str] | None = None
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels or {}},
        "spec": {"containers": containers, "terminationGracePeriodSeconds": 0},
    }


async def _until(test: Callable[[], Any], *, wait_s: float = 90.0) -> None:
    deadline = time.monotonic() + wait_s
    while not await test():
        if time.monotonic() > deadline:
            raise SystemExit("waited in vain; see the logs of the platform")
        await anyio.sleep(0.05)


def _row(
    what: str,
    value: float,
    unit: str,
    most: float,
    *,
    spread: list[float] | None = None,
    scale: float = 1.0,
    note: str = "",
) -> Row:
    if spread:
        note = f"{min(spread) * scale:.2f} to {max(spread) * scale:.2f} over {len(spread)}"
    return Row(what, round(value, 3), unit, f"≤ {most:g}", good=value <= most, note=note)


def _print(rows: list[Row]) -> None:
    print(f"\n{'what':<40} {'measured':>12} {'aim':>10}   note")
    for row in rows:
        mark = " " if row.good else "*"
        print(f"{row.what:<40} {row.value:>9,.2f} {row.unit:<3} {row.aim:>8} {mark} {row.note}")
    if not all(row.good for row in rows):
        print("\n* the aim was not reached in this run")


def _write(rows: list[Row]) -> None:
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    document = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "machine": f"{machine.machine()} {machine.release()}, {os.cpu_count()} cores",
        "rows": [row.document() for row in rows],
    }
    file = results / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"written to {file.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
