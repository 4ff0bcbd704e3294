"""Fields that Kubernetes knows and Ondol keeps but does not act on: what their authors are warned of.

The rules stand in the registrations of the kinds (`apiserver.kinds`); whoever makes a part act on a field
takes its line out there. A test holds them to the built-in types, so that a field is either acted on or
named; docs/unsupported-fields.md is written from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ondol.api import objects
from ondol.api.objects import Object


@dataclass(frozen=True, slots=True)
class Rule:
    """One field, by its path below the spec; `harmless` values ask for nothing that is missing."""

    path: str
    message: str
    harmless: tuple[Any, ...] = ()


@dataclass(slots=True)
class _Step:
    """The rules that go through one field."""

    rule: Rule | None = None
    below: dict[str, _Step] = field(default_factory=dict)


def _tree(rules: Iterable[Rule]) -> _Step:
    root = _Step()
    for rule in rules:
        step = root
        for part in rule.path.split("."):
            step = step.below.setdefault(part, _Step())
        step.rule = rule
    return root


class Unsupported:
    """The rules of one kind, for what stands at a path of its objects."""

    def __init__(
        self, rules: Sequence[Rule] = (), path: Sequence[str] = ("spec",), *, kind: str = ""
    ) -> None:
        """`kind` says of a whole kind that it is stored but that nothing acts on its objects."""
        self.kind = kind
        self.rules = rules
        self.path = tuple(path)
        self._tree = _tree(rules)

    def warnings(self, obj: Object) -> list[str]:
        """What the author of an object should know of it, one sentence a field."""
        value: Any = obj
        for part in self.path:
            value = value.get(part) or {}
        whole = [self.kind] if self.kind else []
        return whole + [
            f"{field}: {rule.message}" for field, rule in _matches(value, self._tree, ".".join(self.path))
        ]

    def added(self, new: Object, old: Object | None) -> list[str]:
        """The warnings a write brings: all of a new object's, the new ones of a changed object."""
        messages = self.warnings(new)
        if not messages or old is None:
            return messages
        if objects.spec(new) == objects.spec(old):
            return []
        before = set(self.warnings(old))
        return [message for message in messages if message not in before]


def _matches(value: Any, step: _Step, path: str) -> Iterator[tuple[str, Rule]]:
    for part, below in step.below.items():
        name = part.removesuffix("[*]")
        inner = value.get(name) if isinstance(value, dict) else None
        if inner in (None, [], {}, ""):
            continue
        if below.rule is not None and inner not in below.rule.harmless:
            yield f"{path}.{name}", below.rule
        if not below.below:
            continue
        if name == part:
            yield from _matches(inner, below, f"{path}.{name}")
        else:
            for index, item in enumerate(inner):
                yield from _matches(item, below, f"{path}.{name}[{index}]")
