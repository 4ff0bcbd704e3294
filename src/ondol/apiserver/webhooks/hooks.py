"""`Hook`: one webhook as it is configured; `Hooks`: all of them, in the order in which they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ondol.api import objects, resources
from ondol.api.objects import Object, Resource
from ondol.apiserver.served import Catalogue, Served
from ondol.apiserver.state import State
from ondol.apiserver.webhooks import matching
from ondol.apiserver.webhooks.attributes import Attributes
from ondol.apiserver.webhooks.conditions import Conditions
from ondol.apiserver.webhooks.matching import Namespaces, Rule, Selectors

_TIMEOUT_S: Final = 10
_WITHOUT_EFFECTS: Final = ("None", "NoneOnDryRun")


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook of a configuration."""

    name: str
    uid: str
    """Its configuration and its name there, which no other has."""
    rules: tuple[Rule, ...]
    selectors: Selectors
    conditions: Conditions
    is_exact: bool
    """Whether a rule means only the version that it names, and not the others with the same objects."""
    is_ignored_on_failure: bool
    is_called_again: bool
    """Whether it sees what later ones changed."""
    may_run_dry: bool
    timeout_s: float
    review_versions: tuple[str, ...]
    client: Mapping[str, Any]
    """`clientConfig`: where it is."""

    @classmethod
    def of(cls, configuration: Object, document: Mapping[str, Any], index: int) -> Hook:
        name = str(document.get("name") or "")
        return cls(
            name=name,
            uid=f"{objects.name(configuration)}/{name}/{index}",
            rules=tuple(Rule.of(rule) for rule in document.get("rules") or ()),
            selectors=Selectors.of(document),
            conditions=Conditions(document.get("matchConditions") or ()),
            is_exact=document.get("matchPolicy") == "Exact",
            is_ignored_on_failure=document.get("failurePolicy") == "Ignore",
            is_called_again=document.get("reinvocationPolicy") == "IfNeeded",
            may_run_dry=document.get("sideEffects") in _WITHOUT_EFFECTS,
            timeout_s=float(document.get("timeoutSeconds") or _TIMEOUT_S),
            review_versions=tuple(document.get("admissionReviewVersions") or ()),
            client=document.get("clientConfig") or {},
        )

    def version_for(self, attributes: Attributes, catalogue: Catalogue) -> Served | None:
        """The version of the kind in which it wants to see a write; None if its rules are not about it."""
        return matching.version_for(self.rules, attributes, catalogue, is_exact=self.is_exact)

    def selects(self, attributes: Attributes, namespace: Namespaces) -> bool:
        return self.selectors.match(attributes, namespace)


class Hooks:
    """The webhooks of one kind of configuration, read anew once a configuration has changed."""

    def __init__(self, state: State, resource: Resource) -> None:
        self._state = state
        self._resource = resource
        self._changes = state.changes(resource)
        self._hooks: tuple[Hook, ...] | None = None

    def all(self) -> tuple[Hook, ...]:
        """In order of their configurations' names, and in the order there."""
        if self._changes.take() != [] or self._hooks is None:
            self._hooks = tuple(
                Hook.of(configuration, document, index)
                for configuration in self._state.list_objects(self._resource)
                for index, document in enumerate(configuration.get("webhooks") or ())
            )
        return self._hooks


def mutating(state: State) -> Hooks:
    return Hooks(state, resources.MUTATING_WEBHOOK_CONFIGURATION)


def validating(state: State) -> Hooks:
    return Hooks(state, resources.VALIDATING_WEBHOOK_CONFIGURATION)
