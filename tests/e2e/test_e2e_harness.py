"""What the end-to-end tests hold in their hands, by itself."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.harness import Kubectl, Version


def test_a_kubectl_leaves_nothing_behind(kubectl_caches: Path, tmp_path: Path) -> None:
    """Its cache is in the session's folder, one for each kubectl, shared by its namespaces."""
    one, other = (Kubectl(tmp_path / "kubeconfig", Version("v1.34.0", 34)) for _ in range(2))
    assert {Path(each.cache_dir).parent for each in (one, other)} == {kubectl_caches}
    assert one.cache_dir != other.cache_dir
    assert one.inside("n").cache_dir == one.cache_dir
