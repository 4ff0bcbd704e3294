"""Start, find and stop a platform: what `ondol up`, `status` and `down` do."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ondol.base import errors, files, log
from ondol.compose import (
    addresses,
    doctor,
    folders,
    handover,
    hints,
    lifecycle,
    lock,
    parts,
    predecessor,
    processes,
    service_manager,
    succession,
    waiting,
)
from ondol.compose import instance as instances
from ondol.compose.handover import Handover
from ondol.compose.instance import Instance
from ondol.compose.lifecycle import Leaving, Running, State
from ondol.compose.parts import envoy
from ondol.compose.parts.node import remove_pods
from ondol.compose.settings import Settings
from ondol.compose.supervisor import Supervisor
from ondol.compose.waiting import Deadline

_OCTAL: Final = re.compile(r"\\([0-7]{3})")
"""How the kernel writes spaces and the like in its table of mounts."""
_LOG: Final = "supervisor.log"
_DESCRIPTORS_MAX: Final = 1 << 20

LEAVING: Final = "leaving"
"""The state of a process that was succeeded, and ends once it has done what it had begun."""

Progress = Callable[[Sequence[Running]], None]


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One part as a user sees it; memory is the proportional set size (shared pages counted once)."""

    name: str
    state: str
    pid: int
    restarts: int
    memory_bytes: int
    cpu_s: float
    address: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class PlatformStatus:
    """The whole platform: `running` says a supervisor lives, `ready` that every part serves.

    `ingress` is where Envoy was told to listen, `ingress_tls` where it does once an Ingress has TLS; empty
    until the supervisor has told of its parts. `metrics` is where the metrics of every part are read.
    """

    running: bool
    ready: bool
    data_dir: str
    api: str
    ingress: str
    ingress_tls: str
    metrics: str
    supervisor_pid: int
    memory_bytes: int
    parts: tuple[PartStatus, ...]

    def document(self) -> dict[str, Any]:
        return asdict(self)


def run(
    settings: Settings,
    *,
    progress: Progress = lambda _: None,
    flags: Mapping[str, str] | None = None,
    left: int | None = None,
) -> int:
    """Run the platform in this process until a signal; the signal's number is returned.

    SIGINT also takes the pods down; SIGTERM leaves them running for the next start. At SIGUSR2 the code that
    is installed then goes on in this process, called by the command line's `flags` again; it finds what its
    predecessor had at the descriptor `left`.
    """
    if left is None:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # until there is something to be succeeded
        doctor.require(settings)
    instance = instances.load_or_create(settings)
    with lock.hold(instance.lock_file, inherited=left is not None) as descriptor:
        instance = instances.with_free_inner_ports(instance, is_running=left is not None)
        strangers = _prepare_folders(instance)
        with _logging_to(instance.log_dir / _LOG, settings.log_level):
            if strangers:
                folder = str(instance.data_dir)
                log.get("supervisor").warning("data_directory_stays_open", folder=folder, holds=strangers[:3])
            inherited = None if left is None else predecessor.taken_up(left, spared=(descriptor,))
            successor = succession.Succession(
                succession.command(settings.data_dir, flags or {}),
                instance.run_dir,
                locks=(descriptor,),
                reloading=service_manager.reloading,
                ready=service_manager.ready,
            )
            return _supervise(instance, settings, progress, successor, inherited)


def check(settings: Settings, left: int | None = None) -> None:
    """Say by `HostError` why a platform could not run on this code and these settings; starts nothing.

    `left` is the descriptor of what a running platform would hand over.
    """
    from ondol import store  # noqa: PLC0415 - only a check looks into the data itself

    if left is not None:
        handover.read(left)
    doctor.require(settings)
    parts.load_all()
    if (instance := instances.load(settings.data_dir)) is not None:
        store.require_readable(instance.store_file)
        for part in parts.of(instance, settings):
            if part.check is not None:
                part.check()


@contextlib.contextmanager
def _logging_to(file: Path, level: str) -> Iterator[None]:
    """Write the supervisor's own log there: the terminal is for the command's own words."""
    stream = file.open("a", buffering=1, encoding="utf-8")
    log.configure(level=level, stream=stream)
    try:
        yield
    finally:
        log.configure(level=level)
        with contextlib.suppress(OSError):  # on a full disk the last lines are lost, not what ends us
            stream.close()


def _allow_descriptors(most: int = _DESCRIPTORS_MAX) -> None:
    """Let every part, Envoy above all, hold as many connections as the machine allows.

    The 1,024 of a login shell are for programs that call `select`; a proxy needs two a connection.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _supervise(
    instance: Instance,
    settings: Settings,
    progress: Progress,
    successor: succession.Succession,
    inherited: Handover | None,
) -> int:
    _allow_descriptors()
    parts.preload()

    def on_change(running: Sequence[Running]) -> None:
        try:
            _write_status(instance, running, supervisor.leaving)
        except OSError as error:  # `status` is the poorer for it; the platform runs on
            log.get("supervisor").warning("status_not_written", error=str(error))
        announce(running)
        progress(running)

    announce = _announcer()
    from ondol.compose import supervisor_metrics  # noqa: PLC0415 - `status` and the like never need it

    supervisor = Supervisor(
        parts.of(instance, settings),
        log_dir=instance.log_dir,
        on_change=on_change,
        exposition=supervisor_metrics.Exposition(instance.socket("supervisor-metrics")),
        successor=successor,
        inherited=inherited,
    )
    try:
        signum = supervisor.run()
    finally:
        instance.status_file.unlink(missing_ok=True)
        envoy.forget(instance, settings)
    if signum == signal.SIGINT:
        with _uninterrupted():
            remove_pods(instance, settings)
    return signum


def _announcer() -> Progress:
    """Tells the service manager once when everything serves, and once when it ends."""
    reached: set[State] = set()

    def announce(running: Sequence[Running]) -> None:
        states = {each.state for each in running}
        if states <= set(lifecycle.AT_REST) and State.READY not in reached:
            reached.add(State.READY)
            service_manager.ready()
        elif State.STOPPED in states and State.STOPPED not in reached:
            reached.add(State.STOPPED)
            service_manager.stopping()

    return announce


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Finish what is begun: a second Ctrl-C would leave half of the pods and their network behind."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_detached(
    settings: Settings, *, flags: Mapping[str, str] | None = None, timeout_s: float = 60.0
) -> Instance:
    """Start the platform in a process of its own and return once it is ready."""
    doctor.require(settings)
    instance = instances.load_or_create(settings)
    if (pid := supervisor_pid(instance)) is not None:
        raise errors.HostError(
            f"a platform is already running on {instance.data_dir} (pid {pid})",
            remedy=f"{hints.command('status', instance.data_dir)}; or another --data-dir",
        )
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _daemon(settings, instance, writer, flags)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as answers:
        try:
            _await_ready(answers.fileno(), instance, timeout_s)
        except KeyboardInterrupt:  # who takes the start back wants nothing started
            os.kill(pid, signal.SIGTERM)
            raise
    return instances.load(settings.data_dir) or instance  # its inner ports may have moved


def _daemon(settings: Settings, instance: Instance, writer: int, flags: Mapping[str, str] | None) -> None:
    """Become the detached supervisor; tells the waiting command how the start went."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it has no terminal that could hang up
        output = _opened_log(instance)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)

        def progress(running: Sequence[Running]) -> None:
            if all(r.state in lifecycle.AT_REST for r in running):
                with contextlib.suppress(OSError):
                    os.write(writer, b"READY\n")

        run(settings, progress=progress, flags=flags)
        code = 0
    except errors.HostError as error:
        _say(writer, {"message": str(error), "remedy": error.remedy})
    except BaseException as error:
        _say(writer, {"message": f"{type(error).__name__}: {error}", "remedy": f"see {instance.log_dir}"})
        raise
    finally:
        os._exit(code)


def _opened_log(instance: Instance) -> int:
    try:
        instance.log_dir.mkdir(parents=True, exist_ok=True)
        return os.open(instance.log_dir / _LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    except OSError as error:
        raise errors.HostError(
            f"{instance.log_dir / _LOG} cannot be written: {error.strerror}",
            remedy="make the folder writable or some room on its disk, or choose another with --data-dir",
        ) from error


def _say(writer: int, document: Mapping[str, str]) -> None:
    with contextlib.suppress(OSError):
        os.write(writer, f"FAILED {json.dumps(document)}\n".encode())


def _await_ready(fd: int, instance: Instance, timeout_s: float) -> None:
    import select  # noqa: PLC0415 - only the waiting command needs it

    deadline = Deadline(timeout_s)
    received = b""
    while b"\n" not in received:
        ready, _, _ = select.select([fd], [], [], deadline.left_s)
        if not ready:
            raise errors.HostError(
                f"the platform was not ready after {timeout_s:.0f} s",
                remedy=hints.command("status", instance.data_dir),
            )
        data = os.read(fd, 65536)
        if not data:
            raise errors.HostError(
                "the supervisor ended while starting", remedy=f"see {instance.log_dir / _LOG}"
            )
        received += data
    word, _, text = received.decode().split("\n", 1)[0].partition(" ")
    if word == "FAILED":
        document = json.loads(text)
        raise errors.HostError(document["message"], remedy=document["remedy"])


def restart(settings: Settings, *, timeout_s: float = 300.0) -> str:
    """Have the running platform go on as the code that is installed now; its version is returned.

    `HostError` says why it went on as it was, or that not everything serves.
    """
    instance = require_running(settings.data_dir)
    folder = instance.run_dir
    with lock.turn(folder / "restart.turn"):
        pid = supervisor_pid(instance)
        if not pid or not status(settings.data_dir).ready:
            raise errors.HostError(
                "the platform is not ready", remedy=hints.command("status", instance.data_dir)
            )
        succession.forget_outcome(folder)
        os.kill(pid, signal.SIGUSR2)
        waiting.until(
            lambda: succession.outcome(folder) is not None or supervisor_pid(instance) is None,
            timeout_s=timeout_s,
        )
        outcome = succession.outcome(folder)
    if outcome is None:
        raise errors.HostError(
            f"the platform was not ready again after {timeout_s:.0f} s",
            remedy=hints.command("status", instance.data_dir),
        )
    verdict, words = outcome
    if verdict != succession.DONE:
        raise errors.HostError(
            f"the platform goes on as it was: {words}", remedy=f"see {instance.log_dir / _LOG}"
        )
    return words


def supervisor_pid(instance: Instance) -> int | None:
    """The supervisor of this data directory, or None."""
    return lock.holder(instance.lock_file)


def stop(settings: Settings, *, pods: bool = True, timeout_s: float = 30.0) -> bool:
    """Stop the platform (and its pods); False if none was running. Pods left behind are removed too."""
    instance = instances.load(settings.data_dir)
    if instance is None:
        return False
    pid = supervisor_pid(instance)
    if pid is not None:
        if pid:
            with contextlib.suppress(ProcessLookupError):  # it was killed: its parts end by themselves
                os.kill(pid, signal.SIGTERM)
        if not waiting.until(lambda: supervisor_pid(instance) is None, timeout_s=timeout_s):
            raise errors.HostError(
                f"the supervisor (pid {pid}) did not end in {timeout_s:.0f} s",
                remedy=f"kill -9 {pid}; {hints.command('down', settings.data_dir)}",
            )
    if pods:
        with _uninterrupted():
            remove_pods(instance, settings)
    return pid is not None


def remove_data(settings: Settings) -> list[str] | None:
    """Delete the data directory of a stopped platform; None if there is none.

    What is not the platform's own in it (of a home, say) stays; its names are returned.
    `HostError` while it runs, or while something is mounted below it: what a mount shows is another's.
    """
    instance = instances.load(settings.data_dir)
    if instance is None:
        return None
    if supervisor_pid(instance) is not None:
        raise errors.HostError(
            f"a platform is running on {settings.data_dir}",
            remedy=hints.command("down --remove-data", settings.data_dir),
        )
    if mounts := mounts_below(settings.data_dir):
        raise errors.HostError(
            f"{settings.data_dir} is not deleted: {mounts[0]} is mounted", remedy=f"umount {mounts[0]}"
        )
    strangers = folders.remove(settings.data_dir)
    instances.forget(instance)
    return strangers


def mounts_below(folder: Path, *, table: Path = Path("/proc/self/mountinfo")) -> list[str]:
    """Mount points inside a folder, the folder's own aside, from the kernel's table of mounts."""
    inside = f"{folder.resolve()}/"
    written = (line.split()[4] for line in table.read_text(encoding="utf-8").splitlines())
    points = (_OCTAL.sub(lambda escaped: chr(int(escaped[1], 8)), text) for text in written)
    return [point for point in points if point.startswith(inside)]


def require_running(data_dir: Path) -> Instance:
    """The running instance of the data directory; `HostError` says how to start it."""
    instance = instances.load(data_dir)
    if instance is None or supervisor_pid(instance) is None:
        raise errors.NotRunning(
            f"no platform is running on {data_dir}", remedy=hints.command("up --detach", data_dir)
        )
    return instance


def status(data_dir: Path) -> PlatformStatus:
    """What runs now, with memory and CPU read from the kernel at this moment."""
    instance = instances.load(data_dir)
    pid = supervisor_pid(instance) if instance is not None else None
    if instance is None or pid is None:
        return PlatformStatus(False, False, str(data_dir), "", "", "", "", 0, 0, ())
    parts = [_part_status(entry) for entry in _read_status(instance)]
    own = PartStatus(
        "supervisor",
        "ready",
        pid,
        0,
        processes.memory_bytes(pid),
        processes.cpu_s(pid),
        str(instance.status_file),
    )
    everything = (own, *parts)
    ingress = next((part.address for part in parts if part.name == "envoy"), "")
    return PlatformStatus(
        running=True,
        ready=bool(parts) and all(part.state in (*lifecycle.AT_REST, LEAVING) for part in parts),
        data_dir=str(data_dir),
        api=instance.api_url,
        ingress=ingress,
        ingress_tls=addresses.ingress_tls_url(ingress, instance.ports.ingress_tls),
        metrics=instance.metrics_url,
        supervisor_pid=pid,
        memory_bytes=sum(part.memory_bytes for part in everything),
        parts=everything,
    )


def _part_status(entry: Mapping[str, Any]) -> PartStatus:
    pid = int(entry["pid"])
    return PartStatus(
        name=entry["name"],
        state=entry["state"],
        pid=pid,
        restarts=int(entry["restarts"]),
        memory_bytes=processes.memory_bytes(pid) if pid else 0,
        cpu_s=processes.cpu_s(pid) if pid else 0.0,
        address=entry["address"],
        error=entry["error"],
    )


def _prepare_folders(instance: Instance) -> list[str]:
    """What the data directory holds beside the platform's own things."""
    instance.run_dir.mkdir(parents=True, exist_ok=True)
    instance.run_dir.chmod(0o700)
    instance.outbound_dir.mkdir(exist_ok=True)
    strangers = folders.prepare(instance.data_dir)
    instances.promise_networks(instance)
    return strangers


def _write_status(instance: Instance, running: Sequence[Running], leaving: Sequence[Leaving]) -> None:
    document = [
        {
            "name": r.part.name,
            "state": str(r.state),
            "pid": r.pid,
            "restarts": r.restarts,
            "address": r.part.address,
            "error": r.error,
        }
        for r in running
    ]
    document += [
        {
            "name": f"{each.name} (former)",
            "state": LEAVING,
            "pid": each.pid,
            "restarts": 0,
            "address": "",
            "error": "",
        }
        for each in leaving
    ]
    files.replace(instance.status_file, json.dumps(document).encode(), mode=0o644, durable=False)


def _read_status(instance: Instance) -> Iterator[Mapping[str, Any]]:
    try:
        yield from json.loads(instance.status_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
