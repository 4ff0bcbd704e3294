"""Creates and deletes pods many times while parts of the platform are killed, then looks for what is left.

`python benchmarks/soak.py [--cycles N] [--seed S]` starts a platform of its own. Whatever is random follows
from the seed, which is printed. Exit status 1 if anything of the pods remains: a namespace, a control group,
a mount, an interface, an address, a rule of the packet filter, a file, a process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import anyio

from ondol import client as clients
from ondol.api import resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.client import Client
from ondol.compose import platform, settings
from ondol.compose.instance import Instance
from ondol.compose.settings import Settings

CYCLES: Final = 2000
IMAGE: Final = "ondol.local/soak:latest"
NAMESPACE: Final = "soak"
_AT_ONCE: Final = 5
_KILLS_PART: Final = 0.25
"""So often a cycle kills a part, which then starts again beside the cycles that follow."""
_PATIENCE_S: Final = 120.0
_POLL_S: Final = 0.2
_OF_EACH: Final = ("namespaces", "control groups", "mounts", "interfaces", "addresses", "files", "processes")
"""What there is of every pod that runs; rules only of some."""
_MAIN: Final = "import signal, time\nsignal.signal(signal.SIGTERM, lambda *_: exit())\ntime.sleep(3600)\n"

Traces = Mapping[str, frozenset[str]]


def traces(instance: Instance) -> dict[str, frozenset[str]]:
    """What there is of the instance's pods on the machine, by what it is."""
    data, run = instance.data_dir, instance.run_dir
    return {
        "namespaces": _names(run, "netns", "ipcns", "utsns", "pidns"),
        "control groups": frozenset(_groups(instance)),
        "mounts": frozenset(_mounts(data, run)),
        "interfaces": _names(Path("/sys/class/net") / instance.bridge / "brif"),
        "addresses": frozenset(_addresses(data / "addresses.json")),
        "packet filter": frozenset(_rules(instance)),
        "files": _names(data, "pods", "containers", "exits", "rootfs")
        | _names(run, "exits", "shims", "attach"),
        "processes": frozenset(_processes(instance)),
    }


def _names(folder: Path, *inner: str) -> frozenset[str]:
    places = [folder / name for name in inner] if inner else [folder]
    entries = (str(entry) for place in places if place.is_dir() for entry in place.iterdir())
    return frozenset(entry for entry in entries if not _is_prepared(entry))


def _groups(instance: Instance) -> list[str]:
    top = Path("/sys/fs/cgroup")
    roots = [*top.glob(f"*/ondol-{instance.id}"), top / f"ondol-{instance.id}"]
    # Groups come and go meanwhile, which `os.walk` does not mind.
    groups = [f"{above}/{name}" for root in roots for above, names, _ in os.walk(root) for name in names]
    return [group for group in groups if not _is_prepared(group)]


def _is_prepared(path: str) -> bool:
    """Whether it is kept ready for a pod, and so nobody's yet."""
    return "/prepared-" in path


def _mounts(*folders: Path) -> list[str]:
    points = (point for folder in folders for point in platform.mounts_below(folder))
    return [point for point in points if not _is_prepared(point)]


def _addresses(file: Path) -> list[str]:
    """The pods that own one, by uid."""
    return list(json.loads(file.read_text(encoding="utf-8"))["owners"])


def _rules(instance: Instance) -> list[str]:
    """Lines of the instance's tables, without what only counts."""
    done = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True)
    lines, inside = [], False
    for line in done.stdout.splitlines():
        if line.startswith("table "):
            inside = f"ondol-{instance.id}" in line
        if inside:
            lines.append(line.strip())
    return lines


def _processes(instance: Instance) -> list[str]:
    """Shims and containers: whatever names the instance's folders in its command, but for its own parts."""
    own = {part.pid for part in platform.status(instance.data_dir).parts} | {os.getpid()}
    marks = (str(instance.data_dir), str(instance.run_dir))
    commands = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if int(entry.name) not in own and "conmon" in command and any(mark in command for mark in marks):
            commands.append(f"{entry.name} {command[:120]}")
    return commands


class Soak:
    """Cycles of one platform."""

    def __init__(self, instance: Instance, cycles: int, seed: int) -> None:
        self._instance = instance
        self._cycles = cycles
        self._rng = random.Random(seed)
        self._slots = anyio.CapacityLimiter(_AT_ONCE)
        self.kills: dict[str, int] = {}
        self._of_one: Traces = {}
        """What there was while the first pod ran."""

    async def run(self) -> dict[str, list[str]]:
        """What is left when all is deleted, by what it is."""
        client = clients.from_kubeconfig(self._instance.kubeconfig)
        try:
            namespace: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
            await self._insist(lambda: client.create(resources.NAMESPACE, namespace))
            await self._cycle(client, -1, wait=True)  # what the first pod of a platform makes stays
            await self._gone(client)
            before = await self._settled({})
            if blind := [what for what in _OF_EACH if not self._of_one[what] - before[what]]:
                raise SystemExit(
                    f"a running pod left no trace among {', '.join(blind)}: nothing would be noticed"
                )
            async with anyio.create_task_group() as group:
                for number in range(self._cycles):
                    await self._slots.acquire_on_behalf_of(number)
                    group.start_soon(self._in_slot, client, number)
            await self._gone(client)
            after = await self._settled(before)
        finally:
            await client.aclose()
        return {what: sorted(after[what] - before.get(what, frozenset())) for what in after}

    async def _in_slot(self, client: Client, number: int) -> None:
        try:
            await self._cycle(client, number, wait=self._rng.random() < 0.7)
        finally:
            self._slots.release_on_behalf_of(number)
        if number % 50 == 0:
            print(f"cycle {number} of {self._cycles}; killed {self.kills}", flush=True)

    async def _cycle(self, client: Client, number: int, *, wait: bool) -> None:
        """One pod, deleted when it runs or before it does; now and then a part is killed."""
        name = f"pod-{number}" if number >= 0 else "first"
        container = {"name": "main", "image": IMAGE, "imagePullPolicy": "Never"}
        spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
        pod: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": spec,
        }
        await self._insist(lambda: client.create(resources.POD, pod))
        if number >= 0 and self._rng.random() < _KILLS_PART:
            self._kill()
        deadline = time.monotonic() + (_PATIENCE_S if wait else self._rng.random())
        while time.monotonic() < deadline:
            live = await self._insist(lambda: client.get(resources.POD, name, NAMESPACE))
            if live is None or live.get("status", {}).get("phase") == "Running":
                break
            await anyio.sleep(_POLL_S)
        if number < 0:
            self._of_one = traces(self._instance)
        await self._insist(lambda: client.delete(resources.POD, name, NAMESPACE))

    def _kill(self) -> None:
        """End a part as a crash does."""
        alive = [
            part
            for part in platform.status(self._instance.data_dir).parts
            if part.pid and part.state == "ready"
        ]
        victims = [part for part in alive if part.name != "supervisor"]
        if victims:
            victim = self._rng.choice(victims)
            self.kills[victim.name] = self.kills.get(victim.name, 0) + 1
            try:
                os.kill(victim.pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    async def _insist(self, call: Callable[[], Any]) -> Any:
        """Try again while the API server is away; what was done already is no error."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return await call()
            except (errors.AlreadyExists, errors.NotFound):
                return None
            except (errors.Unavailable, errors.Timeout, errors.TooManyRequests, OSError):
                if time.monotonic() > deadline:
                    raise
                await anyio.sleep(_POLL_S)

    async def _gone(self, client: Client) -> None:
        """Until there is no pod any more."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            page = await self._insist(lambda: client.list(resources.POD, NAMESPACE))
            if not page.items:
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"{len(page.items)} pods are not deleted after {_PATIENCE_S:.0f} s")
            await anyio.sleep(_POLL_S)

    async def _settled(self, before: Traces) -> dict[str, frozenset[str]]:
        """The traces once nothing is left beyond what was before, or for as long as that can take."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            present = traces(self._instance)
            grown = any(present[what] - before.get(what, frozenset()) for what in present)
            ready = platform.status(self._instance.data_dir).ready
            if (ready and not grown) or time.monotonic() > deadline or (ready and not before):
                return present
            await anyio.sleep(1.0)


def _ondol(configured: Settings, *words: str) -> None:
    command = [sys.executable, "-m", "ondol.cli", *words, "--data-dir", str(configured.data_dir)]
    subprocess.run(command, check=True, capture_output=True)


def _start(configured: Settings, folder: Path) -> None:
    """The platform, with an image of a program that sleeps until it is told to end."""
    _ondol(configured, "up", "--detach")
    source = folder / "image"
    source.mkdir()
    (source / "main.py").write_text(_MAIN, encoding="utf-8")
    _ondol(configured, "image", "build", str(source), "--tag", IMAGE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=CYCLES)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ondol-soak-") as folder:
        configured = settings.load(Path(folder) / "data")
        try:
            _start(configured, Path(folder))
            soak = Soak(platform.require_running(configured.data_dir), arguments.cycles, arguments.seed)
            left = anyio.run(soak.run)
        finally:
            platform.stop(configured)
    remains = False
    for what, names in left.items():
        print(f"{what}: {len(names)} left {names[:5]}")
        remains = remains or bool(names)
    print(f"{arguments.cycles} cycles; killed {soak.kills}")
    raise SystemExit(1 if remains else 0)


if __name__ == "__main__":
    main()
