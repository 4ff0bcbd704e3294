"""PeerAuthentication: whether calls must come with mutual TLS. Its definition and its findings.

Its validation is in `model.security_validation`; what follows from it in `policy.peers`. That of a
DestinationRule which stands against it is not needed: callers in the mesh use mutual TLS by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ondol.contracts import mesh
from ondol.mesh import security_descriptions
from ondol.mesh.dependencies import Dependencies
from ondol.mesh.kinds import attachment
from ondol.mesh.kinds.findings import NO_EFFECT
from ondol.mesh.kinds.kind import SECURITY_VERSIONS, Column, Finding, Kind
from ondol.mesh.model import security, security_validation
from ondol.mesh.policy import selection


def _survey(dependencies: Dependencies) -> Iterator[Finding]:
    rules = dependencies.world.of(selection.PEER)
    if not rules:
        return
    pods = attachment.Pods(dependencies)
    roots = dependencies.translation.registry.roots
    for rule in rules:
        if rule.namespace in roots and rule.spec.labels:
            text = f"in {rule.namespace}, which rules all namespaces, one with a selector has no effect"
            yield Finding(rule.origin, NO_EFFECT, text)
        else:
            yield from attachment.without_pods(rule, pods)
    yield from attachment.rivals(rules, pods)


KIND: Final = Kind(
    resource=mesh.PEER_AUTHENTICATION,
    short_name="pa",
    description="Whether calls to pods must come with mutual TLS.",
    spec=security.PeerAuthenticationSpec,
    fields=security_descriptions.FIELDS,
    columns=(Column("Mode", ".spec.mtls.mode"),),
    versions=SECURITY_VERSIONS,
    validate=security_validation.peer_authentication,
    of_workloads=True,
    survey=_survey,
    progress=attachment.PROGRESS,
)
