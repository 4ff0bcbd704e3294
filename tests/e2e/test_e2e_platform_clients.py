"""Independent Python clients on a platform: they run commands in pods, read logs and wait for what runs."""

from __future__ import annotations

from typing import Any

import kr8s
import kr8s.objects
import kubernetes
import lightkube
import pytest
from kubernetes import client as k8s
from kubernetes import stream, watch
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import Pod
from tests.e2e import objects
from tests.e2e.harness import Kubectl, Platform

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    # kr8s tells of every release that came out after its own.
    pytest.mark.filterwarnings("ignore:Kubernetes version .* is not supported"),
]

_SAYS = "import time\nfor n in range(3): print(f'line {n}\\n', end='', flush=True)\ntime.sleep(600)"


@pytest.fixture(scope="module")
def speaker(space: Kubectl) -> Kubectl:
    """The namespace of a pod that says three lines and goes on."""
    space.apply(objects.pod("speaker", objects.python(_SAYS)))
    space("wait", "--for=condition=Ready", "pod/speaker", "--timeout=25s")
    return space


def test_kubernetes_own_client(platform: Platform, speaker: Kubectl) -> None:
    """Exec over a WebSocket with its outputs apart and its exit code; logs, also followed."""
    with kubernetes.config.new_client_from_config(str(platform.kubeconfig)) as connected:
        core: Any = k8s.CoreV1Api(connected)
        place = ("speaker", speaker.namespace)
        command = ["sh", "-c", "echo out; echo err >&2; exit 3"]
        session = stream.stream(
            core.connect_get_namespaced_pod_exec, *place, command=command, stderr=True, stdin=False,
            stdout=True, tty=False, _preload_content=False,
        )  # fmt: skip
        session.run_forever(timeout=20)
        assert (session.read_stdout(), session.read_stderr(), session.returncode) == ("out\n", "err\n", 3)
        command = ["sh", "-c", "read x; echo $x"]
        talk = stream.stream(
            core.connect_get_namespaced_pod_exec, *place, command=command, stderr=True, stdin=True,
            stdout=True, tty=False, _preload_content=False,
        )  # fmt: skip
        talk.write_stdin("hello\n")
        talk.run_forever(timeout=20)
        assert (talk.read_stdout(), talk.read_stderr()) == ("hello\n", "")
        log = core.read_namespaced_pod_log(*place, tail_lines=2)
        assert log == "line 1\nline 2\n"
        lines = watch.Watch().stream(core.read_namespaced_pod_log, *place)
        assert [next(lines) for _ in range(3)] == ["line 0", "line 1", "line 2"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("collected")
def test_kr8s(platform: Platform, speaker: Kubectl) -> None:
    """Exec, logs, a port of the pod, and a wait for a condition."""
    api = kr8s.api(kubeconfig=str(platform.kubeconfig), namespace=speaker.namespace)
    pod = kr8s.objects.Pod.get("speaker", namespace=speaker.namespace, api=api)
    assert pod.ready()
    done = pod.exec(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 3)
    assert list(pod.logs()) == ["line 0", "line 1", "line 2"]
    body = objects.pod("brief", objects.python("print('over')"), restartPolicy="Never")
    brief = kr8s.objects.Pod(body, namespace=speaker.namespace, api=api)
    brief.create()
    brief.wait("jsonpath='{.status.phase}'=Succeeded", timeout=25)
    assert list(brief.logs()) == ["over"]
    brief.delete()


def test_lightkube(platform: Platform, speaker: Kubectl) -> None:
    """Logs as they come, and a wait for a condition."""
    config = KubeConfig.from_file(platform.kubeconfig)
    client = lightkube.Client(config=config, namespace=speaker.namespace)
    pod = client.wait(Pod, "speaker", for_conditions=["Ready"])
    assert pod.status is not None
    assert pod.status.phase == "Running"
    assert list(client.log("speaker")) == ["line 0\n", "line 1\n", "line 2\n"]
    followed = client.log("speaker", follow=True)
    assert next(iter(followed)) == "line 0\n"
    client._client._client.close()  # the library has no public way to close its connections
