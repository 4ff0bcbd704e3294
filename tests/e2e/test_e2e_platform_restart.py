"""`ondol restart` on a platform that serves: newer code, a newer proxy, broken code; no request is lost.

The platform runs a copy of the code, which is changed as an upgrade would change what is installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.e2e import objects
from tests.e2e.harness import (
    HERE,
    ROOT,
    Kubectl,
    Platform,
    Reply,
    Result,
    Started,
    Version,
    background,
    eventually,
    get,
    need_host,
    run,
)

pytestmark = [pytest.mark.e2e, pytest.mark.root]

LOAD = HERE / "load" / "main.py"
IMAGE = "ondol.local/load:1"
AFTER_S = 5
"""For so long requests flow on when all is done."""
HOST = "server.example"
SERVERLESS = {"Host": "sleeper.default.localhost"}


class Installed(Platform):
    """A platform whose code is in a folder that may be changed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "data")
        self.code = folder / "code"
        shutil.copytree(
            ROOT / "src" / "ondol", self.code / "ondol", ignore=shutil.ignore_patterns("__pycache__")
        )

    def run(
        self, *words: str | Path, timeout_s: float = 150.0, env: Mapping[str, str] | None = None
    ) -> Result:
        command = [sys.executable, "-P", "-m", "ondol.cli", *words, "--data-dir", self.data_dir]
        return run(command, env={"PYTHONPATH": str(self.code), **(env or {})}, timeout_s=timeout_s)

    @contextlib.contextmanager
    def changed(self, file: str, before: str, after: str) -> Iterator[None]:
        """The code with another line inside the block."""
        path = self.code / "ondol" / file
        text = path.read_text(encoding="utf-8")
        assert before in text
        path.write_text(text.replace(before, after), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(text, encoding="utf-8")

    def restart(self) -> str:
        """What `ondol restart` says when all is well."""
        result = self.run("restart")
        assert result.status == 0, f"{result}\n{self.logs()}"
        return result.err

    def all_ready(self) -> bool:
        return bool(self.status()["ready"])


@dataclass(frozen=True, slots=True)
class Stage:
    """The platform, with a server, and one at zero that is started by a request."""

    platform: Installed
    kubectl: Kubectl

    def identities(self) -> dict[str, str]:
        """Which process each container of the server is."""
        pods = self.kubectl.list("pods", "-l", "app=server")
        return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["containerID"] for pod in pods}

    def is_asleep(self) -> bool:
        return not self.kubectl.list("pods", "-l", "serving.knative.dev/service=sleeper")

    def wake(self) -> Reply:
        return get(f"{self.platform.ingress}/", headers=SERVERLESS, timeout_s=60)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, kubectl_version: Version) -> Iterator[Stage]:
    need_host()
    platform = Installed(tmp_path_factory.mktemp("restart"))
    platform.data_dir.mkdir()
    (platform.data_dir / "config.toml").write_text("scale_to_zero_after_s = 6.0\n")
    kubectl = Kubectl(platform.kubeconfig, kubectl_version, "default")
    container = {
        "name": "main",
        "image": IMAGE,
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    ports = [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "tcp", "port": 9000}]
    server = objects.deployment("server", replicas=2)
    server["spec"]["template"]["spec"]["containers"] = [container]
    sleeper = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "sleeper"},
        "spec": {"template": {"spec": {"containers": [{"image": IMAGE}]}}},
    }
    entry = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": [HOST]}
    gateway = {
        "apiVersion": objects.ISTIO,
        "kind": "Gateway",
        "metadata": {"name": "web"},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [entry]},
    }
    route = {"route": [{"destination": {"host": "server", "port": {"number": 80}}}]}
    try:
        platform.up()
        platform("image", "build", LOAD.parent, "--tag", "load:1")
        kubectl.apply(
            objects.service("server", ports=ports),
            server,
            gateway,
            objects.virtual_service("server", route, hosts=[HOST], gateways=["web"]),
            sleeper,
        )
        kubectl("rollout", "status", "deployment/server", "--timeout=60s", timeout_s=70)
        kubectl("wait", "--for=condition=Ready", "ksvc/sleeper", "--timeout=60s", timeout_s=70)
        yield Stage(platform, kubectl)
    finally:
        platform.down()


class Load:
    """Requests of every kind, from the machine through the ingress and from a pod to others."""

    def __init__(self, stage: Stage, outside: Started, name: str, over: Path) -> None:
        self._stage = stage
        self._outside = outside
        self._name = name
        self._over = over

    def reports(self) -> dict[str, Mapping[str, Any]]:
        """By where they came from and their kind; after some more requests all end."""
        kubectl = self._stage.kubectl
        time.sleep(AFTER_S)
        self._over.touch()
        kubectl("exec", self._name, "--", "/usr/bin/python3", "-c", "open('/tmp/over', 'w')")
        assert self._outside.ends(within_s=60) == 0, self._outside.text
        phase = eventually(
            lambda: kubectl.path("pod", self._name, ".status.phase").replace("Running", ""),
            "the client pod ends",
            within_s=60,
        )
        inside = eventually(lambda: kubectl.run("logs", self._name).out, "what the client pod counted")
        assert phase == "Succeeded", inside
        texts = {"outside": self._outside.text, "inside": inside}
        return {
            f"{where} {kind}": count
            for where, text in texts.items()
            for kind, count in json.loads(text.splitlines()[-1]).items()
        }


@contextlib.contextmanager
def loaded(stage: Stage, name: str) -> Iterator[Load]:
    """Requests flow when the block begins, until their reports are asked for."""
    words = ["/app/main.py", "load", "--address", "server:80", "--echo", "server:9000"]
    main = {"name": "main", "image": IMAGE, "command": ["/usr/bin/python3", *words]}
    stage.kubectl.apply(objects.pod(name, main, restartPolicy="Never"))
    stage.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=25s")
    address = stage.platform.ingress.removeprefix("http://")
    over = stage.platform.code / f"{name}.over"
    command = [
        sys.executable,
        str(LOAD),
        "load",
        "--address",
        address,
        "--authority",
        HOST,
        "--until",
        str(over),
    ]
    with background(command) as outside:
        yield Load(stage, outside, name, over)
    stage.kubectl("delete", "pod", name, "--wait=false")


def lost(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Failures by kind; each kind has had requests."""
    assert len(reports) == 12
    assert all(report["requests"] > 1 for report in reports.values()), reports
    return {kind: report["failures"] for kind, report in reports.items() if report["failures"]}


class Asking(threading.Thread):
    """kubectl, one after another."""

    def __init__(self, kubectl: Kubectl) -> None:
        super().__init__(daemon=True)
        self._kubectl = kubectl
        self._done = threading.Event()
        self.answers: list[Result] = []

    def run(self) -> None:
        while not self._done.is_set():
            self.answers.append(self._kubectl.run("get", "deployment", "server", "-o", "name"))

    def failures(self) -> list[str]:
        self._done.set()
        self.join(60)
        assert len(self.answers) > 1
        return [str(answer) for answer in self.answers if answer.status]


def test_a_restart_loses_nothing(stage: Stage) -> None:
    """The supervisor, the proxy and the pods are the processes they were; the parts are new."""
    before, containers = stage.platform.pids(), stage.identities()
    with loaded(stage, "first") as load:
        asking = Asking(stage.kubectl)
        asking.start()
        stage.platform.restart()
        assert asking.failures() == []
        reports = load.reports()
    assert lost(reports) == {}
    after = stage.platform.pids()
    stays = {name for name in before if before[name] == after.get(name)}
    assert stays == {"supervisor", "envoy"}
    assert stage.identities() == containers


def test_an_upgrade_of_code_and_proxy_loses_nothing(stage: Stage) -> None:
    """What is installed is another version with another start document: the proxies overlap."""
    before, containers = stage.platform.pids(), stage.identities()
    with (
        stage.platform.changed("__init__.py", "__version__", "__version__ = '9.9'  #"),
        stage.platform.changed("mesh/bootstrap.py", '"max_interval": "1s"', '"max_interval": "0.9s"'),
        loaded(stage, "second") as load,
    ):
        assert "version 9.9" in stage.platform.restart()
        reports = load.reports()
        after = stage.platform.pids()
    assert lost(reports) == {}
    assert after["supervisor"] == before["supervisor"]
    assert after["envoy (former)"] == before["envoy"]
    assert after["envoy"] != before["envoy"]
    assert stage.identities() == containers


def test_a_request_for_a_service_at_zero_waits_for_the_gateway(stage: Stage) -> None:
    """It comes when the parts have been told to end, waits at the socket, and is answered."""
    eventually(stage.is_asleep, "the service goes to zero", within_s=60)
    log = stage.platform.data_dir / "logs" / "supervisor.log"
    seen = log.read_text().count("to_be_succeeded")
    restarting = threading.Thread(target=stage.platform.restart)
    restarting.start()
    eventually(lambda: log.read_text().count("to_be_succeeded") > seen, "the parts are replaced", within_s=90)
    replies = [stage.wake()]
    restarting.join(120)
    assert not restarting.is_alive()
    assert [reply.status for reply in replies] == [200], replies


def test_a_request_that_is_held_is_answered_after_the_restart(stage: Stage) -> None:
    """It was taken by the gateway's former process, which ends when it has been answered."""
    assert stage.wake().status == 200
    replies: list[Reply] = []

    def slow() -> None:
        replies.append(get(f"{stage.platform.ingress}/?s=20", headers=SERVERLESS, timeout_s=90))

    eventually(stage.is_asleep, "the service goes to zero", within_s=60)
    asking = threading.Thread(target=slow)
    asking.start()
    eventually(lambda: not stage.is_asleep(), "the request wakes it")
    stage.platform.restart()
    asking.join(90)
    assert [reply.status for reply in replies] == [200], replies


def test_code_that_cannot_run_is_refused(stage: Stage) -> None:
    """The platform goes on as it is, and the command says what is wrong by its exit status and its words."""
    before = stage.platform.pids()
    with stage.platform.changed("controllers/__init__.py", '"""', 'import nothing_of_the_kind\n"""'):
        result = stage.platform.run("restart")
    assert result.status == 1
    assert "goes on as it was" in result.err
    assert "nothing_of_the_kind" in result.err
    assert {name: pid for name, pid in stage.platform.pids().items() if "former" not in name} == {
        name: pid for name, pid in before.items() if "former" not in name
    }
    assert stage.platform.all_ready()


def test_settings_that_are_wrong_are_refused(stage: Stage) -> None:
    """They are read anew by the check, before anything is replaced."""
    config = stage.platform.data_dir / "config.toml"
    text = config.read_text()
    before = stage.platform.pids()["api"]
    pid = stage.platform.pids()["supervisor"]
    config.write_text(text + 'max_pods = "many"\n')
    try:
        os.kill(pid, 0)
        result = stage.platform.run("restart")
    finally:
        config.write_text(text)
    assert result.status == 1
    assert "max_pods" in result.err
    assert stage.platform.pids()["api"] == before
