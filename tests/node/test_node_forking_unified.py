"""Control groups of version 2 for forked containers: what is written where, and which devices they open."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest

from ondol.base.clock import SystemClock
from ondol.node.runtime import templates
from ondol.node.runtime.forking import devices, groups
from ondol.node.runtime.port import RuntimeFailed

FILES = ("cpu.weight", "cpu.max", "memory.max", "pids.max", "cgroup.procs")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A tree of version 2, as files: `make` finds every folder's controllers once it has made the folder."""
    monkeypatch.setattr(groups, "ROOT", str(tmp_path))
    groups.is_unified.cache_clear()
    groups.hierarchies.cache_clear()
    for folder in ("", "ondol", "ondol/pod1", "ondol/pod1/main"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "cgroup.controllers").write_text("cpu hugetlb memory pids\n")
        (tmp_path / folder / "cgroup.subtree_control").write_text("pids\n")
    monkeypatch.setattr(devices, "allow", lambda folder, _rules: Path(folder, "allowed").write_text(""))
    yield tmp_path
    groups.is_unified.cache_clear()
    groups.hierarchies.cache_clear()


def test_controllers_are_handed_down_to_the_container(tree: Path) -> None:
    """Of those that are used all that there are; devices are settled for the container's own group."""
    groups.make("/ondol/pod1/main")
    groups.join("/ondol/pod1/main", 17)
    for folder in ("", "ondol", "ondol/pod1"):
        assert (tree / folder / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert (tree / "ondol/pod1/main/cgroup.subtree_control").read_text() == "pids\n"
    assert (tree / "ondol/pod1/main/cgroup.procs").read_text() == "17"
    assert [str(each.relative_to(tree)) for each in tree.rglob("allowed")] == ["ondol/pod1/main/allowed"]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, {}),
        ({"cpu": {"shares": 2}}, {"cpu.weight": "1"}),
        ({"cpu": {"shares": 1024}}, {"cpu.weight": "39"}),
        ({"cpu": {"shares": 262144}}, {"cpu.weight": "10000"}),
        ({"cpu": {"quota": 50_000, "period": 100_000}}, {"cpu.max": "50000 100000"}),
        ({"cpu": {"quota": -1}}, {"cpu.max": "max 100000"}),
        ({"memory": {"limit": 4096}}, {"memory.max": "4096"}),
        ({"memory": {"limit": -1}, "pids": {"limit": 0}}, {"memory.max": "max", "pids.max": "max"}),
        ({"pids": {"limit": 7}}, {"pids.max": "7"}),
    ],
)
def test_limits_in_the_words_of_version_2(
    tree: Path, resources: dict[str, Any], expected: dict[str, str]
) -> None:
    """What the spec leaves out is left as it is."""
    folder = tree / "ondol/pod1/main"
    for name in FILES:
        (folder / name).write_text("")
    groups.limit("/ondol/pod1/main", resources)
    written = {name: text for name in FILES if (text := (folder / name).read_text())}
    assert written == expected


def test_a_limit_that_the_machine_lacks_is_refused(tree: Path) -> None:
    """The container is then made by the ordinary runtime, which says so."""
    with pytest.raises(OSError, match=r"has no memory\.max"):
        groups.limit("/ondol/pod1/main", {"memory": {"limit": 4096}})


@pytest.mark.parametrize(("count", "expected"), [("0", False), ("2", True)])
def test_who_ran_out_of_memory(tree: Path, count: str, expected: bool) -> None:
    """The kernel counts whom it has killed for it."""
    (tree / "ondol/pod1/main/memory.events").write_text(f"low 0\nmax 9\noom 1\noom_kill {count}\n")
    assert groups.killed_for_memory("/ondol/pod1/main") is expected


RULES = ("c *:* m", "c 1:3 rwm", "c 136:* rw", "b 8:0 r")


@pytest.mark.parametrize(
    ("kind", "numbers", "access", "expected"),
    [
        ("c", (1, 3), "rw", True),
        ("c", (1, 3), "m", True),
        ("c", (1, 5), "r", False),
        ("c", (1, 5), "m", True),
        ("c", (1, 5), "rm", False),
        ("b", (1, 3), "m", False),
        ("c", (136, 9), "rw", True),
        ("c", (136, 9), "rwm", False),
        ("b", (8, 0), "r", True),
        ("b", (8, 0), "w", False),
        ("b", (8, 1), "r", False),
    ],
)
def test_which_devices_may_be_opened(
    kind: str, numbers: tuple[int, int], access: str, expected: bool
) -> None:
    """A rule allows what is asked for if it has all of it; what no rule allows is refused."""
    asked = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in access)
    context = (asked << 16 | {"b": 1, "c": 2}[kind], *numbers)
    assert _run(devices.program(RULES), context) == expected
    assert _run(devices.program(()), context) == 0


def _run(program: bytes, context: tuple[int, ...]) -> int:
    """What a program answers, by the few instructions that these have."""
    registers, at = [0] * 11, 0
    while True:
        code, both, offset, value = struct.unpack_from("<BBhi", program, at * 8)
        target, source = both & 15, both >> 4
        at += 1
        match code:
            case 0x61:  # a word of the context
                registers[target] = context[offset // 4]
            case 0x57:
                registers[target] &= value
            case 0x77:
                registers[target] >>= value
            case 0xBF:
                registers[target] = registers[source]
            case 0xB7:
                registers[target] = value
            case 0x55:
                at += offset if registers[target] != value else 0
            case 0x5D:
                at += offset if registers[target] != registers[source] else 0
            case 0x95:
                return registers[0]
            case _:
                raise AssertionError(f"an instruction {code:#x}")


_SCENE = """
import json, os, socket, sys
sys.path.insert(0, sys.argv[1])
from forking import calls, groups, shim
calls.unshare(calls.NEWNS)
calls.mount("none", "/", flags=calls.MS_REC | calls.MS_PRIVATE)
calls.mount("none", "/sys/fs/cgroup", "cgroup2")
home = os.open("/proc/self/ns/mnt", os.O_RDONLY)
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
pid = os.fork()
if pid == 0:
    ours.close()
    shim._first_process = lambda control, group, pipes: looking(control, group)
    def looking(control, group):
        control.send(b"ready")
        control.recv(65536)
        calls.unshare(calls.NEWCGROUP)
        seen = {"own": open("/proc/self/cgroup").read().splitlines()[-1]}
        for name in ("null", "kmsg"):
            try:
                os.close(os.open(f"/dev/{name}", os.O_RDONLY))
                seen[name] = "opens"
            except OSError as error:
                seen[name] = os.strerror(error.errno)
        open(sys.argv[2] + "/seen", "w").write(json.dumps(seen))
        control.send(b"created")
        control.recv(16)
        os._exit(7)
    shim.run(theirs, home, "blank", "/ondol-unified-test", "")
theirs.close()
assert ours.recv(16) == b"ready"
group = "/ondol-unified-test/pod1/main"
request = {"bundle": sys.argv[2], "log": sys.argv[2] + "/log", "log_max": 1000, "exit": sys.argv[2] + "/exit"}
request |= {"last_words": sys.argv[2], "spec": {"linux": {"cgroupsPath": group, "resources": {}}}}
ours.send(json.dumps(request).encode())
answer = json.loads(ours.recv(65536))
assert "error" not in answer, answer
inside = open(f"/sys/fs/cgroup{group}/cgroup.procs").read().split()
assert inside == [str(answer["pid"])], inside
open(sys.argv[2] + "/start", "w").write("1")
os.waitpid(pid, 0)
groups.remove(group)
os.rmdir("/sys/fs/cgroup/ondol-unified-test")
"""


@pytest.mark.root
def test_a_blank_is_put_into_the_groups_of_its_container(tmp_path: Path) -> None:
    """It sees its own as the root, opens what the rules allow, and its end is told."""
    package = Path(groups.__file__).parent.parent
    subprocess.run([sys.executable, "-c", _SCENE, str(package), str(tmp_path)], check=True, timeout=30)
    seen = (tmp_path / "seen").read_text()
    assert seen == '{"own": "0::/", "null": "opens", "kmsg": "Operation not permitted"}'
    assert (tmp_path / "exit").read_text() == "7"


def test_a_blank_that_does_not_get_ready_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it ends or says nothing: its socket is closed, by which it ends."""
    monkeypatch.setattr(templates, "_READY_S", 0.0)
    silent, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with other, pytest.raises(OSError, match="unavailable"):
        templates._await_ready(silent)
    ended, another = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    another.close()
    with pytest.raises(RuntimeFailed):
        templates._await_ready(ended)
    assert (silent.fileno(), ended.fileno()) == (-1, -1)


@pytest.mark.anyio
async def test_a_blank_that_nobody_waits_for_any_more_is_let_go() -> None:
    """Who asked for it is cancelled while the template makes it."""
    control, template = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    blank, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    own: Any = SimpleNamespace(name="crun")
    forking = templates.Forking(own, cast("Any", None), SystemClock(), "/group")
    forking._template = cast("Any", SimpleNamespace(control=control, forks=0))
    with control, template, blank:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(forking._blank)
            await anyio.to_thread.run_sync(template.recv, 256)
            tasks.cancel_scope.cancel()
            socket.send_fds(template, [b"a blank"], [other.fileno()])
            other.close()
        blank.settimeout(10)
        assert blank.recv(1) == b""
