"""The kinds of the group `networking.k8s.io`."""

from __future__ import annotations

from typing import Final

from ondol.apiserver.kinds.networking import ingress, ingress_class, network_policy, service_networks

KINDS: Final = (ingress.KIND, ingress_class.KIND, network_policy.KIND, *service_networks.KINDS)
