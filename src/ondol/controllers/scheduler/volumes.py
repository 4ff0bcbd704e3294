"""The claims of a pod that is to be scheduled: where it may run for them, and what is still to bind. Pure.

Claims of classes that wait for the first consumer get their node with the pod: its name is written on them,
or a volume of that node is reserved. The pod is bound when all its claims are, as in Kubernetes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ondol.api import objects, pods, volumes
from ondol.api.objects import Object
from ondol.controllers.storage import matching

NODE_CONFLICT: Final = "node(s) didn't match PersistentVolume's node affinity"
BIND_CONFLICT: Final = "node(s) didn't find available persistent volumes to bind"
NO_VOLUME: Final = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
ONE_POD: Final = (
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by "
    "another pod"
)
LASTING: Final = frozenset({NODE_CONFLICT, BIND_CONFLICT, NO_VOLUME})
"""Reasons that no pod's going away would change."""
_ONCE_POD: Final = "ReadWriteOncePod"


@dataclass(frozen=True, slots=True)
class State:
    """What there is in the cluster."""

    claims: Callable[[str, str], Object | None]
    """By namespace and name."""
    volumes: Mapping[str, Object] = field(default_factory=dict)
    classes: Mapping[str, Object] = field(default_factory=dict)
    users: Callable[[str, str], Sequence[Object]] = lambda _namespace, _claim: ()
    """The pods with a node that use a claim."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What is to be written so that a claim gets its volume on the chosen node."""

    claim: Object
    volume: Object | None
    """The volume that is reserved to it; None to have one made."""


@dataclass(frozen=True, slots=True)
class Needs:
    """The claims of one pod."""

    problem: str = ""
    """Why the pod can run nowhere for now."""
    bound: Sequence[Object] = ()
    delayed: Sequence[Object] = ()
    """Claims that wait for the pod's node."""
    state: State = field(default_factory=lambda: State(lambda _namespace, _name: None))

    def refusal(self, node: Object) -> Iterator[str]:
        """Why the pod cannot run there."""
        listed = [self.state.volumes.get(volumes.volume_name(claim)) for claim in self.bound]
        if any(volume is not None and not matching.reaches(volume, node) for volume in listed):
            yield NODE_CONFLICT
        if self.bindings(node) is None:
            yield BIND_CONFLICT
        if None in listed:
            yield NO_VOLUME

    def bindings(self, node: Object) -> list[Binding] | None:
        """What is to be written for the node; None if a claim can have no volume there."""
        taken: set[str] = set()
        bindings = []
        for claim in sorted(self.delayed, key=volumes.requested_bytes):
            selected = objects.annotations(claim).get(volumes.SELECTED_NODE)
            if selected is not None:
                if selected != objects.name(node):
                    return None
                continue  # one is being made
            volume = matching.best(claim, self.state.volumes.values(), node=node, taken=taken)
            if volume is None and not self._is_provisioned(claim):
                return None
            if volume is not None:
                taken.add(objects.name(volume))
            bindings.append(Binding(claim, volume))
        return bindings

    def _is_provisioned(self, claim: Object) -> bool:
        storage_class = self.state.classes.get(volumes.class_name(claim)) or {}
        return storage_class.get("provisioner") not in (None, "", volumes.NO_PROVISIONER)


def needs(pod: Object, state: State) -> Needs:
    """The pod's claims as they are now."""
    bound: list[Object] = []
    delayed: list[Object] = []
    has_immediate = False
    for name, is_own in volumes.claims_of(pod):
        claim = state.claims(objects.namespace(pod), name)
        if problem := _problem(pod, name, claim, is_own=is_own) or _in_use(name, claim, state):
            return Needs(problem)
        if claim is None:
            continue
        if volumes.is_bound(claim):
            bound.append(claim)
        elif not volumes.volume_name(claim) and _is_delayed(claim, state):
            delayed.append(claim)
        else:
            has_immediate = True
    if has_immediate:
        return Needs("pod has unbound immediate PersistentVolumeClaims")
    return Needs("", bound, delayed, state)


def _problem(pod: Object, name: str, claim: Object | None, *, is_own: bool) -> str:
    if claim is None:
        if is_own:
            return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
        return f'persistentvolumeclaim "{name}" not found'
    if is_own and not volumes.is_for_pod(claim, pod):
        return volumes.not_for_pod(claim, pod)
    if volumes.phase(claim) == "Lost":
        volume = volumes.volume_name(claim)
        return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"'
    if objects.is_deleting(claim):
        return f'persistentvolumeclaim "{name}" is being deleted'
    return ""


def _in_use(name: str, claim: Object | None, state: State) -> str:
    """A claim for one pod alone has that pod already."""
    if claim is None or _ONCE_POD not in volumes.access_modes(claim):
        return ""
    users = state.users(objects.namespace(claim), name)
    return ONE_POD if any(not pods.is_terminal(each) for each in users) else ""


def _is_delayed(claim: Object, state: State) -> bool:
    storage_class = state.classes.get(volumes.class_name(claim)) or {}
    return storage_class.get("volumeBindingMode") == volumes.FIRST_CONSUMER
