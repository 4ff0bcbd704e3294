"""What a server makes sure of at start: its own namespaces and policy."""

from __future__ import annotations

from typing import Final

from ondol.api import resources
from ondol.api.objects import Object
from ondol.apiserver import writing
from ondol.apiserver.auth.identity import MASTERS, User
from ondol.apiserver.core import Core
from ondol.base import errors

NAMESPACES: Final = ("default", "kube-system", "kube-public", "kube-node-lease", "ondol-system")
SELF: Final = User("system:apiserver", (MASTERS,))
OPTIONS: Final = writing.Options(SELF, "ondol-apiserver")


async def run(core: Core) -> None:
    for name in NAMESPACES:
        document: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        served = core.catalogue.of(resources.NAMESPACE)
        if core.record(served, "", name) is None:
            try:
                await writing.Writes(core, served, OPTIONS).create("", document)
            except errors.AlreadyExists:
                continue
