"""Defaults and refusals of Brokers and Triggers (knative/eventing pkg/apis/eventing/v1)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.contracts import eventing
from ondol.eventing import filters, wellknown
from ondol.eventing.kinds import checks
from ondol.eventing.kinds.checks import Causes
from ondol.eventing.kinds.writes import Configuration, Document, Rules, Write

_ORDERS: Final = ("ordered", "unordered")
_DEFAULT_CONFIG: Final = ("ConfigMap", eventing.CONFIG_BROKER_CHANNEL, eventing.NAMESPACE)


def rules(configuration: Configuration) -> dict[str, Rules]:
    """By group and resource."""
    return {
        eventing.BROKER.group_resource: Rules(configuration, broker, fill_broker, advise_broker),
        eventing.TRIGGER.group_resource: Rules(configuration, trigger, fill_trigger, advise_trigger),
    }


def fill_namespace(holder: Any, namespace: str, field: str = "ref") -> None:
    """A reference without a namespace leads to one of the object that has it."""
    ref = holder.get(field) if isinstance(holder, dict) else None
    if isinstance(ref, dict) and not ref.get("namespace"):
        ref["namespace"] = namespace


def fill_delivery(spec: Object, namespace: str) -> None:
    fill_namespace((spec.get("delivery") or {}).get("deadLetterSink"), namespace)


def fill_broker(new: Object, configuration: Configuration) -> None:
    """A class, a config and a delivery for a Broker that says nothing of its own."""
    namespace, annotations = objects.namespace(new), objects.annotations(new)
    brokers = configuration.brokers
    broker_class = annotations.get(eventing.BROKER_CLASS, "")
    config = brokers.config_for(namespace, broker_class)
    spec = new.setdefault("spec", {})
    if not spec.get("config") and config.reference is not None:
        spec["config"] = dict(config.reference)
    if spec.get("delivery") is None and config.delivery is not None:
        spec["delivery"] = dict(config.delivery)
    fill_namespace(spec, namespace, "config")
    fill_delivery(spec, namespace)
    default_class = brokers.class_for(namespace)
    if not broker_class and default_class:
        new["metadata"]["annotations"] = {**annotations, eventing.BROKER_CLASS: default_class}


def broker(write: Write) -> Causes:
    annotations = objects.annotations(write.new)
    if not annotations.get(eventing.BROKER_CLASS):
        yield checks.missing(f"metadata.annotations[{eventing.BROKER_CLASS}]")
    config = write.spec.get("config")
    if config is not None:
        elsewhere = write.configuration.brokers.allows_other_namespace(write.namespace)
        yield from checks.reference(
            config, "spec.config", write.namespace, write.features, elsewhere=elsewhere
        )
    yield from checks.delivery(write.spec.get("delivery"), "spec.delivery", write.namespace, write.features)
    if write.old is None:
        return
    yield from checks.immutable("spec.config", objects.spec(write.old).get("config"), config)
    before = objects.annotations(write.old).get(eventing.BROKER_CLASS)
    if before and before != annotations.get(eventing.BROKER_CLASS):
        text = f"Immutable annotations changed (-old +new): -{before!r}"
        yield checks.generic(f"metadata.annotations[{eventing.BROKER_CLASS}]", text)


def advise_broker(write: Write) -> Iterator[str]:
    if objects.annotations(write.new).get(eventing.BROKER_CLASS) not in eventing.CLASSES:
        return
    config = write.spec.get("config") or {}
    chosen = (config.get("kind"), config.get("name"), config.get("namespace"))
    if config and chosen != _DEFAULT_CONFIG:
        yield "spec.config has no effect: a broker of this class keeps its events itself"


def fill_trigger(new: Object, _configuration: Configuration) -> None:
    """A filter that lets all pass, namespaces of references, and the label by which a broker's are found."""
    namespace, spec = objects.namespace(new), new.setdefault("spec", {})
    if spec.get("filter") is None:
        spec["filter"] = {}
    fill_namespace(spec.get("subscriber"), namespace)
    fill_delivery(spec, namespace)
    if spec.get("broker"):
        new["metadata"]["labels"] = {**objects.labels(new), eventing.BROKER_LABEL: spec["broker"]}


def trigger(write: Write) -> Causes:
    spec = write.spec
    yield from _broker_of(spec)
    attributes = (spec.get("filter") or {}).get("attributes")
    yield from filters.attribute_problems(attributes, "spec.filter.attributes")
    yield from filters.problems(spec.get("filters"), "spec.filters")
    yield from checks.destination(spec.get("subscriber"), "spec.subscriber", write.namespace, write.features)
    yield from checks.delivery(spec.get("delivery"), "spec.delivery", write.namespace, write.features)
    yield from _annotations(write)
    if write.old is not None:
        before = objects.spec(write.old)
        for field in ("broker", "brokerRef"):
            yield from checks.immutable(f"spec.{field}", before.get(field), spec.get(field))


def _broker_of(spec: Document) -> Causes:
    name, ref = spec.get("broker"), spec.get("brokerRef")
    if ref is None:
        if not name:
            yield checks.missing("spec.broker")
        return
    if name:
        yield from checks.both("spec.broker", "spec.brokerRef")
    if not ref.get("name"):
        yield checks.missing("spec.brokerRef.name")
    if ref.get("namespace"):
        details = (
            "only name, apiVersion and kind are supported fields when feature.CrossNamespaceEventLinks "
            "is disabled"
        )
        yield checks.disallowed("spec.brokerRef.namespace", details)


def _annotations(write: Write) -> Causes:
    annotations = objects.annotations(write.new)
    if (text := annotations.get(wellknown.DEPENDENCY)) is not None:
        yield from _dependency(text, write.namespace)
    if (text := annotations.get(wellknown.INJECTION)) is not None:
        yield from _injection(text, str(write.spec.get("broker") or ""))
    yield from orders(annotations)


def orders(annotations: Mapping[str, str]) -> Causes:
    """The annotations about the order of delivery."""
    for key in eventing.DELIVERY_ORDERS:
        value = annotations.get(key)
        if value is not None and value not in _ORDERS:
            yield checks.invalid(f"metadata.annotations[{key}]", value, f"expected one of {_ORDERS}")


def _dependency(text: str, namespace: str) -> Causes:
    path = f"metadata.annotations[{wellknown.DEPENDENCY}]"
    try:
        ref = json.loads(text)
    except ValueError as error:
        ref, why = None, str(error)
    else:
        why = "it is no object"
    if not isinstance(ref, dict):
        message = f"The provided annotation was not a corev1.ObjectReference: {json.dumps(text)}: {why}"
        yield checks.generic(path, message)
        return
    if ref.get("namespace") and ref["namespace"] != namespace:
        message = f'Namespace must be empty or equal to the trigger namespace "{namespace}"'
        yield checks.generic(f"{path}.namespace", message)
    for field in ("kind", "name", "apiVersion"):
        if not ref.get(field):
            yield checks.missing(f"{path}.{field}")


def _injection(text: str, broker_name: str) -> Causes:
    path = f"metadata.annotations[{wellknown.INJECTION}]"
    if text not in ("enabled", "disabled"):
        message = f'The provided injection annotation value can only be "enabled" or "disabled", not "{text}"'
        yield checks.generic(path, message)
    if broker_name != "default":
        message = (
            "The provided injection annotation is only used for default broker, but non-default broker "
            f'specified here: "{broker_name}"'
        )
        yield checks.generic(path, message)


def advise_trigger(write: Write) -> Iterator[str]:
    if objects.annotations(write.new).get(wellknown.INJECTION) == "enabled":
        key = f"metadata.annotations[{wellknown.INJECTION}]"
        yield f"{key} has no effect: no broker is made by itself"
