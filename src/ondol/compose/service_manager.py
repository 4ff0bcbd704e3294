"""What a service manager is told of the platform, by the datagrams of sd_notify(3); nothing without one."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

_ADDRESS: Final = "NOTIFY_SOCKET"


def ready(environment: Mapping[str, str] = os.environ) -> None:
    """Everything serves: at the start, and again after `reloading`."""
    _tell("READY=1\nSTATUS=Every part serves", environment)


def reloading(environment: Mapping[str, str] = os.environ) -> None:
    """Newer code is about to go on in this process."""
    clock_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    _tell(f"RELOADING=1\nMONOTONIC_USEC={clock_us}\nSTATUS=Going on as the installed version", environment)


def stopping(environment: Mapping[str, str] = os.environ) -> None:
    _tell("STOPPING=1", environment)


def _tell(text: str, environment: Mapping[str, str]) -> None:
    """An address that begins with @ is of the abstract namespace. Who is not there is not told."""
    address = environment.get(_ADDRESS, "")
    if address[:1] not in ("/", "@"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
        manager.send(text.encode())
