"""What Kubernetes refuses in built-in kinds beyond the shape of documents.

Each rule is a pure generator of causes over a decoded, defaulted document; `validate` and
`validate_update` are given the `Rules` of the document's kind by whoever serves it. Custom kinds are held to
their schema (`api.schema.structural`) and to `metadata.check`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ondol.api.objects import Object
from ondol.api.validation import fields, metadata
from ondol.base.errors import Cause

Rule: TypeAlias = Callable[[Mapping[str, Any]], Iterator[Cause]]
UpdateRule: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Any]], Iterator[Cause]]


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one kind."""

    check: Rule | None = None
    update: UpdateRule | None = None
    name: metadata.NameRule = fields.subdomain
    nameless: bool = False
    parts: Mapping[str, UpdateRule] = field(default_factory=dict)
    """Of an update through a subresource, by its name: what is held to instead of `update`."""


def validate(obj: Object, rules: Rules) -> list[Cause]:
    """Everything wrong with a defaulted object of a built-in type."""
    causes: list[Cause] = []
    if not rules.nameless:
        causes.extend(metadata.check(obj, name_rule=rules.name))
    if rules.check is not None:
        causes.extend(rules.check(obj))
    return causes


def validate_part(new: Object, old: Object, rules: Rules, subresource: str) -> list[Cause]:
    """Everything wrong with an update that writes no more of a built-in type than its metadata and status."""
    causes: list[Cause] = []
    if new["metadata"] != old["metadata"]:
        causes = [*metadata.check(new, name_rule=rules.name), *metadata.update(new, old)]
    if subresource in rules.parts:
        causes.extend(rules.parts[subresource](new, old))
    return causes


def validate_update(new: Object, old: Object, rules: Rules, subresource: str = "") -> list[Cause]:
    """Everything wrong with replacing `old` by `new`; covers `validate` of the new object too."""
    causes = validate(new, rules)
    causes.extend(metadata.update(new, old))
    update = rules.parts.get(subresource, rules.update)
    if update is not None:
        causes.extend(update(new, old))
    return causes
