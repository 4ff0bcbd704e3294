"""Telemetry: how calls are counted, traced and logged. Its definition and its findings.

Its validation is in `model.telemetry_validation`; what follows from it in `translate.telemetry`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ondol.contracts import mesh
from ondol.mesh import telemetry_descriptions
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.kinds import attachment
from ondol.mesh.kinds.findings import NOT_OBSERVED
from ondol.mesh.kinds.kind import TELEMETRY_VERSIONS, Finding, Kind
from ondol.mesh.model import telemetry, telemetry_validation
from ondol.mesh.policy import selection
from ondol.mesh.translate import reach
from ondol.mesh.translate import telemetry as translation
from ondol.mesh.translate.telemetry import Telemetry


def _survey(dependencies: Dependencies) -> Iterator[Finding]:
    rules = dependencies.world.of(selection.TELEMETRY)
    if not rules:
        return
    pods = attachment.Pods(dependencies)
    for rule in rules:
        if not _is_of_ingress(rule):
            yield from attachment.without_pods(rule, pods, "IST0101")
        for place, name, there in translation.unknown_providers(rule.spec):
            text = f"spec.{place}: there is no provider {name}, but {there}: for it nothing is done"
            yield Finding(rule.origin, NOT_OBSERVED, text)
        for text in _of_tracing(rule.spec):
            yield Finding(rule.origin, NOT_OBSERVED, f"spec.tracing: {text}")
    yield from attachment.rivals(rules, pods, "IST0160", "IST0159")


def _is_of_ingress(rule: Telemetry) -> bool:
    """Whether it selects the ingress gateway, which has no pods."""
    labels = rule.spec.selector.match_labels if rule.spec.selector is not None else {}
    return rule.namespace == reach.ISTIO_SYSTEM and labels.items() <= reach.INGRESS_SELECTOR.items()


def _of_tracing(spec: telemetry.TelemetrySpec) -> Iterator[str]:
    for tracing in spec.tracing:
        if tracing.match is not None and tracing.match.mode == "SERVER":
            yield "spans are made where calls are made (CLIENT); SERVER has no effect"
        for name, tag in tracing.custom_tags.items():
            if tag.environment is not None:
                effect = f"its default {tag.environment.default_value!r}"
                effect = effect if tag.environment.default_value else "nothing, as it has no default"
                text = f"one proxy for all pods has the environment of none: customTags.{name} tells {effect}"
                yield text


def _alone(rule: Telemetry) -> Iterator[Finding]:
    yield from attachment.of_gateways(rule)
    for index, logging in enumerate(rule.spec.access_logging):
        if not logging.providers and not logging.disabled:
            text = f"spec.accessLogging[{index}] names no provider: Istio takes it for nothing"
            yield Finding(rule.origin, "IST0157", text)


KIND: Final = Kind(
    resource=mesh.TELEMETRY,
    short_name="telemetry",
    description="How calls of pods are counted, traced and logged.",
    spec=telemetry.TelemetrySpec,
    fields=telemetry_descriptions.FIELDS,
    versions=TELEMETRY_VERSIONS,
    validate=telemetry_validation.telemetry_spec,
    of_workloads=True,
    alone=_alone,
    survey=_survey,
    progress=attachment.PROGRESS,
)
