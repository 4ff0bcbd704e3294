"""The ConfigMaps with the defaults of brokers and channels. Pure.

Which default goes before which is as in knative/eventing pkg/apis/config.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from ondol.api.objects import Object
from ondol.base import errors
from ondol.contracts import eventing

BROKER_KEY: Final = "default-br-config"
CHANNEL_KEY: Final = "default-ch-config"
BROKER_TEXT: Final = f"""clusterDefault:
  brokerClass: {eventing.MT_BROKER_CLASS}
  apiVersion: v1
  kind: ConfigMap
  name: {eventing.CONFIG_BROKER_CHANNEL}
  namespace: {eventing.NAMESPACE}
  delivery:
    retry: 10
    backoffPolicy: exponential
    backoffDelay: PT0.2S
"""
CHANNEL_TEXT: Final = f"""clusterDefault:
  apiVersion: {eventing.IN_MEMORY_CHANNEL.api_version}
  kind: {eventing.IN_MEMORY_CHANNEL.kind}
"""
CHANNEL_TEMPLATE_TEXT: Final = f"""apiVersion: {eventing.IN_MEMORY_CHANNEL.api_version}
kind: {eventing.IN_MEMORY_CHANNEL.kind}
"""
_REFERENCE: Final = ("apiVersion", "kind", "name", "namespace", "group", "address")
_DELIVERY: Final = ("deadLetterSink", "retry", "backoffPolicy", "backoffDelay")
"""What of the configured delivery a Broker without one of its own gets."""


class Unusable(errors.OndolError):
    """A ConfigMap that cannot be read."""


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """What a Broker gets that says nothing of its own."""

    reference: Object | None = None
    delivery: Object | None = None


@dataclass(frozen=True, slots=True)
class BrokerDefaults:
    """The defaults of Brokers: of some namespaces, and of the cluster."""

    cluster: Mapping[str, Any] = field(default_factory=dict)
    namespaces: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def class_for(self, namespace: str) -> str:
        """The class of a Broker that names none; empty if there is no default."""
        own = self._of(namespace).get("brokerClass")
        return str(own or self.cluster.get("brokerClass") or "")

    def config_for(self, namespace: str, broker_class: str) -> BrokerConfig:
        """The configuration for Brokers of this class (or of none yet) in this namespace."""
        own = self._of(namespace)
        asked = broker_class or str(own.get("brokerClass") or "")
        classes = own.get("brokerClasses") or {}
        if asked and classes.get(asked):
            return _config(classes[asked])
        if asked and own.get("brokerClass") == asked and _has_config(own):
            return _config(own)
        classes = self.cluster.get("brokerClasses") or {}
        if _has_config(self.cluster) and classes.get(asked):
            return _config(classes[asked])
        return _config(self.cluster)

    def allows_other_namespace(self, namespace: str) -> bool:
        """Whether a Broker's config may stand in another namespace."""
        key = "disallowDifferentNamespaceConfig"
        return not (self._of(namespace).get(key) or self.cluster.get(key))

    def _of(self, namespace: str) -> Mapping[str, Any]:
        return self.namespaces.get(namespace) or {}


def _has_config(section: Mapping[str, Any]) -> bool:
    return any(section.get(key) for key in (*_REFERENCE, "delivery"))


def _config(section: Mapping[str, Any]) -> BrokerConfig:
    reference = {key: section[key] for key in _REFERENCE if section.get(key)}
    delivery = {key: v for key, v in (section.get("delivery") or {}).items() if key in _DELIVERY}
    return BrokerConfig(reference or None, delivery or None)


def brokers(config_map: Mapping[str, Any] | None) -> BrokerDefaults:
    """The defaults of Brokers; Knative's where there is no ConfigMap. `Unusable` if it cannot be read."""
    section = _section(config_map, BROKER_KEY, BROKER_TEXT)
    return BrokerDefaults(section.get("clusterDefault") or {}, section.get("namespaceDefaults") or {})


def channel_template(config_map: Mapping[str, Any] | None, namespace: str) -> Object | None:
    """The template of a channel that names none; None if there is no default. `Unusable` as `brokers`."""
    section = _section(config_map, CHANNEL_KEY, CHANNEL_TEXT)
    namespaces = section.get("namespaceDefaults") or {}
    chosen = namespaces[namespace] if namespace in namespaces else section.get("clusterDefault")
    return dict(chosen) if chosen else None


def _section(config_map: Mapping[str, Any] | None, key: str, default: str) -> Mapping[str, Any]:
    if config_map is None:
        return parse(default)
    text = (config_map.get("data") or {}).get(key)
    if not text:
        raise Unusable(f'ConfigMap is missing (or empty) key: "{key}"')
    return parse(text)


def parse(text: str) -> Mapping[str, Any]:
    """YAML of two levels of mappings; `Unusable` if it is not that."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Unusable(f"ConfigMap's value could not be converted to JSON: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise Unusable("ConfigMap's value could not be converted to JSON: it is no mapping")
    for name in ("clusterDefault", "namespaceDefaults"):
        section = document.get(name)
        if section is not None and not isinstance(section, dict):
            raise Unusable(f"Failed to parse the entry: {name} is no mapping")
    for namespace, section in (document.get("namespaceDefaults") or {}).items():
        if section is not None and not isinstance(section, dict):
            raise Unusable(f"Failed to parse the entry: namespaceDefaults.{namespace} is no mapping")
    return document
