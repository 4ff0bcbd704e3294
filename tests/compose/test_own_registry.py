"""The platform's own registry as a part has it: off unless asked for, its password, images pushed to it."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import anyio.to_thread
import pytest
from tests.ports import free_port
from typer.testing import CliRunner

from ondol.base.clock import SystemClock
from ondol.base.host_ports import HostPort
from ondol.build import oci
from ondol.build.store import ImageStore
from ondol.cli import main
from ondol.compose import registry, settings

pytestmark = pytest.mark.anyio


async def test_it_is_off_unless_it_is_asked_for(tmp_path: Path) -> None:
    """Nothing listens then, and no password lies about."""
    chosen = settings.load(tmp_path, environment={})
    assert registry.reserved_ports(chosen) == frozenset()
    async with registry.served(chosen, SystemClock()):
        assert not (tmp_path / "pki").exists()


async def test_an_image_is_pushed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ondol image push` knows the password, which its owner alone may read; the image is here at once."""
    port = free_port()
    monkeypatch.setenv("ONDOL_REGISTRY_PORT", str(port))
    chosen = settings.load(tmp_path)
    assert registry.reserved_ports(chosen) == {HostPort("TCP", "127.0.0.1", port)}
    store = ImageStore(tmp_path / "images")
    manifest = oci.manifest(b"{}", [oci.Layer(store.put(b"layer"), 5, "")], {})
    store.put(b"{}")
    store.add("app:1", manifest)
    sys.modules.pop("ondol.build.registry.server", None)
    async with registry.served(chosen, SystemClock()):
        assert "ondol.build.registry.server" not in sys.modules, "it is loaded when somebody comes"
        words = ["image", "push", "app:1", f"localhost:{port}/app:2", "--data-dir", str(tmp_path)]
        result = await anyio.to_thread.run_sync(CliRunner().invoke, main.app, words)
        assert result.exit_code == 0, result.output
    image = store.find(f"localhost:{port}/app:2")
    assert image is not None
    assert image.digest == oci.digest(manifest)
    mode = (tmp_path / "pki/registry.password").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
