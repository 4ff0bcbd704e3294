"""The ConfigMaps that Eventing's namespace begins with. Pure; none is written again once it is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing.configuration import defaults, features

CHANNEL_TEMPLATE_KEY: Final = "channel-template-spec"
_LABELS: Final = {"app.kubernetes.io/name": "knative-eventing", "app.kubernetes.io/part-of": "ondol"}
_DATA: Final[Mapping[str, Mapping[str, str]]] = {
    eventing.CONFIG_FEATURES: features.SHOWN,
    eventing.CONFIG_BROKER_DEFAULTS: {defaults.BROKER_KEY: defaults.BROKER_TEXT},
    eventing.CONFIG_BROKER_CHANNEL: {CHANNEL_TEMPLATE_KEY: defaults.CHANNEL_TEMPLATE_TEXT},
    eventing.CONFIG_CHANNEL_DEFAULTS: {defaults.CHANNEL_KEY: defaults.CHANNEL_TEXT},
    eventing.CONFIG_PING_DEFAULTS: {"data-max-size": "-1"},
}
NAMES: Final = tuple(_DATA)


def namespace() -> Object:
    """Where Eventing's ConfigMaps and Services stand."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": eventing.NAMESPACE, "labels": dict(_LABELS)},
    }


def config_map(name: str) -> Object:
    """The ConfigMap as it is made."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": eventing.NAMESPACE, "labels": dict(_LABELS)},
        "data": dict(_DATA[name]),
    }


def problems(name: str, data: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What is wrong with the data of the ConfigMap, and what of it has no effect."""
    texts = {key: str(value) for key, value in data.items()}
    if name == eventing.CONFIG_FEATURES:
        return [], features.problems(texts)
    try:
        if name == eventing.CONFIG_BROKER_DEFAULTS:
            defaults.brokers({"data": texts})
        elif name == eventing.CONFIG_CHANNEL_DEFAULTS:
            defaults.channel_template({"data": texts}, "")
    except defaults.Unusable as error:
        return [str(error)], []
    return [], []
