"""Publishing to one JetStream stream in groups: what waits while one group is made durable is the next one.

A group is one atomic batch, which the server syncs to the disk once, or single messages, each of which it
syncs: whichever was faster of late for so many. A batch has a price of its own, some six writes, which pays
from about sixteen messages on where the disk is fast, and from six where it is slow. It is refused as a
whole, for a duplicate in it most often: then its messages are sent one by one, and each has its own verdict.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from ondol.base import errors
from ondol.base.clock import Clock
from ondol.eventing.journal import documents
from ondol.eventing.journal.port import Full, Message
from ondol.eventing.journal.wire import Promise, Timer, soon

_BATCH_MIN: Final = 4
_SINGLE_S: Final = 0.0002
_BATCH_S: Final = 0.003
"""What one message by itself takes, and a batch, before either was measured."""
_WEIGHT: Final = 0.1
_GROUP_MAX: Final = 512
_GROUP_BYTES_MAX: Final = 4 << 20
_VERDICT_S: Final = 10.0
"""Longer than the slowest disk takes; then it is in doubt whether the message was kept."""
_MISSING: Final = 10059
_TOO_LARGE: Final = frozenset({10054, 10097})
"""As a whole, or in its headers."""
_VERSION: Final = b"NATS/1.0\r\n"


class Outlet(Protocol):
    """Sends; the handler of a `send` is called once with the answer, its header block and its payload."""

    def send(
        self, subject: bytes, headers: bytes, data: bytes, answered: Callable[[bytes, bytes], None] | None
    ) -> None: ...

    def answered(self, stream: str) -> None:
        """Something was kept."""

    def overdue(self, stream: str) -> None:
        """It was not said in time whether something is kept."""


@dataclass(slots=True)
class _Entry:
    message: Message
    promise: Promise


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Verdict(msgspec.Struct):
    """The server's answer to a publish."""

    seq: int = 0
    duplicate: bool = False
    error: _Error | None = None


_VERDICTS: Final = msgspec.json.Decoder(_Verdict)


class Commits:
    """The publisher of one stream; `name` makes its batches' ids unlike those of any other."""

    def __init__(self, stream: str, outlet: Outlet, name: str, clock: Clock) -> None:
        self._prefix = stream.encode() + b"."
        self._stream = stream
        self._outlet = outlet
        self._name = name.encode()
        self._clock = clock
        self._began_s = 0.0
        self._single_s, self._batch_s = _SINGLE_S, _BATCH_S
        self._queue: deque[_Entry] = deque()
        self._group: list[_Entry] = []
        self._unanswered = 0
        self._is_scheduled = False
        self._timer: Timer | None = None
        self._number = 0
        self._round = 0
        self.highest = 0
        """The last sequence that was acknowledged."""

    async def publish(self, message: Message) -> int:
        """The sequence of the message, once it is durable."""
        promise = Promise()
        self._queue.append(_Entry(message, promise))
        if not self._group and not self._is_scheduled:
            self._is_scheduled = True
            soon(self._next)
        sequence: int = await promise.kept()
        return sequence

    def fail(self, error: errors.ApiError) -> None:
        """Whatever is under way or waits is in doubt."""
        entries = [*self._group, *self._queue]
        self._queue.clear()
        self._finish()
        for entry in entries:
            entry.promise.shatter(error)

    def _answered(self) -> None:
        """The whole group was."""
        self._outlet.answered(self._stream)
        self._finish()

    def _finish(self) -> None:
        self._group, self._unanswered = [], 0
        self._round += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self) -> None:
        self._is_scheduled = False
        if self._group or not self._queue:
            return
        size_bytes = 0
        while self._queue and len(self._group) < _GROUP_MAX and size_bytes < _GROUP_BYTES_MAX:
            entry = self._queue.popleft()
            self._group.append(entry)
            size_bytes += len(entry.message.data)
        self._timer = Timer(_VERDICT_S, self._overdue)
        self._began_s = self._clock.monotonic()
        if self._pays():
            self._send_batch()
        else:
            self._send_singly()

    def _pays(self) -> bool:
        """Whether the group is better sent as a batch, and can be."""
        count = len(self._group)
        if count < _BATCH_MIN or count * self._single_s < self._batch_s:
            return False
        return len({entry.message.id for entry in self._group}) == count

    def _took_s(self) -> float:
        """How long the group took."""
        return self._clock.monotonic() - self._began_s

    def _overdue(self) -> None:
        group = self._group
        self._finish()
        self._outlet.overdue(self._stream)
        doubt = "the event journal did not say in time whether the event is kept"
        for entry in group:
            entry.promise.shatter(errors.Unavailable(doubt, retry_after_s=5))
        self._next()

    def _send_singly(self) -> None:
        self._unanswered = len(self._group)
        for entry in self._group:
            self._outlet.send(*self._parts(entry.message), self._single(entry, self._round))

    def _send_batch(self) -> None:
        self._number += 1
        last = len(self._group)
        for number, entry in enumerate(self._group, start=1):
            mark = b"Nats-Batch-Id:%s-%d\r\nNats-Batch-Sequence:%d\r\n" % (self._name, self._number, number)
            if number == last:
                mark += b"Nats-Batch-Commit:1\r\n"
            subject, headers, data = self._parts(entry.message)
            answered = self._batch(self._round) if number == last else None
            self._outlet.send(subject, _VERSION + mark + headers[len(_VERSION) :], data, answered)

    def _parts(self, message: Message) -> tuple[bytes, bytes, bytes]:
        identity = b"Nats-Msg-Id:%s\r\n" % message.id.encode() if message.id else b""
        headers = b"%s%s%s\r\n" % (_VERSION, identity, message.headers)
        return self._prefix + message.topic.encode(), headers, message.data

    def _single(self, entry: _Entry, round_: int) -> Callable[[bytes, bytes], None]:
        def answered(headers: bytes, payload: bytes) -> None:
            if round_ != self._round:
                return
            sequence = judge(self._stream, headers, payload)
            if isinstance(sequence, errors.ApiError):
                entry.promise.shatter(sequence)
            else:
                self.highest = max(self.highest, sequence)
                entry.promise.fulfil(sequence)
            self._unanswered -= 1
            if not self._unanswered:
                self._single_s += _WEIGHT * (self._took_s() / len(self._group) - self._single_s)
                self._answered()
                self._next()

        return answered

    def _batch(self, round_: int) -> Callable[[bytes, bytes], None]:
        def answered(headers: bytes, payload: bytes) -> None:
            if round_ != self._round:
                return
            last = judge(self._stream, headers, payload)
            if isinstance(last, errors.ApiError):
                self._send_singly()
                return
            group = self._group
            self._batch_s += _WEIGHT * (self._took_s() - self._batch_s)
            self._answered()
            self.highest = max(self.highest, last)
            for offset, entry in enumerate(group, start=last - len(group) + 1):
                entry.promise.fulfil(offset)
            self._next()

        return answered


def judge(stream: str, headers: bytes, payload: bytes) -> int | errors.ApiError:
    """The sequence that the server says the message has, or why it is not kept."""
    if headers:
        return errors.Unavailable(f"the event journal has no stream {stream} now")
    try:
        verdict: Any = _VERDICTS.decode(payload)
    except msgspec.DecodeError as error:
        return errors.Internal(f"the event journal answered what is not understood: {error}")
    if verdict.error is None:
        return int(verdict.seq)
    code, description = verdict.error.err_code, verdict.error.description
    if code in documents.NO_ROOM:
        return Full(f"the event journal has no room: {description}", retry_after_s=5)
    if code in _TOO_LARGE:
        return errors.TooLarge(f"the event is larger than the journal takes: {description}")
    if code == _MISSING:
        return errors.NotFound(f"the event journal has no stream {stream}")
    return errors.Unavailable(f"the event journal did not take the event: {description}", retry_after_s=1)
