"""Defaults and refusals of JobSinks and IntegrationSinks (knative/eventing pkg/apis/sinks)."""

from __future__ import annotations

from collections.abc import Iterator

from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing.kinds import checks, pods
from ondol.eventing.kinds.checks import Causes
from ondol.eventing.kinds.writes import Configuration, Rules, Write
from ondol.eventing.sinks import jobs, log_sink


def rules(configuration: Configuration) -> dict[str, Rules]:
    """By group and resource."""
    return {
        eventing.JOB_SINK.group_resource: Rules(configuration, job_sink, fill_job_sink),
        eventing.INTEGRATION_SINK.group_resource: Rules(
            configuration, integration_sink, fill_integration_sink, advise_integration_sink
        ),
    }


def fill_job_sink(new: Object, _configuration: Configuration) -> None:
    """Its containers are told that they run once."""
    template = ((new.setdefault("spec", {}).get("job") or {}).get("spec") or {}).get("template") or {}
    spec = template.get("spec") if isinstance(template, dict) else None
    if isinstance(spec, dict) and pods.has_shape(spec):
        jobs.fill_mode(spec)


def job_sink(write: Write) -> Causes:
    job = write.spec.get("job")
    if job is None:
        yield checks.missing("spec.job")
        return
    yield from pods.job(job, "spec.job")


def fill_integration_sink(new: Object, _configuration: Configuration) -> None:
    log = new.setdefault("spec", {}).get("log")
    if isinstance(log, dict):
        for field, value in (("level", "INFO"), ("loggerName", log_sink.NAME), ("showBody", True)):
            log.setdefault(field, value)


def integration_sink(write: Write) -> Causes:
    spec = write.spec
    if spec.get("aws") is not None:
        text = "sinks of AWS are not supported; send to a Service that calls them"
        yield checks.disallowed("spec.aws", text)
    elif spec.get("log") is None:
        yield checks.generic("spec", "at least one sink type must be specified")
    level = (spec.get("log") or {}).get("level")
    if level is not None and level not in log_sink.LEVELS:
        yield checks.invalid("spec.log.level", level, f"expected one of {', '.join(log_sink.LEVELS)}")


def advise_integration_sink(write: Write) -> Iterator[str]:
    for field in log_sink.UNUSED:
        if (write.spec.get("log") or {}).get(field):
            yield f"spec.log.{field} has no effect: there is no route of Camel"
