"""Istio's standard metrics, out of what the proxy counted: a page in Prometheus' text format.

One tag of the proxy tells all of a call (`contracts.telemetry`). Here it is taken apart, and series that
then bear the same labels are one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from ondol.contracts import proxy, telemetry
from ondol.contracts.telemetry import UNKNOWN, Workload

COUNTED: Final = f"/stats/prometheus?usedonly&filter=^{telemetry.PREFIX}"
"""What to ask the proxy's admin page for."""
_TYPE: Final = re.compile(r"# TYPE envoy_(?P<name>\S+) (?P<type>\S+)")
_SAMPLE: Final = re.compile(r"envoy_(?P<name>[^\s{]+)\{(?P<labels>.*)\} (?P<value>\S+)")
_LABEL: Final = re.compile(r'(?P<name>[^=,]+)="(?P<value>(?:[^"\\]|\\.)*)"')
_BOUND: Final = "le"
_SNI: Final = re.compile(r"outbound_\.(?P<port>\d+)_\.(?P<subset>[^_]*)_\.(?P<host>.+)")
_SERVICE: Final = re.compile(r"(?P<name>[^.]+)\.(?P<namespace>[^.]+)\.svc\..+")
_HELP: Final = {
    telemetry.REQUESTS: "Requests.",
    telemetry.DURATION: "How long requests took, in milliseconds.",
    telemetry.REQUEST_BYTES: "Bytes of the bodies of requests.",
    telemetry.RESPONSE_BYTES: "Bytes of the bodies of responses.",
    telemetry.REQUEST_MESSAGES: "Messages of gRPC from callers.",
    telemetry.RESPONSE_MESSAGES: "Messages of gRPC to callers.",
    telemetry.TCP_SENT: "Bytes to callers over connections that ended.",
    telemetry.TCP_RECEIVED: "Bytes from callers over connections that ended.",
    telemetry.TCP_OPENED: "Connections that were opened.",
    telemetry.TCP_CLOSED: "Connections that have ended.",
}
_TCP: Final = frozenset(
    {telemetry.TCP_SENT, telemetry.TCP_RECEIVED, telemetry.TCP_OPENED, telemetry.TCP_CLOSED}
)
_GRPC: Final = frozenset({telemetry.REQUEST_MESSAGES, telemetry.RESPONSE_MESSAGES})


def page(counted: str, version: str) -> str:
    """`counted` is the proxy's own page, or a part of it; `version` is the control plane's.

    A line that is none of Istio's metrics is left out.
    """
    lines = [
        "# HELP istio_build Which control plane configures the proxy.",
        "# TYPE istio_build gauge",
        f'istio_build{{component="pilot",tag="{version}"}} 1',
    ]
    for metric, kind, samples in _families(counted):
        lines += [f"# HELP {metric} {_HELP[metric]}", f"# TYPE {metric} {kind}"]
        lines += [f"{name}{{{labels}}} {_number(value)}" for (name, labels), value in samples.items()]
    return "".join(f"{line}\n" for line in lines)


def _families(counted: str) -> Iterator[tuple[str, str, Mapping[tuple[str, str], float]]]:
    metric, kind = "", ""
    samples: dict[tuple[str, str], float] = {}
    for line in counted.splitlines():
        if (header := _TYPE.fullmatch(line)) is not None:
            if samples:
                yield metric, kind, samples
            metric, kind, samples = header["name"], header["type"], {}
        elif metric in _HELP and (sample := _SAMPLE.fullmatch(line)) is not None:
            tags = {each["name"]: each["value"] for each in _LABEL.finditer(sample["labels"])}
            series = (sample["name"], _text(labels(metric, _fields(tags))))
            samples[series] = samples.get(series, 0.0) + float(sample["value"])
    if samples:
        yield metric, kind, samples


def _fields(tags: dict[str, str]) -> Mapping[str, str]:
    """The tags, with what is told of the call taken apart."""
    parts = tags.pop(telemetry.CALL, "").split(telemetry.FIELD_SEPARATOR)
    if len(parts) == len(telemetry.FIELDS):
        pairs = zip(telemetry.FIELDS, parts, strict=True)
        tags |= {field: text for field, text in pairs if text != telemetry.ABSENT}
    return tags


def _text(by_name: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in by_name.items())


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def labels(metric: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Istio's labels of a series, by the fields of the calls in it, and further tags."""
    reporter = tags.get(telemetry.REPORTER, "")
    values = {telemetry.REPORTER: reporter}
    source = Workload.unpacked(tags.get(telemetry.SOURCE, ""))
    if principal := tags.get(telemetry.PRINCIPAL, ""):
        source = source._replace(principal=principal, namespace=source.namespace or _namespace_of(principal))
    values |= _side("source", source)
    values |= _side("destination", Workload.unpacked(tags.get(telemetry.DESTINATION, "")))
    values |= _service(tags)
    values |= _exchange(metric, tags)
    values["connection_security_policy"] = tags.get(telemetry.SECURITY, "") or UNKNOWN
    values |= {
        name.removeprefix(telemetry.ADDED): value or UNKNOWN
        for name, value in tags.items()
        if name.startswith(telemetry.ADDED)
    }
    for name in filter(None, tags.get(telemetry.REMOVED, "").split(telemetry.SEPARATOR)):
        values.pop(name, None)
    if _BOUND in tags:
        values[_BOUND] = tags[_BOUND]
    return values


def _side(side: str, workload: Workload) -> dict[str, str]:
    texts = {
        "workload": workload.name,
        "workload_namespace": workload.namespace,
        "principal": workload.principal,
        "app": workload.app,
        "version": workload.version,
        "canonical_service": workload.canonical_service,
        "canonical_revision": workload.canonical_revision or ("latest" if workload.name else ""),
        "cluster": telemetry.CLUSTER if workload.name else "",
    }
    return {f"{side}_{name}": text or UNKNOWN for name, text in texts.items()}


def _namespace_of(principal: str) -> str:
    _, _, path = principal.partition("/ns/")
    return path.partition("/sa/")[0]


def _service(tags: Mapping[str, str]) -> dict[str, str]:
    cluster = tags.get(telemetry.UPSTREAM, "")
    host, name, namespace = tags.get(telemetry.SERVICE, ""), "", tags.get(telemetry.NAMESPACE, "")
    if (destination := proxy.destination(cluster)) is not None:
        host = destination.host
    elif (asked := _SNI.fullmatch(cluster)) is not None:
        host = asked["host"]
    elif cluster and not host:
        name = cluster  # nobody's service: `PassthroughCluster`, `BlackHoleCluster`
    if host:
        of_kubernetes = _SERVICE.fullmatch(host)
        name = of_kubernetes["name"] if of_kubernetes else host
        namespace = namespace or (of_kubernetes["namespace"] if of_kubernetes else "")
    return {
        "destination_service": host or UNKNOWN,
        "destination_service_name": name or UNKNOWN,
        "destination_service_namespace": namespace or UNKNOWN,
    }


def _exchange(metric: str, tags: Mapping[str, str]) -> dict[str, str]:
    flags = {"response_flags": tags.get(telemetry.FLAGS, "") or "-"}
    if metric in _TCP:
        return {"request_protocol": "tcp", **flags}
    status = tags.get(telemetry.GRPC, "")
    return {
        "request_protocol": "grpc" if status or metric in _GRPC else "http",
        "response_code": tags.get(telemetry.CODE, "") or "0",
        "grpc_response_status": status,
        **flags,
    }
