"""Istio's security kinds as frozen structs: every field of Istio's, and no other (see `model.istio`)."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from ondol.mesh.model.istio import Duration, Struct

DRY_RUN: Final = "istio.io/dry-run"
"""Annotation of an AuthorizationPolicy: it is looked at, and decides nothing."""
RULES_MAX: Final = 512
_NAME_MAX: Final = 253

Word: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
ObjectName: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=_NAME_MAX)]
ServiceAccounts: TypeAlias = Annotated[
    tuple[Annotated[str, msgspec.Meta(max_length=320)], ...], msgspec.Meta(max_length=16)
]
Action: TypeAlias = Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"]
Mode: TypeAlias = Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]


class WorkloadSelector(Struct, frozen=True):
    match_labels: dict[str, str] = msgspec.field(default_factory=dict)


class PolicyTargetReference(Struct, frozen=True):
    kind: Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
    name: ObjectName
    group: Annotated[str, msgspec.Meta(max_length=_NAME_MAX)] = ""
    namespace: str = ""


class Attached(Struct, frozen=True):
    """What an object is for: everything of its namespace, the pods with labels, or what it names."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: Annotated[tuple[PolicyTargetReference, ...], msgspec.Meta(max_length=16)] = ()

    @property
    def targets(self) -> tuple[PolicyTargetReference, ...]:
        """What it names, the former field included."""
        if self.target_refs or self.target_ref is None:
            return self.target_refs
        return (self.target_ref,)


# AuthorizationPolicy


class Source(Struct, frozen=True):
    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    not_request_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    service_accounts: ServiceAccounts = ()
    not_service_accounts: ServiceAccounts = ()
    trust_domains: tuple[str, ...] = ()
    not_trust_domains: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()


class Operation(Struct, frozen=True):
    hosts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()


class RuleFrom(Struct, frozen=True):
    source: Source | None = None


class RuleTo(Struct, frozen=True):
    operation: Operation | None = None


class Condition(Struct, frozen=True):
    key: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


class AuthorizationRule(Struct, frozen=True):
    """One of `from`, one of `to` and all of `when` must hold; None is as if it held, empty is a mistake."""

    from_: Annotated[tuple[RuleFrom, ...], msgspec.Meta(max_length=RULES_MAX)] | None = msgspec.field(
        default=None, name="from"
    )
    to: tuple[RuleTo, ...] | None = None
    when: tuple[Condition, ...] = ()


class ExtensionProvider(Struct, frozen=True):
    name: str = ""


class AuthorizationPolicySpec(Attached, frozen=True):
    action: Action = "ALLOW"
    rules: Annotated[tuple[AuthorizationRule, ...], msgspec.Meta(max_length=RULES_MAX)] = ()
    provider: ExtensionProvider | None = None


# RequestAuthentication


class JWTHeader(Struct, frozen=True):
    name: Word
    prefix: str = ""


class ClaimToHeader(Struct, frozen=True):
    header: Annotated[str, msgspec.Meta(min_length=1, pattern=r"^[-_A-Za-z0-9]+$")]
    claim: Word


class JWTRule(Struct, frozen=True):
    issuer: str = ""
    audiences: tuple[Word, ...] = ()
    jwks_uri: Annotated[str, msgspec.Meta(max_length=2048)] = ""
    former_jwks_uri: Annotated[str, msgspec.Meta(max_length=2048)] = msgspec.field(
        default="", name="jwks_uri"
    )
    jwks: str = ""
    from_headers: tuple[JWTHeader, ...] = ()
    from_params: tuple[Word, ...] = ()
    from_cookies: tuple[Word, ...] = ()
    output_payload_to_header: str = ""
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    forward_original_token: bool = False
    timeout: Duration | None = None
    space_delimited_claims: Annotated[tuple[Word, ...], msgspec.Meta(max_length=64)] = ()
    presence: Literal["OPTIONAL", "REQUIRED"] = "OPTIONAL"

    @property
    def keys_at(self) -> str:
        """Where its keys are fetched from, if they are."""
        return self.jwks_uri or self.former_jwks_uri


class RequestAuthenticationSpec(Attached, frozen=True):
    jwt_rules: Annotated[tuple[JWTRule, ...], msgspec.Meta(max_length=4096)] = ()


# PeerAuthentication


class MutualTLS(Struct, frozen=True):
    mode: Mode = "UNSET"


class PeerAuthenticationSpec(Struct, frozen=True):
    selector: WorkloadSelector | None = None
    mtls: MutualTLS | None = None
    port_level_mtls: dict[str, MutualTLS] | None = None
    """By number of the pod's port, in words, as JSON has keys."""

    @property
    def targets(self) -> tuple[PolicyTargetReference, ...]:
        return ()

    @property
    def labels(self) -> dict[str, str]:
        return self.selector.match_labels if self.selector is not None else {}
