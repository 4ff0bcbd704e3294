"""The supervisor's end of a part's channel: bytes, and the sockets that come with them."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from typing import Final

_BYTES: Final = 65536
_SOCKETS_MAX: Final = 16


def received(channel: socket.socket) -> tuple[bytes, deque[socket.socket]]:
    """What has come, no bytes at its end; `BlockingIOError` if nothing has.

    The kernel ends a read behind the bytes that brought sockets, so these are in the order of their words.
    """
    try:
        data, descriptors, _, _ = socket.recv_fds(channel, _BYTES, _SOCKETS_MAX, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:  # it ended with words of ours unread
        return b"", deque()
    sockets: deque[socket.socket] = deque()
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            sockets.append(socket.socket(fileno=descriptor))
    return data, sockets
