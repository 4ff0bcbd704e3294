"""Validation of what VirtualServices and Gateways say of connections: `tcp` and `tls`, servers and their TLS.

The rules are Istio's (pkg/config/validation, 1.31); what Istio passes over with a warning is refused: nothing
would be done about it.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import Final

from ondol.mesh.model import istio, syntax

CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
)
"""Istio's list, without DES-CBC3-SHA, which the proxy has not."""
_VERSIONS: Final = ("TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3")
_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}|[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){31}")
_SECRET: Final = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_CREDENTIALS_MAX: Final = 2
_SHA256_BYTES: Final = 32
_WEIGHTS_MAX: Final = 2**32 - 1


# VirtualService


def routes(spec: istio.VirtualServiceSpec) -> Iterator[str]:
    for index, tcp in enumerate(spec.tcp):
        for problem in _tcp(tcp):
            yield f"spec.tcp[{index}]: {problem}"
    for index, tls in enumerate(spec.tls):
        for problem in _tls(tls, spec.hosts):
            yield f"spec.tls[{index}]: {problem}"


def _tcp(route: istio.TCPRoute) -> Iterator[str]:
    for match in route.match:
        yield from _match(match)
    yield from _shares(route.route)


def _tls(route: istio.TLSRoute, hosts: Sequence[str]) -> Iterator[str]:
    if not route.match:
        yield "match must be given: TLS is routed by the name that it asks for"
    for match in route.match:
        if not match.sni_hosts:
            yield "match.sniHosts must have a name"
        for name in match.sni_hosts:
            if problem := syntax.host(name):
                yield f"match.sniHosts: {problem}"
            elif not any(_is_inside(name.lower(), host.lower()) for host in hosts):
                yield f"match.sniHosts: {name} is none of spec.hosts, nor inside a wildcard of them"
        yield from _match(match)
    yield from _shares(route.route)


def _is_inside(name: str, host: str) -> bool:
    if host in ("*", name):
        return True
    return host.startswith("*") and name.removeprefix("*").endswith(host[1:])


def _match(match: istio.L4MatchAttributes | istio.TLSMatchAttributes) -> Iterator[str]:
    for subnet in match.destination_subnets:
        try:
            ipaddress.ip_network(subnet, strict=False)
        except ValueError:
            yield f"match.destinationSubnets: {subnet!r} is neither an address nor a network"
    if problem := syntax.labels(match.source_labels):
        yield f"match.sourceLabels: {problem}"
    for problem in map(syntax.gateway_name, match.gateways):
        if problem:
            yield f"match.gateways: {problem}"
    if match.source_namespace and not syntax.is_label(match.source_namespace):
        yield f"match.sourceNamespace: {match.source_namespace!r} is no namespace"


def _shares(shares: Sequence[istio.L4RouteDestination]) -> Iterator[str]:
    if not shares:
        yield "route must be given"
    total = sum(each.weight for each in shares)
    if len(shares) > 1 and not total:
        yield "the weights of the destinations add up to 0"
    if total > _WEIGHTS_MAX:
        yield f"the weights of the destinations add up to more than {_WEIGHTS_MAX}"
    for each in shares:
        path = f"destination {each.destination.host}"
        if each.destination.host == "*":
            yield f"{path}: * is no service"
        elif problem := syntax.host(each.destination.host):
            yield f"{path}: {problem}"
        if each.destination.subset and not syntax.is_label(each.destination.subset):
            yield f"{path}: {each.destination.subset!r} is no name of a subset"
        if each.destination.port is not None and not each.destination.port.number:
            yield f"{path}: port.number must be given"


# Gateway


def server(server: istio.Server) -> Iterator[str]:
    """What is wrong with a server, after the path of the server."""
    protocol = server.port.protocol.upper()
    if protocol not in istio.PROTOCOLS:
        yield f".port.protocol: {server.port.protocol!r} is none of {', '.join(istio.PROTOCOLS)}"
        return
    tls = server.tls
    if protocol in istio.TLS_PROTOCOLS:
        if tls is None:
            yield f".tls must be given with protocol {protocol}"
        else:
            yield from _settings(tls)
    elif tls is not None and protocol in istio.HTTP_PROTOCOLS:
        if tls != istio.ServerTLSSettings(https_redirect=tls.https_redirect):
            yield f".tls: only httpsRedirect can be said of protocol {protocol}; where TLS ends it is HTTPS"
    elif tls is not None:
        yield f".tls cannot stand with protocol {protocol}; where TLS ends it is TLS"


def needs(server: istio.Server) -> Iterator[str]:
    """What a server asks for that this machine does not have."""
    if server.tls is not None and server.tls.mode == "ISTIO_MUTUAL":
        yield ".tls.mode ISTIO_MUTUAL is not supported: pods have no certificates of the mesh's"


def _settings(tls: istio.ServerTLSSettings) -> Iterator[str]:
    if tls.https_redirect:
        yield ".tls.httpsRedirect is for plain HTTP"
    if tls.credential_name and tls.credential_names:
        yield ".tls: credentialName and credentialNames cannot stand together"
    for field, names in (
        ("credentialName", (tls.credential_name,) if tls.credential_name else ()),
        ("credentialNames", tls.credential_names),
        ("caCertCredentialName", (tls.ca_cert_credential_name,) if tls.ca_cert_credential_name else ()),
    ):
        for name in names:
            if _SECRET.fullmatch(name) is None:
                yield f".tls.{field}: {name!r} is not the name of a Secret"
    if len(tls.credential_names) > _CREDENTIALS_MAX:
        yield f".tls.credentialNames: at most {_CREDENTIALS_MAX}, an RSA and an ECDSA certificate"
    if len(set(tls.credential_names)) < len(tls.credential_names):
        yield ".tls.credentialNames: a name is given twice"
    yield from _of_mode(tls)
    yield from _parameters(tls)


def _of_mode(tls: istio.ServerTLSSettings) -> Iterator[str]:
    """What each mode needs, and what would have no effect in it."""
    of_clients = {
        "caCertCredentialName": tls.ca_cert_credential_name,
        "subjectAltNames": tls.subject_alt_names,
        "verifyCertificateSpki": tls.verify_certificate_spki,
        "verifyCertificateHash": tls.verify_certificate_hash,
        "insecureSkipVerify": tls.insecure_skip_verify,
    }
    of_server = {
        "credentialName": tls.credential_name,
        "credentialNames": tls.credential_names,
        "cipherSuites": tls.cipher_suites,
        "minProtocolVersion": tls.min_protocol_version != "TLS_AUTO",
        "maxProtocolVersion": tls.max_protocol_version != "TLS_AUTO",
    }
    if tls.mode in istio.PASSTHROUGH_MODES:
        for field, value in (of_server | of_clients).items():
            if value:
                yield f".tls.{field} has no effect in mode {tls.mode}: TLS does not end here"
    elif tls.mode == "SIMPLE":
        for field, value in of_clients.items():
            if value:
                yield f".tls.{field} has no effect in mode SIMPLE: clients are not asked for certificates"
    if tls.mode in istio.TERMINATING_MODES and not tls.credentials:
        yield f".tls: mode {tls.mode} needs credentialName or credentialNames"


def _parameters(tls: istio.ServerTLSSettings) -> Iterator[str]:
    for name in tls.cipher_suites:
        if name not in CIPHERS:
            yield f".tls.cipherSuites: {name!r} is none of {', '.join(CIPHERS)}"
    oldest, newest = tls.min_protocol_version, tls.max_protocol_version
    at_least = _VERSIONS.index(oldest) if oldest in _VERSIONS else _VERSIONS.index("TLSV1_2")
    if newest in _VERSIONS and _VERSIONS.index(newest) < at_least:
        yield f".tls: maxProtocolVersion {newest} is older than the oldest, {_VERSIONS[at_least]}"
    for digest in tls.verify_certificate_hash:
        if _DIGEST.fullmatch(digest) is None:
            yield f".tls.verifyCertificateHash: {digest!r} is no SHA-256 in hexadecimal digits"
    for digest in tls.verify_certificate_spki:
        if not _is_digest(digest):
            yield f".tls.verifyCertificateSpki: {digest!r} is no SHA-256 in base64"


def _is_digest(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == _SHA256_BYTES
    except binascii.Error:
        return False
