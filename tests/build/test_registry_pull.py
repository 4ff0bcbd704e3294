"""Images pulled from a small registry: whole, by parts, signed in, and from registries that lie."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from tests import certificates
from tests.build import small_registry
from tests.build.small_registry import Registry, digest, reply

from ondol.base.backoff import Backoff
from ondol.build import oci
from ondol.build import reference as references
from ondol.build.registry import credentials, documents, hosts
from ondol.build.registry.credentials import Keyring
from ondol.build.registry.errors import Absent, Denied, Refused, RegistryError, Stopped, Unavailable
from ondol.build.registry.http import Patience
from ondol.build.registry.pulling import Progress, Pull
from ondol.build.store import Image, ImageStore

IMPATIENT = Patience(silence_s=0.3, head_s=0.5, backoff=Backoff(0.001, 0.01))
ANN = credentials.Login("ann", "secret")


@pytest.fixture
def registry() -> Iterator[Registry]:
    with small_registry.running() as registry:
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def pull(
    registry: Registry, store: ImageStore, name: str = "app:1", logins: Keyring = (), **changes: Any
) -> Image:
    reference = references.remote(f"{registry.address}/{name}")
    patience = changes.pop("patience", IMPATIENT)
    return Pull(reference, store, hosts.Hosts(**changes), patience=patience).run(logins)


def is_clean(store: ImageStore) -> bool:
    """Nothing half done lies about, and nothing was named."""
    return not list(store.directory.rglob(".draft-*")) and not store.images()


@pytest.mark.parametrize("media_type", documents.MANIFESTS)
def test_an_image_comes_whole_and_is_named(registry: Registry, store: ImageStore, media_type: str) -> None:
    """By its tag, under the name that a pod gives it, in either form; what is here is not fetched again."""
    manifest = registry.put_image("1", media_type=media_type)
    reports: list[Progress] = []
    reference = references.remote(f"{registry.address}/app:1")
    image = Pull(reference, store, hosts.Hosts(), patience=IMPATIENT).run(report=reports.append)
    assert (image.reference, image.digest) == (f"{registry.address}/app:1", manifest)
    assert store.verify() == []
    assert reports[-1].done_bytes == reports[-1].whole_bytes == image.size_bytes
    before = len(registry.paths("/blobs/"))
    assert pull(registry, store) == image
    assert len(registry.paths("/blobs/")) == before


def test_an_index_leads_to_the_image_of_this_machine(registry: Registry, store: ImageStore) -> None:
    """By tag or by the digest of the index, under which the image is then found."""
    ours, other = registry.put_image(), registry.put_image(architecture="vax")
    entries = [
        {**oci.descriptor(oci.MANIFEST, each, 1), "platform": {"os": "linux", "architecture": machine}}
        for each, machine in ((other, "vax"), (ours, oci.architecture()))
    ]
    index = registry.put_document({"mediaType": oci.INDEX, "manifests": entries}, "1")
    assert pull(registry, store).digest == ours
    pinned = pull(registry, store, f"app@{index}")
    assert (pinned.reference, pinned.digest) == (f"{registry.address}/app@{index}", ours)
    assert store.find(f"{registry.address}/app@{index}") == pinned


def test_images_of_other_machines_are_refused(registry: Registry, store: ImageStore) -> None:
    """In words, also when only the configuration says so."""
    registry.put_image("1", architecture="vax")
    with pytest.raises(Refused, match="image for linux/vax, and this is linux/"):
        pull(registry, store)
    assert is_clean(store)


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_a_registry_is_signed_in_to(registry: Registry, store: ImageStore, auth: str) -> None:
    """As it asks for it; the right one of several logins is found, and no other image's is tried."""
    registry.auth = auth
    registry.put_image("1")
    logins = [
        (f"{registry.address}/app", credentials.Login("ann", "stale")),
        (registry.address, ANN),
        ("elsewhere.example", credentials.Login("eve", "eve")),
    ]
    assert pull(registry, store, logins=logins).size_bytes
    assert credentials.Login("eve", "eve").basic not in registry.shown


@pytest.mark.parametrize("auth", ["basic", "bearer"])
@pytest.mark.parametrize("login", [None, credentials.Login("ann", "stale")])
def test_without_the_right_credentials_nothing_comes(
    registry: Registry, store: ImageStore, auth: str, login: credentials.Login | None
) -> None:
    """The registry's refusal is told, and nothing is left behind."""
    registry.auth = auth
    registry.put_image("1")
    with pytest.raises(Denied, match=r"credentials|401"):
        pull(registry, store, logins=[(registry.address, login)] if login else ())
    assert is_clean(store)


def test_what_is_not_there_is_told_in_the_registrys_words(registry: Registry, store: ImageStore) -> None:
    """Its error documents are read."""
    with pytest.raises(Absent, match="404: manifest unknown"):
        pull(registry, store)


def test_another_server_does_not_see_the_proof(registry: Registry, store: ImageStore) -> None:
    """Registries keep blobs elsewhere; the redirect is followed without `Authorization`."""
    registry.auth = "basic"
    registry.put_image("1")
    with small_registry.running() as elsewhere:
        elsewhere.blobs = registry.blobs
        registry.answers = {
            each: lambda handler: bool(
                handler.headers.get("Authorization")
                and reply(handler, 307, b"", Location=f"http://{elsewhere.address}{handler.path}")
            )
            for each in registry.blobs
        }
        pull(registry, store, logins=[(registry.address, ANN)])
        assert len(elsewhere.asked) == len(registry.blobs)
        assert set(elsewhere.shown) == {""}


def test_redirects_end(registry: Registry, store: ImageStore) -> None:
    """A circle is left after a few turns."""
    registry.answers["/1"] = lambda handler: reply(handler, 302, b"", Location=handler.path)
    with pytest.raises(Refused, match="without an end"):
        pull(registry, store)
    assert len(registry.asked) < 10


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://[::1", "gopher://x/", "http:///"])
def test_redirects_lead_to_servers(registry: Registry, store: ImageStore, location: str) -> None:
    """Other addresses are refused."""
    registry.answers["/1"] = lambda handler: reply(handler, 302, b"", Location=location)
    with pytest.raises(RegistryError):
        pull(registry, store)


def test_a_busy_registry_is_asked_again(registry: Registry, store: ImageStore) -> None:
    """After 429 and 5xx, a few times; then it is told to be unavailable."""
    registry.put_image("1")
    statuses = [429, 503]

    def busy(handler: BaseHTTPRequestHandler) -> bool:
        return bool(statuses) and reply(handler, statuses.pop(), b"", **{"Retry-After": "0"})

    registry.answers["/1"] = busy
    pull(registry, store)
    statuses += [500] * 9
    with pytest.raises(Unavailable, match="answered 500"):
        pull(registry, store)
    assert len(statuses) == 9 - IMPATIENT.tries


@pytest.mark.parametrize("does_ranges", [True, False])
def test_a_layer_that_breaks_off_is_taken_up(
    registry: Registry, store: ImageStore, does_ranges: bool
) -> None:
    """At the byte where it broke, or from the start where the registry cannot do that."""
    content = small_registry.tar({"a": bytes(range(256)) * 2000})
    registry.put_image("1", layers={content: oci.LAYER})
    breaks = [0]

    def broken(handler: BaseHTTPRequestHandler) -> bool:
        if breaks[0] == 2 and does_ranges:
            return False
        breaks[0] += 1
        size = len(content) if breaks[0] > 2 else 100_000 * breaks[0]
        reply(handler, 200, content[:size], **{"Content-Length": str(len(content))})
        handler.close_connection = True
        return True

    if does_ranges:
        breaks[0] = 1
    registry.answers[digest(content)] = broken
    image = pull(registry, store)
    assert store.blob(digest(content)).read_bytes() == content
    assert image.size_bytes == len(content)


def _manifest(registry: Registry, **layer: Any) -> None:
    """An image `1` whose only layer's descriptor is changed."""
    manifest = registry.put_image()
    document = json.loads(registry.documents[manifest][0])
    document["layers"][0].update(layer)
    registry.put_document(document, "1")


def test_blobs_with_other_bytes_are_refused(registry: Registry, tmp_path: Path) -> None:
    """Layer, configuration and manifest are what their digests say, or are not kept."""
    registry.put_image("1")
    kept = dict(registry.blobs)
    for each, content in kept.items():
        registry.blobs = {**kept, each: content[:-1] + b"?"}
        store = ImageStore(tmp_path / each)
        with pytest.raises(Refused, match="does not match its digest"):
            pull(registry, store)
        assert is_clean(store)
    manifest = registry.documents["1"]
    registry.documents[f"sha256:{'0' * 64}"] = manifest
    with pytest.raises(Refused, match="does not match its digest"):
        pull(registry, ImageStore(tmp_path), f"app@sha256:{'0' * 64}")


@pytest.mark.parametrize(
    ("size", "words"), [(3, "has more than its 3 bytes"), (1 << 40, "ended after"), (-1, "below nothing")]
)
def test_layers_of_other_sizes_are_refused(
    registry: Registry, store: ImageStore, size: int, words: str
) -> None:
    """No more is read than the manifest says, and nothing less is taken."""
    _manifest(registry, size=size)
    with pytest.raises(RegistryError, match=words):
        pull(registry, store)
    assert is_clean(store)


def test_huge_documents_are_not_read(registry: Registry, store: ImageStore) -> None:
    """A manifest that does not end is left after 4 MiB."""

    def endless(handler: BaseHTTPRequestHandler) -> bool:
        reply(handler, 200, b" " * (documents.BYTES_MAX + 2), **{"Content-Length": str(1 << 40)})
        return True

    registry.answers["/1"] = endless
    with pytest.raises(Refused, match="more than 4194304 bytes"):
        pull(registry, store)


def test_an_index_of_itself_ends(registry: Registry, store: ImageStore) -> None:
    """Indexes lead to indexes, but not for ever."""
    entry = b"{}"
    for _ in range(5):
        text = {"mediaType": oci.INDEX, "manifests": [oci.descriptor(oci.INDEX, digest(entry), len(entry))]}
        entry = json.dumps(text).encode()
        registry.put_document(text, "1")
    with pytest.raises(Refused, match="without an end"):
        pull(registry, store)


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 2"])
def test_a_registry_that_dawdles_is_left(registry: Registry, store: ImageStore, says: bytes) -> None:
    """Whether it is silent or cannot finish a line."""
    silent = threading.Event()

    def dawdle(handler: BaseHTTPRequestHandler) -> bool:
        handler.wfile.write(says)
        silent.wait(10)
        handler.close_connection = True
        return True

    registry.answers["/1"] = dawdle
    try:
        with pytest.raises(Unavailable):
            pull(registry, store)
    finally:
        silent.set()


def test_a_trickle_is_no_download(registry: Registry, store: ImageStore) -> None:
    """So few bytes a minute that nobody would live to see the end are not waited for."""
    registry.put_image("1", layers={bytes(300_000): oci.LAYER})
    times = iter(range(0, 10**6, 61))
    patience = Patience(
        monotonic=lambda: float(next(times)), window_bytes=1 << 20, backoff=Backoff(0.001, 0.01)
    )
    with pytest.raises(Unavailable, match="sends too slowly"):
        pull(registry, store, patience=patience)


def test_a_pull_can_be_given_up(registry: Registry, store: ImageStore) -> None:
    """While the registry is silent in the middle of a layer; nothing is left of it."""
    content = bytes(100_000)
    registry.put_image("1", layers={content: oci.LAYER})
    is_under_way, release = threading.Event(), threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> bool:
        reply(handler, 200, content[:10], **{"Content-Length": str(len(content))})
        handler.wfile.flush()
        is_under_way.set()
        release.wait(30)
        handler.close_connection = True
        return True

    registry.answers[digest(content)] = stall
    reference = references.remote(f"{registry.address}/app:1")
    under_way = Pull(reference, store, hosts.Hosts(), patience=Patience())
    failures: list[BaseException] = []

    def run() -> None:
        try:
            under_way.run()
        except RegistryError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert is_under_way.wait(10)
    under_way.stop()
    thread.join(10)
    release.set()
    assert [type(each) for each in failures] == [Stopped]
    assert is_clean(store)


def test_a_mirror_is_asked_first_and_the_registry_itself_last(registry: Registry, store: ImageStore) -> None:
    """What the mirror does not have comes from the registry; the name stays the registry's."""
    registry.put_image("1")
    with small_registry.running() as mirror:
        mirrors = {registry.address: [f"http://{mirror.address}"]}
        assert pull(registry, store, mirrors=mirrors).reference == f"{registry.address}/app:1"
        assert mirror.paths("/manifests/1")
        mirror.documents, mirror.blobs = registry.documents, registry.blobs
        before = len(registry.asked)
        pull(registry, store, mirrors=mirrors)
        assert len(registry.asked) == before


def test_authorities_of_ones_own_are_believed(store: ImageStore, tmp_path: Path) -> None:
    """With the file of the setting, and not without; nothing is fetched without TLS instead."""
    (tmp_path / "ca.pem").write_bytes(certificates.certify(tmp_path, "localhost"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "both.pem")
    with small_registry.running(tls) as registry:
        registry.put_image("1")
        mirrors = {registry.address: [f"https://{registry.address}"]}
        name = references.remote(f"{registry.address}/app:1")
        with pytest.raises(Unavailable):
            Pull(name, store, hosts.Hosts(mirrors), patience=IMPATIENT).run()
        assert registry.asked == []
        trusting = hosts.Hosts(mirrors, ca_file=str(tmp_path / "ca.pem"))
        assert Pull(name, store, trusting, patience=IMPATIENT).run().size_bytes
        registry.answers["/1"] = lambda handler: reply(handler, 302, b"", Location="http://127.0.0.1:9/")
        with pytest.raises(RegistryError):
            Pull(name, store, trusting, patience=IMPATIENT).run()


def test_nobody_there_is_told_at_once(store: ImageStore) -> None:
    """A port that nothing listens on is not asked again and again."""
    with small_registry.running() as gone:
        pass
    with pytest.raises(Unavailable, match="cannot be reached: Connection refused"):
        pull(gone, store, patience=Patience())


def test_layers_are_kept_as_they_are_packed(registry: Registry, store: ImageStore) -> None:
    """Plain, gzip or zstd: the store's bytes are the registry's."""
    plain = small_registry.tar({"b": b"2"})
    layers = {plain: oci.LAYER, gzip.compress(plain, mtime=0): f"{oci.LAYER}+gzip", b"z": f"{oci.LAYER}+zstd"}
    registry.put_image("1", layers=layers)
    image = pull(registry, store)
    assert [each["digest"] for each in store.manifest(image.digest)["layers"]] == [*map(digest, layers)]
