"""What the ConfigMaps say, as frozen values: one class a map, each with the defaults of Knative's own.

Keys, defaults and refusals: knative/serving `config/core/configmaps`, `pkg/apis/config`, `pkg/gc`,
`pkg/autoscaler/config`, `pkg/deployment`, and knative/networking `pkg/config`. `parse` reads one map over the
value that holds without it, which is the platform's settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from ondol.serverless.autoscaler.decide import Scaling
from ondol.serverless.config.reader import Reader
from ondol.serverless.serving import podspec, templates, wellknown
from ondol.serverless.serving.defaults import Defaults
from ondol.serverless.serving.names import Naming

TARGET_MIN: Final = 0.01


@dataclass(frozen=True, slots=True)
class RuntimeClass:
    """A runtime class, and the labels of the Revisions that get it; no labels are all."""

    name: str
    selector: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Deployment:
    """`config-deployment`: how a revision's Deployment is made."""

    runtime_classes: tuple[RuntimeClass, ...] = ()
    always_schedulable: bool = False

    def runtime_class(self, labels: Mapping[str, str]) -> str:
        """The class whose labels are most of these; of equals the first by name; empty for none."""
        fitting = [c for c in self.runtime_classes if all(labels.get(k) == v for k, v in c.selector)]
        return min(fitting, key=lambda c: (-len(c.selector), c.name)).name if fitting else ""


@dataclass(frozen=True, slots=True)
class Collection:
    """`config-gc`: which revisions without traffic are kept; None is `disabled`."""

    since_create_s: float | None = 48 * 3600.0
    since_active_s: float | None = 15 * 3600.0
    least: int = 20
    most: int | None = 1000


@dataclass(frozen=True, slots=True)
class Network:
    """`config-network`, and the domains of `config-domain`."""

    naming: Naming = field(default_factory=Naming)
    rollout_s: int = 0
    autocreate_claims: bool = False
    redirects: bool = False
    """Whether plain HTTP of names with a certificate is sent on to HTTPS."""


@dataclass(frozen=True, slots=True)
class ServingConfig:
    """All of it, as it holds now."""

    scaling: Scaling = field(default_factory=Scaling)
    defaults: Defaults = field(default_factory=Defaults)
    deployment: Deployment = field(default_factory=Deployment)
    collection: Collection = field(default_factory=Collection)
    network: Network = field(default_factory=Network)
    features: frozenset[str] = podspec.DEFAULT_FEATURES
    log_url: str = ""


def _autoscaler(config: ServingConfig, data: Mapping[str, str]) -> ServingConfig:
    read, base = Reader(data), config.scaling
    share = read.number("container-concurrency-target-percentage", base.utilization * 100)
    scaling = replace(
        base,
        autoscaler_class=read.text("pod-autoscaler-class", base.autoscaler_class),
        utilization=share / 100 if share > 1 else share,
        target=read.number("container-concurrency-target-default", base.target),
        rps_target=read.number("requests-per-second-target-default", base.rps_target),
        burst_capacity=read.number("target-burst-capacity", base.burst_capacity),
        panic_window_percent=read.number("panic-window-percentage", base.panic_window_percent),
        panic_threshold=read.number("panic-threshold-percentage", base.panic_threshold * 100) / 100,
        max_scale_up_rate=read.number("max-scale-up-rate", base.max_scale_up_rate),
        max_scale_down_rate=read.number("max-scale-down-rate", base.max_scale_down_rate),
        to_zero=read.boolean("enable-scale-to-zero", default=base.to_zero),
        grace_s=read.seconds("scale-to-zero-grace-period", base.grace_s),
        retention_s=read.seconds("scale-to-zero-pod-retention-period", base.retention_s),
        scale_down_delay_s=read.seconds("scale-down-delay", base.scale_down_delay_s),
        allow_zero_initial=read.boolean("allow-zero-initial-scale", default=base.allow_zero_initial),
        initial_scale=read.whole("initial-scale", base.initial_scale),
        min_scale=read.whole("min-scale", base.min_scale),
        max_scale=read.whole("max-scale", base.max_scale),
        max_scale_limit=read.whole("max-scale-limit", base.max_scale_limit),
    )
    window_s = read.seconds("stable-window", base.window_s)
    read.number("activator-capacity", 100)
    _check_autoscaler(scaling, window_s)
    return replace(config, scaling=replace(scaling, window_s=round(window_s)))


def _check_autoscaler(scaling: Scaling, window_s: float) -> None:
    """Refusals in Knative's words."""
    least_max = 1 if scaling.max_scale_limit > 0 else 0
    over_limit = scaling.max_scale_limit > 0 and scaling.max_scale > scaling.max_scale_limit
    target = scaling.target * scaling.utilization
    rules = (
        (scaling.autoscaler_class not in wellknown.CLASSES, "pod-autoscaler-class",
         f"= {scaling.autoscaler_class}, must be {' or '.join(wellknown.CLASSES)}"),
        (scaling.grace_s <= 0, "scale-to-zero-grace-period", f"must be positive, was: {scaling.grace_s:g}s"),
        (scaling.scale_down_delay_s < 0, "scale-down-delay", "cannot be negative"),
        (scaling.scale_down_delay_s % 1, "scale-down-delay",
         "must be specified with at most second precision"),
        (scaling.retention_s < 0, "scale-to-zero-pod-retention-period", "cannot be negative"),
        (scaling.burst_capacity < 0 and scaling.burst_capacity != -1, "target-burst-capacity",
         f"must be either non-negative or -1 (for unlimited), was: {scaling.burst_capacity:g}"),
        (not 0 < scaling.utilization <= 1, "container-concurrency-target-percentage",
         "is outside of valid range of (0, 100]"),
        (target < TARGET_MIN, "container-concurrency-target-default",
         f"yields a target concurrency of {target:g}, can't be less than {TARGET_MIN:g}"),
        (scaling.rps_target < TARGET_MIN, "requests-per-second-target-default",
         f"must be at least {TARGET_MIN:g}, was: {scaling.rps_target:g}"),
        (scaling.max_scale_up_rate <= 1, "max-scale-up-rate", "must be greater than 1.0"),
        (scaling.max_scale_down_rate <= 1, "max-scale-down-rate", "must be greater than 1.0"),
        (not 6 <= window_s <= 3600, "stable-window", "must be in [6s; 1h0m0s] range"),
        (window_s % 1, "stable-window", "must be specified with at most second precision"),
        (not 1 <= scaling.panic_window_percent <= 100, "panic-window-percentage",
         "must be in [1, 100] interval"),
        (not 1.1 <= scaling.panic_threshold <= 10, "panic-threshold-percentage",
         "must be in [110, 1000] interval"),
        (scaling.initial_scale < (0 if scaling.allow_zero_initial else 1), "initial-scale",
         "must be at least 0 (or at least 1 when allow-zero-initial-scale is false)"),
        (scaling.min_scale < 0, "min-scale", "must be at least 0"),
        (scaling.max_scale < least_max or over_limit, "max-scale",
         f"must be in [{least_max}, max-scale-limit({scaling.max_scale_limit})] range"),
        (scaling.max_scale_limit < 0, "max-scale-limit", "must be at least 0"),
        (0 < scaling.max_scale < scaling.min_scale, "min-scale",
         f"({scaling.min_scale}) must be less than max-scale ({scaling.max_scale})"),
    )  # fmt: skip
    _refuse(*((bool(broken), key, why) for broken, key, why in rules))


def _refuse(*rules: tuple[bool, str, str]) -> None:
    for broken, key, why in rules:
        if broken:
            raise ValueError(f"{key} {why}")


_RESOURCES: Final = ("cpu", "memory", "ephemeral-storage")


def _defaults(config: ServingConfig, data: Mapping[str, str]) -> ServingConfig:
    read, base = Reader(data), config.defaults
    links = read.choice("enable-service-links", ("true", "false", "default"), "false")

    def amounts(kind: str) -> tuple[tuple[str, str], ...]:
        pairs = ((name, read.amount(f"revision-{name}-{kind}")) for name in _RESOURCES)
        return tuple((name, amount) for name, amount in pairs if amount)

    values = Defaults(
        timeout_s=read.whole("revision-timeout-seconds", base.timeout_s),
        timeout_max_s=read.whole("max-revision-timeout-seconds", base.timeout_max_s),
        response_start_s=read.whole("revision-response-start-timeout-seconds", base.response_start_s),
        idle_s=read.whole("revision-idle-timeout-seconds", base.idle_s),
        concurrency=read.whole("container-concurrency", base.concurrency),
        concurrency_max=read.whole("container-concurrency-max-limit", base.concurrency_max),
        allow_zero_concurrency=read.boolean(
            "allow-container-concurrency-zero", default=base.allow_zero_concurrency
        ),
        service_links=None if links == "default" else links == "true",
        container_name=read.text("container-name-template", base.container_name),
        init_container_name=read.text("init-container-name-template", base.init_container_name),
        requests=amounts("request"),
        limits=amounts("limit"),
    )
    for text in (values.container_name, values.init_container_name):
        templates.check(text, ("Name", "Namespace", "Labels", "Annotations"))
    most, total = values.timeout_max_s, values.timeout_s
    _refuse(
        (total > most, "revision-timeout-seconds",
         f"({total}) cannot be greater than max-revision-timeout-seconds ({most})"),
        (values.response_start_s > total, "revision-response-start-timeout-seconds",
         f"({values.response_start_s}) cannot be greater than revision-timeout-seconds ({total})"),
        (values.idle_s > total, "revision-idle-timeout-seconds",
         f"({values.idle_s}) cannot be greater than revision-timeout-seconds ({total})"),
        (min(total, values.response_start_s, values.idle_s) < 0, "revision-timeout-seconds",
         "and the other timeouts must not be negative"),
        (values.concurrency_max < 1, "container-concurrency-max-limit", "must be at least 1"),
        (not 0 <= values.concurrency <= values.concurrency_max, "container-concurrency",
         f"must be in [0, {values.concurrency_max}] range"),
    )  # fmt: skip
    return replace(config, defaults=values)


def _deployment(config: ServingConfig, data: Mapping[str, str]) -> ServingConfig:
    read = Reader(data)
    deadline_s = read.seconds("progress-deadline", config.scaling.progress_deadline_s)
    _refuse(
        (deadline_s <= 0, "progress-deadline", f"cannot be a non-positive duration, was {deadline_s:g}s"),
        (bool(deadline_s % 1), "progress-deadline", "must be rounded to a whole second"),
    )
    classes = tuple(
        RuntimeClass(name, _selector("runtime-class-name", options))
        for name, options in sorted(_mapping("runtime-class-name", data.get("runtime-class-name")).items())
    )
    always = read.boolean("pod-is-always-schedulable", default=False)
    return replace(
        config,
        scaling=replace(config.scaling, progress_deadline_s=deadline_s),
        deployment=Deployment(classes, always),
    )


def _mapping(key: str, text: str | None) -> dict[str, Any]:
    """A mapping written in YAML; nothing is an empty one."""
    if not text:
        return {}
    import yaml  # noqa: PLC0415 - only whoever sets such a key pays for it

    try:
        loaded = yaml.safe_load(text) or {}
        return msgspec.convert(loaded, dict[str, Any])
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ValueError(f"{key} cannot be parsed, please check the format: {error}") from None


def _selector(key: str, options: Any) -> tuple[tuple[str, str], ...]:
    try:
        labels = msgspec.convert((options or {}).get("selector") or {}, dict[str, str])
    except (AttributeError, msgspec.ValidationError) as error:
        raise ValueError(f"{key} selector invalid: {error}") from None
    return tuple(sorted(labels.items()))


def _domain(config: ServingConfig, data: Mapping[str, str]) -> ServingConfig:
    naming = config.network.naming
    domains = []
    for name, text in sorted(data.items()):
        if name.startswith("_"):
            continue
        domains.append((name, _selector(name, _mapping(name, text))))
    if all(selector for _, selector in domains):
        domains.append((naming.domain, ()))
    return replace(config, network=replace(config.network, naming=replace(naming, domains=tuple(domains))))


_ON: Final = ("enabled", "allowed")


def _features(config: ServingConfig, data: Mapping[str, str]) -> ServingConfig:
    read, on = Reader(data), set(config.features)
    for name in podspec.FEATURES:
        if name not in data:
            continue
        word = read.choice(name, ("enabled", "allowed", "disabled"), "disabled")
        is_on = word == "enabled" if name == podspec.TAG_HEADER else word in _ON
        (on.add if is_on else on.discard)(name)
    return replace(config, features=frozenset(on))


def _collection(config: ServingConfig, data: Mapping[str, str]) -> ServingConfig:
    read, base = Reader(data), config.collection
    is_bound = (data.get("max-non-active-revisions") or "").lower() != "disabled"
    most = read.whole("max-non-active-revisions", base.most or 0) if is_bound else None
    least = read.whole("min-non-active-revisions", base.least)
    _refuse(
        (least < 0, "min-non-active-revisions", f"must be non-negative, was: {least}"),
        (most is not None and most < 0, "max-non-active-revisions", "must be non-negative or disabled"),
        (most is not None and least > most, "min-non-active-revisions",
         f"({least}) must be <= max-non-active-revisions({most})"),
    )  # fmt: skip
    collection = Collection(
        read.seconds_or_disabled("retain-since-create-time", base.since_create_s),
        read.seconds_or_disabled("retain-since-last-active-time", base.since_active_s),
        least,
        most,
    )
    return replace(config, collection=collection)


def _network(config: ServingConfig, data: Mapping[str, str]) -> ServingConfig:
    read, naming = Reader(data), config.network.naming
    domain = read.text("domain-template", read.text("domainTemplate", naming.domain_template))
    tag = read.text("tag-template", read.text("tagTemplate", naming.tag_template))
    scheme = read.text("default-external-scheme", read.text("defaultExternalScheme", naming.scheme))
    templates.check(domain, ("Name", "Namespace", "Domain", "Labels", "Annotations"))
    templates.check(tag, ("Name", "Tag"))
    _refuse(
        ("/" in domain, "domain-template", "has a url path"),
        (scheme not in ("http", "https"), "default-external-scheme", f"{scheme!r} must be http or https"),
    )
    seconds = read.whole("rollout-duration", read.whole("rolloutDuration", 0))
    _refuse((seconds < 0, "rollout-duration", f"must be a positive integer, but was {seconds}"))
    claims = read.boolean(
        "autocreate-cluster-domain-claims",
        default=read.boolean("autocreateClusterDomainClaims", default=False),
    )
    protocol = read.choice(
        "http-protocol", ("enabled", "redirected", "disabled"), read.text("httpProtocol", "enabled").lower()
    )
    naming = replace(naming, domain_template=domain, tag_template=tag, scheme=scheme)
    return replace(config, network=Network(naming, seconds, claims, redirects=protocol == "redirected"))


_LOG_URL: Final = "logging.revision-url-template"


def _observability(config: ServingConfig, data: Mapping[str, str]) -> ServingConfig:
    return replace(config, log_url=data.get(_LOG_URL) or "")


def _nothing(config: ServingConfig, data: Mapping[str, str]) -> ServingConfig:
    del data
    return config


NAMESPACE: Final = "knative-serving"
_PARTS: Final[Mapping[str, Callable[[ServingConfig, Mapping[str, str]], ServingConfig]]] = {
    "config-autoscaler": _autoscaler,
    "config-defaults": _defaults,
    "config-deployment": _deployment,
    "config-domain": _domain,
    "config-features": _features,
    "config-gc": _collection,
    "config-logging": _nothing,
    "config-network": _network,
    "config-observability": _observability,
}
NAMES: Final = tuple(_PARTS)
"""The ConfigMaps that are read."""


def parse(config: ServingConfig, name: str, data: Mapping[str, str]) -> ServingConfig:
    """The configuration with what one of the ConfigMaps says; `ValueError` says why it cannot be."""
    return _PARTS[name](config, data)


def merged(base: ServingConfig, maps: Mapping[str, Mapping[str, str]]) -> ServingConfig:
    """What all of the maps together say over the base, in the order of `NAMES`."""
    config = base
    for name in NAMES:
        if name in maps:
            config = parse(config, name, maps[name])
    return config
