"""What is refused and warned of in the ConfigMaps of `knative-serving` when they are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.base.errors import Cause
from ondol.serverless.config import values
from ondol.serverless.config.values import NAMES, NAMESPACE, ServingConfig
from ondol.serverless.serving import podspec

Document = Mapping[str, Any]

_EXAMPLE: Final = "_example"
_ACTING: Final[Mapping[str, frozenset[str]]] = {
    "config-autoscaler": frozenset(
        {
            "pod-autoscaler-class",
            "container-concurrency-target-percentage",
            "container-concurrency-target-default",
            "requests-per-second-target-default",
            "target-burst-capacity",
            "stable-window",
            "panic-window-percentage",
            "panic-threshold-percentage",
            "max-scale-up-rate",
            "max-scale-down-rate",
            "enable-scale-to-zero",
            "scale-to-zero-grace-period",
            "scale-to-zero-pod-retention-period",
            "scale-down-delay",
            "allow-zero-initial-scale",
            "initial-scale",
            "min-scale",
            "max-scale",
            "max-scale-limit",
        }
    ),
    "config-defaults": frozenset(
        {
            "revision-timeout-seconds",
            "max-revision-timeout-seconds",
            "revision-response-start-timeout-seconds",
            "revision-idle-timeout-seconds",
            *(
                f"revision-{name}-{kind}"
                for name in ("cpu", "memory", "ephemeral-storage")
                for kind in ("request", "limit")
            ),
            "container-name-template",
            "init-container-name-template",
            "container-concurrency",
            "container-concurrency-max-limit",
            "allow-container-concurrency-zero",
            "enable-service-links",
        }
    ),
    "config-deployment": frozenset({"progress-deadline", "runtime-class-name", "pod-is-always-schedulable"}),
    "config-features": frozenset(podspec.FEATURES),
    "config-gc": frozenset(
        {
            "retain-since-create-time",
            "retain-since-last-active-time",
            "min-non-active-revisions",
            "max-non-active-revisions",
        }
    ),
    "config-logging": frozenset(),
    "config-network": frozenset(
        {
            "domain-template",
            "domainTemplate",
            "tag-template",
            "tagTemplate",
            "rollout-duration",
            "rolloutDuration",
            "autocreate-cluster-domain-claims",
            "autocreateClusterDomainClaims",
            "default-external-scheme",
            "http-protocol",
            "httpProtocol",
            "defaultExternalScheme",
        }
    ),
    "config-observability": frozenset({"logging.revision-url-template"}),
}
"""The keys that act. Any of `config-domain` is a domain; any other key of these maps is warned of."""
_INERT: Final[Mapping[str, str]] = {
    "activator-capacity": "there is one activator for all requests",
    "external-domain-tls": "certificates are given by DomainMappings or Gateways, none is ordered",
    "auto-tls": "certificates are given by DomainMappings or Gateways, none is ordered",
    "queue-sidecar-image": "no pod has a queue-proxy",
}
"""Why some of the keys that Knative knows do nothing here."""


class ConfigMapRules:
    """Rules for ConfigMaps; those of other namespaces and names are let through."""

    def __init__(self, base: ServingConfig) -> None:
        self._base = base

    def default(self, new: Object, old: Document | None, user: str) -> None:
        """Nothing is filled in."""

    def judge(
        self,
        new: Document,
        old: Document | None,
        user: str = "",  # noqa: ARG002 - anybody's write is judged alike
    ) -> tuple[list[Cause], list[str]]:
        """A map that cannot be read is refused; a key that does nothing is warned of when it comes."""
        name = objects.name(new)
        if objects.namespace(new) != NAMESPACE or name not in NAMES:
            return [], []
        data: Mapping[str, str] = new.get("data") or {}
        before: Mapping[str, str] = (old or {}).get("data") or {}
        if old is not None and data == before:
            return [], []
        try:
            values.parse(self._base, name, data)
        except ValueError as error:
            return [Cause("FieldValueInvalid", f"Invalid value: {error}", "data")], []
        return [], list(_inert(name, data, before))


def _inert(name: str, data: Mapping[str, str], before: Mapping[str, str]) -> Iterator[str]:
    if name not in _ACTING:
        return
    for key, value in sorted(data.items()):
        if key in _ACTING[name] or key == _EXAMPLE or before.get(key) == value:
            continue
        why = _INERT.get(key)
        yield f"data[{key}] has no effect" + (f": {why}" if why else "")
