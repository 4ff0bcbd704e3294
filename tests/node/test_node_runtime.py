"""Real containers with each runtime of this host: start, exit codes, logs, exec, adoption."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from ondol.base import clock
from ondol.node import linux
from ondol.node.runtime import cgroups, learn, oci, seccomp, spec
from ondol.node.runtime.port import (
    STDERR,
    STDOUT,
    Command,
    Creation,
    ExecTimeout,
    Handle,
    RuntimeFailed,
    Session,
)

pytestmark = [pytest.mark.anyio, pytest.mark.root]
CGROUP = f"/ondol-test-{os.getpid()}"  # of this process alone: others may test beside it


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[oci.Folders]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    run = Path("/run/ondol") / CGROUP.removeprefix("/ondol-")
    run.mkdir(parents=True, exist_ok=True)
    yield oci.Folders(tmp_path, run)
    cgroups.kill(CGROUP)
    cgroups.remove(CGROUP)
    shutil.rmtree(run)


@pytest.fixture(params=["crun", "runc"])
async def runtime(request: pytest.FixtureRequest, folders: oci.Folders) -> AsyncIterator[oci.OciRuntime]:
    if shutil.which(request.param) is None or shutil.which("conmon") is None:
        pytest.skip(f"needs {request.param} and conmon")
    working = await learn.working(folders, clock.SystemClock(), CGROUP, preferred=request.param)
    yield working
    for container_id in working.container_ids():
        await working.delete(container_id)


def shell(folders: oci.Folders, script: str, container_id: str, **options: object) -> Creation:
    root = folders.run / "root"
    root.mkdir(exist_ok=True)
    binds = [spec.bind(s, s, read_only=True) for s in ("/usr", "/bin", "/lib", "/lib64") if Path(s).exists()]
    container = spec.Container(
        rootfs=str(root),
        args=("/bin/sh", "-c", script),
        cgroup=f"{CGROUP}/{container_id}",
        env=("PATH=/usr/bin:/bin",),
        mounts=tuple(binds),
        namespaces={"network": "", "ipc": "", "uts": ""},
        **options,  # type: ignore[arg-type]  # keyword passed through to the dataclass
    )
    return Creation(container_id, spec.runtime_spec(container), folders.data / f"{container_id}.log")


async def written(path: Path, text: str) -> None:
    """Until the file is there and holds the text."""
    with anyio.fail_after(15):
        log = anyio.Path(path)
        while not await log.exists() or text not in await log.read_text():  # noqa: ASYNC110 - a file tells nobody
            await anyio.sleep(0.01)


async def test_runs_and_reports_exit_and_log(runtime: oci.OciRuntime, folders: oci.Folders) -> None:
    """The exit code is the command's, and what it wrote stands in the CRI format."""
    creation = shell(folders, "echo out; echo err >&2; exit 3", "c1")
    handle = await runtime.create(creation)
    await runtime.start(handle)
    ended = await runtime.wait(handle)
    assert (ended.code, ended.oom_killed) == (3, False)
    lines = [line.split(" ", 3)[1:] for line in creation.log_path.read_text().splitlines()]
    assert sorted(lines) == [["stderr", "F", "err"], ["stdout", "F", "out"]]


async def test_missing_command_is_refused_in_the_runtimes_words(
    runtime: oci.OciRuntime, folders: oci.Folders
) -> None:
    """A command that is not in the image fails at creation, and the message names it."""
    creation = shell(folders, "", "c2")
    process = {**creation.spec["process"], "args": ["/no/such"]}
    with pytest.raises(RuntimeFailed, match=r"no/such|No such file"):
        await runtime.create(Creation("c2", {**creation.spec, "process": process}, creation.log_path))


async def test_a_new_agent_finds_what_an_old_one_started(
    runtime: oci.OciRuntime, folders: oci.Folders
) -> None:
    """A handle is all that is needed: a second runtime object waits for and signals the container."""
    script = "trap 'exit 5' TERM; echo listening; while :; do sleep 0.05; done"
    creation = shell(folders, script, "c3")
    handle = await runtime.create(creation)
    await runtime.start(handle)
    await written(creation.log_path, "listening")
    successor = await learn.working(folders, clock.SystemClock(), CGROUP, preferred=runtime.name)
    assert successor.is_running(handle)
    successor.signal(handle, signal.SIGTERM)
    assert (await successor.wait(handle)).code == 5
    assert not successor.is_running(handle)


async def test_names_beyond_ascii(runtime: oci.OciRuntime, folders: oci.Folders, tmp_path: Path) -> None:
    """A data directory may be named in any script, and with blanks."""
    named = oci.Folders(tmp_path / "온돌 마루", folders.run)
    successor = await learn.working(named, clock.SystemClock(), CGROUP, preferred=runtime.name)
    creation = shell(named, "echo 따뜻하다; exit 5", "c9")
    handle = await successor.create(creation)
    await successor.start(handle)
    assert (await successor.wait(handle)).code == 5
    assert creation.log_path.read_text().endswith("따뜻하다\n")


async def test_end_while_nobody_waits_is_kept(runtime: oci.OciRuntime, folders: oci.Folders) -> None:
    """A container that ended while no agent ran still has its exit code."""
    handle = await runtime.create(shell(folders, "exit 9", "c4"))
    await runtime.start(handle)
    await anyio.sleep(0.3)
    assert (await runtime.wait(handle)).code == 9


async def test_exec_runs_inside(runtime: oci.OciRuntime, folders: oci.Folders) -> None:
    """A probe's command sees the container and its exit code comes back; a slow one is ended."""
    handle = await runtime.create(shell(folders, "exec sleep 30", "c5"))
    await runtime.start(handle)
    result = await runtime.exec(handle, ["/bin/sh", "-c", "echo $$; exit 4"], 5)
    assert result.code == 4
    with pytest.raises(ExecTimeout):
        await runtime.exec(handle, ["/bin/sleep", "1000"], 0.5)
    with anyio.fail_after(15):
        while len(cgroups.processes(f"{CGROUP}/c5")) > 1:  # noqa: ASYNC110 - the kernel tells nobody
            await anyio.sleep(0.01)
    runtime.signal(handle, signal.SIGKILL)
    assert (await runtime.wait(handle)).code == 137


async def test_memory_limit_kills(runtime: oci.OciRuntime, folders: oci.Folders) -> None:
    """A container over its memory limit is reported as killed for memory."""
    script = "a=x; while :; do a=$a$a; done"
    limits = spec.Limits(memory_limit_bytes=32 * 1024 * 1024)
    handle = await runtime.create(shell(folders, script, "c6", limits=limits))
    await runtime.start(handle)
    ended = await runtime.wait(handle)
    assert (ended.code, ended.oom_killed) == (137, True)


async def test_shim_death_ends_the_container(runtime: oci.OciRuntime, folders: oci.Folders) -> None:
    """Without its shim a container has no output and no exit code: it is ended and reported killed."""
    handle = await runtime.create(shell(folders, "sleep 30", "c7"))
    await runtime.start(handle)
    os.kill(handle.shim_pid, signal.SIGKILL)
    assert (await runtime.wait(handle)).code == 137
    assert linux.process_started(handle.pid) == 0


async def test_log_goes_on_in_a_new_file(runtime: oci.OciRuntime, folders: oci.Folders) -> None:
    """After a rename and a reopen nothing is lost: old lines in the old file, new in the new."""
    script = "echo one; while [ ! -e /go ]; do sleep 0.02; done; echo two; sleep 30"
    creation = shell(folders, script, "c8")
    handle = await runtime.create(creation)
    await runtime.start(handle)
    await written(creation.log_path, "one")
    rotated = creation.log_path.with_suffix(".1")
    creation.log_path.rename(rotated)
    await runtime.reopen_log(handle)
    await written(creation.log_path, "")
    (folders.run / "root" / "go").touch()
    await written(creation.log_path, "two")
    assert rotated.read_text().rstrip().endswith("one")
    assert "one" not in creation.log_path.read_text()


async def output(runtime: oci.OciRuntime, creation: Creation) -> str:
    """What a container wrote that runs to its end."""
    handle = await runtime.create(creation)
    await runtime.start(handle)
    await runtime.wait(handle)
    lines = [line.split(" ", 3) for line in creation.log_path.read_text().splitlines()]
    return "".join(text if part == "P" else f"{text}\n" for _, _, part, text in lines)


async def test_system_calls_are_filtered(runtime: oci.OciRuntime, folders: oci.Folders) -> None:
    """What a container may not do is refused: other namespaces however they are made, odd behaviours."""
    script = "grep Seccomp: /proc/self/status; unshare -U true; unshare -m true; setarch x86_64 -R true"
    profile = seccomp.default(spec.DEFAULT_CAPABILITIES)
    text = await output(runtime, shell(folders, f"({script}) 2>&1", "s1", seccomp=profile))
    assert "Seccomp:\t2" in text
    assert text.count("unshare: unshare failed: Operation not permitted") == 2
    assert "Function not implemented" in text


async def test_commands_in_a_container_are_filtered_too(
    runtime: oci.OciRuntime, folders: oci.Folders
) -> None:
    """A probe's command has the container's own filter."""
    profile = seccomp.default(spec.DEFAULT_CAPABILITIES)
    handle = await runtime.create(shell(folders, "exec sleep 30", "s7", seccomp=profile))
    await runtime.start(handle)
    inside = await runtime.exec(handle, ["/bin/sh", "-c", "grep Seccomp: /proc/self/status"], 5)
    assert inside.output == b"Seccomp:\t2\n"
    runtime.signal(handle, signal.SIGKILL)
    await runtime.wait(handle)


async def test_without_a_profile_nothing_is_filtered(runtime: oci.OciRuntime, folders: oci.Folders) -> None:
    """Unconfined is what it says."""
    assert await output(runtime, shell(folders, "grep Seccomp: /proc/self/status", "s2")) == "Seccomp:\t0\n"


async def test_the_machine_is_masked(runtime: oci.OciRuntime, folders: oci.Folders) -> None:
    """Kernel memory, its tables and its switches cannot be read or written; control groups neither."""
    script = """
        for file in kcore keys slabinfo vmallocinfo timer_list interrupts; do
            [ -e /proc/$file ] && cat /proc/$file | wc -c
        done | sort -u
        ls -A /sys/firmware | wc -l
        for file in /sys/fs/cgroup/x /sys/fs/cgroup/*/cgroup.procs /proc/sys/kernel/x /proc/sysrq-trigger; do
            (: >>$file) 2>/dev/null && echo "opened $file"
        done
        for folder in /sys/fs/cgroup/x /sys/fs/cgroup/*/x; do
            mkdir $folder 2>/dev/null && echo "made $folder"
        done
        echo 1 2>/dev/null >/proc/sys/vm/drop_caches && echo dropped
        exit 0
    """
    hierarchies = [str(path) for path in cgroups.hierarchies()]
    text = await output(runtime, shell(folders, script, "s3", also_read_only=hierarchies))
    assert set(text.splitlines()) == {"0"}


async def test_processes_of_a_pod_are_counted(runtime: oci.OciRuntime, folders: oci.Folders) -> None:
    """Past its limit a pod starts no more of them, whichever of its containers it is."""
    if not (cgroups.ROOT / "pids").exists() and cgroups.version() != "v2":
        pytest.skip("needs the pids controller")
    creation = shell(folders, "(sleep 9 & sleep 9 & sleep 9 & sleep 9 & sleep 9) 2>&1; sleep 30", "s4")
    handle = await runtime.create(creation)
    cgroups.limit_pids(CGROUP, 5)
    try:
        await runtime.start(handle)
        await written(creation.log_path, "fork")
        assert len(cgroups.processes(f"{CGROUP}/s4")) <= 5
    finally:
        cgroups.limit_pids(CGROUP, 0)
        runtime.signal(handle, signal.SIGKILL)
    await runtime.wait(handle)


async def test_devices_an_image_brings_are_dead(runtime: oci.OciRuntime, folders: oci.Folders) -> None:
    """A node for the host's disk or memory can be made and not be opened; the usual ones can."""
    (folders.run / "root").mkdir(exist_ok=True)
    device = folders.run / "root/mem"
    if not device.exists():
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 1))
    script = (
        "cat /mem 2>&1; mknod /disk b 254 0 && cat /disk 2>&1; head -c3 /dev/zero | wc -c;"
        " for d in null zero full urandom tty; do [ -c /dev/$d ] || echo no $d; done"
    )
    lines = (await output(runtime, shell(folders, script, "s5"))).splitlines()
    assert lines == ["cat: /mem: Operation not permitted", "cat: /disk: Operation not permitted", "3"]


@pytest.mark.parametrize("target", ["/", "../../..", "/proc/self/root", "/proc/1/root"])
async def test_mounts_stay_in_the_root(runtime: oci.OciRuntime, folders: oci.Folders, target: str) -> None:
    """A link of the image on the way to where a volume goes leads nowhere but into the image."""
    root = folders.run / "root"
    root.mkdir(exist_ok=True)
    link, source = root / "way", folders.run / "volume"
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    source.mkdir(exist_ok=True)
    marker = f"ondol-{os.getpid()}"
    creation = shell(folders, "ls -d /way/*/ 2>&1; exit 0", f"s6{abs(hash(target))}")
    document = {
        **creation.spec,
        "mounts": [*creation.spec["mounts"], spec.bind(str(source), f"/way/{marker}")],
    }
    try:
        await output(runtime, Creation(creation.id, document, creation.log_path))
    except RuntimeFailed:
        pass  # refused is as good
    finally:
        link.unlink()
    assert not await anyio.Path("/", marker).exists()
    assert not await anyio.Path(folders.run, marker).exists()


async def _output(session: Session) -> dict[int, bytes]:
    """Everything it writes to its end, by channel."""
    written: dict[int, bytes] = {}
    while True:
        channel, data = await session.read()
        if not data:
            return written
        written[channel] = written.get(channel, b"") + data


@pytest.fixture
async def sleeper(runtime: oci.OciRuntime, folders: oci.Folders) -> Handle:
    profile = seccomp.default(spec.DEFAULT_CAPABILITIES)
    options = {"user": spec.User(1000, 1000), "no_new_privileges": True, "seccomp": profile}
    handle = await runtime.create(shell(folders, "sleep 600", "exec", **options))
    await runtime.start(handle)
    return handle


async def test_a_command_is_spoken_with(runtime: oci.OciRuntime, sleeper: Handle) -> None:
    """Input to its end, both outputs apart, and the exit code; confined as the container is."""
    script = "cat; grep -E 'Seccomp:|NoNew|Uid|CapEff' /proc/self/status >&2; hostname >/dev/null; exit 5"
    command = Command(("/bin/sh", "-c", script), stdin=True)
    with anyio.fail_after(20):
        async with runtime.command(sleeper, command) as session:
            await session.write(b"one\n")
            session.close_input()
            written = await _output(session)
            assert await session.wait() == 5
    assert written[STDOUT] == b"one\n"
    lines = dict(line.split(b":\t", 1) for line in written[STDERR].splitlines())
    assert lines[b"Uid"].split() == [b"1000"] * 4
    assert (lines[b"NoNewPrivs"], lines[b"Seccomp"]) == (b"1", b"2")
    assert int(lines[b"CapEff"], 16) == 0


async def test_a_command_has_a_terminal_of_its_own(runtime: oci.OciRuntime, sleeper: Handle) -> None:
    """Of the size that its user says, also later."""
    script = "tty; stty size; read line; stty size; echo $TERM"
    with anyio.fail_after(20):
        async with runtime.command(sleeper, Command(("/bin/sh", "-c", script), terminal=True)) as session:
            await session.resize(65535, 65535)
            await session.resize(100, 40)
            await session.write(b"go\n")
            written = await _output(session)
            assert await session.wait() == 0
    words = written[STDOUT].split()
    # The terminal shows what is typed at once, maybe before the shell has said anything.
    assert any(word.startswith(b"/dev/pts/") for word in words)
    assert words[-3:] == [b"40", b"100", b"xterm"]


def _living(container_id: str, word: bytes) -> set[int]:
    """Its processes that have the word in their command; those that have ended have none."""
    named = set()
    for pid in cgroups.processes(f"{CGROUP}/{container_id}"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if word in Path(f"/proc/{pid}/cmdline").read_bytes():
                named.add(pid)
    return named


async def test_a_command_ends_with_who_ran_it(runtime: oci.OciRuntime, sleeper: Handle) -> None:
    """Whatever it ignores, and its children with it; no descriptor is left."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count
    script = "trap '' TERM HUP PIPE; sleep 500 & echo up; while :; do sleep 1; done"
    with anyio.fail_after(20):
        async with runtime.command(sleeper, Command(("/bin/sh", "-c", script))) as session:
            assert await session.read() == (STDOUT, b"up\n")
            while len(_living("exec", b"sleep\x00500")) != 1:  # noqa: ASYNC110 - until it is executed
                await anyio.sleep(0.01)
        while _living("exec", b"500"):  # noqa: ASYNC110 - the kernel tells nobody
            await anyio.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - a count


async def test_a_command_that_is_not_there(runtime: oci.OciRuntime, sleeper: Handle) -> None:
    """The runtime's own words, and no exit code."""
    with anyio.fail_after(20):
        async with runtime.command(sleeper, Command(("/no/such",))) as session:
            await _output(session)
            with pytest.raises(RuntimeFailed, match="/no/such"):
                await session.wait()


async def test_what_a_command_leaves_running_does_not_keep_it(
    runtime: oci.OciRuntime, sleeper: Handle
) -> None:
    """A daemon has its output open: the session ends with the command; by runc, with the daemon."""
    daemon_s = 1 if runtime.name == "runc" else 500
    command = Command(("/bin/sh", "-c", f"sleep {daemon_s} & echo up"))
    with anyio.fail_after(20):
        async with runtime.command(sleeper, command) as session:
            assert await _output(session) == {STDOUT: b"up\n"}
            assert await session.wait() == 0


@pytest.mark.parametrize("once", [False, True])
async def test_a_container_is_attached_to(
    runtime: oci.OciRuntime, folders: oci.Folders, *, once: bool
) -> None:
    """Its input stays open for the next who attaches, unless it is to end with the first."""
    creation = shell(folders, "while read line; do echo got $line; done; echo over >&2; sleep 1", "attached")
    handle = await runtime.create(dataclasses.replace(creation, stdin=True, stdin_once=once))
    await runtime.start(handle)
    with anyio.fail_after(20):
        async with runtime.attach(handle, stdin=True) as session:
            await session.write(b"a\n")
            assert await session.read() == (STDOUT, b"got a\n")
        if once:
            await written(creation.log_path, "over")
            return
        async with runtime.attach(handle, stdin=True) as session:
            await session.write(b"b\n")
            assert await session.read() == (STDOUT, b"got b\n")


async def test_a_container_with_a_terminal_is_attached_to(
    runtime: oci.OciRuntime, folders: oci.Folders
) -> None:
    """Its terminal has the size that is said, and its end is seen."""
    options = {"terminal": True}
    creation = shell(folders, "read line; stty size; exit 3", "tty", **options)
    handle = await runtime.create(dataclasses.replace(creation, stdin=True, terminal=True))
    await runtime.start(handle)
    with anyio.fail_after(20):
        async with runtime.attach(handle, stdin=True) as session:
            await session.resize(90, 33)
            await session.write(b"go\n")
            assert (await _output(session))[STDOUT].endswith(b"33 90\r\n")
        assert (await runtime.wait(handle)).code == 3


async def test_a_container_gets_another_size_while_it_runs(
    runtime: oci.OciRuntime, folders: oci.Folders
) -> None:
    """Its control group has the new shares and limits; the process is the same."""
    before = spec.Limits(100, 500, 64 << 20)
    handle = await runtime.create(shell(folders, "sleep 60", "sized", limits=before))
    await runtime.start(handle)
    await runtime.update(handle, spec.Limits(2000, 1500, 128 << 20))
    group = f"{CGROUP}/sized"
    assert cgroups.limits(group) == cgroups.Limits(cpu_quota=150_000, memory_bytes=128 << 20)
    assert runtime.is_running(handle)
    await runtime.update(handle, spec.Limits(2000, None, 96 << 20))
    assert cgroups.limits(group) == cgroups.Limits(cpu_quota=150_000, memory_bytes=96 << 20)
