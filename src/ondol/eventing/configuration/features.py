"""The flags of the ConfigMap `config-features`, with Knative's defaults. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

KREFERENCE_GROUP: Final = "kreference-group"
KREFERENCE_MAPPING: Final = "kreference-mapping"
DELIVERY_RETRY_AFTER: Final = "delivery-retryafter"
DELIVERY_TIMEOUT: Final = "delivery-timeout"
TRANSPORT_ENCRYPTION: Final = "transport-encryption"
EVENT_TYPE_AUTO_CREATE: Final = "eventtype-auto-create"
OIDC: Final = "authentication-oidc"
DEFAULT_AUTHORIZATION: Final = "default-authorization-mode"
CROSS_NAMESPACE: Final = "cross-namespace-event-links"
API_SERVER_FILTERS: Final = "new-apiserversource-filters"
OIDC_DISCOVERY: Final = "oidc-discovery-base-url"
REQUEST_REPLY_TIMEOUT: Final = "requestreply-default-timeout"
NODE_SELECTOR: Final = "apiserversources-nodeselector-"

ENABLED: Final = "enabled"
DISABLED: Final = "disabled"
PERMISSIVE: Final = "permissive"
STRICT: Final = "strict"
ALLOW_ALL: Final = "allow-all"
DENY_ALL: Final = "deny-all"
ALLOW_SAME_NAMESPACE: Final = "allow-same-namespace"

DEFAULTS: Final[Mapping[str, str]] = {
    KREFERENCE_GROUP: DISABLED,
    DELIVERY_RETRY_AFTER: DISABLED,
    DELIVERY_TIMEOUT: ENABLED,
    KREFERENCE_MAPPING: DISABLED,
    TRANSPORT_ENCRYPTION: DISABLED,
    EVENT_TYPE_AUTO_CREATE: DISABLED,
    OIDC: DISABLED,
    DEFAULT_AUTHORIZATION: ALLOW_SAME_NAMESPACE,
    CROSS_NAMESPACE: DISABLED,
    API_SERVER_FILTERS: DISABLED,
    OIDC_DISCOVERY: "https://kubernetes.default.svc",
    REQUEST_REPLY_TIMEOUT: "PT30S",
}
SHOWN: Final[Mapping[str, str]] = {
    flag: value for flag, value in DEFAULTS.items() if flag not in (OIDC_DISCOVERY, REQUEST_REPLY_TIMEOUT)
}
"""What the ConfigMap is made with: the flags that are switched, each as it is anyway."""
WITHOUT_EFFECT: Final[Mapping[str, str]] = {
    CROSS_NAMESPACE: "Triggers and Subscriptions have brokers and channels of their own namespace",
    KREFERENCE_MAPPING: "references lead to objects with an address only",
    OIDC_DISCOVERY: "tokens are looked at by the API server of this platform",
}
"""Flags that do nothing here when they are set, with what happens instead."""
_TEXTS: Final = (OIDC_DISCOVERY, REQUEST_REPLY_TIMEOUT)
_MODES: Final = (ALLOW_ALL, DENY_ALL, ALLOW_SAME_NAMESPACE)
_OF_FLAG: Final[Mapping[str, tuple[str, ...]]] = {
    TRANSPORT_ENCRYPTION: (DISABLED, PERMISSIVE, STRICT),
    DEFAULT_AUTHORIZATION: _MODES,
}
_USUAL: Final = (ENABLED, DISABLED, "allowed")


@dataclass(frozen=True, slots=True)
class Features:
    """What is on; `ca_certs` certify the data plane's addresses (PEM), where it serves TLS."""

    flags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType(dict(DEFAULTS)))
    ca_certs: str = ""

    def is_on(self, flag: str) -> bool:
        return self.flags.get(flag) == ENABLED

    @property
    def oidc(self) -> bool:
        """Whether who sends events must say who it is."""
        return self.is_on(OIDC)

    @property
    def transport(self) -> str:
        """How events are sent to addresses here: disabled (plain), permissive (both), strict (by TLS)."""
        return self.flags[TRANSPORT_ENCRYPTION] if self.ca_certs else DISABLED

    @property
    def default_authorization(self) -> str:
        """Who may send where no EventPolicy says it."""
        return self.flags[DEFAULT_AUTHORIZATION]

    @property
    def request_reply_timeout(self) -> str:
        return self.flags[REQUEST_REPLY_TIMEOUT]


def of(config_map: Mapping[str, Any] | None, ca_certs: str = "") -> Features:
    """The flags of the ConfigMap; one without a value that it can have is at its default."""
    flags = dict(DEFAULTS)
    for flag, text in ((config_map or {}).get("data") or {}).items():
        name, value = flag.strip(), str(text).strip()
        if name in _TEXTS:
            flags[name] = value
        elif value.lower() in _OF_FLAG.get(name, _USUAL):
            flags[name] = value.lower()
    return Features(MappingProxyType(flags), ca_certs)


def problems(data: Mapping[str, str]) -> list[str]:
    """What of a ConfigMap's data has no effect, in sentences."""
    sentences = []
    for flag, text in data.items():
        name, value = flag.strip(), str(text).strip().lower()
        if name.startswith("_"):
            continue
        if name.startswith(NODE_SELECTOR):
            sentences.append(f"data[{flag}] has no effect: sources run in a process of the platform")
        elif name not in DEFAULTS:
            sentences.append(f"data[{flag}]: this flag is not known")
        elif name in WITHOUT_EFFECT and value not in (DISABLED, DEFAULTS[name]):
            sentences.append(f"data[{flag}] has no effect: {WITHOUT_EFFECT[name]}")
        elif name not in _TEXTS and value not in (allowed := _OF_FLAG.get(name, _USUAL)):
            sentences.append(f'data[{flag}]: "{text}" is none of {", ".join(allowed)}; the default holds')
    return sentences
