"""The security of the mesh, its pure half: what is asked of calls that arrive at a workload.

`Policies` holds the objects of one world and says what is for which `Workload`; the answer makes Envoy's
filters, and `decide` answers a described call by it. Whoever builds listeners calls this; it does no I/O.
"""

from __future__ import annotations

from ondol.mesh.policy.context import Context
from ondol.mesh.policy.decision import Call, Decision, decide
from ondol.mesh.policy.hardening import harden
from ondol.mesh.policy.peers import Mode, PeerModes
from ondol.mesh.policy.selection import Policies, Workload, Workloads
from ondol.mesh.policy.workload import WorkloadPolicy

__all__ = [
    "Call",
    "Context",
    "Decision",
    "Mode",
    "PeerModes",
    "Policies",
    "Workload",
    "WorkloadPolicy",
    "Workloads",
    "decide",
    "harden",
]
