"""An image of the store sent to a registry: blobs that it lacks, then the manifest that names them."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from ondol.build import oci
from ondol.build.reference import Reference
from ondol.build.registry import credentials
from ondol.build.registry.credentials import Keyring, Login
from ondol.build.registry.errors import Absent, Denied, Refused
from ondol.build.registry.hosts import Hosts
from ondol.build.registry.http import Line, Patience
from ondol.build.registry.pulling import Progress, Report
from ondol.build.registry.session import Repository
from ondol.build.store import Image, ImageStore

_BLOB: Final = "application/octet-stream"


class Push:
    """One image on its way to its registry."""

    def __init__(
        self,
        image: Image,
        reference: Reference,
        store: ImageStore,
        hosts: Hosts,
        patience: Patience | None = None,
    ) -> None:
        self._image = image
        self._reference = reference
        self._store = store
        self._endpoint = hosts.origin(reference)
        self._line = Line(hosts, patience)

    def run(self, logins: Keyring = (), report: Report = lambda _: None) -> None:
        """Blocks until the registry has the image under its tag; `RegistryError` says why not."""
        fitting: list[Login | None] = [*credentials.lookup(logins, self._reference.name)]
        failure: Denied | None = None
        for login in fitting or [None]:
            try:
                self._as(login, report)
                return
            except Denied as error:
                failure = error
        if failure is not None:
            raise failure

    def _as(self, login: Login | None, report: Report) -> None:
        repository = Repository(self._line, self._endpoint, self._reference.path, login, "pull,push")
        manifest = self._store.manifest(self._image.digest)
        digests = [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
        missing = [digest for digest in dict.fromkeys(digests) if not _has(repository, digest)]
        whole_bytes = sum(self._store.blob(digest).stat().st_size for digest in missing)
        done_bytes = 0
        for digest in missing:
            before = done_bytes
            blob = self._store.blob(digest)
            _send(repository, digest, blob, lambda sent, b=before: report(Progress(b + sent, whole_bytes)))  # type: ignore[misc]  # a bound default
            done_bytes += blob.stat().st_size
        self._name(repository)

    def _name(self, repository: Repository) -> None:
        text = self._store.blob(self._image.digest).read_bytes()
        headers = {"Content-Type": str(json.loads(text).get("mediaType") or oci.MANIFEST)}
        with repository.open(
            "PUT", repository.url(f"manifests/{self._reference.target}"), headers, text
        ) as answer:
            announced = answer.header("Docker-Content-Digest")
        if announced and announced != self._image.digest:
            raise Refused(f"the registry keeps the image as {announced}, not as {self._image.digest}")


def _has(repository: Repository, digest: str) -> bool:
    try:
        with repository.open("HEAD", repository.url(f"blobs/{digest}"), {}):
            return True
    except Absent:
        return False


def _send(repository: Repository, digest: str, blob: Path, report: Callable[[int], None]) -> None:
    """One blob, in one piece."""
    start = repository.url("blobs/uploads/")
    with repository.open("POST", start, {"Content-Length": "0"}, b"") as answer:
        place = urllib.parse.urljoin(start, answer.header("Location"))
    target = f"{place}{'&' if '?' in place else '?'}{urllib.parse.urlencode({'digest': digest})}"
    headers = {"Content-Type": _BLOB, "Content-Length": str(blob.stat().st_size)}
    with blob.open("rb") as file, repository.open("PUT", target, headers, _Counted(file, report)):
        return


class _Counted:
    """A file that tells how far it has been read."""

    def __init__(self, file: IO[bytes], report: Callable[[int], None]) -> None:
        self._file = file
        self._report = report

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._report(self._file.tell())
        return piece

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)
