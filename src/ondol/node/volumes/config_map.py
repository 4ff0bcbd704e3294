"""`configMap`: the keys of a ConfigMap as files."""

from __future__ import annotations

from typing import Final

from ondol.api import resources
from ondol.node.volumes import keys
from ondol.node.volumes.volume import Inputs, Kind, Payload, Spec
from ondol.node.volumes.written import WrittenVolume


def project(source: Spec, inputs: Inputs, *, volume: str, mode: int) -> Payload:  # noqa: ARG001 - the protocol's
    name = source["name"]
    return keys.files("configmap", name, source, inputs.lookup.get(resources.CONFIG_MAP, name), mode)


class ConfigMapVolume(WrittenVolume):
    def files(self, inputs: Inputs) -> Payload:
        return project(self.source, inputs, volume=self.name, mode=self.mode)


KIND: Final[Kind] = ConfigMapVolume
