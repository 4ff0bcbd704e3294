"""Requests for certificates: nodes' own are approved, approved ones are signed, old ones removed."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ondol import apiserver
from ondol.apiserver import pki
from ondol.apiserver.signing import decisions, signers
from ondol.base import clock

pytestmark = pytest.mark.anyio

REQUESTS: Final = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
RBAC: Final = "rbac.authorization.k8s.io"
CLIENT_USAGES: Final = ["client auth"]
NODE_USAGES: Final = ["client auth", "digital signature"]
SERVING_USAGES: Final = ["digital signature", "key encipherment", "server auth"]
APPROVED: Final = {"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "Mine"}]}}
DNS, ADDRESS = x509.DNSName("n1"), x509.RFC822Name("a@b.cd")


def _csr(
    name: str, groups: Sequence[str] = (), names: Sequence[x509.GeneralName] = ()
) -> x509.CertificateSigningRequest:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    authority = x509.BasicConstraints(ca=True, path_length=None)
    return builder.add_extension(authority, critical=True).sign(
        ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()
    )


def _object(
    csr: x509.CertificateSigningRequest,
    signer: str = signers.CLIENT,
    usages: Sequence[str] = CLIENT_USAGES,
    **spec: Any,
) -> dict[str, Any]:
    request = base64.b64encode(csr.public_bytes(Encoding.PEM)).decode()
    own = {"request": request, "signerName": signer, "usages": list(usages)}
    return {"metadata": {"name": "r"}, "spec": {**own, **spec}}


def _certificate(status: dict[str, Any]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(base64.b64decode(status["certificate"]))


@pytest.fixture(name="issued", scope="module")
def issued_then(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    """An authority of the time in which the servers of tests live."""
    return pki.ensure(tmp_path_factory.mktemp("pki"), clock=clock.ManualClock())


@pytest.fixture
async def signing(start: Callable[..., Any], issued: pki.Pki) -> AsyncIterator[Any]:
    """A server with the key of its authority."""
    config = apiserver.ApiConfig(ca_certificate=issued.ca_file.read_text())
    async with start(config=config, authority_key=issued.ca_key_file.read_bytes()) as api:
        yield api


async def _status(api: Any) -> Any:
    await api.settle()
    return (await api.get(f"{REQUESTS}/r")).json["status"]


async def test_an_approved_request_is_signed_by_the_authority(signing: Any, issued: pki.Pki) -> None:
    """With subject, names and usages of the request, and no other extension of it; for a year at most."""
    csr = _csr("ann", ["team"], [DNS])
    assert (await signing.post(REQUESTS, _object(csr, expirationSeconds=10**9))).status == 201
    assert await _status(signing) == {}, "nothing is signed that nobody approved"
    assert (await signing.patch(f"{REQUESTS}/r/approval", APPROVED)).status == 200
    signed = _certificate(await _status(signing))
    signed.verify_directly_issued_by(x509.load_pem_x509_certificate(issued.ca_file.read_bytes()))
    assert (signed.subject, signed.public_key()) == (csr.subject, csr.public_key())
    assert signed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    names = signed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [DNS]
    purposes = signed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert signed.not_valid_after_utc - signed.not_valid_before_utc == dt.timedelta(days=365)


async def test_a_short_life_is_as_long_as_asked_for(signing: Any) -> None:
    """Counted from now, though it is valid from a little earlier on."""
    await signing.post(REQUESTS, _object(_csr("ann"), expirationSeconds=900))
    await signing.patch(f"{REQUESTS}/r/approval", APPROVED)
    signed = _certificate(await _status(signing))
    assert signed.not_valid_after_utc.timestamp() == int(signing.clock.now()) + 900
    assert signed.not_valid_before_utc.timestamp() == int(signing.clock.now()) - 300


async def test_what_a_signer_does_not_sign_has_failed(signing: Any) -> None:
    """Kubernetes' condition says why, and nothing is signed later."""
    await signing.post(REQUESTS, _object(_csr("ann"), usages=["server auth"]))
    await signing.patch(f"{REQUESTS}/r/approval", APPROVED)
    status = await _status(signing)
    failed = status["conditions"][1]
    assert (failed["type"], failed["reason"]) == ("Failed", "SignerValidationFailure")
    assert failed["message"] == "invalid usage for client certificate: server auth"
    assert "certificate" not in status


async def test_requests_of_other_signers_are_left_alone(signing: Any) -> None:
    """Whoever is of that name signs them."""
    await signing.post(REQUESTS, _object(_csr("ann"), signer="example.com/signer"))
    await signing.patch(f"{REQUESTS}/r/approval", APPROVED)
    assert len((await _status(signing))["conditions"]) == 1


NODE: Final = ("system:node:n1", ["system:nodes"])


async def test_a_node_renews_its_certificate_without_anybody(signing: Any) -> None:
    """Its own is approved and signed; that of another node it may not even ask for."""
    node = signing.as_("system:node:n1", "system:nodes")
    asked = await node.post(REQUESTS, _object(_csr(*NODE), signers.KUBELET_CLIENT, NODE_USAGES))
    assert asked.status == 201, asked.json
    status = await _status(signing)
    approved = status["conditions"][0]
    assert (approved["reason"], approved["message"]) == (
        "AutoApproved",
        "Auto approving self kubelet client certificate after SubjectAccessReview.",
    )
    assert _certificate(status).subject.rfc4514_string() == "CN=system:node:n1,O=system:nodes"
    other = _object(_csr("system:node:n2", ["system:nodes"]), signers.KUBELET_CLIENT, NODE_USAGES)
    refused = await node.post(REQUESTS, {**other, "metadata": {"name": "other"}})
    assert refused.status == 403
    assert "can only create a node CSR with CN=system:node:n1" in refused.json["message"]


async def test_who_may_not_have_a_nodes_certificate_waits_for_a_person(signing: Any) -> None:
    """It takes the right to `nodeclient` to have one for somebody else approved."""
    role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "system:node-bootstrapper"}
    binding = {"metadata": {"name": "b"}, "roleRef": role, "subjects": [{"kind": "User", "name": "ann"}]}
    await signing.post(f"/apis/{RBAC}/v1/clusterrolebindings", binding)
    request = _object(_csr(*NODE), signers.KUBELET_CLIENT, NODE_USAGES)
    await signing.as_("ann").post(REQUESTS, request)
    assert await _status(signing) == {}
    await signing.delete(f"{REQUESTS}/r")
    await signing.post(REQUESTS, request)
    approved = (await _status(signing))["conditions"][0]
    assert approved["message"] == "Auto approving kubelet client certificate after SubjectAccessReview."


@pytest.mark.parametrize(
    ("signer", "csr", "usages", "message"),
    [
        (signers.CLIENT, _csr("ann"), [], "missing required usage for client certificate: client auth"),
        (signers.CLIENT, _csr("ann"), ["client auth", "key encipherment"], ""),
        (signers.KUBELET_CLIENT, _csr("ann"), NODE_USAGES, "subject organization is not system:nodes"),
        (
            signers.KUBELET_CLIENT,
            _csr("ann", ["system:nodes"]),
            NODE_USAGES,
            "subject common name does not begin with system:node:",
        ),
        (
            signers.KUBELET_CLIENT,
            _csr(*NODE, names=[ADDRESS]),
            NODE_USAGES,
            "Email subjectAltNames are not allowed",
        ),
        (
            signers.KUBELET_CLIENT,
            _csr(*NODE),
            CLIENT_USAGES,
            "usages did not match [client auth digital signature key encipherment]",
        ),
        (
            signers.KUBELET_SERVING,
            _csr(*NODE),
            SERVING_USAGES,
            "DNS or IP subjectAltName is required",
        ),
        (
            signers.KUBELET_SERVING,
            _csr(*NODE, names=[DNS, ADDRESS]),
            SERVING_USAGES,
            "Email subjectAltNames are not allowed",
        ),
        (
            signers.KUBELET_SERVING,
            _csr(*NODE, names=[DNS]),
            NODE_USAGES,
            "usages did not match [digital signature key encipherment server auth]",
        ),
        (signers.KUBELET_SERVING, _csr(*NODE, names=[DNS]), SERVING_USAGES, ""),
        ("kubernetes.io/legacy-unknown", _csr("any"), ["code signing"], ""),
        ("example.com/signer", _csr("any"), [], None),
    ],
)
def test_what_each_signer_asks_of_a_request(
    signer: str, csr: x509.CertificateSigningRequest, usages: list[str], message: str | None
) -> None:
    """In Kubernetes' words."""
    assert signers.problem(signer, csr, usages) == message


NOW: Final = 1_000_000.0


@pytest.mark.parametrize(
    ("created_s", "conditions", "certificate", "is_over"),
    [
        (86_401, [], "", True),
        (86_399, [], "", False),
        (0, [("Approved", 3_601)], "YQ==", True),
        (0, [("Approved", 3_601)], "", False),
        (0, [("Approved", 86_401)], "", True),
        (0, [("Denied", 3_601)], "", True),
        (0, [("Denied", 3_599)], "", False),
        (0, [("Approved", 3_700), ("Failed", 3_601)], "", True),
        (0, [("Noted", 90_000)], "", False),
    ],
)
def test_how_long_requests_are_kept(
    created_s: int, conditions: list[tuple[str, int]], certificate: str, is_over: bool
) -> None:
    """Decided ones an hour, the others a day."""
    status: dict[str, Any] = {
        "conditions": [{"type": t, "lastUpdateTime": clock.rfc3339(NOW - age_s)} for t, age_s in conditions]
    }
    obj = {
        "metadata": {"creationTimestamp": clock.rfc3339(NOW - created_s)},
        "status": {**status, "certificate": certificate},
    }
    assert decisions.is_over(obj, NOW) is is_over


async def test_old_requests_go(signing: Any) -> None:
    """An hour after they were signed."""
    await signing.post(REQUESTS, _object(_csr("ann")))
    await signing.patch(f"{REQUESTS}/r/approval", APPROVED)
    await signing.settle()
    await signing.clock.advance(3_000)
    await signing.settle()
    assert (await signing.get(f"{REQUESTS}/r")).status == 200
    await signing.clock.advance(1_300)
    await signing.settle()
    assert (await signing.get(f"{REQUESTS}/r")).status == 404
