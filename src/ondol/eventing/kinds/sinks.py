"""The definitions of JobSink and IntegrationSink."""

from __future__ import annotations

from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing.kinds import schema
from ondol.eventing.kinds.schema import ANYTHING, BOOLEAN, STRING, described, record
from ondol.eventing.sinks import log_sink

_COLUMNS = (schema.URL, schema.AGE, *schema.READY)


def job_sink() -> Object:
    job = described(ANYTHING, "The Job that is made for each event, with its apiVersion, kind and spec.")
    status = schema.status(
        {
            **schema.addressable(),
            **schema.policies(),
            "job": record({"selector": described(STRING, "By which labels its Jobs are found.")}),
        }
    )
    version = schema.version(
        eventing.JOB_SINK.version,
        "Runs a Job for each event it gets.",
        record({"job": job}),
        status,
        _COLUMNS,
    )
    return schema.definition(eventing.JOB_SINK, [version], category="sinks", labels=schema.ADDRESSABLE)


def integration_sink() -> Object:
    flags = dict.fromkeys(log_sink.UNUSED, BOOLEAN)
    log = record(
        {
            **flags,
            "level": described(STRING, "TRACE, DEBUG, INFO (the default), WARN, ERROR or OFF."),
            "loggerName": described(STRING, "A word that each line has; log-sink."),
            "marker": described(STRING, "Another one."),
            "showBody": described(BOOLEAN, "Whether a line has the data; true."),
            "showHeaders": described(BOOLEAN, "Whether it has all attributes; false."),
        }
    )
    spec = record(
        {
            "log": described(log, "Writes a line for each event to the log of the process `events`."),
            "aws": described(ANYTHING, "Not supported: sinks of AWS are refused."),
        }
    )
    version = schema.version(
        eventing.INTEGRATION_SINK.version,
        "Passes events on to other systems: a log.",
        spec,
        schema.status({**schema.addressable(), **schema.policies()}),
        _COLUMNS,
    )
    return schema.definition(
        eventing.INTEGRATION_SINK, [version], category="sinks", labels=schema.ADDRESSABLE
    )


def definitions() -> list[Object]:
    return [job_sink(), integration_sink()]
