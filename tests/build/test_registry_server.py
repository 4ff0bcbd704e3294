"""The platform's own registry: skopeo pushes and pulls, the API's corners, and who may write."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from ondol.base.clock import SystemClock
from ondol.build import oci
from ondol.build.registry import server
from ondol.build.store import ImageStore
from ondol.web import serving

pytestmark = pytest.mark.anyio
PASSWORD = "a-password"
AUTH = {"Authorization": "Basic " + base64.b64encode(f"ondol:{PASSWORD}".encode()).decode()}


class Served:
    """A registry on loopback, asked from threads."""

    def __init__(self, store: ImageStore, port: int) -> None:
        self.store = store
        self.port = port

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    async def ask(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        """With the password; status, headers in lower case, content."""

        def ask() -> tuple[int, Mapping[str, str], bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body or None, {**AUTH, **named})
            response = connection.getresponse()
            content = response.read()
            connection.close()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, content

        return await anyio.to_thread.run_sync(ask)

    async def put_blob(self, content: bytes, name: str = "app") -> str:
        digest = oci.digest(content)
        status, _, _ = await self.ask("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", content)
        assert status == 201
        return digest

    async def put_image(self, target: str = "1", name: str = "app", **more: Any) -> str:
        config, layer = b"{}", b"a layer"
        manifest = {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST,
            "config": oci.descriptor(oci.CONFIG, await self.put_blob(config), len(config)),
            "layers": [oci.descriptor(oci.LAYER, await self.put_blob(layer), len(layer))],
            **more,
        }
        text = json.dumps(manifest).encode()
        target = target or oci.digest(text)
        status, headers, content = await self.ask("PUT", f"/v2/{name}/manifests/{target}", text)
        assert (status, headers["docker-content-digest"]) == (201, oci.digest(text)), content
        return oci.digest(text)


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Served]:
    store = ImageStore(tmp_path / "images")
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    application = server.application(store, f"localhost:{port}", SystemClock(), ("ondol", PASSWORD))
    async with serving.serving(application, listening):
        yield Served(store, port)


def code(content: bytes) -> str:
    return str(json.loads(content)["errors"][0]["code"])


async def skopeo(*words: str) -> subprocess.CompletedProcess[bytes]:
    assert shutil.which("skopeo"), "run scripts/setup dev"

    def run() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["skopeo", *words], check=False, capture_output=True)

    return await anyio.to_thread.run_sync(run)


async def test_skopeo_pushes_and_pulls(registry: Served, tmp_path: Path) -> None:
    """With the password; without it an image is read and not written. What it pushed is in the store."""
    digest = await registry.put_image()
    place = f"docker://{registry.host}/app:1"
    copied = await skopeo("copy", "--src-tls-verify=false", place, f"oci:{tmp_path}/copy:x")
    assert copied.returncode == 0, copied.stderr
    target = f"docker://{registry.host}/org/copy:2"
    words = ("copy", "--dest-tls-verify=false", f"oci:{tmp_path}/copy:x", target)
    assert (await skopeo(*words)).returncode != 0
    pushed = await skopeo(*words, "--dest-creds", f"ondol:{PASSWORD}")
    assert pushed.returncode == 0, pushed.stderr
    image = registry.store.find(f"{registry.host}/org/copy:2")
    assert image is not None
    shown = await skopeo("inspect", "--tls-verify=false", target)
    assert json.loads(shown.stdout)["Digest"] == image.digest
    assert registry.store.verify() == []
    assert registry.store.manifest(digest)["layers"] == registry.store.manifest(image.digest)["layers"]


async def test_writing_takes_the_password(registry: Served) -> None:
    """Each method that changes something is refused without, and nothing is changed."""
    await registry.put_image()
    for method, path in (
        ("POST", "/v2/app/blobs/uploads/"),
        ("PUT", "/v2/app/manifests/1"),
        ("DELETE", "/v2/app/manifests/1"),
        ("PATCH", f"/v2/app/blobs/uploads/{'a' * 32}"),
    ):
        for proof in ("", "Basic b25kb2w6", "Bearer x"):
            status, headers, content = await registry.ask(method, path, b"x", Authorization=proof)
            assert (status, code(content)) == (401, "UNAUTHORIZED")
            assert headers["www-authenticate"].startswith("Basic ")
    assert (await registry.ask("GET", "/v2/", Authorization=""))[0] == 401
    assert (await registry.ask("GET", "/v2/"))[0] == 200
    assert (await registry.ask("GET", "/v2/app/manifests/1", Authorization=""))[0] == 200


async def test_a_blob_comes_in_pieces(registry: Served) -> None:
    """In their order; status and cancelling; a wrong digest keeps nothing."""
    status, headers, _ = await registry.ask("POST", "/v2/app/blobs/uploads/")
    place = headers["location"]
    assert status == 202
    status, headers, _ = await registry.ask("PATCH", place, b"one ", Content_Range="0-3")
    assert (status, headers["range"]) == (202, "0-3")
    assert (await registry.ask("PATCH", place, b"two", Content_Range="9-11"))[0] == 416
    assert (await registry.ask("GET", place))[1]["range"] == "0-3"
    content = b"one two"
    status, headers, _ = await registry.ask("PUT", f"{place}?digest={oci.digest(content)}", b"two")
    assert (status, registry.store.has(oci.digest(content))) == (201, True)
    assert (await registry.ask("GET", place))[0] == 404
    _, headers, _ = await registry.ask("POST", "/v2/app/blobs/uploads/")
    wrong = await registry.ask("PUT", f"{headers['location']}?digest=sha256:{'0' * 64}", b"x")
    assert (wrong[0], code(wrong[2])) == (400, "DIGEST_INVALID")
    _, headers, _ = await registry.ask("POST", "/v2/app/blobs/uploads/")
    assert (await registry.ask("DELETE", headers["location"]))[0] == 204
    mount = f"/v2/other/blobs/uploads/?mount={oci.digest(content)}&from=app"
    assert (await registry.ask("POST", mount))[0] == 201
    assert list(registry.store.directory.rglob(".draft-*")) == []


async def test_blobs_are_read_in_parts(registry: Served) -> None:
    """By `Range`; HEAD says how large; what is not there is said in the API's words."""
    digest = await registry.put_blob(b"0123456789")
    path = f"/v2/app/blobs/{digest}"
    status, headers, content = await registry.ask("GET", path, Range="bytes=2-4")
    assert (status, headers["content-range"], content) == (206, "bytes 2-4/10", b"234")
    assert (await registry.ask("GET", path, Range="bytes=-3"))[2] == b"789"
    assert (await registry.ask("GET", path, Range="bytes=10-"))[0] == 416
    status, headers, content = await registry.ask("HEAD", path)
    assert (status, headers["content-length"], content) == (200, "10", b"")
    status, _, content = await registry.ask("GET", f"/v2/app/blobs/sha256:{'0' * 64}")
    assert (status, code(content)) == (404, "BLOB_UNKNOWN")


async def test_tags_and_repositories_are_listed_by_pages(registry: Served) -> None:
    """With a link to the next one; names of other hosts are none of its own."""
    for tag in ("b", "a", "c"):
        await registry.put_image(tag)
    registry.store.tag(f"{registry.host}/app:a", "ondol.local/secret:1")
    _, headers, content = await registry.ask("GET", "/v2/app/tags/list?n=2")
    assert json.loads(content) == {"name": "app", "tags": ["a", "b"]}
    _, headers, content = await registry.ask("GET", headers["link"].partition(">")[0].removeprefix("<"))
    assert (json.loads(content)["tags"], "link" in headers) == (["c"], False)
    assert json.loads((await registry.ask("GET", "/v2/_catalog"))[2]) == {"repositories": ["app"]}
    status, _, content = await registry.ask("GET", "/v2/none/tags/list")
    assert (status, code(content)) == (404, "NAME_UNKNOWN")


async def test_manifests_come_and_go(registry: Served) -> None:
    """By tag and digest; one that names what is not here is refused; deleting by digest takes every tag."""
    digest = await registry.put_image("1")
    await registry.put_image("2")
    assert (await registry.ask("HEAD", f"/v2/app/manifests/{digest}"))[0] == 200
    assert (await registry.ask("DELETE", f"/v2/app/blobs/{oci.digest(b'{}')}"))[0] == 405
    missing = {"config": oci.descriptor(oci.CONFIG, f"sha256:{'0' * 64}", 1), "layers": []}
    for text, expected in (
        (json.dumps({**missing, "mediaType": oci.MANIFEST}).encode(), "MANIFEST_BLOB_UNKNOWN"),
        (b"{", "MANIFEST_INVALID"),
        (json.dumps({"mediaType": oci.MANIFEST}).encode(), "MANIFEST_INVALID"),
    ):
        assert code((await registry.ask("PUT", "/v2/app/manifests/3", text))[2]) == expected
    assert (await registry.ask("PUT", "/v2/app/manifests/3", b" " * (5 << 20)))[0] == 413
    assert (await registry.ask("DELETE", "/v2/app/manifests/1"))[0] == 202
    assert (await registry.ask("DELETE", f"/v2/app/manifests/{digest}"))[0] == 202
    status, _, content = await registry.ask("GET", "/v2/app/manifests/2")
    assert (status, code(content)) == (404, "MANIFEST_UNKNOWN")
    registry.store.garbage_collect()
    assert list((registry.store.directory / "blobs/sha256").iterdir()) == []


async def test_an_index_is_kept_with_its_images(registry: Served) -> None:
    """Those that are here stay through a garbage collection, and the others need not be here."""
    digest = await registry.put_image("")
    entries = [oci.descriptor(oci.MANIFEST, each, 1) for each in (digest, f"sha256:{'0' * 64}")]
    index = json.dumps({"mediaType": oci.INDEX, "manifests": entries}).encode()
    assert (await registry.ask("PUT", "/v2/app/manifests/all", index))[0] == 201
    registry.store.garbage_collect()
    status, headers, content = await registry.ask("GET", "/v2/app/manifests/all")
    assert (status, headers["content-type"], content) == (200, oci.INDEX, index)
    assert (await registry.ask("GET", f"/v2/app/manifests/{digest}"))[0] == 200


async def test_what_is_about_an_image_refers_to_it(registry: Served) -> None:
    """Signatures and the like, by their kind if asked for."""
    subject = await registry.put_image()
    about: dict[str, Any] = {"subject": oci.descriptor(oci.MANIFEST, subject, 1), "artifactType": "text/x"}
    referrer = await registry.put_image("", **about, annotations={"a": "b"})
    _, _, content = await registry.ask("GET", f"/v2/app/referrers/{subject}")
    (entry,) = json.loads(content)["manifests"]
    assert (entry["digest"], entry["artifactType"], entry["annotations"]) == (referrer, "text/x", {"a": "b"})
    _, headers, content = await registry.ask("GET", f"/v2/app/referrers/{subject}?artifactType=text/y")
    assert (json.loads(content)["manifests"], headers["oci-filters-applied"]) == ([], "artifactType")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/UPPER/tags/list", 400),
        ("/v2/a/../b/tags/list", 400),
        ("/v2/app/manifests/sha256:12", 400),
        ("/v2/app/blobs/..", 400),
        ("/v2/app/blobs/uploads/..%2f..%2fetc", 404),
        ("/v2/app/manifests/.tag", 404),
        ("/v2/app/other/1", 404),
        ("/v1/app", 404),
    ],
)
async def test_other_paths_are_refused(registry: Served, path: str, status: int) -> None:
    """In the API's form, whatever they name."""
    answered, _, content = await registry.ask("GET", path)
    assert answered == status
    assert code(content)


async def test_uploads_that_are_left_make_room(registry: Served) -> None:
    """Clients leave them without a word: the one of the longest silence goes, and others can be finished."""
    begun = [(await registry.ask("POST", "/v2/app/blobs/uploads/"))[1]["location"] for _ in range(40)]
    assert (await registry.ask("GET", begun[0]))[0] == 404
    digest = oci.digest(b"x")
    assert (await registry.ask("PUT", f"{begun[-1]}?digest={digest}", b"x"))[0] == 201


async def test_a_digest_of_another_kind_begins_no_upload(registry: Served) -> None:
    """SHA-512 is refused in the API's words, and nothing is left of it."""
    path = f"/v2/app/blobs/uploads/?digest=sha512:{'0' * 128}"
    status, _, content = await registry.ask("POST", path, b"x")
    assert (status, code(content)) == (400, "DIGEST_INVALID")
    assert list((registry.store.directory / "blobs/sha256").iterdir()) == []


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b"[]", b'{"manifests": [1]}', b'{"config": 1, "layers": 2}']
)
async def test_what_is_no_manifest_is_refused(registry: Served, text: bytes) -> None:
    """With the API's code, and the repository is as it was."""
    await registry.put_image()
    status, _, content = await registry.ask("PUT", "/v2/app/manifests/2", text)
    assert (status, code(content)) == (400, "MANIFEST_INVALID")
    assert json.loads((await registry.ask("GET", "/v2/app/tags/list"))[2])["tags"] == ["1"]


@pytest.mark.parametrize(
    ("proof", "status"), [("", 401), ("Basic b25kb2w6", 401), (AUTH["Authorization"], 200)]
)
async def test_a_login_is_answered(registry: Served, proof: str, status: int) -> None:
    """A client that asks whether its password is right is told, and how to show one."""
    answered, headers, _ = await registry.ask("GET", "/v2/", Authorization=proof)
    assert (answered, headers.get("www-authenticate", "").startswith("Basic")) == (status, status == 401)
