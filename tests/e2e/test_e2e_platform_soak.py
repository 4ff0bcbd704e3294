"""The soak in short: pods come and go while parts are killed, and nothing of them remains."""

from __future__ import annotations

import sys

import pytest
from tests.e2e.harness import ROOT, need_host, run

pytestmark = [pytest.mark.e2e, pytest.mark.root]

CYCLES = 50
SEED = 20261129


def test_pods_that_come_and_go_leave_nothing() -> None:
    """Namespaces, control groups, mounts, interfaces, addresses, rules, files and processes are as before."""
    need_host()
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "soak.py"),
        "--cycles",
        str(CYCLES),
        "--seed",
        str(SEED),
    ]
    result = run(command, timeout_s=600)
    assert result.status == 0, str(result)
    assert f"{CYCLES} cycles; killed {{'" in result.out, str(result)
