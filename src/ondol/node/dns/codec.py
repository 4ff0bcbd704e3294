"""DNS messages (RFC 1035): questions read, answers written. No I/O, no names of ours."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

A, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 5, 6, 12, 16, 28, 33, 41, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP = 0, 1, 2, 3, 4
_IN: Final = 1
_HEADER: Final = struct.Struct("!HHHHHH")
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION_AVAILABLE = (
    0x8000,
    0x0400,
    0x0200,
    0x0100,
    0x0080,
)


class Malformed(ValueError):
    """Not a DNS message, or not a question."""


@dataclass(frozen=True, slots=True)
class Question:
    id: int
    name: str
    """Lower case, without the final dot."""
    type: int
    kind: int
    recursion_desired: bool
    raw: bytes
    """The question section as it came, case included."""
    payload_max: int
    """Bytes the asker takes over UDP."""
    opcode: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    type: int
    ttl_s: int
    data: bytes


def parse(message: bytes) -> Question:
    """The one question of a query."""
    if len(message) < 12:
        raise Malformed("too short")
    identity, flags, questions, answers, authority, additional = _HEADER.unpack_from(message)
    if flags & _RESPONSE or questions != 1:
        raise Malformed("not a query with one question")
    name, end = _read_name(message, 12)
    if end + 4 > len(message):
        raise Malformed("cut off")
    record_type, kind = struct.unpack_from("!HH", message, end)
    size = _payload_max(message, end + 4, answers + authority + additional)
    is_recursive = bool(flags & _RECURSION_DESIRED)
    raw = message[12 : end + 4]
    return Question(identity, name.lower(), record_type, kind, is_recursive, raw, size, (flags >> 11) & 0xF)


def _read_name(message: bytes, at: int) -> tuple[str, int]:
    labels: list[str] = []
    while True:
        if at >= len(message):
            raise Malformed("cut off")
        length = message[at]
        if length == 0:
            return ".".join(labels), at + 1
        if length > 63 or at + 1 + length > len(message) or len(labels) > 127:
            raise Malformed("bad label")
        labels.append(message[at + 1 : at + 1 + length].decode("latin-1"))
        at += 1 + length


def _payload_max(message: bytes, at: int, records: int) -> int:
    """The size in an OPT record that directly follows, else the 512 of old."""
    if records and len(message) >= at + 11 and message[at] == 0:
        record_type, size = struct.unpack_from("!HH", message, at + 1)
        if record_type == OPT:
            return max(512, min(int(size), 4096))
    return 512


def reply(
    question: Question,
    answers: Sequence[Record] = (),
    *,
    code: int = NOERROR,
    authority: Sequence[Record] = (),
    extra: Sequence[Record] = (),
    authoritative: bool = True,
    size_max: int = 65535,
) -> bytes:
    """The answer; cut to the question alone and marked when it does not fit."""
    flags = _RESPONSE | _RECURSION_AVAILABLE | code | (question.opcode << 11)
    flags |= _AUTHORITATIVE if authoritative else 0
    flags |= _RECURSION_DESIRED if question.recursion_desired else 0
    sections = [answers, authority, extra]
    body = question.raw + b"".join(_encode(record) for section in sections for record in section)
    if 12 + len(body) > size_max:
        flags |= _TRUNCATED
        sections, body = [(), (), ()], question.raw
    counts = [len(section) for section in sections]
    return _HEADER.pack(question.id, flags, 1, *counts) + body


def failure(message: bytes, code: int) -> bytes:
    """An answer to what could not be read; empty when not even its id could."""
    if len(message) < 12:
        return b""
    identity, flags, *_ = _HEADER.unpack_from(message)
    return _HEADER.pack(identity, _RESPONSE | (flags & (_RECURSION_DESIRED | 0x7800)) | code, 0, 0, 0, 0)


def encode_name(name: str) -> bytes:
    encoded = b""
    for label in name.rstrip(".").split("."):
        if label:
            raw = label.encode("latin-1", "replace")[:63]
            encoded += bytes([len(raw)]) + raw
    return encoded + b"\0"


def _encode(record: Record) -> bytes:
    head = struct.pack("!HHIH", record.type, _IN, record.ttl_s, len(record.data))
    return encode_name(record.name) + head + record.data


def address(name: str, text: str, ttl_s: int) -> Record:
    ip = ipaddress.ip_address(text)
    return Record(name, A if ip.version == 4 else AAAA, ttl_s, ip.packed)


def cname(name: str, target: str, ttl_s: int) -> Record:
    return Record(name, CNAME, ttl_s, encode_name(target))


def pointer(name: str, target: str, ttl_s: int) -> Record:
    return Record(name, PTR, ttl_s, encode_name(target))


def service(name: str, target: str, port: int, weight: int, ttl_s: int) -> Record:
    return Record(name, SRV, ttl_s, struct.pack("!HHH", 0, weight, port) + encode_name(target))


def text(name: str, value: str, ttl_s: int) -> Record:
    raw = value.encode()[:255]
    return Record(name, TXT, ttl_s, bytes([len(raw)]) + raw)


def start_of_authority(zone: str, ttl_s: int) -> Record:
    numbers = struct.pack("!IIIII", 1, 7200, 1800, 86400, ttl_s)
    return Record(
        zone, SOA, ttl_s, encode_name(f"ns.dns.{zone}") + encode_name(f"hostmaster.{zone}") + numbers
    )
