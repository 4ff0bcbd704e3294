"""The definition of EventType in its three versions."""

from __future__ import annotations

from typing import Final

from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing.kinds import schema
from ondol.eventing.kinds.schema import BOOLEAN, STRING, array, column, described, record

_TEXT: Final = "Says of one type of events who has them."
_DEPRECATION: Final = (
    "eventing.knative.dev/v1beta1 EventType is deprecated; see "
    "https://knative.dev/docs/eventing/event-registry/ for instructions to migrate to "
    "eventing.knative.dev/v1beta2 EventType"
)
_WHO: Final = (
    column("Reference Name", ".spec.reference.name"),
    column("Reference Kind", ".spec.reference.kind"),
    column("Description", ".spec.description"),
    *schema.READY,
)


def _common() -> dict[str, Object]:
    return {
        "reference": schema.reference("Who has events of this type."),
        "description": described(STRING, "Words for people."),
    }


def _flat_spec() -> Object:
    return record(
        {
            "type": described(STRING, "The events' type."),
            "source": described(STRING, "Their source."),
            "schema": described(STRING, "Where the schema of their data is to be had."),
            "schemaData": described(STRING, "That schema itself, in whichever language."),
            "broker": described(STRING, "A broker that has them; deprecated for reference."),
            **_common(),
        }
    )


def _attribute_spec() -> Object:
    attribute = record(
        {
            "name": described(STRING, "The attribute."),
            "required": described(BOOLEAN, "Whether every event has it."),
            "value": described(STRING, "Its value, which may have {variables}."),
        },
        "name",
    )
    return record({"attributes": described(array(attribute), "What the events are like."), **_common()})


def event_type() -> Object:
    status, flat = schema.status({}), _flat_spec()
    columns = (
        column("Type", ".spec.type"),
        column("Source", ".spec.source"),
        column("Schema", ".spec.schema"),
        *_WHO,
    )
    of_attributes = (
        column("Type", ".spec.attributes[?(@.name=='type')].value"),
        column("Source", ".spec.attributes[?(@.name=='source')].value"),
        *_WHO,
    )
    versions = [
        schema.version("v1beta3", _TEXT, _attribute_spec(), status, of_attributes, storage=False),
        schema.version("v1beta2", _TEXT, flat, status, columns),
        schema.version("v1beta1", _TEXT, flat, status, columns, storage=False, deprecation=_DEPRECATION),
    ]
    return schema.definition(eventing.EVENT_TYPE, versions, category="eventing")
