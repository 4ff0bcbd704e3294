"""What kubectl and our own commands speak with pods: exec, attach, run -i, debug, cp, port-forward."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e import objects
from tests.e2e.harness import ONDOL, Kubectl, Platform, background, eventually, run
from tests.ports import free_port

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


def debugger(space: Kubectl, name: str) -> dict[str, Any]:
    """The status of a container that was added to pod `a`."""
    statuses = space.get("pod", "a")["status"].get("ephemeralContainerStatuses") or ()
    return next((dict(each) for each in statuses if each["name"] == name), {})


def test_debug(pod: Kubectl) -> None:
    """A container is added, sees the processes of its target, is attached to, ends once and stays so."""
    words = ("debug", "a", f"--image={objects.IMAGE}", "--target=a", "-c", "look", "-i", "--profile=general")
    code = "import sys; print(sys.stdin.readline().upper()); print(open('/proc/1/cmdline').read())"
    output = pod(*words, "--", "python3", "-c", code + "; import time; time.sleep(1)", stdin="hello\n")
    assert "main.py" in output
    assert "HELLO" in output
    ended = eventually(
        lambda: debugger(pod, "look").get("state", {}).get("terminated"), "the debugger has ended"
    )
    assert ended["exitCode"] == 0
    status = pod.get("pod", "a")["status"]
    assert status["containerStatuses"][0]["restartCount"] == 0
    assert {"type": "Ready", "status": "True"}.items() <= {
        key: value for c in status["conditions"] if c["type"] == "Ready" for key, value in c.items()
    }.items()
    look = debugger(pod, "look")
    assert (look["restartCount"], look["ready"], "started" in look) == (0, False, False)
    assert "main.py" in pod("logs", "a", "-c", "look")
    failing = ("debug", "a", f"--image={objects.IMAGE}", "-c", "fail", "--", "sh", "-c", "exit 3")
    pod(*failing)
    failed = eventually(
        lambda: debugger(pod, "fail").get("state", {}).get("terminated"), "the other has ended as well"
    )
    assert failed["exitCode"] == 3


def test_debug_what_is_not_there(pod: Kubectl) -> None:
    """An image that is not there, and a target that does not run, are told in the container's status."""
    pod("debug", "a", "--image=nowhere.example/none:1", "-c", "none", "--", "true")
    waiting = eventually(
        lambda: debugger(pod, "none").get("state", {}).get("waiting", {}).get("reason"), "it waits"
    )
    assert waiting in ("ErrImagePull", "RegistryUnavailable", "ImagePullBackOff", "ContainerCreating")
    refused = pod.refused("debug", "a", f"--image={objects.IMAGE}", "--target=x", "-c", "x", "--", "true")
    assert "targetContainerName" in refused


def test_debug_a_copy(pod: Kubectl) -> None:
    """A pod beside it, with another command in it."""
    words = (
        "debug",
        "a",
        "--copy-to=copy",
        "--share-processes",
        f"--image={objects.IMAGE}",
        "--container=look",
    )
    code = "import glob; print([open(f).read() for f in glob.glob('/proc/[0-9]*/cmdline')])"
    pod(*words, "--", "python3", "-c", f"{code}; import time; time.sleep(60)")
    assert pod.get("pod", "copy")["spec"]["shareProcessNamespace"] is True
    output = eventually(lambda: pod.run("logs", "copy", "-c", "look").out, "the copy runs")
    assert "/pause" in output


def test_plain_spdy(pod: Kubectl) -> None:
    """As clients speak that know no WebSockets: the same answers."""
    old = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
    result = pod.run("exec", "a", "-c", "a", "--", "sh", "-c", "echo out; echo err >&2; exit 7", env=old)
    assert (result.status, result.out) == (7, "out\n")
    assert result.err.startswith("err\n")
    sent = "one\ntwo\n" * 100_000
    assert pod("exec", "-i", "a", "--", "cat", stdin=sent, env=old) == sent
    assert "container x is not valid for pod a" in pod.refused("exec", "a", "-c", "x", "--", "true", env=old)
    assert "/nope" in pod.refused("exec", "a", "--", "/nope", env=old)


@pytest.fixture
def packed(space: Kubectl, platform: Platform, tmp_path: Path) -> Kubectl:
    """A pod `t` whose image has a `tar`, this machine's with its libraries."""
    app = tmp_path / "app"
    (app / "bin").mkdir(parents=True)
    (app / "main.py").write_text("import time\ntime.sleep(3600)\n")
    tar = shutil.which("tar")
    assert tar is not None
    libraries = re.findall(r"=> (/\S+)", run(["ldd", tar]).out)
    for file in (tar, *libraries):
        shutil.copy(file, app / "bin")
    platform("image", "build", app, "--tag", "packed:1")
    env = [
        {"name": "PATH", "value": "/app/bin:/usr/bin:/bin"},
        {"name": "LD_LIBRARY_PATH", "value": "/app/bin"},
    ]
    main = {"name": "main", "image": "ondol.local/packed:1", "env": env}
    space.apply(objects.pod("t", main))
    space("wait", "--for=condition=Ready", "pod/t", "--timeout=25s")
    return space


def test_cp(packed: Kubectl, platform: Platform, tmp_path: Path) -> None:
    """Files and folders in both directions, with kubectl and with our own."""
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "file").write_bytes(bytes(range(256)) * 1000)
    (source / "empty").touch()
    for name, copy in (("theirs", packed), ("ours", own(platform, packed))):
        copy("cp", source, f"t:/tmp/{name}")
        copy("cp", f"t:/tmp/{name}", tmp_path / name)
        assert (tmp_path / name / "deep" / "file").read_bytes() == (source / "deep" / "file").read_bytes()
        assert (tmp_path / name / "empty").exists()
        copy("cp", f"t:/tmp/{name}/deep/file", tmp_path / f"{name}-file")
        assert (tmp_path / f"{name}-file").stat().st_size == 256_000


def own(platform: Platform, space: Kubectl) -> Callable[..., str]:
    """Our command line in the same namespace."""

    def command(name: str, *words: str | Path) -> str:
        result = run([ONDOL, name, "--data-dir", platform.data_dir, "-n", space.namespace, *words])
        assert result.status == 0, str(result)
        return result.out

    return command


def test_own_commands(pod: Kubectl, platform: Platform) -> None:
    """`ondol exec`, `attach`, `debug` and `port-forward`, as kubectl does it."""
    place = ["--data-dir", str(platform.data_dir), "-n", pod.namespace]
    done = run([ONDOL, "exec", *place, "a", "--", "sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (done.status, done.out, done.err) == (7, "out\n", "err\n")
    sent = "one\n" * 100_000
    assert run([ONDOL, "exec", "-i", *place, "a", "--", "cat"], stdin=sent).out == sent
    missing = run([ONDOL, "exec", *place, "none", "--", "true"])
    assert (missing.status, missing.err) == (4, 'error: pods "none" not found\n')
    words: list[str | Path] = [
        ONDOL,
        "debug",
        "-i",
        "--image",
        objects.IMAGE,
        "--target",
        "a",
        *place,
        "a",
        "--",
    ]
    done = run([*words, "sh", "-c", "read line; cat /proc/1/cmdline; echo $line; exit 5"], stdin="hi\n")
    assert (done.status, "main.py" in done.out, "hi" in done.out) == (5, True, True), str(done)
    with background([ONDOL, "port-forward", *place, "pod/a", f":{objects.PORT}"]) as forward:
        port = forward.says("Forwarding from").split(" ->")[0].rpartition(":")[2]
        for _ in range(20):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
                assert b'"pod": "a"' in response.read()


def test_a_terminal_of_our_own(pod: Kubectl, platform: Platform) -> None:
    """`ondol exec -it`: what is typed arrives, the size does and changes, and the exit code comes back."""
    place = ["--data-dir", str(platform.data_dir), "-n", pod.namespace]
    master, slave = os.openpty()
    set_size(slave, 40, 100)
    words = [ONDOL, "exec", "-it", *place, "a", "--", "sh"]
    process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    written = b""

    def says(what: bytes) -> bool:
        nonlocal written
        if select.select([master], [], [], 0.1)[0]:
            written += os.read(master, 65536)
        return what in written

    size = b"python3 -c 'import os; print(\"size\", *os.get_terminal_size())'\n"
    eventually(lambda: says(b"#") or says(b"$"), "a prompt")
    os.write(master, size)
    eventually(lambda: says(b"size 100 40"), "the size of the terminal")
    set_size(master, 50, 120)
    process.send_signal(signal.SIGWINCH)

    def has_changed() -> bool:
        os.write(master, size)
        return says(b"size 120 50")

    eventually(has_changed, "the new size of the terminal")
    os.write(master, b"exit 9\n")
    assert process.wait(10) == 9
    os.close(master)


def set_size(descriptor: int, rows: int, columns: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
