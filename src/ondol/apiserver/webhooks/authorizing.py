"""Who may do what, for expressions of webhooks and policies: the server's authorizer answers `authorizer`."""

from __future__ import annotations

from ondol.api.cel.library import authz
from ondol.apiserver.auth import identity, rbac
from ondol.apiserver.auth.identity import User
from ondol.apiserver.ports import Authorizer
from ondol.apiserver.webhooks.attributes import Attributes


class Port:
    """Implements the port of the `authorizer` variable for one user."""

    def __init__(self, authorizer: Authorizer, user: User) -> None:
        self._authorizer = authorizer
        self._user = user

    def decide(self, question: authz.Question) -> authz.Decision:
        user = self._user
        if question.service_account is not None:
            namespace, name = question.service_account
            groups = identity.service_account_groups(namespace)
            user = identity.authenticated(User(identity.service_account_name(namespace, name), groups))
        decision = self._authorizer.authorize(user, _attributes(question))
        return authz.Decision(allowed=decision.allowed, reason=decision.reason)


def _attributes(question: authz.Question) -> rbac.Attributes:
    if question.path:
        return rbac.Attributes(question.verb, path=question.path)
    return rbac.Attributes(
        question.verb,
        group=question.group,
        resource=question.resource,
        subresource=question.subresource,
        namespace=question.namespace,
        name=question.name,
        field_selector=question.field_selector,
    )


def variables(authorizer: Authorizer, attributes: Attributes) -> dict[str, object]:
    """The variables that ask the authorizer, for a write."""
    port = Port(authorizer, attributes.user)
    kind = attributes.requested.kind
    question = authz.Question(
        "",
        group=kind.group,
        resource=kind.plural,
        subresource=attributes.subresource,
        namespace=attributes.namespace,
        name=attributes.name,
    )
    return {
        "authorizer": authz.authorizer(port),
        "authorizer.requestResource": authz.resource_check(port, question),
    }
