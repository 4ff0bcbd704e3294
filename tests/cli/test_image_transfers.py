"""`ondol image pull`, `push`, `tag`, `inspect`, `save` and `load`, against a small registry and Debian's."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.build import small_registry
from tests.build.small_registry import Registry
from typer.testing import CliRunner, Result

from ondol.build import oci
from ondol.build.store import ImageStore
from ondol.cli import main


@pytest.fixture
def registry() -> Iterator[Registry]:
    with small_registry.running() as registry:
        yield registry


def ondol(tmp_path: Path, *words: str) -> Result:
    return CliRunner().invoke(main.app, ["image", *words, "--data-dir", str(tmp_path / "data")])


def logins(tmp_path: Path, registry: str) -> str:
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": {registry: {"username": "ann", "password": "secret"}}}))
    return str(path)


def test_an_image_is_pulled_shown_and_named(registry: Registry, tmp_path: Path) -> None:
    """With the logins of a file; `inspect` shows its documents, `tag` gives it another name."""
    registry.auth = "bearer"
    digest = registry.put_image("1")
    name = f"{registry.address}/app:1"
    refused = ondol(tmp_path, "pull", name)
    assert refused.exit_code == 1
    assert "401" in refused.output
    pulled = ondol(tmp_path, "pull", name, "--auth-file", logins(tmp_path, registry.address))
    assert pulled.output == f"{name}  {digest}\n"
    document = json.loads(ondol(tmp_path, "inspect", name).output)
    assert (document["digest"], document["config"]["config"]["Cmd"]) == (digest, ["/a"])
    assert ondol(tmp_path, "tag", name, "mine:2").output == f"ondol.local/mine:2  {digest}\n"
    store = ImageStore(tmp_path / "data/images")
    assert [image.reference for image in store.images()] == sorted([name, "ondol.local/mine:2"])


def test_save_and_load_are_export_and_import(registry: Registry, tmp_path: Path) -> None:
    """By the names that other tools have for them."""
    registry.put_image("1")
    name = f"{registry.address}/app:1"
    ondol(tmp_path, "pull", name)
    assert ondol(tmp_path, "save", name, "-o", str(tmp_path / "a.tar")).exit_code == 0
    ondol(tmp_path, "rm", name, "--force")
    assert ondol(tmp_path, "load", str(tmp_path / "a.tar")).output.startswith(name)


@pytest.mark.parametrize("words", [["pull", "ondol.local/a"], ["push", "a", "ondol.local/b"]])
def test_names_of_this_machine_are_no_registrys(registry: Registry, tmp_path: Path, words: list[str]) -> None:
    """Neither is fetched from anywhere nor sent."""
    registry.put_image("1")
    ondol(tmp_path, "pull", f"{registry.address}/app:1")
    ondol(tmp_path, "tag", f"{registry.address}/app:1", "a")
    assert ondol(tmp_path, *words).exit_code == 1


def test_logins_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """With the file's name, and before anybody is asked."""
    (tmp_path / "auth.json").write_text("{")
    for name in ("auth.json", "missing.json"):
        result = ondol(tmp_path, "pull", "127.0.0.1:1/a", "--auth-file", str(tmp_path / name))
        assert result.exit_code == 1
        assert name in result.output


@pytest.fixture
def debian_registry(tmp_path: Path) -> Iterator[str]:
    """Debian's docker-registry, which scripts/setup installs; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "registry.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/registry}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', secret: x}}\nlog: {{level: error}}\n"
    )
    assert shutil.which("docker-registry"), "run scripts/setup dev"
    server = subprocess.Popen(
        ["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def test_images_go_to_a_real_registry_and_back(
    registry: Registry, debian_registry: str, tmp_path: Path
) -> None:
    """Pushed there, seen by skopeo, pulled again; what is there already is not sent twice."""
    assert shutil.which("skopeo"), "run scripts/setup dev"
    layers = {small_registry.tar({"a": bytes(3_000_000)}): oci.LAYER}
    digest = registry.put_image("1", layers=layers)
    name = f"{debian_registry}/org/app:1"
    ondol(tmp_path, "pull", f"{registry.address}/app:1")
    for _ in range(2):
        assert ondol(tmp_path, "push", f"{registry.address}/app:1", name).output == f"{name}  {digest}\n"
    inspect = ["skopeo", "inspect", "--tls-verify=false", f"docker://{name}"]
    shown = json.loads(subprocess.run(inspect, check=True, capture_output=True).stdout)
    assert shown["Digest"] == digest
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert ondol(fresh, "pull", name).output == f"{name}  {digest}\n"
    assert ImageStore(fresh / "data/images").verify() == []
