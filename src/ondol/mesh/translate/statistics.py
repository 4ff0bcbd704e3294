"""The proxy counts every call itself, under Istio's standard metrics: its loggers of statistics.

Nothing leaves the proxy for a call. What is constant for a listener, its workload, stands in the listener's
metadata, and what is constant for an endpoint in the endpoint's: so the loggers are the same for all pods
that are observed alike. `observe` makes Istio's labels of the tags (`contracts.telemetry`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Final, TypeAlias

from ondol.contracts import telemetry
from ondol.mesh.translate import messages as m

METADATA: Final = "istio"
"""Where metadata of listeners, endpoints and clusters have what is told here."""
WORKLOAD: Final = "workload"
NAME: Final = "name"
"""The same workload, as `namespace/name`."""
COUNTERS_MAX: Final = 2_000
HISTOGRAMS_MAX: Final = 600
"""How many series each logger has at once; more are not begun. It is a bound for each port of a listener: who
makes codes up takes none from others."""
EVICTED_AFTER: Final = "3600s"
"""Series that counted nothing for so long go (`bootstrap`)."""
_SCOPE: Final = {
    "max_counters": COUNTERS_MAX,
    "max_histograms": HISTOGRAMS_MAX,
    "enable_eviction": True,
}
"""As `envoy.type.v3.Scope`. With a name to share it by, Envoy 1.40 crashes when it ends."""
_LOGGER: Final = "type.googleapis.com/envoy.extensions.access_loggers.stats.v3.Config"
_MESSAGES: Final = "filter_state['envoy.filters.http.grpc_stats']"
_GRPC: Final = "application/grpc"
_INSIDE: Final = ("inspect", "names")
"""How the names of clusters begin that lead to listeners inside the proxy (`listeners`)."""
_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CALLER: Final = "x-ondol-caller"
_OVERWRITE: Final = "OVERWRITE_IF_EXISTS_OR_ADD"
_CALLER_TO_GUARDED: Final = (
    "%CEL('envoy.transport_socket_match' in xds.upstream_host_metadata.filter_metadata"
    f" ? xds.listener_metadata.filter_metadata['{METADATA}']['{WORKLOAD}'] : '')%"
)
_NOT_BEGUN: Final = ("UF", "UH", "UO", "NC", "NR", "URX", "UAEX", "DF")
"""Flags of connections that reached nobody."""


class Reporter(Enum):
    """On which side, and in what kind of connection, a call is counted."""

    SOURCE = "source"
    MUTUAL = "mutual_tls"
    """At its destination; the caller is known by its certificate."""
    PLAIN = "none"
    """At its destination; nobody is known."""

    @property
    def label(self) -> str:
        return "source" if self is Reporter.SOURCE else "destination"


@dataclass(frozen=True, slots=True)
class Change:
    """What a Telemetry asks of one metric."""

    is_disabled: bool = False
    removed: tuple[str, ...] = ()
    """Labels, sorted."""
    added: tuple[tuple[str, str], ...] = ()
    """Labels with expressions, sorted."""


UNCHANGED: Final = Change()


Changes: TypeAlias = tuple[tuple[str, Change], ...]
"""By metric, sorted."""

_OF_REPORTER: Final = {
    Reporter.SOURCE: "",
    Reporter.MUTUAL: " && connection.mtls",
    Reporter.PLAIN: " && !connection.mtls",
}
"""Of a listener's connections, those that a reporter is for."""
_COMMON: Final = {
    Reporter.SOURCE: {
        telemetry.SOURCE: f"%METADATA(LISTENER:{METADATA}:{WORKLOAD})%",
        telemetry.DESTINATION: f"%METADATA(UPSTREAM_HOST:{METADATA}:{WORKLOAD})%",
        telemetry.UPSTREAM: "%UPSTREAM_CLUSTER_RAW%",
        telemetry.NAMESPACE: f"%METADATA(CLUSTER:{METADATA}:{telemetry.NAMESPACE})%",
    },
    Reporter.MUTUAL: {
        telemetry.SOURCE: f"%DYNAMIC_METADATA({METADATA}:{telemetry.SOURCE})%",
        telemetry.DESTINATION: f"%METADATA(LISTENER:{METADATA}:{WORKLOAD})%",
        telemetry.UPSTREAM: "%REQUESTED_SERVER_NAME%",
        telemetry.PRINCIPAL: "%DOWNSTREAM_PEER_URI_SAN%",
        telemetry.SECURITY: Reporter.MUTUAL.value,
    },
    Reporter.PLAIN: {
        telemetry.DESTINATION: f"%METADATA(LISTENER:{METADATA}:{WORKLOAD})%",
        telemetry.SERVICE: f"%METADATA(LISTENER:{METADATA}:{telemetry.SERVICE})%",
        telemetry.SECURITY: Reporter.PLAIN.value,
    },
}
_OF_REQUESTS: Final = {
    telemetry.CODE: "%RESPONSE_CODE%",
    telemetry.GRPC: "%GRPC_STATUS_NUMBER%",
    telemetry.FLAGS: "%RESPONSE_FLAGS%",
}
_OF_CONNECTIONS: Final = {telemetry.FLAGS: "%RESPONSE_FLAGS%"}
_HISTOGRAMS: Final = {
    telemetry.DURATION: ("%DURATION%", "Milliseconds"),
    telemetry.REQUEST_BYTES: ("%BYTES_RECEIVED%", "Bytes"),
    telemetry.RESPONSE_BYTES: ("%BYTES_SENT%", "Bytes"),
}


def workload(text: str, service: str = "") -> m.base.Metadata:
    """What a listener's metadata tell: whose it is, packed, and its first service."""
    name, _, rest = text.partition(telemetry.SEPARATOR)
    texts = {WORKLOAD: text, NAME: f"{rest.partition(telemetry.SEPARATOR)[0]}/{name}"}
    if service:
        texts[telemetry.SERVICE] = service
    metadata = m.base.Metadata()
    metadata.filter_metadata[METADATA].update(texts)
    return metadata


@cache
def of_requests(changes: Changes, reporter: Reporter) -> tuple[m.accesslog.AccessLog, ...]:
    """Loggers for connections that are read as HTTP."""
    counted = _Counted(dict(changes), reporter, _OF_REQUESTS)
    loggers = [
        counted.logger({telemetry.REQUESTS: "1"}, _HISTOGRAMS),
        # The numbers of messages are a text that the logger cannot count by: streams of several are left out.
        counted.logger(
            {telemetry.REQUEST_MESSAGES: "1"}, {}, _grpc(f"{_MESSAGES} >= b'1,' && {_MESSAGES} < b'1-'")
        ),
        counted.logger(
            {telemetry.RESPONSE_MESSAGES: "1"}, {}, _grpc(f"{_MESSAGES} == b'1,1' || {_MESSAGES} == b'0,1'")
        ),
    ]
    return tuple(each for each in loggers if each is not None)


@cache
def of_connections(changes: Changes, reporter: Reporter) -> tuple[m.accesslog.AccessLog, ...]:
    """Loggers for connections that carry bytes; the rest of them is counted by their listener (`ended`)."""
    counted = _Counted(dict(changes), reporter, _OF_CONNECTIONS)
    begun = {"logTypeFilter": {"types": ["TcpUpstreamConnected"]}}
    end = {"logTypeFilter": {"types": ["TcpConnectionEnd"]}}
    unreached = {"andFilter": {"filters": [end, {"responseFlagFilter": {"flags": list(_NOT_BEGUN)}}]}}
    opened = counted.logger({telemetry.TCP_OPENED: "1"}, {}, {"orFilter": {"filters": [begun, unreached]}})
    return () if opened is None else (opened,)


@cache
def ended(changes: Changes, reporter: Reporter) -> tuple[m.accesslog.AccessLog, ...]:
    """Loggers of a listener, one for all its ports: for connections that carried bytes, when they end.

    HTTP's have no cluster of their own, and what goes on to a listener inside the proxy is counted there.
    """
    counted = _Counted(dict(changes), reporter, _OF_CONNECTIONS)
    sizes = {telemetry.TCP_SENT: "%BYTES_SENT%", telemetry.TCP_RECEIVED: "%BYTES_RECEIVED%"}
    within = " || ".join(f"xds.cluster_name.startsWith('{prefix}|')" for prefix in _INSIDE)
    only = expression_filter(f"xds.cluster_name != '' && !({within}){_OF_REPORTER[reporter]}")
    closed = counted.logger({telemetry.TCP_CLOSED: "1", **sizes}, {}, only)
    return () if closed is None else (closed,)


def _grpc(expression: str) -> Mapping[str, object]:
    head = {"header": {"name": "content-type", "stringMatch": {"prefix": _GRPC}}}
    return {"andFilter": {"filters": [{"headerFilter": head}, expression_filter(expression)]}}


def expression_filter(expression: str) -> Mapping[str, object]:
    """A filter of an access log, by an expression in CEL."""
    kind = "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
    return {
        "extensionFilter": {
            "name": "cel",
            "typedConfig": {"@type": kind, "expression": expression},
        }
    }


@dataclass(frozen=True, slots=True)
class _Counted:
    changes: Mapping[str, Change]
    reporter: Reporter
    own: Mapping[str, str]

    def logger(
        self,
        counters: Mapping[str, str],
        histograms: Mapping[str, tuple[str, str]],
        only: Mapping[str, object] | None = None,
    ) -> m.accesslog.AccessLog | None:
        """Of those that are not disabled; None if all are."""
        counting = []
        for name, value in counters.items():
            if not (change := self.changes.get(name, UNCHANGED)).is_disabled:
                amount = {"value_fixed": int(value)} if value.isdigit() else {"value_format": value}
                counting.append({"stat": self._stat(name, change), **amount})
        measuring = []
        for name, (value, unit) in histograms.items():
            if not (change := self.changes.get(name, UNCHANGED)).is_disabled:
                measuring.append({"stat": self._stat(name, change), "unit": unit, "value_format": value})
        if not counting and not measuring:
            return None
        config = _typed({"counters": counting, "histograms": measuring})
        logger = m.accesslog.AccessLog(name="envoy.access_loggers.stats", typed_config=m.any_of(config))
        if only is not None:
            m.parse(only, logger.filter)
        return logger

    def _stat(self, name: str, change: Change) -> Mapping[str, object]:
        texts = {telemetry.REPORTER: self.reporter.label, **_COMMON[self.reporter], **self.own}
        for label in change.removed:
            texts.pop(label, None)  # where a field is one label, the proxy need not tell it apart
        fields = (texts.get(field, telemetry.ABSENT) for field in telemetry.FIELDS)
        tags = {telemetry.CALL: telemetry.FIELD_SEPARATOR.join(fields)}
        if change.removed:
            tags[telemetry.REMOVED] = telemetry.SEPARATOR.join(change.removed)
        tags |= {f"{telemetry.ADDED}{label}": f"%CEL({expression})%" for label, expression in change.added}
        listed = [{"name": tag, "value_format": value} for tag, value in tags.items()]
        return {"name": name, "tags": listed}


def _typed(config: Mapping[str, Any]) -> m.typed_struct.TypedStruct:
    """As a struct: `stats_scope`, which Envoy 1.40 has in place of `stat_prefix`, no message at hand has."""
    struct = m.typed_struct.TypedStruct(type_url=_LOGGER)
    struct.value.update({**config, "stats_scope": _SCOPE})
    return struct


def grpc_messages() -> m.hcm.HttpFilter:
    """The filter that notes how many messages a call of gRPC had."""
    config = m.grpc_stats.FilterConfig(emit_filter_state=True)
    return m.hcm.HttpFilter(name="envoy.filters.http.grpc_stats", typed_config=m.any_of(config))


# Who called, at the destination


def tell_guarded(cluster: m.cluster.Cluster) -> None:
    """Have requests to the cluster's guarded endpoints say which workload calls; others hear nothing of it.

    A certificate says no more than the account. The proxy at the other end takes the header away (`heard`).
    """
    options = m.http_options.HttpProtocolOptions()
    cluster.typed_extension_protocol_options[_HTTP_OPTIONS].Unpack(options)
    header = {"header": {"key": _CALLER, "value": _CALLER_TO_GUARDED}, "appendAction": _OVERWRITE}
    mutations = m.header_mutation.HeaderMutation()
    m.parse({"mutations": {"requestMutations": [{"remove": _CALLER}, {"append": header}]}}, mutations)
    codec = m.upstream_codec.UpstreamCodec()
    for name, config in (("header_mutation", mutations), ("upstream_codec", codec)):
        options.http_filters.add(name=f"envoy.filters.http.{name}", typed_config=m.any_of(config))
    cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(m.any_of(options))


def heard() -> m.hcm.HttpFilter:
    """The filter that takes what `tell_guarded` says off requests, for those who count them."""
    config = m.header_to_metadata.Config()
    present = {"metadataNamespace": METADATA, "key": telemetry.SOURCE}
    m.parse({"requestRules": [{"header": _CALLER, "onHeaderPresent": present, "remove": True}]}, config)
    return m.hcm.HttpFilter(name="envoy.filters.http.header_to_metadata", typed_config=m.any_of(config))
