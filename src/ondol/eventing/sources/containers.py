"""The children of a ContainerSource, and its status from what they say. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.base import names
from ondol.contracts import eventing
from ondol.eventing import verdicts
from ondol.eventing.destinations import Address
from ondol.eventing.sources import binding as bindings
from ondol.eventing.sources import status, trust_maps, wellknown
from ondol.eventing.verdicts import Verdict

Document: TypeAlias = Mapping[str, Any]

CONDITIONS: Final = (wellknown.SINK_BINDING_READY, wellknown.RECEIVE_ADAPTER_READY)
_AVAILABLE: Final = "Available"
_SHARED: Final = ("sink", "ceOverrides")


def binding_name(source: Document) -> str:
    return names.child_name(objects.name(source), "-sinkbinding")


def deployment_name(source: Document) -> str:
    return names.child_name(objects.name(source), "-deployment")


def sink_binding(source: Document) -> Object:
    """What tells the Deployment's pods the sink."""
    spec = objects.spec(source)
    subject = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "namespace": objects.namespace(source),
        "name": deployment_name(source),
    }
    return {
        "apiVersion": eventing.SINK_BINDING.api_version,
        "kind": eventing.SINK_BINDING.kind,
        "metadata": _metadata(source, binding_name(source)),
        "spec": {**{field: spec[field] for field in _SHARED if spec.get(field)}, "subject": subject},
    }


def deployment(source: Document, sink: Address, binding: Document, *, has_trust: bool) -> Object:
    """The pods, told the sink from their beginning: so the binding need not start them anew.

    `has_trust`: there are bundles of trust, so there is the binding's ConfigMap of them.
    """
    template = copy.deepcopy(dict(objects.spec(source).get("template") or {}))
    metadata = template.setdefault("metadata", {})
    labels = {
        **(metadata.get("labels") or {}),
        wellknown.SOURCE_LABEL: wellknown.CONTAINER_SOURCE_CONTROLLER,
        wellknown.CONTAINER_SOURCE_LABEL: objects.name(source),
    }
    metadata["labels"] = labels
    document: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**_metadata(source, deployment_name(source)), "labels": dict(labels)},
        "spec": {"selector": {"matchLabels": dict(labels)}, "template": template},
    }
    if annotations := metadata.get("annotations"):
        document["metadata"]["annotations"] = dict(annotations)
    trust_map = trust_maps.map_name(binding) if has_trust else ""
    outfit = bindings.outfit(source, sink, token_secret(binding), trust_map)
    change = bindings.change(document, outfit)
    if change is not None:
        template["spec"] = {**template["spec"], **change["spec"]["template"]["spec"]}
    return document


def _metadata(source: Document, name: str) -> Object:
    return {
        "name": name,
        "namespace": objects.namespace(source),
        "ownerReferences": [objects.controller_reference(source)],
    }


def container_source_status(
    source: Document, binding: Document | None, deployed: Document | None, *, now: float
) -> Object:
    """The status of a ContainerSource: its binding's addresses, and the conditions of both children."""
    own = {
        wellknown.SINK_BINDING_READY: verdicts.of_object(
            binding, absent=("", ""), prefix="SinkBinding", kind="SinkBinding"
        ),
        wellknown.RECEIVE_ADAPTER_READY: adapter_verdict(source, deployed),
    }
    bound = objects.status(binding or {})
    return {
        "observedGeneration": objects.generation(source),
        **{field: bound.get(field) for field in status.FIELDS},
        "conditions": verdicts.with_ready(source, own, of_ready=CONDITIONS, now=now),
    }


def adapter_verdict(source: Document, deployed: Document | None) -> Verdict:
    """The condition ReceiveAdapterReady."""
    condition = conditions.get(deployed, _AVAILABLE) if deployed is not None else None
    if condition is None:
        message = f"The Deployment '{deployment_name(source)}' is unavailable."
        return verdicts.unknown("DeploymentUnavailable", message)
    if condition.get("status") == conditions.TRUE:
        return verdicts.OK
    reason, message = str(condition.get("reason") or ""), str(condition.get("message") or "")
    judge = verdicts.failed if condition.get("status") == conditions.FALSE else verdicts.unknown
    return judge(reason, message)


def sink(binding: Document | None) -> Address | None:
    """The address that a binding has come to."""
    bound = objects.status(binding or {})
    url = bound.get("sinkUri")
    return Address(str(url), str(bound.get("sinkCACerts") or "")) if url else None


def token_secret(binding: Document | None) -> str:
    """The Secret with the token that a binding has come to; empty if it has none."""
    return str(objects.status(binding or {}).get("oidcTokenSecretName") or "")
