"""`Parts`: what of the server plug-ins may use."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ondol.apiserver.auth.rbac import Authorizer
from ondol.apiserver.config import ApiConfig
from ondol.apiserver.quota_usage import QuotaUsage
from ondol.apiserver.service_addresses import ServiceAddresses
from ondol.apiserver.state import State


@dataclass(frozen=True, slots=True)
class Parts:
    """Configuration, the objects as they are now, and what is given out."""

    config: ApiConfig
    state: State
    rng: random.Random
    service_addresses: ServiceAddresses
    quotas: QuotaUsage
    rbac: Authorizer | None
    """The authorizer, if it is the one that decides by the RBAC objects kept here."""
