"""`/openapi/v2` and `/openapi/v3`: made from what is served, kept until that changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ondol.api import kinds, openapi
from ondol.api.openapi import gnostic
from ondol.apiserver import documents
from ondol.apiserver.aggregation.remotes import Remotes
from ondol.apiserver.served import Catalogue


class Documents:
    """The OpenAPI documents of one state of the catalogue, and of what other servers serve."""

    def __init__(self, catalogue: Catalogue, release: str, remotes: Remotes) -> None:
        self._catalogue = catalogue
        self._release = release
        self._remotes = remotes
        self._version = -1, -1
        self._v2 = b""
        self._v2_message = b""
        self._v3: dict[str, tuple[str, bytes]] = {}

    def _fresh(self) -> None:
        version = self._catalogue.version, self._remotes.version
        if self._version != version:
            self._version = version
            self._v2, self._v2_message, self._v3 = b"", b"", {}

    def _schema_of(self, kind: kinds.Kind) -> Mapping[str, Any] | None:
        served = self._catalogue.get(kind.group, kind.version, kind.plural)
        return served.schema.published if served is not None else None

    def v2(self) -> bytes:
        self._fresh()
        if not self._v2:
            self._v2 = documents.dump(self._v2_document())
        return self._v2

    def v2_message(self) -> bytes:
        """The same in protobuf, the only form that Go clients read."""
        self._fresh()
        if not self._v2_message:
            self._v2_message = gnostic.encode(self._v2_document())
        return self._v2_message

    def _v2_document(self) -> Mapping[str, Any]:
        registry = self._catalogue.registry
        document = openapi.v2(registry, release=self._release, schema_of=self._schema_of)
        if not self._remotes.is_used:
            return document
        from ondol.apiserver.aggregation import descriptions  # noqa: PLC0415 - few servers need it

        remotes = list(self._remotes)
        parts = [self._remotes.documents(each).openapi_v2 for each in remotes]
        return descriptions.merged(document, [each.root for each in remotes], parts)

    def v3(self, path: str) -> tuple[str, bytes] | None:
        """Hash and bytes of one group and version; none if it is not served."""
        self._fresh()
        if path not in self._v3 and path in self.paths():
            group, version = self.paths()[path]
            document = openapi.v3(
                self._catalogue.registry,
                group,
                version,
                release=self._release,
                schema_of=self._schema_of,
            )
            self._v3[path] = (openapi.digest(document), documents.dump(document))
        return self._v3.get(path)

    def paths(self) -> dict[str, tuple[str, str]]:
        """The keys of the documents that are made here."""
        registry = self._catalogue.registry
        return {
            openapi.group_path(group, version): (group, version)
            for group in registry.groups()
            for version in registry.versions(group)
            if self._remotes.get(group, version) is None
        }
