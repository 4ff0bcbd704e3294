"""RequestAuthentication: whose tokens are believed. Its definition and its findings.

Its validation is in `model.security_validation`, its translation in `policy.tokens`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ondol.contracts import mesh
from ondol.mesh import security_descriptions
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.kinds import attachment
from ondol.mesh.kinds.findings import PRIVATE_KEYS
from ondol.mesh.kinds.kind import SECURITY_VERSIONS, Finding, Kind
from ondol.mesh.model import security, security_validation
from ondol.mesh.policy import selection


def _survey(dependencies: Dependencies) -> Iterator[Finding]:
    rules = dependencies.world.of(selection.REQUEST)
    if not rules:
        return
    pods = attachment.Pods(dependencies)
    for rule in rules:
        yield from attachment.without_pods(rule, pods)
        for index, each in enumerate(rule.spec.jwt_rules):
            if each.jwks and security_validation.has_private_keys(each.jwks):
                text = "jwks contains private key material; only public keys are used for verification"
                yield Finding(rule.origin, PRIVATE_KEYS, f"spec.jwtRules[{index}]: {text}")
    yield from attachment.rivals(rules, pods)


KIND: Final = Kind(
    resource=mesh.REQUEST_AUTHENTICATION,
    short_name="ra",
    description="Whose tokens (JWT) are believed of calls to pods.",
    spec=security.RequestAuthenticationSpec,
    fields=security_descriptions.FIELDS,
    versions=SECURITY_VERSIONS,
    validate=security_validation.request_authentication,
    of_workloads=True,
    alone=attachment.of_gateways,
    survey=_survey,
    progress=attachment.PROGRESS,
)
