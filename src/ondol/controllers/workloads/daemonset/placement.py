"""Which nodes a DaemonSet has a pod on. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ondol.api import objects
from ondol.api.objects import Object
from ondol.controllers.scheduler import hosts, matching
from ondol.controllers.workloads.daemonset import daemon_pods

_EXECUTED: Final = ("NoExecute",)


@dataclass(frozen=True, slots=True)
class Placement:
    """Whether a pod is made on a node, and whether one that is there may stay."""

    runs: bool
    stays: bool


_NOWHERE: Final = Placement(runs=False, stays=False)


def placement(daemon_set: Object, node: Object) -> Placement:
    """By the template's node name, selector, affinity, and the taints it does not tolerate.

    A taint that keeps new pods away lets those stay that are there, unless it is one that drives pods out.
    """
    spec = objects.spec(objects.spec(daemon_set).get("template") or {})
    pod = {"spec": {**spec, "tolerations": daemon_pods.tolerations(spec)}}
    if spec.get("nodeName") not in (None, "", objects.name(node)):
        return _NOWHERE
    host = hosts.of(node)
    if not matching.is_selected(pod, host):
        return _NOWHERE
    if matching.untolerated(pod, host.taints) is not None:
        return Placement(runs=False, stays=matching.untolerated(pod, host.taints, _EXECUTED) is None)
    return Placement(runs=True, stays=True)


def affects(old: Object | None, new: Object | None) -> bool:
    """Whether a change of a node may change where pods are."""
    if old is None or new is None:
        return True
    return objects.labels(old) != objects.labels(new) or (
        objects.spec(old).get("taints") != objects.spec(new).get("taints")
    )
