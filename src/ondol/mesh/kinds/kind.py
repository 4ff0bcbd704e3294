"""What the mesh must know of a kind of its own, in one value: the rest of the mesh asks nothing else.

`ondol.mesh.kinds.KINDS` is the table of them. From an entry follow the CustomResourceDefinition with its
schema, columns and descriptions, the informer, validation, which version is in force, what a change
concerns, what is added to the translation, findings and conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

from ondol.api import conditions
from ondol.api.objects import Object, Resource
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.model import istio, validation
from ondol.mesh.model.kube import Service, Slice
from ondol.mesh.model.validation import Problem, Subject
from ondol.mesh.translate import registry
from ondol.mesh.translate.provided import Surroundings
from ondol.mesh.translate.registry import Registry, Rule
from ondol.mesh.xds import types
from ondol.mesh.xds.types import Origin

S = TypeVar("S", bound=istio.Struct)
ISTIO_VERSIONS: Final = ("v1", "v1beta1", "v1alpha3")
TELEMETRY_VERSIONS: Final = ("v1", "v1alpha1")
SECURITY_VERSIONS: Final = ("v1", "v1beta1")


class Finding(NamedTuple):
    """Something legal that cannot be meant, under the code by which users know it."""

    origin: Origin
    code: str
    message: str


def by_message(findings: Iterable[Finding]) -> dict[tuple[Origin, str], list[str]]:
    """The codes of each thing that is found, which may have one of Istio's and one of Kiali's."""
    codes: dict[tuple[Origin, str], list[str]] = {}
    for finding in findings:
        codes.setdefault((finding.origin, finding.message), []).append(finding.code)
    return codes


class Column(NamedTuple):
    """A column of `kubectl get`, by the JSON path of its text."""

    name: str
    path: str


class Progress(StrEnum):
    """How far an object's configuration got."""

    UNUSED = "unused"
    """Nothing is made from it: nobody calls its hosts, or they do not exist."""
    RUNNING = "running"
    PENDING = "pending"
    EVADED = "evaded"
    """The proxy runs all of it, and calls of some pod that it is for do not come to the proxy."""
    UNKNOWN = "unknown"
    """No proxy is there to say; what was last said of this version holds."""


class Word(NamedTuple):
    """The condition `Programmed` for one stage of progress."""

    status: conditions.Status
    reason: str
    message: str


PROGRESS: Final[Mapping[Progress, Word]] = {
    Progress.UNUSED: Word("Unknown", "NotInUse", "no proxy configuration is made from it yet"),
    Progress.RUNNING: Word("True", "Programmed", ""),
    Progress.PENDING: Word("Unknown", "Pending", "the proxy has not answered yet"),
    Progress.UNKNOWN: Word("Unknown", "Pending", "no proxy is connected"),
}

Judge: TypeAlias = Callable[[Rule[S], Dependencies], Iterable[Finding]]
Survey: TypeAlias = Callable[[Dependencies], Iterable[Finding]]
Provided: TypeAlias = tuple[Service, Slice]
"""A service that an object is, and its endpoints."""


def no_findings(_rule: Rule[Any], _dependencies: Dependencies) -> Iterable[Finding]:
    return ()


def nothing_alone(_rule: Rule[Any]) -> Iterable[Finding]:
    return ()


def no_survey(_dependencies: Dependencies) -> Iterable[Finding]:
    return ()


def no_services(_rule: Rule[Any], _around: Surroundings) -> Iterable[Provided]:
    return ()


def no_selector(_rule: Rule[Any]) -> Mapping[str, str] | None:
    return None


def no_resources(_rule: Rule[Any], _registry: Registry) -> Iterable[tuple[types.TypeUrl, types.Resource]]:
    return ()


@dataclass(frozen=True)
class Kind(Generic[S]):
    """One kind. What has a default is only for kinds that need it."""

    # Definition
    resource: Resource
    short_name: str
    description: str
    spec: type[S]
    """The schema follows from it; its fields are all that users may write."""
    fields: Mapping[str, Mapping[str, str]]
    """A sentence a field, by the name of the struct and the field's own on the wire."""
    columns: tuple[Column, ...] = ()
    """Before those that tell what became of an object, which every kind has."""
    versions: tuple[str, ...] = ISTIO_VERSIONS
    """Served, the stored one first."""

    # Validation
    validate: Callable[[S, Subject], Iterable[Problem]] = field(default=lambda _spec, _subject: ())
    """What no schema can say."""

    # Translation
    names: Callable[[Rule[S], str], tuple[str, ...]] | None = None
    """Every full host name by which anything may be looked up for an object, whatever services there are.

    What is translated and judged of an object holds while the same things stand under these names. None for a
    kind that may concern any host: with each change of such an object everything is made anew.
    """
    of_workloads: bool = False
    """Its objects are for pods and not for hosts: no route and no cluster of a service is made of them, so a
    change of one leaves those as they are. They have no `names`, and are judged by `survey` alone."""
    services: Callable[[Rule[S], Surroundings], Iterable[Provided]] = no_services
    """Services that an object is, beside Kubernetes' own, which come first where both have a name."""
    selector: Callable[[Rule[S]], Mapping[str, str] | None] = no_selector
    """Labels of the workloads of its namespace that are the endpoints of those, if it selects any."""
    status: Mapping[str, Object] = field(default_factory=dict)
    """Schemas of fields of its status, beside the conditions."""
    resources: Callable[[Rule[S], Registry], Iterable[tuple[types.TypeUrl, types.Resource]]] = no_resources
    """Resources that are made of an object alone, with its origin in each."""

    # What is said of it
    alone: Callable[[Rule[S]], Iterable[Finding]] = nothing_alone
    """Findings on one object whatever else there is; on one that is refused, too, if it can be read."""
    missing: Judge[S] = no_findings
    """Findings for which a new version waits while an earlier one can serve. Needs `names`."""
    judge: Judge[S] = no_findings
    """Findings on one object, which may look things up only by its `names`. Needs `names`."""
    contest: Survey = no_survey
    """Findings between objects, which no pod and no endpoint changes."""
    survey: Survey = no_survey
    """Findings that take all objects together, with pods and endpoints; made with each translation."""
    progress: Mapping[Progress, Word] = field(default_factory=lambda: PROGRESS)

    @property
    def name(self) -> str:
        return self.resource.kind

    def check(self, spec: S, subject: Subject | None = None) -> None:
        """`Refused` with the first mistake in a spec."""
        for text in validation.unsupported(spec, "spec"):
            raise istio.Refused(text, reason="Unsupported")
        for problem in self.validate(spec, subject or Subject()):
            raise istio.Refused(problem.message, reason=problem.reason)
        for text in validation.string_matches(spec):
            raise istio.Refused(text)

    def rule(self, document: Object) -> Rule[S]:
        """The typed view of a document; `Refused` where a field is wrong."""
        return registry.rule(self.name, self.spec, document)


Kinds: TypeAlias = Mapping[str, Kind[Any]]


def rules_with_names(
    kinds: Kinds, rules: Mapping[str, Sequence[Rule[Any]]], *, named: bool
) -> list[Rule[Any]]:
    """The objects of the kinds that have `names`, or of those that may concern any host.

    Of kinds `of_workloads` neither: no host is their concern.
    """
    return [
        rule
        for kind in kinds.values()
        if not kind.of_workloads and (kind.names is not None) is named
        for rule in rules.get(kind.name, ())
    ]
