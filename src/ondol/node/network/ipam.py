"""Addresses for pods out of the node's range: one a pod, kept on disk, not used again for a while.

The next address follows the last one given out, so a freed address comes back only after the whole
range went round: clients that still hold it meet nobody, not somebody else.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

from ondol.base import errors, files, log
from ondol.base.reserve import Reserve

_log = log.get("node.network")


class AddressPool:
    """`take` and `give_back` by owner (the pod's uid); each change is on disk when they return.

    On a full disk they are written in the space of the node's reserve.
    """

    def __init__(self, network: ipaddress.IPv4Network, path: Path, reserve: Reserve) -> None:
        self._network = network
        self._reserve = reserve
        self._path = path
        self._owners: dict[str, int] = {}
        self._last = 1
        content = files.read(path)
        if content is not None:
            self._read(content)

    @property
    def gateway(self) -> ipaddress.IPv4Address:
        """The first address: the bridge's own."""
        return self._network[1]

    def owners(self) -> list[str]:
        return list(self._owners)

    def take(self, owner: str) -> ipaddress.IPv4Address:
        """The owner's address: the one it has, else the next free one."""
        if owner not in self._owners:
            offset = self._next_free()
            self._keep({**self._owners, owner: offset}, offset)
        return self._network[self._owners[owner]]

    def reserve(self, owner: str, address: ipaddress.IPv4Address) -> None:
        """What the owner is known to have, should the pool have forgotten it."""
        if owner not in self._owners and address in self._network:
            offset = int(address) - int(self._network.network_address)
            self._keep({**self._owners, owner: offset}, self._last)

    def give_back(self, owner: str) -> None:
        if owner in self._owners:
            self._keep({name: offset for name, offset in self._owners.items() if name != owner}, self._last)

    def _next_free(self) -> int:
        taken = set(self._owners.values())
        span = self._network.num_addresses - 3  # without network, gateway and broadcast
        for step in range(1, span + 1):
            offset = 2 + (self._last - 2 + step) % span
            if offset not in taken:
                return offset
        raise errors.HostError(
            f"no free address in {self._network}",
            remedy="delete pods, or give the instance a larger pod range",
        )

    def _read(self, content: bytes) -> None:
        try:
            self._load(json.loads(content))
        except ValueError as error:
            _log.warning("addresses_unreadable", path=str(self._path), error=str(error))

    def _load(self, document: dict[str, object]) -> None:
        if document.get("network") != str(self._network):
            return  # the range was changed: every sandbox is made anew with it
        owners = document.get("owners")
        self._owners = {str(k): int(v) for k, v in owners.items()} if isinstance(owners, dict) else {}
        self._last = int(str(document.get("last", 1)))

    def _keep(self, owners: dict[str, int], last: int) -> None:
        """Write, then remember: one that could not be written is written when it is tried again."""
        document = {"network": str(self._network), "last": last, "owners": owners}
        content = json.dumps(document).encode()
        self._reserve.write(lambda: files.replace(self._path, content, durable=False))
        self._owners, self._last = owners, last
