"""ConfigMaps: how large their data may be, and when it is immutable."""

from __future__ import annotations

from typing import Final

from ondol.api.tables import builtin
from ondol.api.validation import Rules, cluster
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind

KIND: Final = Kind(
    "",
    "ConfigMap",
    rules=Rules(cluster.config_map, cluster.config_map_update),
    layout=builtin.layout("", "ConfigMap"),
    access=Access(view=("configmaps",), edit=("configmaps",)),
)
