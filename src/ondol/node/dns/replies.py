"""What other name servers answered: checked, and told again as each asker spells it. No I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ondol.node.dns import codec
from ondol.node.dns.codec import Malformed, Question

_FLAGS_KEPT: Final = codec.AUTHORITATIVE | codec.TRUNCATED | 0x0020
"""What of a reply's flags is for the asker: also that its data is authentic (AD)."""
_TTL: Final = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Reply:
    """A response to a question.

    Its records may point into the question, which has the same length in every spelling of the name.
    """

    flags: int
    code: int
    question_end: int
    message: bytes
    sections: tuple[tuple[codec.Placed, ...], ...]
    """Answers, authority and additional records, without OPT and what stands behind it."""

    @property
    def is_cut(self) -> bool:
        return bool(self.flags & codec.TRUNCATED)

    @property
    def ttl_s(self) -> int:
        """How long it holds: as long as the shortest of its records; what there is not, as its SOA says."""
        answers, authority, extra = self.sections
        if not answers:
            return min((self._negative_s(each) for each in authority if each.type == codec.SOA), default=0)
        return min(each.ttl_s for each in (*answers, *authority, *extra))

    def _negative_s(self, record: codec.Placed) -> int:
        minimum = _TTL.unpack_from(self.message, record.end - _TTL.size)[0]
        return min(record.ttl_s, int(minimum))

    def response(
        self, question: Question, size_max: int, *, age_s: int = 0, ttl_s: int | None = None
    ) -> bytes:
        """The response for an asker: with its id and spelling, records `age_s` older, or all of `ttl_s`."""
        sections = [list(self._records(section, age_s, ttl_s)) for section in self.sections]
        kept = self.flags & _FLAGS_KEPT & ~codec.AUTHORITATIVE
        return codec.assembled(question, kept, self.code, sections, size_max)

    def chain(self) -> Iterator[codec.Record]:
        """The answers that are addresses and names for others, free of this message."""
        for each in self.sections[0]:
            if each.type in (codec.A, codec.AAAA, codec.CNAME) and each.kind == codec.IN:
                data = self.message[each.data_at : each.end]
                if each.type == codec.CNAME:
                    data = codec.encode_name(codec.expand_name(self.message, each.data_at))
                name = codec.expand_name(self.message, each.start)
                yield codec.Record(name, each.type, each.ttl_s, data)

    def _records(self, section: tuple[codec.Placed, ...], age_s: int, ttl_s: int | None) -> Iterator[bytes]:
        for each in section:
            remaining = max(0, each.ttl_s - age_s) if ttl_s is None else ttl_s
            head = self.message[each.start : each.ttl_at]
            yield head + _TTL.pack(remaining) + self.message[each.ttl_at + 4 : each.end]


def read(message: bytes, asked: bytes) -> Reply:
    """The response to the message `asked`; `Malformed` if it is none, or another's."""
    if len(message) < codec.HEAD_BYTES or message[:2] != asked[:2]:
        raise Malformed("another's")
    _, flags, questions, *counts = codec.HEADER.unpack_from(message)
    if not flags & codec.RESPONSE:
        raise Malformed("not a response")
    end = codec.HEAD_BYTES
    if questions:
        end = codec.skip_name(message, end) + 4
        if questions > 1 or message[12:end].lower() != asked[12:end].lower():
            raise Malformed("to another question")
    elif flags & 0xF == codec.NOERROR:
        raise Malformed("to no question")
    sections, at = [], end
    try:
        for count in counts:
            sections.append(tuple(codec.placed(message, at, count)))
            at = sections[-1][-1].end if sections[-1] else at
    except Malformed:
        if not flags & codec.TRUNCATED:
            raise
        sections = [(), (), ()]
    answers, authority, extra = sections
    return Reply(flags, flags & 0xF, end, message, (answers, authority, _before_options(extra)))


def _before_options(extra: tuple[codec.Placed, ...]) -> tuple[codec.Placed, ...]:
    for index, each in enumerate(extra):
        if each.type == codec.OPT:
            return extra[:index]
    return extra
