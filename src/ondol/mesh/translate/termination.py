"""TLS that ends at the gateway: which certificate is shown for which names, and how the server speaks.

Knows nothing of listeners (`gateways` makes them); what Ingresses and Gateways ask for is made alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ondol.mesh.model import istio
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.credentials import Authorities, Certificate

NAME: Final = "ingress-tls"
"""Of the listener at the ingress' TLS port, and of the table of routes of Ingresses there."""
ALPN: Final = ("h2", "http/1.1")
_VERSIONS: Final = {
    "TLSV1_0": m.tls_common.TlsParameters.TLSv1_0,
    "TLSV1_1": m.tls_common.TlsParameters.TLSv1_1,
    "TLSV1_2": m.tls_common.TlsParameters.TLSv1_2,
    "TLSV1_3": m.tls_common.TlsParameters.TLSv1_3,
}


@dataclass(frozen=True, slots=True)
class Termination:
    """A certificate of Ingresses, and the names for which it is shown."""

    certificate: Certificate
    since: tuple[tuple[str, str], ...]
    """Names, wildcards, or `*` for whatever else is asked for; each with when it was first asked for."""

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(host for host, _ in self.since)

    @property
    def shape(self) -> tuple[object, ...]:
        """What of it the listener knows."""
        return self.certificate.name, self.since


def context(
    certificates: Sequence[Certificate],
    *,
    alpn: Sequence[str] = ALPN,
    tls: istio.ServerTLSSettings | None = None,
    authorities: Authorities | None = None,
) -> m.tls.DownstreamTlsContext:
    """How a server with these certificates speaks; it asks clients for theirs where it has authorities."""
    settings = tls or istio.ServerTLSSettings()
    params = m.tls_common.TlsParameters(
        tls_minimum_protocol_version=_VERSIONS.get(settings.min_protocol_version, _VERSIONS["TLSV1_2"]),
        cipher_suites=dict.fromkeys(settings.cipher_suites),
    )
    if settings.max_protocol_version in _VERSIONS:
        params.tls_maximum_protocol_version = _VERSIONS[settings.max_protocol_version]
    common = m.tls.CommonTlsContext(
        tls_params=params,
        alpn_protocols=alpn,
        tls_certificate_sds_secret_configs=[_served(each.secret) for each in certificates],
    )
    message = m.tls.DownstreamTlsContext(common_tls_context=common)
    if authorities is not None:
        _ask(message, settings, authorities)
    return message


def _ask(
    context: m.tls.DownstreamTlsContext, settings: istio.ServerTLSSettings, authorities: Authorities
) -> None:
    """What is asked of clients' certificates; the authorities may change, the rest is the listener's."""
    context.require_client_certificate.value = settings.mode == "MUTUAL"
    combined = context.common_tls_context.combined_validation_context
    combined.validation_context_sds_secret_config.CopyFrom(_served(authorities.secret))
    asked = combined.default_validation_context
    asked.SetInParent()
    asked.verify_certificate_spki.extend(settings.verify_certificate_spki)
    asked.verify_certificate_hash.extend(settings.verify_certificate_hash)
    if settings.insecure_skip_verify:
        asked.trust_chain_verification = m.tls_common.CertificateValidationContext.ACCEPT_UNTRUSTED
    of = m.tls_common.SubjectAltNameMatcher
    for name in settings.subject_alt_names:
        for kind in (of.DNS, of.URI, of.EMAIL, of.IP_ADDRESS):
            asked.match_typed_subject_alt_names.add(san_type=kind).matcher.exact = name


def _served(secret: str) -> m.tls_secret.SdsSecretConfig:
    return m.tls_secret.SdsSecretConfig(name=secret, sds_config=m.from_ads())
