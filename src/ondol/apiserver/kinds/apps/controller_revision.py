"""ControllerRevisions: states of templates, kept by whoever owns them."""

from __future__ import annotations

from typing import Final

from ondol.api.tables import builtin
from ondol.api.validation import Rules, stateful_sets
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind

KIND: Final = Kind(
    "apps",
    "ControllerRevision",
    rules=Rules(stateful_sets.revision, stateful_sets.revision_update),
    layout=builtin.layout("apps", "ControllerRevision"),
    access=Access(view=("controllerrevisions",)),
)
