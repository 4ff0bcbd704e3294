"""Keeps streams from growing without end: forgets what all have had, beyond the history for replays.

It looks some time after events came in, and when the oldest history ends; while nothing comes, it sleeps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from ondol.base import errors, log
from ondol.base.clock import Clock
from ondol.base.signal import Signal
from ondol.eventing.delivery import trimming
from ondol.eventing.delivery.trimming import History, Mark
from ondol.eventing.journal.port import Journal

_PAUSE_S: Final = 30.0
_MARKS_MAX: Final = 512
_PART: Final = 8
_PART_BYTES_MIN: Final = 4 << 20


class Trimmer:
    """Trims the streams that it was told to `keep`."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self.lost: dict[str, int] = {}
        """Messages that a stream has lost to its medium, by stream."""
        self._journal = journal
        self._clock = clock
        self._histories: dict[str, History] = {}
        self._dropped: dict[str, Callable[[int], None]] = {}
        self._marks: dict[str, deque[Mark]] = {}
        self._dirty: set[str] = set()
        self._signal = Signal()
        self._urgent = Signal()
        self._grown: dict[str, int] = {}
        """Bytes that came into a stream since it was looked at, as far as they were told."""
        self._log = log.get("trimmer")

    def keep(
        self, stream: str, history: History, dropped: Callable[[int], None] = lambda _count: None
    ) -> None:
        """Trim it to this history from now on; `dropped` hears how many messages went each time."""
        self._histories[stream] = history
        self._dropped[stream] = dropped
        self._marks.setdefault(stream, deque(maxlen=_MARKS_MAX))
        self.touch(stream)

    def drop(self, stream: str) -> None:
        self._histories.pop(stream, None)
        self._dropped.pop(stream, None)
        self._marks.pop(stream, None)
        self.lost.pop(stream, None)

    def touch(self, stream: str, size_bytes: int = 0) -> None:
        """Messages came in; if they are told to be a good part of what is kept it is looked at soon."""
        self._dirty.add(stream)
        if not self._signal.is_set:
            self._signal.set()
        if size_bytes and stream in self._histories:
            self._grown[stream] = self._grown.get(stream, 0) + size_bytes
            if self._grown[stream] > max(_PART_BYTES_MIN, self._histories[stream].bytes_max // _PART):
                self._urgent.set()

    def damaged(self, lost: Mapping[str, int]) -> None:
        """Streams have lost so many messages each, which is said in words and counted."""
        for stream, count in lost.items():
            self.lost[stream] = self.lost.get(stream, 0) + count
            self._log.error(
                "stream_damaged",
                stream=stream,
                messages_lost=count,
                remedy="look into the log of the part nats, and at the disk",
            )

    async def run(self) -> None:
        while True:
            with self._clock.move_on_after(self._until_oldest_s()):
                await self._signal.wait()
            with self._clock.move_on_after(_PAUSE_S):
                await self._urgent.wait()
            self._signal.clear()
            self._urgent.clear()
            self._grown.clear()
            dirty, self._dirty = self._dirty, set()
            for stream in sorted(dirty | self._aged()):
                await self._look(stream)

    def _until_oldest_s(self) -> float:
        """When the first mark is as old as its stream's history."""
        now_s = self._clock.now()
        ends = [
            marks[0].at_s + self._histories[stream].age_max_s - now_s
            for stream, marks in self._marks.items()
            if marks
        ]
        return max(1.0, min(ends, default=float("inf")))

    def _aged(self) -> set[str]:
        now_s = self._clock.now()
        return {
            stream
            for stream, marks in self._marks.items()
            if marks and marks[0].at_s + self._histories[stream].age_max_s < now_s
        }

    async def _look(self, stream: str) -> None:
        history = self._histories.get(stream)
        if history is None:
            return
        try:
            await self._trim(stream, history)
        except errors.NotFound:
            return
        except errors.ApiError as error:
            self._log.warning("stream_not_trimmed", stream=stream, error=error.message)
            self._dirty.add(stream)
            self._signal.set()

    async def _trim(self, stream: str, history: History) -> None:
        state = await self._journal.state(stream)
        if state.lost > self.lost.get(stream, 0):
            self.damaged({stream: state.lost - self.lost.get(stream, 0)})
        consumers = (await self._journal.consumers(stream)).values()
        marks, now_s = self._marks.get(stream), self._clock.now()
        if marks is None:
            return  # it was dropped meanwhile
        # One that had all it wants is past what others alone want; it was asked after the stream was.
        floors = [each.floor if each.waiting or each.pending else state.last for each in consumers]
        bound = trimming.below(state, floors, history, marks, now_s)
        if bound is not None:
            count = await self._journal.trim(stream, bound)
            self._log.info("stream_trimmed", stream=stream, below=bound, messages=count)
            if (dropped := self._dropped.get(stream)) is not None:
                dropped(count)
            if state.size_bytes > history.bytes_max:
                self.touch(stream)  # messages differ in size: there may be too many still
        while marks and marks[0].at_s + history.age_max_s < now_s:
            marks.popleft()
        # A mark for each part of the history's age is enough: what is kept too long is that part at most.
        if not marks or (
            marks[-1].sequence < state.last and now_s - marks[-1].at_s > history.age_max_s / _MARKS_MAX
        ):
            marks.append(Mark(state.last, now_s))
