"""What every pod worker shares: the node's configuration, its engines and its caches."""

from __future__ import annotations

from dataclasses import dataclass

from ondol import sdk
from ondol.base.clock import Clock
from ondol.base.reserve import Reserve
from ondol.client import Client
from ondol.node.config import NodeConfig
from ondol.node.images.images import Images
from ondol.node.images.rootfs import RootFolders
from ondol.node.network.ipam import AddressPool
from ondol.node.network.sandbox import Network
from ondol.node.pods.records import Records
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
    records: Records
    reserve: Reserve
    """What records and addresses are written in on a full disk."""
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
