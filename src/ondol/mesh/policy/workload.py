"""All that is asked of the calls that arrive at a workload: one value, for all workloads of one selection.

Filters are made of it for Envoy (`authorization`, `tokens`); `decision` decides by it without Envoy. Equal
values, which are cheap to compare, make equal filters in an equal context.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ondol.mesh.model import mesh_options
from ondol.mesh.model.mesh_options import MeshOptions
from ondol.mesh.policy import attributes, authorization, rbac, tokens
from ondol.mesh.policy.attributes import Attribute, Clause
from ondol.mesh.policy.authorization import AuthorizationPolicy
from ondol.mesh.policy.context import Context
from ondol.mesh.policy.peers import Layers, Mode, PeerModes
from ondol.mesh.policy.tokens import RequestAuthentication
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.registry import FAILURES, Rule
from ondol.mesh.xds.types import Origin


@dataclass(frozen=True)
class WorkloadPolicy:
    authorizations: tuple[AuthorizationPolicy, ...] = ()
    """The roots' first, of each namespace the oldest first."""
    authentications: tuple[RequestAuthentication, ...] = ()
    layers: Layers = field(default_factory=Layers)
    options: MeshOptions = mesh_options.DEFAULTS

    @cached_property
    def is_empty(self) -> bool:
        """Whether nothing is asked for at arrival: every call is let in, from whomever."""
        has_tokens = any(rule.spec.jwt_rules for rule in self.authentications)
        return not self.authorizations and not has_tokens and Mode.STRICT not in self.peers.modes

    @cached_property
    def peers(self) -> PeerModes:
        return self.layers.modes()

    @cached_property
    def origins(self) -> tuple[Origin, ...]:
        """Of all objects that it is made of."""
        return (
            *(rule.origin for rule in self.authorizations),
            *(rule.origin for rule in self.authentications),
            *(rule.origin for rule in self.layers.rules),
        )

    def suspects(self, context: Context, namespace: str) -> list[Origin]:
        """Whose fault it is that no filters can be made of it for a workload of the namespace, first of all.

        Who fails alone; else the newest objects of the namespace itself. A root namespace's hold for
        everybody, and what is refused is not in force: so nobody else's mistake may be theirs.
        """
        rules: list[Rule[Any]] = [*self.authorizations, *self.authentications, *self.layers.rules]
        rules.sort(key=lambda rule: rule.age, reverse=True)
        rules.sort(key=lambda rule: (not self._fails_alone(rule, context), rule.namespace != namespace))
        return [rule.origin for rule in rules]

    def _fails_alone(self, rule: Rule[Any], context: Context) -> bool:
        alone = WorkloadPolicy(
            (rule,) if rule in self.authorizations else (),
            (rule,) if rule in self.authentications else (),
            options=self.options,
        )
        try:
            alone.http_filters(context)
            alone.network_filters(context, unread=True)
            alone.jwks_clusters(context)
        except FAILURES:
            return True
        return False

    @cached_property
    def looks_at_paths(self) -> bool:
        """Whether a rule's outcome depends on how a path is written."""
        return any(test.attribute is Attribute.PATH for clause in self.clauses() for test in clause.tests)

    @cached_property
    def looks_at_callers(self) -> bool:
        """Whether something is asked that only a certificate tells."""
        tests = (test for clause in self.clauses() for test in clause.tests)
        is_asked = any(test.attribute in attributes.OF_CALLER for test in tests)
        return is_asked or Mode.STRICT in self.peers.modes

    def clauses(self) -> Iterator[Clause]:
        """The rules of all AuthorizationPolicies."""
        for rule in self.authorizations:
            for each in rule.spec.rules:
                yield attributes.clause(each, rule.namespace, self.options)

    def http_filters(self, context: Context) -> list[m.hcm.HttpFilter]:
        """For requests, in order; they go before the router."""
        checked = tokens.http_filter(self.authentications, context)
        before = [checked] if checked is not None else []
        if self.looks_at_paths:
            guard = m.any_of(m.http_rbac.RBAC(rules=rbac.ambiguous_paths()))
            before.append(m.hcm.HttpFilter(name=authorization.HTTP_RBAC, typed_config=guard))
        return before + authorization.http_filters(self.authorizations, self.options, context)

    def network_filters(
        self, context: Context, *, unread: bool = False
    ) -> list[m.listener_components.Filter]:
        """For connections that are not HTTP, in order; they go before what carries the bytes.

        Of a rule that asks for something of HTTP: one of ALLOW never holds, of one that denies the rest does.
        `unread`: for those of which nobody declared what they are. What would have to be asked about a
        request denies them: they may be HTTP that was not known for it.
        """
        checked = authorization.network_filters(self.authorizations, self.options, context, unread=unread)
        if not unread or not tokens.are_needed(self.authentications):
            return checked
        denied = m.rbac.RBAC(action=m.rbac.RBAC.DENY, policies={"unread-token": rbac.everything()})
        return [authorization.network_filter(m.http_rbac.RBAC(rules=denied)), *checked]

    def jwks_clusters(self, context: Context) -> list[m.cluster.Cluster]:
        """The clusters that its filters name and no Service has: the same for every workload that has one."""
        return list(tokens.key_clusters(self.authentications, context))
