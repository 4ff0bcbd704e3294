"""Probes of the mesh's design: listeners that come and go, a proxy that is killed, the price of a hop.

    python benchmarks/mesh_probes.py listeners --pods 500 [--rate 300]
    python benchmarks/mesh_probes.py kill [--rate 300]
    python benchmarks/mesh_probes.py hop [--rate 1000]
    python benchmarks/mesh_probes.py ports [--rate 500]

Needs root, makes network namespaces of its own and loads only these. Prints JSON. See decisions 0002, 0014.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PREFIX = "ondolprobe"
NETNS = Path("/run/netns")
SERVICE = "10.98.76.54"
HOST = "10.98.0.1"
REDIRECT = """
table ip probe {
  chain output {
    type nat hook output priority -100
    meta mark & 0xdf000000 == 0x0d000000 return
    ip protocol tcp ip daddr != 127.0.0.0/8 redirect to :15001
  }
}
"""
BASE_PORT = 23700


# The load: paced requests on kept connections, in a process and namespace of its own.


class Load:
    """Sends `rate` requests a second over `connections` kept connections and remembers each."""

    def __init__(self, rate: float, seconds: float, connections: int, host: str, port: int) -> None:
        self.interval = connections / rate
        self.end = time.monotonic() + seconds
        self.connections = connections
        self.host, self.port = host, port
        self.samples: list[tuple[float, float, str]] = []
        self.reconnects = -connections
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "end", 0.0))

    async def run(self) -> dict[str, Any]:
        await asyncio.gather(*(self._connection(n) for n in range(self.connections)))
        return {"samples": self.samples, "reconnects": self.reconnects}

    async def _connection(self, index: int) -> None:
        await asyncio.sleep(self.interval * index / self.connections)
        pair = None
        due = time.monotonic()
        while due < self.end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            started = time.monotonic()
            try:
                if pair is None:
                    self.reconnects += 1
                    pair = await asyncio.wait_for(asyncio.open_connection(self.host, self.port), 2)
                status = await asyncio.wait_for(self._call(*pair), 5)
            except (OSError, EOFError, TimeoutError) as error:
                status = type(error).__name__
                if pair is not None:
                    pair[0].feed_eof()
                    pair[1].close()
                    pair = None
            self.samples.append((time.time(), time.monotonic() - started, status))
            due = max(due + self.interval, time.monotonic() - self.interval)

    @staticmethod
    async def _call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        writer.write(f"GET / HTTP/1.1\r\nhost: {SERVICE}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = next(
            int(x.split(":")[1]) for x in head.lower().split("\r\n") if x.startswith("content-length")
        )
        await reader.readexactly(length)
        return head.split(" ")[1]


def start_load(namespace: str, rate: float, seconds: float, port: int = 80) -> subprocess.Popen[bytes]:
    load = [sys.executable, __file__, "load", str(rate), str(seconds), SERVICE, str(port)]
    return subprocess.Popen(["ip", "netns", "exec", namespace, *load], stdout=subprocess.PIPE)


def finish_load(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    output, _ = process.communicate(timeout=300)
    result: dict[str, Any] = json.loads(output)
    return result


def summary(samples: Sequence[Sequence[Any]], reconnects: int | None = None) -> dict[str, Any]:
    times = sorted(sample[1] * 1000 for sample in samples if sample[2] == "200")
    failed: dict[str, int] = {}
    for sample in samples:
        if sample[2] != "200":
            failed[sample[2]] = failed.get(sample[2], 0) + 1
    figures = {
        "requests": len(samples),
        "failed": failed,
        "p50_ms": round(statistics.median(times), 3),
        "p99_ms": round(times[int(len(times) * 0.99)], 3),
        "max_ms": round(times[-1], 3),
    }
    return figures if reconnects is None else figures | {"reconnects": reconnects}


# The world: namespaces, one upstream, one Envoy, our xDS server.


@contextlib.contextmanager
def namespaces(names: Sequence[str]) -> Iterator[None]:
    batch(*(f"netns add {name}" for name in names))
    try:
        for name in names:
            batch("link set lo up", at=name)
        yield
    finally:
        batch(*(f"netns del {name}" for name in names))


def batch(*lines: str, at: str = "") -> None:
    where = ["-n", at] if at else []
    subprocess.run(["ip", *where, "-batch", "-"], input="\n".join(lines).encode(), check=True)


def prepare_client(name: str) -> None:
    """Link, routes and redirect as a pod has them; the proxy dials from there. It goes with the namespace."""
    batch(f"link add probe type veth peer name eth0 netns {name}", f"addr add {HOST}/24 dev probe")
    batch("link set probe up")
    batch("addr add 10.98.0.2/24 dev eth0", "link set eth0 up", f"route add default via {HOST}", at=name)
    subprocess.run(["ip", "netns", "exec", name, "nft", "-f", "-"], input=REDIRECT.encode(), check=True)


def upstream_document(port: int, slow_ms: int = 0) -> dict[str, Any]:
    """A second Envoy that answers every request by itself, so that no slow server blurs the figures."""
    fault = {
        "name": "fault",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
            "delay": {"fixed_delay": f"{max(slow_ms, 1) / 1000}s", "percentage": {"numerator": 100}},
        },
    }
    routes = [
        {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok\n"}}}
    ]
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "upstream",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [*([fault] if slow_ms else []), ROUTER],
    }
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
                    "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
                }
            ]
        }
    }


ROUTER = {
    "name": "router",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
}


class World:
    """One Envoy under our xDS server, with an upstream behind it."""

    def __init__(self, folder: Path, port: int) -> None:
        from ondol.base.clock import SystemClock  # noqa: PLC0415 - the load process needs none of it
        from ondol.mesh import config, server  # noqa: PLC0415

        self.config = config.MeshConfig(
            netns_dir=NETNS,
            xds_address=f"unix:{folder}/xds.sock",
            admin_address=f"127.0.0.1:{port + 1}",
            bootstrap_file=folder / "envoy.json",
        )
        self.folder = folder
        self.hub = server.Hub(self._observe, clock=SystemClock())
        self.refused: list[str] = []
        self.pods: dict[str, Any] = {}
        self.envoy: subprocess.Popen[bytes] | None = None

    def _observe(self, outcomes: Sequence[Any]) -> None:
        self.refused += [outcome.message for outcome in outcomes if hasattr(outcome, "message")]

    def start_envoy(self) -> subprocess.Popen[bytes]:
        from ondol.mesh import process  # noqa: PLC0415 - the load process needs none of it

        with (self.folder / "envoy.log").open("ab") as log:
            self.envoy = subprocess.Popen(process.command(self.config), stdout=log, stderr=log)
        return self.envoy

    def admin(self, path: str) -> Any:
        from ondol.mesh import process  # noqa: PLC0415 - the load process needs none of it

        return json.loads(process.admin_get(self.config.admin_address, path)[1])

    def stat(self, name: str) -> int:
        stats = self.admin(f"/stats?format=json&filter=^{name}$")["stats"]
        return int(next((entry["value"] for entry in stats if entry.get("name") == name), 0))

    def add(self, *names: str) -> None:
        for name in names:
            self.pods[name] = listener(name)
        self.publish()

    def remove(self, *names: str) -> None:
        for name in names:
            del self.pods[name]
        self.publish()

    def publish(self) -> None:
        from ondol.mesh.xds import types  # noqa: PLC0415 - the load process needs none of it

        self.hub.publish(
            types.Snapshot(
                {
                    types.CLUSTER: {"upstream": CLUSTER()},
                    types.LISTENER: dict(self.pods),
                    types.ROUTES: {"probe": ROUTES()},
                }
            )
        )

    async def settle(self) -> None:
        while not self.hub.settled:  # noqa: ASYNC110 - timed to a fraction of a millisecond from outside
            await asyncio.sleep(0.0002)


def resource(name: str, message: str, document: dict[str, Any]) -> Any:
    from envoy.config.cluster.v3 import cluster_pb2  # noqa: PLC0415 - the load process needs none of it
    from envoy.config.listener.v3 import listener_pb2  # noqa: PLC0415
    from envoy.config.route.v3 import route_pb2  # noqa: PLC0415
    from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401, PLC0415
    from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2  # noqa: F401, PLC0415
    from envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: PLC0415
        http_connection_manager_pb2,  # noqa: F401
    )
    from google.protobuf import json_format  # noqa: PLC0415

    from ondol.mesh.xds import types  # noqa: PLC0415

    kinds = (cluster_pb2.Cluster, listener_pb2.Listener, route_pb2.RouteConfiguration)
    kind = next(each for each in kinds if each.DESCRIPTOR.name == message)
    body = json_format.ParseDict(document, kind()).SerializeToString(deterministic=True)
    return types.Resource(name, "1", body)


def CLUSTER() -> Any:  # noqa: N802 - a constant made late
    upstream = {"socket_address": {"address": "127.0.0.1", "port_value": BASE_PORT}}
    return resource(
        "upstream",
        "Cluster",
        {
            "name": "upstream",
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {
                "cluster_name": "upstream",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": upstream}}]}],
            },
        },
    )


def ROUTES() -> Any:  # noqa: N802 - a constant made late
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}]
    document = {"name": "probe", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}
    return resource("probe", "RouteConfiguration", document)


def listener(name: str) -> Any:
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "outbound",
        "rds": {
            "route_config_name": "probe",
            "config_source": {"ads": {}, "resource_api_version": "V3"},
        },
        "http_filters": [ROUTER],
    }
    original = "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"
    bound = {
        "address": "127.0.0.1",
        "port_value": 15001,
        "network_namespace_filepath": str(NETNS / name),
    }
    document = {
        "name": name,
        "stat_prefix": "pods",
        "address": {"socket_address": bound},
        "listener_filters": [{"name": "original_dst", "typed_config": {"@type": original}}],
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
    }
    return resource(name, "Listener", document)


async def eventually(check: Any, timeout_s: float = 20.0) -> float:
    """Seconds until the check held."""
    started = time.monotonic()
    while time.monotonic() - started < timeout_s:
        with contextlib.suppress(OSError):
            if check():
                return time.monotonic() - started
        await asyncio.sleep(0.005)
    raise TimeoutError(f"not within {timeout_s} s: {check}")


@contextlib.asynccontextmanager
async def world(first: str, slow_ms: int = 0, port: int = BASE_PORT) -> Any:
    from ondol.mesh import process, server  # noqa: PLC0415 - the load process needs none of it

    with tempfile.TemporaryDirectory(prefix="mesh-probe-") as folder:
        upstream_file = Path(folder) / "upstream.json"
        upstream_file.write_text(json.dumps(upstream_document(port, slow_ms)))
        own = World(Path(folder), port)
        serving = asyncio.create_task(server.serve(own.hub, own.config.xds_address))
        upstream = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs yet
            [
                str(process.envoy_binary()),
                "-c",
                str(upstream_file),
                "--concurrency",
                "1",
                "--disable-hot-restart",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        own.start_envoy()
        try:
            own.add(first)
            await eventually(lambda: process.ready(own.config))
            await own.settle()
            yield own
            if own.refused:
                raise RuntimeError(f"Envoy refused: {own.refused[:3]}")
        finally:
            for child in (upstream, own.envoy):
                if child is not None:
                    child.kill()
                    child.wait()
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
            if os.environ.get("PROBE_LOG"):
                sys.stderr.write((Path(folder) / "envoy.log").read_text()[-3000:])


# Probe 1


async def timed_each(mesh: World, change: Any, names: Sequence[str], pause_s: float) -> list[float]:
    times = []
    for name in names:
        started = time.monotonic()
        change(name)
        await mesh.settle()
        times.append((time.monotonic() - started) * 1000)
        await asyncio.sleep(pause_s)
    return times


def spread(times: Sequence[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "median_ms": round(statistics.median(ordered), 2),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 2),
        "max_ms": round(ordered[-1], 2),
    }


async def under_load(client: str, rate: float, work: Any) -> dict[str, Any]:
    """The latency of the load while `work` is done, with a second of quiet on each side left out."""
    load = start_load(client, rate, 600)
    await asyncio.sleep(1)
    await work
    load.send_signal(signal.SIGTERM)
    report = await asyncio.to_thread(finish_load, load)
    return summary([s for s in report["samples"] if s[0] > report["samples"][0][0] + 1], report["reconnects"])


async def churn(mesh: World, names: Sequence[str], pause_s: float, result: dict[str, Any]) -> None:
    result["add_one_by_one"] = spread(await timed_each(mesh, mesh.add, names, pause_s))
    result["remove_one_by_one"] = spread(await timed_each(mesh, mesh.remove, names, pause_s))


async def bulk(mesh: World, names: Sequence[str], result: dict[str, Any]) -> None:
    for verb, change in (("add", mesh.add), ("remove", mesh.remove)):
        started = time.monotonic()
        change(*names)
        await mesh.settle()
        result[f"{verb}_all_at_once_ms"] = round((time.monotonic() - started) * 1000, 1)
        await asyncio.sleep(1)


async def probe_listeners(pods: int, rate: float) -> dict[str, Any]:
    names = [f"{PREFIX}-{number}" for number in range(pods)]
    client, bystander = f"{PREFIX}-client", f"{PREFIX}-bystander"
    result: dict[str, Any] = {"pods": pods, "rate_per_s": rate}
    with namespaces([client, bystander, *names]):
        prepare_client(client)
        async with world(client) as mesh, world(bystander, port=BASE_PORT + 10) as other:
            result["quiet"] = await under_load(client, rate, asyncio.sleep(10))
            control: dict[str, Any] = {}
            # The same work done by another proxy: what the machine's two cores alone cost.
            control["load"] = await under_load(client, rate, churn(other, names, 0.02, control))
            result["churn_in_another_proxy"] = control
            before = int(mesh.admin("/memory")["allocated"])
            mesh.add(*names)
            await mesh.settle()
            result["bytes_per_listener"] = (int(mesh.admin("/memory")["allocated"]) - before) // pods
            result["active_listeners"] = mesh.stat("listener_manager.total_listeners_active")
            mesh.remove(*names)
            await mesh.settle()
            fast: dict[str, Any] = {}
            fast["load"] = await under_load(client, rate, churn(mesh, names, 0.02, fast))
            result["churn_one_by_one_fast"] = fast
            slow: dict[str, Any] = {}
            slow["load"] = await under_load(client, rate, churn(mesh, names[:40], 0.25, slow))
            result["churn_four_a_second"] = slow
            at_once: dict[str, Any] = {}
            at_once["load"] = await under_load(client, rate, bulk(mesh, names, at_once))
            result["churn_all_at_once"] = at_once
            result["left_draining"] = mesh.stat("listener_manager.total_listeners_draining")
            return result


# Probe 2


async def probe_kill(rate: float, listeners: int) -> dict[str, Any]:
    client = f"{PREFIX}-client"
    names = [f"{PREFIX}-{number}" for number in range(listeners)]
    with namespaces([client, *names]):
        prepare_client(client)
        async with world(client, slow_ms=50) as mesh:
            mesh.add(*names)
            await mesh.settle()
            load = start_load(client, rate, 12)
            await asyncio.sleep(4)
            killed = time.time()
            mesh.envoy.kill()
            await asyncio.to_thread(mesh.envoy.wait)
            await asyncio.sleep(1.0)  # how long a pod is looked at while there is no proxy
            restarted = time.time()
            mesh.start_envoy()
            report = await asyncio.to_thread(finish_load, load)
            samples = report["samples"]
            again = min(s[0] for s in samples if s[0] > restarted and s[2] == "200")
            away = [s for s in samples if killed + 0.05 < s[0] - s[1] and s[0] < restarted]
            in_flight = [s for s in samples if s[0] - s[1] < killed < s[0]]
            return {
                "listeners": listeners + 1,
                "rate_per_s": rate,
                "in_flight_at_kill": count(in_flight),
                "while_away": count(away),
                "first_success_after_restart_ms": round((again - restarted) * 1000),
                "after": summary([s for s in samples if s[0] - s[1] > again]),
            }


# The price of a hop


async def probe_hop(rate: float) -> dict[str, Any]:
    """The same paced load on the same server, straight and through the proxy, in turns."""
    client = f"{PREFIX}-client"
    samples: dict[str, list[Any]] = {"direct": [], "mesh": []}
    with namespaces([client]):
        prepare_client(client)
        async with world(client):
            for _ in range(3):
                command = [sys.executable, __file__, "load", str(rate), "8", "127.0.0.1", str(BASE_PORT)]
                direct = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: ASYNC220 - a process of its own
                samples["direct"] += (await asyncio.to_thread(finish_load, direct))["samples"]
                samples["mesh"] += (await asyncio.to_thread(finish_load, start_load(client, rate, 8)))[
                    "samples"
                ]
    straight, hop = summary(samples["direct"]), summary(samples["mesh"])
    added = {key: round(hop[key] - straight[key], 3) for key in ("p50_ms", "p99_ms")}
    return {"rate_per_s": rate, "direct": straight, "mesh": hop, "added": added}


# Ports that are declared and ports that are not, and what a new one costs the connections of others


def translated(client: str, *new: tuple[str, int]) -> Any:
    """What the mesh serves a pod in a cluster with a declared and an undeclared port, and `new` ones."""
    from ondol.contracts import mesh  # noqa: PLC0415 - the load process needs none of it
    from ondol.mesh.config import MeshConfig  # noqa: PLC0415
    from ondol.mesh.model.kube import Endpoint  # noqa: PLC0415
    from ondol.mesh.translate import clusters, wire  # noqa: PLC0415
    from ondol.mesh.translate.translator import Translator  # noqa: PLC0415
    from ondol.mesh.translate.world import World  # noqa: PLC0415
    from ondol.mesh.xds import types  # noqa: PLC0415

    services = [
        {
            "metadata": {"name": f"s{number}", "namespace": "default", "uid": f"s{number}"},
            "spec": {"clusterIP": SERVICE, "ports": [{"name": name, "port": number}]},
        }
        for name, number in (("http", 80), ("", 81), *new)
    ]
    ready = {"conditions": [{"type": mesh.SANDBOX_READY, "status": "True"}]}
    pod = {"metadata": {"name": client, "namespace": "default", "uid": client}, "spec": {}, "status": ready}
    config = MeshConfig(NETNS, "unix:/x", "unix:/y", Path("/z"))
    served = Translator(config).translate(World(services=services, pods=[pod])).snapshot
    upstream = [Endpoint(HOST, BASE_PORT, None)]
    bodies = {n: wire.encode(clusters.load_assignment(n, upstream)) for n in served.of(types.ENDPOINTS)}
    assigned = {name: types.Resource(name, "1", body) for name, body in bodies.items()}
    return types.Snapshot({**served.resources, types.ENDPOINTS: assigned})


async def probe_ports(rate: float) -> dict[str, Any]:
    """The same paced load to a declared and to an undeclared port, in turns; then a new TCP port."""
    client = f"{PREFIX}-client"
    latencies: dict[str, list[Any]] = {"declared": [], "undeclared": []}
    with namespaces([client]):
        prepare_client(client)
        async with world(client) as mesh:
            mesh.hub.publish(translated(client))
            await mesh.settle()
            for _ in range(3):
                for name, port in (("declared", 80), ("undeclared", 81)):
                    load = start_load(client, rate, 5, port)
                    latencies[name] += (await asyncio.to_thread(finish_load, load))["samples"]
            names = (
                "listener_manager.total_listeners_draining",
                "listener_manager.listener_in_place_updated",
            )
            before = [mesh.stat(name) for name in names]
            mesh.hub.publish(translated(client, ("tcp-new", 7777)))
            await mesh.settle()
            after = {
                name.rpartition(".")[2]: mesh.stat(name) - was
                for name, was in zip(names, before, strict=True)
            }
    return {
        "rate_per_s": rate,
        **{name: summary(samples) for name, samples in latencies.items()},
        "after_a_new_tcp_port": after,
    }


def count(samples: Sequence[Sequence[Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for sample in samples:
        counts[sample[2]] = counts.get(sample[2], 0) + 1
    return counts


def main() -> None:
    if sys.argv[1:2] == ["load"]:
        rate, seconds = map(float, sys.argv[2:4])
        host, port = sys.argv[4:6] or (SERVICE, "80")
        print(json.dumps(asyncio.run(Load(rate, seconds, 16, host, int(port)).run())))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("probe", choices=["listeners", "kill", "hop", "ports"])
    parser.add_argument("--pods", type=int, default=500)
    parser.add_argument("--rate", type=float, default=300)
    options = parser.parse_args()
    if options.probe == "listeners":
        result = asyncio.run(probe_listeners(options.pods, options.rate))
    elif options.probe == "kill":
        result = asyncio.run(probe_kill(options.rate, options.pods))
    elif options.probe == "ports":
        result = asyncio.run(probe_ports(options.rate))
    else:
        result = asyncio.run(probe_hop(options.rate))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
