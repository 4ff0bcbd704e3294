"""`Kind`: what is particular about one built-in kind, in one place.

Everything else (fields, types, constant defaults, merge keys, protobuf, OpenAPI, discovery) follows from the
table of facts. A kind without anything particular has no registration.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ondol.api import defaults, validation
from ondol.api.tables import builtin
from ondol.api.tables.columns import Layout
from ondol.apiserver.admission.chain import Plugins
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.lenses import Scale
from ondol.apiserver.served import Conversion
from ondol.apiserver.strategy import Strategy
from ondol.apiserver.unsupported import Unsupported

_PLAIN: Final = Strategy()
_NO_RULES: Final = validation.Rules()


@dataclass(frozen=True, slots=True)
class Kind:
    """The registration of a kind; every field but the names may be left out."""

    group: str
    kind: str
    strategy: Strategy = _PLAIN
    """What a write does besides: status, generation, what may change, what holds a delete up, warnings."""
    default: defaults.Rule | None = None
    """Fills in, in place, what depends on other fields; constant defaults are facts."""
    rules: validation.Rules = _NO_RULES
    """What is refused beyond the types of the fields, and which names are allowed."""
    layout: Layout = builtin.DEFAULT
    """The columns of `kubectl get`."""
    scale: Scale | None = None
    """Where it keeps what its scale subresource shows, if that is no usual place."""
    unsupported: Unsupported | None = None
    """Fields that are kept but that nothing acts on yet."""
    plugins: Plugins = field(default_factory=Plugins)
    """Admission that looks at this kind alone."""
    access: Access | None = None
    """What the default roles `view` and `edit` may do with it."""
    bucket: str = ""
    """Where its objects are stored, if that is another kind's place."""
    conversion: Conversion | None = None
    """Between it and what is stored, if that is another kind."""
    version: str = ""
    """The one this is about, if the versions of the kind differ in what is particular."""
    deprecation: str = ""
    """What each request is warned of."""
