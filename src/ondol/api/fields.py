"""Field selectors: `metadata.name=x,spec.nodeName!=` on the few fields each kind is indexed by.

The syntax is apimachinery's `pkg/fields`; the labels a kind knows are the table below, and for
custom resources the CRD's `selectableFields`, given as an argument. Any other label is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ondol.api.objects import Resource
from ondol.base import errors

_OPERATOR: Final = re.compile(r"!=|==|=")
_TERMS: Final = re.compile(r"(?:[^\\,]|\\.|\\\Z)+", re.DOTALL)
_METADATA: Final = frozenset({"metadata.name", "metadata.namespace"})
_POD: Final = frozenset(
    {
        "spec.host",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    }
)
_EVENT: Final = frozenset(
    {
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    }
)
_LABELS: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("", "Pod"): _POD,
    ("", "Node"): frozenset({"spec.unschedulable"}),
    ("", "Event"): _EVENT,
    ("events.k8s.io", "Event"): frozenset(
        {
            *(label.replace("involvedObject", "regarding") for label in _EVENT if "." in label),
            "reason",
            "reportingController",
            "type",
        }
    ),
    ("", "Namespace"): frozenset({"status.phase"}),
    ("", "Secret"): frozenset({"type"}),
    ("", "Service"): frozenset({"spec.clusterIP", "spec.type"}),
    ("", "ReplicationController"): frozenset({"status.replicas"}),
    ("apps", "ReplicaSet"): frozenset({"status.replicas"}),
    ("batch", "Job"): frozenset({"status.successful"}),
    ("certificates.k8s.io", "CertificateSigningRequest"): frozenset({"spec.signerName"}),
    ("coordination.k8s.io", "LeaseCandidate"): frozenset({"spec.leaseName"}),
    ("resource.k8s.io", "ResourceSlice"): frozenset({"spec.driver", "spec.nodeName"}),
}
# Labels whose value an absent field stands for; every other absent field reads as "".
_ABSENT: Final[Mapping[tuple[str, str], str]] = {
    ("Pod", "spec.hostNetwork"): "false",
    ("Node", "spec.unschedulable"): "false",
    ("ReplicaSet", "status.replicas"): "0",
    ("ReplicationController", "status.replicas"): "0",
    ("Job", "status.successful"): "0",
}


TERMS_MAX: Final = 100
"""Most terms a selector may have: each object is compared with every one of them."""


@dataclass(frozen=True, slots=True)
class Term:
    field: str
    value: str
    equal: bool = True

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
        return f"{self.field}{'=' if self.equal else '!='}{escaped}"


@dataclass(frozen=True, slots=True)
class Selector:
    """All terms must hold; without terms it selects everything."""

    terms: tuple[Term, ...] = ()

    @property
    def is_everything(self) -> bool:
        return not self.terms

    def matches(self, getter: Callable[[str], str]) -> bool:
        """Whether an object matches whose fields `getter` reads by label."""
        return all((getter(term.field) == term.value) is term.equal for term in self.terms)

    def required_value(self, field: str) -> str | None:
        """The one value a matching object must have, if the selector pins it."""
        return next((term.value for term in self.terms if term.field == field and term.equal), None)

    def __str__(self) -> str:
        return ",".join(str(term) for term in self.terms)


_EVERYTHING: Final = Selector()


def everything() -> Selector:
    return _EVERYTHING


def parse(text: str) -> Selector:
    """The selector a query string spells; `BadRequest` if a term cannot be read."""
    if not text:
        return _EVERYTHING
    parts = sorted(_TERMS.findall(text))
    if len(parts) > TERMS_MAX:
        raise errors.BadRequest(f"a field selector may have at most {TERMS_MAX} terms, got {len(parts)}")
    return Selector(tuple(_term(part, text) for part in parts))


def _term(part: str, whole: str) -> Term:
    operator = _OPERATOR.search(part)
    if operator is None:
        raise errors.BadRequest(f"invalid selector: '{whole}'; can't understand '{part}'")
    value = _unescape(part[operator.end() :])
    return Term(part[: operator.start()], value, equal=operator[0] != "!=")


def _unescape(value: str) -> str:
    plain: list[str] = []
    characters = iter(value)
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            if escaped not in ("\\", ",", "="):
                raise errors.BadRequest(
                    f"invalid field selector: invalid escape sequence: \\{escaped}",
                )
            plain.append(escaped)
        elif character in ",=":
            code = ord(character)
            raise errors.BadRequest(f"invalid field selector: unescaped character in value: {code}")
        else:
            plain.append(character)
    return "".join(plain)


def supported(resource: Resource, selectable: Collection[str] = ()) -> frozenset[str]:
    """The labels a field selector on this kind may name.

    `selectable` are a custom resource's `selectableFields`, written without the leading dot.
    """
    return _METADATA | _LABELS.get((resource.group, resource.kind), frozenset()) | frozenset(selectable)


def check(selector: Selector, resource: Resource, selectable: Collection[str] = ()) -> None:
    """Refuse a selector that names a field this kind is not indexed by."""
    labels = supported(resource, selectable)
    for term in selector.terms:
        if term.field not in labels:
            raise errors.BadRequest(f"field label not supported: {term.field}")


def parse_for(resource: Resource, text: str, selectable: Collection[str] = ()) -> Selector:
    """Parse and check in one step: what a list or watch handler needs."""
    selector = parse(text)
    check(selector, resource, selectable)
    return selector


def matches(
    selector: Selector, resource: Resource, obj: Mapping[str, Any], selectable: Collection[str] = ()
) -> bool:
    return selector.matches(lambda label: field_value(resource, obj, label, selectable))


def field_value(
    resource: Resource, obj: Mapping[str, Any], label: str, selectable: Collection[str] = ()
) -> str:
    """The text a field selector compares with; `BadRequest` for a label this kind does not know."""
    if label not in supported(resource, selectable):
        raise errors.BadRequest(f"field label not supported: {label}")
    if special := _SPECIAL.get((resource.kind, label)):
        return special(obj)
    return _text(_walk(obj, label.split(".")), _ABSENT.get((resource.kind, label), ""))


def _walk(obj: Any, path: list[str]) -> Any:
    for segment in path:
        if not isinstance(obj, Mapping):
            return None
        obj = obj.get(segment)
    return obj


def _text(value: Any, absent: str) -> str:
    if value is None:
        return absent
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _pod_ips(pod: Mapping[str, Any]) -> str:
    addresses = _walk(pod, ["status", "podIPs"]) or ()
    return ",".join(str(address.get("ip") or "") for address in addresses)


def _event_source(event: Mapping[str, Any]) -> str:
    legacy = event.get("source") or event.get("deprecatedSource") or {}
    return str(legacy.get("component") or _reporter(event))


def _reporter(event: Mapping[str, Any]) -> str:
    return str(event.get("reportingComponent") or event.get("reportingController") or "")


def _job_succeeded(job: Mapping[str, Any]) -> str:
    return str(_walk(job, ["status", "succeeded"]) or 0)


_SPECIAL: Final[Mapping[tuple[str, str], Callable[[Mapping[str, Any]], str]]] = {
    ("Pod", "spec.host"): lambda pod: _text(_walk(pod, ["spec", "nodeName"]), ""),
    ("Pod", "status.podIPs"): _pod_ips,
    ("Event", "source"): _event_source,
    ("Event", "reportingComponent"): _reporter,
    ("Job", "status.successful"): _job_succeeded,
}
