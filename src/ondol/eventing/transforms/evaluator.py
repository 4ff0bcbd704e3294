"""Evaluates expressions in processes that can be ended: a few, started when they are first needed."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from subprocess import PIPE
from typing import Final, Protocol

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from ondol.base import errors, log
from ondol.base.clock import Clock
from ondol.eventing.transforms import worker

LIMIT_S: Final = 2.0
"""How long one evaluation may take."""
_STARTING_S: Final = 20.0
"""More for a process that has to start first: the machine may be busy."""
_WORKERS: Final = 2
_ASKING_MAX: Final = 64
"""Questions of one owner at once; its senders try again."""
_MODULE: Final = "ondol.eventing.transforms.worker"


class Failed(errors.OndolError):
    """The expression has no value for this document, or is none; the message says why."""


class Exceeded(errors.OndolError):
    """The expression took longer than it may."""


class Evaluator(Protocol):
    """`Failed` and `Exceeded` say why there is no value."""

    async def evaluate(self, expression: str, document: bytes, *, owner: str = "") -> bytes | None:
        """The value of an expression for a document, both in JSON; None if it is nothing.

        `owner` is whose it is: nobody's expressions keep those of others waiting.
        """
        ...

    async def check(self, expression: str, *, owner: str = "") -> None:
        """Whether it is an expression at all."""
        ...


@dataclass(slots=True)
class _Worker:
    """A process that waits for a question, and its answers."""

    process: Process
    answers: BufferedByteReceiveStream
    is_new: bool = True


@dataclass(slots=True)
class _Share:
    """How many of one owner's questions are asked at once, and how many there are."""

    places: anyio.Semaphore
    asking: int = 0


class ProcessEvaluator:
    """Implements `Evaluator`; close it with `aclose`."""

    def __init__(self, clock: Clock, *, limit_s: float = LIMIT_S, workers: int = _WORKERS) -> None:
        self._clock = clock
        self._limit_s = limit_s
        self._places = anyio.Semaphore(workers)
        self._of_each = max(1, workers - 1)
        self._shares: dict[str, _Share] = {}
        """Of those who ask now."""
        self._idle: list[_Worker] = []
        self._log = log.get("evaluator")

    async def evaluate(self, expression: str, document: bytes, *, owner: str = "") -> bytes | None:
        with self._share(owner) as share:
            async with share.places:
                outcome, text = await self._ask(expression, document)
        if outcome == worker.FAILED:
            raise Failed(text.decode("utf-8", "replace"))
        return None if outcome == worker.NOTHING else text

    async def check(self, expression: str, *, owner: str = "") -> None:
        await self.evaluate(expression, b"", owner=owner)

    async def aclose(self) -> None:
        """End the processes that are idle; one that is asked ends with who asks."""
        idle, self._idle = self._idle, []
        for each in idle:
            await _end(each)

    @contextmanager
    def _share(self, owner: str) -> Iterator[_Share]:
        """What one owner may have of the processes: never all of them, and no endless queue."""
        share = self._shares.setdefault(owner, _Share(anyio.Semaphore(self._of_each)))
        if share.asking >= _ASKING_MAX:
            raise Exceeded("too many events wait to be transformed")
        share.asking += 1
        try:
            yield share
        finally:
            share.asking -= 1
            if not share.asking:
                del self._shares[owner]

    async def _ask(self, expression: str, document: bytes) -> tuple[int, bytes]:
        text = expression.encode()
        request = worker.REQUEST.pack(len(text), len(document)) + text + document
        async with self._places, self._taken() as taken:
            limit_s = self._limit_s + (_STARTING_S if taken.is_new else 0.0)
            answer: tuple[int, bytes] | None = None
            with self._clock.move_on_after(limit_s):
                answer = await _converse(taken, request)
            if answer is None:
                raise Exceeded(f"the expression takes longer than {self._limit_s:g} s")
            taken.is_new = False
            return answer

    @asynccontextmanager
    async def _taken(self) -> AsyncIterator[_Worker]:
        """A process that nobody else asks; it is ended unless it has answered in full."""
        taken = self._idle.pop() if self._idle else await _start()
        try:
            yield taken
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await _end(taken)
            if isinstance(error, anyio.EndOfStream | anyio.BrokenResourceError | anyio.IncompleteRead):
                self._log.warning("evaluator_ended", returncode=taken.process.returncode)
                raise Failed("the expression ended its process: it takes too much memory") from error
            raise
        self._idle.append(taken)


async def _start() -> _Worker:
    process = await anyio.open_process([sys.executable, "-m", _MODULE], stdin=PIPE, stdout=PIPE, stderr=None)
    if process.stdout is None:
        raise AssertionError("the process has an output, for it was asked for")
    return _Worker(process, BufferedByteReceiveStream(process.stdout))


async def _end(ended: _Worker) -> None:
    if ended.process.returncode is None:
        ended.process.kill()
    await ended.process.aclose()


async def _converse(asked: _Worker, request: bytes) -> tuple[int, bytes]:
    if asked.process.stdin is None:
        raise AssertionError("the process has an input, for it was asked for")
    await asked.process.stdin.send(request)
    outcome, length = worker.ANSWER.unpack(await asked.answers.receive_exactly(worker.ANSWER.size))
    return outcome, await asked.answers.receive_exactly(length) if length else b""
