"""The functions expressions may call, one module a library.

A module has `FUNCTIONS`, and `TYPES` where it brings types. `functions` are those of every expression, as
Kubernetes has them; patches have more.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

from ondol.api.cel.functions import Registry
from ondol.api.cel.library import (
    authz,
    cidr,
    formats,
    ip,
    json_patch,
    lists,
    optional,
    quantity,
    regex,
    semver,
    sets,
    standard,
    strings,
    times,
    urls,
)
from ondol.api.cel.types import Type

_EVERYWHERE: Final = (
    standard,
    times,
    optional,
    strings,
    lists,
    sets,
    regex,
    urls,
    quantity,
    ip,
    cidr,
    formats,
    semver,
    authz,
)
_MUTATION: Final = (*_EVERYWHERE, json_patch)


@functools.cache
def functions(*, mutation: bool = False) -> Registry:
    """The functions of every expression; with `mutation` also those of patches."""
    return Registry(module.FUNCTIONS for module in (_MUTATION if mutation else _EVERYWHERE))


@functools.cache
def types() -> Mapping[str, Type]:
    """The types an expression can name."""
    out: dict[str, Type] = {}
    for module in (standard, optional, urls, quantity, ip, cidr, formats, semver, authz):
        out.update(module.TYPES)
    return out
