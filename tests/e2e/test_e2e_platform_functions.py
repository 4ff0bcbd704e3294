"""Functions on a real platform: made, run here, deployed, asked from zero, changed and taken away."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e import harness
from tests.e2e.harness import Kubectl, Platform, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.root]


class Func:
    """`ondol func` in a function's folder, in the namespace of the test."""

    def __init__(self, platform: Platform, kubectl: Kubectl, folder: Path) -> None:
        self.folder = folder
        self._platform = platform
        self.kubectl = kubectl

    def run(self, *words: str, remote: bool = True) -> harness.Result:
        where = ("--namespace", self.kubectl.namespace) if remote else ()
        env = {"FUNC_PATH": str(self.folder), "KUBECONFIG": str(self._platform.kubeconfig)}
        words = (
            *words,
            *where,
            *(("--data-dir", str(self._platform.data_dir)) if words[0] == "deploy" else ()),
        )
        return harness.run([harness.ONDOL, "func", *words], env=env, timeout_s=120)

    def __call__(self, *words: str, remote: bool = True) -> str:
        result = self.run(*words, remote=remote)
        assert result.status == 0, str(result)
        return result.out

    def create(self, *words: str) -> None:
        result = harness.run([harness.ONDOL, "func", "create", *words, self.folder])
        assert result.status == 0, str(result)

    def serving(self) -> contextlib.AbstractContextManager[harness.Started]:
        """The function run here, for as long as it is needed."""
        return harness.background([harness.ONDOL, "func", "run", "--path", self.folder, "--json"])

    def replace(self, name: str, before: str, after: str) -> None:
        file = self.folder / name
        text = file.read_text(encoding="utf-8")
        assert before in text
        file.write_text(text.replace(before, after), encoding="utf-8")

    def configure(self, **sections: Any) -> None:
        file = self.folder / "func.yaml"
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        file.write_text(yaml.safe_dump({**document, **sections}), encoding="utf-8")

    def pods(self) -> list[Any]:
        selector = f"serving.knative.dev/service={self.folder.name}"
        return self.kubectl.list("pods", "-l", selector)


QUICK = {
    "annotations": {
        "autoscaling.knative.dev/window": "6s",
        "autoscaling.knative.dev/scale-to-zero-pod-retention-period": "0s",
    }
}


def test_the_whole_journey(space: Kubectl, platform: Platform, tmp_path: Path) -> None:
    """create, run, invoke, deploy, invoke from zero, change, subscribe, describe, logs, delete."""
    func = Func(platform, space, tmp_path / "hello")
    func.create("-l", "python")
    func.configure(deploy=QUICK, run={"envs": [{"name": "WHO", "value": "{{ env:HOME }}"}]})
    with func.serving() as started:
        address = json.loads(started.says('{"address"').splitlines()[-1])["address"]
        assert func("invoke", remote=False) == "OK\n"
        assert func("invoke", "--target", f"{address}/x", remote=False) == "OK\n"
    assert func.run("invoke", "--target", "local", remote=False).status == 1

    url = func("deploy").strip()
    assert url.startswith(f"http://hello.{space.namespace}.localhost")
    assert func("describe", "--output", "url").strip() == url
    assert func("invoke") == "OK\n"
    service = space.get("ksvc", "hello")
    assert service["metadata"]["labels"]["boson.dev/function"] == "true"
    [container] = service["spec"]["template"]["spec"]["containers"]
    assert {"name": "WHO", "value": os.environ["HOME"]} in container["env"]

    eventually(lambda: not func.pods(), "the function at zero", within_s=60)
    assert func("invoke", "--target", "remote") == "OK\n"

    func.replace("function/func.py", 'b"OK"', 'b"again"')
    again = func.run("deploy")
    assert again.status == 0, str(again)
    assert "2 of 3 layers were there" in again.err
    assert func("invoke") == "again\n"
    assert "POST /" in func("logs", "--no-follow", "--since", "5m")

    rows = json.loads(func("list", "--output", "json"))
    assert [(row["name"], row["ready"]) for row in rows] == [("hello", "True")]
    assert func("delete") == f"function hello deleted from {space.namespace}\n"
    assert "image" not in yaml.safe_load((func.folder / "func.yaml").read_text(encoding="utf-8"))["deploy"]
    assert func.run("describe", "--output", "url").status == 4
    eventually(lambda: not func.pods(), "no pod of the function", within_s=60)


def test_a_function_that_fails_is_said_in_one_line(
    space: Kubectl, platform: Platform, tmp_path: Path
) -> None:
    """One that does not come up, and one whose name another has."""
    func = Func(platform, space, tmp_path / "broken")
    func.create("-l", "python")
    func.replace("function/func.py", "import logging", "import logging\n\nraise RuntimeError('not today')")
    failed = func.run("deploy", "--timeout", "60")
    assert failed.status == 1
    [line] = [line for line in failed.err.splitlines() if line.startswith("error: ")]
    assert "broken does not become ready" in line
    assert "  RuntimeError: not today" in failed.err.splitlines()

    other = Func(platform, space, tmp_path / "elsewhere" / "broken")
    other.create("-l", "python")
    refused = other.run("deploy")
    assert refused.status == 1
    assert "is another function of that name, created" in refused.err
    assert other.run("deploy", "--replace").status == 0
    assert other("invoke") == "OK\n"
    other("delete")

    missing = Func(platform, space, tmp_path / "away")
    missing.create("-l", "python")
    missing.configure(run={"envs": [{"name": "A", "value": "{{ env:NOBODY_SETS_THIS }}"}]})
    assert "NOBODY_SETS_THIS, which is not set" in missing.run("deploy").err


def test_functions_that_take_events(space: Kubectl, platform: Platform, tmp_path: Path) -> None:
    """With the package of events, in binary or structured mode; the template's own tests pass."""
    func = Func(platform, space, tmp_path / "events")
    func.create("-l", "python", "-t", "cloudevents")
    func("deploy")
    reply = json.loads(func("invoke", "--id", "7"))
    assert (reply["id"], reply["type"], reply["data"]) == (
        "response-7",
        "function.response",
        {"message": "OK"},
    )
    with func.serving() as started:
        started.says('{"address"')
        assert json.loads(func("invoke", "--id", "8", remote=False))["id"] == "response-8"
    [packages] = func.folder.glob(".func/python-*/site-packages")
    env = {**os.environ, "PYTHONPATH": str(packages)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"],
        cwd=func.folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    func("delete")


@pytest.mark.skipif(shutil.which("node") is None, reason="this machine has no Node.js")
@pytest.mark.parametrize("template", ["http", "cloudevents"])
def test_functions_of_node(space: Kubectl, platform: Platform, tmp_path: Path, template: str) -> None:
    """Packages are installed where they are asked for; the template's own tests pass."""
    func = Func(platform, space, tmp_path / f"node-{template}")
    func.create("-l", "node", "-t", template)
    func("deploy")
    assert "OK" in func("invoke")
    if template == "cloudevents":
        subprocess.run(["npm", "install", "--silent", "--no-audit"], cwd=func.folder, check=True)
    done = subprocess.run(
        ["node", "--test", "test/"], cwd=func.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    func("delete")


def test_any_program_is_a_function(space: Kubectl, platform: Platform, tmp_path: Path) -> None:
    """One that is linked to libraries of this machine, as Python itself is."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("this machine has no C compiler")
    func = Func(platform, space, tmp_path / "program")
    func.create("-l", "executable")
    source = Path(__file__).parent / "function.c"
    subprocess.run([compiler, str(source), "-o", str(func.folder / "main")], check=True)
    func("deploy")
    assert func("invoke") == "from C\n"
    func("delete")
