"""Defaults and refusals of KafkaSources and KafkaSinks (knative-extensions/eventing-kafka-broker)."""

from __future__ import annotations

import uuid
from typing import Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing.kafka import records
from ondol.eventing.kinds import checks
from ondol.eventing.kinds.broker_rules import fill_namespace
from ondol.eventing.kinds.checks import Causes
from ondol.eventing.kinds.source_rules import fill_sink, source_causes
from ondol.eventing.kinds.writes import Configuration, Document, Rules, Write

_GROUP_PREFIX: Final = "knative-kafka-source-"
_OFFSETS: Final = ("earliest", "latest")
_ORDERINGS: Final = ("ordered", "unordered")
_MODES: Final = ("binary", "structured")
_FIXED_OF_SINKS: Final = ("topic", "numPartitions", "replicationFactor")
_CONSUMERS_MAX: Final = 32


class SourceRules(Rules):
    """A group is named once: a write that leaves it out keeps it."""

    def default(self, new: Object, old: Document | None, user: str) -> None:
        before = objects.spec(old or {}).get("consumerGroup")
        if before:
            new.setdefault("spec", {}).setdefault("consumerGroup", before)
        super().default(new, old, user)


def rules(configuration: Configuration) -> dict[str, Rules]:
    """By group and resource."""
    return {
        eventing.KAFKA_SOURCE.group_resource: SourceRules(configuration, kafka_source, fill_kafka_source),
        eventing.KAFKA_SINK.group_resource: Rules(configuration, kafka_sink, fill_kafka_sink),
    }


def fill_kafka_source(new: Object, configuration: Configuration) -> None:
    fill_sink(new, configuration)
    spec = new["spec"]
    if not spec.get("consumerGroup"):
        spec["consumerGroup"] = f"{_GROUP_PREFIX}{uuid.uuid4()}"
    for field, value in (("initialOffset", "latest"), ("ordering", "ordered")):
        if not spec.get(field):
            spec[field] = value
    if spec.get("consumers") is None:
        spec["consumers"] = 1
    fill_namespace((spec.get("delivery") or {}).get("deadLetterSink"), objects.namespace(new))


def kafka_source(write: Write) -> Causes:
    spec = write.spec
    yield from source_causes(write)
    for field in ("topics", "bootstrapServers"):
        if not spec.get(field):
            yield checks.missing(f"spec.{field}")
    yield from _servers(spec)
    if spec.get("initialOffset") not in _OFFSETS:
        yield checks.invalid("spec.initialOffset", spec.get("initialOffset"))
    if spec.get("ordering") not in _ORDERINGS:
        yield checks.invalid("spec.ordering", spec.get("ordering"))
    if not 0 <= int(spec.get("consumers", 1)) <= _CONSUMERS_MAX:
        details = f"must be from 0 to {_CONSUMERS_MAX}"
        yield checks.invalid("spec.consumers", spec.get("consumers"), details)
    yield from checks.delivery(spec.get("delivery"), "spec.delivery", write.namespace, write.features)
    for field in ("tokenProvider", "roleARN"):
        if ((spec.get("net") or {}).get("sasl") or {}).get(field):
            yield checks.disallowed(f"spec.net.sasl.{field}", "OAUTHBEARER is not supported")
    label = objects.labels(write.new).get(records.KEY_TYPE_LABEL)
    if label is not None and label not in records.KEY_TYPES:
        details = f"expected one of {', '.join(records.KEY_TYPES)}"
        yield checks.invalid(f"metadata.labels[{records.KEY_TYPE_LABEL}]", label, details)
    if write.old is not None:
        before = objects.spec(write.old).get("consumerGroup")
        yield from checks.immutable("spec.consumerGroup", before, spec.get("consumerGroup"))


def _servers(spec: Document) -> Causes:
    for number, server in enumerate(spec.get("bootstrapServers") or ()):
        host, _, port = str(server).rpartition(":")
        if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            yield checks.invalid(f"spec.bootstrapServers[{number}]", server, "expected host:port")


def fill_kafka_sink(new: Object, _configuration: Configuration) -> None:
    spec = new.setdefault("spec", {})
    if not spec.get("contentMode"):
        spec["contentMode"] = "binary"


def kafka_sink(write: Write) -> Causes:
    spec = write.spec
    if spec.get("contentMode") not in _MODES:
        yield checks.invalid("spec.contentMode", spec.get("contentMode"))
    for field in ("bootstrapServers", "topic"):
        if not spec.get(field):
            yield checks.invalid(f"spec.{field}", spec.get(field))
    yield from _servers(spec)
    for field in ("replicationFactor", "numPartitions"):
        if spec.get(field) is not None and int(spec[field]) <= 0:
            yield checks.invalid(f"spec.{field}", spec[field])
    ref = ((spec.get("auth") or {}).get("secret") or {}).get("ref")
    if ref is not None and not ref.get("name"):
        yield checks.invalid("spec.auth.secret.ref.name", "")
    if write.old is not None:
        for field in _FIXED_OF_SINKS:
            before = objects.spec(write.old).get(field)
            yield from checks.immutable(f"spec.{field}", before, spec.get(field))
