"""How a container is made: image, root file system, mounts, variables, and what the runtime is told."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from ondol.api import objects
from ondol.api.objects import Key
from ondol.node import linux, paths, pod_spec, value_sources
from ondol.node.config import NodeConfig
from ondol.node.images import images, rootfs
from ondol.node.images.pulling import Asker, PullSecret
from ondol.node.pods import (
    env,
    env_files,
    etc,
    image_volumes,
    planning,
    sandbox_setup,
    shared_processes,
    staging,
)
from ondol.node.pods.engines import Engines
from ondol.node.pods.machine import Created, container_id
from ondol.node.pods.model import Attempt, Record, Spec
from ondol.node.runtime import cgroups, spec
from ondol.node.runtime.port import Creation
from ondol.node.volumes import registry, sub_path


@dataclass(frozen=True, slots=True)
class _Run:
    """What belongs to one run of a container."""

    root: Path
    identity: str
    number: int
    image: Mapping[str, Any]
    """The `config` part of its image's configuration."""
    declared: Mapping[str, str]
    """The variables that the pod gives it."""
    address: str
    """The pod's own; empty in the host's network."""
    target: int
    """The process whose process namespace it shares; 0 for none."""
    folders: Mapping[str, str]
    """Where each volume of the pod was placed, by its name."""


async def create(
    engines: Engines, pod: Spec, record: Record, name: str, number: int, *, asker: Asker
) -> Created:
    """As `Machine.create_container`."""
    container = next(c for c in pod_spec.all_containers(pod) if c["name"] == name)
    policy = container.get("imagePullPolicy") or "IfNotPresent"
    asker = dataclasses.replace(asker, secrets=functools.partial(_pull_secrets, engines, pod, asker))
    await image_volumes.mount(engines, pod, record, container, asker)
    unpacked = await engines.images.ensure(container["image"], policy, asker)
    uid = objects.uid(pod)
    identity = container_id(uid, name, number)
    target = target_process(record, container)
    sources = await engines.sources.of(pod)
    if env_files.references(container):
        files = await anyio.to_thread.run_sync(env_files.read, record, container)
        sources = dataclasses.replace(sources, files=files)
    declared = env.variables(
        pod,
        container,
        sources=sources,
        facts=env.pod_facts(engines.config, engines.allocatable, record),
        services=engines.sources.service_environment(pod),
    )
    staged = staging.place_of(engines.config.run_dir, identity)

    def plan() -> spec.Container:
        root = rootfs.mount(engines.roots, identity, unpacked.layers)
        folders = {name: volume.folder for name, volume in record.volumes.items() if volume.is_placed}
        run = _Run(root, identity, number, unpacked.image.config, declared, record.address, target, folders)
        return _planned(engines, pod, container, run, staged)

    try:
        planned = await anyio.to_thread.run_sync(plan)
        creation = Creation(
            identity,
            spec.runtime_spec(planned),
            engines.config.log_path(uid, name, number),
            stdin=bool(container.get("stdin")),
            stdin_once=bool(container.get("stdinOnce")),
            terminal=bool(container.get("tty")),
            handler=record.runtime,
            image=unpacked.image.id,
        )
        handle = await engines.runtime.create(creation)
    finally:
        if staged.is_used:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(staged.give_back)
    cgroups.limit_pids(engines.config.pod_cgroup(uid), engines.config.pod_pids_limit)
    if whole := planning.pod_limits(pod):
        cgroups.limit(engines.config.pod_cgroup(uid), _of_group(whole))
    stop = planning.stop_signal(container, unpacked.image.config)
    attempt = Attempt(number, identity, container["image"], unpacked.image.id, handle, stop_signal=stop)
    return Created(attempt, unpacked.pulled, env.skipped(pod, container, sources))


def _of_group(limits: spec.Limits) -> cgroups.Limits:
    millis = limits.cpu_limit_millis
    return cgroups.Limits(None if millis is None else spec.cpu_quota(millis), limits.memory_limit_bytes)


async def _pull_secrets(engines: Engines, pod: Spec, asker: Asker) -> list[PullSecret]:
    """What the pod may show to registries; admission has written its service account's into it."""
    names = dict.fromkeys(str(each.get("name")) for each in objects.spec(pod).get("imagePullSecrets") or ())
    namespace, stored = objects.namespace(pod), engines.sources.secrets
    secrets = {name: await stored.get(Key(namespace, name), follow=False) for name in names}
    if missing := [name for name, secret in secrets.items() if secret is None]:
        words = f"Unable to retrieve some image pull secrets ({', '.join(missing)})"
        message = f"{words}; attempting to pull the image may not succeed."
        asker.event("Warning", "FailedToRetrieveImagePullSecret", message)
    return [value_sources.decoded(secret) for secret in secrets.values() if secret is not None]


def target_process(record: Record, container: Spec) -> int:
    """The first process of the container that this one is to look at; 0 if it names none."""
    name = str(container.get("targetContainerName") or "")
    if not name:
        return 0
    attempt = record.container(name).current
    if attempt is None or attempt.handle is None or not attempt.is_running:
        raise value_sources.ConfigMissing(f"unable to find target container {name}")
    return attempt.handle.pid


def _planned(
    engines: Engines, pod: Spec, container: Spec, run: _Run, staged: staging.Staging
) -> spec.Container:
    hostname = etc.kernel_name(pod, domain=engines.config.cluster_domain, host=platform.node())
    place = planning.Place(
        rootfs=str(run.root),
        cgroup=f"{engines.config.pod_cgroup(objects.uid(pod))}/{run.identity}",
        namespaces=_namespaces(engines, pod, run),
        mounts=_mounts(engines, pod, container, run, staged),
        image=run.image,
        account=rootfs.user(run.root, planning.account(pod, container, run.image)),
        environment=planning.environment(images.environment(dict(run.image)), run.declared, hostname),
        declared=run.declared,
        node_memory_bytes=engines.memory_bytes,
        current_oom_score_adj=engines.oom_score_adj,
        capabilities=spec.capabilities_of(linux.capability_mask()),
        also_masked=engines.also_masked,
        also_read_only=engines.also_read_only,
        seccomp=_local_profile(engines, pod, container),
    )
    planned = planning.planned(pod, container, place)
    rootfs.make_folder(run.root, planned.cwd, planned.user)
    return planned


def _local_profile(engines: Engines, pod: Spec, container: Spec) -> spec.Document | None:
    """The seccomp profile of type `Localhost`, if the container names one."""
    kind, file = planning.seccomp_profile(pod, container)
    if kind != "Localhost":
        return None
    folder = engines.config.seccomp_dir
    content = paths.read(folder, file) if folder.is_dir() else None
    if content is None:
        raise value_sources.ConfigMissing(f"cannot load seccomp profile {folder / file}: no such file")
    try:
        profile: spec.Document = json.loads(content)
    except ValueError as error:
        raise value_sources.ConfigMissing(f"cannot load seccomp profile {folder / file}: {error}") from error
    return profile


def _namespaces(engines: Engines, pod: Spec, run: _Run) -> dict[str, str]:
    """Paths of the sandbox's namespaces, as the runtime spec calls their kinds."""
    address = ipaddress.IPv4Address(run.address) if run.address else None
    plan = sandbox_setup.wiring(pod, address, redirect=False)
    namespaces = sandbox_setup.namespaces(engines, plan)
    if shared_processes.is_shared(pod):
        return {**namespaces, "pid": str(engines.network.namespace_path(shared_processes.KIND, plan.uid))}
    return {**namespaces, "pid": f"/proc/{run.target}/ns/pid"} if run.target else namespaces


def _mounts(
    engines: Engines, pod: Spec, container: Spec, run: _Run, staged: staging.Staging
) -> list[spec.Document]:
    volumes = {v["name"]: registry.of(v) for v in objects.spec(pod).get("volumes") or ()}
    mounts: list[spec.Document] = []
    for mount, source, path in planning.volume_mounts(container, run.folders, run.declared):
        place = _staged(source, path, staged) if path else source
        mounts.append(planning.bind(mount, place, volumes[mount["name"]]))
    taken = {mount["destination"] for mount in mounts}
    config, uid = engines.config, objects.uid(pod)
    own = [name for name in ("hosts", "resolv.conf", "hostname") if f"/etc/{name}" not in taken]
    mounts += [spec.bind(str(config.etc_dir(uid) / name), f"/etc/{name}") for name in own]
    message = termination_file(config, uid, container["name"], run.number)
    message.parent.mkdir(parents=True, exist_ok=True)
    message.touch()
    message.chmod(0o666)
    return [*mounts, spec.bind(str(message), planning.termination_path(container))]


def _staged(source: str, path: str, staged: staging.Staging) -> str:
    with sub_path.opened(Path(source), path) as descriptor:
        return str(staged.put(descriptor))


def termination_file(config: NodeConfig, uid: str, container: str, number: int) -> Path:
    """Where one run of a container may leave its last words."""
    return config.container_dir(uid, container) / f"{number}.termination"
