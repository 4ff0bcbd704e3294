"""TLS that ends at the gateway: one listener, chains for each certificate, chosen by the name in the hello.

Certificates are resources of their own (SDS): a new one changes no listener, so no connection ends. Keys
stand in no other resource, and the proxy shows them to nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ondol.mesh.translate import chains, wire
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.chains import Identity, Observation
from ondol.mesh.xds.types import Origin, Resource

NAME: Final = "ingress-tls"
"""Of the listener and of its table of routes."""
_ANY_NAME: Final = "*"
_ALPN: Final = ("h2", "http/1.1")


@dataclass(frozen=True, slots=True)
class Termination:
    """A certificate, and the names for which it is shown."""

    name: str
    """`namespace/secret`."""
    version: str
    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)
    hosts: tuple[str, ...]
    """Names, wildcards, or `*` for whatever else is asked for, or nothing."""

    @property
    def secret(self) -> str:
        return secret_name(self.name)

    @property
    def shape(self) -> tuple[str, tuple[str, ...]]:
        """What of it the listener knows."""
        return self.name, self.hosts


def secret_name(certificate: str) -> str:
    """The resource of a certificate, `namespace/secret`."""
    return f"certificate|{certificate}"


def listener(
    place: tuple[str, int],
    terminations: Sequence[Termination],
    identity: Identity,
    observation: Observation,
    origins: Iterable[Origin],
) -> Resource:
    inspector = m.listener_components.ListenerFilter(
        name="envoy.filters.listener.tls_inspector", typed_config=m.any_of(m.tls_inspector.TlsInspector())
    )
    message = m.listener.Listener(
        name=NAME,
        stat_prefix="ingress_tls",
        traffic_direction=m.base.OUTBOUND,
        address=m.socket(*place),
        enable_reuse_port=m.boolean(False),
        listener_filters=[inspector],
        filter_chains=[chain for each in terminations for chain in _chains(each, identity, observation)],
    )
    encoded = wire.encode(message)
    return Resource(NAME, wire.digest(encoded), encoded, tuple(origins))


def _chains(
    termination: Termination, identity: Identity, observation: Observation
) -> Iterator[m.listener_components.FilterChain]:
    """One for its names, one for whatever else: there its names would give way to others' wildcards."""
    name = f"tls|{termination.name}"
    if named := [host for host in termination.hosts if host != _ANY_NAME]:
        chain = _chain(name, termination.secret, identity, observation)
        chain.filter_chain_match.server_names.extend(named)
        yield chain
    if _ANY_NAME in termination.hosts:
        yield _chain(f"{name}|{_ANY_NAME}", termination.secret, identity, observation)


def _chain(
    name: str, certificate: str, identity: Identity, observation: Observation
) -> m.listener_components.FilterChain:
    chain = chains.http(name, NAME, identity, observation, ingress=True)
    chain.transport_socket.name = "envoy.transport_sockets.tls"
    chain.transport_socket.typed_config.CopyFrom(m.any_of(context(certificate)))
    return chain


def context(secret: str) -> m.tls.DownstreamTlsContext:
    """How a server with the certificate of that name speaks."""
    params = m.tls_common.TlsParameters(tls_minimum_protocol_version=m.tls_common.TlsParameters.TLSv1_2)
    served = m.tls_secret.SdsSecretConfig(name=secret, sds_config=m.from_ads())
    return m.tls.DownstreamTlsContext(
        common_tls_context=m.tls.CommonTlsContext(
            tls_params=params, alpn_protocols=_ALPN, tls_certificate_sds_secret_configs=[served]
        )
    )


def secret(termination: Termination) -> Resource:
    certificate = m.tls_common.TlsCertificate(
        certificate_chain=m.base.DataSource(inline_bytes=termination.chain),
        private_key=m.base.DataSource(inline_bytes=termination.key),
    )
    message = m.tls_secret.Secret(name=termination.secret, tls_certificate=certificate)
    return Resource(termination.secret, termination.version, wire.encode(message))
