"""`projected`: files of several sources in one volume; of two with the same path the later wins."""

from __future__ import annotations

from typing import Final

from ondol.api import volume_kinds
from ondol.node.volumes import registry
from ondol.node.volumes.volume import Inputs, Kind, Payload, Spec, VolumeFailed
from ondol.node.volumes.written import Project, WrittenVolume


class ProjectedVolume(WrittenVolume):
    @property
    def _sources(self) -> list[Spec]:
        return list(self.source.get("sources") or ())

    def unsupported(self) -> list[str]:
        return [key for source in self._sources for key in source if key not in volume_kinds.PROJECTIONS]

    def files(self, inputs: Inputs) -> Payload:
        files: Payload = {}
        for source in self._sources:
            name = next((name for name in volume_kinds.PROJECTIONS if name in source), None)
            if name is None:
                raise VolumeFailed(f"volume {self.name}: source {sorted(source)} is not supported")
            project: Project = registry.load(name).project
            files |= project(source[name], inputs, volume=self.name, mode=self.mode)
        return files


KIND: Final[Kind] = ProjectedVolume
