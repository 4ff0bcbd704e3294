"""The definitions of KafkaSource and KafkaSink."""

from __future__ import annotations

from typing import Final

from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing.kafka import records
from ondol.eventing.kinds import schema, sources
from ondol.eventing.kinds.schema import BOOLEAN, INT32, STRING, array, described, record

_SERVERS: Final = described(array(STRING), "Servers of the cluster to begin with, as host:port.")
_SCALE: Final = {
    "specReplicasPath": ".spec.consumers",
    "statusReplicasPath": ".status.consumers",
    "labelSelectorPath": ".status.selector",
}
_TYPES: Final = {records.TYPE: "CloudEvent type for records that are no CloudEvents"}


def _secret(text: str) -> Object:
    key = record({**schema.strings("name", "key"), "optional": BOOLEAN}, "key")
    return described(record({"secretKeyRef": key}), text)


def _net() -> Object:
    tls = record(
        {
            "enable": described(BOOLEAN, "Whether connections are encrypted."),
            "caCert": _secret("Certificates of the authorities that are trusted; else the machine's."),
            "cert": _secret("The certificate that is shown."),
            "key": _secret("Its key."),
        }
    )
    sasl = record(
        {
            "enable": described(BOOLEAN, "Whether a user logs in."),
            "user": _secret("The user's name."),
            "password": _secret("The password."),
            "type": _secret("PLAIN (the default), SCRAM-SHA-256 or SCRAM-SHA-512."),
            "tokenProvider": _secret("Not supported: OAUTHBEARER is refused."),
            "roleARN": _secret("Not supported: OAUTHBEARER is refused."),
        }
    )
    return described(record({"tls": tls, "sasl": sasl}), "How the cluster is connected to.")


def kafka_source() -> Object:
    """Served in two versions of one shape."""
    spec = record(
        {
            **sources.source_spec(),
            "bootstrapServers": _SERVERS,
            "topics": described(array(STRING), "The topics that are read."),
            "consumerGroup": described(STRING, "The group as which they are read; by default a new one."),
            "consumers": described(INT32, "How many members the group has here; with 0 nothing is read."),
            "initialOffset": described(STRING, "Where a new group begins: latest (the default) or earliest."),
            "ordering": described(
                STRING, "ordered (the default): a partition's one after another; or unordered."
            ),
            "delivery": schema.delivery(),
            "net": _net(),
        },
        "bootstrapServers",
        "topics",
    )
    status = schema.status(
        {
            **sources.source_status(),
            **schema.dead_letter_status(),
            "consumers": described(INT32, "How many members have joined the group."),
            "selector": described(STRING, "For scale; no pods have these labels."),
            "claims": described(STRING, "The partitions that are read here."),
        }
    )
    columns = (
        schema.column("Topics", ".spec.topics"),
        schema.column("BootstrapServers", ".spec.bootstrapServers"),
        *schema.READY,
        schema.AGE,
    )
    text = "Reads topics of Kafka, and sends an event for each record."
    versions = [
        schema.version("v1", text, spec, status, columns),
        schema.version("v1beta1", text, spec, status, columns, storage=False),
    ]
    for version in versions:
        version["subresources"]["scale"] = dict(_SCALE)
    annotations = sources.event_types(_TYPES)
    return schema.definition(
        eventing.KAFKA_SOURCE, versions, category="sources", labels=sources.LABELS, annotations=annotations
    )


def kafka_sink() -> Object:
    secret = record({"ref": record(schema.strings("name"))})
    spec = record(
        {
            "topic": described(STRING, "The topic that events are written to."),
            "bootstrapServers": _SERVERS,
            "numPartitions": described(
                INT32, "With how many partitions the topic is made; else it is there."
            ),
            "replicationFactor": described(INT32, "How many copies it then has."),
            "contentMode": described(STRING, "How records carry events: binary (the default) or structured."),
            "auth": described(record({"secret": secret}), "The Secret that says how to connect."),
        },
        "topic",
        "bootstrapServers",
    )
    version = schema.version(
        eventing.KAFKA_SINK.version,
        "Writes the events it gets to a topic of Kafka.",
        spec,
        schema.status({**schema.addressable(), **schema.policies()}),
        (schema.URL, schema.AGE, *schema.READY),
    )
    return schema.definition(eventing.KAFKA_SINK, [version], category="eventing", labels=schema.ADDRESSABLE)


def definitions() -> list[Object]:
    return [kafka_source(), kafka_sink()]
