"""How the calls of a workload are observed, as Telemetries ask for it. Pure.

Of a root namespace, of the workload's namespace, and of those that select the workload, the oldest Telemetry
each is heard, in this order: what a later one says holds. Metrics add up, label by label; of traces each
field is the last that was given; log providers are those that the last one names.

Source: Istio's documentation of Telemetry ("Telemetry API", scope and inheritance), and its `pkg/model`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from ondol.mesh.model import telemetry
from ondol.mesh.policy import selection
from ondol.mesh.policy.selection import Workload
from ondol.mesh.translate import observing
from ondol.mesh.translate.observing import Log, Observation, SpanTag
from ondol.mesh.translate.registry import Rule
from ondol.mesh.translate.statistics import UNCHANGED, Change
from ondol.mesh.xds.types import Origin

Telemetry: TypeAlias = Rule[telemetry.TelemetrySpec]
KIND: Final = "Telemetry"
CLIENT: Final = "CLIENT"
SERVER: Final = "SERVER"
PROMETHEUS: Final = "prometheus"
"""The provider of metrics: the page that Prometheus reads."""
TRACERS: Final = frozenset({"otel", "otel-tracing", "jaeger", "zipkin", "ondol"})
"""Names under which the platform's own receiver of spans is known."""
ENVOY: Final = "envoy"
"""The provider of lines in the form that the platform's setting says."""
LOGS: Final[Mapping[str, bool | None]] = {ENVOY: None, "text": True, "json": False}
"""Providers of lines, and whether those are text; None: as the setting has it."""


@dataclass(frozen=True, slots=True)
class Observed:
    """How a workload's calls are observed, those it makes and those that arrive at it."""

    outbound: Observation
    inbound: Observation
    origins: tuple[Origin, ...] = ()


@dataclass(slots=True)
class Telemetries:
    """The Telemetries of one world, asked by workload; equal selections are one object."""

    rules: Sequence[Telemetry]
    roots: AbstractSet[str]
    base: Observation
    """Where no Telemetry says otherwise."""
    _by_namespace: dict[str, list[Telemetry]] = field(default_factory=dict)
    _observed: dict[tuple[Telemetry, ...], Observed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for rule in sorted(self.rules, key=lambda rule: rule.age):
            self._by_namespace.setdefault(rule.namespace, []).append(rule)

    @property
    def names_services(self) -> bool:
        return any(rule.spec.targets for rule in self.rules)

    def of(self, workload: Workload) -> Observed:
        heard = self.heard(workload)
        observed = self._observed.get(heard)
        if observed is None:
            origins = tuple(rule.origin for rule in heard)
            specs = [rule.spec for rule in heard]
            outbound, inbound = (_observation(specs, self.base, mode) for mode in (CLIENT, SERVER))
            observed = self._observed[heard] = Observed(outbound, inbound, origins)
        return observed

    def heard(self, workload: Workload) -> tuple[Telemetry, ...]:
        """Those for a workload, the most general first."""
        if not self._by_namespace:
            return ()
        layers = [
            self._first(rule for place in sorted(self.roots) for rule in self._by_namespace.get(place, ()))
        ]
        own = self._by_namespace.get(workload.namespace, ())
        if workload.namespace not in self.roots:
            layers.append(self._first(own))
        layers.append(next((rule for rule in own if self._selects(rule, workload)), None))
        return tuple(dict.fromkeys(rule for rule in layers if rule is not None))

    @staticmethod
    def _first(rules: Iterable[Telemetry]) -> Telemetry | None:
        plain = (rule for rule in rules if not is_selecting(rule.spec))
        return min(plain, key=lambda rule: rule.age, default=None)

    def _selects(self, rule: Telemetry, workload: Workload) -> bool:
        if not is_selecting(rule.spec):
            return False
        return selection.selects(rule.spec, rule.namespace, workload, self.roots)


def is_selecting(spec: telemetry.TelemetrySpec) -> bool:
    """Whether it is for some workloads of its namespace alone."""
    return bool(spec.targets) or (spec.selector is not None and bool(spec.selector.match_labels))


def _holds(mode: telemetry.Mode, asked: str) -> bool:
    return mode in ("CLIENT_AND_SERVER", asked)


def _observation(specs: Sequence[telemetry.TelemetrySpec], base: Observation, mode: str) -> Observation:
    observation = _traced([each for spec in specs for each in spec.tracing], base, mode)
    metrics, is_counted = _counted([each for spec in specs for each in spec.metrics], mode)
    logs = _logged([spec.access_logging for spec in specs], base, mode)
    return replace(observation, metrics=metrics, is_counted=is_counted, logs=logs)


# Metrics


def _counted(listed: Iterable[telemetry.Metrics], mode: str) -> tuple[tuple[tuple[str, Change], ...], bool]:
    """What is changed of which metric, and whether anything is counted at all."""
    providers: tuple[str, ...] = (PROMETHEUS,)
    changes: dict[str, Change] = {}
    for metrics in listed:
        providers = tuple(each.name for each in metrics.providers) or providers
        if PROMETHEUS not in providers:
            continue  # what it says is for others
        for override in metrics.overrides:
            match = override.match or telemetry.MetricSelector()
            if _holds(match.mode, mode):
                for name in match.names:
                    changes[name] = _changed(changes.get(name, UNCHANGED), override)
    return tuple(sorted((name, each) for name, each in changes.items() if each != UNCHANGED)), (
        PROMETHEUS in providers
    )


def _changed(before: Change, override: telemetry.MetricsOverrides) -> Change:
    removed, added = set(before.removed), dict(before.added)
    for label, tag in override.tag_overrides.items():
        removed.discard(label)
        added.pop(label, None)
        if tag.operation == "REMOVE":
            removed.add(label)
        else:
            added[label] = tag.value
    is_disabled = before.is_disabled if override.disabled is None else override.disabled
    return Change(is_disabled, tuple(sorted(removed)), tuple(sorted(added.items())))


# Traces


def _traced(listed: Iterable[telemetry.Tracing], base: Observation, mode: str) -> Observation:
    observation = base
    is_off = False
    for tracing in listed:
        if tracing.match is not None and not _holds(tracing.match.mode, mode):
            continue
        if tracing.disable_span_reporting is not None:
            is_off = tracing.disable_span_reporting
        if tracing.random_sampling_percentage is not None:
            observation = replace(observation, sampling_percent=tracing.random_sampling_percentage)
        if tracing.custom_tags:
            observation = replace(observation, span_tags=tuple(_span_tags(tracing.custom_tags)))
        if tracing.use_request_id_for_trace_sampling is not None:
            by_id = tracing.use_request_id_for_trace_sampling
            observation = replace(observation, samples_by_request_id=by_id)
        if tracing.enable_istio_tags is not None:
            observation = replace(observation, has_istio_tags=tracing.enable_istio_tags)
    return replace(observation, traces="") if is_off else observation


def _span_tags(tags: Mapping[str, telemetry.CustomTag]) -> Iterator[SpanTag]:
    for name, tag in sorted(tags.items()):
        if tag.literal is not None:
            yield SpanTag(name, observing.LITERAL, tag.literal.value)
        elif tag.header is not None:
            yield SpanTag(name, observing.HEADER, tag.header.name, tag.header.default_value)
        elif tag.formatter is not None:
            yield SpanTag(name, observing.FORMATTER, tag.formatter.value)
        elif tag.environment is not None and tag.environment.default_value:
            # The proxy of all pods has the environment of none.
            yield SpanTag(name, observing.LITERAL, tag.environment.default_value)


# Access logs


def _logged(
    layers: Iterable[Sequence[telemetry.AccessLogging]], base: Observation, mode: str
) -> tuple[Log, ...]:
    """The lines that are written: by the providers that the last layer names, unless switched off."""
    listed = [
        [each for each in layer if each.match is None or _holds(each.match.mode, mode)] for layer in layers
    ]
    if not any(listed):
        return base.logs
    in_scope: tuple[str, ...] = (ENVOY,)
    for layer in listed:
        named = tuple(provider.name for each in layer for provider in each.providers)
        in_scope = named or in_scope
    by_provider: dict[str, Log] = {}
    current: tuple[str, ...] = (ENVOY,)
    for layer in listed:
        for each in layer:
            current = tuple(provider.name for provider in each.providers) or current
            for name in current:
                if name not in in_scope or name not in LOGS:
                    continue
                if each.disabled:
                    by_provider.pop(name, None)
                    continue
                is_text = LOGS[name]
                expression = each.filter.expression if each.filter is not None else ""
                by_provider[name] = Log(base.log_is_text if is_text is None else is_text, expression)
    return tuple(dict.fromkeys(by_provider.values()))


def unknown_providers(spec: telemetry.TelemetrySpec) -> Iterator[tuple[str, str, str]]:
    """Providers that are not there: the field, the name, and those that are."""
    listed: tuple[tuple[str, Iterable[Sequence[telemetry.ProviderRef]], AbstractSet[str]], ...] = (
        ("metrics", (each.providers for each in spec.metrics), frozenset({PROMETHEUS})),
        ("tracing", (each.providers for each in spec.tracing), TRACERS),
        ("accessLogging", (each.providers for each in spec.access_logging), frozenset(LOGS)),
    )
    for place, providers, there in listed:
        for name in dict.fromkeys(provider.name for each in providers for provider in each):
            if name not in there:
                yield place, name, ", ".join(sorted(there))
