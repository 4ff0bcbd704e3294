"""How a pod's sandbox is made: its wiring, its address and its files in `/etc`."""

from __future__ import annotations

import ipaddress
import platform
from dataclasses import replace
from pathlib import Path

import anyio.to_thread

from ondol.api import dataplane, objects
from ondol.base import files
from ondol.node import resolvers
from ondol.node.network import sandbox
from ondol.node.pods import etc, shared_processes, sysctls
from ondol.node.pods.engines import Engines
from ondol.node.pods.model import Spec


def wiring(pod: Spec, address: ipaddress.IPv4Address | None, *, redirect: bool) -> sandbox.Wiring:
    """What the sandbox is made of; no address in the host's network."""
    spec = objects.spec(pod)
    return sandbox.Wiring(
        objects.uid(pod),
        etc.hostname(pod),
        address,
        redirect,
        dataplane.capture(objects.annotations(pod)) if redirect else dataplane.EVERYTHING,
        own_ipc=not spec.get("hostIPC"),
        sysctls=tuple(sysctls.of(pod)),
    )


async def create(engines: Engines, pod: Spec, *, redirect: bool) -> str:
    """As `Machine.set_up_sandbox`."""
    is_on_host = bool(objects.spec(pod).get("hostNetwork"))
    address = None if is_on_host else engines.addresses.take(objects.uid(pod))
    hostname = etc.kernel_name(pod, domain=engines.config.cluster_domain, host=platform.node())
    plan = replace(wiring(pod, address, redirect=redirect), hostname=hostname)
    await anyio.to_thread.run_sync(engines.prepared.create, plan)
    engines.prepared.taken()
    if shared_processes.is_shared(pod):
        await shared_processes.create(engines, pod, namespaces(engines, plan))
    _write_etc(engines, pod, str(address or ""), hostname)
    return str(address or "")


def namespaces(engines: Engines, plan: sandbox.Wiring) -> dict[str, str]:
    """Paths of the sandbox's namespaces, as the runtime spec calls their kinds."""
    names = {"net": "network", "ipc": "ipc", "uts": "uts"}
    return {
        names[kind]: str(engines.network.namespace_path(kind, plan.uid)) for kind in sandbox.kinds_of(plan)
    }


def _write_etc(engines: Engines, pod: Spec, address: str, hostname: str) -> None:
    folder = engines.config.etc_dir(objects.uid(pod))
    folder.mkdir(parents=True, exist_ok=True)
    domain = engines.config.cluster_domain
    host_resolv = resolvers.host_file()
    if address:
        hosts = etc.hosts(pod, address, domain)
    else:
        hosts = etc.host_network_hosts(pod, (files.read(Path("/etc/hosts")) or b"").decode())
    name_server = str(engines.config.gateway)
    resolv = etc.resolv_conf(pod, name_server=name_server, domain=domain, host_file=host_resolv)
    for name, text in (("hosts", hosts), ("resolv.conf", resolv), ("hostname", hostname + "\n")):
        files.replace(folder / name, text.encode(), durable=False)
        (folder / name).chmod(0o644)  # whatever the umask: every user of the pod reads it
