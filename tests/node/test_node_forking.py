"""Containers forked from a template: the same to all who look as those that a runtime started."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from ondol.api import objects
from ondol.api.objects import Object
from ondol.build import image
from ondol.build.store import ImageStore
from ondol.node.pods import machine
from ondol.node.runtime import oci, port, seccomp, spec, templates
from ondol.node.runtime.forking import container, groups, program

pytestmark = [pytest.mark.root, pytest.mark.anyio]
if os.geteuid() != 0 or shutil.which("crun") is None or not groups.hierarchies():
    pytest.skip("forks want root, crun and control groups", allow_module_level=True)

_NAME = "ondol.test/look:1"
_ORDINARY = {"name": "PYTHONASYNCIODEBUG", "value": "0"}
"""A variable that only an interpreter at its start heeds: such a container is not forked."""

_INTERPRETER = os.path.realpath(getattr(sys, "_base_executable", sys.executable))

LOOK = """
import ctypes, json, os, resource, signal, socket, sys, threading
def read(path):
    try:
        return open(path).read()
    except OSError as error:
        return type(error).__name__
status = dict(line.split(":", 1) for line in read("/proc/self/status").splitlines())
names = "Umask Uid Gid Groups NSpid SigPnd SigBlk SigIgn SigCgt CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs"
names += " Seccomp Seccomp_filters Threads Speculation_Store_Bypass SpeculationIndirectBranch Cpus_allowed"
mounts = {}
for line in read("/proc/self/mountinfo").splitlines():
    fields, _, more = line.partition(" - ")
    fields = fields.split()
    mounts[fields[4]] = (more.split()[0], sorted(fields[5].split(",")), fields[6:])
def attempt(work):
    try:
        return repr(work())
    except BaseException as error:
        return f"{type(error).__name__} {getattr(error, 'errno', '')}"
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    code = libc.syscall(number, *arguments)
    return code if code >= 0 else -ctypes.get_errno()
seen = {
    "status": {name: status.get(name, "").split() for name in names.split()},
    "mounts": mounts,
    "limits": [line.split() for line in read("/proc/self/limits").splitlines()],
    "groups": [line.split(":")[1] + line.split("/")[-1] for line in read("/proc/self/cgroup").splitlines()],
    "adjustment": read("/proc/self/oom_score_adj"),
    "personality": read("/proc/self/personality"),
    "masked": {p: read(f"/proc/{p}")[:20] for p in ("keys", "timer_list", "interrupts", "kcore")},
    "folders": {p: attempt(lambda: sorted(os.listdir(p)))
        for p in ("/sys/firmware", "/proc/acpi", "/dev", "/")},
    "writes": {p: attempt(lambda: open(p, "a").close()) for p in (
        "/proc/sys/kernel/hostname", "/sys/fs/cgroup/x", "/proc/sysrq-trigger", "/x", "/etc/hosts",
        "/dev/shm/x",
        "/proc/self/exe", "/dev/stdout", "/dev/termination-log", "/proc/1/mem")},
    "calls": {
        "mount": call(165, b"none", b"/mnt", b"tmpfs", 0, None), "unshare": call(272, 0x10000000),
        "keyctl": min(call(250, 0, -3, 0), 1), "bpf": call(321, 0, None, 0), "io_uring": call(425, 1, None),
        "reboot": call(169, 0, 0, 0), "setns": call(308, 0, 0), "chroot": call(161, b"/")},
    "devices": {f"{m}:{n}": attempt(lambda: (os.mknod("/dev/shm/n", 0o20666, os.makedev(m, n)),
        os.close(os.open("/dev/shm/n", os.O_RDONLY)), os.unlink("/dev/shm/n")))
        for m, n in ((1, 3), (1, 1), (10, 200))},
    "raw": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()),
    "terminal": [attempt(each) for each in (lambda: os.getsid(0), os.getpgrp, os.getpid, os.getppid)],
    "descriptors": sorted(f"{n} {os.readlink(f'/proc/self/fd/{n}').split(':')[0]}" for n in
        (name for name in os.listdir("/proc/self/fd")) if os.path.lexists(f"/proc/self/fd/{n}")),
    "handlers": {str(n): str(signal.getsignal(n)) for n in sorted(signal.valid_signals())},
    "command": [part for part in read("/proc/self/cmdline").split(chr(0)) if part],
    "name": read("/proc/self/comm"),
    "environment": {k: v for k, v in os.environ.items()
        if k not in ("PYTHONASYNCIODEBUG", "HOSTNAME", "CODE")},
    "interpreter": [sys.executable, sys.prefix, sys.exec_prefix, sys.orig_argv, sys.argv, sys.path,
        sys.dont_write_bytecode, sys.flags.no_site, sys.flags.isolated, sys.flags.utf8_mode, __name__,
        sys.modules["__main__"].__name__, sorted(vars(sys.modules["__main__"]).keys() - {"probe"})],
    "streams": [(s.encoding, s.errors, s.line_buffering, s.write_through, s.isatty()) for s in
        (sys.stdin, sys.stdout, sys.stderr)],
    "threads": threading.active_count(),
    "folder": os.getcwd(),
    "host": socket.gethostname() == os.environ["HOSTNAME"],
    "links": {n: os.readlink(f"/proc/self/ns/{n}") for n in sorted(os.listdir("/proc/self/ns"))},
    "modules": sorted(n for n in sys.modules if n.startswith(("forking", "ondol"))),
}
print(json.dumps(seen), flush=True)
"""

_DIFFERENT = ("links",)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image layout with a Python that runs what `CODE` says, as the platform builds images."""
    folder = tmp_path_factory.mktemp("look")
    (folder / "app").mkdir()
    (folder / "app" / "pyproject.toml").write_text(
        '[project]\nname = "look"\nversion = "1"\nrequires-python = ">=3.11"\n'
        '[tool.ondol]\nentrypoint = "look"\n'
    )
    (folder / "app" / "look.py").write_text('import os\nexec(os.environ["CODE"])\n')
    image.build(folder / "app", _NAME, ImageStore(folder / "images"))
    return folder / "images"


@pytest.fixture
async def forks(world: Any, built: Path) -> Any:
    """A world whose node has that image."""
    images = world.config.data_dir / "images"
    await anyio.to_thread.run_sync(shutil.rmtree, images)
    await anyio.to_thread.run_sync(shutil.copytree, built, images)
    return world


def _pod(world: Any, name: str, code: str, *, ordinary: bool = False, **more: Any) -> Object:
    env = [{"name": "CODE", "value": code}, *([_ORDINARY] if ordinary else [])]
    own = {"image": _NAME, "env": env, **more.pop("container", {})}
    pod: Object = world.pod(name, container=own, **{"restartPolicy": "Never", **more})
    del pod["spec"]["containers"][0]["command"]
    return pod


async def _blanks(world: Any, count: int = 3) -> None:
    """Until so many wait in their groups."""
    folder = anyio.Path(groups.hierarchies()[-1] + world.config.cgroup)
    with anyio.fail_after(20):
        while True:
            ready = [
                each
                async for each in folder.glob("prepared-*/prepared-*/cgroup.procs")
                if (await each.read_text()).strip()
            ]
            if len(ready) >= count:
                break
            await anyio.sleep(0.01)
        await anyio.sleep(0.2)


def _is_forked(world: Any, pod: Object, number: int = 0) -> bool:
    identity = machine.container_id(objects.uid(pod), "main", number)
    return Path(world.config.data_dir, "containers", identity, "start").exists()


async def _is_there(bundle: Path) -> bool:
    """By a runtime or as a fork."""
    return await anyio.Path(bundle, "pid").exists() or await anyio.Path(bundle, "start").exists()


async def _ran(world: Any, pod: Object, *, forked: bool, phase: str = "Succeeded") -> str:
    """The log of a pod that has ended, made as it should be."""
    await _blanks(world)
    created = await world.create(pod)
    bundles = world.config.data_dir / "containers"
    identity = machine.container_id(objects.uid(created), "main", 0)
    with anyio.fail_after(15):
        while not await _is_there(bundles / identity):  # noqa: ASYNC110 - a file tells nobody
            await anyio.sleep(0.002)
    assert _is_forked(world, created) is forked
    await world.phase(objects.name(pod), phase)
    return str(await world.log(objects.name(pod)))


VARIANTS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "usual": ({}, {}),
    "root": ({"securityContext": {"runAsUser": 0}}, {}),
    "bare": (
        {
            "securityContext": {
                "readOnlyRootFilesystem": True,
                "allowPrivilegeEscalation": False,
                "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]},
            }
        },
        {},
    ),
    "root without rights": (
        {
            "securityContext": {
                "runAsUser": 0,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
            }
        },
        {},
    ),
    "another user": (
        {
            "securityContext": {"runAsUser": 4321, "runAsGroup": 4322},
            "resources": {"limits": {"cpu": "500m", "memory": "128Mi"}, "requests": {"cpu": "100m"}},
            "volumeMounts": [
                {"name": "scratch", "mountPath": "/scratch"},
                {"name": "scratch", "mountPath": "/looked-at", "readOnly": True},
            ],
            "args": ["-m", "look", "one", "two words"],
        },
        {
            "securityContext": {"fsGroup": 77, "supplementalGroups": [78]},
            "volumes": [{"name": "scratch", "emptyDir": {"medium": "Memory"}}],
        },
    ),
    "unfiltered": ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, {}),
}


@pytest.mark.parametrize("variant", VARIANTS)
async def test_a_forked_process_is_confined_as_a_started_one(forks: Any, variant: str) -> None:
    """Attribute by attribute: rights, namespaces, mounts, groups, devices, calls, files, interpreter."""
    own, more = VARIANTS[variant]
    async with forks.node():
        texts = {}
        for name, is_forked in (("forked", True), ("started", False)):
            pod = _pod(forks, name, LOOK, ordinary=not is_forked, container=own, **more)
            texts[name] = json.loads(await _ran(forks, pod, forked=is_forked))
    forked, started = texts["forked"], texts["started"]
    links = {name: str(await anyio.Path("/proc/self/ns", name).readlink()) for name in started["links"]}
    for name, link in started["links"].items():
        assert (forked["links"][name] == links[name]) == (link == links[name]), name
    mounts = {"forked": _normal(forked.pop("mounts")), "started": _normal(started.pop("mounts"))}
    assert mounts["forked"] == mounts["started"]
    for attribute in started.keys() - _DIFFERENT:
        assert forked[attribute] == started[attribute], attribute
    assert forked["modules"] == []


def _normal(mounts: Mapping[str, Any]) -> dict[str, Any]:
    """By place: the kind of file system, whether it is read-only, that nothing passes to or from others.

    crun gives up nosuid, nodev and noexec of what it makes read-only by a bind mount; a fork keeps them.
    """
    lost = {"nosuid", "nodev", "noexec"}
    again = ("/proc/", "/sys/fs/cgroup")
    return {
        place: (kind, sorted(set(options) - (lost if place.startswith(again) else set())), tags)
        for place, (kind, options, tags) in mounts.items()
    }


async def test_ends_are_reported_as_of_any_container(forks: Any) -> None:
    """Exit codes, signals, exceptions with their traceback, and memory that ran out; restarts count."""
    cases = {
        "seven": ("import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)", 7, "Error"),
        "raised": ("raise ValueError('what is wrong')", 1, "Error"),
        "killed": ("import os, signal, ctypes; ctypes.string_at(0)", 139, "Error"),
        "hungry": ("b = bytearray(200 << 20); b[::4096] = b'1' * len(b[::4096])", 137, "OOMKilled"),
    }
    async with forks.node():
        for name, (code, expected, reason) in cases.items():
            limit = {"resources": {"limits": {"memory": "64Mi"}}}
            text = await _ran(forks, _pod(forks, name, code, container=limit), forked=True, phase="Failed")
            ended = objects.status(await forks.get(name))["containerStatuses"][0]["state"]["terminated"]
            assert (ended["exitCode"], ended["reason"]) == (expected, reason), name
            if name == "seven":
                assert sorted(text.splitlines()) == ["err", "out"]
            if name == "raised":
                assert text.rstrip().endswith("ValueError: what is wrong")
        await _blanks(forks)
        await forks.create(_pod(forks, "again", "import sys; sys.exit(3)", restartPolicy="OnFailure"))
        await forks.until("again", lambda p: _restarts(p) >= 2)
        await forks.delete("again")


def _restarts(pod: Object) -> int:
    statuses = objects.status(pod).get("containerStatuses") or [{}]
    return int(statuses[0].get("restartCount") or 0)


WAIT = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("told to go", flush=True), sys.exit(5)))
print("here", flush=True)
while True: time.sleep(0.05)
"""


async def test_it_outlives_agent_and_template(forks: Any) -> None:
    """A new agent finds it running, runs commands in it, and hears of its end; the log goes on."""
    async with forks.node():
        await _blanks(forks)
        pod = await forks.create(_pod(forks, "stay", WAIT, restartPolicy="Always"))
        before = await forks.ready("stay")
        assert _is_forked(forks, pod)
    async with forks.node():
        after = await forks.get("stay")
        assert objects.status(after)["containerStatuses"] == objects.status(before)["containerStatuses"]
        assert await forks.log("stay") == "here\n"
        with pytest.raises(port.RuntimeFailed, match="no console"):
            await _attach(forks, pod)
        await forks.delete("stay", 5)
    assert [each async for each in anyio.Path(forks.config.data_dir, "containers").iterdir()] == []


async def _attach(world: Any, pod: Object) -> None:
    """As `kubectl attach` would have the runtime do it."""
    folders = oci.Folders(world.config.data_dir, world.config.run_dir)
    binary = oci.Binary("crun", "crun", "0")
    own = oci.OciRuntime(binary, folders, world.clock)
    forking = templates.Forking(own, folders, world.clock, world.config.cgroup)
    handle = port.Handle(machine.container_id(objects.uid(pod), "main", 0), 1, 0, 1, 0)
    async with forking.attach(handle, stdin=False):
        pass


async def test_commands_run_in_it_with_its_rights_and_filter(forks: Any) -> None:
    """As `exec` probes do: its user, groups, capabilities, system call filter and namespaces."""
    look = {
        "exec": {"command": ["/bin/sh", "-c", "cat /proc/self/status > /dev/shm/$KIND; echo > /dev/shm/done"]}
    }
    code = "import os, time\nwhile not os.path.exists('/dev/shm/done'): time.sleep(0.01)\n"
    code += "names = 'Uid Gid Groups CapBnd CapEff CapPrm Seccomp Seccomp_filters NoNewPrivs'.split()\n"
    code += "lines = open('/dev/shm/' + os.environ['KIND']).read().splitlines()\n"
    code += "print([l.split() for l in lines if l.split(':')[0] in names], flush=True)\n"
    texts = []
    async with forks.node():
        for kind in ("forked", "started"):
            own = {"readinessProbe": look}
            pod = _pod(forks, kind, code, ordinary=kind == "started", container=own)
            pod["spec"]["containers"][0]["env"].append({"name": "KIND", "value": kind})
            texts.append(await _ran(forks, pod, forked=kind == "forked"))
    assert texts[0] == texts[1]
    assert "Seccomp:', '2'" in texts[0]


async def test_siblings_share_no_randomness(forks: Any) -> None:
    """Random numbers, identifiers and what TLS takes its own from differ between forks of one template."""
    code = "import random, uuid, ssl, os, secrets\n"
    code += "print(random.random(), uuid.uuid4(), ssl.RAND_bytes(8).hex(), secrets.token_hex(8), flush=True)"
    async with forks.node():
        texts = [await _ran(forks, _pod(forks, f"p{n}", code), forked=True) for n in range(2)]
    first, second = (text.split() for text in texts)
    assert all(a != b for a, b in zip(first, second, strict=True))


async def test_the_interpreters_file_is_nobodys_to_write(forks: Any) -> None:
    """Root in a container finds by /proc/self/exe a sealed copy in memory, and no file of the machine."""
    code = "import os, fcntl\nprint(os.readlink('/proc/self/exe'))\n"
    code += "fd = os.open('/proc/self/exe', os.O_RDONLY)\nprint(fcntl.fcntl(fd, 1034) & 15)\n"
    async with forks.node():
        own = {"securityContext": {"runAsUser": 0}}
        text = await _ran(forks, _pod(forks, "root", code, container=own), forked=True)
    assert text.split() == ["/memfd:python3", "(deleted)", "15"]


def test_an_image_with_another_standard_library_is_started(tmp_path: Path) -> None:
    """What is loaded must be in the image, byte for byte."""
    root = tmp_path / "root"
    root.mkdir()
    document = {"process": {"args": ["/usr/bin/python3", "-m", "look"]}}
    assert not templates._has_same(root, document, [json.__file__.encode()])
    for path in (_INTERPRETER, json.__file__):
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    python = root / "usr/bin/python3"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.symlink_to(_INTERPRETER)
    assert templates._has_same(root, document, [json.__file__.encode()])
    (root / json.__file__.lstrip("/")).write_bytes(Path(json.__file__).read_bytes()[:-1] + b"#")
    assert not templates._has_same(root, document, [json.__file__.encode()])


def _document(**changes: Any) -> dict[str, Any]:
    planned = spec.Container(
        rootfs="/r",
        args=changes.pop("args", ("/usr/bin/python3", "-m", "look")),
        cgroup="/g/p/c",
        env=changes.pop("env", ("LANG=C.UTF-8", "PYTHONPATH=/app")),
        namespaces=changes.pop("namespaces", {"network": "/n", "uts": "/u", "ipc": "/i"}),
        seccomp=seccomp.default(spec.DEFAULT_CAPABILITIES),
        **changes,
    )
    return spec.runtime_spec(planned)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"args": ("/usr/bin/python3", "app.py")}, "-m <module>"),
        ({"args": ("/usr/bin/python3", "-m", "-x")}, "-m <module>"),
        ({"env": ("LANG=C.UTF-8", "PYTHONHASHSEED=1")}, "PYTHONHASHSEED"),
        ({"env": ("LANG=C",)}, "locale"),
        ({"env": ("LANG=C.UTF-8", "LC_ALL=C")}, "locale"),
        ({"env": ("LANG=C.UTF-8", "LD_PRELOAD=/x")}, "LD_PRELOAD"),
        ({"privileged": True}, ""),
        ({"capabilities": ("CAP_SYS_ADMIN",)}, "CAP_SYS_ADMIN"),
        ({"capabilities": ("CAP_SYS_PTRACE",)}, "CAP_SYS_PTRACE"),
        ({"terminal": True}, "terminal"),
        ({"own_pid_namespace": False}, "namespaces"),
        ({"namespaces": {"network": "/n", "uts": "/u"}}, "namespaces"),
        ({"namespaces": {"network": "/n", "uts": "/u", "ipc": "/i", "pid": "/p"}}, "namespaces"),
        ({"mounts": (spec.bind("/a", "/a", propagation="rshared"),)}, "rshared"),
        ({"mounts": ({**spec.bind("/a", "/a"), "options": ["rbind", "rro"]},)}, "rro"),
    ],
)
def test_what_is_not_forked(changes: dict[str, Any], why: str) -> None:
    """A container that asks for more than a fork does is made by the runtime, and it is said for what."""
    is_privileged = changes.get("privileged")
    reason = templates.unfit(_document(**changes))
    assert (why in reason and bool(reason) == bool(why)) or (is_privileged and reason)


def test_a_spec_of_tomorrow_is_not_forked() -> None:
    """A field that is not known here is none that may be passed over."""
    for place in ((), ("process",), ("linux",)):
        document = _document()
        inner: Any = document
        for part in place:
            inner = inner[part]
        inner["novelty"] = True
        assert container.unfit(document) == "field novelty"


def test_nothing_is_imported_while_the_rights_are_roots() -> None:
    """The root is the image's by then: a module that it brings would run with all of the machine's rights."""
    assert "this" not in sys.modules
    with program.no_imports(), pytest.raises(ModuleNotFoundError):
        importlib.import_module("this")
    assert importlib.util.find_spec("this") is not None


def test_variables_keep_what_is_behind_the_first_sign() -> None:
    """As the kernel hands them over."""
    assert program.variables(["A=b=c", "D="]) == {"A": "b=c", "D": ""}
