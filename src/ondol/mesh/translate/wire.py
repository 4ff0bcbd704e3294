"""Assembling protobuf messages from parts that are already encoded.

Encoded messages that are concatenated merge, and an encoded message becomes a field by its tag and
length: so a listener or a route table is put together from shared parts without encoding them again.
"""

from __future__ import annotations

import hashlib

from google.protobuf.message import Message

from ondol.base import protowire


def encode(message: Message) -> bytes:
    """The message in bytes, the same for equal messages."""
    return message.SerializeToString(deterministic=True)


def field(number: int, encoded: bytes) -> bytes:
    """An encoded message as field `number` of another."""
    return protowire.put_bytes(number, encoded)


def digest(*parts: bytes) -> str:
    """A version: equal for equal content."""
    hasher = hashlib.blake2b(digest_size=12)
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return hasher.hexdigest()
