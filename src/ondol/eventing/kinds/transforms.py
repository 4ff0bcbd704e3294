"""The definition of EventTransform."""

from __future__ import annotations

from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing.kinds import schema, sources
from ondol.eventing.kinds.schema import ANYTHING, BOOLEAN, STRING, described, record


def event_transform() -> Object:
    expression = described(STRING, "An expression in JSONata over the event, which answers the new event.")
    jsonata = described(record({"expression": expression}), "How the event is transformed.")
    reply = record(
        {
            "jsonata": jsonata,
            "discard": described(BOOLEAN, "Answer nothing, whatever the sink answers."),
        }
    )
    spec = record(
        {
            "jsonata": jsonata,
            "sink": schema.destination("Who gets the new event; without it, it is the answer."),
            "reply": described(reply, "What becomes of the sink's answer; without it, it is passed on."),
        }
    )
    status = schema.status(
        {
            **sources.source_status(),
            **schema.addressable(),
            **schema.policies(),
            "jsonata": described(ANYTHING, "How the transformation is served."),
        }
    )
    version = schema.version(
        eventing.EVENT_TRANSFORM.version,
        "Makes another event of each event it gets.",
        spec,
        status,
        (schema.URL, sources.SINK_COLUMN, schema.AGE, *schema.READY),
    )
    return schema.definition(
        eventing.EVENT_TRANSFORM, [version], category="eventing", labels=schema.ADDRESSABLE
    )


def definitions() -> list[Object]:
    return [event_transform()]
