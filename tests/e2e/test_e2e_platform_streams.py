"""What kubectl speaks with pods: exec, attach, run -i, port-forward."""

from __future__ import annotations

import urllib.request

import pytest
from tests.e2e import objects
from tests.e2e.harness import Kubectl, eventually, free_port

pytestmark = pytest.mark.e2e


@pytest.fixture
def pod(space: Kubectl) -> Kubectl:
    """A namespace with a pod that runs, made by the first test that wants it."""
    space.run("run", "a", f"--image={objects.IMAGE}", f"--port={objects.PORT}")
    space("wait", "--for=condition=Ready", "pod/a", "--timeout=25s")
    return space


def test_exec(pod: Kubectl) -> None:
    """Both outputs apart, the exit code, input to its end, and what is not there."""
    result = pod.run("exec", "a", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (result.status, result.out) == (7, "out\n")
    assert result.err.startswith("err\n")
    assert pod("exec", "-i", "a", "--", "cat", stdin="one\ntwo\n" * 100_000) == "one\ntwo\n" * 100_000
    assert "/nope" in pod.refused("exec", "a", "--", "/nope")


def test_exec_is_refused(pod: Kubectl) -> None:
    """Without the right, and in a container that is not there."""
    pod("create", "rolebinding", "viewer", "--clusterrole=view", "--user=viewer")
    refused = pod.refused("exec", "a", "--as=viewer", "--", "true")
    assert 'resource "pods/exec" in API group ""' in refused
    assert "container x is not valid for pod a" in pod.refused("exec", "a", "-c", "x", "--", "true")


def test_run_with_input(space: Kubectl) -> None:
    """`kubectl run -i` attaches to the container it made."""
    words = ("run", "-i", "b", f"--image={objects.IMAGE}", "--restart=Never", "--pod-running-timeout=25s")
    code = "import sys; print(sys.stdin.readline().upper()); import time; time.sleep(1)"
    output = space(*words, "--command", "--", "python3", "-c", code, stdin="hello\n")
    assert "HELLO" in output or "HELLO" in space("logs", "b")


def test_port_forward(pod: Kubectl) -> None:
    """Several connections one after the other; a port that nobody listens at is told."""
    port = free_port()

    def answer() -> bytes:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
                return bytes(response.read())
        except OSError:
            return b""

    with pod.started("port-forward", "pod/a", f"{port}:{objects.PORT}"):
        assert b'"pod": "a"' in eventually(answer, "the port answers")
        for _ in range(20):
            assert b'"pod": "a"' in answer()
