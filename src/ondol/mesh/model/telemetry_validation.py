"""Validation of Telemetry beyond the schema, by the rules of Istio's own and for safety."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ondol.mesh.model import security_validation, syntax, telemetry
from ondol.mesh.model.validation import Problem, Subject

_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_UNSUPPORTED: Final = "Unsupported"


def telemetry_spec(spec: telemetry.TelemetrySpec, _subject: Subject) -> Iterator[Problem]:
    yield from security_validation.attached(spec)
    for index, metrics in enumerate(spec.metrics):
        for at, override in enumerate(metrics.overrides):
            for problem in _override(override):
                place = f"spec.metrics[{index}].overrides[{at}]"
                yield Problem(f"{place}: {problem.message}", problem.reason)
    for index, tracing in enumerate(spec.tracing):
        if len(tracing.providers) > 1:
            yield Problem(f"spec.tracing[{index}]: multiple providers is not currently supported")
        for name, tag in tracing.custom_tags.items():
            for text in _tag(name, tag):
                yield Problem(f"spec.tracing[{index}].customTags: {text}")
    for index, logging in enumerate(spec.access_logging):
        if logging.filter is not None and not logging.filter.expression.strip():
            yield Problem(f"spec.accessLogging[{index}]: filter expression must not be empty")


def _override(override: telemetry.MetricsOverrides) -> Iterator[Problem]:
    match = override.match or telemetry.MetricSelector()
    if match.metric is not None and match.custom_metric:
        yield Problem("match: only one of metric or customMetric can be set")
    if match.custom_metric and not match.names:
        text = f"match.customMetric {match.custom_metric}: there are no metrics but Istio's standard ones"
        yield Problem(text, _UNSUPPORTED)
    for name, tag in override.tag_overrides.items():
        if not name:
            yield Problem("tagOverrides: tagName cannot be empty")
        elif not _LABEL.fullmatch(name):
            yield Problem(f"tagOverrides: {name!r} is no name of a label")
        if tag.operation == "UPSERT" and not tag.value:
            yield Problem("tagOverrides.value must be set when operation is UPSERT")
        if tag.operation == "REMOVE" and tag.value:
            yield Problem("tagOverrides.value may only be set when operation is UPSERT")
        # The expression stands within a variable of Envoy's, which it must not end.
        if "%" in tag.value or "\n" in tag.value:
            yield Problem(f"tagOverrides.{name}: % and line breaks cannot be in an expression", _UNSUPPORTED)


def _tag(name: str, tag: telemetry.CustomTag) -> Iterator[str]:
    if not name:
        yield "tag name cannot be empty"
    kinds = (tag.literal, tag.environment, tag.header, tag.formatter)
    if sum(kind is not None for kind in kinds) != 1:
        yield f"{name} must be one of literal, environment, header and formatter"
    if tag.literal is not None and not tag.literal.value:
        yield f"{name}: literal tag value cannot be empty"
    if tag.environment is not None and not tag.environment.name:
        yield f"{name}: environment tag name cannot be empty"
    if tag.header is not None and (problem := syntax.matched_header(tag.header.name)):
        yield f"{name}: {problem}"
    if tag.formatter is not None:
        if not tag.formatter.value:
            yield f"{name}: formatter tag value cannot be empty"
        elif problem := syntax.header_value(tag.formatter.value):
            yield f"{name}: {problem}"
