"""`downwardAPI`: the pod's own fields and its containers' resources as files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ondol.node import pod_spec, value_sources
from ondol.node.volumes import registry, written
from ondol.node.volumes.volume import File, Inputs, Kind, Payload, Spec, VolumeFailed
from ondol.node.volumes.written import WrittenVolume

_CHANGING: Final = ("metadata.labels", "metadata.annotations")


def project(source: Spec, inputs: Inputs, *, volume: str, mode: int) -> Payload:  # noqa: ARG001 - the protocol's
    return {
        item["path"]: File(_value(item, inputs).encode(), written.mode(item.get("mode"), mode))
        for item in source.get("items") or ()
    }


def _value(item: Spec, inputs: Inputs) -> str:
    if "fieldRef" in item:
        return value_sources.field_value(inputs.pod, item["fieldRef"]["fieldPath"], inputs.facts)
    named = item["resourceFieldRef"]["containerName"]
    container = next((c for c in pod_spec.all_containers(inputs.pod) if c["name"] == named), None)
    if container is None:
        raise VolumeFailed(f"resourceFieldRef names container {named}, which the pod does not have")
    return value_sources.resource_value(inputs.pod, container, item["resourceFieldRef"], inputs.facts)


def projected_metadata(pod: Spec) -> Mapping[str, Any]:
    """Of the pod's own metadata what its volumes show and may change while it runs; empty if they do not."""
    items = [
        item
        for _, source in registry.projections(pod)
        for item in (source.get("downwardAPI") or {}).get("items") or ()
    ]
    paths = {str((item.get("fieldRef") or {}).get("fieldPath") or "") for item in items}
    return {
        path: value_sources.field_value(pod, path, value_sources.PodFacts())
        for path in paths
        if path.startswith(_CHANGING)
    }


class DownwardApiVolume(WrittenVolume):
    def files(self, inputs: Inputs) -> Payload:
        return project(self.source, inputs, volume=self.name, mode=self.mode)


KIND: Final[Kind] = DownwardApiVolume
