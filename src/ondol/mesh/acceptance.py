"""The state of each Istio object (accepted, refused or running) and the version of it that is served.

An object that is refused, by us or by Envoy, keeps its last good version in force. What Envoy refused
is tried again, one object at a time: with growing waits, soon after anything around it changes, and
once at every start, for its reason may lie outside (a port that was busy, another rule). Pure state:
the controller tells it of documents, of Envoy's answers and of the time, and writes what it says as
conditions.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ondol.api import objects
from ondol.api.objects import Object
from ondol.base.backoff import Backoff
from ondol.contracts import cluster
from ondol.mesh.kinds import KINDS
from ondol.mesh.kinds.kind import Kind, Kinds
from ondol.mesh.model import istio
from ondol.mesh.model.istio import Refused
from ondol.mesh.model.validation import Subject
from ondol.mesh.translate import reach, registry
from ondol.mesh.translate.registry import Rule
from ondol.mesh.xds.types import Accepted, Origin, Outcome, Rejected, Snapshot

_Key = tuple[str, str, str]
_MISSING: Final = "DestinationMissing"
_AT_ONCE: Final = -math.inf
_UNTRANSLATED: Final = "TranslationFailed"
_AGAIN: Final = Backoff(initial_s=1.0, maximum_s=30.0)
"""Waits between the tries of what Envoy refused; after a change around it, the first."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the current version is not in force. `by_proxy`: it was sound for us, not for Envoy."""

    reason: str
    message: str
    by_proxy: bool = False


class _Good(msgspec.Struct, frozen=True):
    """A rule in a form that can be kept in a file."""

    version: str
    created: str
    spec: Object
    is_dry_run: bool = False

    @staticmethod
    def of(rule: Rule[Any] | None) -> _Good | None:
        if rule is None:
            return None
        return _Good(rule.origin.version, rule.created, msgspec.to_builtins(rule.spec), rule.is_dry_run)

    def rule(self, kind: Kind[Any], key: _Key) -> Rule[Any]:
        spec = istio.read(kind.spec, {"spec": self.spec})
        return Rule(Origin(*key, self.version), self.created, spec, self.is_dry_run)


class _Record(msgspec.Struct, frozen=True):
    kind: str
    namespace: str
    name: str
    version: str
    refusal: Refusal
    good: _Good | None


@dataclass(slots=True)
class _Entry:
    version: str
    current: Rule[Any] | None = None
    """None when the current version could not even be read."""
    good: Rule[Any] | None = None
    refusal: Refusal | None = None
    suspected: bool = False
    trying: bool = False
    """Refused by Envoy, and on its way there once more."""
    refusals: int = 0
    """How often Envoy has refused this version since this process started."""
    due: float | None = None
    """When it is tried again, on a monotonic clock; None until the wait is counted."""
    missing: str = ""
    """The destination the current version names and nobody has, in words; empty if all are there."""

    @property
    def is_retried(self) -> bool:
        return self.refusal is not None and self.refusal.by_proxy and not self.trying

    @property
    def waits(self) -> bool:
        """Held back until its destinations exist, because another version can serve until then."""
        return bool(self.missing) and self.good is not None and self.good is not self.current

    @property
    def effective(self) -> Rule[Any] | None:
        serves_former = (self.refusal is not None and not self.trying) or self.suspected or self.waits
        return self.good if serves_former or self.current is None else self.current

    @property
    def refusal_in_force(self) -> Refusal | None:
        return self.refusal or (Refusal(_MISSING, self.missing) if self.waits else None)


@dataclass(slots=True)
class Acceptance:
    """`admit` documents, `observe` outcomes, then ask for `effective` rules and `refusals`."""

    port_problem: Callable[[int], str] = lambda _number: ""
    """Why no Gateway may have a port of this machine, or nothing."""
    kinds: Kinds = field(default_factory=lambda: KINDS)
    roots: frozenset[str] = frozenset({reach.ISTIO_SYSTEM, cluster.PLATFORM_NAMESPACE})
    cluster_domain: str = cluster.DOMAIN
    _entries: dict[_Key, _Entry] = field(default_factory=dict)
    _trials: deque[_Key] = field(default_factory=deque)
    _running: dict[tuple[str, str], str] = field(default_factory=dict)
    _remembered: dict[_Key, _Record] = field(default_factory=dict)

    def admit(self, kind: str, documents: Sequence[Object]) -> list[Rule[Any]]:
        """The rules to serve for these documents, all there are of this kind."""
        seen = set()
        changed = False
        for document in documents:
            key = (kind, objects.namespace(document), objects.name(document))
            seen.add(key)
            version = registry.version(document)
            entry = self._entries.get(key)
            if entry is None:
                self._entries[key] = self._recalled(key, document, version)
                changed = True
            elif entry.version != version:
                self._entries[key] = self._renewed(entry.good, kind, document, version)
                changed = True
        for key in [key for key in self._entries if key[0] == kind and key not in seen]:
            del self._entries[key]
            changed = True
        if changed:
            self._hasten()
        rules = [entry.effective for key, entry in self._entries.items() if key[0] == kind]
        return [rule for rule in rules if rule is not None]

    # Across restarts

    def export(self) -> list[Object]:
        """What must outlive this process: who is refused, and what serves in their place."""
        records = [
            _Record(*key, entry.version, refusal, _Good.of(entry.good))
            for key, entry in sorted(self._entries.items())
            if (refusal := entry.refusal_in_force) is not None
        ]
        exported: list[Object] = msgspec.to_builtins(records)
        return exported

    def restore(self, exported: list[Object]) -> None:
        """Take up what an earlier process exported; before the first `admit`."""
        for record in msgspec.convert(exported, list[_Record]):
            self._remembered[record.kind, record.namespace, record.name] = record

    def _recalled(self, key: _Key, document: Object, version: str) -> _Entry:
        """The entry of a document not seen before, with what an earlier process knew of it."""
        record = self._remembered.pop(key, None)
        if record is None or record.version != version:
            return self._renewed(None, key[0], document, version)
        good = record.good.rule(self.kinds[key[0]], key) if record.good is not None else None
        entry = self._renewed(good, key[0], document, version)
        if record.refusal.by_proxy and entry.refusal is None:
            # Not sent with the first snapshot, lest it hold up the others: tried by itself right after.
            entry.refusal, entry.due = record.refusal, _AT_ONCE
        return entry

    # Once more

    def _hasten(self) -> None:
        """Something around the refused changed: they are tried as soon as may be."""
        for entry in self._entries.values():
            if entry.is_retried and entry.due != _AT_ONCE:
                entry.refusals, entry.due = 1, None
            elif entry.refusal is not None and entry.refusal.reason == _UNTRANSLATED:
                entry.refusal = None

    def retry(self, now: float) -> float | None:
        """Queue for trial what is due at `now`; the seconds until something else is, if anything."""
        waits = []
        for key, entry in self._entries.items():
            if not entry.is_retried or entry.suspected:
                continue
            if entry.due is None:
                entry.due = now + _AGAIN.delay_s(entry.refusals)
            if entry.due <= now:
                self._suspect(key, entry)
            else:
                waits.append(entry.due - now)
        return min(waits, default=None)

    def _suspect(self, key: _Key, entry: _Entry) -> None:
        entry.suspected, entry.trying = True, False
        if key not in self._trials:
            self._trials.append(key)

    # What is missing around them

    def candidates(self, kind: str) -> list[Rule[Any]]:
        """The current versions that are sound in themselves."""
        return [
            entry.current
            for key, entry in self._entries.items()
            if key[0] == kind and entry.current is not None and entry.refusal is None
        ]

    def wait_for(self, kind: str, missing: Mapping[Origin, str]) -> bool:
        """Hold back the versions whose destinations are missing; whether what is served changed."""
        changed = False
        for key, entry in self._entries.items():
            if key[0] == kind:
                before = entry.effective
                entry.missing = missing.get(Origin(*key, entry.version), "")
                changed |= entry.effective is not before
        return changed

    def observe(self, outcomes: Iterable[Outcome]) -> bool:
        """Take in Envoy's answers; whether what is served must be translated anew."""
        changed = False
        for outcome in outcomes:
            if isinstance(outcome, Accepted):
                self._accept(outcome)
            else:
                changed |= self._reject(outcome)
        return changed

    def _accept(self, outcome: Accepted) -> None:
        for resource in outcome.resources:
            self._running[outcome.type_url, resource.name] = resource.version
            for origin in (*resource.origins, *resource.carries):
                entry = self._entries.get(origin.key)
                if entry is not None and entry.version == origin.version and entry.refusal is None:
                    entry.good = entry.current
        for name in outcome.removed:
            self._running.pop((outcome.type_url, name), None)

    def _reject(self, outcome: Rejected) -> bool:
        """Blame what is new in the resource; of several, all step back and are tried one by one."""
        good = set(outcome.accepted.origins) if outcome.accepted else set()
        # A pod's listener may fail for what the pod is: not the fault of what runs in others' already.
        is_of_pod = any(origin.kind == "Pod" for origin in outcome.resource.origins)
        suspects = [
            (origin.key, entry)
            for origin in outcome.resource.origins
            if origin not in good and (entry := self._entries.get(origin.key)) is not None
            if entry.version == origin.version and entry.effective is entry.current
            if not (is_of_pod and entry.good is entry.current)
        ]
        if len(suspects) == 1:
            entry = suspects[0][1]
            entry.refusal = Refusal("RejectedByProxy", outcome.message, by_proxy=True)
            entry.trying, entry.due = False, None
            entry.refusals += 1
            if entry.good is entry.current:
                entry.good = None
        for key, entry in suspects[:] if len(suspects) > 1 else ():
            self._suspect(key, entry)
        return bool(suspects)

    def refuse(self, origin: Origin, message: str) -> bool:
        """Hold back a version that could not be translated; False if it is not what is served."""
        entry = self._entries.get(origin.key)
        if entry is None or entry.effective is None or entry.effective.origin != origin:
            return False
        entry.refusal, entry.trying = Refusal(_UNTRANSLATED, message), False
        if entry.good is not None and entry.good.origin == origin:
            entry.good = None
        return True

    def next_trial(self, snapshot: Snapshot) -> bool:
        """Once all is settled: let one suspect have its try; whether there was one.

        Who is being tried has passed when Envoy runs all of it, and comes first.
        """
        tried = [entry for entry in self._entries.values() if entry.trying]
        running = self.running(snapshot) if tried else {}
        for entry in tried:
            if entry.current is not None and not running.get(entry.current.origin, True):
                return False
            entry.good, entry.refusal, entry.trying = entry.current, None, False
        while self._trials:
            suspect = self._entries.get(self._trials.popleft())
            if suspect is not None and suspect.suspected:
                suspect.suspected = False
                suspect.trying = suspect.refusal is not None
                return True
        return False

    def disconnected(self) -> None:
        """The proxy has disconnected: nothing is known to run any more."""
        self._running.clear()

    # Answers

    def refusal(self, kind: str, document: Object) -> Refusal | None:
        entry = self._entries.get((kind, objects.namespace(document), objects.name(document)))
        return entry.refusal_in_force if entry is not None else None

    def runs(self, type_url: str, name: str) -> bool:
        return (type_url, name) in self._running

    def has_version(self, kind: str, document: Object) -> bool:
        """Whether this version of the document has been admitted."""
        entry = self._entries.get((kind, objects.namespace(document), objects.name(document)))
        return entry is not None and entry.version == registry.version(document)

    def running(self, snapshot: Snapshot) -> dict[Origin, bool]:
        """For each object that something was made from: whether Envoy runs all of it."""
        running: dict[Origin, bool] = {}
        for type_url, resources in snapshot.resources.items():
            for resource in resources.values():
                concerned = (*resource.origins, *resource.carries)
                if concerned:
                    is_running = self._running.get((type_url, resource.name)) == resource.version
                    for origin in concerned:
                        running[origin] = running.get(origin, True) and is_running
        return running

    def _renewed(self, good: Rule[Any] | None, kind: str, document: Object, version: str) -> _Entry:
        entry = _Entry(version, good=good)
        try:
            rule = self.kinds[kind].rule(document)
            subject = Subject(
                rule.namespace, rule.origin.name, self.port_problem, self.roots, self.cluster_domain
            )
            self.kinds[kind].check(rule.spec, subject)
            entry.current = rule
        except Refused as refused:
            entry.refusal = Refusal(refused.reason, str(refused))
        return entry

    @staticmethod
    def origin(kind: str, document: Object) -> Origin:
        """The document as resources and findings call it."""
        name, namespace = objects.name(document), objects.namespace(document)
        return Origin(kind, namespace, name, registry.version(document))
