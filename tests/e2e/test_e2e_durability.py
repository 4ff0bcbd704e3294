"""An acknowledged write survives `kill -9` of the API server; watchers find their way back."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import sqlite3
import threading
import time
import urllib.error
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.harness import ApiServer, Http, Kubectl, Version, eventually, run
from tests.ports import free_port

pytestmark = pytest.mark.e2e

PLACE = "/api/v1/namespaces/default/configmaps"
_ROUNDS = int(os.environ.get("ONDOL_KILL_ROUNDS", "3"))
"""How often the server is killed; more with this variable."""
_BROKEN = (urllib.error.URLError, http.client.HTTPException, OSError)


class Writer(threading.Thread):
    """Creates ConfigMaps as fast as it can and notes which were acknowledged."""

    def __init__(self, kubeconfig: Path, prefix: str) -> None:
        super().__init__(daemon=True)
        self._http = Http(kubeconfig)
        self._prefix = prefix
        self.acknowledged: dict[str, str] = {}
        self.stop = threading.Event()

    def run(self) -> None:
        for number in itertools.count():
            if self.stop.is_set():
                return
            name = f"{self._prefix}-{number}"
            body: dict[str, Any] = {"metadata": {"name": name}, "data": {"n": str(number)}}
            try:
                answer = self._http("POST", PLACE, body=body)
            except _BROKEN:
                time.sleep(0.05)  # the server is away
                continue
            if answer.status == 201:
                self.acknowledged[name] = answer.document["metadata"]["uid"]


def stored(http: Http) -> dict[str, str]:
    items = http("GET", PLACE).document["items"]
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in items}


def _have_written(writers: list[Writer], goal: int) -> bool:
    return sum(len(writer.acknowledged) for writer in writers) > goal


@pytest.mark.timeout(60 + 20 * _ROUNDS)
def test_acknowledged_writes_survive_kill_9(tmp_path: Path) -> None:
    """Killed again and again in the middle of writes, the server has every write it acknowledged, once."""
    server = ApiServer(tmp_path)
    server.start()
    writers = [Writer(server.kubeconfig, f"w{n}") for n in range(4)]
    try:
        for writer in writers:
            writer.start()
        for number in range(_ROUNDS):
            goal = sum(len(writer.acknowledged) for writer in writers) + 50
            eventually(partial(_have_written, writers, goal), f"writes go on in round {number}")
            server.kill()
            server.start()
        for writer in writers:
            writer.stop.set()
            writer.join(30)
        acknowledged = {name: uid for writer in writers for name, uid in writer.acknowledged.items()}
        names = stored(Http(server.kubeconfig))
        assert {name: names.get(name) for name in acknowledged} == acknowledged
        server.close()
        with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as file:
            assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        for writer in writers:
            writer.stop.set()
        server.close()


def test_versions_go_on_after_a_crash(tmp_path: Path) -> None:
    """Versions after a restart are greater than all before, and a watch resumes across it."""
    server = ApiServer(tmp_path)
    server.start()
    http = Http(server.kubeconfig)
    try:
        first = http("POST", PLACE, body={"metadata": {"name": "first"}}).document
        version = first["metadata"]["resourceVersion"]
        second = http("POST", PLACE, body={"metadata": {"name": "second"}}).document
        server.kill()
        server.start()
        third = http("POST", PLACE, body={"metadata": {"name": "third"}}).document
        order = [int(o["metadata"]["resourceVersion"]) for o in (first, second, third)]
        assert order == sorted(set(order))
        answer = http("GET", f"{PLACE}?watch=1&resourceVersion={version}&timeoutSeconds=1")
        events_ = [json.loads(line) for line in answer.body.splitlines()]
        compacted = answer.status == 410 or events_[0]["type"] == "ERROR"
        names = [event["object"]["metadata"].get("name") for event in events_ if event["type"] == "ADDED"]
        assert compacted or [n for n in names if n in {"second", "third"}] == ["second", "third"], events_
    finally:
        server.close()


def test_kubectl_wait_survives_a_restart(tmp_path: Path, kubectl_version: Version) -> None:
    """A client that watches while the server is killed and started again sees what comes after."""
    server = ApiServer(tmp_path)
    server.start()
    kubectl = Kubectl(server.kubeconfig, kubectl_version, "default")
    try:
        kubectl("create", "configmap", "doomed")
        with kubectl.started("wait", "--for=delete", "configmap/doomed", "--timeout=25s") as wait:
            time.sleep(0.5)  # its watch is open by now; were it not, the test would only be easier
            server.kill()
            server.start()
            kubectl("delete", "configmap", "doomed")
            ended = wait.ends()
            assert ended == 0 or "EOF" in wait.text or "refused" in wait.text, wait.text
    finally:
        server.close()


@pytest.mark.root
def test_a_server_starts_on_a_full_disk(small_disk: Any) -> None:
    """Killed with its disk full and started again, it serves what it has and says why it takes no more."""
    server = ApiServer(small_disk.path)
    server.start()
    try:
        http = Http(server.kubeconfig)
        assert http("POST", PLACE, body={"metadata": {"name": "before"}}).status == 201
        small_disk.fill()
        server.kill()
        server.start()
        http = Http(server.kubeconfig)
        assert http("GET", f"{PLACE}/before").status == 200
        refused = http("POST", PLACE, body={"metadata": {"name": "during"}, "data": {"a": "x" * 100_000}})
        assert (refused.status, "the disk is full" in refused.document["message"]) == (503, True), refused
        small_disk.make_room()
        assert http("POST", PLACE, body={"metadata": {"name": "after"}}).status == 201
    finally:
        server.close()


def test_a_second_server_on_the_same_store_is_refused(tmp_path: Path) -> None:
    """Two servers never write one file: the second says so in one line and leaves the first alone."""
    server = ApiServer(tmp_path)
    server.start()
    try:
        second = run(server.command(free_port()))
        assert second.status == 1, str(second)
        assert "store.db" in second.err
        assert "Traceback" not in second.err, second.err
        assert len(second.err.splitlines()) == 1
        assert server.alive()
        assert Http(server.kubeconfig)("GET", "/readyz").status == 200
    finally:
        server.close()


def test_port_in_use(tmp_path: Path) -> None:
    """A port that is taken is named, with how to find who has it."""
    first, second = ApiServer(tmp_path / "a"), ApiServer(tmp_path / "b")
    first.data_dir.mkdir()
    second.data_dir.mkdir()
    first.start()
    try:
        refused = run(second.command(first.port))
        assert refused.status == 1
        assert f"127.0.0.1:{first.port}" in refused.err
        assert "in use" in refused.err
        assert "Traceback" not in refused.err, refused.err
    finally:
        first.close()


def test_sigterm_ends_watches_and_loses_nothing(tmp_path: Path, kubectl_version: Version) -> None:
    """An orderly stop is quick, also with a watch open, and what was written is there afterwards."""
    server = ApiServer(tmp_path)
    server.start()
    kubectl = Kubectl(server.kubeconfig, kubectl_version, "default")
    try:
        kubectl("create", "configmap", "kept")
        with kubectl.started("get", "configmaps", "-w", "-o", "name") as watch:
            watch.says("configmap/kept")
            assert server.process is not None
            begun = time.monotonic()
            server.process.process.terminate()
            assert server.process.ends(within_s=10) == 0
            assert time.monotonic() - begun < 5
        server.start()
        assert kubectl.get("configmap", "kept")
    finally:
        server.close()
