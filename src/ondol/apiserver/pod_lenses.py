"""The lenses of parts of a pod that runs: its ephemeral containers, and the size of its containers."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.api.patch.fieldset import FieldSet
from ondol.apiserver.lenses import Lens
from ondol.apiserver.strategy import Context, Strategy

_CONDITIONS: Final = ("managedFields", "resourceVersion", "uid", "name", "namespace")


class _Part(abc.ABC):
    """Shows the whole pod and takes a part of its spec."""

    reset: ClassVar[FieldSet] = {}

    def get(self, obj: Object) -> Object:
        return obj

    def put(self, obj: Object, part: Object) -> Object:
        sent = part.get("metadata") or {}
        conditions = {field: sent[field] for field in _CONDITIONS if field in sent}
        return {**obj, "metadata": {**obj["metadata"], **conditions}, "spec": self._spec(obj["spec"], part)}

    @abc.abstractmethod
    def _spec(self, spec: Object, part: Object) -> Object:
        """The spec with the part that is taken."""

    def prepare(self, strategy: Strategy, context: Context, new: Object, old: Object) -> None:
        del context
        strategy.count(new, old)


class EphemeralContainers(_Part):
    subresource = "ephemeralcontainers"

    def _spec(self, spec: Object, part: Object) -> Object:
        listed = objects.spec(part).get("ephemeralContainers")
        changed = {field: value for field, value in spec.items() if field != "ephemeralContainers"}
        return {**changed, "ephemeralContainers": listed} if listed else changed


class Resize(_Part):
    subresource = "resize"

    def _spec(self, spec: Object, part: Object) -> Object:
        groups = {
            group: _sized(spec.get(group) or [], objects.spec(part).get(group) or [])
            for group in ("containers", "initContainers")
        }
        return {**spec, **{group: containers for group, containers in groups.items() if containers}}


def _sized(containers: Sequence[Any], sent: Sequence[Any]) -> list[Any]:
    """The containers in the sizes that are sent; if it is not the same ones, what is sent, to be refused."""
    if [each.get("name") for each in containers] != [each.get("name") for each in sent]:
        return list(sent)
    fields = ("resources", "resizePolicy")
    return [
        {k: v for k, v in container.items() if k not in fields}
        | {field: other[field] for field in fields if field in other}
        for container, other in zip(containers, sent, strict=True)
    ]


LENSES: Final[dict[str, Lens]] = {
    EphemeralContainers.subresource: EphemeralContainers(),
    Resize.subresource: Resize(),
}
"""By subresource."""
