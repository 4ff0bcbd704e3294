"""Blobs that are being sent to the platform's own registry, piece by piece, over several requests."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from typing import Final

from ondol.base import errors
from ondol.build.registry import paths
from ondol.build.store import Draft, ImageStore

_UPLOADS_MAX: Final = 32
_IDLE_S: Final = 600.0


class _Abandoned(Exception):
    """Whoever sent the blob sends no more of it."""


class Upload:
    """One blob so far; it blocks, and is used by one thread at a time."""

    def __init__(self, store: ImageStore, name: str) -> None:
        self.name = name
        self.used_at = 0.0
        self.is_busy = False
        self._stack = contextlib.ExitStack()
        self.draft: Draft = self._stack.enter_context(store.draft())

    def finish(self, digest: str) -> None:
        """Keep it; `ApiError` if its bytes are others than the digest says."""
        if self.draft.digest != digest:
            self.abandon()
            raise paths.refusal(errors.BadRequest, "DIGEST_INVALID", "the blob does not match its digest")
        self._stack.close()

    def abandon(self) -> None:
        with contextlib.suppress(_Abandoned):
            error = _Abandoned()
            self._stack.__exit__(type(error), error, None)


class Uploads:
    """Those under way, by number."""

    def __init__(self, store: ImageStore, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._uploads: dict[str, Upload] = {}

    def begin(self, name: str) -> str:
        self._forget_idle()
        self._make_room()
        number = secrets.token_hex(16)
        upload = self._uploads[number] = Upload(self._store, name)
        upload.used_at = self._monotonic()
        return number

    def find(self, subject: paths.Subject) -> Upload:
        upload = self._uploads.get(subject.target)
        if upload is None or upload.name != subject.name:
            raise paths.refusal(errors.NotFound, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
        if upload.is_busy:
            raise paths.refusal(errors.Conflict, "BLOB_UPLOAD_INVALID", "another request writes to it")
        upload.used_at = self._monotonic()
        return upload

    def end(self, number: str) -> Upload | None:
        return self._uploads.pop(number, None)

    def _make_room(self) -> None:
        """Clients leave uploads without a word: that of the longest silence makes room for a new one."""
        if len(self._uploads) < _UPLOADS_MAX:
            return
        idle = [number for number, upload in self._uploads.items() if not upload.is_busy]
        if not idle:
            raise paths.refusal(errors.TooManyRequests, "TOOMANYREQUESTS", "too many uploads are under way")
        self._uploads.pop(min(idle, key=lambda number: self._uploads[number].used_at)).abandon()

    def _forget_idle(self) -> None:
        now = self._monotonic()
        for number, upload in list(self._uploads.items()):
            if now - upload.used_at > _IDLE_S and not upload.is_busy:
                self._uploads.pop(number).abandon()

    def close(self) -> None:
        for upload in self._uploads.values():
            upload.abandon()
        self._uploads.clear()
