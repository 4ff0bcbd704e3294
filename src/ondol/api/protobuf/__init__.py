"""Kubernetes' protobuf form of objects, for clients that send nothing else.

Every message travels in an envelope: four magic bytes, then `runtime.Unknown` with the object's
apiVersion and kind beside its bytes. Kinds without an entry in the table (custom kinds) have no
protobuf form.
"""

from __future__ import annotations

from typing import Final

from ondol.api import facts
from ondol.api.objects import Object
from ondol.api.protobuf import reading, writing
from ondol.base import errors, protowire

MEDIA_TYPE: Final = "application/vnd.kubernetes.protobuf"
MAGIC: Final = b"k8s\x00"


def decode(body: bytes) -> Object:
    """The document in an enveloped body; `BadRequest` if it cannot be read."""
    if not body.startswith(MAGIC):
        raise errors.BadRequest("the body is not in the Kubernetes protobuf form: its first bytes are wrong")
    try:
        api_version, kind, raw = _opened(body[len(MAGIC) :])
        type_name = facts.type_of(api_version, kind)
        if not type_name:
            raise errors.BadRequest(f'no kind "{kind}" is known in version "{api_version}" in protobuf form')
        return {"apiVersion": api_version, "kind": kind, **reading.message(type_name, raw)}
    except ValueError as wrong:
        raise errors.BadRequest(f"the body cannot be read as protobuf: {wrong}") from None


def _opened(data: bytes) -> tuple[str, str, bytes]:
    outer = dict(protowire.fields(data))
    meta = outer.get(1, b"")
    raw = outer.get(2, b"")
    if not isinstance(meta, bytes) or not isinstance(raw, bytes):
        raise ValueError("wrong wire type")  # noqa: TRY004  # malformed input
    if outer.get(3):
        raise ValueError("encoded content is not supported")
    named = {number: value.decode() for number, value in protowire.fields(meta) if isinstance(value, bytes)}
    return named.get(1, ""), named.get(2, ""), raw


def encode(document: Object) -> bytes:
    """The enveloped form of a document; `NotAcceptable` if its kind has none."""
    api_version, kind = document.get("apiVersion") or "", document.get("kind") or ""
    type_name = facts.type_of(api_version, kind)
    if not type_name:
        raise errors.NotAcceptable(f"{kind} of {api_version} has no protobuf form")
    meta = protowire.put_bytes(1, api_version.encode()) + protowire.put_bytes(2, kind.encode())
    raw = writing.message(type_name, document)
    tail = protowire.put_bytes(3, b"") + protowire.put_bytes(4, b"")
    return MAGIC + protowire.put_bytes(1, meta) + protowire.put_bytes(2, raw) + tail
