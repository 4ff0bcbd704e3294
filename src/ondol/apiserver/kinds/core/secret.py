"""Secrets: the keys that each type must have. The role `view` does not read them."""

from __future__ import annotations

from typing import Final

from ondol.api.defaults import cluster as defaults
from ondol.api.tables import builtin
from ondol.api.validation import Rules, cluster
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind

KIND: Final = Kind(
    "",
    "Secret",
    default=defaults.secret,
    rules=Rules(cluster.secret, cluster.secret_update),
    layout=builtin.layout("", "Secret"),
    access=Access(edit=("secrets",)),
)
