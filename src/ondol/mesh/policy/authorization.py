"""AuthorizationPolicies as filters of Envoy, in the order in which they decide: CUSTOM, AUDIT, DENY, ALLOW.

What is dry-run stands beside the rules as shadow rules, whose results are in the statistics and metadata of
the filter and decide nothing. A CUSTOM policy is two filters: RBAC, whose shadow rules say whether the policy
holds, and ext_authz, which asks the provider if they said so. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from ondol.mesh.model import istio, security
from ondol.mesh.model.mesh_options import (
    CONFIG_MAP,
    GrpcServer,
    HttpServer,
    MeshOptions,
    Provider,
    RequestBody,
)
from ondol.mesh.policy import attributes, matchers, rbac
from ondol.mesh.policy.context import Context
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.registry import Rule

AuthorizationPolicy: TypeAlias = Rule[security.AuthorizationPolicySpec]

HTTP_RBAC: Final = "envoy.filters.http.rbac"
HTTP_EXT_AUTHZ: Final = "envoy.filters.http.ext_authz"
NETWORK_RBAC: Final = "envoy.filters.network.rbac"
NETWORK_EXT_AUTHZ: Final = "envoy.filters.network.ext_authz"
_ASKED: Final = "istio_ext_authz_"
_POLICY_ID: Final = "shadow_effective_policy_id"
_CUSTOM: Final = "istio-ext-authz"
_BAD: Final = "-deny-due-to-bad-CUSTOM-action"
_UNREAD: Final = "-deny-unread-CUSTOM-action"
_STAT_PREFIX: Final = "tcp."
_TIMEOUT_MS: Final = 600_000
_DRY_RUN: Final = "istio_dry_run_"
SEVERAL: Final = "a workload may have CUSTOM policies of one provider only: all that they match is denied"


def http_filters(
    rules: Sequence[AuthorizationPolicy], options: MeshOptions, context: Context
) -> list[m.hcm.HttpFilter]:
    """For requests."""
    builder = _Builder(rules, options, context, of_http=True)
    filters = []
    for each in builder.steps():
        name = HTTP_RBAC if isinstance(each, m.http_rbac.RBAC) else HTTP_EXT_AUTHZ
        filters.append(m.hcm.HttpFilter(name=name, typed_config=m.any_of(each)))
    return filters


def network_filters(
    rules: Sequence[AuthorizationPolicy], options: MeshOptions, context: Context, *, unread: bool = False
) -> list[m.listener_components.Filter]:
    """For connections that are not HTTP; `unread`, for those that may be HTTP after all.

    A caller that says nothing for a while, or begins strangely, must not pass by whom a provider that is
    asked about requests would refuse.
    """
    builder = _Builder(rules, options, context, of_http=False, unread=unread)
    filters = []
    for each in builder.steps():
        if isinstance(each, m.http_rbac.RBAC):
            filters.append(network_filter(each))
        elif each.HasField("grpc_service"):  # by HTTP nobody can be asked about what is not HTTP
            asked = m.network_ext_authz.ExtAuthz(
                stat_prefix=_STAT_PREFIX,
                grpc_service=each.grpc_service,
                failure_mode_allow=each.failure_mode_allow,
                transport_api_version=m.sources.V3,
                filter_enabled_metadata=each.filter_enabled_metadata,
            )
            asked.filter_enabled_metadata.filter = NETWORK_RBAC
            filters.append(m.listener_components.Filter(name=NETWORK_EXT_AUTHZ, typed_config=m.any_of(asked)))
    return filters


def network_filter(step: m.http_rbac.RBAC) -> m.listener_components.Filter:
    """The same for connections."""
    network = m.network_rbac.RBAC(
        stat_prefix=_STAT_PREFIX, shadow_rules_stat_prefix=step.shadow_rules_stat_prefix
    )
    if step.HasField("rules"):
        network.rules.CopyFrom(step.rules)
    if step.HasField("shadow_rules"):
        network.shadow_rules.CopyFrom(step.shadow_rules)
    return m.listener_components.Filter(name=NETWORK_RBAC, typed_config=m.any_of(network))


def provider_name(rule: AuthorizationPolicy) -> str:
    return rule.spec.provider.name if rule.spec.provider is not None else ""


def problem(provider: Provider, context: Context) -> str:
    """Why a provider cannot be asked, or nothing."""
    if provider.problem or provider.server is None:
        return provider.problem
    if _cluster(provider.server, context) is None:
        return (
            f"provider {provider.name}: no service {provider.server.service} has port {provider.server.port}"
        )
    return ""


def _cluster(server: HttpServer | GrpcServer, context: Context) -> str | None:
    namespace, _, host = server.service.rpartition("/")
    return context.find(host, server.port, namespace or CONFIG_MAP.namespace)


class _Builder:
    """The filters of HTTP's form for one kind of traffic; whoever asks makes others of them."""

    def __init__(
        self,
        rules: Sequence[AuthorizationPolicy],
        options: MeshOptions,
        context: Context,
        *,
        of_http: bool,
        unread: bool = False,
    ) -> None:
        self._by_action: dict[str, list[AuthorizationPolicy]] = {}
        for rule in rules:
            self._by_action.setdefault(rule.spec.action, []).append(rule)
        self._options = options
        self._context = context
        self._of_http = of_http
        self._unread = unread

    def steps(self) -> Iterator[m.http_rbac.RBAC | m.ext_authz.ExtAuthz]:
        yield from self._custom(self._by_action.get("CUSTOM", ()))
        for action in ("AUDIT", "DENY", "ALLOW"):
            rules = self._by_action.get(action, ())
            if not rules:
                continue
            step = m.http_rbac.RBAC()
            if enforced := [rule for rule in rules if not rule.is_dry_run]:
                step.rules.CopyFrom(self._rules(enforced, action))
            if dry := [rule for rule in rules if rule.is_dry_run]:
                step.shadow_rules.CopyFrom(self._rules(dry, action))
                step.shadow_rules_stat_prefix = f"{_DRY_RUN}{'allow' if action == 'ALLOW' else 'deny'}_"
            yield step

    def _rules(
        self,
        rules: Iterable[AuthorizationPolicy],
        action: str,
        first: str = "",
        last: str = "",
        *,
        of_requests: bool = False,
    ) -> m.rbac.RBAC:
        """One policy of Envoy's a rule; one that never holds stands for an object without rules.

        `of_requests`: of the rules those that ask for something of HTTP.
        """
        built = m.rbac.RBAC(action=rbac.ACTIONS[action])
        for rule in rules:
            name = f"{first}ns[{rule.namespace}]-policy[{rule.origin.name}]"
            for index, each in enumerate(rule.spec.rules):
                clause = attributes.clause(each, rule.namespace, self._options)
                if of_requests and not clause.is_of_requests:
                    continue
                policy = rbac.policy(clause, of_http=self._of_http, is_allow=action == "ALLOW")
                if policy is not None:
                    built.policies[f"{name}-rule[{index}]{last}"].CopyFrom(policy)
            if not rule.spec.rules:
                built.policies[f"{name}-rule[0]{last}"].CopyFrom(rbac.never())
        return built

    def _custom(
        self, rules: Sequence[AuthorizationPolicy]
    ) -> Iterator[m.http_rbac.RBAC | m.ext_authz.ExtAuthz]:
        by_provider: dict[str, list[AuthorizationPolicy]] = {}
        for rule in rules:
            if not rule.is_dry_run:
                by_provider.setdefault(provider_name(rule), []).append(rule)
        bad = [
            rule
            for name, members in sorted(by_provider.items())
            if len(by_provider) > 1 or problem(self._options.provider(name), self._context)
            for rule in members
        ]
        if bad:  # of however many providers one filter: a pod's listener has room for so many
            yield m.http_rbac.RBAC(rules=self._rules(bad, "DENY", last=_BAD))
            by_provider = {}
        for name, members in by_provider.items():
            provider = self._options.provider(name)
            if self._unread:
                of_requests = not isinstance(provider.server, HttpServer)
                yield m.http_rbac.RBAC(
                    rules=self._rules(members, "DENY", last=_UNREAD, of_requests=of_requests)
                )
            prefix = f"{_CUSTOM}-{name}-"
            yield m.http_rbac.RBAC(
                shadow_rules=self._rules(members, "CUSTOM", prefix), shadow_rules_stat_prefix=_ASKED
            )
            yield self._asked(provider, prefix)
        if dry := [rule for rule in rules if rule.is_dry_run]:
            shadow = self._rules(dry, "CUSTOM")
            yield m.http_rbac.RBAC(shadow_rules=shadow, shadow_rules_stat_prefix=f"{_DRY_RUN}custom_")

    def _asked(self, provider: Provider, prefix: str) -> m.ext_authz.ExtAuthz:
        """Asks the provider about what the shadow rules before it said is its affair."""
        server = provider.server
        if server is None:
            raise ValueError(provider.problem)
        matched = m.value_matcher.ValueMatcher(string_match=m.strings.StringMatcher(prefix=f"{prefix}ns["))
        config = m.ext_authz.ExtAuthz(
            transport_api_version=m.sources.V3,
            failure_mode_allow=server.fail_open,
            clear_route_cache=server.clear_route_cache,
            filter_enabled_metadata=matchers.metadata(HTTP_RBAC, (f"{_ASKED}{_POLICY_ID}",), matched),
        )
        if server.status_on_error:
            m.parse({"code": int(server.status_on_error)}, config.status_on_error)
        if server.include_request_body_in_check is not None:
            config.with_request_body.CopyFrom(_body(server.include_request_body_in_check))
        host = server.service.rpartition("/")[2]
        cluster = _cluster(server, self._context) or ""
        if isinstance(server, HttpServer):
            config.http_service.CopyFrom(_http_service(server, host, cluster))
            names = server.include_request_headers_in_check or server.include_headers_in_check
            if names:
                config.allowed_headers.CopyFrom(_headers(names))
        else:
            config.grpc_service.envoy_grpc.cluster_name = cluster
            config.grpc_service.envoy_grpc.authority = host
            config.grpc_service.timeout.CopyFrom(m.duration(_timeout_ms(server)))
        return config


def _timeout_ms(server: HttpServer | GrpcServer) -> int:
    return _TIMEOUT_MS if server.timeout is None else istio.milliseconds(server.timeout, "timeout")


def _body(settings: RequestBody) -> m.ext_authz.BufferSettings:
    return m.ext_authz.BufferSettings(
        max_request_bytes=settings.max_request_bytes,
        allow_partial_message=settings.allow_partial_message,
        pack_as_bytes=settings.pack_as_bytes,
    )


def _http_service(server: HttpServer, host: str, cluster: str) -> m.ext_authz.HttpService:
    uri = m.http_uri.HttpUri(uri=f"http://{host}", cluster=cluster, timeout=m.duration(_timeout_ms(server)))
    service = m.ext_authz.HttpService(server_uri=uri, path_prefix=server.path_prefix)
    added: Mapping[str, Any] = server.include_additional_headers_in_check
    for name in sorted(added):
        service.authorization_request.headers_to_add.add(key=name, value=added[name])
    answer = service.authorization_response
    for names, field in (
        (server.headers_to_upstream_on_allow, answer.allowed_upstream_headers),
        (server.headers_to_downstream_on_deny, answer.allowed_client_headers),
        (server.headers_to_downstream_on_allow, answer.allowed_client_headers_on_success),
    ):
        if names:
            field.CopyFrom(_headers(names))
    return service


def _headers(names: Iterable[str]) -> m.strings.ListStringMatcher:
    return m.strings.ListStringMatcher(patterns=[matchers.string(name, ignores_case=True) for name in names])
