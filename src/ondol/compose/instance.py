"""An instance: the identity, addresses and folders of one platform on this machine.

Chosen at the first start, kept in `<data dir>/instance.json`, so that several platforms live side
by side and a second start finds the first one's addresses.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import shutil
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from ondol.api import own_paths
from ondol.base import errors, files
from ondol.compose import hints, lock
from ondol.compose.settings import Settings

FILE: Final = "instance.json"
FORMAT: Final = 1
"""Of the data directory, but for the store, which says itself of which form it is. Raised by a change that
code of this format would get wrong; `oldest_reader` in the file is the oldest format whose code would not."""
LOCK_FILE: Final = "supervisor.lock"
_RUN_ROOT: Final = Path("/run/ondol")
_PROMISES: Final = _RUN_ROOT / "promises"
# Pods take an even second octet, services the odd one after it.
_OCTETS: Final = range(100, 250, 2)


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports; the parts speak to each other by sockets in the run folder.

    `api`, `ingress` and `ingress_tls` are known outside and stay; `observe`, where pods send spans, `events`,
    where they send events (by TLS `events_tls`), and `nats`, where those are kept, may move at a start. Those
    with a default may be 0 until chosen, in a folder from before there were such ports.
    """

    api: int
    ingress: int
    observe: int
    ingress_tls: int = 0
    events: int = 0
    nats: int = 0
    events_tls: int = 0


_PREFERRED: Final = Ports(
    api=6443, ingress=8080, observe=16686, ingress_tls=8443, events=16680, nats=16422, events_tls=16681
)
_INNER: Final = ("observe", "events", "nats", "events_tls")


@dataclass(frozen=True, slots=True)
class Instance:
    """Six hexadecimal digits of identity and what follows from them; all paths are absolute."""

    id: str
    data_dir: Path
    ports: Ports
    pod_cidr: str
    service_cidr: str

    @property
    def run_dir(self) -> Path:
        """Sockets, namespaces and pid files: gone after a reboot, short enough for socket paths."""
        if os.geteuid() == 0:
            return _RUN_ROOT / self.id
        return Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp") / "ondol" / self.id  # noqa: S108 - per-user fallback

    @property
    def outbound_dir(self) -> Path:
        """The proxy's sockets by which parts call services (`contracts.proxy.outbound_socket`)."""
        return self.run_dir / "outbound"

    @property
    def pki_dir(self) -> Path:
        return self.data_dir / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.data_dir / "kubeconfig"

    @property
    def log_dir(self) -> Path:
        return self.data_dir / "logs"

    @property
    def store_file(self) -> Path:
        return self.data_dir / "store.db"

    @property
    def status_file(self) -> Path:
        return self.run_dir / "status.json"

    @property
    def lock_file(self) -> Path:
        return self.data_dir / LOCK_FILE

    @property
    def bridge(self) -> str:
        return f"ondol{self.id}"

    @property
    def bridge_address(self) -> str:
        """The host's address on the pod bridge: gateway, DNS server, activator."""
        return str(ipaddress.ip_network(self.pod_cidr)[1])

    @property
    def api_url(self) -> str:
        return f"https://127.0.0.1:{self.ports.api}"

    @property
    def spans_url(self) -> str:
        """Where pods send spans."""
        return f"http://{self.bridge_address}:{self.ports.observe}"

    @property
    def metrics_url(self) -> str:
        """Where whoever may read the API server's metrics reads those of every part."""
        return f"{self.api_url}{own_paths.METRICS}"

    def socket(self, name: str) -> Path:
        """Where a part speaks with the others: `xds`, `envoy-admin`, `observe`, `node`."""
        return self.run_dir / f"{name}.sock"

    def api_socket(self, component: str) -> Path:
        """Where the API server takes what a part asks, as the user that this part is."""
        return self.socket(f"api-{component}")


def load(data_dir: Path) -> Instance | None:
    """The instance that lives in `data_dir`, or None before its first start."""
    try:
        document = json.loads((data_dir / FILE).read_text(encoding="utf-8"))
        _require_readable(data_dir, document)
        return Instance(
            id=f"{int(document['id'], 16):06x}",
            data_dir=data_dir,
            ports=Ports(**{field.name: int(_port(document["ports"], field)) for field in fields(Ports)}),
            pod_cidr=str(ipaddress.IPv4Network(document["pod_cidr"])),
            service_cidr=str(ipaddress.IPv4Network(document["service_cidr"])),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise errors.HostError(
            f"{data_dir / FILE} cannot be read: {errors.why(error)}",
            remedy=f"restore or remove {data_dir / FILE}",
        ) from error


def _port(ports: Mapping[str, Any], of: Field[Any]) -> Any:
    return ports[of.name] if of.default is MISSING else ports.get(of.name, of.default)


def _require_readable(data_dir: Path, document: Any) -> None:
    if not isinstance(document, dict):
        return  # damaged, which is seen by what it lacks
    form = int(document.get("format", 1))
    if form > FORMAT and int(document.get("oldest_reader", form)) > FORMAT:
        raise errors.HostError(
            f"{data_dir} was written by a newer version (format {form})",
            remedy="use the version of ondol that wrote it, or another data directory",
        )


def on_this_machine() -> Iterator[Instance]:
    """Every platform that was started since the machine's boot, running or not, and can be read."""
    for promise in _promises():
        with contextlib.suppress(errors.HostError):  # a damaged one is told where it is used
            if (instance := load(promise.data_dir)) is not None:
                yield instance


def load_or_create(settings: Settings) -> Instance:
    """The instance in the data directory, made with free ports and networks if there is none."""
    if (existing := load(settings.data_dir)) is not None:
        return existing
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (FileExistsError, NotADirectoryError) as error:
        raise errors.HostError(
            f"cannot use {settings.data_dir}: {_obstacle(settings.data_dir)} is no folder",
            remedy="choose another folder with --data-dir",
        ) from error
    except OSError as error:
        raise errors.HostError(
            f"cannot create {settings.data_dir}: {error.strerror}",
            remedy="run as root, or choose another folder with --data-dir",
        ) from error
    with _choosing():
        if (existing := load(settings.data_dir)) is not None:
            return existing  # by another start at the same time
        pods, services = _free_networks(_routed_networks())
        instance = Instance(
            id=identity(settings.data_dir),
            data_dir=settings.data_dir,
            ports=_free_ports(settings),
            pod_cidr=pods,
            service_cidr=services,
        )
        save(instance)
        _promise(instance)
    return instance


@contextlib.contextmanager
def _choosing() -> Iterator[None]:
    """One start at a time chooses, so that those at the same moment do not choose the same."""
    _PROMISES.mkdir(parents=True, exist_ok=True)
    with lock.turn(_PROMISES.with_suffix(".lock")):
        yield


def _obstacle(folder: Path) -> Path:
    """What stands where the folder or one above it should be."""
    above = (folder, *folder.parents)
    return next((path for path in above if os.path.lexists(path) and not path.is_dir()), folder)


def with_free_inner_ports(instance: Instance, *, is_running: bool = False) -> Instance:
    """The instance with new ports for its own parts where others took theirs while it was down.

    One that `is_running` keeps those it has, and gets those that there were not in the version before.
    """
    ports = asdict(instance.ports)
    moved = [] if is_running else [name for name in _INNER if ports[name] and not is_free(ports[name])]
    new = [name for name, port in ports.items() if not port]
    if not moved and not new:
        return instance
    with _choosing():
        taken = _promised_ports()
        for name in moved:
            ports[name] = _any_free_port(taken | set(ports.values()))
        for name in new:
            port = getattr(_PREFERRED, name)
            is_taken = port in taken or port in ports.values() or not is_free(port)
            ports[name] = _any_free_port(taken | set(ports.values())) if is_taken else port
        relocated = replace(instance, ports=Ports(**ports))
        save(relocated)
        _promise(relocated)
    return relocated


def identity(data_dir: Path) -> str:
    """What tells the platform of this folder from others on the machine."""
    return hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:6]


def save(instance: Instance) -> None:
    """Keep it in its data directory."""
    document = {
        "format": FORMAT,
        "id": instance.id,
        "ports": asdict(instance.ports),
        "pod_cidr": instance.pod_cidr,
        "service_cidr": instance.service_cidr,
    }
    target = instance.data_dir / FILE
    try:
        files.replace(target, (json.dumps(document, indent=2) + "\n").encode(), mode=0o644)
    except OSError as error:
        raise errors.HostError(
            f"{target} cannot be written: {error.strerror}",
            remedy="make the folder writable or some room on its disk, or choose another with --data-dir",
        ) from error


def _free_ports(settings: Settings) -> Ports:
    preferred = asdict(_PREFERRED) | {
        "api": settings.api_port,
        "ingress": settings.ingress_port,
        "ingress_tls": settings.ingress_tls_port,
    }
    taken = _promised_ports()
    chosen: dict[str, int] = {}
    for name, port in preferred.items():
        free = port if port not in taken and is_free(port) else _any_free_port(taken)
        taken.add(free)
        chosen[name] = free
    return Ports(**chosen)


def is_free(port: int, address: str = "") -> bool:
    """Whether a TCP listener could be opened there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


def _any_free_port(taken: set[int]) -> int:
    """A port outside the ephemeral range, so that no client socket takes it between two starts.

    Nor is it one that the API gives out to Services as a node port (30000 and above).
    """
    return next(port for port in range(20000, 30000) if port not in taken and is_free(port))


def _routed_networks() -> list[ipaddress.IPv4Network]:
    """Every IPv4 network this machine routes, the default route left out (`/proc/net/route`)."""
    networks = []
    for line in Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        destination = socket.inet_ntoa(struct.pack("<I", int(fields[1], 16)))
        mask = socket.inet_ntoa(struct.pack("<I", int(fields[7], 16)))
        if destination != "0.0.0.0":
            networks.append(ipaddress.IPv4Network(f"{destination}/{mask}", strict=False))
    return networks + [network for promise in _promises() for network in promise.networks]


def _promised_ports() -> set[int]:
    return {port for promise in _promises() for port in promise.ports}


def promise_networks(instance: Instance) -> None:
    """Write down, until the next boot, that this platform's networks are taken, running or not.

    `HostError` when another platform that runs now has them: it was made while this one was unknown.
    """
    for promise in _promises():
        other = promise.data_dir
        if other == instance.data_dir or lock.holder(other / instance.lock_file.name) is None:
            continue
        mine = [ipaddress.IPv4Network(text) for text in (instance.pod_cidr, instance.service_cidr)]
        if any(network.overlaps(own) for network in promise.networks for own in mine):
            raise errors.HostError(
                f"the networks of this platform ({instance.pod_cidr}) are in use by the one on {other}",
                remedy=f"{hints.command('down', other)}, or use another --data-dir here",
            )
    _promise(instance)


@dataclass(frozen=True, slots=True)
class _Promise:
    """What a platform has, whether it runs now or not."""

    data_dir: Path
    networks: tuple[ipaddress.IPv4Network, ...]
    ports: tuple[int, ...]


def _promise(instance: Instance) -> None:
    _PROMISES.mkdir(parents=True, exist_ok=True)
    document = {
        "data_dir": str(instance.data_dir),
        "networks": [instance.pod_cidr, instance.service_cidr],
        "ports": list(asdict(instance.ports).values()),
    }
    files.replace(_PROMISES / instance.id, json.dumps(document).encode(), mode=0o644, durable=False)


def forget(instance: Instance) -> None:
    """Leave nothing of a platform outside its data directory."""
    shutil.rmtree(instance.run_dir, ignore_errors=True)
    (_PROMISES / instance.id).unlink(missing_ok=True)


def _promises() -> Iterator[_Promise]:
    """What is promised to whom; of folders that are gone nothing is left."""
    for file in _PROMISES.glob("[0-9a-f]*"):
        try:
            promise = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue  # its platform was removed this moment
        if not _is_removed(Path(promise["data_dir"])):
            networks = tuple(ipaddress.IPv4Network(text) for text in promise["networks"])
            yield _Promise(Path(promise["data_dir"]), networks, tuple(promise["ports"]))
        else:
            file.unlink(missing_ok=True)


def _is_removed(data_dir: Path) -> bool:
    """Whether no platform is there; a folder that only its owner may look into is taken to have one."""
    try:
        return not (data_dir / FILE).exists()
    except PermissionError:
        return False


def _free_networks(taken: Iterable[ipaddress.IPv4Network]) -> tuple[str, str]:
    used = list(taken)
    for octet in _OCTETS:
        pods, services = (ipaddress.IPv4Network(f"10.{o}.0.0/16") for o in (octet, octet + 1))
        if not any(pods.overlaps(n) or services.overlaps(n) for n in used):
            return str(pods), str(services)
    raise errors.HostError(
        "no free 10.x.0.0/16 network pair is left on this machine",
        remedy="stop another platform (ondol down --data-dir FOLDER) or remove a route",
    )
