"""The documents of JetStream's API: what is asked for, and what its answers mean. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ondol.base import errors
from ondol.eventing.journal.port import (
    ACK_WAIT_S,
    DUPLICATES_S,
    PENDING_MAX,
    ConsumerConfig,
    ConsumerState,
    Damaged,
    Full,
    Stored,
    StreamState,
)

_NS: Final = 1_000_000_000
_STREAM_NAME_IN_USE: Final = 10058
_STREAM_OFFLINE: Final = frozenset({10118, 10194})
NO_ROOM: Final = frozenset({10002, 10023, 10028, 10047, 10077, 10104})
"""Errors of the server that say that there is none for a stream or a message."""
_NO_MESSAGE: Final = frozenset({10037, 10043, 10057})
_OWN: Final = (b"Nats-",)
_NEVER: Final = "0001-01-01T00:00:00Z"


def answer(payload: bytes) -> dict[str, Any]:
    """The document of an answer; an `ApiError` if it is a refusal."""
    document: dict[str, Any] = json.loads(payload)
    error = document.get("error")
    if not error:
        return document
    code, number = int(error.get("code") or 500), int(error.get("err_code") or 0)
    words = f"the event journal refused: {error.get('description', code)}"
    if number == _STREAM_NAME_IN_USE:
        raise errors.AlreadyExists(words)
    if number in _STREAM_OFFLINE:
        raise Damaged(f"{words}. Look into the log of the part nats, and at the disk")
    if number in NO_ROOM:
        raise Full(words, retry_after_s=5)
    if code == 404 or number in _NO_MESSAGE:
        raise errors.NotFound(words)
    if code == 503:
        raise errors.Unavailable(words, retry_after_s=1)
    raise errors.Internal(words)


def stream(name: str, bytes_max: int) -> dict[str, Any]:
    """A stream that refuses what it has no room for, and forgets nothing by itself."""
    return {
        "name": name,
        "subjects": [f"{name}.*"],
        "retention": "limits",
        "discard": "new",
        "storage": "file",
        "num_replicas": 1,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": bytes_max,
        "max_age": 0,
        "duplicate_window": round(DUPLICATES_S * _NS),
        "allow_direct": True,
        "allow_atomic": True,
    }


def stream_state(document: Mapping[str, Any]) -> StreamState:
    state = document["state"]
    lost = (state.get("lost") or {}).get("msgs") or ()
    return StreamState(
        messages=int(state["messages"]),
        size_bytes=int(state["bytes"]),
        first=int(state["first_seq"]),
        last=int(state["last_seq"]),
        first_time_ns=nanoseconds(state.get("first_ts") or _NEVER),
        last_time_ns=nanoseconds(state.get("last_ts") or _NEVER),
        lost=len(lost),
    )


def consumer(
    stream_name: str, config: ConsumerConfig, existing: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The request that makes a consumer, or changes one; None where it is as it should be."""
    topics = [f"{stream_name}.{topic}" for topic in config.topics]
    if existing is not None:
        current = dict(existing["config"])
        subjects = current.get("filter_subjects") or (
            [current["filter_subject"]] if current.get("filter_subject") else []
        )
        if sorted(subjects) == sorted(topics):
            return None
        current.pop("filter_subject", None)
        current["filter_subjects"] = topics
        return {"stream_name": stream_name, "config": current, "action": "update"}
    start: dict[str, Any] = {"deliver_policy": "new"}
    if config.from_sequence:
        start = {"deliver_policy": "by_start_sequence", "opt_start_seq": config.from_sequence}
    return {
        "stream_name": stream_name,
        "action": "create",
        "config": {
            "name": config.name,
            "durable_name": config.name,
            "ack_policy": "explicit",
            "ack_wait": round(ACK_WAIT_S * _NS),
            "max_deliver": -1,
            "max_ack_pending": PENDING_MAX,
            "max_waiting": 16,
            "replay_policy": "instant",
            "filter_subjects": topics,
            **start,
        },
    }


def consumer_state(document: Mapping[str, Any]) -> ConsumerState:
    return ConsumerState(
        floor=int(document["ack_floor"]["stream_seq"]),
        waiting=int(document.get("num_pending") or 0),
        pending=int(document.get("num_ack_pending") or 0),
        redelivered=int(document.get("num_redelivered") or 0),
    )


def stored(headers: bytes, payload: bytes) -> Stored:
    """A message of a direct read, whose place stands in headers beside those it was kept with."""
    own: list[bytes] = []
    place: dict[bytes, bytes] = {}
    for line in headers.split(b"\r\n")[1:]:
        if line.startswith(_OWN):
            name, _, value = line.partition(b":")
            place[name] = value.strip()
        elif line:
            own.append(line + b"\r\n")
    return Stored(
        sequence=int(place[b"Nats-Sequence"]),
        time_ns=nanoseconds(place[b"Nats-Time-Stamp"].decode()),
        topic=place[b"Nats-Subject"].rpartition(b".")[2].decode(),
        headers=b"".join(own),
        data=payload,
    )


def nanoseconds(text: str) -> int:
    """The nanoseconds since the Unix epoch of a time such as `2024-05-01T10:00:00.123456789Z`."""
    if text.startswith(_NEVER[:10]):
        return 0
    whole, _, rest = text.partition(".")
    fraction = ""
    if rest:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        fraction, zone = rest[:digits], rest[digits:]
        whole += zone
    moment = datetime.fromisoformat(whole)
    return int(moment.timestamp()) * _NS + int(fraction.ljust(9, "0")[:9] or 0)


def time(since_ns: int) -> str:
    """The same the other way round."""
    moment = datetime.fromtimestamp(since_ns // _NS, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{since_ns % _NS:09d}Z"
