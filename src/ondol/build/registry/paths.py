"""What a request to a registry is about, read from its path, and its error documents. Pure.

Source: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md, endpoints and error codes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ondol.base import errors

_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_UPLOAD: Final = re.compile(r"[0-9a-f]{32}")
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_SHAPES: Final = re.compile(
    r"(?P<name>.+)/(?:(?P<kind>manifests|blobs|referrers)/(?P<target>[^/]+)"
    r"|(?P<uploads>blobs/uploads)(?:/(?P<upload>[^/]+))?|(?P<tags>tags/list))"
)
_NAME_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Subject:
    """`kind` is `ping`, `catalog`, `manifests`, `blobs`, `referrers`, `uploads` or `tags`."""

    kind: str
    name: str = ""
    target: str = ""
    """Tag or digest; of an upload its number, empty for a new one."""

    @property
    def is_digest(self) -> bool:
        return ":" in self.target


def subject(path: str) -> Subject:
    """What a path below `/v2/` names; `ApiError` with the registry's code where it is nothing."""
    rest = path.removeprefix("/v2").strip("/")
    if rest in ("", "_catalog"):
        return Subject("catalog" if rest else "ping")
    shape = _SHAPES.fullmatch(rest)
    if shape is None:
        raise refusal(errors.NotFound, "UNSUPPORTED", f"/v2/{rest[:200]} is not served")
    name = shape["name"]
    if not _NAME.fullmatch(name) or len(name) > _NAME_MAX:
        raise refusal(errors.BadRequest, "NAME_INVALID", "that is no name of a repository")
    if shape["tags"]:
        return Subject("tags", name)
    if shape["uploads"] or (shape["kind"], shape["target"]) == ("blobs", "uploads"):
        number = shape["upload"] or ""
        if number and not _UPLOAD.fullmatch(number):
            raise refusal(errors.NotFound, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
        return Subject("uploads", name, number)
    return Subject(shape["kind"], name, _target(shape["kind"], shape["target"]))


def _target(kind: str, target: str) -> str:
    if _DIGEST.fullmatch(target):
        return target
    if kind != "manifests" or ":" in target:
        raise refusal(errors.BadRequest, "DIGEST_INVALID", "digests are sha256: and 64 digits")
    if not _TAG.fullmatch(target):
        raise refusal(errors.NotFound, "MANIFEST_UNKNOWN", "that is no tag")
    return target


def digest(text: str) -> str:
    """A digest of a query; `ApiError` if it is none that is kept here."""
    if not _DIGEST.fullmatch(text):
        raise refusal(errors.BadRequest, "DIGEST_INVALID", "digests are sha256: and 64 digits")
    return text


def refusal(kind: type[errors.ApiError], code: str, message: str) -> errors.ApiError:
    return kind(message, details={"code": code})


def span(header: str, size_bytes: int) -> tuple[int, int] | None:
    """First and last byte that a `Range` asks for; None for all. `ValueError` for nothing."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.group() == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        begin, end = max(size_bytes - int(last), 0), size_bytes - 1
    else:
        begin, end = int(first), min(int(last or size_bytes), size_bytes - 1)
    if begin > end or begin >= size_bytes:
        raise ValueError(header)
    return begin, end


def page(names: Sequence[str], last: str, count: str) -> tuple[list[str], bool]:
    """Those behind `last`, at most `count` of them, and whether there are more; `ApiError` for no number."""
    if count and not count.isdigit():
        raise refusal(errors.BadRequest, "UNSUPPORTED", "n is a number")
    behind = [name for name in sorted(names) if name > last]
    listed = behind[: int(count)] if count else behind
    return listed, len(listed) < len(behind)
