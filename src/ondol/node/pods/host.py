"""What every pod worker shares: the node's configuration, its engines and its caches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from ondol import sdk
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

    def cgroup_of(self, uid: str) -> str:
        return f"{self.config.cgroup}/pod{uid}"

    def record_path(self, uid: str) -> Path:
        return self.config.pod_dir(uid) / "record.json"

    def save(self, record: Record) -> None:
        path = self.record_path(record.uid)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        files.write(path, msgspec.json.encode(record))

    def records(self) -> list[Record]:
        """Every pod the disk knows of; a record that cannot be read is treated as never written."""
        root = self.config.data_dir / "pods"
        found = [files.read(entry / "record.json") for entry in root.iterdir()] if root.exists() else []
        return [msgspec.json.decode(content, type=Record) for content in found if content]
