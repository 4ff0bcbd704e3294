"""The definitions of the sources: of Knative's own kinds, and of WebhookSource."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from ondol.api.objects import Object, Resource
from ondol.contracts import eventing
from ondol.eventing.kinds import schema
from ondol.eventing.kinds.schema import ANYTHING, BOOLEAN, INT64, STRING, array, described, record
from ondol.eventing.sources import wellknown

LABELS: Final = {"duck.knative.dev/source": "true", "eventing.knative.dev/source": "true"}
BINDING_LABELS: Final = {"duck.knative.dev/source": "true", "duck.knative.dev/binding": "true"}
_EVENT_TYPES: Final = "registry.knative.dev/eventTypes"
SINK_COLUMN: Final = schema.column("Sink", ".status.sinkUri")
COLUMNS: Final = (SINK_COLUMN, schema.AGE, *schema.READY)


def source_spec() -> dict[str, Object]:
    """What every source says: where events go, and what is set on each."""
    extensions = described(ANYTHING, "Extension attributes that are set on each event.")
    return {
        "sink": schema.destination("Who gets the events."),
        "ceOverrides": described(record({"extensions": extensions}), "What is changed of each event."),
    }


def source_status() -> dict[str, Object]:
    """What every source reports."""
    attributes = record(schema.strings("type", "source"))
    return {
        "sinkUri": described(STRING, "The address that events are sent to."),
        "sinkCACerts": STRING,
        "sinkAudience": STRING,
        "auth": schema.auth(),
        "ceAttributes": described(array(attributes), "Type and source of the events that it sends."),
    }


def label_selector(text: str) -> Object:
    requirement = record({**schema.strings("key", "operator"), "values": array(STRING)})
    return described(record({"matchExpressions": array(requirement), "matchLabels": ANYTHING}), text)


def event_types(descriptions: Mapping[str, str]) -> dict[str, str]:
    """The annotation that says which types of events a kind sends."""
    listed = [{"type": type_, "description": text} for type_, text in descriptions.items()]
    return {_EVENT_TYPES: json.dumps(listed)}


def _definition(
    resource: Resource,
    text: str,
    spec: Object,
    *,
    status: Object | None = None,
    types: Mapping[str, str] | None = None,
) -> Object:
    """A kind of one version."""
    version = schema.version(resource.version, text, spec, status or schema.status(source_status()), COLUMNS)
    annotations = event_types(types) if types else None
    return schema.definition(resource, [version], category="sources", labels=LABELS, annotations=annotations)


def ping_source() -> Object:
    """Served in two versions of one shape."""
    spec = record(
        {
            **source_spec(),
            "schedule": described(
                STRING, "When, as cron has it; a field of seconds may come first. Every minute."
            ),
            "timezone": described(STRING, "The zone of the schedule, as in Asia/Seoul; by default UTC."),
            "contentType": described(STRING, "The media type of the data."),
            "data": described(STRING, "The data of each event."),
            "dataBase64": described(STRING, "The data of each event in Base64, in place of data."),
        }
    )
    columns = (SINK_COLUMN, schema.column("Schedule", ".spec.schedule"), schema.AGE, *schema.READY)
    text = "Sends the same event over and over, by a schedule."
    status = schema.status(source_status())
    older = (
        "sources.knative.dev/v1beta2 PingSource is deprecated; use sources.knative.dev/v1 PingSource, "
        "which is of the same shape"
    )
    versions = [
        schema.version("v1", text, spec, status, columns),
        schema.version("v1beta2", text, spec, status, columns, storage=False, deprecation=older),
    ]
    types = event_types({wellknown.PING_TYPE: "CloudEvent type for fixed payloads on a schedule"})
    return schema.definition(
        eventing.PING_SOURCE, versions, category="sources", labels=LABELS, annotations=types
    )


def api_server_source() -> Object:
    kind = {
        "apiVersion": described(STRING, "Group and version of the kind."),
        "kind": described(STRING, "The kind's name."),
    }
    selector = label_selector("Which objects of the kind, by their labels.")
    spec = record(
        {
            **source_spec(),
            "resources": described(
                array(record({**kind, "selector": selector})), "The kinds that are watched."
            ),
            "owner": described(record(kind), "Only objects whose controller is of this kind."),
            "mode": described(
                STRING, "What an event carries: Reference (the default) or the whole Resource."
            ),
            "serviceAccountName": described(STRING, "With whose rights it looks; the account default."),
            "namespaceSelector": label_selector(
                "Which namespaces, by their labels; its own if it says nothing, all if it is empty."
            ),
            "filters": schema.filters(),
        },
        "resources",
    )
    status = schema.status(
        {
            **source_status(),
            "namespaces": described(array(STRING), "The namespaces that are watched now."),
        }
    )
    text = "Sends an event for each change of objects in the API."
    return _definition(
        eventing.API_SERVER_SOURCE, text, spec, status=status, types=wellknown.API_SERVER_TYPES
    )


def container_source() -> Object:
    template = described(ANYTHING, "The pods that send events; K_SINK in their environment says where to.")
    text = "Runs containers that send events of their own."
    return _definition(eventing.CONTAINER_SOURCE, text, record({**source_spec(), "template": template}))


def sink_binding() -> Object:
    subject = record(
        {
            **schema.strings("apiVersion", "kind", "name", "namespace"),
            "selector": label_selector("Which objects of the kind, in place of a name."),
        }
    )
    spec = record(
        {**source_spec(), "subject": described(subject, "What has a template of pods, and is told the sink.")}
    )
    status = schema.status({**source_status(), "oidcTokenSecretName": STRING})
    version = schema.version(
        eventing.SINK_BINDING.version,
        "Tells the pods of its subject where to send events, in their environment.",
        spec,
        status,
        COLUMNS,
    )
    return schema.definition(
        eventing.SINK_BINDING, [version], category=("sources", "bindings"), labels=BINDING_LABELS
    )


def integration_source() -> Object:
    timer = record(
        {
            "period": described(INT64, "Milliseconds between two events."),
            "message": described(STRING, "The data of each event."),
            "contentType": described(STRING, "Its media type."),
            "repeatCount": described(INT64, "How many events are sent in all; without it, any number."),
        }
    )
    spec = record(
        {
            **source_spec(),
            "timer": described(timer, "Sends a message over and over."),
            "aws": described(ANYTHING, "Not supported: sources of AWS are refused."),
            "template": described(ANYTHING, "Without effect: the timer runs in a process of the platform."),
        }
    )
    return _definition(eventing.INTEGRATION_SOURCE, "Brings in events of other systems: a timer.", spec)


def webhook_source() -> Object:
    key = record(schema.strings("name", "key"))
    secret = described(record({"secretKeyRef": key}), "Which key of which Secret of its namespace.")
    spec = record(
        {
            **source_spec(),
            "provider": described(STRING, "Who calls: github or gitlab."),
            "secretToken": described(secret, "The secret that requests are signed with, or carry."),
            "eventTypes": described(array(STRING), "The provider's own names of events; by default all."),
            "repository": described(
                STRING, "owner/name, or the project's address: the source of the events."
            ),
            "allowUnsigned": described(
                BOOLEAN, "Take requests without a secret. Anybody can then send events."
            ),
        }
    )
    status = schema.status({**source_status(), **schema.addressable()})
    text = "Takes in webhooks of GitHub and GitLab, and sends an event for each."
    version = schema.version(eventing.WEBHOOK_SOURCE.version, text, spec, status, (schema.URL, *COLUMNS))
    return schema.definition(eventing.WEBHOOK_SOURCE, [version], category="sources", labels=LABELS)


def definitions() -> list[Object]:
    return [
        ping_source(),
        api_server_source(),
        container_source(),
        sink_binding(),
        integration_source(),
        webhook_source(),
    ]
