"""Mutual TLS between workloads: who a caller is in a call, and how guarded pods are spoken to.

A connection carries its caller's identity as filter state, and the proxy takes the certificate of that name
when it dials: one cluster serves all callers. Which endpoints are dialled so is said by their metadata: those
of guarded pods, whose arrivals are turned to the proxy. Certificates and roots come by SDS: a new one changes
no listener and no cluster, and ends no connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ondol.mesh import mirrors
from ondol.mesh.identity import spiffe
from ondol.mesh.identity.authority import Issued
from ondol.mesh.translate import messages as m
from ondol.mesh.translate import wire
from ondol.mesh.xds.types import Resource

IDENTITY: Final = mirrors.DIALLED_AS
"""Filter state: the name of the certificate by which the caller is known. Envoy's own name for it."""
SPEAKS: Final = mirrors.SPEAKS
"""Filter state of connections that were read as HTTP, for ports of which it is not declared."""
CALLED: Final = "ondol.called"
"""Filter state: to which address a pod's connection was made."""
CALLED_AT: Final = "ondol.called-at"
"""The same with the port."""
HTTP: Final = "http"
HTTP_ALPN: Final = "istio-http"
TCP_ALPN: Final = "istio"
"""What the hello says of the bytes within: the proxy at the other end picks its filter chain by it."""
ROOTS: Final = "mesh-roots"
METADATA: Final = "envoy.transport_socket_match"
"""Where an endpoint's metadata say how it is dialled."""
MODE: Final = "tlsMode"
MUTUAL: Final = "istio"
_CALLED: Final = {
    CALLED: "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
    CALLED_AT: "%DOWNSTREAM_LOCAL_ADDRESS%",
}
_EXTENSIONS: Final = "type.googleapis.com/envoy.extensions"
_CERTIFICATES: Final = f"{_EXTENSIONS}.transport_sockets.tls"
_RAW: Final = "envoy.transport_sockets.raw_buffer"
_TLS: Final = "envoy.transport_sockets.tls"


class Address(NamedTuple):
    """A guarded pod, for calls of its address."""

    address: str
    namespace: str
    is_mutual: bool
    """Whether its ports are dialled with mutual TLS."""
    other_ports: tuple[int, ...] = ()
    """Those of which the contrary holds."""
    asks_callers: bool = True


def endpoint_metadata(endpoint: m.endpoint_components.LbEndpoint) -> None:
    """Have the endpoint dialled with mutual TLS by clusters that know of it."""
    m.parse({"filterMetadata": {METADATA: {MODE: MUTUAL}}}, endpoint.metadata)


def to_guarded(cluster: m.cluster.Cluster, peers: Sequence[str], sni: str, *, http: bool | None) -> None:
    """Dial guarded endpoints of the cluster with mutual TLS.

    `peers`: with one of which the identities of its endpoints begin. `http`: whether HTTP is spoken within;
    None where each connection says so (`SPEAKS`).
    """
    by_alpn = {alpn: _upstream(alpn, peers, sni) for alpn in (HTTP_ALPN, TCP_ALPN)}
    if http is not None:
        socket = by_alpn[HTTP_ALPN if http else TCP_ALPN]
        match = cluster.transport_socket_matches.add(name=MUTUAL, transport_socket=socket)
        match.match.update({MODE: MUTUAL})
        cluster.transport_socket_matches.add(name="plain", transport_socket=raw()).match.SetInParent()
        return
    for alpn, socket in by_alpn.items():
        cluster.transport_socket_matches.add(name=alpn, transport_socket=socket).match.SetInParent()
    cluster.transport_socket_matches.add(name="plain", transport_socket=raw()).match.SetInParent()
    m.parse(_BY_CONNECTION, cluster.transport_socket_matcher)


def to_addresses(cluster: m.cluster.Cluster, addresses: Iterable[Address], trust_domain: str) -> None:
    """Dial these with mutual TLS in a cluster whose connections go where their callers' were going.

    Such a cluster has no endpoints that could say so themselves. What was not read as HTTP is dialled so only
    where the pod asks who calls: what is encrypted its listener does not look into.
    """
    listed = sorted(addresses)
    for namespace in sorted({each.namespace for each in listed}):
        peers = [spiffe.of_namespace(trust_domain, namespace)]
        for alpn in (HTTP_ALPN, TCP_ALPN):
            name, socket = f"{alpn}|{namespace}", _upstream(alpn, peers, "")
            cluster.transport_socket_matches.add(name=name, transport_socket=socket).match.SetInParent()
    cluster.transport_socket_matches.add(name="plain", transport_socket=raw()).match.SetInParent()
    unread = _by_place(TCP_ALPN, [each for each in listed if each.asks_callers])
    chosen = _by_state(SPEAKS, {HTTP: _by_place(HTTP_ALPN, listed)}, unread)
    cluster.transport_socket_matcher.CopyFrom(chosen.matcher)


def _by_place(alpn: str, listed: Iterable[Address]) -> m.matcher.Matcher.OnMatch:
    """By address and port where a port is dialled otherwise, else by address; plain what is none of these."""
    addresses: dict[str, m.matcher.Matcher.OnMatch] = {}
    places: dict[str, m.matcher.Matcher.OnMatch] = {}
    plain = _socket("plain")
    sockets = {each.namespace: _socket(f"{alpn}|{each.namespace}") for each in listed}
    for each in listed:
        own = sockets[each.namespace]
        if each.is_mutual:
            addresses[each.address] = own
        for port in each.other_ports:
            places[f"{each.address}:{port}"] = plain if each.is_mutual else own
    return _by_state(CALLED_AT, places, _by_state(CALLED, addresses, plain))


def _by_state(
    key: str, matches: Mapping[str, m.matcher.Matcher.OnMatch], otherwise: m.matcher.Matcher.OnMatch
) -> m.matcher.Matcher.OnMatch:
    if not matches:
        return otherwise
    matcher = m.matcher.Matcher(on_no_match=otherwise)
    m.parse(
        _matched("envoy.matching.inputs.transport_socket_filter_state", "FilterStateInput", key=key),
        matcher.matcher_tree.input,
    )
    for value, match in matches.items():
        matcher.matcher_tree.exact_match_map.map[value].CopyFrom(match)
    return m.matcher.Matcher.OnMatch(matcher=matcher)


def _socket(name: str) -> m.matcher.Matcher.OnMatch:
    match = m.matcher.Matcher.OnMatch()
    m.parse(_named(name), match)
    return match


def _named(name: str) -> Mapping[str, Any]:
    action = {
        "@type": f"{_EXTENSIONS}.matching.common_inputs.transport_socket.v3.TransportSocketNameAction",
        "name": name,
    }
    return {"action": {"name": "envoy.matching.action.transport_socket.name", "typedConfig": action}}


def _matched(name: str, message: str, **config: Any) -> Mapping[str, Any]:
    kind = f"{_EXTENSIONS}.matching.common_inputs.transport_socket.v3.{message}"
    return {"name": name, "typedConfig": {"@type": kind, **config}}


_BY_CONNECTION: Final = {
    "onNoMatch": _named("plain"),
    "matcherTree": {
        "input": _matched(
            "envoy.matching.inputs.endpoint_metadata",
            "EndpointMetadataInput",
            filter=METADATA,
            path=[{"key": MODE}],
        ),
        "exactMatchMap": {
            "map": {
                MUTUAL: {
                    "matcher": {
                        "onNoMatch": _named(TCP_ALPN),
                        "matcherTree": {
                            "input": _matched(
                                "envoy.matching.inputs.transport_socket_filter_state",
                                "FilterStateInput",
                                key=SPEAKS,
                            ),
                            "exactMatchMap": {"map": {HTTP: _named(HTTP_ALPN)}},
                        },
                    }
                }
            }
        },
    },
}
"""Guarded endpoints with mutual TLS, whose ALPN is by what the connection was read as."""


def raw() -> m.base.TransportSocket:
    return m.base.TransportSocket(name=_RAW, typed_config=m.any_of(m.raw_buffer.RawBuffer()))


def _upstream(alpn: str, peers: Sequence[str], sni: str) -> m.base.TransportSocket:
    context = m.tls.UpstreamTlsContext(sni=sni)
    common = context.common_tls_context
    common.alpn_protocols.append(alpn)
    common.tls_params.CopyFrom(_params())
    common.custom_tls_certificate_selector.CopyFrom(_of_the_caller())
    common.combined_validation_context.CopyFrom(_validation(peers))
    return m.base.TransportSocket(name=_TLS, typed_config=m.any_of(context))


def downstream(identity: str, trust_domain: str) -> m.base.TransportSocket:
    """How a guarded pod is spoken to: its own certificate, and one of the mesh's from whoever calls."""
    context = m.tls.DownstreamTlsContext(require_client_certificate=m.boolean(True))
    common = context.common_tls_context
    common.tls_params.CopyFrom(_params())
    common.tls_certificate_sds_secret_configs.add(name=served_name(identity), sds_config=m.from_ads())
    common.combined_validation_context.CopyFrom(_validation([f"{spiffe.SCHEME}{trust_domain}/"]))
    return m.base.TransportSocket(name=_TLS, typed_config=m.any_of(context))


def _params() -> m.tls_common.TlsParameters:
    return m.tls_common.TlsParameters(tls_minimum_protocol_version=m.tls_common.TlsParameters.TLSv1_2)


def _validation(peers: Sequence[str]) -> m.tls.CommonTlsContext.CombinedCertificateValidationContext:
    """The mesh's roots, and identities that begin with one of these."""
    combined = m.tls.CommonTlsContext.CombinedCertificateValidationContext(
        validation_context_sds_secret_config=m.tls_secret.SdsSecretConfig(name=ROOTS, sds_config=m.from_ads())
    )
    for each in peers:
        matched = combined.default_validation_context.match_typed_subject_alt_names.add()
        matched.san_type = m.tls_common.SubjectAltNameMatcher.URI
        matched.matcher.prefix = each
    return combined


def _of_the_caller() -> m.extension.TypedExtensionConfig:
    """The certificate that the connection's filter state names; nobody's where it names none."""
    kind = f"{_CERTIFICATES}.cert_mappers.filter_state_override.v3.Config"
    mapper = {"@type": kind, "default_value": "nobody"}
    selector = m.typed_struct.TypedStruct(
        type_url=f"{_CERTIFICATES}.cert_selectors.on_demand_secret.v3.Config",
    )
    selector.value.update(
        {
            "config_source": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
            "certificate_mapper": {
                "name": "envoy.tls.upstream_certificate_mappers.filter_state_override",
                "typed_config": mapper,
            },
        }
    )
    return m.extension.TypedExtensionConfig(
        name="envoy.tls.upstream_certificate_selectors.on_demand_secret", typed_config=m.any_of(selector)
    )


# Filter state


def state(key: str, text: str, *, transitive: bool = False) -> m.filter_state_value.FilterStateValue:
    """A constant of connections that goes along when their proxy dials; `transitive`, further than once."""
    value = m.filter_state_value.FilterStateValue
    stated = value(
        object_key=key,
        factory_key="envoy.hashable_string",
        shared_with_upstream=value.TRANSITIVE if transitive else value.ONCE,
    )
    stated.format_string.text_format_source.inline_string = text
    return stated


def called() -> list[m.filter_state_value.FilterStateValue]:
    """Where a connection is going, carried on to whatever is dialled for it.

    It parts no connections from each other: those that it would are to different addresses anyway.
    """
    value = m.filter_state_value.FilterStateValue
    listed = []
    for key, source in _CALLED.items():
        stated = value(object_key=key, factory_key="envoy.string", shared_with_upstream=value.TRANSITIVE)
        stated.format_string.text_format_source.inline_string = source
        listed.append(stated)
    return listed


# Secrets


def certificates(issued: Issued) -> list[Resource]:
    """The certificate of an identity under two names, as whom it calls and as whom it is called.

    Envoy gives a resource to the first of its parts that asks for the name: who asks on demand when a
    listener has asked already waits for ever.
    """
    chain = m.tls_common.TlsCertificate(
        certificate_chain=m.base.DataSource(inline_bytes=issued.chain),
        private_key=m.base.DataSource(inline_bytes=issued.key),
    )
    messages = [
        m.tls_secret.Secret(name=name, tls_certificate=chain)
        for name in (issued.identity, served_name(issued.identity))
    ]
    return [Resource(each.name, issued.version, wire.encode(each)) for each in messages]


def served_name(identity: str) -> str:
    """The resource of the certificate that a server of the identity shows."""
    return f"served|{identity}"


def roots(pem: bytes) -> Resource:
    trusted = m.tls_common.CertificateValidationContext(trusted_ca=m.base.DataSource(inline_bytes=pem))
    encoded = wire.encode(m.tls_secret.Secret(name=ROOTS, validation_context=trusted))
    return Resource(ROOTS, wire.digest(encoded), encoded)
