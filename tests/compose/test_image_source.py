"""The node's source of images: secrets, failures in the kubelet's words, pulls that are given up."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import anyio
import pytest
from tests.build import small_registry
from tests.build.small_registry import Registry, digest, reply

from ondol.build import oci
from ondol.build.store import ImageStore
from ondol.compose import settings
from ondol.compose.image_source import RegistrySource
from ondol.node import Policy
from ondol.node.images.images import Images
from ondol.node.images.pulling import ImageUnavailable

pytestmark = pytest.mark.anyio


@pytest.fixture
def registry() -> Iterator[Registry]:
    with small_registry.running() as registry:
        yield registry


@pytest.fixture
def source(tmp_path: Path) -> RegistrySource:
    return RegistrySource(settings.Settings(data_dir=tmp_path))


async def test_a_pods_secrets_sign_in(registry: Registry, source: RegistrySource, tmp_path: Path) -> None:
    """Of both kinds; one for another registry is not shown, and one that cannot be read is told."""
    registry.auth = "bearer"
    registry.put_image("1")
    name = f"{registry.address}/app:1"
    other = {"auths": {"r.example": {"username": "eve", "password": "eve"}}}
    entry = {registry.address: {"auth": base64.b64encode(b"ann:secret").decode()}}
    with pytest.raises(ImageUnavailable, match="401") as raised:
        await source.pull(name, [{".dockerconfigjson": json.dumps(other).encode()}])
    assert raised.value.reason == "ErrImagePull"
    with pytest.raises(ImageUnavailable, match=r"secret's \.dockercfg cannot be read"):
        await source.pull(name, [{".dockercfg": b"{"}])
    for secret in (
        {".dockerconfigjson": json.dumps({"auths": entry}).encode()},
        {".dockercfg": json.dumps(entry).encode()},
    ):
        size_bytes = await source.pull(name, [secret])
        image = ImageStore(tmp_path / "images").find(name)
        assert image is not None
        assert image.size_bytes == size_bytes


async def test_a_registry_that_is_away_is_told_so(source: RegistrySource) -> None:
    """With the reason that says that it is nobody's fault here."""
    with small_registry.running() as gone:
        pass
    with pytest.raises(ImageUnavailable, match=r"because the registry is unavailable: .*refused") as raised:
        await source.pull(f"{gone.address}/app:1", ())
    assert raised.value.reason == "RegistryUnavailable"


async def test_names_of_this_machine_never_leave_it(source: RegistrySource) -> None:
    """They are in the store or nowhere."""
    with pytest.raises(ImageUnavailable, match="of this machine"):
        await source.pull("ondol.local/app:1", ())


async def test_a_pull_that_nobody_waits_for_ends(
    registry: Registry, source: RegistrySource, tmp_path: Path
) -> None:
    """Though the registry has fallen silent: its connection is cut, and nothing of the layer stays."""
    content = bytes(100_000)
    registry.put_image("1", layers={content: oci.LAYER})
    is_under_way, was_cut = threading.Event(), threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> bool:
        reply(handler, 200, content[:10], **{"Content-Length": str(len(content))})
        handler.wfile.flush()
        is_under_way.set()
        handler.connection.settimeout(20)
        if not handler.connection.recv(1):
            was_cut.set()
        handler.close_connection = True
        return True

    registry.answers[digest(content)] = stall
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(source.pull, f"{registry.address}/app:1", ())
        assert await anyio.to_thread.run_sync(is_under_way.wait, 10)
        tasks.cancel_scope.cancel()
    assert was_cut.wait(10)
    assert ImageStore(tmp_path / "images").images() == []


async def test_what_a_registry_gave_is_removed_again(
    registry: Registry, source: RegistrySource, tmp_path: Path
) -> None:
    """By the node, where the disk is too full; what was built here stays, and so does what is in use."""
    registry.put_image("1")
    name = f"{registry.address}/app:1"
    await source.pull(name, [])
    images, policy = Images(tmp_path, source), Policy(minimum_age_s=0.0)
    assert await images.free({name}, 1, policy, 0.0) == []
    (gone,) = await images.free(set(), 1, policy, 1.0)
    assert name in gone.names
    store = ImageStore(tmp_path / "images")
    assert store.find(name) is None
    assert list((tmp_path / "images" / "blobs" / "sha256").iterdir()) == []
