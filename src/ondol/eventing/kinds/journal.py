"""The definitions of DeadLetter and Replay: what is kept of events, delivered or not."""

from __future__ import annotations

from typing import Final

from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing.kinds import schema
from ondol.eventing.kinds.schema import BOOLEAN, INT64, STRING, described, record

_TIME: Final[Object] = {"type": "string", "format": "date-time"}
_SEQUENCE: Final[Object] = {"type": "integer", "format": "int64", "minimum": 1}
_CATEGORY: Final = "eventing"


def dead_letter() -> Object:
    """Made by the data plane; a person deletes it, or sets `redeliver`."""
    event = record(
        {
            "attributes": described(
                {"type": "object", "additionalProperties": STRING}, "Its context attributes, by name."
            ),
            "data": described(STRING, "Its data, where that is text."),
            "data_base64": described(STRING, "Its data, where that is not."),
            "truncated": described(BOOLEAN, "Whether that is but the beginning of its data."),
        }
    )
    reason = record(
        {
            "destination": described(STRING, "Where the last attempt was made."),
            "code": described(INT64, "What was answered to it; 500 where nothing was."),
            "answer": described(STRING, "The body of that answer, up to a bound."),
            "attempts": described(INT64, "How often delivery was tried."),
        }
    )
    spec = record(
        {
            "redeliver": described(
                BOOLEAN, "Set it to have the event sent once more; the letter goes if it is taken."
            ),
            "source": described(
                record(schema.strings("kind", "name", "parent")), "Whose event it was, and of which broker."
            ),
            "sequence": described(INT64, "Its place among the dead letters of the broker."),
            "buriedAt": described(_TIME, "When it was given up."),
            "event": described(event, "The event."),
            "reason": described(reason, "Why it could not be delivered."),
        }
    )
    version = schema.version(
        eventing.DEAD_LETTER.version,
        "An event that could not be delivered, without a sink for dead letters. Deleting it forgets it.",
        spec,
        schema.status({}),
        [
            schema.column("Broker", ".spec.source.parent"),
            schema.column("For", ".spec.source.name"),
            schema.column("Type", ".spec.event.attributes.type"),
            schema.column("Code", ".spec.reason.code", "integer"),
            schema.column("Id", ".spec.event.attributes.id", priority=1),
            schema.AGE,
        ],
    )
    return schema.definition(eventing.DEAD_LETTER, [version], category=_CATEGORY)


def replay() -> Object:
    """Asked for by a person; done once."""
    place = record(
        {
            "time": described(_TIME, "The first event that was kept at this time or later."),
            "sequence": described(_SEQUENCE, "The event of this number."),
        }
    )
    spec = record(
        {
            "broker": described(STRING, "The broker whose events are delivered once more."),
            "trigger": described(STRING, "The one trigger that gets them; by default all of the broker."),
            "from": described(place, "Where to begin; by default with the oldest event that is kept."),
            "until": described(place, "Where to end, itself included; by default with the newest one."),
        },
        "broker",
    ) | {
        "x-kubernetes-validations": [
            {
                "rule": "self == oldSelf",
                "message": "a Replay is done once: make another",
                "reason": "FieldValueForbidden",
            }
        ]
    }
    status = schema.status(
        {
            "delivered": described(INT64, "Deliveries that were taken."),
            "failed": described(INT64, "Deliveries that were not, and are dead letters now."),
            "position": described(INT64, "The event up to which it is done."),
            "end": described(INT64, "The event it goes up to."),
            "startTime": described(_TIME, "When it began."),
            "completionTime": described(_TIME, "When it was done."),
        }
    )
    version = schema.version(
        eventing.REPLAY.version,
        "Delivers events of a broker's history once more.",
        spec,
        status,
        [
            schema.column("Broker", ".spec.broker"),
            schema.column("Trigger", ".spec.trigger"),
            schema.column("Delivered", ".status.delivered", "integer"),
            schema.column("Failed", ".status.failed", "integer"),
            schema.column("Complete", '.status.conditions[?(@.type=="Complete")].status'),
            schema.AGE,
        ],
    )
    return schema.definition(eventing.REPLAY, [version], category=_CATEGORY)
