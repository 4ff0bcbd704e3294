"""An image brought from a registry into the store: documents first, then layers side by side.

Every byte is believed by its digest alone. Blobs go to disk as they come, and are named when all are there;
a connection that breaks is taken up at the byte it broke at.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ondol.build import oci
from ondol.build.reference import Reference
from ondol.build.registry import credentials, documents
from ondol.build.registry.credentials import Keyring, Login
from ondol.build.registry.documents import Descriptor
from ondol.build.registry.errors import Broken, Refused, RegistryError, Stopped, Unavailable
from ondol.build.registry.hosts import Endpoint, Hosts
from ondol.build.registry.http import Answer, Line, Patience
from ondol.build.registry.session import Repository
from ondol.build.store import Draft, Image, ImageStore

_LAYERS_AT_ONCE: Final = 3
_INDEX_DEPTH_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pull is, in bytes of what is not here yet."""

    done_bytes: int
    whole_bytes: int


Report = Callable[[Progress], None]


class Pull:
    """One image on its way; `run` blocks, and `stop` (from another thread) ends it."""

    def __init__(
        self, reference: Reference, store: ImageStore, hosts: Hosts, *, patience: Patience | None = None
    ) -> None:
        self._reference = reference
        self._store = store
        self._hosts = hosts
        self._patience = patience
        self._lock = threading.Lock()
        self._line: Line | None = None
        self._is_stopped = False

    def stop(self) -> None:
        with self._lock:
            self._is_stopped = True
            if self._line is not None:
                self._line.stop()

    def run(self, logins: Keyring = (), report: Report = lambda _: None) -> Image:
        """The image, in the store under its name. `RegistryError` says why not, `StoreError` too."""
        failure: RegistryError | None = None
        for endpoint, login in self._ways(logins):
            line = self._new_line()
            try:
                return _Attempt(self._reference, self._store, endpoint, login, line).image(report)
            except Stopped:
                raise
            except RegistryError as error:
                failure = error
        raise failure or Unavailable(f"no registry is configured for {self._reference.host}")

    def _new_line(self) -> Line:
        with self._lock:
            if self._is_stopped:
                raise Stopped("it was given up")
            self._line = Line(self._hosts, self._patience)
            return self._line

    def _ways(self, logins: Keyring) -> list[tuple[Endpoint, Login | None]]:
        """Every server with every login for it; with none where there is none."""
        reference, origin = self._reference, self._hosts.origin(self._reference)
        ways: list[tuple[Endpoint, Login | None]] = []
        for endpoint in self._hosts.endpoints(reference):
            host = reference.host if endpoint == origin else endpoint.authority
            fitting: Sequence[Login | None] = credentials.lookup(logins, f"{host}/{reference.path}")
            ways += [(endpoint, login) for login in fitting or [None]]
        return ways


class _Attempt:
    """The image from one server, with one login or none."""

    def __init__(
        self, reference: Reference, store: ImageStore, endpoint: Endpoint, login: Login | None, line: Line
    ) -> None:
        self._reference = reference
        self._store = store
        self._line = line
        self._repository = Repository(line, endpoint, reference.path, login, "pull")

    def image(self, report: Report) -> Image:
        repository = self._repository
        manifest = self._manifest(repository)
        image = documents.image(manifest)
        with self._store.building():
            config = self._config(repository, image.config)
            documents.verify_platform(config, oci.architecture())
            self._store.put(config)
            self._layers(repository, image.layers, report)
            return self._store.add(str(self._reference), manifest, is_pulled=True)

    def _manifest(self, repository: Repository) -> bytes:
        target, digest = self._reference.target, self._reference.digest
        for _ in range(_INDEX_DEPTH_MAX):
            text, media_type = repository.manifest(target, digest)
            if media_type in documents.MANIFESTS:
                return text
            target = digest = documents.chosen(text, oci.architecture()).digest
        raise Refused("its index leads to indexes without an end")

    def _config(self, repository: Repository, descriptor: Descriptor) -> bytes:
        if self._store.has(descriptor.digest):
            return self._store.blob(descriptor.digest).read_bytes()
        with repository.blob(descriptor.digest) as answer:
            text = answer.content(min(descriptor.size, documents.BYTES_MAX))
        if oci.digest(text) != descriptor.digest:
            raise Refused(f"the configuration does not match its digest {descriptor.digest}")
        return text

    def _layers(self, repository: Repository, layers: Sequence[Descriptor], report: Report) -> None:
        missing = [layer for layer in dict.fromkeys(layers) if not self._store.has(layer.digest)]
        count = _Count(sum(layer.size for layer in missing), report)
        if not missing:
            return
        with concurrent.futures.ThreadPoolExecutor(_LAYERS_AT_ONCE, "layer") as threads:
            running = [threads.submit(self._layer, repository, layer, count) for layer in missing]
            try:
                for future in concurrent.futures.as_completed(running):
                    future.result()
            except BaseException:
                self._give_up(running)
                raise

    def _give_up(self, running: Sequence[concurrent.futures.Future[None]]) -> None:
        """One layer that cannot be had is enough: the others need not come."""
        for future in running:
            future.cancel()
        self._line.stop()

    def _layer(self, repository: Repository, layer: Descriptor, count: _Count) -> None:
        with self._store.draft() as draft:
            self._receive_whole(repository, layer, draft, count)
            if draft.digest != layer.digest:
                raise Refused(f"the layer does not match its digest {layer.digest}")

    def _receive_whole(self, repository: Repository, layer: Descriptor, draft: Draft, count: _Count) -> None:
        """Taken up again where it broke off, unless that brings nothing any more."""
        patience, failures = self._line.patience, 0
        while draft.size_bytes < layer.size or not failures:
            before = draft.size_bytes
            try:
                self._receive(repository, layer, draft, count)
                return
            except Broken:
                failures = 1 if draft.size_bytes - before >= patience.window_bytes else failures + 1
                if failures >= patience.tries:
                    raise
                self._line.pause(failures)

    def _receive(self, repository: Repository, layer: Descriptor, draft: Draft, count: _Count) -> None:
        """What is missing of the layer; never more than its manifest says it has."""
        with repository.blob(layer.digest, draft.size_bytes) as answer:
            skipped_bytes = 0 if _begins_at(answer, draft.size_bytes) else draft.size_bytes
            for received in answer.pieces():
                piece = received[skipped_bytes:]
                skipped_bytes -= len(received) - len(piece)
                if draft.size_bytes + len(piece) > layer.size:
                    raise Refused(f"the layer {layer.digest} has more than its {layer.size} bytes")
                draft.write(piece)
                count.add(len(piece))
        if draft.size_bytes < layer.size:
            raise Broken(f"the layer {layer.digest} ended after {draft.size_bytes} of {layer.size} bytes")


def _begins_at(answer: Answer, first_byte: int) -> bool:
    """Whether the registry took up where it was asked to; else it sends everything again."""
    return first_byte == 0 or (
        answer.status == 206 and answer.header("Content-Range").startswith(f"bytes {first_byte}-")
    )


class _Count:
    def __init__(self, whole_bytes: int, report: Report) -> None:
        self._whole_bytes = whole_bytes
        self._report = report
        self._done_bytes = 0
        self._lock = threading.Lock()

    def add(self, size_bytes: int) -> None:
        with self._lock:
            self._done_bytes += size_bytes
            self._report(Progress(self._done_bytes, self._whole_bytes))
