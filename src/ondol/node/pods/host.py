"""What every pod worker shares: the node's configuration, its engines and its caches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from ondol import sdk
from ondol.base import log
from ondol.base.clock import Clock
from ondol.client import Client
from ondol.node import files
from ondol.node.config import NodeConfig
from ondol.node.images.images import Images
from ondol.node.images.rootfs import RootFolders
from ondol.node.network.ipam import AddressPool
from ondol.node.network.sandbox import Network
from ondol.node.pods.model import Record
from ondol.node.pods.sources import Sources
from ondol.node.runtime.port import Runtime

_log = log.get("node.pod")


@dataclass(frozen=True, slots=True)
class Host:
    config: NodeConfig
    client: Client
    clock: Clock
    recorder: sdk.EventRecorder
    runtime: Runtime
    images: Images
    roots: RootFolders
    network: Network
    addresses: AddressPool
    sources: Sources
    boot: str
    memory_bytes: int
    allocatable: dict[str, str]
    oom_score_adj: int
    kernel: str
    """As `uname -r` has it."""
    also_masked: tuple[str, ...]
    also_read_only: tuple[str, ...]
    """What containers do not see, and may not write, of this machine beside what is so on all."""

    def cgroup_of(self, uid: str) -> str:
        return f"{self.config.cgroup}/pod{uid}"

    def record_path(self, uid: str) -> Path:
        return self.config.pod_dir(uid) / "record.json"

    def save(self, record: Record) -> None:
        path = self.record_path(record.uid)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        files.write(path, msgspec.json.encode(record))

    def records(self) -> list[Record]:
        """Every pod the disk knows of."""
        return read_records(self.config.data_dir)


def read_records(data_dir: Path) -> list[Record]:
    """The records below the data directory; one that cannot be read counts as never written.

    What belonged to it is then found to belong to nobody and is removed, and its pod starts anew.
    """
    found: list[Record] = []
    for path in sorted((data_dir / "pods").glob("*/record.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Record))
        except msgspec.DecodeError as error:
            _log.warning("record_unreadable", path=str(path), error=str(error))
    return found
