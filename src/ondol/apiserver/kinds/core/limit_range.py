"""LimitRanges: admission acts on them (`admission.limits`)."""

from __future__ import annotations

from typing import Final

from ondol.api.defaults import limits as defaults
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
