"""Where hosts are, for connections that are not HTTP.

Services by the platform's name server, others by this machine's; never what nothing may be sent to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from ondol.base import addresses, errors
from ondol.contracts import cluster

_SERVICE: Final = ".svc"


class Dialing:
    """`resolve` asks the platform's name server; `may_dial` judges addresses. Without them all is as here."""

    def __init__(
        self,
        resolve: Callable[[str], Awaitable[str]] | None = None,
        may_dial: Callable[[str], bool] | None = None,
    ) -> None:
        self._resolve = resolve
        self._may_dial = may_dial

    async def __call__(self, host: str) -> str:
        """An address of the host; `Unavailable` if it has none, or none that may be reached."""
        address = await self._of_service(host)
        if address:
            candidates = [address]
        elif addresses.parsed(host) is not None:
            candidates = [host]
        else:
            candidates = await _of_machine(host)
        for candidate in candidates:
            if self._may_dial is None or self._may_dial(candidate):
                return candidate
        raise errors.Unavailable(f"{host} is an address that nothing may be sent to from here")

    async def _of_service(self, host: str) -> str:
        """The address of a service of the cluster; nothing if the host is none."""
        full = _full(host)
        if self._resolve is None or not full:
            return ""
        try:
            return await self._resolve(full)
        except errors.Unavailable:
            if full == f"{host}{_SERVICE}.{cluster.DOMAIN}":
                return ""  # a host of two labels may as well be anywhere
            raise


def _full(host: str) -> str:
    """The full name of a service; nothing if the host is none by its name."""
    lowered = host.lower().rstrip(".")
    if lowered.endswith(f"{_SERVICE}.{cluster.DOMAIN}"):
        return lowered
    if lowered.endswith(_SERVICE):
        return f"{lowered}.{cluster.DOMAIN}"
    is_address = addresses.parsed(lowered) is not None
    return f"{lowered}{_SERVICE}.{cluster.DOMAIN}" if lowered.count(".") == 1 and not is_address else ""


async def _of_machine(host: str) -> list[str]:
    try:
        resolved = await anyio.getaddrinfo(host, None)
    except OSError as error:
        raise errors.Unavailable(f"{host} has no address: {error}") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in resolved))
