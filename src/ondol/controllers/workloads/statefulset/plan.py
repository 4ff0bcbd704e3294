"""What to do next for a StatefulSet, in order: pods and claims made, mended, taken away. Pure.

With OrderedReady one pod is made or taken away at a time, and only while all before it are available; with
Parallel all that is missing or too much at once. An update replaces one pod at a time in either case, the
last ordinal first, and goes on when the new one is available. As in Kubernetes an ordered set whose update
does not come up waits for it also when the template is taken back: a person deletes that pod.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

from ondol.api import objects, pods
from ondol.api.objects import Object
from ondol.controllers.workloads.statefulset import identity, retention


@dataclass(frozen=True, slots=True)
class Revision:
    """A state of the template."""

    name: str
    template: Object


@dataclass(frozen=True, slots=True)
class AddClaims:
    """Create the claims that a pod lacks."""

    pod: Object
    claims: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Own:
    """Give a claim other owners."""

    pod: Object
    claim: Object
    references: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Create:
    pod: Object


@dataclass(frozen=True, slots=True)
class Delete:
    pod: Object


@dataclass(frozen=True, slots=True)
class Correct:
    """Give a pod its identity by this patch."""

    pod: Object
    patch: Object


@dataclass(frozen=True, slots=True)
class Tell:
    """Nothing can be done but to say so, in a warning about the set."""

    reason: str
    message: str


Action: TypeAlias = AddClaims | Own | Create | Delete | Correct | Tell


def plan(
    stateful_set: Object,
    current: Revision,
    update: Revision,
    members: Iterable[Object],
    *,
    claims: Mapping[str, Object],
    now: float,
    waits: Mapping[str, float] = MappingProxyType({}),
) -> list[Action]:
    """The actions, in order; an action is only done if those before it succeeded.

    `members` are the set's pods, `claims` the claims of its namespace by name, `waits` the seconds for which
    a failed pod of a name is left.
    """
    turn = _Turn(stateful_set, claims, now, waits)
    if objects.is_deleting(stateful_set):
        return []
    replicas, condemned = split(stateful_set, members)
    cells = [
        _Cell(replicas[number], is_new=False)
        if number in replicas
        else _Cell(_pod(stateful_set, current, update, number), is_new=True)
        for number in identity.ordinals(stateful_set)
    ]
    if turn.keep(cells) and turn.shrink(cells, condemned):
        turn.replace(cells, update.name)
    return turn.actions


def split(stateful_set: Object, members: Iterable[Object]) -> tuple[dict[int, Object], list[Object]]:
    """The pods there should be by ordinal, and those to go, the last ordinal first."""
    valid = identity.ordinals(stateful_set)
    replicas: dict[int, Object] = {}
    condemned: list[Object] = []
    for pod in members:
        number = identity.ordinal(pod)
        if number in valid:
            replicas[number] = pod
        elif number >= 0:
            condemned.append(pod)
    return replicas, sorted(condemned, key=identity.ordinal, reverse=True)


def partition(stateful_set: Mapping[str, Any]) -> int | None:
    """How many pods, from the first, keep the current revision; None where the strategy does not say."""
    rolling = (objects.spec(stateful_set).get("updateStrategy") or {}).get("rollingUpdate")
    return None if rolling is None else int(rolling.get("partition") or 0)


def is_rolling(stateful_set: Mapping[str, Any]) -> bool:
    return (objects.spec(stateful_set).get("updateStrategy") or {}).get("type") != "OnDelete"


def min_ready_s(stateful_set: Mapping[str, Any]) -> int:
    return int(objects.spec(stateful_set).get("minReadySeconds") or 0)


def is_running_and_ready(pod: Mapping[str, Any]) -> bool:
    return pods.phase(pod) == "Running" and pods.is_ready(pod)


@dataclass(frozen=True, slots=True)
class _Cell:
    """The pod of one ordinal: as it is, or as it will be made."""

    pod: Object
    is_new: bool


def _pod(stateful_set: Object, current: Revision, update: Revision, number: int) -> Object:
    """The new pod of an ordinal: those an update has not reached yet are made as they were."""
    untouched = partition(stateful_set)
    if untouched is None:
        untouched = int(objects.status(stateful_set).get("currentReplicas") or 0)
    is_old = is_rolling(stateful_set) and number < identity.ordinals(stateful_set).start + untouched
    revision = current if is_old else update
    return identity.pod(stateful_set, revision.template, revision.name, number)


@dataclass(slots=True)
class _Turn:
    """The actions of one look at a set; each step says whether the next one may begin."""

    stateful_set: Object
    claims: Mapping[str, Object]
    now: float
    waits: Mapping[str, float]
    actions: list[Action] = field(default_factory=list)

    @property
    def is_ordered(self) -> bool:
        return objects.spec(self.stateful_set).get("podManagementPolicy") != "Parallel"

    def keep(self, cells: Sequence[_Cell]) -> bool:
        """Make, replace and mend the pods there should be."""
        for cell in cells:
            is_settled = self._make(cell.pod) if cell.is_new else self._mend(cell.pod)
            if self.is_ordered and not is_settled:
                return False
        return True

    def _make(self, pod: Object) -> bool:
        present = self._claims_of(pod)
        if any(retention.is_leaving(self.stateful_set, pod, claim) for claim in present):
            return False
        for claim in present:
            if objects.is_deleting(claim):
                text = f"pvc {objects.name(claim)} is being deleted"
                name = objects.name(self.stateful_set)
                message = f"Create Pod {objects.name(pod)} in StatefulSet {name} failed error: {text}"
                self.actions.append(Tell("FailedCreate", message))
                return False
        self._complete_claims(pod)
        self.actions.append(Create(pod))
        return False

    def _mend(self, pod: Object) -> bool:
        """Whether the pod is there, available, and as it should be."""
        if pods.is_terminal(pod):
            if pods.phase(pod) != "Failed" or objects.name(pod) not in self.waits:
                self._delete(pod)
            return False
        if objects.is_deleting(pod):
            return False
        if pods.phase(pod) == "Pending":
            self._complete_claims(pod)
        if self.is_ordered and not (is_running_and_ready(pod) and self._is_available(pod)):
            return False
        self._own_claims(pod)
        patch = identity.correction(self.stateful_set, pod)
        if patch:
            self._complete_claims(pod)
            self.actions.append(Correct(pod, patch))
        return True

    def shrink(self, cells: Sequence[_Cell], condemned: Sequence[Object]) -> bool:
        """Take away the pods of ordinals there should not be."""
        for pod in condemned:
            self._own_claims(pod)
        first = self._first_unavailable([*(cell.pod for cell in cells), *reversed(condemned)])
        for pod in condemned:
            if self.is_ordered:
                if not objects.is_deleting(pod) and (self._is_available(pod) or pod is first):
                    self._delete(pod)
                return False
            if not objects.is_deleting(pod):
                self._delete(pod)
        return True

    def replace(self, cells: Sequence[_Cell], update: str) -> None:
        """Take away the last pod of another revision, unless one after it is still coming up."""
        if not is_rolling(self.stateful_set):
            return
        for cell in reversed(cells[partition(self.stateful_set) or 0 :]):
            pod = cell.pod
            is_old = identity.revision(pod) != update and not cell.is_new
            if is_old and not objects.is_deleting(pod) and objects.name(pod) not in self.waits:
                self._delete(pod)
                return
            if cell.is_new or not self._is_available(pod):
                return

    def _delete(self, pod: Object) -> None:
        if Delete(pod) not in self.actions:
            self.actions.append(Delete(pod))

    def _first_unavailable(self, ordered: Iterable[Object]) -> Object | None:
        return next((pod for pod in ordered if not self._is_available(pod)), None)

    def _is_available(self, pod: Object) -> bool:
        wait_s = pods.available_in_s(pod, min_ready_s(self.stateful_set), self.now)
        return wait_s == 0 and not objects.is_deleting(pod)

    def _claims_of(self, pod: Object) -> list[Object]:
        number = identity.ordinal(pod)
        templates = identity.claim_templates(self.stateful_set)
        names = (identity.claim_name(self.stateful_set, each, number) for each in templates)
        return [self.claims[name] for name in names if name in self.claims]

    def _complete_claims(self, pod: Object) -> None:
        """The claims the pod lacks, and the owners of those it has."""
        missing = [
            _owned(self.stateful_set, claim)
            for claim in identity.claims(self.stateful_set, identity.ordinal(pod))
            if objects.name(claim) not in self.claims
        ]
        if missing:
            self.actions.append(AddClaims(pod, tuple(missing)))
        self.actions += self._conflicts(pod)
        self._own_claims(pod)

    def _own_claims(self, pod: Object) -> None:
        for claim in self._claims_of(pod):
            references = retention.references(self.stateful_set, pod, claim)
            action = None if references is None else Own(pod, claim, tuple(references))
            if action is not None and action not in self.actions:
                self.actions.append(action)

    def _conflicts(self, pod: Object) -> Iterator[Action]:
        for claim in self._claims_of(pod):
            if retention.has_other_controller(self.stateful_set, pod, claim):
                yield Tell(
                    "ConflictingController",
                    f"PersistentVolumeClaim {objects.name(claim)} has a conflicting OwnerReference that acts "
                    "as a managing controller, the retention policy is ignored for this claim",
                )


def _owned(stateful_set: Object, claim: Object) -> Object:
    references = retention.first_references(stateful_set)
    return (
        {**claim, "metadata": {**claim["metadata"], "ownerReferences": references}} if references else claim
    )
