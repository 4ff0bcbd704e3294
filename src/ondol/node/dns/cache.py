"""What other name servers answered, for as long as it holds; the oldest go when there are too many."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from ondol.base.clock import Clock
from ondol.node.dns import codec
from ondol.node.dns.codec import Question
from ondol.node.dns.replies import Reply

_ENTRIES_MAX: Final = 4096
_MESSAGE_MAX: Final = 4096
_TTL_MAX_S: Final = 30.0
_FAILURE_S: Final = 5.0
"""For how long a failure is remembered (RFC 2308)."""
_STALE_MAX_S: Final = 3600.0

Key = tuple[str, int, int, bool, bool, bool]


def key_of(question: Question) -> Key:
    """Questions of one key have one answer."""
    wants_signatures = question.edns is not None and question.edns.wants_signatures
    return (
        question.name,
        question.type,
        question.kind,
        question.recursion_desired,
        question.checking_disabled,
        wants_signatures,
    )


@dataclass(frozen=True, slots=True)
class Entry:
    reply: Reply
    since_s: float
    """Monotonic time, as in `until_s`."""
    until_s: float

    @property
    def kind(self) -> str:
        """As CoreDNS counts: `denial` of what there is not, else `success`."""
        return "success" if self.reply.code == codec.NOERROR and self.reply.sections[0] else "denial"


class Cache:
    """At most so many entries, each at most 30 s: as CoreDNS has it for Kubernetes."""

    def __init__(self, clock: Clock, entries_max: int = _ENTRIES_MAX) -> None:
        self._clock = clock
        self._entries_max = entries_max
        self._entries: OrderedDict[Key, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def fresh(self, key: Key) -> Entry | None:
        """What holds still."""
        entry = self._entries.get(key)
        if entry is None or entry.until_s <= self._clock.monotonic():
            return None
        self._entries.move_to_end(key)
        return entry

    def stale(self, key: Key) -> Entry | None:
        """What held within the last hour, for when nobody answers (RFC 8767); never a failure."""
        entry = self._entries.get(key)
        if entry is None or entry.reply.code not in (codec.NOERROR, codec.NXDOMAIN):
            return None
        return entry if self._clock.monotonic() < entry.until_s + _STALE_MAX_S else None

    def age_s(self, entry: Entry) -> int:
        return int(self._clock.monotonic() - entry.since_s)

    def keep(self, key: Key, reply: Reply) -> None:
        """Keep a reply if it holds for some time; one that was cut, or is big, does not."""
        holds_s = min(float(reply.ttl_s), _TTL_MAX_S)
        if reply.code not in (codec.NOERROR, codec.NXDOMAIN):
            holds_s = _FAILURE_S if reply.code == codec.SERVFAIL and self.stale(key) is None else 0.0
        if holds_s <= 0 or reply.is_cut or len(reply.message) > _MESSAGE_MAX:
            return
        now = self._clock.monotonic()
        self._entries[key] = Entry(reply, now, now + holds_s)
        self._entries.move_to_end(key)
        while len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)
