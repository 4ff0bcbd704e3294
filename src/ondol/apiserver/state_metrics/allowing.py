"""Which labels and annotations of objects are told: none, unless an administrator lists them.

A list is written as kube-state-metrics takes it: `pods=[app,example.org/*],namespaces=[*]`, also `*=[...]`
for every kind. A `*` alone counts as the first of a kind's keys only, and a key has one `*` at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from ondol.apiserver.state_metrics.amounts import label_name

Allowed: TypeAlias = Mapping[str, tuple[str, ...]]
"""Keys and patterns of keys by plural (`pods`), or by `*` for all kinds."""

_ALL: Final = "*"
_ENTRY: Final = re.compile(r"\s*=?(?P<kind>[a-z*]+)=\[(?P<keys>[^\[\]]*)\]\s*(?:,|$)")
_HUMP: Final = re.compile(r"([a-z0-9])([A-Z])")


def parse(text: str) -> Allowed:
    """The list that a text writes; `ValueError` if it is none."""
    allowed: dict[str, tuple[str, ...]] = {}
    position = 0
    while position < len(text):
        entry = _ENTRY.match(text, position)
        if entry is None:
            raise ValueError(f"not a list of keys: {text[position:]!r}; write kinds=[key,key],kinds=[*]")
        keys = tuple(key.strip() for key in entry["keys"].split(",") if key.strip())
        if any(key != _ALL and key.count(_ALL) > 1 for key in keys):
            raise ValueError("a key has one * at most")
        allowed[entry["kind"]] = keys
        position = entry.end()
    return allowed


def keys(allowed: Allowed, plural: str) -> tuple[str, ...]:
    """The keys and patterns for a kind."""
    return allowed.get(plural) or allowed.get(_ALL) or ()


def chosen(allowed: Iterable[str], pairs: Mapping[str, str]) -> dict[str, str]:
    """The pairs whose keys are allowed."""
    patterns = list(allowed)
    if patterns[:1] == [_ALL]:
        return dict(pairs)
    return {
        key: value
        for key, value in pairs.items()
        if any(pattern != _ALL and _matches(key, pattern) for pattern in patterns)
    }


def _matches(key: str, pattern: str) -> bool:
    head, star, tail = pattern.partition(_ALL)
    if not star:
        return key == pattern
    return len(key) >= len(head) + len(tail) and key.startswith(head) and key.endswith(tail)


def _snake(text: str) -> str:
    return _HUMP.sub(r"\1_\2", text).lower()


def prometheus_labels(prefix: str, pairs: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Pairs of an object as labels of a sample: `app.kubernetes.io/name` is `label_app_kubernetes_io_name`.

    Keys that become the same name are told apart by `_conflict1`, `_conflict2`, as there.
    """
    names = {key: f"{prefix}_{_snake(label_name(key))}" for key in sorted(pairs)}
    taken = list(names.values())
    used = {name for name in taken if taken.count(name) == 1}
    for key, name in names.items():
        if taken.count(name) == 1:
            yield name, str(pairs[key])
            continue
        number = 1
        while f"{name}_conflict{number}" in used:
            number += 1
        used.add(f"{name}_conflict{number}")
        yield f"{name}_conflict{number}", str(pairs[key])
