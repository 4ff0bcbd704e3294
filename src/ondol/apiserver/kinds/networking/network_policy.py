"""NetworkPolicies: who may speak with whom."""

# ruff: noqa: ARG002 - a hook names all it is given, as in the base class

from __future__ import annotations

from typing import ClassVar, Final

from ondol.api.defaults import network as defaults
from ondol.api.objects import Object
from ondol.api.tables import networking as tables
from ondol.api.validation import Rules, networks, warnings
from ondol.apiserver.auth.bootstrap_policy import Access
from ondol.apiserver.kinds.registration import Kind
from ondol.apiserver.strategy import Strategy


class NetworkPolicy(Strategy):
    has_generation: ClassVar[bool] = True

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        return warnings.network_policy(new)


KIND: Final = Kind(
    "networking.k8s.io",
    "NetworkPolicy",
    strategy=NetworkPolicy(),
    default=defaults.network_policy,
    rules=Rules(networks.policy),
    layout=tables.POLICY,
    access=Access(view=("networkpolicies",), edit=("networkpolicies",)),
)
