"""What the store counts of its commits."""

from __future__ import annotations

from pathlib import Path

import pytest

from ondol import store
from ondol.base.clock import SystemClock

pytestmark = pytest.mark.anyio


async def test_every_write_is_in_one_commit(tmp_path: Path) -> None:
    """However writes are grouped, the rows of all commits are those that were acknowledged."""
    file = tmp_path / "store.db"
    commits = store.CommitMetrics(SystemClock(), file)
    opened = store.open_file(file, metrics=commits)
    for number in range(5):
        await opened.append("configmaps", f"default/{number}", lambda _revision: b"{}")
    samples = {sample.name: sample.value for family in commits.collect() for sample in family.samples}
    opened.close()
    assert samples["ondol_store_commit_rows_sum"] == 5
    assert 1 <= samples["ondol_store_commit_duration_seconds_count"] <= 5
    assert samples["apiserver_storage_size_bytes"] > 0
