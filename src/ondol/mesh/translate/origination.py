"""TLS that begins at the proxy, and the PROXY protocol before it: how a service is spoken to by its cluster.

Credentials are resources of their own (SDS), so a new certificate changes no cluster. A cluster whose Secret
is not there serves nobody: the proxy opens no connection without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from ondol.api.objects import Key
from ondol.base import addresses
from ondol.mesh.model import istio
from ondol.mesh.translate import credentials, wire
from ondol.mesh.translate import messages as m
from ondol.mesh.translate.credentials import Content, Credentials, Problem
from ondol.mesh.translate.registry import DestinationRule
from ondol.mesh.xds.types import Resource

_TRUSTED_CA: Final = "/etc/ssl/certs/ca-certificates.crt"
_WAIT_MS: Final = 1000
"""How long a cluster waits for its certificate before it is there, and refuses."""


def secret_name(credential: str) -> str:
    """Not that of listeners: the proxy gives a resource to the first of its parts that asks for the name."""
    return f"credential|{credential}"


def authorities_name(credential: str) -> str:
    return f"credential|{credential}|ca"


# Which Secrets


def named(spec: istio.DestinationRuleSpec) -> Iterator[istio.ClientTLSSettings]:
    """The settings of a rule that name a Secret of its namespace."""
    for policy in (spec.traffic_policy, *(subset.traffic_policy for subset in spec.subsets)):
        if policy is not None:
            for tls in (policy.tls, *(port.tls for port in policy.port_level_settings)):
                if tls is not None and tls.credential_name:
                    yield tls


def shown(rules: Iterable[DestinationRule]) -> tuple[Key, ...]:
    """The Secrets that rules name."""
    keys = (Key(rule.namespace, tls.credential_name) for rule in rules for tls in named(rule.spec))
    return tuple(dict.fromkeys(keys))


def looked_at(rule: DestinationRule) -> Iterator[Key]:
    """Every Secret that is read for a rule."""
    for key in shown([rule]):
        yield from (key, _beside(key))


def _beside(key: Key) -> Key:
    """Where authorities may be apart from the certificate."""
    return Key(key.namespace, f"{key.name}{credentials.OF_AUTHORITIES}")


def _trust(key: Key, contents: Mapping[Key, Content]) -> tuple[Key, Content] | None:
    """The Secret that says whom to trust, if one does."""
    for each in (_beside(key), key):
        content = contents.get(each)
        if content is not None and content.names_authorities:
            return each, content
    return None


def secrets(key: Key, contents: Mapping[Key, Content]) -> Iterator[Resource]:
    """What of a Secret there is for clusters: its certificate, and whom to trust, the system's by default."""
    content = contents.get(key)
    if content is not None and content.certificate is not None:
        yield credentials.certificate_resource(content.certificate, secret_name(str(key)))
    name, trust = authorities_name(str(key)), _trust(key, contents)
    if trust is not None:
        if trust[1].authorities is not None:
            yield credentials.authorities_resource(trust[1].authorities, name)
    elif content is not None:
        system = m.tls_common.CertificateValidationContext(trusted_ca=_of_the_system())
        body = wire.encode(m.tls_secret.Secret(name=name, validation_context=system))
        yield Resource(name, wire.digest(body), body)


def problems(rule: DestinationRule, stored: Credentials) -> Iterator[tuple[str, Problem]]:
    """Why calls lack a certificate or whom to trust, or have a former one, with the name of the Secret."""
    for tls in dict.fromkeys(named(rule.spec)):
        key = Key(rule.namespace, tls.credential_name)
        content, trust = stored.contents.get(key), _trust(key, stored.contents)
        if content is None and (tls.mode == "MUTUAL" or trust is None):
            text = f"there is no Secret {key} of type kubernetes.io/tls or Opaque"
            yield tls.credential_name, Problem(credentials.MISSING, text)
        elif content is not None and tls.mode == "MUTUAL" and content.no_certificate:
            why = _why(key, content.no_certificate, former=content.certificate is not None)
            yield tls.credential_name, Problem(credentials.UNUSABLE, why)
        if trust is not None and trust[1].no_authorities:
            why = _why(trust[0], trust[1].no_authorities, former=trust[1].authorities is not None)
            yield tls.credential_name, Problem(credentials.UNUSABLE, why)


def _why(key: Key, why: str, *, former: bool) -> str:
    outcome = "the former one is used" if former else "calls that need it answer 503"
    return f"Secret {key}: {why}; {outcome}"


# For the proxy


def _of_the_system() -> m.base.DataSource:
    return m.base.DataSource(filename=_TRUSTED_CA)


def verified(host: str) -> m.base.TransportSocket:
    """TLS to a server whose certificate the machine's authorities vouch for, by its name."""
    return socket(istio.ClientTLSSettings(mode="SIMPLE"), host, "", http2=False)


def socket(
    settings: istio.ClientTLSSettings, host: str, namespace: str, *, http2: bool
) -> m.base.TransportSocket:
    """TLS to a host, with the credential of the rule's own namespace if it names one.

    Without a host no name is asked for, and only those count that the settings say.
    """
    context = m.tls.UpstreamTlsContext(sni=settings.sni or host)
    common = context.common_tls_context
    common.alpn_protocols.extend(["h2"] if http2 else ["http/1.1"])
    credential = f"{namespace}/{settings.credential_name}" if settings.credential_name else ""
    if settings.mode == "MUTUAL":
        common.tls_certificate_sds_secret_configs.append(_by_sds(secret_name(credential)))
    if not settings.insecure_skip_verify:
        _verify(common, settings, context.sni, credential)
    return m.base.TransportSocket(name="envoy.transport_sockets.tls", typed_config=m.any_of(context))


def _verify(
    common: m.tls.CommonTlsContext, settings: istio.ClientTLSSettings, sni: str, credential: str
) -> None:
    own = common.combined_validation_context
    context = own.default_validation_context if credential else common.validation_context
    for name in settings.subject_alt_names or filter(None, (sni,)):
        matched = context.match_typed_subject_alt_names.add()
        if "://" in name:
            matched.san_type = m.tls_common.SubjectAltNameMatcher.URI
        elif addresses.parsed(name) is not None:
            matched.san_type = m.tls_common.SubjectAltNameMatcher.IP_ADDRESS
        else:
            matched.san_type = m.tls_common.SubjectAltNameMatcher.DNS
        matched.matcher.exact = name
    if credential:
        own.validation_context_sds_secret_config.CopyFrom(_by_sds(authorities_name(credential)))
    else:
        context.trusted_ca.CopyFrom(_of_the_system())


def _by_sds(name: str) -> m.tls_secret.SdsSecretConfig:
    source = m.from_ads()
    source.initial_fetch_timeout.CopyFrom(m.duration(_WAIT_MS))
    return m.tls_secret.SdsSecretConfig(name=name, sds_config=source)


def announced(within: m.base.TransportSocket | None, settings: istio.ProxyProtocol) -> m.base.TransportSocket:
    """The same after a head that says who calls: HAProxy's PROXY protocol."""
    raw = m.base.TransportSocket(
        name="envoy.transport_sockets.raw_buffer", typed_config=m.any_of(m.raw_buffer.RawBuffer())
    )
    wrapped = m.proxy_transport.ProxyProtocolUpstreamTransport(transport_socket=within or raw)
    wrapped.config.version = (
        m.proxy_protocol.ProxyProtocolConfig.V2
        if settings.version == "V2"
        else m.proxy_protocol.ProxyProtocolConfig.V1
    )
    name = "envoy.transport_sockets.upstream_proxy_protocol"
    return m.base.TransportSocket(name=name, typed_config=m.any_of(wrapped))
