"""The pure middle of pulling: names, challenges, credentials, documents, where a name leads."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ondol.build import oci
from ondol.build import reference as references
from ondol.build.errors import BuildError
from ondol.build.registry import challenges, credentials, documents, hosts
from ondol.build.registry.errors import Refused

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "name", "target"),
    [
        ("nginx", "docker.io/library/nginx", "latest"),
        ("me/app:1", "docker.io/me/app", "1"),
        ("quay.io/org/app", "quay.io/org/app", "latest"),
        ("localhost:5000/app:1", "localhost:5000/app", "1"),
        (f"nginx:1@{DIGEST}", "docker.io/library/nginx", DIGEST),
    ],
)
def test_where_names_lead(text: str, name: str, target: str) -> None:
    """A bare name is Docker Hub's, and a digest is all that counts where there is one."""
    reference = references.remote(text)
    assert (reference.name, reference.target) == (name, target)
    assert references.stored(str(reference)) == str(reference)


@pytest.mark.parametrize("text", ["a@sha256:12", "a@md5:" + "a" * 64, "UPPER", "a@" + DIGEST.upper(), ""])
def test_what_is_no_reference(text: str) -> None:
    """It is refused before anybody is asked for it."""
    with pytest.raises(BuildError):
        references.remote(text)


def test_challenges_are_read_in_their_order() -> None:
    """Quoted commas and escapes stay in their values, and a scheme without parameters is one."""
    header = (
        'Bearer realm="https://a.example/t",service="s",scope="repository:a:pull,push", Basic realm="x \\"y"'
    )
    bearer, basic = challenges.parse(header)
    assert (bearer.scheme, bearer.parameters["scope"]) == ("bearer", "repository:a:pull,push")
    assert (basic.scheme, basic.parameters["realm"]) == ("basic", 'x "y')
    assert [each.scheme for each in challenges.parse("Negotiate, Basic realm=a")] == ["negotiate", "basic"]
    assert challenges.parse('="') == []
    url = challenges.token_url(bearer, "repository:a:pull")
    assert url.startswith("https://a.example/t?service=s&scope=repository%3Aa%3Apull%2Cpush&scope=")


def _auth(name: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:pw:{name}".encode()).decode()}


@pytest.mark.parametrize(
    ("auths", "image", "names"),
    [
        (["quay.io", "quay.io/org"], "quay.io/org/app", ["quay.io/org", "quay.io"]),
        (["quay.io/other"], "quay.io/org/app", []),
        (["https://quay.io/v2/"], "quay.io/org/app", ["https://quay.io/v2/"]),
        (["*.example.com"], "a.example.com/app", ["*.example.com"]),
        (["*.example.com"], "a.b.example.com/app", []),
        (["r.example:5000"], "r.example/app", []),
        (["r.example:5000"], "r.example:5000/app", ["r.example:5000"]),
        (["https://index.docker.io/v1/"], "docker.io/library/nginx", ["https://index.docker.io/v1/"]),
        (["docker.io", "https://index.docker.io/v1/"], "docker.io/library/nginx", ["docker.io"]),
    ],
)
def test_credentials_are_matched_as_the_kubelet_does(auths: list[str], image: str, names: list[str]) -> None:
    """By host and port, patterns of parts, and the beginning of the path; the most particular first."""
    keyring = credentials.keyring([{"auths": {place: _auth(place) for place in auths}}])
    # A name with a colon in it ends there, the rest is the password's.
    assert [each.username for each in credentials.lookup(keyring, image)] == [
        n.partition(":")[0] for n in names
    ]


def test_both_kinds_of_secret_are_read() -> None:
    """The older one has no `auths`; an entry that says nothing or cannot be read is none."""
    entry = {"username": "ann", "password": "pw"}
    older = credentials.document(json.dumps({"r.example": entry}).encode(), credentials.CONFIG)
    newer = credentials.document(
        json.dumps({"auths": {"r.example": {"identitytoken": "t"}, "q": {}, "s": {"auth": "%"}}}).encode(),
        credentials.CONFIG_JSON,
    )
    keyring = credentials.keyring([older, newer])
    assert {key for key, _ in keyring} == {"r.example"}
    assert [each.identity_token for each in credentials.lookup(keyring, "r.example/a")] == ["", "t"]
    assert "pw" not in repr(keyring)
    with pytest.raises(ValueError, match="not a JSON object"):
        credentials.document(b"[]", credentials.CONFIG)


def _index(*platforms: dict[str, str] | None) -> bytes:
    entries = [
        {"digest": f"sha256:{number:064}", "size": 1, **({"platform": p} if p else {})}
        for number, p in enumerate(platforms)
    ]
    return json.dumps({"manifests": entries}).encode()


def test_the_manifest_for_this_machine_is_chosen() -> None:
    """By system, architecture, and the variant that is usual for it; attestations are none."""
    arm = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    old = {"os": "linux", "architecture": "arm", "variant": "v5"}
    new = {"os": "linux", "architecture": "arm", "variant": "v7"}
    unknown = {"os": "unknown", "architecture": "unknown"}
    index = _index(unknown, {"os": "windows", "architecture": "amd64"}, old, new, arm)
    assert documents.chosen(index, "arm64").digest.endswith("4")
    assert documents.chosen(index, "arm").digest.endswith("3")
    with pytest.raises(Refused, match=r"for linux/amd64; there are: windows/amd64, linux/arm/v5"):
        documents.chosen(index, "amd64")


@pytest.mark.parametrize(
    ("document", "header", "words"),
    [
        ({"schemaVersion": 1}, "application/json", "schema 1"),
        ({}, "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        ({"mediaType": "application/vnd.cncf.helm"}, "", "is no image"),
        ({}, "text/html", "without a media type"),
        ([], "", "not a JSON object"),
    ],
)
def test_documents_of_other_kinds_are_refused(document: Any, header: str, words: str) -> None:
    """In words that say what it is."""
    with pytest.raises(Refused, match=words):
        documents.media_type(json.dumps(document).encode(), header)


def test_a_document_is_what_it_says_or_looks_like() -> None:
    """OCI's media type may be missing, and then the header or the shape decides."""
    assert documents.media_type(b'{"layers": []}', "application/json") == oci.MANIFEST
    assert documents.media_type(b'{"manifests": []}', "") == oci.INDEX
    assert documents.media_type(b"{}", f"{documents.DOCKER_INDEX}; charset=utf-8") == documents.DOCKER_INDEX


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layers": [{"digest": DIGEST, "size": 1, "mediaType": "text/plain"}]}, "no layer"),
        (
            {"layers": [{"digest": "sha256:../../x", "size": 1, "mediaType": oci.LAYER}]},
            "not a sha256 digest",
        ),
        ({"layers": [{"digest": DIGEST, "size": -1, "mediaType": oci.LAYER}]}, "below nothing"),
        (
            {
                "layers": [
                    {
                        "digest": DIGEST,
                        "size": 1,
                        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                    }
                ]
            },
            "not in the registry",
        ),
        ({"layers": [{"digest": DIGEST, "size": 1, "mediaType": oci.LAYER}] * 513}, "513 layers"),
        ({"config": {"digest": DIGEST, "size": 5 << 20}}, "more than 4 MiB"),
        ({"config": "x"}, "none of an image"),
    ],
)
def test_manifests_that_name_no_file_system_are_refused(changes: dict[str, Any], words: str) -> None:
    """Before a byte of what they name is fetched."""
    manifest = {"config": {"digest": DIGEST, "size": 2}, "layers": [], **changes}
    with pytest.raises(Refused, match=words):
        documents.image(json.dumps(manifest).encode())


def test_endpoints_of_a_name() -> None:
    """Mirrors first; TLS, but on loopback and where the administrator says so."""
    chosen = hosts.hosts("docker.io=https://m.example/hub/", "plain.example:5000", "")
    urls = [each.url("") for each in chosen.endpoints(references.remote("nginx"))]
    assert urls == ["https://m.example/hub/v2/", "https://registry-1.docker.io/v2/"]
    assert chosen.origin(references.remote("plain.example:5000/a")).scheme == "http"
    assert chosen.origin(references.remote("plain.example/a")).scheme == "https"
    assert chosen.origin(references.remote("localhost:5000/a")).scheme == "http"
    with pytest.raises(ValueError, match="nowhere"):
        hosts.mirrors("docker.io=nowhere")
