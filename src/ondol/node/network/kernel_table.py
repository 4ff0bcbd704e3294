"""Puts a table into the kernel: by what differs from what is there, or whole.

Whole at first, after whatever went wrong, and where somebody else had a hand in it. That of 300
Services takes nftables 80 ms when it is whole, what one change differs by less than 5.

Who has changed what is told by the kernel's count of all changes (its generation) and, where others of the
machine have moved that on, by a digest of the table, which takes 3 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio
import anyio.to_thread

from ondol.base import errors, log
from ondol.node.network import netlink, nft, nft_table
from ondol.node.network.nft_table import Table

_log = log.get("node.network")


@dataclass(frozen=True, slots=True)
class Kernel:
    """What is asked of the kernel."""

    run: Callable[[str], object] = nft.run
    """Carries out a batch in one transaction; `HostError` when it is refused."""
    generation: Callable[[], int] = netlink.generation
    digest: Callable[[Table], bytes] = lambda table: netlink.ip_table_digest(
        table.name.partition(" ")[2], table.sets
    )


class KernelTable:
    """`put` it whenever it may have changed, `check` it now and then."""

    def __init__(self, kernel: Kernel | None = None) -> None:
        self._kernel = kernel or Kernel()
        self._lock = anyio.Lock()
        self._table: Table | None = None
        """What the kernel has; None where that is not sure."""
        self._generation: int | None = None
        """Of all rules of the machine, when nobody but us had changed ours; None where that is not sure."""
        self._digest = b""
        """Of the kernel's own form of `_table`, once it was asked for."""

    async def put(self, table: Table) -> None:
        """`HostError` when the kernel does not take it."""
        async with self._lock:
            if table != self._table:
                await anyio.to_thread.run_sync(self._put, table)

    async def check(self) -> bool:
        """Whether what was put is there still. If not, it is put whole at the next `put`."""
        async with self._lock:
            return await anyio.to_thread.run_sync(self._check)

    def _put(self, table: Table) -> None:
        before, self._table = self._table, None
        if before is None or not self._changed(before, table):
            self._run(nft_table.whole(table), is_whole=True)
        self._table = table

    def _changed(self, before: Table, table: Table) -> bool:
        try:
            self._run(nft_table.difference(before, table), is_whole=False)
        except errors.HostError as error:
            _log.info("table_programmed_anew", table=table.name, error=str(error))
            return False
        return True

    def _run(self, batch: str, *, is_whole: bool) -> None:
        """What it leads to is sure where nobody has changed anything since the last one, or beside it."""
        before = self._kernel.generation()
        is_sure = is_whole or before == self._generation
        self._generation, self._digest = None, b""
        self._kernel.run(batch)
        after = self._kernel.generation()
        if is_sure and after == before + 1:
            self._generation = after

    def _check(self) -> bool:
        if self._table is None:
            return False
        generation = self._kernel.generation()
        digest = self._digest
        if generation != self._generation or not digest:
            digest = self._kernel.digest(self._table)
        is_ours = generation == self._generation or (self._digest and digest == self._digest)
        if not is_ours:
            self._table = None
            return False
        if self._kernel.generation() == generation:
            self._generation, self._digest = generation, digest
        return True
