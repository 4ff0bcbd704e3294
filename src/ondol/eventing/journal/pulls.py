"""Reading one JetStream consumer: as many messages are asked for as its reader can still take."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from ondol.eventing.journal.port import Deliver
from ondol.eventing.journal.wire import Connection, Timer

_EXPIRES_S: Final = 600
"""How long a request waits in the server; then it is made again."""
_BYTES_MAX: Final = 16 << 20
"""What the messages in hand may take; how many those are follows from the size of the last ones. A bound in
the request itself makes the server send but ten requests' worth a second."""
_WEIGHT: Final = 16
_FIRST: Final = 16
_AGAIN_S: Final = 0.5
_NS: Final = 1_000_000_000
_ACK: Final = b"+ACK"
_WORKING: Final = b"+WPI"
_PENDING: Final = b"Nats-Pending-Messages:"


class JetStreamDelivery:
    """Implements `port.Delivery`; its reply subject says what it is.

    `$JS.ACK.<stream>.<consumer>.<attempt>.<sequence>.<consumer's own sequence>.<time>.<waiting>`
    """

    __slots__ = ("_is_settled", "_pull", "_reply", "attempt", "data", "headers", "sequence", "time_ns")

    def __init__(self, pull: Pull, reply: bytes, headers: bytes, data: bytes) -> None:
        words = reply.split(b".")
        self.attempt = int(words[-5])
        self.sequence = int(words[-4])
        self.time_ns = int(words[-2])
        self.headers = headers[10:-2] if headers else b""
        self.data = data
        self._reply = reply
        self._pull = pull
        self._is_settled = False

    def ack(self) -> None:
        self._settle(_ACK)

    def retry(self, after_s: float) -> None:
        delay_ns = round(after_s * _NS)
        self._settle(b'-NAK {"delay":%d}' % delay_ns if delay_ns > 0 else b"-NAK")

    def forget(self) -> None:
        if not self._is_settled:
            self._is_settled = True
            self._pull.settled()

    def working(self) -> None:
        if not self._is_settled:
            self._pull.tell(self._reply, _WORKING)

    def _settle(self, word: bytes) -> None:
        if self._is_settled:
            return
        self._is_settled = True
        self._pull.tell(self._reply, word)
        self._pull.settled()


class Pull:
    """Implements `port.Subscription`."""

    def __init__(
        self,
        stream: str,
        name: str,
        deliver: Deliver,
        *,
        window: int,
        inbox: bytes,
        closed: Callable[[Pull], None],
    ) -> None:
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}".encode()
        self._inbox = inbox + b"pull." + name.encode()
        self._deliver = deliver
        self._window = window
        self._closed = closed
        self._connection: Connection | None = None
        self._sid = b""
        self._is_closed = False
        self._asked = 0
        """Messages that were asked for and did not come yet."""
        self._unsettled = 0
        self._again: Timer | None = None
        self._size_bytes = _BYTES_MAX // _FIRST

    def connected(self, connection: Connection) -> None:
        self._connection = connection
        self._asked = 0
        self._sid = connection.subscribe(self._inbox, self._received)
        self._ask()

    def disconnected(self) -> None:
        self._connection = None
        self._rest()

    def _rest(self) -> None:
        """There is no need to ask again."""
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def close(self) -> None:
        """Take no more; what is in hand can still be settled, as long as this connection lasts."""
        self._is_closed = True
        if self._connection is not None:
            self._connection.unsubscribe(self._sid)
        self._rest()
        self._closed(self)

    def tell(self, reply: bytes, word: bytes) -> None:
        """Send a word about a message; without a connection the server will deliver it again."""
        if self._connection is not None:
            self._connection.publish(reply, word)

    def settled(self) -> None:
        self._unsettled -= 1
        self._ask()

    def _ask(self) -> None:
        if self._is_closed:
            return
        window = min(self._window, max(1, _BYTES_MAX // self._size_bytes))
        free = window - self._unsettled - self._asked
        if self._connection is None or free <= 0 or (self._asked and free < window // 2):
            return
        if self._again is not None:
            return
        self._asked += free
        request = {"batch": free, "expires": _EXPIRES_S * _NS}
        self._connection.publish(self._next, json.dumps(request).encode(), self._inbox)

    def _received(self, _subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
        if not reply:
            self._status(headers)
            return
        self._asked = max(0, self._asked - 1)
        self._unsettled += 1
        self._size_bytes += (len(headers) + len(payload) - self._size_bytes) // _WEIGHT + 1
        self._deliver(JetStreamDelivery(self, reply, headers, payload))
        self._ask()

    def _status(self, headers: bytes) -> None:
        """A request ended before all it asked for came: `NATS/1.0 408 Request Timeout`."""
        code = headers[9:12]
        if code == b"100":
            return
        remaining = 0
        for line in headers.split(b"\r\n"):
            if line.startswith(_PENDING):
                remaining = int(line[len(_PENDING) :])
        self._asked = max(0, self._asked - remaining) if remaining else 0
        if code == b"408" or (code == b"409" and b"Size" in headers):
            self._ask()
        elif self._again is None:
            # The consumer is not there, or not yet: the server starts, or somebody has deleted it.
            self._again = Timer(_AGAIN_S, self._retry)

    def _retry(self) -> None:
        self._again = None
        self._ask()
