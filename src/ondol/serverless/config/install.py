"""Makes the namespace and its ConfigMaps where they are not there yet; what is there is never changed."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from ondol.api import resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.client import Client
from ondol.serverless.config.values import NAMES, NAMESPACE

_LABELS: Final = {"app.kubernetes.io/part-of": "ondol", "app.kubernetes.io/name": "knative-serving"}
_DESCRIPTION: Final = "kubernetes.io/description"


async def install(client: Client) -> None:
    """Create what is missing. The maps are empty: the platform's settings and Knative's defaults hold."""
    with suppress(errors.AlreadyExists):
        await client.create(
            resources.NAMESPACE,
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": NAMESPACE, "labels": dict(_LABELS)},
            },
        )
    for name in NAMES:
        with suppress(errors.AlreadyExists):
            await client.create(resources.CONFIG_MAP, _config_map(name))


def _config_map(name: str) -> Object:
    text = f"Keys of Knative's {name}; empty: defaults hold. Which of them act: docs/serverless.md"
    metadata = {
        "name": name,
        "namespace": NAMESPACE,
        "labels": dict(_LABELS),
        "annotations": {_DESCRIPTION: text},
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
