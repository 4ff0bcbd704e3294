"""Requests for certificates: who asks, who approves, who signs."""

from __future__ import annotations

import base64
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

pytestmark = pytest.mark.anyio

REQUESTS: Final = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"
SIGNER: Final = "example.com/signer"
APPROVED: Final = {"type": "Approved", "status": "True", "reason": "Mine", "message": "by hand"}
NOTED: Final = {"type": "Noted", "status": "True", "reason": "Mine"}


def _pem(organization: str = "team") -> str:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "ann"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(signed.public_bytes(Encoding.PEM)).decode()


def _request(name: str = "r", **spec: Any) -> dict[str, Any]:
    own = {"request": _pem(), "signerName": SIGNER, "usages": ["client auth"]}
    return {"metadata": {"name": name}, "spec": {**own, **spec}}


async def _may(api: Any, user: str, *rules: dict[str, Any]) -> Any:
    """A caller who has these rights and no others."""
    await api.post(f"{RBAC}/clusterroles", {"metadata": {"name": user}, "rules": list(rules)})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user}
    subjects = [{"kind": "User", "name": user}]
    binding = {"metadata": {"name": user}, "roleRef": role, "subjects": subjects}
    await api.post(f"{RBAC}/clusterrolebindings", binding)
    return api.as_(user)


def _rule(resource: str, *verbs: str, names: tuple[str, ...] = ()) -> dict[str, Any]:
    rule = {"apiGroups": ["certificates.k8s.io"], "resources": [resource], "verbs": list(verbs)}
    return {**rule, "resourceNames": list(names)} if names else rule


async def test_a_request_says_who_asks(api: Any) -> None:
    """Whatever was sent; and it stays what it is."""
    ann = await _may(api, "ann", _rule("certificatesigningrequests", "create", "get", "patch"))
    sent = {**_request(username="root", groups=["system:masters"]), "status": {"conditions": [APPROVED]}}
    stored = await ann.post(REQUESTS, sent)
    assert (stored.status, stored.json["status"]) == (201, {}), stored.json
    spec = stored.json["spec"]
    assert (spec["username"], spec["groups"]) == ("ann", ["system:authenticated"])
    changed = await ann.patch(
        f"{REQUESTS}/r", {"spec": {"signerName": "other.io/x"}, "metadata": {"labels": {}}}
    )
    assert (changed.status, changed.json["spec"]) == (200, spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"request": "YQ=="},
            'spec.request: Invalid value: "YQ==": PEM block type must be CERTIFICATE REQUEST',
        ),
        ({"usages": []}, "spec.usages: Required value"),
        (
            {"usages": ["fun"]},
            'spec.usages[0]: Unsupported value: "fun": supported values: "any", "cert sign"',
        ),
        ({"usages": ["signing", "signing"]}, 'spec.usages[1]: Duplicate value: "signing"'),
        ({"signerName": ""}, "spec.signerName: Required value"),
        (
            {"signerName": "signer"},
            (
                'spec.signerName: Invalid value: "signer": must be a fully qualified domain and path of the '
                "form 'example.com/signer-name'"
            ),
        ),
        ({"signerName": "a/b"}, "should be a domain with at least two segments separated by dots"),
        (
            {"signerName": "kubernetes.io/legacy-unknown"},
            "the legacy signerName is not allowed via this API version",
        ),
        (
            {"expirationSeconds": 599},
            (
                "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than "
                "600 seconds "
                "(10 minutes)"
            ),
        ),
    ],
)
async def test_what_no_request_may_be(api: Any, spec: dict[str, Any], message: str) -> None:
    """Refused in Kubernetes' words."""
    refused = await api.post(REQUESTS, _request(**spec))
    assert refused.status == 422, refused.json
    assert message in refused.json["message"]


async def test_no_request_makes_an_administrator(api: Any) -> None:
    """Of the server's own clients."""
    signer = "kubernetes.io/kube-apiserver-client"
    refused = await api.post(REQUESTS, _request(signerName=signer, request=_pem("system:masters")))
    assert (refused.status, refused.json["message"]) == (
        403,
        (
            'certificatesigningrequests.certificates.k8s.io "r" is forbidden: use of '
            "kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
        ),
    )
    assert (await api.post(REQUESTS, _request(signerName=signer))).status == 201


async def test_approving_takes_the_right_to_the_signer(api: Any) -> None:
    """By its name or by its domain, beside that to the subresource."""
    approval = _rule("certificatesigningrequests/approval", "update", "patch")
    await api.post(REQUESTS, _request())
    change = {"status": {"conditions": [APPROVED]}}
    without = await _may(api, "without", approval)
    refused = await without.patch(f"{REQUESTS}/r/approval", change)
    assert refused.status == 403
    assert f'user not permitted to approve requests with signerName "{SIGNER}"' in refused.json["message"]
    by_domain = await _may(api, "domain", approval, _rule("signers", "approve", names=("example.com/*",)))
    approved = await by_domain.patch(f"{REQUESTS}/r/approval", change)
    assert approved.status == 200, approved.json
    condition = approved.json["status"]["conditions"][0]
    assert condition["lastUpdateTime"] == condition["lastTransitionTime"]
    denied = [APPROVED, {"type": "Denied", "status": "True"}]
    refused = await api.patch(f"{REQUESTS}/r/approval", {"status": {"conditions": denied}})
    assert (
        'status.conditions: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive'
        in (refused.json["message"])
    )
    refused = await api.patch(f"{REQUESTS}/r/approval", {"status": {"conditions": None}})
    assert 'updates may not remove a condition of type "Approved"' in refused.json["message"]


@pytest.mark.parametrize("part", ["approval", "status"])
async def test_annotations_come_with_a_part(api: Any, part: str) -> None:
    """Whoever approves or signs may note why; the labels stay as they are."""
    created = await api.post(REQUESTS, _request())
    change = {"metadata": {"annotations": {"example.com/why": part}}, "status": {"conditions": [NOTED]}}
    written = await api.patch(f"{REQUESTS}/r/{part}", change)
    assert written.status == 200, written.json
    stored = (await api.get(f"{REQUESTS}/r")).json
    assert stored["metadata"]["annotations"] == {"example.com/why": part}
    assert stored["metadata"]["uid"] == created.json["metadata"]["uid"]
    assert [each["type"] for each in stored["status"]["conditions"]] == ["Noted"]


async def test_signing_takes_the_right_to_the_signer(api: Any, issued: Any) -> None:
    """A certificate is set once, and nothing is approved with it."""
    await api.post(REQUESTS, _request(expirationSeconds=3600))
    certificate = base64.b64encode(issued.ca_file.read_bytes()).decode()
    status = _rule("certificatesigningrequests/status", "patch")
    change = {"status": {"certificate": certificate}}
    refused = await (await _may(api, "without", status)).patch(f"{REQUESTS}/r/status", change)
    assert f'user not permitted to sign requests with signerName "{SIGNER}"' in refused.json["message"]
    signer = await _may(api, "signer", status, _rule("signers", "sign", names=(SIGNER,)))
    refused = await signer.patch(f"{REQUESTS}/r/status", {"status": {"conditions": [APPROVED]}})
    assert (
        'status.conditions: Forbidden: updates may not add a condition of type "Approved"'
        in (refused.json["message"])
    )
    refused = await signer.patch(f"{REQUESTS}/r/status", {"status": {"certificate": "YQ=="}})
    assert (
        'status.certificate: Invalid value: "<certificate data>": must contain at least one '
        "CERTIFICATE PEM block" in refused.json["message"]
    )
    assert (await signer.patch(f"{REQUESTS}/r/status", change)).status == 200
    refused = await signer.patch(f"{REQUESTS}/r/status", {"status": {"certificate": None}})
    assert "updates may not modify existing certificate content" in refused.json["message"]
    await api.patch(f"{REQUESTS}/r/approval", {"status": {"conditions": [APPROVED]}})
    cells = (await api.get(REQUESTS, accept=TABLE)).json["rows"][0]["cells"]
    assert cells == ["r", "0s", SIGNER, "admin", "60m", "Approved,Issued"]


async def test_requests_are_found_by_their_signer(api: Any) -> None:
    """By a field selector."""
    await api.post(REQUESTS, _request())
    await api.post(REQUESTS, _request("other", signerName="other.io/x"))
    listed = (await api.get(f"{REQUESTS}?fieldSelector=spec.signerName%3Dother.io/x")).json["items"]
    assert [item["metadata"]["name"] for item in listed] == ["other"]
