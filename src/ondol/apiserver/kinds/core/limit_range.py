"""LimitRanges: bounds and defaults for the pods of a namespace. PUT creates what is missing."""

from __future__ import annotations

from typing import Final

from ondol.api.defaults import cluster as defaults
from ondol.api.validation import Rules, limits
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Upserted

KIND: Final = Kind(
    "",
    "LimitRange",
    strategy=Upserted(),
    default=defaults.limit_range,
    rules=Rules(limits.limit_range),
    access=Access(view=("limitranges",)),
)
