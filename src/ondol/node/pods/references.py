"""Which pods refer to a ConfigMap or Secret: kept by name, so that a change of one asks no other pod."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from ondol.api import objects, pod_references, resources
from ondol.api.objects import Key, Object
from ondol.node.volumes.lookup import Reference

_NONE: Final[frozenset[str]] = frozenset()


class ReferenceIndex:
    """Pods by uid. What a pod refers to is found once for each spec it has."""

    def __init__(self) -> None:
        self._pods: dict[Reference, set[str]] = defaultdict(set)
        self._specs: dict[str, Mapping[str, Any]] = {}
        self._references: dict[str, frozenset[Reference]] = {}

    def put(self, pod: Object) -> None:
        """Remember the pod as it is now."""
        uid, spec = objects.uid(pod), objects.spec(pod)
        if self._specs.get(uid) == spec:
            return
        self.remove(uid)
        names, namespace = pod_references.of(spec), objects.namespace(pod)
        kinds = {resources.CONFIG_MAP: names.config_maps, resources.SECRET: names.secrets}
        references = [(kind, Key(namespace, name)) for kind, named in kinds.items() for name in named]
        self._specs[uid] = spec
        self._references[uid] = frozenset(references)
        for reference in references:
            self._pods[reference].add(uid)

    def remove(self, uid: str) -> None:
        self._specs.pop(uid, None)
        for reference in self._references.pop(uid, frozenset()):
            self._pods[reference].discard(uid)
            if not self._pods[reference]:
                del self._pods[reference]

    def referring_to(self, reference: Reference) -> frozenset[str]:
        """The uids of the pods that name it, in a volume or in an environment."""
        return frozenset(self._pods.get(reference, _NONE))
