"""The effects of a pod's life, one function a step: sandbox, volumes, containers, hooks, removal.

Each does its work or raises; the worker records what came of it. Blocking system calls run in threads.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import platform
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from ondol.api import dataplane, objects
from ondol.base import errors
from ondol.contracts import mesh
from ondol.node import files, linux, paths
from ondol.node.images import images, rootfs
from ondol.node.network import sandbox
from ondol.node.pods import container as planning
from ondol.node.pods import env, etc, http_probe, model, probing, staging, sysctls, volumes
from ondol.node.pods.host import Host
from ondol.node.pods.model import Attempt, Record, Spec
from ondol.node.pods.target import Target, UnknownPort
from ondol.node.runtime import cgroups, spec
from ondol.node.runtime.port import Creation

_MESSAGE_MAX: Final = 4096
_LOG_TAIL_MAX: Final = 2048
_LOG_TAIL_READ: Final = 64 * 1024  # every line has a time and a stream before it
_LOG_TAIL_LINES: Final = 80


def container_id(uid: str, name: str, number: int) -> str:
    """The same for the same attempt, so that one cut short is found again and not made twice."""
    return hashlib.sha256(f"{uid}/{name}/{number}".encode()).hexdigest()


def log_path(host: Host, uid: str, name: str, number: int) -> Path:
    return host.config.pod_dir(uid) / name / f"{number}.log"


def wiring(pod: Spec, address: str, *, redirect: bool) -> sandbox.Wiring:
    spec_ = objects.spec(pod)
    return sandbox.Wiring(
        objects.uid(pod),
        etc.hostname(pod),
        None if spec_.get("hostNetwork") else ipaddress.IPv4Address(address),
        redirect,
        dataplane.capture(objects.annotations(pod)) if redirect else dataplane.EVERYTHING,
        own_ipc=not spec_.get("hostIPC"),
        sysctls=tuple(sysctls.of(pod)),
    )


async def is_meshed(host: Host, pod: Spec) -> bool:
    if not host.config.mesh_enabled:
        return False
    return mesh.in_mesh(pod, await host.sources.namespace(objects.namespace(pod)))


async def set_up_sandbox(host: Host, pod: Spec) -> str:
    """Make the sandbox and the pod's `/etc` files; its address, empty in the host's network."""
    uid = objects.uid(pod)
    is_on_host = bool(objects.spec(pod).get("hostNetwork"))
    address = "" if is_on_host else str(host.addresses.take(uid))
    plan = wiring(pod, address, redirect=await is_meshed(host, pod))
    plan = replace(plan, hostname=kernel_name(host, pod))
    await anyio.to_thread.run_sync(sandbox.create, host.network, plan)
    _write_etc(host, pod, address)
    return address


def kernel_name(host: Host, pod: Spec) -> str:
    return etc.kernel_name(pod, domain=host.config.cluster_domain, host=platform.node())


def _write_etc(host: Host, pod: Spec, address: str) -> None:
    folder = host.config.pod_dir(objects.uid(pod)) / "etc"
    folder.mkdir(parents=True, exist_ok=True)
    domain = host.config.cluster_domain
    host_resolv = (files.read(Path("/etc/resolv.conf")) or b"").decode()
    if address:
        hosts = etc.hosts(pod, address, domain)
    else:
        hosts = etc.host_network_hosts(pod, (files.read(Path("/etc/hosts")) or b"").decode())
    resolv = etc.resolv_conf(pod, name_server=str(host.config.gateway), domain=domain, host_file=host_resolv)
    for name, text in (
        ("hosts", hosts),
        ("resolv.conf", resolv),
        ("hostname", kernel_name(host, pod) + "\n"),
    ):
        files.write(folder / name, text.encode(), mode=0o644)


def pod_facts(host: Host, record: Record) -> env.PodFacts:
    return env.PodFacts(
        record.address or host.config.host_ip, host.config.host_ip, host.config.name, host.allocatable
    )


def volume_folder(host: Host, pod: Spec, volume: Spec) -> Path:
    if volumes.kind(volume) == "hostPath":
        return Path(volume["hostPath"]["path"])
    return host.config.pod_dir(objects.uid(pod)) / "volumes" / str(volume["name"])


async def prepare_volumes(host: Host, pod: Spec, record: Record) -> None:
    """Make every volume, or bring its content up to date."""
    given = objects.spec(pod).get("volumes") or ()
    if not given:
        return
    sources = await host.sources.of(pod)
    tokens = await host.sources.tokens(pod)
    facts = pod_facts(host, record)
    group = model.fs_group(pod)
    revision = str(int(host.clock.now() * 1e6))
    work: list[tuple[Path, Spec, volumes.Payload | None]] = []
    for volume in given:
        content = volumes.payload(pod, volume, sources, facts, tokens) if volumes.is_written(volume) else None
        work.append((volume_folder(host, pod, volume), volume, content))

    def put() -> None:
        for folder, volume, content in work:
            if content is None:
                volumes.place(folder, volume, fs_group=group)
            else:
                volumes.write(folder, content, fs_group=group, revision=revision)

    await anyio.to_thread.run_sync(put)


@dataclass(frozen=True, slots=True)
class Created:
    """A container that waits to be started, and what its owner should hear of."""

    attempt: Attempt
    was_pulled: bool
    skipped: Sequence[str]
    """Sentences on variables that were left out."""


async def create_container(host: Host, pod: Spec, record: Record, name: str, number: int) -> Created:
    """Image, root and container."""
    given = next(c for c in model.all_containers(pod) if c["name"] == name)
    policy = given.get("imagePullPolicy") or "IfNotPresent"
    unpacked = await host.images.ensure(given["image"], policy)
    uid = objects.uid(pod)
    identity = container_id(uid, name, number)
    sources = await host.sources.of(pod)
    declared = env.variables(
        pod,
        given,
        sources=sources,
        facts=pod_facts(host, record),
        services=host.sources.service_environment(pod),
    )

    staged = staging.place_of(host.config.run_dir, identity)

    def prepare() -> spec.Container:
        root = rootfs.mount(host.roots, identity, unpacked.layers)
        attempted = _Attempted(root, identity, number, unpacked.image.config, declared)
        return _plan(host, pod, given, attempted, staged)

    try:
        planned = await anyio.to_thread.run_sync(prepare)
        handle = await host.runtime.create(
            Creation(
                identity,
                spec.runtime_spec(planned),
                log_path(host, uid, name, number),
                stdin=bool(given.get("stdin")),
            )
        )
    finally:
        if staged.is_used:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(staged.give_back)
    cgroups.limit_pids(host.cgroup_of(uid), host.config.pod_pids_limit)
    stop = planning.stop_signal(given, unpacked.image.config)
    attempt = Attempt(number, identity, given["image"], unpacked.image.id, handle, stop_signal=stop)
    return Created(attempt, unpacked.was_pulled, env.skipped(pod, given, sources))


@dataclass(frozen=True, slots=True)
class _Attempted:
    """What belongs to one attempt of a container."""

    root: Path
    identity: str
    number: int
    image: Mapping[str, Any]
    declared: Mapping[str, str]


def _plan(
    host: Host, pod: Spec, given: Spec, attempted: _Attempted, staged: staging.Staging
) -> spec.Container:
    root, image = attempted.root, attempted.image
    uid = objects.uid(pod)
    place = planning.Place(
        rootfs=str(root),
        cgroup=f"{host.cgroup_of(uid)}/{attempted.identity}",
        namespaces=_namespaces(host, pod),
        mounts=_mounts(host, pod, given, attempted, staged),
        image=image,
        account=rootfs.user(root, planning.account(pod, given, image)),
        environment=planning.environment(
            images.environment(dict(image)), attempted.declared, kernel_name(host, pod)
        ),
        declared=attempted.declared,
        node_memory_bytes=host.memory_bytes,
        current_oom_score_adj=host.oom_score_adj,
        capabilities=spec.capabilities_of(linux.capability_mask()),
        also_masked=host.also_masked,
        also_read_only=host.also_read_only,
        seccomp=_local_profile(host, pod, given),
    )
    planned = planning.planned(pod, given, place)
    rootfs.make_folder(root, planned.cwd, planned.user)
    return planned


def _local_profile(host: Host, pod: Spec, given: Spec) -> spec.Document | None:
    """The seccomp profile of type `Localhost`, if the container names one."""
    kind, file = planning.seccomp_profile(pod, given)
    if kind != "Localhost":
        return None
    folder = host.config.seccomp_dir
    content = paths.read(folder, file) if folder.is_dir() else None
    if content is None:
        raise env.ConfigMissing(f"cannot load seccomp profile {folder / file}: no such file")
    try:
        profile: spec.Document = json.loads(content)
    except ValueError as error:
        raise env.ConfigMissing(f"cannot load seccomp profile {folder / file}: {error}") from error
    return profile


def _namespaces(host: Host, pod: Spec) -> dict[str, str]:
    plan = wiring(pod, "0.0.0.0", redirect=False)
    names = {"net": "network", "ipc": "ipc", "uts": "uts"}
    return {names[kind]: str(host.network.namespace_path(kind, plan.uid)) for kind in sandbox.kinds_of(plan)}


def _mounts(
    host: Host, pod: Spec, given: Spec, attempted: _Attempted, staged: staging.Staging
) -> list[spec.Document]:
    folder = host.config.pod_dir(objects.uid(pod))
    given_volumes = {v["name"]: v for v in objects.spec(pod).get("volumes") or ()}
    folders = {name: str(volume_folder(host, pod, volume)) for name, volume in given_volumes.items()}
    found: list[spec.Document] = []
    for mount, source, sub_path in planning.volume_mounts(given, folders, attempted.declared):
        is_written = volumes.is_written(given_volumes[mount["name"]])
        place = _staged(source, sub_path, staged) if sub_path else source
        found.append(planning.bind(mount, place, is_read_only=is_written))
    taken = {mount["destination"] for mount in found}
    own = [name for name in ("hosts", "resolv.conf", "hostname") if f"/etc/{name}" not in taken]
    found += [spec.bind(str(folder / "etc" / name), f"/etc/{name}") for name in own]
    message = _termination_file(folder, given, attempted.number)
    message.parent.mkdir(parents=True, exist_ok=True)
    message.touch()
    message.chmod(0o666)
    return [*found, spec.bind(str(message), planning.termination_path(given))]


def _staged(source: str, sub_path: str, staged: staging.Staging) -> str:
    with volumes.sub_path(Path(source), sub_path) as descriptor:
        return str(staged.put(descriptor))


def _termination_file(folder: Path, given: Spec, number: int) -> Path:
    return folder / str(given["name"]) / f"{number}.termination"


def termination_message(host: Host, pod: Spec, given: Spec, attempt: Attempt) -> str:
    """What the container left to say, from its file or (if asked for) the end of its log."""
    folder = host.config.pod_dir(objects.uid(pod))
    said = files.tail(_termination_file(folder, given, attempt.number), _MESSAGE_MAX)
    is_failed = attempt.exit is not None and attempt.exit.code != 0
    if not said and given.get("terminationMessagePolicy") == "FallbackToLogsOnError" and is_failed:
        path = log_path(host, objects.uid(pod), given["name"], attempt.number)
        lines = files.tail(path, _LOG_TAIL_READ).splitlines()
        texts = [line.split(b" ", 3)[-1] for line in lines[-_LOG_TAIL_LINES:]]
        said = b"\n".join(texts)[-_LOG_TAIL_MAX:]
    return said.decode(errors="replace")


def forget_attempt(host: Host, uid: str, name: str, number: int) -> None:
    """Remove the logs and last words of one attempt, if there was one of that number."""
    for left in (host.config.pod_dir(uid) / name).glob(f"{number}.*"):
        left.unlink()


async def discard_container(host: Host, identity: str) -> None:
    """Forget a container that has ended, and its writable layer."""
    await host.runtime.delete(identity)
    await anyio.to_thread.run_sync(rootfs.remove, host.roots, identity)


def probe_target(host: Host, record: Record, given: Spec, attempt: Attempt) -> Target:
    ports = {p["name"]: int(p["containerPort"]) for p in given.get("ports") or () if p.get("name")}
    handle = attempt.handle
    if handle is None:
        raise ValueError("a container that was not created cannot be probed")
    address = record.address or host.config.host_ip
    return Target(address, ports, lambda args, timeout_s: host.runtime.exec(handle, args, timeout_s))


async def run_hook(hook: Spec, target: Target, clock_sleep: Any, timeout_s: float) -> str:
    """Carry out a lifecycle hook; what went wrong, empty if nothing."""
    if "sleep" in hook:
        await clock_sleep(float(hook["sleep"]["seconds"]))
        return ""
    if "httpGet" in hook:
        try:
            await http_probe.get(hook["httpGet"], target, timeout_s, agent=http_probe.HOOK_AGENT)
        except (OSError, TimeoutError, ValueError, UnknownPort, http_probe.HalfAnswer) as error:
            return str(error)
        return ""  # whatever the answer: the hook was heard
    if "exec" in hook:
        answer = await probing.ask({"exec": hook["exec"]}, target, timeout_s, {})
        return "" if answer.succeeded else answer.message or "the command failed"
    return f"hook {sorted(hook)} is not supported"


def signal_number(name: str) -> int:
    text = name.upper()
    if text.isdigit():
        return int(text)
    return int(signal.Signals[text if text.startswith("SIG") else f"SIG{text}"])


async def tear_down(host: Host, uid: str) -> None:
    """Give back the sandbox, the address and every mount; files stay."""

    def undo() -> None:
        sandbox.destroy(host.network, uid)
        for point in linux.mounts_below(str(host.config.pod_dir(uid))):
            linux.unmount(point)

    cgroups.kill(host.cgroup_of(uid))
    await anyio.to_thread.run_sync(undo)
    host.addresses.give_back(uid)
    host.sources.forget(uid)


async def free_volumes(host: Host, pod: Spec) -> None:
    """Remove what the volumes of a pod that has ended hold on this disk; its logs stay.

    Nothing may be mounted there any more: what is mounted belongs to someone else.
    """
    folder = host.config.pod_dir(objects.uid(pod)) / "volumes"
    names = [str(volume["name"]) for volume in objects.spec(pod).get("volumes") or ()]

    def remove() -> None:
        for path in (folder / name for name in names):
            if linux.mounts_below(str(path)) or path.is_mount():
                raise errors.HostError(f"{path} is still mounted", remedy="it is tried again")
            if path.exists():
                shutil.rmtree(path)

    await anyio.to_thread.run_sync(remove)


async def remove_files(host: Host, uid: str) -> None:
    """The end: nothing on this machine remembers the pod."""

    def undo() -> None:
        folder = host.config.pod_dir(uid)
        for point in linux.mounts_below(str(folder)):
            linux.unmount(point)
        if folder.exists():
            shutil.rmtree(folder)

    await anyio.to_thread.run_sync(undo)
    for _ in range(50):
        if cgroups.remove(host.cgroup_of(uid)):
            return
        await host.clock.sleep(0.02)
