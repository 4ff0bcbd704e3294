"""DNS messages (RFC 1035, EDNS by RFC 6891): questions read, answers written. No I/O, no names of ours."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

A, NS, CNAME, SOA, PTR, HINFO, TXT, AAAA, SRV, OPT = 1, 2, 5, 6, 12, 13, 16, 28, 33, 41
IXFR, AXFR, ANY = 251, 252, 255
TYPES: Final = {
    A: "A",
    NS: "NS",
    CNAME: "CNAME",
    SOA: "SOA",
    PTR: "PTR",
    15: "MX",
    TXT: "TXT",
    AAAA: "AAAA",
    SRV: "SRV",
    35: "NAPTR",
    43: "DS",
    48: "DNSKEY",
    64: "SVCB",
    65: "HTTPS",
    IXFR: "IXFR",
    AXFR: "AXFR",
    ANY: "ANY",
}
"""The names of types that are counted apart."""
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
CODES: Final = {
    NOERROR: "NOERROR",
    FORMERR: "FORMERR",
    SERVFAIL: "SERVFAIL",
    NXDOMAIN: "NXDOMAIN",
    NOTIMP: "NOTIMP",
    REFUSED: "REFUSED",
    BADVERS: "BADVERS",
}
IN: Final = 1
HEADER: Final = struct.Struct("!HHHHHH")
HEAD_BYTES: Final = 12
RESPONSE, AUTHORITATIVE, TRUNCATED, RECURSION_DESIRED, RECURSION_AVAILABLE, CHECKING_DISABLED = (
    0x8000,
    0x0400,
    0x0200,
    0x0100,
    0x0080,
    0x0010,
)
PAYLOAD_MIN, PAYLOAD_MAX = 512, 1232
"""Bytes of a datagram: what everyone takes, and what passes every network in one piece."""
_NAME_MAX: Final = 255
_LABELS_MAX: Final = 127
_DNSSEC_OK: Final = 0x8000
_TO_QUESTION: Final = b"\xc0\x0c"


class Malformed(ValueError):
    """Not a DNS message, or not a question."""


class NotAQuery(Malformed):
    """A response, or too little to tell: nobody waits for an answer to it."""


@dataclass(frozen=True, slots=True)
class Edns:
    """What an asker says of itself in an OPT record."""

    payload: int
    """Bytes it takes over UDP, as it says."""
    version: int = 0
    wants_signatures: bool = False
    """The DO bit."""


@dataclass(frozen=True, slots=True)
class Question:
    id: int
    name: str
    """Lower case, without the final dot; a dot inside a label stands behind a backslash."""
    type: int
    kind: int
    """The class."""
    recursion_desired: bool
    raw: bytes
    """The question section as it came, case included."""
    edns: Edns | None = None
    opcode: int = 0
    checking_disabled: bool = False

    @property
    def payload_max(self) -> int:
        """Bytes of an answer over UDP."""
        return min(max(PAYLOAD_MIN, self.edns.payload), PAYLOAD_MAX) if self.edns else PAYLOAD_MIN


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    type: int
    ttl_s: int
    data: bytes


def parse(message: bytes) -> Question:
    """The one question of a query."""
    if len(message) < HEAD_BYTES:
        raise NotAQuery("too short")
    identity, flags, questions, answers, authority, additional = HEADER.unpack_from(message)
    if flags & RESPONSE:
        raise NotAQuery("a response")
    if questions != 1 or answers:
        raise Malformed("not a query with one question")
    name, end = _read_name(message, HEAD_BYTES)
    if end + 4 > len(message):
        raise Malformed("cut off")
    record_type, kind = struct.unpack_from("!HH", message, end)
    return Question(
        identity,
        name.lower(),
        record_type,
        kind,
        bool(flags & RECURSION_DESIRED),
        message[HEAD_BYTES : end + 4],
        _edns(message, end + 4, authority + additional),
        (flags >> 11) & 0xF,
        bool(flags & CHECKING_DISABLED),
    )


def _read_name(message: bytes, at: int) -> tuple[str, int]:
    labels, end = _read_labels(message, at)
    if message[end] != 0 or end - at >= _NAME_MAX:
        raise Malformed("bad name")
    return ".".join(labels), end + 1


@dataclass(frozen=True, slots=True)
class Placed:
    """A record of a message: where it stands, and what of it says how long it holds."""

    start: int
    end: int
    type: int
    kind: int
    ttl_at: int
    ttl_s: int
    data_at: int


def placed(message: bytes, at: int, count: int) -> Iterator[Placed]:
    """`count` records from `at` on; `Malformed` where there are fewer."""
    for _ in range(count):
        head = skip_name(message, at)
        if head + 10 > len(message):
            raise Malformed("cut off")
        record_type, kind, ttl_s, length = struct.unpack_from("!HHIH", message, head)
        end = head + 10 + length
        if end > len(message):
            raise Malformed("cut off")
        yield Placed(at, end, record_type, kind, head + 4, ttl_s, head + 10)
        at = end


def skip_name(message: bytes, at: int) -> int:
    """Where a name ends that may lead on to another place."""
    while at < len(message):
        length = message[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            return at + 2
        if length > 63:
            raise Malformed("bad label")
        at += 1 + length
    raise Malformed("cut off")


def expand_name(message: bytes, at: int) -> str:
    """A name with what it points to; one that points forward, or in circles, is `Malformed`."""
    labels: list[str] = []
    before = at + 1
    while True:
        name, end = _read_labels(message, at)
        labels += name
        if message[end] == 0:
            return ".".join(labels)
        target = struct.unpack_from("!H", message, end)[0] & 0x3FFF if end + 2 <= len(message) else before
        if target >= before or len(labels) > _LABELS_MAX:
            raise Malformed("bad pointer")
        before = at = target


def _read_labels(message: bytes, at: int) -> tuple[list[str], int]:
    """The labels up to the end of the name or a pointer, and where that is."""
    labels: list[str] = []
    while at < len(message):
        length = message[at]
        if length == 0 or length >= 0xC0:
            return labels, at
        if length > 63 or at + 1 + length > len(message):
            raise Malformed("bad label")
        labels.append(message[at + 1 : at + 1 + length].decode("latin-1").replace(".", "\\."))
        at += 1 + length
    raise Malformed("cut off")


def _edns(message: bytes, at: int, records: int) -> Edns | None:
    """Of the one OPT record, which may stand anywhere behind the question."""
    options = [each for each in placed(message, at, records) if each.type == OPT]
    if len(options) > 1:
        raise Malformed("several OPT records")
    for each in options:
        if message[each.start] != 0:
            raise Malformed("an OPT record with a name")
        return Edns(each.kind, each.ttl_s >> 16 & 0xFF, bool(each.ttl_s & _DNSSEC_OK))
    return None


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
    """The answer; of more than fits as many records as do, marked as cut if any of those asked for lacks."""
    flags = AUTHORITATIVE if authoritative else 0
    sections = [[_encode(record, question.name) for record in each] for each in (answers, authority, extra)]
    return assembled(question, flags, code, sections, size_max)


def assembled(
    question: Question, flags: int, code: int, sections: Sequence[Sequence[bytes]], size_max: int
) -> bytes:
    """A response of encoded records in their sections: answers, authority, additional."""
    tail = options(question.edns, code >> 4) if question.edns is not None else b""
    flags |= RESPONSE | RECURSION_AVAILABLE | (code & 0xF) | (question.opcode << 11)
    flags |= RECURSION_DESIRED if question.recursion_desired else 0
    flags |= CHECKING_DISABLED if question.checking_disabled else 0
    room = size_max - HEAD_BYTES - len(question.raw) - len(tail)
    parts, counts = [question.raw], []
    for number, section in enumerate(sections):
        fitting = list(_fitting(section, room))
        if len(fitting) < len(section) and number < 2:
            flags |= TRUNCATED
        room = room - sum(map(len, fitting)) if len(fitting) == len(section) else 0
        parts += fitting
        counts.append(len(fitting))
    counts[2] += 1 if tail else 0
    return HEADER.pack(question.id, flags, 1, *counts) + b"".join(parts) + tail


def _fitting(section: Sequence[bytes], room: int) -> Iterator[bytes]:
    for record in section:
        room -= len(record)
        if room < 0:
            return
        yield record


def options(edns: Edns, code_high: int = 0) -> bytes:
    """Our own OPT record, to one who has sent one."""
    ttl = code_high << 24 | (_DNSSEC_OK if edns.wants_signatures else 0)
    return b"\0" + struct.pack("!HHIH", OPT, PAYLOAD_MAX, ttl, 0)


def failure(message: bytes, code: int) -> bytes:
    """An answer to what could not be read; empty when not even its id could, or when it is a response."""
    if len(message) < HEAD_BYTES:
        return b""
    identity, flags, *_ = HEADER.unpack_from(message)
    if flags & RESPONSE:
        return b""
    return HEADER.pack(identity, RESPONSE | (flags & (RECURSION_DESIRED | 0x7800)) | code, 0, 0, 0, 0)


def encode_name(name: str) -> bytes:
    encoded = b""
    for label in name.rstrip(".").split("."):
        if label:
            raw = label.encode("latin-1", "replace")[:63]
            encoded += bytes([len(raw)]) + raw
    return encoded + b"\0"


def _encode(record: Record, asked: str) -> bytes:
    """The record; one of the name that was asked for points there, and so has its spelling."""
    head = struct.pack("!HHIH", record.type, IN, record.ttl_s, len(record.data))
    owner = _TO_QUESTION if record.name == asked and asked else encode_name(record.name)
    return owner + head + record.data


def address(name: str, text: str, ttl_s: int) -> Record:
    ip = ipaddress.ip_address(text)
    return Record(name, A if ip.version == 4 else AAAA, ttl_s, ip.packed)


def cname(name: str, target: str, ttl_s: int) -> Record:
    return Record(name, CNAME, ttl_s, encode_name(target))


def name_server(name: str, target: str, ttl_s: int) -> Record:
    return Record(name, NS, ttl_s, encode_name(target))


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
