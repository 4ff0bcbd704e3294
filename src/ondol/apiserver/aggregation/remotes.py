"""`Remotes`: the groups and versions that other servers answer for now."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from ondol.api import conditions, objects
from ondol.api.objects import Object
from ondol.apiserver.requestinfo import RequestInfo

_NEVER: Final = frozenset({"", "apiregistration.k8s.io"})
"""Groups that stay here: without them nobody could take an APIService away again."""


class Remote(NamedTuple):
    """One version of a group at another server."""

    name: str
    """That of its APIService."""
    group: str
    version: str
    namespace: str
    service: str
    port: int
    authority: bytes = b""
    """Who signs the server's certificate (PEM); if empty, the authorities of the system do."""
    is_verified: bool = True
    is_available: bool = False

    @property
    def root(self) -> str:
        return f"/apis/{self.group}/{self.version}"

    @property
    def host(self) -> str:
        return f"{self.service}.{self.namespace}.svc"


class Documents(NamedTuple):
    """What a server says that it serves of one version."""

    resources: tuple[Object, ...] | None = None
    """As in aggregated discovery; None while it does not say."""
    openapi_v3: str = ""
    """The hash of the description; empty if there is none."""
    openapi_v2: bytes = b""
    """Paths and definitions of the older description (JSON); empty if there is none."""


class Remotes:
    """By group and version. What is read of them here is told by `controller` and `keeper`."""

    def __init__(self) -> None:
        self._remotes: dict[tuple[str, str], Remote] = {}
        self._documents: dict[tuple[str, str], Documents] = {}
        self.version = 0
        """Grows whenever anything here changes, for what is made from all of it."""

    @property
    def is_used(self) -> bool:
        return bool(self._remotes)

    def __iter__(self) -> Iterator[Remote]:
        return iter(tuple(self._remotes.values()))

    def get(self, group: str, version: str) -> Remote | None:
        return self._remotes.get((group, version))

    def of(self, info: RequestInfo) -> Remote | None:
        """Who answers a request; None for this server."""
        if info.group:
            return self._remotes.get((info.group, info.version))
        return None if info.resource else self.at(info.path)

    def is_for(self, target: bytes) -> bool:
        """Whether a request's target, as it came, is another server's."""
        if not self.is_used:
            return False
        return self.at(urllib.parse.unquote(target.partition(b"?")[0].decode("latin-1"))) is not None

    def at(self, path: str) -> Remote | None:
        """Who answers at a path."""
        parts = path.strip("/").split("/", 3)
        return self._remotes.get((parts[1], parts[2])) if len(parts) > 2 and parts[0] == "apis" else None

    def replace(self, remotes: Iterable[Remote]) -> None:
        """All there are now."""
        self._remotes = {(each.group, each.version): each for each in remotes}
        self._documents = {key: each for key, each in self._documents.items() if key in self._remotes}
        self.version += 1

    def documents(self, remote: Remote) -> Documents:
        return self._documents.get((remote.group, remote.version), _NOTHING)

    def tell(self, remote: Remote, documents: Documents) -> None:
        if self.get(remote.group, remote.version) is not None and documents != self.documents(remote):
            self._documents[remote.group, remote.version] = documents
            self.version += 1


_NOTHING: Final = Documents()


def remote(service: Mapping[str, Any]) -> Remote | None:
    """What an APIService says; None if its version stays here."""
    spec = objects.spec(service)
    reference = spec.get("service")
    if reference is None or (spec.get("group") or "") in _NEVER:
        return None
    return Remote(
        objects.name(service),
        str(spec["group"]),
        str(spec["version"]),
        str(reference["namespace"]),
        str(reference["name"]),
        int(reference["port"]),
        base64.b64decode(spec["caBundle"]) if spec.get("caBundle") else b"",
        not spec.get("insecureSkipTLSVerify"),
        conditions.is_true(service, "Available"),
    )
