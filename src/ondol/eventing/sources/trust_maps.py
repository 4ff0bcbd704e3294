"""A ConfigMap for each SinkBinding with the certificates of the bundles of trust, which its pods mount."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import names
from ondol.contracts import eventing
from ondol.eventing import wellknown
from ondol.eventing.parents import require_current
from ondol.sdk import Children, Controller, Manager, children, controller_key

Document: TypeAlias = Mapping[str, Any]

LABEL: Final = "eventing.ondol.dev/trust"
"""Of these ConfigMaps; not that of bundles, for they are none, even where they stand beside those."""
FILE: Final = "kn-combined-kne-bundle.pem"
"""The file that has all of them: as in Knative."""


def map_name(binding: Document) -> str:
    return names.child_name(objects.name(binding), "-trust")


class TrustMaps:
    """Those of all SinkBindings."""

    def __init__(self, manager: Manager) -> None:
        self._client = manager.client
        self._maps = manager.informer(resources.CONFIG_MAP, label_selector=f"{LABEL}=enabled")
        self._children = Children(manager.client, field_manager=wellknown.FIELD_MANAGER)

    def watch(self, controller: Controller) -> None:
        kind = eventing.SINK_BINDING
        controller.watch(self._maps, controller_key(kind.api_version, kind.kind))

    def forget(self, binding: Key) -> None:
        self._children.forget(binding)

    async def keep(self, binding: Object, trusted: str) -> str:
        """Have these certificates (PEM) there, or nothing if there are none; the name of the ConfigMap."""
        live = self._maps.lister.get(Key(objects.namespace(binding), map_name(binding)))
        if trusted:
            await require_current(self._client, eventing.SINK_BINDING, binding, live)
            await self._children.of(binding).apply(resources.CONFIG_MAP, _config_map(binding, trusted), live)
            return map_name(binding)
        if live is not None and objects.is_controlled_by(live, binding):
            await children.delete(self._client, resources.CONFIG_MAP, live)
        return ""


def _config_map(binding: Document, trusted: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": map_name(binding),
            "namespace": objects.namespace(binding),
            "labels": {LABEL: "enabled"},
            "ownerReferences": [objects.controller_reference(binding)],
        },
        "data": {FILE: trusted},
    }
