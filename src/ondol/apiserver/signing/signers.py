"""What Kubernetes' own signers ask of a request before they sign it.

Follows `pkg/controller/certificates/signer` and `pkg/apis/certificates/helpers.go`; pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from ondol.api.validation.certificates import LEGACY_SIGNER

CLIENT: Final = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT: Final = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING: Final = "kubernetes.io/kubelet-serving"
_NODE: Final = "system:node:"
_NODES: Final = "system:nodes"
_SIGNATURE: Final = "digital signature"
_ENCIPHERMENT: Final = "key encipherment"
_CLIENT_AUTH: Final = "client auth"
_SERVER_AUTH: Final = "server auth"


def problem(signer: str, request: x509.CertificateSigningRequest, usages: Collection[str]) -> str | None:
    """Why a signer does not sign a request, empty if it does; None if it is none of Kubernetes' own."""
    check = _CHECKS.get(signer)
    return check(request, usages) if check is not None else None


def is_for_node(signer: str, request: x509.CertificateSigningRequest, usages: Collection[str]) -> bool:
    """Whether it asks for the certificate by which a node signs in."""
    return signer == KUBELET_CLIENT and not _kubelet_client(request, usages)


def common_name(request: x509.CertificateSigningRequest) -> str:
    """Who the subject is; the last one counts if it has several, as in Go."""
    return ["", *_attributes(request, NameOID.COMMON_NAME)][-1]


def _attributes(request: x509.CertificateSigningRequest, oid: x509.ObjectIdentifier) -> list[str]:
    return [str(attribute.value) for attribute in request.subject.get_attributes_for_oid(oid)]


def alternative_names(request: x509.CertificateSigningRequest) -> Sequence[x509.GeneralName]:
    try:
        return tuple(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return ()


def _has(request: x509.CertificateSigningRequest, kind: type[x509.GeneralName]) -> bool:
    return any(isinstance(name, kind) for name in alternative_names(request))


def _client(request: x509.CertificateSigningRequest, usages: Collection[str]) -> str:
    del request
    for usage in usages:
        if usage not in (_SIGNATURE, _ENCIPHERMENT, _CLIENT_AUTH):
            return f"invalid usage for client certificate: {usage}"
    if _CLIENT_AUTH not in usages:
        return f"missing required usage for client certificate: {_CLIENT_AUTH}"
    return ""


def _kubelet_client(request: x509.CertificateSigningRequest, usages: Collection[str]) -> str:
    for kind, word in (
        (x509.DNSName, "DNS"),
        (x509.RFC822Name, "Email"),
        (x509.IPAddress, "IP"),
        (x509.UniformResourceIdentifier, "URI"),
    ):
        if _attributes(request, NameOID.ORGANIZATION_NAME) == [_NODES] and _has(request, kind):
            return f"{word} subjectAltNames are not allowed"
    return _organization(request) or _name(request) or _usages(usages, _CLIENT_AUTH)


def _kubelet_serving(request: x509.CertificateSigningRequest, usages: Collection[str]) -> str:
    if refused := _organization(request):
        return refused
    if not _has(request, x509.DNSName) and not _has(request, x509.IPAddress):
        return "DNS or IP subjectAltName is required"
    if _has(request, x509.RFC822Name):
        return "Email subjectAltNames are not allowed"
    if _has(request, x509.UniformResourceIdentifier):
        return "URI subjectAltNames are not allowed"
    return _usages(usages, _SERVER_AUTH) or _name(request)


def _legacy(request: x509.CertificateSigningRequest, usages: Collection[str]) -> str:
    """Objects of v1 cannot name it; it asks for nothing."""
    del request, usages
    return ""


def _organization(request: x509.CertificateSigningRequest) -> str:
    groups = _attributes(request, NameOID.ORGANIZATION_NAME)
    return "" if groups == [_NODES] else f"subject organization is not {_NODES}"


def _name(request: x509.CertificateSigningRequest) -> str:
    is_node = common_name(request).startswith(_NODE)
    return "" if is_node else f"subject common name does not begin with {_NODE}"


def _usages(usages: Collection[str], purpose: str) -> str:
    """Exactly these; keys that are not RSA's encipher none."""
    least = {_SIGNATURE, purpose}
    if set(usages) in (least, least | {_ENCIPHERMENT}):
        return ""
    return f"usages did not match [{' '.join(sorted(least | {_ENCIPHERMENT}))}]"


_CHECKS: Final[Mapping[str, Callable[[x509.CertificateSigningRequest, Collection[str]], str]]] = {
    CLIENT: _client,
    KUBELET_CLIENT: _kubelet_client,
    KUBELET_SERVING: _kubelet_serving,
    LEGACY_SIGNER: _legacy,
}
