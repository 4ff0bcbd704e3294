"""The node and the API server killed with SIGKILL: containers, logs and exit codes are not lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ondol.node.config import NodeConfig

pytestmark = pytest.mark.root


def start(config: NodeConfig, database: Path, image: str, name: str) -> tuple[subprocess.Popen[str], Any]:
    """The process, and what it saw of its pods."""
    options = {
        "instance": config.instance,
        "name": config.name,
        "data_dir": str(config.data_dir),
        "host_ip": config.host_ip,
        "pod_cidr": config.pod_cidr,
    }
    script = Path(__file__).with_name("killable_node.py")
    process = subprocess.Popen(
        [sys.executable, str(script), json.dumps(options), str(database), image, name],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            return process, json.loads(line)
    raise AssertionError("the node ended early")


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))


def attempt(config: NodeConfig, uid: str) -> Any:
    """The run of the pod's container that the disk knows of."""
    return json.loads((config.pod_dir(uid) / "record.json").read_text())["containers"]["main"]["current"]


def until(what: str, holds: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


def test_what_survives(node_config: NodeConfig, image: str, tmp_path: Path) -> None:
    """The running container runs on and logs on; the one that ended unseen has its exit code."""
    database = tmp_path / "state.db"
    first, before = start(node_config, database, image, "Running")
    print(f"API server and node in one process: {resident_kib(first.pid) / 1024:.0f} MiB resident")  # noqa: T201 - the measurement
    kill(first)
    log = node_config.data_dir / "pods" / before["stay"]["uid"] / "main" / "0.log"
    written = len(log.read_text().splitlines())
    ending = attempt(node_config, before["end"]["uid"])
    (node_config.data_dir / "rootfs" / ending["id"] / "root" / "go").touch()
    until("the container ended", (node_config.run_dir / "exits" / ending["id"]).exists)
    until("output is kept", lambda: len(log.read_text().splitlines()) > written + 10)
    os.kill(attempt(node_config, before["stay"]["uid"])["handle"]["pid"], 0)
    second, after = start(node_config, database, image, "Failed")
    try:
        assert after["stay"]["containerID"] == before["stay"]["containerID"]
        assert after["stay"]["restartCount"] == 0
        assert after["stay"]["state"] == before["stay"]["state"]
        assert after["end"]["state"]["terminated"]["exitCode"] == 6
        lines = [line.split(" ", 3)[3] for line in log.read_text().splitlines()]
        assert lines == [str(number + 1) for number in range(len(lines))], "not a line is missing"
    finally:
        kill(second)
