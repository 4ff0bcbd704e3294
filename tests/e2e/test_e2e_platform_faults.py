"""What goes wrong on a machine: parts killed, restarts, a full disk, a second start, missing rights."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e import objects
from tests.e2e.harness import (
    HERE,
    ONDOL,
    Http,
    Kubectl,
    Platform,
    Result,
    Version,
    ask,
    background,
    eventually,
    need_host,
    run,
    through,
)

pytestmark = [pytest.mark.e2e, pytest.mark.root]


@dataclass(frozen=True, slots=True)
class Stage:
    """A platform of this module's own, that may be killed, with a client and a server on it."""

    platform: Platform
    kubectl: Kubectl

    def address(self, pod: str) -> str:
        return self.kubectl.path("pod", pod, ".status.podIP")

    def identity(self, pod: str) -> tuple[str, str]:
        """Which process a container is: its id and when it started."""
        (status,) = self.kubectl.get("pod", pod)["status"]["containerStatuses"]
        return status["containerID"], status["state"]["running"]["startedAt"]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, kubectl_version: Version) -> Iterator[Stage]:
    need_host()
    platform = Platform(tmp_path_factory.mktemp("faults") / "data")
    kubectl = Kubectl(platform.kubeconfig, kubectl_version, "default")
    try:
        platform.up()
        platform("image", "build", HERE / "app", "--tag", "probe:1")
        kubectl.apply(
            objects.service("server"), objects.deployment("server", replicas=2), objects.pod("client")
        )
        kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=25s")
        kubectl("rollout", "status", "deployment/server", "--timeout=25s")
        yield Stage(platform, kubectl)
    finally:
        platform.down()


class Traffic(threading.Thread):
    """Requests from the client pod through Envoy, one after another, and how they fared.

    By address, since names are answered by the node agent, which is one of those that get killed.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__(daemon=True)
        self._client = stage.address("client")
        self._server = stage.kubectl.path("service", "server", ".spec.clusterIP")
        self._done = threading.Event()
        self.statuses: list[int] = []

    def run(self) -> None:
        while not self._done.is_set():
            self.statuses.append(through(self._client, f"http://{self._server}/").status)
            time.sleep(0.01)

    def finish(self) -> list[int]:
        self._done.set()
        self.join(30)
        assert not self.is_alive()
        return self.statuses


@pytest.mark.parametrize("part", ["api", "control", "node", "gateway", "observe"])
def test_killed_part_comes_back_and_no_request_is_lost(stage: Stage, part: str) -> None:
    """`kill -9` of a part: it is started again; pods and their requests do not notice."""
    pids, before = stage.platform.pids(), stage.identity("client")
    traffic = Traffic(stage)
    traffic.start()
    eventually(lambda: len(traffic.statuses) > 10, "requests flow")
    os.kill(pids[part], signal.SIGKILL)
    eventually(lambda: stage.platform.pids()[part] not in (0, pids[part]), f"{part} is started again")
    eventually(stage.platform.ready, "the platform is ready again")
    time.sleep(0.5)  # requests also flow through the time of recovery
    statuses = traffic.finish()
    assert set(statuses) == {200}
    after = stage.platform.pids()
    assert {name for name in pids if pids[name] != after[name]} == {part}
    (entry,) = [p for p in stage.platform.status()["parts"] if p["name"] == part]
    assert entry["restarts"] >= 1
    assert stage.identity("client") == before
    stage.kubectl("annotate", "pod", "client", f"survived={part}", "--overwrite")


def test_killed_envoy(stage: Stage) -> None:
    """`kill -9` of Envoy: pods fail closed for a moment, then all is as before."""
    pids, before = stage.platform.pids(), stage.identity("client")
    os.kill(pids["envoy"], signal.SIGKILL)
    eventually(lambda: stage.platform.pids()["envoy"] not in (0, pids["envoy"]), "Envoy is started again")
    client = stage.address("client")
    eventually(lambda: through(client, "http://server/").status == 200, "requests flow again", within_s=10)
    assert {through(client, "http://server/").status for _ in range(20)} == {200}
    assert stage.identity("client") == before


def test_killed_container_is_restarted(stage: Stage) -> None:
    """A container that is killed from outside is restarted in its pod, at its address."""
    address = stage.address("client")
    with pytest.raises(AssertionError):
        ask(address, "end", code=9)
    status = "status.containerStatuses[0].restartCount"
    eventually(lambda: int(stage.kubectl.path("pod", "client", f".{status}") or 0) >= 1, "a restart")
    stage.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=25s")
    assert stage.address("client") == address
    eventually(lambda: through(address, "http://server/").status == 200, "it is back in the mesh")


def test_pods_survive_keep_pods(stage: Stage) -> None:
    """`down --keep-pods` and `up`: the same containers, and the same objects."""
    before, address = stage.identity("client"), stage.address("client")
    stage.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    stage.platform.down("--keep-pods")
    assert stage.platform.run("status").status == 3
    assert ask(address, "who")["pod"] == "client"
    stage.platform.up()
    assert stage.identity("client") == before
    assert stage.kubectl.get("configmap", "kept")["data"] == {"a": "b"}
    eventually(lambda: through(address, "http://server/").status == 200, "requests flow again")
    assert stage.identity("client") == before


def test_pods_survive_the_death_of_the_whole_tree(stage: Stage) -> None:
    """`kill -9` of the supervisor and every part, then `up`: the same containers go on."""
    before, address = stage.identity("client"), stage.address("client")
    status = stage.platform.status()
    for pid in (status["supervisor_pid"], *(p["pid"] for p in status["parts"] if p["pid"])):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended with its supervisor
    assert ask(address, "who")["pod"] == "client"
    stage.platform.up()
    eventually(lambda: through(address, "http://server/").status == 200, "requests flow again")
    assert stage.identity("client") == before
    stage.kubectl("rollout", "status", "deployment/server", "--timeout=25s")


def test_second_up_on_the_same_data_is_refused(stage: Stage) -> None:
    """A second start says who runs already and what to do, and leaves it alone."""
    pids = stage.platform.pids()
    for words in (("up", "--detach"), ("up",)):
        second = stage.platform.run(*words)
        assert second.status == 1
        assert "already running" in second.err
        assert str(pids["supervisor"]) in second.err
        assert "Traceback" not in second.err
    assert stage.platform.pids() == pids


def test_an_image_in_use_is_kept(stage: Stage) -> None:
    """An image that something needs is kept, and what needs it is named; one that nothing needs goes."""
    refused = stage.platform.run("image", "rm", "probe:1")
    assert refused.status == 1
    assert refused.err.startswith("error: ondol.local/probe:1 is used by ")
    assert "pod default/client" in refused.err
    stage.platform("image", "build", HERE / "app", "--tag", "unused:1")
    stage.platform("image", "rm", "unused:1")
    listed = {image["reference"] for image in json.loads(stage.platform("image", "ls", "-o", "json"))}
    assert "ondol.local/probe:1" in listed
    assert "ondol.local/unused:1" not in listed


def test_two_platforms_side_by_side(stage: Stage, tmp_path: Path, kubectl_version: Version) -> None:
    """Two data directories are two platforms with their own ports, networks, objects and pods."""
    other = Platform(tmp_path / "other")
    try:
        other.up()
        kubectl = Kubectl(other.kubeconfig, kubectl_version, "default")
        assert other.status()["api"] != stage.platform.status()["api"]
        assert kubectl.list("pods") == []
        other("image", "build", HERE / "app", "--tag", "probe:1")
        kubectl.apply(objects.pod("client"), objects.pod("server"), objects.service("server"))
        kubectl("wait", "--for=condition=Ready", "pod/client", "pod/server", "--timeout=25s")
        address = kubectl.path("pod", "client", ".status.podIP")
        eventually(lambda: through(address, "http://server/").status == 200, "its mesh works")
        assert through(stage.address("client"), "http://server/").value["pod"] != "server"
    finally:
        other.down()
    assert through(stage.address("client"), "http://server/").status == 200


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_down_leaves_nothing(tmp_path: Path, kubectl_version: Version) -> None:
    """After `down` no process, bridge, rule, mount or run folder of the platform is left."""
    need_host()
    platform = Platform(tmp_path / "data")
    platform.up()
    identity = json.loads((platform.data_dir / "instance.json").read_text())["id"]
    try:
        platform("image", "build", HERE / "app", "--tag", "probe:1")
        kubectl = Kubectl(platform.kubeconfig, kubectl_version, "default")
        kubectl.apply(objects.pod("one"))
        kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=25s")
        assert identity in run(["ip", "link"]).out
        pids = platform.pids()
    finally:
        platform.down()
    eventually(lambda: not any(alive(pid) for pid in pids.values()), "every process has ended", within_s=3)
    assert identity not in run(["ip", "link"]).out
    assert identity not in run(["nft", "list", "tables"]).out
    assert str(platform.data_dir) not in Path("/proc/self/mounts").read_text()
    assert f"/run/ondol/{identity}/" not in Path("/proc/self/mounts").read_text()


def fill(file: Path) -> None:
    """Grow a file until nothing more fits beside it."""
    with file.open("wb", buffering=0) as ballast:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while ballast.write(b"x" * size):
                    pass


def test_foreground_start_says_what_to_do_next(tmp_path: Path, kubectl_version: Version) -> None:
    """`ondol up` prints a line that can be pasted into another terminal; Ctrl-C ends all of it."""
    need_host()
    platform = Platform(tmp_path / "data")
    with background([ONDOL, "up", "--data-dir", platform.data_dir]) as up:
        hint = up.says("In another terminal: ")
        line = hint.partition("In another terminal: ")[2].splitlines()[0]
        listed = run(["bash", "-c", line])
        assert " Ready " in listed.out, str(listed)
        up.process.send_signal(signal.SIGINT)
        assert up.ends() == 0
        assert "the pods are gone" in up.text
    assert platform.status()["running"] is False


def test_full_disk(tmp_path: Path, kubectl_version: Version) -> None:
    """On a full disk writes are refused, nothing is lost, a start succeeds, and it heals by itself."""
    need_host()
    mount = tmp_path / "small"
    mount.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", mount])
    platform = Platform(mount / "data")
    try:
        platform.up()
        kubectl = Kubectl(platform.kubeconfig, kubectl_version, "default")
        kubectl("create", "configmap", "before", "--from-literal=a=b")
        fill(mount / "ballast")
        http, place = Http(platform.kubeconfig), "/api/v1/namespaces/default/configmaps"
        created, refused = [], None
        for number in range(200):
            body = {"metadata": {"name": f"during{number}"}, "data": {"a": "x" * 50_000}}
            answer = http("POST", place, body=body)
            if answer.status != 201:
                refused = answer
                break
            created.append(f"during{number}")
        assert refused is not None, "no write was refused"
        assert refused.status in {500, 503, 507}
        assert refused.document["kind"] == "Status"
        assert "disk" in refused.document["message"].lower(), refused
        assert kubectl.get("configmap", "before")["data"] == {"a": "b"}
        platform.down()
        platform.up()
        assert kubectl.get("configmap", "before")["data"] == {"a": "b"}
        (mount / "ballast").unlink()
        eventually(lambda: kubectl.run("create", "configmap", "after").status == 0, "writes work again")
        names = {o["metadata"]["name"] for o in kubectl.list("configmaps")}
        assert {"before", "after", *created} <= names
        platform.down()
        platform.up()
        assert {o["metadata"]["name"] for o in kubectl.list("configmaps")} == names
    finally:
        platform.down()
        run(["umount", mount])


def test_corrupt_layer(stage: Stage) -> None:
    """A damaged image layer is told in the pod's status; other pods go on."""
    stage.platform("image", "build", HERE / "app", "--tag", "damaged:1")
    blobs = sorted(
        (f for f in (stage.platform.data_dir / "images").rglob("*") if f.is_file() and len(f.name) == 64),
        key=lambda f: f.stat().st_size,
    )
    assert blobs, "the image store keeps blobs under their digests"
    changed = stage.platform.data_dir.parent / "changed"
    shutil.copytree(HERE / "app", changed)
    (changed / "other.py").write_text("# other bytes, so that this layer is nobody else's\n")
    before = set(blobs)
    stage.platform("image", "build", changed, "--tag", "damaged:1")
    fresh = {
        f for f in (stage.platform.data_dir / "images").rglob("*") if f.is_file() and len(f.name) == 64
    } - before
    for blob in fresh:
        content = blob.read_bytes()
        if not content.startswith(b"{"):
            blob.chmod(0o644)
            blob.write_bytes(content[: len(content) // 2])
    stage.kubectl.apply(objects.pod("damaged", objects.container(image="ondol.local/damaged:1")))

    def message() -> str:
        return stage.kubectl.path("pod", "damaged", ".status.containerStatuses[0].state.waiting.message")

    text = eventually(message, "the pod waits and says why")
    assert any(word in text for word in ("corrupt", "digest", "damaged", "layer")), text
    stage.kubectl("delete", "pod", "damaged")
    assert through(stage.address("client"), "http://server/").status == 200


def test_preferred_port_in_use(tmp_path: Path) -> None:
    """A preferred port that is taken is replaced by a free one; one that is taken later is named."""
    need_host()
    platform = Platform(tmp_path / "data")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        try:
            platform("up", "--detach", "--api-port", str(port))
            chosen = int(platform.status()["api"].rpartition(":")[2])
            assert chosen != port
        finally:
            platform.down()
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", chosen))
        thief.listen()
        try:
            refused = platform.run("up", "--detach")
            assert refused.status == 1, str(refused)
            assert str(chosen) in refused.err
            assert "in use" in refused.err
            assert "Traceback" not in refused.err
        finally:
            platform.down()


def as_nobody(folder: Path) -> list[str]:
    """How to run a command as an ordinary user, who may reach `folder`; skips where that cannot be."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is needed to become nobody")
    for above in (folder, *folder.parents):
        if above.owner() == "root" and str(above).startswith("/tmp/"):
            above.chmod(above.stat().st_mode | 0o055)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if run([*nobody, ONDOL, "--version"]).status:
        pytest.skip(f"the user nobody may not run {ONDOL}")
    return nobody


def test_without_root(tmp_path: Path) -> None:
    """An ordinary user is told in one line, with the remedy, what starting a platform needs."""
    need_host()
    nobody = as_nobody(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    refused = run([*nobody, ONDOL, "up", "--detach", "--data-dir", home / "data"], env={"HOME": str(home)})
    assert refused.status == 1, str(refused)
    assert "run with sudo" in refused.err
    assert "Traceback" not in refused.err
    assert len(refused.err.strip().splitlines()) <= 2


@pytest.mark.parametrize(
    "command",
    ["up --detach", "down", "status", "doctor", "kubeconfig", "get pods", "logs client", "traces"],
)
def test_another_user_is_told_to_use_sudo(stage: Stage, command: str) -> None:
    """Whose platform it is not learns nothing of it but that; also where its folder is open to all."""
    data_dir = stage.platform.data_dir
    nobody = as_nobody(data_dir)
    refused = run([*nobody, ONDOL, *command.split(), "--data-dir", data_dir])
    assert refused.status == 1, str(refused)
    assert f"try: sudo ondol {command} --data-dir {data_dir}" in refused.err
    assert "Traceback" not in refused.err
    assert len(refused.err.strip().splitlines()) <= 2


def test_nothing_secret_is_open_to_others(stage: Stage) -> None:
    """Objects, keys, tokens, volumes and traces are the owner's alone, however open the folder is."""
    data_dir = stage.platform.data_dir
    nobody = as_nobody(data_dir)
    readable = run([*nobody, "find", data_dir, "-type", "f", "-readable"]).lines
    open_to_all = {Path(line).relative_to(data_dir).parts[0] for line in readable}
    assert open_to_all <= {"images", "layers", "rootfs", "instance.json"}


def test_without_a_runtime(tmp_path: Path) -> None:
    """Without crun and runc the start is refused with the command that installs one."""
    need_host()
    hidden = [path for name in ("crun", "runc") if (path := shutil.which(name))]
    hide = "".join(f"mount --bind /dev/null {path} && " for path in hidden)

    def without(*words: str) -> Result:
        """Run `ondol` in a mount namespace in which no runtime can be run."""
        begin = ["unshare", "--mount", "sh", "-c", f'{hide}exec "$0" "$@"', ONDOL]
        return run([*begin, *words, "--data-dir", tmp_path / "data"])

    refused = without("up", "--detach")
    assert refused.status == 1, str(refused)
    assert "crun" in refused.err
    assert "apt-get install" in refused.err
    assert "Traceback" not in refused.err
    doctor = without("doctor")
    assert doctor.status == 1
    assert "apt-get install" in doctor.out


def test_commands_without_a_platform(tmp_path: Path) -> None:
    """Where nothing runs, every command says so with its own exit status."""
    platform = Platform(tmp_path / "none")
    assert platform.run("status").status == 3
    assert platform.status()["running"] is False
    assert "no platform was running" in platform.run("down").err
    for words in (("get", "pods"), ("traces",), ("kubeconfig",)):
        result = platform.run(*words)
        assert result.status in {1, 3}, str(result)
        assert "no platform is running" in result.err
        assert "ondol up" in result.err


def test_doctor_and_status(stage: Stage) -> None:
    """`doctor` finds what this machine has; `status` shows each part with process, memory and address."""
    findings = json.loads(stage.platform("doctor", "-o", "json"))
    assert {"verdict", "name", "found", "remedy"} <= set(findings[0])
    status = stage.platform.status()
    assert status["ready"]
    assert {p["name"] for p in status["parts"]} == {
        "supervisor",
        "api",
        "control",
        "node",
        "gateway",
        "observe",
        "envoy",
        "nats",
        "events",
    }
    for part in status["parts"]:
        has_process = part["state"] != "dormant"
        assert (part["pid"] > 0) is has_process
        assert (part["memory_bytes"] > 0) is has_process
        assert part["address"]
    assert stage.platform.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_a_backup_of_a_running_platform(stage: Stage, tmp_path: Path) -> None:
    """It is made while everything runs, is its owner's alone, and a folder of its own comes out of it."""
    archive = tmp_path / "backup.tgz"
    stage.platform("backup", archive)
    assert archive.stat().st_mode & 0o777 == 0o600
    elsewhere = Platform(tmp_path / "elsewhere")
    elsewhere("restore", archive)
    assert (elsewhere.data_dir / "pki" / "ca.crt").read_bytes() == (
        stage.platform.data_dir / "pki" / "ca.crt"
    ).read_bytes()
    findings = json.loads(elsewhere.run("doctor", "-o", "json").out)
    (objects_,) = [f for f in findings if f["name"] == "objects"]
    assert objects_["verdict"] == "ok"
    assert "exists and is not damaged" in elsewhere.run("restore", archive).err
    assert "already running" in stage.platform.run("restore", archive).err
    assert stage.platform.ready()
