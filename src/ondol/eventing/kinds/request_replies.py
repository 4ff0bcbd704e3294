"""The definition of RequestReply."""

from __future__ import annotations

from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing.kinds import schema
from ondol.eventing.kinds.schema import STRING, described, record


def request_reply() -> Object:
    spec = record(
        {
            "brokerRef": schema.reference("The broker that requests go to and replies come from."),
            "correlationAttribute": described(STRING, "The extension in which a request has its number."),
            "replyAttribute": described(STRING, "The extension in which a reply repeats that number."),
            "timeout": described(STRING, "How long a reply is waited for, as an ISO 8601 duration."),
            "delivery": schema.delivery(),
        }
    )
    replicas = {"type": "integer"}
    status = schema.status(
        {
            **schema.addressable(),
            **schema.policies(),
            "desiredReplicas": replicas,
            "readyReplicas": replicas,
        }
    )
    version = schema.version(
        eventing.REQUEST_REPLY.version,
        "Sends an event to a broker and answers with the reply to it.",
        spec,
        status,
        [schema.URL, *schema.READY],
    )
    return schema.definition(
        eventing.REQUEST_REPLY,
        [version],
        category="eventing",
        short_names=("rr",),
        labels=schema.ADDRESSABLE,
    )
