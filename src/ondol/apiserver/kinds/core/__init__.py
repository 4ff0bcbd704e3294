"""The kinds of the group core (`v1`)."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.core import (
    binding,
    config_map,
    endpoints,
    event,
    limit_range,
    namespace,
    node,
    pod,
    secret,
    service,
    service_account,
)

KINDS: Final = (
    binding.KIND,
    config_map.KIND,
    endpoints.KIND,
    event.KIND,
    limit_range.KIND,
    namespace.KIND,
    node.KIND,
    pod.KIND,
    secret.KIND,
    service.KIND,
    service_account.KIND,
)
