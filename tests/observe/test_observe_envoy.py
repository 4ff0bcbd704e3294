"""Real Envoy as the producer: what it sends by OTLP comes out as one trace, across two hops."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.ports import free_port

from ondol.base.clock import SystemClock
from ondol.base.unix_http import UnixConnection
from ondol.observe import server
from ondol.observe.traces import otlp
from ondol.observe.traces.waterfall import waterfall

pytestmark = pytest.mark.anyio
_TYPE = "type.googleapis.com/envoy"
_WAIT_S = 20.0


def _envoy() -> str:
    program = shutil.which("envoy") or shutil.which("envoy", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("envoy is not installed")
    return program


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, address: dict[str, Any]) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": address}}
    return {
        "name": name,
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _listener(service: str, port: int, cluster: str) -> dict[str, Any]:
    """A listener as the mesh makes them: spans under the caller's name, one more for each attempt."""
    provider = {
        "name": "envoy.tracers.opentelemetry",
        "typed_config": {
            "@type": f"{_TYPE}.config.trace.v3.OpenTelemetryConfig",
            "service_name": service,
            "http_service": {
                "http_uri": {
                    "uri": "http://observe/v1/traces",
                    "cluster": "otlp",
                    "timeout": "2s",
                }
            },
        },
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster}}
    manager = {
        "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": service,
        "tracing": {"provider": provider, "spawn_upstream_span": True},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {"name": service, "address": _address(port), "filter_chains": [chain]}


class _Upstream:
    """A service that answers, after asking `next_url` on behalf of its caller if there is one."""

    def __init__(self, next_url: str = "") -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if next_url:
                    headers = {"traceparent": self.headers["traceparent"]}
                    with urllib.request.urlopen(urllib.request.Request(next_url, headers=headers)) as answer:
                        answer.read()
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def upstreams() -> Iterator[tuple[int, _Upstream, _Upstream]]:
    second_port = free_port()
    reviews, front = _Upstream(), _Upstream(f"http://127.0.0.1:{second_port}/reviews")
    yield second_port, front, reviews
    front.close()
    reviews.close()


def _get(path: Path, target: str) -> Any:
    connection = UnixConnection(str(path), timeout=5)
    try:
        connection.request("GET", target)
        return json.load(connection.getresponse())
    finally:
        connection.close()


async def _eventually(path: Path, target: str, spans: int) -> Any:
    """The one trace, once all its spans have arrived (Envoy sends them a few seconds later)."""
    with anyio.fail_after(_WAIT_S):
        while True:
            document = await anyio.to_thread.run_sync(_get, path, target)
            if document["summaries"] and document["summaries"][0]["spanCount"] >= spans:
                return document["summaries"][0]
            await anyio.sleep(0.1)


async def test_a_request_over_two_hops_is_one_trace(
    tmp_path: Path, upstreams: tuple[int, _Upstream, _Upstream]
) -> None:
    """Spans of both hops and both attempts are joined, and the waterfall knows who was called."""
    second_port, front, reviews = upstreams
    first_port, observe = free_port(), tmp_path / "observe.sock"
    bootstrap = {
        "static_resources": {
            "listeners": [
                _listener("ingress", first_port, "outbound|80||front.shop.svc.cluster.local"),
                _listener("front", second_port, "outbound|80|v2|reviews.shop.svc.cluster.local"),
            ],
            "clusters": [
                _cluster("otlp", {"pipe": {"path": str(observe)}}),
                _cluster("outbound|80||front.shop.svc.cluster.local", _address(front.port)),
                _cluster("outbound|80|v2|reviews.shop.svc.cluster.local", _address(reviews.port)),
            ],
        }
    }
    (tmp_path / "envoy.json").write_text(json.dumps(bootstrap))
    config = server.ObserveConfig(tmp_path / "observe", observe)
    command = [_envoy(), "-c", str(tmp_path / "envoy.json"), "--use-dynamic-base-id", "--concurrency", "1"]
    command += ["--log-path", str(tmp_path / "envoy.log"), "--log-level", "warning"]
    async with anyio.create_task_group() as group:
        await group.start(server.run, config, SystemClock())
        envoy = subprocess.Popen(command)  # noqa: ASYNC220 - only starts it; returns at once
        try:
            await _answered(f"http://127.0.0.1:{first_port}/products/tea")
            newest = "/api/v3/trace-summaries?query.serviceName=ingress"
            summary = await _eventually(observe, newest, spans=4)
            trace = await anyio.to_thread.run_sync(_get, observe, f"/api/v3/traces/{summary['traceId']}")
        finally:
            envoy.terminate()
            envoy.wait(timeout=20)
        group.cancel_scope.cancel()
    assert (summary["rootServiceName"], summary["orphanSpanCount"]) == ("ingress", 0)
    spans = otlp.from_json(json.dumps(trace["result"]).encode())
    assert sorted({span.service for span in spans}) == ["front", "ingress"]
    rows = waterfall(spans)
    assert [node.depth for node in rows.rows] == [0, 1, 2, 3]
    assert {share.service for share in rows.shares} == {"front", "reviews/v2"}
    assert sum(share.self_ns + share.wait_ns for share in rows.shares) == rows.duration_ns


async def _answered(url: str) -> None:
    """Ask until the proxy listens; one answered request is sent."""
    with anyio.fail_after(_WAIT_S):
        while True:
            try:
                await anyio.to_thread.run_sync(lambda: urllib.request.urlopen(url, timeout=5).close())
            except OSError:
                await anyio.sleep(0.1)
            else:
                return
