"""Rules joined of several Routes of which nothing could be made: found out whose fault it is. Pure.

What was accepted before stays. Of the rest half is tried, and half of that, until one Route is left that the
rule cannot have; then the others are tried again. A Route that is left out stays so until what is made of it
is something else. A rule at the ingress stays without any, so that its host is nobody else's meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from ondol.api.objects import Key
from ondol.mesh.ingress.refused import Refused
from ondol.mesh.model import istio
from ondol.mesh.translate.registry import OF_GATEWAY_API, VirtualService
from ondol.mesh.xds.types import Accepted, Origin, Outcome

F = TypeVar("F")
Source: TypeAlias = tuple[str, Key]
"""Kind and key of a Route."""
Version: TypeAlias = tuple[Source, tuple[int, ...]]
"""A Route and the identities of what was made of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """A rule of several Routes, and how to make it of some of them."""

    sources: tuple[Source, ...]
    """The oldest first."""
    routes: tuple[tuple[Source, istio.HTTPRoute], ...]
    """In their order."""
    rule: Callable[[tuple[istio.HTTPRoute, ...]], VirtualService]
    """Of these routes."""
    has_meaning_alone: bool = True
    """Whether there is a rule without any Routes."""

    def versions(self) -> tuple[Version, ...]:
        ids: dict[Source, list[int]] = {each: [] for each in self.sources}
        for source, route in self.routes:
            ids[source].append(id(route))
        return tuple((source, tuple(listed)) for source, listed in ids.items())

    def of(self, sources: Iterable[Source]) -> VirtualService | None:
        chosen = frozenset(sources)
        if not chosen and not self.has_meaning_alone:
            return None
        return self.rule(tuple(route for source, route in self.routes if source in chosen))


@dataclass(slots=True)
class _Search:
    joined: Joined
    """Keeps what the identities are of."""
    good: list[Version] = field(default_factory=list)
    trial: list[Version] = field(default_factory=list)
    bad: dict[Version, str] = field(default_factory=dict)
    served: VirtualService | None = None
    served_of: tuple[Version, ...] = ()

    @property
    def rest(self) -> list[Version]:
        return [each for each in self.joined.versions() if each not in self.good and each not in self.bad]

    def renew(self, joined: Joined) -> None:
        """Take in what the Routes are now; what is new is tried at once."""
        if joined is self.joined:
            return
        former = self.joined.versions()
        present = joined.versions()
        self.good = [each for each in self.good if each in present]
        self.bad = {each: why for each, why in self.bad.items() if each in present}
        self.trial = [each for each in present if each in self.trial or each not in former]
        self.joined = joined

    def shrink(self, why: str) -> bool:
        """What is served was refused; whether there is less that can be served."""
        if not self.trial:
            # It was accepted once: something beside it has changed.
            self.good, self.trial = [], [*self.good]
        if len(self.trial) > 1:
            self.trial = self.trial[: len(self.trial) // 2]
            return True
        if self.trial:
            self.bad[self.trial.pop()] = why
            return True
        return False

    def grow(self) -> bool:
        """What is served was accepted; whether there is more to try."""
        self.good += self.trial
        self.trial = self.rest
        return bool(self.trial)

    def rule(self) -> VirtualService | None:
        """What is served now: the same as long as it is of the same Routes."""
        of = (*self.good, *self.trial)
        if self.served is None or of != self.served_of:
            self.served, self.served_of = self.joined.of(source for source, _ in of), of
        return self.served


class Sifter:
    """Between what was made of Routes and what is served."""

    def __init__(self) -> None:
        self._refused = Refused(prefix=OF_GATEWAY_API)
        self._searches: dict[tuple[str, str, str], _Search] = {}
        """By the rule's name."""
        self._offered: dict[Origin, Joined] = {}
        """What was last served, by the origin under which it was."""
        self._accepted: dict[tuple[str, str, str], Joined] = {}
        """What the proxy last accepted whole, by the rule's name."""
        self._renamed: dict[Origin, Origin] = {}
        """For rules that are served in part, under which origin they are."""

    def served(self, rules: list[VirtualService], joined: Mapping[Origin, Joined]) -> list[VirtualService]:
        """The rules as they are served; the same list where all are, whole."""
        names = {rule.origin.key for rule in rules}
        self._searches = {name: each for name, each in self._searches.items() if name in names}
        self._accepted = {name: each for name, each in self._accepted.items() if name in names}
        self._offered, self._renamed = dict(joined), {}
        if self._searches:
            rules = [each for rule in rules for each in self._narrowed(rule, joined.get(rule.origin))]
        return self._refused.served(rules)

    def _narrowed(self, rule: VirtualService, joined: Joined | None) -> Iterator[VirtualService]:
        search = self._searches.get(rule.origin.key)
        if search is None or joined is None:
            yield rule
            return
        search.renew(joined)
        if not search.bad and not search.rest:
            del self._searches[rule.origin.key]
            yield rule
            return
        del self._offered[rule.origin]
        narrowed = search.rule()
        if narrowed is not None:
            self._offered[narrowed.origin] = joined
            self._renamed[rule.origin] = narrowed.origin
            yield narrowed

    def of_whole(self, findings: Mapping[Origin, F]) -> dict[Origin, F]:
        """What is said of rules that are served in part, under the origins of the whole ones, too."""
        renamed = {origin: findings[of] for origin, of in self._renamed.items() if of in findings}
        return {**findings, **renamed}

    def observe(self, outcomes: Sequence[Outcome]) -> bool:
        """Take in the proxy's answers; whether something else is served now."""
        for outcome in outcomes:
            for resource in outcome.resources if isinstance(outcome, Accepted) else ():
                for origin in resource.origins:
                    joined = self._offered.get(origin)
                    if joined is not None and origin not in self._renamed.values():
                        self._accepted[origin.key] = joined
        changed = self._refused.observe(outcomes)
        self._sift()
        return changed

    def refuse(self, origin: Origin, why: str) -> bool:
        """Leave out what nothing could be made of; False where it is no rule that is served."""
        is_own = self._refused.refuse(origin, why)
        self._sift()
        return is_own

    def _sift(self) -> None:
        """Go on with rules that were refused by themselves; they are not left out whole any more."""
        for origin, why in self._refused.alone():
            joined = self._offered.get(origin)
            if joined is None or len(joined.sources) + joined.has_meaning_alone < 2:
                continue
            search = self._searches.get(origin.key)
            if search is None:
                before = self._accepted.get(origin.key)
                good = set(before.versions()) if before is not None else set()
                search = self._searches[origin.key] = _Search(joined)
                search.good = [each for each in joined.versions() if each in good]
                search.trial = search.rest
            if search.shrink(why):
                self._refused.forget(origin)
                # The same may be refused in another table, too: nothing more follows from that.
                del self._offered[origin]

    def next_trial(self) -> bool:
        """Once all is settled: give one of several that were refused together a try of its own.

        Then more of a rule of which what is served was accepted.
        """
        return self._refused.next_trial() or any(
            search.grow()
            for search in self._searches.values()
            if search.served is None or search.served.origin not in self._refused.rules
        )

    def why(self, source: Source, sources: Mapping[Origin, Sequence[Source]]) -> str:
        """Why a Route is left out of a rule; empty where it is in all that were made of it."""
        for origin, why in self._refused.rules.items():
            if source in sources.get(origin, ()):
                return why
        for search in self._searches.values():
            for (of, _), why in search.bad.items():
                if of == source:
                    return why
        return ""
