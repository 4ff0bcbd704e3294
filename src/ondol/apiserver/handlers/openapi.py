"""`/openapi/v2` and `/openapi/v3`: made from what is served, kept until that changes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from ondol.api import kinds, openapi
from ondol.apiserver import answers, documents
from ondol.apiserver.core import Core
from ondol.apiserver.exchange import Reply, Request

_FOREVER = (b"cache-control", b"public, immutable")


class Documents:
    """The OpenAPI documents of one state of the catalogue."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._version = -1
        self._v2 = b""
        self._v3: dict[str, tuple[str, bytes]] = {}

    def _fresh(self) -> None:
        if self._version != self._core.catalogue_version:
            self._version = self._core.catalogue_version
            self._v2, self._v3 = b"", {}

    def _schema_of(self, kind: kinds.Kind) -> Mapping[str, Any] | None:
        served = self._core.catalogue.get(kind.group, kind.version, kind.plural)
        return served.schema.published if served is not None else None

    @property
    def _release(self) -> str:
        return f"v1.{self._core.config.kubernetes_minor}.0"

    def v2(self) -> bytes:
        self._fresh()
        if not self._v2:
            registry = self._core.catalogue.registry
            self._v2 = documents.dump(openapi.v2(registry, release=self._release, schema_of=self._schema_of))
        return self._v2

    def v3(self, path: str) -> tuple[str, bytes] | None:
        """Hash and bytes of one group and version; none if it is not served."""
        self._fresh()
        if path not in self._v3 and path in self.paths():
            group, version = self.paths()[path]
            document = openapi.v3(
                self._core.catalogue.registry,
                group,
                version,
                release=self._release,
                schema_of=self._schema_of,
            )
            self._v3[path] = (openapi.digest(document), documents.dump(document))
        return self._v3.get(path)

    def paths(self) -> dict[str, tuple[str, str]]:
        registry = self._core.catalogue.registry
        return {
            openapi.group_path(group, version): (group, version)
            for group in registry.groups()
            for version in registry.versions(group)
        }


@functools.cache
def _of(core: Core) -> Documents:
    return Documents(core)


def v2(core: Core, request: Request) -> Reply:
    del request
    return Reply(_of(core).v2())


def v3(core: Core, request: Request, path: str) -> Reply | None:
    found = _of(core)
    if not path:
        hashes = {known: entry[0] for known in found.paths() if (entry := found.v3(known)) is not None}
        return answers.document(request, openapi.index(hashes))
    entry = found.v3(path)
    if entry is None:
        return None
    asked = request.query.get("hash")
    if asked and asked != entry[0]:
        location = f"/openapi/v3/{path}?hash={entry[0]}".encode()
        return Reply(b"", 301, headers=[(b"location", location)])
    return Reply(entry[1], headers=[_FOREVER] if asked else [(b"etag", f'"{entry[0]}"'.encode())])
