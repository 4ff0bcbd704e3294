"""Whether the ports that a pod asks of the machine are free, whoever decided that it goes there (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ondol.api import pod_ports
from ondol.base import host_ports
from ondol.base.host_ports import HostPort
from ondol.node.pods.model import Spec

REASON: Final = "NodePorts"
_MESSAGE: Final = (
    "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
)


def refusal(pod: Spec, others: Iterable[Spec]) -> str:
    """Why the node does not take it, in the kubelet's words; empty if no other pod has one of its ports."""
    asked = list(_ports(pod))
    is_taken = asked and host_ports.clash(asked, (port for other in others for port in _ports(other)))
    return _MESSAGE if is_taken else ""


def _ports(pod: Spec) -> Iterator[HostPort]:
    return (HostPort(*port) for port in pod_ports.of(pod))
