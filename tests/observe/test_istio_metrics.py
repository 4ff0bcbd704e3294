"""Istio's labels, out of the tags that the proxy counts by."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ondol.base import errors, metrics, unix_socket
from ondol.contracts import telemetry
from ondol.contracts.telemetry import Workload
from ondol.observe.metrics import istio, parts
from ondol.observe.metrics.parts import Exposition
from ondol.web import exposition
from ondol.web.serving import serving

FRONT = Workload("front", "shop", "spiffe://cluster.local/ns/shop/sa/front", "front", "v2", "front", "v2")
CART = Workload("cart-1", "shop", "", "cart", "", "cart", "latest").packed()
WEB = "outbound|80|v1|web.default.svc.cluster.local|other~x"
UNKNOWN_SIDE = dict.fromkeys(
    ("workload", "workload_namespace", "principal", "app", "version"), telemetry.UNKNOWN
)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"cluster": WEB}, ("web.default.svc.cluster.local", "web", "default")),
        (
            {"cluster": "outbound|443||api.example.com", "namespace": "shop"},
            ("api.example.com", "api.example.com", "shop"),
        ),
        (
            {"cluster": "outbound_.80_._.web.default.svc.cluster.local"},
            ("web.default.svc.cluster.local", "web", "default"),
        ),
        (
            {"service": "web.default.svc.cluster.local"},
            ("web.default.svc.cluster.local", "web", "default"),
        ),
        ({"cluster": "PassthroughCluster"}, ("unknown", "PassthroughCluster", "unknown")),
        ({"cluster": ""}, ("unknown", "unknown", "unknown")),
        ({}, ("unknown", "unknown", "unknown")),
    ],
)
def test_the_service_is_told_by_the_cluster(tags: dict[str, str], expected: tuple[str, str, str]) -> None:
    """Or by the name that TLS asked for, or by the workload's first Service; nobody's is unknown."""
    shown = istio.labels(telemetry.REQUESTS, tags)
    names = ("destination_service", "destination_service_name", "destination_service_namespace")
    assert tuple(shown[name] for name in names) == expected


def test_what_is_not_known_is_unknown() -> None:
    """All labels are there, in Istio's spelling, whatever the proxy had to say."""
    shown = istio.labels(telemetry.REQUESTS, {"reporter": "source", "source": "not|packed"})
    assert set(shown) == set(telemetry.LABELS)
    assert {f"source_{name}": value for name, value in UNKNOWN_SIDE.items()}.items() <= shown.items()
    assert (shown["request_protocol"], shown["response_code"], shown["response_flags"]) == ("http", "0", "-")


def test_a_caller_is_known_by_its_certificate() -> None:
    """Whatever else it says: its namespace is in the name."""
    shown = istio.labels(telemetry.TCP_OPENED, {"principal": FRONT.principal, "security": "mutual_tls"})
    assert shown["source_principal"] == FRONT.principal
    assert (shown["source_workload"], shown["source_workload_namespace"]) == ("unknown", "shop")
    assert shown["connection_security_policy"] == "mutual_tls"
    assert shown["request_protocol"] == "tcp"
    assert "response_code" not in shown


@pytest.mark.parametrize(
    ("metric", "grpc", "protocol"),
    [
        (telemetry.REQUESTS, "", "http"),
        (telemetry.REQUESTS, "0", "grpc"),
        (telemetry.REQUEST_MESSAGES, "", "grpc"),
    ],
)
def test_a_status_of_grpc_tells_the_protocol(metric: str, grpc: str, protocol: str) -> None:
    """Which has such a status, or messages."""
    assert istio.labels(metric, {"grpc": grpc})["request_protocol"] == protocol


def line(name: str, value: str, **tags: str) -> str:
    shown = telemetry.FIELD_SEPARATOR.join(tags.pop(field, telemetry.ABSENT) for field in telemetry.FIELDS)
    tags = {telemetry.CALL: shown, **tags}
    return f"envoy_{name}{{" + ",".join(f'{tag}="{text}"' for tag, text in tags.items()) + f"}} {value}"


def test_series_that_are_the_same_then_are_one() -> None:
    """Labels that a Telemetry took away or added; buckets keep their bounds, text its escapes."""
    page = istio.page(
        "\n".join(
            [
                "# TYPE envoy_istio_requests_total counter",
                line(
                    telemetry.REQUESTS, "2", source=FRONT.packed(), destination=CART, removed="response_code"
                ),
                line(
                    telemetry.REQUESTS,
                    "3",
                    source=FRONT.packed(),
                    destination=CART,
                    removed="response_code",
                    response_code="500",
                ),
                line(telemetry.REQUESTS, "4", tag_request_host='a\\"b', tag_source_app="mine"),
                "# TYPE envoy_istio_request_bytes histogram",
                line(f"{telemetry.REQUEST_BYTES}_bucket", "1", le="0.5"),
                line(f"{telemetry.REQUEST_BYTES}_bucket", "2", le="+Inf"),
                line(f"{telemetry.REQUEST_BYTES}_sum", "1.5"),
                line(f"{telemetry.REQUEST_BYTES}_count", "2"),
                "# TYPE envoy_other counter",
                line("other", "1"),
            ]
        ),
        "9.9",
    )
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert set(families) == {"istio_build", "istio_requests", "istio_request_bytes"}
    assert families["istio_build"].samples[0].labels["tag"] == "9.9"
    joined, added = families["istio_requests"].samples
    assert (joined.value, joined.labels["source_workload"]) == (5, "front")
    assert "response_code" not in joined.labels
    assert (added.labels["request_host"], added.labels["source_app"]) == ('a"b', "mine")
    bounds = [sample.labels.get("le") for sample in families["istio_request_bytes"].samples]
    assert bounds == ["0.5", "+Inf", None, None]


async def test_the_proxy_is_asked_for_them_and_others_pages_leave_them_out(tmp_path: Path) -> None:
    """Without an answer there is no page."""
    counted = metrics.counter("envoy_istio_requests_total", "", {(): 2})
    other = metrics.gauge("envoy_other", "", {(): 1})
    socket = tmp_path / "admin.sock"
    proxy = Exposition(socket, leaves_out="envoy_istio_")
    application = exposition.application(metrics.Page(lambda: [counted, other]))
    async with serving(application, unix_socket.listen(socket)):
        text = await parts.page({"envoy": proxy}, {})
    assert "envoy_other" in text
    assert "istio" not in text
    for gone in (None, dataclasses.replace(proxy, socket=tmp_path / "gone.sock")):
        with pytest.raises(errors.Unavailable):
            await parts.counted(gone, "1")
