"""The process that evaluates expressions; `evaluator` starts it. It knows JSONata, and nothing else.

It reads requests from its standard input and writes an answer for each to its standard output:

    request   expression length, document length (4 bytes each), expression, document
    answer    outcome (1 byte), length (4 bytes), text

Without a document the expression is only parsed. Whoever waits too long for an answer ends the process; it
ends by itself should he have died meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import json
import resource
import signal
import struct
import sys
from typing import Any, BinaryIO, Final

import jsonata

REQUEST: Final = struct.Struct(">II")
ANSWER: Final = struct.Struct(">BI")
DONE, NOTHING, FAILED = range(3)
MEMORY_BYTES_MAX: Final = 512 << 20
ANSWER_BYTES_MAX: Final = 4 << 20
GIVE_UP_S: Final = 30.0
"""Longer than anybody waits for an answer."""
_COMPILED_MAX: Final = 64


@functools.lru_cache(_COMPILED_MAX)
def _compiled(expression: str) -> Any:
    return jsonata.Jsonata(expression)


def evaluate(expression: str, document: bytes) -> tuple[int, bytes]:
    """The outcome, and the value in JSON or the reason why there is none."""
    try:
        compiled = _compiled(expression)
        if not document:
            return DONE, b""
        value = compiled.evaluate(json.loads(document))
        if value is None:
            return NOTHING, b""
        text = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except Exception as error:  # noqa: BLE001 - whatever an expression does is told, and the next one is read
        return FAILED, (_reason(error)).encode("utf-8", "replace")
    if len(text) > ANSWER_BYTES_MAX:
        return FAILED, f"the value is larger than {ANSWER_BYTES_MAX} bytes".encode()
    return DONE, text


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "the expression calls itself too often"
    if isinstance(error, MemoryError):
        return "the expression takes too much memory"
    return str(error) or type(error).__name__


def serve(requests: BinaryIO, answers: BinaryIO, *, give_up_s: float = GIVE_UP_S) -> None:
    """Answer until nobody asks any more; an evaluation of `give_up_s` is the process's end (SIGALRM)."""
    while head := requests.read(REQUEST.size):
        expression_length, document_length = REQUEST.unpack(head)
        expression = requests.read(expression_length).decode()
        document = requests.read(document_length)
        signal.setitimer(signal.ITIMER_REAL, give_up_s)
        outcome, text = evaluate(expression, document)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(ANSWER.pack(outcome, len(text)) + text)
        answers.flush()


if __name__ == "__main__":
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    serve(sys.stdin.buffer, sys.stdout.buffer)
