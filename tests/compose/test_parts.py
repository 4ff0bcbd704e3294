"""How the parts of a platform are put together."""

from __future__ import annotations

from pathlib import Path

import pytest

from ondol.compose import instance as instances
from ondol.compose import parts
from ondol.compose.settings import Settings


@pytest.mark.parametrize("text", ["", "kind: Config\n", "{", "\0"])
def test_a_damaged_kubeconfig_is_waited_for(tmp_path: Path, text: str) -> None:
    """What a power cut left half written is no error of the part: the API server writes it anew."""
    file = tmp_path / "node.kubeconfig"
    assert parts._client(file) is None
    file.write_text(text)
    assert parts._client(file) is None


def test_servers_outlive_their_clients(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever connects to the API server ends before it; spans of the proxy's end are still taken in."""
    monkeypatch.setattr(instances, "_PROMISES", tmp_path / "run" / "promises")
    settings = Settings(data_dir=tmp_path / "data")
    found = {part.name: part for part in parts.parts(instances.load_or_create(settings), settings)}
    assert set(found["api"].outlives) == {"control", "node", "gateway"}
    assert found["observe"].outlives == ("envoy",)
    assert {name for part in found.values() for name in (*part.outlives, *part.after)} <= set(found)
