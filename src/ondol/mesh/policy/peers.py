"""Which connections a workload takes: with mutual TLS only, without too, or without it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from ondol.mesh.model import security
from ondol.mesh.translate.registry import Rule

PeerAuthentication: TypeAlias = Rule[security.PeerAuthenticationSpec]


class Mode(StrEnum):
    STRICT = "STRICT"
    """Mutual TLS only."""
    PERMISSIVE = "PERMISSIVE"
    """Mutual TLS and plain connections."""
    DISABLE = "DISABLE"
    """Plain connections only."""


@dataclass(frozen=True, slots=True)
class PeerModes:
    """The mode of each port of a pod."""

    default: Mode = Mode.PERMISSIVE
    ports: Mapping[int, Mode] = field(default_factory=dict)

    def mode(self, port: int) -> Mode:
        return self.ports.get(port, self.default)

    @property
    def key(self) -> tuple[Mode, tuple[tuple[int, Mode], ...]]:
        """The same for equal modes."""
        return self.default, tuple(sorted(self.ports.items()))

    @property
    def modes(self) -> frozenset[Mode]:
        """All that occur."""
        return frozenset({self.default, *self.ports.values()})


@dataclass(frozen=True, slots=True)
class Layers:
    """The one object of each reach that counts: the oldest of those there are."""

    root: PeerAuthentication | None = None
    namespace: PeerAuthentication | None = None
    workload: PeerAuthentication | None = None

    @property
    def rules(self) -> tuple[PeerAuthentication, ...]:
        return tuple(each for each in (self.root, self.namespace, self.workload) if each is not None)

    def modes(self) -> PeerModes:
        """The closest that says something; UNSET says what the one around it does."""
        mode = Mode.PERMISSIVE
        for rule in self.rules:
            mode = _over(mode, rule.spec.mtls)
        ports = self.workload.spec.port_level_mtls if self.workload is not None else None
        return PeerModes(mode, {int(port): _over(mode, mtls) for port, mtls in (ports or {}).items()})


def _over(around: Mode, mtls: security.MutualTLS | None) -> Mode:
    return around if mtls is None or mtls.mode == "UNSET" else Mode(mtls.mode)
