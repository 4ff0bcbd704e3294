"""The platform's own registry: the OCI distribution API over the store of images.

An image that is pushed as `HOST/x:1` is the store's image of that name, which a pod names in the same way; no
other name can be written. Reading is free to whoever reaches it, since it listens on loopback alone; writing
takes the password of the instance, so that no pod of the host's network replaces what others run.

Blobs that no manifest names yet go with the next `ondol image prune`.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import anyio.to_thread

from ondol.base import errors
from ondol.base.clock import Clock
from ondol.build import oci
from ondol.build.errors import BlobMissing, BuildError, StoreError
from ondol.build.registry import documents, paths
from ondol.build.registry.paths import Subject, refusal
from ondol.build.registry.uploads import Upload, Uploads
from ondol.build.store import Image, ImageStore
from ondol.web import bodies
from ondol.web.application import Application, Request, Response, Route, Streamed, query

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_CHUNK_BYTES: Final = 1 << 18
_BYTES: Final = "application/octet-stream"
_Handler = Callable[[Request, Subject], Awaitable[Response]]


def application(store: ImageStore, host: str, clock: Clock, writer: tuple[str, str]) -> Application:
    """Serves the names of `host`; `writer` is the name and the password that writing takes."""
    registry = _Registry(store, host, clock, writer)

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        yield
        registry.uploads.close()

    route = Route("/{path:path}", registry.answer, methods=list(_METHODS))
    return Application([route], error_document=_error, lifespan=lifespan)


def _error(error: errors.ApiError) -> Response:
    code = str(error.details.get("code") or "UNSUPPORTED")
    return _json({"errors": [{"code": code, "message": error.message}]}, error.status_code)


def _json(
    document: Any,
    status: int = 200,
    *,
    media_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> Response:
    return Response(json.dumps(document), status, headers, media_type=media_type)


class _Registry:
    def __init__(self, store: ImageStore, host: str, clock: Clock, writer: tuple[str, str]) -> None:
        self._store = store
        self._host = host
        self._proof = "Basic " + base64.b64encode(":".join(writer).encode()).decode()
        self.uploads = Uploads(store, clock.monotonic)
        self._handlers: Mapping[tuple[str, str], _Handler] = {
            ("GET", "catalog"): self._catalog,
            ("GET", "tags"): self._tags,
            ("GET", "referrers"): self._referrers,
            ("GET", "manifests"): self._manifest,
            ("PUT", "manifests"): self._put_manifest,
            ("DELETE", "manifests"): self._delete_manifest,
            ("GET", "blobs"): self._blob,
            ("DELETE", "blobs"): self._delete_blob,
            ("POST", "uploads"): self._begin,
            ("GET", "uploads"): self._upload_status,
            ("PATCH", "uploads"): self._append,
            ("PUT", "uploads"): self._finish,
            ("DELETE", "uploads"): self._cancel,
        }

    async def answer(self, request: Request) -> Response:
        subject = paths.subject(request.url.path)
        authorization = request.headers.get("authorization", "")
        is_reading = request.method in ("GET", "HEAD")
        if subject.kind == "ping":
            # Asked first: without this challenge clients would not show what they have when they push.
            # A wrong password is said here, which is where `docker login` looks.
            return _json({}) if self._may_write(authorization) else _challenge()
        if not is_reading and not self._may_write(authorization):
            return _challenge()
        handler = self._handlers.get(("GET" if is_reading else request.method, subject.kind))
        if handler is None:
            raise refusal(errors.MethodNotAllowed, "UNSUPPORTED", "that is not done here")
        try:
            return await handler(request, subject)
        except BuildError as error:
            raise refusal(errors.BadRequest, "MANIFEST_INVALID", str(error)) from error

    def _may_write(self, authorization: str) -> bool:
        return hmac.compare_digest(authorization.encode(), self._proof.encode())

    # Lists

    def _images(self, name: str = "") -> list[Image]:
        """Those of a repository, or of all; by tag and by digest alone."""
        prefix = f"{self._host}/"
        images = [image for image in self._store.images() if image.reference.startswith(prefix)]
        return [image for image in images if not name or self._repository(image) == name]

    def _repository(self, image: Image) -> str:
        rest = image.reference.removeprefix(f"{self._host}/")
        return rest.partition("@")[0] if "@" in rest else rest.rpartition(":")[0]

    async def _existing(self, name: str) -> list[Image]:
        images = await anyio.to_thread.run_sync(self._images, name)
        if not images:
            raise refusal(errors.NotFound, "NAME_UNKNOWN", f"there is no repository {name}")
        return images

    async def _catalog(self, request: Request, _subject: Subject) -> Response:
        images = await anyio.to_thread.run_sync(self._images)
        return self._listed(request, "repositories", {self._repository(image) for image in images}, {})

    async def _tags(self, request: Request, subject: Subject) -> Response:
        images = await self._existing(subject.name)
        tags = {image.reference.rpartition(":")[2] for image in images if "@" not in image.reference}
        return self._listed(request, "tags", tags, {"name": subject.name})

    def _listed(self, request: Request, noun: str, names: set[str], document: Mapping[str, Any]) -> Response:
        words = query(request)
        listed, is_more = paths.page([*names], words.get("last", ""), words.get("n", ""))
        headers = {}
        if is_more and listed:
            behind = urllib.parse.urlencode({"n": words["n"], "last": listed[-1]})
            headers["Link"] = f'<{request.url.path}?{behind}>; rel="next"'
        return _json({**document, noun: listed}, headers=headers)

    async def _referrers(self, request: Request, subject: Subject) -> Response:
        kind = query(request).get("artifactType", "")
        entries = await anyio.to_thread.run_sync(self._referring, subject)
        headers = {"OCI-Filters-Applied": "artifactType"} if kind else {}
        entries = [entry for entry in entries if not kind or entry.get("artifactType") == kind]
        index = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": entries}
        return _json(index, media_type=oci.INDEX, headers=headers)

    def _referring(self, subject: Subject) -> list[dict[str, Any]]:
        entries = {}
        for image in self._images(subject.name):
            text = self._store.blob(image.digest).read_bytes()
            document = json.loads(text)
            if (document.get("subject") or {}).get("digest") != subject.target:
                continue
            config_type = (document.get("config") or {}).get("mediaType", "")
            entry = oci.descriptor(document.get("mediaType", oci.MANIFEST), image.digest, len(text))
            entry["artifactType"] = document.get("artifactType") or config_type
            annotations = {"annotations": document["annotations"]} if document.get("annotations") else {}
            entries[image.digest] = {**entry, **annotations}
        return [*entries.values()]

    # Manifests

    def _at(self, subject: Subject) -> Image:
        for image in self._images(subject.name):
            by_tag = image.reference == f"{self._host}/{subject.name}:{subject.target}"
            if image.digest == subject.target if subject.is_digest else by_tag:
                return image
        raise refusal(errors.NotFound, "MANIFEST_UNKNOWN", f"there is no manifest {subject.target}")

    async def _manifest(self, _request: Request, subject: Subject) -> Response:
        image = await anyio.to_thread.run_sync(self._at, subject)
        text = await anyio.to_thread.run_sync(self._store.blob(image.digest).read_bytes)
        headers = {"Docker-Content-Digest": image.digest}
        return Response(text, headers=headers, media_type=documents.media_type(text, ""))

    async def _put_manifest(self, request: Request, subject: Subject) -> Response:
        text = await bodies.read(request, documents.BYTES_MAX, noun="a manifest")
        digest = oci.digest(text)
        if subject.is_digest and digest != subject.target:
            raise refusal(errors.BadRequest, "DIGEST_INVALID", "the manifest does not match its digest")
        documents.media_type(text, request.headers.get("content-type", ""))
        separator = "@" if subject.is_digest else ":"
        name = f"{self._host}/{subject.name}{separator}{subject.target}"
        await anyio.to_thread.run_sync(self._named, name, text)
        about = (json.loads(text).get("subject") or {}).get("digest")
        headers = {"OCI-Subject": about} if about else {}
        headers |= {"Location": f"/v2/{subject.name}/manifests/{digest}", "Docker-Content-Digest": digest}
        return Response(status_code=201, headers=headers)

    def _named(self, name: str, text: bytes) -> None:
        try:
            self._store.add(name, text)
        except BlobMissing as error:
            raise refusal(errors.NotFound, "MANIFEST_BLOB_UNKNOWN", str(error)) from error
        except StoreError as error:
            raise refusal(errors.BadRequest, "MANIFEST_INVALID", str(error)) from error

    async def _delete_manifest(self, _request: Request, subject: Subject) -> Response:
        image = await anyio.to_thread.run_sync(self._at, subject)
        listed = self._images(subject.name) if subject.is_digest else [image]
        for each in listed:
            if each.digest == image.digest:
                await anyio.to_thread.run_sync(self._store.remove, each.reference)
        return Response(status_code=202)

    # Blobs

    async def _blob(self, request: Request, subject: Subject) -> Response:
        path = self._store.blob(subject.target)
        try:
            size_bytes = path.stat().st_size
        except FileNotFoundError as error:
            raise refusal(errors.NotFound, "BLOB_UNKNOWN", f"there is no blob {subject.target}") from error
        headers = {"Docker-Content-Digest": subject.target, "Accept-Ranges": "bytes"}
        try:
            span = paths.span(request.headers.get("range", ""), size_bytes)
        except ValueError:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{size_bytes}"})
        first, last = span or (0, size_bytes - 1)
        headers["Content-Length"] = str(last - first + 1)
        if request.method == "HEAD":
            return Response(headers=headers, media_type=_BYTES)
        response = Streamed(_pieces(path, first, last), media_type=_BYTES)
        response.headers.update(headers)
        if span is not None:
            response.status_code = 206
            response.headers["Content-Range"] = f"bytes {first}-{last}/{size_bytes}"
        return response

    async def _delete_blob(self, _request: Request, subject: Subject) -> Response:
        if not self._store.has(subject.target):
            raise refusal(errors.NotFound, "BLOB_UNKNOWN", f"there is no blob {subject.target}")
        if not await anyio.to_thread.run_sync(self._store.discard, subject.target):
            raise refusal(errors.MethodNotAllowed, "DENIED", "an image needs it")
        return Response(status_code=202)

    # Uploads

    async def _begin(self, request: Request, subject: Subject) -> Response:
        words = query(request)
        if words.get("mount") and self._store.has(paths.digest(words["mount"])):
            return _created(subject.name, words["mount"])
        if "digest" in words:
            paths.digest(words["digest"])  # before there is an upload, which nobody would learn of
        number = await anyio.to_thread.run_sync(self.uploads.begin, subject.name)
        begun = Subject("uploads", subject.name, number)
        if "digest" in words:
            return await self._finish(request, begun)
        return self._so_far(begun, 202)

    async def _upload_status(self, _request: Request, subject: Subject) -> Response:
        return self._so_far(subject, 204)

    async def _append(self, request: Request, subject: Subject) -> Response:
        await self._write(request, self.uploads.find(subject))
        return self._so_far(subject, 202)

    async def _finish(self, request: Request, subject: Subject) -> Response:
        digest = paths.digest(query(request).get("digest", ""))
        upload = self.uploads.find(subject)
        await self._write(request, upload)
        self.uploads.end(subject.target)
        await anyio.to_thread.run_sync(upload.finish, digest)
        return _created(subject.name, digest)

    async def _cancel(self, _request: Request, subject: Subject) -> Response:
        upload = self.uploads.find(subject)
        self.uploads.end(subject.target)
        await anyio.to_thread.run_sync(upload.abandon)
        return Response(status_code=204)

    async def _write(self, request: Request, upload: Upload) -> None:
        begins, _, _ = request.headers.get("content-range", "").removeprefix("bytes ").partition("-")
        if begins and begins != str(upload.draft.size_bytes):
            message = f"the next byte is {upload.draft.size_bytes}"
            raise _OutOfOrder(message, details={"code": "BLOB_UPLOAD_INVALID"})
        upload.is_busy = True
        try:
            async for chunk in request.stream():
                if chunk:
                    await anyio.to_thread.run_sync(upload.draft.write, chunk)
        finally:
            upload.is_busy = False

    def _so_far(self, subject: Subject, status: int) -> Response:
        size_bytes = self.uploads.find(subject).draft.size_bytes
        headers = {
            "Location": f"/v2/{subject.name}/blobs/uploads/{subject.target}",
            "Range": f"0-{max(size_bytes - 1, 0)}",
            "Docker-Upload-UUID": subject.target,
        }
        return Response(status_code=status, headers=headers)


class _OutOfOrder(errors.ApiError):
    status_code = 416


def _created(name: str, digest: str) -> Response:
    headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
    return Response(status_code=201, headers=headers)


def _challenge() -> Response:
    error = {"errors": [{"code": "UNAUTHORIZED", "message": "writing takes the registry's password"}]}
    return _json(error, 401, headers={"WWW-Authenticate": 'Basic realm="ondol"'})


async def _pieces(path: Path, first: int, last: int) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        await file.seek(first)
        left = last - first + 1
        while left > 0 and (piece := await file.read(min(left, _CHUNK_BYTES))):
            left -= len(piece)
            yield piece
