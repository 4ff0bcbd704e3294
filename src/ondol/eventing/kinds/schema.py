"""Pieces of the schemas of Eventing's kinds: references, destinations, delivery, statuses, definitions.

The shape is Knative's (config/core/resources in knative/eventing): objects made for it are taken as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ondol.api.objects import Object, Resource

STRING: Final[Object] = {"type": "string"}
BOOLEAN: Final[Object] = {"type": "boolean"}
INT32: Final[Object] = {"type": "integer", "format": "int32"}
INT64: Final[Object] = {"type": "integer", "format": "int64"}
ANYTHING: Final[Object] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def described(schema: Mapping[str, Any], text: str) -> Object:
    return {**schema, "description": text}


def record(properties: Mapping[str, Object], *required: str) -> Object:
    """An object with these fields."""
    schema: Object = {"type": "object", "properties": dict(properties)}
    return schema | ({"required": list(required)} if required else {})


def array(items: Object) -> Object:
    return {"type": "array", "items": items}


def keyed(items: Object, *keys: str) -> Object:
    """A list whose entries are told apart by these fields, so that several writers can own some each."""
    return array(items) | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def strings(*names: str) -> dict[str, Object]:
    return dict.fromkeys(names, STRING)


def reference(text: str = "Which object is meant.") -> Object:
    """A KReference; its namespace is that of the object that has it unless it says another."""
    return described(
        record(
            {
                "apiVersion": described(STRING, "Group and version of the object's kind."),
                "group": described(STRING, "The group alone, in place of apiVersion (kreference-group)."),
                "kind": described(STRING, "The object's kind."),
                "name": described(STRING, "The object's name."),
                "namespace": described(STRING, "Its namespace; by default that of who refers to it."),
                "address": described(STRING, "The name of one of the object's status.addresses."),
            }
        ),
        text,
    )


def destination(text: str) -> Object:
    """Where events are sent: an object that has an address, a URI, or a URI relative to the former."""
    return described(record(destination_fields()), text)


def destination_fields() -> dict[str, Object]:
    return {
        "ref": reference("A Service of Kubernetes, or any object with an address in its status."),
        "uri": described(STRING, "An absolute URL; beside ref one that is relative to its address."),
        "CACerts": described(STRING, "Certificates (PEM) of the authorities that are trusted there, too."),
        "audience": described(STRING, "The audience of tokens for it, before the one it states itself."),
    }


def delivery(text: str = "What becomes of events that are not taken at once.") -> Object:
    """A DeliverySpec."""
    fields = record(
        {
            "retry": described(INT32, "How often an event is sent again before it is given up."),
            "backoffPolicy": described(STRING, "How the wait grows: linear or exponential."),
            "backoffDelay": described(STRING, "The wait to begin with, as an ISO 8601 duration: PT0.2S."),
            "timeout": described(STRING, "How long one attempt may take, as an ISO 8601 duration."),
            "retryAfterMax": described(STRING, "At most so long Retry-After of 429 and 503 is heeded."),
            "deadLetterSink": destination("Who gets events that were given up."),
            "format": described(STRING, "How events are sent: json (structured), binary, or as they came."),
        }
    )
    return described(fields, text)


def channel_template() -> Object:
    return described(
        record(
            {
                **strings("apiVersion", "kind"),
                "spec": described(ANYTHING, "The spec of each channel that is made of it."),
            }
        ),
        "The kind of channel that is made; by default the one of the ConfigMap default-ch-webhook.",
    )


def filters() -> Object:
    """The filters of the Subscriptions API."""
    nested = described(array(ANYTHING), "Filters.")
    return described(
        array(
            record(
                {
                    "exact": described(ANYTHING, "Attributes with the values they must have."),
                    "prefix": described(ANYTHING, "Attributes with what their values begin with."),
                    "suffix": described(ANYTHING, "Attributes with what their values end in."),
                    "all": described(nested, "Filters that must all let the event pass."),
                    "any": described(nested, "Filters of which one must let the event pass."),
                    "not": described(ANYTHING, "A filter that must not let the event pass."),
                    "cesql": described(STRING, "An expression of CloudEvents SQL that must be true."),
                }
            )
        ),
        "Filters that an event must all pass; if there are any, `filter` does not count.",
    )


def subscribers() -> Object:
    """What a channel delivers to, as Subscriptions write it."""
    entry = {
        **strings("uid", "name", "namespace", "subscriberUri", "subscriberCACerts", "subscriberAudience"),
        **strings("replyUri", "replyCACerts", "replyAudience"),
        "generation": INT64,
        "delivery": delivery(),
        "auth": auth(),
    }
    return described(array(record(entry)), "The subscriptions, with their addresses resolved.")


def subscriber_statuses() -> Object:
    entry = {**strings("uid", "ready", "message"), "observedGeneration": INT64, "auth": auth()}
    return described(array(record(entry)), "What became of each subscriber.")


def auth() -> Object:
    return described(
        record({"serviceAccountName": STRING, "serviceAccountNames": array(STRING)}),
        "The service account as which events are sent.",
    )


def addressable() -> dict[str, Object]:
    """The status fields of something that takes events."""
    address = record(strings("name", "url", "CACerts", "audience"))
    return {
        "address": described(address, "Where events are sent to."),
        "addresses": described(array(address), "All its addresses, if there are several."),
    }


def dead_letter_status() -> dict[str, Object]:
    return {
        "deadLetterSinkUri": described(STRING, "The address of the dead letter sink."),
        "deadLetterSinkCACerts": STRING,
        "deadLetterSinkAudience": STRING,
    }


def policies() -> dict[str, Object]:
    entry = record(strings("apiVersion", "name"))
    return {"policies": described(array(entry), "The EventPolicies that hold for it.")}


def condition_fields() -> dict[str, Object]:
    return strings("type", "status", "severity", "reason", "message", "lastTransitionTime")


def condition() -> Object:
    return record(condition_fields(), "type", "status")


def object_reference() -> Object:
    return record(strings("apiVersion", "kind", "name", "namespace", "uid", "resourceVersion", "fieldPath"))


def status(properties: Mapping[str, Object]) -> Object:
    """A status: conditions and observedGeneration, and what the kind has besides."""
    return described(
        record(
            {
                "observedGeneration": described(INT64, "The generation of the spec that this is about."),
                "annotations": described(ANYTHING, "Words for people and tools."),
                "conditions": described(
                    keyed(condition(), "type"), "One for each of its parts, by type; Ready sums them up."
                ),
                **properties,
            }
        ),
        "What became of it.",
    )


def column(name: str, path: str, type_: str = "string", priority: int = 0) -> Object:
    shown = {"name": name, "type": type_, "jsonPath": path}
    return {**shown, "priority": priority} if priority else shown


URL: Final = column("URL", ".status.address.url")
AGE: Final = column("Age", ".metadata.creationTimestamp", "date")
READY: Final = (
    column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
    column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
)


def version(
    name: str,
    text: str,
    spec: Object,
    status: Object,
    columns: Sequence[Object],
    *,
    storage: bool = True,
    deprecation: str = "",
) -> Object:
    """One version of a kind."""
    schema = described(record({"spec": described(spec, "What is wanted."), "status": status}), text)
    deprecated = {"deprecated": True, "deprecationWarning": deprecation} if deprecation else {}
    return {
        "name": name,
        "served": True,
        "storage": storage,
        "subresources": {"status": {}},
        "additionalPrinterColumns": list(columns),
        "schema": {"openAPIV3Schema": schema},
        **deprecated,
    }


def definition(
    resource: Resource,
    versions: Sequence[Object],
    *,
    category: str | Sequence[str],
    short_names: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Object:
    """A CustomResourceDefinition; `labels` are those by which Knative's tools discover what a kind is."""
    categories = [category] if isinstance(category, str) else list(category)
    names: Object = {
        "kind": resource.kind,
        "listKind": f"{resource.kind}List",
        "plural": resource.plural,
        "singular": resource.kind.lower(),
        "categories": ["all", "knative", *categories],
    }
    metadata: Object = {
        "name": resource.group_resource,
        "labels": {
            "app.kubernetes.io/name": "knative-eventing",
            "app.kubernetes.io/part-of": "ondol",
            "knative.dev/crd-install": "true",
            **(labels or {}),
        },
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": resource.group,
            "scope": "Namespaced",
            "names": names | ({"shortNames": list(short_names)} if short_names else {}),
            "versions": list(versions),
        },
    }


ADDRESSABLE: Final = {"duck.knative.dev/addressable": "true"}
SUBSCRIBABLE: Final = {**ADDRESSABLE, "messaging.knative.dev/subscribable": "true"}
