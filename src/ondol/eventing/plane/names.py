"""Addresses of services by the platform's own name server: this machine's resolver does not know them."""

from __future__ import annotations

import random
import struct
from typing import Final

import anyio

from ondol.base import errors
from ondol.base.clock import Clock

_TYPE_A: Final = 1
_CLASS_IN: Final = 1
_HEADER: Final = struct.Struct("!6H")
_RECORD: Final = struct.Struct("!HHIH")
_RECURSION: Final = 0x0100
_TIMEOUT_S: Final = 2.0
_TRIES: Final = 3
_KEPT_S: Final = 5.0
_KEPT_MAX: Final = 1024
_POINTER: Final = 0xC0


def question(host: str, number: int) -> bytes:
    """The packet that asks for the address of a host."""
    labels = b"".join(bytes([len(label)]) + label for label in host.encode("idna").split(b"."))
    return (
        _HEADER.pack(number, _RECURSION, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", _TYPE_A, _CLASS_IN)
    )


def answers(packet: bytes, number: int) -> list[str]:
    """The addresses that an answer has; `ValueError` if it is not the answer to that question."""
    try:
        answered, flags, questions, count, _, _ = _HEADER.unpack_from(packet)
        if answered != number or not flags & 0x8000:
            raise ValueError("this answers something else")
        position = _HEADER.size
        for _ in range(questions):
            position = _behind_name(packet, position) + 4
        addresses = []
        for _ in range(count):
            position = _behind_name(packet, position)
            kind, _, _, size = _RECORD.unpack_from(packet, position)
            position += _RECORD.size
            if kind == _TYPE_A and size == 4:
                addresses.append(".".join(map(str, packet[position : position + 4])))
            position += size
    except (struct.error, IndexError) as error:
        raise ValueError(f"the answer is cut short: {error}") from error
    return addresses


def _behind_name(packet: bytes, position: int) -> int:
    while (size := packet[position]) != 0:
        if size & _POINTER == _POINTER:
            return position + 2
        position += 1 + size
    return position + 1


class Resolver:
    """Asks one name server; what it says is believed for some seconds."""

    def __init__(self, server: str, port: int, *, clock: Clock, rng: random.Random) -> None:
        self._server = server
        self._port = port
        self._clock = clock
        self._rng = rng
        self._kept: dict[str, tuple[float, str]] = {}

    async def resolve(self, host: str) -> str:
        """An address of the host; `Unavailable` if there is none now."""
        now_s = self._clock.monotonic()
        kept = self._kept.get(host)
        if kept is not None and kept[0] > now_s:
            return kept[1]
        addresses = await self._ask(host)
        if not addresses:
            raise errors.Unavailable(f"{host} has no address")
        if len(self._kept) >= _KEPT_MAX:
            self._kept.clear()
        self._kept[host] = (now_s + _KEPT_S, self._rng.choice(addresses))
        return self._kept[host][1]

    async def _ask(self, host: str) -> list[str]:
        try:
            question(host, 0)
        except ValueError as error:
            raise errors.BadRequest(f"{host!a} is no host: {error}") from error
        for _ in range(_TRIES):
            number = self._rng.getrandbits(16)
            try:
                async with await anyio.create_connected_udp_socket(self._server, self._port) as socket:
                    await socket.send(question(host, number))
                    with self._clock.fail_after(_TIMEOUT_S):
                        return answers(await socket.receive(), number)
            except (OSError, ValueError, TimeoutError, anyio.BrokenResourceError):
                continue
        raise errors.Unavailable(f"the name server does not say where {host} is")
