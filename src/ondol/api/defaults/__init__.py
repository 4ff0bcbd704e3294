"""The defaults of fields that an object of a built-in kind leaves out.

`apply` is called on a decoded document before it is validated: first the table's defaults and empty
structs, then what Kubernetes keeps in code (pkg/apis/*/v1/defaults.go), restated in these modules, a function
a kind. Whoever serves a kind names its function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from ondol.api.objects import Object
from ondol.api.schema import typed

Rule: TypeAlias = Callable[[Any], None]
"""Fills in, in place, the defaults of one kind that depend on other fields."""


def apply(type_name: str, document: Object, rule: Rule | None = None) -> None:
    """Default a decoded document of a built-in type, in place; doing it twice changes nothing more."""
    typed.of(type_name).fill(document)
    if rule is not None:
        rule(document)
