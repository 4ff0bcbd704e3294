"""What a family is made of: its name, and a function from an object to samples; what many kinds share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from ondol.api import conditions, objects, pods
from ondol.api.objects import Object, Resource
from ondol.base import quantity

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values, beside those that say whose sample it is."""
Sample: TypeAlias = tuple[Labels, float]
Samples: TypeAlias = Callable[[Object], Iterable[Sample]]

_STATUSES: Final = ("True", "False", "Unknown")
_AMOUNTS_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Family:
    """One family of a kind; no object has two samples of the same labels in it."""

    name: str
    documentation: str
    samples: Samples
    type: Literal["gauge", "counter"] = "gauge"


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind that is told of: `noun` is what its families are called by (`kube_<noun>_info`)."""

    resource: Resource
    noun: str
    identity: Callable[[Object], Labels]
    """The labels of each of an object's samples."""
    families: Sequence[Family]


def namespaced(noun: str) -> Callable[[Object], Labels]:
    """The identity that most kinds have: `namespace` and the name, under the kind's own noun."""
    return lambda obj: (("namespace", objects.namespace(obj)), (noun, objects.name(obj)))


def named(noun: str) -> Callable[[Object], Labels]:
    """That of kinds without namespaces."""
    return lambda obj: ((noun, objects.name(obj)),)


# Values


def at(obj: Mapping[str, Any], *path: str) -> Any:
    """What stands at a path of an object; None if nothing does."""
    value: Any = obj
    for part in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def seconds(text: object) -> int | None:
    """The second since the epoch of a time in an object, if there is one."""
    moment = pods.moment(text) if isinstance(text, str) else None
    return None if moment is None else int(moment)


@functools.lru_cache(_AMOUNTS_MAX)
def amount(text: str | float) -> float:
    """A quantity as a number of its unit, thousandths rounded up; objects have few different ones."""
    milli = quantity.milli_of(text)
    return milli // 1000 if milli % 1000 == 0 else milli / 1000


# Samples


def one(value: float | None) -> Iterable[Sample]:
    """A sample without labels of its own; none where there is no value."""
    return () if value is None else (((), value),)


def info(*labels: tuple[str, str]) -> Iterable[Sample]:
    """A sample that tells by its labels."""
    return ((labels, 1),)


def once(samples: Iterable[Sample]) -> Iterable[Sample]:
    """Each of the samples once: lists in objects may say the same twice."""
    return dict(samples).items()


def each_of(label: str, values: Sequence[str], value: str) -> Iterable[Sample]:
    """A sample for each of the values a field can have: 1 for the one it has; none if it has none."""
    return [(((label, each),), int(each == value)) for each in values] if value else ()


def truths(status: str, label: str, *labels: tuple[str, str]) -> list[Sample]:
    """Three samples for the status of a condition: it is true, false or unknown."""
    return [((*labels, (label, each.lower())), int(each == status)) for each in _STATUSES]


def condition_statuses(obj: Object) -> Iterable[Sample]:
    """For each condition of an object whether it is true, false or unknown."""
    for condition in conditions.of(obj):
        yield from truths(str(condition.get("status")), "status", ("condition", str(condition.get("type"))))


def owners(obj: Object) -> Iterable[Sample]:
    """A sample an owner; one of nobody where there is none."""
    names = ("owner_kind", "owner_name", "owner_is_controller")
    rows = [
        (str(reference["kind"]), str(reference["name"]), str(bool(reference.get("controller"))).lower())
        for reference in objects.owner_references(obj)
    ]
    return once((tuple(zip(names, row, strict=True)), 1) for row in rows or [("", "", "")])


# Families


def number(name: str, documentation: str, *path: str, default: float | None = None) -> Family:
    """The number, or truth, at a path of each object; `default` where there is none (None: no sample)."""

    def samples(obj: Object) -> Iterable[Sample]:
        value = at(obj, *path)
        return one(default if value is None else int(value))

    return Family(name, documentation, samples)


def moment(name: str, documentation: str, *path: str) -> Family:
    """The time at a path of each object, as seconds since the epoch; no sample where there is none."""
    return Family(name, documentation, lambda obj: one(seconds(at(obj, *path))))


def created(noun: str) -> Family:
    return moment(f"kube_{noun}_created", "When it was created.", "metadata", "creationTimestamp")


def deleted(noun: str) -> Family:
    name = f"kube_{noun}_deletion_timestamp"
    return moment(name, "When its deletion was asked for.", "metadata", "deletionTimestamp")


def generation(noun: str) -> Family:
    name = f"kube_{noun}_metadata_generation"
    return number(
        name,
        "Its generation: how often what is desired of it has changed.",
        "metadata",
        "generation",
        default=0,
    )


def revision(noun: str) -> Family:
    def samples(obj: Object) -> Iterable[Sample]:
        text = objects.resource_version(obj)
        return one(int(text)) if text.isdigit() else ()

    return Family(f"kube_{noun}_metadata_resource_version", "Its resource version.", samples)


def owned(noun: str) -> Family:
    return Family(f"kube_{noun}_owner", "Who owns it.", owners)


def exists(noun: str) -> Family:
    """The family `info` of a kind that has nothing else to tell."""
    return Family(f"kube_{noun}_info", "That it exists.", lambda _obj: info())
