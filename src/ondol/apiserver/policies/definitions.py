"""`Policy` and `Binding` as they are configured; `Definitions`: all of one kind that are in force."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ondol.api import objects
from ondol.api.objects import Object, Resource
from ondol.apiserver.served import Catalogue, Served
from ondol.apiserver.state import State
from ondol.apiserver.webhooks import attributes as views
from ondol.apiserver.webhooks import matching
from ondol.apiserver.webhooks.attributes import Attributes
from ondol.apiserver.webhooks.matching import Namespaces, Rule, Selectors

P = TypeVar("P")
"""The programs of a policy."""


@dataclass(frozen=True, slots=True)
class Constraints:
    """`MatchResources`: which writes a policy or binding is about."""

    rules: tuple[Rule, ...]
    """None for writes of everything."""
    excluded: tuple[Rule, ...]
    selectors: Selectors
    is_exact: bool

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Constraints:
        return cls(
            tuple(Rule.of(rule) for rule in document.get("resourceRules") or ()),
            tuple(Rule.of(rule) for rule in document.get("excludeResourceRules") or ()),
            Selectors.of(document),
            document.get("matchPolicy") == "Exact",
        )

    def version_for(
        self, attributes: Attributes, catalogue: Catalogue, namespace: Namespaces
    ) -> Served | None:
        """The version of the kind that is meant; None if it is not about the write."""
        if not self.selectors.match(attributes, namespace):
            return None
        if self.excluded and self._version(self.excluded, attributes, catalogue) is not None:
            return None
        if not self.rules:
            return attributes.served
        return self._version(self.rules, attributes, catalogue)

    def _version(
        self, rules: tuple[Rule, ...], attributes: Attributes, catalogue: Catalogue
    ) -> Served | None:
        return matching.version_for(rules, attributes, catalogue, is_exact=self.is_exact)

    def may_concern(self, served: Served, catalogue: Catalogue) -> bool:
        """Whether it may be about writes of a kind at all."""
        if not self.rules or any(rule.names(served) for rule in self.rules):
            return True
        if self.is_exact:
            return False
        others = tuple(views.equivalents(catalogue, served))
        return any(rule.names(other) for rule in self.rules for other in others)


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a policy is in force, with which parameters, and what becomes of what it refuses."""

    name: str
    constraints: Constraints | None
    param_ref: Mapping[str, Any] | None
    actions: tuple[str, ...]

    @classmethod
    def of(cls, document: Object) -> Binding:
        spec = objects.spec(document)
        match = spec.get("matchResources")
        return cls(
            objects.name(document),
            Constraints.of(match) if match is not None else None,
            spec.get("paramRef"),
            tuple(spec.get("validationActions") or ()),
        )


@dataclass(frozen=True, slots=True)
class Policy(Generic[P]):
    """One policy with its bindings, which are there: without one it is not in force."""

    name: str
    constraints: Constraints
    param_kind: Mapping[str, Any] | None
    is_ignored_on_failure: bool
    is_called_again: bool
    """Whether it sees what later ones changed."""
    programs: P
    bindings: tuple[Binding, ...]

    @classmethod
    def of(cls, document: Object, programs: P, bindings: tuple[Binding, ...]) -> Policy[P]:
        spec = objects.spec(document)
        return cls(
            objects.name(document),
            Constraints.of(spec.get("matchConstraints") or {}),
            spec.get("paramKind"),
            spec.get("failurePolicy") == "Ignore",
            spec.get("reinvocationPolicy") == "IfNeeded",
            programs,
            bindings,
        )


class Definitions(Generic[P]):
    """The policies of one kind, read and compiled anew once one of them or of their bindings has changed."""

    def __init__(
        self,
        state: State,
        policies: Resource,
        bindings: Resource,
        compile_spec: Callable[[Mapping[str, Any]], P],
    ) -> None:
        self._state = state
        self._resources = policies, bindings
        self._changes = state.changes(policies), state.changes(bindings)
        self._compile = compile_spec
        self._policies: tuple[Policy[P], ...] | None = None
        self._programs: dict[str, tuple[str, P]] = {}
        """Of each policy by its name, with the revision they were compiled from."""
        self._by_kind: dict[tuple[str, str, str], tuple[Policy[P], ...]] = {}
        self._version = 0

    def of(self, served: Served) -> tuple[Policy[P], ...]:
        """Those that may be about writes of a kind, in order of their names."""
        policies, bindings = self._changes
        has_changed = policies.take() != []
        if bindings.take() != [] or has_changed or self._policies is None:
            self._policies = self._read()
            self._by_kind.clear()
        if not self._policies:
            return ()
        catalogue = self._state.catalogue
        if self._version != catalogue.version:
            self._version = catalogue.version
            self._by_kind.clear()
        kind = served.kind
        place = kind.group, kind.version, kind.plural
        concerned = self._by_kind.get(place)
        if concerned is None:
            concerned = self._by_kind[place] = tuple(
                policy for policy in self._policies if policy.constraints.may_concern(served, catalogue)
            )
        return concerned

    def _read(self) -> tuple[Policy[P], ...]:
        policies, bindings = self._resources
        bound: dict[str, list[Binding]] = defaultdict(list)
        for document in self._state.list_objects(bindings):
            bound[str(objects.spec(document).get("policyName") or "")].append(Binding.of(document))
        programs: dict[str, tuple[str, P]] = {}
        read = []
        for document in self._state.list_objects(policies):
            name = objects.name(document)
            if name not in bound:
                continue
            programs[name] = self._compiled(name, document)
            read.append(Policy.of(document, programs[name][1], tuple(bound[name])))
        self._programs = programs
        return tuple(read)

    def _compiled(self, name: str, document: Object) -> tuple[str, P]:
        """The programs of a policy: the former ones, if it is still the same."""
        revision = f"{objects.metadata(document).get('resourceVersion')}"
        former = self._programs.get(name)
        if former is not None and former[0] == revision:
            return former
        return revision, self._compile(objects.spec(document))
