"""Which nodes a pod may run on, and which of them is best. Pure.

Each filter answers with Kubernetes' own words for why a node will not do; they are counted and shown
in the pod's condition and in its FailedScheduling event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ondol.api.objects import Object
from ondol.base import host_ports
from ondol.base.host_ports import HostPort
from ondol.controllers.scheduler import matching, peers, scores
from ondol.controllers.scheduler.accounts import PODS, Accounts, Demand, Usage, demand
from ondol.controllers.scheduler.hosts import Fleet, Host
from ondol.controllers.scheduler.peers import Cluster, Namespaces, Peers
from ondol.controllers.scheduler.volumes import LASTING as LASTING_OF_VOLUMES
from ondol.controllers.scheduler.volumes import Needs

_NO_VOLUMES: Final = Needs()
UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
NO_PORT: Final = "node(s) didn't have free ports for the requested pod ports"
_UNTAKEN: Final = {"key": UNSCHEDULABLE, "effect": "NoSchedule"}
_SILENT: Final = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
"""The taint of a node that is not ready, which comes a little later than its condition."""
_CORDONED: Final = "node(s) were unschedulable"
_NOT_ASKED: Final = "node(s) didn't match Pod's node affinity/selector"
_TAINTED: Final = "node(s) had untolerated taint(s)"
_NOT_READY: Final = "node(s) were not ready"
LASTING: Final = frozenset(
    {_CORDONED, _NOT_ASKED, _TAINTED, _NOT_READY, peers.NO_AFFINITY, peers.NO_DOMAIN, *LASTING_OF_VOLUMES}
)
"""Reasons that no pod's going away would change."""
_COMPARED_MAX: Final = 100
"""So many fitting nodes are compared, the least that kube-scheduler compares of a large cluster."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The node chosen, or none and the reason why, with the reasons of each node that refused."""

    node: str = ""
    reason: str = ""
    refusals: Mapping[str, Sequence[str]] = field(default_factory=dict, compare=False)
    examined: int = field(default=0, compare=False)
    """How many nodes were looked at; the next pod may begin behind them."""


def choose(
    pod: Object,
    fleet: Fleet,
    accounts: Accounts,
    namespaces: Namespaces,
    in_use: Callable[[], Collection[HostPort]] = frozenset,
    *,
    volumes: Needs = _NO_VOLUMES,
    start: int = 0,
) -> Choice:
    """The best node the pod fits on; among equals the one whose name comes first.

    `in_use` is asked for the ports of the nodes' machine that others than pods have, if the pod asks
    for any. `volumes` are what the pod needs of claims. Of many nodes only some are looked at, from the one
    at `start` on, until enough fit.
    """
    hosts = fleet.hosts
    if not hosts:
        return Choice(reason="no nodes available to schedule pods")
    if volumes.problem:
        return Choice(reason=f"0/{len(hosts)} nodes are available: {volumes.problem}.")
    cluster = Cluster(fleet, accounts, namespaces)
    trial = Trial(pod, cluster, in_use)
    fitting: list[Host] = []
    refusals: dict[str, list[str]] = {}
    examined = 0
    for host in _from(hosts, start):
        examined += 1
        against = [*trial.refusal(host), *volumes.refusal(host.node)]
        if against:
            refusals[host.name] = against
            continue
        fitting.append(host)
        if len(fitting) >= _COMPARED_MAX:
            break
    if fitting:
        best = scores.best(pod, trial.needs, fitting, cluster)
        return Choice(best.name, examined=examined)
    return Choice(reason=summary(len(hosts), refusals.values()), refusals=refusals, examined=examined)


def _from(hosts: Sequence[Host], start: int) -> Iterator[Host]:
    for offset in range(len(hosts)):
        yield hosts[(start + offset) % len(hosts)]


def summary(count: int, refusals: Iterable[Sequence[str]]) -> str:
    """The reasons of all nodes with how many have each, in order of their text."""
    counted = Counter(reason for reasons in refusals for reason in reasons)
    listed = ", ".join(sorted(f"{many} {reason}" for reason, many in counted.items()))
    return f"0/{count} nodes are available: {listed}."


class Trial:
    """One pod held against nodes, one by one."""

    def __init__(
        self,
        pod: Object,
        cluster: Cluster,
        in_use: Callable[[], Collection[HostPort]] = frozenset,
    ) -> None:
        self.pod = pod
        self.needs = demand(pod)
        self.cluster = cluster
        self._peers = Peers(pod, cluster)
        self._taken = in_use() if self.needs.ports else ()

    def refusal(self, host: Host) -> list[str]:
        """Why the pod cannot run there."""
        usage = self.cluster.accounts.usage_for(self.pod, host.name)
        against = refusal(self.pod, self.needs, host, usage, self._taken)
        return [*against, *self._peers.refusal(host)] if self._peers.matter else against

    def fits_without(self, host: Host, usage: Usage, gone: Iterable[Object]) -> bool:
        """Whether it could run there once these pods are gone; `usage` is what is then taken of the node."""
        if refusal(self.pod, self.needs, host, usage, self._taken):
            return False
        return not any(Peers(self.pod, self.cluster.without(gone)).refusal(host))


def refusal(
    pod: Object, needs: Demand, host: Host, usage: Usage, in_use: Collection[HostPort] = ()
) -> list[str]:
    """Why the pod cannot run there; the first filter that refuses speaks, resources all at once."""
    if host.is_unschedulable and not matching.is_tolerated(pod, _UNTAKEN):
        return [_CORDONED]
    if not matching.is_selected(pod, host):
        return [_NOT_ASKED]
    if host.taints and matching.untolerated(pod, host.taints):
        return [_TAINTED]
    if not host.is_ready and not matching.is_tolerated(pod, _SILENT):
        return [_NOT_READY]
    if needs.ports and host_ports.clash(needs.ports, (*usage.ports, *in_use)):
        return [NO_PORT]
    return _lacking(needs, host, usage)


def _lacking(needs: Demand, host: Host, usage: Usage) -> list[str]:
    room = host.room
    lacking = [
        name
        for name, amount in needs.resources.items()
        if amount and usage.resources[name] + amount > room[name] and (name != PODS or name in room)
    ]
    return ["Too many pods" if name == PODS else f"Insufficient {name}" for name in lacking]
