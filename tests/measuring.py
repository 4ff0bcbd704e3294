"""How much of the code the quick tests run, taken by SlipCover: `pytest -p tests.measuring`.

SlipCover puts a probe at each line and branch as a module is imported, and takes a probe away once it was
reached. Loops cost what they cost unmeasured, a tracer makes each round 2.7 times as long. What stays are
some twenty seconds for each process, to compile the modules and to write what was not reached.

Each process of pytest-xdist writes a file of its own into the folder that `COVERAGE_DIR` names, for
`slipcover --merge`. The plugin is loaded before `conftest.py`, since a module imported earlier has no probes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from slipcover import FileMatcher, ImportManager, Slipcover

SOURCE = Path(__file__).parent.parent / "src" / "ondol"
EXCLUDED = ["if TYPE_CHECKING:", r"^\s*\.\.\.$", "pragma: no cover"]
"""Lines that nothing runs: imports for types, bodies of protocols."""

slipcover = Slipcover(immediate=True, branch=True, source=[str(SOURCE)], exclude_lines=EXCLUDED)
ImportManager(slipcover, FileMatcher(sources=[str(SOURCE)])).__enter__()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what this process has reached; the one that only hands out tests has reached nothing."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None and session.config.getoption("numprocesses", None):
        return
    path = Path(os.environ["COVERAGE_DIR"]) / f"{worker or 'main'}.json"
    path.write_text(json.dumps(slipcover.get_coverage()))
